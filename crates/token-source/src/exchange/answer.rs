//! What a token endpoint's answer means: a token, a refusal, or a failure that may pass.

use std::time::{Duration, SystemTime};

use http::StatusCode;
use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;

use super::{ExchangeError, Grant, Record, document::Document, is_sendable};
use crate::{
    expiry::{self, Hints},
    http::Answer,
};

/// A token as it was issued, and what was said about its end.
pub(super) struct Issued {
    pub(super) value: SecretString,
    pub(super) hints: Hints,
}

/// Where an answer has what: dotted paths.
pub(super) struct Paths<'a> {
    /// `None`: one of the platform's names for it.
    pub(super) token: Option<&'a str>,
    pub(super) expires_in: &'a str,
    pub(super) expiration: &'a str,
}

impl Issued {
    /// Success is a 2xx and a token. Message codes are not looked at: the platform writes `"200"`, `"success"`,
    /// or none. `record` conceals the token.
    pub(super) fn from_answer(
        step: &'static str,
        answer: &Answer,
        record: &Record,
    ) -> Result<Self, ExchangeError> {
        judge(step, answer)?;
        let usual = Paths {
            token: None,
            expires_in: EXPIRES_IN,
            expiration: EXPIRATION,
        };
        Document::parse(&answer.body)
            .and_then(|document| Self::find(&document, &usual, record))
            .ok_or(ExchangeError::Garbage { step })
    }

    /// The token that a document has at these places, if it can be sent.
    pub(super) fn find(document: &Document, paths: &Paths<'_>, record: &Record) -> Option<Self> {
        let hint = |path| document.at(path).and_then(expiry::seconds);
        let hints = Hints {
            expires_in: hint(paths.expires_in),
            expiration: hint(paths.expiration),
        };
        let token = match paths.token {
            Some(path) => document.text(path),
            None => TOKEN_NAMES.iter().find_map(|name| document.text(name)),
        };
        let value = token.filter(|token| is_sendable(token))?.into();
        record.conceal(&value);
        Some(Self { value, hints })
    }

    /// The token with its end on our clock, for a request that left at `sent`.
    pub(super) fn into_grant(self, sent: Instant, fallback: Duration) -> Grant {
        #[expect(
            clippy::disallowed_methods,
            reason = "the times inside the token are read"
        )]
        let token = self.value.expose_secret();
        let lifetime = expiry::of_issued(token, self.hints, fallback, SystemTime::now());
        Grant {
            value: self.value,
            expires: Some(sent + lifetime.length),
            fixed_end: lifetime.in_token,
        }
    }
}

/// Whether the status is a success, and what it means where it is none.
pub(super) fn judge(step: &'static str, answer: &Answer) -> Result<(), ExchangeError> {
    let Answer {
        status,
        retry_after,
        ..
    } = *answer;
    match status {
        status if status.is_success() => Ok(()),
        StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            Err(ExchangeError::Refused {
                step,
                status,
                retry_after,
            })
        }
        status => Err(ExchangeError::Status {
            step,
            status,
            retry_after,
        }),
    }
}

/// The usual names for a token's lifetime and its end.
pub(super) const EXPIRES_IN: &str = "expires_in";
pub(super) const EXPIRATION: &str = "expiration";

/// The platform's names for its token, in the order of preference.
const TOKEN_NAMES: [&str; 3] = ["token", "accessToken", "access_token"];

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(status: u16, body: &str) -> Result<Issued, ExchangeError> {
        let answer = Answer {
            status: StatusCode::from_u16(status).unwrap(),
            retry_after: Some(Duration::from_secs(7)),
            body: body.as_bytes().to_vec().into(),
        };
        Issued::from_answer("/step", &answer, &Record::default())
    }

    #[test]
    fn tokens_are_found_under_all_their_names() {
        let cases = [
            (
                200,
                r#"{"_messageCode_":"200","message":"Success","token":"t"}"#,
                "t",
            ),
            (
                200,
                r#"{"_messageCode_":"success","accessToken":"t","username":"u"}"#,
                "t",
            ),
            (
                201,
                r#"{"access_token":"t","refresh_token":"r","id_token":"i","expires_in":3600}"#,
                "t",
            ),
            (200, r#"{"_messageCode_":"401","token":"t"}"#, "t"),
            (
                200,
                r#"{"token":"","accessToken":null,"access_token":"t"}"#,
                "t",
            ),
            (
                200,
                r#"{"access_token":"b","accessToken":"a","token":"t"}"#,
                "t",
            ),
        ];
        for (status, body, token) in cases {
            #[expect(clippy::disallowed_methods, reason = "a test's own token")]
            let value = judge(status, body)
                .ok()
                .map(|issued| issued.value.expose_secret().to_owned());
            assert_eq!(value.as_deref(), Some(token), "{body}");
        }
    }

    #[test]
    fn a_success_without_a_usable_token_is_garbage() {
        let long = format!(r#"{{"token":"{}"}}"#, "x".repeat(65_537));
        let bodies = [
            "",
            "<html>Log in</html>",
            "null",
            "[]",
            r#""token""#,
            "{}",
            r#"{"token":null}"#,
            r#"{"token":""}"#,
            r#"{"token":7}"#,
            r#"{"token":{"token":"t"}}"#,
            r#"{"token":"a b"}"#,
            r#"{"token":"a\r\nX-Admin: 1"}"#,
            r#"{"token":"a\u0000"}"#,
            r#"{"token":"\u00e9"}"#,
            r#"{"token":"t""#,
            r#"{"_messageCode_":"200","message":"Success"}"#,
            &long,
        ];
        for body in bodies {
            assert!(
                matches!(
                    judge(200, body),
                    Err(ExchangeError::Garbage { step: "/step" })
                ),
                "{body}"
            );
        }
    }

    #[test]
    fn a_status_decides_between_refused_and_passing() {
        let body = r#"{"token":"t"}"#;
        for status in [400, 401, 403] {
            assert!(
                matches!(judge(status, body), Err(ExchangeError::Refused { .. })),
                "{status}"
            );
        }
        for status in [301, 302, 307, 404, 408, 429, 500, 502, 503, 504] {
            let Err(error @ ExchangeError::Status { .. }) = judge(status, body) else {
                panic!("{status}")
            };
            assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
        }
    }

    #[test]
    fn times_beside_the_token_are_read() {
        let issued = judge(
            200,
            r#"{"access_token":"t","expires_in":"60","expiration":70}"#,
        )
        .ok()
        .unwrap();
        assert_eq!(
            issued.hints,
            Hints {
                expires_in: Some(60.0),
                expiration: Some(70.0)
            }
        );
        let sent = Instant::now();
        let grant = issued.into_grant(sent, Duration::from_secs(1));
        assert_eq!(grant.expires, Some(sent + Duration::from_secs(59)));
        assert!(!grant.fixed_end);
    }
}
