//! How a credential is obtained and kept fresh; knows nothing of proxying.
//!
//! A keeper is the one task that owns an exchange: it renews before expiry and never gives up. Its feed is the
//! read side: the current [`Token`], without a lock and without waiting.

pub mod connect;
pub mod credential;
pub mod feed;
pub mod secret;
pub mod tls;

pub use connect::Origin;
pub use credential::{Generation, Kind, Settings, Token};
pub use feed::{Status, Unavailable};
pub use secret::Location;
pub use tls::Trust;
