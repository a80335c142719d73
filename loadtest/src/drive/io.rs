//! One turn of the loop: what the kernel says is ready is read, used, answered.

use super::{Delayed, Drive, LISTENER, READ_BYTES, TIMER};
use crate::client::OnError;
use crate::error::LoadFailed;
use crate::peer::{Peer, Role};
use crate::target::{Answers, Target};
use mio::Events;
use std::io::{ErrorKind, Read};
use std::time::{Duration, Instant};

/// A client that reads more than this at once is in the middle of a large result.
const GREEDY_BYTES: usize = 8 << 10;

impl Drive {
    pub(super) fn turn(&mut self, events: &mut Events, wait: Option<Duration>) -> Result<(), LoadFailed> {
        let wait = if self.greedy.is_empty() {
            wait
        } else {
            Some(Duration::ZERO)
        };
        match self.poll.poll(events, wait) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(LoadFailed::io("epoll")(error)),
        }
        let mut arrived = false;
        for event in events.iter() {
            let at = match event.token() {
                LISTENER => {
                    arrived = true;
                    continue;
                }
                TIMER => {
                    self.timer.took();
                    continue;
                }
                token => token.0,
            };
            let Some(Some(peer)) = self.peers.get(at) else {
                continue;
            };
            if peer.greedy {
                self.stand_in_line(at);
                continue;
            }
            let may_read = !peer.throttled;
            // What waits to be written goes first; most turns have nothing.
            if event.is_writable() && peer.has_output() {
                self.write(at)?;
            }
            if may_read
                && (event.is_readable() || event.is_read_closed() || event.is_error())
                && self.read_once(at, READ_BYTES)?
            {
                // It filled the buffer: it is in the middle of a large result.
                self.stand_in_line(at);
            }
        }
        if arrived {
            self.accept()?;
        }
        if !self.delayed.is_empty() {
            self.answer_delayed()?;
        }
        if let Some(at) = self.greedy.pop_front() {
            if let Some(Some(peer)) = self.peers.get_mut(at) {
                peer.queued = false;
            }
            self.write(at)?;
            let may_read = self
                .peers
                .get(at)
                .is_some_and(|p| p.as_ref().is_some_and(|p| !p.throttled));
            if may_read && self.read_once(at, READ_BYTES)? {
                self.stand_in_line(at);
            }
        }
        Ok(())
    }

    fn stand_in_line(&mut self, at: usize) {
        if let Some(Some(peer)) = self.peers.get_mut(at)
            && !peer.queued
        {
            peer.queued = true;
            self.greedy.push_back(at);
        }
    }

    fn accept(&mut self) -> Result<(), LoadFailed> {
        loop {
            let Some(listener) = &self.listener else {
                return Ok(());
            };
            match listener.accept() {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    self.add(Peer::new(stream, Role::Target(Target::default()), Vec::new()))?;
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                // A client that has gone again meanwhile.
                Err(error)
                    if matches!(
                        error.kind(),
                        ErrorKind::ConnectionAborted | ErrorKind::Interrupted
                    ) => {}
                Err(error) => return Err(LoadFailed::io("accept")(error)),
            }
        }
    }

    fn write(&mut self, at: usize) -> Result<(), LoadFailed> {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return Ok(());
        };
        if !peer.has_output() {
            return Ok(());
        }
        if matches!(&peer.role, Role::Client(_)) {
            let _ = peer.stream.set_nodelay(true);
        }
        if Self::pump(&self.answers, peer) {
            self.stand_in_line(at);
        }
        self.reap(at)
    }

    /// Writes, and tops up a large result while the socket takes it, for one turn. True if there is more and the socket took all.
    fn pump(answers: &Answers, peer: &mut Peer) -> bool {
        while peer.flush() {
            let Role::Target(target) = &mut peer.role else {
                return false;
            };
            if target.has_more() {
                // The block that was topped up last time is out: that was the turn.
                let is_later = std::mem::replace(&mut peer.greedy, true);
                target.more(answers, &mut peer.out);
                if is_later {
                    return true;
                }
            } else if !peer.carry.is_empty() {
                let used = target.feed(answers, &peer.carry, &mut peer.out);
                peer.carry.drain(..used.min(peer.carry.len()));
                if peer.out.is_empty() && !target.has_more() {
                    return false;
                }
            } else {
                peer.greedy = false;
                return false;
            }
        }
        false
    }

    /// Reads at most so much. True if there may be more.
    pub(super) fn read_once(&mut self, at: usize, most: usize) -> Result<bool, LoadFailed> {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return Ok(false);
        };
        let most = most.min(READ_BYTES);
        let n = match peer.stream.read(self.read.get_mut(..most).unwrap_or(&mut [])) {
            Ok(0) => {
                peer.over = true;
                return self.reap(at).map(|()| false);
            }
            Ok(n) => n,
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                return Ok(false);
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => return Ok(true),
            Err(error) => {
                if let Role::Client(client) = &peer.role {
                    let failed = LoadFailed::Session {
                        session: client.number,
                        error,
                    };
                    return self.lose(at, failed).map(|()| false);
                }
                peer.over = true;
                return self.reap(at).map(|()| false);
            }
        };
        if let Role::Client(_) = peer.role {
            peer.greedy = n > GREEDY_BYTES;
        }
        let mut fresh = self.read.get(..n).unwrap_or(&[]);
        if peer.is_secure() {
            self.plain.clear();
            if let Err(no_tls) = peer.uncover(fresh, &mut self.plain) {
                let session = if let Role::Client(client) = &peer.role {
                    client.number
                } else {
                    0
                };
                let failed = LoadFailed::NoTls {
                    session,
                    no_tls: Box::new(no_tls),
                };
                return self.lose(at, failed).map(|()| false);
            }
            fresh = &self.plain;
        }
        if let Role::Target(target) = &peer.role
            && !self.latency.is_zero()
            && target.is_started()
        {
            self.delayed.push_back(Delayed {
                due: Instant::now() + self.latency,
                at,
                serial: peer.serial,
                data: fresh.to_vec(),
            });
            return Ok(n == most);
        }
        let mut whole = std::mem::take(&mut peer.carry);
        let data = if whole.is_empty() {
            fresh
        } else {
            whole.extend_from_slice(fresh);
            &whole
        };
        let used = match &mut peer.role {
            Role::Target(target) => {
                let used = target.feed(&self.answers, data, &mut peer.out);
                peer.over |= target.over;
                if !target.arrivals.is_empty() {
                    self.arrivals.append(&mut target.arrivals);
                }
                used
            }
            Role::Client(client) => {
                let Some(crew) = self.crews.get_mut(client.crew) else {
                    return Ok(false);
                };
                if let Some(bytes) = self.ledger.bytes_down.get_mut(client.crew) {
                    *bytes += n as u64;
                }
                self.ledger.now = None;
                let fed = client.feed(
                    &crew.script,
                    &self.keys,
                    self.on_error,
                    data,
                    &mut peer.out,
                    &mut self.ledger,
                );
                let used = match fed {
                    Ok(used) => used,
                    Err(failed) => return self.lose(at, failed).map(|()| false),
                };
                if self.ledger.became_ready || crew.script.logins.is_some() {
                    let became_ready = std::mem::take(&mut self.ledger.became_ready);
                    if used < data.len() {
                        peer.carry = data.get(used..).unwrap_or(&[]).to_vec();
                    }
                    self.settle(at, became_ready)?;
                    return Ok(n == most);
                }
                if self.asking {
                    let waited = client.due.len();
                    client.ask(&crew.script, &mut peer.out, &mut self.ledger);
                    if let Some(pacer) = &mut crew.pacer {
                        pacer.waiting -= (waited - client.due.len()).min(pacer.waiting);
                    }
                }
                used
            }
        };
        if used < data.len() {
            let rest = data.get(used..).unwrap_or(&[]).to_vec();
            peer.carry = rest;
        }
        let mut has_more = false;
        if !peer.out.is_empty() || matches!(&peer.role, Role::Target(t) if t.has_more()) {
            has_more = Self::pump(&self.answers, peer);
        }
        let is_over = peer.over;
        if has_more {
            self.stand_in_line(at);
        }
        if is_over {
            return self.reap(at).map(|()| false);
        }
        Ok(n == most)
    }

    /// What the target has thought about for long enough.
    fn answer_delayed(&mut self) -> Result<(), LoadFailed> {
        let now = Instant::now();
        while self.delayed.front().is_some_and(|d| d.due <= now) {
            let Some(Delayed { at, serial, data, .. }) = self.delayed.pop_front() else {
                break;
            };
            let Some(Some(peer)) = self.peers.get_mut(at) else {
                continue;
            };
            if peer.serial != serial {
                continue;
            }
            peer.carry.extend_from_slice(&data);
            if let Role::Target(target) = &mut peer.role {
                let used = target.feed(&self.answers, &peer.carry, &mut peer.out);
                peer.carry.drain(..used.min(peer.carry.len()));
                peer.over |= target.over;
                self.arrivals.append(&mut target.arrivals);
            }
            if Self::pump(&self.answers, peer) {
                self.stand_in_line(at);
            }
            self.reap(at)?;
        }
        if let Some(next) = self.delayed.front() {
            self.timer.set(next.due, now).map_err(LoadFailed::io("timer"))?;
        }
        Ok(())
    }

    pub(super) fn ask(&mut self, at: usize) -> Result<(), LoadFailed> {
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            if let Role::Client(client) = &mut peer.role
                && let Some(crew) = self.crews.get_mut(client.crew)
            {
                self.ledger.now = None;
                let waited = client.due.len();
                client.ask(&crew.script, &mut peer.out, &mut self.ledger);
                if let Some(pacer) = &mut crew.pacer {
                    pacer.waiting -= (waited - client.due.len()).min(pacer.waiting);
                }
            }
            peer.flush();
        }
        self.reap(at)
    }

    /// Takes a peer away that is over.
    pub(super) fn reap(&mut self, at: usize) -> Result<(), LoadFailed> {
        let Some(Some(peer)) = self.peers.get_mut(at) else {
            return Ok(());
        };
        if !peer.over {
            return Ok(());
        }
        match &peer.role {
            Role::Client(client) => {
                let session = client.number;
                let failed = match peer.failure.take() {
                    Some(error) => LoadFailed::Session { session, error },
                    None => LoadFailed::Closed { session },
                };
                self.lose(at, failed)
            }
            Role::Target(_) => {
                self.remove(at);
                Ok(())
            }
        }
    }

    pub(super) fn remove(&mut self, at: usize) {
        if let Some(mut peer) = self.peers.get_mut(at).and_then(Option::take) {
            let _ = self.poll.registry().deregister(&mut peer.stream);
            self.free.push(at);
        }
    }

    /// A session was refused or cut: the end of the run, or one for the books.
    fn lose(&mut self, at: usize, failed: LoadFailed) -> Result<(), LoadFailed> {
        let is_victim = match self.peers.get(at) {
            Some(Some(Peer {
                role: Role::Client(client),
                ..
            })) => self.crews.get(client.crew).is_some_and(|c| c.script.victims),
            _ => false,
        };
        if self.on_error == OnError::Stop && !is_victim {
            return Err(failed);
        }
        self.lost(at, failed);
        Ok(())
    }
}
