//! The read side of a credential: what requests use, without a lock.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::{
    sync::{Notify, watch},
    time::{self, Instant},
};

use crate::{
    clock,
    credential::{Generation, Settings, Token},
    rejection::{Advice, Circumstances, Proof, Rejections},
};

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
    /// Fixed text on why the last attempt failed, or made a token too short-lived to be kept fresh; never an inner error,
    /// never a secret.
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
            .filter(|token| token.is_valid_at(clock::now()))
            .cloned()
    }

    /// The token that is valid now, or the one that comes within the wait that is configured; by default 5 s before
    /// the first token, or the first after the machine slept, and none otherwise. Does not wait for an attempt that
    /// lies behind the end of the wait.
    ///
    /// # Errors
    /// [`Unavailable`], when there is none.
    pub async fn wait(&self) -> Result<Arc<Token>, Unavailable> {
        if let Some(token) = self.current() {
            return Ok(token);
        }
        // Subscribed before the next look at the token, so that one published in between is seen.
        let mut progress = self.0.progress.subscribe();
        let overslept = progress.borrow().has_overslept();
        if overslept {
            self.wake();
        }
        let default = if overslept || self.generation() == Generation::default() {
            FIRST_TOKEN_WAIT
        } else {
            Duration::ZERO
        };
        let deadline = Instant::now() + self.0.wait.unwrap_or(default);
        loop {
            let attempt_is_far = {
                let progress = progress.borrow_and_update();
                progress.next_attempt > deadline && !progress.has_overslept()
            };
            if let Some(token) = self.current() {
                return Ok(token);
            }
            if attempt_is_far
                || time::timeout_at(deadline, progress.changed())
                    .await
                    .is_err()
            {
                return Err(self.unavailable());
            }
        }
    }

    /// After the upstream answered 401 to the value of `rejected`: the value to send once more with, obtained for all
    /// who ask at the same time by one exchange. `None` when the answer is the upstream's opinion, which another value
    /// would not change, or when there is no other value in time.
    pub async fn after_rejection(&self, rejected: Generation) -> Option<Arc<Token>> {
        // Subscribed before the keeper is told, so that what it does about it is seen.
        let mut progress = self.0.progress.subscribe();
        let advice = self.judge(rejected);
        if matches!(advice, Advice::Begin | Advice::Await) {
            let patience = self.0.wait.unwrap_or_default().max(FIRST_TOKEN_WAIT);
            let concluded = progress.wait_for(|progress| {
                let is_pending = || self.0.rejections().is_pending(rejected);
                self.generation() != rejected || !(progress.is_attempting || is_pending())
            });
            // Neither outcome says more than the look that follows.
            let _ = time::timeout(patience, concluded).await;
        }
        match (advice, self.current()) {
            (Advice::Stands, _) => None,
            (_, Some(token)) if token.generation != rejected => Some(token),
            _ => self.0.rejections().trial(rejected, clock::now()),
        }
    }

    /// The same for a request that cannot be sent again: another value is obtained for those that follow, where it is
    /// worth one.
    pub fn reject(&self, rejected: Generation) {
        self.judge(rejected);
    }

    fn judge(&self, rejected: Generation) -> Advice {
        let (is_failing, is_attempting) = {
            let progress = self.0.progress.borrow();
            (progress.is_failing, progress.is_attempting)
        };
        // The token is looked at under the lock: the keeper concludes after it has put another in force.
        let mut rejections = self.0.rejections();
        let Some(token) = self.0.token.load_full() else {
            return Advice::Stands;
        };
        let advice = rejections.judge(
            rejected,
            Circumstances {
                token: &token,
                now: clock::now(),
                is_failing,
                is_attempting,
            },
        );
        if advice == Advice::Begin {
            self.0.news.notify_one();
        }
        advice
    }

    /// Tells what the answer says of the value that [`after_rejection`](Self::after_rejection) gave for that of
    /// `rejected`.
    pub fn replayed(&self, rejected: Generation, proof: Proof) {
        if self.0.rejections().replayed(rejected, proof) {
            self.0.news.notify_one();
        }
    }

    /// Lets the keeper see whether the machine has slept.
    pub fn wake(&self) {
        self.0.news.notify_one();
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

/// Where keeper and feeds meet: only the keeper writes, but for `rejections`.
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
    /// Looked at after a 401 only.
    rejections: Mutex<Rejections>,
    /// Wakes the keeper: a rejection, or a machine that slept.
    pub(crate) news: Notify,
    /// Wakes those who wait.
    pub(crate) progress: watch::Sender<Progress>,
}

/// How far the keeper is.
#[derive(Debug)]
pub(crate) struct Progress {
    /// When the next attempt is made; no longer in the future while one is under way.
    pub(crate) next_attempt: Instant,
    /// An attempt is under way.
    pub(crate) is_attempting: bool,
    /// The last attempt failed.
    pub(crate) is_failing: bool,
    /// How long the machine had slept when the keeper last looked.
    pub(crate) slept: Duration,
    pub(crate) status: Status,
}

impl Progress {
    /// The machine has slept, and the keeper has not noticed yet.
    fn has_overslept(&self) -> bool {
        clock::slept() >= self.slept + OVERSLEPT
    }
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
            rejections: Mutex::default(),
            news: Notify::new(),
            progress: watch::Sender::new(Progress {
                next_attempt: Instant::now(),
                is_attempting: true,
                is_failing: false,
                slept: clock::slept(),
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

    /// A panic while it was held leaves it as good as before: each change is one assignment.
    pub(crate) fn rejections(&self) -> MutexGuard<'_, Rejections> {
        self.rejections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// A sleep of the machine that matters.
const OVERSLEPT: Duration = Duration::from_secs(2);
const FIRST_TOKEN_WAIT: Duration = Duration::from_secs(5);
