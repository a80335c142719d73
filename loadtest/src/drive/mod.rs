//! One event loop for clients and synthetic target alike.
//!
//! Edge-triggered: a read that does not fill the buffer has drained its socket, so a statement costs each side one read and one write.
//! Small before large: a peer in the middle of a large result gets a turn of at most [`READ_BYTES`] and then lets all others go first, or
//! a point read beside a large result would wait for this loop instead of the engine.
//! Bounds: one read buffer for all; a carry and an output per session, at most a message and a block.

mod crew;
mod io;
mod measure;
mod open;
mod timer;

use crate::client::{Client, OnError};
use crate::error::LoadFailed;
use crate::ledger::Ledger;
use crate::peer::{Peer, Role};
use crate::plan::{Endpoint, Plan, TargetPlan};
use crate::report::Report;
use crate::scram::KeyRing;
use crate::target::Answers;
use crate::tls::Tls;
use crew::CrewState;
use mio::net::TcpListener;
use mio::{Events, Interest, Poll, Token};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use timer::Timer;

const READ_BYTES: usize = 64 << 10;
const LISTENER: Token = Token(usize::MAX);
const TIMER: Token = Token(usize::MAX - 1);

/// What a client said to the target, until the target's latency is over.
struct Delayed {
    due: Instant,
    at: usize,
    serial: u64,
    data: Vec<u8>,
}

pub struct Drive {
    poll: Poll,
    listener: Option<TcpListener>,
    peers: Vec<Option<Peer>>,
    free: Vec<usize>,
    serials: u64,
    answers: Answers,
    latency: Duration,
    delayed: VecDeque<Delayed>,
    /// Peers in the middle of large results, which take turns.
    greedy: VecDeque<usize>,
    timer: Timer,
    keys: KeyRing,
    // Of the load that runs.
    endpoint: Option<Endpoint>,
    tls: Option<Tls>,
    crews: Vec<CrewState>,
    on_error: OnError,
    /// Signed in, over all crews.
    ready: usize,
    opening: usize,
    /// Logins that failed since the load began; the first is named if none succeeds.
    refused: usize,
    first_refusal: Option<LoadFailed>,
    asking: bool,
    ledger: Ledger,
    read: Vec<u8>,
    plain: Vec<u8>,
    /// Somebody wants it to end.
    interrupted: Arc<AtomicBool>,
    /// Held statements that reached the target.
    arrivals: Vec<(u64, Instant)>,
}

/// Runs the plan and reports each load; with no load, serves until killed.
pub fn run(plan: &Plan) -> Result<Vec<Report>, LoadFailed> {
    let mut drive = Drive::new(plan.target.as_ref())?;
    let mut events = Events::with_capacity(1024);
    if plan.loads.is_empty() {
        loop {
            drive.turn(&mut events, None)?;
        }
    }
    // The first Ctrl-C ends the window early, and there is a report; the second ends the process.
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        let armed = Arc::clone(&drive.interrupted);
        signal_hook::flag::register_conditional_shutdown(signal, 130, armed)
            .map_err(LoadFailed::io("signals"))?;
        signal_hook::flag::register(signal, Arc::clone(&drive.interrupted))
            .map_err(LoadFailed::io("signals"))?;
    }
    let mut reports = Vec::new();
    for load in &plan.loads {
        reports.push(drive.load(&mut events, load)?);
        if drive.interrupted.load(Ordering::Relaxed) {
            break;
        }
    }
    Ok(reports)
}

impl Drive {
    fn new(target: Option<&TargetPlan>) -> Result<Drive, LoadFailed> {
        raise_open_files();
        let poll = Poll::new().map_err(LoadFailed::io("epoll"))?;
        let mut listener = None;
        if let Some(target) = target {
            let mut bound =
                TcpListener::bind(target.listen).map_err(LoadFailed::io("the synthetic target's address"))?;
            poll.registry()
                .register(&mut bound, LISTENER, Interest::READABLE)
                .map_err(LoadFailed::io("epoll"))?;
            listener = Some(bound);
        }
        let timer = Timer::new(poll.registry(), TIMER).map_err(LoadFailed::io("timer"))?;
        Ok(Drive {
            poll,
            listener,
            peers: Vec::new(),
            free: Vec::new(),
            serials: 0,
            answers: Answers::new(target.and_then(|t| t.password.as_deref())),
            latency: target.map_or(Duration::ZERO, |t| t.latency),
            delayed: VecDeque::new(),
            greedy: VecDeque::new(),
            timer,
            keys: KeyRing::default(),
            endpoint: None,
            tls: None,
            crews: Vec::new(),
            on_error: OnError::Stop,
            ready: 0,
            opening: 0,
            refused: 0,
            first_refusal: None,
            asking: false,
            ledger: Ledger::new(0),
            read: vec![0; READ_BYTES],
            plain: Vec::new(),
            interrupted: Arc::default(),
            arrivals: Vec::new(),
        })
    }

    fn add(&mut self, mut peer: Peer) -> Result<usize, LoadFailed> {
        let at = self.free.pop().unwrap_or_else(|| {
            self.peers.push(None);
            self.peers.len() - 1
        });
        self.serials += 1;
        peer.serial = self.serials;
        let registry = self.poll.registry();
        registry
            .register(
                &mut peer.stream,
                Token(at),
                Interest::READABLE | Interest::WRITABLE,
            )
            .map_err(LoadFailed::io("epoll"))?;
        if let Some(place) = self.peers.get_mut(at) {
            *place = Some(peer);
        }
        Ok(at)
    }

    fn clients(&self) -> impl Iterator<Item = &Client> {
        self.peers.iter().flatten().filter_map(|peer| match &peer.role {
            Role::Client(client) => Some(client),
            Role::Target(_) => None,
        })
    }
}

/// A session is a descriptor here, and another where the target is in this process.
fn raise_open_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Where that fails, opening says so.
    let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted);
    if limit.maximum.is_some_and(|most| most < 65_536) {
        let more = rustix::process::Rlimit {
            current: Some(65_536),
            maximum: Some(65_536),
        };
        let _ = rustix::process::setrlimit(rustix::process::Resource::Nofile, more);
    }
}

#[cfg(test)]
mod tests;
