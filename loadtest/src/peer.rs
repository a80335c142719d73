//! One socket of the loop, plain or in TLS, and what waits to go out of it.
//!
//! Invariant: while TLS is asked for but not there (`Asking`), `out` holds the SSLRequest alone, `behind` what goes out in TLS.
//! Bounds: `carry` is at most a message; `out` what a session has on its way, at a target a block of a large result.

use crate::client::Client;
use crate::error::LoadFailed;
use crate::target::Target;
use crate::tls::{Start, Tls};
use crate::wire;
use mio::net::TcpStream;
use rustls::client::ClientConnection;
use std::io::{ErrorKind, Read, Write};

pub enum Role {
    Client(Client),
    Target(Target),
}

enum Step {
    /// SSLRequest is out; the first bytes of the session wait for the answer.
    Asking {
        behind: Vec<u8>,
    },
    On,
}

struct Secure {
    connection: ClientConnection,
    step: Step,
}

pub struct Peer {
    pub stream: TcpStream,
    pub role: Role,
    /// What was read and not used yet.
    pub carry: Vec<u8>,
    pub out: Vec<u8>,
    out_at: usize,
    pub over: bool,
    /// Why it is over, where the kernel said so.
    pub failure: Option<std::io::Error>,
    /// Read by the clock, not when there is something to read.
    pub throttled: bool,
    /// In the middle of a large result: it gets its turns between those of others.
    pub greedy: bool,
    /// Stands in line for such a turn.
    pub queued: bool,
    /// Tells this peer from an earlier one in the same place.
    pub serial: u64,
    secure: Option<Box<Secure>>,
}

impl Peer {
    pub fn new(stream: TcpStream, role: Role, out: Vec<u8>) -> Peer {
        Peer {
            stream,
            role,
            carry: Vec::new(),
            out,
            out_at: 0,
            over: false,
            failure: None,
            throttled: false,
            greedy: false,
            queued: false,
            serial: 0,
            secure: None,
        }
    }

    /// `out`: the first packet of the session.
    pub fn in_tls(stream: TcpStream, role: Role, out: Vec<u8>, tls: &Tls) -> Result<Peer, LoadFailed> {
        let connection = tls.connection()?;
        let mut peer = Peer::new(stream, role, Vec::new());
        let step = if tls.start == Start::Direct {
            peer.out = out;
            Step::On
        } else {
            wire::untagged(&mut peer.out, |b| {
                b.extend_from_slice(&wire::SSL_REQUEST.to_be_bytes())
            });
            Step::Asking { behind: out }
        };
        peer.secure = Some(Box::new(Secure { connection, step }));
        Ok(peer)
    }

    pub fn is_secure(&self) -> bool {
        self.secure.is_some()
    }

    pub fn has_output(&self) -> bool {
        !self.out.is_empty() || self.secure.as_ref().is_some_and(|s| s.connection.wants_write())
    }

    /// True if everything is out.
    pub fn flush(&mut self) -> bool {
        if let Some(secure) = &mut self.secure
            && let Step::On = secure.step
        {
            if !self.out.is_empty() {
                secure.connection.set_buffer_limit(None);
                if secure.connection.writer().write_all(&self.out).is_err() {
                    self.over = true;
                }
                self.out.clear();
            }
            while secure.connection.wants_write() && !self.over {
                match secure.connection.write_tls(&mut self.stream) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                        return false;
                    }
                    Err(error) => (self.over, self.failure) = (true, Some(error)),
                }
            }
            return !self.over;
        }
        while let Some(rest) = self.out.get(self.out_at..).filter(|rest| !rest.is_empty()) {
            match self.stream.write(rest) {
                Ok(n) => self.out_at += n,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                // A stream that is still connecting says this, too.
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected) => {
                    return false;
                }
                Err(error) => {
                    (self.over, self.failure) = (true, Some(error));
                    return false;
                }
            }
        }
        self.out.clear();
        self.out_at = 0;
        true
    }

    /// Takes what came from the socket and appends what it means to `plain`. For a peer with TLS only.
    pub fn uncover(&mut self, mut raw: &[u8], plain: &mut Vec<u8>) -> Result<(), NoTls> {
        let Some(secure) = &mut self.secure else {
            return Ok(());
        };
        if let Step::Asking { behind } = &mut secure.step {
            match raw.split_first() {
                // Bytes behind the S were put there by somebody who is not in TLS.
                Some((b'S', [])) => {
                    self.out = std::mem::take(behind);
                    self.out_at = 0;
                    secure.step = Step::On;
                    self.flush();
                    return Ok(());
                }
                Some((b'S', _)) => return Err(NoTls::Stuffed),
                Some((b'N', _)) => return Err(NoTls::Refused),
                // An ErrorResponse in the clear: too many clients, for example. It is read, not believed.
                Some((b'E', _)) => {
                    plain.extend_from_slice(raw);
                    return Ok(());
                }
                _ => return Err(NoTls::Stuffed),
            }
        }
        while !raw.is_empty() {
            secure.connection.read_tls(&mut raw).map_err(NoTls::Io)?;
            let state = secure.connection.process_new_packets().map_err(NoTls::Tls)?;
            let (waiting, closed) = (state.plaintext_bytes_to_read(), state.peer_has_closed());
            if waiting > 0 {
                let at = plain.len();
                plain.resize(at + waiting, 0);
                secure
                    .connection
                    .reader()
                    .read_exact(plain.get_mut(at..).unwrap_or(&mut []))
                    .map_err(NoTls::Io)?;
            }
            if closed {
                self.over = true;
                break;
            }
        }
        if secure.connection.wants_write() {
            self.flush();
        }
        Ok(())
    }

    /// Says goodbye in TLS, where that is spoken.
    pub fn close(&mut self) {
        if let Some(secure) = &mut self.secure
            && let Step::On = secure.step
        {
            secure.connection.send_close_notify();
        }
        self.flush();
    }
}

/// Why a session has no TLS.
#[derive(Debug)]
pub enum NoTls {
    Refused,
    Stuffed,
    Tls(rustls::Error),
    Io(std::io::Error),
}

impl std::fmt::Display for NoTls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            NoTls::Refused => f.write_str(
                "it refuses TLS; use --tls off, or --tls direct for what speaks TLS from the first byte",
            ),
            NoTls::Stuffed => f.write_str("its answer to SSLRequest is neither yes nor no"),
            NoTls::Tls(error) => write!(f, "TLS: {error}"),
            NoTls::Io(error) => write!(f, "TLS: {error}"),
        }
    }
}
