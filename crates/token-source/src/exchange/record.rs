//! What an attempt did, step by step: kept for who wants to see it, never by a keeper.

use std::{
    fmt,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use http::{Method, Request, StatusCode};
use secrecy::SecretString;
use tokio::time::Instant;

use super::refusal;
use crate::{
    connect::Connector,
    http::{Answer, Body, Heard},
    redaction::Redaction,
};

/// An account of the requests of one attempt; empty, and without a cost, unless somebody asked for it.
#[derive(Default)]
pub struct Record(Option<Kept>);

struct Kept {
    /// What the attempt reads and takes goes in here, before it goes anywhere else.
    redaction: Arc<Redaction>,
    steps: Mutex<Vec<Step>>,
}

/// One request, and what came of it; holds nothing secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Step {
    /// The method.
    pub method: Method,
    /// The server's base URL.
    pub server: String,
    /// The whole path, without a query and without what is secret; where values were put into it, their names.
    pub path: String,
    /// From the look-up of the name to the end of the answer.
    pub took: Duration,
    /// What it answered; `None` where no answer came, for the reason that the attempt's error tells.
    pub status: Option<StatusCode>,
    /// What it says about a status that is no success: one line of at most 200 characters without what is
    /// secret.
    pub message: Option<String>,
    /// By how many seconds the server's clock is ahead of ours, by its `Date`.
    pub clock_ahead: Option<i64>,
}

impl Record {
    /// A record that is kept; its texts repeat nothing that `redaction` knows, which is told of every secret that the
    /// attempt reads or is issued.
    pub fn kept(redaction: Arc<Redaction>) -> Self {
        Self(Some(Kept {
            redaction,
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

    /// Takes note of what must not be shown from now on.
    pub(crate) fn conceal(&self, secret: &SecretString) {
        if let Some(kept) = &self.0 {
            kept.redaction.add(secret);
        }
    }

    /// Begins the account of one request; `None` where nobody wants one. `path` is shown instead of the request's own.
    pub(crate) fn begin(
        &self,
        connector: &Connector,
        request: &Request<Body>,
        path: Option<&str>,
    ) -> Option<Account<'_>> {
        let kept = self.0.as_ref()?;
        let origin = connector.origin();
        let path = path.unwrap_or_else(|| request.uri().path());
        let path = format!("{}{path}", origin.base_path);
        Some(Account {
            kept,
            began: Instant::now(),
            step: Step {
                method: request.method().clone(),
                server: origin.url(),
                path: kept.redaction.quote(&path, LONGEST_PATH),
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
    began: Instant,
    step: Step,
}

impl Account<'_> {
    /// Notes the answer.
    pub(crate) fn hear(&mut self, answer: &Answer, heard: &Heard) {
        let status = answer.status;
        self.step.status = Some(status);
        self.step.clock_ahead = heard
            .date
            .map(|date| seconds_ahead(date, SystemTime::now()));
        if !status.is_success() {
            let redaction = &self.kept.redaction;
            self.step.message = refusal::message(&heard.refusal, heard.is_cut, redaction);
        }
    }
}

impl Drop for Account<'_> {
    fn drop(&mut self) {
        self.step.took = self.began.elapsed();
        let mut steps = (self.kept.steps.lock()).unwrap_or_else(PoisonError::into_inner);
        steps.push(self.step.clone());
    }
}

/// A `Date` has whole seconds: one that is just over is no difference.
fn seconds_ahead(date: SystemTime, now: SystemTime) -> i64 {
    let whole = |since: Duration| i64::try_from(since.as_secs()).unwrap_or(i64::MAX);
    match date.duration_since(now) {
        Ok(ahead) => whole(ahead),
        Err(behind) => -whole(behind.duration()),
    }
}

const LONGEST_PATH: usize = 1000;
