//! mimalloc, told to give freed memory back at once: the one crate with `unsafe` in it.

use libmimalloc_sys::{mi_option_set, mi_option_t};
pub use mimalloc::MiMalloc;

/// The allocator that `#[global_allocator]` names.
pub const ALLOCATOR: MiMalloc = MiMalloc;

/// Makes freed pages go back to the kernel at once, so that parked connections cost what they hold.
///
/// An operator sets no environment, so the program sets it; call it before any thread starts.
pub fn purge_at_once() {
    // SAFETY: `mi_option_set` stores an integer in a static array of mimalloc; any thread may call it, the option
    // number is one that mimalloc defines, and no pointer is involved.
    unsafe { mi_option_set(PURGE_DELAY, 0) }
}

/// `mi_option_purge_delay` in `mimalloc.h` (versions 2 and 3), which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[test]
    fn the_option_is_the_one_that_delays_purging() {
        // SAFETY: reads an integer of mimalloc's option table.
        let delay = || unsafe { mi_option_get(PURGE_DELAY) };
        // 10 ms in version 2, 1000 ms in version 3: no other option has these defaults.
        assert!([10, 1000].contains(&delay()), "{}", delay());
        purge_at_once();
        assert_eq!(delay(), 0);
    }
}
