//! What an attempt did, step by step: kept for who wants to see it, never by a keeper.

use std::{
    fmt,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use http::{Method, Request, StatusCode};
use secrecy::{ExposeSecret as _, SecretString, zeroize::Zeroizing};
use tokio::time::Instant;

use super::refusal::{self, Redaction};
use crate::{
    connect::Connector,
    http::{Answer, Body, Heard},
};

/// An account of the requests of one attempt; empty, and without a cost, unless somebody asked for it.
#[derive(Default)]
pub struct Record(Option<Kept>);

struct Kept {
    /// What must not be repeated, besides what a request itself carries: secrets, and what answers held so far.
    secrets: Mutex<Vec<Zeroizing<String>>>,
    steps: Mutex<Vec<Step>>,
}

/// One request, and what came of it; holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The method.
    pub method: Method,
    /// The server's base URL.
    pub server: String,
    /// The path below it, without a query, and with everything masked that was sent otherwise.
    pub path: String,
    /// From the look-up of the name to the end of the answer.
    pub took: Duration,
    /// What it answered; `None` where no answer came, for the reason that the attempt's error tells.
    pub status: Option<StatusCode>,
    /// What it says about a status that is no success: one line of at most 200 characters, with everything masked
    /// that was sent.
    pub message: Option<String>,
    /// By how many seconds the server's clock is ahead of ours, by its `Date`.
    pub clock_ahead: Option<i64>,
}

impl Record {
    /// A record that is kept; none of its texts repeats one of `secrets`, nor anything that a request carries.
    pub fn kept(secrets: &[SecretString]) -> Self {
        let secrets = secrets.iter().map(|secret| {
            #[expect(clippy::disallowed_methods, reason = "looked for, to be masked")]
            let text = secret.expose_secret();
            Zeroizing::new(text.to_owned())
        });
        Self(Some(Kept {
            secrets: Mutex::new(secrets.collect()),
            steps: Mutex::default(),
        }))
    }

    /// The steps so far.
    pub fn steps(&self) -> Vec<Step> {
        let steps = self.0.as_ref().map(|kept| &kept.steps);
        steps.map_or_else(Vec::new, |steps| {
            steps.lock().unwrap_or_else(PoisonError::into_inner).clone()
        })
    }

    pub(crate) fn is_kept(&self) -> bool {
        self.0.is_some()
    }

    /// Begins the account of one request; `None` where nobody wants one.
    pub(crate) fn begin(
        &self,
        connector: &Connector,
        request: &Request<Body>,
    ) -> Option<Account<'_>> {
        let kept = self.0.as_ref()?;
        let mut redaction = Redaction::default();
        for secret in lock(&kept.secrets).iter() {
            redaction.add(secret);
        }
        redaction.add_all_of(request);
        let path = redaction.redact(request.uri().path(), false);
        Some(Account {
            kept,
            redaction,
            began: Instant::now(),
            step: Step {
                method: request.method().clone(),
                server: connector.origin().url(),
                path,
                took: Duration::ZERO,
                status: None,
                message: None,
                clock_ahead: None,
            },
        })
    }
}

/// Whether it is kept, and no more.
impl fmt::Debug for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("is_kept", &self.0.is_some())
            .finish_non_exhaustive()
    }
}

/// The account of a request that is under way; goes into the record when it is dropped, so that one without an
/// answer is in there, too.
pub(crate) struct Account<'a> {
    kept: &'a Kept,
    redaction: Redaction,
    began: Instant,
    step: Step,
}

impl Account<'_> {
    /// Notes the answer. What a success holds goes into later requests, and must not be repeated there either.
    pub(crate) fn hear(&mut self, answer: &Answer, heard: &Heard) {
        let status = answer.status;
        self.step.status = Some(status);
        self.step.clock_ahead = heard
            .date
            .map(|date| seconds_ahead(date, SystemTime::now()));
        if status.is_success() {
            lock(&self.kept.secrets).extend(refusal::long_texts(&answer.body));
        } else {
            self.step.message = refusal::message(&heard.refusal, heard.is_cut, &self.redaction);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.step.took = self.began.elapsed();
        lock(&self.kept.steps).push(self.step.clone());
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A `Date` has whole seconds: one that is just over is no difference.
fn seconds_ahead(date: SystemTime, now: SystemTime) -> i64 {
    let whole = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match date.duration_since(now) {
        Ok(ahead) => whole(ahead),
        Err(behind) => -whole(behind.duration()),
    }
}
