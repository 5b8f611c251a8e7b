//! `cp4d_ldap`: user name and password for a bearer token, by the platform's `signin`.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, login::Login, read, read_optional, read_text,
};
use crate::{
    connect::Connector,
    credential::{ACCOUNT_ID, PASSWORD, Text, USERNAME},
    secret::Location,
};

pub(super) struct Cp4dLdap {
    pub(super) platform: Connector,
    pub(super) username: Text,
    pub(super) password: Location,
    pub(super) account_id: Option<Text>,
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
        let account_id = read_optional(ACCOUNT_ID, self.account_id.as_ref(), record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the platform it is for"
        )]
        let (username, password, account_id) = (
            username.expose_secret(),
            Some(password.expose_secret()),
            account_id.as_ref().map(|id| id.expose_secret()),
        );
        Login {
            username,
            password,
            account_id,
            ..Login::default()
        }
        .post(&self.platform, SIGNIN, self.fallback, record)
        .await
    }
}

const SIGNIN: &str = "/v1/preauth/signin";
