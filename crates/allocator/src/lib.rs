//! mimalloc, with memory that is wiped when it is freed and given back at once, and without huge pages: the one crate
//! with `unsafe` in it.

use std::{
    alloc::{GlobalAlloc, Layout},
    ptr,
};

use libmimalloc_sys::{mi_malloc, mi_option_set, mi_option_t, mi_usable_size};
use mimalloc::MiMalloc;

/// mimalloc that overwrites each block with zeros before it is free again.
///
/// What has been a token, a header that carried one, or a buffer that either went through is nowhere in the heap once
/// it is dropped, whichever library held it.
#[derive(Debug, Clone, Copy)]
pub struct Wiping;

/// The allocator that `#[global_allocator]` names.
pub const ALLOCATOR: Wiping = Wiping;

// SAFETY: each block comes from and goes back to mimalloc, with the layout that it was asked for; what is done besides
// touches no byte outside of the block.
unsafe impl GlobalAlloc for Wiping {
    #[inline]
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // As any `malloc` it aligns for everything that fits into the block and asks for no more than this. Asked for an
        // alignment it would take a larger block and look for the place in it, whatever that is.
        if layout.align() <= EVERYTHING.min(layout.size()) {
            // SAFETY: a size is all that it asks for.
            return unsafe { mi_malloc(layout.size()).cast() };
        }
        // SAFETY: what the caller promises is what mimalloc asks for.
        unsafe { MiMalloc.alloc(layout) }
    }

    #[inline]
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        unsafe { MiMalloc.alloc_zeroed(layout) }
    }

    #[inline]
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: the caller gives the block back whole, with its layout, and uses it no more.
        unsafe {
            wipe(block, layout.size());
            MiMalloc.dealloc(block, layout);
        }
    }

    /// Not mimalloc's own, which frees a block that is left behind with all that is in it.
    #[inline]
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's block is one of mimalloc's, alive and at least as large as its layout says. The new
        // layout is right, because the caller promises a size that does not overflow with this alignment. Of two
        // blocks that are alive at the same time neither overlaps the other.
        unsafe {
            let usable = mi_usable_size(block.cast());
            // As mimalloc decides: it stays, unless more than half of it would be of no use.
            if size <= usable && size >= usable / 2 {
                if size < layout.size() {
                    wipe(block.add(size), layout.size() - size);
                }
                return block;
            }
            let moved = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
            if !moved.is_null() {
                ptr::copy_nonoverlapping(block, moved, size.min(layout.size()));
                self.dealloc(block, layout);
            }
            moved
        }
    }
}

/// Overwrites memory that nobody is going to read as what it was.
///
/// By volatile writes, which are not left out as those to a block that is about to be free. No `memset` is made of them:
/// per request a buffer of 4 KiB is freed, and the byte-wise instruction that `memset` takes at that size is slow to
/// begin.
///
/// # Safety
/// These bytes are the caller's to write.
#[inline]
unsafe fn wipe(block: *mut u8, size: usize) {
    // SAFETY: as the caller promises; the processor has been asked for what the wide writes need.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        if size >= LARGE && is_x86_feature_detected!("avx") {
            return wipe_large(block, size);
        }
        wipe_by(block, size, ZERO);
    }
}

/// # Safety
/// As that of [`wipe`], on a processor that has these instructions.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx")]
unsafe fn wipe_large(block: *mut u8, size: usize) {
    // SAFETY: as the caller promises; all bits 0 are a value.
    unsafe { wipe_by::<std::arch::x86_64::__m256i>(block, size, std::mem::zeroed()) }
}

/// Piece by piece, each as large as `zero`.
///
/// # Safety
/// As that of [`wipe`]; `zero` is nothing but zeros.
#[inline(always)]
unsafe fn wipe_by<Piece: Copy>(block: *mut u8, size: usize, zero: Piece) {
    let before = block.align_offset(align_of::<Piece>()).min(size);
    let pieces = (size - before) / size_of::<Piece>();
    let behind = before + pieces * size_of::<Piece>();
    // SAFETY: as the caller promises; the pieces begin where one may begin, and end before the block does.
    unsafe {
        wipe_edge(block, before);
        let first = block.add(before).cast::<Piece>();
        // Eight at a time: else counting costs as much as writing.
        for eight in (0..pieces / 8).map(|index| first.add(index * 8)) {
            for at in 0..8 {
                eight.add(at).write_volatile(zero);
            }
        }
        for at in pieces / 8 * 8..pieces {
            first.add(at).write_volatile(zero);
        }
        wipe_edge(block.add(behind), size - behind);
    }
}

/// Less than a piece; most blocks are whole words.
///
/// # Safety
/// As that of [`wipe`].
#[inline]
unsafe fn wipe_edge(mut bytes: *mut u8, size: usize) {
    // SAFETY: as the caller promises; what is written does not go beyond `size`.
    unsafe {
        let end = bytes.add(size);
        while bytes.cast::<u64>().is_aligned() && end.offset_from_unsigned(bytes) >= 8 {
            bytes.cast::<u64>().write_volatile(0);
            bytes = bytes.add(8);
        }
        while bytes < end {
            bytes.write_volatile(0);
            bytes = bytes.add(1);
        }
    }
}

/// The alignment of blocks that nobody asked one of (`MI_MAX_ALIGN_SIZE`), in bytes.
const EVERYTHING: usize = 16;

/// From where on it pays to ask for wider writes.
#[cfg(target_arch = "x86_64")]
const LARGE: usize = 1024;

/// Every processor of its kind can write that many bytes at once.
#[cfg(target_arch = "x86_64")]
const ZERO: std::arch::x86_64::__m128i = {
    // SAFETY: all bits 0 are a value.
    unsafe { std::mem::zeroed() }
};
#[cfg(not(target_arch = "x86_64"))]
const ZERO: u128 = 0;

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

    /// Blocks of their own, not those of the test's harness.
    const FILL: u8 = 0xa5;

    fn layout(size: usize, align: usize) -> Layout {
        Layout::from_size_align(size, align).unwrap()
    }

    /// A block that is full of something recognisable.
    fn filled(layout: Layout) -> *mut u8 {
        // SAFETY: no size here is 0, and the block is written within its size.
        unsafe {
            let block = Wiping.alloc(layout);
            assert!(!block.is_null());
            block.write_bytes(FILL, layout.size());
            block
        }
    }

    /// Whether filled bytes stand in blocks of this size that are handed out now, beyond their first: there the
    /// allocator writes what it keeps of free blocks.
    fn is_found_again(layout: Layout) -> bool {
        let blocks: Vec<*mut u8> = (0..16)
            // SAFETY: no size here is 0.
            .map(|_| unsafe { MiMalloc.alloc(layout) })
            .collect();
        let mut found = false;
        for block in blocks {
            // Volatile, because nobody has written what is read.
            // SAFETY: each offset lies in the block, which is given back once.
            unsafe {
                let mut places = (8..layout.size()).step_by(layout.size() / 64 + 1);
                found |= places.any(|at| block.add(at).read_volatile() == FILL);
                MiMalloc.dealloc(block, layout);
            }
        }
        found
    }

    #[test]
    fn a_freed_block_is_wiped() {
        for (size, align) in [
            (9, 1),
            (48, 8),
            (55, 8),
            (1000, 1),
            (1023, 1),
            (1031, 8),
            (8192, 1),
            (9000, 64),
            (300_000, 4096),
        ] {
            let layout = layout(size, align);
            // SAFETY: the block is given back once.
            unsafe { Wiping.dealloc(filled(layout), layout) };
            assert!(!is_found_again(layout), "{size} bytes");
        }
    }

    #[test]
    fn a_block_that_is_left_for_another_is_wiped_and_its_content_goes_along() {
        for (size, to) in [(40, 4000), (4000, 40), (70_000, 300_000), (300_000, 50)] {
            let before = layout(size, 1);
            // SAFETY: the old block is not used again; the new one is read within its size and given back once.
            unsafe {
                let moved = Wiping.realloc(filled(before), before, to);
                assert!((0..size.min(to)).all(|at| moved.add(at).read() == FILL));
                assert!(!is_found_again(before), "{size} to {to}");
                Wiping.dealloc(moved, layout(to, 1));
            }
            assert!(!is_found_again(layout(to, 1)), "{size} to {to}");
        }
    }

    #[test]
    fn a_block_that_shrinks_in_its_place_loses_its_end() {
        let (before, after) = (layout(1000, 1), layout(900, 1));
        // SAFETY: the block stays 1000 bytes large until it is given back; the bytes behind the first 900 have been
        // written by the allocator.
        unsafe {
            let block = filled(before);
            let shrunk = Wiping.realloc(block, before, after.size());
            assert_eq!(shrunk, block, "it stays where it is");
            assert!((900..1000).all(|at| block.add(at).read_volatile() == 0));
            Wiping.dealloc(shrunk, after);
        }
    }

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
