//! What stands before every handler: who calls, whether the table lets them, and the journal behind it.

use super::find;
use crate::caller::{Peer, Role, identify};
use crate::control::{Control, blocking, now_unix_ms};
use crate::error::ApiError;
use crate::journal::Change;
use crate::metrics::Metrics;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use std::sync::Arc;

/// Identifies the caller, asks the table, calls the handler with the [`crate::Caller`] beside the request, and notes
/// changing calls. A change that cannot be noted was still done; the caller is told by a 500, the log says which.
pub(super) async fn guard(State(control): State<Arc<Control>>, mut request: Request, next: Next) -> Response {
    let Some(peer) = request.extensions().get::<Peer>().cloned() else {
        return ApiError::internal("a request came without its peer").into_response();
    };
    let method = request.method().clone();
    let pattern = request
        .extensions()
        .get::<MatchedPath>()
        .map(|p| p.as_str().to_owned())
        .unwrap_or_default();
    let path = request.uri().path().to_owned();
    let Some(route) = find(method.as_str(), &pattern) else {
        return ApiError::not_found("there is nothing here").into_response();
    };
    // Public routes do not look at credentials: a stale token in a browser must not keep anybody from logging in.
    let (caller, response) = if route.needs == Role::Anonymous {
        request.extensions_mut().insert(peer.clone());
        (None, next.run(request).await)
    } else {
        match identify(&control, &peer, request.headers()).await {
            Err(error) => (None, error.into_response()),
            Ok(caller) if caller.role == Role::Anonymous => {
                let message =
                    "this needs a token: send `Authorization: Bearer TOKEN`, as `headgate login` gives one";
                (None, ApiError::unauthenticated(message).into_response())
            }
            Ok(caller) if caller.role < route.needs => {
                let message = match route.needs {
                    Role::Admin => {
                        "this needs an administrator (a group of [api] admin_groups, and no actor chain)"
                    }
                    _ => "this needs an auditor (a group of [api] auditor_groups, and no actor chain)",
                };
                (Some(caller), ApiError::forbidden(message).into_response())
            }
            Ok(caller) => {
                request.extensions_mut().insert(caller.clone());
                (Some(caller), next.run(request).await)
            }
        }
    };
    let refused = response.status().is_client_error() || response.status().is_server_error();
    Metrics::count(if refused {
        &control.metrics.api_calls_refused
    } else {
        &control.metrics.api_calls
    });
    if method == Method::GET || pattern == "/api/v1/rules/explain" || pattern == "/api/v1/login/device/poll" {
        return response;
    }
    let subject = response.extensions().get::<Subject>().map(|s| s.0.clone());
    // Refusals of nobody in particular are for the log: they could push the history out of the journal.
    if caller.is_none() && subject.is_none() {
        tracing::info!(%method, path, address = peer.address(), status = response.status().as_u16(), "a call without an identity");
        return response;
    }
    let change = Change {
        number: 0,
        unix_ms: now_unix_ms(),
        principal: caller
            .as_ref()
            .map(|c| c.who.principal.clone())
            .unwrap_or_default(),
        address: peer.address(),
        credential_id: caller.and_then(|c| c.credential_id),
        call: format!("{method} {pattern}"),
        subject: subject.unwrap_or(path),
        status: response.status().as_u16(),
    };
    let noted = blocking(move || control.journal.write(change)).await;
    match noted {
        Ok(Ok(())) => response,
        Ok(Err(error)) => {
            ApiError::internal(format!("{method} {pattern} could not be noted: {error}")).into_response()
        }
        Err(error) => error.into_response(),
    }
}

/// What a changing call was about, where its path does not say it. For the journal.
#[derive(Clone, Debug)]
pub(crate) struct Subject(pub String);

pub(super) async fn nothing_here() -> ApiError {
    ApiError::not_found("there is nothing here; /api/openapi.json lists what is")
}

/// Answers are for this caller alone, and are not pages.
pub(super) async fn headers(request: Request, next: Next) -> Response {
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(
        header::X_CONTENT_TYPE_OPTIONS,
        HeaderValue::from_static("nosniff"),
    );
    headers.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    headers
        .entry(header::CONTENT_SECURITY_POLICY)
        .or_insert(HeaderValue::from_static(
            "default-src 'none'; frame-ancestors 'none'",
        ));
    response
}
