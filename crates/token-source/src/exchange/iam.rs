//! `iam`: an API key for a token of IBM Cloud, by IAM's `/identity/token`.

use std::time::Duration;

use tokio::time::Instant;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record,
    answer::Issued,
    identity_token, read, read_optional,
    request::{self, Form},
};
use crate::{
    connect::Connector,
    credential::{
        self,
        cloud::{APIKEY, SCOPE},
    },
};

pub(super) struct Iam {
    pub(super) server: Connector,
    pub(super) login: credential::Iam,
    pub(super) fallback: Duration,
}

impl Exchange for Iam {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.obtain(record))
    }
}

impl Iam {
    async fn obtain(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let (issued, sent) = self.log_in(record).await?;
        Ok(issued.into_grant(sent, self.fallback))
    }

    /// The token, and when it was asked for.
    pub(super) async fn log_in(&self, record: &Record) -> Result<(Issued, Instant), ExchangeError> {
        let login = &self.login;
        let apikey = read(APIKEY, &login.apikey, record).await?;
        let scope = read_optional(SCOPE, login.scope.as_ref(), record).await?;
        let client = match &login.client {
            Some(client) => Some(request::basic(client, record).await?),
            None => None,
        };
        let mut form = Form::default();
        form.add("grant_type", "urn:ibm:params:oauth:grant-type:apikey");
        form.add_secret("apikey", &apikey);
        form.add("response_type", "cloud_iam");
        if let Some(scope) = &scope {
            form.add_secret("scope", scope);
        }
        identity_token::post(&self.server, form, client, record).await
    }
}
