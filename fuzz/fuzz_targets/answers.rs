//! Bytes of an upstream through hyper's parser and the journey's way back: what reaches the client is one answer by
//! the letter, whole only where the upstream's was.

#![no_main]

#[expect(dead_code, reason = "the other target reads requests")]
#[path = "../../tests/journeys/strict.rs"]
mod strict;

use std::{convert::Infallible, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, client, server, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use strict::Read;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};
use watsonx_auth_proxy::journey::{
    respond::is_answer, rewrite::drop_hop_by_hop, survey::Survey, upgrade::is_switch,
};

fuzz_target!(|data: (bool, bool, &[u8])| {
    let (to_head, ends, bytes) = data;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let got = tokio::task::LocalSet::new().block_on(&runtime, ask(bytes.to_vec(), to_head, ends));
    let seen = || {
        format!(
            "{:?}: {:?}",
            bytes.escape_ascii().to_string(),
            got.escape_ascii().to_string()
        )
    };
    let meant = strict::answer(bytes, to_head, ends);
    match (strict::answer(&got, to_head, false), meant) {
        (Read::Malformed(why), _) => panic!("{why}: {}", seen()),
        (Read::Whole(got_one, size), meant) => {
            assert_eq!(size, got.len(), "more than an answer: {}", seen());
            if let (true, Read::Whole(meant, _)) = (got_one.status() != 502, &meant) {
                assert_eq!(
                    (got_one.status(), &got_one.body),
                    (meant.status(), &meant.body),
                    "{}",
                    seen()
                );
            }
            let passed = got_one.status() != 502 || got_one.all("x-own").is_empty();
            assert!(
                !passed || !matches!(meant, Read::Partial),
                "whole, though it was cut: {}",
                seen()
            );
        }
        (Read::Partial, _) => {}
    }
});

/// One request whose answer comes from an upstream that says these bytes; all that the client gets.
async fn ask(bytes: Vec<u8>, to_head: bool, ends: bool) -> Vec<u8> {
    let (mut near, far) = duplex(4 << 20);
    let method = if to_head { Method::HEAD } else { Method::GET };
    let request = format!("{method} / HTTP/1.1\r\nHost: localhost\r\n\r\n");
    near.write_all(request.as_bytes()).await.expect("room");
    let service = service_fn(move |request: Request<Incoming>| {
        let bytes = bytes.clone();
        async move { Ok::<_, Infallible>(travel(request, bytes, ends).await) }
    });
    {
        let connection =
            server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service);
        // The clock stands still, and goes on when nothing else does.
        let _ = tokio::time::timeout(Duration::from_secs(1), connection).await;
    }
    let mut got = Vec::new();
    let _ = near.read_to_end(&mut got).await;
    got
}

type Body = Either<Incoming, Empty<Bytes>>;

async fn travel(request: Request<Incoming>, bytes: Vec<u8>, ends: bool) -> Response<Body> {
    let (near, mut far) = duplex(4 << 20);
    tokio::task::spawn_local(async move {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match far.read_u8().await {
                Ok(byte) => head.push(byte),
                Err(_) => return,
            }
        }
        let _ = far.write_all(&bytes).await;
        if !ends {
            let _ = far.read_u8().await;
        }
    });
    let mut builder = client::conn::http1::Builder::new();
    builder.max_buf_size(64 << 10).max_header_size(64 << 10);
    let (mut sender, connection) = builder
        .handshake(TokioIo::new(near))
        .await
        .expect("no bytes go");
    tokio::task::spawn_local(async move { drop(connection.await) });
    let (head, body) = request.into_parts();
    let mut out = Request::new(body);
    *out.method_mut() = head.method;
    *out.headers_mut() = head.headers;
    match sender.send_request(out).await {
        Ok(answer) => clean(answer),
        Err(_) => refused(),
    }
}

/// What the journey does with any answer to a request that asks for no switch of protocols.
fn clean(answer: Response<Incoming>) -> Response<Body> {
    let (mut head, body) = answer.into_parts();
    let survey = Survey::of(&head.headers);
    if is_switch(&head, false).is_err() || !is_answer(&head, survey) {
        return refused();
    }
    let names = survey.names;
    drop_hop_by_hop(&mut head.headers, names);
    if head.status == StatusCode::NO_CONTENT {
        head.headers.remove(header::CONTENT_LENGTH);
    }
    head.version = Version::HTTP_11;
    Response::from_parts(head, Either::Left(body))
}

fn refused() -> Response<Body> {
    let mut answer = Response::new(Either::Right(Empty::new()));
    *answer.status_mut() = StatusCode::BAD_GATEWAY;
    answer
        .headers_mut()
        .insert("x-own", http::HeaderValue::from_static("1"));
    answer
}
