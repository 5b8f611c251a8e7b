//! The JSON login that `authorize` and `signin` share.

use std::time::Duration;

use http::{HeaderValue, Request, header::CONTENT_TYPE};
use serde::Serialize;

use super::{ExchangeError, Grant, Record, answer::Issued};
use crate::{
    clock,
    connect::Connector,
    http::{self as endpoint, Body},
};

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
        let answer = endpoint::send(platform, self.request(step), record).await?;
        Ok(Issued::from_answer(step, &answer)?.into_grant(sent, fallback))
    }

    fn request(&self, step: &'static str) -> Request<Body> {
        let mut body = Body::new(Vec::with_capacity(ROOM));
        serde_json::to_writer(&mut *body, self)
            .expect("strings have a JSON form, and memory takes them");
        let mut request = Request::post(step).body(body).expect("a step is a path");
        request
            .headers_mut()
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        request
    }
}

/// For any login that is not absurd: a vector that grows leaves copies behind.
const ROOM: usize = 8 << 10;

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
            login.request("/p").body().as_slice(),
            br#"{"username":"u\"v","api_key":"k\\"}"#
        );
        let login = Login {
            username: "u",
            password: Some("p"),
            account_id: Some("7"),
            ..Login::default()
        };
        assert_eq!(
            login.request("/p").body().as_slice(),
            br#"{"username":"u","password":"p","account_id":"7"}"#
        );
    }
}
