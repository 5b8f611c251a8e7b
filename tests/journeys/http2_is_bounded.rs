//! What a client may do to an HTTP/2 connection that is no request: the connection ends, or it costs next to nothing, and
//! others are served meanwhile.

use std::{
    io::{Read as _, Write as _},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{self, PATIENCE, eventually},
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS,
        WINDOW_UPDATE, Wire, block, frame, request,
    },
    proxy::{Proxy, World},
    scripted::{in_front_of, scripted},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Heads that no HTTP/2 client may send, and an upstream that must see none of them.
#[test]
fn malformed_heads_go_nowhere() {
    let world = World::new();
    let address = scripted(|stream, head| {
        assert!(head.starts_with("GET /base/good"), "{head}");
        stream.write_all(OK).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let good = [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/"),
    ];
    let with = |more: &[(&'static str, &'static str)]| [&good[..], more].concat();
    for (what, fields) in [
        ("upper case", with(&[("X-Upper", "1")])),
        ("connection", with(&[("connection", "close")])),
        ("keep-alive", with(&[("keep-alive", "5")])),
        (
            "transfer-encoding",
            with(&[("transfer-encoding", "chunked")]),
        ),
        ("upgrade", with(&[("upgrade", "h2c")])),
        ("te: gzip", with(&[("te", "gzip")])),
        ("line end in a value", with(&[("x-a", "b\r\nc: d")])),
        ("zero in a value", with(&[("x-a", "b\0c")])),
        ("blank at an end", with(&[("x-a", "b ")])),
        ("colon in a name", with(&[("x:a", "b")])),
        ("two paths", with(&[(":path", "/other")])),
        (
            "pseudo-header after others",
            with(&[("x-a", "b"), (":method", "GET")]),
        ),
        ("unknown pseudo-header", with(&[(":odd", "b")])),
        (
            "two lengths",
            with(&[("content-length", "1"), ("content-length", "2")]),
        ),
        ("another host", with(&[("host", "elsewhere")])),
        ("no path", good[..3].to_vec()),
        ("empty path", [&good[..3], &[(":path", "")]].concat()),
        ("no slash", [&good[..3], &[(":path", "a")]].concat()),
        ("no method", good[1..].to_vec()),
        ("no scheme", [&good[..1], &good[2..]].concat()),
        (
            "user in the address",
            [&good[..2], &[(":authority", "a@localhost"), (":path", "/")]].concat(),
        ),
    ] {
        let mut wire = Wire::open(proxy.address(), &[]);
        wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &block(&fields));
        let answer = wire.until(&[HEADERS, RST_STREAM, GOAWAY]);
        if let Some(answer) = answer.filter(|answer| answer.kind == HEADERS) {
            // 400 has a place of its own in the static table.
            assert_eq!(answer.payload[0], 0x80 | 12, "{what}");
        }
    }
    assert_eq!(proxy.get("/good", &[]).status, 200);
    world.end(proxy);
}

/// Sends until the other side has enough, but no more than `most` times.
fn flood(wire: &mut Wire, most: usize, mut piece: impl FnMut(u32) -> Vec<u8>) -> bool {
    (0..most).all(|round| wire.send(&piece(u32::try_from(round).unwrap())))
}

fn serves(proxy: &Proxy) {
    assert_eq!(proxy.get("/good", &[]).status, 200);
}

#[test]
fn floods_end_or_cost_nothing() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let _ = stream.write_all(OK);
    });
    let proxy = in_front_of(&world, address, "", "head_timeout = '2s'");
    serves(&proxy);
    let before = proxy.resident();
    let get = request("GET", "/good", &[]);
    let post = request("POST", "/good", &[("content-length", "1")]);

    // Each request is called off at once.
    let mut wire = Wire::open(proxy.address(), &[]);
    flood(&mut wire, 5000, |round| {
        let stream = round * 2 + 1;
        let mut pair = frame(HEADERS, END_HEADERS | END_STREAM, stream, &get);
        pair.extend(frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        pair
    });
    assert!(ends(&mut wire), "rapid reset");
    serves(&proxy);

    // The proxy has to reset each of them: more of the body than was said.
    let mut wire = Wire::open(proxy.address(), &[]);
    flood(&mut wire, 2000, |round| {
        let stream = round * 2 + 1;
        let mut pair = frame(HEADERS, END_HEADERS, stream, &post);
        pair.extend(frame(DATA, 0, stream, b"abc"));
        pair
    });
    assert!(ends(&mut wire), "made to reset");
    serves(&proxy);

    // A window of no bytes more, for each.
    let mut wire = Wire::open(proxy.address(), &[]);
    flood(&mut wire, 2000, |round| {
        let stream = round * 2 + 1;
        let mut pair = frame(HEADERS, END_HEADERS, stream, &get);
        pair.extend(frame(WINDOW_UPDATE, 0, stream, &[0; 4]));
        pair
    });
    assert!(ends(&mut wire), "windows of nothing");
    serves(&proxy);

    // A head without an end.
    let mut wire = Wire::open(proxy.address(), &[]);
    wire.frame(HEADERS, 0, 1, &get);
    let more = block(&[("x-more", &"x".repeat(100))]);
    flood(&mut wire, 5000, |_| frame(CONTINUATION, 0, 1, &more));
    assert!(ends(&mut wire), "a head without an end");
    let mut wire = Wire::open(proxy.address(), &[]);
    wire.frame(HEADERS, 0, 1, &get);
    assert!(ends(&mut wire), "a head that stops");
    serves(&proxy);

    // Frames that say nothing.
    for (what, kind, flags, payload) in [
        ("PING", PING, 0, &[0; 8][..]),
        ("SETTINGS", SETTINGS, 0, &[]),
        ("DATA", DATA, 0, &[]),
    ] {
        let mut wire = Wire::open(proxy.address(), &[]);
        wire.frame(HEADERS, END_HEADERS, 1, &request("POST", "/good", &[]));
        let stream = u32::from(kind == DATA);
        let nothing = frame(kind, flags, stream, payload).repeat(100);
        flood(&mut wire, 500, |_| nothing.clone());
        drop(wire);
        serves(&proxy);
        let _ = what;
    }

    // A large table of one large value, told again and again.
    let mut wire = Wire::open(proxy.address(), &[]);
    let mut bomb = request("GET", "/good", &[]);
    bomb.extend([0x40, 1, b'x', 0x7f, 0x80 | 33, 29]);
    bomb.extend(vec![b'y'; 127 + 33 + (29 << 7)]);
    bomb.extend(vec![0x80 | 62; 4000]);
    wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &bomb);
    let answer = wire.until(&[HEADERS, RST_STREAM, GOAWAY]);
    if let Some(answer) = answer.filter(|answer| answer.kind == HEADERS) {
        assert_ne!(answer.payload[0], 0x80 | 8, "not 200");
    }
    serves(&proxy);

    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 48 << 20, "{grown} bytes");
    eventually("nothing under way", || {
        (proxy.metric("watsonx_auth_proxy_requests_in_flight") < 1.0).then_some(())
    });
    world.end(proxy);
}

#[test]
fn requests_that_are_called_off_one_after_another_end_the_connection() {
    let world = World::new();
    let address = scripted(|stream, head| {
        if head.starts_with("GET /base/good") {
            stream.write_all(OK).unwrap();
        }
        // The end, when the proxy has had enough of waiting.
        let _ = stream.read(&mut [0; 1]);
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut wire = Wire::open(proxy.address(), &[]);
    let never = request("GET", "/never", &[]);
    let goes_on = flood(&mut wire, 400, |round| {
        let stream = round * 2 + 1;
        let mut pair = Vec::new();
        if round > 0 {
            pair = frame(RST_STREAM, 0, stream - 2, &[0, 0, 0, 8]);
        }
        pair.extend(frame(HEADERS, END_HEADERS | END_STREAM, stream, &never));
        client::pause(Duration::from_millis(3));
        pair
    });
    assert!(!goes_on || ends(&mut wire));
    serves(&proxy);
    world.end(proxy);
}

/// Whether the proxy ends a connection.
fn ends(wire: &mut Wire) -> bool {
    while let Some(frame) = wire.next(Duration::from_secs(10)) {
        if frame.kind == GOAWAY {
            return true;
        }
    }
    // The end, or nothing in ten seconds: then it can still be written.
    !(0..50).all(|_| {
        client::pause(Duration::from_millis(20));
        wire.frame(PING, 0, 0, &[0; 8])
    })
}

#[test]
fn windows_of_nothing_hold_neither_memory_nor_others() {
    let world = World::new();
    let address = scripted(|stream, head| {
        let size = if head.starts_with("GET /base/large") {
            4 << 20
        } else {
            2
        };
        let _ = write!(stream, "HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        let _ = stream.write_all(&vec![b'x'; size]);
    });
    let proxy = in_front_of(&world, address, "", "stall_timeout = '8s'");
    serves(&proxy);
    let before = proxy.resident();
    // No room for any body, and 200 requests, of which 100 are too many.
    let mut wire = Wire::open(proxy.address(), &[(4, 0)]);
    for stream in 0..200 {
        wire.frame(
            HEADERS,
            END_HEADERS | END_STREAM,
            stream * 2 + 1,
            &request("GET", "/large", &[]),
        );
    }
    let mut kinds = (0, 0);
    while kinds.0 + kinds.1 < 200 {
        match wire.next(PATIENCE).expect("an answer").kind {
            HEADERS => kinds.0 += 1,
            RST_STREAM => kinds.1 += 1,
            _ => {}
        }
    }
    assert_eq!(kinds, (100, 100), "as many as are allowed");
    serves(&proxy);
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes for 100 answers of 4 MiB");
    // And then they are called off, in time.
    for _ in 0..100 {
        let reset = wire.until(&[RST_STREAM]).expect("the stream is reset");
        assert_eq!(reset.payload, [0, 0, 0, 8], "CANCEL");
    }
    serves(&proxy);
    world.end(proxy);
}

#[test]
fn an_idle_connection_costs_less_than_an_active_one_may() {
    const COUNT: usize = 200;
    let world = World::new();
    let address = scripted(|stream, _| {
        let _ = stream.write_all(OK);
    });
    let proxy = in_front_of(&world, address, "", "");
    let open = || {
        let mut wire = Wire::open(proxy.address(), &[]);
        let get = request("GET", "/good", &[]);
        wire.frame(HEADERS, END_HEADERS | END_STREAM, 1, &get);
        assert!(wire.until(&[DATA]).is_some());
        wire
    };
    drop(open());
    let before = proxy.resident();
    let connections: Vec<_> = (0..COUNT).map(|_| open()).collect();
    client::pause(Duration::from_secs(2));
    let each = proxy.resident().saturating_sub(before) / COUNT;
    assert!(each < 64 << 10, "{each} bytes each");
    assert_eq!(connections.len(), COUNT);
    world.end(proxy);
}

#[test]
fn a_preface_in_pieces_and_one_that_stops() {
    let world = World::new();
    let address = scripted(|stream, _| stream.write_all(OK).unwrap());
    let proxy = in_front_of(
        &world,
        address,
        "",
        "head_timeout = '5s'\nkeep_alive = '30s'",
    );
    // It is HTTP/2, or a clean end; never a journey.
    let mut stream = client::connect(proxy.address());
    for piece in [&b"PRI * HT"[..], b"TP/2.0\r\n\r\nSM\r\n\r\n"] {
        stream.write_all(piece).unwrap();
        client::pause(Duration::from_millis(100));
    }
    stream.write_all(&frame(SETTINGS, 0, 0, &[])).unwrap();
    let first = client::read_some(&mut stream);
    assert!(first.len() >= 9 && first[3] == SETTINGS, "{first:?}");

    let mut stops = Wire::open(proxy.address(), &[]);
    stops.send(&[0, 0]);
    assert!(ends(&mut stops), "half a frame");
    serves(&proxy);
    world.end(proxy);
}

#[test]
fn a_client_that_pings_and_never_acknowledges_the_end_is_closed_all_the_same() {
    let world = World::new();
    let address = scripted(|stream, _| stream.write_all(OK).unwrap());
    let proxy = in_front_of(&world, address, "", "keep_alive = '3s'");
    let mut wire = Wire::open(proxy.address(), &[]);
    let began = Instant::now();
    let mut told = false;
    // Writing fails some time after the other side has closed.
    while wire.frame(PING, 0, 0, b"12345678") {
        while let Some(frame) = wire.next(Duration::from_millis(100)) {
            told |= frame.kind == GOAWAY;
        }
        assert!(began.elapsed() < Duration::from_secs(30), "still open");
    }
    while let Some(frame) = wire.next(Duration::from_millis(100)) {
        told |= frame.kind == GOAWAY;
    }
    assert!(told);
    world.end(proxy);
}
