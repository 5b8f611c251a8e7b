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
mod tests {
    use super::*;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    /// A credential on a clock of its own.
    struct Case {
        rejections: Rejections,
        token: Token,
        now: Instant,
        is_failing: bool,
        is_attempting: bool,
    }

    impl Case {
        /// A token that was obtained long ago, or has `age` of a `life`.
        fn new(life: Option<u64>, age: u64) -> Self {
            let obtained = Instant::now();
            Self {
                rejections: Rejections::default(),
                token: token(1, obtained, life),
                now: obtained + seconds(age),
                is_failing: false,
                is_attempting: false,
            }
        }

        fn judge(&mut self, rejected: u64) -> Advice {
            let Self {
                rejections,
                token,
                now,
                is_failing,
                is_attempting,
            } = self;
            let stands = Circumstances {
                token,
                now: *now,
                is_failing: *is_failing,
                is_attempting: *is_attempting,
            };
            rejections.judge(Generation(rejected), stands)
        }

        /// The keeper's answer to a rejection: another token.
        fn renews(&mut self) {
            let next = self.token.generation.0 + 1;
            self.token = token(next, self.now, Some(3600));
            self.concludes();
        }

        fn concludes(&mut self) {
            self.rejections
                .conclude(self.token.generation, self.now, self.is_failing);
        }

        fn passes(&mut self, time: u64) {
            self.now += seconds(time);
        }
    }

    fn token(generation: u64, obtained: Instant, life: Option<u64>) -> Token {
        Token {
            value: "value".into(),
            generation: Generation(generation),
            obtained,
            expires: life.map(|life| obtained + seconds(life)),
        }
    }

    #[test]
    fn the_first_401_begins_a_rejection_and_the_others_join_it() {
        let mut case = Case::new(Some(3600), 60);
        assert_eq!(case.judge(1), Advice::Begin);
        for _ in 0..100 {
            assert_eq!(case.judge(1), Advice::Await);
            assert!(case.rejections.is_pending(Generation(1)));
        }
        case.renews();
        assert!(!case.rejections.is_pending(Generation(1)));
        assert_eq!(case.judge(1), Advice::Superseded, "stragglers");
    }

    #[test]
    fn a_401_on_a_fresh_token_stands() {
        for (life, fresh) in [(Some(3600), 10), (Some(25), 5), (None, 10)] {
            for (age, advice) in [(fresh - 1, Advice::Stands), (fresh, Advice::Begin)] {
                assert_eq!(Case::new(life, age).judge(1), advice, "{life:?} at {age}");
            }
        }
    }

    #[test]
    fn a_path_that_always_answers_401_is_worth_fewer_and_fewer_exchanges() {
        let mut case = Case::new(Some(3600), 60);
        let (mut exchanges, start) = (Vec::new(), case.now);
        while case.now < start + seconds(1500) {
            let generation = case.token.generation.0;
            match case.judge(generation) {
                Advice::Begin => {
                    exchanges.push((case.now - start).as_secs());
                    case.renews();
                    assert!(
                        !case
                            .rejections
                            .replayed(Generation(generation), Proof::Rejected)
                    );
                }
                advice => assert_eq!(advice, Advice::Stands),
            }
            case.passes(1);
        }
        assert_eq!(exchanges, [0, 20, 60, 140, 300, 600, 900, 1200]);
    }

    #[test]
    fn a_rejection_that_helped_shortens_the_next_pause_again() {
        let mut case = Case::new(Some(3600), 60);
        for generation in 1..5 {
            assert_eq!(case.judge(generation), Advice::Begin);
            case.renews();
            case.rejections
                .replayed(Generation(generation), Proof::Rejected);
            case.passes(300);
        }
        assert_eq!(case.judge(5), Advice::Begin);
        case.renews();
        case.rejections.replayed(Generation(5), Proof::Unknown);
        case.rejections.replayed(Generation(5), Proof::Taken);
        case.passes(9);
        assert_eq!(case.judge(6), Advice::Stands);
        case.passes(1);
        assert_eq!(case.judge(6), Advice::Begin);
    }

    #[test]
    fn what_nobody_told_of_was_in_vain() {
        let mut case = Case::new(Some(3600), 60);
        let (mut exchanges, start) = (Vec::new(), case.now);
        while case.now < start + seconds(700) {
            let generation = case.token.generation.0;
            if case.judge(generation) == Advice::Begin {
                exchanges.push((case.now - start).as_secs());
                case.renews();
                // The request was not sent again, its client has gone, or its answer says nothing.
                case.rejections
                    .replayed(Generation(generation), Proof::Unknown);
            }
            case.passes(1);
        }
        assert_eq!(exchanges, [0, 20, 60, 140, 300, 600]);
    }

    #[test]
    fn those_who_are_helped_against_a_login_that_was_not_needed_do_not_justify_it() {
        let mut case = Case::new(Some(3600), 60);
        for (taken_first, next) in [(true, 20), (false, 40)] {
            let generation = case.token.generation.0;
            assert_eq!(case.judge(generation), Advice::Begin);
            case.renews();
            let mut proofs = [Proof::Taken, Proof::Rejected];
            if !taken_first {
                proofs.reverse();
            }
            for proof in proofs {
                case.rejections.replayed(Generation(generation), proof);
            }
            case.passes(next - 1);
            assert_eq!(case.judge(generation + 1), Advice::Stands);
            case.passes(1);
        }
    }

    #[test]
    fn a_401_during_a_renewal_waits_for_it() {
        let mut case = Case::new(Some(3600), 0);
        case.is_attempting = true;
        assert_eq!(case.judge(1), Advice::Await, "however fresh");
        assert!(
            !case.rejections.is_pending(Generation(1)),
            "that is no rejection"
        );
        case.is_failing = true;
        assert_eq!(case.judge(1), Advice::Stands);
    }

    #[test]
    fn no_rejection_while_exchanges_fail_and_a_failed_one_is_not_futile() {
        let mut case = Case::new(Some(3600), 60);
        case.is_failing = true;
        assert_eq!(case.judge(1), Advice::Stands);
        case.is_failing = false;
        assert_eq!(case.judge(1), Advice::Begin);
        case.is_failing = true;
        case.concludes();
        case.is_failing = false;
        case.passes(10);
        assert_eq!(case.judge(1), Advice::Begin);
    }

    #[test]
    fn an_exchange_that_yields_the_same_value_is_futile() {
        let mut case = Case::new(None, 60);
        assert_eq!(case.judge(1), Advice::Begin);
        case.concludes();
        for (time, advice) in [
            (0, Advice::Stands),
            (19, Advice::Stands),
            (1, Advice::Begin),
        ] {
            case.passes(time);
            assert_eq!(case.judge(1), advice);
        }
    }

    #[test]
    fn the_former_value_is_tried_at_once_and_kept_if_it_is_taken() {
        let mut case = Case::new(None, 0);
        case.token.generation = Generation(2);
        case.rejections.former = Some(Arc::new(token(1, case.now, None)));
        assert_eq!(case.judge(2), Advice::Begin, "however fresh the new one is");
        case.concludes();
        assert_eq!(case.judge(2), Advice::TryFormer);
        assert!(
            !case.rejections.replayed(Generation(2), Proof::Rejected),
            "a path that always answers 401"
        );
        assert!(case.rejections.replayed(Generation(2), Proof::Taken));
        assert!(
            !case.rejections.replayed(Generation(2), Proof::Taken),
            "told once"
        );
        assert_eq!(case.judge(2), Advice::TryFormer, "until it is in force");
    }

    #[test]
    fn a_former_value_that_is_not_taken_either_is_tried_rarely() {
        let mut case = Case::new(None, 0);
        case.rejections.former = Some(Arc::new(token(0, case.now, None)));
        assert_eq!(case.judge(1), Advice::Begin);
        case.concludes();
        assert!(!case.rejections.replayed(Generation(1), Proof::Rejected));
        for (time, advice) in [
            (0, Advice::Stands),
            (19, Advice::Stands),
            (1, Advice::Begin),
        ] {
            case.passes(time);
            assert_eq!(case.judge(1), advice);
        }
    }

    #[test]
    fn a_former_value_that_is_over_is_none() {
        let mut case = Case::new(None, 60);
        case.rejections.former = Some(Arc::new(token(0, case.now, Some(0))));
        assert_eq!(case.judge(1), Advice::Begin);
        case.concludes();
        assert_eq!(case.judge(1), Advice::Stands);
    }
}
