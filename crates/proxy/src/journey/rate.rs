//! How often something may happen, over all workers: `rate_limit` of routes and callers.

use std::{num::NonZeroU32, time::Duration};

use governor::{
    Quota, RateLimiter,
    clock::Clock,
    middleware::NoOpMiddleware,
    state::{InMemoryState, direct::NotKeyed},
};
use tokio::time::Instant;

use crate::{config::RateLimit, fault::Fault};

/// A limit, and when there was room for what came last. One atomic for all workers: what has no limit has none, and
/// costs nothing.
#[derive(Debug)]
pub struct Rate(RateLimiter<NotKeyed, InMemoryState, SinceStart, NoOpMiddleware<Duration>>);

/// tokio's clock, which tests can pause.
#[derive(Debug)]
struct SinceStart(Instant);

impl Clock for SinceStart {
    type Instant = Duration;

    fn now(&self) -> Duration {
        self.0.elapsed()
    }
}

impl Rate {
    /// With all of its burst to take.
    pub fn new(limit: RateLimit) -> Self {
        let each = limit.per / limit.times.get();
        let quota = Quota::with_period(each).unwrap_or_else(|| Quota::per_second(NonZeroU32::MAX));
        let clock = SinceStart(Instant::now());
        Self(RateLimiter::direct_with_clock(
            quota.allow_burst(limit.burst),
            clock,
        ))
    }

    /// Takes one, if there is one to take; nobody waits for it.
    ///
    /// # Errors
    /// `rate_limited`, with the time until there is one.
    pub fn take(&self) -> Result<(), Fault> {
        self.0.check().map_err(|not_until| {
            let now = self.0.clock().now();
            let retry_after = not_until.wait_time_from(now);
            Fault::RateLimited { retry_after }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(times: u32, per: u64, burst: u32) -> Rate {
        Rate::new(RateLimit {
            times: times.try_into().unwrap(),
            per: Duration::from_secs(per),
            burst: burst.try_into().unwrap(),
        })
    }

    fn take_all(rate: &Rate) -> u32 {
        (0..100).take_while(|_| rate.take().is_ok()).count() as u32
    }

    #[tokio::test(start_paused = true)]
    async fn a_burst_at_once_then_one_at_a_time() {
        let rate = limit(6, 60, 3);
        assert_eq!(take_all(&rate), 3);
        let Err(Fault::RateLimited { retry_after }) = rate.take() else {
            panic!("there was a fourth");
        };
        assert_eq!(retry_after, Duration::from_secs(10));
        tokio::time::advance(Duration::from_millis(9_999)).await;
        assert_eq!(take_all(&rate), 0);
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(take_all(&rate), 1);
        tokio::time::advance(Duration::from_secs(3600)).await;
        assert_eq!(take_all(&rate), 3, "no more is saved up than the burst");
    }

    #[tokio::test(start_paused = true)]
    async fn the_extremes() {
        let most = limit(1_000_000, 1, 1_000_000);
        assert!(most.take().is_ok());
        let least = limit(1, 3600, 1);
        assert!(least.take().is_ok());
        assert_eq!(least.take().unwrap_err().retry_after(), Some(3600));
    }
}
