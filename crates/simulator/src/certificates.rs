//! The certificate authority and the leaf certificate of one simulator, made at its start.

use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyPair, KeyUsagePurpose,
};
use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A fresh authority and what it signed.
pub(crate) struct Certificates {
    /// The authority, as PEM.
    pub(crate) ca_pem: String,
    /// The leaf that both ports present, as PEM.
    pub(crate) leaf_pem: String,
    /// TLS 1.2 and 1.3, no client certificate asked for.
    pub(crate) server: Arc<ServerConfig>,
}

impl Certificates {
    /// An authority of its own and a leaf for `localhost`, `127.0.0.1` and `::1`.
    pub(crate) fn generate() -> Result<Self, rcgen::Error> {
        let mut authority = CertificateParams::new([])?;
        authority
            .distinguished_name
            .push(DnType::CommonName, "simulator ingress-operator");
        authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        authority.key_usages = vec![
            KeyUsagePurpose::DigitalSignature,
            KeyUsagePurpose::KeyCertSign,
            KeyUsagePurpose::CrlSign,
        ];
        let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate()?)?;

        let names = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut leaf = CertificateParams::new(names)?;
        leaf.distinguished_name
            .push(DnType::CommonName, "simulator");
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        // Python 3.13 refuses a leaf that does not name its issuer's key.
        leaf.use_authority_key_identifier_extension = true;
        let leaf_key = KeyPair::generate()?;
        let leaf = leaf.signed_by(&leaf_key, &authority)?;

        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(leaf_key.serialize_der()));
        let mut server =
            ServerConfig::builder_with_provider(Arc::new(aws_lc_rs::default_provider()))
                .with_safe_default_protocol_versions()
                .expect("the provider speaks TLS 1.2 and 1.3")
                .with_no_client_auth()
                .with_single_cert(vec![leaf.der().clone()], key)
                .expect("the key was made for this certificate");
        server.alpn_protocols = vec![b"http/1.1".to_vec()];
        Ok(Self {
            ca_pem: authority.pem(),
            leaf_pem: leaf.pem(),
            server: Arc::new(server),
        })
    }
}
