//! How a ring is sized. Everything is allocated for these numbers at start.

use crate::error::RingError;
use crate::seam::PAUSE_SLACK_BYTES;
use std::net::SocketAddr;

/// Slots are named by 24 bits of a completion's user data.
const SLOTS_MAX: usize = 1 << 24;

/// An address to listen at.
#[derive(Clone, Debug)]
pub struct ListenSettings {
    /// IPv4 or IPv6.
    pub address: SocketAddr,
    /// How many connections may wait to be accepted.
    pub backlog: i32,
}

/// How a core's ring is made.
#[derive(Clone, Debug)]
pub struct RingSettings {
    /// [`crate::ListenerId`] is the place in this list. Every core opens its own (SO_REUSEPORT).
    pub listeners: Vec<ListenSettings>,
    /// Submission entries, a power of two; four times as many completions.
    pub entries: u32,
    /// Receive buffers of the many: at least as many as sockets become ready in one turn. A power of two.
    pub buffers_count: u16,
    /// Of a small buffer.
    pub buffer_bytes: u32,
    /// Receive buffers of sockets that move bulk. A power of two.
    pub large_buffers_count: u16,
    /// Of a large one.
    pub large_buffer_bytes: u32,
    /// Accepted sockets open at once; one more is accepted and closed. `connect` has as many places of its own, so an
    /// accepted client always finds one for its target.
    pub sockets_max: usize,
    /// Coarse time: ticks, connect timeouts and lingering are exact to this.
    pub tick_ms: u32,
    /// How long `close` may take to hand over queued bytes.
    pub close_linger_ms: u32,
    /// Silence before the first keepalive probe; then every third of it, three times.
    pub keepalive_s: u32,
    /// How long to look for work before sleeping, while turns come in quick succession. 0: sleep at once.
    pub spin_us: u32,
    /// Pins the thread that runs.
    pub core: Option<usize>,
}

impl Default for RingSettings {
    fn default() -> Self {
        RingSettings {
            listeners: Vec::new(),
            entries: 1024,
            buffers_count: 256,
            buffer_bytes: 4 << 10,
            large_buffers_count: 16,
            large_buffer_bytes: 64 << 10,
            sockets_max: 16 << 10,
            tick_ms: 10,
            close_linger_ms: 5_000,
            keepalive_s: 60,
            spin_us: 0,
            core: None,
        }
    }
}

impl RingSettings {
    pub(crate) fn check(&self) -> Result<(), RingError> {
        let what = if !self.entries.is_power_of_two() || self.entries > 32 << 10 {
            "entries must be a power of two up to 32768"
        } else if !self.buffers_count.is_power_of_two() || !self.large_buffers_count.is_power_of_two() {
            "the numbers of buffers must be powers of two"
        } else if self.buffers_count > 16 << 10 || self.large_buffers_count > 16 << 10 {
            "at most 16384 buffers of a kind"
        } else if self.buffer_bytes == 0 || self.large_buffer_bytes < self.buffer_bytes {
            "large buffers must be at least as large as the small ones"
        } else if self.pool_bytes() > PAUSE_SLACK_BYTES {
            "all receive buffers together must fit into PAUSE_SLACK_BYTES"
        } else if self.sockets_max == 0 || self.sockets_max > SLOTS_MAX / 2 {
            "sockets_max must be 1 to 8388608"
        } else if self.tick_ms == 0 {
            "tick_ms must not be 0"
        } else if self.listeners.iter().any(|l| l.backlog < 1) {
            "a backlog must be at least 1"
        } else {
            return Ok(());
        };
        Err(RingError::Config { what })
    }

    fn pool_bytes(&self) -> usize {
        usize::from(self.buffers_count) * self.buffer_bytes as usize
            + usize::from(self.large_buffers_count) * self.large_buffer_bytes as usize
    }
}
