//! SIGTERM and SIGINT: not ready, no new connections, what is in flight ends, exit 0; a second signal ends at once.

use std::{io::Write as _, net::TcpStream, time::Duration};

use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    client::{self, eventually, read_one},
    proxy::{Proxy, USUAL_ROUTES, World},
};

#[test]
fn what_is_in_flight_ends_and_idle_connections_are_closed() {
    for signal in [Signal::TERM, Signal::INT] {
        let world = World::new();
        let mut proxy = world.usual();
        proxy.ready();
        let mut idle = client::connect(proxy.address());
        idle.write_all(b"GET /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        read_one(&mut idle);
        let address = proxy.address();
        let slow = slow_request(&world, &proxy, 2000);
        proxy.signal(signal);
        assert!(client::is_closed(&mut idle));
        eventually("no new connections", || {
            TcpStream::connect(address).is_err().then_some(())
        });
        assert_eq!(client::exchange(slow, b"").status, 200);
        assert_eq!(proxy.wait().code(), Some(0));
    }
}

#[test]
fn a_hang_up_ends_nothing() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    for _ in 0..2 {
        proxy.signal(Signal::HUP);
    }
    eventually("it is told", || {
        let printed = proxy.printed();
        printed.contains("needs a restart").then_some(())
    });
    assert_eq!(proxy.get("/simulator/status/200", &[]).status, 200);
    world.end(proxy);
}

#[test]
fn a_killed_process_leaves_nothing_in_the_way_of_the_next() {
    let world = World::new();
    let mut proxy = world.usual();
    proxy.ready();
    let address = proxy.address();
    let _idle = client::connect(address);
    let slow = slow_request(&world, &proxy, 20_000);
    proxy.signal(Signal::KILL);
    assert_eq!(proxy.wait().code(), None);
    drop(slow);
    let again = world.start(&USUAL_ROUTES.replace("127.0.0.1:0", &address.to_string()));
    again.ready();
    assert_eq!(again.address(), address);
    assert_eq!(again.get("/simulator/status/200", &[]).status, 200);
    world.end(again);
}

#[test]
fn not_ready_while_it_drains() {
    let world = World::new();
    let config = world.config("drain_delay = '2s'\n", USUAL_ROUTES);
    let mut proxy = world.start_with(&config);
    assert_eq!(proxy.ready().admin("/readyz").status, 200);
    proxy.signal(Signal::TERM);
    eventually("not ready", || {
        (proxy.admin("/readyz").status == 503).then_some(())
    });
    assert!(proxy.admin("/readyz").text().contains("draining"));
    assert_eq!(proxy.admin("/livez").status, 200);
    assert_eq!(
        proxy.get("/simulator/status/200", &[]).status,
        200,
        "still served during the delay"
    );
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn the_time_to_drain_has_an_end() {
    let world = World::new();
    let config = world.config("drain_timeout = '1s'\n", USUAL_ROUTES);
    let mut proxy = world.start_with(&config);
    proxy.ready();
    let _stuck = slow_request(&world, &proxy, 60_000);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(
        (Duration::from_secs(1)..Duration::from_secs(25)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let world = World::new();
    let mut proxy = world.usual();
    proxy.ready();
    let _stuck = slow_request(&world, &proxy, 60_000);
    proxy.signal(Signal::TERM);
    eventually("draining", || {
        proxy.printed().contains("draining").then_some(())
    });
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    proxy.wait();
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the drain time-out is 30 s"
    );
}

#[test]
fn requests_that_wait_to_be_accepted_are_served() {
    let world = World::new();
    let tables = USUAL_ROUTES.replace("\"127.0.0.1:0\"", "\"127.0.0.1:0\", max_connections = 1");
    let mut proxy = world.start_with(
        &world
            .config("", &tables)
            .replace("workers = 2", "workers = 1"),
    );
    proxy.ready();
    let address = proxy.address();
    let slow = slow_request(&world, &proxy, 1500);
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = client::connect(address);
            stream
                .write_all(&client::request("GET", "/simulator/status/200", &[], b""))
                .unwrap();
            stream
        })
        .collect();
    proxy.signal(Signal::TERM);
    for stream in waiting {
        assert_eq!(client::exchange(stream, b"").status, 200);
    }
    assert_eq!(client::exchange(slow, b"").status, 200);
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_refused_body_that_never_comes_does_not_hold_the_end() {
    for line in ["", "Connection: close\r\n"] {
        let world = World::new();
        let mut proxy = world.usual();
        proxy.ready();
        let mut stream = client::connect(proxy.address());
        let head = format!("POST /usermgmt/v1/x HTTP/1.1\r\nHost: localhost\r\n{line}");
        let request = format!("{head}Content-Length: 50\r\n\r\nbody");
        stream.write_all(request.as_bytes()).unwrap();
        assert_eq!(read_one(&mut stream).status, 403);
        assert_ends_before_its_time(&mut proxy);
    }
}

#[test]
fn a_client_that_drips_behind_its_answer_does_not_hold_the_end() {
    let world = World::new();
    let mut proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    stream.write_all(b"GET / HTTP/9.9\r\n\r\n").unwrap();
    let dripping = std::thread::spawn(move || {
        while stream.write_all(b"x").is_ok() {
            client::pause(Duration::from_millis(200));
        }
    });
    assert_ends_before_its_time(&mut proxy);
    dripping.join().unwrap();
}

fn assert_ends_before_its_time(proxy: &mut Proxy) {
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the drain time-out is 30 s"
    );
}

/// A request that the upstream has got and takes so many milliseconds to answer.
fn slow_request(world: &World, proxy: &Proxy, milliseconds: u32) -> TcpStream {
    let mut stream = client::connect(proxy.address());
    let target = format!("/simulator/slow?ms={milliseconds}");
    stream
        .write_all(&client::request("GET", &target, &[], b""))
        .unwrap();
    eventually("the slow request", || {
        let got = world.got();
        got.iter()
            .any(|got| got.path().ends_with("slow"))
            .then_some(())
    });
    stream
}
