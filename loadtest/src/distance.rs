//! How far apart two cores are at this moment: a cache line's way to the other core and back.
//!
//! Virtual cores move together and apart under a guest; far costs every engine a quarter more CPU, with nothing else to
//! see. Only runs of one state may be compared.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const ROUNDS: u64 = 400;
/// The shortest counts: on a busy machine most tries are cut by somebody else's time slice.
const TRIES: u64 = 16;
const WAIT_MAX: Duration = Duration::from_millis(200);

/// Pins the calling thread.
pub fn pin(core: usize) -> std::io::Result<()> {
    let mut set = rustix::thread::CpuSet::new();
    set.set(core);
    Ok(rustix::thread::sched_setaffinity(None, &set)?)
}

/// Nanoseconds of one round trip, the best of [`TRIES`]; `None` where the other core did not answer in time. The calling
/// thread moves to `here`.
pub fn round_trip_ns(here: usize, there: usize) -> std::io::Result<Option<u64>> {
    pin(here)?;
    let line = Arc::new(AtomicU64::new(u64::MAX));
    let until = Instant::now() + WAIT_MAX;
    let other = {
        let line = Arc::clone(&line);
        std::thread::spawn(move || {
            if pin(there).is_err() {
                return;
            }
            line.store(0, Ordering::Release);
            for attempt in 0..TRIES {
                bounce(&line, 1, attempt, until);
            }
        })
    };
    while line.load(Ordering::Acquire) == u64::MAX && Instant::now() < until {
        std::thread::yield_now();
    }
    let mut best: Option<u64> = None;
    for attempt in 0..TRIES {
        let at = Instant::now();
        if !bounce(&line, 0, attempt, until) {
            break;
        }
        let ns = u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX) / ROUNDS;
        best = Some(best.map_or(ns, |b| b.min(ns)));
    }
    let _ = other.join();
    Ok(best)
}

/// Side 0 makes even numbers odd, side 1 odd numbers even.
fn bounce(line: &AtomicU64, side: u64, attempt: u64, until: Instant) -> bool {
    let mut next = attempt * 2 * ROUNDS + side;
    while next < (attempt + 1) * 2 * ROUNDS {
        let mut spins = 0u32;
        while line.load(Ordering::Acquire) != next {
            std::hint::spin_loop();
            spins += 1;
            if spins > 10_000 {
                spins = 0;
                if Instant::now() > until {
                    return false;
                }
            }
        }
        line.store(next + 1, Ordering::Release);
        next += 2;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_round_trip_takes_between_nanoseconds_and_microseconds() {
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return;
        }
        // On a busy machine the other core may not answer in time: that is an answer, too.
        if let Some(ns) = round_trip_ns(0, 1).expect("two cores") {
            assert!((5..100_000).contains(&ns), "{ns}");
        }
    }
}
