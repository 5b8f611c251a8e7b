//! What an upstream sends as one answer reaches the client as that answer, and nothing of it as another's.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    client::{self, connect, find},
    origin::{Origin, Then, everything, shown},
    proxy::{Proxy, World},
    scripted::{in_front_of, scripted},
    strict::{self, Read},
};

/// An upstream that gives these bytes to `/odd`, and a clean answer to all else.
fn answering(bytes: impl Into<Vec<u8>>, then: Then) -> (Origin, Arc<AtomicUsize>) {
    let bytes = bytes.into();
    let connections = Arc::new(AtomicUsize::new(0));
    let most = Arc::clone(&connections);
    let origin = Origin::scripted(move |request, connection| {
        most.fetch_max(connection, Ordering::SeqCst);
        match request.target() {
            "/odd" => (bytes.clone(), then),
            _ => (
                b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nclean".to_vec(),
                Then::Goes,
            ),
        }
    });
    (origin, connections)
}

fn odd(proxy: &Proxy, method: &str) -> Vec<u8> {
    everything(proxy.address(), &client::request(method, "/odd", &[], b""))
}

#[test]
fn malformed_answers_are_502_and_their_connection_ends() {
    let large = format!(
        "HTTP/1.1 200 OK\r\nX: {}\r\nContent-Length: 0\r\n\r\n",
        "x".repeat(1 << 20)
    );
    let lines: String = (0..200).map(|n| format!("X{n}: y\r\n")).collect();
    let many = format!("HTTP/1.1 200 OK\r\n{lines}Content-Length: 0\r\n\r\n");
    let with = |lines: &str| format!("HTTP/1.1 200 OK\r\n{lines}\r\n\r\n2\r\nok\r\n0\r\n\r\n");
    for answer in [
        with("Content-Length: 2\r\nTransfer-Encoding: chunked"),
        with("Transfer-Encoding: chunked\r\nContent-Length: 2"),
        with("Content-Length: 2\r\nContent-Length: 3"),
        with("Content-Length: 2\r\nContent-Length: 2"),
        with("Content-Length: 2, 2"),
        with("Content-Length: +2"),
        with("Content-Length: -2"),
        with("Content-Length: 0x2"),
        with("Content-Length:"),
        with("Content-Length: 18446744073709551616"),
        with("Transfer-Encoding: gzip, chunked"),
        with("Transfer-Encoding: chunked, gzip"),
        with("Transfer-Encoding: identity"),
        with("Transfer-Encoding: xchunked"),
        with("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked"),
        with("X : y"),
        with("X: y\r\n folded"),
        with("X: a\0b"),
        with("X: a\rb"),
        with("\u{e4}: b"),
        with(": b"),
        "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n".into(),
        "HTTP/0.9 200 OK\r\n\r\n".into(),
        "HTTP/2.0 200 OK\r\n\r\n".into(),
        "<html>ok</html>".into(),
        "HTTP/1.1 20 OK\r\n\r\n".into(),
        "HTTP/1.1 099 OK\r\nContent-Length: 0\r\n\r\n".into(),
        "HTTP/1.1 2000 OK\r\n\r\n".into(),
        "ICY 200 OK\r\n\r\n".into(),
        "HTTP/1.1 600 X\r\nContent-Length: 0\r\n\r\n".into(),
        large,
        many,
    ] {
        for then in [Then::Ends, Then::Goes] {
            let world = World::new();
            let (origin, connections) = answering(answer.as_bytes(), then);
            let proxy = origin.proxied(&world, "", "first_byte_timeout = '4s'", "");
            let got = odd(&proxy, "GET");
            let seen = format!("{}: {}", shown(answer.as_bytes()), shown(&got));
            let Read::Whole(message, _) = strict::answer(&got, false, true) else {
                panic!("{seen}");
            };
            assert!(matches!(message.status(), 502 | 504), "{seen}");
            assert_eq!(proxy.get("/clean", &[]).text(), "clean");
            assert_eq!(
                connections.load(Ordering::SeqCst),
                1,
                "used again after {seen}"
            );
            world.end(proxy);
        }
    }
}

#[test]
fn answers_without_a_body_have_none_and_their_connection_ends_if_one_came() {
    for (method, answer, expected) in [
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 1234\r\n\r\n",
            "content-length: 1234\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody",
            "content-length: 4\r\n",
        ),
        (
            "HEAD",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nContent-Length: 4\r\n\r\nbody",
            "HTTP/1.1 204 No Content\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 204 No Content\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
            "HTTP/1.1 204 No Content\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nContent-Length: 4\r\nETag: \"x\"\r\n\r\nbody",
            "etag: \"x\"\r\n",
        ),
        (
            "GET",
            "HTTP/1.1 304 Not Modified\r\nETag: \"x\"\r\n\r\n",
            "etag: \"x\"\r\n",
        ),
    ] {
        let world = World::new();
        let (origin, connections) = answering(answer, Then::Goes);
        let proxy = origin.proxied(&world, "", "", "");
        let got = odd(&proxy, method);
        let end = find(&got, b"\r\n\r\n").map(|end| end + 4);
        assert_eq!(end, Some(got.len()), "{answer:?}: {}", shown(&got));
        assert!(
            find(&got, expected.as_bytes()).is_some(),
            "{answer:?}: {}",
            shown(&got)
        );
        let framed =
            find(&got, b"transfer-encoding").is_some() || find(&got, b"content-length").is_some();
        assert!(
            !framed || !answer.contains(" 204 "),
            "{answer:?}: {}",
            shown(&got)
        );
        assert_eq!(proxy.get("/clean", &[]).text(), "clean");
        let ends_with_head = answer.ends_with("\r\n\r\n") && !answer.contains("chunked");
        assert_eq!(
            connections.load(Ordering::SeqCst),
            usize::from(!ends_with_head),
            "{answer:?}"
        );
        world.end(proxy);
    }
}

#[test]
fn what_comes_after_an_answer_is_nobodys() {
    let poison = "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison";
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        "HTTP/1.1 204 No Content\r\n\r\n",
    ] {
        for more in [poison, "\r\n", "x"] {
            let world = World::new();
            let (origin, connections) = answering(format!("{answer}{more}"), Then::Goes);
            let proxy = origin.proxied(&world, "", "", "");
            let mut stream = connect(proxy.address());
            let one = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            stream
                .write_all((one("/odd") + &one("/a") + &one("/b")).as_bytes())
                .unwrap();
            let mut all = Vec::new();
            while all.windows(5).filter(|part| part == b"clean").count() < 2 {
                all.extend(client::read_some(&mut stream));
            }
            assert!(find(&all, b"poison").is_none(), "{}", shown(&all));
            assert_eq!(connections.load(Ordering::SeqCst), 1, "{answer:?} {more:?}");
            world.end(proxy);
        }
    }
}

#[test]
fn a_body_that_is_cut_is_cut_for_the_client_too() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\nx\r\n\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf+\r\n0\r\n\r\n",
    ] {
        let world = World::new();
        let (origin, _) = answering(answer, Then::Ends);
        let proxy = origin.proxied(&world, "", "", "");
        let got = odd(&proxy, "GET");
        let cut = matches!(strict::answer(&got, false, true), Read::Partial);
        assert!(
            cut && got.starts_with(b"HTTP/1.1 200 OK"),
            "{answer:?}: {}",
            shown(&got)
        );
        // A client of HTTP/1.0 has no chunks to miss: it sees a connection that breaks off.
        let mut stream = connect(proxy.address());
        stream
            .write_all(b"GET /odd HTTP/1.0\r\nHost: localhost\r\n\r\n")
            .unwrap();
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all);
        let has_length = find(&all, b"content-length: 10").is_some();
        assert!(ended.is_err() || has_length, "a clean end: {}", shown(&all));
        world.end(proxy);
    }
}

#[test]
fn an_answer_of_http_10_is_passed_on_as_http_11() {
    let world = World::new();
    let (origin, connections) = answering(
        "HTTP/1.0 200 OK\r\nServer: old\r\n\r\nto the end",
        Then::Ends,
    );
    let proxy = origin.proxied(&world, "", "", "");
    let Read::Whole(message, _) = strict::answer(&odd(&proxy, "GET"), false, false) else {
        panic!("not whole");
    };
    assert!(
        message.start.starts_with("HTTP/1.1 200") && message.body == b"to the end",
        "{message:?}"
    );
    assert!(
        message.all("via")[0].starts_with(b"1.0 watsonx-auth-proxy-"),
        "{message:?}"
    );
    assert_eq!(proxy.get("/clean", &[]).text(), "clean");
    assert_eq!(connections.load(Ordering::SeqCst), 1);
    world.end(proxy);
}

#[test]
fn an_encoded_body_is_not_decoded() {
    let body: Vec<u8> = [0x1f, 0x8b, 8, 0]
        .into_iter()
        .chain((0..=255).cycle().take(9000))
        .collect();
    let mut answer = format!(
        "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    answer.extend_from_slice(&body);
    let world = World::new();
    let (origin, _) = answering(answer, Then::Goes);
    let proxy = origin.proxied(&world, "", "", "");
    let got = proxy.get("/odd", &[]);
    assert_eq!(
        (got.header("content-encoding"), got.body == body),
        (Some("gzip"), true)
    );
    world.end(proxy);
}

#[test]
fn a_thousand_clients_that_go_away_leave_nothing_behind() {
    let world = World::new();
    let open = Arc::new(Mutex::new(0_usize));
    let counted = Arc::clone(&open);
    let address = scripted(move |stream, _| {
        *counted.lock().unwrap() += 1;
        // Until the proxy ends it.
        let _ = stream.read(&mut [0]);
        *counted.lock().unwrap() -= 1;
    });
    let proxy = in_front_of(&world, address, "", "");
    for _ in 0..10 {
        let streams: Vec<_> = (0..100)
            .map(|_| {
                let mut stream = connect(proxy.address());
                stream
                    .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
                    .unwrap();
                stream
            })
            .collect();
        client::eventually("requests upstream", || {
            (*open.lock().unwrap() == 100).then_some(())
        });
        drop(streams);
        client::eventually("no request upstream", || {
            (*open.lock().unwrap() == 0).then_some(())
        });
    }
    client::eventually("nothing in flight", || {
        (proxy.metric("watsonx_auth_proxy_requests_in_flight{route=\"odd\"}") < 0.5).then_some(())
    });
    world.end(proxy);
}
