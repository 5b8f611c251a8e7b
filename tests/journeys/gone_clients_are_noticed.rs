//! A client that has gone is noticed while the upstream still thinks, whatever it left behind: its request gives up its
//! seat, its connection, and the upstream's.

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use socket2::SockRef;
use tokio::time::Instant;

use crate::{
    client::{self, eventually, pause, read_one},
    proxy::{Proxy, World},
    scripted::{head, in_front_of, scripted},
    tls_both_ways::{certificate_files, over_tls},
    websocket::handshake,
};

const UNDER_WAY: &str = "watsonx_auth_proxy_requests_in_flight{route=\"odd\"}";

/// A proxy whose upstream takes a request and says nothing, until its connection ends.
fn before_a_silent_upstream(world: &World, listener: &str) -> Proxy {
    let address = scripted(|stream, _| while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {});
    in_front_of(world, address, "", listener)
}

fn is_under_way(proxy: &Proxy) {
    eventually("the request is under way", || {
        (proxy.metric(UNDER_WAY) > 0.5).then_some(())
    });
}

fn is_given_up(proxy: &Proxy, what: &str) {
    eventually(what, || (proxy.metric(UNDER_WAY) < 0.5).then_some(()));
    eventually("it is told", || {
        proxy.printed().contains("\"client_gone\"").then_some(())
    });
}

#[test]
fn a_client_that_has_gone_is_noticed_though_a_byte_lies_behind_its_request() {
    let post = b"POST /x HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nabc\r\n";
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\nG";
    for (what, said) in [
        (
            "a handshake",
            [handshake("/chat", &[]), b"x".to_vec()].concat(),
        ),
        ("a POST and a stray line end", post.to_vec()),
        ("a GET and some of the next head", get.to_vec()),
    ] {
        for resets in [true, false] {
            let world = World::new();
            let proxy = before_a_silent_upstream(&world, "");
            let mut client = client::connect(proxy.address());
            client.write_all(&said).unwrap();
            is_under_way(&proxy);
            if resets {
                SockRef::from(&client)
                    .set_linger(Some(Duration::ZERO))
                    .unwrap();
            }
            drop(client);
            is_given_up(&proxy, what);
            world.end(proxy);
        }
    }
}

#[test]
fn so_is_one_over_tls() {
    let world = World::new();
    let certificate = certificate_files(&world, "localhost");
    let proxy = before_a_silent_upstream(&world, TLS);
    let mut client = over_tls(&proxy, certificate.as_bytes(), "localhost");
    client
        .write_all(&[handshake("/chat", &[]), b"x".to_vec()].concat())
        .unwrap();
    is_under_way(&proxy);
    // Without a word of TLS.
    drop(client);
    is_given_up(&proxy, "the connection below");
    world.end(proxy);
}

/// With the [`certificate_files`].
const TLS: &str = "tls = { certificate = 'tls.crt', key = 'tls.key' }";

/// Half of what lies between two looks for clients that are not heard.
const AT_ONCE: Duration = Duration::from_secs(1);

/// What an upstream tells of a request.
#[derive(Debug, PartialEq)]
enum Heard {
    /// It has come.
    Head,
    /// Its connection has ended.
    End,
}

/// An upstream that tells what it hears of a request. It says nothing, or without end.
fn upstream_that_hears() -> (SocketAddr, Receiver<Heard>) {
    let (tell, heard) = mpsc::channel();
    let address = scripted(move |stream, head| {
        let _ = tell.send(Heard::Head);
        match head.starts_with("GET /endless") {
            true => {
                let _ =
                    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 1099511627776\r\n\r\n");
                while stream.write_all(&[b'x'; 1 << 16]).is_ok() {}
            }
            false => while matches!(stream.read(&mut [0; 1024]), Ok(1..)) {},
        }
        let _ = tell.send(Heard::End);
    });
    (address, heard)
}

/// How long it takes until the upstream hears that a client has gone: the second shortest of a few tries, for a machine may
/// have other things to do.
fn heard_after<C>(heard: &Receiver<Heard>, come: impl Fn() -> C, go: impl Fn(&mut C)) -> Duration {
    let mut tries = [(); 4].map(|()| {
        let mut client = come();
        let next = || heard.recv_timeout(client::PATIENCE).expect("something");
        assert_eq!(next(), Heard::Head);
        // All that it says is on its way, and the proxy waits.
        pause(Duration::from_millis(300));
        let began = Instant::now();
        go(&mut client);
        assert_eq!(next(), Heard::End);
        began.elapsed()
    });
    tries.sort();
    tries[1]
}

#[test]
fn the_end_of_a_client_is_heard_at_once_whatever_it_has_said() {
    let world = World::new();
    let (address, heard) = upstream_that_hears();
    let proxy = in_front_of(&world, address, "", "");
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n";
    let post = b"POST /x HTTP/1.1\r\nHost: localhost\r\n";
    // As much as one read takes, so that the runtime does not know that there is nothing more.
    let exact = [&get[..], b"X: ", &[b'x'; 8192 - 41], b"\r\n\r\n"].concat();
    assert_eq!(exact.len(), 8192);
    for (what, said) in [
        ("a GET", [&get[..], b"\r\n"].concat()),
        (
            "a body",
            [&post[..], b"Content-Length: 3\r\n\r\nabc"].concat(),
        ),
        (
            "chunks",
            [
                &post[..],
                b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
            ]
            .concat(),
        ),
        ("a full buffer", exact),
    ] {
        let come = || {
            let mut client = client::connect(proxy.address());
            client.write_all(&said).unwrap();
            client
        };
        let took = heard_after(&heard, come, |client| {
            client.shutdown(Shutdown::Both).unwrap()
        });
        assert!(took < AT_ONCE, "{what}: {took:?}");
    }
    // It reads nothing, and the proxy's writing is blocked by that.
    let come = || {
        let mut client = client::connect(proxy.address());
        client
            .write_all(b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n")
            .unwrap();
        client
    };
    let took = heard_after(&heard, come, |client| {
        client.shutdown(Shutdown::Write).unwrap()
    });
    assert!(took < AT_ONCE, "an answer that is not read: {took:?}");
    world.end(proxy);
}

#[test]
fn so_is_the_end_that_tls_says_on_an_open_connection() {
    let world = World::new();
    let certificate = certificate_files(&world, "localhost");
    let (address, heard) = upstream_that_hears();
    let proxy = in_front_of(&world, address, "", TLS);
    for path in ["x", "endless"] {
        let come = || {
            let mut client = over_tls(&proxy, certificate.as_bytes(), "localhost");
            let head = format!("GET /{path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            client.write_all(head.as_bytes()).unwrap();
            client
        };
        let took = heard_after(&heard, come, |client| {
            client.conn.send_close_notify();
            client.flush().unwrap();
        });
        assert!(took < AT_ONCE, "{path}: {took:?}");
    }
    world.end(proxy);
}

#[test]
fn one_that_waits_is_not_taken_for_one_that_has_gone() {
    let world = World::new();
    let certificate = certificate_files(&world, "localhost");
    let slow = || {
        scripted(|stream: &mut TcpStream, _| {
            pause(Duration::from_secs(6));
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
            let _ = head(stream);
            let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
            let _ = head(stream);
        })
    };
    let proxy = in_front_of(&world, slow(), "", "");
    gets_two_answers(client::connect(proxy.address()));
    world.end(proxy);
    // TLS has taken the second request from the socket by the time the first is answered.
    let proxy = in_front_of(&world, slow(), "", TLS);
    gets_two_answers(over_tls(&proxy, certificate.as_bytes(), "localhost"));
    world.end(proxy);
}

fn gets_two_answers(mut client: impl Read + Write) {
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(&get.repeat(2)).unwrap();
    assert_eq!(read_one(&mut client).text(), "ok");
    assert_eq!(read_one(&mut client).text(), "yes");
}
