//! Clients speak HTTP/2, agreed on or not, and mean by it what they would over HTTP/1.1.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    sync::mpsc,
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode};
use rustix::process::Signal;
use tokio::time::Instant;

use crate::{
    client::{self, PATIENCE},
    proxy::World,
    scripted::{config_in_front_of, in_front_of, scripted},
    streams::{Http2, pause, read, settle, uri, within},
};

const OK: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

/// Everything that comes on a connection until it ends, or until `end` has come.
fn until(stream: &mut TcpStream, end: &[u8]) -> Vec<u8> {
    let mut all = Vec::new();
    let mut piece = [0; 4096];
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    while client::find(&all, end).is_none() {
        match stream.read(&mut piece) {
            Ok(size) if size > 0 => all.extend(&piece[..size]),
            _ => break,
        }
    }
    all
}

#[tokio::test]
async fn a_request_is_the_same_over_either_protocol() {
    let world = World::new();
    let (heads, got) = mpsc::channel();
    let address = scripted(move |stream, head| {
        heads.send(head).unwrap();
        stream.write_all(OK).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let client = Http2::connect(proxy.address()).await;
    let request = Request::get(uri("/a?b=%20c"))
        .header("authorization", "Bearer forged")
        .header("iam_token", "forged")
        .header("te", "trailers")
        .header("x-kept", "1")
        .header("x-kept", "2");
    let reply = client.send(request.body(()).unwrap(), None).await.unwrap();
    assert_eq!((reply.status, &*reply.text()), (StatusCode::OK, "ok"));
    assert_eq!(reply.headers["content-length"], "2");
    let via = reply.headers["via"].to_str().unwrap();
    assert!(via.starts_with("1.1 watsonx-auth-proxy-"), "{via}");
    let head = got.recv_timeout(PATIENCE).unwrap();
    assert!(head.contains("via: 2.0 watsonx-auth-proxy-"), "{head}");
    let mut lines: Vec<_> = head
        .lines()
        .filter(|line| !line.starts_with("via: "))
        .collect();
    lines[1..].sort_unstable();
    let token = format!("iam-token: {}", world.simulator.license_token());
    assert_eq!(
        lines,
        [
            "GET /base/a?b=%20c HTTP/1.1",
            "",
            &format!("host: {address}"),
            &token,
            "te: trailers",
            "x-kept: 1",
            "x-kept: 2",
        ]
    );

    // HEAD has a length and no body.
    let head = Request::head(uri("/")).body(()).unwrap();
    let reply = client.send(head, None).await.unwrap();
    assert_eq!(reply.headers["content-length"], "2");
    assert!(reply.body.is_empty());

    // The address is said twice, and differently.
    let request = Request::get(uri("/")).header("host", "elsewhere");
    let reply = client.send(request.body(()).unwrap(), None).await.unwrap();
    assert_eq!(reply.status, StatusCode::BAD_REQUEST);
    for target in ["/a//b", "/%2e%2e/x"] {
        let reply = client.get(target).await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST, "{target}");
    }
    let request = Request::builder().method(Method::TRACE).uri(uri("/"));
    let reply = client.send(request.body(()).unwrap(), None).await.unwrap();
    assert_eq!(reply.status, StatusCode::METHOD_NOT_ALLOWED);
    world.end(proxy);
}

#[tokio::test]
async fn a_body_without_a_length_goes_on_in_chunks_with_its_trailers_but_no_forged_ones() {
    let world = World::new();
    let (bodies, got) = mpsc::channel();
    let address = scripted(move |stream, head| {
        let body = until(stream, b"\r\n\r\n");
        bodies
            .send((head, String::from_utf8(body).unwrap()))
            .unwrap();
        stream.write_all(OK).unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let client = Http2::connect(proxy.address()).await;
    let request =
        Request::post(uri("/")).header("trailer", "x-sum, authorization, iam_token, host");
    let (answer, mut body) = client.begin(request.body(()).unwrap());
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let mut trailers = HeaderMap::new();
    for (name, value) in [
        ("x-sum", "1"),
        ("authorization", "Bearer forged"),
        ("iam_token", "forged"),
        ("host", "forged"),
    ] {
        trailers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    body.send_trailers(trailers).unwrap();
    assert_eq!(within(read(answer)).await.unwrap().status, StatusCode::OK);
    let (head, body) = got.recv_timeout(PATIENCE).unwrap();
    assert!(head.contains("transfer-encoding: chunked\r\n"), "{head}");
    assert_eq!(
        body.to_ascii_lowercase(),
        "3\r\nabc\r\n0\r\nx-sum: 1\r\n\r\n"
    );
    world.end(proxy);
}

#[tokio::test]
async fn what_a_client_calls_off_ends_upstream_and_never_looks_whole() {
    for reason in [Reason::CANCEL, Reason::NO_ERROR] {
        let world = World::new();
        let (bodies, mut got) = tokio::sync::mpsc::unbounded_channel();
        let (begun, begins) = tokio::sync::mpsc::unbounded_channel();
        let address = scripted(move |stream, _| {
            begun.send(()).unwrap();
            bodies.send(until(stream, b"0\r\n\r\n")).unwrap();
        });
        let mut begins = begins;
        let proxy = in_front_of(&world, address, "", "");
        let client = Http2::connect(proxy.address()).await;
        let (answer, mut body) = client.begin(Request::post(uri("/")).body(()).unwrap());
        body.send_data(Bytes::from_static(b"abc"), false).unwrap();
        within(begins.recv()).await.unwrap();
        pause(Duration::from_secs(1)).await;
        body.send_reset(reason);
        let got = within(got.recv()).await.unwrap();
        assert_eq!(
            got,
            b"3\r\nabc\r\n",
            "{reason:?}: {}",
            String::from_utf8_lossy(&got)
        );
        drop(answer);
        world.end(proxy);
    }
}

#[tokio::test]
async fn a_body_of_another_length_than_was_said_is_cut() {
    let world = World::new();
    let (bodies, got) = mpsc::channel();
    let address = scripted(move |stream, _| bodies.send(until(stream, b"xyz")).unwrap());
    let proxy = in_front_of(&world, address, "", "");
    let client = Http2::connect(proxy.address()).await;
    for sent in ["ab", "abcdef"] {
        let request = Request::post(uri("/")).header("content-length", "4");
        let error = client
            .send(request.body(()).unwrap(), Some(sent.as_bytes()))
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::PROTOCOL_ERROR), "{sent}");
    }
    // Where anything of it went on, it was cut.
    while let Ok(got) = got.recv_timeout(Duration::from_secs(1)) {
        assert!(got.len() < 4, "{}", String::from_utf8_lossy(&got));
    }
    world.end(proxy);
}

#[tokio::test]
async fn requests_on_a_connection_do_not_wait_for_each_other() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let client = Http2::connect(proxy.address()).await;
    let slow = client.clone();
    let slow = tokio::spawn(async move { slow.get("/simulator/slow?ms=3000").await });
    let began = Instant::now();
    for _ in 0..20 {
        let reply = client.get("/simulator/status/200").await.unwrap();
        assert_eq!(reply.status, StatusCode::OK);
    }
    assert!(!slow.is_finished() || began.elapsed() > Duration::from_secs(3));
    assert_eq!(within(slow).await.unwrap().unwrap().status, StatusCode::OK);
    // A stream that nobody reads holds up no other, nor does one whose body stops.
    let (stopped, mut sending) =
        client.begin(Request::post(uri("/simulator/mirror")).body(()).unwrap());
    sending
        .send_data(Bytes::from(vec![b'x'; 60_000]), false)
        .unwrap();
    let reply = client.get("/simulator/status/200").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK);
    drop((stopped, sending));
    settle(&proxy).await;
    world.end(proxy);
}

#[tokio::test]
async fn a_refusal_comes_whole_however_much_was_to_be_sent() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let client = Http2::connect(proxy.address()).await;
    for _ in 0..120 {
        let request = Request::post(uri("/a//b")).header("content-length", "10000000");
        let (answer, mut body) = client.begin(request.body(()).unwrap());
        body.send_data(Bytes::from(vec![b'x'; 200_000]), false)
            .unwrap();
        let reply = within(read(answer)).await.unwrap();
        assert_eq!(reply.status, StatusCode::BAD_REQUEST);
        assert!(reply.text().contains("bad_request"));
        let reason = within(std::future::poll_fn(|cx| body.poll_reset(cx))).await;
        assert_eq!(reason.unwrap(), Reason::NO_ERROR, "no need to go on");
    }
    let reply = client.get("/simulator/status/200").await.unwrap();
    assert_eq!(reply.status, StatusCode::OK, "nothing of it is left");
    world.end(proxy);
}

const HASTY: &str = "head_timeout = '1s'\nkeep_alive = '2s'\nstall_timeout = '1s'";

#[tokio::test]
async fn a_stalled_stream_is_reset_alone_and_an_idle_connection_is_closed() {
    let world = World::new();
    let address = scripted(|stream, head| {
        if head.starts_with("GET /base/slow") {
            client::pause(Duration::from_secs(6));
            stream.write_all(OK).unwrap();
        } else if head.starts_with("GET /base/large") {
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 10000000\r\n\r\n");
            let _ = stream.write_all(&vec![b'x'; 10_000_000]);
        } else if head.starts_with("GET") {
            stream.write_all(OK).unwrap();
        } else {
            until(stream, b"never");
        }
    });
    let proxy = in_front_of(&world, address, "", HASTY);
    let client = Http2::connect(proxy.address()).await;
    // The upstream's time is not the client's.
    let slow = client.clone();
    let slow = tokio::spawn(async move { slow.get("/slow").await });

    let (answer, mut body) = client.begin(Request::post(uri("/")).body(()).unwrap());
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    let error = within(read(answer)).await.unwrap_err();
    assert!(
        error.is_reset() && error.is_remote(),
        "a body that stops: {error:?}"
    );

    let request = Request::get(uri("/large")).body(()).unwrap();
    let began = Instant::now();
    let (answer, _) = client.0.clone().send_request(request, true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    let error = within(async {
        // Everything that is there, but no room for more.
        loop {
            match body.data().await {
                Some(Ok(_)) => {}
                Some(Err(error)) => return error,
                None => panic!("a clean end"),
            }
        }
    })
    .await;
    assert!(
        error.is_reset() && error.is_remote(),
        "nobody reads: {error:?}"
    );
    assert!(began.elapsed() > Duration::from_millis(900));
    // It held all room of the connection.
    drop(body);
    assert_eq!(within(slow).await.unwrap().unwrap().status, StatusCode::OK);

    let began = Instant::now();
    assert_eq!(client.get("/").await.unwrap().status, StatusCode::OK);
    let mut sender = client.0.clone();
    within(async {
        while sender.clone().ready().await.is_ok() {
            pause(Duration::from_millis(50)).await;
        }
    })
    .await;
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    assert!(
        sender
            .send_request(Request::get(uri("/")).body(()).unwrap(), true)
            .is_err()
    );
    world.end(proxy);
}

#[tokio::test]
async fn the_end_lets_streams_finish_and_says_go_away() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let client = Http2::connect(proxy.address()).await;
    let slow = client.clone();
    let slow = tokio::spawn(async move { slow.get("/simulator/slow?ms=2000").await });
    let idle = Http2::connect(proxy.address()).await;
    assert_eq!(
        idle.get("/simulator/status/200").await.unwrap().status,
        StatusCode::OK
    );
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(within(slow).await.unwrap().unwrap().status, StatusCode::OK);
    let mut proxy = proxy;
    assert_eq!(proxy.wait().code(), Some(0));
    assert!(began.elapsed() < Duration::from_secs(20), "in time");
    assert!(idle.0.clone().ready().await.is_err());
}

#[tokio::test]
async fn without_asking_on_a_unix_socket_too() {
    let world = World::new();
    let address = scripted(|stream, _| stream.write_all(OK).unwrap());
    let config = config_in_front_of(address, "", "").replace(
        "address = '127.0.0.1:0'\n\n",
        "address = 'unix:here.sock'\n",
    );
    let proxy = world.start_with(&config);
    proxy.ready();
    let stream = tokio::net::UnixStream::connect(world.path("here.sock")).await;
    let (sender, connection) = h2::client::handshake(stream.unwrap()).await.unwrap();
    tokio::spawn(connection);
    let client = Http2(sender);
    for _ in 0..3 {
        let reply = client.get("/").await.unwrap();
        assert_eq!((reply.status, &*reply.text()), (StatusCode::OK, "ok"));
    }
    world.end(proxy);
}
