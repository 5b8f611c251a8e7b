//! Where a server is, and a connection to it: TCP, and TLS where the scheme asks for it.

mod connection;
mod dial;
mod egress;
mod environment;
mod inspect;
mod origin;
mod settings;
mod tunnel;

use std::{error::Error, fmt::Write as _, io, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{io::BufReader, net::TcpStream, time};
use tokio_rustls::TlsConnector;

pub use connection::Connection;
pub use egress::{Egress, EgressError, EgressProxy};
pub use environment::EnvironmentError;
pub use inspect::{Inspection, TlsInspection, inspect};
pub use origin::{Origin, OriginError};

use crate::tls::TrustError;
use settings::TlsSettings;

/// Opens connections to one origin. Its TLS settings are loaded when first used; they are loaded anew when their
/// files have changed, looked at no more often than every 5 s, and at once after a server was not trusted. Files that
/// cannot be used leave the settings in force that there are.
#[derive(Debug)]
pub struct Connector {
    origin: Origin,
    /// The proxy before it, if there is one.
    way: Result<Option<EgressProxy>, EnvironmentError>,
    tls: TlsSettings,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve, or no address of it accepts.
    #[error("the server cannot be reached")]
    Unreachable(#[source] io::Error),
    /// No way through the proxy before it.
    #[error("no way through the egress proxy")]
    Egress(#[source] EgressError),
    /// Not within the time limit.
    #[error("the server did not accept the connection in time")]
    Timeout,
    /// No TLS with that server: not trusted, not spoken, or our own files cannot be used.
    #[error("no trusted TLS connection to the server")]
    Tls(#[source] TlsError),
}

/// Why there is no TLS.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The files that the trust names.
    #[error("TLS settings cannot be loaded")]
    Trust(#[source] TrustError),
    /// The name to check is neither a DNS name nor an address.
    #[error("the server's name cannot be checked")]
    Name,
    /// The handshake.
    #[error("TLS handshake failed")]
    Handshake(#[source] io::Error),
}

impl Connector {
    /// A connector for HTTP/1.1 that has loaded nothing and contacted nobody yet.
    pub fn new(origin: Origin) -> Self {
        Self::offering(origin, &[b"http/1.1"])
    }

    /// One that offers these protocols in TLS handshakes, best first.
    pub fn offering(origin: Origin, alpn: &'static [&'static [u8]]) -> Self {
        Self {
            tls: TlsSettings::new(&origin, alpn),
            way: origin.way(),
            origin,
        }
    }

    /// Where it connects to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Opens a connection: name look-up, TCP, a tunnel where there is a proxy, and TLS all together take no longer than
    /// `within`. What was agreed on is [`Connection::alpn`].
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent that is secret.
    pub async fn connect(&self, within: Duration) -> Result<Connection, ConnectError> {
        time::timeout(within, self.open())
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }

    async fn open(&self) -> Result<Connection, ConnectError> {
        if !self.origin.tls {
            return Ok(Connection::Plain(self.tcp().await?));
        }
        let settings = self
            .tls
            .current()
            .await
            .map_err(|error| ConnectError::Tls(TlsError::Trust(error)))?;
        let name = self
            .origin
            .trust
            .server_name
            .as_ref()
            .unwrap_or(&self.origin.host)
            .clone();
        let name = ServerName::try_from(name).map_err(|_| ConnectError::Tls(TlsError::Name))?;
        let tcp = BufReader::with_capacity(READ_BUFFER, self.tcp().await?);
        let connector = TlsConnector::from(settings.config.clone());
        match connector.connect(name, tcp).await {
            Ok(stream) => Ok(stream.into()),
            Err(error) => {
                if is_distrust(&error) {
                    self.tls.doubt(&settings);
                }
                Err(ConnectError::Tls(TlsError::Handshake(error)))
            }
        }
    }

    /// A TCP connection, or a tunnel that is as good as one.
    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        let way = (self.way.as_ref())
            .map_err(|error| ConnectError::Egress(EgressError::Environment(*error)))?;
        let Some(proxy) = way else {
            let tcp = dial::dial(&self.origin.host, self.origin.port).await;
            return tcp.map_err(ConnectError::Unreachable);
        };
        let tcp = dial::dial(&proxy.host, proxy.port).await;
        let tcp = tcp.map_err(|error| ConnectError::Egress(EgressError::Unreachable(error)))?;
        let tunnel = proxy.tunnel(tcp, &self.origin).await;
        tunnel.map_err(ConnectError::Egress)
    }
}

impl ConnectError {
    /// What happened, with all causes, in one line for logs: addresses, names and TLS alerts, no secret.
    pub fn cause(&self) -> String {
        with_causes(self)
    }
}

/// An error and what caused it, in one line, for logs only.
pub fn with_causes(error: &dyn Error) -> String {
    let mut line = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        write!(line, ": {inner}").expect("writing to a string cannot fail");
        cause = inner.source();
    }
    line
}

/// Whether TLS failed and not the socket below it: where the server refuses our certificate, TLS 1.3 says so only after the
/// handshake. rustls tells what is wrong by this kind, which a socket never has.
pub fn is_of_tls(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::InvalidData
}

/// Whether the handshake failed because the server's certificate was not trusted.
fn is_distrust(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// rustls reads 4 KiB at a time; large answers are 8 % cheaper with this below it.
const READ_BUFFER: usize = 64 << 10;
