//! Events from borrowed parts, so that a shard writes one straight into the spool without allocating.
//!
//! The variants and fields are those of [`crate::event::Body`], in the same order: the encodings are equal, which a test
//! holds for each of them.

use crate::event::{Body, Event, Outcome, RecordedError, Verdict};
use crate::view::ParameterView;
use headgate_plane::{Epoch, Parameter, QuestionDigest, SessionId, Who};
use serde::{Serialize, Serializer, ser::SerializeSeq};

/// Bytes that are copied as a whole.
#[derive(Clone, Copy, Debug)]
pub struct Bytes<'a>(pub &'a [u8]);

impl Serialize for Bytes<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

/// Of one value, and of all values of one statement, as much is recorded; approvals bind the whole by digest all the same.
pub const VALUE_BYTES_MAX: usize = 64 << 10;
pub const VALUES_BYTES_MAX: usize = 128 << 10;

/// Parameters where they lie, as in a Bind message: so that nothing is built to record them.
pub trait ParameterSource: std::fmt::Debug {
    /// How many [`Self::each`] gives: always the same.
    fn count(&self) -> usize;
    /// Hands over each in order.
    fn each(&self, take: &mut dyn FnMut(ParameterView<'_>));
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
                    cut(ParameterView { type_oid: p.type_oid, format: p.format, value: p.value.as_deref() });
                }
            }
            Parameters::Source(source) => source.each(&mut cut),
        }
    }

    /// An upper bound of the encoded length.
    fn size_bound(&self) -> usize {
        let mut values = 0;
        self.each(|p| values += p.value.map_or(0, <[u8]>::len));
        values + self.count() * 2 * LENGTH
    }
}

#[derive(Serialize)]
struct ParameterRef<'a> {
    type_oid: u32,
    format: u16,
    value: Option<Bytes<'a>>,
}

impl Serialize for Parameters<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.count()))?;
        let mut done = Ok(());
        self.each(|p| {
            if done.is_ok() {
                done = seq.serialize_element(&ParameterRef { type_oid: p.type_oid, format: p.format, value: p.value.map(Bytes) });
            }
        });
        done?;
        seq.end()
    }
}

#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventRef<'a> {
    pub session: SessionId,
    pub seq: u32,
    pub unix_us: u64,
    pub body: BodyRef<'a>,
}

/// The events that a data plane writes.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum BodyRef<'a> {
    SessionOpen {
        who: &'a Who,
        target: &'a str,
        environment: &'a str,
        role: &'a str,
        credential_id: &'a str,
        epoch: Epoch,
        protocol: &'a str,
        target_pid: u32,
    },
    SignInRefused {
        target: &'a str,
        user: &'a str,
        address: &'a str,
        reason: &'a str,
    },
    Statement {
        statement: u32,
        text: Bytes<'a>,
        parameters: Parameters<'a>,
        verdict: Verdict,
        rule: &'a str,
        epoch: Epoch,
        class: u16,
        verbs: &'a [String],
        relations: &'a [String],
    },
    Answered {
        statement: u32,
        question: u64,
        outcome: Outcome,
        reviewers: &'a [String],
        reason: &'a str,
        digest: QuestionDigest,
    },
    ReplyPart {
        statement: u32,
        bytes: Bytes<'a>,
    },
    StatementEnd {
        statement: u32,
        duration_us: u64,
        rows: u64,
        bytes: u64,
        tag: &'a str,
        error: Option<&'a RecordedError>,
        masked: u64,
        truncated: bool,
        reply: Bytes<'a>,
    },
    SessionClose {
        reason: &'a str,
        statements: u32,
        bytes_from_client: u64,
        bytes_to_client: u64,
    },
}

/// Covers the numbers of any variant at their longest (session 19, the digest 32, five u64 of 10, …).
const NUMBERS: usize = 160;
/// The length before each string or value.
const LENGTH: usize = 10;

fn strings(list: &[String]) -> usize {
    list.iter().map(|s| s.len() + LENGTH).sum::<usize>() + LENGTH
}

impl EventRef<'_> {
    /// An upper bound of the encoded length, cheap enough to reserve by.
    pub fn size_bound(&self) -> usize {
        let body = match &self.body {
            BodyRef::SessionOpen { who, target, environment, role, credential_id, protocol, .. } => {
                let who = who.principal.len()
                    + strings(&who.groups)
                    + strings(&who.chain)
                    + who.issuer.len()
                    + who.address.len()
                    + who.application.len()
                    + 4 * LENGTH;
                who + target.len() + environment.len() + role.len() + credential_id.len() + protocol.len() + 5 * LENGTH
            }
            BodyRef::SignInRefused { target, user, address, reason } => {
                target.len() + user.len() + address.len() + reason.len() + 4 * LENGTH
            }
            BodyRef::Statement { text, parameters, rule, verbs, relations, .. } => {
                text.0.len() + parameters.size_bound() + rule.len() + strings(verbs) + strings(relations) + 3 * LENGTH
            }
            BodyRef::Answered { reviewers, reason, .. } => strings(reviewers) + reason.len() + LENGTH,
            BodyRef::ReplyPart { bytes, .. } => bytes.0.len() + LENGTH,
            BodyRef::StatementEnd { tag, error, reply, .. } => {
                reply.0.len() + tag.len() + error.map_or(0, |e| e.sqlstate.len() + e.message.len() + 2 * LENGTH) + 2 * LENGTH
            }
            BodyRef::SessionClose { reason, .. } => reason.len() + LENGTH,
        };
        NUMBERS + body
    }
}

impl Event {
    /// The same event in borrowed form, but for values that are longer than is recorded; `None` for what only the recorder and the control plane write.
    pub fn borrowed(&self) -> Option<EventRef<'_>> {
        let body = match &self.body {
            Body::SessionOpen { who, target, environment, role, credential_id, epoch, protocol, target_pid } => {
                BodyRef::SessionOpen { who, target, environment, role, credential_id, epoch: *epoch, protocol, target_pid: *target_pid }
            }
            Body::SignInRefused { target, user, address, reason } => BodyRef::SignInRefused { target, user, address, reason },
            Body::Statement { statement, text, parameters, verdict, rule, epoch, class, verbs, relations } => BodyRef::Statement {
                statement: *statement,
                text: Bytes(text),
                parameters: Parameters::List(parameters),
                verdict: *verdict,
                rule,
                epoch: *epoch,
                class: *class,
                verbs,
                relations,
            },
            Body::Answered { statement, question, outcome, reviewers, reason, digest } => {
                BodyRef::Answered { statement: *statement, question: *question, outcome: *outcome, reviewers, reason, digest: *digest }
            }
            Body::ReplyPart { statement, bytes } => BodyRef::ReplyPart { statement: *statement, bytes: Bytes(bytes) },
            Body::StatementEnd { statement, duration_us, rows, bytes, tag, error, masked, truncated, reply } => BodyRef::StatementEnd {
                statement: *statement,
                duration_us: *duration_us,
                rows: *rows,
                bytes: *bytes,
                tag,
                error: error.as_ref(),
                masked: *masked,
                truncated: *truncated,
                reply: Bytes(reply),
            },
            Body::SessionClose { reason, statements, bytes_from_client, bytes_to_client } => BodyRef::SessionClose {
                reason,
                statements: *statements,
                bytes_from_client: *bytes_from_client,
                bytes_to_client: *bytes_to_client,
            },
            _ => return None,
        };
        Some(EventRef { session: self.session, seq: self.seq, unix_us: self.unix_us, body })
    }
}
