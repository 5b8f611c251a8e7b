//! Addresses to listen on, and that no two are the same.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Declared, WrittenAdmin};
use crate::config::{
    ListenAddress, Listener,
    reading::{Reading, Span, Wrong},
};

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
    if let Some(port) = port_of_localhost(text) {
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

/// Reads an address that only this machine can reach; `localhost` is 127.0.0.1.
pub(crate) fn loopback_address(text: &str) -> Result<SocketAddr, Wrong> {
    let address = match port_of_localhost(text) {
        Some(port) => SocketAddr::new(Ipv4Addr::LOCALHOST.into(), port),
        None => socket_address(text)?,
    };
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err(Wrong::new(
            "the admin address is not a loopback address",
            "127.0.0.1:9090; what kubelet and Prometheus need is served at `probes`",
        ))
    }
}

fn port_of_localhost(text: &str) -> Option<u16> {
    text.strip_prefix("localhost:")?.parse().ok()
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

/// Two sockets of one address: the second could not be bound, or would take half of the connections.
pub(super) fn refuse_shared_addresses(
    reading: &Reading<'_>,
    listeners: &[Declared<Listener>],
    admin: &WrittenAdmin,
) {
    let mut taken: Vec<(String, ListenAddress)> = Vec::new();
    let mut claim = |who: String, span: Span, address: ListenAddress| {
        if let Some((other, _)) = taken.iter().find(|(_, other)| overlap(other, &address)) {
            let hint = "give each an address or port of its own";
            reading.mistake(span, format!("{other} has this address already"), hint);
        }
        taken.push((who, address));
    };
    for listener in listeners {
        if let Some(built) = &listener.built {
            claim(
                format!("listener `{}`", listener.name),
                listener.span.clone(),
                built.address.clone(),
            );
        }
    }
    let written = [
        ("admin.address", &admin.address),
        ("admin.probes", &admin.probes),
    ];
    for (who, address) in written {
        if let Some(address) = address {
            let tcp = ListenAddress::Tcp(vec![*address.get_ref()]);
            claim(who.to_owned(), address.span(), tcp);
        }
    }
}

fn overlap(one: &ListenAddress, other: &ListenAddress) -> bool {
    let is_same = |a: &SocketAddr, b: &SocketAddr| {
        let covers = |a: IpAddr, b: IpAddr| a.is_unspecified() && a.is_ipv4() == b.is_ipv4();
        let (x, y) = (a.ip(), b.ip());
        a.port() != 0 && a.port() == b.port() && (x == y || covers(x, y) || covers(y, x))
    };
    match (one, other) {
        (ListenAddress::Tcp(one), ListenAddress::Tcp(other)) => {
            one.iter().any(|a| other.iter().any(|b| is_same(a, b)))
        }
        (ListenAddress::Unix { path: one, .. }, ListenAddress::Unix { path: other, .. }) => {
            one == other
        }
        _ => false,
    }
}
