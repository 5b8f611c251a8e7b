//! An exchange that does what a script says, and a keeper around it.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use secrecy::ExposeSecret as _;
use token_source::{
    Feed, Keeper, Kind, Location, Settings, Token,
    exchange::{Attempt, Exchange, ExchangeError, Grant, Record},
};
use tokio::time::{Instant, sleep};

pub(crate) const CANARY: &str = "c4nary-value";

/// What a scripted exchange does.
pub(crate) enum Outcome {
    /// Grants `CANARY-N` for so many seconds.
    Grant {
        n: usize,
        lifetime: u64,
    },
    /// The same, with an end that was told beside the value: it counts anew each time.
    Told {
        n: usize,
        lifetime: u64,
    },
    Down,
    Refused,
    /// 429, with so many seconds in `Retry-After`.
    Limited(u64),
}

/// Answers the `n`th attempt, counted from 0, as the script says, after `takes`.
pub(crate) struct Scripted<F> {
    pub(crate) script: F,
    pub(crate) takes: Duration,
    pub(crate) attempts: Attempts,
}

pub(crate) type Attempts = Arc<Mutex<Vec<Instant>>>;

impl<F: Fn(usize) -> Outcome + Send + Sync> Exchange for Scripted<F> {
    fn exchange<'a>(&'a self, _: &'a Record) -> Attempt<'a> {
        Box::pin(async {
            let sent = token_source::clock::now();
            let n = {
                let mut attempts = self.attempts.lock().unwrap();
                attempts.push(Instant::now());
                attempts.len() - 1
            };
            sleep(self.takes).await;
            let grant = |n, lifetime, fixed_end| Grant {
                value: format!("{CANARY}-{n}").into(),
                expires: Some(sent + seconds(lifetime)),
                fixed_end,
            };
            match (self.script)(n) {
                Outcome::Grant { n, lifetime } => Ok(grant(n, lifetime, true)),
                Outcome::Told { n, lifetime } => Ok(grant(n, lifetime, false)),
                Outcome::Down => Err(ExchangeError::Timeout),
                Outcome::Refused => Err(ExchangeError::Refused {
                    step: "/login",
                    status: StatusCode::UNAUTHORIZED,
                    retry_after: None,
                }),
                Outcome::Limited(retry_after) => Err(ExchangeError::Status {
                    step: "/login",
                    status: StatusCode::TOO_MANY_REQUESTS,
                    retry_after: Some(seconds(retry_after)),
                }),
            }
        })
    }
}

/// Runs a keeper with a script; `file` is the place that it watches.
pub(crate) fn scripted(
    file: Option<&Path>,
    takes: Duration,
    script: impl Fn(usize) -> Outcome + Send + Sync + 'static,
) -> (Feed, Attempts) {
    let value = file.map_or_else(|| Location::Env("UNUSED".into()), location);
    scripted_kind(Kind::ServiceAccount { value }, takes, script)
}

/// The same for a kind that reads from other places.
pub(crate) fn scripted_kind(
    kind: Kind,
    takes: Duration,
    script: impl Fn(usize) -> Outcome + Send + Sync + 'static,
) -> (Feed, Attempts) {
    let attempts = Attempts::default();
    let exchange = Scripted {
        script,
        takes,
        attempts: attempts.clone(),
    };
    let (keeper, feed) = Keeper::with_exchange(settings(kind), Box::new(exchange));
    tokio::spawn(keeper.run());
    (feed, attempts)
}

pub(crate) fn location(path: &Path) -> Location {
    Location::File {
        path: path.into(),
        field: None,
    }
}

pub(crate) fn settings(kind: Kind) -> Settings {
    Settings {
        name: "test".into(),
        kind,
        lifetime: None,
        wait_for_token: None,
        poll: seconds(5),
    }
}

pub(crate) fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

pub(crate) fn count(attempts: &Attempts) -> usize {
    attempts.lock().unwrap().len()
}

/// Seconds between the first attempt and each.
pub(crate) fn offsets(attempts: &Attempts) -> Vec<f64> {
    let attempts = attempts.lock().unwrap();
    attempts
        .iter()
        .map(|&at| (at - attempts[0]).as_secs_f64())
        .collect()
}

pub(crate) fn value(token: &Token) -> &str {
    #[expect(clippy::disallowed_methods, reason = "a test's own token")]
    token.value.expose_secret()
}

pub(crate) async fn value_of(feed: &Feed) -> String {
    value(&feed.wait().await.unwrap()).to_owned()
}
