//! What the proxy has said arrives, whatever the client sends meanwhile: a connection is not closed under bytes that
//! nobody has read.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::Duration,
};

use rustix::process::Signal;
use socket2::{Domain, Socket, Type};
use tokio::time::Instant;

use crate::{
    client::{self, PATIENCE, eventually, pause},
    proxy::World,
    scripted::{head, in_front_of, scripted},
    websocket::handshake,
};

/// A client whose kernel takes little before it reads.
fn narrow(address: SocketAddr) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(8192).unwrap();
    socket.connect(&address.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// An upstream that refuses with so many bytes, without reading a body.
fn refusing(size: usize) -> SocketAddr {
    scripted(move |stream, first| {
        let mut next = Some(first);
        while next.is_some() {
            let refusal = format!("HTTP/1.1 403 No\r\nContent-Length: {size}\r\n\r\n");
            let _ = stream.write_all(refusal.as_bytes());
            let _ = stream.write_all(&vec![b'a'; size]);
            next = head(stream);
        }
    })
}

/// How many bytes of the answer's body come before the end; fails where the end is a reset.
fn body_size(stream: &mut TcpStream) -> usize {
    let mut all = Vec::new();
    let read = stream.read_to_end(&mut all);
    assert!(read.is_ok(), "{read:?} after {} bytes", all.len());
    client::parse(&all).body.len()
}

const GET: &[u8] = b"GET /x HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

#[test]
fn an_answer_is_not_cut_by_what_lies_unread_behind_its_request() {
    let world = World::new();
    let proxy = in_front_of(&world, refusing(3_000_000), "", "");
    let behind = |head: Vec<u8>, size| [head, vec![b'x'; size]].concat();
    for (what, said) in [
        ("nothing behind", GET.to_vec()),
        (
            "30 kB behind the last request",
            behind(GET.to_vec(), 30_000),
        ),
        (
            "100 kB behind a handshake",
            behind(handshake("/chat", &[]), 100_000),
        ),
    ] {
        let mut client = narrow(proxy.address());
        client.write_all(&said).unwrap();
        // All of it is on its way, and the proxy has long ended.
        pause(Duration::from_secs(1));
        assert_eq!(body_size(&mut client), 3_000_000, "{what}");
    }
    world.end(proxy);
}

#[test]
fn a_body_that_was_sent_without_leave_does_not_cut_its_refusal() {
    let world = World::new();
    let proxy = in_front_of(&world, refusing(100_000), "", "");
    for size in [1000, 2_000_000] {
        let head = format!(
            "POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: {size}\r\nExpect: 100-continue\r\n\r\n"
        );
        let mut client = narrow(proxy.address());
        client.write_all(head.as_bytes()).unwrap();
        pause(Duration::from_millis(300));
        client.write_all(&vec![b'b'; size]).unwrap();
        assert_eq!(body_size(&mut client), 100_000, "{size}");
    }
    world.end(proxy);
}

#[test]
fn what_the_parser_refuses_is_told_though_more_comes() {
    let world = World::new();
    let proxy = in_front_of(&world, refusing(2), "", "max_head_size = '8KiB'");
    let mut client = narrow(proxy.address());
    let head = [
        b"GET /x HTTP/1.1\r\nHost: localhost\r\nX: ",
        &*vec![b'x'; 8_000_000],
    ]
    .concat();
    client.write_all(&head).unwrap();
    pause(Duration::from_millis(300));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    assert!(
        all.starts_with(b"HTTP/1.1 431 "),
        "{}",
        String::from_utf8_lossy(&all)
    );
    world.end(proxy);
}

#[test]
fn the_end_of_the_process_cuts_no_answer_before_pipelined_requests() {
    let world = World::new();
    let mut proxy = in_front_of(&world, refusing(3_000_000), "", "");
    let mut client = narrow(proxy.address());
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(&get.repeat(400)).unwrap();
    pause(Duration::from_millis(500));
    proxy.signal(Signal::TERM);
    pause(Duration::from_millis(500));
    let mut all = Vec::new();
    client.read_to_end(&mut all).unwrap();
    // Whole ones, and then the end.
    let whole = client::find(&all, b"\r\n\r\n").unwrap() + 4 + 3_000_000;
    assert_eq!(all.len() % whole, 0, "{} of {whole}", all.len());
    assert_eq!(proxy.wait().code(), Some(0));
}

#[test]
fn a_client_that_does_not_end_is_not_waited_for() {
    let world = World::new();
    let proxy = in_front_of(&world, refusing(2), "", "stall_timeout = '8s'");
    let open = "watsonx_auth_proxy_connections{listener=\"local\"}";
    let mut client = client::connect(proxy.address());
    client.write_all(&[GET, b"\r\n"].concat()).unwrap();
    assert_eq!(body_size(&mut client), 2);
    assert!(proxy.metric(open) > 0.5, "it is still read");
    eventually("no place is taken", || {
        (proxy.metric(open) < 0.5).then_some(())
    });
    world.end(proxy);
}

#[test]
fn a_client_that_has_said_all_takes_no_place_after_the_end() {
    let world = World::new();
    let proxy = in_front_of(&world, refusing(2), "", "stall_timeout = '1h'");
    let mut client = client::connect(proxy.address());
    client.write_all(GET).unwrap();
    assert_eq!(body_size(&mut client), 2);
    let open = "watsonx_auth_proxy_connections{listener=\"local\"}";
    let began = Instant::now();
    eventually("no place is taken", || {
        (proxy.metric(open) < 0.5).then_some(())
    });
    assert!(began.elapsed() < Duration::from_secs(20), "it lingers");
    world.end(proxy);
}

#[test]
fn nor_does_it_hold_the_end_of_the_process() {
    let world = World::new();
    let mut proxy = in_front_of(&world, refusing(2), "", "");
    let mut client = client::connect(proxy.address());
    client.write_all(GET).unwrap();
    assert_eq!(body_size(&mut client), 2);
    let began = Instant::now();
    proxy.signal(Signal::TERM);
    assert_eq!(proxy.wait().code(), Some(0));
    let took = began.elapsed();
    assert!(took < Duration::from_secs(20), "{took:?}");
}
