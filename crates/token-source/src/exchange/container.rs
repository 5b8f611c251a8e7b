//! `container`: the token that a platform put into a container for that of a trusted profile, by IAM's
//! `/identity/token`.

use std::time::Duration;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, identity_token, read, read_optional,
    request::{self, Form},
};
use crate::{
    connect::Connector,
    credential::{
        self,
        cloud::{CR_TOKEN_FILENAME, IAM_PROFILE_ID, IAM_PROFILE_NAME, SCOPE},
    },
};

pub(super) struct Container {
    pub(super) server: Connector,
    pub(super) settings: credential::Container,
    pub(super) fallback: Duration,
}

impl Exchange for Container {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.log_in(record))
    }
}

impl Container {
    async fn log_in(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let settings = &self.settings;
        let cr_token = read(CR_TOKEN_FILENAME, &settings.cr_token, record).await?;
        let id = read_optional(IAM_PROFILE_ID, settings.profile_id.as_ref(), record).await?;
        let name = read_optional(IAM_PROFILE_NAME, settings.profile_name.as_ref(), record).await?;
        let scope = read_optional(SCOPE, settings.scope.as_ref(), record).await?;
        let client = match &settings.client {
            Some(client) => Some(request::basic(client, record).await?),
            None => None,
        };
        let mut form = Form::default();
        form.add("grant_type", "urn:ibm:params:oauth:grant-type:cr-token");
        form.add_secret("cr_token", &cr_token);
        for (name, value) in [("profile_id", id), ("profile_name", name), ("scope", scope)] {
            if let Some(value) = value {
                form.add_secret(name, &value);
            }
        }
        let (issued, sent) = identity_token::post(&self.server, form, client, record).await?;
        Ok(issued.into_grant(sent, self.fallback))
    }
}
