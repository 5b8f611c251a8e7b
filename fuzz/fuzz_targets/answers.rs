//! Bytes of an upstream through the journey's reader and its way back: what reaches the client is one answer by
//! the letter, whole only where the upstream's was.

#![no_main]

#[expect(dead_code, reason = "the other target reads requests")]
#[path = "../../tests/journeys/strict.rs"]
mod strict;

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, Version, header, response};
use http_body::{Frame, SizeHint};
use http_body_util::{Either, Empty};
use hyper::{body::Incoming, server, service::service_fn};
use hyper_util::rt::TokioIo;
use libfuzzer_sys::fuzz_target;
use strict::Read;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
use watsonx_auth_proxy::journey::{
    http1::{Malformed, Reading, is_interim},
    rewrite::drop_hop_by_hop,
    survey::Names,
    upgrade::is_switch,
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

type Body = Either<Rest, Empty<Bytes>>;

/// The body of an answer, and where it comes from.
struct Rest {
    reading: Reading,
    stream: DuplexStream,
}

async fn travel(request: Request<Incoming>, bytes: Vec<u8>, ends: bool) -> Response<Body> {
    let (mut stream, mut far) = duplex(4 << 20);
    tokio::task::spawn_local(async move {
        let _ = far.write_all(&bytes).await;
        if !ends {
            let _ = far.read_u8().await;
        }
    });
    let mut reading = Reading::new(Rc::default());
    reading.begin(request.method());
    loop {
        match reading.head() {
            Err(Malformed) => return refused(),
            Ok(Some((head, _))) if is_interim(head.status) => {}
            Ok(Some((head, names))) => return clean(head, names, Rest { reading, stream }),
            Ok(None) => match poll_fn(|cx| reading.poll_more(&mut stream, cx)).await {
                Ok(true) => {}
                _ => return refused(),
            },
        }
    }
}

impl http_body::Body for Rest {
    type Data = Bytes;
    type Error = Malformed;

    fn poll_frame(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Malformed>>> {
        let Self { reading, stream } = self.get_mut();
        loop {
            match reading.frame() {
                Ok(None) if reading.has_ended() => return Poll::Ready(None),
                Ok(None) => match ready!(reading.poll_more(stream, cx)) {
                    Ok(true) => {}
                    Ok(false) if reading.ends() => {}
                    _ => return Poll::Ready(Some(Err(Malformed))),
                },
                frame => return Poll::Ready(frame.transpose()),
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.reading.has_ended()
    }

    fn size_hint(&self) -> SizeHint {
        self.reading.size_hint()
    }
}

/// What the journey does with any answer to a request that asks for no switch of protocols.
fn clean(mut head: response::Parts, names: Names, body: Rest) -> Response<Body> {
    if is_switch(&head, false).is_err() {
        return refused();
    }
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
