//! How a credential is obtained: one file per kind, each a trait object that makes one attempt when asked.

mod answer;
mod basic;
mod container;
mod cp4d;
mod cp4d_iam;
mod cp4d_ldap;
mod document;
mod error;
mod iam;
mod iam_assume;
mod identity_token;
mod login;
mod mcsp;
mod mcsp_v2;
mod record;
mod refusal;
mod request;
mod steps;
mod token;
mod vpc;

use std::{fmt, future::Future, pin::Pin, time::Duration};

use secrecy::SecretString;
use tokio::time::Instant;

pub use error::ExchangeError;
pub(crate) use error::Verdict;
pub use record::{Record, Step};

use crate::{
    connect::Connector,
    credential::{Iam, IamAssume, Kind, Settings, Text, USERNAME},
    secret::{Location, SecretError},
};

/// One attempt to obtain a value; dropping it gives it up.
pub type Attempt<'a> = Pin<Box<dyn Future<Output = Result<Grant, ExchangeError>> + Send + 'a>>;

/// A way to obtain a credential. It keeps no value and knows no schedule: that is the keeper's.
pub trait Exchange: Send + Sync {
    /// Makes one attempt, reading all secrets anew, and tells `record` of its requests.
    fn exchange<'a>(&'a self, record: &'a Record) -> Attempt<'a>;
}

/// What a successful attempt yields.
pub struct Grant {
    /// The value, without scheme: visible ASCII without spaces, at most 64 KiB.
    pub value: SecretString,
    /// When it ends, on the [`clock`](crate::clock) of tokens; `None`: never.
    pub expires: Option<Instant>,
    /// The end was counted from the request by what is written in the value (`exp - iat` of a JWT): an endpoint
    /// that hands out its token again does not prolong it.
    pub fixed_end: bool,
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grant")
            .field("expires", &self.expires)
            .finish_non_exhaustive()
    }
}

/// The exchange that `settings` ask for; nothing is read or contacted yet.
pub fn from_settings(settings: &Settings) -> Box<dyn Exchange> {
    let fallback = settings.lifetime.unwrap_or(DEFAULT_LIFETIME);
    match settings.kind.clone() {
        Kind::Cp4d {
            origin,
            username,
            proof,
            account_id,
        } => Box::new(cp4d::Cp4d {
            platform: Connector::new(origin),
            username,
            proof,
            account_id,
            fallback,
        }),
        Kind::Cp4dIam {
            platform,
            identity,
            username,
            password,
            account_id,
        } => Box::new(cp4d_iam::Cp4dIam {
            platform: Connector::new(platform),
            identity: Connector::new(identity),
            username,
            password,
            account_id,
            fallback,
        }),
        Kind::Cp4dLdap {
            origin,
            username,
            password,
            account_id,
        } => Box::new(cp4d_ldap::Cp4dLdap {
            platform: Connector::new(origin),
            username,
            password,
            account_id,
            fallback,
        }),
        Kind::ZenApiKey { username, secret } | Kind::Basic { username, secret } => {
            Box::new(basic::Basic { username, secret })
        }
        Kind::Token { value } | Kind::ServiceAccount { value } => Box::new(token::StoredToken {
            value,
            lifetime: settings.lifetime,
        }),
        Kind::Iam(login) => Box::new(iam(login, fallback)),
        Kind::IamAssume(IamAssume { login, profile }) => Box::new(iam_assume::IamAssume {
            login: iam(login, fallback),
            profile,
        }),
        Kind::Container(settings) => Box::new(container::Container {
            server: Connector::new(settings.origin.clone()),
            settings,
            fallback,
        }),
        Kind::Vpc(settings) => Box::new(vpc::Vpc {
            server: Connector::new(settings.origin.clone()),
            settings,
            fallback,
        }),
        Kind::Mcsp(settings) => Box::new(mcsp::Mcsp {
            server: Connector::new(settings.origin.clone()),
            settings,
            fallback,
        }),
        Kind::McspV2(settings) => Box::new(mcsp_v2::McspV2 {
            server: Connector::new(settings.origin.clone()),
            settings,
            fallback,
        }),
        Kind::Steps(settings) => Box::new(steps::Steps::new(settings, fallback)),
    }
}

fn iam(login: Iam, fallback: Duration) -> iam::Iam {
    iam::Iam {
        server: Connector::new(login.origin.clone()),
        login,
        fallback,
    }
}

/// Reads a secret that the attempt cannot do without, and has `record` conceal it; `part` is its key in the
/// configuration.
pub(crate) async fn read(
    part: &'static str,
    place: &Location,
    record: &Record,
) -> Result<SecretString, ExchangeError> {
    match place.read().await {
        Ok(secret) => {
            // Who it is that logs in may be shown, wherever that was read.
            if part != USERNAME {
                record.conceal(&secret);
            }
            Ok(secret)
        }
        Err(cause) => Err(unusable(part, place, cause).await),
    }
}

async fn read_text(
    part: &'static str,
    text: &Text,
    record: &Record,
) -> Result<SecretString, ExchangeError> {
    match text {
        Text::Literal(text) => Ok(text.as_str().into()),
        Text::Location(place) => read(part, place, record).await,
    }
}

async fn read_optional(
    part: &'static str,
    text: Option<&Text>,
    record: &Record,
) -> Result<Option<SecretString>, ExchangeError> {
    match text {
        Some(text) => read_text(part, text, record).await.map(Some),
        None => Ok(None),
    }
}

async fn unusable(part: &'static str, place: &Location, cause: SecretError) -> ExchangeError {
    ExchangeError::Secret {
        part,
        place: place.describe().await,
        cause,
    }
}

/// Whether a value can stand in a header and in a URL as it is, and is not absurdly long.
fn is_sendable(value: &str) -> bool {
    !value.is_empty()
        && value.len() <= LONGEST_VALUE
        && value.bytes().all(|byte| byte.is_ascii_graphic())
}

const DEFAULT_LIFETIME: Duration = Duration::from_secs(600);
const LONGEST_VALUE: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_visible_ascii_is_sent() {
        for good in ["a", "abc.DEF-_~+/=", "{!}", &"x".repeat(LONGEST_VALUE)] {
            assert!(is_sendable(good), "{good}");
        }
        for bad in [
            "",
            "a b",
            "a\r\nX: y",
            "a\n",
            "a\t",
            "a\0",
            "\u{7f}",
            "\u{e9}",
            &"x".repeat(LONGEST_VALUE + 1),
        ] {
            assert!(!is_sendable(bad), "{bad:?}");
        }
    }
}
