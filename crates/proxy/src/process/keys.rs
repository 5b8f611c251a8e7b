//! Keys of callers: read before the first request, and followed for as long as the process lives, so that one is replaced
//! or withdrawn without a restart.

use std::{io, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use token_source::{
    Location, SecretError,
    secret::{News, follow},
};
use tokio::{runtime::Builder, task::JoinSet, time::timeout};

use crate::journey::{caller::KeyCell, fingerprint::Fingerprint};

/// The place of a key, and where requests find what is in force.
#[derive(Debug, Clone)]
pub struct Key {
    caller: Arc<str>,
    place: Location,
    cell: Arc<KeyCell>,
}

/// Reads all keys that can be read in time; the others come when they come.
///
/// # Errors
/// When the operating system refuses a runtime.
pub fn read_all(keys: &[Key]) -> io::Result<()> {
    if keys.is_empty() {
        return Ok(());
    }
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut readings = JoinSet::new();
        for key in keys.iter().cloned() {
            readings.spawn(async move {
                if let Ok(content) = key.place.read().await {
                    key.put(&content, &key.place.describe().await);
                }
            });
        }
        let _ = timeout(PATIENCE, readings.join_all()).await;
    });
    // A file or a program that hangs must not hold up the start.
    runtime.shutdown_background();
    Ok(())
}

impl Key {
    /// The key of a caller that is read there.
    pub fn new(caller: &Arc<str>, place: Location, cell: Arc<KeyCell>) -> Self {
        Self {
            caller: Arc::clone(caller),
            place,
            cell,
        }
    }

    /// Keeps the key in force that is there.
    pub async fn follow(self, poll: Duration) {
        let at = self.place.describe().await;
        if !self.place.is_watched() && self.cell.is_in_force() {
            // Not read twice: a program may ask a human.
            tracing::info!(caller = &*self.caller, at, "{IN_FORCE}");
            return;
        }
        let (place, at) = (self.place.clone(), at.as_str());
        follow(place, poll, |news| self.hear(&news, at)).await
    }

    fn hear(&self, news: &News, at: &str) {
        let caller = &*self.caller;
        match news {
            News::Content(content) => {
                self.put(content, at);
                tracing::info!(caller, at, "{IN_FORCE}");
            }
            News::Gone(cause) => {
                self.cell.put(None);
                let hint = hint(*cause);
                tracing::warn!(caller, at, %cause, hint, "the key of a caller is withdrawn");
            }
            News::Unreadable(cause) => {
                let hint = hint(*cause);
                let what = match self.cell.is_in_force() {
                    true => "the key of a caller cannot be read; the one in force stays",
                    false => "the key of a caller cannot be read; none is in force",
                };
                tracing::warn!(caller, at, %cause, hint, "{what}");
            }
        }
    }

    /// Puts a key in force, and warns of it where it is weak, whatever its place: once, though it is read again.
    #[expect(
        clippy::disallowed_methods,
        reason = "its fingerprint is what requests are compared with"
    )]
    fn put(&self, content: &SecretString, at: &str) {
        let key = Fingerprint::of(content.expose_secret().as_bytes());
        let is_new = self.cell.put(Some(key));
        if let Some(weakness) = weakness(content).filter(|_| is_new) {
            tracing::warn!(caller = &*self.caller, at, "{weakness}");
        }
    }
}

/// What is wrong with a key, if anything is.
#[expect(clippy::disallowed_methods, reason = "looked at, and not told")]
fn weakness(key: &SecretString) -> Option<&'static str> {
    let key = key.expose_secret();
    if !key.bytes().all(|byte| byte.is_ascii_graphic()) {
        Some("no client can send this key: it has other characters than visible ASCII")
    } else if key.len() < SHORTEST {
        Some("this key is so short that it can be guessed")
    } else {
        None
    }
}

/// What to do besides what the cause says itself.
fn hint(cause: SecretError) -> Option<&'static str> {
    let is_confined = cause == SecretError::Denied;
    is_confined.then_some(
        "give the proxy's user the right to read it; where it leads to another folder than at the start, restart: the \
         process may open only what was named then",
    )
}

const IN_FORCE: &str = "the key of a caller is in force";

/// How long a start waits for keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// 16 characters of base64 are 96 bits.
const SHORTEST: usize = 16;
