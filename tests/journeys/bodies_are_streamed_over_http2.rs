//! Bodies go on as they come over HTTP/2 as well, and whoever does not read holds up the one that sends.

use std::{
    future::poll_fn,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use h2::{RecvStream, SendStream};
use http::Request;
use tokio::sync::Notify;

use crate::{
    proxy::{Proxy, World},
    scripted::in_front_of,
    streams::{Http2, ok, pause, read, respond, upstream, uri, within},
};

/// What is sent either way while the other side does not read.
const LARGE: usize = 300 << 20;

/// What a proxy may keep of it.
const MOST_KEPT: usize = 24 << 20;

/// A prime, so that no piece looks like the one before it.
const PIECE: usize = 1_000_003;

/// So many bytes, the same each time; of which any part is told from any other by where it is.
fn pattern() -> Bytes {
    (0..PIECE / 4 + 2)
        .flat_map(|n| (n as u32).wrapping_mul(2_654_435_761).to_le_bytes())
        .collect::<Vec<u8>>()
        .into()
}

/// Sends all of it as there is room, and counts.
async fn send_large(stream: &mut SendStream<Bytes>, count: &AtomicUsize) {
    let pattern = pattern();
    while count.load(Ordering::SeqCst) < LARGE {
        let sent = count.load(Ordering::SeqCst);
        let at = sent % PIECE;
        // No more than is sent: room that is held and not used is never made good.
        stream.reserve_capacity((LARGE - sent).min(PIECE - at));
        let room = poll_fn(|cx| stream.poll_capacity(cx)).await;
        let size = room.expect("an open stream").unwrap();
        stream
            .send_data(pattern.slice(at..at + size), sent + size == LARGE)
            .unwrap();
        count.fetch_add(size, Ordering::SeqCst);
    }
}

/// Reads all of it; fails at the first byte that is another than was sent.
async fn read_large(body: &mut RecvStream) {
    let pattern = pattern();
    let mut got = 0;
    while let Some(piece) = body.data().await {
        let piece = piece.unwrap();
        body.flow_control().release_capacity(piece.len()).unwrap();
        let mut rest = &piece[..];
        while !rest.is_empty() {
            let at = got % PIECE;
            let size = rest.len().min(PIECE - at);
            assert!(
                rest[..size] == pattern[at..at + size],
                "another byte in {got}"
            );
            rest = &rest[size..];
            got += size;
        }
    }
    assert_eq!(got, LARGE);
}

/// Waits until the one that sends is held up, gives the word, and waits for the end; fails when the proxy keeps too much.
async fn watch(proxy: &Proxy, before: usize, sent: &AtomicUsize, go: &Notify, end: &Notify) {
    let keeps_little = |when: &str| {
        let grown = proxy.resident().saturating_sub(before);
        assert!(grown < MOST_KEPT, "{} MiB more {when}", grown >> 20);
    };
    within(async {
        let mut so_far = 0;
        while so_far == 0 || so_far != sent.load(Ordering::SeqCst) {
            so_far = sent.load(Ordering::SeqCst);
            pause(Duration::from_millis(500)).await;
            keeps_little("while the reader stalls");
        }
    })
    .await;
    assert!(sent.load(Ordering::SeqCst) < LARGE, "nobody held it up");
    go.notify_one();
    let mut has_ended = std::pin::pin!(end.notified());
    for _ in 0..1500 {
        match tokio::time::timeout(Duration::from_millis(200), &mut has_ended).await {
            Ok(()) => return,
            Err(_) => keeps_little("while it goes on"),
        }
    }
    panic!("no end");
}

const HTTP2: &str = "protocol = 'http2'";

#[tokio::test]
async fn an_upload_waits_for_an_upstream_that_does_not_read() {
    let world = World::new();
    let (go, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (may_go, ended) = (Arc::clone(&go), Arc::clone(&end));
    let address = upstream(100, move |_, request, mut answer| {
        let (may_go, ended) = (Arc::clone(&may_go), Arc::clone(&ended));
        Box::pin(async move {
            if request.uri().path() == "/base/large" {
                may_go.notified().await;
                read_large(&mut request.into_body()).await;
                ended.notify_one();
            }
            respond(&mut answer, ok(), "ok");
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    client.get("/warm").await.unwrap();
    let before = proxy.resident();
    let (answer, mut body) = client.begin(Request::post(uri("/large")).body(()).unwrap());
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let sending = tokio::spawn(async move { send_large(&mut body, &count).await });
    watch(&proxy, before, &sent, &go, &end).await;
    within(sending).await.unwrap();
    assert_eq!(within(read(answer)).await.unwrap().text(), "ok");
    world.end(proxy);
}

#[tokio::test]
async fn a_download_waits_for_a_client_that_does_not_read() {
    let world = World::new();
    let sent = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&sent);
    let address = upstream(100, move |_, request, mut answer| {
        let count = Arc::clone(&count);
        Box::pin(async move {
            if request.uri().path() != "/base/large" {
                return respond(&mut answer, ok(), "ok");
            }
            let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
            send_large(&mut stream, &count).await;
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    client.get("/warm").await.unwrap();
    let before = proxy.resident();
    let request = Request::get(uri("/large")).body(()).unwrap();
    let (answer, _) = client.0.clone().send_request(request, true).unwrap();
    let mut body = within(answer).await.unwrap().into_body();
    let (go, end) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (may_go, ended) = (Arc::clone(&go), Arc::clone(&end));
    let reading = tokio::spawn(async move {
        may_go.notified().await;
        read_large(&mut body).await;
        ended.notify_one();
    });
    watch(&proxy, before, &sent, &go, &end).await;
    within(reading).await.unwrap();
    world.end(proxy);
}
