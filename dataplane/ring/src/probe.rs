//! Tries on this machine what the ring needs, for `headgate doctor` and for the start: each lack is a named [`RingError`].
//!
//! What can be asked is asked (version, sysctl, limits, opcodes); what matters is done: a small ring accepts a connection of
//! its own over loopback, moves bytes through provided buffers, wakes, ticks and ends.

use crate::ring::build_uring;
use crate::seam::{End, Handler, Io, ListenerId, SocketId};
use crate::{ListenSettings, Ring, RingError, RingSettings, sys};
use io_uring::opcode;
use std::net::{Ipv4Addr, SocketAddr};

/// What `headgate doctor` prints when all is well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// As `uname` says it.
    pub kernel_release: String,
    /// `None` where the kernel has no such switch.
    pub io_uring_disabled: Option<u32>,
    /// `None` is unlimited. Ring memory of all of one user's rings counts against it on newer kernels.
    pub memlock_bytes: Option<u64>,
    /// Parts that were tried and work.
    pub works: Vec<&'static str>,
}

const TRIAL_MS_MAX: u64 = 2_000;
const WORDS: &[u8] = b"headgate tries the ring";

/// Tries what the ring needs, and says the first thing that is lacking.
pub fn probe() -> Result<Probe, RingError> {
    let kernel_release = sys::kernel_release();
    // An unreadable version is no proof of anything: the trial decides.
    if version_of(&kernel_release).is_some_and(|version| version < (6, 1)) {
        return Err(RingError::KernelTooOld {
            release: kernel_release,
        });
    }
    let io_uring_disabled = sys::io_uring_disabled();
    let mut works = Vec::new();
    {
        let uring = build_uring(8, false)?;
        works.push("a ring with SINGLE_ISSUER and DEFER_TASKRUN");
        let mut known = io_uring::Probe::new();
        uring
            .submitter()
            .register_probe(&mut known)
            .map_err(|e| RingError::system("asking for the ring's operations", &e))?;
        let needed = [
            (opcode::Accept::CODE, "the ring operation accept"),
            (opcode::Connect::CODE, "the ring operation connect"),
            (opcode::Recv::CODE, "the ring operation recv"),
            (opcode::Send::CODE, "the ring operation send"),
            (opcode::SendMsg::CODE, "the ring operation sendmsg"),
            (opcode::Read::CODE, "the ring operation read"),
            (opcode::AsyncCancel::CODE, "the ring operation cancel"),
        ];
        if let Some((_, feature)) = needed.iter().find(|(code, _)| !known.is_supported(*code)) {
            return Err(RingError::FeatureMissing { feature });
        }
        works.push("all needed operations");
    }
    // The size that a shard uses: a memory limit that is too low for it shows here.
    drop(Ring::new(RingSettings::default())?);
    works.push("a ring of a shard's size with its receive buffers");
    try_loopback()?;
    works.push("multishot accept and recv, gathered send, connect, cancel, wake and tick over loopback");
    Ok(Probe {
        kernel_release,
        io_uring_disabled,
        memlock_bytes: sys::memlock_bytes(),
        works,
    })
}

fn version_of(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|c: char| !c.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

fn try_loopback() -> Result<(), RingError> {
    let listeners = vec![ListenSettings {
        address: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
        backlog: 4,
    }];
    let config = RingSettings {
        listeners,
        entries: 16,
        sockets_max: 4,
        ..RingSettings::default()
    };
    let ring = Ring::new(config)?;
    let address = ring.local_addresses().first().copied();
    let Some(address) = address else {
        return Err(RingError::FeatureMissing {
            feature: "a loopback interface",
        });
    };
    ring.wake_fd().wake();
    let mut trial = Trial {
        address,
        ..Trial::default()
    };
    ring.run(&mut trial)?;
    match trial.lacks() {
        None => Ok(()),
        Some(feature) => Err(RingError::FeatureMissing { feature }),
    }
}

/// Dials itself, says its words in two buffers, reads them back, and closes both ends.
struct Trial {
    address: SocketAddr,
    woken: bool,
    ticks: u32,
    connected: bool,
    accepted: Option<SocketId>,
    heard: Vec<u8>,
    closed: u32,
    begun_us: Option<u64>,
    late: bool,
}

impl Default for Trial {
    fn default() -> Self {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let (heard, begun_us) = (Vec::new(), None);
        Trial {
            address,
            woken: false,
            ticks: 0,
            connected: false,
            accepted: None,
            heard,
            closed: 0,
            begun_us,
            late: false,
        }
    }
}

impl Trial {
    fn lacks(&self) -> Option<&'static str> {
        if !self.woken {
            Some("a working read of an eventfd in the ring")
        } else if !self.connected {
            Some("a working connect in the ring")
        } else if self.accepted.is_none() {
            Some("a working multishot accept")
        } else if self.heard != WORDS {
            Some("a working multishot recv with provided buffers")
        } else if self.closed != 2 {
            Some("a working cancel by descriptor")
        } else if self.ticks == 0 {
            Some("a working bounded wait (IORING_ENTER_EXT_ARG)")
        } else {
            None
        }
    }
}

impl Handler for Trial {
    fn accepted(&mut self, _io: &mut dyn Io, _listener: ListenerId, socket: SocketId, _peer: SocketAddr) {
        self.accepted = Some(socket);
    }

    fn connected(&mut self, io: &mut dyn Io, socket: SocketId, result: Result<(), i32>) {
        self.connected = result.is_ok();
        let (head, tail) = WORDS.split_at(WORDS.len() / 2);
        io.send(socket, head.to_vec());
        io.send(socket, tail.to_vec());
        io.close(socket);
    }

    fn received(&mut self, _io: &mut dyn Io, _socket: SocketId, bytes: &[u8]) {
        self.heard.extend_from_slice(bytes);
    }

    fn ended(&mut self, io: &mut dyn Io, socket: SocketId, _end: End) {
        io.close(socket);
    }

    fn sent(&mut self, _io: &mut dyn Io, _socket: SocketId) {}

    fn recycle(&mut self, _buffer: Vec<u8>) {}

    fn closed(&mut self, _io: &mut dyn Io, _socket: SocketId) {
        self.closed += 1;
    }

    fn woken(&mut self, io: &mut dyn Io) {
        self.woken = true;
        io.connect(self.address, 1_000);
    }

    fn tick(&mut self, io: &mut dyn Io) {
        self.ticks += 1;
        let begun_us = *self.begun_us.get_or_insert(io.now_us());
        self.late = io.now_us() - begun_us > TRIAL_MS_MAX * 1_000;
    }

    fn wants_ticks(&self) -> bool {
        true
    }

    fn turn_ended(&mut self, _io: &mut dyn Io) -> bool {
        false
    }

    fn wants_stop(&self) -> bool {
        self.late || self.lacks().is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_of_distributions_are_read() {
        assert_eq!(version_of("6.1.0-18-amd64"), Some((6, 1)));
        assert_eq!(version_of("5.15.0"), Some((5, 15)));
        assert_eq!(version_of("6.18.44-fc"), Some((6, 18)));
        assert_eq!(version_of("plan9"), None);
    }

    #[test]
    fn this_machine_passes_the_probe() {
        let probe = probe().expect("io_uring works here");
        assert_eq!(probe.works.len(), 4);
    }
}
