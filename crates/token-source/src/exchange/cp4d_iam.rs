//! `cp4d_iam`: user name and password for an IAM access token, and that for a bearer token of the platform.

use std::time::Duration;

use form_urlencoded::Serializer;
use http::{HeaderName, HeaderValue, Request, header::CONTENT_TYPE};
use secrecy::{ExposeSecret as _, SecretString};

use super::{
    Attempt, Exchange, ExchangeError, Grant, Record, answer::Issued, read, read_optional, read_text,
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
        let username = read_text(USERNAME, &self.username).await?;
        // Before the password goes anywhere: the second step needs the name in a header.
        let name_header = sensitive(&username).ok_or(ExchangeError::Username)?;
        let password = read(PASSWORD, &self.password).await?;
        let account_id = read_optional(ACCOUNT_ID, self.account_id.as_ref()).await?;

        let identity_sent = clock::now();
        let request = identity_request(&username, &password, account_id.as_ref());
        let identity = Issued::from_answer(
            IDENTITY_TOKEN,
            &endpoint::send(&self.identity, request, record).await?,
        )?;

        let sent = clock::now();
        let mut request = Request::get(VALIDATE_AUTH)
            .body(Body::default())
            .expect("a step is a path");
        request.headers_mut().insert(USERNAME_HEADER, name_header);
        let iam_token = sensitive(&identity.value).expect("an issued token is visible ASCII");
        request.headers_mut().insert(IAM_TOKEN_HEADER, iam_token);
        let answer = endpoint::send(&self.platform, request, record).await?;
        let mut issued = Issued::from_answer(VALIDATE_AUTH, &answer)?;
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
    let mut form = Serializer::new(String::with_capacity(ROOM));
    form.append_pair("grant_type", "password");
    #[expect(
        clippy::disallowed_methods,
        reason = "the login goes to the identity service it is for"
    )]
    {
        form.append_pair("username", username.expose_secret());
        form.append_pair("password", password.expose_secret());
        form.append_pair("scope", "openid");
        if let Some(account_id) = account_id {
            form.append_pair("account_id", account_id.expose_secret());
        }
    }
    let body = Body::new(form.finish().into_bytes());
    let mut request = Request::post(IDENTITY_TOKEN)
        .body(body)
        .expect("a step is a path");
    let content_type = HeaderValue::from_static("application/x-www-form-urlencoded;charset=UTF-8");
    request.headers_mut().insert(CONTENT_TYPE, content_type);
    request
}

/// The header value that must not be shown; `None` where it would need control or non-ASCII characters, on whose
/// encoding no two servers agree.
fn sensitive(value: &SecretString) -> Option<HeaderValue> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the login goes to the platform it is for, in headers"
    )]
    let text = value.expose_secret();
    let mut value = HeaderValue::from_str(text)
        .ok()
        .filter(|_| text.is_ascii())?;
    value.set_sensitive(true);
    Some(value)
}

const IDENTITY_TOKEN: &str = "/idprovider/v1/auth/identitytoken";
const VALIDATE_AUTH: &str = "/v1/preauth/validateAuth";
const USERNAME_HEADER: HeaderName = HeaderName::from_static("username");
const IAM_TOKEN_HEADER: HeaderName = HeaderName::from_static("iam-token");

/// For any login that is not absurd: a string that grows leaves copies behind.
const ROOM: usize = 8 << 10;

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

    #[test]
    fn names_that_would_break_the_head_are_refused() {
        for bad in ["a\r\nX: y", "a\nb", "a\0", "\u{e9}"] {
            assert!(sensitive(&bad.into()).is_none(), "{bad:?}");
        }
        assert!(sensitive(&"cn=a user,o=x".into()).unwrap().is_sensitive());
    }
}
