//! What goes out of a request does not depend on how much of it is taken at a time.

use std::{future::poll_fn, rc::Rc};

use http::{HeaderValue, Method, Request};
use tokio::io::{AsyncReadExt as _, duplex};

use super::{
    super::super::{
        kept::{Kept, Memory},
        progress::Progress,
    },
    *,
};

fn head(method: Method, headers: &[(HeaderName, &'static str)]) -> Parts {
    let (mut head, ()) = Request::new(()).into_parts();
    head.method = method;
    head.uri = "/path?query".parse().unwrap();
    for (name, value) in headers {
        head.headers.append(name, HeaderValue::from_static(value));
    }
    head
}

/// A body of one piece.
fn body(piece: &[u8]) -> Upload {
    let mut kept = Kept::new(piece.len(), Memory::new());
    assert!(kept.add(piece));
    Upload::with(Rc::new(Progress::default()), Some(kept))
}

/// What an upstream gets that takes no more than `at_a_time`; whether it was all.
async fn sent(mut sending: Sending, at_a_time: usize) -> (String, bool) {
    let (mut near, mut far) = duplex(at_a_time);
    let mut got = Vec::new();
    let (whole, _) = tokio::join!(
        async move { poll_fn(|cx| sending.poll(&mut near, cx)).await.is_ok() },
        far.read_to_end(&mut got)
    );
    (String::from_utf8(got).unwrap(), whole)
}

async fn assert_sent(sending: impl Fn() -> Sending, meant: &str) {
    for at_a_time in [1, 3, 7, 64, 4096] {
        assert_eq!(sent(sending(), at_a_time).await, (meant.to_owned(), true));
    }
}

#[tokio::test]
async fn a_request_without_a_body_is_its_head() {
    let get = head(Method::GET, &[(header::HOST, "a"), (header::ACCEPT, "b")]);
    assert_sent(
        || Sending::new(&get, Upload::empty()),
        "GET /path?query HTTP/1.1\r\nhost: a\r\naccept: b\r\n\r\n",
    )
    .await;
    // Where the client has said that there is none, the upstream is told.
    for framing in [
        (header::CONTENT_LENGTH, "0"),
        (header::TRANSFER_ENCODING, "chunked"),
    ] {
        let post = head(Method::POST, &[framing, (header::HOST, "a")]);
        assert_sent(
            || Sending::new(&post, Upload::empty()),
            "POST /path?query HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n",
        )
        .await;
    }
}

#[tokio::test]
async fn a_body_follows_its_head() {
    let post = head(
        Method::POST,
        &[(header::CONTENT_LENGTH, "5"), (header::HOST, "a")],
    );
    assert_sent(
        || Sending::new(&post, body(b"hello")),
        "POST /path?query HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello",
    )
    .await;
    let chunked = || Sending {
        ending: Ending::Chunked(Vec::new()),
        before: Outgoing::head(&post, &Ending::Chunked(Vec::new())),
        ..Sending::new(&post, body(b"hello"))
    };
    assert_sent(
        chunked,
        "POST /path?query HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n\
         5\r\nhello\r\n0\r\n\r\n",
    )
    .await;
}

#[tokio::test]
async fn only_announced_trailers_go_out() {
    let announced = [(header::TRAILER, "grpc-status, x")];
    let post = head(Method::POST, &announced);
    let mut sending = Sending {
        ending: Ending::Chunked(declared(&post.headers)),
        ..Sending::new(&post, Upload::empty())
    };
    let trailers = ["grpc-status", "y"]
        .map(|name| (HeaderName::from_static(name), HeaderValue::from_static("1")));
    assert!(sending.end_with(trailers.into_iter().collect()).is_ok());
    let (got, _) = sent(sending, 64).await;
    assert!(
        got.ends_with("\r\n\r\n0\r\ngrpc-status: 1\r\n\r\n"),
        "{got:?}"
    );
}

#[tokio::test]
async fn a_body_of_another_size_is_none() {
    let post = head(Method::POST, &[]);
    for size in [4, 6] {
        let sending = Sending {
            ending: Ending::Length(size),
            ..Sending::new(&post, body(b"hello"))
        };
        let (got, whole) = sent(sending, 4096).await;
        assert!(!whole, "{got:?}");
    }
}
