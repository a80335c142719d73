//! The [`Io`] that handlers see. A call changes a slot and marks it dirty, or plans a deadline; nothing is told from here.

use crate::core::{Core, Due, Event};
use crate::error::errno_of;
use crate::operation::{Kind, Operation};
use crate::seam::{Io, SocketId};
use crate::slots::State;
use crate::sys;
use io_uring::{opcode, types};
use socket2::Socket;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;

impl Core {
    fn try_connect(&mut self, address: SocketAddr) -> Result<SocketId, i32> {
        let connecting = self.slots.count() - self.slots.accepted;
        if connecting >= self.config.sockets_max {
            return Err(libc::EMFILE);
        }
        let socket: Socket = sys::stream_to(address, &self.config).map_err(|e| errno_of(&e))?;
        let fd = types::Fd(socket.as_raw_fd());
        let id = self
            .slots
            .insert(socket, State::Connecting, false)
            .ok_or(libc::EMFILE)?;
        let s = self.slots.at(id.slot).ok_or(libc::EMFILE)?;
        let address = s.address.insert(Box::new(address.into()));
        s.in_flight += 1;
        let entry = opcode::Connect::new(fd, address.as_ptr().cast(), address.len()).build();
        self.push(entry, Operation::of(Kind::Connect, id));
        Ok(id)
    }
}

impl Io for Core {
    fn connect(&mut self, address: SocketAddr, timeout_ms: u32) -> SocketId {
        match self.try_connect(address) {
            Ok(id) => {
                self.plan(u64::from(timeout_ms) * 1_000, Due::ConnectTimeout(id));
                id
            }
            Err(errno) => {
                // An id of no slot: every use of it is a no-op.
                self.refused = self.refused.wrapping_add(1);
                let id = SocketId {
                    slot: u32::MAX,
                    generation: self.refused,
                };
                self.events.push_back(Event::ConnectFailed(id, errno));
                id
            }
        }
    }

    fn send(&mut self, socket: SocketId, buffer: Vec<u8>) {
        match self.slots.get_mut(socket) {
            Some(s)
                if matches!(s.state, State::Open | State::Connecting)
                    && s.broken.is_none()
                    && s.send_failed.is_none()
                    && !buffer.is_empty() =>
            {
                s.queue_bytes += buffer.len();
                s.queue.push_back(buffer);
                self.touch(socket.slot);
            }
            _ => self.spent.push(buffer),
        }
    }

    fn queued(&self, socket: SocketId) -> usize {
        self.slots.get(socket).map_or(0, |s| s.queue_bytes)
    }

    fn tell_sent(&mut self, socket: SocketId) {
        if let Some(s) = self.slots.get_mut(socket)
            && matches!(s.state, State::Open | State::Connecting)
        {
            if s.queue.is_empty() {
                self.events.push_back(Event::Sent(socket));
            } else {
                s.tell_sent = true;
            }
        }
    }

    fn pause(&mut self, socket: SocketId) {
        if let Some(s) = self.slots.get_mut(socket)
            && matches!(s.state, State::Open | State::Connecting)
            && !s.paused
        {
            s.paused = true;
            self.touch(socket.slot);
        }
    }

    fn resume(&mut self, socket: SocketId) {
        if let Some(s) = self.slots.get_mut(socket)
            && s.paused
        {
            s.paused = false;
            self.touch(socket.slot);
        }
    }

    fn close(&mut self, socket: SocketId) {
        let Some(s) = self.slots.get_mut(socket) else {
            return;
        };
        match s.state {
            State::Open => {
                s.state = State::Closing;
                s.report = true;
                s.paused = false;
                self.touch(socket.slot);
                self.plan(
                    u64::from(self.config.close_linger_ms) * 1_000,
                    Due::Linger(socket),
                );
            }
            State::Connecting => self.abort(socket),
            State::Free | State::Closing | State::Ending => {}
        }
    }

    fn abort(&mut self, socket: SocketId) {
        let Some(s) = self.slots.get_mut(socket) else {
            return;
        };
        match s.state {
            State::Open | State::Closing | State::Connecting => {
                s.report = true;
                self.end(socket.slot, true);
            }
            State::Free | State::Ending => {}
        }
    }

    fn now_us(&self) -> u64 {
        self.now_us
    }

    fn tick_ms(&self) -> u32 {
        self.config.tick_ms
    }
}
