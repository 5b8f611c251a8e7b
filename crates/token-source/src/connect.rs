//! Where a server is, and a connection to it: TCP, and TLS where the scheme asks for it.

use std::sync::Arc;

use crate::tls::Trust;

/// Scheme, host and port of a server, the path that goes before every request's path, and how it is trusted.
#[derive(Debug, Clone)]
pub struct Origin {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Host name or address, lower case; an IPv6 address without brackets.
    pub host: String,
    /// Port; 443 or 80 where the URL names none.
    pub port: u16,
    /// Path prefix without a slash at its end: empty, or `/ibm-licensing-service-instance`.
    pub base_path: String,
    /// How the server's certificate is trusted; unused without TLS.
    pub trust: Arc<Trust>,
}

impl Origin {
    /// Reads `scheme://host[:port][/path]`.
    ///
    /// # Errors
    ///
    /// What is wrong with the URL; the URL itself is not repeated.
    pub fn parse(url: &str, trust: Arc<Trust>) -> Result<Self, OriginError> {
        let (scheme, rest) = url.split_once("://").ok_or(OriginError::Malformed)?;
        let tls = match scheme {
            "https" => true,
            "http" => false,
            _ => return Err(OriginError::Scheme),
        };
        let (authority, path) = rest.split_at(rest.find(['/', '?', '#']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(OriginError::Userinfo);
        }
        if path.contains(['?', '#']) {
            return Err(OriginError::Query);
        }
        let authority: http::uri::Authority =
            authority.parse().map_err(|_| OriginError::Malformed)?;
        let host = authority.host();
        let port = match authority.as_str().strip_prefix(host) {
            Some("") => {
                if tls {
                    443
                } else {
                    80
                }
            }
            _ => authority.port_u16().ok_or(OriginError::Malformed)?,
        };
        let base_path = path.strip_suffix('/').unwrap_or(path);
        let lower = base_path.to_ascii_lowercase();
        let ambiguous = |segment: &str| {
            matches!(segment.replace("%2e", ".").as_str(), "" | "." | "..")
                || segment.contains('\\')
                || segment.contains("%2f")
                || segment.contains("%5c")
        };
        if lower.split('/').skip(1).any(ambiguous) {
            return Err(OriginError::Path);
        }
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_ascii_lowercase(),
            port,
            base_path: base_path.to_owned(),
            trust,
        })
    }
}

/// What is wrong with a base URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OriginError {
    /// Not `scheme://host[:port][/path]`.
    #[error("not a URL of the form https://host[:port][/path]")]
    Malformed,
    /// Neither `http` nor `https`.
    #[error("the scheme must be https or http")]
    Scheme,
    /// `user:password@`: a secret in the configuration.
    #[error("a URL must not carry a user or password")]
    Userinfo,
    /// A query or fragment, which a base URL cannot have.
    #[error("a base URL has no query and no fragment")]
    Query,
    /// A base path that is ambiguous: dot segments, empty segments, encoded slashes, backslashes.
    #[error("the base path must have no dot segments, empty segments, backslashes or encoded slashes")]
    Path,
}
