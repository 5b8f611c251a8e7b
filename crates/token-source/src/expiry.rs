//! How long a token lives: what a JWT or the answer around it says, read for timing only and believed within bounds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::{
    Engine as _, alphabet,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use serde_json::{Map, Value};

/// What the answer of a token endpoint says beside the token, in seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(crate) struct Hints {
    /// Lifetime from now on.
    pub(crate) expires_in: Option<f64>,
    /// End, in seconds since 1970.
    pub(crate) expiration: Option<f64>,
}

/// How long a token lives that was issued just now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Lifetime {
    /// From the moment of the request; above zero, at most [`LONGEST`].
    pub(crate) length: Duration,
    /// The token itself says so: the same token always has the same end.
    pub(crate) in_token: bool,
}

/// How long a token still lives that was issued at some time in the past.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Remaining {
    /// It does not say.
    Unknown,
    /// So long, above zero, at most [`LONGEST`].
    Left(Duration),
    /// No longer.
    Over,
}

/// The lifetime of a token issued just now: `exp - iat` of a JWT, which no wrong clock can distort, less the second
/// that a server may have rounded away, or `expires_in` beside it where that is less, since a server may hand out a
/// token that it has had for a while; else `exp` alone, then what the answer says, each against our clock `now`; else
/// `fallback`. A source that is not above zero is passed over.
pub(crate) fn of_issued(
    token: &str,
    hints: Hints,
    fallback: Duration,
    now: SystemTime,
) -> Lifetime {
    let now = unix(now);
    let claims = times(token);
    let in_token = claims.exp.and_then(|exp| match claims.iat {
        Some(iat) if iat.fract() == 0.0 => bounded(but_a_second(exp - iat)),
        Some(iat) => bounded(exp - iat),
        None => bounded(exp - now),
    });
    let expires_in = hints
        .expires_in
        .and_then(|expires_in| bounded(but_a_second(expires_in)));
    // Milliseconds, most likely, if it lies so far ahead.
    let expiration = || {
        let left = hints.expiration? - now;
        bounded(left).filter(|_| left < FARTHEST_EXPIRATION)
    };
    let is_cached = |length: &Duration| expires_in.is_some_and(|less| less < *length);
    let in_token = in_token.filter(|length| !is_cached(length));
    Lifetime {
        length: in_token
            .or(expires_in)
            .or_else(expiration)
            .unwrap_or_else(|| fallback.clamp(SHORTEST, LONGEST)),
        in_token: in_token.is_some(),
    }
}

/// What a token that was issued elsewhere has left: `exp` of a JWT against our clock `now`.
pub(crate) fn of_stored(token: &str, now: SystemTime) -> Remaining {
    match times(token).exp.map(|exp| bounded(exp - unix(now))) {
        None => Remaining::Unknown,
        Some(None) => Remaining::Over,
        Some(Some(left)) => Remaining::Left(left),
    }
}

/// A number of seconds, also where it is written as a string.
pub(crate) fn seconds(value: &Value) -> Option<f64> {
    let number = match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.parse().ok(),
        _ => None,
    };
    number.filter(|number| number.is_finite())
}

/// When a JWT was issued and ends.
struct Times {
    exp: Option<f64>,
    iat: Option<f64>,
}

/// Nothing where the token is no JWT.
fn times(token: &str) -> Times {
    let claims = claims_in(token).unwrap_or_default();
    Times {
        exp: claims.get("exp").and_then(seconds),
        iat: claims.get("iat").and_then(seconds),
    }
}

/// The claims of a JWT, unverified; `None` where the token is none.
pub fn claims(token: &SecretString) -> Option<Map<String, Value>> {
    #[expect(
        clippy::disallowed_methods,
        reason = "who holds the secret is shown what is harmless in it"
    )]
    claims_in(token.expose_secret())
}

fn claims_in(token: &str) -> Option<Map<String, Value>> {
    let mut parts = token.split('.');
    let (Some(_), Some(payload), Some(_), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return None;
    };
    let payload = Zeroizing::new(BASE64URL.decode(payload).ok()?);
    match serde_json::from_slice(&payload).ok()? {
        Value::Object(claims) => Some(claims),
        _ => None,
    }
}

/// A lifetime that the server counts from the start of the second in which it issued the token: up to a second of it
/// was over by then. Of a lifetime below two seconds half is kept.
fn but_a_second(seconds: f64) -> f64 {
    seconds - 1.0_f64.min(seconds / 2.0)
}

fn bounded(seconds: f64) -> Option<Duration> {
    (seconds > 0.0)
        .then(|| Duration::from_secs_f64(seconds.min(LONGEST.as_secs_f64())).max(SHORTEST))
}

fn unix(time: SystemTime) -> f64 {
    time.duration_since(UNIX_EPOCH)
        .map_or(0.0, |since| since.as_secs_f64())
}

/// Longer lifetimes are cut to this, which costs one early renewal a month.
pub(crate) const LONGEST: Duration = Duration::from_secs(30 * 24 * 60 * 60);
const SHORTEST: Duration = Duration::from_millis(1);
const FARTHEST_EXPIRATION: f64 = 366.0 * 24.0 * 3600.0;

/// JWTs have no padding; some issuers write it.
const BASE64URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const NOW: u64 = 1_800_000_000;
    const FALLBACK: Duration = Duration::from_secs(600);

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn jwt(payload: &str) -> String {
        format!(
            "e30.{}.c2ln",
            BASE64URL.encode(payload).trim_end_matches('=')
        )
    }

    #[test]
    fn issued_tokens_are_timed_by_the_best_source() {
        let hints = |expires_in, expiration| Hints {
            expires_in,
            expiration,
        };
        let none = Hints::default();
        let now_is = |offset: i64| NOW as i64 + offset;
        let cases = [
            // exp - iat, whatever our clock says, less the second that the server rounded away.
            (
                jwt(&format!(r#"{{"iat":{NOW},"exp":{}}}"#, now_is(43_200))),
                none,
                43_199,
                true,
            ),
            (jwt(r#"{"iat":1000,"exp":1005}"#), none, 4, true),
            (jwt(r#"{"iat":1000.5,"exp":1010.5}"#), none, 10, true),
            (jwt(r#"{"iat":"1000","exp":"1010"}"#), none, 9, true),
            // A token out of the server's cache.
            (
                jwt(r#"{"iat":1000,"exp":4600}"#),
                hints(Some(60.0), None),
                59,
                false,
            ),
            (
                jwt(r#"{"iat":1000,"exp":1060}"#),
                hints(Some(3600.0), None),
                59,
                true,
            ),
            // Milliseconds.
            (
                "opaque".into(),
                hints(None, Some(now_is(60) as f64 * 1000.0)),
                600,
                false,
            ),
            // exp alone, against our clock.
            (jwt(&format!(r#"{{"exp":{}}}"#, now_is(60))), none, 60, true),
            // Nonsense in the token: what stands beside it, else the fallback.
            (
                jwt(&format!(r#"{{"exp":{}}}"#, now_is(-60))),
                hints(Some(30.0), None),
                29,
                false,
            ),
            (jwt(r#"{"iat":1000,"exp":1000}"#), none, 600, false),
            (
                jwt(r#"{"iat":1000,"exp":900}"#),
                hints(Some(-1.0), Some(now_is(70) as f64)),
                70,
                false,
            ),
            (
                jwt(r#"{"iat":1000,"exp":null}"#),
                hints(Some(0.0), Some(0.0)),
                600,
                false,
            ),
            (jwt(r#"{"exp":{}}"#), none, 600, false),
            (jwt("[]"), none, 600, false),
            ("opaque".into(), hints(Some(3600.0), Some(1.0)), 3599, false),
            ("e30.!!!.sig".into(), none, 600, false),
            // Absurd values are cut.
            (
                jwt(r#"{"iat":0,"exp":1e300}"#),
                none,
                LONGEST.as_secs(),
                true,
            ),
            (
                "opaque".into(),
                hints(Some(1e18), None),
                LONGEST.as_secs(),
                false,
            ),
        ];
        for (token, hints, length, in_token) in cases {
            let expected = Lifetime {
                length: Duration::from_secs(length),
                in_token,
            };
            assert_eq!(
                of_issued(&token, hints, FALLBACK, now()),
                expected,
                "{token} {hints:?}"
            );
        }
    }

    #[test]
    fn stored_tokens_are_timed_by_our_clock() {
        let at = |offset: i64| jwt(&format!(r#"{{"iat":1,"exp":{}}}"#, NOW as i64 + offset));
        assert_eq!(
            of_stored(&at(60), now()),
            Remaining::Left(Duration::from_secs(60))
        );
        assert_eq!(of_stored(&at(0), now()), Remaining::Over);
        assert_eq!(of_stored(&at(-1), now()), Remaining::Over);
        assert_eq!(
            of_stored(&jwt(r#"{"exp":1e300}"#), now()),
            Remaining::Left(LONGEST)
        );
        assert_eq!(of_stored(&jwt("{}"), now()), Remaining::Unknown);
        assert_eq!(
            of_stored("abcDEF0123456789abcDEF01", now()),
            Remaining::Unknown
        );
    }

    #[test]
    fn padding_is_forgiven() {
        let payload = BASE64URL.encode(r#"{"iat":0,"exp":9}"#);
        assert!(
            payload.ends_with('='),
            "the case needs a payload with padding"
        );
        assert!(
            of_issued(
                &format!("e30.{payload}.c2ln"),
                Hints::default(),
                FALLBACK,
                now()
            )
            .in_token
        );
    }

    proptest! {
        #[test]
        fn nothing_panics_or_leaves_the_bounds(
            token in ".*", payload in any::<Vec<u8>>(), exp in any::<f64>(), iat in any::<f64>(), hint in any::<f64>(),
        ) {
            let hints = Hints { expires_in: Some(hint), expiration: Some(-hint) };
            let encoded = format!("x.{}.y", BASE64URL.encode(payload));
            for token in [token, encoded, jwt(&format!(r#"{{"exp":{exp},"iat":{iat}}}"#))] {
                let lifetime = of_issued(&token, hints, FALLBACK, now()).length;
                prop_assert!(lifetime >= SHORTEST && lifetime <= LONGEST);
                of_stored(&token, now());
            }
        }
    }
}
