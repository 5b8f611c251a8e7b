//! Where a secret is read.

use std::path::PathBuf;

/// A place that a secret is read from; the configuration holds places, never secrets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Location {
    /// A file's content, without white space around it.
    File {
        /// The file.
        path: PathBuf,
        /// A string field (dotted path) of the file's JSON, instead of the whole content.
        field: Option<String>,
    },
    /// An environment variable.
    Env(String),
    /// What a command prints; run without a shell, bounded in time and output.
    Command(Vec<String>),
    /// A systemd credential: a file of `$CREDENTIALS_DIRECTORY`.
    Systemd(String),
}
