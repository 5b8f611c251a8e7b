//! An upstream that asks for a client certificate gets the one of its table; who refuses it is told of as a fault of TLS,
//! though TLS 1.3 refuses it only when the request has gone out.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Mutex},
    thread,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use rustls::{
    RootCertStore, ServerConfig, ServerConnection, StreamOwned, SupportedProtocolVersion,
    pki_types::PrivatePkcs8KeyDer, server::WebPkiClientVerifier, version,
};

use crate::{proxy::World, scripted::head};

/// An authority of servers or of their clients.
type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::new([]).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Writes a certificate that an authority has signed, and its key.
fn write(world: &World, name: &str, authority: &Authority, until: i32) {
    let mut params = CertificateParams::new(vec!["proxy.internal".into()]).unwrap();
    params.not_after = date_time_ymd(until, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    world.write(&format!("{name}.crt"), &certificate.pem());
    world.write(&format!("{name}.key"), &key.serialize_pem());
}

/// A server that wants a certificate of these clients, and writes down the heads that reach it.
fn asking(
    world: &World,
    clients: &Authority,
    version: &'static SupportedProtocolVersion,
) -> (SocketAddr, Arc<Mutex<Vec<String>>>) {
    let servers = authority();
    world.write("asking.crt", &servers.pem());
    let key = KeyPair::generate().unwrap();
    let params = CertificateParams::new(vec!["127.0.0.1".into()]).unwrap();
    let certificate = params.signed_by(&key, &servers).unwrap();

    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(clients.der().clone()).unwrap();
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider.clone());
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .unwrap()
        .with_client_cert_verifier(verifier.build().unwrap())
        .with_single_cert(
            vec![certificate.der().clone()],
            PrivatePkcs8KeyDer::from(key.serialize_der()).into(),
        )
        .unwrap();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let (config, heads) = (Arc::new(config), Arc::new(Mutex::new(Vec::new())));
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let kept = Arc::clone(&heads);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let connection = ServerConnection::new(Arc::clone(&config)).unwrap();
            let (stream, kept) = (stream.unwrap(), Arc::clone(&kept));
            thread::spawn(move || answer(StreamOwned::new(connection, stream), &kept));
        }
    });
    (address, heads)
}

fn answer(mut tls: StreamOwned<ServerConnection, TcpStream>, heads: &Mutex<Vec<String>>) {
    while let Some(head) = head(&mut tls) {
        heads.lock().unwrap().push(head);
        let _ = tls.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n");
    }
    // What is on its way is read, so that the alert is not lost to a reset.
    let _ = tls.sock.shutdown(Shutdown::Write);
    let _ = tls.sock.read_to_end(&mut Vec::new());
}

#[test]
fn the_one_of_its_table_is_shown_and_a_refusal_is_a_fault_of_tls() {
    for version in [&version::TLS13, &version::TLS12] {
        let world = World::new();
        let (clients, others) = (authority(), authority());
        write(&world, "right", &clients, 2100);
        write(&world, "expired", &clients, 2001);
        write(&world, "other", &others, 2100);
        let (address, heads) = asking(&world, &clients, version);
        for (shown, protocol, status) in [
            ("certificate = 'right.crt', key = 'right.key'", "http1", 200),
            (
                "certificate = 'expired.crt', key = 'expired.key'",
                "http1",
                502,
            ),
            ("certificate = 'other.crt', key = 'other.key'", "http1", 502),
            (
                "certificate = 'missing.crt', key = 'missing.key'",
                "http1",
                502,
            ),
            ("insecure = false", "http1", 502),
            ("certificate = 'other.crt', key = 'other.key'", "http2", 502),
            ("insecure = false", "http2", 502),
        ] {
            let proxy = world.start_with(&format!(
                "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\n\
                 [listener.local]\naddress = '127.0.0.1:0'\n\
                 [upstream.asking]\nurl = 'https://{address}'\nprotocol = '{protocol}'\n\
                 tls = {{ ca = 'asking.crt', {shown} }}\n\
                 [credential.asking.token]\nvalue = {{ file = 'license-token' }}\nupstream = 'asking'\n\
                 [route.asking]\npath = '/'\nupstream = 'asking'\nattach = 'asking'\n"
            ));
            proxy.ready();
            for method in ["GET", "POST"] {
                let answer = proxy.send(method, "/x", &[], b"");
                assert_eq!(answer.status, status, "{shown}: {}", proxy.printed());
                if status == 502 {
                    let code = answer.code();
                    assert_eq!(code, "upstream_tls", "{shown} {protocol} {method}");
                }
            }
            let told = match shown.contains("missing") {
                true => "TLS settings cannot be loaded",
                false => "received fatal alert",
            };
            let has_told = status == 200 || proxy.printed().contains(told);
            assert!(has_told, "{shown} {protocol}: {}", proxy.printed());
            let reached = std::mem::take(&mut *heads.lock().unwrap());
            assert_eq!(reached.len(), if status == 200 { 2 } else { 0 }, "{shown}");
            world.end(proxy);
        }
    }
}
