//! `mcsp`: an API key for a token of the SaaS on AWS, by `/siusermgr/api/1.0/apikeys/token`.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde::Serialize;
use serde_json::{Map, Value};

use super::{Attempt, Exchange, ExchangeError, Grant, Record, answer::Issued, read, request};
use crate::{
    clock,
    connect::Connector,
    credential::{self, cloud::APIKEY},
    http as endpoint,
};

pub(super) struct Mcsp {
    pub(super) server: Connector,
    pub(super) settings: credential::Mcsp,
    pub(super) fallback: Duration,
}

impl Exchange for Mcsp {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.log_in(record))
    }
}

impl Mcsp {
    async fn log_in(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let apikey = read(APIKEY, &self.settings.apikey, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the server it is for"
        )]
        let login = ApiKey {
            apikey: apikey.expose_secret(),
            claim: None,
        };
        let request = request::post_json(TOKEN, &login);
        let sent = clock::now();
        let answer = endpoint::send(&self.server, request, record).await?;
        Ok(Issued::from_answer(TOKEN, &answer, record)?.into_grant(sent, self.fallback))
    }
}

/// What both versions of the token service want. No `Debug`: it is all secret.
#[derive(Serialize)]
pub(super) struct ApiKey<'a> {
    pub(super) apikey: &'a str,
    #[serde(rename = "callerExtClaim", skip_serializing_if = "Option::is_none")]
    pub(super) claim: Option<&'a Map<String, Value>>,
}

const TOKEN: &str = "/siusermgr/api/1.0/apikeys/token";
