//! How many requests of a route may be under way at a time, over all workers.

use std::sync::{
    Arc,
    atomic::{AtomicU32, Ordering},
};

use crate::fault::Fault;

/// The limit of a route, and how many requests are under way. One counter for all workers: a route without a limit has
/// none, and costs nothing.
#[derive(Debug)]
pub struct Limit {
    most: u32,
    under_way: AtomicU32,
}

/// A request's place among those under way, until it is dropped.
#[derive(Debug)]
pub struct Seat(Arc<Limit>);

impl Limit {
    /// At most so many at a time.
    pub fn new(most: u32) -> Arc<Self> {
        Arc::new(Self {
            most,
            under_way: AtomicU32::new(0),
        })
    }

    /// A place, if there is one; nobody waits for it.
    ///
    /// # Errors
    /// `overloaded`.
    pub fn take_seat(self: &Arc<Self>) -> Result<Seat, Fault> {
        let before = self.under_way.fetch_add(1, Ordering::Relaxed);
        let seat = Seat(Arc::clone(self));
        if before < self.most {
            Ok(seat)
        } else {
            Err(Fault::Overloaded)
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_free_again_when_it_is_dropped() {
        let limit = Limit::new(2);
        let seats = (limit.take_seat().unwrap(), limit.take_seat().unwrap());
        for _ in 0..3 {
            assert_eq!(limit.take_seat().err(), Some(Fault::Overloaded));
        }
        drop(seats.0);
        assert!(limit.take_seat().is_ok());
    }
}
