//! Questions: the list, one in full, yes and no, taking back, the live stream.

use crate::caller::{Caller, Role};
use crate::control::{Control, blocking};
use crate::error::ApiError;
use crate::view::QuestionView;
use crate::{events, view};
use axum::extract::{Path, Query, State};
use axum::http::StatusCode;
use axum::response::IntoResponse;
use axum::{Extension, Json};
use headgate_plane::QuestionNumber;
use headgate_questions::{DeskError, Record, Reply, may_review};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

const LIST_MAX: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ListQuery {
    #[serde(default)]
    state: String,
    limit: Option<usize>,
    before: Option<String>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Questions {
    questions: Vec<QuestionView>,
}

pub(super) async fn list(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Questions>, ApiError> {
    let all = match query.state.as_str() {
        "" | "open" => false,
        "all" => true,
        other => {
            return Err(ApiError::bad_request(format!(
                "state is `open` or `all`, not `{other}`"
            )));
        }
    };
    let before = query.before.as_deref().map(parse).transpose()?;
    let limit = query.limit.unwrap_or(100).min(LIST_MAX);
    blocking(move || {
        let mut records: Vec<Record> = if before.is_none() {
            control.desk.live()
        } else {
            Vec::new()
        };
        if all {
            records.extend(control.desk.ended(before, limit)?);
        }
        let seen = records
            .iter()
            .filter(|r| view::may_see(r, &caller))
            .take(LIST_MAX);
        let questions = seen.map(|r| view::question(&control.desk, r, &caller)).collect();
        Ok(Json(Questions { questions }))
    })
    .await?
}

pub(super) async fn one(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
) -> Result<Json<QuestionView>, ApiError> {
    let number = parse(&number)?;
    blocking(move || {
        let record = visible(&control, &caller, number)?;
        Ok(Json(view::question(&control.desk, &record, &caller)))
    })
    .await?
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AnswerBody {
    approve: bool,
    #[serde(default)]
    reason: String,
    /// Of the question as the reviewer saw it. Given, it must be the question's.
    digest: Option<String>,
}

pub(super) async fn answer(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
    Json(body): Json<AnswerBody>,
) -> Result<Json<QuestionView>, ApiError> {
    let number = parse(&number)?;
    blocking(move || {
        let record = visible(&control, &caller, number)?;
        if let Some(seen) = &body.digest
            && *seen != format!("{:?}", record.question.digest)
        {
            return Err(ApiError::new(StatusCode::CONFLICT, "digest_mismatch", "this is not the question that you saw; look again"));
        }
        let reply = if body.approve { Reply::Approve } else { Reply::Deny { reason: body.reason } };
        let record = control.desk.answer(number, &caller.reviewer(), reply)?;
        tracing::info!(%number, by = caller.who.principal, state = record.state.name(), "a question was answered");
        Ok(Json(view::question(&control.desk, &record, &caller)))
    })
    .await?
}

pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(number): Path<String>,
) -> Result<Json<QuestionView>, ApiError> {
    let number = parse(&number)?;
    blocking(move || {
        let record = visible(&control, &caller, number)?;
        if caller.role < Role::Admin {
            may_review(&record.question, &caller.reviewer())?;
        }
        let record = control.desk.revoke(number, &caller.who.principal)?;
        tracing::info!(%number, by = caller.who.principal, "an approval was taken back");
        Ok(Json(view::question(&control.desk, &record, &caller)))
    })
    .await?
}

pub(super) async fn events(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
) -> Result<impl IntoResponse, ApiError> {
    events::stream(control, caller)
}

fn parse(number: &str) -> Result<QuestionNumber, ApiError> {
    QuestionNumber::parse(number)
        .ok_or_else(|| ApiError::bad_request(format!("`{number}` is not a question's number, as HG-17")))
}

/// What the caller may not see is not there.
fn visible(control: &Control, caller: &Caller, number: QuestionNumber) -> Result<Record, ApiError> {
    let record = control.desk.get(number)?;
    if view::may_see(&record, caller) {
        Ok(record)
    } else {
        Err(DeskError::Unknown.into())
    }
}
