//! TLS towards upstreams is checked, and TLS towards clients works without anybody switching checks off.

use std::{
    io::{self, Read, Write},
    net::TcpStream,
    os::unix::fs::PermissionsExt as _,
    sync::Arc,
};

use rustls::{
    ClientConfig, ClientConnection, RootCertStore, StreamOwned,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};

use crate::{
    client,
    proxy::{Proxy, World},
};

const ROUTE: &str = "[route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'open'\n";

/// A proxy whose upstream is trusted by what `tls` says, with a credential that needs no login.
fn trusting(world: &World, tls: &str, host: &str) -> Proxy {
    let url = world.simulator.platform_url().replace("127.0.0.1", host);
    world.start_with(&format!(
        "workers = 1\nadmin = {{ address = '127.0.0.1:0' }}\nlistener.local = {{ address = '127.0.0.1:0' }}\n\
         [upstream.platform]\nurl = '{url}'\n{tls}\n[credential.open.token]\nvalue = {{ file = 'license-token' }}\n{ROUTE}"
    ))
}

#[test]
fn an_upstream_is_trusted_by_its_chain_or_its_key_or_not_at_all() {
    let world = World::new();
    let other = simulator::Simulator::start(simulator::Options::default()).unwrap();
    other.write_ca(world.path("other.crt")).unwrap();
    let key = pin_of(world.simulator.leaf_pem());
    let wrong = pin_of(other.leaf_pem());
    for (tls, status) in [
        ("tls = { ca = 'ca.crt' }".to_owned(), 200),
        (format!("tls = {{ pin = ['{wrong}', '{key}'] }}"), 200),
        ("tls = { insecure = true }".to_owned(), 200),
        (String::new(), 502),
        ("tls = { ca = 'other.crt' }".to_owned(), 502),
        ("tls = { ca = 'missing.crt' }".to_owned(), 502),
        (format!("tls = {{ pin = ['{wrong}'] }}"), 502),
        (
            "tls = { ca = 'ca.crt', server_name = 'elsewhere.example' }".to_owned(),
            502,
        ),
    ] {
        world.simulator.clear_requests();
        let proxy = trusting(&world, &tls, "127.0.0.1");
        let answer = proxy.get("/simulator/status/200", &[]);
        assert_eq!(answer.status, status, "{tls}: {}", answer.text());
        if status == 502 {
            assert_eq!(answer.code(), "upstream_tls", "{tls}");
            assert!(world.got().is_empty(), "{tls}: something was sent");
            let is_told = proxy.printed().contains("its key is none of those in pin");
            assert_eq!(is_told, tls.contains("pin"), "{tls}");
        }
        let waived = proxy.metric("watsonx_auth_proxy_waivers{kind=\"insecure\"}") > 0.0;
        assert_eq!(waived, tls.contains("insecure"));
        world.end(proxy);
    }
}

#[test]
fn a_ca_file_that_comes_late_heals() {
    let world = World::new();
    let ca = std::fs::read_to_string(world.path("ca.crt")).unwrap();
    std::fs::remove_file(world.path("ca.crt")).unwrap();
    let proxy = trusting(&world, "tls = { ca = 'ca.crt' }", "localhost");
    assert_eq!(
        proxy.get("/simulator/status/200", &[]).code(),
        "upstream_tls"
    );
    world.write("ca.crt", &ca);
    assert_eq!(proxy.get("/simulator/status/200", &[]).status, 200);
    world.end(proxy);
}

#[test]
fn a_local_ca_is_made_once_and_clients_trust_it() {
    let world = World::new();
    let config = world.config(
        "state_dir = 'state'\n",
        "listener.tls = { address = '127.0.0.1:0', tls = { self_signed = true } }\n\
         [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\n",
    );
    let mut first = None;
    for _ in 0..2 {
        let proxy = world.start_with(&config);
        let ca = std::fs::read(world.path("state/ca.crt")).unwrap();
        let mode = std::fs::metadata(world.path("state/ca.key"))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600);
        assert!(!world.path("state/ca.new").exists());
        assert_eq!(*first.get_or_insert(ca.clone()), ca, "made once");
        let mut stream = over_tls(&proxy, &ca, "localhost");
        stream
            .write_all(&client::request(
                "GET",
                "/ml/v1/foundation_model_specs?version=2025-02-01",
                &[],
                b"",
            ))
            .unwrap();
        let mut all = Vec::new();
        let ended = stream.read_to_end(&mut all);
        assert!(!all.is_empty(), "{ended:?}");
        assert_eq!(client::parse(&all).status, 200);
        world.end(proxy);
    }
}

#[test]
fn a_certificate_from_files_and_clients_that_speak_no_tls() {
    let world = World::new();
    let certificate = certificate_files(&world, "proxy.internal");
    let proxy = world.start(
        r#"
listener.tls = { address = "127.0.0.1:0", hosts = ["proxy.internal"], tls = { certificate = "tls.crt", key = "tls.key" } }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    );
    let mut plain = client::connect(proxy.address());
    plain
        .write_all(&client::request("GET", "/", &[], b""))
        .unwrap();
    let mut all = Vec::new();
    let _ = plain.read_to_end(&mut all);
    assert!(!all.starts_with(b"HTTP"), "plain HTTP on a TLS port");

    let mut stream = over_tls(&proxy, certificate.as_bytes(), "proxy.internal");
    let request = client::request(
        "GET",
        "/simulator/status/200",
        &["Host: proxy.internal", "Origin: https://proxy.internal"],
        b"",
    );
    stream.write_all(&request).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert_eq!(client::parse(&all).status, 200, "a page of ours calls");
    let ends = "watsonx_auth_proxy_certificate_expiry_timestamp_seconds{listener=\"tls\"}";
    // The first of January 4096, which is what rcgen says where nothing is said.
    assert_eq!(proxy.metric(ends), 67_090_118_400.0);
    world.end(proxy);
}

#[test]
fn a_local_ca_whose_halves_do_not_belong_together_is_made_anew() {
    let world = World::new();
    let config = world.config(
        "state_dir = 'state'\n",
        "listener.tls = { address = '127.0.0.1:0', tls = { self_signed = true } }\n\
         [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\n",
    );
    let end = |proxy| world.end(proxy);
    end(world.start_with(&config));
    let other = rcgen::KeyPair::generate().unwrap();
    world.write("state/ca.key", &other.serialize_pem());
    let proxy = world.start_with(&config);
    let ca = std::fs::read(world.path("state/ca.crt")).unwrap();
    let mut stream = over_tls(&proxy, &ca, "localhost");
    let request = client::request("GET", "/simulator/status/200", &[], b"");
    stream.write_all(&request).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert_eq!(client::parse(&all).status, 200);
    end(proxy);
}

/// A client whose handshake comes in records of one byte each, one after another.
struct InPieces(TcpStream);

impl Read for InPieces {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for InPieces {
    fn write(&mut self, records: &[u8]) -> io::Result<usize> {
        let mut rest = records;
        while let [kind, high, low, more @ ..] = rest {
            let size = usize::from(u16::from_be_bytes([more[0], more[1]]));
            let (body, behind) = more[2..].split_at(size);
            if *kind == HANDSHAKE {
                for byte in body {
                    self.0.write_all(&[*kind, *high, *low, 0, 1, *byte])?;
                }
            } else {
                self.0.write_all(&rest[..RECORD_HEADER + size])?;
            }
            rest = behind;
        }
        Ok(records.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// The kind of a TLS record that belongs to a handshake in clear.
const HANDSHAKE: u8 = 22;

const RECORD_HEADER: usize = 5;

#[test]
fn a_handshake_in_pieces_is_a_handshake_and_records_of_nothing_end_on_time() {
    let world = World::new();
    let certificate = certificate_files(&world, "localhost");
    let proxy = world.start(
        "[listener.tls]\naddress = '127.0.0.1:0'\nhead_timeout = '2s'\n\
         tls = { certificate = 'tls.crt', key = 'tls.key' }\n\
         [route.platform]\npath = '/'\nupstream = 'platform'\nattach = 'platform'\n",
    );
    let request = client::request("GET", "/simulator/status/200", &[], b"");
    let StreamOwned { conn, sock } = over_tls(&proxy, certificate.as_bytes(), "localhost");
    let mut stream = StreamOwned::new(conn, InPieces(sock));
    stream.write_all(&request).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert_eq!(client::parse(&all).status, 200);

    let nothing = |kind: u8| [kind, 3, 3, 0, 0].repeat(10_000);
    let oversized = [&[HANDSHAKE, 3, 3, 0xff, 0xff][..], &[1; 70_000]].concat();
    let alone = [&[HANDSHAKE, 3, 3, 0, 4][..], &[1, 0xff, 0xff, 0xff]].concat();
    let old = b"\x80\x2e\x01\x00\x02\x00\x15\x00\x00\x00\x10".to_vec();
    for hello in [nothing(22), nothing(20), nothing(23), oversized, alone, old] {
        let mut stream = client::connect(proxy.address());
        // It may be over before all is said.
        let _ = stream.write_all(&hello);
        let mut told = Vec::new();
        let ended = stream.read_to_end(&mut told);
        let is_reset =
            matches!(&ended, Err(error) if error.kind() == io::ErrorKind::ConnectionReset);
        assert!(ended.is_ok() || is_reset, "{ended:?}: {:?}", &hello[..8]);
        assert!(!told.starts_with(b"HTTP"));
    }
    let mut stream = over_tls(&proxy, certificate.as_bytes(), "localhost");
    stream.write_all(&request).unwrap();
    let mut all = Vec::new();
    let _ = stream.read_to_end(&mut all);
    assert_eq!(client::parse(&all).status, 200);
    world.end(proxy);
}

/// Writes `tls.crt` and `tls.key` for a listener of this name; returns the certificate.
pub(crate) fn certificate_files(world: &World, name: &str) -> String {
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec![name.into()])
        .unwrap()
        .self_signed(&key)
        .unwrap();
    world.write("tls.crt", &certificate.pem());
    world.write("tls.key", &key.serialize_pem());
    certificate.pem()
}

pub(crate) fn over_tls(
    proxy: &Proxy,
    roots: &[u8],
    name: &'static str,
) -> StreamOwned<ClientConnection, TcpStream> {
    let mut store = RootCertStore::empty();
    store
        .add(CertificateDer::from_pem_slice(roots).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_root_certificates(store)
        .with_no_client_auth();
    let connection =
        ClientConnection::new(Arc::new(config), ServerName::try_from(name).unwrap()).unwrap();
    StreamOwned::new(connection, client::connect(proxy.address()))
}

/// `sha256:` and the hash of a certificate's public key, as the configuration has it.
fn pin_of(pem: &str) -> String {
    let (_, pem) = x509_parser::pem::parse_x509_pem(pem.as_bytes()).unwrap();
    let certificate = pem.parse_x509().unwrap();
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate.public_key().raw);
    let hex: String = hash
        .as_ref()
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    format!("sha256:{hex}")
}
