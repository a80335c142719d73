//! Small searches: a substring whatever the case, a session's later records.

use crate::error::AuditError;
use crate::load::{Caches, Loaded};
use crate::store::View;
use headgate_plane::SessionId;
use headgate_recording::rows::SessionEnd;
use headgate_recording::view::EventKind;
use headgate_recording::{BodyView, Direction, EventView};
use std::sync::Arc;

/// How many summaries a join may look at to find a statement's end.
const LOOK_AHEAD_CHUNKS_MAX: u64 = 4096;

/// ASCII letters match in both cases.
pub(crate) struct Text {
    lower: Vec<u8>,
}

impl Text {
    pub fn new(needle: &str) -> Text {
        Text {
            lower: needle.bytes().map(|b| b.to_ascii_lowercase()).collect(),
        }
    }

    pub fn is_in(&self, text: &[u8]) -> bool {
        let Some((first, _)) = self.lower.split_first() else {
            return true;
        };
        let upper = first.to_ascii_uppercase();
        memchr::memchr2_iter(*first, upper, text).any(|at| {
            text.get(at..at + self.lower.len())
                .is_some_and(|part| part.eq_ignore_ascii_case(&self.lower))
        })
    }
}

/// Where the other parts of a statement are.
#[derive(Default)]
pub(crate) struct Rest {
    pub answered: Option<(Arc<Loaded>, usize)>,
    pub end: Option<(Arc<Loaded>, usize)>,
    /// Pieces of its data, either way, where they were asked for.
    pub data: Vec<(Arc<Loaded>, usize)>,
}

/// A statement's own record, from which the rest is looked for.
#[derive(Clone, Copy)]
pub(crate) struct Found<'a> {
    pub chunk: &'a Arc<Loaded>,
    pub row: usize,
    pub session: SessionId,
    pub statement: u32,
}

/// Finds the answer and the end of a statement, which follow it in its own chunk or in later ones of its session; and the
/// pieces of its data, if asked for.
pub(crate) fn rest(
    caches: &Caches,
    view: &View,
    last_chunk: u64,
    found: Found<'_>,
    data: bool,
) -> Result<Rest, AuditError> {
    let Found {
        chunk,
        row,
        session,
        statement,
    } = found;
    let mut rest = Rest::default();
    if look(&mut rest, chunk, row + 1, session, statement, data) {
        return Ok(rest);
    }
    let mut last = last_chunk;
    if let Some(row) = view.session(session)?
        && row.end != SessionEnd::Open
    {
        last = last.min(row.last_chunk);
    }
    let first = chunk.header.number + 1;
    for number in first..=last.min(first.saturating_add(LOOK_AHEAD_CHUNKS_MAX)) {
        let Some(summary) = caches.summary(view, number)? else {
            continue;
        };
        if summary.sessions.binary_search(&session).is_err() {
            continue;
        }
        if let Some(chunk) = caches.chunk(view, number)?
            && look(&mut rest, &chunk, 0, session, statement, data)
        {
            break;
        }
    }
    Ok(rest)
}

/// `true` when nothing more can come.
fn look(
    rest: &mut Rest,
    chunk: &Arc<Loaded>,
    from: usize,
    session: SessionId,
    statement: u32,
    data: bool,
) -> bool {
    for (at, row) in chunk.rows.iter().enumerate().skip(from) {
        if row.session != session {
            continue;
        }
        match row.kind {
            EventKind::Answered if row.statement == statement => {
                rest.answered = Some((Arc::clone(chunk), at))
            }
            EventKind::StatementEnd if row.statement == statement => {
                rest.end = Some((Arc::clone(chunk), at));
                return true;
            }
            EventKind::Stream if data && row.statement == statement => {
                rest.data.push((Arc::clone(chunk), at))
            }
            kind if kind.ends_session() => return true,
            _ => {}
        }
    }
    false
}

/// Whether the text is in the data that went to the target with a statement, also where two pieces meet.
pub(crate) fn is_in_data(
    caches: &Caches,
    view: &View,
    last_chunk: u64,
    found: Found<'_>,
    text: &Text,
) -> Result<bool, AuditError> {
    let rest = rest(caches, view, last_chunk, found, true)?;
    let (mut record, mut joined, mut next) = (Vec::new(), Vec::new(), 0);
    for (chunk, at) in &rest.data {
        let Some(row) = chunk.rows.get(*at) else { continue };
        let number = chunk.header.number;
        let broken = |why| AuditError::Chunk { number, why };
        row.record_without_reply(&chunk.bodies, &mut record)
            .map_err(broken)?;
        let Ok(EventView {
            body:
                BodyView::Stream {
                    direction: Direction::ToTarget,
                    offset,
                    ..
                },
            ..
        }) = EventView::read(&record)
        else {
            continue;
        };
        let Some(replies) = caches.replies(view, number)? else {
            continue;
        };
        let bytes = row.reply(&replies).map_err(broken)?;
        if offset != next {
            joined.clear();
        }
        next = offset.saturating_add(bytes.len() as u64);
        joined.extend_from_slice(bytes);
        if text.is_in(&joined) {
            return Ok(true);
        }
        // What a text that goes on in the next piece can have here.
        let keep = text.lower.len().saturating_sub(1).min(joined.len());
        joined.drain(..joined.len() - keep);
    }
    Ok(false)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_text_is_found_whatever_its_case() {
        let text = Text::new("From Orders");
        assert!(text.is_in(b"SELECT * FROM orders"));
        assert!(!text.is_in(b"SELECT * FROM order"));
        assert!(Text::new("").is_in(b""));
    }
}
