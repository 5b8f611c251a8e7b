//! The read side of a credential: what requests use, without a lock.

use std::time::{Duration, SystemTime};

use crate::credential::Generation;

/// No valid token, and none came within the wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Unavailable {
    /// The truth about the next attempt: how long until it is made, at least 1 s.
    pub retry_after: Duration,
}

/// How a credential stands, for readiness and metrics; holds no secret.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// At least one attempt has ended, well or not.
    pub tried: bool,
    /// A valid token is in force.
    pub valid: bool,
    /// The generation in force.
    pub generation: Generation,
    /// Wall-clock end of the token in force.
    pub expires: Option<SystemTime>,
    /// Wall-clock time of the last success.
    pub last_success: Option<SystemTime>,
    /// Attempts that succeeded since start.
    pub succeeded: u64,
    /// Attempts that failed for a passing reason (network, 429, 5xx, garbage).
    pub failed: u64,
    /// Attempts that the platform refused (400, 401, 403).
    pub refused: u64,
    /// Fixed text on why the last attempt failed; never an inner error, never a secret.
    pub last_error: Option<&'static str>,
}
