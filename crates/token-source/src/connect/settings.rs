//! The TLS settings of one server: made when first used, and anew when the files change that they are made of.

use std::{sync::Arc, time::Duration};

use arc_swap::ArcSwapOption;
use rustls::ClientConfig;
use tokio::time::{self, Instant};
use tracing::{debug, info, warn};

use super::{Origin, with_causes};
use crate::{
    secret::{Fingerprints, Location},
    tls::{Trust, TrustError},
};

/// Holds the settings in force. Looking at the files costs a connection now and then a fraction of a millisecond,
/// and no background task: a server's alert about our own certificate, which would be the other sign that it is out
/// of date, comes in TLS 1.3 after the connection is open.
#[derive(Debug)]
pub(super) struct TlsSettings {
    /// For logs.
    server: String,
    trust: Arc<Trust>,
    /// The protocols to offer, best first.
    alpn: &'static [&'static [u8]],
    files: Vec<Location>,
    fingerprints: Fingerprints,
    loaded: ArcSwapOption<Loaded>,
}

/// TLS settings, and what they were made of.
#[derive(Debug, Clone)]
pub(super) struct Loaded {
    pub(super) config: Arc<ClientConfig>,
    /// Fingerprint of the files; `None` where they could not be read.
    content: Option<u64>,
    /// A server was not trusted with them, so they are made anew, whatever is in the files.
    doubted: bool,
    /// When to look at the files again; `None` where there are none.
    next_look: Option<Instant>,
    /// Why newer files could not be used; told once.
    complaint: Option<TrustError>,
}

impl TlsSettings {
    pub(super) fn new(origin: &Origin, alpn: &'static [&'static [u8]]) -> Self {
        Self {
            server: origin.url(),
            trust: origin.trust.clone(),
            alpn,
            files: origin.trust.files(),
            fingerprints: Fingerprints::default(),
            loaded: ArcSwapOption::empty(),
        }
    }

    /// The settings to connect with now. Once there are some, files that cannot be used leave them in force.
    pub(super) async fn current(&self) -> Result<Arc<Loaded>, TrustError> {
        let Some(old) = self.loaded.load_full() else {
            let loaded = Arc::new(self.load(None).await?);
            self.loaded.store(Some(loaded.clone()));
            return Ok(loaded);
        };
        let now = Instant::now();
        if old.next_look.is_none_or(|at| now < at) {
            return Ok(old);
        }
        // Whoever puts this in looks; connections opened meanwhile use what there is.
        let claimed = Arc::new(Loaded {
            next_look: Some(now + LOOK_PAUSE),
            ..(*old).clone()
        });
        if !self.replace(&old, &claimed) {
            return Ok(old);
        }
        let Ok(outcome) = time::timeout(LOOK_LIMIT, self.load(Some(&claimed))).await else {
            warn!(
                server = self.server,
                "files of the TLS settings are not read in time, the old settings stay"
            );
            return Ok(claimed);
        };
        let loaded = Arc::new(outcome.unwrap_or_else(|error| self.keep(&claimed, error)));
        self.replace(&claimed, &loaded);
        Ok(loaded)
    }

    /// A server was not trusted with these settings: whatever they are made of, a command's output too, is read
    /// again for the next connection, so that a CA that was replaced heals it at once.
    pub(super) fn doubt(&self, loaded: &Arc<Loaded>) {
        let doubted = Arc::new(Loaded {
            doubted: true,
            next_look: Some(Instant::now()),
            ..(**loaded).clone()
        });
        self.replace(loaded, &doubted);
    }

    /// Reads the files; makes settings of them where they are not what `old` was made of.
    async fn load(&self, old: Option<&Loaded>) -> Result<Loaded, TrustError> {
        let content = self.look().await;
        let is_changed = old.is_some_and(|old| content.is_none() || content != old.content);
        match old {
            Some(old) if !is_changed && !old.doubted => return Ok(old.clone()),
            _ => {}
        }
        let config = self.trust.client_config(self.alpn).await?;
        if is_changed {
            info!(server = self.server, "TLS settings loaded anew");
        }
        Ok(Loaded {
            config,
            content,
            doubted: false,
            next_look: (!self.files.is_empty()).then(|| Instant::now() + LOOK_PAUSE),
            complaint: None,
        })
    }

    fn keep(&self, old: &Loaded, error: TrustError) -> Loaded {
        let (server, cause) = (&self.server, with_causes(&error));
        if old.complaint == Some(error) {
            debug!(server, cause, "TLS settings still not loaded anew");
        } else {
            warn!(
                server,
                cause, "TLS settings not loaded anew, the old ones stay"
            );
        }
        Loaded {
            complaint: Some(error),
            ..old.clone()
        }
    }

    async fn look(&self) -> Option<u64> {
        let mut contents = Vec::with_capacity(self.files.len());
        for file in &self.files {
            contents.push(file.read().await.ok()?);
        }
        Some(self.fingerprints.of(&contents))
    }

    /// Whether nobody else was faster.
    fn replace(&self, old: &Arc<Loaded>, new: &Arc<Loaded>) -> bool {
        let before = self.loaded.compare_and_swap(old, Some(new.clone()));
        before
            .as_ref()
            .is_some_and(|before| Arc::ptr_eq(before, old))
    }
}

const LOOK_PAUSE: Duration = Duration::from_secs(5);
/// A connection does not wait longer for files that it can do without.
const LOOK_LIMIT: Duration = Duration::from_secs(1);
