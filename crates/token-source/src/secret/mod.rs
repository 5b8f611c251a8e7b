//! Where a secret is read, and reading it: bounded in size and time, and never told in an error.

mod command;
mod file;
mod properties;

use std::{
    env,
    hash::{BuildHasher, Hash as _, Hasher as _, RandomState},
    path::{Path, PathBuf},
    time::Duration,
};

use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::time;

pub use properties::{Property, properties};

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
}

/// Why a secret could not be had; says nothing of its content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum SecretError {
    /// The file, field or variable does not exist.
    #[error("does not exist")]
    Missing,
    /// It exists, but we may not read it, or reading failed.
    #[error("cannot be read")]
    Unreadable,
    /// Nothing but white space is there.
    #[error("is empty")]
    Empty,
    /// More than a secret can be: 1 MiB in a file, 64 KiB from a command.
    #[error("is too large")]
    TooLarge,
    /// Not UTF-8 text.
    #[error("is not UTF-8 text")]
    NotText,
    /// A field was asked for, but the file is not JSON or the field is no string.
    #[error("is not JSON with a string at that field")]
    NotJson,
    /// The command could not be started.
    #[error("cannot be started")]
    NotStarted,
    /// The command ended with a failure.
    #[error("failed")]
    CommandFailed,
    /// It took longer than 10 s.
    #[error("took longer than 10 s")]
    Timeout,
    /// It is to be sent as a token, but holds something other than visible ASCII, or is larger than 64 KiB.
    #[error("holds spaces or other characters that a header cannot carry")]
    NotAToken,
    /// It is to be sent as a token, and says itself that its time is over.
    #[error("is a token that has expired")]
    Expired,
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
        }
    }

    /// Whether it can change under a running process and costs nothing to look at.
    pub(crate) fn is_watched(&self) -> bool {
        matches!(
            self,
            Self::File { .. } | Self::Property { .. } | Self::Systemd(_) | Self::FirstOf(_)
        )
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
        }
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

#[cfg(test)]
mod tests {
    use super::*;

    fn file(content: &[u8], field: Option<&str>) -> (tempfile::NamedTempFile, Location) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), content).unwrap();
        let place = Location::File {
            path: file.path().into(),
            field: field.map(str::to_owned),
        };
        (file, place)
    }

    async fn read(place: &Location) -> Result<String, SecretError> {
        #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
        place
            .read()
            .await
            .map(|secret| secret.expose_secret().to_owned())
    }

    fn command(arguments: &[&str]) -> Location {
        Location::Command(
            arguments
                .iter()
                .map(|&argument| argument.to_owned())
                .collect(),
        )
    }

    #[tokio::test]
    async fn files_are_read_as_people_write_them() {
        type Case = (
            &'static [u8],
            Option<&'static str>,
            Result<&'static str, SecretError>,
        );
        let cases: [Case; 13] = [
            (b"key", None, Ok("key")),
            (b"key\n", None, Ok("key")),
            (b"\xef\xbb\xbfkey\r\n", None, Ok("key")),
            (b"two words \t\r\n", None, Ok("two words")),
            (b"", None, Err(SecretError::Empty)),
            (b" \n", None, Err(SecretError::Empty)),
            (b"\xff\xfe", None, Err(SecretError::NotText)),
            (br#"{"apikey":"key"}"#, Some("apikey"), Ok("key")),
            (br#"{"a":{"b":"key\n"}}"#, Some("a.b"), Ok("key")),
            (br#"{"a":{"b":7}}"#, Some("a.b"), Err(SecretError::NotJson)),
            (br#"{"a":{"b":""}}"#, Some("a.b"), Err(SecretError::Empty)),
            (br#"{"a":"key"}"#, Some("a.b"), Err(SecretError::Missing)),
            (b"key", Some("a"), Err(SecretError::NotJson)),
        ];
        for (content, field, expected) in cases {
            let (_file, place) = file(content, field);
            assert_eq!(
                read(&place).await.as_deref().map_err(|error| *error),
                expected,
                "{content:?} {field:?}"
            );
        }
    }

    #[tokio::test]
    async fn what_is_not_a_secret_file_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let missing = Location::File {
            path: directory.path().join("no"),
            field: None,
        };
        assert_eq!(read(&missing).await, Err(SecretError::Missing));
        let folder = Location::File {
            path: directory.path().into(),
            field: None,
        };
        assert_eq!(read(&folder).await, Err(SecretError::Unreadable));
        #[cfg(unix)]
        {
            let pipe = directory.path().join("pipe");
            rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
            let pipe = Location::File {
                path: pipe,
                field: None,
            };
            assert_eq!(read(&pipe).await, Err(SecretError::Unreadable));
        }
        let (_file, huge) = file(&vec![b'x'; (1 << 20) + 1], None);
        assert_eq!(read(&huge).await, Err(SecretError::TooLarge));
        let (_file, largest) = file(&vec![b'x'; 1 << 20], None);
        assert!(read(&largest).await.is_ok());
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn commands_run_without_a_shell_and_without_input() {
        assert_eq!(
            read(&command(&["printf", "%s\n", "$HOME"]))
                .await
                .as_deref(),
            Ok("$HOME")
        );
        assert_eq!(read(&command(&["cat"])).await, Err(SecretError::Empty));
        assert_eq!(
            read(&command(&["false"])).await,
            Err(SecretError::CommandFailed)
        );
        assert_eq!(
            read(&command(&["/no/such/program"])).await,
            Err(SecretError::NotStarted)
        );
        assert_eq!(read(&command(&[])).await, Err(SecretError::NotStarted));
        assert_eq!(
            read(&command(&["cat", "/dev/zero"])).await,
            Err(SecretError::TooLarge)
        );
    }

    #[cfg(unix)]
    #[tokio::test(start_paused = true)]
    async fn a_command_that_hangs_is_given_up() {
        assert_eq!(
            read(&command(&["sleep", "600"])).await,
            Err(SecretError::Timeout)
        );
    }

    #[tokio::test]
    async fn the_environment_is_read() {
        assert_eq!(
            read(&Location::Env("CARGO_PKG_NAME".into()))
                .await
                .as_deref(),
            Ok("token-source")
        );
        assert_eq!(
            read(&Location::Env("NO_SUCH_VARIABLE_HERE".into())).await,
            Err(SecretError::Missing)
        );
        assert_eq!(
            read(&Location::Systemd("token".into())).await,
            Err(SecretError::Missing)
        );
    }

    #[tokio::test]
    async fn properties_of_a_file_are_read() {
        let (file, _) = file(
            b"# IBM\nWATSONX_APIKEY=old\nWATSONX_APIKEY= k=y \nEMPTY=\n",
            None,
        );
        let property = |name: &str| Location::Property {
            path: file.path().into(),
            name: name.into(),
        };
        assert_eq!(
            read(&property("WATSONX_APIKEY")).await.as_deref(),
            Ok("k=y")
        );
        assert_eq!(read(&property("EMPTY")).await, Err(SecretError::Empty));
        assert_eq!(read(&property("WATSONX")).await, Err(SecretError::Missing));
        assert!(property("WATSONX_APIKEY").is_watched());
        let described = property("WATSONX_APIKEY").describe().await;
        assert!(described.ends_with(", a property of it"), "{described}");
        let no_json = Location::EnvField {
            variable: "CARGO_PKG_NAME".into(),
            pointer: "/a/0".into(),
        };
        assert_eq!(read(&no_json).await, Err(SecretError::NotJson));
    }

    #[test]
    fn a_fingerprint_follows_the_content() {
        let fingerprints = Fingerprints::default();
        let of = |contents: &[&str]| {
            let contents: Vec<SecretString> = contents.iter().map(|&text| text.into()).collect();
            fingerprints.of(&contents)
        };
        assert_eq!(of(&["one", "two"]), of(&["one", "two"]));
        for other in [
            &["one"][..],
            &["two", "one"],
            &["onet", "wo"],
            &["one", "2"],
        ] {
            assert_ne!(of(other), of(&["one", "two"]), "{other:?}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_secret_in_place_of_its_place_is_not_described() {
        const SLIP: &str = "c4naryDEF0123456789";
        let directory = tempfile::tempdir().unwrap();
        let path = |below: &str| Location::File {
            path: directory.path().join(below),
            field: None,
        };
        let (_file, existing) = file(b"key", Some(SLIP));
        for place in [
            Location::Env(SLIP.into()),
            Location::Systemd(SLIP.into()),
            command(&[SLIP, SLIP]),
            path(SLIP),
            path(&format!("{SLIP}/{SLIP}")),
            existing,
            Location::File {
                path: SLIP.into(),
                field: None,
            },
        ] {
            let described = place.describe().await;
            assert!(!described.contains(SLIP), "{described}");
        }
        std::fs::write(directory.path().join("key"), "").unwrap();
        let folder = directory.path().display();
        for (below, known) in [
            ("key", "key"),
            ("no", "…"),
            ("no/key", "…"),
            ("key/no", "…"),
        ] {
            assert_eq!(
                path(below).describe().await,
                format!("file {folder}/{known}")
            );
        }
    }
}
