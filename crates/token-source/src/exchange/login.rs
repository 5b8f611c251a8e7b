//! The JSON login that `authorize` and `signin` share.

use std::time::Duration;

use serde::Serialize;

use super::{ExchangeError, Grant, Record, answer::Issued, request};
use crate::{clock, connect::Connector, http as endpoint};

/// Who we are, and one proof of it. No `Debug`: it is all secret.
#[derive(Serialize, Default)]
pub(super) struct Login<'a> {
    pub(super) username: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) api_key: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) password: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) account_id: Option<&'a str>,
}

impl Login<'_> {
    /// Posts it to `step`, and takes the token out of the answer.
    pub(super) async fn post(
        &self,
        platform: &Connector,
        step: &'static str,
        fallback: Duration,
        record: &Record,
    ) -> Result<Grant, ExchangeError> {
        let sent = clock::now();
        let answer = endpoint::send(platform, request::post_json(step, self), record).await?;
        Ok(Issued::from_answer(step, &answer, record)?.into_grant(sent, fallback))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_known_is_sent() {
        let login = Login {
            username: "u\"v",
            api_key: Some("k\\"),
            ..Login::default()
        };
        assert_eq!(
            request::post_json("/p", &login).body().as_slice(),
            br#"{"username":"u\"v","api_key":"k\\"}"#
        );
        let login = Login {
            username: "u",
            password: Some("p"),
            account_id: Some("7"),
            ..Login::default()
        };
        assert_eq!(
            request::post_json("/p", &login).body().as_slice(),
            br#"{"username":"u","password":"p","account_id":"7"}"#
        );
    }
}
