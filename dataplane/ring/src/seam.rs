//! The seam between a core's sockets and what runs on them.
//!
//! The session code implements [`Handler`] and asks for effects through [`Io`]; it knows neither io_uring nor the
//! simulator. Both drivers keep these rules, and tests of this crate hold both to them:
//!
//! - Calls into the handler never nest. Effects asked for inside a call happen after it or during it, never by calling back.
//! - `received` hands over bytes that live for that call only. They are consumed whole: the handler keeps what it needs.
//! - After `pause`, bytes already taken off the wire may still arrive (at most [`PAUSE_SLACK_BYTES`]); then none, until `resume`.
//! - `send` takes ownership of the buffer; buffers go out in order. `queued` says how many bytes are not with the kernel yet;
//!   who waits for them asks with `tell_sent`, and `sent` says once that none are left. The buffer comes back through
//!   `recycle` when it is free.
//! - `close` lets queued bytes go first (up to a bound in time), then ends the socket; `abort` drops them. After either, nothing but `closed`
//!   follows for that socket, exactly once. A peer's end arrives as `ended`; the socket stays until `close` or `abort`.
//!   The bound covers the whole of it: the queue, FIN, and waiting for the peer's own end while what it still says is thrown
//!   away (so that no RST drops our last words). A `close` before `connected` is an `abort`. After `Finished`, `ended` may
//!   come once more as `Broken`, when the peer is wholly gone; bytes sent after that are dropped and recycled.
//! - Bulk waits for the small: within a turn, sockets that move bulk are served after all others, what the others asked for
//!   is handed to the kernel before that; a turn's bulk is at most what all large buffers hold.
//! - When the loop ends, open sockets are closed without `closed` and without their queues: who wants to part well closes
//!   them and waits for `closed` first.
//! - A [`SocketId`] is never reused while something of it is in flight; its generation makes late uses harmless no-ops.

use std::net::SocketAddr;
use std::os::fd::RawFd;

/// How much may still arrive after a pause.
pub const PAUSE_SLACK_BYTES: usize = 2 << 20;

/// A socket of one core: slot and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId {
    /// Where it stands in the driver's table.
    pub slot: u32,
    /// How often that place has been used before.
    pub generation: u32,
}

/// Which of the core's listeners accepted, by its place in the configuration.
pub type ListenerId = u32;

/// How a peer ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// FIN: no more bytes will come; ours may still go.
    Finished,
    /// RST, time-out or another error; `errno`.
    Broken(i32),
}

/// What a core does with its sockets. Called by one thread, never within another call of its own.
pub trait Handler {
    /// A connection came in.
    fn accepted(&mut self, io: &mut dyn Io, listener: ListenerId, socket: SocketId, peer: SocketAddr);
    /// The outcome of `connect`: `Err` carries errno; the socket is then gone (no `closed` follows).
    fn connected(&mut self, io: &mut dyn Io, socket: SocketId, result: Result<(), i32>);
    /// Bytes came in. They are gone when the call returns.
    fn received(&mut self, io: &mut dyn Io, socket: SocketId, bytes: &[u8]);
    /// The peer ended; the socket stays until it is closed from our side.
    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, end: End);
    /// Once for each [`Io::tell_sent`], unless the socket ends before.
    fn sent(&mut self, io: &mut dyn Io, socket: SocketId);
    /// A sent buffer, empty, for reuse.
    fn recycle(&mut self, buffer: Vec<u8>);
    /// The last word about a socket that was closed or aborted.
    fn closed(&mut self, io: &mut dyn Io, socket: SocketId);
    /// The inbox's eventfd was written.
    fn woken(&mut self, io: &mut dyn Io);
    /// Comes about every [`Io::tick_ms`] while [`Handler::wants_ticks`]; coarse.
    fn tick(&mut self, io: &mut dyn Io);
    /// Whether [`Self::tick`] is to be called.
    fn wants_ticks(&self) -> bool;
    /// Before what was asked for in this turn is handed to the kernel: what must be seen first is published here. A turn
    /// may have several.
    fn submitting(&mut self) {}
    /// After each batch of completions, before the core sleeps. Return `true` to be called again without sleeping.
    fn turn_ended(&mut self, io: &mut dyn Io) -> bool;
    /// Asked once a turn; `true` ends the loop.
    fn wants_stop(&self) -> bool;
}

/// What a handler asks of its driver. Nothing waits: what comes of it is told to the handler.
pub trait Io {
    /// Starts a TCP connect; `connected` follows. `timeout_ms` bounds it (ETIMEDOUT).
    fn connect(&mut self, address: SocketAddr, timeout_ms: u32) -> SocketId;
    /// Sends all of it, behind what was sent before.
    fn send(&mut self, socket: SocketId, buffer: Vec<u8>);
    /// Bytes of `send` that the kernel has not taken yet.
    fn queued(&self, socket: SocketId) -> usize;
    /// Asks for one `sent`, when nothing is queued any more. Nobody is told otherwise: most sends matter to nobody.
    fn tell_sent(&mut self, socket: SocketId);
    /// Reads no more of the peer until [`Self::resume`].
    fn pause(&mut self, socket: SocketId);
    /// Reads again.
    fn resume(&mut self, socket: SocketId);
    /// Sends what is left, says goodbye, closes.
    fn close(&mut self, socket: SocketId);
    /// Closes at once; what is left is lost.
    fn abort(&mut self, socket: SocketId);
    /// Monotonic, read once a turn. Microseconds since an arbitrary start.
    fn now_us(&self) -> u64;
    /// Time between two ticks.
    fn tick_ms(&self) -> u32;
}

/// What wakes a core from another thread: write 8 bytes to it. Owned by the ring.
#[derive(Clone, Copy, Debug)]
pub struct WakeFd(pub RawFd);
