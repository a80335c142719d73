//! One side of a session: TLS or plain, what came in and is not yet used, what is to go out. Does no IO.
//!
//! Bytes come in as the socket gave them; clear bytes come out, in place when there is no TLS and nothing is left over.
//! Never here: framing, policy.
//! Invariant: a leg with nothing to hold holds no memory: its buffers are the core's, lent for as long as something is in them.
//! Bounds: `carry` is bounded by the reader (a message's limit), `out` by back-pressure ([`OUT_BYTES_HIGH`]).

use crate::core::Core;
use rustls::{ClientConnection, ServerConnection};
use std::io::{Read, Write};

/// Above this many bytes waiting for one peer, the other peer is not read.
pub const OUT_BYTES_HIGH: usize = 128 << 10;
/// Below this it is read again.
pub const OUT_BYTES_LOW: usize = 32 << 10;

enum Tls {
    Server(ServerConnection),
    Client(ClientConnection),
}

/// One side of a session.
#[derive(Default)]
pub struct Leg {
    tls: Option<Box<Tls>>,
    /// Clear bytes that came and are not used yet.
    carry: Vec<u8>,
    /// Clear bytes that are to go.
    out: Vec<u8>,
    /// TLS bytes of the handshake or of alerts that must go even when `out` is empty.
    tls_wants_write: bool,
    /// TLS's goodbye goes after what is in `out`: nothing can be said after it.
    parting: bool,
}

/// The peer's TLS cannot be gone on with.
#[derive(Debug)]
pub struct TlsBroken(pub rustls::Error);

impl Leg {
    /// From here on the peer is a client inside TLS.
    pub fn start_server_tls(&mut self, connection: ServerConnection) {
        self.tls = Some(Box::new(Tls::Server(connection)));
    }

    /// From here on the peer is a server inside TLS.
    pub fn start_client_tls(&mut self, connection: ClientConnection) {
        self.tls = Some(Box::new(Tls::Client(connection)));
        self.tls_wants_write = true;
    }

    /// Whether there is TLS.
    pub fn has_tls(&self) -> bool {
        self.tls.is_some()
    }

    /// Whether TLS is still being agreed on.
    pub fn is_handshaking(&self) -> bool {
        match self.tls.as_deref() {
            None => false,
            Some(Tls::Server(c)) => c.is_handshaking(),
            Some(Tls::Client(c)) => c.is_handshaking(),
        }
    }

    /// What was agreed on by ALPN.
    pub fn alpn(&self) -> Option<Vec<u8>> {
        match self.tls.as_deref()? {
            Tls::Server(c) => c.alpn_protocol().map(<[u8]>::to_vec),
            Tls::Client(c) => c.alpn_protocol().map(<[u8]>::to_vec),
        }
    }

    /// The peer's own certificate, DER.
    pub fn peer_certificate(&self) -> Option<Vec<u8>> {
        let chain = match self.tls.as_deref()? {
            Tls::Server(c) => c.peer_certificates(),
            Tls::Client(c) => c.peer_certificates(),
        };
        chain?.first().map(|c| c.as_ref().to_vec())
    }

    /// Takes what the socket gave. Without TLS and with nothing carried, hands the bytes back as clear: `Some(bytes)`.
    /// Otherwise they are in `carry`, and `None` says so.
    pub fn feed<'a>(&mut self, core: &mut Core, bytes: &'a [u8]) -> Result<Option<&'a [u8]>, TlsBroken> {
        let Some(tls) = self.tls.as_deref_mut() else {
            if self.carry.is_empty() {
                return Ok(Some(bytes));
            }
            self.carry.extend_from_slice(bytes);
            return Ok(None);
        };
        core.lend(&mut self.carry);
        let mut rest = bytes;
        while !rest.is_empty() {
            let step = match tls {
                Tls::Server(c) => step(c, &mut rest, &mut self.carry),
                Tls::Client(c) => step(c, &mut rest, &mut self.carry),
            };
            self.tls_wants_write = true;
            step?;
        }
        Ok(None)
    }

    /// What is carried, taken out; give the unused rest back with [`Leg::keep`].
    pub fn take_carry(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.carry)
    }

    /// Bytes that came in and are not used.
    pub fn carried(&self) -> usize {
        self.carry.len()
    }

    /// Puts back a taken carry of which `used` bytes are done.
    pub fn put_back(&mut self, core: &mut Core, mut carry: Vec<u8>, used: usize) {
        debug_assert!(
            self.carry.is_empty(),
            "leg: nothing is fed while the carry is out"
        );
        if used >= carry.len() {
            core.recycle(carry);
            return;
        }
        carry.drain(..used);
        self.carry = carry;
    }

    /// Keeps the unused rest of bytes that were handed back by [`Leg::feed`].
    pub fn keep(&mut self, core: &mut Core, rest: &[u8]) {
        if !rest.is_empty() {
            core.lend(&mut self.carry);
            self.carry.extend_from_slice(rest);
        }
    }

    /// Before much is written into [`Leg::out`]: a buffer that has been used before.
    pub fn lend_out(&mut self, core: &mut Core) {
        core.lend(&mut self.out);
    }

    /// Where clear bytes for this peer are appended.
    pub fn out(&mut self) -> &mut Vec<u8> {
        &mut self.out
    }

    /// Bytes that are to go out.
    pub fn out_len(&self) -> usize {
        self.out.len()
    }

    /// What must go to the socket now. An `out` with nothing in it goes back to the core.
    #[inline]
    pub fn take_output(&mut self, core: &mut Core) -> Result<Option<Vec<u8>>, TlsBroken> {
        if self.out.is_empty() && !self.tls_wants_write {
            if self.out.capacity() > 0 {
                core.recycle(std::mem::take(&mut self.out));
            }
            return Ok(None);
        }
        self.seal_output(core)
    }

    fn seal_output(&mut self, core: &mut Core) -> Result<Option<Vec<u8>>, TlsBroken> {
        let Some(tls) = self.tls.as_deref_mut() else {
            self.tls_wants_write = false;
            return Ok(Some(std::mem::take(&mut self.out)));
        };
        let mut wire = core.buffer();
        match tls {
            Tls::Server(c) => seal(c, &mut self.out, &mut wire, self.parting)?,
            Tls::Client(c) => seal(c, &mut self.out, &mut wire, self.parting)?,
        }
        self.parting = false;
        self.tls_wants_write = false;
        if wire.is_empty() {
            core.recycle(wire);
            return Ok(None);
        }
        Ok(Some(wire))
    }

    /// TLS's goodbye, after all that is in `out`.
    pub fn say_goodbye(&mut self) {
        if self.tls.is_some() {
            self.parting = true;
            self.tls_wants_write = true;
        }
    }
}

fn step<D>(
    c: &mut rustls::ConnectionCommon<D>,
    rest: &mut &[u8],
    carry: &mut Vec<u8>,
) -> Result<(), TlsBroken>
where
    D: rustls::SideData,
{
    // Reading from memory cannot fail; "buffer full" asks to process first, which the next lines do.
    let _ = c.read_tls(rest);
    let state = c.process_new_packets().map_err(TlsBroken)?;
    let waiting = state.plaintext_bytes_to_read();
    if waiting > 0 {
        let start = carry.len();
        carry.resize(start + waiting, 0);
        let mut at = start;
        while at < carry.len() {
            match c.reader().read(carry.get_mut(at..).unwrap_or_default()) {
                Ok(0) | Err(_) => break,
                Ok(n) => at += n,
            }
        }
        carry.truncate(at);
    }
    Ok(())
}

fn seal<D>(
    c: &mut rustls::ConnectionCommon<D>,
    out: &mut Vec<u8>,
    wire: &mut Vec<u8>,
    parting: bool,
) -> Result<(), TlsBroken>
where
    D: rustls::SideData,
{
    // rustls buffers at most its limit (64 KiB) of clear bytes, so a long `out` goes through in pieces.
    let mut from = 0;
    loop {
        if from < out.len() && !c.is_handshaking() {
            from += c.writer().write(out.get(from..).unwrap_or_default()).unwrap_or(0);
        }
        let mut moved = false;
        while c.wants_write() {
            if c.write_tls(wire).unwrap_or(0) == 0 {
                break;
            }
            moved = true;
        }
        if from >= out.len() || !moved {
            break;
        }
    }
    out.drain(..from.min(out.len()));
    if parting {
        c.send_close_notify();
        while c.wants_write() && c.write_tls(wire).unwrap_or(0) > 0 {}
    }
    Ok(())
}
