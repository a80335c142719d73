//! Statements by filter, newest first.
//!
//! Summaries say which chunks to open; a statement that fits is joined with its answer and its end, wherever they are.

use crate::Audit;
use crate::error::AuditError;
use crate::find::{self, Found, Rest, Text};
use crate::load::{Caches, Loaded};
use crate::render;
use crate::store::View;
use crate::types::*;
use headgate_plane::{QuestionNumber, SessionId};
use headgate_recording::rows::{SessionRow, Summary, from_bytes};
use headgate_recording::view::EventKind;
use headgate_recording::{BodyView, EventView, keys};
use rocksdb::Direction;
use std::sync::Arc;

/// Work of one page: it may come back short, with a cursor.
const CHUNKS_OPENED_MAX: usize = 2000;
const SUMMARIES_READ_MAX: usize = 200_000;
/// Chunks are in the order of recording. A spool that was read late holds times older than its neighbours', by this at most.
const LATE_US_MAX: u64 = 24 * 3600 * 1_000_000;

/// A statement's place: chunk and row. The next page begins before it.
#[derive(Clone, Copy)]
struct Cursor {
    chunk: u64,
    row: usize,
}

impl Cursor {
    fn parse(text: &str) -> Option<Cursor> {
        let (chunk, row) = text.split_once('.')?;
        Some(Cursor {
            chunk: u64::from_str_radix(chunk, 16).ok()?,
            row: usize::from_str_radix(row, 16).ok()?,
        })
    }

    fn text(self) -> String {
        format!("{:x}.{:x}", self.chunk, self.row)
    }
}

pub(crate) fn limit(page: &PageRequest) -> usize {
    if page.limit == 0 {
        100
    } else {
        page.limit.min(PAGE_ROWS_MAX)
    }
}

struct Wanted<'f> {
    filter: &'f StatementFilter,
    session: Option<SessionId>,
    text: Option<Text>,
}

fn has(list: &[String], wanted: &Option<String>) -> bool {
    wanted.as_ref().is_none_or(|w| list.binary_search(w).is_ok())
}

fn is(value: &str, wanted: &Option<String>) -> bool {
    wanted.as_ref().is_none_or(|w| w == value)
}

impl Wanted<'_> {
    fn may_be_in(&self, s: &Summary) -> bool {
        let f = self.filter;
        s.statements > 0
            && f.from_us.is_none_or(|from| s.last_us >= from)
            && f.to_us.is_none_or(|to| s.first_us < to)
            && f.verdict.is_none_or(|v| s.verdicts & (1 << v as u8) != 0)
            && self
                .session
                .is_none_or(|id| s.sessions.binary_search(&id).is_ok())
            && has(&s.people, &f.principal)
            && has(&s.people, &f.actor)
            && has(&s.people, &f.anyone)
            && has(&s.targets, &f.target)
            && has(&s.resources, &f.resource)
            && has(&s.rules, &f.rule)
    }

    fn is_by(&self, row: &SessionRow) -> bool {
        let f = self.filter;
        is(&row.who.principal, &f.principal)
            && is(row.who.actor(), &f.actor)
            && is(&row.target, &f.target)
            && f.anyone
                .as_ref()
                .is_none_or(|w| row.who.principal == *w || row.who.chain.contains(w))
    }

    fn is_end(&self, row: &StatementRow) -> bool {
        let f = self.filter;
        f.error.is_none_or(|wanted| row.error.is_some() == wanted)
            && f.code
                .as_ref()
                .is_none_or(|wanted| row.error.as_ref().is_some_and(|e| e.code == *wanted))
    }
}

impl Audit {
    /// Statements that fit the filter, newest first.
    pub fn statements(
        &self,
        filter: &StatementFilter,
        page: &PageRequest,
    ) -> Result<Page<StatementRow>, AuditError> {
        let session = match &filter.session {
            Some(text) => Some(SessionId::parse(text).ok_or(AuditError::SessionId)?),
            None => None,
        };
        let wanted = Wanted {
            filter,
            session,
            text: filter.text.as_deref().map(Text::new),
        };
        let from = match &page.cursor {
            Some(text) => Cursor::parse(text).ok_or(AuditError::Cursor)?,
            None => Cursor {
                chunk: u64::MAX,
                row: usize::MAX,
            },
        };
        let view = self.store.view()?;
        let caches = &self.store.caches;
        let limit = limit(page);
        let last_chunk = view.last_chunk()?.unwrap_or(0);
        let mut rows = Vec::new();
        let mut opened = 0;
        for (read, entry) in view
            .scan(keys::IDX, &keys::summary(from.chunk), Direction::Reverse)?
            .enumerate()
        {
            let (key, value) = entry?;
            let (Some(number), Some(summary)) = (keys::summary_number(&key), from_bytes::<Summary>(&value))
            else {
                continue;
            };
            if filter
                .from_us
                .is_some_and(|from| summary.last_us.saturating_add(LATE_US_MAX) < from)
            {
                break;
            }
            if opened >= CHUNKS_OPENED_MAX || read >= SUMMARIES_READ_MAX {
                let next = Cursor {
                    chunk: number,
                    row: if number == from.chunk {
                        from.row
                    } else {
                        usize::MAX
                    },
                };
                return Ok(Page {
                    rows,
                    next: Some(next.text()),
                });
            }
            if !wanted.may_be_in(&summary) {
                continue;
            }
            let Some(chunk) = caches.chunk(&view, number)? else {
                continue;
            };
            opened += 1;
            let before = if number == from.chunk {
                from.row.min(chunk.rows.len())
            } else {
                chunk.rows.len()
            };
            for at in (0..before).rev() {
                if let Some(row) = one(caches, &view, last_chunk, &chunk, at, &wanted)? {
                    rows.push(row);
                    if rows.len() == limit {
                        return Ok(Page {
                            rows,
                            next: Some(
                                Cursor {
                                    chunk: number,
                                    row: at,
                                }
                                .text(),
                            ),
                        });
                    }
                }
            }
        }
        Ok(Page { rows, next: None })
    }

    /// One statement by its session and number, while looking at most through that session.
    pub fn statement(&self, session: &str, statement: u32) -> Result<Option<StatementRow>, AuditError> {
        let filter = StatementFilter {
            session: Some(session.to_owned()),
            ..StatementFilter::default()
        };
        let mut page = PageRequest {
            cursor: None,
            limit: PAGE_ROWS_MAX,
        };
        loop {
            let found = self.statements(&filter, &page)?;
            if let Some(row) = found.rows.into_iter().find(|row| row.statement == statement) {
                return Ok(Some(row));
            }
            page.cursor = Some(match found.next {
                Some(next) => next,
                None => return Ok(None),
            });
        }
    }
}

fn one(
    caches: &Caches,
    view: &View,
    last_chunk: u64,
    chunk: &Arc<Loaded>,
    at: usize,
    wanted: &Wanted<'_>,
) -> Result<Option<StatementRow>, AuditError> {
    let Some(row) = chunk.rows.get(at) else {
        return Ok(None);
    };
    let f = wanted.filter;
    let outside =
        f.from_us.is_some_and(|from| row.unix_us < from) || f.to_us.is_some_and(|to| row.unix_us >= to);
    if row.kind != EventKind::Statement || outside || wanted.session.is_some_and(|id| id != row.session) {
        return Ok(None);
    }
    let by = caches.session(view, row.session)?.unwrap_or_default();
    if !wanted.is_by(&by) {
        return Ok(None);
    }
    let mut record = Vec::new();
    let broken = |why| AuditError::Chunk {
        number: chunk.header.number,
        why,
    };
    row.record_without_reply(&chunk.bodies, &mut record)
        .map_err(broken)?;
    let Ok(EventView {
        body:
            BodyView::Statement {
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
            },
        ..
    }) = EventView::read(&record)
    else {
        return Ok(None);
    };
    let fits = f.verdict.is_none_or(|v| v == verdict.into())
        && is(rule, &f.rule)
        && f.resource
            .as_ref()
            .is_none_or(|r| resources.contains(&r.as_str()));
    if !fits {
        return Ok(None);
    }
    let found = Found {
        chunk,
        row: at,
        session: row.session,
        statement,
    };
    if let Some(wanted) = &wanted.text
        && !wanted.is_in(text)
        && !stands_for.iter().any(|inner| wanted.is_in(inner))
        && !find::is_in_data(caches, view, last_chunk, found, wanted)?
    {
        return Ok(None);
    }
    let mut made = StatementRow {
        session: row.session.to_string(),
        statement,
        time_us: row.unix_us,
        principal: by.who.principal.clone(),
        actor: by.who.actor().to_owned(),
        chain: by.who.chain.clone(),
        target: by.target.clone(),
        environment: by.environment.clone(),
        role: by.role.clone(),
        prepared,
        text: render::text(text),
        stands_for: render::texts(&stands_for),
        parameters: render::parameters(&parameters),
        verdict: verdict.into(),
        rule: rule.to_owned(),
        epoch: epoch.0,
        class: render::classes(class),
        verbs: render::owned(&verbs),
        resources: render::owned(&resources),
        answer: None,
        question: None,
        reviewers: Vec::new(),
        reason: String::new(),
        ended: false,
        outcome: None,
        duration_us: 0,
        rows: 0,
        bytes: 0,
        tag: String::new(),
        error: None,
        masked: 0,
        truncated: false,
    };
    let rest = find::rest(caches, view, last_chunk, found, false)?;
    join(&mut made, &rest);
    Ok(wanted.is_end(&made).then_some(made))
}

fn join(made: &mut StatementRow, rest: &Rest) {
    let mut record = Vec::new();
    for (chunk, at) in [&rest.answered, &rest.end].into_iter().flatten() {
        let Some(row) = chunk.rows.get(*at) else { continue };
        if row.record_without_reply(&chunk.bodies, &mut record).is_err() {
            continue;
        }
        match EventView::read(&record).map(|view| view.body) {
            Ok(BodyView::Answered {
                question,
                outcome,
                reviewers,
                reason,
                ..
            }) => {
                made.answer = Some(outcome.into());
                made.question = Some(QuestionNumber(question).to_string());
                made.reviewers = render::owned(&reviewers);
                made.reason = reason.to_owned();
            }
            Ok(BodyView::StatementEnd {
                outcome,
                duration_us,
                rows,
                bytes,
                tag,
                error,
                masked,
                truncated,
                ..
            }) => {
                made.ended = true;
                made.outcome = Some(outcome.into());
                made.duration_us = duration_us;
                made.rows = rows;
                made.bytes = bytes;
                made.tag = tag.to_owned();
                made.error = error.map(|e| ErrorRow {
                    code: e.code.to_owned(),
                    message: e.message.to_owned(),
                });
                made.masked = masked;
                made.truncated = truncated;
            }
            _ => {}
        }
    }
}
