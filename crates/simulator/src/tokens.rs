//! The ledger of tokens: what was handed out, what it is good for, and what a token is worth at a given moment.

use std::collections::HashMap;

/// What a token was worth when a request brought it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenState {
    /// Issued here, neither over nor revoked.
    Valid,
    /// Issued here, but its time was over.
    Expired,
    /// Issued here, but revoked.
    Revoked,
    /// Not issued here, or for something else.
    Foreign,
}

/// What a token that does not open the APIs is good for.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Step {
    /// The second step of Identity Management.
    IdentityManagement,
    /// The second step of the metadata service.
    Instance,
    /// IAM's grant by refresh token.
    Refresh,
}

#[derive(Default)]
pub(crate) struct Ledger {
    /// Every secret handed out, in order.
    issued: Vec<String>,
    /// The tokens that open the APIs.
    tokens: HashMap<String, Entry>,
    /// The one of them that was issued last.
    latest: Option<String>,
    steps: HashMap<(Step, String), Entry>,
}

#[derive(Clone, Copy)]
struct Entry {
    expiry: i64,
    revoked: bool,
}

impl Ledger {
    /// Enters a token that opens the APIs.
    pub(crate) fn enter(&mut self, token: &str, expiry: i64) {
        self.note(token);
        self.tokens.insert(token.to_owned(), Entry::new(expiry));
        self.latest = Some(token.to_owned());
    }

    /// Enters a token that is good for one step of a login only.
    pub(crate) fn enter_step(&mut self, step: Step, token: &str, expiry: i64) {
        self.note(token);
        self.steps
            .insert((step, token.to_owned()), Entry::new(expiry));
    }

    /// Notes a secret that no request should bring back.
    pub(crate) fn note(&mut self, secret: &str) {
        self.issued.push(secret.to_owned());
    }

    pub(crate) fn issued(&self) -> Vec<String> {
        self.issued.clone()
    }

    /// Voids everything handed out so far.
    pub(crate) fn revoke_all(&mut self) {
        for entry in self.tokens.values_mut().chain(self.steps.values_mut()) {
            entry.revoked = true;
        }
    }

    /// Voids one token that opens the APIs; whether there is such a one.
    pub(crate) fn revoke(&mut self, token: &str) -> bool {
        match self.tokens.get_mut(token) {
            Some(entry) => {
                entry.revoked = true;
                true
            }
            None => false,
        }
    }

    /// The token that opens the APIs and was issued last.
    pub(crate) fn latest(&self) -> Option<&str> {
        self.latest.as_deref()
    }

    pub(crate) fn judge(&self, token: &str, now: i64) -> TokenState {
        Entry::judge(self.tokens.get(token), now)
    }

    pub(crate) fn judge_step(&self, step: Step, token: &str, now: i64) -> TokenState {
        Entry::judge(self.steps.get(&(step, token.to_owned())), now)
    }
}

impl Entry {
    fn new(expiry: i64) -> Self {
        Self {
            expiry,
            revoked: false,
        }
    }

    fn judge(entry: Option<&Self>, now: i64) -> TokenState {
        match entry {
            None => TokenState::Foreign,
            Some(entry) if entry.revoked => TokenState::Revoked,
            Some(entry) if entry.expiry <= now => TokenState::Expired,
            Some(_) => TokenState::Valid,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_judged_by_what_happened_to_it() {
        let mut ledger = Ledger::default();
        ledger.enter("old", 100);
        ledger.enter("new", 100);
        assert_eq!(ledger.judge("new", 99), TokenState::Valid);
        assert_eq!(ledger.judge("new", 100), TokenState::Expired);
        assert_eq!(ledger.judge("unknown", 0), TokenState::Foreign);
        assert!(ledger.revoke("old") && !ledger.revoke("unknown"));
        assert_eq!(ledger.judge("old", 0), TokenState::Revoked);
        assert_eq!(ledger.judge("new", 0), TokenState::Valid);
        ledger.enter("later", 100);
        assert_eq!(ledger.latest(), Some("later"));
        ledger.revoke_all();
        assert_eq!(ledger.judge("later", 0), TokenState::Revoked);
        assert_eq!(ledger.issued(), ["old", "new", "later"]);
    }

    #[test]
    fn a_token_of_one_step_is_foreign_to_everything_else() {
        let mut ledger = Ledger::default();
        ledger.enter_step(Step::Instance, "instance", 100);
        assert_eq!(ledger.judge("instance", 0), TokenState::Foreign);
        let judged = |step| ledger.judge_step(step, "instance", 0);
        assert_eq!(judged(Step::Instance), TokenState::Valid);
        assert_eq!(judged(Step::Refresh), TokenState::Foreign);
    }
}
