//! Secrets of a simulated cluster: one for the whole process, each test with a Secret of its own.

use std::{sync::LazyLock, time::Duration};

use secrecy::ExposeSecret as _;
use simulator::cluster::{Cluster, Verb, WatchEnd};
use tokio::{task::JoinHandle, time};

use super::SecretName;
use crate::{
    Feed, Generation, Keeper, Kind, Location, Settings,
    secret::{Changes, SecretError},
};

static CLUSTER: LazyLock<Cluster> = LazyLock::new(|| Cluster::start().unwrap());

/// What takes the place of the kubeconfig of this machine.
pub(super) async fn configuration() -> Option<kube::Config> {
    let kubeconfig = kube::config::Kubeconfig::from_yaml(&CLUSTER.kubeconfig()).ok()?;
    kube::Config::from_custom_kubeconfig(kubeconfig, &kube::config::KubeConfigOptions::default())
        .await
        .ok()
}

const NAMESPACE: &str = "ibm-licensing";

fn place(name: &str, key: &str) -> Location {
    Location::KubernetesSecret {
        secret: SecretName {
            namespace: NAMESPACE.into(),
            name: name.into(),
        },
        key: key.into(),
    }
}

fn put(name: &str, data: &[(&str, &str)]) {
    CLUSTER.put(NAMESPACE, name, data);
}

fn asked(name: &str, verb: Verb) -> usize {
    let asked = CLUSTER.asked(NAMESPACE, name);
    asked.into_iter().filter(|asked| *asked == verb).count()
}

async fn read(place: &Location) -> Result<String, SecretError> {
    #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
    place
        .read()
        .await
        .map(|secret| secret.expose_secret().to_owned())
}

/// Waits until the place says so.
async fn until(place: &Location, expected: Result<&str, SecretError>) {
    let expected = expected.map(str::to_owned);
    eventually(async || read(place).await == expected).await;
}

async fn eventually(mut holds: impl AsyncFnMut() -> bool) {
    let patience = time::timeout(Duration::from_secs(60), async {
        while !holds().await {
            time::sleep(Duration::from_millis(10)).await;
        }
    });
    patience.await.expect("it comes to hold");
}

/// A place whose Secret is being followed, and listened to.
async fn followed(name: &str) -> (Location, Changes) {
    let place = place(name, "token");
    let changes = Changes::of([&place].into_iter());
    eventually(async || asked(name, Verb::Watch) > 0).await;
    (place, changes)
}

/// A keeper of a token, without looks between changes.
fn keeper(place: &Location) -> (Feed, JoinHandle<()>) {
    let (keeper, feed) = Keeper::new(Settings {
        name: "license".into(),
        kind: Kind::Token {
            value: place.clone(),
        },
        lifetime: None,
        wait_for_token: Some(Duration::from_secs(60)),
        poll: Duration::from_secs(3600),
    });
    (feed, tokio::spawn(async move { keeper.run().await }))
}

async fn value_of(feed: &Feed) -> String {
    let token = feed.wait().await.unwrap();
    #[expect(clippy::disallowed_methods, reason = "a test's own token")]
    token.value.expose_secret().to_owned()
}

#[tokio::test]
async fn a_secret_that_nobody_follows_is_asked_for_each_time() {
    put("asked", &[("token", "one\n"), ("empty", " \n")]);
    assert_eq!(read(&place("asked", "token")).await.as_deref(), Ok("one"));
    put("asked", &[("token", "two"), ("empty", " \n")]);
    assert_eq!(read(&place("asked", "token")).await.as_deref(), Ok("two"));
    for (key, error) in [("empty", SecretError::Empty), ("no", SecretError::Missing)] {
        assert_eq!(read(&place("asked", key)).await, Err(error));
    }
    assert_eq!(
        read(&place("never", "token")).await,
        Err(SecretError::Missing)
    );
    for (status, error) in [
        (401, SecretError::Forbidden),
        (403, SecretError::Forbidden),
        (429, SecretError::ClusterFailed),
        (500, SecretError::ClusterFailed),
    ] {
        CLUSTER.refuse(NAMESPACE, "asked", Some(status));
        assert_eq!(read(&place("asked", "token")).await, Err(error), "{status}");
    }
    let asked = CLUSTER.asked(NAMESPACE, "asked");
    assert_eq!(asked, [Verb::Get; 8]);
}

#[tokio::test]
async fn a_followed_secret_is_what_the_last_event_said() {
    put("followed", &[("token", "one")]);
    let (place, mut changes) = followed("followed").await;
    until(&place, Ok("one")).await;
    changes.next().await;
    put("followed", &[("token", "two")]);
    changes.next().await;
    assert_eq!(read(&place).await.as_deref(), Ok("two"));

    for (change, expected) in [
        (&[("other", "x")][..], Err(SecretError::Missing)),
        (&[("token", "")], Err(SecretError::Empty)),
        (&[("token", "three")], Ok("three")),
    ] {
        put("followed", change);
        until(&place, expected).await;
    }
    CLUSTER.delete(NAMESPACE, "followed");
    until(&place, Err(SecretError::Missing)).await;
    put("followed", &[("token", "four")]);
    until(&place, Ok("four")).await;
    let asked = CLUSTER.asked(NAMESPACE, "followed");
    assert_eq!(asked, [Verb::List, Verb::Watch], "all by one watch");

    drop(changes);
    put("followed", &[("token", "five")]);
    until(&place, Ok("five")).await;
    assert!(self::asked("followed", Verb::Get) > 0, "nobody follows it");
}

#[tokio::test]
async fn what_was_heard_outlives_the_api() {
    tokio::join!(
        outage("outage-403", 403, WatchEnd::Gone),
        outage("outage-429", 429, WatchEnd::Cut),
        outage("outage-503", 503, WatchEnd::Orderly),
    );
}

async fn outage(name: &str, status: u16, end: WatchEnd) {
    put(name, &[("token", "one")]);
    let (place, _changes) = followed(name).await;
    until(&place, Ok("one")).await;
    CLUSTER.refuse(NAMESPACE, name, Some(status));
    CLUSTER.end_watches(NAMESPACE, name, end);
    put(name, &[("token", "two")]);
    eventually(async || asked(name, Verb::List) >= 3).await;
    assert_eq!(read(&place).await.as_deref(), Ok("one"), "{status}");
    CLUSTER.refuse(NAMESPACE, name, None);
    until(&place, Ok("two")).await;
}

#[tokio::test]
async fn what_is_larger_than_any_secret_is_not_read() {
    let much = "x".repeat(4 << 20);
    put("large", &[("token", &much)]);
    assert_eq!(
        read(&place("large", "token")).await,
        Err(SecretError::ClusterFailed)
    );
    put("grows", &[("token", "one")]);
    let (place, _changes) = followed("grows").await;
    until(&place, Ok("one")).await;
    put("grows", &[("token", &much)]);
    eventually(async || asked("grows", Verb::List) >= 3).await;
    assert_eq!(read(&place).await.as_deref(), Ok("one"));
    put("grows", &[("token", "two")]);
    until(&place, Ok("two")).await;
}

#[tokio::test]
async fn a_watch_that_ends_goes_on_with_what_happened_meanwhile() {
    for (name, end) in [
        ("orderly", WatchEnd::Orderly),
        ("cut", WatchEnd::Cut),
        ("gone", WatchEnd::Gone),
    ] {
        put(name, &[("token", "one")]);
        let (place, _changes) = followed(name).await;
        until(&place, Ok("one")).await;
        CLUSTER.end_watches(NAMESPACE, name, end);
        put(name, &[("token", "two")]);
        until(&place, Ok("two")).await;
        put(name, &[("token", "three")]);
        until(&place, Ok("three")).await;
    }
}

#[tokio::test]
async fn a_watch_that_ends_at_once_is_no_storm() {
    put("storm", &[("token", "one")]);
    CLUSTER.end_watches_at_once(NAMESPACE, "storm", true);
    let began = time::Instant::now();
    let (_place, _changes) = followed("storm").await;
    time::sleep(Duration::from_secs(4)).await;
    let lists = asked("storm", Verb::List) as u64;
    // The pauses are at least a second long.
    assert!(lists <= began.elapsed().as_secs() + 1, "{lists}");
}

#[tokio::test]
async fn a_thousand_updates_are_one_change_and_the_last_wins() {
    put("burst", &[("token", "0")]);
    let (place, mut changes) = followed("burst").await;
    until(&place, Ok("0")).await;
    let (feed, keeper) = keeper(&place);
    assert_eq!(value_of(&feed).await, "0");
    for n in 1..=1000 {
        put("burst", &[("token", &n.to_string())]);
    }
    eventually(async || value_of(&feed).await == "1000").await;
    // Some of them were told while they still came; on a slow machine, over several seconds.
    let Generation(generations) = feed.generation();
    assert!(generations < 100, "{generations}");
    changes.next().await;
    keeper.abort();
}

#[tokio::test]
async fn a_keeper_acts_on_a_change_at_once_and_outlives_what_it_followed() {
    put("kept", &[("token", "one")]);
    let place = place("kept", "token");
    let (feed, keeper) = keeper(&place);
    assert_eq!(value_of(&feed).await, "one");
    put("kept", &[("token", "two")]);
    eventually(async || value_of(&feed).await == "two").await;
    CLUSTER.delete(NAMESPACE, "kept");
    eventually(async || feed.status().last_error == Some("a secret cannot be read")).await;
    assert_eq!(value_of(&feed).await, "two");
    put("kept", &[("token", "three")]);
    eventually(async || value_of(&feed).await == "three").await;
    assert_eq!(asked("kept", Verb::Get), 0);
    keeper.abort();
}

#[tokio::test]
async fn a_keeper_waits_for_a_secret_that_it_may_not_read_yet() {
    put("forbidden", &[("token", "one")]);
    CLUSTER.refuse(NAMESPACE, "forbidden", Some(403));
    let place = place("forbidden", "token");
    let (feed, keeper) = keeper(&place);
    eventually(async || feed.status().last_error.is_some()).await;
    assert_eq!(place.describe().await, "Kubernetes Secret …");
    CLUSTER.refuse(NAMESPACE, "forbidden", None);
    // Without waiting for the next look, which is an hour away.
    eventually(async || feed.current().is_some()).await;
    assert_eq!(value_of(&feed).await, "one");
    assert_eq!(
        place.describe().await,
        "Kubernetes Secret ibm-licensing/forbidden"
    );
    keeper.abort();
}

#[tokio::test]
async fn two_values_of_a_secret_change_together() {
    put("pair", &[("user", "one"), ("key", "1")]);
    let (user, key) = (place("pair", "user"), place("pair", "key"));
    let mut changes = Changes::of([&user, &key].into_iter());
    until(&user, Ok("one")).await;
    eventually(async || asked("pair", Verb::Watch) == 1).await;
    changes.next().await;
    put("pair", &[("user", "two"), ("key", "2")]);
    changes.next().await;
    assert_eq!(read(&user).await.as_deref(), Ok("two"));
    assert_eq!(read(&key).await.as_deref(), Ok("2"));
    assert_eq!(asked("pair", Verb::Watch), 1);
}

#[test]
fn nothing_of_an_object_is_shown() {
    let text = r#"{"metadata":{"name":"x","annotations":{"a":"canary"}},"data":{"k":"Y2FuYXJ5"}}"#;
    let object: super::object::Object = serde_json::from_str(text).unwrap();
    let shown = format!("{object:?}");
    assert!(
        !shown.contains("canary") && !shown.contains("Y2Fu"),
        "{shown}"
    );
    let content = object.content_of("x").unwrap();
    assert_eq!(
        content.value("k").map(|value| value.as_slice()),
        Some(&b"canary"[..])
    );
    for broken in [
        r#"{"metadata":{"name":"x"},"data":{"k":"c4nary!"}}"#,
        r#"{"metadata":{"name":"x"},"data":["c4nary"]}"#,
    ] {
        let error = serde_json::from_str::<super::object::Object>(broken).unwrap_err();
        assert!(!error.to_string().contains("c4nary"), "{error}");
    }
}
