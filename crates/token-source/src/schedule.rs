//! When to try next: pure arithmetic on what happened. `random` is a number from 0 up to, not including, 1.

use std::time::Duration;

/// How long after a success the token is renewed: at 80 % of what it has left, less 0-10 %, so that a fleet that
/// started together does not renew together.
pub(crate) fn renewal(left: Duration, random: f64) -> Duration {
    left.mul_f64(0.8 - 0.1 * random).max(SHORTEST)
}

/// How long to wait after the `failures`th passing failure in a row: up to 2 s, 4 s, 8 s … 60 s with full jitter,
/// and no less than the server asked for.
pub(crate) fn backoff(failures: u32, retry_after: Option<Duration>, random: f64) -> Duration {
    let ceiling = SHORTEST
        .saturating_mul(1 << failures.min(6))
        .min(LONGEST_BACKOFF);
    let pause = SHORTEST + (ceiling - SHORTEST).mul_f64(random);
    pause.max(asked(retry_after))
}

/// How long to wait after the `refusals`th refusal of the same secret: LDAP servers lock accounts, so there are
/// few tries and long pauses, but never an end.
pub(crate) fn refusal(refusals: u32, retry_after: Option<Duration>) -> Duration {
    let minutes = match refusals {
        0 | 1 => 5,
        2 => 15,
        _ => 30,
    };
    Duration::from_secs(minutes * 60).max(asked(retry_after))
}

/// A server may ask for patience, not for silence.
fn asked(retry_after: Option<Duration>) -> Duration {
    retry_after.unwrap_or_default().min(LONGEST_RETRY_AFTER)
}

/// As the log tells it: nobody reads nanoseconds.
pub(crate) fn told(pause: Duration) -> Duration {
    let rest = pause.subsec_nanos() % 1_000_000;
    pause - Duration::from_nanos(rest.into())
}

const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST_BACKOFF: Duration = Duration::from_secs(60);
const LONGEST_RETRY_AFTER: Duration = Duration::from_secs(60 * 60);

#[cfg(test)]
mod tests {
    use super::*;

    const ALMOST_ONE: f64 = 1.0 - f64::EPSILON;

    fn near(actual: Duration, seconds: f64) -> bool {
        (actual.as_secs_f64() - seconds).abs() < 0.001
    }

    #[test]
    fn the_log_tells_no_nanoseconds() {
        let told = told(Duration::new(61, 123_456_789));
        assert_eq!(format!("{told:?}"), "61.123s");
    }

    #[test]
    fn tokens_are_renewed_between_70_and_80_percent_of_their_life() {
        for (left, latest, earliest) in [
            (5.0, 4.0, 3.5),
            (600.0, 480.0, 420.0),
            (43_200.0, 34_560.0, 30_240.0),
        ] {
            let left = Duration::from_secs_f64(left);
            assert!(near(renewal(left, 0.0), latest));
            assert!(near(renewal(left, ALMOST_ONE), earliest));
        }
        assert_eq!(renewal(Duration::ZERO, 0.5), SHORTEST);
    }

    #[test]
    fn failures_back_off_from_1_to_60_seconds() {
        for (failures, longest) in [
            (0, 1.0),
            (1, 2.0),
            (2, 4.0),
            (5, 32.0),
            (6, 60.0),
            (7, 60.0),
            (u32::MAX, 60.0),
        ] {
            assert!(near(backoff(failures, None, 0.0), 1.0), "{failures}");
            assert!(
                near(backoff(failures, None, ALMOST_ONE), longest),
                "{failures}"
            );
        }
    }

    #[test]
    fn the_server_may_ask_for_more_time_within_reason() {
        let seconds = Duration::from_secs;
        assert_eq!(backoff(1, Some(seconds(120)), 0.5), seconds(120));
        assert!(near(backoff(6, Some(seconds(2)), ALMOST_ONE), 60.0));
        assert_eq!(backoff(1, Some(Duration::MAX), 0.5), LONGEST_RETRY_AFTER);
        assert_eq!(refusal(1, Some(seconds(600))), seconds(600));
    }

    #[test]
    fn refused_secrets_are_tried_rarely_and_for_ever() {
        let minutes = [1, 2, 3, 4, u32::MAX].map(|refusals| refusal(refusals, None).as_secs() / 60);
        assert_eq!(minutes, [5, 15, 30, 30, 30]);
    }
}
