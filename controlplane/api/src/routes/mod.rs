//! Every route, and what one needs to call it. The one table of permissions: the guard reads it, the golden test walks
//! it, the OpenAPI document is made from it.

mod audit;
mod guard;
mod identity;
mod questions;
mod rules;
mod status;

use crate::caller::Role;
use crate::control::Control;
use crate::schema::{Gives, Named};
use crate::view::QuestionView;
use crate::{BODY_BYTES_MAX, openapi, page};
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::middleware;
use axum::routing::{MethodRouter, delete, get, post, put};
use headgate_audit::ReplayEvent;
use headgate_identity::DeviceStart;
use std::sync::Arc;
use utoipa::ToSchema;

/// What a route needs. Where a handler asks for more (a question's reviewers, say), its summary says so.
#[derive(Clone, Copy, Debug)]
pub struct Route {
    pub method: &'static str,
    pub path: &'static str,
    pub needs: Role,
    pub summary: &'static str,
    /// Name and description of query parameters.
    pub query: &'static [(&'static str, &'static str)],
    /// What a body must be, and an example of one.
    pub body: Option<(Named, &'static str)>,
    pub gives: Gives,
    /// What it may be answered with instead: status, why, body.
    pub instead: Option<(&'static str, &'static str, Named)>,
}

const fn route(
    method: &'static str,
    path: &'static str,
    needs: Role,
    summary: &'static str,
    gives: Gives,
) -> Route {
    Route {
        method,
        path,
        needs,
        summary,
        query: &[],
        body: None,
        gives,
        instead: None,
    }
}

const fn json<T: ToSchema>() -> Gives {
    Gives::Json(Named::of::<T>())
}

const fn query(mut route: Route, query: &'static [(&'static str, &'static str)]) -> Route {
    route.query = query;
    route
}

const fn body<T: ToSchema>(mut route: Route, example: &'static str) -> Route {
    route.body = Some((Named::of::<T>(), example));
    route
}

const fn instead<T: ToSchema>(mut route: Route, status: &'static str, why: &'static str) -> Route {
    route.instead = Some((status, why, Named::of::<T>()));
    route
}

const PLAIN: Gives = Gives::Text("text/plain");
const LIMIT: (&str, &str) = ("limit", "at most so many");

pub const ROUTES: &[Route] = &[
    route("GET", "/healthz", Role::Anonymous, "The process answers", PLAIN),
    route(
        "GET",
        "/readyz",
        Role::Anonymous,
        "Rules are in force and a data plane is connected; 503 with the reasons if not",
        PLAIN,
    ),
    route(
        "GET",
        "/api/openapi.json",
        Role::Anonymous,
        "This document",
        Gives::Text("application/json"),
    ),
    route(
        "GET",
        "/questions/{number}",
        Role::Anonymous,
        "Page for reviewers; what it shows it asks this API for, with the reviewer's token",
        Gives::Text("text/html"),
    ),
    route(
        "GET",
        "/questions/page.js",
        Role::Anonymous,
        "Script of that page",
        Gives::Text("text/javascript"),
    ),
    route(
        "GET",
        "/questions/page.css",
        Role::Anonymous,
        "Style of that page",
        Gives::Text("text/css"),
    ),
    route(
        "GET",
        "/api/v1/login",
        Role::Anonymous,
        "Ways to log in",
        json::<identity::LoginWays>(),
    ),
    body::<identity::LocalBody>(
        route(
            "POST",
            "/api/v1/login/local",
            Role::Anonymous,
            "A token for a local user's password",
            json::<identity::TokenMade>(),
        ),
        r#"{"user":"alice","password":"…"}"#,
    ),
    body::<identity::DeviceBody>(
        route(
            "POST",
            "/api/v1/login/device",
            Role::Anonymous,
            "Start a login at an identity provider",
            json::<DeviceStart>(),
        ),
        r#"{"issuer":""}"#,
    ),
    instead::<identity::LoginPending>(
        body::<identity::PollBody>(
            route(
                "POST",
                "/api/v1/login/device/poll",
                Role::Anonymous,
                "Ask whether that login is done",
                json::<identity::TokenMade>(),
            ),
            r#"{"handle":"…"}"#,
        ),
        "202",
        "Not done yet",
    ),
    route(
        "GET",
        "/api/v1/whoami",
        Role::User,
        "Who the API takes the caller for",
        json::<identity::WhoAmI>(),
    ),
    query(
        route(
            "GET",
            "/api/v1/questions",
            Role::User,
            "Questions that the caller asked or may answer; all of them for auditors",
            json::<questions::Questions>(),
        ),
        &[
            ("state", "open (default) or all"),
            LIMIT,
            ("before", "only ended ones with a smaller number"),
        ],
    ),
    route(
        "GET",
        "/api/v1/questions/{number}",
        Role::User,
        "One question in full; 404 for those who may neither answer nor audit",
        json::<QuestionView>(),
    ),
    body::<questions::AnswerBody>(
        route(
            "POST",
            "/api/v1/questions/{number}/answer",
            Role::User,
            "Yes or no, by one of the question's reviewers; never by its asker",
            json::<QuestionView>(),
        ),
        r#"{"approve":true,"reason":"","digest":"…"}"#,
    ),
    route(
        "POST",
        "/api/v1/questions/{number}/revoke",
        Role::User,
        "Take back an unspent approval: its reviewers and administrators",
        json::<QuestionView>(),
    ),
    route(
        "GET",
        "/api/v1/events",
        Role::User,
        "Server-sent events about questions that the caller may see",
        Gives::Text("text/event-stream"),
    ),
    query(
        route(
            "GET",
            "/api/v1/sessions",
            Role::Auditor,
            "Sessions that are open now, or recorded ones",
            json::<audit::Sessions>(),
        ),
        &[("past", "true: recorded ones, newest first"), LIMIT],
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}",
        Role::Auditor,
        "One session, open or recorded",
        json::<audit::OneSession>(),
    ),
    route(
        "GET",
        "/api/v1/sessions/{id}/replay",
        Role::Auditor,
        "Its events in order, as JSON lines",
        Gives::Lines(Named::of::<ReplayEvent>()),
    ),
    query(
        route(
            "GET",
            "/api/v1/statements",
            Role::Auditor,
            "What was judged",
            json::<audit::Statements>(),
        ),
        audit::STATEMENT_QUERY,
    ),
    query(
        route(
            "GET",
            "/api/v1/changes",
            Role::Auditor,
            "Changing calls of this API, with who and when",
            json::<status::Changes>(),
        ),
        &[("after", "number of the last one known"), LIMIT],
    ),
    route(
        "GET",
        "/api/v1/checkpoints",
        Role::Auditor,
        "Signed notes over the whole recording, newest first; keep them elsewhere, `headgate audit verify` checks them",
        json::<audit::Checkpoints>(),
    ),
    route(
        "GET",
        "/api/v1/rules",
        Role::Auditor,
        "Rules in force, and what is wrong with the file on disk",
        json::<rules::RulesShown>(),
    ),
    route(
        "POST",
        "/api/v1/rules/reload",
        Role::Admin,
        "Read the rules file now",
        json::<rules::RulesReloaded>(),
    ),
    body::<rules::ExplainBody>(
        route(
            "POST",
            "/api/v1/rules/explain",
            Role::Auditor,
            "Which rule decides about a statement, and why",
            json::<rules::Explained>(),
        ),
        r#"{"statement":"SELECT 1","principal":"alice","groups":[],"chain":[],"target":"orders"}"#,
    ),
    route(
        "GET",
        "/api/v1/targets",
        Role::Auditor,
        "Targets of the configuration",
        json::<status::Targets>(),
    ),
    route(
        "GET",
        "/api/v1/revocations",
        Role::Auditor,
        "What was revoked and still matters",
        json::<identity::RevocationList>(),
    ),
    body::<identity::RevokeBody>(
        route(
            "POST",
            "/api/v1/revocations",
            Role::Admin,
            "Revoke one of: token, principal, session, credential",
            json::<identity::Revoked>(),
        ),
        r#"{"principal":"alice","reason":"left"}"#,
    ),
    route(
        "GET",
        "/api/v1/tokens",
        Role::Admin,
        "Tokens, never their text",
        json::<identity::TokenList>(),
    ),
    body::<identity::MintBody>(
        route(
            "POST",
            "/api/v1/tokens",
            Role::Admin,
            "Make a token; its text is in this answer and never again",
            json::<identity::TokenMade>(),
        ),
        r#"{"principal":"nightly","groups":["jobs"],"chain":[],"ttl_seconds":3600,"name":"","targets":null}"#,
    ),
    route(
        "DELETE",
        "/api/v1/tokens/{id}",
        Role::Admin,
        "Revoke a token, what was minted from it, and their sessions",
        json::<identity::Revoked>(),
    ),
    body::<identity::ChildBody>(
        route(
            "POST",
            "/api/v1/tokens/child",
            Role::User,
            "A narrower token from the caller's own, for an agent it starts",
            json::<identity::TokenMade>(),
        ),
        r#"{"act_as":"agent-1","ttl_seconds":600,"name":"","groups":null,"targets":null}"#,
    ),
    route(
        "GET",
        "/api/v1/secrets",
        Role::Admin,
        "Names of secrets",
        json::<status::SecretList>(),
    ),
    body::<status::SecretBody>(
        route(
            "PUT",
            "/api/v1/secrets/{name}",
            Role::Admin,
            "Store a secret; it cannot be read back",
            json::<status::SecretStored>(),
        ),
        r#"{"value":"…"}"#,
    ),
    route(
        "DELETE",
        "/api/v1/secrets/{name}",
        Role::Admin,
        "Forget a secret",
        Gives::Nothing,
    ),
    route("GET", "/api/v1/metrics", Role::Auditor, "Prometheus text", PLAIN),
];

fn handler(method: &str, path: &str) -> Option<MethodRouter<Arc<Control>>> {
    Some(match (method, path) {
        ("GET", "/healthz") => get(status::healthz),
        ("GET", "/readyz") => get(status::readyz),
        ("GET", "/api/openapi.json") => get(openapi::document),
        ("GET", "/questions/{number}") => get(page::question),
        ("GET", "/questions/page.js") => get(page::script),
        ("GET", "/questions/page.css") => get(page::style),
        ("GET", "/api/v1/login") => get(identity::ways),
        ("POST", "/api/v1/login/local") => post(identity::local),
        ("POST", "/api/v1/login/device") => post(identity::device_start),
        ("POST", "/api/v1/login/device/poll") => post(identity::device_poll),
        ("GET", "/api/v1/whoami") => get(identity::whoami),
        ("GET", "/api/v1/questions") => get(questions::list),
        ("GET", "/api/v1/questions/{number}") => get(questions::one),
        ("POST", "/api/v1/questions/{number}/answer") => post(questions::answer),
        ("POST", "/api/v1/questions/{number}/revoke") => post(questions::revoke),
        ("GET", "/api/v1/events") => get(questions::events),
        ("GET", "/api/v1/sessions") => get(audit::sessions),
        ("GET", "/api/v1/sessions/{id}") => get(audit::session),
        ("GET", "/api/v1/sessions/{id}/replay") => get(audit::replay),
        ("GET", "/api/v1/statements") => get(audit::statements),
        ("GET", "/api/v1/changes") => get(status::changes),
        ("GET", "/api/v1/checkpoints") => get(audit::checkpoints),
        ("GET", "/api/v1/rules") => get(rules::show),
        ("POST", "/api/v1/rules/reload") => post(rules::reload),
        ("POST", "/api/v1/rules/explain") => post(rules::explain),
        ("GET", "/api/v1/targets") => get(status::targets),
        ("GET", "/api/v1/revocations") => get(identity::revocations),
        ("POST", "/api/v1/revocations") => post(identity::revoke),
        ("GET", "/api/v1/tokens") => get(identity::tokens),
        ("POST", "/api/v1/tokens") => post(identity::mint),
        ("DELETE", "/api/v1/tokens/{id}") => delete(identity::revoke_token),
        ("POST", "/api/v1/tokens/child") => post(identity::mint_child),
        ("GET", "/api/v1/secrets") => get(status::secrets),
        ("PUT", "/api/v1/secrets/{name}") => put(status::put_secret),
        ("DELETE", "/api/v1/secrets/{name}") => delete(status::delete_secret),
        ("GET", "/api/v1/metrics") => get(status::metrics),
        _ => return None,
    })
}

/// The whole API.
/// The caller adds a [`crate::Peer`] as an extension to every request; without one nobody is answered.
pub fn router(control: Arc<Control>) -> Router {
    let mut router = Router::new();
    for route in ROUTES {
        if let Some(handler) = handler(route.method, route.path) {
            router = router.route(route.path, handler);
        }
    }
    router
        .route_layer(middleware::from_fn_with_state(control.clone(), guard::guard))
        .fallback(guard::nothing_here)
        .method_not_allowed_fallback(guard::nothing_here)
        .layer(DefaultBodyLimit::max(BODY_BYTES_MAX))
        .layer(middleware::from_fn(guard::headers))
        .with_state(control)
}

/// The row of a route; [`guard`] refuses what has none.
fn find(method: &str, path: &str) -> Option<&'static Route> {
    ROUTES.iter().find(|r| r.method == method && r.path == path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_of_the_table_has_a_handler_and_stands_once() {
        for route in ROUTES {
            assert!(
                handler(route.method, route.path).is_some(),
                "{} {}",
                route.method,
                route.path
            );
            let same = ROUTES
                .iter()
                .filter(|r| r.method == route.method && r.path == route.path)
                .count();
            assert_eq!(same, 1, "{} {}", route.method, route.path);
        }
    }

    #[test]
    fn whatever_changes_something_needs_an_identity_or_makes_one() {
        for route in ROUTES
            .iter()
            .filter(|r| r.method != "GET" && r.needs == Role::Anonymous)
        {
            assert!(route.path.starts_with("/api/v1/login/"), "{}", route.path);
        }
    }
}
