//! The one task that owns an exchange: it renews before expiry, notices new secrets, and never gives up.

use std::time::SystemTime;
use std::{fmt, mem, sync::Arc, time::Duration};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::{
    select,
    time::{self, Instant},
};
use tracing::{debug, info, warn};

use crate::{
    connect::with_causes,
    credential::{Generation, Settings, Token},
    exchange::{self, Exchange, ExchangeError, Grant, Record, Verdict},
    expiry,
    feed::{Cell, Feed},
    schedule,
    secret::{Changes, Fingerprints, Location},
};

/// Keeps one credential fresh, as long as it [`run`](Keeper::run)s. Only one exchange is under way at any time,
/// because nobody else makes one.
pub struct Keeper {
    cell: Arc<Cell>,
    exchange: Box<dyn Exchange>,
    /// The places that are looked at every `poll`, each under its key in the configuration.
    watched: Vec<(&'static str, Location)>,
    /// All places are watched: no need to try what cannot be used before it has changed.
    sees_all: bool,
    poll: Duration,
    fingerprints: Fingerprints,
    /// What the watched places held at the last look; `None` where they could not be read.
    seen: Option<u64>,
    last: Option<Tried>,
    /// Passing failures, and tokens too short-lived to be of use, since the last good token.
    failures: u32,
    /// Refusals of the present content.
    refusals: u32,
    /// From when on the token in force is to be replaced.
    renewal: Instant,
    /// What is wrong at present; told once.
    complaint: Option<&'static str>,
    /// When a rejection was last acted upon.
    heeded: Option<Instant>,
    random: fastrand::Rng,
}

/// The last exchange.
struct Tried {
    /// What the watched places held before.
    content: u64,
    /// Not before then again with the same content, whatever becomes of the files meanwhile.
    due: Instant,
    /// What was wrong then.
    complaint: Option<&'static str>,
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
            .filter(|(_, place)| place.is_watched())
            .map(|&(part, place)| (part, place.clone()))
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
            seen: None,
            last: None,
            failures: 0,
            refusals: 0,
            renewal: Instant::now(),
            complaint: None,
            heeded: None,
            random: fastrand::Rng::new(),
        };
        (keeper, Feed(cell))
    }

    /// Obtains the credential now and keeps it fresh for ever; dropping the future ends it, and whatever is under
    /// way with it.
    pub async fn run(mut self) -> ! {
        let mut changes = Changes::of(self.watched.iter().map(|(_, place)| place));
        loop {
            let next_attempt = self.attempt().await;
            self.rest(next_attempt, &mut changes).await;
        }
    }

    /// Exchanges, unless a look at the secrets shows that it cannot be done or was done already. When to try again.
    async fn attempt(&mut self) -> Instant {
        // Looked at before it is used: a change in between costs one exchange too many, never one too few.
        let look = self.look().await;
        self.seen = look.as_ref().ok().copied();
        let content = match look {
            Ok(content) => content,
            Err(unreadable) => {
                // Nobody was asked, so nothing is forgotten of those who were.
                self.complain(&unreadable, self.poll);
                return Instant::now() + self.poll;
            }
        };
        match &self.last {
            Some(last) if last.content != content => {
                info!(credential = self.cell.name(), "secret changed");
                self.failures = 0;
                self.refusals = 0;
            }
            Some(last) if Instant::now() < last.due => {
                let (due, complaint) = (last.due, last.complaint);
                self.return_to(complaint);
                return due;
            }
            _ => {}
        }
        let outcome = self.exchange.exchange(&Record::default()).await;
        let pause = match outcome.and_then(|grant| self.accept(grant)) {
            Ok(pause) => pause,
            Err(error) => {
                let pause = self.pause_after(&error);
                self.complain(&error, pause);
                pause
            }
        };
        let due = Instant::now() + pause;
        self.last = Some(Tried {
            content,
            due,
            complaint: self.complaint,
        });
        due
    }

    /// Waits until the next attempt is due, by time, by a look that shows something else, or by rejection.
    async fn rest(&mut self, next_attempt: Instant, changes: &mut Changes) {
        self.cell
            .progress
            .send_modify(|progress| progress.next_attempt = next_attempt);
        let mut next_look = Instant::now() + self.poll;
        loop {
            select! {
                () = time::sleep_until(next_attempt) => break,
                () = self.cell.rejection.notified() => if self.heeds_rejection() { break },
                () = changes.next() => if self.look().await.ok() != self.seen { break },
                () = time::sleep_until(next_look), if !self.watched.is_empty() => {
                    if self.look().await.ok() != self.seen { break }
                    next_look = Instant::now() + self.poll;
                }
            }
        }
        self.cell
            .progress
            .send_modify(|progress| progress.next_attempt = Instant::now());
    }

    /// The fingerprint of what the watched places hold now.
    async fn look(&self) -> Result<u64, ExchangeError> {
        let mut contents = Vec::with_capacity(self.watched.len());
        for (part, place) in &self.watched {
            contents.push(exchange::read(part, place).await?);
        }
        Ok(self.fingerprints.of(&contents))
    }

    /// The secrets are as they were at the last exchange: so is everything else.
    fn return_to(&mut self, complaint: Option<&'static str>) {
        if self.complaint != complaint {
            info!(credential = self.cell.name(), "secret is back, unchanged");
            self.complaint = complaint;
            self.cell
                .progress
                .send_modify(|progress| progress.status.last_error = complaint);
        }
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
            if let Some(last) = &mut self.last {
                last.due = now;
            }
        }
        heeds
    }

    /// Puts a grant in force; how long until it is renewed.
    ///
    /// # Errors
    /// It is of no use, and the token in force stays: or else an endpoint that hands out the same token until its
    /// end, or tokens that are over, would be asked as fast as it answers.
    fn accept(&mut self, grant: Grant) -> Result<Duration, ExchangeError> {
        let now = Instant::now();
        let is_issued = grant.fixed_end;
        let (token, is_same) = self.token(grant, now);
        let (generation, expires) = (token.generation, token.expires);
        if expires.is_some_and(|end| end <= now) {
            return Err(ExchangeError::Over);
        }
        let left = expires.map_or(expiry::LONGEST, |end| end - now);
        if !(is_same && is_issued) {
            self.renewal = now + schedule::renewal(left, self.random.f64());
        } else if self.renewal <= now {
            return Err(ExchangeError::Unrenewed);
        }
        let mut pause = self.renewal - now;
        self.refusals = 0;
        let complaint = (left < SHORT_LIFE).then_some(SHORT_LIVED);
        if complaint.is_some() {
            self.failures = self.failures.saturating_add(1);
            pause = pause.max(schedule::backoff(self.failures, None, self.random.f64()));
        } else {
            self.failures = 0;
        }
        self.cell.publish(token);
        let credential = self.cell.name();
        let before = mem::replace(&mut self.complaint, complaint);
        if complaint.is_some() && before != complaint {
            warn!(credential, told = SHORT_LIVED, ?left, next_attempt_in = ?pause, "credential obtained in vain");
        } else if before != complaint || !is_same {
            info!(credential, generation = generation.0, next_attempt_in = ?pause, "credential obtained");
        } else {
            debug!(credential, generation = generation.0, next_attempt_in = ?pause, "credential unchanged");
        }
        self.cell.progress.send_modify(|progress| {
            let status = &mut progress.status;
            status.tried = true;
            status.generation = generation;
            status.expires = expires.map(|_| SystemTime::now() + left);
            status.last_success = Some(SystemTime::now());
            status.succeeded += 1;
            status.last_error = complaint;
        });
        Ok(pause)
    }

    /// The token that a grant makes, and whether it has the same value as the last. Such a one keeps its end where
    /// that was counted from the first request, and its generation, so that nobody tries again with what was
    /// rejected; unless it ends earlier, which nobody would notice otherwise.
    fn token(&self, grant: Grant, now: Instant) -> (Token, bool) {
        let Grant {
            value,
            expires,
            fixed_end,
        } = grant;
        let next = Generation(self.cell.generation().0 + 1);
        match self.cell.token.load_full() {
            Some(old) if is_equal(&old.value, &value) => {
                let expires = if fixed_end { old.expires } else { expires };
                let generation = if is_earlier(expires, old.expires) {
                    next
                } else {
                    old.generation
                };
                let obtained = old.obtained;
                let token = Token {
                    value,
                    generation,
                    obtained,
                    expires,
                };
                (token, true)
            }
            _ => {
                let token = Token {
                    value,
                    generation: next,
                    obtained: now,
                    expires,
                };
                (token, false)
            }
        }
    }

    /// Counts a failure; how long until the next attempt.
    fn pause_after(&mut self, error: &ExchangeError) -> Duration {
        match error.verdict() {
            Verdict::Unready if self.sees_all => self.poll,
            Verdict::Unready | Verdict::Transient => {
                self.failures = self.failures.saturating_add(1);
                schedule::backoff(self.failures, error.retry_after(), self.random.f64())
            }
            Verdict::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                schedule::refusal(self.refusals, error.retry_after())
            }
        }
    }

    /// Tells of a failure; the token in force stays.
    fn complain(&mut self, error: &ExchangeError, pause: Duration) {
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
            match error.verdict() {
                Verdict::Refused => status.refused += 1,
                Verdict::Unready | Verdict::Transient => status.failed += 1,
            }
        });
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

/// Whether an end lies before the one that is known, by more than two clocks differ that are read one after the other.
fn is_earlier(end: Option<Instant>, known: Option<Instant>) -> bool {
    match (end, known) {
        (Some(end), Some(known)) => end + CLOCK_DIFFERENCE < known,
        (end, known) => end.is_some() && known.is_none(),
    }
}

/// Between two exchanges on account of rejections.
const REJECTION_PAUSE: Duration = Duration::from_secs(10);
/// Against a configuration that would look at its files without a pause.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
/// A token that lives shorter cannot be renewed in time; the pauses between attempts grow as if it were none.
const SHORT_LIFE: Duration = Duration::from_secs(2);
const SHORT_LIVED: &str = "the token ends too soon to be kept fresh";
const CLOCK_DIFFERENCE: Duration = Duration::from_millis(100);
