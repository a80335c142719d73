//! The live stream: what happens to questions, as server-sent events.
//!
//! A stream ends when its credential expires or is revoked, and at the latest after [`STREAM_LIFE`]: the page asks again.

use crate::caller::{Caller, Role};
use crate::control::{Control, now_unix_ms};
use crate::error::ApiError;
use crate::view;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse, Response};
use headgate_questions::DeskEvent;
use serde_json::json;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

const STREAM_LIFE: Duration = Duration::from_secs(15 * 60);
/// A reader who is slower than this loses the stream.
const UNREAD_MAX: usize = 256;

pub fn stream(control: Arc<Control>, caller: Caller) -> Result<Response, ApiError> {
    let permit = control.streams.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(
            axum::http::StatusCode::TOO_MANY_REQUESTS,
            "too_many",
            "too many event streams are open",
        )
    })?;
    let (out, events) = mpsc::channel::<Result<Event, Infallible>>(UNREAD_MAX);
    let mut questions = control.desk.subscribe();
    let mut rules = control.rules.subscribe();
    let mut revocations = control.identity.revocations();
    tokio::spawn(async move {
        let _permit = permit;
        let life =
            Duration::from_millis(caller.expires_unix_ms.saturating_sub(now_unix_ms())).min(STREAM_LIFE);
        let end = tokio::time::sleep(life);
        tokio::pin!(end);
        let hello = Event::default()
            .event("hello")
            .data(json!({ "questions_open": control.desk.live_count() }).to_string());
        if out.send(Ok(hello)).await.is_err() {
            return;
        }
        loop {
            let event = tokio::select! {
                () = &mut end => return,
                () = out.closed() => return,
                revocation = revocations.recv() => match revocation {
                    Ok(r) if caller.credential_id.as_deref().is_some_and(|id| r.ends(&caller.who, id)) => return,
                    Ok(_) => continue,
                    // Some were missed, and one of them may be ours.
                    Err(_) if caller.operator => continue,
                    Err(_) => return,
                },
                question = questions.recv() => match question {
                    Ok(event) => match question_event(&control, &caller, &event) {
                        Some(event) => event,
                        None => continue,
                    },
                    Err(RecvError::Lagged(missed)) => Event::default().event("missed").data(json!({ "events": missed }).to_string()),
                    Err(RecvError::Closed) => return,
                },
                changed = rules.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let epoch = rules.borrow_and_update().epoch.0;
                    if caller.role < Role::Auditor {
                        continue;
                    }
                    Event::default().event("rules").data(json!({ "epoch": epoch }).to_string())
                },
            };
            if out.try_send(Ok(event)).is_err() {
                return;
            }
        }
    });
    let keep_alive = KeepAlive::new().interval(Duration::from_secs(15));
    Ok(Sse::new(ReceiverStream::new(events))
        .keep_alive(keep_alive)
        .into_response())
}

fn question_event(control: &Control, caller: &Caller, event: &DeskEvent) -> Option<Event> {
    let record = control.desk.get(event.number).ok()?;
    if !view::may_see(&record, caller) {
        return None;
    }
    let data =
        json!({ "number": event.number.to_string(), "kind": event.kind.name(), "state": event.state.name() });
    Some(Event::default().event("question").data(data.to_string()))
}
