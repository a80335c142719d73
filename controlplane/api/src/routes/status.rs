//! Health, targets, secrets' names, the journal, metrics.

use crate::caller::Caller;
use crate::control::{Control, blocking};
use crate::error::ApiError;
use crate::journal::Change;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use headgate_plane::Secret;
use headgate_secrets::SecretInfo;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use utoipa::ToSchema;

pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

pub(super) async fn readyz(State(control): State<Arc<Control>>) -> Response {
    let mut missing = Vec::new();
    if control.rules.snapshot().epoch.0 == 0 {
        missing.push("no rules are in force: everything is denied");
    }
    if control.links.load(Ordering::Relaxed) == 0 {
        missing.push("no data plane is connected");
    }
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.join("\n") + "\n").into_response()
}

#[derive(Serialize, ToSchema)]
pub(super) struct Targets {
    targets: Vec<TargetView>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TargetView {
    name: String,
    protocol: String,
    environment: String,
    address: String,
    database: String,
    user: String,
    labels: BTreeMap<String, String>,
    /// Name of the secret, where it needs one.
    secret: Option<String>,
    /// Whether every secret that it names is in the store.
    secret_is_there: bool,
}

pub(super) async fn targets(State(control): State<Arc<Control>>) -> Result<Json<Targets>, ApiError> {
    blocking(move || {
        let mut list = Vec::new();
        let names: HashSet<String> = control.secrets.list()?.into_iter().map(|s| s.name).collect();
        for target in &control.config.targets {
            let ready = target.secrets().all(|name| names.contains(name));
            let spec = target.spec();
            list.push(TargetView {
                name: target.name.clone(),
                protocol: spec.protocol.name().to_owned(),
                environment: target.environment.clone(),
                address: target.address.clone(),
                database: spec.database,
                user: spec.user,
                labels: target.labels.clone(),
                secret: target.secret.clone(),
                secret_is_there: ready,
            });
        }
        Ok(Json(Targets { targets: list }))
    })
    .await?
}

#[derive(Serialize, ToSchema)]
pub(super) struct SecretList {
    secrets: Vec<SecretInfo>,
}

pub(super) async fn secrets(State(control): State<Arc<Control>>) -> Result<Json<SecretList>, ApiError> {
    let secrets = blocking(move || control.secrets.list()).await??;
    Ok(Json(SecretList { secrets }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct SecretBody {
    #[schema(value_type = String)]
    value: Secret,
}

#[derive(Serialize, ToSchema)]
pub(super) struct SecretStored {
    secret: SecretInfo,
}

pub(super) async fn put_secret(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
    Json(body): Json<SecretBody>,
) -> Result<Json<SecretStored>, ApiError> {
    let secret = blocking(move || {
        let info = control.secrets.put(&name, &body.value);
        tracing::info!(name, by = caller.who.principal, "a secret was put");
        info
    })
    .await??;
    Ok(Json(SecretStored { secret }))
}

pub(super) async fn delete_secret(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let shown = name.clone();
    if !blocking(move || control.secrets.delete(&name)).await?? {
        return Err(ApiError::not_found(format!("there is no secret `{shown}`")));
    }
    tracing::info!(name = shown, by = caller.who.principal, "a secret was deleted");
    Ok(StatusCode::NO_CONTENT)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ChangesQuery {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Changes {
    changes: Vec<Change>,
}

pub(super) async fn changes(
    State(control): State<Arc<Control>>,
    Query(query): Query<ChangesQuery>,
) -> Result<Json<Changes>, ApiError> {
    let limit = query.limit.unwrap_or(100).min(1_000);
    let changes = blocking(move || control.journal.list(query.after, limit)).await??;
    Ok(Json(Changes { changes }))
}

pub(super) async fn metrics(State(control): State<Arc<Control>>) -> impl IntoResponse {
    let status = control.rules.status();
    let gauges = [
        (
            "headgate_controlplane_links",
            control.links.load(Ordering::Relaxed) as f64,
        ),
        ("headgate_controlplane_sessions", control.registry.count() as f64),
        (
            "headgate_controlplane_questions_live",
            control.desk.live_count() as f64,
        ),
        ("headgate_controlplane_rules_epoch", status.epoch as f64),
        (
            "headgate_controlplane_rules_problems",
            status.problems.len() as f64,
        ),
    ];
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        control.metrics.render(&gauges),
    )
}
