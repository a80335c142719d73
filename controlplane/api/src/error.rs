//! What an API client reads when something is refused: a code to match on, a sentence to show.

use axum::Json;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use headgate_identity::IdentityError;
use headgate_plane::{Refusal, RefusalKind};
use headgate_questions::DeskError;
use headgate_secrets::SecretsError;
use headgate_store::StoreError;
use serde::Serialize;
use utoipa::ToSchema;

/// What every refusal is answered with.
#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorAnswer {
    pub error: ErrorBody,
}

#[derive(Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// To match on: `forbidden`, `not_found`, `too_many` …
    pub code: String,
    /// A sentence to show.
    pub message: String,
}

#[derive(Debug)]
pub struct ApiError {
    pub status: StatusCode,
    pub code: &'static str,
    pub message: String,
}

impl ApiError {
    pub fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        ApiError {
            status,
            code,
            message: message.into(),
        }
    }

    pub fn unauthenticated(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::UNAUTHORIZED, "unauthenticated", message)
    }

    pub fn forbidden(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::FORBIDDEN, "forbidden", message)
    }

    pub fn not_found(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub fn bad_request(message: impl Into<String>) -> Self {
        ApiError::new(StatusCode::BAD_REQUEST, "bad_request", message)
    }

    /// Ours, not the caller's. What it was goes to the log; the caller reads that it was, and where to look.
    pub fn internal(detail: impl std::fmt::Display) -> Self {
        tracing::error!(%detail, "an API call failed");
        ApiError::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            "Headgate could not do this; its log says why",
        )
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let error = ErrorBody {
            code: self.code.to_owned(),
            message: self.message,
        };
        let body = Json(ErrorAnswer { error });
        let mut response = (self.status, body).into_response();
        if self.status == StatusCode::UNAUTHORIZED {
            response.headers_mut().insert(
                "www-authenticate",
                axum::http::HeaderValue::from_static("Bearer realm=\"headgate\""),
            );
        }
        response
    }
}

impl From<DeskError> for ApiError {
    fn from(error: DeskError) -> Self {
        let message = error.to_string();
        match error {
            DeskError::Unknown => ApiError::not_found(message),
            DeskError::NotAReviewer => ApiError::new(StatusCode::FORBIDDEN, "not_a_reviewer", message),
            DeskError::OwnQuestion => ApiError::new(StatusCode::FORBIDDEN, "own_question", message),
            DeskError::ThroughAnActor { .. } => {
                ApiError::new(StatusCode::FORBIDDEN, "through_an_actor", message)
            }
            DeskError::NotOpen { .. } => ApiError::new(StatusCode::CONFLICT, "not_open", message),
            DeskError::DeadlinePassed { .. } => {
                ApiError::new(StatusCode::CONFLICT, "deadline_passed", message)
            }
            DeskError::AlreadyVoted => ApiError::new(StatusCode::CONFLICT, "already_voted", message),
            DeskError::ReasonTooLong { .. } => ApiError::bad_request(message),
            DeskError::DigestMismatch | DeskError::KeyReused { .. } => {
                ApiError::new(StatusCode::CONFLICT, "digest_mismatch", message)
            }
            DeskError::TooLarge { .. }
            | DeskError::TooManyOpen { .. }
            | DeskError::TooManyOfSession { .. }
            | DeskError::TooManyOfPrincipal { .. }
            | DeskError::TooMuchHeld { .. } => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", message)
            }
            DeskError::OtherRules => ApiError::new(StatusCode::CONFLICT, "other_rules", message),
            DeskError::Store(detail) => ApiError::internal(detail),
        }
    }
}

impl From<Refusal> for ApiError {
    fn from(refusal: Refusal) -> Self {
        match refusal.kind {
            RefusalKind::Unavailable | RefusalKind::Misconfigured => {
                tracing::warn!(detail = refusal.detail, "an identity could not be checked");
                ApiError::new(
                    StatusCode::SERVICE_UNAVAILABLE,
                    "unavailable",
                    refusal.kind.to_client(),
                )
            }
            RefusalKind::BadCredential | RefusalKind::NoSuchTarget => {
                tracing::info!(detail = refusal.detail, "a credential was not accepted");
                ApiError::unauthenticated(refusal.kind.to_client())
            }
        }
    }
}

impl From<IdentityError> for ApiError {
    fn from(error: IdentityError) -> Self {
        match error {
            IdentityError::Refused(refusal) => refusal.into(),
            IdentityError::Request { why } => ApiError::bad_request(why),
            IdentityError::Unknown { .. } => ApiError::not_found(error.to_string()),
            IdentityError::TooMany { .. } => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", error.to_string())
            }
            IdentityError::LoginEnded { .. } => {
                ApiError::new(StatusCode::GONE, "login_ended", error.to_string())
            }
            IdentityError::Issuer { .. } => {
                ApiError::new(StatusCode::BAD_GATEWAY, "issuer", error.to_string())
            }
            IdentityError::Config { .. } | IdentityError::Crypto | IdentityError::Store(_) => {
                ApiError::internal(error)
            }
        }
    }
}

impl From<SecretsError> for ApiError {
    fn from(error: SecretsError) -> Self {
        match error {
            SecretsError::Name | SecretsError::Length { .. } => ApiError::bad_request(error.to_string()),
            SecretsError::TooMany => {
                ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many", error.to_string())
            }
            other => ApiError::internal(other),
        }
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        ApiError::internal(error)
    }
}
