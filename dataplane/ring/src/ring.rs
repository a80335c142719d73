//! The io_uring driver of the seam: one thread, one ring, one `io_uring_enter` per turn.
//!
//! A turn: advance the dirty sockets, enter (submit, run deferred work, wait), tell the handler each completion, pass
//! deadlines and the tick, end the turn. The ring is made disabled and enabled by the thread that runs it, as SINGLE_ISSUER
//! wants. Nothing is freed before its last completion; at the end all is cancelled and waited for, because the kernel
//! closes a dead ring late and would keep the ports busy.

use crate::busy_poll::BusyPoll;
use crate::core::{Core, Due, Event, Groups};
use crate::error::errno_of;
use crate::operation::{Kind, Operation};
use crate::pool::Pool;
use crate::seam::{Handler, SocketId, WakeFd};
use crate::slots::State;
use crate::{RingError, RingSettings, sys};
use io_uring::{IoUring, cqueue, opcode, types};
use socket2::Socket;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

const SMALL_GROUP: u16 = 0;
const LARGE_GROUP: u16 = 1;
const LARGE_FIRST_ID: u16 = 0x4000;
/// At the end: how long the last completions may take.
const DRAIN_TURNS_MAX: u32 = 50;

#[derive(Clone, Copy)]
pub(crate) struct Completion {
    pub operation: Operation,
    pub result: i32,
    pub flags: u32,
}

/// One core's io_uring, its sockets, buffers and timers.
pub struct Ring {
    // First: it closes the ring before the memory that it points at goes.
    pub(crate) core: Core,
    pub(crate) small: Pool,
    pub(crate) large: Pool,
    listeners: Vec<Socket>,
    wake: WakeFd,
    /// Where the read of the eventfd lands; boxed, so that it stays where it is while the ring moves.
    wake_word: Box<u64>,
    batch: Vec<Completion>,
    /// Those of the batch that belong to sockets that move bulk, in their order. All large buffers together bound it.
    bulk: Vec<Completion>,
}

/// `tells`: whether the kernel marks work that waits in the ring's memory, where it can be seen without a call.
pub(crate) fn build_uring(entries: u32, tells: bool) -> Result<IoUring, RingError> {
    let mut builder = IoUring::builder();
    if tells {
        builder.setup_taskrun_flag();
    }
    builder
        .setup_single_issuer()
        .setup_defer_taskrun()
        .setup_r_disabled()
        .setup_submit_all()
        .setup_cqsize(entries * 4)
        .dontfork()
        .build(entries)
        .map_err(|e| RingError::of_setup(&e))
}

impl Ring {
    /// Makes the ring and listens. Fails with what the kernel lacks.
    pub fn new(config: RingSettings) -> Result<Self, RingError> {
        config.check()?;
        let uring = build_uring(config.entries, config.spin_us > 0)?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(RingError::FeatureMissing {
                feature: "IORING_FEAT_EXT_ARG and IORING_FEAT_NODROP",
            });
        }
        let pool = |group, first, count, bytes| {
            Pool::new(group, first, count, bytes)
                .map_err(|e| RingError::system("mapping receive buffers", &e))
        };
        let small = pool(SMALL_GROUP, 0, config.buffers_count, config.buffer_bytes)?;
        let large = pool(
            LARGE_GROUP,
            LARGE_FIRST_ID,
            config.large_buffers_count,
            config.large_buffer_bytes,
        )?;
        small.register(&uring.submitter())?;
        large.register(&uring.submitter())?;
        let listeners = config
            .listeners
            .iter()
            .map(|l| sys::listen(l, &config))
            .collect::<Result<Vec<_>, _>>()?;
        let wake = sys::eventfd().map_err(|e| RingError::system("eventfd", &e))?;
        let core = Core::new(
            uring,
            Groups {
                small: SMALL_GROUP,
                large: LARGE_GROUP,
            },
            config,
        );
        Ok(Ring {
            core,
            small,
            large,
            listeners,
            wake,
            wake_word: Box::new(0),
            batch: Vec::new(),
            bulk: Vec::new(),
        })
    }

    /// Good before, during and after [`Ring::run`].
    pub fn wake_fd(&self) -> WakeFd {
        self.wake
    }

    /// Where the listeners listen, in their order: port 0 of the configuration has become a real one.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|l| l.local_addr().ok()?.as_socket())
            .collect()
    }

    /// Runs on the calling thread until the handler wants to stop. Sockets still open are then closed without a word.
    pub fn run<H: Handler + ?Sized>(mut self, handler: &mut H) -> Result<(), RingError> {
        if let Some(core) = self.core.config.core {
            sys::pin(core)?;
        }
        self.core
            .uring
            .submitter()
            .register_enable_rings()
            .map_err(|e| RingError::system("enabling the ring", &e))?;
        self.arm_wake();
        for listener in 0..self.listeners.len() {
            self.arm_accept(u32::try_from(listener).unwrap_or(u32::MAX));
        }
        let result = self.turns(handler);
        if !self.drain() {
            // The kernel may still write to our buffers: better lost than freed.
            std::mem::forget(self);
        }
        result
    }

    fn turns<H: Handler + ?Sized>(&mut self, handler: &mut H) -> Result<(), RingError> {
        let tick_us = u64::from(self.core.config.tick_ms) * 1_000;
        let mut next_tick: Option<u64> = None;
        let mut again = false;
        let mut busy_poll = BusyPoll::new(self.core.config.spin_us);
        while !handler.wants_stop() {
            self.core.flush();
            handler.submitting();
            let wait = if again || self.core.is_unsettled() {
                None
            } else {
                Some(self.sleep(next_tick))
            };
            match busy_poll.look_us().filter(|_| wait.is_some()) {
                None => self.core.enter(wait)?,
                Some(look_us) => {
                    self.core.enter(None)?;
                    if !self.core.has_completions() {
                        let found = self.core.look(look_us);
                        self.core.enter(if found { None } else { wait })?;
                    }
                }
            }
            self.core.read_clock();
            busy_poll.turn(crate::Io::now_us(&self.core));
            self.collect();
            self.serve(handler)?;
            self.pass_deadlines(handler);
            let now = crate::Io::now_us(&self.core);
            next_tick = match (handler.wants_ticks(), next_tick) {
                (false, _) => None,
                (true, Some(due)) if due > now => Some(due),
                (true, due) => {
                    if due.is_some() {
                        handler.tick(&mut self.core);
                    }
                    Some(now + tick_us)
                }
            };
            self.settle(handler);
            again = handler.turn_ended(&mut self.core);
            // Ticks may have become wanted in this very turn.
            if next_tick.is_none() && handler.wants_ticks() {
                next_tick = Some(now + tick_us);
            }
        }
        Ok(())
    }

    /// The small ones, then, with what these asked for on its way, the bulk.
    fn serve<H: Handler + ?Sized>(&mut self, handler: &mut H) -> Result<(), RingError> {
        for at in 0..self.batch.len() {
            let completion = self.batch[at];
            if self.is_bulk(completion) {
                self.bulk.push(completion);
            } else {
                self.dispatch(handler, completion);
            }
        }
        if self.bulk.is_empty() {
            return Ok(());
        }
        self.core.flush_small();
        if self.core.has_submissions() {
            handler.submitting();
            self.core.submit()?;
        }
        for at in 0..self.bulk.len() {
            self.dispatch(handler, self.bulk[at]);
        }
        self.bulk.clear();
        Ok(())
    }

    /// Whether it belongs to a recv of a large buffer: its data, its end or its cancel, which keep their order.
    fn is_bulk(&self, completion: Completion) -> bool {
        let Operation {
            kind,
            slot,
            generation,
        } = completion.operation;
        matches!(kind, Kind::Recv | Kind::CancelRecv)
            && self
                .core
                .slots
                .get(SocketId { slot, generation })
                .is_some_and(|s| s.recv.large)
    }

    fn sleep(&self, next_tick: Option<u64>) -> Option<Duration> {
        let until = match (next_tick, self.core.sleep_until_us()) {
            (Some(a), Some(b)) => a.min(b),
            (Some(a), None) | (None, Some(a)) => a,
            (None, None) => return None,
        };
        let us = until.saturating_sub(crate::Io::now_us(&self.core));
        Some(Duration::from_micros(us.max(1_000)))
    }

    fn collect(&mut self) {
        self.batch.clear();
        for entry in self.core.uring.completion() {
            if let Some(operation) = Operation::decode(entry.user_data()) {
                self.batch.push(Completion {
                    operation,
                    result: entry.result(),
                    flags: entry.flags(),
                });
            }
        }
    }

    /// Advances sockets and tells what came of it, until nothing is left to tell.
    fn settle<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        loop {
            self.core.flush();
            while let Some(mut buffer) = self.core.spent.pop() {
                buffer.clear();
                handler.recycle(buffer);
            }
            match self.core.events.pop_front() {
                Some(Event::Closed(id)) => handler.closed(&mut self.core, id),
                Some(Event::ConnectFailed(id, errno)) => handler.connected(&mut self.core, id, Err(errno)),
                Some(Event::Sent(id)) => {
                    if self.core.slots.get(id).is_some_and(|s| s.state == State::Open) {
                        handler.sent(&mut self.core, id);
                    }
                }
                None if self.core.is_unsettled() => {}
                None => return,
            }
        }
    }

    fn pass_deadlines<H: Handler + ?Sized>(&mut self, handler: &mut H) {
        while let Some(due) = self.core.next_due() {
            match due {
                Due::Accept(listener) => self.arm_accept(listener),
                Due::ConnectTimeout(id) => {
                    if let Some(slot) = self.core.slots.get_mut(id)
                        && slot.state == State::Connecting
                    {
                        slot.timed_out = true;
                        slot.in_flight += 1;
                        let connect = Operation::of(Kind::Connect, id).encode();
                        let cancel = opcode::AsyncCancel::new(connect).build();
                        self.core.push(cancel, Operation::of(Kind::CancelConnect, id));
                    }
                }
                Due::Linger(id) => {
                    if self.core.slots.get(id).is_some_and(|s| s.state == State::Closing) {
                        self.core.end(id.slot, true);
                    }
                }
                Due::Retry(id) => {
                    if let Some(slot) = self.core.slots.get_mut(id) {
                        slot.cancel_all = false;
                        self.core.touch(id.slot);
                    }
                }
                Due::Look(id) => self.look(handler, id),
            }
        }
    }

    /// A paused socket has no operation in flight that would tell of a RST or of dead silence.
    fn look<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId) {
        let Some(slot) = self.core.slots.get_mut(id) else {
            return;
        };
        slot.look_planned = false;
        self.core.touch(id.slot);
        let Some(slot) = self
            .core
            .slots
            .get_mut(id)
            .filter(|s| s.state == State::Open && s.paused && !s.recv.armed)
        else {
            return;
        };
        let error = slot.socket.as_ref().and_then(|s| s.take_error().ok().flatten());
        if let Some(error) = error {
            self.broken(handler, id, errno_of(&error));
        }
    }

    pub(crate) fn arm_wake(&mut self) {
        let word: *mut u64 = &mut *self.wake_word;
        let entry = opcode::Read::new(types::Fd(self.wake.0), word.cast(), 8).build();
        self.core.push(entry, Operation::alone(Kind::Wake, 0));
    }

    fn arm_accept(&mut self, listener: u32) {
        let Some(socket) = self.listeners.get(listener as usize) else {
            return;
        };
        let entry = opcode::AcceptMulti::new(types::Fd(socket.as_raw_fd()))
            .flags(libc::SOCK_CLOEXEC)
            .build();
        self.core.push(entry, Operation::alone(Kind::Accept, listener));
    }

    /// Cancels everything and waits for the last completions; `false` if some did not come in time.
    fn drain(&mut self) -> bool {
        for turn in 0..DRAIN_TURNS_MAX {
            if self.core.in_flight == 0 {
                break;
            }
            if turn % 10 == 0 {
                let cancel = opcode::AsyncCancel2::new(types::CancelBuilder::any()).build();
                self.core.push(cancel, Operation::alone(Kind::CancelAny, 0));
            }
            if self.core.enter(Some(Some(Duration::from_millis(100)))).is_err() {
                break;
            }
            self.collect();
            for completion in &self.batch {
                self.core.in_flight -= usize::from(!cqueue::more(completion.flags));
                if completion.operation.kind == Kind::Accept && completion.result >= 0 {
                    drop(sys::socket_from_completion(completion.result));
                }
            }
        }
        self.core.in_flight == 0
    }
}
