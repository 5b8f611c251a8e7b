//! A WebSocket takes the steps of a request and then passes byte for byte: whole, at the pace of its readers, on a
//! connection of its own.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use crate::{
    client::{self, PATIENCE, eventually, pause, read_one},
    scripted,
    tls_both_ways::over_tls,
    websocket::{Between, SWITCH, handshake, passes},
};

/// The values of a header in a head that the upstream got.
fn values<'a>(head: &'a str, name: &str) -> Vec<&'a str> {
    let lines = head.lines().filter_map(|line| line.split_once(": "));
    lines
        .filter(|(found, _)| found.eq_ignore_ascii_case(name))
        .map(|(_, value)| value)
        .collect()
}

#[test]
fn a_handshake_takes_the_steps_of_a_request() {
    let between = Between::start("", "", "");
    let secret = between.world.simulator.license_token();
    let mut client = client::connect(between.proxy.address());
    let lines = [
        "Connection: Iam-Token, X-Named",
        "Iam-Token: forged",
        "iam_token: forged",
        "Authorization: Bearer forged",
        "Cookie: session=forged",
        "X-Named: of this connection",
        "X-Forwarded-For: 10.1.2.3",
        "Origin: http://localhost",
        "Sec-WebSocket-Protocol: chat, base64url.bearer.authorization.k8s.io.Zm9yZ2VkLXRva2Vu",
        "Sec-WebSocket-Extensions: permessage-deflate",
    ];
    let request = handshake("/chat?room=1", &lines);
    client.write_all(&request).unwrap();
    let (mut upstream, head) = between.upstream();
    assert!(
        head.starts_with("GET /base/chat?room=1 HTTP/1.1\r\n"),
        "{head}"
    );
    assert!(!head.contains("forged") && !head.contains("10.1.2.3") && !head.contains("x-named"));
    assert_eq!(values(&head, "iam-token"), [&*secret]);
    for (name, value) in [
        ("upgrade", "websocket"),
        ("connection", "upgrade"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ("sec-websocket-version", "13"),
        (
            "sec-websocket-protocol",
            "chat, base64url.bearer.authorization.k8s.io.Zm9yZ2VkLXRva2Vu",
        ),
        ("sec-websocket-extensions", "permessage-deflate"),
    ] {
        assert_eq!(values(&head, name), [value], "{name}");
    }
    assert_eq!(values(&head, "via").len(), 1);

    let more = format!(
        "Sec-WebSocket-Protocol: chat\r\nSet-Cookie: a=b\r\nX-Echo: {secret}\r\nContent-Length: 0\r\n\r\n"
    );
    let switch = [&SWITCH[..SWITCH.len() - 2], more.as_bytes()].concat();
    upstream.write_all(&switch).unwrap();
    let answer = scripted::head(&mut client).unwrap();
    assert!(
        answer.starts_with("HTTP/1.1 101 Switching Protocols\r\n"),
        "{answer}"
    );
    for (name, expected) in [
        ("upgrade", &["websocket"][..]),
        ("connection", &["upgrade"]),
        ("sec-websocket-accept", &["s3pPLMBiTxaQ9kYGzzhZRbK+xOo="]),
        ("sec-websocket-protocol", &["chat"]),
        ("set-cookie", &[]),
        ("content-length", &[]),
        ("transfer-encoding", &[]),
    ] {
        assert_eq!(values(&answer, name), expected, "{name}");
    }
    assert!(!answer.contains(&secret), "{answer}");

    passes(&mut client, &mut upstream, b"from the client");
    passes(&mut upstream, &mut client, b"from the upstream, 27 bytes");
    let proxy = &between.proxy;
    let in_flight = "watsonx_auth_proxy_requests_in_flight{route=\"odd\"}";
    let connections = "watsonx_auth_proxy_connections{listener=\"local\"}";
    assert_eq!(
        (proxy.metric(in_flight), proxy.metric(connections)),
        (1.0, 1.0)
    );
    drop(client);
    assert!(client::is_closed(&mut upstream));
    drop(upstream);
    let line = between.line();
    assert_eq!(
        (&line["bytes"], &line["path"]),
        (&27.into(), &"/chat".into())
    );
    assert!(line["code"].is_null(), "{line}");
    assert!(!proxy.printed().contains("Zm9yZ2Vk"), "it was logged");
    assert_eq!(proxy.metric(in_flight), 0.0);
    eventually("the client's connection is closed", || {
        (proxy.metric(connections) == 0.0).then_some(())
    });
    let counted = "watsonx_auth_proxy_requests_total{route=\"odd\",method=\"GET\",status=\"101\"";
    assert_eq!(proxy.metric(counted), 1.0);
    between.end();
}

#[test]
fn it_has_an_upstream_connection_of_its_own() {
    let between = Between::start("", "", "");
    let ask = |client: &mut TcpStream| {
        let plain = b"GET /plain HTTP/1.1\r\nHost: localhost\r\n\r\n";
        client.write_all(plain).unwrap();
    };
    let ok = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n";
    let mut client = client::connect(between.proxy.address());
    ask(&mut client);
    let (mut pooled, _) = between.upstream();
    pooled.write_all(ok).unwrap();
    assert_eq!(read_one(&mut client).status, 200);

    // Neither over the idle one, nor back to the idle ones when it is refused.
    let mut refused = client::connect(between.proxy.address());
    refused.write_all(&handshake("/chat", &[])).unwrap();
    let (mut own, _) = between.upstream();
    own.write_all(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
        .unwrap();
    assert_eq!(read_one(&mut refused).status, 403);
    assert!(client::is_closed(&mut own));

    ask(&mut client);
    assert!(scripted::head(&mut pooled).is_some(), "over the idle one");
    pooled.write_all(ok).unwrap();
    assert_eq!(read_one(&mut client).status, 200);
    assert!(between.is_upstream_alone());
    between.end();
}

#[test]
fn what_comes_before_the_101_waits_for_it() {
    let between = Between::start("", "", "");
    let early: Vec<u8> = (0..200_000_u32).map(|n| n.to_le_bytes()[0]).collect();
    let mut client = client::connect(between.proxy.address());
    let request = [&handshake("/chat", &[])[..], &early].concat();
    let mut sending = client.try_clone().unwrap();
    let sender = thread::spawn(move || sending.write_all(&request).unwrap());
    let (mut upstream, _) = between.upstream();
    let short = Some(Duration::from_millis(500));
    upstream.set_read_timeout(short).unwrap();
    let before = upstream.read(&mut [0; 16]);
    assert!(before.is_err(), "before the 101: {before:?}");
    upstream.set_read_timeout(Some(PATIENCE)).unwrap();
    // What comes in one piece with the 101 is not lost either.
    upstream
        .write_all(&[SWITCH, b"early too"].concat())
        .unwrap();
    let mut heard = vec![0; early.len()];
    upstream.read_exact(&mut heard).unwrap();
    assert!(heard == early);
    sender.join().unwrap();
    scripted::head(&mut client).unwrap();
    let mut heard = [0; 9];
    client.read_exact(&mut heard).unwrap();
    assert_eq!(&heard, b"early too");
    drop((client, upstream));
    between.end();
}

#[test]
fn an_end_is_passed_on_and_the_other_way_goes_on() {
    for client_first in [true, false] {
        let between = Between::start("", "", "");
        let (client, upstream) = between.open();
        let (mut first, mut second) = match client_first {
            true => (client, upstream),
            false => (upstream, client),
        };
        passes(&mut first, &mut second, b"the last word");
        first.shutdown(Shutdown::Write).unwrap();
        assert!(client::is_closed(&mut second));
        let long: Vec<u8> = vec![7; 1 << 20];
        let mut answering = second.try_clone().unwrap();
        let said = long.clone();
        let answer = thread::spawn(move || {
            answering.write_all(&said).unwrap();
            answering.shutdown(Shutdown::Write).unwrap();
        });
        let mut heard = Vec::new();
        first.read_to_end(&mut heard).unwrap();
        assert!(heard == long);
        answer.join().unwrap();
        assert!(between.line()["code"].is_null());
        between.end();
    }
}

#[test]
fn a_slow_reader_slows_the_sender_and_nothing_is_lost() {
    const SIZE: usize = 96 << 20;
    // From anywhere in the first round of it, a piece of any length.
    let pattern: Vec<u8> = (0..251 + (1 << 20)).map(pattern).collect();
    for client_sends in [true, false] {
        let between = Between::start("", "", "");
        let (client, upstream) = between.open();
        let (mut from, mut to) = match client_sends {
            true => (client, upstream),
            false => (upstream, client),
        };
        let sent = Arc::new(AtomicUsize::new(0));
        let counting = Arc::clone(&sent);
        let before = between.proxy.resident();
        let pieces = pattern.clone();
        let sender = thread::spawn(move || {
            let mut at = 0;
            while at < SIZE {
                from.write_all(&pieces[at % 251..][..65_536]).unwrap();
                at += 65_536;
                counting.store(at, Ordering::Relaxed);
            }
            from
        });
        // Stands still once the kernel's buffers are full.
        let mut stood_at = 0;
        eventually("the sender waits", || {
            pause(Duration::from_millis(500));
            let now = sent.load(Ordering::Relaxed);
            let stands = now > 0 && now == std::mem::replace(&mut stood_at, now);
            stands.then_some(())
        });
        assert!(stood_at < SIZE / 2, "{stood_at} of {SIZE} went somewhere");
        let grown = between.proxy.resident().saturating_sub(before);
        assert!(grown < 8 << 20, "{grown} bytes more in use");
        let mut piece = vec![0; 1 << 20];
        let mut at = 0;
        while at < SIZE {
            let size = to.read(&mut piece).unwrap();
            assert_ne!(size, 0, "ended at {at}");
            assert!(piece[..size] == pattern[at % 251..][..size], "after {at}");
            at += size;
        }
        // And the other way still passes.
        let mut from = sender.join().unwrap();
        passes(&mut to, &mut from, b"thanks");
        drop((from, to));
        between.end();
    }
}

fn pattern(at: usize) -> u8 {
    u8::try_from(at % 251).unwrap()
}

#[test]
fn both_ways_at_once() {
    const SIZE: usize = 16 << 20;
    let between = Between::start("", "", "");
    let (client, upstream) = between.open();
    let ends: Vec<_> = [client, upstream]
        .into_iter()
        .map(|end| {
            let mut sending = end.try_clone().unwrap();
            let sender = thread::spawn(move || {
                let all: Vec<u8> = (0..SIZE).map(pattern).collect();
                sending.write_all(&all).unwrap();
                sending.shutdown(Shutdown::Write).unwrap();
            });
            let mut hearing = end;
            let hearer = thread::spawn(move || {
                let mut all = Vec::new();
                hearing.read_to_end(&mut all).unwrap();
                all.len() == SIZE
                    && all
                        .iter()
                        .enumerate()
                        .all(|(at, byte)| *byte == pattern(at))
            });
            (sender, hearer)
        })
        .collect();
    for (sender, hearer) in ends {
        sender.join().unwrap();
        assert!(hearer.join().unwrap());
    }
    assert_eq!(between.line()["bytes"], SIZE);
    between.end();
}

#[test]
fn over_tls_as_well() {
    let between = Between::start("", "", "tls = { self_signed = true }");
    let ca = std::fs::read(between.world.path("watsonx-auth-proxy/ca.crt")).unwrap();
    let mut client = over_tls(&between.proxy, &ca, "localhost");
    client.write_all(&handshake("/chat", &[])).unwrap();
    let (mut upstream, _) = between.upstream();
    upstream.write_all(SWITCH).unwrap();
    let mut head = Vec::new();
    while client::find(&head, b"\r\n\r\n").is_none() {
        let mut byte = [0];
        client.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    let long: Vec<u8> = (0..1_000_000).map(pattern).collect();
    let said = long.clone();
    let answer = thread::spawn(move || {
        let mut heard = [0; 5];
        upstream.read_exact(&mut heard).unwrap();
        upstream.write_all(&said).unwrap();
        heard
    });
    client.write_all(b"hello").unwrap();
    client.flush().unwrap();
    let mut heard = Vec::new();
    // The end is said: else this would be an error.
    client.read_to_end(&mut heard).unwrap();
    assert!(heard == long);
    assert_eq!(&answer.join().unwrap(), b"hello");
    drop(client);
    between.end();
}
