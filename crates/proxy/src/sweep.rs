//! Time-outs without timers: each worker has one sweeper whose tick wakes whatever is past its deadline.
//!
//! A timer per request costs more than the whole routing of it; an armed [`Watch`] costs a store. A deadline is met
//! at most two ticks (half a second) late, never early. A sweeper with nothing to watch sleeps.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    task::{Context, Poll, Waker},
    time::Duration,
};

use slab::Slab;
use tokio::{sync::Notify, time::Instant};

/// Ticks since the sweeper began.
pub type Tick = u32;

/// How far apart ticks are.
pub const TICK: Duration = Duration::from_millis(250);

const PER_SECOND: Tick = 1_000_000_000 / TICK.subsec_nanos();

/// The clock of one worker and everything that it may have to wake.
#[derive(Debug)]
pub struct Sweeper {
    began: Instant,
    now: Cell<Tick>,
    watched: RefCell<Slab<Rc<Watched>>>,
    first: Notify,
}

/// A deadline that can be moved, and the task to wake when it has passed; dropped, it is no longer watched.
#[derive(Debug)]
pub struct Watch {
    sweeper: Rc<Sweeper>,
    key: usize,
    watched: Rc<Watched>,
}

#[derive(Debug)]
struct Watched {
    deadline: Cell<Tick>,
    waker: RefCell<Option<Waker>>,
}

impl Sweeper {
    /// A sweeper whose clock begins now.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            began: Instant::now(),
            now: Cell::new(0),
            watched: RefCell::new(Slab::new()),
            first: Notify::new(),
        })
    }

    /// A new watch without a deadline.
    pub fn watch(self: &Rc<Self>) -> Watch {
        let watched = Rc::new(Watched {
            deadline: Cell::new(NEVER),
            waker: RefCell::new(None),
        });
        let mut all = self.watched.borrow_mut();
        if all.is_empty() {
            // The clock stood still while there was nothing to watch.
            self.tick();
            self.first.notify_one();
        }
        let key = all.insert(Rc::clone(&watched));
        drop(all);
        Watch {
            sweeper: Rc::clone(self),
            key,
            watched,
        }
    }

    /// Wakes every task that is watched, whatever its deadline: something that all must look at has changed.
    pub fn wake_all(&self) {
        for (_, watched) in self.watched.borrow().iter() {
            watched.wake();
        }
    }

    /// Whether there is nothing to watch: then this tick is the last until there is.
    pub fn rests(&self) -> bool {
        self.watched.borrow().is_empty()
    }

    /// Ticks for as long as the worker lives; calls `each_tick` besides.
    pub async fn run(&self, mut each_tick: impl FnMut()) {
        loop {
            if self.watched.borrow().is_empty() {
                self.first.notified().await;
            }
            tokio::time::sleep(TICK).await;
            let now = self.tick();
            for (_, watched) in self.watched.borrow().iter() {
                if watched.deadline.get() <= now {
                    watched.wake();
                }
            }
            each_tick();
        }
    }

    /// The present tick, as long as there is something to watch.
    pub fn now(&self) -> Tick {
        self.now.get()
    }

    /// Puts the clock right.
    fn tick(&self) -> Tick {
        let ticks = self.began.elapsed().as_millis() / TICK.as_millis();
        // 34 years of uptime fit.
        let now = Tick::try_from(ticks).unwrap_or(NEVER - 1);
        self.now.set(now);
        now
    }
}

impl Watched {
    fn wake(&self) {
        if let Some(waker) = self.waker.borrow_mut().take() {
            waker.wake();
        }
    }
}

impl Watch {
    /// Sets the deadline to `within` from now.
    pub fn arm(&self, within: Duration) {
        // One more tick: the present one has already begun.
        let deadline = self
            .sweeper
            .now()
            .saturating_add(ticks(within))
            .saturating_add(1);
        self.watched.deadline.set(deadline);
    }

    /// Wakes the task that watches, whatever the deadline.
    pub fn wake(&self) {
        self.watched.wake();
    }

    /// Takes the deadline away.
    pub fn disarm(&self) {
        self.watched.deadline.set(NEVER);
    }

    /// Ready when the deadline has passed; else the task is woken when it does, or by
    /// [`wake`](Self::wake) and [`Sweeper::wake_all`].
    pub fn poll_passed(&self, cx: &Context<'_>) -> Poll<()> {
        if self.watched.deadline.get() <= self.sweeper.now.get() {
            return Poll::Ready(());
        }
        let mut waker = self.watched.waker.borrow_mut();
        match &*waker {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => *waker = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.sweeper.watched.borrow_mut().remove(self.key);
    }
}

/// How many ticks a time takes; never, where it is longer than any uptime.
pub const fn ticks(time: Duration) -> Tick {
    let of_rest = time.subsec_nanos().div_ceil(TICK.subsec_nanos());
    let of_seconds = time.as_secs().saturating_mul(PER_SECOND as u64);
    let ticks = of_seconds.saturating_add(of_rest as u64);
    if ticks < NEVER as u64 {
        ticks as Tick
    } else {
        NEVER
    }
}

const NEVER: Tick = Tick::MAX;

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;

    async fn with_sweeper<T>(test: impl AsyncFnOnce(Rc<Sweeper>) -> T) -> T {
        let sweeper = Sweeper::new();
        tokio::select! {
            () = sweeper.run(|| ()) => unreachable!("a sweeper runs for ever"),
            value = test(Rc::clone(&sweeper)) => value,
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deadline_is_met_at_most_two_ticks_late_and_never_early() {
        for within in [0, 1, 249, 250, 251, 1000, 30_000] {
            let within = Duration::from_millis(within);
            let took = with_sweeper(async |sweeper| {
                let watch = sweeper.watch();
                let start = Instant::now();
                watch.arm(within);
                poll_fn(|cx| watch.poll_passed(cx)).await;
                start.elapsed()
            })
            .await;
            assert!(
                took >= within && took <= within + 2 * TICK,
                "{within:?} took {took:?}"
            );
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_clock_that_stood_still_does_not_end_new_watches_early() {
        with_sweeper(async |sweeper| {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            let watch = sweeper.watch();
            watch.arm(Duration::from_secs(2));
            let start = Instant::now();
            poll_fn(|cx| watch.poll_passed(cx)).await;
            assert!(start.elapsed() >= Duration::from_secs(2));
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_disarmed_watch_never_passes() {
        with_sweeper(async |sweeper| {
            let watch = sweeper.watch();
            watch.arm(Duration::from_secs(1));
            watch.disarm();
            let passed =
                tokio::time::timeout(Duration::from_secs(60), poll_fn(|cx| watch.poll_passed(cx)))
                    .await;
            assert!(passed.is_err());
        })
        .await;
    }
}
