//! Ten thousand sidecars that are started together, for a day, on paused time: how many logins a second their endpoint
//! sees. Prints the table of `docs/operations.md`.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![expect(clippy::print_stdout, reason = "the table is what it is for")]

use std::{
    fmt,
    sync::{Arc, Mutex},
    time::Duration,
};

use http::StatusCode;
use token_source::{
    Feed, Keeper, Kind, Location, Settings, clock,
    exchange::{Attempt, Exchange, ExchangeError, Grant, Record},
};
use tokio::{task::LocalSet, time::Instant};

const SIDECARS: usize = 10_000;
const DAY: u64 = 24 * 3600;
const LIFETIME: Duration = Duration::from_secs(12 * 3600);
/// How long a login takes.
const LOGIN: Duration = Duration::from_millis(200);

/// A token endpoint.
struct Endpoint {
    started: Instant,
    /// Down from a second to another.
    outage: Option<(u64, u64)>,
    /// Answers 429 to more logins than this within a second.
    capacity: usize,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    /// Logins in each second.
    logins: Vec<usize>,
    granted: usize,
    /// The second in which each sidecar got its first token.
    first: Vec<Option<u64>>,
}

struct Login {
    endpoint: Arc<Endpoint>,
    sidecar: usize,
}

impl Exchange for Login {
    fn exchange<'a>(&'a self, _: &'a Record) -> Attempt<'a> {
        Box::pin(async {
            let endpoint = &*self.endpoint;
            let second = endpoint.started.elapsed().as_secs();
            let in_this_second = {
                let mut seen = endpoint.seen.lock().unwrap();
                let count = &mut seen.logins[usize::try_from(second).unwrap()];
                *count += 1;
                *count
            };
            let sent = clock::now();
            tokio::time::sleep(LOGIN).await;
            if endpoint
                .outage
                .is_some_and(|(from, to)| (from..to).contains(&second))
            {
                return Err(ExchangeError::Timeout);
            }
            if in_this_second > endpoint.capacity {
                return Err(ExchangeError::Status {
                    step: "/login",
                    status: StatusCode::TOO_MANY_REQUESTS,
                    retry_after: None,
                });
            }
            let mut seen = endpoint.seen.lock().unwrap();
            seen.granted += 1;
            seen.first[self.sidecar].get_or_insert(second);
            Ok(Grant {
                value: format!("token-{}-{}", self.sidecar, seen.granted).into(),
                expires: Some(sent + LIFETIME),
                fixed_end: true,
            })
        })
    }
}

/// What a day came to.
struct Day {
    /// Logins of all sidecars.
    logins: usize,
    /// The most logins in a second, in the first ten seconds, in the rest of the first hour, and later.
    peaks: [usize; 3],
    /// The second in which the last sidecar had its first token.
    all_served: u64,
    /// The most sidecars that had no valid token at the same time, after all were served.
    most_without: usize,
}

/// Lives through a day, with a look at all sidecars every ten minutes.
fn live(outage: Option<(u64, u64)>, capacity: usize) -> Day {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .unwrap();
    LocalSet::new().block_on(&runtime, async {
        let endpoint = Arc::new(Endpoint {
            started: Instant::now(),
            outage,
            capacity,
            seen: Mutex::new(Seen {
                logins: vec![0; usize::try_from(DAY).unwrap() + 120],
                granted: 0,
                first: vec![None; SIDECARS],
            }),
        });
        let feeds: Vec<Feed> = (0..SIDECARS)
            .map(|sidecar| start(&endpoint, sidecar))
            .collect();
        let mut most_without = 0;
        for _ in 0..DAY / 600 {
            tokio::time::sleep(Duration::from_secs(600)).await;
            if endpoint
                .seen
                .lock()
                .unwrap()
                .first
                .iter()
                .all(Option::is_some)
            {
                let without = feeds.iter().filter(|feed| feed.current().is_none()).count();
                most_without = most_without.max(without);
            }
        }
        let seen = endpoint.seen.lock().unwrap();
        let peak = |from: usize, to: usize| seen.logins[from..to].iter().copied().max().unwrap();
        Day {
            logins: seen.logins.iter().sum(),
            peaks: [peak(0, 10), peak(10, 3600), peak(3600, seen.logins.len())],
            all_served: seen.first.iter().map(|first| first.unwrap()).max().unwrap(),
            most_without,
        }
    })
}

fn start(endpoint: &Arc<Endpoint>, sidecar: usize) -> Feed {
    let settings = Settings {
        name: "platform".into(),
        // Nothing that is looked at every few seconds: what is counted are logins.
        kind: Kind::ServiceAccount {
            value: Location::Env("UNUSED".into()),
        },
        lifetime: None,
        wait_for_token: None,
        poll: Duration::from_secs(5),
    };
    let login = Login {
        endpoint: Arc::clone(endpoint),
        sidecar,
    };
    let (keeper, feed) = Keeper::with_exchange(settings, Box::new(login));
    tokio::task::spawn_local(keeper.run());
    feed
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [start, hour, later] = self.peaks;
        write!(
            f,
            "{} | {start} | {hour} | {later} | {} s | {} |",
            self.logins, self.all_served, self.most_without
        )
    }
}

#[test]
fn a_fleet_is_no_herd() {
    let unlimited = usize::MAX;
    // Renewals are due from 8.4 h to 9.6 h after the start.
    let amid_renewals = Some((9 * 3600, 9 * 3600 + 600));
    let at_start = Some((0, 600));
    let days = [
        ("no outage", live(None, unlimited)),
        (
            "10 min outage amid the renewals",
            live(amid_renewals, unlimited),
        ),
        ("10 min outage from the start", live(at_start, unlimited)),
        ("no outage, 429 above 200 logins a second", live(None, 200)),
    ];
    println!(
        "| scenario | logins in 24 h | most in a second: first 10 s | then, first hour | later | all had a token after | most without a token later |"
    );
    println!("|---|---|---|---|---|---|---|");
    for (name, day) in &days {
        println!("| {name} | {day}");
    }
    let [calm, amid, start, limited] = days.map(|(_, day)| day);
    for day in [&calm, &amid, &start, &limited] {
        assert_eq!(
            day.most_without, 0,
            "a token outlives what happens to its endpoint"
        );
        assert!(
            day.peaks[2] <= 100,
            "renewals come in a herd: {}",
            day.peaks[2]
        );
    }
    // The first, and renewals after 8.4-9.6 h and 16.8-19.2 h.
    assert_eq!(calm.logins, 3 * SIDECARS);
    // Of those that were due within the ten minutes, each tried about twenty times.
    assert!(amid.logins < 6 * SIDECARS, "{}", amid.logins);
    assert!(start.logins < 30 * SIDECARS, "{}", start.logins);
    assert!(start.peaks[1] < SIDECARS / 5, "{}", start.peaks[1]);
    assert!(
        start.all_served <= 660,
        "healed within a minute: {}",
        start.all_served
    );
    // 50 s of work.
    assert!(limited.all_served < 180, "{}", limited.all_served);
}
