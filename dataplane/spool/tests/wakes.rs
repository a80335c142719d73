//! No wake is lost, in any order that the memory model allows: `wish.rs` under loom. A lost wake ends a run as a deadlock.

use loom::sync::{Arc, Condvar, Mutex};
use loom::thread;

mod atomics {
    pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
}

#[path = "../src/wish.rs"]
mod wish;

use atomics::{AtomicU32, AtomicU64, Ordering};

/// The words of one spool, and a kernel that knows one futex.
struct Spool {
    wish: AtomicU64,
    reached: AtomicU64,
    moved: AtomicU32,
    kernel: Mutex<()>,
    sleepers: Condvar,
}

impl Spool {
    fn new() -> Arc<Spool> {
        Arc::new(Spool {
            wish: AtomicU64::new(0),
            reached: AtomicU64::new(0),
            moved: AtomicU32::new(0),
            kernel: Mutex::new(()),
            sleepers: Condvar::new(),
        })
    }

    fn wake(&self) {
        wish::wake(&self.moved);
        drop(self.kernel.lock().unwrap());
        self.sleepers.notify_all();
    }

    fn wait(&self, expected: u32) {
        let mut guard = self.kernel.lock().unwrap();
        while self.moved.load(Ordering::Acquire) == expected {
            guard = self.sleepers.wait(guard).unwrap();
        }
    }

    /// A producer's sessions, each waiting for a position of its own; they look again at each wake, as a shard's do.
    fn wait_for(&self, mut positions: Vec<u64>, ask: impl Fn(&AtomicU64, &AtomicU64, u64) -> bool) {
        let mut seen = 0;
        loop {
            positions.retain(|position| !ask(&self.wish, &self.reached, *position));
            if positions.is_empty() {
                return;
            }
            self.wait(seen);
            seen = self.moved.load(Ordering::Acquire);
        }
    }
}

#[test]
fn who_waits_for_room_is_waked_by_the_release_that_gives_it() {
    for positions in [vec![8], vec![16], vec![16, 8]] {
        loom::model(move || {
            let spool = Spool::new();
            let producer = {
                let (spool, positions) = (Arc::clone(&spool), positions.clone());
                thread::spawn(move || spool.wait_for(positions, wish::ask_room))
            };
            for position in [8, 16] {
                if wish::give_room(&spool.wish, &spool.reached, position) {
                    spool.wake();
                }
            }
            producer.join().unwrap();
        });
    }
}

#[test]
fn who_waits_for_the_disk_is_waked_by_the_step_that_reaches_it() {
    for positions in [vec![16], vec![8, 16]] {
        loom::model(move || {
            let spool = Spool::new();
            let producer = {
                let (spool, positions) = (Arc::clone(&spool), positions.clone());
                thread::spawn(move || spool.wait_for(positions, wish::ask_durable))
            };
            for (before, position) in [(0, 8), (8, 16)] {
                if wish::give_durable(&spool.wish, &spool.reached, before, position) {
                    spool.wake();
                }
            }
            producer.join().unwrap();
        });
    }
}
