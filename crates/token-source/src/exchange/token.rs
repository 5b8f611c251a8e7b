//! `token` and `service_account`: a token that lies ready; others issue and rotate it.

use std::time::{Duration, SystemTime};

use secrecy::ExposeSecret as _;

use super::{Attempt, Exchange, ExchangeError, Grant, Record, is_sendable, read, unusable};
use crate::{
    clock,
    credential::VALUE,
    expiry::{self, Remaining},
    secret::{Location, SecretError},
};

pub(super) struct StoredToken {
    pub(super) value: Location,
    /// How long a token is good that does not tell; `None`: until it changes.
    pub(super) lifetime: Option<Duration>,
}

impl Exchange for StoredToken {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.take(record))
    }
}

impl StoredToken {
    async fn take(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let value = read(VALUE, &self.value, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "its characters and the times inside are looked at"
        )]
        let token = value.expose_secret();
        if !is_sendable(token) {
            return Err(unusable(VALUE, &self.value, SecretError::NotAToken).await);
        }
        let left = match expiry::of_stored(token, SystemTime::now()) {
            Remaining::Over => {
                return Err(unusable(VALUE, &self.value, SecretError::Expired).await);
            }
            Remaining::Left(left) => Some(left),
            Remaining::Unknown => self.lifetime.map(|lifetime| lifetime.min(expiry::LONGEST)),
        };
        let expires = left.map(|left| clock::now() + left);
        // Worked out anew at each reading: so it follows a clock that is set right.
        Ok(Grant {
            value,
            expires,
            fixed_end: false,
        })
    }
}
