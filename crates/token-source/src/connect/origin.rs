//! Where a server is: a base URL, taken apart and free of ambiguity.

use std::{net::Ipv6Addr, sync::Arc};

use rustls::pki_types::ServerName;

use super::Egress;
use crate::{secret::Location, tls::Trust};

/// Scheme, host and port of a server, the path that goes before every request's path, how it is trusted, and the way
/// to it.
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
    /// How it is reached.
    pub egress: Egress,
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
    #[error(
        "the base path must have no dot segments, empty segments, backslashes or encoded slashes"
    )]
    Path,
}

impl Origin {
    /// Takes a base URL apart: `https://host[:port][/path]`, a last slash of the path left out.
    ///
    /// # Errors
    /// [`OriginError`], of which the first mistake counts.
    pub fn parse(url: &str, trust: Arc<Trust>) -> Result<Self, OriginError> {
        let (scheme, rest) = url.split_once("://").ok_or(OriginError::Malformed)?;
        let tls = match scheme {
            _ if scheme.eq_ignore_ascii_case("https") => true,
            _ if scheme.eq_ignore_ascii_case("http") => false,
            _ => return Err(OriginError::Scheme),
        };
        let (authority, path) =
            rest.split_at(rest.find(['/', '?', '#', '\\']).unwrap_or(rest.len()));
        if authority.contains('@') {
            return Err(OriginError::Userinfo);
        }
        if path.contains(['?', '#']) {
            return Err(OriginError::Query);
        }
        let (host, port) = parse_authority(authority).ok_or(OriginError::Malformed)?;
        let port = port.unwrap_or(if tls { 443 } else { 80 });
        Ok(Self {
            tls,
            host,
            port,
            base_path: parse_path(path).ok_or(OriginError::Path)?,
            trust,
            egress: Egress::default(),
        })
    }

    /// `host[:port]` as it stands in a `Host` header; the port left out where it is the scheme's own, an IPv6
    /// address in brackets.
    pub fn authority(&self) -> String {
        let host = if self.host.contains(':') {
            format!("[{}]", self.host)
        } else {
            self.host.clone()
        };
        match (self.tls, self.port) {
            (true, 443) | (false, 80) => host,
            (_, port) => format!("{host}:{port}"),
        }
    }

    /// Every place that is read to reach and to trust it.
    pub fn places(&self) -> Vec<Location> {
        let mut places = self.trust.places();
        if let Egress::Through(proxy) = &self.egress {
            places.extend(proxy.places());
        }
        places
    }

    /// The base URL, normalised; for logs.
    pub fn url(&self) -> String {
        let scheme = if self.tls { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority(), self.base_path)
    }
}

fn parse_authority(authority: &str) -> Option<(String, Option<u16>)> {
    let (host, port) = if let Some(rest) = authority.strip_prefix('[') {
        let (address, after) = rest.split_once(']')?;
        let address: Ipv6Addr = address.parse().ok()?;
        let port = if after.is_empty() {
            None
        } else {
            Some(after.strip_prefix(':')?)
        };
        (address.to_string(), port)
    } else {
        let (host, port) = match authority.split_once(':') {
            Some((host, port)) => (host, Some(port)),
            None => (authority, None),
        };
        ServerName::try_from(host).ok()?;
        (host.to_ascii_lowercase(), port)
    };
    match port {
        None => Some((host, None)),
        // `parse` alone would take `+443`.
        Some(port) if port.bytes().all(|byte| byte.is_ascii_digit()) => {
            let port = port.parse().ok().filter(|&port| port != 0)?;
            Some((host, Some(port)))
        }
        Some(_) => None,
    }
}

fn parse_path(path: &str) -> Option<String> {
    let path = path.strip_suffix('/').unwrap_or(path);
    if path.is_empty() {
        return Some(String::new());
    }
    let unambiguous = path.strip_prefix('/')?.split('/').all(is_plain_segment);
    unambiguous.then(|| path.to_owned())
}

/// Whether a segment means the same to every server: RFC 3986 characters, and neither a dot segment nor a
/// delimiter in disguise.
fn is_plain_segment(segment: &str) -> bool {
    let mut decoded = Vec::with_capacity(segment.len());
    let mut bytes = segment.bytes();
    while let Some(byte) = bytes.next() {
        let byte = match byte {
            b'%' => match (
                bytes.next().and_then(hex_digit),
                bytes.next().and_then(hex_digit),
            ) {
                (Some(high), Some(low)) => high << 4 | low,
                _ => return false,
            },
            _ if byte.is_ascii_alphanumeric() || SEGMENT_PUNCTUATION.contains(&byte) => byte,
            _ => return false,
        };
        decoded.push(byte);
    }
    let clean = |byte: &u8| !byte.is_ascii_control() && !matches!(byte, b'/' | b'\\');
    !matches!(decoded.as_slice(), b"" | b"." | b"..") && decoded.iter().all(clean)
}

fn hex_digit(byte: u8) -> Option<u8> {
    char::from(byte)
        .to_digit(16)
        .and_then(|digit| u8::try_from(digit).ok())
}

const SEGMENT_PUNCTUATION: &[u8] = b"-._~!$&'()*+,;=:@";

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(url: &str) -> Result<Origin, OriginError> {
        Origin::parse(url, Arc::default())
    }

    #[test]
    fn good_urls_are_normalised() {
        let cases = [
            (
                "https://cpd.example.com",
                "https://cpd.example.com",
                "cpd.example.com",
            ),
            (
                "HTTPS://CPD.Example.com:443/",
                "https://cpd.example.com",
                "cpd.example.com",
            ),
            ("http://host:80", "http://host", "host"),
            ("http://host:443", "http://host:443", "host:443"),
            (
                "https://host:8443/a/b/",
                "https://host:8443/a/b",
                "host:8443",
            ),
            (
                "https://my_svc.ns.svc/x%20y",
                "https://my_svc.ns.svc/x%20y",
                "my_svc.ns.svc",
            ),
            (
                "https://10.0.0.1:8080",
                "https://10.0.0.1:8080",
                "10.0.0.1:8080",
            ),
            (
                "https://[2001:DB8::0:1]",
                "https://[2001:db8::1]",
                "[2001:db8::1]",
            ),
            ("http://[::1]:8080/p", "http://[::1]:8080/p", "[::1]:8080"),
        ];
        for (url, normalised, authority) in cases {
            let origin = parse(url).unwrap();
            assert_eq!(origin.url(), normalised, "{url}");
            assert_eq!(origin.authority(), authority, "{url}");
        }
        let origin = parse("https://[::1]/ibm-licensing-service-instance/").unwrap();
        assert_eq!((origin.host.as_str(), origin.port), ("::1", 443));
        assert_eq!(origin.base_path, "/ibm-licensing-service-instance");
    }

    #[test]
    fn bad_urls_are_told() {
        use OriginError::{Malformed, Path, Query, Scheme, Userinfo};
        let cases = [
            ("", Malformed),
            ("cpd.example.com", Malformed),
            ("https:/host", Malformed),
            ("ftp://host", Scheme),
            ("https://", Malformed),
            ("https://:443", Malformed),
            ("https://host:", Malformed),
            ("https://host:0", Malformed),
            ("https://host:65536", Malformed),
            ("https://host:+443", Malformed),
            ("https://host:1:2", Malformed),
            ("https://a b", Malformed),
            ("https://h\u{f6}st", Malformed),
            ("https://*.example.com", Malformed),
            ("https://[::1", Malformed),
            ("https://[::1]x", Malformed),
            ("https://[fe80::1%25eth0]", Malformed),
            ("https://::1", Malformed),
            ("https://user:secret@host", Userinfo),
            ("https://user@host/p", Userinfo),
            ("https://host?token=x", Query),
            ("https://host/#x", Query),
            ("https://host//", Path),
            ("https://host/a//b", Path),
            ("https://host/./a", Path),
            ("https://host/a/..", Path),
            ("https://host/%2e%2E/a", Path),
            ("https://host/a%2fb", Path),
            ("https://host/a%5Cb", Path),
            ("https://host\\a", Path),
            ("https://host/a%0d", Path),
            ("https://host/a%4", Path),
            ("https://host/a%zz", Path),
            ("https://host/a b", Path),
            ("https://host/\u{e9}", Path),
        ];
        for (url, error) in cases {
            assert_eq!(parse(url).err(), Some(error), "{url}");
        }
    }
}
