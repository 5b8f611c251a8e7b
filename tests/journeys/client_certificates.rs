//! A caller with a certificate comes in by a name that the listener's authority has signed, over either protocol, and by
//! nothing else that the certificate says.

use std::{
    io::{Read as _, Write as _},
    sync::Arc,
};

use h2::client as http2;
use http::Request;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
    SanType,
};
use rustls::{
    ClientConfig, ClientConnection, HandshakeKind, RootCertStore, StreamOwned,
    SupportedProtocolVersion,
    pki_types::{
        CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, pem::PemObject as _,
    },
};
use tokio_rustls::TlsConnector;

use crate::{
    client::{self, Answer},
    proxy::{Proxy, World},
    streams::{Http2, Reply},
};

const KEY: &str = "canary-key-of-carol-0123";

/// An authority that signs certificates of clients.
struct Authority(CertifiedIssuer<'static, KeyPair>);

/// A certificate and its key, to be shown.
type Shown = (CertificateDer<'static>, PrivateKeyDer<'static>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap())
    }

    fn sign(&self, common_name: &str, dns: &[&str], uris: &[&str]) -> Shown {
        let dns = dns.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
        let mut params = CertificateParams::new(dns).unwrap();
        let uris = uris
            .iter()
            .map(|&uri| SanType::URI(uri.try_into().unwrap()));
        params.subject_alt_names.extend(uris);
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(DnType::CommonName, common_name);
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.0).unwrap();
        let key = PrivatePkcs8KeyDer::from(key.serialize_der());
        (signed.der().clone(), PrivateKeyDer::from(key))
    }
}

fn config(world: &World, shown: Option<&Shown>, protocol: &[u8]) -> Arc<ClientConfig> {
    config_of(world, shown, protocol, rustls::DEFAULT_VERSIONS)
}

fn config_of(
    world: &World,
    shown: Option<&Shown>,
    protocol: &[u8],
    versions: &[&'static SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let mut roots = RootCertStore::empty();
    let ca = std::fs::read(world.path("state/ca.crt")).unwrap();
    roots
        .add(CertificateDer::from_pem_slice(&ca).unwrap())
        .unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(versions)
        .unwrap()
        .with_root_certificates(roots);
    let mut config = match shown {
        Some((certificate, key)) => builder
            .with_client_auth_cert(vec![certificate.clone()], key.clone_key())
            .unwrap(),
        None => builder.with_no_client_auth(),
    };
    config.alpn_protocols = vec![protocol.to_vec()];
    Arc::new(config)
}

/// What a listener answers over HTTP/1.1; `None` where the handshake fails.
fn call(proxy: &Proxy, config: &Arc<ClientConfig>, lines: &[&str]) -> Option<Answer> {
    call_and_tell(proxy, config, lines).0
}

/// The same, and how hands were shaken.
fn call_and_tell(
    proxy: &Proxy,
    config: &Arc<ClientConfig>,
    lines: &[&str],
) -> (Option<Answer>, Option<HandshakeKind>) {
    let name = ServerName::try_from("localhost").unwrap();
    let connection = ClientConnection::new(Arc::clone(config), name).unwrap();
    let mut stream = StreamOwned::new(connection, client::connect(proxy.address()));
    let request = client::request("GET", "/simulator/status/200", lines, b"");
    let mut all = Vec::new();
    let sent = stream.write_all(&request);
    let _ = sent.and_then(|()| stream.read_to_end(&mut all));
    let kind = stream.conn.handshake_kind();
    ((!all.is_empty()).then(|| client::parse(&all)), kind)
}

async fn call_http2(proxy: &Proxy, config: Arc<ClientConfig>) -> Reply {
    let tcp = tokio::net::TcpStream::connect(proxy.address())
        .await
        .unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TlsConnector::from(config).connect(name, tcp).await.unwrap();
    let (sender, connection) = http2::handshake(stream).await.unwrap();
    tokio::spawn(connection);
    let client = Http2(sender.ready().await.unwrap());
    let target = "https://proxy.example/simulator/status/200";
    let request = Request::get(target).body(()).unwrap();
    client.send(request, None).await.unwrap()
}

fn rule(answer: &Answer) -> String {
    let status = answer.header("proxy-status").unwrap_or_default();
    let details = status.split("details=\"").nth(1).unwrap_or_default();
    format!("{} {}", answer.status, details.trim_end_matches('"'))
}

#[tokio::test]
async fn names_that_an_authority_signed_come_in() {
    let world = World::new();
    let (ours, theirs) = (Authority::new(), Authority::new());
    world.write("clients.crt", &ours.0.pem());
    world.write("carol", KEY);
    let proxy = world.start_with(&world.config(
        "state_dir = 'state'\n",
        r#"
listener.tls = { address = "127.0.0.1:0", callers = ["alice", "bob", "carol"], tls = { self_signed = true, client_ca = "clients.crt" } }
caller.alice = { certificate = "Alice.internal" }
caller.bob = { certificate = ["spiffe://example.org/Bob", "spiffe://example.org/bobby"] }
caller.carol = { certificate = "carol.internal", key = { file = "carol" } }
[route.platform]
path = "/"
upstream = "platform"
attach = "platform"
"#,
    ));
    proxy.ready();
    let status = |shown: &Shown| {
        let config = config(&world, Some(shown), b"http/1.1");
        // Any Host: a page of somebody else's name has no certificate for it.
        let answer = call(&proxy, &config, &["Host: proxy.example"]);
        answer.map_or("no handshake".to_owned(), |answer| rule(&answer))
    };
    let bob = "spiffe://example.org/Bob";
    for (common, dns, uris, expected) in [
        ("x", &["alice.internal"][..], &[][..], "200 "),
        ("x", &["x.internal", "ALICE.internal"], &[], "200 "),
        ("x", &[], &[bob], "200 "),
        ("x", &[], &["spiffe://example.org/bob"], "403 certificate"),
        ("alice.internal", &["x.internal"], &[], "403 certificate"),
        (bob, &["x.internal"], &[], "403 certificate"),
        ("x", &["*.internal"], &[], "403 certificate"),
        ("x", &["alice.internal.evil"], &[], "403 certificate"),
        // A key besides.
        ("x", &["carol.internal"], &[], "401 key"),
    ] {
        let shown = ours.sign(common, dns, uris);
        assert_eq!(status(&shown), expected, "{common} {dns:?} {uris:?}");
    }
    let forged = theirs.sign("alice.internal", &["alice.internal"], &[bob]);
    assert_eq!(status(&forged), "no handshake");

    let carol = config(
        &world,
        Some(&ours.sign("x", &["carol.internal"], &[])),
        b"http/1.1",
    );
    let key = format!("X-Proxy-Key: {KEY}");
    assert_eq!(call(&proxy, &carol, &[&key]).unwrap().status, 200);
    let nobody = config(&world, None, b"http/1.1");
    for lines in [&[][..], &[&*key]] {
        let answer = call(&proxy, &nobody, lines).unwrap();
        assert_eq!(rule(&answer), "403 certificate", "{lines:?}");
    }

    // Each connection shows the certificate: a session that is resumed would outlive it.
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let shown = ours.sign("x", &["alice.internal"], &[]);
        let again = config_of(&world, Some(&shown), b"http/1.1", &[version]);
        for _ in 0..2 {
            let (answer, kind) = call_and_tell(&proxy, &again, &[]);
            assert_eq!(answer.unwrap().status, 200);
            assert_eq!(kind, Some(HandshakeKind::Full), "{version:?}");
        }
    }

    let alice = config(
        &world,
        Some(&ours.sign("x", &["alice.internal"], &[])),
        b"h2",
    );
    assert_eq!(call_http2(&proxy, alice).await.status, 200);
    let refused = call_http2(&proxy, config(&world, None, b"h2")).await;
    assert_eq!(refused.status, 403);
    let counted = |caller: &str| {
        let page = proxy.admin("/metrics").text();
        let ours = page.lines().filter(|line| {
            line.starts_with("watsonx_auth_proxy_requests_total{route=\"platform\"")
                && line.contains(&format!("caller=\"{caller}\""))
        });
        ours.filter_map(|line| line.rsplit(' ').next()?.parse::<u32>().ok())
            .sum::<u32>()
    };
    assert_eq!(
        (counted("alice"), counted("bob"), counted("carol")),
        (2 + 4 + 1, 1, 1)
    );
    proxy.end([world.secrets(), vec![KEY.to_owned()]].concat());
}
