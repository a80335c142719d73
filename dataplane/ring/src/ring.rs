//! The io_uring driver of the seam: one thread, one ring, one `io_uring_enter` per turn.
//!
//! A turn: advance the dirty sockets, enter (submit, run deferred work, wait), tell the handler each completion, pass
//! deadlines and the tick, end the turn. The ring is made disabled and enabled by the thread that runs it, as SINGLE_ISSUER
//! wants. Nothing is freed before its last completion; at the end all is cancelled and waited for, because the kernel
//! closes a dead ring late and would keep the ports busy.

use crate::core::{Core, Due, Event, Groups};
use crate::error::errno_of;
use crate::operation::{Kind, Operation};
use crate::pool::Pool;
use crate::seam::{End, Handler, SocketId, WakeFd};
use crate::slots::State;
use crate::{RingConfig, RingError, sys};
use io_uring::{IoUring, cqueue, opcode, types};
use socket2::Socket;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::time::Duration;

const SMALL_GROUP: u16 = 0;
const LARGE_GROUP: u16 = 1;
const LARGE_FIRST_ID: u16 = 0x4000;
/// Full small buffers in a row that show bulk, and poorly filled large ones that show its end.
const STREAK: u8 = 4;
/// Accepting after EMFILE and its like waits this long.
const ACCEPT_PAUSE_US: u64 = 100_000;
/// At the end: how long the last completions may take.
const DRAIN_TURNS_MAX: u32 = 50;

struct Completion {
    operation: Operation,
    result: i32,
    flags: u32,
}

pub struct Ring {
    // First: it closes the ring before the memory that it points at goes.
    core: Core,
    small: Pool,
    large: Pool,
    listeners: Vec<Socket>,
    wake: WakeFd,
    /// Where the read of the eventfd lands; boxed, so that it stays where it is while the ring moves.
    wake_word: Box<u64>,
    batch: Vec<Completion>,
}

pub(crate) fn build_uring(entries: u32) -> Result<IoUring, RingError> {
    IoUring::builder()
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
    pub fn new(config: RingConfig) -> Result<Self, RingError> {
        config.check()?;
        let uring = build_uring(config.entries)?;
        if !uring.params().is_feature_ext_arg() || !uring.params().is_feature_nodrop() {
            return Err(RingError::FeatureMissing { feature: "IORING_FEAT_EXT_ARG and IORING_FEAT_NODROP" });
        }
        let pool = |group, first, count, bytes| {
            Pool::new(group, first, count, bytes).map_err(|e| RingError::system("mapping receive buffers", &e))
        };
        let small = pool(SMALL_GROUP, 0, config.buffers_count, config.buffer_bytes)?;
        let large = pool(LARGE_GROUP, LARGE_FIRST_ID, config.large_buffers_count, config.large_buffer_bytes)?;
        small.register(&uring.submitter())?;
        large.register(&uring.submitter())?;
        let listeners = config.listeners.iter().map(|l| sys::listen(l, &config)).collect::<Result<Vec<_>, _>>()?;
        let wake = sys::eventfd().map_err(|e| RingError::system("eventfd", &e))?;
        let core = Core::new(uring, Groups { small: SMALL_GROUP, large: LARGE_GROUP }, config);
        Ok(Ring { core, small, large, listeners, wake, wake_word: Box::new(0), batch: Vec::new() })
    }

    /// Good before, during and after [`Ring::run`].
    pub fn wake_fd(&self) -> WakeFd {
        self.wake
    }

    /// Where the listeners listen, in their order: port 0 of the configuration has become a real one.
    pub fn local_addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().filter_map(|l| l.local_addr().ok()?.as_socket()).collect()
    }

    /// Runs on the calling thread until the handler wants to stop. Sockets still open are then closed without a word.
    pub fn run<H: Handler + ?Sized>(mut self, handler: &mut H) -> Result<(), RingError> {
        if let Some(core) = self.core.config.core {
            sys::pin(core)?;
        }
        self.core.uring.submitter().register_enable_rings().map_err(|e| RingError::system("enabling the ring", &e))?;
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
        while !handler.wants_stop() {
            self.core.flush();
            let wait = if again || self.core.is_unsettled() { None } else { Some(self.sleep(next_tick)) };
            self.core.enter(wait)?;
            self.core.read_clock();
            self.collect();
            for at in 0..self.batch.len() {
                self.dispatch(handler, at);
            }
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
                self.batch.push(Completion { operation, result: entry.result(), flags: entry.flags() });
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

    fn dispatch<H: Handler + ?Sized>(&mut self, handler: &mut H, at: usize) {
        let Completion { operation, result, flags } = self.batch[at];
        let last = !cqueue::more(flags);
        if last {
            self.core.in_flight -= 1;
        }
        match operation.kind {
            Kind::Accept => return self.on_accept(handler, operation.slot, result, last),
            Kind::Wake => {
                self.arm_wake();
                return handler.woken(&mut self.core);
            }
            Kind::CancelAny => return,
            _ => {}
        }
        let id = SocketId { slot: operation.slot, generation: operation.generation };
        if last && let Some(slot) = self.core.slots.get_mut(id) {
            slot.in_flight -= 1;
            self.core.touch(id.slot);
        }
        match operation.kind {
            Kind::Recv => self.on_recv(handler, id, result, flags, last),
            Kind::Send => self.on_send(handler, id, result),
            Kind::Connect => self.on_connect(handler, id, result),
            Kind::CancelRecv => {
                if let Some(slot) = self.core.slots.get_mut(id) {
                    slot.recv.cancelling = false;
                }
            }
            _ => {}
        }
    }

    fn on_accept<H: Handler + ?Sized>(&mut self, handler: &mut H, listener: u32, result: i32, last: bool) {
        if last {
            // Out of descriptors or memory: the listener stays readable, so arming at once would spin.
            let transient = result >= 0 || matches!(-result, libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO);
            self.core.plan(if transient { 0 } else { ACCEPT_PAUSE_US }, Due::Accept(listener));
        }
        if result < 0 {
            return;
        }
        let socket = sys::socket_from_completion(result);
        if self.core.slots.accepted >= self.core.config.sockets_max {
            return;
        }
        // No address: the peer is gone again.
        let Some(peer) = socket.peer_addr().ok().and_then(|a| a.as_socket()) else { return };
        if let Some(id) = self.core.slots.insert(socket, State::Open, true) {
            self.core.touch(id.slot);
            handler.accepted(&mut self.core, listener, id, peer);
        }
    }

    fn on_connect<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, result: i32) {
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        slot.address = None;
        if slot.state != State::Connecting {
            return;
        }
        if result == 0 {
            slot.state = State::Open;
            handler.connected(&mut self.core, id, Ok(()));
        } else {
            let errno = if slot.timed_out { libc::ETIMEDOUT } else { -result };
            self.core.end(id.slot, false);
            handler.connected(&mut self.core, id, Err(errno));
        }
    }

    fn on_send<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, result: i32) {
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        slot.send_in_flight = false;
        slot.send_buffers = 0;
        let gather = slot.gather.take();
        self.core.gather_back(gather);
        if let Ok(bytes) = usize::try_from(result) {
            self.core.took(id.slot, bytes);
            let Some(slot) = self.core.slots.get_mut(id) else { return };
            if slot.broken.is_some() {
                self.core.drop_queue(id.slot);
            } else if slot.tell_sent && slot.queue.is_empty() && slot.state == State::Open {
                slot.tell_sent = false;
                handler.sent(&mut self.core, id);
            }
        } else if !matches!(-result, libc::ECANCELED | libc::EINTR | libc::EAGAIN) {
            let Some(slot) = self.core.slots.get_mut(id) else { return };
            // The peer is gone; what it said before is still to be received, and then the recv says so too.
            let recv_will_say = matches!(-result, libc::EPIPE | libc::ECONNRESET) && slot.recv.armed && !slot.paused;
            slot.send_failed = Some(-result);
            self.core.drop_queue(id.slot);
            if !recv_will_say {
                self.broken(handler, id, -result);
            }
        }
    }

    fn on_recv<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, result: i32, flags: u32, last: bool) {
        let buffer = cqueue::buffer_select(flags);
        let small_bytes = self.small.buffer_bytes();
        let mut end = None;
        let mut deliver = false;
        if let Some(slot) = self.core.slots.get_mut(id) {
            if last {
                slot.recv.armed = false;
            }
            let usable = slot.broken.is_none() && !slot.finished;
            match usize::try_from(result) {
                Ok(0) => end = Some(slot.send_failed.map_or(End::Finished, End::Broken)).filter(|_| usable),
                Ok(bytes) => {
                    deliver = usable && slot.state == State::Open;
                    if slot.state == State::Closing {
                        slot.discarded += bytes;
                        self.core.touch(id.slot);
                    }
                    self.weigh(id, bytes, small_bytes, buffer);
                }
                Err(_) => match -result {
                    // No buffer left in this turn, or ours to cancel: armed again when it is due.
                    libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN => {}
                    errno => end = Some(End::Broken(slot.send_failed.unwrap_or(errno))).filter(|_| usable),
                },
            }
        }
        if let Some(buffer) = buffer {
            let len = usize::try_from(result).unwrap_or(0);
            let pool = if self.small.owns(buffer) { &mut self.small } else { &mut self.large };
            if deliver {
                handler.received(&mut self.core, id, pool.bytes(buffer, len));
            }
            pool.give(buffer);
        }
        match end {
            Some(End::Broken(errno)) => self.broken(handler, id, errno),
            Some(End::Finished) => {
                let Some(slot) = self.core.slots.get_mut(id) else { return };
                slot.finished = true;
                if slot.state == State::Open {
                    handler.ended(&mut self.core, id, End::Finished);
                }
            }
            None => {}
        }
    }

    /// Full small buffers in a row show bulk; poorly filled large ones show its end.
    fn weigh(&mut self, id: SocketId, bytes: usize, small_bytes: usize, buffer: Option<u16>) {
        let is_large = buffer.is_some_and(|b| self.large.owns(b));
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        let is_sign = if is_large { bytes <= small_bytes } else { bytes == small_bytes };
        slot.recv.streak = if is_sign { slot.recv.streak.saturating_add(1) } else { 0 };
        if slot.recv.streak >= STREAK && slot.recv.wants_large == is_large {
            slot.recv.wants_large = !is_large;
            slot.recv.streak = 0;
            self.core.touch(id.slot);
        }
    }

    fn broken<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, errno: i32) {
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        if slot.broken.replace(errno).is_some() {
            return;
        }
        let tell = slot.state == State::Open;
        if !slot.send_in_flight {
            self.core.drop_queue(id.slot);
        }
        self.core.touch(id.slot);
        if tell {
            handler.ended(&mut self.core, id, End::Broken(errno));
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
        let Some(slot) = self.core.slots.get_mut(id) else { return };
        slot.look_planned = false;
        self.core.touch(id.slot);
        let Some(slot) = self.core.slots.get_mut(id).filter(|s| s.state == State::Open && s.paused && !s.recv.armed) else { return };
        let error = slot.socket.as_ref().and_then(|s| s.take_error().ok().flatten());
        if let Some(error) = error {
            self.broken(handler, id, errno_of(&error));
        }
    }

    fn arm_wake(&mut self) {
        let word: *mut u64 = &mut *self.wake_word;
        let entry = opcode::Read::new(types::Fd(self.wake.0), word.cast(), 8).build();
        self.core.push(entry, Operation::alone(Kind::Wake, 0));
    }

    fn arm_accept(&mut self, listener: u32) {
        let Some(socket) = self.listeners.get(listener as usize) else { return };
        let entry = opcode::AcceptMulti::new(types::Fd(socket.as_raw_fd())).flags(libc::SOCK_CLOEXEC).build();
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
