//! The keeper's promises, on paused time: what is exchanged when, and what the feed hands out meanwhile.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use std::{
    fs,
    path::Path,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use http::StatusCode;
use secrecy::ExposeSecret as _;
use token_source::{
    Feed, Generation, Keeper, Kind, Location, Settings, Token,
    credential::Text,
    exchange::{Attempt, Exchange, ExchangeError, Grant},
};
use tokio::time::{Instant, sleep};

const CANARY: &str = "c4nary-value";

/// What a scripted exchange does.
enum Outcome {
    /// Grants `CANARY-N` for so many seconds.
    Grant {
        n: usize,
        lifetime: u64,
    },
    Down,
    Refused,
}

/// Answers the `n`th attempt, counted from 0, as the script says, after `takes`.
struct Scripted<F> {
    script: F,
    takes: Duration,
    attempts: Attempts,
}

type Attempts = Arc<Mutex<Vec<Instant>>>;

impl<F: Fn(usize) -> Outcome + Send + Sync> Exchange for Scripted<F> {
    fn exchange(&self) -> Attempt<'_> {
        Box::pin(async {
            let sent = Instant::now();
            let n = {
                let mut attempts = self.attempts.lock().unwrap();
                attempts.push(sent);
                attempts.len() - 1
            };
            sleep(self.takes).await;
            match (self.script)(n) {
                Outcome::Grant { n, lifetime } => Ok(Grant {
                    value: format!("{CANARY}-{n}").into(),
                    expires: Some(sent + seconds(lifetime)),
                    fixed_end: true,
                }),
                Outcome::Down => Err(ExchangeError::Timeout),
                Outcome::Refused => Err(ExchangeError::Refused {
                    step: "/login",
                    status: StatusCode::UNAUTHORIZED,
                    retry_after: None,
                }),
            }
        })
    }
}

/// Runs a keeper with a script; `file` is the place that it watches.
fn scripted(
    file: Option<&Path>,
    takes: Duration,
    script: impl Fn(usize) -> Outcome + Send + Sync + 'static,
) -> (Feed, Attempts) {
    let value = match file {
        Some(path) => Location::File {
            path: path.into(),
            field: None,
        },
        None => Location::Env("UNUSED".into()),
    };
    let attempts = Attempts::default();
    let exchange = Scripted {
        script,
        takes,
        attempts: attempts.clone(),
    };
    let (keeper, feed) = Keeper::with_exchange(settings(Kind::Token { value }), Box::new(exchange));
    tokio::spawn(keeper.run());
    (feed, attempts)
}

fn settings(kind: Kind) -> Settings {
    Settings {
        name: "test".into(),
        kind,
        lifetime: None,
        wait_for_token: None,
        poll: seconds(5),
    }
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

fn count(attempts: &Attempts) -> usize {
    attempts.lock().unwrap().len()
}

/// Seconds between the first attempt and each.
fn offsets(attempts: &Attempts) -> Vec<f64> {
    let attempts = attempts.lock().unwrap();
    attempts
        .iter()
        .map(|&at| (at - attempts[0]).as_secs_f64())
        .collect()
}

fn value(token: &Token) -> &str {
    #[expect(clippy::disallowed_methods, reason = "a test's own token")]
    token.value.expose_secret()
}

async fn value_of(feed: &Feed) -> String {
    value(&feed.wait().await.unwrap()).to_owned()
}

#[tokio::test(start_paused = true)]
async fn a_token_is_renewed_before_it_expires() {
    for lifetime in [5, 600, 43_200] {
        let (feed, attempts) = scripted(None, Duration::ZERO, move |n| Outcome::Grant {
            n,
            lifetime,
        });
        feed.wait().await.unwrap();
        sleep(seconds(lifetime) * 10).await;
        assert!(feed.current().is_some());
        let offsets = offsets(&attempts);
        assert!(offsets.len() > 10, "{lifetime} s: {offsets:?}");
        for pair in offsets.windows(2) {
            let share = (pair[1] - pair[0]) / lifetime as f64;
            assert!(
                (0.69..=0.81).contains(&share),
                "{lifetime} s: renewed after {share} of it"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_thousand_waiters_cost_one_exchange() {
    let (feed, attempts) = scripted(None, seconds(3), |n| Outcome::Grant { n, lifetime: 600 });
    let start = Instant::now();
    let waiters: Vec<_> = (0..1000)
        .map(|_| {
            let feed = feed.clone();
            tokio::spawn(async move { feed.wait().await.map(|token| token.generation) })
        })
        .collect();
    for waiter in waiters {
        assert_eq!(waiter.await.unwrap(), Ok(Generation(1)));
    }
    assert_eq!(start.elapsed().as_secs(), 3);
    assert_eq!(count(&attempts), 1);
}

#[tokio::test(start_paused = true)]
async fn the_first_wait_ends_after_5_s_and_tells_the_truth() {
    let (feed, _) = scripted(None, seconds(20), |n| Outcome::Grant { n, lifetime: 600 });
    let start = Instant::now();
    let unavailable = feed.wait().await.unwrap_err();
    assert_eq!(start.elapsed().as_secs(), 5);
    assert_eq!(
        unavailable.retry_after,
        seconds(1),
        "an attempt is under way"
    );
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_an_attempt_that_is_far_away() {
    let (feed, _) = scripted(None, Duration::ZERO, |_| Outcome::Refused);
    let start = Instant::now();
    assert_eq!(feed.wait().await.unwrap_err().retry_after, seconds(300));
    sleep(Duration::from_millis(100_500)).await;
    assert_eq!(
        feed.wait().await.unwrap_err().retry_after,
        seconds(200),
        "rounded up"
    );
    assert_eq!(start.elapsed(), Duration::from_millis(100_500));
}

#[tokio::test(start_paused = true)]
async fn the_wait_can_be_configured() {
    for wait in [0, 30] {
        let settings = Settings {
            wait_for_token: Some(seconds(wait)),
            ..settings(Kind::Token {
                value: Location::Env("UNUSED".into()),
            })
        };
        // Never run: no token comes.
        let (_keeper, feed) = Keeper::with_exchange(
            settings,
            Box::new(Scripted {
                script: |_| Outcome::Down,
                takes: Duration::ZERO,
                attempts: Attempts::default(),
            }),
        );
        let start = Instant::now();
        assert!(feed.wait().await.is_err());
        assert_eq!(start.elapsed(), seconds(wait));
    }
}

#[tokio::test(start_paused = true)]
async fn the_old_token_serves_until_its_end_and_never_longer() {
    let up_again_after = 6;
    let (feed, attempts) = scripted(None, Duration::ZERO, move |n| match n {
        0 => Outcome::Grant { n, lifetime: 60 },
        n if n < up_again_after => Outcome::Down,
        n => Outcome::Grant { n, lifetime: 60 },
    });
    let first = feed.wait().await.unwrap();
    let end = first.expires.unwrap();
    while count(&attempts) <= up_again_after {
        let expired = Instant::now() >= end;
        assert_eq!(feed.current().is_none(), expired);
        if expired {
            let retry_after = feed.wait().await.unwrap_err().retry_after;
            assert!(
                (seconds(1)..=seconds(60)).contains(&retry_after),
                "{retry_after:?}"
            );
        }
        sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(feed.wait().await.unwrap().generation, Generation(2));
    let offsets = offsets(&attempts);
    for (n, pair) in offsets.windows(2).enumerate().skip(1) {
        let longest = 2_f64.powi(i32::try_from(n).unwrap()).min(60.0) + 0.01;
        assert!(
            (1.0..=longest).contains(&(pair[1] - pair[0])),
            "{offsets:?}"
        );
    }
    let status = feed.status();
    assert_eq!(
        (
            status.succeeded,
            status.failed,
            status.refused,
            status.last_error
        ),
        (2, 5, 0, None)
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_is_tried_rarely_but_for_ever() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |_| Outcome::Refused);
    sleep(seconds(81 * 60)).await;
    let minutes: Vec<_> = offsets(&attempts)
        .iter()
        .map(|at| (at / 60.0).round())
        .collect();
    assert_eq!(minutes, [0.0, 5.0, 20.0, 50.0, 80.0]);
    // Rejections do not make it more.
    feed.reject(feed.generation());
    sleep(seconds(60)).await;
    assert_eq!(count(&attempts), 5);
    let status = feed.status();
    assert!(status.tried && !status.valid);
    assert_eq!(
        (status.refused, status.last_error),
        (5, Some("the login was refused"))
    );
}

#[tokio::test(start_paused = true)]
async fn a_refused_secret_is_tried_at_once_when_it_changes() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "wrong").unwrap();
    let path = file.path().to_owned();
    let (feed, attempts) =
        scripted(
            Some(file.path()),
            Duration::ZERO,
            move |n| match fs::read_to_string(&path).unwrap().as_str() {
                "right" => Outcome::Grant { n, lifetime: 600 },
                _ => Outcome::Refused,
            },
        );
    sleep(seconds(60)).await;
    assert_eq!(count(&attempts), 1);
    fs::write(file.path(), "wrong, too\n").unwrap();
    sleep(seconds(60)).await;
    assert_eq!(count(&attempts), 2, "once per content");
    assert_eq!(feed.status().refused, 2);
    fs::write(file.path(), "right").unwrap();
    sleep(seconds(6)).await;
    assert!(feed.current().is_some());
    assert_eq!(count(&attempts), 3);
}

#[tokio::test(start_paused = true)]
async fn a_changed_secret_is_exchanged_while_the_old_token_serves() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "one").unwrap();
    let (feed, attempts) = scripted(Some(file.path()), seconds(3), |n| Outcome::Grant {
        n,
        lifetime: 600,
    });
    feed.wait().await.unwrap();
    fs::write(file.path(), "two").unwrap();
    let start = Instant::now();
    while feed.generation() == Generation(1) {
        assert!(feed.current().is_some());
        assert!(
            start.elapsed() < seconds(9),
            "noticed within 5 s, exchanged within 3 s"
        );
        sleep(Duration::from_millis(100)).await;
    }
    sleep(seconds(60)).await;
    assert_eq!(count(&attempts), 2);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_token_is_exchanged_once() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |n| Outcome::Grant {
        n,
        lifetime: 600,
    });
    feed.wait().await.unwrap();
    for _ in 0..100 {
        feed.reject(Generation(1));
        sleep(Duration::from_millis(1)).await;
    }
    assert_eq!((count(&attempts), feed.generation()), (2, Generation(2)));
    feed.reject(Generation(2));
    sleep(seconds(5)).await;
    assert_eq!(count(&attempts), 2, "not twice within 10 s");
    sleep(seconds(6)).await;
    feed.reject(Generation(2));
    sleep(seconds(1)).await;
    assert_eq!((count(&attempts), feed.generation()), (3, Generation(3)));
}

#[tokio::test(start_paused = true)]
async fn the_same_value_again_is_the_same_token() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |_| Outcome::Grant {
        n: 7,
        lifetime: 100,
    });
    let first = feed.wait().await.unwrap();
    sleep(seconds(99)).await;
    assert!(count(&attempts) >= 2);
    let again = feed.current().unwrap();
    assert_eq!(
        (again.generation, again.expires),
        (Generation(1), first.expires)
    );
    sleep(seconds(2)).await;
    assert!(feed.current().is_none(), "it ends when it said it would");
}

#[tokio::test(start_paused = true)]
async fn a_missing_file_heals_by_itself() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    let value = Location::File {
        path: path.clone(),
        field: None,
    };
    let (keeper, feed) = Keeper::new(settings(Kind::Token { value }));
    tokio::spawn(keeper.run());
    assert!(feed.wait().await.unwrap_err().retry_after <= seconds(5));
    sleep(seconds(120)).await;
    assert_eq!(feed.status().last_error, Some("a secret cannot be read"));
    fs::write(&path, "first\n").unwrap();
    sleep(seconds(5)).await;
    assert_eq!(value_of(&feed).await, "first");

    // Rotated as Kubernetes does it, then gone: the last value stays in force.
    fs::write(directory.path().join("next"), "second\n").unwrap();
    fs::rename(directory.path().join("next"), &path).unwrap();
    sleep(seconds(6)).await;
    assert_eq!(value_of(&feed).await, "second");
    fs::remove_file(&path).unwrap();
    sleep(seconds(3600)).await;
    assert_eq!(value_of(&feed).await, "second");
    fs::write(&path, "has spaces").unwrap();
    sleep(seconds(6)).await;
    assert_eq!(value_of(&feed).await, "second");
    assert_eq!(feed.current().unwrap().expires, None);
    assert_eq!(feed.generation(), Generation(2));
}

#[tokio::test(start_paused = true)]
async fn an_expired_stored_token_is_not_handed_out() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap()
        .as_secs();
    let write = |exp: u64| {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":1,"exp":{exp}}}"#));
        fs::write(file.path(), format!("e30.{payload}.c2ln\n")).unwrap();
    };
    write(now - 1);
    let value = Location::File {
        path: file.path().into(),
        field: None,
    };
    let (keeper, feed) = Keeper::new(settings(Kind::ServiceAccount { value }));
    let keeper = tokio::spawn(keeper.run());
    assert!(feed.wait().await.is_err());
    write(now + 3600);
    sleep(seconds(6)).await;
    let left = feed.current().unwrap().expires.unwrap() - Instant::now();
    assert!((seconds(3500)..=seconds(3600)).contains(&left), "{left:?}");
    // The wall clock, which tells the keeper what is left, is not paused.
    keeper.abort();
    sleep(seconds(3600)).await;
    assert!(feed.current().is_none());
}

#[tokio::test(start_paused = true)]
async fn user_and_key_are_encoded_in_one_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    let key = "k".repeat(80);
    fs::write(file.path(), format!("{key}\n")).unwrap();
    let secret = Location::File {
        path: file.path().into(),
        field: None,
    };
    let expected = base64::prelude::BASE64_STANDARD.encode(format!("user:{key}"));
    let username = || Text::Literal("user".into());
    for (kind, scheme) in [
        (
            Kind::ZenApiKey {
                username: username(),
                secret: secret.clone(),
            },
            "ZenApiKey",
        ),
        (
            Kind::Basic {
                username: username(),
                secret: secret.clone(),
            },
            "Basic",
        ),
    ] {
        let (keeper, feed) = Keeper::new(settings(kind));
        tokio::spawn(keeper.run());
        assert_eq!(value_of(&feed).await, expected);
        assert_eq!(feed.scheme(), scheme);
    }
    let username = Text::Literal("us:er".into());
    let (keeper, feed) = Keeper::new(settings(Kind::Basic { username, secret }));
    tokio::spawn(keeper.run());
    assert!(feed.wait().await.is_err());
    assert_eq!(
        feed.status().last_error,
        Some("the user name cannot be sent")
    );
}

#[tokio::test(start_paused = true)]
async fn a_feed_is_read_from_other_runtimes_and_shows_no_secret() {
    let (feed, _) = scripted(None, Duration::ZERO, |n| Outcome::Grant {
        n,
        lifetime: 600,
    });
    let token = feed.wait().await.unwrap();
    assert!(value(&token).contains(CANARY));
    let grant = Grant {
        value: CANARY.into(),
        expires: None,
        fixed_end: false,
    };
    for shown in [
        format!("{feed:?}"),
        format!("{token:?}"),
        format!("{:?}", feed.status()),
        format!("{grant:?}"),
    ] {
        assert!(!shown.contains(CANARY), "{shown}");
    }
    let worker = std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .build()
            .unwrap();
        runtime.block_on(async { feed.wait().await.is_ok() })
    });
    assert!(worker.join().unwrap());
}
