//! An upgrade is no way past the steps of a request: only a WebSocket that both sides agree on becomes a tunnel.

use std::{
    io::{Read as _, Write as _},
    sync::{Mutex, mpsc},
};

use crate::{
    client::{self, read_one},
    proxy::World,
    scripted::in_front_of,
    streams,
    tls_both_ways::over_tls,
    websocket::{Between, SWITCH, handshake},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[test]
fn other_upgrades_go_on_as_plain_requests() {
    let key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n";
    let keyless = "Sec-WebSocket-Version: 13\r\n";
    for (request, version, lines) in [
        ("GET", "1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n".to_owned()),
        ("GET", "1.1", "Connection: Upgrade\r\nUpgrade: foo\r\n".to_owned()),
        ("GET", "1.1", format!("Connection: Upgrade\r\nUpgrade: foo\r\n{key}")),
        ("GET", "1.1", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{keyless}")),
        ("GET", "1.1", format!("Upgrade: websocket\r\n{key}")),
        ("POST", "1.1", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}")),
        ("GET", "1.1", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}Content-Length: 4\r\n")),
        ("GET", "1.0", format!("Connection: Upgrade\r\nUpgrade: websocket\r\n{key}")),
    ] {
        let between = Between::start("", "", "");
        let mut client = client::connect(between.proxy.address());
        let head = format!("{request} /x HTTP/{version}\r\nHost: localhost\r\n{lines}\r\n");
        client.write_all(head.as_bytes()).unwrap();
        if lines.contains("Content-Length") {
            client.write_all(b"body").unwrap();
        }
        let (mut upstream, got) = between.upstream();
        let got = got.to_ascii_lowercase();
        for gone in ["\r\nupgrade:", "\r\nconnection: upgrade", "\r\nhttp2-settings:"] {
            assert!(!got.contains(gone), "{head}\n{got}");
        }
        assert!(got.contains("\r\niam-token: "), "{got}");
        upstream.write_all(OK).unwrap();
        assert_eq!(read_one(&mut client).text(), "ok");
        between.end();
    }
}

#[test]
fn what_follows_another_upgrade_is_a_request_like_any_other() {
    let between = Between::start("", "", "");
    let mut client = client::connect(between.proxy.address());
    client
        .write_all(
            b"GET /first HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: foo\r\n\r\n\
              GET /second HTTP/1.1\r\nHost: localhost\r\nIam-Token: forged\r\nConnection: close\r\n\r\n",
        )
        .unwrap();
    let (mut upstream, _) = between.upstream();
    upstream
        .write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok")
        .unwrap();
    assert!(client::is_closed(&mut upstream), "nothing came behind it");
    let (mut upstream, second) = between.upstream();
    let secret = between.world.simulator.license_token();
    assert!(second.starts_with("GET /base/second "), "{second}");
    assert!(second.contains(&secret) && !second.contains("forged"));
    upstream.write_all(OK).unwrap();
    let mut all = String::new();
    client.read_to_string(&mut all).unwrap();
    assert_eq!(all.matches("HTTP/1.1 200 OK").count(), 2, "{all}");
    between.end();
}

#[test]
fn a_handshake_that_is_refused_ends_its_connection() {
    let behind = b"GET /behind HTTP/1.1\r\nHost: localhost\r\n\r\n";
    for (answer, status) in [
        (&b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno"[..], 403),
        (OK, 200),
        (b"HTTP/1.1 426 Upgrade Required\r\nSec-WebSocket-Version: 8\r\nContent-Length: 0\r\n\r\n", 426),
    ] {
        let between = Between::start("", "", "");
        let mut client = client::connect(between.proxy.address());
        let request = [&handshake("/chat", &[])[..], behind].concat();
        client.write_all(&request).unwrap();
        let (mut upstream, _) = between.upstream();
        upstream.write_all(answer).unwrap();
        let mut all = Vec::new();
        // What was behind the handshake is not read: the end may be a reset.
        let _ = client.read_to_end(&mut all);
        let answer = client::parse(&all);
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("connection"), Some("close"));
        assert!(client::is_closed(&mut upstream), "nothing came behind it");
        assert!(between.is_upstream_alone(), "what came behind it went on");
        between.end();
    }
}

#[test]
fn a_switch_that_nobody_asked_for_is_no_answer() {
    let without = |line: &str| String::from_utf8_lossy(SWITCH).replace(line, "");
    let plain = client::request("GET", "/plain", &[], b"");
    for (request, answer) in [
        (plain, String::from_utf8_lossy(SWITCH).into_owned()),
        (handshake("/chat", &[]), without("Upgrade: websocket\r\n")),
        (handshake("/chat", &[]), without("Connection: Upgrade\r\n")),
        (
            handshake("/chat", &[]),
            String::from_utf8_lossy(SWITCH).replace("Upgrade: websocket", "Upgrade: h2c"),
        ),
        (
            handshake("/chat", &[]),
            String::from_utf8_lossy(SWITCH)
                .replace("Upgrade: websocket", "Upgrade: websocket, foo"),
        ),
    ] {
        let between = Between::start("", "", "");
        let mut client = client::connect(between.proxy.address());
        client.write_all(&request).unwrap();
        let (mut upstream, _) = between.upstream();
        upstream.write_all(answer.as_bytes()).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let told = client::parse(&all);
        assert_eq!(
            (told.status, told.code()),
            (502, "upstream_protocol".into()),
            "{answer}"
        );
        assert_eq!(told.header("connection"), Some("close"));
        assert!(client::is_closed(&mut upstream));
        between.end();
    }
}

#[test]
fn a_page_of_another_origin_opens_none() {
    let between = Between::start("", "", "origins = ['https://listed.example']");
    for (line, status) in [
        ("Origin: https://evil.example", 403),
        ("Origin: null", 403),
        ("Host: evil.example", 400),
    ] {
        let mut client = client::connect(between.proxy.address());
        client.write_all(&handshake("/chat", &[line])).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let answer = client::parse(&all);
        assert_eq!(answer.status, status, "{line}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert!(between.is_upstream_alone());
    let mut client = client::connect(between.proxy.address());
    let listed = handshake("/chat", &["Origin: https://listed.example"]);
    client.write_all(&listed).unwrap();
    let (mut upstream, _) = between.upstream();
    upstream.write_all(SWITCH).unwrap();
    let head = crate::scripted::head(&mut client).unwrap();
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    drop((client, upstream));
    between.end();
}

#[test]
fn a_token_endpoint_and_a_path_that_is_not_allowed_are_closed_to_it() {
    let between = Between::start("", "", "");
    for target in ["/identity/token", "/a//b"] {
        let mut client = client::connect(between.proxy.address());
        client.write_all(&handshake(target, &[])).unwrap();
        let mut all = Vec::new();
        client.read_to_end(&mut all).unwrap();
        let answer = client::parse(&all);
        assert!([400, 403].contains(&answer.status), "{}", answer.head);
    }
    assert!(between.is_upstream_alone());
    between.end();
}

#[test]
fn over_tls_the_end_is_said_whatever_was_offered() {
    let between = Between::start("", "", "tls = { self_signed = true }");
    let ca = std::fs::read(between.world.path("watsonx-auth-proxy/ca.crt")).unwrap();
    let mut client = over_tls(&between.proxy, &ca, "localhost");
    let lines = ["Connection: Upgrade", "Upgrade: foo"];
    client
        .write_all(&client::request("GET", "/x", &lines, b""))
        .unwrap();
    let (mut upstream, _) = between.upstream();
    upstream.write_all(OK).unwrap();
    let mut all = Vec::new();
    client.read_to_end(&mut all).expect("an end that was said");
    assert_eq!(client::parse(&all).text(), "ok");
    drop(client);
    between.end();
}

/// Over HTTP/2 there is no upgrade to ask for: the upstream sees a request like any other, and says what it thinks of it.
#[test]
fn an_upstream_over_http2_gets_a_plain_request() {
    for (status, text) in [(200, "plain"), (426, "no")] {
        let world = World::new();
        let (tell, told) = mpsc::channel();
        let tell = Mutex::new(tell);
        let address = streams::upstream(100, move |_, request, mut answer| {
            tell.lock()
                .unwrap()
                .send(request.headers().clone())
                .unwrap();
            streams::respond(&mut answer, streams::ok().status(status), text);
            Box::pin(async {})
        });
        let proxy = in_front_of(&world, address, "protocol = 'http2'", "");
        let request = [&handshake("/chat", &[])[..], b"early"].concat();
        let answer = client::exchange(client::connect(proxy.address()), &request);
        assert_eq!((answer.status, &*answer.text()), (status, text));
        assert_eq!(answer.header("connection"), Some("close"));
        let headers = told.recv_timeout(client::PATIENCE).unwrap();
        assert!(headers.contains_key("iam-token"), "{headers:?}");
        assert!(!headers.contains_key("upgrade") && !headers.contains_key("connection"));
        world.end(proxy);
    }
}
