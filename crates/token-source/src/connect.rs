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
