//! What the recorder must know of a record, read without decoding or allocating for the records that come all the time.
//!
//! Invariant: a record has an outline exactly when [`EventView::read`] reads it, and the two say the same. The fast way
//! takes only what postcard writes itself (shortest numbers); whatever else comes goes the slow way, through the view.
//!
//! The end of a statement's event (verdict, rule, epoch, class, verbs, resources) repeats from statement to statement: the
//! reader remembers [`TAILS`] of them, checked and taken apart, and compares bytes.
//! Bounds: [`TAILS`] × [`TAIL_BYTES_MAX`].

use crate::codec::{CodecError, EVENT_BYTES_MAX};
use crate::event::{Direction, Verdict};
use crate::varint::get_shortest;
use crate::view::{BodyView, EventKind, EventView};
use headgate_plane::{Epoch, SessionId};
use serde::Deserialize;

const TAILS: usize = 256;
const TAIL_BYTES_MAX: usize = 2048;
/// Longest prefix (session, seq, time) that postcard writes.
pub(crate) const PREFIX_BYTES_MAX: usize = SESSION_BYTES_MAX + 5 + 10;
const SESSION_BYTES_MAX: usize = 19;

/// What must be known of a record to keep it.
#[derive(Debug)]
pub struct Outline<'a> {
    /// Whose it is.
    pub session: SessionId,
    /// Its number in the session.
    pub seq: u32,
    /// When it happened.
    pub unix_us: u64,
    /// What it is.
    pub kind: EventKind,
    /// The statement that the event is about, or 0.
    pub statement: u32,
    /// Length of the prefix; 0 if it is not as postcard writes it, and the record is kept as a whole.
    pub prefix: usize,
    /// Bytes at the record's end that are its reply, or the data of a stream.
    pub reply: usize,
    /// What else must be known, by its kind.
    pub what: What<'a>,
}

/// What must be known of a record, by its kind.
#[derive(Debug)]
pub enum What<'a> {
    /// Place of the statement's tail.
    Statement(usize),
    /// Place of the prepared text's tail.
    Prepared(usize),
    /// A piece of data.
    Stream {
        /// Which way.
        direction: Direction,
    },
    /// The end of a statement.
    StatementEnd {
        /// Of its error, where it ended with one.
        code: Option<&'a str>,
    },
    /// Decoded, because it is rare or odd.
    Other(Box<EventView<'a>>),
}

/// The end of the event of a statement or of a prepared text.
#[derive(Debug)]
pub struct Tail {
    bytes: Box<[u8]>,
    /// What the rules said.
    pub verdict: Verdict,
    /// Which rule.
    pub rule: String,
    /// What it touched.
    pub resources: Vec<String>,
    /// Free for who reads: a mark of the chunk that knows it already.
    pub mark: u64,
}

#[derive(Deserialize)]
struct TailView<'a> {
    verdict: Verdict,
    rule: &'a str,
    _epoch: Epoch,
    _class: u16,
    #[serde(borrow)]
    _verbs: Vec<&'a str>,
    #[serde(borrow)]
    resources: Vec<&'a str>,
}

/// Reads outlines, and remembers the ends that repeat.
pub struct OutlineReader {
    /// The session read last, as it is written.
    last: ([u8; SESSION_BYTES_MAX], usize, SessionId),
    tails: Vec<Option<Tail>>,
}

impl Default for OutlineReader {
    fn default() -> OutlineReader {
        OutlineReader {
            last: ([0; SESSION_BYTES_MAX], 0, SessionId(0)),
            tails: (0..TAILS).map(|_| None).collect(),
        }
    }
}

fn take<'a>(rest: &mut &'a [u8], n: usize) -> Option<&'a [u8]> {
    let (head, more) = rest.split_at_checked(n)?;
    *rest = more;
    Some(head)
}

fn u32_of(rest: &mut &[u8]) -> Option<u32> {
    u32::try_from(get_shortest(rest)?).ok()
}

fn bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = usize::try_from(get_shortest(rest)?).ok()?;
    take(rest, len)
}

fn text<'a>(rest: &mut &'a [u8]) -> Option<&'a str> {
    std::str::from_utf8(bytes(rest)?).ok()
}

fn flag(rest: &mut &[u8]) -> Option<bool> {
    match take(rest, 1)? {
        [0] => Some(false),
        [1] => Some(true),
        _ => None,
    }
}

/// The last arm of [`crate::StatementOutcome`].
const STATEMENT_OUTCOME_MAX: u8 = 4;

/// Passes over a [`headgate_plane::ParameterKind`].
fn parameter_kind(rest: &mut &[u8]) -> Option<()> {
    match take(rest, 1)? {
        [0] => {
            u32_of(rest)?;
            u16::try_from(get_shortest(rest)?).ok()?;
            Some(())
        }
        _ => None,
    }
}

impl OutlineReader {
    /// Reads one event that fills `record`. Takes hostile bytes.
    pub fn read<'a>(&mut self, record: &'a [u8]) -> Result<Outline<'a>, CodecError> {
        match self.fast(record) {
            Some(outline) => Ok(outline),
            None => slow(record),
        }
    }

    /// The end at a place that an outline gave.
    pub fn tail(&mut self, place: usize) -> Option<&mut Tail> {
        self.tails.get_mut(place)?.as_mut()
    }

    fn fast<'a>(&mut self, record: &'a [u8]) -> Option<Outline<'a>> {
        if record.len() > EVENT_BYTES_MAX {
            return None;
        }
        let mut rest = record;
        let session = self.session(&mut rest)?;
        let seq = u32_of(&mut rest)?;
        let unix_us = get_shortest(&mut rest)?;
        let prefix = record.len() - rest.len();
        let kind = EventKind::of(*take(&mut rest, 1)?.first()?)?;
        let (statement, reply, what) = match kind {
            EventKind::Statement => {
                let statement = u32_of(&mut rest)?;
                u32_of(&mut rest)?;
                bytes(&mut rest)?;
                for _ in 0..get_shortest(&mut rest)? {
                    bytes(&mut rest)?;
                }
                for _ in 0..get_shortest(&mut rest)? {
                    parameter_kind(&mut rest)?;
                    if flag(&mut rest)? {
                        bytes(&mut rest)?;
                    }
                }
                (statement, 0, What::Statement(self.place(rest)?))
            }
            EventKind::Prepared => {
                u32_of(&mut rest)?;
                bytes(&mut rest)?;
                bytes(&mut rest)?;
                (0, 0, What::Prepared(self.place(rest)?))
            }
            EventKind::Stream => {
                let statement = u32_of(&mut rest)?;
                // A direction is written as a flag is.
                let direction = if flag(&mut rest)? {
                    Direction::ToClient
                } else {
                    Direction::ToTarget
                };
                get_shortest(&mut rest)?;
                (statement, reply(&mut rest)?, What::Stream { direction })
            }
            EventKind::StatementEnd => {
                let statement = u32_of(&mut rest)?;
                if *take(&mut rest, 1)?.first()? > STATEMENT_OUTCOME_MAX {
                    return None;
                }
                for _ in 0..3 {
                    get_shortest(&mut rest)?;
                }
                text(&mut rest)?;
                let mut code = None;
                if flag(&mut rest)? {
                    code = Some(text(&mut rest)?);
                    text(&mut rest)?;
                }
                get_shortest(&mut rest)?;
                flag(&mut rest)?;
                (statement, reply(&mut rest)?, What::StatementEnd { code })
            }
            _ => return None,
        };
        Some(Outline {
            session,
            seq,
            unix_us,
            kind,
            statement,
            prefix,
            reply,
            what,
        })
    }

    fn session(&mut self, rest: &mut &[u8]) -> Option<SessionId> {
        let (written, len, id) = &self.last;
        if *len > 0 && rest.get(..*len) == written.get(..*len) {
            *rest = rest.get(*len..)?;
            return Some(*id);
        }
        let len = rest.iter().take(SESSION_BYTES_MAX).position(|b| *b < 0x80)? + 1;
        let written = take(rest, len)?;
        let last = *written.last()?;
        if (len == SESSION_BYTES_MAX && last > 3) || (len > 1 && last == 0) {
            return None;
        }
        let id = written
            .iter()
            .rev()
            .fold(0u128, |id, b| id << 7 | u128::from(b & 0x7f));
        self.last.0.get_mut(..len)?.copy_from_slice(written);
        (self.last.1, self.last.2) = (len, SessionId(id));
        Some(SessionId(id))
    }

    /// Where a tail is, checked.
    fn place(&mut self, tail: &[u8]) -> Option<usize> {
        if tail.len() > TAIL_BYTES_MAX {
            return None;
        }
        let mut hash = tail.len() as u64;
        let (words, rest) = tail.as_chunks::<8>();
        for word in words {
            hash = (hash ^ u64::from_le_bytes(*word))
                .wrapping_mul(0x9e37_79b9_7f4a_7c15)
                .rotate_left(29);
        }
        for byte in rest {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        }
        let place = (hash >> 40) as usize % TAILS;
        let slot = self.tails.get_mut(place)?;
        if slot.as_ref().is_none_or(|known| *known.bytes != *tail) {
            let (view, more) = postcard::take_from_bytes::<TailView<'_>>(tail).ok()?;
            if !more.is_empty() {
                return None;
            }
            *slot = Some(Tail {
                bytes: tail.into(),
                verdict: view.verdict,
                rule: view.rule.to_owned(),
                resources: view.resources.iter().map(|r| (*r).to_owned()).collect(),
                mark: 0,
            });
        }
        Some(place)
    }
}

/// The reply is the last thing in the record.
fn reply(rest: &mut &[u8]) -> Option<usize> {
    let len = bytes(rest)?.len();
    rest.is_empty().then_some(len)
}

pub(crate) fn prefix(session: SessionId, seq: u32, unix_us: u64, buffer: &mut [u8]) -> &[u8] {
    postcard::to_slice(&(session, seq, unix_us), buffer).map_or(&[], |used| &*used)
}

fn slow(record: &[u8]) -> Result<Outline<'_>, CodecError> {
    let view = EventView::read(record)?;
    let mut buffer = [0u8; PREFIX_BYTES_MAX];
    let prefix = prefix(view.session, view.seq, view.unix_us, &mut buffer);
    let prefix = if record.starts_with(prefix) {
        prefix.len()
    } else {
        0
    };
    Ok(Outline {
        session: view.session,
        seq: view.seq,
        unix_us: view.unix_us,
        kind: view.body.kind(),
        statement: view.body.statement(),
        prefix,
        reply: 0,
        what: What::Other(Box::new(view)),
    })
}

impl Outline<'_> {
    /// The record up to its reply, and the reply.
    pub fn split<'r>(&self, record: &'r [u8]) -> (&'r [u8], &'r [u8]) {
        record
            .split_at_checked(record.len().saturating_sub(self.reply))
            .unwrap_or((record, &[]))
    }

    /// The event, where it was decoded.
    pub fn body(&self) -> Option<&BodyView<'_>> {
        match &self.what {
            What::Other(view) => Some(&view.body),
            _ => None,
        }
    }
}
