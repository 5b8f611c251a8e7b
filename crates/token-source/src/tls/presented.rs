//! What a server presents, and what is thought of it: for who wants to see it, before anything is sent.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use rustls::{
    CertificateError, DigitallySignedStruct, Error, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use x509_parser::{
    certificate::X509Certificate, extensions::GeneralName, prelude::FromDer as _, time::ASN1Time,
    x509::X509Name,
};

use super::verifier::{Verifier, WrongPin, key_digest};
use crate::redaction::{in_one_line, shortened};

/// The certificates of a server, and what is thought of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Presented {
    /// Leaf first; those that cannot be read are left out.
    pub chain: Vec<Certificate>,
    /// Why it is not trusted, if it is not.
    pub distrust: Option<Distrust>,
}

/// What a certificate says of itself; nobody has to believe it. Texts are in one line, without characters that a
/// terminal obeys or that nobody sees, and not longer than a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// Whose it is.
    pub subject: String,
    /// Who signed it.
    pub issuer: String,
    /// When it begins to hold.
    pub not_before: SystemTime,
    /// When it ends.
    pub not_after: SystemTime,
    /// The names and addresses that it is for.
    pub names: Vec<String>,
    /// It may sign others.
    pub is_authority: bool,
    /// Its issuer is itself.
    pub is_self_signed: bool,
    /// SHA-256 of its public key, as a pin has it: `sha256:…`.
    pub pin: String,
}

/// Why a certificate is not trusted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Distrust {
    /// Nobody who is trusted has signed it.
    UnknownIssuer,
    /// It is an authority itself, which must not be a server.
    Authority,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// It is for other names.
    WrongName,
    /// Its key is none of those that are pinned.
    WrongPin,
    /// Anything else, as the TLS library says it.
    Other(String),
}

/// A judge who remembers what was put before it.
#[derive(Debug)]
pub(crate) struct Witness {
    judge: Verifier,
    seen: Mutex<Option<Presented>>,
}

impl Witness {
    pub(super) fn new(judge: Verifier) -> Self {
        Self {
            judge,
            seen: Mutex::new(None),
        }
    }

    /// What the last server presented; `None` where it did not come so far.
    pub(crate) fn seen(&self) -> Option<Presented> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.take()
    }
}

impl ServerCertVerifier for Witness {
    fn verify_server_cert(
        &self,
        leaf: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let verdict = self
            .judge
            .verify_server_cert(leaf, intermediates, name, ocsp, now);
        let chain = [leaf].into_iter().chain(intermediates);
        let presented = Presented {
            chain: chain.filter_map(Certificate::read).collect(),
            distrust: verdict.as_ref().err().map(Distrust::from_error),
        };
        *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some(presented);
        verdict
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        self.judge
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

impl Certificate {
    /// What a certificate in DER says; `None` where it cannot be read.
    pub fn read(der: &CertificateDer<'_>) -> Option<Self> {
        let (_, parsed) = X509Certificate::from_der(der).ok()?;
        let names = parsed.subject_alternative_name().ok().flatten();
        let names = names.map_or(&[][..], |extension| &extension.value.general_names);
        let digest = key_digest(der).ok()?;
        Some(Self {
            subject: name(parsed.subject()),
            issuer: name(parsed.issuer()),
            not_before: system_time(parsed.validity().not_before),
            not_after: system_time(parsed.validity().not_after),
            names: names
                .iter()
                .filter_map(alternative)
                .take(MOST_NAMES)
                .collect(),
            is_authority: parsed.is_ca(),
            is_self_signed: parsed.subject() == parsed.issuer(),
            pin: format!("sha256:{}", BASE64_STANDARD.encode(digest)),
        })
    }
}

impl Distrust {
    fn from_error(error: &Error) -> Self {
        use CertificateError as Certificate;
        match error {
            Error::InvalidCertificate(Certificate::UnknownIssuer) => Self::UnknownIssuer,
            Error::InvalidCertificate(
                Certificate::Expired | Certificate::ExpiredContext { .. },
            ) => Self::Expired,
            Error::InvalidCertificate(
                Certificate::NotValidYet | Certificate::NotValidYetContext { .. },
            ) => Self::NotYetValid,
            Error::InvalidCertificate(
                Certificate::NotValidForName | Certificate::NotValidForNameContext { .. },
            ) => Self::WrongName,
            Error::InvalidCertificate(Certificate::Other(other)) if other.0.is::<WrongPin>() => {
                Self::WrongPin
            }
            // The library that rustls judges by has a reason for it that rustls has no word for.
            Error::InvalidCertificate(Certificate::Other(other))
                if other.to_string() == "CaUsedAsEndEntity" =>
            {
                Self::Authority
            }
            other => Self::Other(in_a_line(&other.to_string())),
        }
    }
}

fn name(name: &X509Name<'_>) -> String {
    in_a_line(&name.to_string())
}

fn alternative(name: &GeneralName<'_>) -> Option<String> {
    match name {
        GeneralName::DNSName(name) | GeneralName::URI(name) => Some(in_a_line(name)),
        GeneralName::IPAddress(bytes) => match **bytes {
            [a, b, c, d] => Some(std::net::Ipv4Addr::new(a, b, c, d).to_string()),
            _ => <[u8; 16]>::try_from(*bytes)
                .ok()
                .map(|bytes| std::net::Ipv6Addr::from(bytes).to_string()),
        },
        _ => None,
    }
}

/// What a stranger wrote, so that a terminal can show it.
fn in_a_line(text: &str) -> String {
    shortened(&in_one_line(text), LONGEST)
}

fn system_time(time: ASN1Time) -> SystemTime {
    let seconds = u64::try_from(time.timestamp()).unwrap_or(0);
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// A certificate of a content network has hundreds.
const MOST_NAMES: usize = 20;
const LONGEST: usize = 200;
