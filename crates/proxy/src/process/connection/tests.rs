//! Requests that come at the very moment at which their connection is parked.

use std::{cell::Cell, sync::Arc, time::Duration};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::UnixStream,
    sync::Notify,
    task::{LocalSet, spawn_local, yield_now},
    time::{Instant, sleep},
};

use super::*;
use crate::{
    journey::{
        ListenerPlan, Plan,
        admit::{Admission, Peer},
        caller::Callers,
    },
    process::{plan::PlanCell, vitals::Limits},
    sweep::TICK,
};

/// Parked at the first tick after an answer.
const LIMITS: Limits = Limits {
    head_timeout: Duration::from_secs(60),
    park_after: Duration::ZERO,
    keep_alive: Duration::from_secs(60),
    stall_timeout: Duration::from_secs(60),
    max_head_size: 64 * 1024,
};

const CLIENTS: u64 = 50;
const ROUNDS: u64 = 200;

/// What a client sees of the process.
struct Seen {
    /// At each tick of the sweeper.
    tick: Notify,
    /// How many requests met a parked connection.
    parked: Cell<u64>,
    /// How many came before that.
    active: Cell<u64>,
}

#[tokio::test(start_paused = true)]
async fn no_request_is_lost_at_the_moment_of_parking() {
    LocalSet::new().run_until(all_clients()).await;
}

async fn all_clients() {
    let worker = Rc::new(Worker::new(Arc::new(PlanCell::from_pointee(no_routes()))));
    let seen = Rc::new(Seen {
        tick: Notify::new(),
        parked: Cell::new(0),
        active: Cell::new(0),
    });
    let (sweeper, sees) = (Rc::clone(worker.sweeper()), Rc::clone(&seen));
    spawn_local(async move { sweeper.run(|| sees.tick.notify_waiters()).await });
    let clients: Vec<_> = (0..CLIENTS)
        .map(|client| {
            // On a unix socket what was sent is there at once.
            let (near, far) = UnixStream::pair().unwrap();
            let peer = Peer::Unix {
                uid: 0,
                gid: 0,
                pid: None,
            };
            let vitals = Rc::new(Vitals::new(peer, LIMITS, &worker));
            let kept = keep(
                Stream::Unix(near),
                Rc::clone(&vitals),
                0,
                Rc::clone(&worker),
            );
            spawn_local(kept);
            spawn_local(ask(client, far, vitals, Rc::clone(&seen)))
        })
        .collect();
    for client in clients {
        client.await.unwrap();
    }
    let (parked, active) = (seen.parked.get(), seen.active.get());
    assert!(
        parked.min(active) > CLIENTS * ROUNDS / 20,
        "not around the moment: {parked} after it, {active} before"
    );
}

/// Whole requests, heads in two pieces, and one request and a half; a pause between two pieces ends when the connection
/// is about to be parked.
async fn ask(client: u64, mut stream: UnixStream, vitals: Rc<Vitals>, seen: Rc<Seen>) {
    let mut random = fastrand::Rng::with_seed(client);
    let mut held = 0;
    for round in 0..ROUNDS {
        moment_of_parking(&mut random, &seen).await;
        // The connection has one, the test another.
        let met = match Rc::strong_count(&vitals) {
            2 => &seen.parked,
            _ => &seen.active,
        };
        met.set(met.get() + 1);
        let began = Instant::now();
        let cut = random.usize(1..REQUEST.len());
        match random.u8(..3) {
            0 => stream.write_all(&REQUEST[held..]).await.unwrap(),
            1 if held < cut => {
                stream.write_all(&REQUEST[held..cut]).await.unwrap();
                moment_of_parking(&mut random, &seen).await;
                stream.write_all(&REQUEST[cut..]).await.unwrap();
            }
            _ => {
                let more = [&REQUEST[held..], &REQUEST[..cut]].concat();
                stream.write_all(&more).await.unwrap();
                held = cut;
                read_answer(&mut stream).await;
                continue;
            }
        }
        held = 0;
        read_answer(&mut stream).await;
        // The clock goes on while bytes are on their way, by a few ticks.
        assert!(
            began.elapsed() < 20 * TICK,
            "client {client}, round {round}"
        );
    }
}

/// A millisecond before the tick, at it, or after it; and at it, sooner or later than the connection.
async fn moment_of_parking(random: &mut fastrand::Rng, seen: &Seen) {
    seen.tick.notified().await;
    match random.u8(..2) {
        0 => sleep(TICK - Duration::from_millis(1) + Duration::from_millis(random.u64(..3))).await,
        _ => seen.tick.notified().await,
    }
    for _ in 0..random.u8(..4) {
        yield_now().await;
    }
}

async fn read_answer(stream: &mut UnixStream) {
    let mut answer = Vec::new();
    let head = loop {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
        let end = memchr::memmem::find(&answer, b"\r\n\r\n");
        if let Some(end) = end {
            break end + 4;
        }
    };
    let text = String::from_utf8_lossy(&answer[..head]).to_lowercase();
    assert!(text.starts_with("http/1.1 404 "), "{text}");
    let length = text.split_once("content-length: ").unwrap().1;
    let length: usize = length.split_once('\r').unwrap().0.parse().unwrap();
    while answer.len() < head + length {
        assert_ne!(stream.read_buf(&mut answer).await.unwrap(), 0, "closed");
    }
    assert_eq!(answer.len(), head + length);
}

fn no_routes() -> Plan {
    let listener = ListenerPlan {
        name: "local".into(),
        admission: Admission::default(),
        callers: Callers::default(),
        routes: vec![],
    };
    Plan {
        listeners: vec![listener],
        routes: vec![],
        upstreams: vec![],
        access_log: false,
    }
}

const REQUEST: &[u8] = b"GET /nowhere HTTP/1.1\r\nHost: localhost\r\n\r\n";
