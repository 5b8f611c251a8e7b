//! Requests by which other proxies were led astray: each gets its clear answer, and never more than one clean request
//! per answer reaches the upstream.

use std::{io::Write as _, net::Shutdown};

use crate::{
    client::connect,
    origin::{Came, Origin, answers, assert_credential, everything, shown},
    proxy::{Proxy, World},
};

/// Time-outs that end what is never whole.
const LISTENER: &str = "head_timeout = '1s'\nstall_timeout = '1s'";

/// The statuses that bytes get until the connection ends, and whether the last answer is whole.
fn statuses(proxy: &Proxy, bytes: &[u8]) -> Vec<u16> {
    let got = everything(proxy.address(), bytes);
    let (answers, is_whole) = answers(&got);
    assert!(is_whole, "{}: {}", shown(bytes), shown(&got));
    answers.iter().map(|answer| answer.status()).collect()
}

/// What came upstream once everything has ended: a clean request is made, and taken off.
fn came(proxy: &Proxy, origin: &Origin) -> Vec<Came> {
    assert_eq!(proxy.get("/clean", &[]).text(), "GET /clean HTTP/1.1");
    origin.wait_for_open(1);
    let mut came = origin.take();
    came.retain(|came| !matches!(came, Came::Whole(message) if message.target() == "/clean"));
    for came in &came {
        match came {
            Came::Whole(message) => assert_credential(message),
            Came::Cut(_) => {}
            Came::Malformed(why) => panic!("{why}"),
        }
    }
    came
}

#[test]
fn malformed_heads_are_refused() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, LISTENER, "", "");
    let long = "x".repeat(66_000);
    let with =
        |lines: &str| format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n0\r\n\r\n");
    let line = |line: &str| format!("{line}\r\nHost: localhost\r\n\r\n");
    let cases = [
        with("Host: elsewhere"),
        with("Transfer-Encoding: chunked, chunked"),
        with("Transfer-Encoding: xchunked"),
        with("Transfer-Encoding: chunked;a=b"),
        with("Transfer-Encoding: \"chunked\""),
        with("Transfer-Encoding:"),
        with("Transfer-Encoding : chunked"),
        with("Transfer-Encoding: chunked\r\n folded"),
        with("Content-Length: +5"),
        with("Content-Length: -5"),
        with("Content-Length: 5 5"),
        with("Content-Length: 5,5"),
        with("Content-Length: 0x5"),
        with("Content-Length: 5_0"),
        with("Content-Length:"),
        with("Content-Length: 18446744073709551616"),
        with("Content-Length: 005"),
        with("Content-Length: 00"),
        with("X: a\rb"),
        with("X: a\nb"),
        with("X: a\u{1}b"),
        with("X: a\u{7f}b"),
        with("X: a\0b"),
        with(" Folded: first"),
        "POST /x HTTP/1.1\r\n Host: localhost\r\n\r\n".into(),
        line("GET /\r HTTP/1.1"),
        line("GET /a\u{b}b HTTP/1.1"),
        line("GET /a\u{c}b HTTP/1.1"),
        line("GET  / HTTP/1.1"),
        line("GET /a b HTTP/1.1"),
        line("GET\t/ HTTP/1.1"),
        line("GET / HTTP/0.9"),
        line("GET /"),
        line("GET / HTTP/1.2"),
        line("GET / HTTP/2.0"),
        line("GET / HTTP/9.9"),
        line("GET / http/1.1"),
        line("GET / HTTP/1.1 "),
        line("GET localhost:80 HTTP/1.1"),
        line("GET foo HTTP/1.1"),
        line("GET //elsewhere/x HTTP/1.1"),
        line("GET ///x HTTP/1.1"),
        line("GET /a/..;/b HTTP/1.1"),
        line("GET /.%2e/b HTTP/1.1"),
        line("GET /a%5cb HTTP/1.1"),
        line("GET /a\\b HTTP/1.1"),
        line("GET /a%00 HTTP/1.1"),
        line("GET /\u{e4} HTTP/1.1"),
        line("GET /?\u{e4} HTTP/1.1"),
        line("GET http://[::1%25lo]/ HTTP/1.1"),
        "GET / HTTP/1.1\r\nHost:\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: [::1%25lo]\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: localhost:99999\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: localhost:x\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: u@localhost\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: localhost/\r\n\r\n".into(),
        "GET / HTTP/1.1\r\nHost: localhost, localhost\r\n\r\n".into(),
    ];
    for case in &cases {
        assert_eq!(statuses(&proxy, case.as_bytes()), [400], "{case:?}");
    }
    let high = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length\x85: 3\r\n\r\nabc";
    assert_eq!(statuses(&proxy, high), [400]);
    let too_long = statuses(&proxy, line(&format!("GET /{long} HTTP/1.1")).as_bytes());
    assert!(matches!(too_long[..], [414 | 431]), "{too_long:?}");
    assert!(came(&proxy, &origin).is_empty(), "some of it went upstream");
    world.end(proxy);
}

#[test]
fn malformed_chunks_end_the_request_and_the_connection() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, LISTENER, "", "");
    let extension = "e".repeat(64 << 10);
    let many = format!("1;{}\r\nx\r\n", "e".repeat(4 << 10)).repeat(5) + "0\r\n\r\n";
    let trailers: String = (0..200).map(|n| format!("T{n}: x\r\n")).collect();
    let cases = [
        "0x5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "G\r\nhello\r\n0\r\n\r\n",
        "11111111111111111\r\nhello\r\n0\r\n\r\n",
        "\r\nhello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5;a\nb\r\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "4\r\nhello\r\n0\r\n\r\n",
        "6\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r\n0\r\n no trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
        &format!("5;{extension}\r\nhello\r\n0\r\n\r\n"),
        &many,
        &format!("5\r\nhello\r\n0\r\n{trailers}\r\n"),
        &format!("5\r\nhello\r\n0\r\nT: {}\r\n\r\n", "t".repeat(70 << 10)),
    ];
    let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n";
    for case in cases {
        let next = "GET /next HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let got = statuses(&proxy, format!("{head}{case}{next}").as_bytes());
        assert_eq!(got, [400], "{}", shown(case.as_bytes()));
        let came = came(&proxy, &origin);
        assert!(
            !came.iter().any(|came| matches!(came, Came::Whole(_))),
            "{case:?}: {came:?}"
        );
    }
    world.end(proxy);
}

#[test]
fn what_may_be_taken_goes_on_as_one_clean_request() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, LISTENER, "", "");
    let post = |lines: &str, body: &str| {
        format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{lines}\r\n\r\n{body}")
    };
    let (length, chunked) = ("Content-Length: 3", "Transfer-Encoding: chunked");
    let next = "GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
    for (case, body, ends) in [
        // The chunks count, and the connection ends: what follows may be meant as the body.
        (
            post(&format!("{length}\r\n{chunked}"), "1\r\nx\r\n0\r\n\r\n"),
            "x",
            true,
        ),
        (
            post(&format!("{chunked}\r\n{length}"), "1\r\nx\r\n0\r\n\r\n"),
            "x",
            true,
        ),
        (post(&format!("{length}\r\n{length}"), "abc"), "abc", false),
        (
            post("Transfer-Encoding: Chunked", "1\r\nx\r\n0\r\n\r\n"),
            "x",
            false,
        ),
        // Chunk extensions end here, whatever is in them, and so do trailers.
        (post(chunked, "1;a=\"b\r\nx\r\n0;c\r\n\r\n"), "x", false),
        (post(chunked, "1 ; a = b\r\nx\r\n0\r\n\r\n"), "x", false),
        (
            post(
                chunked,
                "1\r\nx\r\n0\r\nContent-Length: 9\r\nTransfer-Encoding: x\r\nHost: x\r\nAuthorization: x\r\n\r\n",
            ),
            "x",
            false,
        ),
        (
            "POST /x HTTP/1.1\nHost: localhost\nContent-Length: 3\n\nabc".into(),
            "abc",
            false,
        ),
        (
            "\r\nPOST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc".into(),
            "abc",
            false,
        ),
        (
            "POST /x#frag?token=x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
                .into(),
            "abc",
            false,
        ),
        (
            "POST http://localhost/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc"
                .into(),
            "abc",
            false,
        ),
        // No length over HTTP/1.0 is no body, and what looks like one is no request.
        (
            format!("POST /x HTTP/1.0\r\nHost: localhost\r\n\r\n{next}"),
            "",
            true,
        ),
    ] {
        let expected: &[u16] = if ends { &[200] } else { &[200, 200] };
        assert_eq!(
            statuses(&proxy, format!("{case}{next}").as_bytes()),
            expected,
            "{case:?}"
        );
        let came = came(&proxy, &origin);
        let Some(Came::Whole(request)) = came.first() else {
            panic!("{case:?}: {came:?}");
        };
        assert_eq!(
            (&*request.start, &*request.body),
            ("POST /x HTTP/1.1", body.as_bytes()),
            "{case:?}"
        );
        assert!(
            request.trailers.is_empty() && came.len() == expected.len(),
            "{case:?}: {came:?}"
        );
    }
    world.end(proxy);
}

#[test]
fn bodies_of_methods_that_seldom_have_one_are_framed_exactly() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, LISTENER, "", "");
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "PROPFIND"] {
        let smuggled = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let length = smuggled.len();
        let chunk = format!("{length:x}\r\n{smuggled}\r\n0\r\n\r\n");
        for framed in [
            format!("Content-Length: {length}\r\n\r\n{smuggled}"),
            format!("Transfer-Encoding: chunked\r\n\r\n{chunk}"),
        ] {
            let request = format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n{framed}");
            let next = "GET /next HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";
            let got = everything(proxy.address(), format!("{request}{next}").as_bytes());
            assert!(got.ends_with(b"GET /next HTTP/1.1"), "{}", shown(&got));
            let came: Vec<_> = came(&proxy, &origin)
                .into_iter()
                .map(|came| match came {
                    Came::Whole(message) => (message.start, message.body),
                    other => panic!("{method}: {other:?}"),
                })
                .collect();
            let expected = [
                (
                    format!("{method} /x HTTP/1.1"),
                    smuggled.as_bytes().to_vec(),
                ),
                ("GET /next HTTP/1.1".into(), Vec::new()),
            ];
            assert_eq!(came, expected);
        }
    }
    world.end(proxy);
}

#[test]
fn a_body_that_ends_early_is_never_whole_upstream() {
    for framed in [
        "Content-Length: 10\r\n\r\nhalf",
        "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ] {
        for how in [Shutdown::Write, Shutdown::Both] {
            let world = World::new();
            let origin = Origin::echoing();
            let proxy = origin.proxied(&world, "", "", "");
            let mut stream = connect(proxy.address());
            let request = format!("POST /x HTTP/1.1\r\nHost: localhost\r\n{framed}");
            stream.write_all(request.as_bytes()).unwrap();
            origin.wait_for_open(1);
            stream.shutdown(how).unwrap();
            origin.wait_for_open(0);
            let came = came(&proxy, &origin);
            match &came[..] {
                [] => {}
                [Came::Cut(start)] => assert!(start.starts_with("POST /x "), "{start}"),
                other => panic!("{framed:?}: {other:?}"),
            }
            world.end(proxy);
        }
    }
}

#[test]
fn a_request_behind_an_upgrade_that_was_not_made_is_a_request() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    for upgrade in ["foo", "h2c", "TLS/1.2"] {
        let first = format!(
            "GET /first HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: {upgrade}\r\n\
             HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n"
        );
        let second = "GET /second HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nAuthorization: Bearer forged\r\n\r\n";
        assert_eq!(
            statuses(&proxy, format!("{first}{second}").as_bytes()),
            [200, 200]
        );
        let came = came(&proxy, &origin);
        assert_eq!(came.len(), 2, "{came:?}");
        let plain =
            |came: &Came| matches!(came, Came::Whole(message) if message.all("upgrade").is_empty());
        assert!(came.iter().all(plain), "{came:?}");
    }
    world.end(proxy);
}

#[test]
fn pipelining_ends_at_the_first_malformed_request() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = origin.proxied(&world, "", "", "");
    let mut requests: Vec<_> = (0..10)
        .map(|n| format!("GET /{n} HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        .collect();
    requests[2] = "GET /2 HTTP/1.1\r\nHost: localhost\r\nContent-Length: x\r\n\r\n".into();
    assert_eq!(
        statuses(&proxy, requests.concat().as_bytes()),
        [200, 200, 400]
    );
    assert_eq!(came(&proxy, &origin).len(), 2);
    world.end(proxy);
}
