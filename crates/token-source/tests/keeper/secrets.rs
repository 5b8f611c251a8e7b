//! What becomes of a credential when the files of its secrets change, vanish and return.

use std::{
    fs,
    path::Path,
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};
use token_source::{
    Generation, Keeper, Kind, Location, Origin,
    credential::{Container, Text},
};
use tokio::time::{Instant, sleep};

use crate::scripted::{
    Outcome, count, location, offsets, scripted, scripted_kind, seconds, settings, value_of,
};

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
async fn the_token_of_a_container_and_who_it_is_for_are_watched() {
    let directory = tempfile::tempdir().unwrap();
    let path = |name| directory.path().join(name);
    let usual = path("cr-token").to_str().unwrap().to_owned();
    let container = Container {
        origin: Origin::parse("https://iam.example.com", Arc::default()).unwrap(),
        cr_token: Location::FirstOf(vec!["/no/such/file", usual.leak()].leak()),
        profile_id: Some(Text::Location(location(&path("profile")))),
        profile_name: None,
        client: None,
        scope: None,
    };
    let grant = |n| Outcome::Grant {
        n,
        lifetime: 36_000,
    };
    let (feed, attempts) = scripted_kind(Kind::Container(container), Duration::ZERO, grant);
    sleep(seconds(60)).await;
    assert_eq!(count(&attempts), 0, "nobody is asked without it");
    assert_eq!(feed.status().last_error, Some("a secret cannot be read"));
    for (name, content, expected) in [
        ("profile", "one", 0),
        ("cr-token", "one", 1),
        ("cr-token", "one\n", 1),
        ("cr-token", "two", 2),
        ("profile", "two", 3),
    ] {
        fs::write(path(name), content).unwrap();
        sleep(seconds(6)).await;
        assert_eq!(count(&attempts), expected, "{name} {content}");
    }
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

#[cfg(unix)]
#[tokio::test(start_paused = true)]
async fn a_service_account_token_that_the_kubelet_rotates_is_taken_up_within_the_poll() {
    let volume = tempfile::tempdir().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let token = |n: u64| {
        let (iat, exp) = (now.as_secs() + n, now.as_secs() + n + 3607);
        let payload =
            BASE64_URL_SAFE_NO_PAD.encode(format!(r#"{{"iat":{iat},"exp":{exp},"jti":"{n}"}}"#));
        format!("e30.{payload}.c2ln")
    };
    project(volume.path(), 0, &token(0));
    let value = location(&volume.path().join("token"));
    let (keeper, feed) = Keeper::new(settings(Kind::ServiceAccount { value }));
    tokio::spawn(keeper.run());
    assert_eq!(value_of(&feed).await, token(0));
    for n in 1..=24 {
        project(volume.path(), n, &token(n));
        sleep(seconds(6)).await;
        assert_eq!(value_of(&feed).await, token(n));
        assert_eq!(feed.generation(), Generation(n + 1));
    }
    // In the moment between, as a volume that is being remounted.
    fs::remove_file(volume.path().join("..data")).unwrap();
    sleep(seconds(60)).await;
    assert_eq!(value_of(&feed).await, token(24));
    project(volume.path(), 25, &token(25));
    sleep(seconds(6)).await;
    assert_eq!(value_of(&feed).await, token(25));
}

#[tokio::test(start_paused = true)]
async fn a_file_that_is_being_written_is_no_empty_secret() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "one").unwrap();
    let (keeper, feed) = Keeper::new(settings(Kind::Token {
        value: location(file.path()),
    }));
    tokio::spawn(keeper.run());
    assert_eq!(value_of(&feed).await, "one");
    // What an editor leaves for a moment.
    fs::write(file.path(), "").unwrap();
    sleep(seconds(6)).await;
    assert_eq!(value_of(&feed).await, "one");
    assert_eq!(feed.status().last_error, Some("a secret cannot be read"));
    fs::write(file.path(), "two\n").unwrap();
    sleep(seconds(6)).await;
    assert_eq!(value_of(&feed).await, "two");
    assert_eq!(feed.status().last_error, None);
}

/// Puts a version of a token into a volume as the kubelet does: a directory of its own, and one link that is swapped.
#[cfg(unix)]
fn project(volume: &Path, version: u64, token: &str) {
    use std::os::unix::fs::symlink;

    let directory = format!("..version_{version}");
    fs::create_dir(volume.join(&directory)).unwrap();
    fs::write(volume.join(&directory).join("token"), token).unwrap();
    symlink(&directory, volume.join("..data_tmp")).unwrap();
    fs::rename(volume.join("..data_tmp"), volume.join("..data")).unwrap();
    let _ = symlink("..data/token", volume.join("token"));
    if let Some(before) = version.checked_sub(1) {
        fs::remove_dir_all(volume.join(format!("..version_{before}"))).unwrap();
    }
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
async fn a_refused_key_is_not_tried_again_when_its_file_vanishes_and_returns() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "wrong").unwrap();
    let (feed, attempts) = scripted(Some(file.path()), Duration::ZERO, |_| Outcome::Refused);
    flap(file.path(), 120).await;
    let minutes: Vec<_> = offsets(&attempts).iter().map(|at| at / 60.0).collect();
    // 5 and 15 minutes later, as if nothing had been; a missing file can only delay it.
    assert_eq!(minutes.len(), 3, "{minutes:?}");
    assert!((5.0..6.0).contains(&minutes[1]), "{minutes:?}");
    assert!((20.0..22.0).contains(&minutes[2]), "{minutes:?}");
    assert_eq!(feed.status().refused, 3);
    sleep(seconds(10)).await;
    assert_eq!(feed.status().last_error, Some("the login was refused"));
}

#[tokio::test(start_paused = true)]
async fn every_place_of_a_refused_login_counts() {
    let directory = tempfile::tempdir().unwrap();
    let (user, key) = (directory.path().join("user"), directory.path().join("key"));
    for flapping in [&user, &key] {
        fs::write(&user, "user").unwrap();
        fs::write(&key, "key").unwrap();
        let kind = Kind::Basic {
            username: Text::Location(location(&user)),
            secret: location(&key),
        };
        let (_feed, attempts) = scripted_kind(kind, Duration::ZERO, |_| Outcome::Refused);
        flap(flapping, 20).await;
        assert_eq!(count(&attempts), 1, "{flapping:?}");
        fs::write(flapping, "other").unwrap();
        sleep(seconds(10)).await;
        assert_eq!(count(&attempts), 2, "{flapping:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_file_that_vanishes_and_returns_does_not_shorten_retry_after() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "key").unwrap();
    let (_feed, attempts) = scripted(Some(file.path()), Duration::ZERO, |_| Outcome::Limited(900));
    flap(file.path(), 74).await;
    assert_eq!(count(&attempts), 1);
    flap(file.path(), 10).await;
    assert_eq!(count(&attempts), 2);
}

#[tokio::test(start_paused = true)]
async fn a_file_that_vanishes_and_returns_costs_no_login_while_the_token_is_good() {
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), "key").unwrap();
    let (feed, attempts) = scripted(Some(file.path()), Duration::ZERO, |n| Outcome::Grant {
        n,
        lifetime: 3600,
    });
    feed.wait().await.unwrap();
    fs::remove_file(file.path()).unwrap();
    sleep(seconds(6)).await;
    assert_eq!(feed.status().last_error, Some("a secret cannot be read"));
    fs::write(file.path(), "key").unwrap();
    sleep(seconds(12)).await;
    assert_eq!(feed.status().last_error, None);
    assert_eq!(count(&attempts), 1);
    feed.reject(Generation(1));
    sleep(seconds(1)).await;
    assert_eq!(count(&attempts), 2, "a rejection is heeded again");
}

/// Takes the file away for 6 s and puts it back for 6 s, so many times.
async fn flap(path: &Path, times: usize) {
    let content = fs::read(path).unwrap();
    for _ in 0..times {
        fs::remove_file(path).unwrap();
        sleep(seconds(6)).await;
        fs::write(path, &content).unwrap();
        sleep(seconds(6)).await;
    }
}
