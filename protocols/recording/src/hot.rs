//! The two events of every statement, written by hand: the same bytes as postcard's, which a test holds, at a third of the
//! instructions.

use crate::event::{RecordedError, Verdict};
use crate::producer::{BodyRef, EventRef, Parameters};
use crate::view::Kind;

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
    fn number(&mut self, mut n: u64) -> Option<()> {
        while n >= 0x80 {
            self.byte(n as u8 | 0x80)?;
            n >>= 7;
        }
        self.byte(n as u8)
    }

    /// 63 bits at a time: shifting a u128 for every byte is dear.
    fn long(&mut self, mut n: u128) -> Option<()> {
        while n >> 63 != 0 {
            let low = n as u64;
            for shift in 0..9 {
                self.byte((low >> (7 * shift)) as u8 | 0x80)?;
            }
            n >>= 63;
        }
        self.number(n as u64)
    }

    #[inline]
    fn bytes(&mut self, bytes: &[u8]) -> Option<()> {
        self.number(bytes.len() as u64)?;
        self.raw(bytes)
    }

    fn texts(&mut self, list: &[String]) -> Option<()> {
        self.number(list.len() as u64)?;
        list.iter().try_for_each(|text| self.bytes(text.as_bytes()))
    }

    fn parameters(&mut self, parameters: &Parameters<'_>) -> Option<()> {
        self.number(parameters.count() as u64)?;
        let mut done = Some(());
        parameters.each(|p| {
            done = done.and_then(|()| {
                self.number(u64::from(p.type_oid))?;
                self.number(u64::from(p.format))?;
                self.byte(u8::from(p.value.is_some()))?;
                p.value.map_or(Some(()), |value| self.bytes(value))
            });
        });
        done
    }

    fn error(&mut self, error: Option<&RecordedError>) -> Option<()> {
        self.byte(u8::from(error.is_some()))?;
        let Some(error) = error else { return Some(()) };
        self.bytes(error.sqlstate.as_bytes())?;
        self.bytes(error.message.as_bytes())
    }
}

fn verdict_number(verdict: Verdict) -> u8 {
    match verdict {
        Verdict::Allow => 0,
        Verdict::Hold => 1,
        Verdict::Deny => 2,
    }
}

/// Whether [`write`] knows the event.
pub(crate) fn is_hot(body: &BodyRef<'_>) -> bool {
    matches!(body, BodyRef::Statement { .. } | BodyRef::StatementEnd { .. })
}

/// Writes a hot event; `None` if there is no room.
pub(crate) fn write(event: &EventRef<'_>, room: &mut [u8]) -> Option<usize> {
    let mut out = Out { room, at: 0 };
    out.long(event.session.0)?;
    out.number(u64::from(event.seq))?;
    out.number(event.unix_us)?;
    match &event.body {
        BodyRef::Statement { statement, text, parameters, verdict, rule, epoch, class, verbs, relations } => {
            out.byte(Kind::Statement as u8)?;
            out.number(u64::from(*statement))?;
            out.bytes(text.0)?;
            out.parameters(parameters)?;
            out.byte(verdict_number(*verdict))?;
            out.bytes(rule.as_bytes())?;
            out.number(epoch.0)?;
            out.number(u64::from(*class))?;
            out.texts(verbs)?;
            out.texts(relations)?;
        }
        BodyRef::StatementEnd { statement, duration_us, rows, bytes, tag, error, masked, truncated, reply } => {
            out.byte(Kind::StatementEnd as u8)?;
            out.number(u64::from(*statement))?;
            out.number(*duration_us)?;
            out.number(*rows)?;
            out.number(*bytes)?;
            out.bytes(tag.as_bytes())?;
            out.error(*error)?;
            out.number(*masked)?;
            out.byte(u8::from(*truncated))?;
            out.bytes(reply.0)?;
        }
        _ => return None,
    }
    Some(out.at)
}
