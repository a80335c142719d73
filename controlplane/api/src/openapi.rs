//! The OpenAPI document, made from the table of routes: it cannot name a route that is not there, nor leave one out.

use crate::caller::Role;
use crate::error::ErrorAnswer;
use crate::routes::{ROUTES, Route};
use crate::schema::{Gives, Named};
use axum::Json;
use std::collections::BTreeMap;
use utoipa::openapi::path::{HttpMethod, OperationBuilder, ParameterBuilder, ParameterIn, PathItem};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{
    ComponentsBuilder, ContentBuilder, InfoBuilder, ObjectBuilder, OpenApi, OpenApiBuilder, PathsBuilder,
    RefOr, Required, ResponseBuilder, Schema, Type,
};

const SCHEME: &str = "token";
const JSON: &str = "application/json";
const ERROR: Named = Named::of::<ErrorAnswer>();

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
    let components = ComponentsBuilder::new()
        .security_scheme(SCHEME, SecurityScheme::Http(scheme))
        .schemas_from_iter(schemas());
    OpenApiBuilder::new()
        .info(info)
        .paths(paths)
        .components(Some(components.build()))
        .build()
}

/// Every type that some route takes or gives, by its name.
fn schemas() -> BTreeMap<String, RefOr<Schema>> {
    let mut all = Vec::new();
    ERROR.collect(&mut all);
    for route in ROUTES {
        if let Gives::Json(named) | Gives::Lines(named) = route.gives {
            named.collect(&mut all);
        }
        let others = [
            route.body.map(|(named, _)| named),
            route.instead.map(|(_, _, named)| named),
        ];
        others
            .into_iter()
            .flatten()
            .for_each(|named| named.collect(&mut all));
    }
    all.into_iter().collect()
}

fn of(named: Named) -> utoipa::openapi::Content {
    ContentBuilder::new().schema(Some(named.reference())).build()
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
    if let Some((named, example)) = route.body {
        let mut content = of(named);
        content.example = serde_json::from_str(example).ok();
        operation = operation.request_body(Some(
            RequestBodyBuilder::new()
                .required(Some(Required::True))
                .content(JSON, content)
                .build(),
        ));
    }
    let done = ResponseBuilder::new().description("Done");
    operation = match route.gives {
        Gives::Json(named) => operation.response("200", done.content(JSON, of(named))),
        Gives::Lines(named) => {
            let mut lines = ContentBuilder::new().build();
            lines.item_schema = Some(named.reference());
            operation.response("200", done.content("application/jsonl", lines))
        }
        Gives::Text(kind) => {
            let content = ContentBuilder::new().schema(Some(text())).build();
            operation.response("200", done.content(kind, content))
        }
        Gives::Nothing => operation.response("204", done),
    };
    if let Some((status, why, named)) = route.instead {
        let response = ResponseBuilder::new().description(why).content(JSON, of(named));
        operation = operation.response(status, response);
    }
    let refused = |why: &str| ResponseBuilder::new().description(why).content(JSON, of(ERROR));
    operation = operation.response("default", refused("It is not done, and why"));
    if route.needs > Role::Anonymous {
        let needs = match route.needs {
            Role::Admin => "Administrators only",
            Role::Auditor => "Auditors and administrators only",
            Role::User | Role::Anonymous => "Not allowed for this identity",
        };
        operation = operation
            .security(SecurityRequirement::new(SCHEME, Vec::<String>::new()))
            .response("401", refused("No credential, or one that is not accepted"))
            .response("403", refused(needs));
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
    use serde_json::Value;

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

    /// Every `$ref` in the document.
    fn references<'a>(value: &'a Value, out: &mut Vec<&'a str>) {
        match value {
            Value::Object(fields) => {
                out.extend(fields.get("$ref").and_then(Value::as_str));
                fields.values().for_each(|v| references(v, out));
            }
            Value::Array(items) => items.iter().for_each(|v| references(v, out)),
            _ => {}
        }
    }

    #[test]
    fn every_route_says_what_it_takes_and_gives_and_every_reference_leads_somewhere() {
        let document = serde_json::to_value(build()).unwrap();
        for route in ROUTES {
            let operation = &document["paths"][route.path][route.method.to_ascii_lowercase()];
            let name = format!("{} {}", route.method, route.path);
            match route.gives {
                Gives::Nothing => assert!(operation["responses"]["204"].is_object(), "{name}"),
                _ => {
                    let content = operation["responses"]["200"]["content"].as_object();
                    let content = content.unwrap_or_else(|| panic!("{name} gives something"));
                    let has_schema = |c: &Value| c["schema"].is_object() || c["itemSchema"].is_object();
                    assert!(content.values().all(has_schema), "{name}");
                }
            }
            let takes = &operation["requestBody"]["content"][JSON];
            assert_eq!(takes["schema"].is_object(), route.body.is_some(), "{name}");
            assert_eq!(
                takes["example"].is_object(),
                route.body.is_some(),
                "{name}: its example is JSON"
            );
        }
        let mut all = Vec::new();
        references(&document, &mut all);
        assert!(all.len() > 100, "{} references", all.len());
        for reference in all {
            let pointer = reference.trim_start_matches('#');
            assert!(document.pointer(pointer).is_some(), "{reference}");
        }
    }
}
