//! A stream to an upstream ends as its request does, however that is: nothing is lost by it, and it costs no other.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
use http::{Request, StatusCode};

use crate::{
    client,
    proxy::World,
    scripted::in_front_of,
    streams::{Http2, drain, ok, pause, respond, settle, upstream, uri, within},
};

const HTTP2: &str = "protocol = 'http2'";
const OPENED: &str = "watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"odd\"}";

#[tokio::test]
async fn what_an_upstream_did_not_process_is_sent_again() {
    let world = World::new();
    let tries = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&tries);
    let address = upstream(100, move |connection, request, mut answer| {
        let tries = Arc::clone(&counted);
        Box::pin(async move {
            let path = request.uri().path().to_owned();
            let (bytes, _) = match path.as_str() {
                // Before anything of the body has been read.
                "/base/refused" if tries.fetch_add(1, Ordering::SeqCst) == 0 => {
                    return answer.send_reset(Reason::REFUSED_STREAM);
                }
                "/base/always" => return answer.send_reset(Reason::REFUSED_STREAM),
                _ => drain(&mut request.into_body()).await.unwrap(),
            };
            respond(&mut answer, ok().header("x-connection", connection), bytes);
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let answer = proxy.send("POST", "/refused", &[], b"abc");
    assert_eq!((answer.status, &*answer.text()), (200, "abc"));
    assert_eq!(proxy.get("/always", &[]).code(), "upstream_protocol");

    // The request that it says farewell with is answered, the next goes over a new connection.
    let farewell = proxy.send("POST", "/go-away", &[], b"abc");
    assert_eq!((farewell.status, &*farewell.text()), (200, "abc"));
    for _ in 0..5 {
        assert_eq!(proxy.send("POST", "/", &[], b"abc").status, 200);
    }
    let last = proxy.get("/", &[]);
    assert_ne!(last.header("x-connection"), farewell.header("x-connection"));
    world.end(proxy);
}

#[tokio::test]
async fn a_reset_answer_is_cut_and_a_late_one_costs_no_other() {
    let world = World::new();
    let address = upstream(100, |_, request, mut answer| {
        Box::pin(async move {
            match request.uri().path() {
                "/base/late" => pause(Duration::from_secs(600)).await,
                "/base/stops" => {
                    let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
                    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
                    pause(Duration::from_secs(600)).await;
                }
                "/base/slow" => {
                    pause(Duration::from_millis(100)).await;
                    respond(&mut answer, ok(), "slow");
                }
                path => {
                    let reason = match path {
                        "/base/cancel" => Reason::CANCEL,
                        _ => Reason::NO_ERROR,
                    };
                    let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
                    stream.send_data(Bytes::from_static(b"abc"), false).unwrap();
                    pause(Duration::from_millis(300)).await;
                    stream.send_reset(reason);
                }
            }
        })
    });
    let keys = format!("{HTTP2}\nfirst_byte_timeout = '5s'\nidle_timeout = '1s'");
    let proxy = in_front_of(&world, address, &keys, "");
    let client = Http2::connect(proxy.address()).await;
    let late = client.clone();
    let late = tokio::spawn(async move { late.get("/late").await });
    for path in ["/cancel", "/none", "/stops"] {
        let error = client.get(path).await.unwrap_err();
        assert_eq!(error.reason(), Some(Reason::INTERNAL_ERROR), "{path}");
        let answer = String::from_utf8(raw(&proxy, path)).unwrap();
        assert!(
            answer.ends_with("\r\n3\r\nabc\r\n"),
            "no last chunk: {answer}"
        );
    }
    let reply = client.get("/slow").await.unwrap();
    assert_eq!(reply.text(), "slow");
    assert_eq!(
        within(late).await.unwrap().unwrap().status,
        StatusCode::GATEWAY_TIMEOUT
    );
    assert!(proxy.metric(OPENED) < 1.5, "the connection stays");
    world.end(proxy);
}

fn raw(proxy: &crate::proxy::Proxy, target: &str) -> Vec<u8> {
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request("GET", target, &[], b""))
        .unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    all
}

#[tokio::test]
async fn what_a_client_calls_off_is_reset_upstream() {
    let world = World::new();
    let (ends, mut ended) = tokio::sync::mpsc::unbounded_channel();
    let address = upstream(100, move |_, request, mut answer| {
        let ends = ends.clone();
        Box::pin(async move {
            let takes_nothing = request.uri().path() == "/base/full";
            let mut body = request.into_body();
            ends.send(None).unwrap();
            if takes_nothing {
                let reason = std::future::poll_fn(|cx| answer.poll_reset(cx)).await;
                ends.send(Some(reason.ok())).unwrap();
                return;
            }
            let reason = tokio::select! {
                reason = std::future::poll_fn(|cx| answer.poll_reset(cx)) => reason.ok(),
                read = drain(&mut body) => read.err().and_then(|error| error.reason()),
            };
            ends.send(Some(reason)).unwrap();
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    // While the answer is waited for, while the body is sent; and by a client over HTTP/1.1.
    let request = Request::get(uri("/")).body(()).unwrap();
    let (answer, _) = client.0.clone().send_request(request, true).unwrap();
    assert_eq!(within(ended.recv()).await, Some(None));
    drop(answer);
    let (answer, mut body) = {
        let reason = within(ended.recv()).await.unwrap();
        assert!(reason.is_some(), "an end");
        client.begin(Request::post(uri("/")).body(()).unwrap())
    };
    body.send_data(Bytes::from_static(b"abc"), false).unwrap();
    assert_eq!(within(ended.recv()).await, Some(None));
    body.send_reset(Reason::CANCEL);
    let reason = within(ended.recv()).await.unwrap();
    assert_eq!(reason, Some(Some(Reason::CANCEL)));
    drop(answer);
    // While the upstream has no room for more of it.
    let (answer, mut body) = client.begin(Request::post(uri("/full")).body(()).unwrap());
    body.send_data(Bytes::from(vec![b'x'; 200_000]), false)
        .unwrap();
    assert_eq!(within(ended.recv()).await, Some(None));
    pause(Duration::from_millis(300)).await;
    body.send_reset(Reason::CANCEL);
    let reason = within(ended.recv()).await.unwrap();
    assert_eq!(reason, Some(Some(Reason::CANCEL)));
    drop(answer);
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10\r\n\r\nabc")
        .unwrap();
    assert_eq!(within(ended.recv()).await, Some(None));
    drop(stream);
    let reason = within(ended.recv()).await.unwrap();
    assert_eq!(reason, Some(Some(Reason::CANCEL)));
    world.end(proxy);
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_up_nobody() {
    let world = World::new();
    let address = upstream(100, |_, request, mut answer| {
        Box::pin(async move {
            let large = request.uri().path() == "/base/large";
            let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
            let body = if large {
                vec![b'x'; 4 << 20]
            } else {
                b"small".to_vec()
            };
            let mut body = Bytes::from(body);
            while !body.is_empty() {
                stream.reserve_capacity(body.len());
                let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await
                else {
                    return;
                };
                let piece = body.split_to(room.min(body.len()));
                let last = body.is_empty();
                if stream.send_data(piece, last).is_err() {
                    return;
                }
            }
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    client.get("/").await.unwrap();
    let before = proxy.resident();
    let mut stalled = Vec::new();
    for _ in 0..60 {
        let request = Request::get(uri("/large")).body(()).unwrap();
        let (answer, _) = client.0.clone().send_request(request, true).unwrap();
        stalled.push(within(answer).await.unwrap().into_body());
    }
    // Another connection, since the client's own windows are its own affair.
    let other = Http2::connect(proxy.address()).await;
    for _ in 0..10 {
        assert_eq!(other.get("/").await.unwrap().text(), "small");
    }
    let grown = proxy.resident().saturating_sub(before);
    assert!(
        grown < 60 << 20,
        "{grown} bytes for 60 streams of 4 MiB each"
    );
    drop(stalled);
    settle(&proxy).await;
    world.end(proxy);
}
