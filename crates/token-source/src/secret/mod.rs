//! Where a secret is read, and reading it: bounded in size and time, and never told in an error.

mod command;
mod environment;
mod error;
mod file;
mod follow;
#[cfg(feature = "keyring")]
mod keyring;
#[cfg(feature = "kube")]
mod kubernetes;
mod properties;

use std::{
    env,
    hash::{BuildHasher, Hash as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::time::{self, Instant};

pub use environment::withhold;
pub use error::SecretError;
pub use follow::{News, follow};
#[cfg(feature = "kube")]
pub use kubernetes::SecretName;

pub use properties::{Mute, Property, mute_lines, properties};

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
    /// What a command prints; run without a shell, in a process group of its own, bounded in time and output. It may
    /// ask a human (by a window or a key, not on the terminal), so it runs only when a value is needed, not to look
    /// for changes.
    Command(Vec<String>),
    /// A systemd credential: a file of `$CREDENTIALS_DIRECTORY`.
    Systemd(String),
    /// The content of the first of these files that can be read; paths that a platform fixed.
    FirstOf(&'static [&'static str]),
    /// A property of a file of `NAME=VALUE` lines, such as IBM's `ibm-credentials.env`.
    Property {
        /// The file.
        path: PathBuf,
        /// The name before the `=`.
        name: String,
    },
    /// A string in the JSON that an environment variable holds, such as Cloud Foundry's `VCAP_SERVICES`.
    EnvField {
        /// The variable.
        variable: String,
        /// Where the string is, as a JSON pointer (RFC 6901).
        pointer: String,
    },
    /// A Secret of the Kubernetes API, of whatever namespace. Watched while a keeper of it runs; else asked for at
    /// each reading.
    #[cfg(feature = "kube")]
    KubernetesSecret {
        /// Which Secret.
        secret: SecretName,
        /// Which of its values.
        key: String,
    },
    /// The keyring of the user's session. It may ask a human to unlock it, so it is asked only when a value is
    /// needed, not to look for changes.
    #[cfg(feature = "keyring")]
    Keyring {
        /// What the secret is for.
        service: String,
        /// Whose it is.
        user: String,
    },
}

impl Location {
    /// Reads what is there now, without ASCII white space and byte order mark around it; never empty.
    ///
    /// # Errors
    /// [`SecretError`]; nothing is remembered, so the next call may succeed.
    pub async fn read(&self) -> Result<SecretString, SecretError> {
        let content = time::timeout(TIME_LIMIT, self.content())
            .await
            .unwrap_or(Err(SecretError::Timeout))?;
        let text = std::str::from_utf8(&content).map_err(|_| SecretError::NotText)?;
        match self {
            Self::File {
                field: Some(field), ..
            } => string_field(trimmed(text), field),
            Self::Property { name, .. } => {
                let last = properties(text)
                    .filter(|property| property.name == name)
                    .last();
                non_empty(last.ok_or(SecretError::Missing)?.value)
            }
            Self::EnvField { pointer, .. } => {
                let json: serde_json::Value =
                    serde_json::from_str(text).map_err(|_| SecretError::NotJson)?;
                let value = json.pointer(pointer).ok_or(SecretError::Missing)?;
                non_empty(trimmed(value.as_str().ok_or(SecretError::NotJson)?))
            }
            _ => non_empty(trimmed(text)),
        }
    }

    /// The place in words, for logs: `file /run/secrets/key`, `environment variable`. Never what is there, and no
    /// name of the operator's, in whose place the secret itself may have been written: of a path that leads to no
    /// file, only the directories that exist, `file /run/secrets/…`.
    pub async fn describe(&self) -> String {
        match self {
            Self::File { path, field } => {
                let path = file::known_part(path.clone()).await;
                let field = field.as_ref().map_or("", |_| ", a field of it");
                format!("file {path}{field}")
            }
            Self::Property { path, .. } => {
                format!(
                    "file {}, a property of it",
                    file::known_part(path.clone()).await
                )
            }
            Self::Env(_) => "environment variable".to_owned(),
            Self::EnvField { .. } => "environment variable, a field of it".to_owned(),
            Self::Command(_) => "command".to_owned(),
            Self::Systemd(_) => "systemd credential".to_owned(),
            Self::FirstOf(paths) => format!("file {}", paths.join(" or ")),
            #[cfg(feature = "kube")]
            Self::KubernetesSecret { secret, .. } => {
                format!("Kubernetes Secret {}", kubernetes::known_name(secret))
            }
            #[cfg(feature = "keyring")]
            Self::Keyring { .. } => "keyring".to_owned(),
        }
    }

    /// Whether to read it may ask a human, who should not be asked twice.
    pub fn may_ask(&self) -> bool {
        match self {
            #[cfg(feature = "keyring")]
            Self::Keyring { .. } => true,
            _ => matches!(self, Self::Command(_)),
        }
    }

    /// Whether it can change under a running process and costs nothing to look at.
    pub fn is_watched(&self) -> bool {
        match self {
            Self::File { .. } | Self::Property { .. } | Self::Systemd(_) | Self::FirstOf(_) => true,
            #[cfg(feature = "kube")]
            Self::KubernetesSecret { .. } => true,
            #[cfg(feature = "keyring")]
            Self::Keyring { .. } => false,
            Self::Env(_) | Self::EnvField { .. } | Self::Command(_) => false,
        }
    }

    async fn content(&self) -> Result<Zeroizing<Vec<u8>>, SecretError> {
        match self {
            Self::File { path, .. } | Self::Property { path, .. } => file::read(path.clone()).await,
            Self::Systemd(name) => {
                let directory = env::var_os("CREDENTIALS_DIRECTORY").ok_or(SecretError::Missing)?;
                file::read(Path::new(&directory).join(name)).await
            }
            Self::Env(name) | Self::EnvField { variable: name, .. } => {
                let value = env::var_os(name).ok_or(SecretError::Missing)?;
                Ok(Zeroizing::new(value.into_encoded_bytes()))
            }
            Self::Command(arguments) => command::run(arguments).await,
            Self::FirstOf(paths) => file::read_first(paths).await,
            #[cfg(feature = "kube")]
            Self::KubernetesSecret { secret, key } => kubernetes::read(secret, key).await,
            #[cfg(feature = "keyring")]
            Self::Keyring { service, user } => keyring::read(service.clone(), user.clone()).await,
        }
    }
}

/// Tells of changes of those places that tell of them by themselves; the others are looked at.
pub(crate) struct Changes {
    #[cfg(feature = "kube")]
    watches: Vec<kubernetes::Watched>,
    /// Changes that come before are told then, all at once.
    next: Instant,
}

impl Changes {
    /// Watches the places, as long as this lives.
    pub(crate) fn of<'a>(places: impl Iterator<Item = &'a Location>) -> Self {
        #[cfg(not(feature = "kube"))]
        drop(places);
        Self {
            #[cfg(feature = "kube")]
            watches: places
                .filter_map(|place| match place {
                    Location::KubernetesSecret { secret, .. } => kubernetes::watch(secret),
                    _ => None,
                })
                .collect(),
            next: Instant::now(),
        }
    }

    /// Waits for a change: the first is told at once, those that follow within a second are told together. It may
    /// be given up and called again without a loss; with nothing to watch, it never ends.
    pub(crate) async fn next(&mut self) {
        time::sleep_until(self.next).await;
        #[cfg(feature = "kube")]
        kubernetes::any_change(&mut self.watches).await;
        #[cfg(not(feature = "kube"))]
        std::future::pending::<()>().await;
        self.next = Instant::now() + SETTLING;
    }
}

/// Recognises content that changed, without keeping it: a hash under a random key.
#[derive(Debug, Default)]
pub(crate) struct Fingerprints(RandomState);

impl Fingerprints {
    /// The fingerprint of what was read from some places, in their order.
    pub(crate) fn of(&self, contents: &[SecretString]) -> u64 {
        let mut hasher = self.0.build_hasher();
        for content in contents {
            #[expect(
                clippy::disallowed_methods,
                reason = "hashed under a random key, to notice a change"
            )]
            content.expose_secret().hash(&mut hasher);
        }
        hasher.finish()
    }
}

fn trimmed(text: &str) -> &str {
    text.strip_prefix('\u{feff}')
        .unwrap_or(text)
        .trim_matches(|c: char| c.is_ascii_whitespace())
}

fn non_empty(text: &str) -> Result<SecretString, SecretError> {
    if text.is_empty() {
        Err(SecretError::Empty)
    } else {
        Ok(text.into())
    }
}

fn string_field(json: &str, field: &str) -> Result<SecretString, SecretError> {
    if json.is_empty() {
        return Err(SecretError::Empty);
    }
    let root: serde_json::Value = serde_json::from_str(json).map_err(|_| SecretError::NotJson)?;
    let mut value = &root;
    for name in field.split('.') {
        value = value.get(name).ok_or(SecretError::Missing)?;
    }
    non_empty(trimmed(value.as_str().ok_or(SecretError::NotJson)?))
}

const TIME_LIMIT: Duration = Duration::from_secs(10);
/// A thousand edits in a second are one change.
const SETTLING: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
