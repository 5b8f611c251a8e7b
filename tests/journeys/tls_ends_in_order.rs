//! What ends without the end that TLS has is cut, and a handshake that does not go on holds up nobody.

use std::{
    io::{Read as _, Write as _},
    net::Shutdown,
};

use rustls::StreamOwned;
use tokio::time::Instant;

use crate::{
    client,
    proxy::World,
    scripted::{head, tls_server},
};

/// A key, and a certificate for this machine.
fn certificate() -> (rcgen::KeyPair, rcgen::Certificate) {
    let key = rcgen::KeyPair::generate().unwrap();
    let names = vec!["localhost".into(), "127.0.0.1".into()];
    let params = rcgen::CertificateParams::new(names).unwrap();
    let certificate = params.self_signed(&key).unwrap();
    (key, certificate)
}

#[test]
fn an_answer_without_the_end_of_tls_is_seen_as_cut() {
    for says_the_end in [true, false] {
        let world = World::new();
        let (key, certificate) = certificate();
        world.write("odd.crt", &certificate.pem());
        let address = tls_server(
            certificate.der().clone(),
            &key,
            move |connection, stream| {
                let mut tls = StreamOwned::new(connection, stream);
                if head(&mut tls).is_none() {
                    return;
                }
                tls.write_all(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nhalf of it")
                    .unwrap();
                if says_the_end {
                    tls.conn.send_close_notify();
                }
                tls.flush().unwrap();
                tls.sock.shutdown(Shutdown::Write).unwrap();
                // To the end, so that nothing is reset.
                let _ = tls.sock.read_to_end(&mut Vec::new());
            },
        );
        let proxy = world.start(&format!(
            "listener.local = {{ address = '127.0.0.1:0' }}\n\
             [upstream.odd]\nurl = 'https://{address}'\ntls = {{ ca = 'odd.crt' }}\n\
             [route.odd]\npath = '/'\nupstream = 'odd'\n"
        ));
        let mut stream = client::connect(proxy.address());
        stream
            .write_all(&client::request("GET", "/", &[], b""))
            .unwrap();
        let mut all = Vec::new();
        let _ = stream.read_to_end(&mut all);
        assert!(client::find(&all, b"half of it").is_some());
        let has_ended = client::find(&all, b"\r\n0\r\n\r\n").is_some();
        assert_eq!(has_ended, says_the_end, "{}", String::from_utf8_lossy(&all));
        world.end(proxy);
    }
}

#[test]
fn a_handshake_that_stalls_ends_on_time_and_holds_up_nobody() {
    let world = World::new();
    let (key, certificate) = certificate();
    world.write("tls.crt", &certificate.pem());
    world.write("tls.key", &key.serialize_pem());
    let proxy = world.start(
        "[listener.local]\naddress = '127.0.0.1:0'\nhead_timeout = '2s'\n\
         tls = { certificate = 'tls.crt', key = 'tls.key' }\n\
         [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\n",
    );
    proxy.ready();
    // The beginning of a ClientHello, and no more.
    let began = Instant::now();
    let mut stalled: Vec<_> = (0..50).map(|_| client::connect(proxy.address())).collect();
    for stream in &mut stalled {
        stream.write_all(b"\x16\x03\x01\x02\x00\x01").unwrap();
    }
    let roots = certificate.pem();
    let mut other = crate::tls_both_ways::over_tls(&proxy, roots.as_bytes(), "localhost");
    other
        .write_all(&client::request("GET", "/simulator/status/200", &[], b""))
        .unwrap();
    let mut all = Vec::new();
    let _ = other.read_to_end(&mut all);
    assert_eq!(client::parse(&all).status, 200);
    for stream in &mut stalled {
        assert!(client::is_closed(stream));
    }
    assert!(
        began.elapsed().as_secs() < 30,
        "not by the client's patience"
    );
    world.end(proxy);
}
