//! Keys of callers: read before the first request, and followed for as long as the process lives, so that one is replaced
//! or withdrawn without a restart.

use std::{io, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use token_source::{
    Location,
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
                    key.put(&content);
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
                self.put(content);
                tracing::info!(caller, at, "{IN_FORCE}");
                if let Some(weakness) = weakness(content) {
                    tracing::warn!(caller, at, "{weakness}");
                }
            }
            News::Gone(cause) => {
                self.cell.put(None);
                tracing::warn!(caller, at, %cause, "the key of a caller is withdrawn");
            }
            News::Unreadable(cause) => {
                tracing::warn!(caller, at, %cause, "the key of a caller cannot be read; one that was in force stays");
            }
        }
    }

    #[expect(
        clippy::disallowed_methods,
        reason = "its fingerprint is what requests are compared with"
    )]
    fn put(&self, content: &SecretString) {
        let key = Fingerprint::of(content.expose_secret().as_bytes());
        self.cell.put(Some(key));
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

const IN_FORCE: &str = "the key of a caller is in force";

/// How long a start waits for keys.
const PATIENCE: Duration = Duration::from_secs(5);

/// 16 characters of base64 are 96 bits.
const SHORTEST: usize = 16;
