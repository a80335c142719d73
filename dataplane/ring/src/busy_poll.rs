//! Staying awake: a core that expects work soon looks for it a while before it sleeps.
//!
//! Who sends to a sleeping core pays for waking it: in a virtual machine an interrupt that costs the sender 10 µs and more,
//! and the sleeper as much to come back. While turns come in quick succession, looking for `spin_us` is cheaper for everybody
//! else; the core itself is then busy all the time. When turns come seldom, it sleeps at once, as it does with 0.

/// Weight of the newest turn, as a power of two.
const WEIGHT: u32 = 3;
/// Longer gaps count as this, so that a pause is forgotten after some turns.
const GAP_US_MAX: u64 = 10_000;

pub(crate) struct BusyPoll {
    spin_us: u64,
    last_us: u64,
    /// Mean time between turns, times `1 << WEIGHT`.
    mean: u64,
}

impl BusyPoll {
    pub fn new(spin_us: u32) -> BusyPoll {
        BusyPoll {
            spin_us: u64::from(spin_us),
            last_us: 0,
            mean: GAP_US_MAX << WEIGHT,
        }
    }

    /// A turn began.
    pub fn turn(&mut self, now_us: u64) {
        let gap = now_us.saturating_sub(self.last_us).min(GAP_US_MAX);
        self.last_us = now_us;
        self.mean = self.mean - (self.mean >> WEIGHT) + gap;
    }

    /// How long to look before sleeping; `None`: sleep at once.
    pub fn look_us(&self) -> Option<u64> {
        (self.spin_us > 0 && self.mean >> WEIGHT < 2 * self.spin_us).then_some(self.spin_us)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_looks_while_turns_come_quickly_and_sleeps_when_they_do_not() {
        let mut busy_poll = BusyPoll::new(20);
        let mut now = 0;
        let mut turns = |busy_poll: &mut BusyPoll, gap: u64, count: usize| {
            for _ in 0..count {
                now += gap;
                busy_poll.turn(now);
            }
        };
        turns(&mut busy_poll, 1_000, 3);
        assert_eq!(busy_poll.look_us(), None);
        turns(&mut busy_poll, 15, 100);
        assert_eq!(busy_poll.look_us(), Some(20));
        turns(&mut busy_poll, 60_000_000, 1);
        assert_eq!(busy_poll.look_us(), None, "after a pause it sleeps");
        turns(&mut busy_poll, 60, 200);
        assert_eq!(busy_poll.look_us(), None, "too seldom to wait for");
    }

    #[test]
    fn without_spin_us_it_never_looks() {
        let mut busy_poll = BusyPoll::new(0);
        (0..1_000).for_each(|n| busy_poll.turn(n));
        assert_eq!(busy_poll.look_us(), None);
    }
}
