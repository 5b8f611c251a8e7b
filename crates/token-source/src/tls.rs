//! How a TLS server is trusted, and who we are to it.

use std::path::PathBuf;

use crate::secret::Location;

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
