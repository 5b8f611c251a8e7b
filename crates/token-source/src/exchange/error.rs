//! Why an attempt to obtain a credential failed.

use std::time::Duration;

use http::StatusCode;

use crate::{
    connect::{ConnectError, EgressError},
    secret::SecretError,
};

/// Why there is no value; names places, steps and statuses, never a content.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// A secret that is needed cannot be had, or what is there cannot be sent.
    #[error("{part}: {place}")]
    Secret {
        /// Which part of the credential: its key in the configuration.
        part: &'static str,
        /// Where it should be, in words.
        place: String,
        /// What is wrong with it.
        #[source]
        cause: SecretError,
    },
    /// The user name holds characters that its place in the request cannot carry.
    #[error("unsuitable user name")]
    Username,
    /// A value holds characters that its place in the request cannot carry.
    #[error("{part}: holds what its place in the request cannot carry")]
    Unsendable {
        /// Which part of the credential: its key in the configuration.
        part: &'static str,
    },
    /// 400, 401 or 403: the platform does not accept who we say we are.
    #[error("{step} answered {status}")]
    Refused {
        /// The path that was asked, or which of the steps it was.
        step: &'static str,
        /// What it answered.
        status: StatusCode,
        /// How long it asks us to stay away.
        retry_after: Option<Duration>,
    },
    /// No connection.
    #[error("no connection")]
    Connect(#[source] ConnectError),
    /// The connection broke, or what came is not HTTP.
    #[error("connection broken")]
    Broken(#[source] hyper::Error),
    /// No answer within the time limit.
    #[error("no complete answer within 30 s")]
    Timeout,
    /// An answer larger than any with a token.
    #[error("answer larger than 256 KiB")]
    TooLarge,
    /// Any other status than success: 429, 5xx, a redirect.
    #[error("{step} answered {status}")]
    Status {
        /// The path that was asked, or which of the steps it was.
        step: &'static str,
        /// What it answered.
        status: StatusCode,
        /// How long it asks us to stay away.
        retry_after: Option<Duration>,
    },
    /// A token that had ended when it came.
    #[error("the token was over when it came")]
    Over,
    /// Once more the token in force, when it was time for another.
    #[error("the token in force was handed out again")]
    Unrenewed,
    /// A success without a token, or a value for a later step, that could be sent.
    #[error("{step} answered without a usable token")]
    Garbage {
        /// The path that was asked, or which of the steps it was.
        step: &'static str,
    },
}

/// What a failure means for the next attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nobody was asked: our own files are not right.
    Unready,
    /// The same secret would most likely be refused again, and asking may lock the account.
    Refused,
    /// It may work the next time.
    Transient,
}

impl ExchangeError {
    /// What happened, as a fixed text that may be shown to anybody.
    pub fn told(&self) -> &'static str {
        match self {
            Self::Secret { .. } => "a secret cannot be read",
            Self::Username => "the user name cannot be sent",
            Self::Unsendable { .. } => "a value cannot be sent",
            Self::Refused { .. } => "the login was refused",
            Self::Connect(ConnectError::Unreachable(_)) => "the token endpoint cannot be reached",
            Self::Connect(ConnectError::Egress(EgressError::Login)) => {
                "the egress proxy wants another login (407)"
            }
            Self::Connect(ConnectError::Egress(_)) => {
                "no way through the egress proxy to the token endpoint"
            }
            Self::Connect(ConnectError::Tls(_)) => {
                "no trusted TLS connection to the token endpoint"
            }
            Self::Connect(ConnectError::Timeout) | Self::Timeout => {
                "the token endpoint did not answer in time"
            }
            Self::Broken(_) => "the connection to the token endpoint broke",
            Self::TooLarge => "the token endpoint's answer is too large",
            Self::Status { .. } => "the token endpoint answered with an error",
            Self::Over => "the token endpoint hands out tokens that are over",
            Self::Unrenewed => "the token endpoint hands out its old token again",
            Self::Garbage { .. } => "the token endpoint answered without a usable token",
        }
    }

    /// How long the token endpoint asks us to stay away.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } | Self::Status { retry_after, .. } => *retry_after,
            _ => None,
        }
    }

    pub(crate) fn verdict(&self) -> Verdict {
        match self {
            Self::Secret { .. } | Self::Username | Self::Unsendable { .. } => Verdict::Unready,
            Self::Refused { .. } => Verdict::Refused,
            _ => Verdict::Transient,
        }
    }
}
