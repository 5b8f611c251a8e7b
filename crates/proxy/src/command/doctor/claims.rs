//! What a token says of itself, as far as it is known to be harmless.

use std::time::{Duration, SystemTime};

use secrecy::SecretString;
use serde_json::{Map, Value};
use token_source::{Redaction, claims};

/// The claims of a JWT, unverified.
pub(super) struct Claims(Map<String, Value>);

impl Claims {
    /// `None` where the token is no JWT.
    pub(super) fn read(token: &SecretString) -> Option<Self> {
        claims(token).map(Self)
    }

    /// The known ones, in one line, without what is secret.
    pub(super) fn line(&self, redaction: &Redaction) -> String {
        let known = KNOWN.iter().filter_map(|name| {
            let text = match self.0.get(*name)? {
                Value::String(text) => text.clone(),
                Value::Number(number) if TIMES.contains(name) => time(number.as_f64()?)?,
                Value::Number(number) => number.to_string(),
                Value::Array(list) => {
                    let texts: Vec<_> = list.iter().filter_map(Value::as_str).collect();
                    texts.join(" ")
                }
                _ => return None,
            };
            Some(format!("{name} {}", redaction.quote(&text, LONGEST)))
        });
        known.collect::<Vec<_>>().join(", ")
    }

    /// Whether it has ended.
    pub(super) fn is_over(&self, now: SystemTime) -> bool {
        let since = now.duration_since(SystemTime::UNIX_EPOCH);
        let exp = self.0.get("exp").and_then(Value::as_f64);
        since.is_ok_and(|since| exp.is_some_and(|exp| exp <= since.as_secs_f64()))
    }

    /// By how many seconds it was issued in our future, if it was.
    pub(super) fn seconds_ahead(&self, now: SystemTime) -> Option<i64> {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).ok()?.as_secs();
        let ahead = self.0.get("iat")?.as_i64()? - i64::try_from(now).ok()?;
        (ahead > 0).then_some(ahead)
    }
}

fn time(seconds: f64) -> Option<String> {
    let since = Duration::try_from_secs_f64(seconds).ok()?;
    let is_sane = since < Duration::from_secs(253_402_300_799);
    is_sane.then(|| humantime::format_rfc3339_seconds(SystemTime::UNIX_EPOCH + since).to_string())
}

/// Who, from whom, for whom, and when; nothing that could be used elsewhere.
const KNOWN: [&str; 8] = [
    "username",
    "sub",
    "uid",
    "iss",
    "aud",
    "account_id",
    "iat",
    "exp",
];
const TIMES: [&str; 2] = ["iat", "exp"];
const LONGEST: usize = 80;

#[cfg(test)]
mod tests {
    use base64::{Engine as _, prelude::BASE64_URL_SAFE_NO_PAD};

    use super::*;

    fn claims(payload: &str) -> Option<Claims> {
        let payload = BASE64_URL_SAFE_NO_PAD.encode(payload);
        Claims::read(&format!("e30.{payload}.s").into())
    }

    #[test]
    fn only_known_claims_are_shown() {
        let read = claims(
            r#"{"sub":"svc\u001b[1m","aud":["a","b"],"iat":1000,"exp":1e300,"secret":"s","permissions":["p"],"uid":{"x":1}}"#,
        );
        let line = read.unwrap().line(&Redaction::default());
        assert_eq!(line, "sub svc[1m, aud a b, iat 1970-01-01T00:16:40Z");
        let long = claims(&format!(r#"{{"sub":"{}"}}"#, "x".repeat(1000)));
        let line = long.unwrap().line(&Redaction::default());
        assert_eq!(line.chars().count(), 85);
        for other in ["", "opaque", "a.b", "a.b.c", "a.b.c.d", "e30.W10.s"] {
            assert!(Claims::read(&other.into()).is_none(), "{other}");
        }
    }

    #[test]
    fn an_end_that_is_past_is_seen() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        for (payload, is_over) in [
            (r#"{"exp":999}"#, true),
            (r#"{"exp":1000}"#, true),
            (r#"{"exp":1001.5}"#, false),
            (r#"{"exp":"x"}"#, false),
            ("{}", false),
        ] {
            assert_eq!(claims(payload).unwrap().is_over(now), is_over, "{payload}");
        }
    }

    #[test]
    fn a_token_from_the_future_shows_a_wrong_clock() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1000);
        let ahead = |payload| claims(payload).unwrap().seconds_ahead(now);
        assert_eq!(ahead(r#"{"iat":4600}"#), Some(3600));
        assert_eq!(ahead(r#"{"iat":1000}"#), None);
        assert_eq!(ahead(r#"{}"#), None);
    }
}
