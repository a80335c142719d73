//! A session's events in order, as a person watches them; and the notes of the recorder and the API.
//!
//! Bounds: [`EVENTS_MAX`] events or [`REPLY_BYTES_MAX`] of replies; a longer session ends with a sentence that says so.

use crate::Audit;
use crate::error::AuditError;
use crate::load;
use crate::render;
use crate::transcript::Transcript;
use crate::types::*;
use data_encoding::HEXLOWER;
use headgate_plane::{Protocol, QuestionNumber, SessionId};
use headgate_recording::rows::{SessionEnd, Summary, from_bytes};
use headgate_recording::view::EventKind;
use headgate_recording::{BodyView, Direction, EventView, keys};
use rocksdb::Direction as Order;

pub const EVENTS_MAX: usize = 100_000;
pub const REPLY_BYTES_MAX: usize = 64 << 20;
const CHUNKS_OPENED_MAX: usize = 2000;

impl Audit {
    /// All recorded events of a session, in order.
    pub fn replay(&self, session: &str) -> Result<Vec<ReplayEvent>, AuditError> {
        let id = SessionId::parse(session).ok_or(AuditError::SessionId)?;
        let view = self.store.view()?;
        let caches = &self.store.caches;
        let row = view.session(id)?.ok_or(AuditError::NoSuchSession)?;
        let last = match row.end {
            SessionEnd::Open => view.last_chunk()?.unwrap_or(0),
            _ => row.last_chunk,
        };
        let mut events: Vec<ReplayEvent> = Vec::new();
        let mut reply = Transcript::of(Protocol::of_name(&row.protocol));
        let (mut reply_bytes, mut record) = (0usize, Vec::new());
        let mut began = None;
        for number in row.first_chunk..=last {
            let Some(summary) = caches.summary(&view, number)? else {
                continue;
            };
            if summary.sessions.binary_search(&id).is_err() {
                continue;
            }
            let Some(chunk) = caches.chunk(&view, number)? else {
                continue;
            };
            let mut replies = None;
            for row in chunk.rows.iter().filter(|row| row.session == id) {
                let began = *began.get_or_insert(row.unix_us);
                let at_ms = row.unix_us.saturating_sub(began) / 1000;
                if events.len() >= EVENTS_MAX || reply_bytes > REPLY_BYTES_MAX {
                    let reason =
                        "the session is longer than a replay; the rest is in the statements".to_owned();
                    events.push(ReplayEvent {
                        at_ms,
                        seq: row.seq,
                        what: ReplayWhat::Unreadable { reason },
                    });
                    return Ok(events);
                }
                let read = if row.reply_len > 0 {
                    if replies.is_none() {
                        replies = Some(load::replies(&view, number));
                    }
                    match &replies {
                        Some(Ok(replies)) => row
                            .record(&chunk.bodies, replies, &mut record)
                            .map_err(|e| e.to_string()),
                        Some(Err(error)) => Err(error.to_string()),
                        None => Err(String::new()),
                    }
                } else {
                    row.record_without_reply(&chunk.bodies, &mut record)
                        .map_err(|e| e.to_string())
                };
                let what = match read.and_then(|()| EventView::read(&record).map_err(|e| e.to_string())) {
                    Ok(event) => {
                        match &event.body {
                            BodyView::Stream { bytes, .. } => reply_bytes += bytes.len(),
                            BodyView::StatementEnd {
                                statement,
                                reply: last,
                                ..
                            } => {
                                reply_bytes += last.len();
                                let mut messages = if last.is_empty() {
                                    Vec::new()
                                } else {
                                    reply.add(last)
                                };
                                messages.extend(reply.end());
                                if !messages.is_empty() || !last.is_empty() {
                                    let bytes = last.len() as u64;
                                    let what = ReplayWhat::Reply {
                                        statement: *statement,
                                        bytes,
                                        messages,
                                    };
                                    events.push(ReplayEvent {
                                        at_ms,
                                        seq: row.seq,
                                        what,
                                    });
                                }
                            }
                            _ => {}
                        }
                        what(&event.body, &mut reply)
                    }
                    Err(reason) => ReplayWhat::Unreadable { reason },
                };
                events.push(ReplayEvent {
                    at_ms,
                    seq: row.seq,
                    what,
                });
            }
        }
        Ok(events)
    }

    /// What the recorder said about itself and which changing calls the API took, newest first.
    pub fn notes(&self, page: &PageRequest) -> Result<Page<NoteRow>, AuditError> {
        let limit = crate::statements::limit(page);
        let (from, from_row) = match page.cursor.as_deref().map(|c| c.split_once('.')) {
            None => (u64::MAX, usize::MAX),
            Some(Some((chunk, row))) => {
                match (u64::from_str_radix(chunk, 16), usize::from_str_radix(row, 16)) {
                    (Ok(chunk), Ok(row)) => (chunk, row),
                    _ => return Err(AuditError::Cursor),
                }
            }
            Some(None) => return Err(AuditError::Cursor),
        };
        let view = self.store.view()?;
        let mut rows = Vec::new();
        let (mut opened, mut record) = (0, Vec::new());
        for entry in view.scan(keys::IDX, &keys::summary(from), Order::Reverse)? {
            let (key, value) = entry?;
            let (Some(number), Some(summary)) = (keys::summary_number(&key), from_bytes::<Summary>(&value))
            else {
                continue;
            };
            if !summary.notes {
                continue;
            }
            if opened >= CHUNKS_OPENED_MAX {
                return Ok(Page {
                    rows,
                    next: Some(format!("{number:x}.{:x}", u32::MAX)),
                });
            }
            let Some(chunk) = self.store.caches.chunk(&view, number)? else {
                continue;
            };
            opened += 1;
            let before = if number == from {
                from_row.min(chunk.rows.len())
            } else {
                chunk.rows.len()
            };
            for (at, row) in chunk.rows.iter().enumerate().take(before).rev() {
                if !matches!(row.kind, EventKind::Recorder | EventKind::Admin)
                    || row.record_without_reply(&chunk.bodies, &mut record).is_err()
                {
                    continue;
                }
                let Ok(event) = EventView::read(&record) else {
                    continue;
                };
                let principal = match &event.body {
                    BodyView::Admin { who, .. } => Some(who.principal.clone()),
                    _ => None,
                };
                let text = note(&event.body);
                rows.push(NoteRow {
                    session: row.session.to_string(),
                    seq: row.seq,
                    time_us: row.unix_us,
                    text,
                    principal,
                });
                if rows.len() == limit {
                    return Ok(Page {
                        rows,
                        next: Some(format!("{number:x}.{at:x}")),
                    });
                }
            }
        }
        Ok(Page { rows, next: None })
    }
}

fn note(body: &BodyView<'_>) -> String {
    match body {
        BodyView::Admin {
            who,
            action,
            subject,
            detail,
            accepted,
        } => {
            let how = if *accepted { "" } else { " (refused)" };
            format!("{} by {}: {subject} {detail}{how}", action, who.actor())
        }
        BodyView::Recorder { note } => format!("{note:?}"),
        BodyView::Unknown { .. } => "a note of a later version".to_owned(),
        _ => String::new(),
    }
}

fn what(body: &BodyView<'_>, reply: &mut Transcript) -> ReplayWhat {
    match body {
        BodyView::SessionOpen {
            who, target, role, ..
        } => ReplayWhat::SessionOpen {
            principal: who.principal.clone(),
            actor: who.actor().to_owned(),
            chain: who.chain.clone(),
            target: (*target).to_owned(),
            role: (*role).to_owned(),
        },
        BodyView::SignInRefused {
            target,
            user,
            address,
            reason,
        } => ReplayWhat::SignInRefused {
            user: (*user).to_owned(),
            target: (*target).to_owned(),
            address: (*address).to_owned(),
            reason: (*reason).to_owned(),
        },
        BodyView::Prepared {
            prepared,
            name,
            text,
            verdict,
            rule,
            class,
            resources,
            ..
        } => ReplayWhat::Prepared {
            prepared: *prepared,
            name: render::text(name),
            text: render::text(text),
            verdict: (*verdict).into(),
            rule: (*rule).to_owned(),
            class: render::classes(*class),
            resources: render::owned(resources),
        },
        BodyView::Statement {
            statement,
            prepared,
            text,
            stands_for,
            parameters,
            verdict,
            rule,
            class,
            resources,
            ..
        } => ReplayWhat::Statement {
            statement: *statement,
            prepared: *prepared,
            text: render::text(text),
            stands_for: render::texts(stands_for),
            parameters: render::parameters(parameters),
            verdict: (*verdict).into(),
            rule: (*rule).to_owned(),
            class: render::classes(*class),
            resources: render::owned(resources),
        },
        BodyView::Answered {
            statement,
            question,
            outcome,
            reviewers,
            reason,
            ..
        } => ReplayWhat::Answered {
            statement: *statement,
            question: QuestionNumber(*question).to_string(),
            outcome: (*outcome).into(),
            reviewers: render::owned(reviewers),
            reason: (*reason).to_owned(),
        },
        BodyView::Stream {
            statement,
            direction: Direction::ToClient,
            bytes,
            ..
        } => ReplayWhat::Reply {
            statement: *statement,
            bytes: bytes.len() as u64,
            messages: reply.add(bytes),
        },
        BodyView::Stream {
            statement,
            direction: Direction::ToTarget,
            offset,
            bytes,
        } => ReplayWhat::Data {
            statement: *statement,
            offset: *offset,
            bytes: bytes.len() as u64,
            text: render::text(bytes),
        },
        BodyView::StreamEnd {
            statement,
            direction,
            bytes,
            rows,
            digest,
            truncated,
            outcome,
            reason,
        } => ReplayWhat::DataEnd {
            statement: *statement,
            direction: (*direction).into(),
            bytes: *bytes,
            rows: *rows,
            digest: HEXLOWER.encode(digest),
            truncated: *truncated,
            outcome: (*outcome).into(),
            reason: (*reason).to_owned(),
        },
        BodyView::StatementEnd {
            statement,
            outcome,
            duration_us,
            rows,
            bytes,
            tag,
            error,
            masked,
            truncated,
            reply: _,
        } => {
            reply.begin();
            ReplayWhat::StatementEnd {
                statement: *statement,
                outcome: (*outcome).into(),
                duration_us: *duration_us,
                rows: *rows,
                bytes: *bytes,
                tag: (*tag).to_owned(),
                error: error.as_ref().map(|e| ErrorRow {
                    code: e.code.to_owned(),
                    message: e.message.to_owned(),
                }),
                masked: *masked,
                truncated: *truncated,
            }
        }
        BodyView::SessionClose { reason, .. } => ReplayWhat::SessionClose {
            reason: (*reason).to_owned(),
        },
        BodyView::SessionLost { reason } => ReplayWhat::SessionLost {
            reason: (*reason).to_owned(),
        },
        BodyView::Recorder { .. } | BodyView::Admin { .. } => ReplayWhat::Note { text: note(body) },
        BodyView::Unknown { kind, bytes } => ReplayWhat::Unknown {
            event_kind: *kind,
            bytes: bytes.len() as u64,
        },
    }
}
