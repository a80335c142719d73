//! The OpenAPI document, made from the table of routes: it cannot name a route that is not there, nor leave one out.

use crate::caller::Role;
use crate::routes::{ROUTES, Route};
use axum::Json;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    Required, ResponseBuilder, Type,
};

const SCHEME: &str = "token";

pub async fn document() -> Json<OpenApi> {
    Json(build())
}

pub fn build() -> OpenApi {
    let mut paths = PathsBuilder::new();
    for route in ROUTES {
        let method = match route.method {
            "POST" => HttpMethod::Post,
            "PUT" => HttpMethod::Put,
            "DELETE" => HttpMethod::Delete,
            _ => HttpMethod::Get,
        };
        // The builder merges operations of one path.
        paths = paths.path(route.path, PathItem::new(method, operation(route)));
    }
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "A token of `headgate login` or `headgate token mint`, or a JWT of a trusted issuer",
        ))
        .build();
    let info = InfoBuilder::new()
        .title("Headgate")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(
            "Admin API. Errors are {\"error\": {\"code\", \"message\"}}.",
        ));
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(
            ComponentsBuilder::new()
                .security_scheme(SCHEME, SecurityScheme::Http(scheme))
                .build(),
        ))
        .build()
}

fn operation(route: &Route) -> utoipa::openapi::path::Operation {
    let text = || ObjectBuilder::new().schema_type(Type::String).build();
    let mut operation = OperationBuilder::new()
        .summary(Some(route.summary))
        .operation_id(Some(operation_id(route)));
    for name in route
        .path
        .split('/')
        .filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'))
    {
        let parameter = ParameterBuilder::new()
            .name(name)
            .parameter_in(ParameterIn::Path)
            .required(Required::True);
        operation = operation.parameter(parameter.schema(Some(text())));
    }
    for (name, description) in route.query {
        let parameter = ParameterBuilder::new()
            .name(*name)
            .parameter_in(ParameterIn::Query)
            .description(Some(*description));
        operation = operation.parameter(parameter.schema(Some(text())));
    }
    if let Some(example) = route.body {
        let example = serde_json::from_str(example).unwrap_or_default();
        let content = ContentBuilder::new().example(Some(example)).build();
        operation = operation.request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content("application/json", content)
                .build(),
        ));
    }
    operation = operation.response("200", ResponseBuilder::new().description("Done"));
    if route.needs > Role::Anonymous {
        let needs = match route.needs {
            Role::Admin => "Administrators only",
            Role::Auditor => "Auditors and administrators only",
            Role::User | Role::Anonymous => "Not allowed for this identity",
        };
        operation = operation
            .security(SecurityRequirement::new(SCHEME, Vec::<String>::new()))
            .response(
                "401",
                ResponseBuilder::new().description("No credential, or one that is not accepted"),
            )
            .response("403", ResponseBuilder::new().description(needs));
    }
    operation.build()
}

fn operation_id(route: &Route) -> String {
    let path: Vec<&str> = route
        .path
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|part| !part.is_empty() && !matches!(*part, "api" | "v1"))
        .collect();
    format!("{}_{}", route.method.to_ascii_lowercase(), path.join("_"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_document_names_every_route_with_its_method() {
        let document = serde_json::to_value(build()).unwrap();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            assert_eq!(
                operation["summary"], route.summary,
                "{} {}",
                route.method, route.path
            );
            assert_eq!(
                operation["security"].is_array(),
                route.needs > Role::Anonymous,
                "{}",
                route.path
            );
        }
    }

    #[test]
    fn every_example_of_a_body_is_json() {
        for example in ROUTES.iter().filter_map(|r| r.body) {
            serde_json::from_str::<serde_json::Value>(example).unwrap();
        }
    }
}
