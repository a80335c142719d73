//! The state of a core's sockets and what is asked of the kernel for them.
//!
//! A call on [`crate::Io`] (`effects.rs`) only changes a slot and marks it dirty; [`Core::flush`] brings each dirty slot one step towards what it
//! should be (`advance`), by submissions that the next `io_uring_enter` hands over. So effects of one turn are gathered,
//! and nothing here ever calls a handler: what it must be told waits in `events`.

use crate::error::errno_of;
use crate::gather::{GATHER_MAX, Gather};
use crate::operation::{Kind, Operation};
use crate::seam::SocketId;
use crate::slots::{Slots, State};
use crate::{RingError, RingSettings};
use io_uring::{IoUring, opcode, squeue, types};
use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::net::Shutdown;
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

/// While closing, a peer that goes on sending is read this far, so that it can read our last words before a RST.
pub(crate) const DISCARD_BYTES_MAX: usize = 1 << 20;
/// One send takes at most this much of a buffer: its length field has 32 bits.
const SEND_BYTES_MAX: usize = 1 << 30;
/// How soon a cancel that missed is tried again.
const RETRY_US: u64 = 20_000;
const LOOK_US: u64 = 1_000_000;

/// What a handler is told outside a completion.
pub(crate) enum Event {
    Closed(SocketId),
    ConnectFailed(SocketId, i32),
    Sent(SocketId),
}

#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    ConnectTimeout(SocketId),
    Linger(SocketId),
    /// Something is still in flight after a cancel.
    Retry(SocketId),
    /// A paused socket is asked for an error, because no operation would say it.
    Look(SocketId),
    Accept(u32),
}

/// The provided-buffer groups that a recv may draw from.
#[derive(Clone, Copy)]
pub(crate) struct Groups {
    pub small: u16,
    pub large: u16,
}

pub(crate) struct Core {
    // First: the ring is closed before the memory that it points at goes.
    pub uring: IoUring,
    groups: Groups,
    pub slots: Slots,
    pub config: RingSettings,
    pub events: VecDeque<Event>,
    /// Sent buffers on their way back to the handler.
    pub spent: Vec<Vec<u8>>,
    pub in_flight: usize,
    dirty: Vec<u32>,
    /// Of the dirty ones, those that move bulk: advanced after the others.
    dirty_bulk: Vec<u32>,
    /// Submissions that found the queue full.
    backlog: VecDeque<squeue::Entry>,
    // Boxed: a gather must not move while the kernel may read it.
    #[allow(clippy::vec_box)]
    gathers: Vec<Box<Gather>>,
    deadlines: BinaryHeap<Reverse<(u64, Due)>>,
    started: Instant,
    pub now_us: u64,
    /// Numbers the ids of connects that got no slot.
    pub refused: u32,
}

impl Core {
    pub(crate) fn new(uring: IoUring, groups: Groups, config: RingSettings) -> Self {
        Core {
            uring,
            groups,
            slots: Slots::new(config.sockets_max * 2),
            config,
            events: VecDeque::new(),
            spent: Vec::new(),
            in_flight: 0,
            dirty: Vec::new(),
            dirty_bulk: Vec::new(),
            backlog: VecDeque::new(),
            gathers: Vec::new(),
            deadlines: BinaryHeap::new(),
            started: Instant::now(),
            now_us: 0,
            refused: 0,
        }
    }

    pub(crate) fn read_clock(&mut self) {
        self.now_us = u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX);
    }

    /// Queues a submission. The caller keeps what it points at alive until its last completion.
    pub(crate) fn push(&mut self, entry: squeue::Entry, operation: Operation) {
        self.in_flight += 1;
        let entry = entry.user_data(operation.encode());
        // Behind others that wait for room, in order; nearly always there are none.
        // SAFETY: as in `drain_backlog`.
        if !self.backlog.is_empty() || unsafe { self.uring.submission().push(&entry) }.is_err() {
            self.backlog.push_back(entry);
        }
    }

    fn drain_backlog(&mut self) {
        if self.backlog.is_empty() {
            return;
        }
        let mut queue = self.uring.submission();
        while let Some(entry) = self.backlog.front() {
            // SAFETY: buffers of sends stay in their slot's queue, gathers and addresses in their slot, the wake word in the
            // ring, all until the last completion; a slot is not released before (`Slots::release` asserts it).
            if unsafe { queue.push(entry) }.is_err() {
                return;
            }
            self.backlog.pop_front();
        }
    }

    /// One `io_uring_enter`: submits, runs deferred work, and waits for a completion if `wait` says how long (`None`: no end).
    pub(crate) fn enter(&mut self, wait: Option<Option<Duration>>) -> Result<(), RingError> {
        const GETEVENTS: u32 = 1;
        const EXT_ARG: u32 = 8;
        self.drain_backlog();
        let to_submit = u32::try_from(self.uring.submission().len()).unwrap_or(u32::MAX);
        // Entries still outside the queue must not sleep.
        let wait = if self.backlog.is_empty() { wait } else { None };
        let timespec = wait.flatten().map(types::Timespec::from);
        let mut args = types::SubmitArgs::new();
        if let Some(timespec) = &timespec {
            args = args.timespec(timespec);
        }
        let want = u32::from(wait.is_some());
        // Not `submit_and_wait(0)`: without GETEVENTS no deferred work runs, and completions would starve.
        // SAFETY: `args` and `timespec` live for the call.
        let result = unsafe {
            self.uring
                .submitter()
                .enter(to_submit, want, GETEVENTS | EXT_ARG, Some(&args))
        };
        match result {
            Ok(_) => Ok(()),
            Err(e) => match errno_of(&e) {
                libc::ETIME | libc::EINTR | libc::EAGAIN | libc::EBUSY => Ok(()),
                errno => Err(RingError::System {
                    what: "io_uring_enter",
                    errno,
                }),
            },
        }
    }

    pub(crate) fn has_completions(&mut self) -> bool {
        !self.uring.completion().is_empty()
    }

    /// Looks for work without a call to the kernel, for so long; whether there is some.
    pub(crate) fn look(&mut self, look_us: u64) -> bool {
        let until = self.started.elapsed() + Duration::from_micros(look_us);
        loop {
            for _ in 0..32 {
                if self.uring.submission().taskrun() || self.has_completions() {
                    return true;
                }
                std::hint::spin_loop();
            }
            if self.started.elapsed() >= until {
                return false;
            }
        }
    }

    pub(crate) fn touch(&mut self, slot: u32) {
        if let Some(s) = self.slots.at(slot)
            && !s.dirty
        {
            s.dirty = true;
            self.dirty.push(slot);
        }
    }

    /// Whether something waits to be told or advanced: the core must not sleep.
    pub(crate) fn is_unsettled(&self) -> bool {
        !self.dirty.is_empty()
            || !self.dirty_bulk.is_empty()
            || !self.events.is_empty()
            || !self.spent.is_empty()
    }

    pub(crate) fn flush(&mut self) {
        self.flush_small();
        // The kernel works on submissions in their order: small ones do not wait for the copying of large ones.
        while let Some(slot) = self.dirty_bulk.pop() {
            self.advance_dirty(slot);
        }
    }

    /// In the order in which they became dirty: who asked first is served first.
    pub(crate) fn flush_small(&mut self) {
        let mut at = 0;
        // Advancing one may make others dirty.
        while let Some(slot) = self.dirty.get(at).copied() {
            at += 1;
            if self.slots.is_bulk(slot) {
                self.dirty_bulk.push(slot);
            } else {
                self.advance_dirty(slot);
            }
        }
        self.dirty.clear();
    }

    fn advance_dirty(&mut self, slot: u32) {
        if let Some(s) = self.slots.at(slot) {
            s.dirty = false;
            self.advance(slot);
        } else {
            self.slots.forget_dirty(slot);
        }
    }

    /// Whether something waits for the next `io_uring_enter`.
    pub(crate) fn has_submissions(&mut self) -> bool {
        !self.backlog.is_empty() || !self.uring.submission().is_empty()
    }

    /// Hands over what was asked for and does nothing else: no deferred work runs.
    pub(crate) fn submit(&mut self) -> Result<(), RingError> {
        match self.uring.submit() {
            Ok(_) => Ok(()),
            Err(e) => match errno_of(&e) {
                libc::EINTR | libc::EAGAIN | libc::EBUSY => Ok(()),
                errno => Err(RingError::System {
                    what: "io_uring_enter",
                    errno,
                }),
            },
        }
    }

    fn advance(&mut self, slot: u32) {
        let Some(s) = self.slots.at(slot) else { return };
        match s.state {
            State::Free | State::Connecting => {}
            State::Open => {
                self.start_send(slot);
                self.steer_recv(slot);
            }
            State::Closing => self.advance_closing(slot),
            State::Ending => self.advance_ending(slot),
        }
    }

    fn advance_closing(&mut self, slot: u32) {
        self.start_send(slot);
        let Some(s) = self.slots.at(slot) else { return };
        if s.queue.is_empty() && !s.shut {
            s.shut = true;
            if let Some(socket) = &s.socket {
                // An error says that the peer is gone already.
                let _ = socket.shutdown(Shutdown::Write);
            }
        }
        let done = s.shut && (s.finished || s.discarded > DISCARD_BYTES_MAX);
        if done || s.broken.is_some() || s.send_failed.is_some() {
            self.end(slot, false);
            self.advance_ending(slot);
        } else {
            self.steer_recv(slot);
        }
    }

    fn advance_ending(&mut self, slot: u32) {
        let Some(s) = self.slots.at(slot) else { return };
        let id = SocketId {
            slot,
            generation: s.generation,
        };
        if s.in_flight == 0 {
            self.drop_queue(slot);
            if self.slots.release(slot) {
                self.events.push_back(Event::Closed(id));
            }
        } else if !s.cancel_all
            && let Some(socket) = &s.socket
        {
            // close(2) alone would not end what is in flight, nor send FIN.
            let cancel =
                opcode::AsyncCancel2::new(types::CancelBuilder::fd(types::Fd(socket.as_raw_fd())).all())
                    .build();
            s.cancel_all = true;
            s.in_flight += 1;
            self.push(cancel, Operation::of(Kind::Cancel, id));
            self.plan(RETRY_US, Due::Retry(id));
        }
    }

    /// Enters the last state. Buffers that the kernel may still read stay until its completion.
    pub(crate) fn end(&mut self, slot: u32, reset: bool) {
        let Some(s) = self.slots.at(slot) else { return };
        s.state = State::Ending;
        if reset && let Some(socket) = &s.socket {
            // So that close(2) sends RST and keeps nothing in the kernel.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
        let keep = if s.send_in_flight { s.send_buffers } else { 0 };
        while s.queue.len() > keep {
            self.spent.extend(s.queue.pop_back());
        }
        if s.queue.is_empty() {
            s.front_sent = 0;
        }
        s.queue_bytes = s.queue.iter().map(Vec::len).sum::<usize>() - s.front_sent;
        self.touch(slot);
    }

    pub(crate) fn drop_queue(&mut self, slot: u32) {
        let Some(s) = self.slots.at(slot) else { return };
        assert!(
            !s.send_in_flight,
            "buffers that the kernel may read stay in the queue"
        );
        self.spent.extend(std::iter::from_fn(|| s.queue.pop_front()));
        s.queue_bytes = 0;
        s.front_sent = 0;
    }

    fn start_send(&mut self, slot: u32) {
        let Some(s) = self.slots.at(slot) else { return };
        if s.send_in_flight || s.queue.is_empty() || s.broken.is_some() || s.send_failed.is_some() {
            return;
        }
        let Some(fd) = s.socket.as_ref().map(|s| types::Fd(s.as_raw_fd())) else {
            return;
        };
        let id = SocketId {
            slot,
            generation: s.generation,
        };
        s.send_in_flight = true;
        s.in_flight += 1;
        s.send_buffers = s.queue.len().min(GATHER_MAX);
        let entry = if s.send_buffers == 1 {
            let rest = s.queue.front().map_or(&[][..], |front| &front[s.front_sent..]);
            let len = rest.len().min(SEND_BYTES_MAX) as u32;
            opcode::Send::new(fd, rest.as_ptr(), len)
                .flags(libc::MSG_NOSIGNAL)
                .build()
        } else {
            let mut gather = self.gathers.pop().unwrap_or_else(Gather::new);
            let message = gather.point_at(&s.queue, s.front_sent);
            s.gather = Some(gather);
            opcode::SendMsg::new(fd, message)
                .flags(libc::MSG_NOSIGNAL as u32)
                .build()
        };
        self.push(entry, Operation::of(Kind::Send, id));
    }

    /// The kernel took `bytes` of the queue's front.
    pub(crate) fn took(&mut self, slot: u32, mut bytes: usize) {
        let Some(s) = self.slots.at(slot) else { return };
        s.queue_bytes = s.queue_bytes.saturating_sub(bytes);
        while let Some(front) = s.queue.front() {
            let rest = front.len() - s.front_sent;
            if bytes < rest {
                s.front_sent += bytes;
                return;
            }
            bytes -= rest;
            s.front_sent = 0;
            if let Some(buffer) = s.queue.pop_front() {
                self.spent.push(buffer);
            }
            if bytes == 0 {
                return;
            }
        }
    }

    pub(crate) fn gather_back(&mut self, gather: Option<Box<Gather>>) {
        if let Some(gather) = gather
            && self.gathers.len() < 64
        {
            self.gathers.push(gather);
        }
    }

    /// Arms or cancels the recv, and changes its class of buffers.
    fn steer_recv(&mut self, slot: u32) {
        let Groups { small, large } = self.groups;
        let now_us = self.now_us;
        let Some(s) = self.slots.at(slot) else { return };
        let id = SocketId {
            slot,
            generation: s.generation,
        };
        let wanted = s.wants_recv();
        if !s.recv.armed && wanted {
            let Some(fd) = s.socket.as_ref().map(|s| types::Fd(s.as_raw_fd())) else {
                return;
            };
            s.recv.armed = true;
            s.recv.large = s.recv.wants_large;
            s.recv.streak = 0;
            s.in_flight += 1;
            let group = if s.recv.large { large } else { small };
            let entry = opcode::RecvMulti::new(fd, group).build();
            self.push(entry, Operation::of(Kind::Recv, id));
        } else if s.recv.armed && !s.recv.cancelling && (!wanted || s.recv.large != s.recv.wants_large) {
            s.recv.cancelling = true;
            s.in_flight += 1;
            let recv = Operation::of(Kind::Recv, id).encode();
            self.push(
                opcode::AsyncCancel::new(recv).build(),
                Operation::of(Kind::CancelRecv, id),
            );
        } else if !s.recv.armed && s.paused && !s.look_planned && s.state == State::Open {
            s.look_planned = true;
            self.deadlines.push(Reverse((now_us + LOOK_US, Due::Look(id))));
        }
    }

    pub(crate) fn plan(&mut self, in_us: u64, due: Due) {
        self.deadlines.push(Reverse((self.now_us + in_us, due)));
    }

    pub(crate) fn next_due(&mut self) -> Option<Due> {
        let Reverse((at, due)) = *self.deadlines.peek()?;
        if at > self.now_us {
            return None;
        }
        self.deadlines.pop();
        Some(due)
    }

    /// When the earliest deadline is, but no sooner than a tick from now: short timeouts of a wait are dear.
    pub(crate) fn sleep_until_us(&self) -> Option<u64> {
        let tick = u64::from(self.config.tick_ms) * 1_000;
        self.deadlines
            .peek()
            .map(|Reverse((at, _))| (*at).max(self.now_us + tick))
    }
}
