//! The keeper's promises, on paused time: what is exchanged when, and what the feed hands out meanwhile.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

mod interleavings;
mod pacing;
mod rejections;
mod scripted;
mod secrets;

use std::time::Duration;

use token_source::{Generation, Keeper, Kind, Location, Settings, exchange::Grant};
use tokio::time::{Instant, sleep};

use scripted::{
    Attempts, CANARY, Outcome, Scripted, count, offsets, scripted, seconds, settings, value,
};

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
