//! DATA frames of nothing, of which streaming clients and servers send some with each message, end no connection.

use std::time::Duration;

use bytes::Bytes;
use h2::SendStream;
use http::Request;

use crate::{
    frames::{DATA, END_HEADERS, END_STREAM, GOAWAY, HEADERS, PING, Wire, frame, request},
    origin::Origin,
    proxy::World,
    scripted::in_front_of,
    streams::{Http2, drain, ok, pause, read, respond, upstream, uri, within},
};

const HTTP2: &str = "protocol = 'http2'";
const OPENED: &str = "watsonx_auth_proxy_upstream_connections_opened_total{upstream=\"odd\"}";

/// A body in two pieces, with 60 frames of nothing before each; together they are more than `h2` takes.
async fn send_with_gaps(stream: &mut SendStream<Bytes>) {
    for piece in ["one", "two"] {
        for _ in 0..60 {
            stream.send_data(Bytes::new(), false).unwrap();
        }
        pause(Duration::from_millis(20)).await;
        stream.send_data(piece.into(), false).unwrap();
    }
    stream.send_data(Bytes::new(), true).unwrap();
}

#[tokio::test]
async fn of_an_upstream() {
    let world = World::new();
    let address = upstream(100, |_, _, mut answer| {
        Box::pin(async move {
            let mut stream = answer.send_response(ok().body(()).unwrap(), false).unwrap();
            send_with_gaps(&mut stream).await;
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    for round in 0..5 {
        let reply = client.get("/").await.unwrap();
        assert_eq!(reply.text(), "onetwo", "round {round}");
    }
    assert!(proxy.metric(OPENED) < 1.5, "the connection stays");
    world.end(proxy);
}

#[tokio::test]
async fn of_a_client() {
    let world = World::new();
    let address = upstream(100, |_, request, mut answer| {
        Box::pin(async move {
            let (bytes, _) = drain(&mut request.into_body()).await.unwrap();
            respond(&mut answer, ok(), bytes);
        })
    });
    let proxy = in_front_of(&world, address, HTTP2, "");
    let client = Http2::connect(proxy.address()).await;
    for round in 0..5 {
        let (answer, mut body) = client.begin(Request::post(uri("/")).body(()).unwrap());
        send_with_gaps(&mut body).await;
        let reply = within(read(answer)).await.unwrap();
        assert_eq!(reply.text(), "onetwo", "round {round}");
    }
    world.end(proxy);
}

#[test]
fn each_in_a_piece_of_its_own_and_cut_anywhere() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = in_front_of(&world, origin.address, "", "");
    let mut wire = Wire::open(proxy.address(), &[]);
    wire.frame(HEADERS, END_HEADERS, 1, &request("POST", "/", &[]));
    for round in 0..200 {
        let nothing = frame(DATA, 0, 1, &[]);
        let (one, other) = nothing.split_at(round % 9);
        assert!(wire.send(one));
        std::thread::yield_now();
        assert!(wire.send(other));
    }
    // All of it has been read.
    wire.frame(PING, 0, 0, &[0; 8]);
    let pong = wire.until(&[PING, GOAWAY]).expect("the connection stays");
    assert_eq!(pong.kind, PING);
    wire.frame(DATA, END_STREAM, 1, b"body");
    assert!(wire.until(&[DATA]).is_some(), "an answer");
    assert_eq!(origin.take_whole()[0].body, b"body");
    world.end(proxy);
}

#[test]
fn on_streams_that_there_are_not_they_are_mistakes_all_the_same() {
    let world = World::new();
    let origin = Origin::echoing();
    let proxy = in_front_of(&world, origin.address, "", "");
    for (stream, in_head) in [(0, false), (7, false), (1, true)] {
        let mut wire = Wire::open(proxy.address(), &[]);
        if in_head {
            wire.frame(HEADERS, 0, 1, &request("GET", "/", &[]));
        }
        wire.frame(DATA, 0, stream, &[]);
        assert!(wire.until(&[GOAWAY]).is_some(), "stream {stream}");
    }
    assert!(origin.take().is_empty());
    world.end(proxy);
}
