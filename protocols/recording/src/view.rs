//! Events read without copying: what the recorder and the queries use.

use crate::codec::{self, CodecError};
use crate::event::{Direction, Outcome, RecorderNote, StatementOutcome, StreamOutcome, Verdict};
use crate::varint;
use headgate_plane::{Epoch, ParameterKind, Protocol, QuestionDigest, SessionId, Who};
use serde::Deserialize;

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct EventView<'a> {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    #[serde(borrow)]
    pub body: BodyView<'a>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ParameterView<'a> {
    pub kind: ParameterKind,
    #[serde(borrow)]
    pub value: Option<&'a [u8]>,
}

#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct ErrorView<'a> {
    pub code: &'a str,
    pub message: &'a str,
}

/// [`crate::event::Body`], variant by variant.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub enum BodyView<'a> {
    SessionOpen {
        who: Who,
        target: &'a str,
        environment: &'a str,
        role: &'a str,
        credential_id: &'a str,
        epoch: Epoch,
        protocol: Protocol,
        target_session: &'a str,
    },
    SignInRefused {
        target: &'a str,
        user: &'a str,
        address: &'a str,
        reason: &'a str,
    },
    Statement {
        statement: u32,
        prepared: u32,
        #[serde(borrow)]
        text: &'a [u8],
        #[serde(borrow)]
        stands_for: Vec<&'a [u8]>,
        #[serde(borrow)]
        parameters: Vec<ParameterView<'a>>,
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        #[serde(borrow)]
        verbs: Vec<&'a str>,
        #[serde(borrow)]
        resources: Vec<&'a str>,
    },
    Answered {
        statement: u32,
        question: u64,
        outcome: Outcome,
        #[serde(borrow)]
        reviewers: Vec<&'a str>,
        reason: &'a str,
        digest: QuestionDigest,
    },
    Stream {
        statement: u32,
        direction: Direction,
        offset: u64,
        #[serde(borrow)]
        bytes: &'a [u8],
    },
    StatementEnd {
        statement: u32,
        outcome: StatementOutcome,
        duration_us: u64,
        rows: u64,
        bytes: u64,
        tag: &'a str,
        #[serde(borrow)]
        error: Option<ErrorView<'a>>,
        masked: u64,
        truncated: bool,
        #[serde(borrow)]
        reply: &'a [u8],
    },
    SessionClose {
        reason: &'a str,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
    SessionLost {
        reason: &'a str,
    },
    Recorder(RecorderNote),
    Admin {
        who: Who,
        action: &'a str,
        subject: &'a str,
        detail: &'a str,
        accepted: bool,
    },
    Prepared {
        prepared: u32,
        #[serde(borrow)]
        name: &'a [u8],
        #[serde(borrow)]
        text: &'a [u8],
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        #[serde(borrow)]
        verbs: Vec<&'a str>,
        #[serde(borrow)]
        resources: Vec<&'a str>,
    },
    StreamEnd {
        statement: u32,
        direction: Direction,
        bytes: u64,
        rows: u64,
        digest: [u8; 32],
        truncated: bool,
        outcome: StreamOutcome,
        reason: &'a str,
    },
    /// An event or a recorder's note of a later version: its kind, and its bytes after that.
    #[serde(skip)]
    Unknown {
        kind: u8,
        bytes: &'a [u8],
    },
}

/// The number of a variant, as it stands in the encoding and in a chunk's columns, where it has seven bits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    SessionOpen,
    SignInRefused,
    Statement,
    Answered,
    Stream,
    StatementEnd,
    SessionClose,
    SessionLost,
    Recorder,
    Admin,
    Prepared,
    StreamEnd,
    /// Of a later version: never one of the numbers above.
    Unknown(u8),
}

/// Higher numbers cannot be.
pub const KIND_NUMBER_MAX: u8 = 0x7f;

impl Kind {
    /// Those that are known, in the order of their numbers.
    pub const ALL: [Kind; 12] = [
        Kind::SessionOpen,
        Kind::SignInRefused,
        Kind::Statement,
        Kind::Answered,
        Kind::Stream,
        Kind::StatementEnd,
        Kind::SessionClose,
        Kind::SessionLost,
        Kind::Recorder,
        Kind::Admin,
        Kind::Prepared,
        Kind::StreamEnd,
    ];

    pub fn of(number: u8) -> Option<Kind> {
        match Kind::ALL.get(usize::from(number)) {
            Some(kind) => Some(*kind),
            None => (number <= KIND_NUMBER_MAX).then_some(Kind::Unknown(number)),
        }
    }

    pub const fn number(self) -> u8 {
        match self {
            Kind::SessionOpen => 0,
            Kind::SignInRefused => 1,
            Kind::Statement => 2,
            Kind::Answered => 3,
            Kind::Stream => 4,
            Kind::StatementEnd => 5,
            Kind::SessionClose => 6,
            Kind::SessionLost => 7,
            Kind::Recorder => 8,
            Kind::Admin => 9,
            Kind::Prepared => 10,
            Kind::StreamEnd => 11,
            Kind::Unknown(number) => number,
        }
    }

    /// Whether nothing of the session may follow.
    pub fn ends_session(self) -> bool {
        matches!(self, Kind::SignInRefused | Kind::SessionClose | Kind::SessionLost)
    }

    /// Whether a session may begin with it. What is not known may.
    pub fn begins_session(self) -> bool {
        matches!(
            self,
            Kind::SessionOpen | Kind::SignInRefused | Kind::Recorder | Kind::Admin | Kind::Unknown(_)
        )
    }
}

/// The number of the last [`RecorderNote`] that is known.
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
        match Kind::of(*number)? {
            Kind::Unknown(_) => {}
            Kind::Recorder if varint::get(&mut &*rest)? > RECORDER_NOTE_MAX => {}
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
    pub fn kind(&self) -> Kind {
        match self {
            BodyView::SessionOpen { .. } => Kind::SessionOpen,
            BodyView::SignInRefused { .. } => Kind::SignInRefused,
            BodyView::Statement { .. } => Kind::Statement,
            BodyView::Answered { .. } => Kind::Answered,
            BodyView::Stream { .. } => Kind::Stream,
            BodyView::StatementEnd { .. } => Kind::StatementEnd,
            BodyView::SessionClose { .. } => Kind::SessionClose,
            BodyView::SessionLost { .. } => Kind::SessionLost,
            BodyView::Recorder(_) => Kind::Recorder,
            BodyView::Admin { .. } => Kind::Admin,
            BodyView::Prepared { .. } => Kind::Prepared,
            BodyView::StreamEnd { .. } => Kind::StreamEnd,
            // Made of a number that is one.
            BodyView::Unknown { kind, .. } => Kind::of(*kind).unwrap_or(Kind::Unknown(*kind)),
        }
    }

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
