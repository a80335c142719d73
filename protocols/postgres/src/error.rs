//! What a peer can do wrong, by name. Client and target alike: who it was, the caller knows.

use crate::frontend::Flaw;
use headgate_wire::ReadError;
use std::fmt;

pub(crate) const STARTUP_MESSAGE: &str = "StartupMessage";
pub(crate) const PASSWORD_MESSAGE: &str = "PasswordMessage";

/// What a peer did against the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMisbehaved {
    /// The first four bytes are no length of a start-up packet: whoever sends them does not speak PostgreSQL (as an HTTP
    /// client, a scanner). PostgreSQL closes without a word.
    NoStartupPacket {
        /// What it says.
        bytes: usize,
    },
    /// A cancel request without a whole key. PostgreSQL closes without a word, as after any cancel request.
    NoCancelKey {
        /// What it has.
        bytes: usize,
    },
    /// The length field is smaller than itself.
    FrameTooShort {
        /// What it says.
        bytes: usize,
    },
    /// A message is longer than is taken.
    FrameTooLong {
        /// What it says.
        bytes: usize,
        /// What is taken.
        max: usize,
    },
    /// No message has this tag in this direction.
    UnknownMessage {
        /// As it came.
        tag: u8,
    },
    /// A client's message whose frame is whole and whose body is wrong: an ERROR, and the session lives.
    Flawed {
        /// Whose.
        message: &'static str,
        /// Which.
        flaw: Flaw,
    },
    /// The body does not fit its message.
    Malformed {
        /// Which message.
        message: &'static str,
        /// What was lacking.
        what: ReadError,
    },
    /// A field has a value that the message does not know.
    BadField {
        /// Of which message.
        message: &'static str,
        /// Which one.
        field: &'static str,
        /// What stands there.
        value: i64,
    },
    /// Text that must be UTF-8 is not.
    NotUtf8 {
        /// In which message.
        message: &'static str,
    },
    /// A known message where it is not legal. 0 stands for a start-up packet.
    OutOfPlace {
        /// As it came.
        tag: u8,
        /// What was waited for.
        state: &'static str,
    },
    /// Bytes came in the clear behind SSLRequest: they would be taken as if they came inside TLS.
    ClearBytesBehindSslRequest {
        /// How many.
        bytes: usize,
    },
    /// SSLRequest a second time.
    RepeatedSslRequest,
    /// GSSENCRequest a second time.
    RepeatedGssRequest,
    /// Direct TLS must name the protocol `postgresql` by ALPN.
    AlpnMissing,
    /// TLS where none was offered.
    TlsNotOffered,
    /// A start-up packet in the clear where TLS is required.
    TlsRequired,
    /// A protocol that is not 3.
    UnsupportedProtocol {
        /// As it was asked for.
        major: u16,
        /// As it was asked for.
        minor: u16,
    },
    /// The start-up packet names no user.
    UserMissing,
    /// A name of the start-up packet that must stand once stands twice.
    RepeatedParameter {
        /// Which.
        name: &'static str,
    },
    /// A password message without a password.
    EmptyPassword,
    /// More items than the state keeps.
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many are kept.
        max: usize,
    },
}

impl PeerMisbehaved {
    /// What is wrong with a message whose frame is whole. `None`: the session ends.
    pub fn flaw(&self) -> Option<Flaw> {
        match self {
            PeerMisbehaved::Flawed { flaw, .. } => Some(*flaw),
            _ => None,
        }
    }

    /// Whether the connection is closed without a word, as PostgreSQL does it: an error would be read by somebody who does
    /// not know what an error of PostgreSQL looks like, or who waits for none.
    pub fn is_silent(&self) -> bool {
        matches!(
            self,
            PeerMisbehaved::NoStartupPacket { .. } | PeerMisbehaved::NoCancelKey { .. }
        )
    }

    /// SQLSTATE and the little that a client may read.
    pub fn to_client(&self) -> (&'static str, &'static str) {
        match self {
            PeerMisbehaved::NoStartupPacket { .. } => ("08P01", "invalid length of startup packet"),
            PeerMisbehaved::NoCancelKey { .. } => ("08P01", "invalid length of cancel request"),
            PeerMisbehaved::Flawed { flaw, .. } => (flaw.sqlstate(), flaw.words()),
            PeerMisbehaved::Malformed {
                message: STARTUP_MESSAGE,
                ..
            } => (
                "08P01",
                "invalid startup packet layout: expected terminator as last byte",
            ),
            PeerMisbehaved::Malformed {
                message: PASSWORD_MESSAGE,
                ..
            } => ("08P01", "invalid password packet size"),
            PeerMisbehaved::FrameTooShort { .. } => ("08P01", "invalid message length"),
            PeerMisbehaved::FrameTooLong { .. } => ("08P01", "message is longer than Headgate takes"),
            PeerMisbehaved::UnknownMessage { .. } => ("08P01", "unknown message type"),
            PeerMisbehaved::Malformed { .. } => ("08P01", "invalid message format"),
            PeerMisbehaved::BadField { .. } => ("08P01", "invalid value in a message"),
            PeerMisbehaved::NotUtf8 { .. } => ("22021", "invalid byte sequence for encoding \"UTF8\""),
            PeerMisbehaved::OutOfPlace { .. } => ("08P01", "message is not expected here"),
            PeerMisbehaved::ClearBytesBehindSslRequest { .. } => {
                ("08P01", "received unencrypted data after SSL request")
            }
            // To PostgreSQL a second request is a start-up packet of a protocol that nobody speaks.
            PeerMisbehaved::RepeatedSslRequest => (
                "0A000",
                "unsupported frontend protocol 1234.5679: SSL was requested twice",
            ),
            PeerMisbehaved::RepeatedGssRequest => (
                "0A000",
                "unsupported frontend protocol 1234.5680: GSSAPI encryption was requested twice",
            ),
            PeerMisbehaved::AlpnMissing => ("08P01", "direct SSL connection without ALPN \"postgresql\""),
            PeerMisbehaved::TlsNotOffered => ("08P01", "SSL is not offered here"),
            PeerMisbehaved::TlsRequired => (
                "28000",
                "Headgate takes no password without SSL: connect with sslmode=require or better",
            ),
            PeerMisbehaved::UnsupportedProtocol { .. } => (
                "0A000",
                "unsupported frontend protocol: Headgate speaks 3.0 and 3.2",
            ),
            PeerMisbehaved::UserMissing => ("28000", "no PostgreSQL user name specified in startup packet"),
            PeerMisbehaved::RepeatedParameter { .. } => {
                ("08P01", "a name stands twice in the startup packet")
            }
            PeerMisbehaved::EmptyPassword => ("28P01", "empty password returned by client"),
            PeerMisbehaved::TooMany { .. } => ("54000", "more than Headgate keeps"),
        }
    }

    pub(crate) fn malformed(message: &'static str) -> impl Fn(ReadError) -> PeerMisbehaved {
        move |what| PeerMisbehaved::Malformed { message, what }
    }
}

impl fmt::Display for PeerMisbehaved {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            PeerMisbehaved::FrameTooShort { bytes } => write!(f, "a message says it has {bytes} bytes"),
            PeerMisbehaved::FrameTooLong { bytes, max } => {
                write!(f, "a message of {bytes} bytes, {max} is the most")
            }
            PeerMisbehaved::NoStartupPacket { bytes } => {
                write!(f, "the first bytes say that a start-up packet has {bytes} bytes")
            }
            PeerMisbehaved::NoCancelKey { bytes } => {
                write!(f, "a cancel request with a key of {bytes} bytes")
            }
            PeerMisbehaved::Flawed { message, flaw } => write!(f, "{message}: {flaw}"),
            PeerMisbehaved::UnknownMessage { tag } => write!(f, "unknown message {:?}", char::from(*tag)),
            PeerMisbehaved::Malformed { message, what } => write!(f, "{message} cannot be read: {what}"),
            PeerMisbehaved::BadField {
                message,
                field,
                value,
            } => write!(f, "{message} has {field} {value}"),
            PeerMisbehaved::NotUtf8 { message } => write!(f, "{message} has text that is not UTF-8"),
            PeerMisbehaved::OutOfPlace { tag: 0, state } => write!(f, "a start-up packet in state {state}"),
            PeerMisbehaved::OutOfPlace { tag, state } => {
                write!(f, "message {:?} in state {state}", char::from(*tag))
            }
            PeerMisbehaved::ClearBytesBehindSslRequest { bytes } => {
                write!(f, "{bytes} bytes in the clear behind SSLRequest")
            }
            PeerMisbehaved::RepeatedParameter { name } => {
                write!(f, "{name} stands twice in the start-up packet")
            }
            PeerMisbehaved::UnsupportedProtocol { major, minor } => write!(f, "protocol {major}.{minor}"),
            PeerMisbehaved::TooMany { what, max } => write!(f, "more than {max} {what}"),
            other => f.write_str(other.to_client().1),
        }
    }
}

impl std::error::Error for PeerMisbehaved {}
