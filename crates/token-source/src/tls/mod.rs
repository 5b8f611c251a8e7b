//! How a TLS server is trusted, and who we are to it.

mod presented;
mod verifier;

use std::{path::PathBuf, sync::Arc};

use rustls::{
    ClientConfig, RootCertStore,
    client::danger::ServerCertVerifier,
    crypto::{CryptoProvider, aws_lc_rs},
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
};
use secrecy::ExposeSecret as _;
use tokio::{sync::OnceCell, task};

use crate::secret::{Location, SecretError};
use verifier::{Chain, Verifier};

pub(crate) use presented::Witness;
pub use presented::{Certificate, Distrust, Presented};

/// How a server's certificate is judged, and the certificate that we show if asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trust {
    /// Which roots vouch for it.
    pub roots: Roots,
    /// SHA-256 of the leaf's public key (SubjectPublicKeyInfo): one must match; replaces the chain, unless roots
    /// are named too. Name and dates are still checked.
    pub pins: Vec<[u8; 32]>,
    /// Nothing is checked.
    pub insecure: bool,
    /// The name to ask for (SNI) and to check, instead of the host.
    pub server_name: Option<String>,
    /// Our own certificate.
    pub identity: Option<Identity>,
}

/// Which roots vouch for a server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Roots {
    /// The system's; the Mozilla roots where it has none.
    #[default]
    System,
    /// Only those of a PEM bundle; a leaf listed there is trusted as it is.
    Bundle(Location),
}

/// Our own certificate and key, PEM files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The chain, leaf first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Why a [`Trust`] cannot be used as it stands; its files may be mended at any time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The CA bundle.
    #[error("the CA bundle cannot be used")]
    Bundle(#[source] SecretError),
    /// The CA bundle was read, but a certificate in it is damaged, or it has none.
    #[error("the CA bundle holds no certificate, or a damaged one")]
    NoCertificates,
    /// The file of our own certificate.
    #[error("the client certificate cannot be used")]
    Certificate(#[source] SecretError),
    /// The file of our own key.
    #[error("the key of the client certificate cannot be used")]
    Key(#[source] SecretError),
    /// Our own certificate and key were read, but are no PEM, or do not belong together.
    #[error("client certificate and key are no PEM files that belong together")]
    Identity,
}

impl Trust {
    /// Reads the files that this trust names and makes the TLS settings for one server; TLS 1.2 or newer. `alpn`
    /// are the protocols to offer, best first.
    ///
    /// # Errors
    /// [`TrustError`]; a later call may succeed, because everything is read anew.
    pub async fn client_config(&self, alpn: &[&[u8]]) -> Result<Arc<ClientConfig>, TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let verifier = Arc::new(self.verifier(provider.clone()).await?);
        self.config_with(verifier, provider, alpn).await
    }

    /// The same settings, with a witness who remembers what the server presents.
    pub(crate) async fn witnessed_config(
        &self,
    ) -> Result<(Arc<ClientConfig>, Arc<Witness>), TrustError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let witness = Arc::new(Witness::new(self.verifier(provider.clone()).await?));
        let config = self
            .config_with(witness.clone(), provider, &[b"http/1.1"])
            .await?;
        Ok((config, witness))
    }

    async fn config_with(
        &self,
        verifier: Arc<dyn ServerCertVerifier>,
        provider: Arc<CryptoProvider>,
        alpn: &[&[u8]],
    ) -> Result<Arc<ClientConfig>, TrustError> {
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider has cipher suites for TLS 1.2 and 1.3")
            .dangerous()
            .with_custom_certificate_verifier(verifier);
        let mut config = match &self.identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                let (chain, key) = identity.read().await?;
                builder
                    .with_client_auth_cert(chain, key)
                    .map_err(|_| TrustError::Identity)?
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Ok(Arc::new(config))
    }

    /// The files that it is read from, and that may change while it is in use.
    pub(crate) fn files(&self) -> Vec<Location> {
        let mut places = self.places();
        if self.insecure && self.roots != Roots::System {
            // Nothing is checked with it.
            places.remove(0);
        }
        places.retain(Location::is_watched);
        places
    }

    /// Every place that it is read from.
    pub(crate) fn places(&self) -> Vec<Location> {
        let bundle = match &self.roots {
            Roots::Bundle(place) => Some(place.clone()),
            Roots::System => None,
        };
        let identity = self.identity.iter().flat_map(Identity::files);
        bundle.into_iter().chain(identity).collect()
    }

    async fn verifier(&self, provider: Arc<CryptoProvider>) -> Result<Verifier, TrustError> {
        if self.insecure {
            return Ok(Verifier::insecure(&provider));
        }
        let chain = match &self.roots {
            Roots::System if !self.pins.is_empty() => None,
            Roots::System => Some(Chain::from_roots(system_roots().await, provider.clone())),
            Roots::Bundle(place) => Some(Chain::from_bundle(
                &read_bundle(place).await?,
                provider.clone(),
            )?),
        };
        Ok(Verifier::new(chain, self.pins.clone(), &provider))
    }
}

impl Identity {
    /// Certificate and key.
    fn files(&self) -> [Location; 2] {
        [&self.certificate, &self.key].map(|path| Location::File {
            path: path.clone(),
            field: None,
        })
    }

    async fn read(
        &self,
    ) -> Result<(Vec<CertificateDer<'static>>, PrivateKeyDer<'static>), TrustError> {
        let [certificate, key] = self.files();
        let chain = certificate.read().await.map_err(TrustError::Certificate)?;
        #[expect(clippy::disallowed_methods, reason = "certificates are public")]
        let chain: Vec<_> = CertificateDer::pem_slice_iter(chain.expose_secret().as_bytes())
            .collect::<Result<_, _>>()
            .map_err(|_| TrustError::Identity)?;
        let key = key.read().await.map_err(TrustError::Key)?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the client key goes to rustls, which signs with it"
        )]
        let key = PrivateKeyDer::from_pem_slice(key.expose_secret().as_bytes())
            .map_err(|_| TrustError::Identity)?;
        Ok((chain, key))
    }
}

async fn read_bundle(place: &Location) -> Result<Vec<CertificateDer<'static>>, TrustError> {
    let bundle = place.read().await.map_err(TrustError::Bundle)?;
    #[expect(clippy::disallowed_methods, reason = "certificates are public")]
    let certificates: Vec<_> = CertificateDer::pem_slice_iter(bundle.expose_secret().as_bytes())
        .collect::<Result<_, _>>()
        .map_err(|_| TrustError::NoCertificates)?;
    if certificates.is_empty() {
        Err(TrustError::NoCertificates)
    } else {
        Ok(certificates)
    }
}

/// The system's roots, read once and only where they are used: they are the largest thing that a small process
/// holds. Damaged ones among them are left out, as everybody does.
async fn system_roots() -> Arc<RootCertStore> {
    static ROOTS: OnceCell<Arc<RootCertStore>> = OnceCell::const_new();
    let load = || {
        let mut roots = RootCertStore::empty();
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        if roots.is_empty() {
            roots.extend(webpki_roots::TLS_SERVER_ROOTS.iter().cloned());
        }
        Arc::new(roots)
    };
    ROOTS
        .get_or_init(async || {
            task::spawn_blocking(load)
                .await
                .expect("loading roots does not panic")
        })
        .await
        .clone()
}
