//! Upstreams that speak HTTP/2: what is said is the same, over few connections.

use std::{
    io::{Read as _, Write as _},
    sync::{Mutex, mpsc},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};

use crate::{
    client::{self, PATIENCE, eventually},
    proxy::World,
    scripted::in_front_of,
    streams::{Http2, drain, ok, pause, respond, upstream, uri, within},
};

const HTTP2: &str = "protocol = 'http2'";
const OPENED: &str = "watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"odd\"}";

#[test]
fn a_request_over_http1_is_the_same_over_http2() {
    let world = World::new();
    let (heads, got) = mpsc::channel();
    let heads = Mutex::new(heads);
    let address = upstream(100, move |_, request, mut answer| {
        let heads = heads.lock().unwrap().clone();
        Box::pin(async move {
            let (head, mut body) = request.into_parts();
            let (bytes, trailers) = drain(&mut body).await.unwrap();
            heads.send((head, bytes, trailers)).unwrap();
            let head = ok()
                .header("trailer", "x-sum")
                .header("set-cookie", "session=1");
            let mut stream = answer.send_response(head.body(()).unwrap(), false).unwrap();
            stream.send_data(Bytes::from_static(b"ok"), false).unwrap();
            let mut trailers = HeaderMap::new();
            trailers.insert("x-sum", "2".parse().unwrap());
            trailers.insert("set-cookie", "session=2".parse().unwrap());
            stream.send_trailers(trailers).unwrap();
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(
            b"POST /a?b HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTE: trailers, gzip\r\n\
              Connection: close, x-hop, te\r\nx-hop: 1\r\nKeep-Alive: 5\r\nAuthorization: Bearer forged\r\n\
              Trailer: x-end\r\n\r\n3\r\nabc\r\n0\r\nx-end: 1\r\nIam_Token: forged\r\n\r\n",
        )
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200 OK\r\n"), "{answer}");
    assert!(
        answer.ends_with("2\r\nok\r\n0\r\nx-sum: 2\r\n\r\n"),
        "{answer}"
    );
    assert!(!answer.contains("session"), "{answer}");
    assert!(answer.contains("via: 2.0 watsonx-auth-proxy-"), "{answer}");

    let (head, body, trailers) = got.recv_timeout(PATIENCE).unwrap();
    assert_eq!(head.uri.to_string(), format!("http://{address}/base/a?b"));
    assert_eq!(body, b"abc");
    let trailers = trailers.unwrap();
    assert_eq!(trailers["x-end"], "1");
    assert_eq!(trailers.len(), 1, "{trailers:?}");
    let mut names: Vec<_> = head.headers.keys().map(|name| name.as_str()).collect();
    names.sort_unstable();
    assert_eq!(names, ["iam-token", "te", "trailer", "via"]);
    assert_eq!(head.headers["te"], "trailers");
    let via = head.headers["via"].to_str().unwrap();
    assert!(via.starts_with("1.1 watsonx-auth-proxy-"), "{via}");
    world.end(proxy);
}

#[test]
fn answers_without_a_body_and_with_a_length() {
    let world = World::new();
    let address = upstream(100, |_, request, mut answer| {
        Box::pin(async move {
            let status = request
                .uri()
                .path()
                .rsplit('/')
                .next()
                .unwrap()
                .parse::<u16>()
                .ok();
            let head = ok()
                .status(status.unwrap_or(200))
                .header("content-length", "2");
            match (request.method().as_str(), status) {
                ("HEAD", _) | (_, Some(304)) => {
                    drop(answer.send_response(head.body(()).unwrap(), true))
                }
                (_, Some(204)) => {
                    drop(answer.send_response(ok().status(204).body(()).unwrap(), true))
                }
                _ => respond(&mut answer, head, "ok"),
            }
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    for (method, target, status, body) in [
        ("GET", "/", 200, "ok"),
        ("HEAD", "/", 200, ""),
        ("GET", "/204", 204, ""),
        ("GET", "/304", 304, ""),
        ("POST", "/", 200, "ok"),
    ] {
        let answer = proxy.send(method, target, &[], b"");
        assert_eq!(
            (answer.status, &*answer.text()),
            (status, body),
            "{method} {target}"
        );
        // hyper leaves it out of a 304, as it may.
        let length = (status == 200).then_some("2");
        assert_eq!(answer.header("content-length"), length, "{method} {target}");
    }
    world.end(proxy);
}

#[tokio::test]
async fn requests_share_a_connection_up_to_the_upstreams_limit() {
    let world = World::new();
    let address = upstream(4, |_, _, mut answer| {
        Box::pin(async move {
            // All of a round have come by then.
            pause(Duration::from_millis(1500)).await;
            respond(&mut answer, ok(), "ok");
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    let round = async |count: usize| {
        let all: Vec<_> = (0..count)
            .map(|_| {
                let client = client.clone();
                tokio::spawn(async move { client.get("/").await })
            })
            .collect();
        for one in all {
            let reply = one.await.unwrap().unwrap();
            assert_eq!((reply.status, &*reply.text()), (StatusCode::OK, "ok"));
        }
    };
    round(1).await;
    round(4).await;
    assert!(proxy.metric(OPENED) < 1.5, "one connection carries four");
    round(10).await;
    let opened = proxy.metric(OPENED);
    assert!((2.5..4.5).contains(&opened), "ten need three: {opened}");
    world.end(proxy);
}

#[test]
fn an_upstream_that_speaks_no_http2_is_told_of() {
    let world = World::new();
    let url = world.simulator.platform_url();
    let proxy = world.start_with(&format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.platform]\nurl = '{url}'\nprotocol = 'http2'\ntls = {{ ca = 'ca.crt' }}\n\
         [credential.open.token]\nvalue = {{ file = 'license-token' }}\n\
         [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'open'\n"
    ));
    let answer = proxy.get("/simulator/status/200", &[]);
    assert_eq!((answer.status, &*answer.code()), (502, "upstream_protocol"));
    eventually("the line in the log", || {
        proxy.printed().contains("speaks no HTTP/2").then_some(())
    });
    assert!(world.got().is_empty());
    world.end(proxy);
}

#[tokio::test]
async fn streams_pass_in_both_directions_at_once() {
    let world = World::new();
    let address = upstream(100, |_, request, mut answer| {
        Box::pin(async move {
            let mut body = request.into_body();
            let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
            while let Some(Ok(piece)) = body.data().await {
                body.flow_control().release_capacity(piece.len()).unwrap();
                stream.send_data(piece, false).unwrap();
            }
            stream.send_data(Bytes::new(), true).unwrap();
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    let (answer, mut body) = client.begin(Request::post(uri("/")).body(()).unwrap());
    let mut echo = within(answer).await.unwrap().into_body();
    for round in 0..5_u8 {
        body.send_data(Bytes::from(vec![round; 3]), false).unwrap();
        let piece = within(echo.data()).await.unwrap().unwrap();
        assert_eq!(piece, vec![round; 3]);
    }
    body.send_data(Bytes::new(), true).unwrap();
    assert!(
        within(echo.data())
            .await
            .is_none_or(|end| end.unwrap().is_empty())
    );
    world.end(proxy);
}
