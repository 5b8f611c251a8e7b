//! `cp4d_ldap`: user name and password for a bearer token, by the platform's `signin`.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{Attempt, Exchange, ExchangeError, Grant, Record, login::Login, read, read_text};
use crate::{
    connect::Connector,
    credential::{PASSWORD, Text, USERNAME},
    secret::Location,
};

pub(super) struct Cp4dLdap {
    pub(super) platform: Connector,
    pub(super) username: Text,
    pub(super) password: Location,
    pub(super) fallback: Duration,
}

impl Exchange for Cp4dLdap {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.sign_in(record))
    }
}

impl Cp4dLdap {
    async fn sign_in(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let username = read_text(USERNAME, &self.username, record).await?;
        let password = read(PASSWORD, &self.password, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the platform it is for"
        )]
        let (username, password) = (username.expose_secret(), Some(password.expose_secret()));
        Login {
            username,
            password,
            ..Login::default()
        }
        .post(&self.platform, SIGNIN, self.fallback, record)
        .await
    }
}

const SIGNIN: &str = "/v1/preauth/signin";
