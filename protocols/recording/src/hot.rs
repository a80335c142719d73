//! The two events of every statement, written by hand: the same bytes as postcard's, which a test holds, with six tenths
//! of the instructions (1,200 a statement; callgrind over `recorder/examples/load.rs`).
#![expect(
    clippy::cast_possible_truncation,
    clippy::indexing_slicing,
    reason = "writes what is ours: numbers are compared with 0x80 or masked before they are cast, and `Numbers` has a length that is proved"
)]

use crate::bounds::{self, cut};
use crate::event::{StatementOutcome, Verdict};
use crate::producer::{BodyRef, ErrorRef, EventRef, Parameters, Texts};
use crate::view::{EventKind, ParameterView};
use headgate_plane::Epoch;

/// The bit of each byte that says that another follows.
const MORE: u64 = 0x8080_8080_8080_8080;
pub(crate) const NUMBERS_BYTES: usize = 96;

/// 56 bits as eight groups of seven, one a byte.
fn spread(n: u64) -> u64 {
    let n = (n & 0x0fff_ffff) | (n & 0x00ff_ffff_f000_0000) << 4;
    let n = (n & 0x0000_3fff_0000_3fff) | (n & 0x0fff_c000_0fff_c000) << 2;
    (n & 0x007f_007f_007f_007f) | (n & 0x3f80_3f80_3f80_3f80) << 1
}

/// Numbers in a row, put together where no bound has to be checked. Room for the most that [`write`] puts into one, which
/// is an event's head, a byte and four u64: 19 + 5 + 10 + 1 + 5 + 1 + 4 × 10, and the eight bytes that are stored at once.
struct Numbers {
    bytes: [u8; NUMBERS_BYTES],
    len: usize,
}

const _: () = assert!(19 + 5 + 10 + 1 + 5 + 1 + 4 * 10 + 8 <= NUMBERS_BYTES);

impl Numbers {
    fn new() -> Numbers {
        Numbers {
            bytes: [0; NUMBERS_BYTES],
            len: 0,
        }
    }

    #[inline(always)]
    fn word(&mut self, word: u64, len: usize) {
        let at = self.len.min(NUMBERS_BYTES - 8);
        self.bytes[at..at + 8].copy_from_slice(&word.to_le_bytes());
        self.len = at + len;
    }

    #[inline]
    fn number(&mut self, n: u64) {
        if n < 0x80 {
            self.word(n, 1);
        } else if n < 0x4000 {
            self.word((n & 0x7f) | 0x80 | (n >> 7) << 8, 2);
        } else if n >> 56 == 0 {
            let len = crate::varint::length(n);
            self.word(spread(n) | MORE & ((1 << (8 * (len - 1))) - 1), len);
        } else {
            self.word(spread(n & ((1 << 56) - 1)) | MORE, 8);
            // Less than 0x100 is left.
            let rest = n >> 56;
            if rest < 0x80 {
                self.word(rest, 1)
            } else {
                self.word((rest & 0x7f) | 0x80 | (rest >> 7) << 8, 2)
            }
        }
    }

    /// What every event begins with.
    #[inline]
    fn head(&mut self, event: &EventRef<'_>, kind: EventKind, statement: u32) {
        let mut id = event.session.0;
        while id >> 56 != 0 {
            self.word(spread(id as u64 & ((1 << 56) - 1)) | MORE, 8);
            id >>= 56;
        }
        self.number(id as u64);
        self.number(u64::from(event.seq));
        self.number(event.unix_us);
        self.word(u64::from(kind.number()), 1);
        self.number(u64::from(statement));
    }
}

struct Out<'o> {
    room: &'o mut [u8],
    at: usize,
}

impl Out<'_> {
    #[inline]
    fn byte(&mut self, byte: u8) -> Option<()> {
        *self.room.get_mut(self.at)? = byte;
        self.at += 1;
        Some(())
    }

    #[inline]
    fn raw(&mut self, bytes: &[u8]) -> Option<()> {
        let end = self.at.checked_add(bytes.len())?;
        self.room.get_mut(self.at..end)?.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    #[inline]
    fn numbers(&mut self, numbers: &Numbers) -> Option<()> {
        // All of it, if there is room: one copy of a length that is known. What is too much is written over.
        match self
            .room
            .get_mut(self.at..)
            .and_then(|room| room.first_chunk_mut::<NUMBERS_BYTES>())
        {
            Some(room) => {
                *room = numbers.bytes;
                self.at += numbers.len;
                Some(())
            }
            None => self.raw(numbers.bytes.get(..numbers.len)?),
        }
    }

    #[inline]
    fn number(&mut self, n: u64) -> Option<()> {
        if n < 0x80 {
            return self.byte(n as u8);
        }
        if n < 0x4000 {
            return self.raw(&[n as u8 | 0x80, (n >> 7) as u8]);
        }
        let mut numbers = Numbers::new();
        numbers.number(n);
        self.raw(numbers.bytes.get(..numbers.len)?)
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        if bytes.len() < 0x80 {
            return self.short(&[], bytes);
        }
        self.number(bytes.len() as u64)?;
        self.raw(bytes)
    }

    /// A few bytes, the length of less than 0x80 bytes, and those: one look at how much room there is.
    #[inline(always)]
    fn short<const N: usize>(&mut self, before: &[u8; N], bytes: &[u8]) -> Option<()> {
        let end = self.at + N + 1 + bytes.len();
        let room = self.room.get_mut(self.at..end)?;
        let (head, rest) = room.split_first_chunk_mut::<N>()?;
        let (len, rest) = rest.split_first_mut()?;
        *head = *before;
        *len = bytes.len() as u8;
        rest.copy_from_slice(bytes);
        self.at = end;
        Some(())
    }

    fn texts(&mut self, list: &[String]) -> Option<()> {
        self.number(list.len() as u64)?;
        list.iter().try_for_each(|text| self.bytes(text.as_bytes()))
    }

    fn inner(&mut self, inner: Texts<'_>) -> Option<()> {
        self.number(inner.count() as u64)?;
        let mut done = Some(());
        inner.each(|text| done = done.and_then(|()| self.bytes(text)));
        done
    }

    /// What a statement stands for, and its parameters.
    fn given(&mut self, inner: Texts<'_>, parameters: &Parameters<'_>) -> Option<()> {
        let count = parameters.count();
        if inner.count() == 0 && count < 0x80 {
            self.raw(&[0, count as u8])?;
        } else {
            self.inner(inner)?;
            self.number(count as u64)?;
        }
        let mut done = Some(());
        parameters.each(|p| done = done.and_then(|()| self.parameter(&p)));
        done
    }

    #[inline]
    fn parameter(&mut self, p: &ParameterView<'_>) -> Option<()> {
        self.raw(p.kind.encoded().as_slice())?;
        match p.value {
            Some(value) if value.len() < 0x80 => self.short(&[1], value),
            value => {
                self.byte(u8::from(value.is_some()))?;
                value.map_or(Some(()), |value| self.bytes(value))
            }
        }
    }

    fn tail(
        &mut self,
        verdict: Verdict,
        rule: &str,
        epoch: Epoch,
        class: u16,
        verbs: &[String],
    ) -> Option<()> {
        let verdict = verdict_number(verdict);
        if rule.len() < 0x80 {
            self.short(&[verdict], rule.as_bytes())?;
        } else {
            self.byte(verdict)?;
            self.bytes(rule.as_bytes())?;
        }
        if epoch.0 < 0x80 && class < 0x80 {
            self.raw(&[epoch.0 as u8, class as u8])?;
        } else {
            self.number(epoch.0)?;
            self.number(u64::from(class))?;
        }
        self.texts(verbs)
    }

    fn error(&mut self, error: Option<ErrorRef<'_>>) -> Option<()> {
        self.byte(u8::from(error.is_some()))?;
        let Some(error) = error else { return Some(()) };
        self.bytes(cut(error.code, bounds::ERROR_CODE_BYTES_MAX).as_bytes())?;
        self.bytes(cut(error.message, bounds::ERROR_MESSAGE_BYTES_MAX).as_bytes())
    }
}

fn verdict_number(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Hold => 1,
        Verdict::Deny => 2,
    }
}

fn outcome_number(outcome: StatementOutcome) -> u8 {
    match outcome {
        StatementOutcome::Done => 0,
        StatementOutcome::Failed => 1,
        StatementOutcome::Cancelled => 2,
        StatementOutcome::Cut => 3,
        StatementOutcome::NotRun => 4,
    }
}

/// Whether [`write`] knows the event.
pub(crate) fn is_hot(body: &BodyRef<'_>) -> bool {
    matches!(body, BodyRef::Statement { .. } | BodyRef::StatementEnd { .. })
}

/// Writes a hot event; `None` if there is no room.
pub(crate) fn write(event: &EventRef<'_>, room: &mut [u8]) -> Option<usize> {
    let mut out = Out { room, at: 0 };
    let mut numbers = Numbers::new();
    match &event.body {
        BodyRef::Statement {
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
        } => {
            numbers.head(event, EventKind::Statement, *statement);
            numbers.number(u64::from(*prepared));
            numbers.number(text.0.len() as u64);
            out.numbers(&numbers)?;
            out.raw(text.0)?;
            out.given(*stands_for, parameters)?;
            out.tail(*verdict, rule, *epoch, *class, verbs)?;
            out.texts(resources)?;
        }
        BodyRef::StatementEnd {
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
        } => {
            let tag = cut(tag, bounds::TAG_BYTES_MAX);
            numbers.head(event, EventKind::StatementEnd, *statement);
            numbers.word(u64::from(outcome_number(*outcome)), 1);
            for n in [*duration_us, *rows, *bytes, tag.len() as u64] {
                numbers.number(n);
            }
            out.numbers(&numbers)?;
            out.raw(tag.as_bytes())?;
            if error.is_none() && *masked < 0x80 {
                out.raw(&[0, *masked as u8, u8::from(*truncated)])?;
            } else {
                out.error(*error)?;
                out.number(*masked)?;
                out.byte(u8::from(*truncated))?;
            }
            out.bytes(reply.0)?;
        }
        _ => return None,
    }
    Some(out.at)
}
