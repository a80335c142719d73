//! One event loop for clients and synthetic target alike.
//!
//! Edge-triggered: a read that does not fill the buffer has drained its socket, so a statement costs each side one read and one write.
//! Bounds: one read buffer for all; a carry and an output per session, at most a message and a block.

use crate::client::{Client, Login, Mode, Script, Seen};
use crate::cpu::{Group, Used, Watch};
use crate::error::LoadFailed;
use crate::report::Report;
use crate::target::{Answers, Target};
use hdrhistogram::Histogram;
use mio::net::{TcpListener, TcpStream};
use mio::{Events, Interest, Poll, Token};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

const READ_BYTES: usize = 64 << 10;
/// Sessions that are being opened at once.
const OPENING_MAX: usize = 32;
const READY_WAIT_MAX: Duration = Duration::from_secs(60);
const GOODBYE_WAIT_MAX: Duration = Duration::from_secs(3);
const LISTENER: Token = Token(usize::MAX);

#[derive(Clone, Debug)]
pub struct Plan {
    /// Serve the synthetic target here, in the same loop.
    pub target: Option<SocketAddr>,
    /// Where the sessions go. `None`: serve the target alone, for ever.
    pub connect: Option<SocketAddr>,
    pub sessions: usize,
    pub mode: Mode,
    pub login: Login,
    pub bulk_rows: u32,
    pub warm_up: Duration,
    pub window: Duration,
    pub watch: Vec<Group>,
}

enum Role {
    Client(Client),
    Target(Target),
}

struct Peer {
    stream: TcpStream,
    role: Role,
    /// What was read and not used yet.
    carry: Vec<u8>,
    out: Vec<u8>,
    out_at: usize,
    over: bool,
}

impl Peer {
    fn new(stream: TcpStream, role: Role, out: Vec<u8>) -> Peer {
        Peer { stream, role, carry: Vec::new(), out, out_at: 0, over: false }
    }

    /// True if everything is out.
    fn flush(&mut self) -> bool {
        while let Some(rest) = self.out.get(self.out_at..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => self.out_at += n,
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                // A stream that is still connecting says this, too.
                Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::NotConnected) => return false,
                Err(_) => {
                    self.over = true;
                    return false;
                }
            }
        }
        self.out.clear();
        self.out_at = 0;
        true
    }
}

/// What was counted in the window.
struct Counts {
    statements: u64,
    rows: u64,
    bytes_down: u64,
    latency_ns: Histogram<u64>,
}

impl Counts {
    fn new() -> Counts {
        let latency_ns = Histogram::new_with_bounds(100, 60_000_000_000, 3).expect("constant bounds that the library takes");
        Counts { statements: 0, rows: 0, bytes_down: 0, latency_ns }
    }
}

struct Drive {
    poll: Poll,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    answers: Answers,
    script: Script,
    ready: usize,
    opening: usize,
    asking: bool,
    counts: Counts,
    read: Vec<u8>,
}

/// Runs the plan and reports; with no `connect`, serves until killed.
pub fn run(plan: &Plan) -> Result<Report, LoadFailed> {
    let poll = Poll::new().map_err(LoadFailed::io("epoll"))?;
    let mut listener = match plan.target {
        Some(address) => {
            let mut listener = TcpListener::bind(address).map_err(LoadFailed::io("target's address"))?;
            poll.registry().register(&mut listener, LISTENER, Interest::READABLE).map_err(LoadFailed::io("epoll"))?;
            Some(listener)
        }
        None => None,
    };
    let script = Script::new(plan.mode, plan.login.clone(), plan.bulk_rows);
    let mut drive = Drive {
        poll,
        peers: Vec::new(),
        free: Vec::new(),
        answers: Answers::new(),
        script,
        ready: 0,
        opening: 0,
        asking: false,
        counts: Counts::new(),
        read: vec![0; READ_BYTES],
    };
    let mut events = Events::with_capacity(1024);
    let Some(endpoint) = plan.connect else {
        loop {
            drive.turn(&mut events, listener.as_mut(), None)?;
        }
    };
    drive.open_sessions(&mut events, listener.as_mut(), endpoint, plan.sessions)?;
    drive.measure(&mut events, listener.as_mut(), plan)
}

impl Drive {
    fn add(&mut self, mut peer: Peer) -> Result<usize, LoadFailed> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        let registry = self.poll.registry();
        registry.register(&mut peer.stream, Token(at), Interest::READABLE | Interest::WRITABLE).map_err(LoadFailed::io("epoll"))?;
        if let Some(place) = self.peers.get_mut(at) {
            *place = Some(peer);
        }
        Ok(at)
    }

    fn open_sessions(
        &mut self,
        events: &mut Events,
        mut listener: Option<&mut TcpListener>,
        endpoint: SocketAddr,
        sessions: usize,
    ) -> Result<(), LoadFailed> {
        let until = Instant::now() + READY_WAIT_MAX;
        let mut opened = 0;
        while self.ready < sessions {
            while opened < sessions && self.opening < OPENING_MAX {
                let stream = TcpStream::connect(endpoint).map_err(LoadFailed::io("connect"))?;
                let mut out = Vec::new();
                let client = Client::start(opened, &self.script, &mut out);
                self.add(Peer::new(stream, Role::Client(client), out))?;
                opened += 1;
                self.opening += 1;
            }
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(100)))?;
            if Instant::now() > until {
                return Err(LoadFailed::TooSlow { ready: self.ready, sessions });
            }
        }
        Ok(())
    }

    fn measure(&mut self, events: &mut Events, mut listener: Option<&mut TcpListener>, plan: &Plan) -> Result<Report, LoadFailed> {
        let mut groups = plan.watch.clone();
        groups.push(Group { name: "load".to_owned(), roots: vec![std::process::id()], alone: true });
        let watch = Watch::new(&groups);
        self.asking = true;
        for at in 0..self.peers.len() {
            self.ask(at)?;
        }
        let until = Instant::now() + plan.warm_up;
        while Instant::now() < until {
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(10)))?;
        }
        self.counts = Counts::new();
        let before = watch.read();
        let started = Instant::now();
        let until = started + plan.window;
        while Instant::now() < until {
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(10)))?;
        }
        let after = watch.read();
        let seconds = started.elapsed().as_secs_f64();
        let used: BTreeMap<String, Used> =
            after.iter().map(|(name, u)| (name.clone(), u.since(before.get(name).copied().unwrap_or_default()))).collect();
        if self.counts.statements == 0 && self.script.mode() != Mode::Idle {
            return Err(LoadFailed::Nothing);
        }
        let sample = self.sample(events, listener.as_deref_mut())?;
        self.say_goodbye(events, listener)?;
        let statement_bytes = self.script.statement_bytes();
        let counts = &self.counts;
        let mut report = Report::new(plan.mode, plan.sessions, seconds, counts.statements, counts.rows, &counts.latency_ns);
        report.bytes_up = statement_bytes as f64;
        report.bytes_down = counts.bytes_down as f64 / counts.statements.max(1) as f64;
        report.take_cpu(&used);
        report.sample = String::from_utf8_lossy(&sample).chars().filter(|c| !c.is_control()).collect();
        Ok(report)
    }

    /// Lets what is on its way come back, and takes leave: an engine that finds its target gone, or a statement broken
    /// off, may hold that against the next run.
    fn say_goodbye(&mut self, events: &mut Events, mut listener: Option<&mut TcpListener>) -> Result<(), LoadFailed> {
        self.asking = false;
        let until = Instant::now() + GOODBYE_WAIT_MAX;
        let busy = |peer: &Peer| matches!(&peer.role, Role::Client(client) if client.is_waiting());
        while Instant::now() < until && self.peers.iter().flatten().any(busy) {
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(10)))?;
        }
        for place in &mut self.peers {
            if let Some(peer) = place
                && let Role::Client(_) = peer.role
            {
                crate::wire::message(&mut peer.out, b'X', |_| {});
                peer.flush();
                *place = None;
            }
        }
        let until = Instant::now() + GOODBYE_WAIT_MAX;
        let targets = |peers: &[Option<Peer>]| peers.iter().flatten().count();
        while Instant::now() < until && listener.is_some() && targets(&self.peers) > 0 {
            let before = targets(&self.peers);
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(50)))?;
            // Some engines keep their connections to the target.
            if targets(&self.peers) == before && events.is_empty() {
                break;
            }
        }
        Ok(())
    }

    /// The bytes of one more row, after the window.
    fn sample(&mut self, events: &mut Events, mut listener: Option<&mut TcpListener>) -> Result<Vec<u8>, LoadFailed> {
        let first = |peers: &mut Vec<Option<Peer>>, wants: bool| -> Option<Vec<u8>> {
            peers.iter_mut().flatten().find_map(|p| match &mut p.role {
                Role::Client(client) => {
                    client.wants_sample = wants;
                    Some(client.sample.clone())
                }
                Role::Target(_) => None,
            })
        };
        first(&mut self.peers, true);
        let until = Instant::now() + Duration::from_secs(1);
        let (statements, rows, bytes) = (self.counts.statements, self.counts.rows, self.counts.bytes_down);
        let mut sample = Vec::new();
        while sample.is_empty() && Instant::now() < until && self.script.mode() != Mode::Idle {
            self.turn(events, listener.as_deref_mut(), Some(Duration::from_millis(10)))?;
            sample = first(&mut self.peers, true).unwrap_or_default();
        }
        (self.counts.statements, self.counts.rows, self.counts.bytes_down) = (statements, rows, bytes);
        Ok(sample)
    }

    fn turn(&mut self, events: &mut Events, listener: Option<&mut TcpListener>, wait: Option<Duration>) -> Result<(), LoadFailed> {
        match self.poll.poll(events, wait) {
            Ok(()) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => return Ok(()),
            Err(error) => return Err(LoadFailed::io("epoll")(error)),
        }
        let mut arrived = false;
        for event in events.iter() {
            if event.token() == LISTENER {
                arrived = true;
                continue;
            }
            let at = event.token().0;
            // What waits to be written goes first; most turns have nothing.
            if event.is_writable() {
                self.write(at)?;
            }
            if event.is_readable() || event.is_read_closed() || event.is_error() {
                self.read(at)?;
            }
        }
        if arrived && let Some(listener) = listener {
            self.accept(listener)?;
        }
        Ok(())
    }

    fn accept(&mut self, listener: &TcpListener) -> Result<(), LoadFailed> {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    let _ = stream.set_nodelay(true);
                    self.add(Peer::new(stream, Role::Target(Target::default()), Vec::new()))?;
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => return Err(LoadFailed::io("accept")(error)),
            }
        }
    }

    fn write(&mut self, at: usize) -> Result<(), LoadFailed> {
        let Some(Some(peer)) = self.peers.get_mut(at) else { return Ok(()) };
        if peer.out.is_empty() {
            return Ok(());
        }
        if matches!(&peer.role, Role::Client(_)) {
            let _ = peer.stream.set_nodelay(true);
        }
        Self::pump(&self.answers, peer);
        self.reap(at)
    }

    /// Writes, and tops up a large result while the socket takes it.
    fn pump(answers: &Answers, peer: &mut Peer) {
        while peer.flush() {
            let Role::Target(target) = &mut peer.role else { return };
            if target.has_more() {
                target.more(answers, &mut peer.out);
            } else if !peer.carry.is_empty() {
                let used = target.feed(answers, &peer.carry, &mut peer.out);
                peer.carry.drain(..used.min(peer.carry.len()));
                if peer.out.is_empty() && !target.has_more() {
                    return;
                }
            } else {
                return;
            }
        }
    }

    fn read(&mut self, at: usize) -> Result<(), LoadFailed> {
        loop {
            let Some(Some(peer)) = self.peers.get_mut(at) else { return Ok(()) };
            let n = match peer.stream.read(&mut self.read) {
                Ok(0) => {
                    peer.over = true;
                    return self.reap(at);
                }
                Ok(n) => n,
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == std::io::ErrorKind::NotConnected => return Ok(()),
                Err(error) => {
                    if let Role::Client(_) = peer.role {
                        return Err(LoadFailed::io("a session")(error));
                    }
                    peer.over = true;
                    return self.reap(at);
                }
            };
            let fresh = self.read.get(..n).unwrap_or(&[]);
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
                    used
                }
                Role::Client(client) => {
                    self.counts.bytes_down += n as u64;
                    let mut seen = Seen::default();
                    let used = client.feed(&self.script, data, &mut peer.out, &mut seen)?;
                    self.counts.rows += seen.rows;
                    if seen.ready {
                        self.ready += 1;
                        self.opening = self.opening.saturating_sub(1);
                    }
                    if let Some(at) = seen.answered {
                        self.counts.statements += 1;
                        let ns = u64::try_from(at.elapsed().as_nanos()).unwrap_or(u64::MAX);
                        self.counts.latency_ns.saturating_record(ns);
                    }
                    if self.asking {
                        client.ask(&self.script, &mut peer.out);
                    }
                    used
                }
            };
            if used < data.len() {
                let rest = data.get(used..).unwrap_or(&[]).to_vec();
                peer.carry = rest;
            }
            if !peer.out.is_empty() || matches!(&peer.role, Role::Target(t) if t.has_more()) {
                Self::pump(&self.answers, peer);
            }
            if peer.over {
                return self.reap(at);
            }
            if n < READ_BYTES {
                return Ok(());
            }
        }
    }

    fn ask(&mut self, at: usize) -> Result<(), LoadFailed> {
        if let Some(Some(peer)) = self.peers.get_mut(at) {
            if let Role::Client(client) = &mut peer.role {
                client.ask(&self.script, &mut peer.out);
            }
            peer.flush();
        }
        self.reap(at)
    }

    /// Takes a peer away that is over. A client that is, ends the run.
    fn reap(&mut self, at: usize) -> Result<(), LoadFailed> {
        let Some(place) = self.peers.get_mut(at) else { return Ok(()) };
        if place.as_ref().is_some_and(|p| p.over)
            && let Some(mut peer) = place.take()
        {
            let _ = self.poll.registry().deregister(&mut peer.stream);
            self.free.push(at);
            if let Role::Client(_) = peer.role {
                return Err(LoadFailed::Closed { session: at });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(mode: Mode, port: u16) -> Plan {
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        Plan {
            target: Some(address),
            connect: Some(address),
            sessions: 8,
            mode,
            login: Login { user: "u".into(), database: "d".into(), password: "p".into() },
            bulk_rows: 5_000,
            warm_up: Duration::from_millis(20),
            window: Duration::from_millis(150),
            watch: Vec::new(),
        }
    }

    fn free_port() -> u16 {
        std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map(|a| a.port()).expect("a port")
    }

    #[test]
    fn every_mode_runs_over_sockets_and_counts_what_came_back() {
        for mode in [Mode::Simple, Mode::Extended, Mode::Prepared, Mode::Bulk] {
            let report = run(&plan(mode, free_port())).expect("a run");
            assert!(report.statements > 8, "{report:?}");
            let rows = if mode == Mode::Bulk { 5_000 } else { 1 };
            assert!(report.rows >= report.statements * rows, "{report:?}");
            assert!(report.p50_us > 0.0 && report.p99_us >= report.p50_us, "{report:?}");
            let shown = if mode == Mode::Bulk { "twenty bytes of text" } else { crate::target::EMAIL };
            assert!(report.sample.contains(shown), "{report:?}");
        }
    }

    #[test]
    fn an_endpoint_that_is_not_there_is_an_error() {
        let mut plan = plan(Mode::Simple, free_port());
        plan.connect = Some(SocketAddr::from(([127, 0, 0, 1], free_port())));
        assert!(run(&plan).is_err());
    }
}
