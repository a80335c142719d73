//! Events from borrowed parts, so that a shard writes one straight into the spool without allocating.
//!
//! The variants and fields are those of [`crate::event::Body`], in the same order: the encodings are equal, which a test
//! holds for each of them.

use crate::bounds::{self, VALUE_BYTES_MAX, VALUES_BYTES_MAX, cut, cut_bytes, texts};
use crate::event::{
    Body, Direction, Event, Outcome, RecordedError, StatementOutcome, StreamOutcome, Verdict,
};
use crate::view::ParameterView;
use headgate_plane::{Epoch, Parameter, ParameterKind, Protocol, QuestionDigest, SessionId, Who};
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// Bytes that are copied as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Texts in a row, where they lie.
#[derive(Clone, Copy, Debug)]
pub enum Texts<'a> {
    Refs(&'a [&'a [u8]]),
    List(&'a [Vec<u8>]),
}

impl Texts<'_> {
    pub const NONE: Texts<'static> = Texts::Refs(&[]);

    pub(crate) fn count(&self) -> usize {
        match self {
            Texts::Refs(list) => list.len(),
            Texts::List(list) => list.len(),
        }
    }

    pub(crate) fn each(&self, mut take: impl FnMut(&[u8])) {
        match self {
            Texts::Refs(list) => list.iter().for_each(|text| take(text)),
            Texts::List(list) => list.iter().for_each(|text| take(text)),
        }
    }

    /// An upper bound of the encoded length, without the count.
    pub fn size_bound(&self) -> usize {
        match self {
            Texts::Refs(list) => texts(list),
            Texts::List(list) => texts(list),
        }
    }
}

impl Serialize for Texts<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.count()))?;
        let mut done = Ok(());
        self.each(|text| {
            if done.is_ok() {
                done = seq.serialize_element(&Bytes(text));
            }
        });
        done?;
        seq.end()
    }
}

/// Parameters where they lie, as in a Bind message: so that nothing is built to record them.
pub trait ParameterSource: std::fmt::Debug {
    /// How many [`Self::each`] gives: always the same.
    fn count(&self) -> usize;
    /// Hands over each in order.
    fn each(&self, take: &mut dyn FnMut(ParameterView<'_>));
    /// All values together are not longer. Whoever knows without looking at each says so.
    fn values_bytes_max(&self) -> usize {
        let mut bytes = 0usize;
        self.each(&mut |p| bytes = bytes.saturating_add(p.value.map_or(0, <[u8]>::len)));
        bytes
    }
}

/// Parameters of a statement. Whatever they come from, values are cut to [`VALUE_BYTES_MAX`] and [`VALUES_BYTES_MAX`].
#[derive(Clone, Copy, Debug)]
pub enum Parameters<'a> {
    List(&'a [Parameter]),
    Source(&'a dyn ParameterSource),
}

impl Parameters<'_> {
    pub(crate) fn count(&self) -> usize {
        match self {
            Parameters::List(list) => list.len(),
            Parameters::Source(source) => source.count(),
        }
    }

    /// Hands over each, its value cut.
    pub(crate) fn each(&self, mut take: impl FnMut(ParameterView<'_>)) {
        let mut left = VALUES_BYTES_MAX;
        let mut cut = |p: ParameterView<'_>| {
            let value = p.value.map(|value| {
                let keep = value.len().min(VALUE_BYTES_MAX).min(left);
                left -= keep;
                value.get(..keep).unwrap_or(value)
            });
            take(ParameterView { value, ..p });
        };
        match self {
            Parameters::List(list) => {
                for p in *list {
                    cut(ParameterView {
                        kind: p.kind,
                        value: p.value.as_deref(),
                    });
                }
            }
            Parameters::Source(source) => source.each(&mut cut),
        }
    }

    /// An upper bound of the encoded length, without the count.
    pub fn size_bound(&self) -> usize {
        let values = match self {
            Parameters::List(list) => list.iter().map(|p| p.value.as_ref().map_or(0, Vec::len)).sum(),
            Parameters::Source(source) => source.values_bytes_max(),
        };
        values.min(VALUES_BYTES_MAX) + self.count() * bounds::PARAMETER_FIXED_BYTES_MAX
    }
}

#[derive(Serialize)]
struct ParameterRef<'a> {
    kind: ParameterKind,
    value: Option<Bytes<'a>>,
}

impl Serialize for Parameters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.count()))?;
        let mut done = Ok(());
        self.each(|p| {
            if done.is_ok() {
                done = seq.serialize_element(&ParameterRef {
                    kind: p.kind,
                    value: p.value.map(Bytes),
                });
            }
        });
        done?;
        seq.end()
    }
}

/// [`RecordedError`], borrowed. Cut when it is written.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct ErrorRef<'a> {
    #[serde(serialize_with = "cut_code")]
    pub code: &'a str,
    #[serde(serialize_with = "cut_message")]
    pub message: &'a str,
}

impl<'a> From<&'a RecordedError> for ErrorRef<'a> {
    fn from(error: &'a RecordedError) -> ErrorRef<'a> {
        ErrorRef {
            code: &error.code,
            message: &error.message,
        }
    }
}

// Serde wants a reference to the field.

fn cut_code<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::ERROR_CODE_BYTES_MAX))
}

fn cut_message<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::ERROR_MESSAGE_BYTES_MAX))
}

fn cut_reason<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::REASON_BYTES_MAX))
}

fn cut_tag<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::TAG_BYTES_MAX))
}

fn cut_name<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::NAME_BYTES_MAX))
}

fn cut_name_bytes<S: Serializer>(name: &Bytes<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(cut_bytes(name.0, bounds::NAME_BYTES_MAX))
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventRef<'a> {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    pub body: BodyRef<'a>,
}

/// The events that a data plane writes. Told at [`Body`], field by field.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum BodyRef<'a> {
    SessionOpen {
        who: &'a Who,
        target: &'a str,
        environment: &'a str,
        role: &'a str,
        credential_id: &'a str,
        epoch: Epoch,
        protocol: Protocol,
        target_session: &'a str,
    },
    SignInRefused {
        #[serde(serialize_with = "cut_name")]
        target: &'a str,
        #[serde(serialize_with = "cut_name")]
        user: &'a str,
        #[serde(serialize_with = "cut_name")]
        address: &'a str,
        #[serde(serialize_with = "cut_reason")]
        reason: &'a str,
    },
    Statement {
        statement: u32,
        prepared: u32,
        text: Bytes<'a>,
        stands_for: Texts<'a>,
        parameters: Parameters<'a>,
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        verbs: &'a [String],
        resources: &'a [String],
    },
    Answered {
        statement: u32,
        question: u64,
        outcome: Outcome,
        reviewers: &'a [String],
        #[serde(serialize_with = "cut_reason")]
        reason: &'a str,
        digest: QuestionDigest,
    },
    Stream {
        statement: u32,
        direction: Direction,
        offset: u64,
        bytes: Bytes<'a>,
    },
    StatementEnd {
        statement: u32,
        outcome: StatementOutcome,
        duration_us: u64,
        rows: u64,
        bytes: u64,
        #[serde(serialize_with = "cut_tag")]
        tag: &'a str,
        error: Option<ErrorRef<'a>>,
        masked: u64,
        truncated: bool,
        reply: Bytes<'a>,
    },
    SessionClose {
        #[serde(serialize_with = "cut_reason")]
        reason: &'a str,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
    /// Never written by a data plane; here so that the kinds after it keep their numbers.
    #[doc(hidden)]
    SessionLost(Never),
    /// As above.
    #[doc(hidden)]
    Recorder(Never),
    /// As above.
    #[doc(hidden)]
    Admin(Never),
    Prepared {
        prepared: u32,
        #[serde(serialize_with = "cut_name_bytes")]
        name: Bytes<'a>,
        text: Bytes<'a>,
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        verbs: &'a [String],
        resources: &'a [String],
    },
    StreamEnd {
        statement: u32,
        direction: Direction,
        bytes: u64,
        rows: u64,
        digest: [u8; 32],
        truncated: bool,
        outcome: StreamOutcome,
        #[serde(serialize_with = "cut_reason")]
        reason: &'a str,
    },
}

/// There is no value of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Never {}

impl BodyRef<'_> {
    /// An upper bound of the encoded length of the whole event, which reads lengths only: cheap enough to ask for room by,
    /// before anything is forwarded.
    pub fn size_bound(&self) -> usize {
        match self {
            BodyRef::SessionOpen {
                who,
                target,
                environment,
                role,
                credential_id,
                target_session,
                ..
            } => {
                let who = who.principal.len()
                    + texts(&who.groups)
                    + texts(&who.chain)
                    + who.issuer.len()
                    + who.address.len()
                    + who.application.len();
                let session = target.len()
                    + environment.len()
                    + role.len()
                    + credential_id.len()
                    + target_session.len();
                bounds::SESSION_OPEN_FIXED_BYTES_MAX + who + session
            }
            BodyRef::SignInRefused { .. } => bounds::SIGN_IN_REFUSED_BYTES_MAX,
            BodyRef::Statement {
                text,
                stands_for,
                parameters,
                rule,
                verbs,
                resources,
                ..
            } => {
                let tail = rule.len() + texts(verbs) + texts(resources);
                bounds::STATEMENT_FIXED_BYTES_MAX
                    + text.0.len()
                    + stands_for.size_bound()
                    + parameters.size_bound()
                    + tail
            }
            BodyRef::Answered { reviewers, .. } => bounds::ANSWERED_FIXED_BYTES_MAX + texts(reviewers),
            BodyRef::Stream { bytes, .. } => bounds::STREAM_FIXED_BYTES_MAX + bytes.0.len(),
            BodyRef::StatementEnd {
                tag, error, reply, ..
            } => {
                let error = error.map_or(0, |e| {
                    bounds::ERROR_FIXED_BYTES_MAX + e.message.len().min(bounds::ERROR_MESSAGE_BYTES_MAX)
                });
                bounds::STATEMENT_END_FIXED_BYTES_MAX
                    + tag.len().min(bounds::TAG_BYTES_MAX)
                    + error
                    + reply.0.len()
            }
            BodyRef::SessionClose { .. } => bounds::SESSION_CLOSE_BYTES_MAX,
            BodyRef::Prepared {
                text,
                rule,
                verbs,
                resources,
                ..
            } => {
                bounds::PREPARED_FIXED_BYTES_MAX + text.0.len() + rule.len() + texts(verbs) + texts(resources)
            }
            BodyRef::StreamEnd { .. } => bounds::STREAM_END_BYTES_MAX,
            BodyRef::SessionLost(never) | BodyRef::Recorder(never) | BodyRef::Admin(never) => match *never {},
        }
    }
}

impl EventRef<'_> {
    /// [`BodyRef::size_bound`], which covers the whole event.
    #[inline]
    pub fn size_bound(&self) -> usize {
        self.body.size_bound()
    }
}

impl Event {
    /// The same event in borrowed form, but for what is longer than is recorded; `None` for what only the recorder and the
    /// control plane write.
    pub fn borrowed(&self) -> Option<EventRef<'_>> {
        let body = match &self.body {
            Body::SessionOpen {
                who,
                target,
                environment,
                role,
                credential_id,
                epoch,
                protocol,
                target_session,
            } => BodyRef::SessionOpen {
                who,
                target,
                environment,
                role,
                credential_id,
                epoch: *epoch,
                protocol: *protocol,
                target_session,
            },
            Body::SignInRefused {
                target,
                user,
                address,
                reason,
            } => BodyRef::SignInRefused {
                target,
                user,
                address,
                reason,
            },
            Body::Statement {
                statement,
                prepared,
                text,
                stands_for,
                parameters,
                verdict,
                rule,
                epoch,
                class,
                verbs,
                resources,
            } => BodyRef::Statement {
                statement: *statement,
                prepared: *prepared,
                text: Bytes(text),
                stands_for: Texts::List(stands_for),
                parameters: Parameters::List(parameters),
                verdict: *verdict,
                rule,
                epoch: *epoch,
                class: *class,
                verbs,
                resources,
            },
            Body::Answered {
                statement,
                question,
                outcome,
                reviewers,
                reason,
                digest,
            } => BodyRef::Answered {
                statement: *statement,
                question: *question,
                outcome: *outcome,
                reviewers,
                reason,
                digest: *digest,
            },
            Body::Stream {
                statement,
                direction,
                offset,
                bytes,
            } => BodyRef::Stream {
                statement: *statement,
                direction: *direction,
                offset: *offset,
                bytes: Bytes(bytes),
            },
            Body::StatementEnd {
                statement,
                outcome,
                duration_us,
                rows,
                bytes,
                tag,
                error,
                masked,
                truncated,
                reply,
            } => BodyRef::StatementEnd {
                statement: *statement,
                outcome: *outcome,
                duration_us: *duration_us,
                rows: *rows,
                bytes: *bytes,
                tag,
                error: error.as_ref().map(ErrorRef::from),
                masked: *masked,
                truncated: *truncated,
                reply: Bytes(reply),
            },
            Body::SessionClose {
                reason,
                statements,
                bytes_from_client,
                bytes_to_client,
            } => BodyRef::SessionClose {
                reason,
                statements: *statements,
                bytes_from_client: *bytes_from_client,
                bytes_to_client: *bytes_to_client,
            },
            Body::Prepared {
                prepared,
                name,
                text,
                verdict,
                rule,
                epoch,
                class,
                verbs,
                resources,
            } => BodyRef::Prepared {
                prepared: *prepared,
                name: Bytes(name),
                text: Bytes(text),
                verdict: *verdict,
                rule,
                epoch: *epoch,
                class: *class,
                verbs,
                resources,
            },
            Body::StreamEnd {
                statement,
                direction,
                bytes,
                rows,
                digest,
                truncated,
                outcome,
                reason,
            } => BodyRef::StreamEnd {
                statement: *statement,
                direction: *direction,
                bytes: *bytes,
                rows: *rows,
                digest: *digest,
                truncated: *truncated,
                outcome: *outcome,
                reason,
            },
            Body::SessionLost { .. } | Body::Recorder(_) | Body::Admin { .. } | Body::Unknown { .. } => {
                return None;
            }
        };
        Some(EventRef {
            session: self.session,
            seq: self.seq,
            unix_us: self.unix_us,
            body,
        })
    }
}
