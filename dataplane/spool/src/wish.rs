//! How a producer that waits for room or for the disk comes to be waked. Words only; the futex calls stand at the callers.
//!
//! The producer leaves a wish in shared memory, then looks once more. The consumer moves its position, then looks for a
//! wish. Between the store and the look of either side is a full fence, so there are two orders and no third:
//!
//! - the producer's fence is first: the consumer's look, behind its own fence, finds the wish, and it wakes;
//! - the consumer's fence is first: the producer's second look finds the new position, and nobody needs to wait.
//!
//! A wake is a count that grows and a futex wake of that word. Who sleeps on it compares the count with the last one that
//! it acted on, so a wake between the look and the sleep ends the sleep at once.
//!
//! One wish for room stands at a time, the nearest one. A wake takes it down, and whoever still lacks room says so again:
//! a wake is a reason to look, never a promise. A wish that a look of the consumer takes down in the very moment in which
//! a nearer or a farther one replaces it is not lost either, because that look wakes.
//!
//! A hostile peer can write anything into these words. All that follows is a wake too many or too few: neither side takes
//! an address, a length or a position from here. The shard looks again after a while in any case.
//!
//! `tests/wakes.rs` runs this file under loom: without any one of the four fences it finds the run that sleeps for ever.

use crate::atomics::Ordering::{AcqRel, Acquire, Relaxed, Release, SeqCst};
use crate::atomics::{AtomicU32, AtomicU64, fence};

/// Producer: wants to hear when `reached` is at `want` or beyond. `true`: it is already, and no wake need come for it.
pub(crate) fn ask_room(wish: &AtomicU64, reached: &AtomicU64, want: u64) -> bool {
    let other = wish.load(Relaxed);
    wish.store(if other == 0 { want } else { other.min(want) }, Relaxed);
    fence(SeqCst);
    reached.load(Acquire) >= want
}

/// Consumer: gives the room before `position` back. Whether to [`wake`].
pub(crate) fn give_room(wish: &AtomicU64, reached: &AtomicU64, position: u64) -> bool {
    reached.store(position, Release);
    fence(SeqCst);
    let want = wish.load(Relaxed);
    if want == 0 || want > position {
        return false;
    }
    wish.swap(0, AcqRel);
    true
}

/// Producer: wants everything before `want` on disk. Wishes only grow, and one that is fulfilled stays where it is.
/// `true`: it is on disk already.
pub(crate) fn ask_durable(wish: &AtomicU64, reached: &AtomicU64, want: u64) -> bool {
    if wish.load(Relaxed) < want {
        wish.store(want, Release);
    }
    fence(SeqCst);
    reached.load(Acquire) >= want
}

/// Consumer: everything before `position` is on disk, and before that everything before `before` was. Whether to [`wake`]:
/// somebody may wait for less than the newest wish, so any step towards it counts.
pub(crate) fn give_durable(wish: &AtomicU64, reached: &AtomicU64, before: u64, position: u64) -> bool {
    reached.store(position, Release);
    fence(SeqCst);
    wish.load(Relaxed) > before
}

/// Consumer: one more for the watchers. The futex wake follows.
pub(crate) fn wake(moved: &AtomicU32) {
    moved.fetch_add(1, AcqRel);
}
