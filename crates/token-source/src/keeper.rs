//! The one task that owns an exchange: it renews before expiry, notices new secrets, and never gives up.

use std::time::SystemTime;
use std::{fmt, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    select,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use crate::{
    connect::with_causes,
    credential::{Generation, Settings, Token},
    exchange::{self, Exchange, ExchangeError, Grant, Verdict},
    expiry,
    feed::{Cell, Feed},
    schedule,
    secret::{Fingerprints, Location},
};

/// Keeps one credential fresh, as long as it [`run`](Keeper::run)s. Only one exchange is under way at any time,
/// because nobody else makes one.
pub struct Keeper {
    cell: Arc<Cell>,
    exchange: Box<dyn Exchange>,
    /// The places that are looked at every `poll`.
    watched: Vec<Location>,
    /// All places are watched: no need to try what cannot be read before it has changed.
    sees_all: bool,
    poll: Duration,
    fingerprints: Fingerprints,
    /// What the watched places held before the last attempt.
    content: Option<u64>,
    /// Passing failures since the last success.
    failures: u32,
    /// Refusals of the present content.
    refusals: u32,
    /// Why the last attempt failed; told once.
    complaint: Option<&'static str>,
    /// When a rejection was last acted upon.
    heeded: Option<Instant>,
    random: fastrand::Rng,
}

impl Keeper {
    /// The keeper of a credential, and the feed that its requests use. Nothing is read or contacted before it runs.
    pub fn new(settings: Settings) -> (Self, Feed) {
        let exchange = exchange::from_settings(&settings);
        Self::with_exchange(settings, exchange)
    }

    /// The same with an exchange of one's own, for tests.
    pub fn with_exchange(settings: Settings, exchange: Box<dyn Exchange>) -> (Self, Feed) {
        let places = settings.kind.places();
        let watched: Vec<_> = places
            .iter()
            .filter(|place| place.is_watched())
            .map(|&place| place.clone())
            .collect();
        let sees_all = watched.len() == places.len();
        let poll = settings.poll.max(SHORTEST_POLL);
        let cell = Arc::new(Cell::new(settings));
        let keeper = Self {
            cell: cell.clone(),
            exchange,
            sees_all,
            watched,
            poll,
            fingerprints: Fingerprints::default(),
            content: None,
            failures: 0,
            refusals: 0,
            complaint: None,
            heeded: None,
            random: fastrand::Rng::new(),
        };
        (keeper, Feed(cell))
    }

    /// Obtains the credential now and keeps it fresh for ever; dropping the future ends it, and whatever is under
    /// way with it.
    pub async fn run(mut self) -> ! {
        loop {
            // Looked at before it is used: a change in between costs one attempt too many, never one too few.
            self.has_new_content().await;
            let outcome = self.exchange.exchange().await;
            let pause = match outcome {
                Ok(grant) => self.accept(grant),
                Err(error) => self.complain(&error),
            };
            self.rest(Instant::now() + pause).await;
        }
    }

    /// Waits until the next attempt is due, by time, by new content, or by rejection.
    async fn rest(&mut self, next_attempt: Instant) {
        self.cell
            .progress
            .send_modify(|progress| progress.next_attempt = next_attempt);
        let mut next_look = Instant::now() + self.poll;
        loop {
            select! {
                () = time::sleep_until(next_attempt) => break,
                () = self.cell.rejection.notified() => if self.heeds_rejection() { break },
                () = time::sleep_until(next_look), if !self.watched.is_empty() => {
                    if self.has_new_content().await { break }
                    next_look = Instant::now() + self.poll;
                }
            }
        }
        self.cell
            .progress
            .send_modify(|progress| progress.next_attempt = Instant::now());
    }

    /// New content deserves a fresh start, whatever became of the old.
    async fn has_new_content(&mut self) -> bool {
        let content = Some(self.fingerprints.of(&self.watched).await);
        if self.content == content {
            return false;
        }
        if self.content.is_some() {
            info!(credential = self.cell.name(), "secret changed");
        }
        self.content = content;
        self.failures = 0;
        self.refusals = 0;
        true
    }

    /// A rejection is worth one exchange, unless exchanges fail anyway (their pauses are there for a reason) or the
    /// last rejection was just now: a platform that rejects everything must not be stormed.
    fn heeds_rejection(&mut self) -> bool {
        let now = Instant::now();
        let recent = self
            .heeded
            .is_some_and(|heeded| now < heeded + REJECTION_PAUSE);
        let heeds = self.cell.is_rejected() && self.complaint.is_none() && !recent;
        if heeds {
            info!(
                credential = self.cell.name(),
                "token rejected, exchanging it"
            );
            self.heeded = Some(now);
        }
        heeds
    }

    /// Puts a grant in force; how long until it is renewed.
    fn accept(&mut self, grant: Grant) -> Duration {
        self.failures = 0;
        self.refusals = 0;
        let now = Instant::now();
        let last = self.cell.generation();
        let (generation, expires) = self.publish(grant, now);
        let left = expires.map_or(expiry::LONGEST, |end| end.saturating_duration_since(now));
        let pause = schedule::renewal(left, self.random.f64());
        let (credential, is_new) = (self.cell.name(), generation != last);
        if self.complaint.take().is_some() || is_new {
            info!(credential, generation = generation.0, next_attempt_in = ?pause, "credential obtained");
        } else {
            debug!(credential, generation = generation.0, next_attempt_in = ?pause, "credential unchanged");
        }
        self.cell.progress.send_modify(|progress| {
            let status = &mut progress.status;
            status.tried = true;
            status.generation = generation;
            status.expires =
                expires.map(|end| SystemTime::now() + end.saturating_duration_since(now));
            status.last_success = Some(SystemTime::now());
            status.succeeded += 1;
            status.last_error = None;
        });
        pause
    }

    /// The same value is the same token: it keeps its generation, so that nobody tries again with what was
    /// rejected, and its end where that was counted from the first request.
    fn publish(&self, grant: Grant, now: Instant) -> (Generation, Option<Instant>) {
        let Grant {
            value,
            expires,
            fixed_end,
        } = grant;
        let old = self.cell.token.load_full();
        let token = match old {
            Some(old) if is_equal(&old.value, &value) => {
                let expires = if fixed_end { old.expires } else { expires };
                Token {
                    value,
                    generation: old.generation,
                    obtained: old.obtained,
                    expires,
                }
            }
            old => {
                let last = old.map_or(0, |old| old.generation.0);
                Token {
                    value,
                    generation: Generation(last + 1),
                    obtained: now,
                    expires,
                }
            }
        };
        let published = (token.generation, token.expires);
        self.cell.publish(token);
        published
    }

    /// Takes note of a failure; the token in force stays. How long until the next attempt.
    fn complain(&mut self, error: &ExchangeError) -> Duration {
        let verdict = error.verdict();
        let pause = match verdict {
            Verdict::Unready if self.sees_all => self.poll,
            Verdict::Unready | Verdict::Transient => {
                self.failures = self.failures.saturating_add(1);
                schedule::backoff(self.failures, error.retry_after(), self.random.f64())
            }
            Verdict::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                schedule::refusal(self.refusals, error.retry_after())
            }
        };
        let told = error.told();
        let (credential, cause) = (self.cell.name(), with_causes(error));
        if self.complaint.replace(told) == Some(told) {
            debug!(credential, told, cause, next_attempt_in = ?pause, "credential still not obtained");
        } else {
            warn!(credential, told, cause, next_attempt_in = ?pause, "credential not obtained");
        }
        self.cell.progress.send_modify(|progress| {
            let status = &mut progress.status;
            status.tried = true;
            status.last_error = Some(told);
            match verdict {
                Verdict::Refused => status.refused += 1,
                Verdict::Unready | Verdict::Transient => status.failed += 1,
            }
        });
        pause
    }
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("cell", &self.cell)
            .finish_non_exhaustive()
    }
}

fn is_equal(one: &SecretString, other: &SecretString) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "two values of the same credential are compared"
    )]
    let equal = one.expose_secret() == other.expose_secret();
    equal
}

/// Between two exchanges on account of rejections.
const REJECTION_PAUSE: Duration = Duration::from_secs(10);
/// Against a configuration that would look at its files without a pause.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
