//! An empty TCP relay on the ring: the floor that a gateway's cost is measured against.
//!
//! `relay LISTEN TARGET [CORE]`: each accepted client gets a connection to TARGET; bytes go both ways until one
//! side ends. Back-pressure: a side whose peer has `HIGH` bytes queued is paused until these are with the kernel.

use headgate_ring::{End, Handler, Io, ListenSettings, ListenerId, Ring, RingSettings, SocketId};
use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::ExitCode;

const HIGH: usize = 256 << 10;
const CONNECT_MS_MAX: u32 = 5_000;
const SPARE_MAX: usize = 1024;

struct Side {
    peer: SocketId,
    /// Its peer is paused until its queue is out.
    holds: bool,
}

struct Relay {
    target: SocketAddr,
    sides: HashMap<SocketId, Side>,
    spare: Vec<Vec<u8>>,
}

impl Relay {
    fn drop_pair(&mut self, io: &mut dyn Io, socket: SocketId, reset: bool) {
        let Some(side) = self.sides.remove(&socket) else {
            return;
        };
        self.sides.remove(&side.peer);
        for socket in [socket, side.peer] {
            if reset { io.abort(socket) } else { io.close(socket) }
        }
    }
}

impl Handler for Relay {
    fn accepted(&mut self, io: &mut dyn Io, _listener: ListenerId, client: SocketId, _peer: SocketAddr) {
        io.pause(client);
        let target = io.connect(self.target, CONNECT_MS_MAX);
        self.sides.insert(
            client,
            Side {
                peer: target,
                holds: false,
            },
        );
        self.sides.insert(
            target,
            Side {
                peer: client,
                holds: false,
            },
        );
    }

    fn connected(&mut self, io: &mut dyn Io, target: SocketId, result: Result<(), i32>) {
        match (self.sides.get(&target), result) {
            (Some(side), Ok(())) => io.resume(side.peer),
            (Some(_), Err(_)) => self.drop_pair(io, target, true),
            (None, _) => io.abort(target),
        }
    }

    fn received(&mut self, io: &mut dyn Io, socket: SocketId, bytes: &[u8]) {
        let Some(peer) = self.sides.get(&socket).map(|side| side.peer) else {
            return;
        };
        let mut buffer = self.spare.pop().unwrap_or_default();
        buffer.extend_from_slice(bytes);
        io.send(peer, buffer);
        if io.queued(peer) >= HIGH
            && let Some(side) = self.sides.get_mut(&peer)
            && !side.holds
        {
            side.holds = true;
            io.tell_sent(peer);
            io.pause(socket);
        }
    }

    fn sent(&mut self, io: &mut dyn Io, socket: SocketId) {
        if let Some(side) = self.sides.get_mut(&socket)
            && std::mem::take(&mut side.holds)
        {
            io.resume(side.peer);
        }
    }

    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, end: End) {
        // The seam has no half-close: what is queued for the peer goes first, then both end.
        self.drop_pair(io, socket, end != End::Finished);
    }

    fn recycle(&mut self, buffer: Vec<u8>) {
        if self.spare.len() < SPARE_MAX {
            self.spare.push(buffer);
        }
    }

    fn closed(&mut self, _io: &mut dyn Io, _socket: SocketId) {}
    fn woken(&mut self, _io: &mut dyn Io) {}
    fn tick(&mut self, _io: &mut dyn Io) {}
    fn wants_ticks(&self) -> bool {
        false
    }
    fn turn_ended(&mut self, _io: &mut dyn Io) -> bool {
        false
    }
    fn wants_stop(&self) -> bool {
        false
    }
}

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let (listen, target) = (
        arguments.next().map(|a| a.parse()),
        arguments.next().map(|a| a.parse()),
    );
    let (Some(Ok(address)), Some(Ok(target))) = (listen, target) else {
        eprintln!("usage: relay LISTEN TARGET [CORE], such as: relay 127.0.0.1:6432 127.0.0.1:5432");
        return ExitCode::from(2);
    };
    let core = arguments.next().and_then(|a| a.parse().ok());
    let listeners = vec![ListenSettings {
        address,
        backlog: 1024,
    }];
    let relay = || Relay {
        target,
        sides: HashMap::new(),
        spare: Vec::new(),
    };
    match Ring::new(RingSettings {
        listeners,
        core,
        ..RingSettings::default()
    })
    .and_then(|ring| ring.run(&mut relay()))
    {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(1))
        }
    }
}
