//! Upstreams that speak HTTP/2: few connections, no request lost by their end, no stream at the cost of another.

use std::{
    io::{Read as _, Write as _},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use bytes::Bytes;
use h2::Reason;
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
            pause(Duration::from_millis(300)).await;
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
                    pause(Duration::from_millis(700)).await;
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
    let keys = format!("{HTTP2}\nfirst_byte_timeout = '1s'\nidle_timeout = '1s'");
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
    world.end(proxy);
}

#[tokio::test]
async fn a_rejected_token_is_replaced_whatever_is_spoken() {
    for protocol in [HTTP2, "protocol = 'http1'"] {
        let world = World::new();
        let old = world.simulator.license_token();
        let address = if protocol == HTTP2 {
            upstream(100, move |_, request, mut answer| {
                let old = old.clone();
                Box::pin(async move {
                    let rejected = request.headers()["iam-token"] == *old;
                    let (bytes, _) = drain(&mut request.into_body()).await.unwrap();
                    let status = if rejected { 401 } else { 200 };
                    respond(&mut answer, ok().status(status), bytes);
                })
            })
        } else {
            crate::scripted::scripted(move |stream, head| {
                let mut body = [0; 3];
                stream.read_exact(&mut body).unwrap();
                let status = if head.contains(&old) {
                    "401 No"
                } else {
                    "200 OK"
                };
                let answer = format!(
                    "HTTP/1.1 {status}\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc"
                );
                stream.write_all(answer.as_bytes()).unwrap();
            })
        };
        let proxy = in_front_of(&world, address, protocol, "");
        proxy.ready();
        // A 401 on a token that is younger than ten seconds stands.
        pause(Duration::from_millis(10_500)).await;
        world.write("license-token", "another-license-token");
        let client = Http2::connect(proxy.address()).await;
        let request = Request::post(uri("/")).header("content-length", "3");
        let reply = client
            .send(request.body(()).unwrap(), Some(b"abc"))
            .await
            .unwrap();
        assert_eq!(
            (reply.status, &*reply.text()),
            (StatusCode::OK, "abc"),
            "{protocol}"
        );
        world.end(proxy);
    }
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
