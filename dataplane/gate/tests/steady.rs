//! A statement in steady state allocates nothing in the gate: not to read it, judge it, record it, mask its rows or hand them on.

mod common {
    pub mod steady;
}

use common::steady::{Mode, Steady};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static COUNT: Cell<u64> = const { Cell::new(0) };
}

struct Counting;

// SAFETY: every call goes to the system's allocator as it came; counting touches a thread-local number only.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as above.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(place, layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        COUNT.with(|c| c.set(c.get() + 1));
        // SAFETY: as above.
        unsafe { System.realloc(place, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn allocations(work: impl FnOnce()) -> u64 {
    let before = COUNT.with(Cell::get);
    work();
    COUNT.with(Cell::get) - before
}

#[test]
fn the_counter_counts() {
    assert_eq!(allocations(|| drop(std::hint::black_box(vec![1u8]))), 1);
}

#[test]
fn a_statement_in_steady_state_allocates_nothing() {
    for mode in [Mode::Prepared, Mode::Simple, Mode::Extended] {
        for masked in [false, true] {
            let mut steady = Steady::new(mode, masked, 20, 16);
            for _ in 0..8 {
                steady.round();
            }
            steady.drain();
            let count = allocations(|| {
                for _ in 0..50 {
                    steady.round();
                }
            });
            assert_eq!(count, 0, "{mode:?}, masked: {masked}: in 800 statements");
            assert_eq!(steady.drain(), 1600, "each was recorded: its text and its end");
        }
    }
}
