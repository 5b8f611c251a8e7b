//! The way out to a server: directly, or through the egress proxy that the configuration or the environment names.

use std::{io, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::net::TcpStream;

use super::{
    Origin,
    tunnel::{connect, socks},
};
use crate::{
    credential::Text,
    secret::{Location, SecretError},
};

/// How a server is reached.
#[derive(Debug, Clone, Default)]
pub enum Egress {
    /// As `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY` and `NO_PROXY` say; servers of this machine and its link directly.
    #[default]
    OfEnvironment,
    /// Directly, whatever the environment says.
    Direct,
    /// Through this proxy.
    Through(EgressProxy),
}

/// A proxy on the way to a server.
#[derive(Debug, Clone)]
pub struct EgressProxy {
    protocol: Protocol,
    /// Host name or address; an IPv6 address without brackets.
    pub(super) host: String,
    pub(super) port: u16,
    login: Login,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Connect,
    Socks5,
    /// From the environment; to go directly instead would be to evade it.
    Unknown,
}

/// Who we are to a proxy.
#[derive(Debug, Clone)]
enum Login {
    Nobody,
    Read { username: Text, password: Location },
    OfEnvironment(Intercept),
}

/// Why there is no way through a proxy.
#[derive(Debug, thiserror::Error)]
pub enum EgressError {
    /// The proxy itself has no address, or does not accept a connection.
    #[error("the proxy cannot be reached")]
    Unreachable(#[source] io::Error),
    /// 407: it wants to know who we are, or does not believe it.
    #[error("the proxy wants another login (407)")]
    Login,
    /// Any other answer than success.
    #[error("the proxy answered {0} to CONNECT")]
    Refused(StatusCode),
    /// The connection broke, or what came is no answer to CONNECT.
    #[error("the proxy did not answer as one")]
    Broken(#[source] hyper::Error),
    /// SOCKS was refused or broke off.
    #[error("no way through SOCKS")]
    Socks(#[source] io::Error),
    /// Name or password cannot be read or sent.
    #[error("the login to the proxy cannot be read")]
    Secret(#[source] SecretError),
    /// The environment names a proxy of a kind that is not supported.
    #[error("only http:// and socks5:// proxies are supported")]
    Unsupported,
}

impl EgressProxy {
    /// A proxy at `http://host[:port]` or `socks5://host[:port]`; `None` where the URL is none of these, or has a user,
    /// a path or anything else in it.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, authority) = url.split_once("://")?;
        let protocol = protocol(scheme);
        let usual = match protocol {
            Protocol::Connect => 3128,
            Protocol::Socks5 => 1080,
            Protocol::Unknown => return None,
        };
        // The rules of a host and a port are those of any other URL; only the usual port is another.
        let origin = Origin::parse(&format!("http://{authority}"), Default::default()).ok()?;
        if !origin.base_path.is_empty() {
            return None;
        }
        let names_port = authority
            .trim_end_matches('/')
            .ends_with(&format!(":{}", origin.port));
        Some(Self {
            protocol,
            host: origin.host,
            port: if names_port { origin.port } else { usual },
            login: Login::Nobody,
        })
    }

    /// The same, with a login that is read for each tunnel.
    #[must_use]
    pub fn with_login(self, username: Text, password: Location) -> Self {
        Self {
            login: Login::Read { username, password },
            ..self
        }
    }

    /// Every place that its login is read from.
    pub(super) fn places(&self) -> Vec<Location> {
        match &self.login {
            Login::Read { username, password } => {
                let places = username.place().into_iter().chain([password]);
                places.cloned().collect()
            }
            Login::Nobody | Login::OfEnvironment(_) => Vec::new(),
        }
    }

    /// Its URL, for logs: without a login.
    pub fn url(&self) -> String {
        let scheme = match self.protocol {
            Protocol::Connect => "http",
            Protocol::Socks5 => "socks5",
            Protocol::Unknown => "unsupported",
        };
        format!("{scheme}://{}", authority(&self.host, self.port))
    }

    /// Makes a tunnel of a connection to the proxy.
    pub(super) async fn tunnel(
        &self,
        tcp: TcpStream,
        to: &Origin,
    ) -> Result<TcpStream, EgressError> {
        let target = authority(&to.host, to.port);
        match self.protocol {
            Protocol::Connect => connect(tcp, &target, self.basic().await?).await,
            Protocol::Socks5 => socks(tcp, &target, self.pair().await?).await,
            Protocol::Unknown => Err(EgressError::Unsupported),
        }
    }

    async fn basic(&self) -> Result<Option<HeaderValue>, EgressError> {
        if let Login::OfEnvironment(intercept) = &self.login {
            return Ok(intercept.basic_auth().cloned());
        }
        let Some((username, password)) = self.pair().await? else {
            return Ok(None);
        };
        #[expect(
            clippy::disallowed_methods,
            reason = "it is encoded into the header of the CONNECT"
        )]
        let pair = Zeroizing::new([&username, ":", password.expose_secret()].concat());
        let value = Zeroizing::new(["Basic ", &BASE64_STANDARD.encode(pair.as_bytes())].concat());
        let mut value = HeaderValue::from_str(&value).expect("base64 is visible ASCII");
        value.set_sensitive(true);
        Ok(Some(value))
    }

    async fn pair(&self) -> Result<Option<(String, SecretString)>, EgressError> {
        match &self.login {
            Login::Nobody => Ok(None),
            Login::OfEnvironment(intercept) => Ok(intercept
                .raw_auth()
                .map(|(user, password)| (user.to_owned(), password.into()))),
            Login::Read { username, password } => {
                let username = match username {
                    Text::Literal(text) => text.clone(),
                    #[expect(clippy::disallowed_methods, reason = "a name goes with the password")]
                    Text::Location(place) => {
                        let name = place.read().await.map_err(EgressError::Secret)?;
                        name.expose_secret().to_owned()
                    }
                };
                let password = password.read().await.map_err(EgressError::Secret)?;
                Ok(Some((username, password)))
            }
        }
    }
}

impl Origin {
    /// The proxy that the way leads through, if it does; `None`: directly.
    pub fn way(&self) -> Option<EgressProxy> {
        match &self.egress {
            Egress::Direct => None,
            Egress::Through(proxy) => Some(proxy.clone()),
            Egress::OfEnvironment if is_near(&self.host) => None,
            Egress::OfEnvironment => of(&Matcher::from_env(), self),
        }
    }
}

/// Whether a server is this machine, or on its link alone, where clouds have their metadata: no proxy reaches those.
fn is_near(host: &str) -> bool {
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn of(matcher: &Matcher, origin: &Origin) -> Option<EgressProxy> {
    let scheme = if origin.tls { "https" } else { "http" };
    let server = format!("{scheme}://{}/", authority(&origin.host, origin.port));
    let intercept = matcher.intercept(&server.parse().ok()?)?;
    let proxy = intercept.uri();
    let protocol = protocol(proxy.scheme_str().unwrap_or_default());
    let usual = if protocol == Protocol::Socks5 {
        1080
    } else {
        3128
    };
    Some(EgressProxy {
        protocol,
        host: proxy.host()?.trim_matches(['[', ']']).to_owned(),
        port: proxy.port_u16().unwrap_or(usual),
        login: Login::OfEnvironment(intercept),
    })
}

fn protocol(scheme: &str) -> Protocol {
    match &*scheme.to_ascii_lowercase() {
        "http" => Protocol::Connect,
        "socks5" | "socks5h" => Protocol::Socks5,
        _ => Protocol::Unknown,
    }
}

/// `host:port`, always with the port.
fn authority(host: &str, port: u16) -> String {
    if host.contains(':') {
        format!("[{host}]:{port}")
    } else {
        format!("{host}:{port}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_of_proxies() {
        let parsed = |url| EgressProxy::parse(url).map(|proxy| proxy.url());
        for (url, shown) in [
            ("http://Egress:3128", "http://egress:3128"),
            ("http://egress", "http://egress:3128"),
            ("http://egress:80/", "http://egress:80"),
            ("socks5://10.0.0.1", "socks5://10.0.0.1:1080"),
            ("socks5h://[::1]:9", "socks5://[::1]:9"),
        ] {
            assert_eq!(parsed(url).as_deref(), Some(shown), "{url}");
        }
        for url in [
            "egress:3128",
            "https://egress",
            "http://u:p@egress",
            "http://egress/x",
            "none",
        ] {
            assert_eq!(parsed(url), None, "{url}");
        }
    }

    #[test]
    fn the_environment_says_which_servers_are_reached_how() {
        let matcher = Matcher::builder()
            .https("http://user:secret@egress:3128")
            .http("socks5://socks")
            .no(".cluster.local,10.0.0.0/8")
            .build();
        let way = |url: &str| {
            let origin = Origin::parse(url, Default::default()).unwrap();
            of(&matcher, &origin).map(|proxy| proxy.url())
        };
        assert_eq!(
            way("https://a.example.com").as_deref(),
            Some("http://egress:3128")
        );
        assert_eq!(
            way("http://a.example.com").as_deref(),
            Some("socks5://socks:1080")
        );
        assert_eq!(way("https://x.svc.cluster.local"), None);
        assert_eq!(way("https://10.1.2.3"), None);
        for near in [
            "localhost",
            "a.localhost",
            "127.0.0.9",
            "::1",
            "169.254.169.254",
            "fe80::1",
        ] {
            assert!(is_near(near), "{near}");
        }
        let origin = Origin::parse("https://a", Default::default()).unwrap();
        let shown = format!("{:?}", of(&matcher, &origin));
        assert!(
            !shown.contains("secret") && !shown.contains("c2VjcmV0"),
            "{shown}"
        );
    }
}
