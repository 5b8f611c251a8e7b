//! Which servers are trusted, over real handshakes with certificates made here.

#![expect(clippy::unwrap_used, reason = "what goes wrong here is a failed test")]

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ::aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    PublicKeyData as _, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use token_source::{
    ConnectError, Connector, Location, Origin, Trust,
    tls::{Identity, Roots},
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A certificate with its key.
struct Made {
    certificate: rcgen::Certificate,
    key: KeyPair,
    params: CertificateParams,
}

impl Made {
    fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            key,
            params,
        }
    }

    fn signed_by(params: CertificateParams, issuer: &Self) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        Self {
            certificate: params.signed_by(&key, &issuer).unwrap(),
            key,
            params,
        }
    }

    fn ca() -> Self {
        Self::self_signed(with_ca(params(&[]), CA))
    }

    fn pin(&self) -> [u8; 32] {
        let digest = digest::digest(&digest::SHA256, &self.key.subject_public_key_info());
        digest.as_ref().try_into().unwrap()
    }
}

const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        names.first().map_or("a root", String::as_str),
    );
    params
}

fn with_ca(mut params: CertificateParams, is_ca: IsCa) -> CertificateParams {
    params.is_ca = is_ca;
    params
}

fn dated(mut params: CertificateParams, from: i32, to: i32) -> CertificateParams {
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

fn expired(names: &[&str]) -> CertificateParams {
    dated(params(names), 2000, 2001)
}

/// A server that says "hello" to everybody it has shaken hands with.
async fn serve(made: &Made, client_ca: Option<&Made>) -> SocketAddr {
    let chain = vec![made.certificate.der().clone()];
    let key = PrivateKeyDer::try_from(made.key.serialize_der()).unwrap();
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(provider.clone())
        .with_safe_default_protocol_versions()
        .unwrap();
    let builder = match client_ca {
        None => builder.with_no_client_auth(),
        Some(ca) => {
            let mut roots = RootCertStore::empty();
            roots.add(ca.certificate.der().clone()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
                .build()
                .unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        loop {
            let (tcp, _) = listener.accept().await.unwrap();
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                if let Ok(mut stream) = acceptor.accept(tcp).await {
                    let _ = stream.write_all(b"hello").await;
                    let _ = stream.shutdown().await;
                }
            });
        }
    });
    address
}

/// Files of one test.
struct Files(TempDir);

impl Files {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    fn bundle(&self, certificates: &[&Made]) -> Roots {
        let pem: String = certificates
            .iter()
            .map(|made| made.certificate.pem())
            .collect();
        Roots::Bundle(Location::File {
            path: self.write("ca.pem", &pem),
            field: None,
        })
    }
}

fn connector(host: &str, address: SocketAddr, trust: Trust) -> Connector {
    Connector::new(
        Origin::parse(
            &format!("https://{host}:{}", address.port()),
            Arc::new(trust),
        )
        .unwrap(),
    )
}

/// What the server says, or why there is no connection.
async fn greet(connector: &Connector) -> Result<String, String> {
    let mut connection = connector.connect(LIMIT).await.map_err(|error| {
        assert!(matches!(error, ConnectError::Tls(_)), "{error:?}");
        error.cause()
    })?;
    let mut said = String::new();
    connection
        .read_to_string(&mut said)
        .await
        .map_err(|error| error.to_string())?;
    Ok(said)
}

/// Connects to `made` as `localhost` and expects a greeting, or a refusal that names `reason`.
async fn expect(made: &Made, trust: Trust, reason: Option<&str>) {
    let address = serve(made, None).await;
    check(greet(&connector("localhost", address, trust)).await, reason);
}

#[track_caller]
fn check(outcome: Result<String, String>, reason: Option<&str>) {
    match (outcome, reason) {
        (Ok(said), None) => assert_eq!(said, "hello"),
        (Err(cause), Some(reason)) => assert!(cause.contains(reason), "{cause}"),
        (outcome, reason) => panic!("{outcome:?} instead of {reason:?}"),
    }
}

#[tokio::test]
async fn a_bundle_vouches_for_what_its_roots_signed() {
    let files = Files::new();
    let ca = Made::ca();
    let trust = Trust {
        roots: files.bundle(&[&ca]),
        ..Trust::default()
    };
    expect(
        &Made::signed_by(params(&["localhost"]), &ca),
        trust.clone(),
        None,
    )
    .await;
    expect(
        &Made::signed_by(params(&["elsewhere"]), &ca),
        trust.clone(),
        Some("not valid for name"),
    )
    .await;
    expect(
        &Made::signed_by(expired(&["localhost"]), &ca),
        trust.clone(),
        Some("expired"),
    )
    .await;
    expect(
        &Made::signed_by(params(&["localhost"]), &Made::ca()),
        trust.clone(),
        Some("invalid peer certificate"),
    )
    .await;
    expect(
        &Made::self_signed(params(&["localhost"])),
        trust,
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn the_systems_roots_do_not_vouch_for_strangers() {
    let ca = Made::ca();
    expect(
        &Made::signed_by(params(&["localhost"]), &ca),
        Trust::default(),
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn a_listed_leaf_is_trusted_as_it_is() {
    for is_ca in [IsCa::NoCa, CA] {
        let files = Files::new();
        let made = |params| Made::self_signed(with_ca(params, is_ca));
        let leaf = made(params(&["localhost"]));
        expect(
            &leaf,
            Trust {
                roots: files.bundle(&[&leaf]),
                ..Trust::default()
            },
            None,
        )
        .await;
        let other = made(params(&["elsewhere"]));
        let trust = Trust {
            roots: files.bundle(&[&other]),
            ..Trust::default()
        };
        expect(&other, trust.clone(), Some("not valid for name")).await;
        expect(&leaf, trust, Some("invalid peer certificate")).await;
        let old = made(expired(&["localhost"]));
        expect(
            &old,
            Trust {
                roots: files.bundle(&[&old]),
                ..Trust::default()
            },
            Some("expired"),
        )
        .await;
    }
}

#[tokio::test]
async fn a_listed_leaf_does_not_vouch_for_others() {
    let files = Files::new();
    let leaf = Made::self_signed(params(&["elsewhere"]));
    let forged = Made::signed_by(params(&["localhost"]), &leaf);
    expect(
        &forged,
        Trust {
            roots: files.bundle(&[&leaf]),
            ..Trust::default()
        },
        Some("UnknownIssuer"),
    )
    .await;
}

#[tokio::test]
async fn a_pin_replaces_the_chain_but_not_name_and_dates() {
    let pinned = |made: &Made| Trust {
        pins: vec![[0; 32], made.pin()],
        ..Trust::default()
    };
    for is_ca in [IsCa::NoCa, CA] {
        let leaf = Made::self_signed(with_ca(params(&["localhost"]), is_ca));
        expect(&leaf, pinned(&leaf), None).await;
        expect(&leaf, pinned(&Made::ca()), Some("invalid peer certificate")).await;
    }
    let elsewhere = Made::self_signed(params(&["elsewhere"]));
    expect(&elsewhere, pinned(&elsewhere), Some("not valid for name")).await;
    let old = Made::self_signed(expired(&["localhost"]));
    expect(&old, pinned(&old), Some("expired")).await;
    let future = dated(params(&["localhost"]), 2900, 2901);
    let early = Made::self_signed(future);
    expect(&early, pinned(&early), Some("not valid yet")).await;
}

#[tokio::test]
async fn pin_and_roots_must_both_hold() {
    let files = Files::new();
    let (ca, stranger) = (Made::ca(), Made::ca());
    let leaf = Made::signed_by(params(&["localhost"]), &ca);
    let trust = |roots, pins| Trust {
        roots,
        pins,
        ..Trust::default()
    };
    expect(&leaf, trust(files.bundle(&[&ca]), vec![leaf.pin()]), None).await;
    expect(
        &leaf,
        trust(files.bundle(&[&ca]), vec![stranger.pin()]),
        Some("invalid peer certificate"),
    )
    .await;
    expect(
        &leaf,
        trust(files.bundle(&[&stranger]), vec![leaf.pin()]),
        Some("invalid peer certificate"),
    )
    .await;
}

#[tokio::test]
async fn insecure_takes_anything() {
    let old = Made::self_signed(with_ca(expired(&["elsewhere"]), CA));
    expect(
        &old,
        Trust {
            insecure: true,
            ..Trust::default()
        },
        None,
    )
    .await;
}

#[tokio::test]
async fn another_name_can_be_checked_and_addresses_are_names() {
    let files = Files::new();
    let leaf = Made::self_signed(params(&["cpd.example.com", "127.0.0.1"]));
    let address = serve(&leaf, None).await;
    let trust = Trust {
        roots: files.bundle(&[&leaf]),
        ..Trust::default()
    };
    check(
        greet(&connector("localhost", address, trust.clone())).await,
        Some("not valid for name"),
    );
    check(
        greet(&connector("127.0.0.1", address, trust.clone())).await,
        None,
    );
    let named = Trust {
        server_name: Some("cpd.example.com".into()),
        ..trust.clone()
    };
    check(greet(&connector("localhost", address, named)).await, None);
    let nonsense = Trust {
        server_name: Some("no name".into()),
        ..trust
    };
    check(
        greet(&connector("localhost", address, nonsense)).await,
        Some("name cannot be checked"),
    );
}

#[tokio::test]
async fn we_show_our_own_certificate() {
    let files = Files::new();
    let (ca, server) = (Made::ca(), Made::self_signed(params(&["localhost"])));
    let mut client = params(&["client"]);
    client.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let client = Made::signed_by(client, &ca);
    let address = serve(&server, Some(&ca)).await;
    let trust = Trust {
        roots: files.bundle(&[&server]),
        ..Trust::default()
    };
    let outcome = greet(&connector("localhost", address, trust.clone())).await;
    assert!(
        outcome.is_err(),
        "the server wants a certificate: {outcome:?}"
    );
    let certificate = files.write("tls.crt", &client.certificate.pem());
    let identity = |key: &str| {
        Some(Identity {
            certificate: certificate.clone(),
            key: files.write("tls.key", key),
        })
    };
    let shown = Trust {
        identity: identity(&client.key.serialize_pem()),
        ..trust.clone()
    };
    check(greet(&connector("localhost", address, shown)).await, None);
    for key in [server.key.serialize_pem().as_str(), "no key"] {
        let broken = Trust {
            identity: identity(key),
            ..trust.clone()
        };
        check(
            greet(&connector("localhost", address, broken)).await,
            Some("belong together"),
        );
    }
}

#[tokio::test]
async fn a_ca_file_that_appears_or_is_replaced_heals_the_next_connection() {
    let files = Files::new();
    let path = files.0.path().join("ca.pem");
    let leaf = Made::self_signed(params(&["localhost"]));
    let address = serve(&leaf, None).await;
    let roots = Roots::Bundle(Location::File {
        path: path.clone(),
        field: None,
    });
    let connector = connector(
        "localhost",
        address,
        Trust {
            roots,
            ..Trust::default()
        },
    );
    check(
        greet(&connector).await,
        Some("CA bundle cannot be used: does not exist"),
    );
    fs::write(&path, "no certificate").unwrap();
    check(greet(&connector).await, Some("holds no certificate"));
    fs::write(&path, Made::ca().certificate.pem()).unwrap();
    check(greet(&connector).await, Some("UnknownIssuer"));
    fs::write(&path, leaf.certificate.pem()).unwrap();
    check(greet(&connector).await, None);
    // Loaded once, the file is not needed any more.
    fs::remove_file(&path).unwrap();
    check(greet(&connector).await, None);
}

#[tokio::test]
async fn no_server_and_no_tls_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let insecure = Trust {
        insecure: true,
        ..Trust::default()
    };
    let connector = connector("127.0.0.1", address, insecure);
    // Accepted by the kernel, but nobody shakes hands.
    let outcome = connector.connect(Duration::from_millis(50)).await;
    assert!(matches!(outcome, Err(ConnectError::Timeout)), "{outcome:?}");
    let plain = tokio::spawn(async move {
        loop {
            let (mut tcp, _) = listener.accept().await.unwrap();
            if tcp
                .write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                .await
                .is_ok()
            {
                // Read to the end, so that closing does not reset what was written.
                let _ = tcp.shutdown().await;
                let _ = tcp.read_to_end(&mut Vec::new()).await;
            }
        }
    });
    let outcome = connector.connect(LIMIT).await;
    assert!(matches!(outcome, Err(ConnectError::Tls(_))), "{outcome:?}");
    plain.abort();
    let _ = plain.await;
    let outcome = connector.connect(LIMIT).await;
    assert!(
        matches!(outcome, Err(ConnectError::Unreachable(_))),
        "{outcome:?}"
    );
}

/// Long enough never to matter on a slow machine.
const LIMIT: Duration = Duration::from_secs(60);
