//! A WebSocket lasts as long as it is used: no time-out of requests or listeners hits it, a silent one is closed, and
//! the end of the process waits for it only so long.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use rustix::process::Signal;
use socket2::SockRef;
use tokio::time::Instant;

use crate::{
    client::{self, eventually, pause, read_one},
    scripted,
    websocket::{Between, SWITCH, handshake, passes},
};

/// Whether the connection has ended, in whatever way: waits for it.
fn has_ended(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1024]) {
        Ok(size) => size == 0,
        Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
    }
}

#[test]
fn one_on_which_nothing_moves_is_closed_on_both_sides() {
    let between = Between::start("", "idle_timeout = '4s'", "");
    let (mut client, mut upstream) = between.open();
    // One way is enough to keep it.
    for _ in 0..12 {
        pause(Duration::from_millis(400));
        passes(&mut upstream, &mut client, b"tick");
    }
    let mut began = Instant::now();
    for _ in 0..12 {
        pause(Duration::from_millis(400));
        began = Instant::now();
        passes(&mut client, &mut upstream, b"tock");
    }
    assert!(has_ended(&mut client));
    assert!(has_ended(&mut upstream));
    let took = began.elapsed();
    let bounds = Duration::from_millis(3900)..Duration::from_secs(60);
    assert!(bounds.contains(&took), "{took:?}");
    let line = between.line();
    assert_eq!(
        (&line["code"], &line["bytes"]),
        (&"upstream_timeout".into(), &48.into())
    );
    between.end();
}

#[test]
fn no_time_out_of_requests_hits_it() {
    let between = Between::start(
        "",
        "first_byte_timeout = '3s'",
        "head_timeout = '3s'\nkeep_alive = '3s'\nstall_timeout = '3s'",
    );
    let (mut client, mut upstream) = between.open();
    pause(Duration::from_secs(8));
    passes(&mut client, &mut upstream, b"still there");
    passes(&mut upstream, &mut client, b"so am I");
    drop((client, upstream));
    between.end();
}

#[test]
fn one_side_that_breaks_off_takes_the_other_with_it() {
    for (client_breaks, code) in [(true, "client_gone"), (false, "upstream_protocol")] {
        let between = Between::start("", "", "");
        let (client, upstream) = between.open();
        let (breaking, mut other) = match client_breaks {
            true => (client, upstream),
            false => (upstream, client),
        };
        SockRef::from(&breaking)
            .set_linger(Some(Duration::ZERO))
            .unwrap();
        drop(breaking);
        assert!(has_ended(&mut other));
        assert_eq!(between.line()["code"], code);
        between.end();
    }
}

#[test]
fn it_counts_as_a_connection() {
    let between = Between::start("", "", "max_connections = 1");
    let (client, mut upstream) = between.open();
    let mut waiting = client::connect(between.proxy.address());
    waiting
        .write_all(&client::request("GET", "/plain", &[], b""))
        .unwrap();
    pause(Duration::from_millis(500));
    assert!(between.is_upstream_alone());
    drop(client);
    assert!(client::is_closed(&mut upstream));
    drop(upstream);
    let (mut upstream, _) = between.upstream();
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(read_one(&mut waiting).status, 200);
    between.end();
}

#[test]
fn the_end_waits_for_it() {
    let mut between = Between::start("", "", "");
    let (mut client, mut upstream) = between.open();
    let mut late = client::connect(between.proxy.address());
    late.write_all(&handshake("/late", &[])).unwrap();
    let (mut late_upstream, _) = between.upstream();
    between.proxy.signal(Signal::TERM);
    eventually("draining", || {
        between.proxy.printed().contains("draining").then_some(())
    });
    // Also for one whose handshake is under way.
    late_upstream.write_all(SWITCH).unwrap();
    let head = scripted::head(&mut late).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    passes(&mut late, &mut late_upstream, b"late");
    pause(Duration::from_secs(2));
    passes(&mut client, &mut upstream, b"still there");
    passes(&mut upstream, &mut client, b"so am I");
    drop((client, late));
    assert!(client::is_closed(&mut upstream));
    assert!(client::is_closed(&mut late_upstream));
    drop((upstream, late_upstream));
    let began = Instant::now();
    assert_eq!(between.proxy.wait().code(), Some(0));
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "the drain time-out is 30 s"
    );
}

#[test]
fn the_end_waits_only_so_long() {
    let mut between = Between::start("drain_timeout = '1s'", "", "");
    let (mut client, mut upstream) = between.open();
    let began = Instant::now();
    between.proxy.signal(Signal::TERM);
    assert!(has_ended(&mut client));
    assert!(has_ended(&mut upstream));
    let took = began.elapsed();
    let bounds = Duration::from_secs(1)..Duration::from_secs(20);
    assert!(bounds.contains(&took), "{took:?}");
    assert_eq!(between.proxy.wait().code(), Some(0));
    // Neither side broke off.
    assert_eq!(between.line()["code"], "process_ended");
}
