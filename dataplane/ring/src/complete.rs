//! What a completion means: the slot it belongs to changes, and the handler is told.
//!
//! Invariant: a completion without MORE is its operation's last, and is counted; a buffer that it names goes back after the call.

use crate::core::Due;
use crate::operation::Kind;
use crate::ring::{Completion, Ring};
use crate::seam::{End, Handler, SocketId};
use crate::slots::State;
use crate::sys;
use io_uring::cqueue;

/// Full small buffers in a row that show bulk, and poorly filled large ones that show its end.
const STREAK: u8 = 4;
/// Accepting after EMFILE and its like waits this long.
const ACCEPT_PAUSE_US: u64 = 100_000;

impl Ring {
    pub(crate) fn dispatch<H: Handler + ?Sized>(&mut self, handler: &mut H, completion: Completion) {
        let Completion {
            operation,
            result,
            flags,
        } = completion;
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
        let id = SocketId {
            slot: operation.slot,
            generation: operation.generation,
        };
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
            let transient = result >= 0
                || matches!(
                    -result,
                    libc::ECONNABORTED | libc::EINTR | libc::EAGAIN | libc::EPROTO
                );
            self.core
                .plan(if transient { 0 } else { ACCEPT_PAUSE_US }, Due::Accept(listener));
        }
        if result < 0 {
            return;
        }
        let socket = sys::socket_from_completion(result);
        if self.core.slots.accepted >= self.core.config.sockets_max {
            return;
        }
        // No address: the peer is gone again.
        let Some(peer) = socket.peer_addr().ok().and_then(|a| a.as_socket()) else {
            return;
        };
        if let Some(id) = self.core.slots.insert(socket, State::Open, true) {
            self.core.touch(id.slot);
            handler.accepted(&mut self.core, listener, id, peer);
        }
    }

    fn on_connect<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, result: i32) {
        let Some(slot) = self.core.slots.get_mut(id) else {
            return;
        };
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
        let Some(slot) = self.core.slots.get_mut(id) else {
            return;
        };
        slot.send_in_flight = false;
        slot.send_buffers = 0;
        let gather = slot.gather.take();
        self.core.gather_back(gather);
        if let Ok(bytes) = usize::try_from(result) {
            self.core.took(id.slot, bytes);
            let Some(slot) = self.core.slots.get_mut(id) else {
                return;
            };
            if slot.broken.is_some() {
                self.core.drop_queue(id.slot);
            } else if slot.tell_sent && slot.queue.is_empty() && slot.state == State::Open {
                slot.tell_sent = false;
                handler.sent(&mut self.core, id);
            }
        } else if !matches!(-result, libc::ECANCELED | libc::EINTR | libc::EAGAIN) {
            let Some(slot) = self.core.slots.get_mut(id) else {
                return;
            };
            // The peer is gone; what it said before is still to be received, and then the recv says so too.
            let recv_will_say =
                matches!(-result, libc::EPIPE | libc::ECONNRESET) && slot.recv.armed && !slot.paused;
            slot.send_failed = Some(-result);
            self.core.drop_queue(id.slot);
            if !recv_will_say {
                self.broken(handler, id, -result);
            }
        }
    }

    fn on_recv<H: Handler + ?Sized>(
        &mut self,
        handler: &mut H,
        id: SocketId,
        result: i32,
        flags: u32,
        last: bool,
    ) {
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
            let pool = if self.small.owns(buffer) {
                &mut self.small
            } else {
                &mut self.large
            };
            if deliver {
                handler.received(&mut self.core, id, pool.bytes(buffer, len));
            }
            pool.give(buffer);
        }
        match end {
            Some(End::Broken(errno)) => self.broken(handler, id, errno),
            Some(End::Finished) => {
                let Some(slot) = self.core.slots.get_mut(id) else {
                    return;
                };
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
        let Some(slot) = self.core.slots.get_mut(id) else {
            return;
        };
        let is_sign = if is_large {
            bytes <= small_bytes
        } else {
            bytes == small_bytes
        };
        slot.recv.streak = if is_sign {
            slot.recv.streak.saturating_add(1)
        } else {
            0
        };
        if slot.recv.streak >= STREAK && slot.recv.wants_large == is_large {
            slot.recv.wants_large = !is_large;
            slot.recv.streak = 0;
            self.core.touch(id.slot);
        }
    }

    pub(crate) fn broken<H: Handler + ?Sized>(&mut self, handler: &mut H, id: SocketId, errno: i32) {
        let Some(slot) = self.core.slots.get_mut(id) else {
            return;
        };
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
}
