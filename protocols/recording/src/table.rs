//! The table of events: each kind stands here once, with its number, its fields and what they mean. [`Body`], [`BodyView`],
//! [`BodyRef`] and [`EventKind`] are made of it.
//!
//! A row of a field has its type three times: as it is kept in memory, as it is read where it lies, and as a data plane
//! writes it from where it lies. The encodings of the three are equal, which a test holds for each kind.
//!
//! Signed and kept for ever: a kind is added at the end, with the next number, and never changes its place or its fields.
//! What the compiler then asks for is how long it can get (`size_bound` in `producer.rs`) and how it is replayed.

use crate::event::{
    Direction, Outcome, RecordedError, RecorderNote, StatementOutcome, StreamOutcome, Verdict,
};
use crate::producer::{
    Bytes, ErrorRef, Lend, Never, Parameters, Texts, cut_name, cut_name_bytes, cut_reason, cut_tag,
};
use crate::view::{ErrorView, ParameterView};
use headgate_plane::{Epoch, Parameter, Protocol, QuestionDigest, Who};
use serde::{Deserialize, Serialize};

macro_rules! events {
    ($(
        $(#[$doc:meta])*
        $number:literal $kind:ident {$(
            $(#[$field_doc:meta])*
            $field:ident: $owned:ty | $(#[$viewed:meta])* $view:ty | $(#[$writing:meta])* $written:ty;
        )*}
    )*) => {
        /// What happened. Texts of others are cut to the bounds of [`crate::bounds`] when they are written.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        pub enum Body {
            $(
                $(#[$doc])*
                $kind { $( $(#[$field_doc])* $field: $owned, )* },
            )*
            /// An event of a later version: kept and hashed, not read. Never written by this one.
            #[serde(skip)]
            Unknown {
                /// Its number.
                kind: u8,
                /// The record's bytes after the kind.
                bytes: Vec<u8>,
            },
        }

        /// [`Body`], read without copying.
        #[derive(Clone, Debug, PartialEq, Deserialize)]
        pub enum BodyView<'a> {
            $(
                $(#[$doc])*
                $kind { $( $(#[$field_doc])* $(#[$viewed])* $field: $view, )* },
            )*
            /// An event or a recorder's note of a later version.
            #[serde(skip)]
            Unknown {
                /// Its number.
                kind: u8,
                /// The record's bytes after the kind.
                bytes: &'a [u8],
            },
        }

        /// [`Body`] as a data plane writes it. Of what it never writes there is no value.
        #[derive(Clone, Copy, Debug, Serialize)]
        pub enum BodyRef<'a> {
            $(
                $(#[$doc])*
                $kind { $( $(#[$field_doc])* $(#[$writing])* $field: $written, )* },
            )*
        }

        /// The number of an event's kind, as it stands in the encoding and in a chunk's columns, where it has seven bits.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum EventKind {
            $( $(#[$doc])* $kind, )*
            /// Of a later version: never one of the numbers above.
            Unknown(u8),
        }

        impl EventKind {
            /// Those that are known, in the order of their numbers.
            pub const ALL: &'static [EventKind] = &[$(EventKind::$kind),*];

            /// The kind of a number; `None` if no version can have it.
            pub fn of(number: u8) -> Option<EventKind> {
                match number {
                    $( $number => Some(EventKind::$kind), )*
                    later => (later <= KIND_NUMBER_MAX).then_some(EventKind::Unknown(later)),
                }
            }

            /// Its number: see [`EventKind`].
            pub const fn number(self) -> u8 {
                match self {
                    $( EventKind::$kind => $number, )*
                    EventKind::Unknown(number) => number,
                }
            }
        }

        impl BodyView<'_> {
            /// What kind of event it is of.
            pub fn kind(&self) -> EventKind {
                match self {
                    $( BodyView::$kind { .. } => EventKind::$kind, )*
                    // Made of a number that is one.
                    BodyView::Unknown { kind, .. } => EventKind::of(*kind).unwrap_or(EventKind::Unknown(*kind)),
                }
            }
        }

        impl Body {
            /// As a data plane writes it; `None` for what it never writes.
            pub(crate) fn lend(&self) -> Option<BodyRef<'_>> {
                match self {
                    $( Body::$kind { $($field),* } => Some(BodyRef::$kind { $( $field: $field.lend()?, )* }), )*
                    Body::Unknown { .. } => None,
                }
            }
        }

        // Serde numbers the arms as they stand.
        const _: () = {
            let mut place = 0;
            $(
                assert!($number == place, "a kind's number is its place in the table");
                place += 1;
            )*
            assert!(place <= KIND_NUMBER_MAX);
        };
    };
}

/// Higher numbers cannot be.
pub const KIND_NUMBER_MAX: u8 = 0x7f;

events! {
    /// First event of every session that got past the identity check.
    0 SessionOpen {
        /// Who it is, on whose behalf, and from where.
        who: Who | Who | &'a Who;
        /// The target's name in the configuration.
        target: String | &'a str | &'a str;
        /// The target's environment.
        environment: String | &'a str | &'a str;
        /// Whom the target takes the session for.
        role: String | &'a str | &'a str;
        /// Which credential proved it; never the credential.
        credential_id: String | &'a str | &'a str;
        /// Of the rules that the session began under.
        epoch: Epoch | Epoch | Epoch;
        /// What the session speaks: parameters say it for themselves; data and replies are that protocol's bytes.
        protocol: Protocol | Protocol | Protocol;
        /// The target's own name for its session, such as a process id; empty where there is none.
        target_session: String | &'a str | &'a str;
    }
    /// Somebody who was not let in. A session of one event.
    1 SignInRefused {
        /// The target that was asked for.
        target: String | &'a str | #[serde(serialize_with = "cut_name")] &'a str;
        /// Who it claimed to be.
        user: String | &'a str | #[serde(serialize_with = "cut_name")] &'a str;
        /// Where it came from.
        address: String | &'a str | #[serde(serialize_with = "cut_name")] &'a str;
        /// Why it was refused: more than the client was told.
        reason: String | &'a str | #[serde(serialize_with = "cut_reason")] &'a str;
    }
    /// Written before the statement is forwarded, or instead of forwarding it.
    2 Statement {
        /// Number of the statement in the session, from 1.
        statement: u32 | u32 | u32;
        /// The [`Body::Prepared`] of the session that the text is of; 0 where it was not prepared.
        prepared: u32 | u32 | u32;
        /// The text as it was sent, or as it was prepared.
        text: Vec<u8> | #[serde(borrow)] &'a [u8] | Bytes<'a>;
        /// What `text` runs without saying it (EXECUTE, FETCH), in order.
        stands_for: Vec<Vec<u8>> | #[serde(borrow)] Vec<&'a [u8]> | Texts<'a>;
        /// What it was given, each value cut to its bound.
        parameters: Vec<Parameter> | #[serde(borrow)] Vec<ParameterView<'a>> | Parameters<'a>;
        /// What the rules say of it.
        verdict: Verdict | Verdict | Verdict;
        /// Rule that decided; empty when nothing allowed it.
        rule: String | &'a str | &'a str;
        /// Of the rules that judged it.
        epoch: Epoch | Epoch | Epoch;
        /// A bit for each class of the policy.
        class: u16 | u16 | u16;
        /// Every command in it.
        verbs: Vec<String> | #[serde(borrow)] Vec<&'a str> | &'a [String];
        /// Full names, resolved: `schema.name` of a relation.
        resources: Vec<String> | #[serde(borrow)] Vec<&'a str> | &'a [String];
    }
    /// A held statement's answer: written before the statement is forwarded.
    3 Answered {
        /// Number of the statement in the session.
        statement: u32 | u32 | u32;
        /// Number of the question.
        question: u64 | u64 | u64;
        /// How it was answered.
        outcome: Outcome | Outcome | Outcome;
        /// Who answered.
        reviewers: Vec<String> | #[serde(borrow)] Vec<&'a str> | &'a [String];
        /// In their words.
        reason: String | &'a str | #[serde(serialize_with = "cut_reason")] &'a str;
        /// What the answer is bound to.
        digest: QuestionDigest | QuestionDigest | QuestionDigest;
    }
    /// A piece of a statement's data, up to the cap. To the client: its reply as far as the statement's end does not hold
    /// it, after masking. To the target: what follows the statement (COPY IN, a body, stdin), as the client sent it, written
    /// before it is forwarded.
    4 Stream {
        /// Number of the statement in the session.
        statement: u32 | u32 | u32;
        /// Which way it goes.
        direction: Direction | Direction | Direction;
        /// Of the first byte, among all bytes of that direction: where pieces are left out, it says how many.
        offset: u64 | u64 | u64;
        /// The piece.
        bytes: Vec<u8> | #[serde(borrow)] &'a [u8] | Bytes<'a>;
    }
    /// The end of a statement: what became of it, and a reply that is small.
    5 StatementEnd {
        /// Number of the statement in the session.
        statement: u32 | u32 | u32;
        /// What became of it.
        outcome: StatementOutcome | StatementOutcome | StatementOutcome;
        /// From forward to the last byte of the reply.
        duration_us: u64 | u64 | u64;
        /// Rows of the reply.
        rows: u64 | u64 | u64;
        /// Of the reply as the client received it.
        bytes: u64 | u64 | u64;
        /// The target's word of completion; empty on error.
        tag: String | &'a str | #[serde(serialize_with = "cut_tag")] &'a str;
        /// The error, if it ended with one.
        error: Option<RecordedError> | #[serde(borrow)] Option<ErrorView<'a>> | Option<ErrorRef<'a>>;
        /// Values covered.
        masked: u64 | u64 | u64;
        /// Whether the pieces and `reply` hold less than all.
        truncated: bool | bool | bool;
        /// The reply, or what follows its pieces: most replies are small, and need no event of their own.
        reply: Vec<u8> | #[serde(borrow)] &'a [u8] | Bytes<'a>;
    }
    /// Last event of a session that ended in order.
    6 SessionClose {
        /// Why it ended.
        reason: String | &'a str | #[serde(serialize_with = "cut_reason")] &'a str;
        /// How many statements it had.
        statements: u32 | u32 | u32;
        /// All that the client sent.
        bytes_from_client: u64 | u64 | u64;
        /// All that the client was sent.
        bytes_to_client: u64 | u64 | u64;
    }
    /// Made by the recorder: whoever ran the session ended without closing it. Last event of such a session.
    7 SessionLost {
        /// What the recorder saw.
        reason: String | &'a str | Never;
    }
    /// Made by the recorder about itself, in a session of its own: one per run.
    8 Recorder {
        /// What it has to say.
        note: RecorderNote | RecorderNote | Never;
    }
    /// A changing call of the control plane's API, in a session of its own: one per run of the control plane.
    9 Admin {
        /// Who called.
        who: Who | Who | Never;
        /// What was to be done.
        action: String | &'a str | Never;
        /// To what.
        subject: String | &'a str | Never;
        /// More about it, without secrets.
        detail: String | &'a str | Never;
        /// Whether it was done.
        accepted: bool | bool | Never;
    }
    /// A text under a name, judged: what prepares a statement. Once for each name and text: one that comes again as it was
    /// writes nothing. Written before it is forwarded, or instead of it.
    10 Prepared {
        /// Dense in the session, from 1.
        prepared: u32 | u32 | u32;
        /// As the target keeps it; empty for the unnamed one.
        name: Vec<u8> | #[serde(borrow)] &'a [u8] | #[serde(serialize_with = "cut_name_bytes")] Bytes<'a>;
        /// The text as it was sent.
        text: Vec<u8> | #[serde(borrow)] &'a [u8] | Bytes<'a>;
        /// What the rules say of it.
        verdict: Verdict | Verdict | Verdict;
        /// Rule that decided; empty when nothing allowed it.
        rule: String | &'a str | &'a str;
        /// Of the rules that judged it.
        epoch: Epoch | Epoch | Epoch;
        /// A bit for each class of the policy.
        class: u16 | u16 | u16;
        /// Every command in it.
        verbs: Vec<String> | #[serde(borrow)] Vec<&'a str> | &'a [String];
        /// Full names, resolved.
        resources: Vec<String> | #[serde(borrow)] Vec<&'a str> | &'a [String];
    }
    /// The end of a direction's data: always for data to the target, and for a reply that is more than its pieces hold and
    /// whose whole is to be known by its digest.
    11 StreamEnd {
        /// Number of the statement in the session.
        statement: u32 | u32 | u32;
        /// Which way it went.
        direction: Direction | Direction | Direction;
        /// Of all the data, recorded or not.
        bytes: u64 | u64 | u64;
        /// Messages, lines or rows, as the protocol counts its data.
        rows: u64 | u64 | u64;
        /// SHA-256 of all the data, recorded or not.
        digest: [u8; 32] | [u8; 32] | [u8; 32];
        /// Whether the pieces hold less than all.
        truncated: bool | bool | bool;
        /// How it ended.
        outcome: StreamOutcome | StreamOutcome | StreamOutcome;
        /// Why it failed, in the words of whoever said so; else empty.
        reason: String | &'a str | #[serde(serialize_with = "cut_reason")] &'a str;
    }
}
