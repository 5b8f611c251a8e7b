//! Addresses to listen on.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::config::reading::Wrong;

/// An `address` of a listener, before the path of a unix socket is resolved.
pub(crate) enum Written {
    Tcp(Vec<SocketAddr>),
    Unix(String),
}

/// Reads `127.0.0.1:8080`, `[::1]:8080`, `localhost:8080` (both loopbacks) or `unix:/path`.
pub(crate) fn listen_address(text: &str) -> Result<Written, Wrong> {
    if let Some(path) = text.strip_prefix("unix:") {
        return if path.is_empty() || path.starts_with('@') || path.contains('\0') {
            Err(Wrong::new(
                "not the path of a unix socket",
                "unix:/run/watsonx-auth-proxy.sock",
            ))
        } else {
            Ok(Written::Unix(path.to_owned()))
        };
    }
    if let Some(port) = text.strip_prefix("localhost:")
        && let Ok(port) = port.parse()
    {
        let both = [
            IpAddr::V4(Ipv4Addr::LOCALHOST),
            IpAddr::V6(Ipv6Addr::LOCALHOST),
        ];
        return Ok(Written::Tcp(
            both.map(|ip| SocketAddr::new(ip, port)).to_vec(),
        ));
    }
    socket_address(text).map(|address| Written::Tcp(vec![address]))
}

/// Reads an address that only this machine can reach.
pub(crate) fn loopback_address(text: &str) -> Result<SocketAddr, Wrong> {
    let address = socket_address(text)?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(Wrong::new(
            "the admin address is not a loopback address",
            "127.0.0.1:9090; what kubelet and Prometheus need is served at `probes`",
        ))
    }
}

/// Reads `127.0.0.1:8080` or `[::1]:8080`.
pub(crate) fn socket_address(text: &str) -> Result<SocketAddr, Wrong> {
    let wrong = match text.parse::<SocketAddr>() {
        Ok(address) => return Ok(address),
        Err(_) if text.starts_with(':') || text.starts_with("*:") => Wrong::new(
            "the address before the port is missing",
            "\"127.0.0.1:PORT\" is for this machine only, \"0.0.0.0:PORT\" for the network",
        ),
        Err(_) if text.parse::<IpAddr>().is_ok() => Wrong::new(
            "the port is missing",
            "\"127.0.0.1:8080\", or \"[::1]:8080\" with brackets for IPv6",
        ),
        Err(_) => Wrong::new(
            "not an address and port",
            "an IP address and a port, such as \"127.0.0.1:8080\" or \"[::1]:8080\"",
        ),
    };
    Err(wrong)
}
