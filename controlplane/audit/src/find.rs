//! Small searches: a substring whatever the case, a session's later records.

use crate::error::AuditError;
use crate::load::{Caches, Loaded};
use crate::store::View;
use headgate_plane::SessionId;
use headgate_recording::rows::SessionEnd;
use headgate_recording::view::Kind;
use std::sync::Arc;

/// How many summaries a join may look at to find a statement's end.
const LOOK_AHEAD_CHUNKS_MAX: u64 = 4096;

/// ASCII letters match in both cases.
pub(crate) struct Text {
    lower: Vec<u8>,
}

impl Text {
    pub fn new(needle: &str) -> Text {
        Text { lower: needle.bytes().map(|b| b.to_ascii_lowercase()).collect() }
    }

    pub fn is_in(&self, text: &[u8]) -> bool {
        let Some((first, _)) = self.lower.split_first() else { return true };
        let upper = first.to_ascii_uppercase();
        memchr::memchr2_iter(*first, upper, text)
            .any(|at| text.get(at..at + self.lower.len()).is_some_and(|part| part.eq_ignore_ascii_case(&self.lower)))
    }
}

/// Where the other parts of a statement are.
#[derive(Default)]
pub(crate) struct Rest {
    pub answered: Option<(Arc<Loaded>, usize)>,
    pub end: Option<(Arc<Loaded>, usize)>,
}

/// Finds the answer and the end of a statement, which follow it in its own chunk or in later ones of its session.
pub(crate) fn rest(
    caches: &Caches,
    view: &View,
    last_chunk: u64,
    chunk: &Arc<Loaded>,
    row: usize,
    session: SessionId,
    statement: u32,
) -> Result<Rest, AuditError> {
    let mut rest = Rest::default();
    if look(&mut rest, chunk, row + 1, session, statement) {
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
        let Some(summary) = caches.summary(view, number)? else { continue };
        if summary.sessions.binary_search(&session).is_err() {
            continue;
        }
        if let Some(chunk) = caches.chunk(view, number)?
            && look(&mut rest, &chunk, 0, session, statement)
        {
            break;
        }
    }
    Ok(rest)
}

/// `true` when nothing more can come.
fn look(rest: &mut Rest, chunk: &Arc<Loaded>, from: usize, session: SessionId, statement: u32) -> bool {
    for (at, row) in chunk.rows.iter().enumerate().skip(from) {
        if row.session != session {
            continue;
        }
        match row.kind {
            Kind::Answered if row.statement == statement => rest.answered = Some((Arc::clone(chunk), at)),
            Kind::StatementEnd if row.statement == statement => {
                rest.end = Some((Arc::clone(chunk), at));
                return true;
            }
            kind if kind.ends_session() => return true,
            _ => {}
        }
    }
    false
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
