//! Where a server is, and a connection to it: TCP, and TLS where the scheme asks for it.

mod connection;
mod inspect;
mod origin;
mod settings;

use std::{error::Error, fmt::Write as _, io, net::SocketAddr, time::Duration};

use rustls::pki_types::ServerName;
use tokio::{
    io::BufReader,
    net::{TcpStream, lookup_host},
    time::{self, Instant},
};
use tokio_rustls::TlsConnector;

pub use connection::Connection;
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
    tls: TlsSettings,
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The name does not resolve, or no address of it accepts.
    #[error("the server cannot be reached")]
    Unreachable(#[source] io::Error),
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
            origin,
        }
    }

    /// Where it connects to.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Opens a connection: name look-up, TCP and TLS all together take no longer than `within`. What was agreed
    /// on is [`Connection::alpn`].
    ///
    /// # Errors
    /// [`ConnectError`]; nothing was sent that is secret.
    pub async fn connect(&self, within: Duration) -> Result<Connection, ConnectError> {
        let deadline = Instant::now() + within;
        time::timeout_at(deadline, self.dial(deadline))
            .await
            .unwrap_or(Err(ConnectError::Timeout))
    }

    async fn dial(&self, deadline: Instant) -> Result<Connection, ConnectError> {
        if !self.origin.tls {
            return Ok(Connection::Plain(self.tcp(deadline).await?));
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
        let tcp = BufReader::with_capacity(READ_BUFFER, self.tcp(deadline).await?);
        let connector = TlsConnector::from(settings.config.clone());
        match connector.connect(name, tcp).await {
            Ok(stream) => Ok(Connection::Tls(Box::new(stream))),
            Err(error) => {
                if is_distrust(&error) {
                    self.tls.doubt(&settings);
                }
                Err(ConnectError::Tls(TlsError::Handshake(error)))
            }
        }
    }

    /// Tries every address in turn; none may use up the time of those behind it.
    async fn tcp(&self, deadline: Instant) -> Result<TcpStream, ConnectError> {
        let found = lookup_host((self.origin.host.as_str(), self.origin.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(ConnectError::Unreachable)?.collect();
        let mut failure = ConnectError::Unreachable(io::ErrorKind::NotFound.into());
        for (index, address) in addresses.iter().enumerate() {
            let left = deadline.saturating_duration_since(Instant::now());
            let behind = u32::try_from(addresses.len() - index).unwrap_or(u32::MAX);
            let share = (left / behind).max(LEAST_SHARE.min(left));
            failure = match time::timeout(share, TcpStream::connect(address)).await {
                Ok(Ok(tcp)) => {
                    tcp.set_nodelay(true).map_err(ConnectError::Unreachable)?;
                    return Ok(tcp);
                }
                Ok(Err(error)) => ConnectError::Unreachable(error),
                Err(_) => ConnectError::Timeout,
            };
        }
        Err(failure)
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

/// Whether the handshake failed because the server's certificate was not trusted.
fn is_distrust(error: &io::Error) -> bool {
    let inner = error
        .get_ref()
        .and_then(|inner| inner.downcast_ref::<rustls::Error>());
    matches!(inner, Some(rustls::Error::InvalidCertificate(_)))
}

/// rustls reads 4 KiB at a time; large answers are 8 % cheaper with this below it.
const READ_BUFFER: usize = 64 << 10;
const LEAST_SHARE: Duration = Duration::from_secs(2);
