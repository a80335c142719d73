//! The gateway as server towards a client, until the client's credential is there.
//!
//! ```text
//! ExpectFirst ── SSLRequest (S) / 0x16 ──▶ AwaitingTls ── tls_started ──▶ ExpectStartupAfterTls
//!   │  ▲ └─ SSLRequest (N), GSSENCRequest (N): at most one of each
//!   └── StartupMessage ──▶ ExpectPassword ── PasswordMessage ──▶ Done        (CancelRequest ──▶ Done)
//! ```
//!
//! Invariants: each message is legal in exactly the states drawn above, so a second start-up packet cannot change who is
//! calling; nothing that came in the clear is read as if it came inside TLS; a password is asked for only inside TLS
//! unless the listener says otherwise. What is no start-up packet is closed without a word
//! ([`PeerMisbehaved::is_silent`]), as PostgreSQL does it; `tests/first_bytes.rs` compares the two.
//! Bounds: a start-up packet has STARTUP_BYTES_MAX, a password PASSWORD_BYTES_MAX; at most four packets before the password.

use crate::error::{PASSWORD_MESSAGE as MESSAGE, PeerMisbehaved};
use crate::frame;
use crate::startup::{FirstPacket, MINOR_MAX, Startup};
use crate::write;
use headgate_plane::Secret;
use headgate_wire::Reader;

/// A token or a JWT; PostgreSQL itself takes 65535.
pub const PASSWORD_BYTES_MAX: usize = 64 << 10;

/// First byte of a TLS record that holds a handshake.
const TLS_HANDSHAKE_RECORD: u8 = 0x16;

const ALPN: &[u8] = b"postgresql";

/// What the listener asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientTls {
    /// Nothing is read in the clear.
    Required,
    /// Offered; a password in the clear is taken, too.
    DangerOptional,
    /// Not offered.
    DangerOff,
}

/// A client's way in, by what is waited for.
#[derive(Debug)]
pub enum ClientHandshake {
    /// Its first packet.
    ExpectFirst(Box<ExpectFirst>),
    /// TLS, which was agreed on.
    AwaitingTls(Box<AwaitingTls>),
    /// Its start-up packet, inside TLS.
    ExpectStartupAfterTls(Box<ExpectStartupAfterTls>),
    /// Its password.
    ExpectPassword(Box<ExpectPassword>),
    /// Nothing: it is over.
    Done,
}

/// A client of which nothing is known.
#[derive(Debug)]
pub struct ExpectFirst {
    tls: ClientTls,
    ssl_refused: bool,
    gss_refused: bool,
}

/// A client with which TLS was agreed on.
#[derive(Debug)]
pub struct AwaitingTls {
    direct: bool,
    /// Bytes that came in the clear behind SSLRequest (CVE-2021-23214). They are dropped, and as with PostgreSQL the session
    /// ends as soon as there is a TLS in which that can be said.
    stuffed: usize,
}

/// A client inside TLS.
#[derive(Debug)]
pub struct ExpectStartupAfterTls {
    _private: (),
}

/// A client that was asked for its password.
#[derive(Debug)]
pub struct ExpectPassword {
    _private: (),
}

/// What one call did.
#[derive(Debug, Default)]
pub struct Advance {
    /// Bytes of the buffer that are done with.
    pub used: usize,
    /// What the driver has to do, if anything.
    pub event: Option<ClientEvent>,
}

/// What the driver of a client's handshake has to do.
#[derive(Debug)]
pub enum ClientEvent {
    /// Send `out`, then start TLS as server with what is left in the buffer (direct: the ClientHello is still there), then
    /// call `tls_started`.
    StartTls {
        /// Whether the client began it without asking.
        direct: bool,
    },
    /// Who says they call, and which target they want. The request for a password is in `out`.
    Startup(Box<Startup>),
    /// The handshake is over: check the credential. AuthenticationOk is the caller's to send.
    Password(Secret),
    /// The handshake is over: cancel, answer nothing, close.
    Cancel {
        /// Which session's process.
        pid: u32,
        /// Its secret.
        key: Vec<u8>,
    },
}

impl ClientHandshake {
    /// Waits for the first packet.
    pub fn new(tls: ClientTls) -> Self {
        ClientHandshake::ExpectFirst(Box::new(ExpectFirst {
            tls,
            ssl_refused: false,
            gss_refused: false,
        }))
    }

    /// For logs and tests.
    pub fn state(&self) -> &'static str {
        match self {
            ClientHandshake::ExpectFirst(_) => "ExpectFirst",
            ClientHandshake::AwaitingTls(_) => "AwaitingTls",
            ClientHandshake::ExpectStartupAfterTls(_) => "ExpectStartupAfterTls",
            ClientHandshake::ExpectPassword(_) => "ExpectPassword",
            ClientHandshake::Done => "Done",
        }
    }

    /// TLS is up, with the protocol that ALPN chose. Begin with an empty buffer: only what TLS decrypted may follow.
    pub fn tls_started(self, alpn: Option<&[u8]>) -> Result<Self, PeerMisbehaved> {
        match self {
            ClientHandshake::AwaitingTls(state) if state.stuffed > 0 => {
                Err(PeerMisbehaved::ClearBytesBehindSslRequest { bytes: state.stuffed })
            }
            ClientHandshake::AwaitingTls(state) => match alpn {
                Some(ALPN) => Ok(ClientHandshake::ExpectStartupAfterTls(Box::new(
                    ExpectStartupAfterTls { _private: () },
                ))),
                None if !state.direct => Ok(ClientHandshake::ExpectStartupAfterTls(Box::new(
                    ExpectStartupAfterTls { _private: () },
                ))),
                _ => Err(PeerMisbehaved::AlpnMissing),
            },
            other => Err(PeerMisbehaved::OutOfPlace {
                tag: TLS_HANDSHAKE_RECORD,
                state: other.state(),
            }),
        }
    }

    /// Takes at most one message from the front of `buffer`; answers are appended to `out`.
    pub fn advance(self, buffer: &[u8], out: &mut Vec<u8>) -> Result<(Self, Advance), PeerMisbehaved> {
        match self {
            ClientHandshake::ExpectFirst(state) => state.advance(buffer, out),
            ClientHandshake::ExpectStartupAfterTls(state) => state.advance(buffer, out),
            ClientHandshake::ExpectPassword(state) => state.advance(buffer),
            // What comes now is for TLS, or for the session.
            waiting @ (ClientHandshake::AwaitingTls(_) | ClientHandshake::Done) => {
                Ok((waiting, Advance::default()))
            }
        }
    }
}

fn event(used: usize, event: ClientEvent) -> Advance {
    Advance {
        used,
        event: Some(event),
    }
}

/// A whole packet without a tag, and its length.
fn first_packet(buffer: &[u8]) -> Result<Option<(usize, FirstPacket)>, PeerMisbehaved> {
    let Some(len) = frame::peek_startup(buffer)? else {
        return Ok(None);
    };
    let Some(packet) = buffer.get(..len) else {
        return Ok(None);
    };
    Ok(Some((len, FirstPacket::decode(packet)?)))
}

fn expect_password(startup: Startup, used: usize, out: &mut Vec<u8>) -> (ClientHandshake, Advance) {
    if let Some(unknown) = &startup.negotiate {
        // The names came out of a packet of STARTUP_BYTES_MAX without zeros: they always fit.
        let written = write::negotiate_protocol_version(out, startup.minor.min(MINOR_MAX), unknown);
        assert!(
            written.is_ok(),
            "names from a start-up packet can be written back"
        );
    }
    write::authentication_cleartext_password(out);
    let next = ClientHandshake::ExpectPassword(Box::new(ExpectPassword { _private: () }));
    (next, event(used, ClientEvent::Startup(Box::new(startup))))
}

impl ExpectFirst {
    fn advance(
        mut self: Box<Self>,
        buffer: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(ClientHandshake, Advance), PeerMisbehaved> {
        // Direct TLS opens a connection; after SSLRequest or GSSENCRequest it is somebody else's bytes. Where it is not taken, it
        // reads as the length of a start-up packet beyond all bounds.
        let direct = self.tls != ClientTls::DangerOff && !self.ssl_refused && !self.gss_refused;
        if direct && buffer.first() == Some(&TLS_HANDSHAKE_RECORD) {
            let next = ClientHandshake::AwaitingTls(Box::new(AwaitingTls {
                direct: true,
                stuffed: 0,
            }));
            return Ok((next, event(0, ClientEvent::StartTls { direct: true })));
        }
        let Some((used, packet)) = first_packet(buffer)? else {
            return Ok((ClientHandshake::ExpectFirst(self), Advance::default()));
        };
        match packet {
            FirstPacket::SslRequest if self.ssl_refused => Err(PeerMisbehaved::RepeatedSslRequest),
            FirstPacket::SslRequest if self.tls == ClientTls::DangerOff => {
                self.ssl_refused = true;
                out.push(b'N');
                Ok((ClientHandshake::ExpectFirst(self), Advance { used, event: None }))
            }
            FirstPacket::SslRequest => {
                out.push(b'S');
                let stuffed = buffer.len().saturating_sub(used);
                let next = ClientHandshake::AwaitingTls(Box::new(AwaitingTls {
                    direct: false,
                    stuffed,
                }));
                // All of it is used: what came in the clear never reaches TLS.
                Ok((next, event(buffer.len(), ClientEvent::StartTls { direct: false })))
            }
            FirstPacket::GssEncRequest if self.gss_refused => Err(PeerMisbehaved::RepeatedGssRequest),
            FirstPacket::GssEncRequest => {
                self.gss_refused = true;
                out.push(b'N');
                Ok((ClientHandshake::ExpectFirst(self), Advance { used, event: None }))
            }
            // libpq before 17 cancels in the clear: the key opens nothing else.
            FirstPacket::Cancel { pid, key } => Ok((
                ClientHandshake::Done,
                event(used, ClientEvent::Cancel { pid, key }),
            )),
            FirstPacket::Startup(_) if self.tls == ClientTls::Required => Err(PeerMisbehaved::TlsRequired),
            FirstPacket::Startup(startup) => Ok(expect_password(startup, used, out)),
        }
    }
}

impl ExpectStartupAfterTls {
    fn advance(
        self: Box<Self>,
        buffer: &[u8],
        out: &mut Vec<u8>,
    ) -> Result<(ClientHandshake, Advance), PeerMisbehaved> {
        let Some((used, packet)) = first_packet(buffer)? else {
            return Ok((ClientHandshake::ExpectStartupAfterTls(self), Advance::default()));
        };
        match packet {
            FirstPacket::SslRequest => Err(PeerMisbehaved::RepeatedSslRequest),
            FirstPacket::GssEncRequest => Err(PeerMisbehaved::RepeatedGssRequest),
            FirstPacket::Cancel { pid, key } => Ok((
                ClientHandshake::Done,
                event(used, ClientEvent::Cancel { pid, key }),
            )),
            FirstPacket::Startup(startup) => Ok(expect_password(startup, used, out)),
        }
    }
}

impl ExpectPassword {
    fn advance(self: Box<Self>, buffer: &[u8]) -> Result<(ClientHandshake, Advance), PeerMisbehaved> {
        // The tag alone decides: a second start-up packet (whose first byte is 0) is refused before its length is believed.
        match buffer.first() {
            None | Some(b'p') => {}
            Some(tag) => {
                return Err(PeerMisbehaved::OutOfPlace {
                    tag: *tag,
                    state: "ExpectPassword",
                });
            }
        }
        let Some((header, body)) = frame::split(buffer, PASSWORD_BYTES_MAX)? else {
            return Ok((ClientHandshake::ExpectPassword(self), Advance::default()));
        };
        let mut reader = Reader::new(body);
        let password = reader.cstr().map_err(PeerMisbehaved::malformed(MESSAGE))?;
        reader.finish().map_err(PeerMisbehaved::malformed(MESSAGE))?;
        let password =
            std::str::from_utf8(password).map_err(|_| PeerMisbehaved::NotUtf8 { message: MESSAGE })?;
        if password.is_empty() {
            return Err(PeerMisbehaved::EmptyPassword);
        }
        Ok((
            ClientHandshake::Done,
            event(header.len, ClientEvent::Password(Secret::new(password))),
        ))
    }
}

#[cfg(test)]
mod tests;
