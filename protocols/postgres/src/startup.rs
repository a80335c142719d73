//! The start-up packet and its like: the packets without a tag that open a connection.
//!
//! Invariant: a packet is read to its last byte; `user`, `database` and `replication` stand at most once, so nobody can
//! name one user to the gateway and another to whoever reads further.
//! Bounds: [`crate::frame::STARTUP_BYTES_MAX`].
//! Spec: "Message Formats": StartupMessage, SSLRequest, GSSENCRequest, CancelRequest.

use crate::cancel::KEY_BYTES_MAX;
use crate::error::{PeerMisbehaved, STARTUP_MESSAGE as MESSAGE};
use crate::write::{CANCEL_REQUEST_CODE, GSSENC_REQUEST_CODE, SSL_REQUEST_CODE};
use headgate_wire::Reader;

pub mod encoding;
pub mod options;
pub mod pins;
pub mod policy;

/// The newest minor version of protocol 3 that we speak.
pub const MINOR_MAX: u16 = 2;

/// What a client's first packet is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum FirstPacket {
    /// It asks for TLS.
    SslRequest,
    /// It asks for GSSAPI's encryption.
    GssEncRequest,
    /// It cancels the session that has this key.
    Cancel {
        /// Which session's process.
        pid: u32,
        /// Its secret.
        key: Vec<u8>,
    },
    /// It begins a session.
    Startup(Startup),
}

/// A start-up packet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Startup {
    /// The minor that both will speak: 0 or 2.
    pub minor: u16,
    /// Who it says it is.
    pub user: String,
    /// Names the target. The user's name if the packet has none, as PostgreSQL does.
    pub database: String,
    /// All others in their order, without `_pq_.` options.
    pub parameters: Vec<(String, String)>,
    /// Whether NegotiateProtocolVersion must be sent, and which `_pq_.` options it names.
    pub negotiate: Option<Vec<String>>,
}

impl Startup {
    /// The last value of a parameter, as PostgreSQL would have it. Names of settings fold in case.
    pub fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters
            .iter()
            .rev()
            .find(|(n, _)| n.eq_ignore_ascii_case(name))
            .map(|(_, value)| value.as_str())
    }
}

impl FirstPacket {
    /// `packet` is a whole packet with its length field.
    pub fn decode(packet: &[u8]) -> Result<FirstPacket, PeerMisbehaved> {
        let malformed = PeerMisbehaved::malformed(MESSAGE);
        let mut reader = Reader::new(packet);
        reader.u32().map_err(&malformed)?;
        let code = reader.u32().map_err(&malformed)?;
        let first = match code {
            // As PostgreSQL: what stands behind the code is passed over with its packet.
            SSL_REQUEST_CODE => {
                reader.rest();
                FirstPacket::SslRequest
            }
            GSSENC_REQUEST_CODE => {
                reader.rest();
                FirstPacket::GssEncRequest
            }
            CANCEL_REQUEST_CODE => {
                let pid = reader
                    .u32()
                    .map_err(|_| PeerMisbehaved::NoCancelKey { bytes: 0 })?;
                let key = reader.rest();
                if key.len() < 4 || key.len() > KEY_BYTES_MAX {
                    return Err(PeerMisbehaved::NoCancelKey { bytes: key.len() });
                }
                FirstPacket::Cancel {
                    pid,
                    key: key.to_vec(),
                }
            }
            version => {
                let [a, b, c, d] = version.to_be_bytes();
                let (major, minor) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d]));
                if major != 3 {
                    return Err(PeerMisbehaved::UnsupportedProtocol { major, minor });
                }
                FirstPacket::Startup(startup(minor, &mut reader)?)
            }
        };
        reader.finish().map_err(malformed)?;
        Ok(first)
    }
}

fn startup(asked_minor: u16, reader: &mut Reader<'_>) -> Result<Startup, PeerMisbehaved> {
    let malformed = PeerMisbehaved::malformed(MESSAGE);
    let (mut user, mut database) = (None, None);
    let mut replication = false;
    let mut parameters: Vec<(String, String)> = Vec::new();
    let mut unknown = Vec::new();
    loop {
        let name = text(reader.cstr().map_err(&malformed)?)?;
        if name.is_empty() {
            break;
        }
        let value = text(reader.cstr().map_err(&malformed)?)?;
        match name {
            "user" => once(&mut user, "user", value)?,
            "database" => once(&mut database, "database", value)?,
            "replication" if std::mem::replace(&mut replication, true) => {
                return Err(PeerMisbehaved::RepeatedParameter { name: "replication" });
            }
            name if name.starts_with("_pq_.") => unknown.push(name.to_owned()),
            name => parameters.push((name.to_owned(), value.to_owned())),
        }
    }
    // As PostgreSQL: how the packet ends is looked at before what is in it.
    reader.finish().map_err(&malformed)?;
    let user = user
        .filter(|user| !user.is_empty())
        .ok_or(PeerMisbehaved::UserMissing)?;
    let database = database
        .filter(|database| !database.is_empty())
        .unwrap_or_else(|| user.clone());
    // 3.1 was never given out: whoever asks for it can speak 3.0.
    let minor = if asked_minor >= MINOR_MAX { MINOR_MAX } else { 0 };
    let negotiate = (minor != asked_minor || !unknown.is_empty()).then_some(unknown);
    Ok(Startup {
        minor,
        user,
        database,
        parameters,
        negotiate,
    })
}

fn text(bytes: &[u8]) -> Result<&str, PeerMisbehaved> {
    std::str::from_utf8(bytes).map_err(|_| PeerMisbehaved::NotUtf8 { message: MESSAGE })
}

fn once(slot: &mut Option<String>, name: &'static str, value: &str) -> Result<(), PeerMisbehaved> {
    match slot.replace(value.to_owned()) {
        None => Ok(()),
        Some(_) => Err(PeerMisbehaved::RepeatedParameter { name }),
    }
}

#[cfg(test)]
mod tests;
