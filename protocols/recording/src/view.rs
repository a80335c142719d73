//! Events read without copying: what the recorder and the queries use.

use crate::codec::{self, CodecError};
pub use crate::table::{BodyView, EventKind, KIND_NUMBER_MAX};
use crate::varint;
use headgate_plane::{ParameterKind, SessionId};
use serde::Deserialize;

/// [`crate::Event`], read without copying.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EventView<'a> {
    /// In which session.
    pub session: SessionId,
    /// Dense in the session, from 0.
    pub seq: u32,
    /// When, in Unix microseconds.
    pub unix_us: u64,
    /// What.
    #[serde(borrow)]
    pub body: BodyView<'a>,
}

/// [`headgate_plane::Parameter`], read without copying.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ParameterView<'a> {
    /// Of what kind.
    pub kind: ParameterKind,
    /// What, up to its bound; `None` for NULL.
    #[serde(borrow)]
    pub value: Option<&'a [u8]>,
}

/// [`crate::RecordedError`], read without copying.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ErrorView<'a> {
    /// The protocol's own.
    pub code: &'a str,
    /// As the client received it.
    pub message: &'a str,
}

impl EventKind {
    /// Whether nothing of the session may follow.
    pub fn ends_session(self) -> bool {
        matches!(
            self,
            EventKind::SignInRefused | EventKind::SessionClose | EventKind::SessionLost
        )
    }

    /// Whether a session may begin with it. What is not known may.
    pub fn begins_session(self) -> bool {
        matches!(
            self,
            EventKind::SessionOpen
                | EventKind::SignInRefused
                | EventKind::Recorder
                | EventKind::Admin
                | EventKind::Unknown(_)
        )
    }
}

/// The number of the last [`crate::RecorderNote`] that is known.
const RECORDER_NOTE_MAX: u64 = 6;

/// What every event begins with.
#[derive(Deserialize)]
struct Head {
    session: SessionId,
    seq: u32,
    unix_us: u64,
}

impl<'a> EventView<'a> {
    /// Reads one event that fills `bytes`. Takes hostile bytes.
    pub fn read(bytes: &'a [u8]) -> Result<EventView<'a>, CodecError> {
        match codec::read(bytes) {
            Err(CodecError::Malformed) => EventView::of_later_version(bytes).ok_or(CodecError::Malformed),
            read => read,
        }
    }

    /// An event whose kind, or whose note of the recorder, is not known. `None` if it is one that ought to be read.
    fn of_later_version(bytes: &'a [u8]) -> Option<EventView<'a>> {
        let (head, rest) = postcard::take_from_bytes::<Head>(bytes).ok()?;
        let (number, rest) = rest.split_first()?;
        match EventKind::of(*number)? {
            EventKind::Unknown(_) => {}
            EventKind::Recorder if varint::get(&mut &*rest)? > RECORDER_NOTE_MAX => {}
            _ => return None,
        }
        let body = BodyView::Unknown {
            kind: *number,
            bytes: rest,
        };
        Some(EventView {
            session: head.session,
            seq: head.seq,
            unix_us: head.unix_us,
            body,
        })
    }
}

impl BodyView<'_> {
    /// The statement that the event is about, or 0.
    pub fn statement(&self) -> u32 {
        match self {
            BodyView::Statement { statement, .. }
            | BodyView::Answered { statement, .. }
            | BodyView::Stream { statement, .. }
            | BodyView::StreamEnd { statement, .. }
            | BodyView::StatementEnd { statement, .. } => *statement,
            _ => 0,
        }
    }
}
