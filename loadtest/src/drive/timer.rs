//! A timer in the same epoll: finer than epoll's own milliseconds, which an open loop would measure as latency.

use mio::unix::SourceFd;
use mio::{Interest, Registry, Token};
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::Instant;

pub struct Timer {
    fd: OwnedFd,
    /// What it is set to.
    due: Option<Instant>,
}

impl Timer {
    pub fn new(registry: &Registry, token: Token) -> std::io::Result<Timer> {
        let fd = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC,
        )?;
        registry.register(&mut SourceFd(&fd.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Timer { fd, due: None })
    }

    /// It has gone off.
    pub fn took(&mut self) {
        let mut count = [0; 8];
        let _ = rustix::io::read(&self.fd, &mut count);
        self.due = None;
    }

    /// Goes off at `due`, unless it does so earlier anyway.
    pub fn set(&mut self, due: Instant, now: Instant) -> std::io::Result<()> {
        if self.due.is_some_and(|set| set <= due && set > now) {
            return Ok(());
        }
        let wait = due.saturating_duration_since(now);
        let zero = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        // All zero would switch it off.
        let nanoseconds = if wait.is_zero() { 1 } else { wait.subsec_nanos() };
        let value = Timespec {
            tv_sec: i64::try_from(wait.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(nanoseconds),
        };
        timerfd_settime(
            &self.fd,
            TimerfdTimerFlags::empty(),
            &Itimerspec {
                it_interval: zero,
                it_value: value,
            },
        )?;
        self.due = Some(due);
        Ok(())
    }
}
