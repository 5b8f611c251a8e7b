//! A copy of a request body that is kept while it streams, so that the request can be sent once more.

use std::{cell::Cell, fmt, rc::Rc};

use bytes::Bytes;

use crate::config::LARGEST_REPLAY_LIMIT;

/// What one worker has left for the copies of all its requests, in bytes.
#[derive(Debug)]
pub struct Memory {
    left: Cell<usize>,
}

/// Everything of a body that has been read so far.
pub struct Kept {
    bytes: Vec<u8>,
    most: usize,
    charge: Charge,
}

/// A part of a worker's memory that is taken until this is dropped.
#[derive(Debug)]
pub struct Charge {
    memory: Rc<Memory>,
    bytes: usize,
}

impl Memory {
    /// The memory of one worker.
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            left: Cell::new(MEMORY),
        })
    }
}

impl Charge {
    fn raise_to(&mut self, bytes: usize) -> bool {
        let left = self.memory.left.get().checked_sub(bytes - self.bytes);
        left.map(|left| {
            self.memory.left.set(left);
            self.bytes = bytes;
        })
        .is_some()
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        let left = &self.memory.left;
        left.set(left.get() + self.bytes);
    }
}

impl Kept {
    /// Nothing yet, and never more than `most` bytes.
    pub fn new(most: usize, memory: Rc<Memory>) -> Self {
        Self {
            bytes: Vec::new(),
            most,
            charge: Charge { memory, bytes: 0 },
        }
    }

    /// Keeps a piece; `false` where it is too much: then the copy is not whole, and of no use. Room is made for what has
    /// come and as much again, not for what the client says will come: it may not.
    #[must_use]
    pub fn add(&mut self, piece: &[u8]) -> bool {
        let whole = self.bytes.len() + piece.len();
        if whole > self.most {
            return false;
        }
        let room = self.bytes.capacity();
        if whole > room {
            let wanted = whole.max(2 * room).min(self.most);
            if !self.charge.raise_to(wanted) {
                return false;
            }
            self.bytes.reserve_exact(wanted - self.bytes.len());
        }
        self.bytes.extend_from_slice(piece);
        true
    }

    /// How many bytes have been kept.
    pub fn size(&self) -> usize {
        self.bytes.len()
    }

    /// What has been kept, and what it takes for as long as it is somewhere.
    pub fn into_bytes(self) -> (Bytes, Charge) {
        (self.bytes.into(), self.charge)
    }
}

/// Without the content, which is the client's.
impl fmt::Debug for Kept {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kept")
            .field("bytes", &self.bytes.len())
            .finish_non_exhaustive()
    }
}

/// What the copies of all requests of one worker take at most, in bytes.
const MEMORY: usize = LARGEST_REPLAY_LIMIT as usize;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn more_than_the_limit_is_not_kept() {
        let memory = Memory::new();
        let mut kept = Kept::new(8, Rc::clone(&memory));
        assert!(kept.add(b"12345"));
        assert!(kept.add(b"678"));
        assert_eq!(kept.bytes, b"12345678");
        assert!(!kept.add(b"9"));
        drop(kept);
        assert_eq!(memory.left.get(), MEMORY);
    }

    #[test]
    fn a_body_that_comes_slowly_takes_no_more_than_it_is() {
        let memory = Memory::new();
        let mut kept = Kept::new(256 << 10, Rc::clone(&memory));
        assert!(kept.add(b"1"));
        assert_eq!(memory.left.get(), MEMORY - 1);
    }

    #[test]
    fn all_copies_of_a_worker_share_its_memory() {
        let memory = Memory::new();
        let mut all: Vec<_> = (0..16)
            .map(|_| Kept::new(MEMORY / 16, Rc::clone(&memory)))
            .collect();
        let piece = vec![b'x'; MEMORY / 16];
        assert!(all.iter_mut().all(|kept| kept.add(&piece)));
        let mut another = Kept::new(100, Rc::clone(&memory));
        assert!(!another.add(b"1"));
        all.pop();
        assert!(another.add(b"1"));
    }

    proptest! {
        #[test]
        fn what_is_taken_is_given_back(pieces in proptest::collection::vec(0..5000_usize, 0..20)) {
            let memory = Memory::new();
            let mut kept = Kept::new(20_000, Rc::clone(&memory));
            for size in pieces {
                let all_kept = kept.add(&vec![0; size]);
                prop_assert_eq!(MEMORY - memory.left.get(), kept.bytes.capacity());
                prop_assert!(kept.bytes.capacity() <= 20_000);
                if !all_kept { break }
            }
            drop(kept);
            prop_assert_eq!(memory.left.get(), MEMORY);
        }
    }
}
