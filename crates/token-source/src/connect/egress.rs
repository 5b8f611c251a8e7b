//! The way out to a server: directly, or through the egress proxy that the configuration or the environment names.

use std::{env, io, net::IpAddr};

use base64::{Engine as _, prelude::BASE64_STANDARD};
use http::{HeaderValue, StatusCode};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::net::TcpStream;

use super::{
    Origin,
    environment::{self, EnvironmentError},
    tunnel::{connect, fits_socks, socks},
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
}

/// Who we are to a proxy.
#[derive(Debug, Clone)]
enum Login {
    Nobody,
    Read {
        username: Text,
        password: Location,
    },
    Known {
        username: String,
        password: SecretString,
    },
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
    /// Login and host do not fit into what is sent to a SOCKS proxy.
    #[error("the login and the name of the server are too long for SOCKS")]
    TooLong,
    /// The environment names a proxy that is not understood.
    #[error("the environment names a proxy that is not understood")]
    Environment(#[source] EnvironmentError),
}

impl EgressProxy {
    /// A proxy at `http://host[:port]` or `socks5://host[:port]`; `None` where the URL is none of these, or has a user,
    /// a path or anything else in it.
    pub fn parse(url: &str) -> Option<Self> {
        let (scheme, authority) = url.split_once("://")?;
        let protocol = protocol(scheme)?;
        let usual = match protocol {
            Protocol::Connect => 3128,
            Protocol::Socks5 => 1080,
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

    /// Whether proxies of this scheme can be used.
    pub(super) fn speaks(scheme: &str) -> bool {
        protocol(scheme).is_some()
    }

    /// The same, with the login that the environment has.
    pub(super) fn with_known_login(self, username: String, password: SecretString) -> Self {
        Self {
            login: Login::Known { username, password },
            ..self
        }
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
            Login::Nobody | Login::Known { .. } => Vec::new(),
        }
    }

    /// Its URL, for logs: without a login.
    pub fn url(&self) -> String {
        let scheme = match self.protocol {
            Protocol::Connect => "http",
            Protocol::Socks5 => "socks5",
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
            Protocol::Socks5 => {
                let login = self.pair().await?;
                fits_socks(&to.host, login.as_ref())?;
                socks(tcp, &target, login).await
            }
        }
    }

    async fn basic(&self) -> Result<Option<HeaderValue>, EgressError> {
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
            Login::Known { username, password } => Ok(Some((username.clone(), password.clone()))),
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
    ///
    /// # Errors
    /// When the environment names one that is not understood.
    pub fn way(&self) -> Result<Option<EgressProxy>, EnvironmentError> {
        match &self.egress {
            Egress::Direct => Ok(None),
            Egress::Through(proxy) => Ok(Some(proxy.clone())),
            Egress::OfEnvironment if is_near(&self.host) => Ok(None),
            Egress::OfEnvironment => environment::way(self, |name| env::var_os(name)),
        }
    }
}

/// Whether a server is this machine, or on its link alone, where clouds have their metadata: no proxy reaches those.
fn is_near(host: &str) -> bool {
    let host = host.trim_end_matches('.');
    match host.parse() {
        Ok(IpAddr::V4(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_link_local(),
        Ok(IpAddr::V6(ip)) => ip.is_loopback() || ip.is_unspecified() || ip.is_unicast_link_local(),
        Err(_) => host == "localhost" || host.ends_with(".localhost"),
    }
}

fn protocol(scheme: &str) -> Option<Protocol> {
    match &*scheme.to_ascii_lowercase() {
        "http" => Some(Protocol::Connect),
        "socks5" | "socks5h" => Some(Protocol::Socks5),
        _ => None,
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

    impl EgressProxy {
        /// A login that came with its URL.
        pub(in crate::connect) fn known_login(&self) -> Option<(String, String)> {
            match &self.login {
                #[expect(clippy::disallowed_methods, reason = "it is a test's own")]
                Login::Known { username, password } => {
                    Some((username.clone(), password.expose_secret().to_owned()))
                }
                _ => None,
            }
        }
    }

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
    fn no_proxy_is_asked_for_what_is_near() {
        for near in [
            "localhost",
            "localhost.",
            "a.localhost",
            "127.0.0.9",
            "::1",
            "169.254.169.254",
            "fe80::1",
        ] {
            assert!(is_near(near), "{near}");
        }
        assert!(!is_near("localhost.example.com"));
    }

    #[test]
    fn what_does_not_fit_into_socks_is_told() {
        let fits = |host: &str, login: Option<(usize, usize)>| {
            let login = login.map(|(username, password)| {
                (
                    "u".repeat(username),
                    SecretString::from("p".repeat(password)),
                )
            });
            fits_socks(host, login.as_ref()).is_ok()
        };
        let host = "cpd-cpd-instance.apps.cluster.example.com";
        assert!(fits(host, None));
        assert!(fits(host, Some((8, 200))));
        assert!(!fits(host, Some((8, 201))));
        assert!(fits("10.0.0.1", Some((8, 238))));
        assert!(!fits("10.0.0.1", Some((8, 239))));
        assert!(!fits("::1", Some((0, 256))));
    }
}
