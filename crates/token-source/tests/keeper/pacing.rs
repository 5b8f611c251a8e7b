//! How often a token endpoint is asked, whatever it answers.

use std::time::Duration;

use token_source::Generation;
use tokio::time::sleep;

use crate::scripted::{Outcome, count, offsets, scripted, seconds};

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
async fn an_endpoint_that_hands_out_the_same_token_for_ever_is_not_hammered() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |_| Outcome::Grant {
        n: 7,
        lifetime: 100,
    });
    feed.wait().await.unwrap();
    sleep(seconds(85)).await;
    assert!(feed.current().is_some());
    let status = feed.status();
    assert!(status.failed > 0, "{status:?}");
    let again = "the token endpoint hands out its old token again";
    assert_eq!(status.last_error, Some(again));
    sleep(seconds(3600 - 85)).await;
    assert!(feed.current().is_none());
    let over = "the token endpoint hands out tokens that are over";
    assert_eq!(feed.status().last_error, Some(over));
    assert_eq!(feed.status().succeeded, 1);
    // Full jitter up to 60 s makes 30 s on the average.
    assert!(count(&attempts) < 250, "{}", count(&attempts));
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_hands_out_the_same_token_until_its_end_heals() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |n| Outcome::Grant {
        n: usize::from(n >= 9),
        lifetime: 100,
    });
    feed.wait().await.unwrap();
    while feed.generation() == Generation(1) {
        sleep(seconds(1)).await;
        assert!(count(&attempts) <= 10);
    }
    assert!(feed.current().is_some());
    assert_eq!(feed.status().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn tokens_that_are_over_when_they_come_are_not_hammered() {
    let (feed, attempts) = scripted(None, seconds(2), |n| Outcome::Grant { n, lifetime: 1 });
    sleep(seconds(3600)).await;
    assert!(count(&attempts) < 250, "{}", count(&attempts));
    assert_eq!(feed.generation(), Generation(0));
    assert_eq!(feed.status().succeeded, 0);
}

#[tokio::test(start_paused = true)]
async fn tokens_of_a_second_are_not_hammered() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |n| Outcome::Grant { n, lifetime: 1 });
    feed.wait().await.unwrap();
    let told = Some("the token ends too soon to be kept fresh");
    assert_eq!(feed.status().last_error, told);
    for _ in 0..3600 {
        sleep(seconds(1)).await;
        feed.reject(feed.generation());
    }
    assert!(count(&attempts) < 250, "{}", count(&attempts));
    let status = feed.status();
    assert_eq!((status.last_error, status.failed), (told, 0));
}

#[tokio::test(start_paused = true)]
async fn tokens_of_5_s_leave_no_gap() {
    // A second of it was rounded away, and each login takes 200 ms.
    let (feed, attempts) = scripted(None, Duration::from_millis(200), |n| Outcome::Grant {
        n,
        lifetime: 4,
    });
    feed.wait().await.unwrap();
    for _ in 0..36_000 {
        sleep(Duration::from_millis(100)).await;
        assert!(feed.current().is_some(), "{:?}", offsets(&attempts).last());
    }
    assert_eq!(feed.status().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn an_end_that_moves_earlier_is_seen_by_who_looks_at_the_generation() {
    let (feed, _) = scripted(None, Duration::ZERO, |n| Outcome::Told {
        n: 7,
        lifetime: [600, 60, 900][n.min(2)],
    });
    let first = feed.wait().await.unwrap();
    sleep(seconds(10)).await;
    feed.reject(Generation(1));
    sleep(seconds(1)).await;
    let second = feed.current().unwrap();
    assert!(second.expires < first.expires);
    assert_eq!(second.generation, Generation(2));
    // A later end: who kept the second looks again when that has ended.
    sleep(seconds(58)).await;
    let third = feed.current().unwrap();
    assert!(third.expires > second.expires);
    assert_eq!(third.generation, Generation(2));
}
