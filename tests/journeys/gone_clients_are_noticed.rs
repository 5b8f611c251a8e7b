//! A client that has gone is noticed while the upstream still thinks, whatever it left behind: its request gives up its
//! seat, its connection, and the upstream's.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::Duration,
};

use socket2::SockRef;

use crate::{
    client::{self, eventually, pause, read_one},
    proxy::{Proxy, World},
    scripted::{head, in_front_of, scripted},
    tls_both_ways::over_tls,
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
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["localhost".into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    world.write("tls.crt", &certificate.pem());
    world.write("tls.key", &key.serialize_pem());
    let tls = "tls = { certificate = 'tls.crt', key = 'tls.key' }";
    let proxy = before_a_silent_upstream(&world, tls);
    let mut client = over_tls(&proxy, certificate.pem().as_bytes(), "localhost");
    client
        .write_all(&[handshake("/chat", &[]), b"x".to_vec()].concat())
        .unwrap();
    is_under_way(&proxy);
    // Without a word of TLS.
    drop(client);
    is_given_up(&proxy, "the connection below");
    world.end(proxy);
}

#[test]
fn one_that_waits_is_not_taken_for_one_that_has_gone() {
    let world = World::new();
    let address = scripted(|stream: &mut TcpStream, _| {
        pause(Duration::from_secs(6));
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
        let _ = head(stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nyes");
        let _ = head(stream);
    });
    let proxy = in_front_of(&world, address, "", "");
    let mut client = client::connect(proxy.address());
    let get = b"GET /x HTTP/1.1\r\nHost: localhost\r\n\r\n";
    client.write_all(&get.repeat(2)).unwrap();
    assert_eq!(read_one(&mut client).text(), "ok");
    assert_eq!(read_one(&mut client).text(), "yes");
    world.end(proxy);
}
