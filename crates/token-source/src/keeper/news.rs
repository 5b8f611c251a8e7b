//! What a keeper hears while it rests: that a token was rejected, or that the machine has slept.

use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::Keeper;
use crate::{
    clock,
    credential::{Generation, Token},
    expiry, schedule,
};

impl Keeper {
    /// Looks at what somebody wants to be noticed; whether an attempt is due for it.
    pub(super) fn hears_news(&mut self) -> bool {
        if let Some(nap) = self.sleep.take_nap() {
            self.catch_up(nap);
            return true;
        }
        let generation = self.cell.generation();
        let former = self
            .cell
            .rejections()
            .take_proven_former(generation, clock::now());
        if let Some(former) = former {
            self.return_to_former(&former);
            self.conclude_rejection();
            // To rest anew, until it is to be replaced.
            return true;
        }
        if !self.cell.rejections().is_pending(generation) {
            return false;
        }
        if self.is_failing {
            // Their pauses are there for a reason, and nothing new is to be had in time.
            self.conclude_rejection();
            self.cell.progress.send_modify(|_| ());
            return false;
        }
        info!(
            credential = self.cell.name(),
            "token rejected, exchanging it"
        );
        self.make_due(Instant::now());
        true
    }

    /// Those who wait on account of a rejection see whatever there is to be seen now.
    pub(super) fn conclude_rejection(&self) {
        let generation = self.cell.generation();
        self.cell
            .rejections()
            .conclude(generation, clock::now(), self.is_failing);
    }

    /// Time has passed that no timer counted: it counts as waited, and a token is renewed at once.
    pub(super) fn catch_up(&mut self, nap: Duration) {
        info!(credential = self.cell.name(), ?nap, "the machine has slept");
        let earlier = |time: Instant| time.checked_sub(nap).unwrap_or_else(Instant::now);
        self.renewal = earlier(self.renewal);
        match &self.last {
            Some(last) if self.is_failing => self.make_due(earlier(last.due)),
            _ => self.make_due(Instant::now()),
        }
    }

    fn make_due(&mut self, due: Instant) {
        if let Some(last) = &mut self.last {
            last.due = due;
        }
    }

    /// The server has not learnt of the new value yet: the one before it is in force again, until that is refused, nears
    /// its end, or there is another. The new one is tried again then.
    fn return_to_former(&mut self, former: &Token) {
        let token = Token {
            value: former.value.clone(),
            generation: Generation(self.cell.generation().0 + 1),
            obtained: clock::now(),
            expires: former.expires,
        };
        let left = token
            .expires
            .map_or(expiry::LONGEST, |end| end - clock::now());
        self.renewal = Instant::now() + schedule::renewal(left, self.random.f64());
        warn!(
            credential = self.cell.name(),
            generation = token.generation.0,
            "{NOT_LEARNT}"
        );
        self.complaint = Some(NOT_LEARNT);
        if let Some(last) = &mut self.last {
            last.complaint = Some(NOT_LEARNT);
            last.due = self.renewal;
        }
        self.put_in_force(token, |_| ());
    }
}

/// License Service reads its Secret when its pod starts.
const NOT_LEARNT: &str =
    "the new value is not accepted yet, the one before it still is: restart License Service";

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        Feed, Keeper, Kind, Location, Settings,
        clock::sleep_machine,
        exchange::{Attempt, Exchange, ExchangeError, Grant, Record},
    };

    /// Grants tokens of an hour, or fails from the second attempt on.
    struct Hourly {
        attempts: std::sync::Mutex<u32>,
        fails: bool,
    }

    impl Exchange for Hourly {
        fn exchange<'a>(&'a self, _: &'a Record) -> Attempt<'a> {
            Box::pin(async {
                let mut attempts = self.attempts.lock().unwrap();
                *attempts += 1;
                match self.fails && *attempts > 1 {
                    true => Err(ExchangeError::Timeout),
                    false => Ok(Grant {
                        value: format!("value-{attempts}").into(),
                        expires: Some(clock::now() + HOUR),
                        fixed_end: true,
                    }),
                }
            })
        }
    }

    async fn started(fails: bool) -> Feed {
        let settings = Settings {
            name: "test".into(),
            kind: Kind::Token {
                value: Location::Env("UNUSED".into()),
            },
            lifetime: None,
            wait_for_token: None,
            poll: Duration::from_secs(5),
        };
        let exchange = Hourly {
            attempts: std::sync::Mutex::new(0),
            fails,
        };
        let (keeper, feed) = Keeper::with_exchange(settings, Box::new(exchange));
        tokio::spawn(keeper.run());
        feed.wait().await.unwrap();
        feed
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_that_expired_while_the_machine_slept_is_never_handed_out() {
        let feed = started(false).await;
        sleep_machine(HOUR * 8);
        assert!(feed.current().is_none());
        // The request that comes first wakes the keeper and waits for it, although it is not before the first token.
        assert_eq!(feed.wait().await.unwrap().generation, Generation(2));
    }

    #[tokio::test(start_paused = true)]
    async fn a_token_is_renewed_at_once_after_a_sleep_though_it_is_still_good() {
        let feed = started(false).await;
        sleep_machine(HOUR / 2);
        feed.wake();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert_eq!(feed.generation(), Generation(2));
        feed.wake();
        tokio::time::sleep(HOUR / 2).await;
        assert_eq!(feed.generation(), Generation(2), "once");
    }

    #[tokio::test(start_paused = true)]
    async fn while_exchanges_fail_a_sleep_counts_as_waited_and_no_more() {
        let feed = started(true).await;
        sleep_machine(HOUR * 8);
        let start = Instant::now();
        assert!(feed.wait().await.is_err());
        assert!(start.elapsed() < Duration::from_secs(6));
        let failed = feed.status().failed;
        sleep_machine(Duration::from_secs(2));
        feed.wake();
        tokio::time::sleep(Duration::from_millis(1)).await;
        assert!(feed.status().failed <= failed + 1);
        tokio::time::sleep(HOUR).await;
        assert!(feed.status().failed > failed + 10, "and it never gives up");
    }

    const HOUR: Duration = Duration::from_secs(3600);
}
