//! What a client sees when the upstream misbehaves: the right status and code, and never an inner error.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{self, Answer, pause},
    proxy::World,
    scripted::{Nobody, in_front_of, scripted},
};

fn assert_fault(answer: &Answer, status: u16, code: &str) {
    assert_eq!(
        (answer.status, &*answer.code()),
        (status, code),
        "{}",
        answer.text()
    );
    let body = answer.json();
    assert_eq!(body["error"]["code"], code);
    assert_eq!(body["error"]["type"], "proxy");
    assert_eq!(body["status_code"], status);
    assert!(body["errors"][0]["message"].is_string() && body["errors"][0]["more_info"].is_string());
    assert_eq!(body["trace"].as_str(), answer.header("x-request-id"));
    assert!(answer.header("proxy-status").unwrap().contains(code));
    assert_eq!(answer.header("content-type"), Some("application/json"));
}

#[test]
fn nobody_there() {
    let world = World::new();
    let nobody = Nobody::new();
    let proxy = in_front_of(&world, nobody.address(), "", "");
    let answer = proxy.get("/", &["X-Request-Id: mine"]);
    assert_fault(&answer, 502, "upstream_unreachable");
    assert_eq!(answer.header("x-request-id"), Some("mine"));
    assert!(
        !answer.text().contains("127.0.0.1"),
        "the upstream's address is told"
    );
    world.end(proxy);
}

#[test]
fn answers_that_are_not_http() {
    for junk in [
        &b""[..],
        b"junk\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
    ] {
        let world = World::new();
        let address = scripted(move |stream, _| drop(stream.write_all(junk)));
        let proxy = in_front_of(&world, address, "", "");
        assert_fault(&proxy.get("/", &[]), 502, "upstream_protocol");
        assert!(proxy.metric("watsonx_auth_proxy_faults_total{route=\"odd\",code=\"upstream_protocol\"}") >= 1.0);
        world.end(proxy);
    }
}

#[test]
fn a_body_cut_short_is_seen_as_cut() {
    let world = World::new();
    let address = scripted(|stream, _| {
        drop(stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n"))
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request("GET", "/", &[], b""))
        .unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert!(client::find(&all, b"abc").is_some());
    assert!(
        client::find(&all, b"0\r\n\r\n").is_none(),
        "a clean end: {}",
        String::from_utf8_lossy(&all)
    );
    world.end(proxy);
}

#[test]
fn time_outs_of_the_upstream() {
    let world = World::new();
    let silent = scripted(|_, _| pause(Duration::from_secs(20)));
    let proxy = in_front_of(&world, silent, "first_byte_timeout = '500ms'", "");
    let began = Instant::now();
    assert_fault(&proxy.get("/", &[]), 504, "upstream_timeout");
    assert!(
        (Duration::from_millis(500)..Duration::from_secs(15)).contains(&began.elapsed()),
        "{:?}",
        began.elapsed()
    );
    world.end(proxy);

    let stalled = scripted(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        pause(Duration::from_secs(20));
    });
    let proxy = in_front_of(&world, stalled, "idle_timeout = '500ms'", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request("GET", "/", &[], b""))
        .unwrap();
    let began = Instant::now();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert!(all.ends_with(b"abc"), "{}", String::from_utf8_lossy(&all));
    assert!(began.elapsed() < Duration::from_secs(15));
    assert!(
        proxy.metric("watsonx_auth_proxy_faults_total{route=\"odd\",code=\"upstream_timeout\"}")
            >= 1.0
    );
    world.end(proxy);
}

#[test]
fn too_large_a_body() {
    let world = World::new();
    let proxy = world.start(
        "listener.local = { address = '127.0.0.1:0' }\n[route.small]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\nmax_body = 10\n",
    );
    proxy.ready();
    let told = proxy.send("POST", "/simulator/status/200", &[], &[b'x'; 11]);
    assert_fault(&told, 413, "body_too_large");
    let chunked = b"POST /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\nb\r\n01234567890\r\n0\r\n\r\n";
    let counted = client::exchange(client::connect(proxy.address()), chunked);
    assert_fault(&counted, 413, "body_too_large");
    assert_eq!(
        proxy
            .send("POST", "/simulator/status/200", &[], &[b'x'; 10])
            .status,
        200
    );
    world.end(proxy);
}

#[test]
fn the_upstreams_own_errors_pass_untouched() {
    let world = World::new();
    let proxy = world.usual();
    for status in [400, 403, 404, 429, 500, 503] {
        let answer = proxy.get(&format!("/simulator/status/{status}"), &[]);
        assert_eq!(answer.status, status);
        assert!(answer.header("proxy-status").is_none());
    }
    world.end(proxy);
}

#[test]
fn an_idle_connection_that_the_upstream_closed_is_not_noticed() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    for round in 0..20 {
        assert_eq!(
            proxy.get("/simulator/status/200", &[]).status,
            200,
            "{round}"
        );
        world.simulator.close_connections();
    }
    world.end(proxy);
}

#[test]
fn a_loop_ends() {
    let world = World::new();
    // The proxy's own port is known only once it listens: a relay in between.
    let relay = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = in_front_of(&world, relay.local_addr().unwrap(), "", "");
    let address = proxy.address();
    thread::spawn(move || {
        for stream in relay.incoming() {
            let mut from = stream.unwrap();
            thread::spawn(move || {
                let mut head = String::from_utf8(client::read_some(&mut from)).unwrap();
                let host = head
                    .lines()
                    .find(|line| line.to_ascii_lowercase().starts_with("host:"))
                    .unwrap()
                    .to_owned();
                head = head.replace(&host, "Host: localhost\r\nConnection: close");
                let mut to = client::connect(address);
                to.write_all(head.as_bytes()).unwrap();
                let mut answer = Vec::new();
                let _ = to.read_to_end(&mut answer);
                let _ = from.write_all(&answer);
            });
        }
    });
    assert_fault(&proxy.get("/", &[]), 508, "loop_detected");
    world.end(proxy);
}

#[test]
fn an_upstream_that_accepts_nobody_is_late() {
    let world = World::new();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket
        .bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into())
        .unwrap();
    socket.listen(0).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Until its queue is full: then the kernel says nothing at all.
    let mut waiting = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(300)) {
        waiting.push(stream);
        assert!(waiting.len() < 100, "the queue is never full");
    }
    let proxy = in_front_of(&world, address, "connect_timeout = '500ms'", "");
    let began = Instant::now();
    assert_fault(&proxy.get("/", &[]), 504, "upstream_timeout");
    assert!(
        began.elapsed() >= Duration::from_millis(500),
        "{:?}",
        began.elapsed()
    );
    world.end(proxy);
}
