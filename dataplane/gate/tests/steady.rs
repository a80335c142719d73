//! A statement in steady state allocates nothing in the gate: not to read it, judge it, record it, mask its rows or hand them on.

mod common {
    pub mod steady;
}

use common::steady::{Mode, Steady};
use headgate_fixtures::allocator::{Counting, allocations};
#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
