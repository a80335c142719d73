//! Events from borrowed parts, so that a shard writes one straight into the spool without allocating.
//!
//! The kinds and their fields stand in `table.rs`.

use crate::bounds::{self, VALUE_BYTES_MAX, VALUES_BYTES_MAX, cut, cut_bytes, texts};
use crate::event::{Event, RecordedError, RecorderNote};
pub use crate::table::BodyRef;
use crate::view::ParameterView;
use headgate_plane::{Parameter, ParameterKind, SessionId, Who};
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
    /// From anywhere.
    Refs(&'a [&'a [u8]]),
    /// From one list.
    List(&'a [Vec<u8>]),
}

impl Texts<'_> {
    /// Of what stands for itself.
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
    /// As they are kept.
    List(&'a [Parameter]),
    /// As they lie.
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
    /// The protocol's own.
    #[serde(serialize_with = "cut_code")]
    pub code: &'a str,
    /// As the client received it.
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

pub(crate) fn cut_reason<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::REASON_BYTES_MAX))
}

pub(crate) fn cut_tag<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::TAG_BYTES_MAX))
}

pub(crate) fn cut_name<S: Serializer>(text: &&str, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(cut(text, bounds::NAME_BYTES_MAX))
}

pub(crate) fn cut_name_bytes<S: Serializer>(name: &Bytes<'_>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_bytes(cut_bytes(name.0, bounds::NAME_BYTES_MAX))
}

/// [`Event`], from where its parts lie.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct EventRef<'a> {
    /// In which session.
    pub session: SessionId,
    /// Dense in the session, from 0.
    pub seq: u32,
    /// When, in Unix microseconds.
    pub unix_us: u64,
    /// What.
    pub body: BodyRef<'a>,
}

/// There is no value of it.
#[derive(Clone, Copy, Debug, Serialize)]
pub enum Never {}

/// A field as it is kept, lent as it is written. `None` for what a data plane never writes.
pub(crate) trait Lend<'a, T> {
    fn lend(&'a self) -> Option<T>;
}

macro_rules! lend {
    ($($kept:ty => $written:ty: $kept_as:ident => $how:expr;)*) => {
        $(
            impl<'a> Lend<'a, $written> for $kept {
                fn lend(&'a self) -> Option<$written> {
                    let $kept_as = self;
                    Some($how)
                }
            }
        )*
    };
}

lend! {
    Who => &'a Who: who => who;
    String => &'a str: text => text;
    Vec<String> => &'a [String]: list => list;
    Vec<u8> => Bytes<'a>: bytes => Bytes(bytes);
    Vec<Vec<u8>> => Texts<'a>: list => Texts::List(list);
    Vec<Parameter> => Parameters<'a>: list => Parameters::List(list);
    Option<RecordedError> => Option<ErrorRef<'a>>: error => error.as_ref().map(ErrorRef::from);
}

impl<T: Copy> Lend<'_, T> for T {
    fn lend(&self) -> Option<T> {
        Some(*self)
    }
}

macro_rules! never_lent {
    ($($kept:ty),*) => {
        $(
            impl Lend<'_, Never> for $kept {
                fn lend(&self) -> Option<Never> {
                    None
                }
            }
        )*
    };
}

never_lent!(bool, String, Who, RecorderNote);

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
            BodyRef::SessionLost { reason: never }
            | BodyRef::Recorder { note: never }
            | BodyRef::Admin { who: never, .. } => match *never {},
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
        Some(EventRef {
            session: self.session,
            seq: self.seq,
            unix_us: self.unix_us,
            body: self.body.lend()?,
        })
    }
}
