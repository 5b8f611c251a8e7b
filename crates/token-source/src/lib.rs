//! How a credential is obtained and kept fresh; knows nothing of proxying.
//!
//! A keeper is the one task that owns an exchange: it renews before expiry and never gives up. Its feed is the
//! read side: the current [`Token`], without a lock and without waiting.

pub mod clock;
pub mod connect;
pub mod credential;
pub mod exchange;
mod expiry;
pub mod feed;
mod http;
pub mod keeper;
mod redaction;
mod rejection;
mod schedule;
pub mod secret;
pub mod tls;

pub use connect::{ConnectError, Connection, Connector, Origin};
pub use credential::{Generation, Kind, Settings, Token};
pub use expiry::claims;
pub use feed::{Feed, Status, Unavailable};
pub use http::ask;
pub use keeper::Keeper;
pub use redaction::Redaction;
pub use rejection::Proof;
pub use secret::{Location, SecretError};
pub use tls::Trust;
