//! `Expect: 100-continue` is between client and upstream: who gives leave, and who refuses, is the upstream.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{self, find, pause, read_one, read_some},
    origin::{Origin, shown},
    proxy::World,
    scripted::{head, in_front_of, scripted},
};

const EXPECTING: &[u8] =
    b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Reads the head of a 100 and nothing else.
fn read_leave(stream: &mut TcpStream) {
    let leave = head(stream).expect("leave");
    assert!(leave.starts_with("HTTP/1.1 100 "), "{leave}");
}

fn body_of_four(stream: &mut TcpStream) -> [u8; 4] {
    let mut body = [0; 4];
    stream.read_exact(&mut body).unwrap();
    body
}

#[test]
fn an_early_refusal_is_seen_and_its_connection_is_not_used_again() {
    for status in [
        "417 Expectation Failed",
        "401 Unauthorized",
        "413 Too Large",
    ] {
        let world = World::new();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&seen);
        let address = scripted(move |stream, first| {
            let answer = match first.starts_with("POST") {
                true => format!("HTTP/1.1 {status}\r\nContent-Length: 2\r\n\r\nno").into_bytes(),
                false => OK.to_vec(),
            };
            stream.write_all(&answer).unwrap();
            let mut rest = Vec::new();
            if first.starts_with("POST") {
                let _ = stream.read_to_end(&mut rest);
            }
            kept.lock().unwrap().push((first, rest));
        });
        let proxy = in_front_of(&world, address, "", "");
        let mut stream = client::connect(proxy.address());
        stream.write_all(EXPECTING).unwrap();
        // `read_one` would take a 100 for the answer.
        let answer = read_one(&mut stream);
        assert!(answer.head.contains(&status[..3]), "{}", answer.head);
        assert_eq!(answer.text(), "no");
        assert!(
            client::is_closed(&mut stream),
            "what comes next could be the body or a request"
        );
        assert_eq!(proxy.get("/clean", &[]).text(), "ok");
        client::eventually("both connections", || {
            (seen.lock().unwrap().len() == 2).then_some(())
        });
        let seen = seen.lock().unwrap();
        let (refused, rest) = seen
            .iter()
            .find(|(head, _)| head.starts_with("POST"))
            .unwrap();
        assert!(refused.contains("expect: 100-continue\r\n"), "{refused}");
        assert!(rest.is_empty(), "on the same connection: {}", shown(rest));
        drop(seen);
        world.end(proxy);
    }
}

#[test]
fn leave_comes_from_the_upstream() {
    let world = World::new();
    let address = scripted(|stream, first| {
        let mut next = Some(first);
        while next.is_some() {
            // Well within the second after which leave is taken for given.
            pause(Duration::from_millis(200));
            stream
                .set_read_timeout(Some(Duration::from_millis(50)))
                .unwrap();
            assert!(
                stream.read(&mut [0]).is_err(),
                "the body came before its leave"
            );
            stream.set_read_timeout(None).unwrap();
            stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").unwrap();
            let body = body_of_four(stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
                .unwrap();
            stream.write_all(&body).unwrap();
            next = head(stream);
        }
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    for _ in 0..2 {
        let began = Instant::now();
        stream.write_all(EXPECTING).unwrap();
        read_leave(&mut stream);
        assert!(
            began.elapsed() >= Duration::from_millis(200),
            "leave of the proxy's own"
        );
        stream.write_all(b"body").unwrap();
        assert_eq!(read_one(&mut stream).text(), "body");
    }
    let opened = proxy.metric("watsonx_auth_proxy_upstream_connections_opened_total");
    assert!((opened - 1.0).abs() < f64::EPSILON, "{opened} connections");
    world.end(proxy);
}

#[test]
fn leave_that_comes_together_with_the_answer_is_passed_on() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let both = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        stream.write_all(both).unwrap();
        assert_eq!(&body_of_four(stream), b"body");
        stream.write_all(b"ok").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    stream.write_all(EXPECTING).unwrap();
    read_leave(&mut stream);
    stream.write_all(b"body").unwrap();
    assert_eq!(read_one(&mut stream).text(), "ok");
    world.end(proxy);
}

#[test]
fn an_upstream_that_gives_no_leave_is_not_waited_for() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let body = body_of_four(stream);
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\n")
            .unwrap();
        stream.write_all(&body).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    let began = Instant::now();
    stream.write_all(EXPECTING).unwrap();
    read_leave(&mut stream);
    assert!(
        began.elapsed() >= Duration::from_millis(900),
        "{:?}",
        began.elapsed()
    );
    stream.write_all(b"body").unwrap();
    assert_eq!(read_one(&mut stream).text(), "body");
    world.end(proxy);
}

#[test]
fn other_expectations_are_the_upstreams_to_judge() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    for (request, arrives) in [
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            None,
        ),
        (
            "POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n",
            None,
        ),
        (
            "POST / HTTP/1.0\r\nHost: localhost\r\nContent-Length: 1\r\nExpect: 100-continue\r\n\r\nx",
            None,
        ),
        (
            "GET / HTTP/1.1\r\nHost: localhost\r\nExpect: a-miracle\r\nConnection: close\r\n\r\n",
            Some("a-miracle"),
        ),
    ] {
        let answer = client::exchange(client::connect(proxy.address()), request.as_bytes());
        assert_eq!(answer.status, 200, "{request}");
        let came = origin.take_whole().remove(0);
        let arrives: Vec<&[u8]> = arrives.into_iter().map(str::as_bytes).collect();
        assert_eq!(came.all("expect"), arrives, "{request}");
    }
    world.end(proxy);
}

#[test]
fn informational_answers_end_here_and_without_an_end_they_are_no_answer() {
    let world = World::new();
    let address = scripted(|stream, head| {
        let hint: &[u8] = b"HTTP/1.1 103 Early Hints\r\nLink: </x>; rel=preload\r\n\r\n";
        let some = [b"HTTP/1.1 100 Continue\r\n\r\n", hint, hint, hint, hint, OK].concat();
        if !head.contains("/flood") {
            let _ = stream.write_all(&some);
            return;
        }
        let many = hint.repeat(100);
        while stream.write_all(&many).is_ok() {}
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request("GET", "/some", &[], b""))
        .unwrap();
    let mut all = read_some(&mut stream);
    let _ = stream.read_to_end(&mut all);
    assert!(all.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", shown(&all));
    assert!(
        find(&all, b"Early").is_none() && all.ends_with(b"ok"),
        "{}",
        shown(&all)
    );
    let flood = proxy.get("/flood", &[]);
    assert_eq!(
        (flood.status, flood.code()),
        (502, "upstream_protocol".into())
    );
    world.end(proxy);
}
