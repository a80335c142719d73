//! What a peer can do wrong, by name. Client and target alike: who it was, the caller knows.

use headgate_wire::ReadError;
use std::fmt;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerMisbehaved {
    /// The length field is smaller than itself.
    FrameTooShort {
        bytes: usize,
    },
    FrameTooLong {
        bytes: usize,
        max: usize,
    },
    /// No message has this tag in this direction.
    UnknownMessage {
        tag: u8,
    },
    /// The body does not fit its message.
    Malformed {
        message: &'static str,
        what: ReadError,
    },
    /// A field has a value that the message does not know.
    BadField {
        message: &'static str,
        field: &'static str,
        value: i64,
    },
    /// Text that must be UTF-8 is not.
    NotUtf8 {
        message: &'static str,
    },
    /// A known message where it is not legal. 0 stands for a start-up packet.
    OutOfPlace {
        tag: u8,
        state: &'static str,
    },
    /// Bytes came in the clear behind SSLRequest: they would be taken as if they came inside TLS.
    ClearBytesBehindSslRequest {
        bytes: usize,
    },
    RepeatedSslRequest,
    RepeatedGssRequest,
    /// Direct TLS must name the protocol `postgresql` by ALPN.
    AlpnMissing,
    /// TLS where none was offered.
    TlsNotOffered,
    /// A start-up packet in the clear where TLS is required.
    TlsRequired,
    UnsupportedProtocol {
        major: u16,
        minor: u16,
    },
    /// The start-up packet names no user.
    UserMissing,
    /// A name of the start-up packet that must stand once stands twice.
    RepeatedParameter {
        name: &'static str,
    },
    EmptyPassword,
    /// More items than the state keeps.
    TooMany {
        what: &'static str,
        max: usize,
    },
}

impl PeerMisbehaved {
    /// SQLSTATE and the little that a client may read.
    pub fn to_client(&self) -> (&'static str, &'static str) {
        match self {
            PeerMisbehaved::FrameTooShort { .. } => ("08P01", "invalid message length"),
            PeerMisbehaved::FrameTooLong { .. } => ("08P01", "message is longer than Headgate takes"),
            PeerMisbehaved::UnknownMessage { .. } => ("08P01", "unknown message type"),
            PeerMisbehaved::Malformed { .. } => ("08P01", "invalid message format"),
            PeerMisbehaved::BadField { .. } => ("08P01", "invalid value in a message"),
            PeerMisbehaved::NotUtf8 { .. } => ("22021", "invalid byte sequence for encoding \"UTF8\""),
            PeerMisbehaved::OutOfPlace { .. } => ("08P01", "message is not expected here"),
            PeerMisbehaved::ClearBytesBehindSslRequest { .. } => ("08P01", "received unencrypted data after SSL request"),
            PeerMisbehaved::RepeatedSslRequest => ("08P01", "SSL was requested twice"),
            PeerMisbehaved::RepeatedGssRequest => ("08P01", "GSSAPI encryption was requested twice"),
            PeerMisbehaved::AlpnMissing => ("08P01", "direct SSL connection without ALPN \"postgresql\""),
            PeerMisbehaved::TlsNotOffered => ("08P01", "SSL is not offered here"),
            PeerMisbehaved::TlsRequired => ("28000", "Headgate takes no password without SSL: connect with sslmode=require or better"),
            PeerMisbehaved::UnsupportedProtocol { .. } => ("0A000", "unsupported frontend protocol: Headgate speaks 3.0 and 3.2"),
            PeerMisbehaved::UserMissing => ("28000", "no PostgreSQL user name specified in startup packet"),
            PeerMisbehaved::RepeatedParameter { .. } => ("08P01", "a name stands twice in the startup packet"),
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
            PeerMisbehaved::FrameTooLong { bytes, max } => write!(f, "a message of {bytes} bytes, {max} is the most"),
            PeerMisbehaved::UnknownMessage { tag } => write!(f, "unknown message {:?}", char::from(*tag)),
            PeerMisbehaved::Malformed { message, what } => write!(f, "{message} cannot be read: {what}"),
            PeerMisbehaved::BadField { message, field, value } => write!(f, "{message} has {field} {value}"),
            PeerMisbehaved::NotUtf8 { message } => write!(f, "{message} has text that is not UTF-8"),
            PeerMisbehaved::OutOfPlace { tag: 0, state } => write!(f, "a start-up packet in state {state}"),
            PeerMisbehaved::OutOfPlace { tag, state } => write!(f, "message {:?} in state {state}", char::from(*tag)),
            PeerMisbehaved::ClearBytesBehindSslRequest { bytes } => write!(f, "{bytes} bytes in the clear behind SSLRequest"),
            PeerMisbehaved::RepeatedParameter { name } => write!(f, "{name} stands twice in the start-up packet"),
            PeerMisbehaved::UnsupportedProtocol { major, minor } => write!(f, "protocol {major}.{minor}"),
            PeerMisbehaved::TooMany { what, max } => write!(f, "more than {max} {what}"),
            other => f.write_str(other.to_client().1),
        }
    }
}

impl std::error::Error for PeerMisbehaved {}
