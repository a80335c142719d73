//! The recorded bytes of replies, as far as a person can read them. A protocol is a folder here and an arm; what is of another
//! one is shown as it stands.

mod postgres;

use crate::render;
use crate::types::ReplyMessage;
use headgate_plane::{ParameterKind, Protocol};

/// Reads the replies of one session, one statement after the other.
pub(crate) enum Transcript {
    Postgres(postgres::Replies),
    /// Of a protocol that is not taken apart here.
    Plain,
}

impl Transcript {
    /// For a session of that protocol; `None`: of one that this version does not know.
    pub(crate) fn of(protocol: Option<Protocol>) -> Transcript {
        match protocol {
            Some(Protocol::Postgres) => Transcript::Postgres(postgres::Replies::default()),
            Some(Protocol::Mysql | Protocol::Http | Protocol::Kubernetes | Protocol::Mcp | Protocol::Ssh)
            | None => Transcript::Plain,
        }
    }

    /// A statement begins: what was cut off before it is forgotten.
    pub(crate) fn begin(&mut self) {
        match self {
            Transcript::Postgres(replies) => replies.begin(),
            Transcript::Plain => {}
        }
    }

    /// Adds a part, and gives the messages that are whole by now.
    pub(crate) fn add(&mut self, bytes: &[u8]) -> Vec<ReplyMessage> {
        match self {
            Transcript::Postgres(replies) => replies.add(bytes),
            Transcript::Plain => vec![ReplyMessage::Bytes {
                text: render::text(bytes),
            }],
        }
    }

    /// Bytes of a message that was not recorded whole.
    pub(crate) fn end(&mut self) -> Option<ReplyMessage> {
        match self {
            Transcript::Postgres(replies) => replies.end(),
            Transcript::Plain => None,
        }
    }
}

/// A value as its kind says; `None` where that does not tell how to read it.
pub fn parameter_text(kind: ParameterKind, bytes: &[u8]) -> Option<String> {
    match kind {
        ParameterKind::Postgres { type_oid, format } => postgres::value::text(type_oid, format, bytes),
    }
}

/// The same, and as bytes where it cannot be read.
pub(crate) fn parameter_shown(kind: ParameterKind, bytes: &[u8]) -> String {
    match kind {
        ParameterKind::Postgres { type_oid, format } => postgres::value::shown(type_oid, format, bytes),
    }
}
