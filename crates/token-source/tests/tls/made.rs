//! Certificates, servers that show them, and what these say.

use std::{fs, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use ::aws_lc_rs::digest;
use rcgen::{
    BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, PublicKeyData as _, date_time_ymd,
};
use rustls::{
    RootCertStore, ServerConfig, crypto::aws_lc_rs, pki_types::PrivateKeyDer,
    server::WebPkiClientVerifier,
};
use tempfile::TempDir;
use token_source::{ConnectError, Connector, Location, Origin, Trust, tls::Roots};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use tokio_rustls::TlsAcceptor;

/// A certificate with its key.
pub(crate) struct Made {
    pub(crate) certificate: rcgen::Certificate,
    pub(crate) key: KeyPair,
    params: CertificateParams,
}

impl Made {
    pub(crate) fn self_signed(params: CertificateParams) -> Self {
        let key = KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap(),
            key,
            params,
        }
    }

    pub(crate) fn signed_by(params: CertificateParams, issuer: &Self) -> Self {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&issuer.params, &issuer.key);
        Self {
            certificate: params.signed_by(&key, &issuer).unwrap(),
            key,
            params,
        }
    }

    pub(crate) fn ca() -> Self {
        Self::self_signed(with_ca(params(&[]), CA))
    }

    pub(crate) fn pin(&self) -> [u8; 32] {
        let digest = digest::digest(&digest::SHA256, &self.key.subject_public_key_info());
        digest.as_ref().try_into().unwrap()
    }
}

pub(crate) const CA: IsCa = IsCa::Ca(BasicConstraints::Unconstrained);

pub(crate) fn params(names: &[&str]) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|&name| name.to_owned()).collect();
    let mut params = CertificateParams::new(names.clone()).unwrap();
    params.distinguished_name.push(
        rcgen::DnType::CommonName,
        names.first().map_or("a root", String::as_str),
    );
    params
}

pub(crate) fn with_ca(mut params: CertificateParams, is_ca: IsCa) -> CertificateParams {
    params.is_ca = is_ca;
    params
}

pub(crate) fn dated(mut params: CertificateParams, from: i32, to: i32) -> CertificateParams {
    params.not_before = date_time_ymd(from, 1, 1);
    params.not_after = date_time_ymd(to, 1, 1);
    params
}

pub(crate) fn expired(names: &[&str]) -> CertificateParams {
    dated(params(names), 2000, 2001)
}

/// A server that says "hello" to everybody it has shaken hands with.
pub(crate) async fn serve(made: &Made, client_ca: Option<&Made>) -> SocketAddr {
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
pub(crate) struct Files(pub(crate) TempDir);

impl Files {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn write(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, content).unwrap();
        path
    }

    pub(crate) fn bundle(&self, certificates: &[&Made]) -> Roots {
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

pub(crate) fn connector(host: &str, address: SocketAddr, trust: Trust) -> Connector {
    Connector::new(
        Origin::parse(
            &format!("https://{host}:{}", address.port()),
            Arc::new(trust),
        )
        .unwrap(),
    )
}

/// What the server says, or why there is no connection.
pub(crate) async fn greet(connector: &Connector) -> Result<String, String> {
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
pub(crate) async fn expect(made: &Made, trust: Trust, reason: Option<&str>) {
    let address = serve(made, None).await;
    check(greet(&connector("localhost", address, trust)).await, reason);
}

#[track_caller]
pub(crate) fn check(outcome: Result<String, String>, reason: Option<&str>) {
    match (outcome, reason) {
        (Ok(said), None) => assert_eq!(said, "hello"),
        (Err(cause), Some(reason)) => assert!(cause.contains(reason), "{cause}"),
        (outcome, reason) => panic!("{outcome:?} instead of {reason:?}"),
    }
}

/// Long enough never to matter on a slow machine.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
