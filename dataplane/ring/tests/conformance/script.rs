//! The handler of all rules: it logs, echoes if told to, runs commands when woken, and itself watches over what must always
//! hold: nothing but one `closed` after `close` or `abort`, the slack of a pause, empty buffers from `recycle`.

use headgate_ring::{End, Handler, Io, ListenerId, PAUSE_SLACK_BYTES, SocketId};
use std::collections::{HashMap, HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

pub type Command = Box<dyn FnOnce(&mut dyn Io, &mut State) + Send>;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Seen {
    Connected(SocketId, Result<(), i32>),
    Ended(SocketId, End),
    Sent(SocketId),
    Closed(SocketId),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    #[default]
    Echo,
    Collect,
    /// Says `LAST_WORDS` to the first bytes and closes.
    Dismiss,
}

pub const LAST_WORDS: &[u8] = b"FATAL: go away";
pub const HIGH: usize = 256 << 10;

#[derive(Default)]
pub struct State {
    pub mode: Mode,
    pub commands: VecDeque<Command>,
    pub accepted: Vec<SocketId>,
    pub received: HashMap<SocketId, Vec<u8>>,
    pub seen: Vec<Seen>,
    pub queued_most: usize,
    pub woken: u32,
    pub ticks: u32,
    pub wants_ticks: bool,
    pub stop: bool,
    pub buffers_sent: usize,
    pub buffers_back: usize,
    close_us: HashMap<SocketId, u64>,
    pub closed_after_us: HashMap<SocketId, u64>,
    /// Echo holds these until their queue is out.
    holding: HashSet<SocketId>,
    paused: HashMap<SocketId, usize>,
    gone: HashSet<SocketId>,
    pub wrongs: Vec<String>,
}

impl State {
    pub fn send(&mut self, io: &mut dyn Io, id: SocketId, bytes: &[u8]) {
        self.buffers_sent += 1;
        io.send(id, bytes.to_vec());
        self.queued_most = self.queued_most.max(io.queued(id));
    }

    pub fn pause(&mut self, io: &mut dyn Io, id: SocketId) {
        self.paused.entry(id).or_insert(0);
        io.pause(id);
    }

    pub fn resume(&mut self, io: &mut dyn Io, id: SocketId) {
        self.paused.remove(&id);
        io.resume(id);
    }

    pub fn close(&mut self, io: &mut dyn Io, id: SocketId) {
        self.close_us.insert(id, io.now_us());
        self.gone.insert(id);
        io.close(id);
    }

    pub fn abort(&mut self, io: &mut dyn Io, id: SocketId) {
        self.gone.insert(id);
        io.abort(id);
    }

    fn may_still(&mut self, what: &str, id: SocketId) {
        if self.gone.contains(&id) {
            self.wrongs.push(format!("{what} of {id:?} after its close"));
        }
    }

    pub fn times(&self, seen: Seen) -> usize {
        self.seen.iter().filter(|s| **s == seen).count()
    }
}

#[derive(Clone, Default)]
pub struct Script(pub Arc<Mutex<State>>);

impl Script {
    pub fn with<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(|e| e.into_inner()))
    }
}

impl Handler for Script {
    fn accepted(&mut self, _io: &mut dyn Io, _listener: ListenerId, socket: SocketId, peer: SocketAddr) {
        self.with(|s| {
            if peer.port() == 0 {
                s.wrongs.push("an accepted peer has no port".into());
            }
            s.accepted.push(socket);
        });
    }

    fn connected(&mut self, _io: &mut dyn Io, socket: SocketId, result: Result<(), i32>) {
        self.with(|s| {
            s.may_still("connected", socket);
            s.seen.push(Seen::Connected(socket, result));
        });
    }

    fn received(&mut self, io: &mut dyn Io, socket: SocketId, bytes: &[u8]) {
        self.with(|s| {
            s.may_still("received", socket);
            if bytes.is_empty() {
                s.wrongs.push("received nothing".into());
            }
            if let Some(slack) = s.paused.get_mut(&socket) {
                *slack += bytes.len();
                if *slack > PAUSE_SLACK_BYTES {
                    s.wrongs.push(format!("{slack} bytes after a pause"));
                }
            }
            match s.mode {
                Mode::Collect => s.received.entry(socket).or_default().extend_from_slice(bytes),
                Mode::Dismiss => {
                    s.send(io, socket, LAST_WORDS);
                    s.close(io, socket);
                }
                Mode::Echo => {
                    s.send(io, socket, bytes);
                    if io.queued(socket) >= HIGH && s.holding.insert(socket) {
                        io.tell_sent(socket);
                        s.pause(io, socket);
                    }
                }
            }
        });
    }

    fn ended(&mut self, _io: &mut dyn Io, socket: SocketId, end: End) {
        self.with(|s| {
            s.may_still("ended", socket);
            s.seen.push(Seen::Ended(socket, end));
        });
    }

    fn sent(&mut self, io: &mut dyn Io, socket: SocketId) {
        self.with(|s| {
            s.may_still("sent", socket);
            if io.queued(socket) != 0 {
                s.wrongs.push("sent, but bytes are queued".into());
            }
            if s.holding.remove(&socket) {
                s.resume(io, socket);
            }
            s.seen.push(Seen::Sent(socket));
        });
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        self.with(|s| {
            s.buffers_back += 1;
            if !buffer.is_empty() {
                s.wrongs.push("a recycled buffer is not empty".into());
            }
        });
    }

    fn closed(&mut self, io: &mut dyn Io, socket: SocketId) {
        self.with(|s| {
            if !s.gone.contains(&socket) {
                s.wrongs.push(format!("{socket:?} closed by itself"));
            }
            if s.times(Seen::Closed(socket)) > 0 {
                s.wrongs.push(format!("{socket:?} closed twice"));
            }
            s.seen.push(Seen::Closed(socket));
            if let Some(at) = s.close_us.get(&socket) {
                let after = io.now_us() - at;
                s.closed_after_us.insert(socket, after);
            }
            // A void id: all of it does nothing.
            s.send(io, socket, b"late");
            io.pause(socket);
            io.resume(socket);
            io.close(socket);
            io.abort(socket);
        });
    }

    fn woken(&mut self, io: &mut dyn Io) {
        let commands = self.with(|s| {
            s.woken += 1;
            std::mem::take(&mut s.commands)
        });
        for command in commands {
            self.with(|s| command(io, s));
        }
    }

    fn tick(&mut self, _io: &mut dyn Io) {
        self.with(|s| s.ticks += 1);
    }

    fn wants_ticks(&self) -> bool {
        self.with(|s| s.wants_ticks)
    }

    fn turn_ended(&mut self, _io: &mut dyn Io) -> bool {
        false
    }

    fn wants_stop(&self) -> bool {
        self.with(|s| s.stop)
    }
}
