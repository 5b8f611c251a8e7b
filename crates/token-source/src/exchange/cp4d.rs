//! `cp4d`: user name and API key (or password) for a bearer token, by the platform's `authorize`.

use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, login::Login, read, read_optional, read_text,
};
use crate::{
    connect::Connector,
    credential::{ACCOUNT_ID, Proof, Text, USERNAME},
};

pub(super) struct Cp4d {
    pub(super) platform: Connector,
    pub(super) username: Text,
    pub(super) proof: Proof,
    pub(super) account_id: Option<Text>,
    pub(super) fallback: Duration,
}

impl Exchange for Cp4d {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.authorize(record))
    }
}

impl Cp4d {
    async fn authorize(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let username = read_text(USERNAME, &self.username, record).await?;
        let (part, place) = self.proof.place();
        let secret = read(part, place, record).await?;
        let account_id = read_optional(ACCOUNT_ID, self.account_id.as_ref(), record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the platform it is for"
        )]
        let (username, secret, account_id) = (
            username.expose_secret(),
            Some(secret.expose_secret()),
            account_id.as_ref().map(|id| id.expose_secret()),
        );
        let (api_key, password) = match &self.proof {
            Proof::ApiKey(_) => (secret, None),
            Proof::Password(_) => (None, secret),
        };
        Login {
            username,
            api_key,
            password,
            account_id,
        }
        .post(&self.platform, AUTHORIZE, self.fallback, record)
        .await
    }
}

const AUTHORIZE: &str = "/icp4d-api/v1/authorize";
