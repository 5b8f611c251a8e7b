//! An upstream that answers before it has read the request: neither hides anything of the other.

use std::{
    io::{Read as _, Write as _},
    sync::mpsc,
    thread,
    time::Duration,
};

use crate::{
    client::{self, connect, find, pause, read_one},
    proxy::World,
    scripted::{in_front_of, scripted},
};

/// More than all sockets on the way hold.
const LARGE: usize = 24 << 20;

fn upload(size: usize) -> String {
    format!("POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\n\r\n")
}

#[test]
fn an_upload_goes_on_while_nobody_reads_its_answer() {
    let world = World::new();
    let (report, got) = mpsc::channel();
    let address = scripted(move |stream, head| {
        let mut answering = stream.try_clone().unwrap();
        let answers = thread::spawn(move || {
            let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {LARGE}\r\n\r\n");
            answering.write_all(head.as_bytes()).unwrap();
            answering.write_all(&vec![b'a'; LARGE]).unwrap();
        });
        assert!(head.contains(&format!("content-length: {LARGE}")), "{head}");
        let mut read = vec![0; LARGE];
        stream.read_exact(&mut read).unwrap();
        report.send(read.iter().all(|byte| *byte == b'u')).unwrap();
        answers.join().unwrap();
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = connect(proxy.address());
    stream.write_all(upload(LARGE).as_bytes()).unwrap();
    // All of it, before a byte of the answer is read.
    stream.write_all(&vec![b'u'; LARGE]).unwrap();
    assert!(got.recv_timeout(client::PATIENCE).unwrap());
    let answer = read_one(&mut stream);
    assert_eq!((answer.status, answer.body.len()), (200, LARGE));
    world.end(proxy);
}

#[test]
fn an_upload_that_breaks_off_ends_an_answer_that_had_begun() {
    let world = World::new();
    let address = scripted(|stream, _| {
        // Up to the end of the connection: a clean one would make it whole.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\nbegun").unwrap();
        let _ = stream.read_to_end(&mut Vec::new());
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = connect(proxy.address());
    let head =
        b"POST /x HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n3\r\none\r\n";
    stream.write_all(head).unwrap();
    let mut all = Vec::new();
    while find(&all, b"begun").is_none() {
        all.extend(client::read_some(&mut stream));
    }
    stream.write_all(b"no size\r\n").unwrap();
    let _ = stream.read_to_end(&mut all);
    assert!(find(&all, b"0\r\n\r\n").is_none(), "a clean end");
    world.end(proxy);
}

#[test]
fn an_answer_to_an_upload_that_a_reset_cuts_is_not_whole() {
    let world = World::new();
    let address = scripted(|stream, _| {
        // As much as goes at once, of an answer without a length; and a close with bytes unread, which is a reset.
        stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
        stream.set_nonblocking(true).unwrap();
        while stream.write(&[b'a'; 16 << 10]).is_ok() {}
        pause(Duration::from_millis(100));
    });
    let proxy = in_front_of(&world, address, "", "");
    for _ in 0..5 {
        let mut stream = connect(proxy.address());
        stream.write_all(upload(LARGE).as_bytes()).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let writes = thread::spawn(move || drop(writing.write_all(&vec![b'u'; LARGE])));
        pause(Duration::from_millis(300));
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(all.starts_with(b"HTTP/1.1 200"));
        assert!(!all.ends_with(b"0\r\n\r\n"), "a clean end");
        drop(stream);
        writes.join().unwrap();
    }
    world.end(proxy);
}

#[test]
fn a_refusal_reaches_a_client_that_still_sends() {
    let world = World::new();
    let address = scripted(|stream, _| {
        let refusal = b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\nConnection: close\r\n\r\nno";
        stream.write_all(refusal).unwrap();
        // Closed with bytes unread: a reset.
    });
    let proxy = in_front_of(&world, address, "", "");
    for _ in 0..20 {
        let mut stream = connect(proxy.address());
        stream.write_all(upload(3 << 20).as_bytes()).unwrap();
        let mut writing = stream.try_clone().unwrap();
        let writes = thread::spawn(move || drop(writing.write_all(&vec![b'u'; 3 << 20])));
        let answer = read_one(&mut stream);
        assert_eq!((answer.status, answer.text().as_str()), (413, "no"));
        writes.join().unwrap();
    }
    world.end(proxy);
}

#[test]
fn a_connection_whose_request_has_not_gone_out_is_not_used_again() {
    let world = World::new();
    let (report, heads) = mpsc::channel();
    let address = scripted(move |stream, head| {
        report.send(head).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        pause(Duration::from_millis(500));
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut stream = connect(proxy.address());
    stream.write_all(upload(100).as_bytes()).unwrap();
    assert_eq!(read_one(&mut stream).text(), "ok");
    // On the upstream's first connection a hundred bytes are still owed, and this is not to be taken for them.
    assert_eq!(proxy.get("/next", &[]).text(), "ok");
    let heads: Vec<_> = heads.try_iter().collect();
    assert!(
        heads.len() == 2 && heads[1].contains("/next"),
        "each on a connection of its own: {heads:?}"
    );
    world.end(proxy);
}
