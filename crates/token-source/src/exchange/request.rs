//! What the requests of several kinds are made of: JSON and form bodies, and headers that hold a secret.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use form_urlencoded::byte_serialize;
use http::{HeaderValue, Request, header::CONTENT_TYPE};
use percent_encoding::{PercentEncode, utf8_percent_encode};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde::Serialize;

use super::{ExchangeError, Record, read, read_text};
use crate::{
    credential::cloud::{CLIENT_ID, CLIENT_SECRET, Client},
    http::Body,
    redaction::UNRESERVED,
};

/// A `POST` of JSON.
pub(super) fn post_json(step: &'static str, content: &impl Serialize) -> Request<Body> {
    let mut request = Request::post(step)
        .body(json(content))
        .expect("a step is a path");
    request.headers_mut().insert(CONTENT_TYPE, JSON);
    request
}

/// A body of JSON.
pub(super) fn json(content: &impl Serialize) -> Body {
    let mut body = Body::new(Vec::with_capacity(ROOM));
    serde_json::to_writer(&mut *body, content)
        .expect("what is sent has a JSON form, and memory takes it");
    body
}

/// A form under way.
pub(super) struct Form(Zeroizing<String>);

impl Default for Form {
    fn default() -> Self {
        Self(Zeroizing::new(String::with_capacity(ROOM)))
    }
}

impl Form {
    pub(super) fn add(&mut self, name: &str, value: &str) {
        if !self.0.is_empty() {
            self.0.push('&');
        }
        self.0.extend(byte_serialize(name.as_bytes()));
        self.0.push('=');
        self.0.extend(byte_serialize(value.as_bytes()));
    }

    pub(super) fn add_secret(&mut self, name: &str, value: &SecretString) {
        #[expect(
            clippy::disallowed_methods,
            reason = "the login goes to the server it is for"
        )]
        self.add(name, value.expose_secret());
    }

    pub(super) fn body(mut self) -> Body {
        Body::new(std::mem::take(&mut *self.0).into_bytes())
    }

    /// A `POST` of it.
    pub(super) fn post(self, step: &'static str) -> Request<Body> {
        let mut request = Request::post(step)
            .body(self.body())
            .expect("a step is a path");
        request.headers_mut().insert(CONTENT_TYPE, FORM);
        request
    }
}

/// The header value that must not be shown; `None` where it would need control or non-ASCII characters, on whose
/// encoding no two servers agree.
pub(super) fn sensitive(value: &SecretString) -> Option<HeaderValue> {
    #[expect(
        clippy::disallowed_methods,
        reason = "the login goes to the server it is for, in headers"
    )]
    sensitive_text(value.expose_secret())
}

/// As [`sensitive`].
pub(super) fn sensitive_text(text: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(text)
        .ok()
        .filter(|_| text.is_ascii())?;
    value.set_sensitive(true);
    Some(value)
}

/// `Bearer` and an issued token.
pub(super) fn bearer(token: &SecretString) -> HeaderValue {
    #[expect(
        clippy::disallowed_methods,
        reason = "it goes back to the server that issued it"
    )]
    let value = Zeroizing::new(["Bearer ", token.expose_secret()].concat());
    sensitive_text(&value).expect("an issued token is visible ASCII")
}

/// `Basic` with the name and secret of a client, read anew.
pub(super) async fn basic(client: &Client, record: &Record) -> Result<HeaderValue, ExchangeError> {
    let id = read_text(CLIENT_ID, &client.id, record).await?;
    let secret = read(CLIENT_SECRET, &client.secret, record).await?;
    #[expect(
        clippy::disallowed_methods,
        reason = "both are encoded into the header of the login"
    )]
    let (id, secret) = (id.expose_secret(), secret.expose_secret());
    // The server would take the name to end there (RFC 7617).
    if id.contains(':') {
        return Err(ExchangeError::Unsendable { part: CLIENT_ID });
    }
    let pair = Zeroizing::new([id, ":", secret].concat());
    let value = Zeroizing::new(BASE64_STANDARD.encode(pair.as_bytes()));
    record.conceal(&value.as_str().into());
    let value = Zeroizing::new(["Basic ", &value].concat());
    Ok(sensitive_text(&value).expect("base64 is visible ASCII"))
}

/// A value as it stands in a path or a query, whatever is in it.
pub(super) fn encoded(value: &str) -> PercentEncode<'_> {
    utf8_percent_encode(value, UNRESERVED)
}

/// Whether a value would make another path of the path that it is put into, encoded or not.
pub(super) fn is_dots(value: &str) -> bool {
    value.bytes().all(|byte| byte == b'.')
}

pub(super) const FORM: HeaderValue = HeaderValue::from_static("application/x-www-form-urlencoded");
pub(super) const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// In bytes, before it is percent-encoded: more is no value that somebody puts into a URL.
pub(super) const LONGEST_IN_URL: usize = 8 << 10;

/// For any login that is not absurd: what grows leaves copies behind.
const ROOM: usize = 8 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_break_the_head_is_refused() {
        for bad in ["a\r\nX: y", "a\nb", "a\0", "\u{e9}"] {
            assert!(sensitive(&bad.into()).is_none(), "{bad:?}");
        }
        assert!(sensitive(&"cn=a user,o=x".into()).unwrap().is_sensitive());
    }
}
