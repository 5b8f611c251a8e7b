//! `mcsp_v2`: an API key for a token of the SaaS on AWS that is good for one account, subscription or service.

use std::time::Duration;

use http::{Request, header::CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record,
    answer::Issued,
    mcsp::ApiKey,
    read, read_text,
    request::{self, LONGEST_IN_URL, encoded, is_dots},
};
use crate::{
    clock,
    connect::Connector,
    credential::{
        self,
        cloud::{APIKEY, SCOPE_ID},
    },
    http as endpoint,
};

pub(super) struct McspV2 {
    pub(super) server: Connector,
    pub(super) settings: credential::McspV2,
    pub(super) fallback: Duration,
}

impl Exchange for McspV2 {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.log_in(record))
    }
}

impl McspV2 {
    async fn log_in(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let target = self.target(&read_text(SCOPE_ID, &self.settings.scope_id, record).await?)?;
        let apikey = read(APIKEY, &self.settings.apikey, record).await?;
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the server it is for"
        )]
        let login = ApiKey {
            apikey: apikey.expose_secret(),
            claim: self
                .settings
                .caller_ext_claim
                .as_ref()
                .map(|claim| &claim.0),
        };
        let mut request = Request::post(target)
            .body(request::json(&login))
            .expect("what is put into the target is percent-encoded");
        request.headers_mut().insert(CONTENT_TYPE, request::JSON);
        let sent = clock::now();
        let answer = endpoint::send_with_values(&self.server, request, TOKEN, record).await?;
        Ok(Issued::from_answer(TOKEN, &answer, record)?.into_grant(sent, self.fallback))
    }

    fn target(&self, scope_id: &SecretString) -> Result<String, ExchangeError> {
        #[expect(
            clippy::disallowed_methods,
            reason = "a part of the path that the token service wants"
        )]
        let scope_id = scope_id.expose_secret();
        if is_dots(scope_id) || scope_id.len() > LONGEST_IN_URL {
            return Err(ExchangeError::Unsendable { part: SCOPE_ID });
        }
        let settings = &self.settings;
        Ok(format!(
            "/api/2.0/{}/{}/apikeys/token?includeBuiltinActions={}&includeCustomActions={}&includeRoles={}\
             &prefixRolesWithDefinitionScope={}",
            settings.collection.name(),
            encoded(scope_id),
            settings.include_builtin_actions,
            settings.include_custom_actions,
            settings.include_roles,
            settings.prefix_roles,
        ))
    }
}

/// For people; the path has the scope in it.
const TOKEN: &str = "/api/2.0/…/apikeys/token";
