//! What a client sent as one request reaches the upstream as one request, once, with nothing forged in it.

use std::{
    io::{Read as _, Write as _},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{self, eventually, pause, read_one},
    proxy::World,
    scripted::{head, in_front_of, scripted},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// A server that answers each head at once and keeps all of them.
fn answering() -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let address = scripted(move |stream, first| {
        let mut next = Some(first);
        while let Some(head_of_one) = next {
            kept.lock().unwrap().push(head_of_one);
            if stream.write_all(OK).is_err() {
                return;
            }
            next = head(stream);
        }
    });
    (address, heads)
}

#[test]
fn the_rest_of_a_body_is_never_a_request() {
    // The upstream answers before the body has come; the client goes on with it after every time-out.
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let world = World::new();
        let (address, heads) = answering();
        let proxy = in_front_of(&world, address, "", "stall_timeout = '1s'");
        let mut stream = client::connect(proxy.address());
        let start =
            format!("POST /early HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\nb\r\n0123456789");
        stream.write_all(start.as_bytes()).unwrap();
        assert_eq!(read_one(&mut stream).status, 200);
        // Between the second after which a quiet connection is parked, and the one in which it would be closed.
        pause(Duration::from_millis(1700));
        let rest = b"DELETE /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let _ = stream.write_all(rest);
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(
            all.is_empty(),
            "an answer to the body: {}",
            String::from_utf8_lossy(&all)
        );
        let heads = heads.lock().unwrap();
        assert!(
            heads.len() == 1 && heads[0].starts_with("POST /base/early "),
            "{heads:?}"
        );
        drop(heads);
        world.end(proxy);
    }
}

#[test]
fn a_body_that_goes_on_after_its_answer_is_never_a_request() {
    let world = World::new();
    // Answers early and reads no more.
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let address = scripted(move |stream, head| {
        kept.lock().unwrap().push(head);
        stream.write_all(OK).unwrap();
        pause(Duration::from_secs(6));
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"POST /early HTTP/1.1\r\nHost: localhost\r\nContent-Length: 900000000\r\n\r\n")
        .unwrap();
    assert_eq!(read_one(&mut stream).status, 200);
    // As much as the buffers on the way take, and on for longer than a connection is quiet before it is parked.
    let body = b"GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(1000);
    stream
        .set_write_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let began = Instant::now();
    while began.elapsed() < Duration::from_secs(3) {
        match stream.write(&body) {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => break,
            _ => {}
        }
    }
    let heads = heads.lock().unwrap();
    assert!(heads.len() == 1, "the body arrived as a request: {heads:?}");
    drop(heads);
    let refused = proxy.metric("watsonx_auth_proxy_faults_total{route=\"none\"");
    assert!(refused < 1.0, "the body was read as a request");
    world.end(proxy);
}

#[test]
fn requests_with_a_body_use_their_connection_again() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    for _ in 0..5 {
        let request = b"POST /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
        stream.write_all(request).unwrap();
        assert_eq!(read_one(&mut stream).status, 200);
    }
    let opened =
        proxy.metric("watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"platform\"}");
    assert!((opened - 1.0).abs() < f64::EPSILON, "{opened} connections");
    world.end(proxy);
}

#[test]
fn a_request_that_was_answered_is_not_sent_again() {
    let world = World::new();
    let heads = Arc::new(Mutex::new(Vec::new()));
    let kept = Arc::clone(&heads);
    let address = scripted(move |stream, first| {
        kept.lock().unwrap().push(first);
        stream.write_all(OK).unwrap();
        if let Some(second) = head(stream) {
            kept.lock().unwrap().push(second);
            stream.write_all(b"GARBAGE\r\n\r\n").unwrap();
        }
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    for (method, status) in [("GET", 200), ("DELETE", 502)] {
        stream
            .write_all(format!("{method} /x HTTP/1.1\r\nHost: localhost\r\n\r\n").as_bytes())
            .unwrap();
        assert_eq!(read_one(&mut stream).status, status);
    }
    let heads = heads.lock().unwrap();
    assert_eq!(
        heads
            .iter()
            .filter(|head| head.starts_with("DELETE"))
            .count(),
        1,
        "{heads:?}"
    );
    drop(heads);
    world.end(proxy);
}

#[test]
fn nothing_is_forged_in_trailers() {
    let world = World::new();
    let got = Arc::new(Mutex::new(String::new()));
    let kept = Arc::clone(&got);
    let address = scripted(move |stream, head| {
        let mut all = head.into_bytes();
        while client::find(&all, b"\r\n0\r\n").is_none() {
            all.extend(client::read_some(stream));
        }
        stream.write_all(OK).unwrap();
        let _ = stream.read_to_end(&mut all);
        *kept.lock().unwrap() = String::from_utf8(all).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let request = b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: iam-token\r\n\
        Connection: close\r\n\r\n4\r\nbody\r\n0\r\nIam-Token: forged\r\n\r\n";
    assert_eq!(
        client::exchange(client::connect(proxy.address()), request).status,
        200
    );
    world.end(proxy);
    let got = eventually("the upstream's end", || {
        Some(got.lock().unwrap().clone()).filter(|got| !got.is_empty())
    });
    assert!(
        got.contains("4\r\nbody\r\n0\r\n") && !got.contains("forged"),
        "{got}"
    );
}

#[test]
fn an_upstream_is_not_late_while_the_client_owes_the_body() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0" }
[upstream.hasty]
url = "PLATFORM"
tls = { ca = "ca.crt" }
first_byte_timeout = "3s"
[route.hasty]
path = "/"
upstream = "hasty"
attach = "platform"
"#
        .replace("PLATFORM", &world.simulator.platform_url())
        .as_str(),
    );
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"POST /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8\r\n\r\nhalf")
        .unwrap();
    pause(Duration::from_secs(7));
    stream.write_all(b"half").unwrap();
    assert_eq!(read_one(&mut stream).status, 200);
    world.end(proxy);
}

#[test]
fn a_client_that_writes_all_before_it_reads_sees_why_it_was_refused() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let large = vec![b'x'; 8 << 20];
    for target in ["/icp4d-api/v1/users", "/a//b"] {
        let answer = proxy.send("POST", target, &[], &large);
        assert!(
            matches!(answer.status, 400 | 403),
            "{target}: {}",
            answer.status
        );
    }
    assert!(world.got().is_empty());
    world.end(proxy);
}

#[test]
fn a_client_that_goes_away_in_its_body_is_counted_as_gone() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    for framing in ["Content-Length: 1000", "Transfer-Encoding: chunked"] {
        let before = proxy
            .metric("watsonx_auth_proxy_faults_total{route=\"platform\",code=\"client_gone\"}");
        let mut stream = client::connect(proxy.address());
        let start = format!(
            "POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\n{framing}\r\n\r\n4\r\nbody\r\n"
        );
        stream.write_all(start.as_bytes()).unwrap();
        eventually("the request at the upstream", || {
            (!world.got().is_empty()).then_some(())
        });
        drop(stream);
        eventually("a client that is gone", || {
            let gone = proxy
                .metric("watsonx_auth_proxy_faults_total{route=\"platform\",code=\"client_gone\"}");
            (gone > before).then_some(())
        });
        world.simulator.clear_requests();
    }
    world.end(proxy);
}

#[test]
fn a_refused_body_does_not_end_that_of_the_next_request() {
    let world = World::new();
    let proxy = world.start(
        r#"
listener.local = { address = "127.0.0.1:0", stall_timeout = "1s" }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
deny = ["/denied"]
"#,
    );
    proxy.ready();
    let smuggled = b"GET /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let refused = |length: usize| {
        format!("POST /denied HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n")
    };
    // The end of the first body and the second head in one piece: the first is still discarded when the second is
    // refused. Then its body, at several moments around the stall time-out.
    for wait in [900, 1300, 1600, 1900, 2300] {
        let mut stream = client::connect(proxy.address());
        stream
            .write_all(format!("{}12345", refused(10)).as_bytes())
            .unwrap();
        assert_eq!(read_one(&mut stream).status, 403);
        stream
            .write_all(format!("67890{}", refused(smuggled.len())).as_bytes())
            .unwrap();
        assert_eq!(read_one(&mut stream).status, 403);
        pause(Duration::from_millis(wait));
        let _ = stream.write_all(smuggled);
        stream
            .set_read_timeout(Some(Duration::from_millis(500)))
            .unwrap();
        let mut all = [0; 100];
        let size = stream.read(&mut all).unwrap_or(0);
        assert_eq!(size, 0, "{wait}: {}", String::from_utf8_lossy(&all));
    }
    assert!(world.got().is_empty(), "{:#?}", world.got());
    world.end(proxy);
}

#[test]
fn a_connection_lives_on_after_a_refused_body() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    for _ in 0..3 {
        let refused =
            b"POST /usermgmt/v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody";
        stream.write_all(refused).unwrap();
        assert_eq!(read_one(&mut stream).status, 403);
        stream
            .write_all(b"GET /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        assert_eq!(read_one(&mut stream).status, 200);
    }
    world.end(proxy);
}

#[test]
fn an_answer_before_the_end_of_a_large_body_is_seen() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let _ = stream.write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\n\r\nbig");
        pause(Duration::from_secs(5));
    });
    let proxy = in_front_of(&world, address, "", "");
    let large = vec![b'x'; 8 << 20];
    assert_eq!(proxy.send("POST", "/x", &[], &large).status, 413);
    world.end(proxy);

    let limited = world.start(
        "listener.local = { address = '127.0.0.1:0' }\n[route.small]\npath = '/'\nupstream = 'platform'\n\
         attach = 'platform'\nmax_body = 10\n",
    );
    limited.ready();
    let head = b"POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n";
    let chunk = [
        format!("{:x}\r\n", large.len()).as_bytes(),
        &large,
        b"\r\n0\r\n\r\n",
    ]
    .concat();
    let answer = client::exchange(
        client::connect(limited.address()),
        &[&head[..], &chunk].concat(),
    );
    assert_eq!(
        (answer.status, answer.code()),
        (413, "body_too_large".into())
    );
    world.end(limited);
}

#[test]
fn who_waits_for_leave_to_send_a_refused_body_gets_none() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    let head = b"POST /usermgmt/v1/x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n";
    stream.write_all(head).unwrap();
    assert_eq!(read_one(&mut stream).status, 403, "and not 100");
    let mut allowed = client::connect(proxy.address());
    let head = b"POST /simulator/status/200 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n";
    allowed.write_all(head).unwrap();
    let mut leave = Vec::new();
    while client::find(&leave, b"\r\n\r\n").is_none() {
        leave.extend(client::read_some(&mut allowed));
    }
    assert!(
        leave.starts_with(b"HTTP/1.1 100 "),
        "{}",
        String::from_utf8_lossy(&leave)
    );
    allowed.write_all(b"body").unwrap();
    assert_eq!(read_one(&mut allowed).status, 200);
    world.end(proxy);
}
