//! What a 401 from an upstream means for the credential that it came for: pure policy, on what happened before.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::credential::{Generation, Token};

/// The rejections of one credential, and what came of them.
#[derive(Debug, Default)]
pub(crate) struct Rejections {
    last: Option<Rejection>,
    /// Rejections in a row that are not known to have helped, but for the last one.
    futile: u32,
    /// The value before the one in force, where its server may learn late of a new one.
    pub(crate) former: Option<Arc<Token>>,
}

#[derive(Debug)]
struct Rejection {
    generation: Generation,
    at: Instant,
    /// The value before was handed out, to be tried by those that were rejected.
    is_trial: bool,
    outcome: Outcome,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Outcome {
    /// Another value is being obtained.
    Pending,
    /// There is another value; whether the upstream takes it is not known.
    Replaced,
    /// The upstream took the other value.
    Helped,
    /// There is no other value, or the upstream did not take it either.
    Futile,
    /// There is no other value, because it could not be obtained: that says nothing of the upstream.
    Failed,
}

/// What the answer to a request that was sent once more says of the value that it was sent with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Proof {
    /// 2xx or 3xx: the value is good.
    Taken,
    /// 401 again.
    Rejected,
    /// Anything else, or no answer.
    Unknown,
}

/// How the credential stands when a 401 comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Circumstances<'a> {
    /// The token in force.
    pub(crate) token: &'a Token,
    /// On the clock of tokens.
    pub(crate) now: Instant,
    /// The last attempt to obtain a value failed: its pauses are there for a reason.
    pub(crate) is_failing: bool,
    /// An attempt is under way: to wait for it costs nothing.
    pub(crate) is_attempting: bool,
}

/// What is to be done about a 401.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// Another value is in force than the one that was rejected: to be tried.
    Superseded,
    /// Another value is to be obtained: to be waited for, and the keeper to be told.
    Begin,
    /// Another value is being obtained: to be waited for.
    Await,
    /// The value before the one in force may still be the one that is taken: to be tried.
    TryFormer,
    /// The upstream does not mean the value: its answer stands.
    Stands,
}

impl Rejections {
    /// Judges a 401 that came for the value of `rejected`.
    pub(crate) fn judge(&mut self, rejected: Generation, stands: Circumstances<'_>) -> Advice {
        if rejected != stands.token.generation {
            return Advice::Superseded;
        }
        if let Some(last) = self
            .last
            .as_ref()
            .filter(|last| last.generation == rejected)
        {
            match last.outcome {
                Outcome::Pending => return Advice::Await,
                // Nobody knows better yet, or its keeper is about to put it in force.
                Outcome::Replaced | Outcome::Helped if last.is_trial => return Advice::TryFormer,
                _ => {}
            }
        }
        if stands.is_attempting && !stands.is_failing {
            return Advice::Await;
        }
        let has_former = self.valid_former(stands.now).is_some();
        let is_first = self
            .last
            .as_ref()
            .is_none_or(|last| last.generation != rejected);
        if stands.is_failing && !has_former {
            return Advice::Stands;
        }
        // A new value that its server may not have learnt of is suspect from the start.
        let is_suspect = has_former && is_first;
        if !is_suspect && (is_fresh(stands.token, stands.now) || self.is_recent(stands.now)) {
            return Advice::Stands;
        }
        self.futile = self.rejections_in_vain();
        self.last = Some(Rejection {
            generation: rejected,
            at: stands.now,
            is_trial: false,
            outcome: Outcome::Pending,
        });
        Advice::Begin
    }

    /// Whether another value than that of `rejected` is being obtained.
    pub(crate) fn is_pending(&self, rejected: Generation) -> bool {
        self.last
            .as_ref()
            .is_some_and(|last| last.generation == rejected && last.outcome == Outcome::Pending)
    }

    /// The keeper is done with what it could do about the rejection, if there was one; `current` is in force now.
    pub(crate) fn conclude(&mut self, current: Generation, now: Instant, is_failing: bool) {
        let has_former = self.valid_former(now).is_some();
        let Some(last) = self
            .last
            .as_mut()
            .filter(|last| last.outcome == Outcome::Pending)
        else {
            return;
        };
        if last.generation != current {
            last.outcome = Outcome::Replaced;
        } else if has_former {
            last.outcome = Outcome::Replaced;
            last.is_trial = true;
        } else if is_failing {
            last.outcome = Outcome::Failed;
        } else {
            last.outcome = Outcome::Futile;
        }
    }

    /// The value that those who were rejected with that of `rejected` are to try.
    pub(crate) fn trial(&self, rejected: Generation, now: Instant) -> Option<Arc<Token>> {
        let last = self.last.as_ref()?;
        let is_theirs = last.is_trial && last.generation == rejected;
        self.valid_former(now).filter(|_| is_theirs).cloned()
    }

    /// What became of a request that was sent again after its 401 for the value of `rejected`. Whether the value before
    /// the one in force has just turned out to be the one that is taken.
    pub(crate) fn replayed(&mut self, rejected: Generation, proof: Proof) -> bool {
        let last = self
            .last
            .as_mut()
            .filter(|last| last.generation == rejected);
        let Some(last) = last else {
            return false;
        };
        match (last.outcome, proof) {
            (Outcome::Replaced, Proof::Taken) => last.outcome = Outcome::Helped,
            // The same request was not taken with the one and is with the other.
            (Outcome::Futile, Proof::Taken) if last.is_trial => last.outcome = Outcome::Helped,
            // It is not the value: where a login voids the value before, others are helped against what it did.
            (Outcome::Replaced | Outcome::Helped, Proof::Rejected) if !last.is_trial => {
                last.outcome = Outcome::Futile;
            }
            (Outcome::Replaced, Proof::Rejected) => last.outcome = Outcome::Futile,
            _ => return false,
        }
        last.is_trial && last.outcome == Outcome::Helped
    }

    /// The value before the one in force, to be put in force instead of that of `current`: the upstream took it. Told
    /// once.
    pub(crate) fn take_proven_former(
        &mut self,
        current: Generation,
        now: Instant,
    ) -> Option<Arc<Token>> {
        let last = self.last.as_ref()?;
        let is_proven = last.is_trial && last.outcome == Outcome::Helped;
        let former = self
            .valid_former(now)
            .filter(|_| is_proven && last.generation == current);
        former.is_some().then(|| self.former.take())?
    }

    /// The value before the one in force, if it may still be sent.
    fn valid_former(&self, now: Instant) -> Option<&Arc<Token>> {
        self.former
            .as_ref()
            .filter(|former| former.is_valid_at(now))
    }

    /// Whether the last rejection was too short a time ago for another.
    fn is_recent(&self, now: Instant) -> bool {
        let doublings = self.rejections_in_vain().min(6);
        let pause = SHORTEST_PAUSE
            .saturating_mul(1 << doublings)
            .min(LONGEST_PAUSE);
        self.last.as_ref().is_some_and(|last| now < last.at + pause)
    }

    /// How many in a row are not known to have helped. What nobody told of was in vain: a client that goes away, or whose
    /// body is not kept, must not be able to force more logins than others.
    fn rejections_in_vain(&self) -> u32 {
        match self.last.as_ref().map(|last| last.outcome) {
            None | Some(Outcome::Helped) => 0,
            Some(Outcome::Failed) => self.futile,
            Some(Outcome::Pending | Outcome::Replaced | Outcome::Futile) => {
                self.futile.saturating_add(1)
            }
        }
    }
}

/// Whether a token is so young that a 401 is the upstream's opinion of the request and not of the token.
fn is_fresh(token: &Token, now: Instant) -> bool {
    let life = token
        .expires
        .map(|end| end.saturating_duration_since(token.obtained));
    let fresh = life.map_or(LONGEST_FRESH, |life| (life / 5).min(LONGEST_FRESH));
    now < token.obtained + fresh
}

/// Between two rejections, the last of which helped.
const SHORTEST_PAUSE: Duration = Duration::from_secs(10);
/// Between two rejections, after several that did not help.
const LONGEST_PAUSE: Duration = Duration::from_secs(5 * 60);
const LONGEST_FRESH: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests;
