//! `cp4d_iam`: user name and password for an IAM access token, and that for a bearer token of the platform.

use std::time::Duration;

use http::{HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use secrecy::SecretString;

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record,
    answer::Issued,
    read, read_optional, read_text,
    request::{Form, sensitive},
};
use crate::{
    clock,
    connect::Connector,
    credential::{ACCOUNT_ID, PASSWORD, Text, USERNAME},
    http::{self as endpoint, Body},
    secret::Location,
};

pub(super) struct Cp4dIam {
    pub(super) platform: Connector,
    pub(super) identity: Connector,
    pub(super) username: Text,
    pub(super) password: Location,
    pub(super) account_id: Option<Text>,
    pub(super) fallback: Duration,
}

impl Exchange for Cp4dIam {
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a> {
        Box::pin(self.log_in(record))
    }
}

impl Cp4dIam {
    async fn log_in(&self, record: &Record) -> Result<Grant, ExchangeError> {
        let username = read_text(USERNAME, &self.username, record).await?;
        // Before the password goes anywhere: the second step needs the name in a header.
        let name_header = sensitive(&username).ok_or(ExchangeError::Username)?;
        let password = read(PASSWORD, &self.password, record).await?;
        let account_id = read_optional(ACCOUNT_ID, self.account_id.as_ref(), record).await?;

        let identity_sent = clock::now();
        let request = identity_request(&username, &password, account_id.as_ref());
        let identity = Issued::from_answer(
            IDENTITY_TOKEN,
            &endpoint::send(&self.identity, request, record).await?,
            record,
        )?;

        let sent = clock::now();
        let mut request = Request::get(VALIDATE_AUTH)
            .body(Body::default())
            .expect("a step is a path");
        request.headers_mut().insert(USERNAME_HEADER, name_header);
        let iam_token = sensitive(&identity.value).expect("an issued token is visible ASCII");
        request.headers_mut().insert(IAM_TOKEN_HEADER, iam_token);
        let answer = endpoint::send(&self.platform, request, record).await?;
        let mut issued = Issued::from_answer(VALIDATE_AUTH, &answer, record)?;
        // The platform's token tells its own end as a rule; IBM's own clients go by the IAM token's.
        let since = (sent - identity_sent).as_secs_f64();
        issued.hints.expires_in = issued
            .hints
            .expires_in
            .or(identity.hints.expires_in.map(|left| left - since));
        Ok(issued.into_grant(sent, self.fallback))
    }
}

fn identity_request(
    username: &SecretString,
    password: &SecretString,
    account_id: Option<&SecretString>,
) -> Request<Body> {
    let mut form = Form::default();
    form.add("grant_type", "password");
    form.add_secret("username", username);
    form.add_secret("password", password);
    form.add("scope", "openid");
    if let Some(account_id) = account_id {
        form.add_secret("account_id", account_id);
    }
    let mut request = form.post(IDENTITY_TOKEN);
    // As IBM's documentation of the API has it.
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
}

const IDENTITY_TOKEN: &str = "/idprovider/v1/auth/identitytoken";
const VALIDATE_AUTH: &str = "/v1/preauth/validateAuth";
const USERNAME_HEADER: HeaderName = HeaderName::from_static("username");
const IAM_TOKEN_HEADER: HeaderName = HeaderName::from_static("iam-token");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_form_carries_any_password() {
        let request = identity_request(&"a&b@c".into(), &"p&=+% \u{e4}".into(), Some(&"7".into()));
        let form = std::str::from_utf8(request.body()).unwrap();
        let expected = "grant_type=password&username=a%26b%40c&password=p%26%3D%2B%25+%C3%A4&scope=openid&account_id=7";
        assert_eq!(form, expected);
        let request = identity_request(&"u".into(), &"p".into(), None);
        assert!(request.body().ends_with(b"scope=openid"));
    }
}
