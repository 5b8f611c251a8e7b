//! Bodies go on as they come, both ways, and none is kept.

use std::{io::Write as _, time::Duration};

use tokio::time::Instant;

use crate::{
    client::{self, find, read_some},
    proxy::World,
};

#[test]
fn events_of_a_stream_arrive_as_they_are_sent() {
    let world = World::with(|options| options.frame_interval = Duration::from_millis(400));
    let proxy = world.usual();
    proxy.ready();
    let body = br#"{"model_id":"ibm/granite-3-3-8b-instruct","project_id":"3fd2a3b0-8a5c-4b8e-9d5f-0c2f6e1a7b11","messages":[{"role":"user","content":"one two three four"}]}"#;
    let target = "/ml/v1/text/chat_stream?version=2025-02-01";
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(&client::request(
            "POST",
            target,
            &["Content-Type: application/json"],
            body,
        ))
        .unwrap();

    let mut all = Vec::new();
    let (mut first, mut pieces) = (None, 0);
    while find(&all, b"event: close").is_none() {
        all.extend(read_some(&mut stream));
        pieces += 1;
        if first.is_none() && find(&all, b"event: message").is_some() {
            first = Some(Instant::now());
        }
    }
    let answer = String::from_utf8_lossy(&all).into_owned();
    assert!(
        answer.starts_with("HTTP/1.1 200") && answer.contains("text/event-stream"),
        "{answer}"
    );
    // At least four frames follow the first one at 400 ms each: held back, they would all come at once.
    let spread = first.expect("an event").elapsed();
    assert!(
        spread >= Duration::from_millis(1200),
        "the events came within {spread:?}"
    );
    assert!(pieces >= 4, "{pieces} pieces");
    world.end(proxy);
}

#[test]
fn an_upload_goes_on_before_it_is_whole() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n5\r\nfirst\r\n")
        .unwrap();
    let mut all = Vec::new();
    while find(&all, b"first").is_none() {
        all.extend(read_some(&mut stream));
    }
    stream.write_all(b"6\r\nsecond\r\n0\r\n\r\n").unwrap();
    while find(&all, b"second").is_none() {
        all.extend(read_some(&mut stream));
    }
    world.end(proxy);
}

#[test]
fn large_bodies_pass_both_ways_without_being_kept() {
    const SIZE: usize = 64 << 20;
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let before = proxy.resident();
    let stream = client::connect(proxy.address());
    let mut writer = stream.try_clone().unwrap();
    let sending = std::thread::spawn(move || {
        let head = format!(
            "POST /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nContent-Length: {SIZE}\r\nConnection: close\r\n\r\n"
        );
        writer.write_all(head.as_bytes()).unwrap();
        let piece: Vec<u8> = (0..=255).cycle().take(1 << 20).collect();
        (0..SIZE >> 20).for_each(|_| writer.write_all(&piece).unwrap());
    });
    let answer = client::exchange(stream, b"");
    sending.join().unwrap();
    assert_eq!(answer.status, 200);
    assert_eq!(answer.body.len(), SIZE);
    assert!(
        answer
            .body
            .iter()
            .zip((0..=255).cycle())
            .all(|(got, sent)| *got == sent)
    );
    let grown = proxy.resident().saturating_sub(before);
    assert!(grown < 24 << 20, "{} MiB more", grown >> 20);
    world.end(proxy);
}

#[test]
fn get_with_a_chunked_body_keeps_it() {
    let world = World::new();
    let proxy = world.usual();
    proxy.ready();
    let request = b"GET /simulator/mirror HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n4\r\nbody\r\n0\r\n\r\n";
    client::exchange(client::connect(proxy.address()), request);
    assert_eq!(world.got_one().body_length, 4);
    world.end(proxy);
}

#[test]
fn a_signed_snapshot_passes_byte_for_byte() {
    let world = World::new();
    let proxy = world.usual();
    let answer = proxy.get("/license/snapshot", &[]);
    assert_eq!(answer.status, 200);
    assert_eq!(
        answer.header("content-length"),
        Some(answer.body.len().to_string().as_str())
    );
    assert!(
        answer
            .header("content-disposition")
            .unwrap()
            .contains(".zip")
    );
    assert!(answer.body.starts_with(b"PK"));
    world.end(proxy);
}
