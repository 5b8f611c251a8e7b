//! `zen_api_key` and `basic`: user name and secret in base64; nobody is asked.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, is_sendable, read, read_text, unusable,
};
use crate::{
    credential::{SECRET, Text, USERNAME},
    secret::{Location, SecretError},
};

pub(super) struct Basic {
    pub(super) username: Text,
    pub(super) secret: Location,
}

impl Exchange for Basic {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.encode(record))
    }
}

impl Basic {
    async fn encode(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let username = read_text(USERNAME, &self.username, record).await?;
        let secret = read(SECRET, &self.secret, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "both are encoded into the value to be sent"
        )]
        let (username, secret) = (username.expose_secret(), secret.expose_secret());
        // The server would take the name to end there (RFC 7617).
        if username.contains(':') {
            return Err(ExchangeError::Username);
        }
        let pair = Zeroizing::new([username, ":", secret].concat());
        let value = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
        if !is_sendable(&value) {
            return Err(unusable(SECRET, &self.secret, SecretError::TooLarge).await);
        }
        let value = SecretString::from(value.as_str());
        record.conceal(&value);
        Ok(Grant {
            value,
            expires: None,
            fixed_end: false,
        })
    }
}
