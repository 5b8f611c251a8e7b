//! What requests get that were answered with a 401: another value, or none.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

use token_source::{Feed, Generation, Keeper, Kind, Proof};
use tokio::{
    task::JoinSet,
    time::{Instant, sleep},
};

use crate::scripted::{Outcome, count, location, scripted, seconds, settings, value, value_of};

/// What as many requests get at the same time that were rejected with the value of `generation`.
async fn all_rejected(feed: &Feed, requests: usize, generation: u64) -> Vec<Option<Generation>> {
    let mut asking = JoinSet::new();
    for _ in 0..requests {
        let feed = feed.clone();
        asking.spawn(async move {
            let other = feed.after_rejection(Generation(generation)).await;
            other.map(|token| token.generation)
        });
    }
    asking.join_all().await
}

#[tokio::test(start_paused = true)]
async fn one_exchange_serves_all_that_were_rejected() {
    let (feed, attempts) = scripted(None, seconds(2), |n| Outcome::Grant { n, lifetime: 600 });
    feed.wait().await.unwrap();
    sleep(seconds(60)).await;
    let start = Instant::now();
    assert_eq!(
        all_rejected(&feed, 100, 1).await,
        [Some(Generation(2)); 100]
    );
    assert_eq!((start.elapsed(), count(&attempts)), (seconds(2), 2));
    assert_eq!(
        all_rejected(&feed, 10, 1).await,
        [Some(Generation(2)); 10],
        "stragglers"
    );
    assert_eq!((start.elapsed(), count(&attempts)), (seconds(2), 2));
    assert_eq!(all_rejected(&feed, 10, 2).await, [None; 10], "fresh");
    assert_eq!((start.elapsed(), count(&attempts)), (seconds(2), 2));
}

#[tokio::test(start_paused = true)]
async fn a_rejection_while_the_endpoint_is_down_is_answered_as_soon_as_that_is_known() {
    let (feed, attempts) = scripted(None, Duration::from_millis(300), |n| match n {
        0 => Outcome::Grant { n, lifetime: 600 },
        _ => Outcome::Refused,
    });
    feed.wait().await.unwrap();
    sleep(seconds(60)).await;
    let start = Instant::now();
    assert_eq!(all_rejected(&feed, 10, 1).await, [None; 10]);
    assert_eq!(start.elapsed(), Duration::from_millis(300));
    for _ in 0..10 {
        assert_eq!(all_rejected(&feed, 10, 1).await, [None; 10]);
        sleep(seconds(20)).await;
    }
    assert_eq!(count(&attempts), 2, "a refused secret is tried once");
    assert!(feed.current().is_some(), "the token in hand serves on");
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_longer_than_5_s_for_another_value() {
    let (feed, attempts) = scripted(None, seconds(20), |n| Outcome::Grant { n, lifetime: 600 });
    while feed.current().is_none() {
        sleep(seconds(1)).await;
    }
    sleep(seconds(60)).await;
    let start = Instant::now();
    assert_eq!(all_rejected(&feed, 10, 1).await, [None; 10]);
    assert_eq!(start.elapsed(), seconds(5));
    sleep(seconds(14)).await;
    assert_eq!(
        all_rejected(&feed, 10, 1).await,
        [Some(Generation(2)); 10],
        "who comes later joins"
    );
    assert_eq!(count(&attempts), 2);
}

#[tokio::test(start_paused = true)]
async fn a_path_that_always_answers_401_causes_no_login_storm() {
    let (feed, attempts) = scripted(None, Duration::ZERO, |n| Outcome::Grant {
        n,
        lifetime: 43_200,
    });
    feed.wait().await.unwrap();
    for _ in 0..3600 {
        sleep(seconds(1)).await;
        let rejected = feed.generation();
        if feed.after_rejection(rejected).await.is_some() {
            feed.replayed(rejected, Proof::Rejected);
        }
    }
    assert!((10..20).contains(&count(&attempts)), "{}", count(&attempts));
}

/// A License Service that reads its Secret when it starts, and a proxy that reads it every 5 s.
struct License {
    secret: tempfile::NamedTempFile,
    knows: String,
    feed: Feed,
}

impl License {
    async fn start() -> Self {
        let secret = tempfile::NamedTempFile::new().unwrap();
        fs::write(secret.path(), "first").unwrap();
        let value = location(secret.path());
        let (keeper, feed) = Keeper::new(settings(Kind::Token { value }));
        tokio::spawn(keeper.run());
        feed.wait().await.unwrap();
        Self {
            knows: "first".into(),
            secret,
            feed,
        }
    }

    async fn edit(&self, value: &str) {
        fs::write(self.path(), value).unwrap();
        sleep(seconds(6)).await;
    }

    fn restart(&mut self) {
        self.knows = fs::read_to_string(self.path()).unwrap();
    }

    fn path(&self) -> &Path {
        self.secret.path()
    }

    /// A request, sent once more after a 401 if there is another value to send it with.
    async fn is_served(&self) -> bool {
        let token = self.feed.wait().await.unwrap();
        if value(&token) == self.knows {
            return true;
        }
        let Some(other) = self.feed.after_rejection(token.generation).await else {
            return false;
        };
        let helped = value(&other) == self.knows;
        let proof = if helped {
            Proof::Taken
        } else {
            Proof::Rejected
        };
        self.feed.replayed(token.generation, proof);
        helped
    }
}

#[tokio::test(start_paused = true)]
async fn a_license_service_that_was_not_restarted_is_served_the_token_that_it_knows() {
    let mut service = License::start().await;
    service.edit("second").await;
    assert_eq!(value_of(&service.feed).await, "second");
    assert!(service.is_served().await, "however fresh the new one is");
    sleep(seconds(1)).await;
    assert_eq!(
        value_of(&service.feed).await,
        "first",
        "and at the first try from then on"
    );
    let told = service.feed.status().last_error.unwrap();
    assert!(told.contains("restart License Service"), "{told}");
    sleep(seconds(3600)).await;
    assert!(service.is_served().await);

    service.restart();
    assert!(service.is_served().await);
    assert_eq!(value_of(&service.feed).await, "second");
    assert_eq!(service.feed.status().last_error, None);
}

#[tokio::test(start_paused = true)]
async fn a_restart_before_the_new_secret_was_noticed_is_absorbed() {
    let mut service = License::start().await;
    sleep(seconds(60)).await;
    fs::write(service.path(), "second").unwrap();
    service.restart();
    assert!(service.is_served().await);
    assert_eq!(value_of(&service.feed).await, "second");
}

#[tokio::test(start_paused = true)]
async fn a_secret_that_is_edited_twice_before_the_restart_costs_no_request() {
    let mut service = License::start().await;
    service.edit("second").await;
    assert!(service.is_served().await);
    service.edit("third").await;
    assert!(
        service.is_served().await,
        "the one that worked is kept, not the one before"
    );
    service.restart();
    sleep(seconds(60)).await;
    assert!(service.is_served().await);
    assert_eq!(value_of(&service.feed).await, "third");
}

#[tokio::test(start_paused = true)]
async fn a_token_that_was_never_right_is_read_again_and_passed_on() {
    let mut service = License::start().await;
    service.knows = "another".into();
    for _ in 0..100 {
        sleep(seconds(1)).await;
        assert!(!service.is_served().await);
    }
    assert_eq!(service.feed.generation(), Generation(1));
    service.edit("another").await;
    assert!(service.is_served().await);
}

/// A JWT that ends after so many seconds.
fn ending(seconds_from_now: u64, name: &str) -> String {
    let end = SystemTime::now() + seconds(seconds_from_now);
    let end = end.duration_since(UNIX_EPOCH).unwrap().as_secs();
    let claims = BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"exp":{end},"sub":"{name}"}}"#));
    format!("e30.{claims}.sig")
}

#[tokio::test(start_paused = true)]
async fn a_former_token_that_nears_its_end_gives_way_to_the_new_one() {
    let service = License::start().await;
    let (old, new) = (ending(40, "old"), ending(7200, "new"));
    service.edit(&old).await;
    service.edit(&new).await;
    let service = License {
        knows: old.clone(),
        ..service
    };
    assert!(service.is_served().await);
    sleep(seconds(1)).await;
    assert_eq!(value_of(&service.feed).await, old);
    let expires = service.feed.status().expires.unwrap();
    assert!(
        expires < SystemTime::now() + seconds(60),
        "and its end is told"
    );
    for _ in 0..60 {
        sleep(seconds(1)).await;
        assert!(service.feed.current().is_some());
    }
    assert_eq!(value_of(&service.feed).await, new);
}
