//! The read side of a credential: what requests use, without a lock.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::credential::{Generation, Settings, Token};

/// A credential as requests see it: the value in force, and ways to wait for one or to say that it was rejected.
/// Clones are cheap and see the same; it may be used from any thread and runtime.
#[derive(Debug, Clone)]
pub struct Feed(pub(crate) Arc<Cell>);

/// No valid token, and none came within the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// The truth about the next attempt: how long until it is made, at least 1 s.
    pub retry_after: Duration,
}

/// How a credential stands, for readiness and metrics; holds no secret.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// At least one attempt has ended, well or not.
    pub tried: bool,
    /// A valid token is in force.
    pub valid: bool,
    /// The generation in force.
    pub generation: Generation,
    /// Wall-clock end of the token in force.
    pub expires: Option<SystemTime>,
    /// Wall-clock time of the last success.
    pub last_success: Option<SystemTime>,
    /// Attempts that succeeded since start.
    pub succeeded: u64,
    /// Attempts that failed for a passing reason (network, 429, 5xx, garbage).
    pub failed: u64,
    /// Attempts that the platform refused (400, 401, 403).
    pub refused: u64,
    /// Fixed text on why the last attempt failed, or made a token too short-lived to be kept fresh; never an inner error, never a secret.
    pub last_error: Option<&'static str>,
}

impl Feed {
    /// The credential's name.
    pub fn name(&self) -> &Arc<str> {
        &self.0.name
    }

    /// The name of its kind in the configuration: `cp4d`, `token`, …
    pub fn kind(&self) -> &'static str {
        self.0.kind
    }

    /// The authentication scheme that goes before the value in a header, without the space.
    pub fn scheme(&self) -> &'static str {
        self.0.scheme
    }

    /// Which value is in force, or was last: one atomic load, to tell whether something built from a [`Token`] is
    /// out of date. Does not tell whether the token has expired.
    pub fn generation(&self) -> Generation {
        self.0.generation()
    }

    /// The token, if there is one that is valid now.
    pub fn current(&self) -> Option<Arc<Token>> {
        let token = self.0.token.load();
        token
            .as_ref()
            .filter(|token| token.is_valid_at(Instant::now()))
            .cloned()
    }

    /// The token that is valid now, or the one that comes within the wait that is configured; by default 5 s before
    /// the first token and none afterwards. Does not wait for an attempt that lies behind the end of the wait.
    ///
    /// # Errors
    /// [`Unavailable`], when there is none.
    pub async fn wait(&self) -> Result<Arc<Token>, Unavailable> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        // Subscribed before the next look at the token, so that one published in between is seen.
        let mut progress = self.0.progress.subscribe();
        let default = if self.generation() == Generation::default() {
            FIRST_TOKEN_WAIT
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + self.0.wait.unwrap_or(default);
        loop {
            let next_attempt = progress.borrow_and_update().next_attempt;
            if let Some(token) = self.current() {
                return Ok(token);
            }
            if next_attempt > deadline
                || time::timeout_at(deadline, progress.changed())
                    .await
                    .is_err()
            {
                return Err(self.unavailable());
            }
        }
    }

    /// Says that the upstream did not accept the token of `generation`. One still in force is exchanged soon; news
    /// of an older one are no news.
    pub fn reject(&self, generation: Generation) {
        if generation == self.generation() {
            self.0.rejected.store(generation.0, Ordering::Release);
            self.0.rejection.notify_one();
        }
    }

    /// How the credential stands.
    pub fn status(&self) -> Status {
        Status {
            valid: self.current().is_some(),
            ..self.0.progress.borrow().status.clone()
        }
    }

    fn unavailable(&self) -> Unavailable {
        let left = self
            .0
            .progress
            .borrow()
            .next_attempt
            .saturating_duration_since(Instant::now());
        // Whole seconds, rounded up: that is what a `Retry-After` can say.
        let seconds = left.as_secs() + u64::from(left.subsec_nanos() > 0);
        Unavailable {
            retry_after: Duration::from_secs(seconds.max(1)),
        }
    }
}

/// Where keeper and feeds meet: only the keeper writes, but for `rejected`.
#[derive(Debug)]
pub(crate) struct Cell {
    name: Arc<str>,
    kind: &'static str,
    scheme: &'static str,
    wait: Option<Duration>,
    /// The last token, which may have expired.
    pub(crate) token: ArcSwapOption<Token>,
    /// Stored after the token, so that who sees it sees the token.
    generation: AtomicU64,
    /// The generation that was rejected last.
    rejected: AtomicU64,
    /// Wakes the keeper after a rejection.
    pub(crate) rejection: Notify,
    /// Wakes those who wait.
    pub(crate) progress: watch::Sender<Progress>,
}

/// How far the keeper is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the next attempt is made; in the past while one is under way.
    pub(crate) next_attempt: Instant,
    pub(crate) status: Status,
}

impl Cell {
    pub(crate) fn new(settings: Settings) -> Self {
        Self {
            kind: settings.kind.name(),
            scheme: settings.kind.scheme(),
            name: settings.name,
            wait: settings.wait_for_token,
            token: ArcSwapOption::empty(),
            generation: AtomicU64::new(0),
            rejected: AtomicU64::new(0),
            rejection: Notify::new(),
            progress: watch::Sender::new(Progress {
                next_attempt: Instant::now(),
                status: Status::default(),
            }),
        }
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn generation(&self) -> Generation {
        Generation(self.generation.load(Ordering::Acquire))
    }

    /// Puts a token in force. Those who wait are woken by the progress that follows.
    pub(crate) fn publish(&self, token: Token) {
        let generation = token.generation.0;
        self.token.store(Some(Arc::new(token)));
        self.generation.store(generation, Ordering::Release);
    }

    /// Whether the token in force is one that was rejected.
    pub(crate) fn is_rejected(&self) -> bool {
        self.rejected.load(Ordering::Acquire) == self.generation().0
    }
}

const FIRST_TOKEN_WAIT: Duration = Duration::from_secs(5);
