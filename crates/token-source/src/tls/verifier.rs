//! Judges a server's certificate: by its chain, by being listed, or by its pinned key; name and dates always.

use std::{fmt, sync::Arc, time::Duration};

use rustls::{
    CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
        verify_server_name,
    },
    crypto::{
        CryptoProvider, WebPkiSupportedAlgorithms, verify_tls12_signature, verify_tls13_signature,
    },
    pki_types::{CertificateDer, ServerName, UnixTime},
    server::ParsedCertificate,
};
use x509_parser::{
    certificate::X509Certificate, prelude::FromDer as _, time::ASN1Time, x509::X509Version,
};

use super::TrustError;

/// One server's judge. That the server holds the key of its certificate is verified in every case.
#[derive(Debug)]
pub(super) struct Verifier {
    judgement: Judgement,
    algorithms: WebPkiSupportedAlgorithms,
}

/// The certificate has another key than those that the operator has pinned.
#[derive(thiserror::Error)]
#[error("its key is none of those in pin")]
pub(super) struct WrongPin;

/// rustls tells who has opened a connection of it in this form alone.
impl fmt::Debug for WrongPin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self}")
    }
}

#[derive(Debug)]
enum Judgement {
    /// Anything goes.
    Insecure,
    /// The chain where there is one, a pin where there are any, and at least one of the two.
    Checked {
        chain: Option<Chain>,
        pins: Vec<[u8; 32]>,
    },
}

/// Roots, and certificates that are trusted as they are.
#[derive(Debug)]
pub(super) struct Chain {
    /// `None` where no root is trusted.
    roots: Option<Arc<WebPkiServerVerifier>>,
    listed: Vec<CertificateDer<'static>>,
}

impl Verifier {
    pub(super) fn insecure(provider: &CryptoProvider) -> Self {
        Self {
            judgement: Judgement::Insecure,
            algorithms: provider.signature_verification_algorithms,
        }
    }

    /// Without a chain there must be pins.
    pub(super) fn new(
        chain: Option<Chain>,
        pins: Vec<[u8; 32]>,
        provider: &CryptoProvider,
    ) -> Self {
        debug_assert!(
            chain.is_some() || !pins.is_empty(),
            "something must vouch for the server"
        );
        let algorithms = provider.signature_verification_algorithms;
        Self {
            judgement: Judgement::Checked { chain, pins },
            algorithms,
        }
    }
}

impl Chain {
    pub(super) fn from_roots(roots: Arc<RootCertStore>, provider: Arc<CryptoProvider>) -> Self {
        Self {
            roots: WebPkiServerVerifier::builder_with_provider(roots, provider)
                .build()
                .ok(),
            listed: Vec::new(),
        }
    }

    /// Every certificate of the bundle is trusted as it is; those that may sign others are roots besides. A mere
    /// server certificate is not: its key must not make certificates for other names.
    pub(super) fn from_bundle(
        bundle: &[CertificateDer<'static>],
        provider: Arc<CryptoProvider>,
    ) -> Result<Self, TrustError> {
        let mut roots = RootCertStore::empty();
        for certificate in bundle {
            let parsed = parse(certificate).map_err(|_| TrustError::NoCertificates)?;
            if parsed.is_ca() || parsed.version() == X509Version::V1 {
                roots
                    .add(certificate.clone())
                    .map_err(|_| TrustError::NoCertificates)?;
            }
        }
        Ok(Self {
            listed: bundle.to_vec(),
            ..Self::from_roots(Arc::new(roots), provider)
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let Judgement::Checked { chain, pins } = &self.judgement else {
            return Ok(ServerCertVerified::assertion());
        };
        if !pins.is_empty() && !pins.contains(&key_digest(leaf)?) {
            return Err(CertificateError::Other(OtherError(Arc::new(WrongPin))).into());
        }
        match chain {
            // webpki refuses a self-signed CA that is used as a server certificate, however it is trusted; where
            // the certificate itself is known, no chain is needed.
            Some(chain) if !chain.listed.contains(leaf) => match &chain.roots {
                Some(roots) => roots.verify_server_cert(leaf, intermediates, name, ocsp, now),
                None => Err(CertificateError::UnknownIssuer.into()),
            },
            _ => {
                verify_dates(leaf, now)?;
                verify_server_name(&ParsedCertificate::try_from(leaf)?, name)?;
                Ok(ServerCertVerified::assertion())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, certificate, signature, &self.algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}

/// SHA-256 of its public key (SubjectPublicKeyInfo).
pub(super) fn key_digest(leaf: &CertificateDer<'_>) -> Result<[u8; 32], Error> {
    let digest =
        aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, parse(leaf)?.public_key().raw);
    Ok(digest.as_ref().try_into().expect("SHA-256 has 32 bytes"))
}

fn verify_dates(leaf: &CertificateDer<'_>, time: UnixTime) -> Result<(), Error> {
    let parsed = parse(leaf)?;
    let not_before = unix(parsed.validity().not_before);
    let not_after = unix(parsed.validity().not_after);
    if time < not_before {
        return Err(CertificateError::NotValidYetContext { time, not_before }.into());
    }
    if time > not_after {
        return Err(CertificateError::ExpiredContext { time, not_after }.into());
    }
    Ok(())
}

/// Dates before 1970 are as good as 1970.
fn unix(time: ASN1Time) -> UnixTime {
    UnixTime::since_unix_epoch(Duration::from_secs(
        u64::try_from(time.timestamp()).unwrap_or(0),
    ))
}

fn parse<'a>(certificate: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Error> {
    match X509Certificate::from_der(certificate) {
        Ok((_, parsed)) => Ok(parsed),
        Err(_) => Err(CertificateError::BadEncoding.into()),
    }
}
