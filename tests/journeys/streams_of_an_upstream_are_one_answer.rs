//! What an upstream sends over HTTP/2 as one answer reaches the client as that answer; what is none is 502 or cut, and the
//! next request has its own answer.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use crate::{
    client::{self, PATIENCE},
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PUSH_PROMISE, RST_STREAM,
        SETTINGS, WINDOW_UPDATE, block, frame, upstream,
    },
    origin::everything,
    proxy::World,
    scripted::in_front_of,
    strict::{self, Read},
    upstreams_close_as_they_like::AMID_A_REQUEST,
};

const HTTP2: &str = "protocol = 'http2'\nfirst_byte_timeout = '2s'\nidle_timeout = '2s'";

const CLEAN: &[u8] = b"clean";

/// The frames of a whole answer.
fn answer(stream: u32, body: &[u8]) -> Vec<u8> {
    let head = frame(HEADERS, END_HEADERS, stream, &block(&[(":status", "200")]));
    [head, frame(DATA, END_STREAM, stream, body)].concat()
}

/// An upstream that says these bytes to the first request on its first connection, and then goes on as if nothing were.
struct Odd {
    address: SocketAddr,
    /// How many it had.
    connections: Arc<AtomicUsize>,
    /// Tells when the first one was closed on both sides, where it is.
    closed: mpsc::Receiver<()>,
}

fn odd(bytes: Vec<u8>, closes: bool) -> Odd {
    let connections = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&connections);
    let (tell, closed) = mpsc::channel();
    let address = upstream(move |wire| {
        let mut is_odd = counted.fetch_add(1, Ordering::SeqCst) == 0;
        while let Some(request) = wire.until(&[HEADERS]) {
            let said = match is_odd {
                true => bytes.clone(),
                false => answer(request.stream, CLEAN),
            };
            let goes_on = wire.send(&said);
            if is_odd && closes {
                if wire.close() {
                    // Nobody may want to know.
                    let _ = tell.send(());
                }
                return;
            }
            if !goes_on {
                return;
            }
            is_odd = false;
        }
    });
    Odd {
        address,
        connections,
        closed,
    }
}

fn head(fields: &[(&str, &str)]) -> Vec<u8> {
    frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(fields))
}

#[test]
fn what_is_no_answer_is_502_and_the_next_request_has_its_own() {
    let ok = (":status", "200");
    let settings = |key: u16, value: u32| {
        frame(
            SETTINGS,
            0,
            0,
            &[&key.to_be_bytes()[..], &value.to_be_bytes()].concat(),
        )
    };
    let field = block(&[("x-large", &"x".repeat(120))]);
    let large = [
        frame(HEADERS, 0, 1, &block(&[ok])),
        frame(CONTINUATION, 0, 1, &field.repeat(100)).repeat(8),
        frame(CONTINUATION, END_HEADERS, 1, &[]),
    ]
    .concat();
    let hint = frame(HEADERS, END_HEADERS, 1, &block(&[(":status", "103")]));
    let cases: Vec<(&str, Vec<u8>)> = vec![
        (
            "an answer over HTTP/1.1",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok".to_vec(),
        ),
        ("nothing", Vec::new()),
        ("upper case", head(&[ok, ("X-Upper", "1")])),
        ("connection", head(&[ok, ("connection", "close")])),
        (
            "transfer-encoding",
            head(&[ok, ("transfer-encoding", "chunked")]),
        ),
        ("upgrade", head(&[ok, ("upgrade", "h2c")])),
        ("line end in a value", head(&[ok, ("x-a", "b\r\nc: d")])),
        ("zero in a value", head(&[ok, ("x-a", "b\0c")])),
        ("colon in a name", head(&[ok, ("x:a", "b")])),
        ("no status", head(&[("x-a", "b")])),
        ("two statuses", head(&[ok, ok])),
        ("a status in words", head(&[(":status", "fine")])),
        ("a status that is none", head(&[(":status", "600")])),
        ("a status behind a header", head(&[("x-a", "b"), ok])),
        ("a request", head(&[(":method", "GET"), (":path", "/")])),
        ("an unknown pseudo-header", head(&[ok, (":odd", "b")])),
        (
            "two lengths",
            head(&[ok, ("content-length", "0"), ("content-length", "1")]),
        ),
        ("a length in words", head(&[ok, ("content-length", "none")])),
        (
            "a hint at the end",
            frame(
                HEADERS,
                END_HEADERS | END_STREAM,
                1,
                &block(&[(":status", "103")]),
            ),
        ),
        ("hints without an end", hint.repeat(3000)),
        ("too large a head", large),
        (
            "a head without an end",
            [
                frame(HEADERS, 0, 1, &block(&[ok])),
                frame(CONTINUATION, 0, 1, &field).repeat(3000),
            ]
            .concat(),
        ),
        (
            "a head that is left",
            [
                frame(HEADERS, 0, 1, &block(&[ok])),
                frame(DATA, 0, 1, b"ok"),
            ]
            .concat(),
        ),
        ("a body without a head", frame(DATA, END_STREAM, 1, b"ok")),
        (
            "a broken table",
            frame(HEADERS, END_HEADERS, 1, &[0xff, 0xff, 0xff, 0xff]),
        ),
        ("an answer to all", answer(0, b"ok")),
        ("an answer that nobody asked for", answer(5, b"ok")),
        ("a stream of its own", answer(2, b"ok")),
        (
            "a promise",
            frame(
                PUSH_PROMISE,
                END_HEADERS,
                1,
                &[&[0, 0, 0, 2][..], &block(&[(":method", "GET")])].concat(),
            ),
        ),
        (
            "too large a frame",
            frame(DATA, 0, 1, &vec![0; (16 << 10) + 1]),
        ),
        ("no window", frame(WINDOW_UPDATE, 0, 0, &[0; 4])),
        (
            "too large a window",
            frame(WINDOW_UPDATE, 0, 0, &[0x7f, 0xff, 0xff, 0xff]).repeat(2),
        ),
        ("a setting that is none", settings(2, 2)),
        ("too large a setting", settings(4, u32::MAX)),
        ("too small frames", settings(5, 1)),
        ("half a setting", frame(SETTINGS, 0, 0, &[0; 3])),
        ("a reset", frame(RST_STREAM, 0, 1, &[0, 0, 0, 2])),
        ("the end", frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2])),
    ];
    for (what, bytes) in cases {
        for closes in [true, false] {
            let world = World::new();
            let odd = odd(bytes.clone(), closes);
            let proxy = in_front_of(&world, odd.address, HTTP2, "");
            // A request that is sent only once, whatever becomes of it.
            let answer = proxy.send("POST", "/odd", &[], b"body");
            let code = match (what, closes) {
                // The stream may still be answered.
                ("nothing" | "the end", false) => "upstream_timeout",
                _ => "upstream_protocol",
            };
            assert_eq!(answer.code(), code, "{what}");
            if closes {
                odd.closed.recv_timeout(PATIENCE).unwrap();
            }
            let next = proxy.send("POST", "/next", &[], b"body");
            assert_eq!((next.status, &*next.body), (200, CLEAN), "after {what}");
            assert!(odd.connections.load(Ordering::SeqCst) <= 2, "{what}");
            world.end(proxy);
        }
    }
}

#[test]
fn a_body_that_is_cut_is_cut_for_the_client_too() {
    let with = |fields: &[(&str, &str)], rest: &[Vec<u8>]| {
        let fields = [&[(":status", "200")][..], fields].concat();
        [
            frame(HEADERS, END_HEADERS, 1, &block(&fields)),
            rest.concat(),
        ]
        .concat()
    };
    let piece = || frame(DATA, 0, 1, b"half");
    let length = ("content-length", "10");
    for (what, bytes) in [
        (
            "less than was said",
            with(&[length], &[piece(), frame(DATA, END_STREAM, 1, b"")]),
        ),
        ("more than was said", with(&[length], &[piece().repeat(3)])),
        ("the end of the connection", with(&[], &[piece()])),
        (
            "a reset",
            with(&[], &[piece(), frame(RST_STREAM, 0, 1, &[0; 4])]),
        ),
        (
            "a farewell",
            with(
                &[],
                &[piece(), frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 2])],
            ),
        ),
        (
            "another head",
            with(
                &[],
                &[
                    piece(),
                    frame(HEADERS, END_HEADERS, 1, &block(&[("x-a", "b")])),
                ],
            ),
        ),
        (
            "a malformed frame",
            with(&[], &[piece(), frame(SETTINGS, 0, 0, &[0; 3])]),
        ),
    ] {
        let world = World::new();
        let odd = odd(bytes, true);
        let proxy = in_front_of(&world, odd.address, HTTP2, "");
        let got = everything(
            proxy.address(),
            &client::request("POST", "/odd", &[], b"body"),
        );
        let is_fault = got.starts_with(b"HTTP/1.1 502 ");
        let is_cut = matches!(strict::answer(&got, false, true), Read::Partial);
        assert!(
            is_fault || is_cut,
            "{what}: {}",
            String::from_utf8_lossy(&got)
        );
        odd.closed.recv_timeout(PATIENCE).unwrap();
        let next = proxy.send("POST", "/next", &[], b"body");
        assert_eq!(&*next.body, CLEAN, "after {what}");
        world.end(proxy);
    }
}

#[test]
fn the_end_of_a_connection_amid_a_request() {
    for (method, body, status) in AMID_A_REQUEST {
        let world = World::new();
        let (tell, told) = mpsc::channel();
        let address = upstream(move |wire| {
            let first = wire.until(&[HEADERS]).expect("a request");
            tell.send(wire.body(&first)).unwrap();
            wire.send(&answer(first.stream, CLEAN));
            if wire.until(&[HEADERS]).is_some() {
                tell.send(Vec::new()).unwrap();
            }
        });
        let proxy = in_front_of(&world, address, HTTP2, "");
        assert_eq!(proxy.get("/first", &[]).status, 200);
        let next = proxy.send(method, "/second", &[], body.as_bytes());
        assert_eq!(next.status, status, "{method} {body}");
        let bodies: Vec<_> = told.try_iter().collect();
        let sent = bodies.len() - 1;
        assert_eq!(sent, if status == 200 { 2 } else { 1 }, "{method} {body}");
        if status == 200 {
            assert_eq!(bodies.last().unwrap(), body.as_bytes(), "{method}");
        }
        world.end(proxy);
    }
}

#[test]
fn what_comes_after_an_answer_is_nobodys() {
    for (what, more) in [
        ("a body", frame(DATA, END_STREAM, 1, b"poison")),
        ("a head", head(&[(":status", "418")])),
        ("an answer", answer(1, b"poison")),
        ("an answer to the next", answer(3, b"poison")),
    ] {
        let world = World::new();
        let odd = odd([answer(1, b"ok"), more].concat(), false);
        let proxy = in_front_of(&world, odd.address, HTTP2, "");
        assert!(matches!(
            proxy.send("POST", "/odd", &[], b"body").status,
            200 | 502
        ));
        client::pause(Duration::from_millis(100));
        for _ in 0..3 {
            let next = proxy.send("POST", "/next", &[], b"body");
            assert_eq!((next.status, &*next.body), (200, CLEAN), "after {what}");
        }
        world.end(proxy);
    }
}

#[test]
fn hints_end_here_and_the_answer_behind_them_is_the_answer() {
    let hints: Vec<u8> = ["100", "103", "103", "102"]
        .iter()
        .flat_map(|status| {
            let fields = [(":status", *status), ("link", "</x>; rel=preload")];
            frame(HEADERS, END_HEADERS, 1, &block(&fields))
        })
        .collect();
    let world = World::new();
    let odd = odd([hints, answer(1, b"ok")].concat(), false);
    let proxy = in_front_of(&world, odd.address, HTTP2, "");
    let got = everything(proxy.address(), &client::request("GET", "/", &[], b""));
    assert!(
        got.starts_with(b"HTTP/1.1 200 "),
        "{}",
        String::from_utf8_lossy(&got)
    );
    assert!(client::find(&got, b"preload").is_none());
    world.end(proxy);
}

#[test]
fn leave_comes_from_the_upstream_and_so_does_a_refusal() {
    let world = World::new();
    let (tell, told) = mpsc::channel();
    let address = upstream(move |wire| {
        while let Some(request) = wire.until(&[HEADERS]) {
            let id = request.stream;
            // Well within the second after which leave is taken for given.
            let early = wire.next(Duration::from_millis(300));
            tell.send(early.filter(|frame| frame.kind == DATA).is_some())
                .unwrap();
            if id == 1 {
                let leave = block(&[(":status", "100")]);
                wire.frame(HEADERS, END_HEADERS, id, &leave);
                let body = wire.until(&[DATA]).expect("the body");
                assert_eq!(body.payload, b"body");
                wire.send(&answer(id, b"taken"));
            } else {
                let refusal = block(&[(":status", "417"), ("content-length", "0")]);
                wire.frame(HEADERS, END_HEADERS | END_STREAM, id, &refusal);
                let next = wire.until(&[DATA, RST_STREAM]).expect("an end");
                tell.send(next.kind == DATA).unwrap();
            }
        }
    });
    let proxy = in_front_of(&world, address, "protocol = 'http2'", "");
    let ask = || {
        let mut stream = client::connect(proxy.address());
        stream
            .write_all(
                b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\
                  Expect: 100-continue\r\n\r\n",
            )
            .unwrap();
        stream
    };
    let mut stream = ask();
    let leave = crate::scripted::head(&mut stream).expect("leave");
    assert!(leave.starts_with("HTTP/1.1 100 "), "{leave}");
    stream.write_all(b"body").unwrap();
    let head = crate::scripted::head(&mut stream).unwrap();
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    assert!(
        !told.recv_timeout(PATIENCE).unwrap(),
        "the body came before its leave"
    );

    let mut stream = ask();
    let head = crate::scripted::head(&mut stream).expect("a refusal");
    assert!(head.starts_with("HTTP/1.1 417 "), "{head}");
    let _ = stream.read(&mut [0]);
    for when in ["before", "after"] {
        let has_body = told.recv_timeout(PATIENCE).unwrap();
        assert!(!has_body, "a body {when} the refusal");
    }
    world.end(proxy);
}

#[test]
fn an_answer_before_the_end_of_the_request_is_the_answer() {
    for resets in [true, false] {
        let world = World::new();
        let odd = {
            let said = [
                answer(1, b"early"),
                match resets {
                    true => frame(RST_STREAM, 0, 1, &[0; 4]),
                    false => Vec::new(),
                },
            ];
            odd(said.concat(), false)
        };
        let proxy = in_front_of(&world, odd.address, HTTP2, "");
        let mut stream = client::connect(proxy.address());
        stream
            .write_all(b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nhalf")
            .unwrap();
        let head = crate::scripted::head(&mut stream).unwrap();
        assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
        // The rest is nobody's, and what comes behind it a request or the end.
        let _ = stream.write_all(b"therest");
        let next = proxy.send("POST", "/next", &[], b"body");
        assert_eq!((next.status, &*next.body), (200, CLEAN));
        assert_eq!(
            odd.connections.load(Ordering::SeqCst),
            1,
            "it costs no other stream"
        );
        world.end(proxy);
    }
}
