//! What an attempt came to: a token that is put in force, or a failure that is told and paused after.

use std::{
    mem,
    time::{Duration, SystemTime},
};

use secrecy::{ExposeSecret as _, SecretString};
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::Keeper;
use crate::{
    clock,
    connect::with_causes,
    credential::{Generation, Token},
    exchange::{ExchangeError, Grant, Verdict},
    expiry,
    feed::Status,
    schedule,
};

impl Keeper {
    /// Puts a grant in force; how long until it is renewed.
    ///
    /// # Errors
    /// It is of no use, and the token in force stays: or else an endpoint that hands out the same token until its
    /// end, or tokens that are over, would be asked as fast as it answers.
    pub(super) fn accept(&mut self, grant: Grant) -> Result<Duration, ExchangeError> {
        let now = Instant::now();
        let is_issued = grant.fixed_end;
        let (token, is_same) = self.token(grant);
        let generation = token.generation;
        if !token.is_valid_at(clock::now()) {
            return Err(ExchangeError::Over);
        }
        let left = token
            .expires
            .map_or(expiry::LONGEST, |end| end - clock::now());
        if !(is_same && is_issued) {
            self.renewal = now + schedule::renewal(left, self.random.f64());
        } else if self.renewal <= now {
            return Err(ExchangeError::Unrenewed);
        }
        let mut pause = self.renewal - now;
        self.refusals = 0;
        let complaint = (left < SHORT_LIFE).then_some(SHORT_LIVED);
        if complaint.is_some() {
            self.failures = self.failures.saturating_add(1);
            pause = pause.max(schedule::backoff(self.failures, None, self.random.f64()));
        } else {
            self.failures = 0;
        }
        self.is_failing = complaint.is_some();
        if self.keeps_former && !is_same {
            self.cell.rejections().former = self.cell.token.load_full();
        }
        let credential = self.cell.name();
        let before = mem::replace(&mut self.complaint, complaint);
        if complaint.is_some() && before != complaint {
            warn!(credential, told = SHORT_LIVED, left = ?schedule::told(left), next_attempt_in = ?schedule::told(pause), "credential obtained in vain");
        } else if before != complaint || !is_same {
            info!(credential, generation = generation.0, next_attempt_in = ?schedule::told(pause), "credential obtained");
        } else {
            debug!(credential, generation = generation.0, next_attempt_in = ?schedule::told(pause), "credential unchanged");
        }
        self.put_in_force(token, |status| {
            status.tried = true;
            status.last_success = Some(SystemTime::now());
            status.succeeded += 1;
        });
        Ok(pause)
    }

    /// Requests go with this token from now on; `more` is what there is to say besides.
    pub(super) fn put_in_force(&self, token: Token, more: impl FnOnce(&mut Status)) {
        let (generation, expires) = (token.generation, token.expires);
        self.cell.publish(token);
        self.cell.progress.send_modify(|progress| {
            let status = &mut progress.status;
            status.generation = generation;
            status.expires = expires.map(|end| SystemTime::now() + (end - clock::now()));
            status.last_error = self.complaint;
            more(status);
        });
    }

    /// The token that a grant makes, and whether it has the same value as the last. Such a one keeps its end where
    /// that was counted from the first request, and its generation, so that nobody tries again with what was
    /// rejected; unless it ends earlier, which nobody would notice otherwise.
    fn token(&self, grant: Grant) -> (Token, bool) {
        let Grant {
            value,
            expires,
            fixed_end,
        } = grant;
        let next = Generation(self.cell.generation().0 + 1);
        match self.cell.token.load_full() {
            Some(old) if is_equal(&old.value, &value) => {
                let expires = if fixed_end { old.expires } else { expires };
                let generation = if is_earlier(expires, old.expires) {
                    next
                } else {
                    old.generation
                };
                let obtained = old.obtained;
                let token = Token {
                    value,
                    generation,
                    obtained,
                    expires,
                };
                (token, true)
            }
            _ => {
                let token = Token {
                    value,
                    generation: next,
                    obtained: clock::now(),
                    expires,
                };
                (token, false)
            }
        }
    }

    /// Counts a failure; how long until the next attempt.
    pub(super) fn pause_after(&mut self, error: &ExchangeError) -> Duration {
        match error.verdict() {
            Verdict::Unready if self.sees_all => self.poll,
            Verdict::Unready | Verdict::Transient => {
                self.failures = self.failures.saturating_add(1);
                schedule::backoff(self.failures, error.retry_after(), self.random.f64())
            }
            Verdict::Refused => {
                self.refusals = self.refusals.saturating_add(1);
                schedule::refusal(self.refusals, error.retry_after())
            }
        }
    }

    /// Tells of a failure; the token in force stays.
    pub(super) fn complain(&mut self, error: &ExchangeError, pause: Duration) {
        self.is_failing = true;
        let told = error.told();
        let (credential, cause) = (self.cell.name(), with_causes(error));
        if self.complaint.replace(told) == Some(told) {
            debug!(credential, told, cause, next_attempt_in = ?schedule::told(pause), "credential still not obtained");
        } else {
            warn!(credential, told, cause, next_attempt_in = ?schedule::told(pause), "credential not obtained");
        }
        self.cell.progress.send_modify(|progress| {
            let status = &mut progress.status;
            status.tried = true;
            status.last_error = Some(told);
            match error.verdict() {
                Verdict::Refused => status.refused += 1,
                Verdict::Unready | Verdict::Transient => status.failed += 1,
            }
        });
    }
}

fn is_equal(one: &SecretString, other: &SecretString) -> bool {
    #[expect(
        clippy::disallowed_methods,
        reason = "two values of the same credential are compared"
    )]
    let equal = one.expose_secret() == other.expose_secret();
    equal
}

/// Whether an end lies before the one that is known, by more than two clocks differ that are read one after the other.
fn is_earlier(end: Option<Instant>, known: Option<Instant>) -> bool {
    match (end, known) {
        (Some(end), Some(known)) => end + CLOCK_DIFFERENCE < known,
        (end, known) => end.is_some() && known.is_none(),
    }
}

/// A token that lives shorter cannot be renewed in time; the pauses between attempts grow as if it were none.
const SHORT_LIFE: Duration = Duration::from_secs(2);
const SHORT_LIVED: &str = "the token ends too soon to be kept fresh";
const CLOCK_DIFFERENCE: Duration = Duration::from_millis(100);
