//! Bodies go on as they come, both ways, and none is kept.

use std::{
    io::{Read, Write},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    thread,
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    client::{self, find, pause, read_some},
    proxy::{Proxy, World},
    scripted::{in_front_of, scripted},
};

#[test]
fn events_of_a_stream_arrive_as_they_are_sent() {
    let world = World::with(|options| options.frame_interval = Duration::from_secs(1));
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
    // At least four frames follow the first one at 1 s each: held back, they would all come at once.
    let spread = first.expect("an event").elapsed();
    assert!(
        spread >= Duration::from_millis(1200),
        "the events came within {spread:?}"
    );
    assert!(pieces >= 2, "{pieces} pieces");
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
    let sending = thread::spawn(move || {
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

#[test]
fn the_first_piece_goes_out_at_once_and_silence_after_it_is_no_fault() {
    for (kind, first, second) in [
        ("text/event-stream", "data: one\n\n", "data: two\n\n"),
        ("application/x-ndjson", "{\"n\":1}\n", "{\"n\":2}\n"),
    ] {
        for framed in [true, false] {
            let world = World::new();
            let (go, may_go) = mpsc::channel::<()>();
            let may_go = Mutex::new(may_go);
            let address = scripted(move |stream, _| {
                let coding = if framed {
                    "Transfer-Encoding: chunked\r\n"
                } else {
                    ""
                };
                let piece = |text: &str| match framed {
                    true => format!("{:x}\r\n{text}\r\n", text.len()),
                    false => text.to_owned(),
                };
                let head = format!("HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\n{coding}\r\n");
                stream.write_all((head + &piece(first)).as_bytes()).unwrap();
                // Nothing more until the client has the first one.
                may_go
                    .lock()
                    .unwrap()
                    .recv_timeout(client::PATIENCE)
                    .expect("the first piece was held back");
                // Longer than each time-out of the listener, and than a connection is quiet before it is parked.
                pause(Duration::from_millis(5500));
                let end = if framed { "0\r\n\r\n" } else { "" };
                stream.write_all((piece(second) + end).as_bytes()).unwrap();
            });
            let limits = "head_timeout = '3s'\nkeep_alive = '3s'\nstall_timeout = '3s'";
            let proxy = in_front_of(&world, address, "", limits);
            let mut stream = client::connect(proxy.address());
            stream
                .write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n")
                .unwrap();
            let mut all = Vec::new();
            while find(&all, first.as_bytes()).is_none() {
                all.extend(read_some(&mut stream));
            }
            go.send(()).unwrap();
            while find(&all, b"\r\n0\r\n\r\n").is_none() {
                all.extend(read_some(&mut stream));
            }
            assert!(find(&all, second.as_bytes()).is_some());
            world.end(proxy);
        }
    }
}

/// What is sent either way while the other side does not read.
const LARGE: usize = 300 << 20;

/// What a proxy may keep of it.
const MOST_KEPT: usize = 24 << 20;

/// One MiB, the same each time.
fn piece() -> Vec<u8> {
    (0..1_u32 << 18)
        .flat_map(|n| n.wrapping_mul(2_654_435_761).to_le_bytes())
        .collect()
}

/// Writes pieces until all is out, and counts.
fn write_large(to: &mut impl Write, count: &AtomicUsize) {
    let piece = piece();
    while count.load(Ordering::SeqCst) < LARGE {
        to.write_all(&piece).unwrap();
        count.fetch_add(piece.len(), Ordering::SeqCst);
    }
}

/// Reads all of it, and whether each byte is the one that was sent.
fn read_large(from: &mut impl Read) -> bool {
    let (expected, mut found) = (piece(), vec![0; 1 << 20]);
    (0..LARGE >> 20).all(|_| from.read_exact(&mut found).is_ok() && found == expected)
}

/// Waits until the writer is held up, and from then on until it is done; fails when the proxy keeps too much.
fn watch(
    proxy: &Proxy,
    before: usize,
    written: &AtomicUsize,
    go: &mpsc::Sender<()>,
    is_done: impl Fn() -> bool,
) {
    let within = |when: &str| {
        let grown = proxy.resident().saturating_sub(before);
        assert!(grown < MOST_KEPT, "{} MiB more {when}", grown >> 20);
    };
    client::eventually("a writer that is held up", || {
        let so_far = written.load(Ordering::SeqCst);
        pause(Duration::from_millis(500));
        within("while the reader stalls");
        (so_far > 0 && written.load(Ordering::SeqCst) == so_far).then_some(())
    });
    assert!(
        written.load(Ordering::SeqCst) < LARGE,
        "nobody held the writer up"
    );
    go.send(()).unwrap();
    let began = Instant::now();
    while !is_done() {
        within("while it goes on");
        assert!(began.elapsed() < Duration::from_secs(300), "no end");
        pause(Duration::from_millis(20));
    }
}

#[test]
fn an_upload_waits_for_an_upstream_that_does_not_read() {
    let world = World::new();
    let (go, may_go) = mpsc::channel::<()>();
    let may_go = Mutex::new(may_go);
    let address = scripted(move |stream, head| {
        if head.starts_with("POST") {
            may_go
                .lock()
                .unwrap()
                .recv_timeout(client::PATIENCE)
                .unwrap();
            assert!(read_large(stream), "another body");
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    proxy.get("/warm", &[]);
    let before = proxy.resident();
    let written = Arc::new(AtomicUsize::new(0));
    let mut stream = client::connect(proxy.address());
    let (mut writer, count) = (stream.try_clone().unwrap(), Arc::clone(&written));
    let sending = thread::spawn(move || {
        let head =
            format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {LARGE}\r\n\r\n");
        writer.write_all(head.as_bytes()).unwrap();
        write_large(&mut writer, &count);
    });
    watch(&proxy, before, &written, &go, || sending.is_finished());
    sending.join().unwrap();
    assert_eq!(client::read_one(&mut stream).text(), "ok");
    world.end(proxy);
}

#[test]
fn a_download_waits_for_a_client_that_does_not_read() {
    let world = World::new();
    let written = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&written);
    let address = scripted(move |stream, head| {
        let size = if head.contains("/large") { LARGE } else { 0 };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {size}\r\n\r\n");
        stream.write_all(head.as_bytes()).unwrap();
        if size > 0 {
            write_large(stream, &count);
        }
    });
    let proxy = in_front_of(&world, address, "", "");
    proxy.get("/warm", &[]);
    let before = proxy.resident();
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"GET /large HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let (go, may_go) = mpsc::channel::<()>();
    let reading = thread::spawn(move || {
        may_go.recv_timeout(client::PATIENCE).unwrap();
        let head = crate::scripted::head(&mut stream).unwrap();
        assert!(
            head.contains(&format!("content-length: {LARGE}\r\n")),
            "{head}"
        );
        read_large(&mut stream)
    });
    watch(&proxy, before, &written, &go, || reading.is_finished());
    assert!(reading.join().unwrap(), "another body");
    world.end(proxy);
}

#[test]
fn a_client_that_leaves_a_download_ends_it_at_once() {
    let world = World::new();
    let (ended, has_ended) = mpsc::channel();
    let ended = Mutex::new(ended);
    let address = scripted(move |stream, _| {
        let _ =
            stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n");
        // Silent from now on: only the end of the connection is heard.
        let heard = stream.read(&mut [0]);
        ended
            .lock()
            .unwrap()
            .send(matches!(heard, Ok(0) | Err(_)))
            .unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = client::connect(proxy.address());
    stream
        .write_all(b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n")
        .unwrap();
    let mut all = read_some(&mut stream);
    while find(&all, b"1\r\nx\r\n").is_none() {
        all.extend(read_some(&mut stream));
    }
    drop(stream);
    assert!(has_ended.recv_timeout(client::PATIENCE).unwrap());
    world.end(proxy);
}
