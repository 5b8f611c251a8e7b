//! What a TLS listener shows: a certificate from files, or one from a local CA that is made once.

use std::{
    fs::{self, TryLockError},
    io::{self, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType,
    ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    NameConstraints, SanType,
};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::CryptoProvider,
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _},
    server::{
        NoServerSessionStorage, VerifierBuilderError, WebPkiClientVerifier,
        danger::ClientCertVerifier,
    },
    sign::CertifiedKey,
};
use token_source::tls::Certificate;

use crate::config::ListenerTls;

/// Why a listener has no certificate to show.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// A file cannot be read or written.
    #[error("{path}: {error}", path = path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        error: io::Error,
    },
    /// A file holds no certificate, or no private key, in PEM.
    #[error("{path}: holds no {what} in PEM form", path = path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
    },
    /// Certificate and key do not belong together, or are of a kind that is not supported.
    #[error("the certificate and the key cannot be used together: {0}")]
    Unusable(#[from] rustls::Error),
    /// Certificates of clients cannot be checked with what is there.
    #[error("the certificates of clients: {0}")]
    Clients(#[from] VerifierBuilderError),
    /// The local CA cannot be made or read.
    #[error("the local CA: {0}")]
    Ca(#[from] rcgen::Error),
}

/// A listener's certificate, ready to be shown.
#[derive(Debug)]
pub struct Shown {
    /// For the TLS handshakes of its clients.
    pub tls: Arc<ServerConfig>,
    /// The local CA that clients have to trust, where there is one.
    pub ca: Option<PathBuf>,
    /// When the certificate ends, as far as that can be read.
    pub ends: Option<SystemTime>,
}

/// Reads or makes what a listener shows.
///
/// # Errors
/// When a file is not there or holds something else.
pub fn show(
    tls: &ListenerTls,
    client_ca: Option<&Path>,
    state_dir: &Path,
) -> Result<Shown, CertificateError> {
    match tls {
        ListenerTls::Files { certificate, key } => {
            let chain =
                CertificateDer::pem_slice_iter(&read(certificate)?).collect::<Result<Vec<_>, _>>();
            let chain = chain.ok().filter(|chain| !chain.is_empty());
            let chain = chain.ok_or_else(|| CertificateError::Pem {
                path: certificate.clone(),
                what: "certificate",
            })?;
            let private =
                PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|_| CertificateError::Pem {
                    path: key.clone(),
                    what: "private key",
                })?;
            Ok(Shown {
                ends: end_of(&chain[0]),
                tls: configure(chain, private, client_ca)?,
                ca: None,
            })
        }
        ListenerTls::SelfSigned => {
            let path = state_dir.join("ca.crt");
            let ca = local_ca(state_dir, &path)?;
            let key = KeyPair::generate()?;
            let leaf = leaf_params()?.signed_by(&key, &ca)?;
            let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
            Ok(Shown {
                ends: end_of(leaf.der()),
                tls: configure(vec![leaf.der().clone()], private, client_ca)?,
                ca: Some(path),
            })
        }
    }
}

fn end_of(leaf: &CertificateDer<'_>) -> Option<SystemTime> {
    Certificate::read(leaf).map(|leaf| leaf.not_after)
}

fn configure(
    chain: Vec<CertificateDer<'static>>,
    key: PrivateKeyDer<'static>,
    client_ca: Option<&Path>,
) -> Result<Arc<ServerConfig>, CertificateError> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let verifier = match client_ca {
        Some(path) => verifier(path, &provider)?,
        None => WebPkiClientVerifier::no_client_auth(),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key)?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    if client_ca.is_some() {
        // A resumed session is not asked for its certificate: it would be good for longer than it says itself, for as
        // long as the client keeps on resuming.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    Ok(Arc::new(config))
}

/// Checks certificates of clients. One that shows none may shake hands: whether it may call is said over HTTP, where it
/// is told what was wanted.
fn verifier(
    path: &Path,
    provider: &Arc<CryptoProvider>,
) -> Result<Arc<dyn ClientCertVerifier>, CertificateError> {
    let without = || CertificateError::Pem {
        path: path.to_owned(),
        what: "certificate of an authority",
    };
    let mut roots = RootCertStore::empty();
    for authority in CertificateDer::pem_slice_iter(&read(path)?) {
        roots
            .add(authority.map_err(|_| without())?)
            .map_err(|_| without())?;
    }
    if roots.is_empty() {
        return Err(without());
    }
    let builder =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(provider));
    Ok(builder.allow_unauthenticated().build()?)
}

/// The CA of this machine's proxy: made once, so that clients are told to trust it once. It can vouch for loopback
/// names only, should its key ever be taken.
fn local_ca(
    state_dir: &Path,
    certificate: &Path,
) -> Result<Issuer<'static, KeyPair>, CertificateError> {
    let key_path = state_dir.join("ca.key");
    if let Some(ca) = made_before(certificate, &key_path)? {
        return Ok(ca);
    }
    let at = |path: &Path| {
        let path = path.to_owned();
        move |error| CertificateError::File { path, error }
    };
    fs::create_dir_all(state_dir).map_err(at(state_dir))?;
    // Two that start at once make one between them.
    let lock_path = state_dir.join("ca.lock");
    let _lock = locked(&lock_path).map_err(at(&lock_path))?;
    if let Some(ca) = made_before(certificate, &key_path)? {
        return Ok(ca);
    }
    if certificate.exists() && key_path.exists() {
        tracing::warn!(
            ca = %certificate.display(),
            "the key beside the local CA was another one's: it is made anew, and clients have to trust it again"
        );
    }
    let key = KeyPair::generate()?;
    let params = ca_params();
    let made = params.self_signed(&key)?;
    write_whole(&key_path, &key.serialize_pem(), 0o600).map_err(at(&key_path))?;
    write_whole(certificate, &made.pem(), 0o644).map_err(at(certificate))?;
    Ok(Issuer::new(params, key))
}

/// The CA in these files; none where there is none whole.
fn made_before(
    certificate: &Path,
    key: &Path,
) -> Result<Option<Issuer<'static, KeyPair>>, CertificateError> {
    if !certificate.exists() || !key.exists() {
        return Ok(None);
    }
    let text = |path: &Path| read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    let (certificate, key) = (text(certificate)?, KeyPair::from_pem(&text(key)?)?);
    let shown = CertificateDer::from_pem_slice(certificate.as_bytes());
    let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let whole = shown.map(|shown| CertifiedKey::from_der(vec![shown], private, &provider));
    if let Ok(Err(rustls::Error::InconsistentKeys(_))) = whole {
        return Ok(None);
    }
    Ok(Some(Issuer::from_ca_cert_pem(&certificate, key)?))
}

/// Waits until nobody else holds the lock, for as long as it may take to write two files. Where there are no locks, or
/// somebody does not let go of it, files are written whole all the same.
#[expect(clippy::disallowed_methods, reason = "nothing is served yet")]
fn locked(path: &Path) -> io::Result<fs::File> {
    let mut options = fs::OpenOptions::new();
    options.write(true).create(true).truncate(false);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let lock = options.open(path)?;
    for _ in 0..LOCK_LOOKS {
        match lock.try_lock() {
            Err(TryLockError::WouldBlock) => std::thread::sleep(BETWEEN_LOCK_LOOKS),
            Ok(()) | Err(TryLockError::Error(_)) => break,
        }
    }
    Ok(lock)
}

fn ca_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = name("watsonx-auth-proxy local CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.name_constraints = Some(NameConstraints {
        permitted_subtrees: vec![
            GeneralSubtree::DnsName("localhost".into()),
            GeneralSubtree::IpAddress(CidrSubnet::V4([127, 0, 0, 0], [255, 0, 0, 0])),
            GeneralSubtree::IpAddress(CidrSubnet::V6(Ipv6Addr::LOCALHOST.octets(), [255; 16])),
        ],
        excluded_subtrees: Vec::new(),
    });
    params
}

fn leaf_params() -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(vec!["localhost".into()])?;
    params.subject_alt_names.extend([
        SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)),
        SanType::IpAddress(IpAddr::V6(Ipv6Addr::LOCALHOST)),
    ]);
    params.distinguished_name = name("watsonx-auth-proxy");
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

fn name(common: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common);
    name
}

fn read(path: &Path) -> Result<Vec<u8>, CertificateError> {
    fs::read(path).map_err(|error| CertificateError::File {
        path: path.to_owned(),
        error,
    })
}

/// Writes a file that is there whole or not at all, and has this mode from its first moment on.
fn write_whole(path: &Path, text: &str, mode: u32) -> io::Result<()> {
    let new = path.with_extension("new");
    let _ = fs::remove_file(&new);
    let mut options = fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    options.open(&new)?.write_all(text.as_bytes())?;
    fs::rename(new, path)
}

/// How often it is looked whether a lock is free.
const LOCK_LOOKS: u32 = 50;

const BETWEEN_LOCK_LOOKS: Duration = Duration::from_millis(100);
