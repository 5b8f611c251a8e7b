//! The one task that owns an exchange: it renews before expiry, notices new secrets, and never gives up.

mod news;
mod outcome;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{
    select,
    time::{self, Instant},
};
use tracing::info;

use crate::{
    clock::{self, SleepWatch},
    credential::{Kind, Settings},
    exchange::{self, Exchange, ExchangeError, Record},
    feed::{Cell, Feed},
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
    /// The last attempt failed, or was of no use.
    is_failing: bool,
    /// Whether the server may learn of a new value later than we do.
    keeps_former: bool,
    sleep: SleepWatch,
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
    is_failing: bool,
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
        let keeps_former = matches!(settings.kind, Kind::Token { .. });
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
            is_failing: false,
            keeps_former,
            sleep: SleepWatch::new(),
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
            self.conclude_rejection();
            self.rest(next_attempt, &mut changes).await;
        }
    }

    /// Exchanges, unless a look at the secrets shows that it cannot be done or was done already. When to try again.
    async fn attempt(&mut self) -> Instant {
        if let Some(nap) = self.sleep.take_nap() {
            self.catch_up(nap);
        }
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
                let (due, complaint, is_failing) = (last.due, last.complaint, last.is_failing);
                self.return_to(complaint);
                self.is_failing = is_failing;
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
            is_failing: self.is_failing,
        });
        due
    }

    /// Waits until the next attempt is due, by time, by a look that shows something else, or by rejection.
    async fn rest(&mut self, next_attempt: Instant, changes: &mut Changes) {
        self.tell_next_attempt(next_attempt, false);
        let mut next_look = Instant::now() + self.poll;
        loop {
            select! {
                () = time::sleep_until(next_attempt) => break,
                () = self.cell.news.notified() => if self.hears_news() { break },
                () = changes.next() => if self.look().await.ok() != self.seen { break },
                () = time::sleep_until(next_look), if !self.watched.is_empty() => {
                    if self.look().await.ok() != self.seen { break }
                    next_look = Instant::now() + self.poll;
                }
            }
        }
        self.tell_next_attempt(Instant::now(), true);
    }

    fn tell_next_attempt(&self, next_attempt: Instant, is_attempting: bool) {
        self.cell.progress.send_modify(|progress| {
            progress.next_attempt = next_attempt;
            progress.is_attempting = is_attempting;
            progress.is_failing = self.is_failing;
            progress.slept = clock::slept();
        });
    }

    /// The fingerprint of what the watched places hold now.
    async fn look(&self) -> Result<u64, ExchangeError> {
        let mut contents = Vec::with_capacity(self.watched.len());
        for (part, place) in &self.watched {
            contents.push(exchange::read(part, place, &Record::default()).await?);
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
}

impl fmt::Debug for Keeper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keeper")
            .field("cell", &self.cell)
            .finish_non_exhaustive()
    }
}

/// Against a configuration that would look at its files without a pause.
const SHORTEST_POLL: Duration = Duration::from_millis(10);
