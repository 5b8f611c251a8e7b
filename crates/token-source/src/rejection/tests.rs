//! What a credential's rejections lead to, on a clock of the test's own.

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
