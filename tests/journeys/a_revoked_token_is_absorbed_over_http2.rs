//! A 401 is absorbed whatever client and upstream speak: with a body, with trailers, and while the body is still coming.

use std::{
    io::Write as _,
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, Request, header};

use crate::{
    choosy::{Choosy, logged_in, pass_freshness, replays, short_lived},
    client::{self, connect, find, read_one, read_some},
    scripted::scripted,
    streams::{Http2, drain, ok, pause, read, respond, upstream, uri, within},
};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Speaks {
    Http1,
    Http2,
}

/// What of a request has been sent when the 401 comes, and what it ends with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Request401 {
    /// All of it.
    Whole,
    /// All of it, trailers included: they are not kept, and without them it would be another request.
    WithTrailers,
    /// Half of it; the rest comes with trailers.
    Early,
}

use Request401::{Early, Whole, WithTrailers};

/// A chunked body up to its end.
fn chunked_body(stream: &mut TcpStream) -> Vec<u8> {
    let mut body = Vec::new();
    while find(&body, b"0\r\n").is_none() || !body.ends_with(b"\r\n\r\n") {
        body.extend(read_some(stream));
    }
    body
}

/// A server that takes no token but the second; of a body it notes the content, and the sum in its trailers.
fn choosy_server(speaks: Speaks, choosy: &Choosy, request: Request401) -> SocketAddr {
    let choosy = choosy.clone();
    match speaks {
        Speaks::Http1 => scripted(move |stream, head| {
            let takes = choosy.takes(&head);
            if takes || request != Early {
                let chunks = String::from_utf8(chunked_body(stream)).unwrap();
                let (body, trailers) = chunks.split_once("0\r\n").unwrap();
                let content = body.lines().skip(1).step_by(2).collect::<String>();
                choosy.note((content + trailers.trim_end()).into_bytes());
            }
            choosy.answer(stream, takes);
            client::pause(Duration::from_secs(2));
        }),
        Speaks::Http2 => upstream(100, move |_, came, mut answer| {
            let choosy = choosy.clone();
            Box::pin(async move {
                let token = came.headers()[header::AUTHORIZATION].to_str().unwrap();
                let takes = choosy.takes(&format!("authorization: {token}"));
                let mut body = came.into_body();
                if takes || request != Early {
                    let (mut content, trailers) = drain(&mut body).await.unwrap();
                    for (name, value) in &trailers.unwrap_or_default() {
                        content.extend(format!("{name}: {}", value.to_str().unwrap()).bytes());
                    }
                    choosy.note(content);
                }
                let (status, text) = match takes {
                    true => (200, "taken"),
                    false => (401, "refused"),
                };
                let head = ok().status(status).header("content-length", text.len());
                respond(&mut answer, head, text);
                pause(Duration::from_secs(2)).await;
            })
        }),
    }
}

/// Sends the request; its answer's status and text.
async fn send(
    speaks: Speaks,
    to: SocketAddr,
    choosy: &Choosy,
    request: Request401,
) -> (u16, String) {
    let second_sending = async || {
        while choosy.requests() < 2 {
            pause(Duration::from_millis(20)).await;
        }
        pause(Duration::from_millis(300)).await;
    };
    match speaks {
        Speaks::Http1 => {
            let mut stream = connect(to);
            let head = "POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nTrailer: x-sum\r\n\r\n";
            stream.write_all(head.as_bytes()).unwrap();
            stream.write_all(b"3\r\none\r\n").unwrap();
            if request == Early {
                within(second_sending()).await;
            }
            stream.write_all(b"3\r\ntwo\r\n0\r\n").unwrap();
            if request != Whole {
                stream.write_all(b"x-sum: 6\r\n").unwrap();
            }
            stream.write_all(b"\r\n").unwrap();
            let answer = tokio::task::spawn_blocking(move || read_one(&mut stream));
            let answer = answer.await.unwrap();
            (answer.status, answer.text())
        }
        Speaks::Http2 => {
            let client = Http2::connect(to).await;
            let head = Request::post(uri("/x")).header("trailer", "x-sum");
            let (answer, mut body) = client.begin(head.body(()).unwrap());
            body.send_data(Bytes::from_static(b"one"), false).unwrap();
            if request == Early {
                within(second_sending()).await;
            }
            body.send_data(Bytes::from_static(b"two"), request == Whole)
                .unwrap();
            if request != Whole {
                let mut trailers = HeaderMap::new();
                trailers.insert("x-sum", "6".parse().unwrap());
                body.send_trailers(trailers).unwrap();
            }
            let reply = within(read(answer)).await.unwrap();
            (reply.status.as_u16(), reply.text())
        }
    }
}

async fn absorbs(client: Speaks, server: Speaks) {
    for request in [Whole, WithTrailers, Early] {
        let world = short_lived();
        let choosy = Choosy::default();
        let address = choosy_server(server, &choosy, request);
        let config = logged_in(&world, address, "");
        let proxy = world.start_with(&match server {
            Speaks::Http1 => config,
            Speaks::Http2 => {
                config.replace("plain_http = true", "plain_http = true\nprotocol = 'http2'")
            }
        });
        proxy.ready();
        pass_freshness();
        let (status, text) = send(client, proxy.address(), &choosy, request).await;
        let what = format!("{client:?} to {server:?}, {request:?}");
        if request == WithTrailers {
            assert_eq!((status, &*text), (401, "refused"), "{what}");
            assert_eq!(replays(&proxy, "not_kept"), 1.0, "{what}");
        } else {
            assert_eq!((status, &*text), (200, "taken"), "{what}");
            assert_eq!(replays(&proxy, "helped"), 1.0, "{what}");
        }
        let sent: &[u8] = match request {
            Whole => b"onetwo",
            WithTrailers | Early => b"onetwox-sum: 6",
        };
        for body in choosy.bodies() {
            assert_eq!(
                String::from_utf8_lossy(&body),
                String::from_utf8_lossy(sent),
                "{what}"
            );
        }
        world.end(proxy);
    }
}

#[tokio::test]
async fn a_client_over_http1_of_an_upstream_over_http2() {
    absorbs(Speaks::Http1, Speaks::Http2).await;
}

#[tokio::test]
async fn a_client_over_http2_of_an_upstream_over_http1() {
    absorbs(Speaks::Http2, Speaks::Http1).await;
}

#[tokio::test]
async fn both_over_http2() {
    absorbs(Speaks::Http2, Speaks::Http2).await;
}
