//! An upstream keeps a connection or closes it; no request is lost by that, and no answer is mixed up.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
    sync::{Arc, Mutex, mpsc},
};

use crate::{
    client::PATIENCE,
    proxy::World,
    scripted::{config_in_front_of, head, in_front_of, scripted},
};

#[test]
fn each_way_to_end_an_answer() {
    for (answer, connections) in [
        // By length, and kept.
        (&b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"[..], 1.0),
        (
            b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok",
            1.0,
        ),
        // By length, and not kept, whatever the socket says.
        (
            b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
            5.0,
        ),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", 5.0),
    ] {
        let world = World::new();
        let address = scripted(move |stream, _| {
            // Stays open as long as the other side wants it.
            while stream.write_all(answer).is_ok() && head(stream).is_some() {}
        });
        let proxy = in_front_of(&world, address, "", "");
        for method in ["GET", "POST", "GET", "POST", "POST"] {
            let told = proxy.send(method, "/", &[], b"");
            assert_eq!((told.status, &*told.text()), (200, "ok"));
            assert!(told.head.starts_with("HTTP/1.1"), "{}", told.head);
        }
        let opened = proxy.metric("watsonx_auth_proxy_upstream_connections_opened_total");
        assert_eq!(opened, connections, "{}", String::from_utf8_lossy(answer));
        world.end(proxy);
    }
}

#[test]
fn an_answer_that_ends_with_its_connection() {
    let world = World::new();
    let address = scripted(|stream, _| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok").unwrap());
    let proxy = in_front_of(&world, address, "", "");
    for method in ["GET", "POST", "POST"] {
        let told = proxy.send(method, "/", &[], b"");
        assert_eq!((told.status, &*told.text()), (200, "ok"));
    }
    world.end(proxy);
}

/// The answer promises to keep the connection, which is closed before the next request is sent.
#[test]
fn a_post_right_after_the_close_of_a_kept_connection() {
    let world = World::new();
    let (closes, closed) = mpsc::channel();
    let address = scripted(move |stream, _| {
        stream.read_exact(&mut [0; 4]).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        stream.shutdown(Shutdown::Both).unwrap();
        closes.send(()).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    for _ in 0..50 {
        assert_eq!(proxy.send("POST", "/", &[], b"once").status, 200);
        closed.recv_timeout(PATIENCE).unwrap();
    }
    world.end(proxy);
}

/// What comes of a request whose connection ends when it is on its way, over either protocol: only what nobody minds twice
/// goes out again, and once.
pub(crate) const AMID_A_REQUEST: [(&str, &str, u16); 5] = [
    ("GET", "", 200),
    ("DELETE", "", 200),
    ("PUT", "once", 200),
    ("POST", "", 502),
    ("POST", "once", 502),
];

#[test]
fn the_end_of_a_kept_connection_amid_a_request() {
    for (method, body, status) in AMID_A_REQUEST {
        let world = World::new();
        let heads = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&heads);
        let address = scripted(move |stream, first| {
            seen.lock().unwrap().push(first);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
            let second = head(stream);
            seen.lock().unwrap().extend(second);
        });
        let proxy = in_front_of(&world, address, "", "");
        assert_eq!(proxy.get("/first", &[]).status, 200);
        let told = proxy.send(method, "/second", &[], body.as_bytes());
        assert_eq!(told.status, status, "{method} {body}");
        let heads = heads.lock().unwrap();
        let sent = heads.iter().filter(|head| head.contains("/second")).count();
        assert_eq!(sent, if status == 200 { 2 } else { 1 }, "{method} {body}");
        drop(heads);
        world.end(proxy);
    }
}

#[test]
fn an_upstream_of_several_addresses_of_which_one_listens() {
    let world = World::new();
    let address = scripted(|stream, _| stream.write_all(b"HTTP/1.0 200 OK\r\n\r\nok").unwrap());
    // Where the name has an IPv6 address, nobody is there.
    let config = config_in_front_of(address, "connect_timeout = '2s'", "").replace(
        &address.to_string(),
        &format!("localhost:{}", address.port()),
    );
    let proxy = world.start_with(&config);
    for method in ["GET", "POST"] {
        let told = proxy.send(method, "/", &[], b"");
        assert_eq!((told.status, &*told.text()), (200, "ok"));
    }
    world.end(proxy);
}
