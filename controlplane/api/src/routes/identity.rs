//! Logging in, tokens, revocations.

use super::guard::Subject;
use crate::caller::{Caller, Peer};
use crate::control::{Control, blocking};
use crate::error::ApiError;
use crate::view;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Extension, Json};
use headgate_identity::{ChildRequest, DevicePoll, Revocation, TokenInfo, TokenRequest};
use headgate_plane::{Secret, SessionId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use utoipa::ToSchema;

/// Nobody remembers a token that is older.
const TOKEN_LIFE_MAX: Duration = Duration::from_secs(366 * 24 * 3600);

#[derive(Serialize, ToSchema)]
pub(super) struct LoginWays {
    /// Whether there are users of Headgate's own.
    local: bool,
    /// Issuers that people can log in at.
    issuers: Vec<String>,
}

/// A token was made. Its text is here and never again.
#[derive(Serialize, ToSchema)]
pub(super) struct TokenMade {
    token: String,
    info: TokenInfo,
}

#[derive(Serialize, ToSchema)]
pub(super) struct LoginPending {
    pending: bool,
    /// Do not ask more often.
    interval_seconds: u64,
}

#[derive(Serialize, ToSchema)]
pub(super) struct WhoAmI {
    who: view::IdentityView,
    /// `user`, `auditor`, `admin`.
    role: String,
    /// The operator of this machine, by the admin socket.
    operator: bool,
    credential_id: Option<String>,
    expires_unix_ms: Option<u64>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct TokenList {
    tokens: Vec<TokenInfo>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct RevocationList {
    revocations: Vec<Revocation>,
}

#[derive(Serialize, ToSchema)]
pub(super) struct Revoked {
    /// `None`: one session was ended, and nothing is remembered.
    #[serde(skip_serializing_if = "Option::is_none")]
    revocation: Option<Revocation>,
    sessions_ended: usize,
}

pub(super) async fn ways(State(control): State<Arc<Control>>) -> Json<LoginWays> {
    let issuers: Vec<String> = control
        .identity
        .issuers()
        .into_iter()
        .filter(|(_, login)| *login)
        .map(|(url, _)| url)
        .collect();
    Json(LoginWays {
        local: control.config.local.is_some(),
        issuers,
    })
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LocalBody {
    user: String,
    #[schema(value_type = String)]
    password: Secret,
}

pub(super) async fn local(
    State(control): State<Arc<Control>>,
    Extension(peer): Extension<Peer>,
    Json(body): Json<LocalBody>,
) -> Result<Response, ApiError> {
    let (token, info) = control
        .identity
        .local_login(&body.user, &body.password, &peer.address())
        .await?;
    Ok(token_response(&token, info))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct DeviceBody {
    #[serde(default)]
    issuer: String,
}

pub(super) async fn device_start(
    State(control): State<Arc<Control>>,
    Json(body): Json<DeviceBody>,
) -> Result<Response, ApiError> {
    let start = control.identity.device_start(&body.issuer).await?;
    Ok(Json(start).into_response())
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PollBody {
    handle: String,
}

pub(super) async fn device_poll(
    State(control): State<Arc<Control>>,
    Json(body): Json<PollBody>,
) -> Result<Response, ApiError> {
    Ok(match control.identity.device_poll(&body.handle).await? {
        DevicePoll::Pending { interval_seconds } => (
            StatusCode::ACCEPTED,
            Json(LoginPending {
                pending: true,
                interval_seconds,
            }),
        )
            .into_response(),
        DevicePoll::Done { token, info } => token_response(&token, info),
    })
}

/// The only answers that hold a token's text.
fn token_response(token: &Secret, info: TokenInfo) -> Response {
    let subject = Subject(format!("{} for {}", info.id, info.principal));
    let token = token.danger_reveal().to_owned();
    let mut response = Json(TokenMade { token, info }).into_response();
    response.extensions_mut().insert(subject);
    response
}

pub(super) async fn whoami(Extension(caller): Extension<Caller>) -> Json<WhoAmI> {
    Json(WhoAmI {
        who: view::who(&caller.who),
        role: format!("{:?}", caller.role).to_lowercase(),
        operator: caller.operator,
        expires_unix_ms: (!caller.operator).then_some(caller.expires_unix_ms),
        credential_id: caller.credential_id,
    })
}

pub(super) async fn tokens(State(control): State<Arc<Control>>) -> Result<Json<TokenList>, ApiError> {
    let tokens = blocking(move || control.identity.list_tokens()).await??;
    Ok(Json(TokenList { tokens }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct MintBody {
    principal: String,
    #[serde(default)]
    groups: Vec<String>,
    #[serde(default)]
    chain: Vec<String>,
    ttl_seconds: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    targets: Option<Vec<String>>,
}

pub(super) async fn mint(
    State(control): State<Arc<Control>>,
    Json(body): Json<MintBody>,
) -> Result<Response, ApiError> {
    let request = TokenRequest {
        principal: body.principal,
        groups: body.groups,
        chain: body.chain,
        issuer: "local".to_owned(),
        ttl: ttl(body.ttl_seconds)?,
        name: body.name,
        targets: body.targets,
    };
    let (token, info) = blocking(move || control.identity.mint_token(&request)).await??;
    Ok(token_response(&token, info))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ChildBody {
    #[serde(default)]
    act_as: Option<String>,
    ttl_seconds: u64,
    #[serde(default)]
    name: String,
    #[serde(default)]
    groups: Option<Vec<String>>,
    #[serde(default)]
    targets: Option<Vec<String>>,
}

pub(super) async fn mint_child(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    headers: HeaderMap,
    Json(body): Json<ChildBody>,
) -> Result<Response, ApiError> {
    // The guard has proved this very header; the operator without a token has nothing to narrow.
    let bearer = headers
        .get("authorization")
        .and_then(|v| v.to_str().ok())
        .and_then(|v| v.split_once(' '))
        .map(|(_, t)| t.trim());
    let (Some(parent), Some(_)) = (bearer, caller.credential_id) else {
        return Err(ApiError::bad_request(
            "a child is minted from the caller's token; the local operator uses `token mint`",
        ));
    };
    let request = ChildRequest {
        act_as: body.act_as,
        ttl: ttl(body.ttl_seconds)?,
        name: body.name,
        groups: body.groups,
        targets: body.targets,
    };
    let (token, info) = control
        .identity
        .mint_child(&Secret::new(parent), &request)
        .await?;
    Ok(token_response(&token, info))
}

fn ttl(seconds: u64) -> Result<Duration, ApiError> {
    let life = Duration::from_secs(seconds);
    if life.is_zero() || life > TOKEN_LIFE_MAX {
        return Err(ApiError::bad_request("ttl_seconds is between 1 and 366 days"));
    }
    Ok(life)
}

pub(super) async fn revoke_token(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Path(id): Path<String>,
) -> Result<Json<Revoked>, ApiError> {
    blocking(move || {
        let revocation = control
            .identity
            .revoke_token(&id, &format!("revoked by {}", caller.who.principal))?;
        let sessions_ended = control.end_revoked(&revocation);
        Ok(Json(Revoked {
            revocation: Some(revocation),
            sessions_ended,
        }))
    })
    .await?
}

pub(super) async fn revocations(
    State(control): State<Arc<Control>>,
) -> Result<Json<RevocationList>, ApiError> {
    let revocations = blocking(move || control.identity.revocation_list()).await??;
    Ok(Json(RevocationList { revocations }))
}

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct RevokeBody {
    token: Option<String>,
    credential: Option<String>,
    principal: Option<String>,
    session: Option<String>,
    #[serde(default)]
    reason: String,
}

pub(super) async fn revoke(
    State(control): State<Arc<Control>>,
    Extension(caller): Extension<Caller>,
    Json(body): Json<RevokeBody>,
) -> Result<Response, ApiError> {
    let reason = match body.reason.trim() {
        "" => format!("revoked by {}", caller.who.principal),
        given => given.to_owned(),
    };
    if reason.len() > headgate_questions::REASON_BYTES_MAX {
        return Err(ApiError::bad_request("the reason is too long"));
    }
    blocking(move || {
        let identity = &control.identity;
        let (subject, revocation) = match (body.token, body.credential, body.principal, body.session) {
            (Some(id), None, None, None) => (format!("token {id}"), identity.revoke_token(&id, &reason)?),
            (None, Some(id), None, None) => (
                format!("credential {id}"),
                identity.revoke_credential(&id, &reason)?,
            ),
            (None, None, Some(name), None) => (
                format!("principal {name}"),
                identity.revoke_principal(&name, &reason)?,
            ),
            (None, None, None, Some(id)) => return end_session(&control, &id, &reason),
            _ => {
                return Err(ApiError::bad_request(
                    "name exactly one of token, credential, principal, session",
                ));
            }
        };
        let sessions_ended = control.end_revoked(&revocation);
        let mut response = Json(Revoked {
            revocation: Some(revocation),
            sessions_ended,
        })
        .into_response();
        response.extensions_mut().insert(Subject(subject));
        Ok(response)
    })
    .await?
}

fn end_session(control: &Control, id: &str, reason: &str) -> Result<Response, ApiError> {
    let session =
        SessionId::parse(id).ok_or_else(|| ApiError::bad_request(format!("`{id}` is not a session's id")))?;
    if control.registry.get(session).is_none() {
        return Err(ApiError::not_found(format!(
            "no open session has the id {session}"
        )));
    }
    control.desk.revoke_session(session, reason)?;
    control.registry.end(vec![session], reason);
    let mut response = Json(Revoked {
        revocation: None,
        sessions_ended: 1,
    })
    .into_response();
    response
        .extensions_mut()
        .insert(Subject(format!("session {session}")));
    Ok(response)
}
