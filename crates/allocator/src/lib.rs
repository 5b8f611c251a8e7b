//! mimalloc, told to take no huge pages and to give freed memory back at once: the one crate with `unsafe` in it.

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

/// Before `main`, because what the runtime allocates before it would be a huge page already, of which the process then
/// has all 2 MiB.
#[cfg(target_os = "linux")]
#[used]
// SAFETY: functions in `.init_array` are called once with C's calling convention; this one neither allocates nor needs
// anything of the runtime.
#[unsafe(link_section = ".init_array")]
static BEFORE_MAIN: extern "C" fn() = take_small_pages;

/// Keeps the kernel from backing memory by pages of 2 MiB, which hold far more than is in use and are not given back
/// before all of it is free. mimalloc itself is built not to ask for them; where the kernel gives them to everybody, as
/// on Red Hat's systems, it has to be told. Programs that this one starts are bound by it too.
#[cfg(target_os = "linux")]
extern "C" fn take_small_pages() {
    // A kernel that does not know the call has no such pages.
    let _ = rustix::thread::disable_transparent_huge_pages(true);
}

/// `mi_option_purge_delay` in `mimalloc.h` (versions 2 and 3), which the bindings do not name.
const PURGE_DELAY: mi_option_t = 15;

#[cfg(test)]
mod tests {
    use libmimalloc_sys::mi_option_get;

    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn huge_pages_are_off_before_main() {
        assert!(rustix::thread::transparent_huge_pages_are_disabled().unwrap());
    }

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
