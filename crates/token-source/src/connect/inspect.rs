//! A look at a server, step by step: its addresses, a connection, and what it presents. Nothing is sent to it.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};
use tokio_rustls::TlsConnector;

use super::{ConnectError, EgressError, EgressProxy, Origin, TlsError, dial::interleaved};
use crate::tls::Presented;

/// What was found; as far as it came.
#[derive(Debug)]
pub struct Inspection {
    /// The proxy that the way leads through: then addresses and connections are the proxy's, and it has the last word
    /// on whether there is a tunnel.
    pub through: Option<(EgressProxy, Result<(), EgressError>)>,
    /// The addresses of its name.
    pub addresses: io::Result<Vec<SocketAddr>>,
    /// Each address that was tried: how long it took, or why it failed. The last one is the connection, if there is
    /// one.
    pub tried: Vec<(SocketAddr, Result<Duration, ConnectError>)>,
    /// `None` for plain HTTP, and where there is no connection.
    pub tls: Option<TlsInspection>,
}

/// What was found out about a server's TLS.
#[derive(Debug)]
pub struct TlsInspection {
    /// What it presents; `None` where it did not come so far.
    pub presented: Option<Presented>,
    /// The protocol that was agreed on, such as `TLS 1.3`; or why there is no TLS, which is the verdict on what it
    /// presents as a rule.
    pub outcome: Result<&'static str, ConnectError>,
}

/// Connects as an exchange would, and hangs up; each step takes no longer than `within`.
pub async fn inspect(origin: &Origin, within: Duration) -> Inspection {
    let way = match origin.way() {
        Ok(way) => way,
        Err(error) => {
            return Inspection {
                through: None,
                addresses: Err(io::Error::other(error)),
                tried: Vec::new(),
                tls: None,
            };
        }
    };
    let (host, port) = match &way {
        Some(proxy) => (proxy.host.as_str(), proxy.port),
        None => (origin.host.as_str(), origin.port),
    };
    let found = time::timeout(within, lookup_host((host, port))).await;
    let addresses = found
        .unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        .map(|found| Vec::from(interleaved(found.collect())));
    let mut inspection = Inspection {
        through: way.map(|proxy| (proxy, Ok(()))),
        addresses,
        tried: Vec::new(),
        tls: None,
    };
    let addresses = inspection.addresses.as_deref().unwrap_or_default();
    let share = within / u32::try_from(addresses.len()).unwrap_or(u32::MAX).max(1);
    for address in addresses {
        let began = Instant::now();
        match time::timeout(share, TcpStream::connect(address)).await {
            Ok(Ok(tcp)) => {
                inspection.tried.push((*address, Ok(began.elapsed())));
                let tcp = match &mut inspection.through {
                    None => tcp,
                    Some((proxy, outcome)) => {
                        let tunnel = time::timeout(within, proxy.tunnel(tcp, origin)).await;
                        let late = EgressError::Unreachable(io::ErrorKind::TimedOut.into());
                        match tunnel.unwrap_or(Err(late)) {
                            Ok(tcp) => tcp,
                            Err(error) => {
                                *outcome = Err(error);
                                break;
                            }
                        }
                    }
                };
                if origin.tls {
                    inspection.tls = Some(shake_hands(origin, tcp, within).await);
                }
                break;
            }
            Ok(Err(error)) => {
                let failure = ConnectError::Unreachable(error);
                inspection.tried.push((*address, Err(failure)));
            }
            Err(_) => inspection
                .tried
                .push((*address, Err(ConnectError::Timeout))),
        }
    }
    inspection
}

async fn shake_hands(origin: &Origin, tcp: TcpStream, within: Duration) -> TlsInspection {
    let (config, witness) = match origin.trust.witnessed_config().await {
        Ok(made) => made,
        Err(error) => {
            return TlsInspection {
                presented: None,
                outcome: Err(ConnectError::Tls(TlsError::Trust(error))),
            };
        }
    };
    let name = origin.trust.server_name.as_ref().unwrap_or(&origin.host);
    let outcome = match ServerName::try_from(name.clone()) {
        Err(_) => Err(ConnectError::Tls(TlsError::Name)),
        Ok(name) => {
            let connector = TlsConnector::from(Arc::clone(&config));
            match time::timeout(within, connector.connect(name, tcp)).await {
                Err(_) => Err(ConnectError::Timeout),
                Ok(Err(error)) => Err(ConnectError::Tls(TlsError::Handshake(error))),
                Ok(Ok(stream)) => Ok(match stream.get_ref().1.protocol_version() {
                    Some(rustls::ProtocolVersion::TLSv1_2) => "TLS 1.2",
                    _ => "TLS 1.3",
                }),
            }
        }
    };
    TlsInspection {
        presented: witness.seen(),
        outcome,
    }
}
