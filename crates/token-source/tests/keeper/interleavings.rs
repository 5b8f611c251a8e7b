//! Whatever order things happen in, a feed hands out no expired and no foreign token.

use std::{
    cell::Cell,
    fs,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use http::StatusCode;
use proptest::prelude::*;
use secrecy::ExposeSecret as _;
use token_source::{
    Feed, Keeper, Kind, Location, Proof, Token, clock,
    exchange::{Attempt, Exchange, ExchangeError, Grant, Record},
};
use tokio::time::{Instant, sleep};

use crate::scripted::{location, settings, value};

/// Something that happens.
#[derive(Debug, Clone)]
enum Event {
    /// Nothing, for so many milliseconds.
    Pass(u64),
    /// A request gets a 401 for the token in force, and its replay is taken or not.
    Rejected(Proof),
    /// A request gets a 401 for a token of the past.
    RejectedLate,
    /// The secret's file has another content.
    Edit(u8),
    /// The secret's file vanishes.
    Vanish,
    /// The endpoint does not answer, or does again.
    Outage(bool),
    /// The endpoint refuses every secret, or takes them again.
    Refusal(bool),
    /// From now on tokens live for so many seconds.
    Lifetime(u64),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        4 => (0..400_u64).prop_map(Event::Pass),
        4 => (0..60_000_u64).prop_map(Event::Pass),
        3 => prop_oneof![Just(Proof::Taken), Just(Proof::Rejected), Just(Proof::Unknown)]
            .prop_map(Event::Rejected),
        1 => Just(Event::RejectedLate),
        2 => (0..4_u8).prop_map(Event::Edit),
        1 => Just(Event::Vanish),
        2 => any::<bool>().prop_map(Event::Outage),
        1 => any::<bool>().prop_map(Event::Refusal),
        1 => (1..600_u64).prop_map(Event::Lifetime),
    ]
}

/// A token endpoint. Its tokens say whose they are, by which secret they were obtained, and when they end.
struct Endpoint {
    whose: &'static str,
    began: Instant,
    place: Location,
    is_down: AtomicBool,
    refuses: AtomicBool,
    lifetime: AtomicU64,
    takes: Duration,
    issued: AtomicU64,
}

struct Login(Arc<Endpoint>);

impl Exchange for Login {
    fn exchange<'a>(&'a self, _: &'a Record) -> Attempt<'a> {
        Box::pin(async {
            let endpoint = &*self.0;
            let secret = endpoint
                .place
                .read()
                .await
                .map_err(|cause| ExchangeError::Secret {
                    part: "password",
                    place: "file".into(),
                    cause,
                })?;
            let (sent, began) = (clock::now(), endpoint.began.elapsed());
            sleep(endpoint.takes).await;
            if endpoint.is_down.load(Ordering::Relaxed) {
                return Err(ExchangeError::Timeout);
            }
            if endpoint.refuses.load(Ordering::Relaxed) {
                return Err(ExchangeError::Refused {
                    step: "/login",
                    status: StatusCode::UNAUTHORIZED,
                    retry_after: None,
                });
            }
            let lifetime = Duration::from_secs(endpoint.lifetime.load(Ordering::Relaxed));
            let number = endpoint.issued.fetch_add(1, Ordering::Relaxed);
            let ends = (began + lifetime).as_millis();
            #[expect(clippy::disallowed_methods, reason = "a test's own secret")]
            let secret = secret.expose_secret();
            Ok(Grant {
                value: format!("{}-{secret}-{number}-{ends}", endpoint.whose).into(),
                expires: Some(sent + lifetime),
                fixed_end: true,
            })
        })
    }
}

/// A credential, its endpoint and its secret's file.
struct Account {
    endpoint: Arc<Endpoint>,
    file: tempfile::TempDir,
    /// What was last written into it.
    secret: Cell<u8>,
    feed: Feed,
}

impl Account {
    /// One whose server may learn of a new value later than we do, or not.
    fn open(whose: &'static str, is_token: bool, takes: Duration) -> Self {
        let file = tempfile::tempdir().unwrap();
        fs::write(file.path().join("password"), "0").unwrap();
        let place = location(&file.path().join("password"));
        let endpoint = Arc::new(Endpoint {
            whose,
            began: Instant::now(),
            place: place.clone(),
            is_down: AtomicBool::new(false),
            refuses: AtomicBool::new(false),
            lifetime: AtomicU64::new(60),
            takes,
            issued: AtomicU64::new(0),
        });
        let kind = match is_token {
            true => Kind::Token { value: place },
            false => Kind::ServiceAccount { value: place },
        };
        let (keeper, feed) =
            Keeper::with_exchange(settings(kind), Box::new(Login(endpoint.clone())));
        tokio::spawn(keeper.run());
        Self {
            endpoint,
            file,
            secret: Cell::new(0),
            feed,
        }
    }

    async fn happens(&self, event: &Event) {
        let path = self.file.path().join("password");
        let flag = |flag: &AtomicBool, on: bool| flag.store(on, Ordering::Relaxed);
        match *event {
            Event::Pass(millis) => sleep(Duration::from_millis(millis)).await,
            Event::Rejected(proof) => {
                let rejected = self.feed.generation();
                if let Some(other) = self.feed.after_rejection(rejected).await {
                    assert_ne!(other.generation, rejected, "the rejected token once more");
                    self.check(&other);
                    self.feed.replayed(rejected, proof);
                }
            }
            Event::RejectedLate => {
                let past = token_source::Generation(self.feed.generation().0.saturating_sub(1));
                if let Some(other) = self.feed.after_rejection(past).await {
                    self.check(&other);
                }
            }
            Event::Edit(content) => {
                self.secret.set(content);
                fs::write(path, content.to_string()).unwrap();
            }
            Event::Vanish => drop(fs::remove_file(path)),
            Event::Outage(on) => flag(&self.endpoint.is_down, on),
            Event::Refusal(on) => flag(&self.endpoint.refuses, on),
            Event::Lifetime(seconds) => self.endpoint.lifetime.store(seconds, Ordering::Relaxed),
        }
    }

    /// A token that is sent now must be of this account, and must not have ended.
    fn check(&self, token: &Token) {
        let parts: Vec<_> = value(token).split('-').collect();
        assert_eq!(parts[0], self.endpoint.whose, "a foreign token");
        let ends = Duration::from_millis(parts[3].parse().unwrap());
        let now = self.endpoint.began.elapsed();
        assert!(now < ends, "expired {:?} ago", now - ends);
    }

    async fn check_what_requests_get(&self) {
        if let Some(token) = self.feed.current() {
            self.check(&token);
        }
        if let Ok(token) = self.feed.wait().await {
            self.check(&token);
        }
    }

    /// In the end everything works again: so does the credential, in time.
    async fn heals(&self) {
        self.happens(&Event::Outage(false)).await;
        self.happens(&Event::Refusal(false)).await;
        self.happens(&Event::Lifetime(600)).await;
        // The file is there again, with what it held.
        self.happens(&Event::Edit(self.secret.get())).await;
        // The longest pause after a refusal.
        sleep(Duration::from_secs(31 * 60)).await;
        self.check(&self.feed.current().expect("healed"));
        self.happens(&Event::Edit(9)).await;
        sleep(Duration::from_secs(70)).await;
        let token = self
            .feed
            .current()
            .expect("the new secret is tried at once");
        self.check(&token);
        assert!(value(&token).contains("-9-"), "{}", value(&token));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(120))]
    #[test]
    fn no_interleaving_hands_out_an_expired_or_foreign_token(
        events in proptest::collection::vec((any::<bool>(), event()), 1..60),
        takes in 0..3000_u64,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .unwrap();
        runtime.block_on(async {
            let takes = Duration::from_millis(takes);
            let accounts = [Account::open("one", true, takes), Account::open("two", false, takes)];
            for (which, event) in &events {
                accounts[usize::from(*which)].happens(event).await;
                for account in &accounts {
                    account.check_what_requests_get().await;
                }
            }
            for account in &accounts {
                account.heals().await;
            }
        });
    }
}
