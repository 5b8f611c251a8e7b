//! The clock by which tokens end: it goes on while the machine sleeps.

use std::time::Duration;

use tokio::time::Instant;

/// The present on the clock by which tokens end. It differs from [`Instant::now`] by the time that the machine has
/// slept since it was started: what is measured on one must not be compared with what is measured on the other.
pub fn now() -> Instant {
    Instant::now() + slept()
}

/// How long the machine has slept since it was started, to within a second; zero where its own clock counts that
/// already.
#[cfg(all(not(test), any(target_os = "linux", target_os = "android")))]
pub(crate) fn slept() -> Duration {
    use std::sync::atomic::{AtomicU64, Ordering};

    use rustix::time::{ClockId, Timespec, clock_gettime};

    /// Nanoseconds. The two clocks are read one after the other, so that their difference is never twice the same;
    /// this one is, until the machine sleeps.
    static KNOWN: AtomicU64 = AtomicU64::new(0);

    let read = |id| {
        let Timespec { tv_sec, tv_nsec } = clock_gettime(id);
        Duration::from_secs(tv_sec.unsigned_abs()) + Duration::from_nanos(tv_nsec.unsigned_abs())
    };
    let awake = read(ClockId::Monotonic);
    let measured = read(ClockId::Boottime).saturating_sub(awake);
    let known = Duration::from_nanos(KNOWN.load(Ordering::Relaxed));
    if measured.abs_diff(known) < Duration::from_secs(1) {
        return known;
    }
    let nanos = u64::try_from(measured.as_nanos()).unwrap_or(u64::MAX);
    KNOWN.store(nanos, Ordering::Relaxed);
    measured
}

/// How long the machine has slept since it was started; zero where its own clock counts that already.
#[cfg(all(not(test), not(any(target_os = "linux", target_os = "android"))))]
pub(crate) fn slept() -> Duration {
    Duration::ZERO
}

/// Notices that the machine has slept.
#[derive(Debug)]
pub struct SleepWatch {
    before: Duration,
}

impl SleepWatch {
    /// Notices what happens from now on.
    pub fn new() -> Self {
        Self { before: slept() }
    }

    /// How long the machine has slept since this was last asked, if long enough to matter.
    pub fn take_nap(&mut self) -> Option<Duration> {
        let now = slept();
        let nap = now.saturating_sub(self.before);
        // The two clocks are read one after the other, and a process can be stopped in between.
        (nap >= SHORTEST_SLEEP).then(|| {
            self.before = now;
            nap
        })
    }
}

impl Default for SleepWatch {
    fn default() -> Self {
        Self::new()
    }
}

const SHORTEST_SLEEP: Duration = Duration::from_secs(2);

#[cfg(test)]
pub(crate) use pretended::{sleep_machine, slept};

/// In tests the machine sleeps when it is told to, each thread's on its own.
#[cfg(test)]
mod pretended {
    use std::{cell::Cell, time::Duration};

    thread_local! {
        static SLEPT: Cell<Duration> = const { Cell::new(Duration::from_secs(1000)) };
    }

    pub(crate) fn slept() -> Duration {
        SLEPT.get()
    }

    pub(crate) fn sleep_machine(nap: Duration) {
        SLEPT.set(SLEPT.get() + nap);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_sleep_of_some_length_is_noticed_and_only_once() {
        let mut watch = SleepWatch::new();
        assert_eq!(watch.take_nap(), None);
        sleep_machine(Duration::from_millis(100));
        assert_eq!(watch.take_nap(), None);
        sleep_machine(Duration::from_secs(3600));
        assert_eq!(watch.take_nap(), Some(Duration::from_millis(3_600_100)));
        assert_eq!(watch.take_nap(), None);
    }

    #[tokio::test(start_paused = true)]
    async fn the_clock_goes_on_while_the_machine_sleeps() {
        let before = now();
        tokio::time::sleep(Duration::from_secs(1)).await;
        sleep_machine(Duration::from_secs(60));
        assert_eq!(now() - before, Duration::from_secs(61));
    }
}
