//! Sessions begin, sign in, end, and begin again.
//!
//! Bound: at most [`OPENING_MAX`] sign in at once, except for a crew whose work is signing in.

use super::Drive;
use super::crew::CrewState;
use crate::client::Client;
use crate::error::LoadFailed;
use crate::peer::{Peer, Role};
use crate::wire;
use mio::Events;
use mio::net::TcpStream;
use socket2::{Domain, Protocol, Socket, Type};
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

const OPENING_MAX: usize = 32;
/// Opening goes on as long as somebody becomes ready from time to time.
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
/// Until a session that was lost is opened again; a login that failed, sooner.
const AGAIN_AFTER: Duration = Duration::from_millis(500);
const LOGIN_AGAIN_AFTER: Duration = Duration::from_millis(20);
/// Of a slow reader: its own kernel shall not take the whole result in.
const SLOW_RECEIVE_BYTES: usize = 64 << 10;

/// A connection that is on its way.
fn connect(address: SocketAddr, slow: bool) -> std::io::Result<TcpStream> {
    if !slow {
        return TcpStream::connect(address);
    }
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    socket.set_nonblocking(true)?;
    socket.set_recv_buffer_size(SLOW_RECEIVE_BYTES)?;
    match socket.connect(&address.into()) {
        Ok(()) => {}
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::INPROGRESS.raw_os_error()) => {}
        Err(error) => return Err(error),
    }
    Ok(TcpStream::from_std(socket.into()))
}

impl Drive {
    /// Begins a session of this crew.
    fn begin(&mut self, crew: usize) -> Result<(), LoadFailed> {
        let (Some(endpoint), Some(state)) = (&self.endpoint, self.crews.get_mut(crew)) else {
            return Ok(());
        };
        let (client, first) = Client::start(state.begun, &state.script);
        state.begun += 1;
        let stream = connect(endpoint.address, state.script.read_bytes_per_s.is_some())
            .map_err(LoadFailed::io("connect"))?;
        let peer = match &self.tls {
            Some(tls) => Peer::in_tls(stream, Role::Client(client), first, tls)?,
            None => Peer::new(stream, Role::Client(client), first),
        };
        self.add(peer)?;
        Ok(())
    }

    /// Opens all sessions but those of crews that sign in again and again.
    pub(super) fn open_sessions(&mut self, events: &mut Events) -> Result<(), LoadFailed> {
        let wanted: Vec<usize> = self
            .crews
            .iter()
            .enumerate()
            .filter(|(_, c)| c.script.logins.is_none())
            .flat_map(|(at, c)| vec![at; c.wanted])
            .collect();
        let (mut begun, mut ready) = (0, 0);
        let mut until = Instant::now() + READY_WAIT_MAX;
        while self.ready + self.refused < wanted.len() {
            while self.opening < OPENING_MAX
                && let Some(crew) = wanted.get(begun)
            {
                self.begin(*crew)?;
                begun += 1;
                self.opening += 1;
            }
            self.turn(events, Some(Duration::from_millis(100)))?;
            if self.interrupted.load(Ordering::Relaxed) {
                return Err(LoadFailed::Interrupted {
                    ready: self.ready,
                    sessions: wanted.len(),
                });
            }
            if self.ready > ready {
                ready = self.ready;
                until = Instant::now() + READY_WAIT_MAX;
            }
            if Instant::now() > until {
                return Err(LoadFailed::TooSlow {
                    ready: self.ready,
                    sessions: wanted.len(),
                });
            }
        }
        match self.first_refusal.take() {
            Some(failed) if self.ready == 0 => Err(failed),
            _ => Ok(()),
        }
    }

    /// Lets crews begin whose work is signing in.
    pub(super) fn begin_logins(&mut self) -> Result<(), LoadFailed> {
        for crew in 0..self.crews.len() {
            let count = self
                .crews
                .get(crew)
                .filter(|c| c.script.logins.is_some())
                .map_or(0, |c| c.wanted);
            for _ in 0..count {
                self.begin(crew)?;
            }
        }
        Ok(())
    }

    /// A session has signed in, or one of a login crew was answered.
    pub(super) fn settle(&mut self, at: usize, became_ready: bool) -> Result<(), LoadFailed> {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return Ok(());
        };
        let Role::Client(client) = &mut peer.role else {
            return Ok(());
        };
        let crew = client.crew;
        let Some(state) = self.crews.get_mut(crew) else {
            return Ok(());
        };
        if let Some(kind) = state.script.logins {
            if became_ready {
                self.ledger.answered(kind, client.started, 0);
                if state.script.has_work() {
                    client.ask(&state.script, &mut peer.out, &mut self.ledger);
                    peer.flush();
                    return self.reap(at);
                }
            } else if client.is_waiting() || !client.is_open() {
                peer.flush();
                return self.reap(at);
            }
            // Done: out of the door, and the next one in.
            wire::message(&mut peer.out, b'X', |_| {});
            peer.close();
            self.remove(at);
            return if self.asking { self.begin(crew) } else { Ok(()) };
        }
        self.ready += 1;
        self.opening = self.opening.saturating_sub(1);
        state.sessions.push(at);
        peer.throttled = state.script.read_bytes_per_s.is_some();
        if self.asking { self.ask(at) } else { Ok(()) }
    }

    /// A session was refused or cut: it is counted, and comes again after a while.
    pub(super) fn lost(&mut self, at: usize, failed: LoadFailed) {
        let Some(Some(peer)) = self.peers.get(at) else {
            return;
        };
        let Role::Client(client) = &peer.role else { return };
        let crew = client.crew;
        let was_ready = self.crews.get(crew).is_some_and(|c| c.sessions.contains(&at));
        let (waiting, number) = (client.due.len(), client.number as u64);
        self.remove(at);
        let Some(state) = self.crews.get_mut(crew) else {
            return;
        };
        if state.script.victims && was_ready {
            self.ledger.cuts.push((number, Instant::now()));
            state.sessions.retain(|place| *place != at);
            self.ready = self.ready.saturating_sub(1);
            state.again.push(Instant::now());
            return;
        }
        self.ledger.sessions_lost += 1;
        self.ledger.failed(None, failed.without_session());
        let Some(state) = self.crews.get_mut(crew) else {
            return;
        };
        state.sessions.retain(|place| *place != at);
        if let Some(pacer) = &mut state.pacer {
            pacer.waiting = pacer.waiting.saturating_sub(waiting);
            pacer.not_sent += waiting as u64;
        }
        if state.script.logins.is_some() {
            state.again.push(Instant::now() + LOGIN_AGAIN_AFTER);
        } else if was_ready {
            self.ready = self.ready.saturating_sub(1);
            state.again.push(Instant::now() + AGAIN_AFTER);
        } else {
            self.opening = self.opening.saturating_sub(1);
            self.refused += 1;
            if self.asking {
                state.again.push(Instant::now() + AGAIN_AFTER);
            }
            self.first_refusal.get_or_insert(failed);
        }
    }

    /// Opens sessions again whose time has come.
    pub(super) fn begin_again(&mut self, now: Instant) -> Result<(), LoadFailed> {
        for crew in 0..self.crews.len() {
            let due = |state: &CrewState| state.again.iter().position(|at| *at <= now);
            while let Some(state) = self.crews.get_mut(crew)
                && let Some(place) = due(state)
            {
                state.again.swap_remove(place);
                self.begin(crew)?;
            }
        }
        Ok(())
    }
}
