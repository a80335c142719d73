//! Rules: what is in force, reading the file again, explaining.

use crate::caller::Caller;
use crate::control::{Control, blocking, now_unix_ms};
use crate::error::ApiError;
use crate::rules_board::RulesStatus;
use axum::extract::State;
use axum::{Extension, Json};
use headgate_plane::Who;
use headgate_rules::{Explanation, Problem};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use utoipa::ToSchema;

#[derive(Serialize, ToSchema)]
pub(super) struct RulesShown {
    status: RulesStatus,
    /// In force.
    text: String,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RulesReloaded {
    /// Whether other rules are in force after than before.
    changed: bool,
    status: RulesStatus,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Explained {
    epoch: u64,
    /// For people.
    text: String,
    explanation: Explanation,
}

pub(super) async fn show(State(control): State<Arc<Control>>) -> Result<Json<RulesShown>, ApiError> {
    Ok(Json(RulesShown {
        status: control.rules.status(),
        text: control.rules.text(),
    }))
}

pub(super) async fn reload(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
) -> Result<Json<RulesReloaded>, ApiError> {
    blocking(move || {
        let changed = control.rules.reload()?;
        tracing::info!(
            changed,
            by = caller.who.principal,
            "the rules file was read again"
        );
        Ok(Json(RulesReloaded {
            changed,
            status: control.rules.status(),
        }))
    })
    .await?
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ExplainBody {
    statement: String,
    principal: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    chain: Vec<String>,
    #[serde(default)]
    issuer: String,
    #[serde(default)]
    address: String,
    #[serde(default)]
    application: String,
    target: String,
    /// Where names without a schema are taken to be.
    search_path: Option<String>,
}

pub(super) async fn explain(
    State(control): State<Arc<Control>>,
    Json(body): Json<ExplainBody>,
) -> Result<Json<Explained>, ApiError> {
    let Some(target) = control
        .config
        .target(&body.target)
        .map(headgate_config::Target::spec)
    else {
        return Err(ApiError::not_found(format!(
            "the configuration has no target `{}`",
            body.target
        )));
    };
    let who = Who {
        principal: body.principal,
        groups: body.groups,
        chain: body.chain,
        issuer: body.issuer,
        address: body.address,
        application: body.application,
    };
    let search_path = body.search_path.unwrap_or_else(|| "public".to_owned());
    blocking(move || {
        let snapshot = control.rules.snapshot();
        let explained = headgate_rules::explain(
            &snapshot,
            &body.statement,
            &who,
            &target,
            &search_path,
            now_unix_ms(),
        );
        let explanation = explained.map_err(|problems| ApiError::internal(first(&problems)))?;
        Ok(Json(Explained {
            epoch: snapshot.epoch.0,
            text: explanation.to_string(),
            explanation,
        }))
    })
    .await?
}

fn first(problems: &[Problem]) -> String {
    problems.first().map_or_else(
        || "the rules in force do not compile".to_owned(),
        ToString::to_string,
    )
}
