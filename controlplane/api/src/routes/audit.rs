//! What was recorded: statements, sessions, replay, checkpoints. The crown jewels: auditors and administrators only.

use super::guard::Subject;
use crate::control::{Control, blocking};
use crate::error::ApiError;
use crate::sessions::LiveSession;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use headgate_audit::{
    Audit, AuditError, PageRequest, SessionFilter, SessionSummary, StatementFilter, StatementRow, VerdictName,
};
use headgate_plane::SessionId;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

pub(super) const STATEMENT_QUERY: &[(&str, &str)] = &[
    ("from_us", "not before; Unix microseconds"),
    ("to_us", "before; Unix microseconds"),
    ("principal", "who is answerable"),
    ("actor", "the outermost actor"),
    ("anyone", "principal or anybody of the chain"),
    ("target", "name of the target"),
    ("resource", "full name, such as schema.name"),
    ("verdict", "allow, hold or deny"),
    ("session", "id of the session"),
    ("text", "part of the statement's text"),
    ("rule", "name of the rule that decided"),
    ("code", "of the error that it ended with, such as an SQLSTATE"),
    (
        "error",
        "true: only those that ended with an error; false: only those that did not",
    ),
    ("limit", "at most so many"),
    ("cursor", "`next` of the page before"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct StatementQuery {
    from_us: Option<u64>,
    to_us: Option<u64>,
    principal: Option<String>,
    actor: Option<String>,
    anyone: Option<String>,
    target: Option<String>,
    resource: Option<String>,
    verdict: Option<VerdictName>,
    session: Option<String>,
    text: Option<String>,
    rule: Option<String>,
    code: Option<String>,
    error: Option<bool>,
    limit: Option<usize>,
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Statements {
    statements: Vec<StatementRow>,
    /// `cursor` of what follows. A page may be short, even empty, and go on.
    next: Option<String>,
}

pub(super) async fn statements(
    State(control): State<Arc<Control>>,
    Query(q): Query<StatementQuery>,
) -> Result<Json<Statements>, ApiError> {
    let filter = StatementFilter {
        from_us: q.from_us,
        to_us: q.to_us,
        principal: q.principal,
        actor: q.actor,
        anyone: q.anyone,
        target: q.target,
        resource: q.resource,
        verdict: q.verdict,
        session: q.session,
        text: q.text,
        rule: q.rule,
        code: q.code,
        error: q.error,
    };
    let page = PageRequest {
        cursor: q.cursor,
        limit: q.limit.unwrap_or(0),
    };
    let found = ask(&control, move |audit| audit.statements(&filter, &page)).await?;
    Ok(Json(Statements {
        statements: found.rows,
        next: found.next,
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SessionQuery {
    #[serde(default)]
    past: bool,
    limit: Option<usize>,
    cursor: Option<String>,
}

const SESSIONS_MAX: usize = 10_000;

#[derive(Serialize, ToSchema)]
#[serde(untagged)]
pub(super) enum Sessions {
    /// Those that are open now.
    Open {
        sessions: Vec<LiveSession>,
        count: usize,
    },
    /// Recorded ones, with the `cursor` of what follows.
    Recorded {
        sessions: Vec<SessionSummary>,
        next: Option<String>,
    },
}

pub(super) async fn sessions(
    State(control): State<Arc<Control>>,
    Query(q): Query<SessionQuery>,
) -> Result<Json<Sessions>, ApiError> {
    if !q.past {
        return Ok(Json(Sessions::Open {
            sessions: control.registry.list(q.limit.unwrap_or(1_000).min(SESSIONS_MAX)),
            count: control.registry.count(),
        }));
    }
    let page = PageRequest {
        cursor: q.cursor,
        limit: q.limit.unwrap_or(0),
    };
    let found = ask(&control, move |audit| {
        audit.sessions(&SessionFilter::default(), &page)
    })
    .await?;
    Ok(Json(Sessions::Recorded {
        sessions: found.rows,
        next: found.next,
    }))
}

/// One of both, or both.
#[derive(Serialize, ToSchema)]
pub(super) struct OneSession {
    live: Option<LiveSession>,
    recorded: Option<SessionSummary>,
}

pub(super) async fn session(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<OneSession>, ApiError> {
    let session = parse(&id)?;
    let live = control.registry.get(session);
    let recorded = match ask(&control, move |audit| audit.session(&session.to_string())).await {
        Ok(recorded) => recorded,
        // An open session is worth showing before the recorder has written anything.
        Err(_) if live.is_some() => None,
        Err(error) => return Err(error),
    };
    if live.is_none() && recorded.is_none() {
        return Err(ApiError::not_found(format!("no session has the id {session}")));
    }
    Ok(Json(OneSession { live, recorded }))
}

/// JSON lines, one event each.
pub(super) async fn replay(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let session = parse(&id)?;
    let events = ask(&control, move |audit| audit.replay(&session.to_string())).await?;
    let mut lines = Vec::new();
    for event in &events {
        serde_json::to_writer(&mut lines, event).map_err(ApiError::internal)?;
        lines.push(b'\n');
    }
    let mut response = (
        [(header::CONTENT_TYPE, "application/jsonl; charset=utf-8")],
        lines,
    )
        .into_response();
    response
        .extensions_mut()
        .insert(Subject(format!("session {session}")));
    Ok(response)
}

#[derive(Serialize, ToSchema)]
pub(super) struct Checkpoints {
    /// Newest first.
    checkpoints: Vec<Checkpoint>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Checkpoint {
    /// Leaves of the tree that it vouches for.
    size: u64,
    /// The signed note.
    note: String,
}

pub(super) async fn checkpoints(State(control): State<Arc<Control>>) -> Result<Json<Checkpoints>, ApiError> {
    let list = ask(&control, |audit| audit.checkpoints(100)).await?;
    let checkpoints = list
        .into_iter()
        .map(|(size, note)| Checkpoint { size, note })
        .collect();
    Ok(Json(Checkpoints { checkpoints }))
}

async fn ask<T: Send + 'static>(
    control: &Arc<Control>,
    query: impl FnOnce(&Audit) -> Result<T, AuditError> + Send + 'static,
) -> Result<T, ApiError> {
    let permit = control.queries.clone().try_acquire_owned().map_err(|_| {
        ApiError::new(
            StatusCode::TOO_MANY_REQUESTS,
            "too_many",
            "too many audit queries are running; try again",
        )
    })?;
    let audit = control.audit.clone();
    blocking(move || {
        let _permit = permit;
        query(&audit)
    })
    .await?
    .map_err(|error| {
        let message = error.to_string();
        match error {
            AuditError::Cursor | AuditError::SessionId => ApiError::bad_request(message),
            AuditError::NoSuchSession => ApiError::not_found(message),
            AuditError::NotThere { .. } => {
                ApiError::new(StatusCode::SERVICE_UNAVAILABLE, "no_recording", message)
            }
            other => ApiError::internal(other),
        }
    })
}

fn parse(id: &str) -> Result<SessionId, ApiError> {
    SessionId::parse(id).ok_or_else(|| ApiError::bad_request(format!("`{id}` is not a session's id")))
}
