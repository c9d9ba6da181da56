//! `GET /api/openapi.json`: the HTTP API for programs that write clients, as OpenAPI 3.1, made of the table of routes and of shapes.

use axum::extract::State;
use axum::http::Method;
use fanfare::PastFact;
use serde_json::{Map, Value, json};

use super::Api;
use super::answer::Answer;
use super::routes::{GUARDED, OTHERS, Route, Told};
use super::wants::{Nothing, Wants};
use super::{session, token};

mod shapes;

pub(super) async fn tell(State(_): State<Api>, _: Wants<Nothing>) -> Answer<Value> {
    Answer(document())
}

fn document() -> Value {
    let mut paths = Map::new();
    for (route, is_guarded) in
        GUARDED.iter().map(|route| (route, true)).chain(OTHERS.iter().map(|route| (route, false)))
    {
        let of_path = paths.entry(route.path.replace("{*", "{")).or_insert_with(|| json!({}));
        of_path[route.method.to_lowercase()] = operation(route, is_guarded || route.path == "/metrics");
    }
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Fanfare",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The HTTP API of one node. Unknown members of answers are to be ignored: later versions add some.",
        },
        "security": [{ "token": [] }],
        "paths": paths,
        "components": {
            "schemas": shapes::all(),
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    })
}

fn operation(route: &Route, is_guarded: bool) -> Value {
    let in_path = route.path.split_once('{').map(|(_, name)| name.trim_start_matches('*').trim_end_matches('}'));
    let in_path =
        in_path.map(|name| json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string" } }));
    let in_query = route.takes.iter().map(|&(name, takes)| {
        let schema = match name {
            "limit" => json!({ "type": "integer", "minimum": 1, "maximum": 1_000 }),
            "code" | "rate" => json!({ "type": "integer" }),
            "check" => json!({ "type": "boolean" }),
            "by" | "direction" | "format" | "payload" | "sort" | "transport" => {
                json!({ "type": "string", "enum": alternatives(takes) })
            }
            "kind" => json!({ "type": "string", "enum": PastFact::KINDS }),
            _ => json!({ "type": "string" }),
        };
        json!({ "name": name, "in": "query", "description": takes, "schema": schema })
    });
    // Of what is published under it there are spans.
    let in_headers = (route.id == "publish").then(|| {
        let about = "the trace that the messages belong to, as the W3C's Trace Context has it";
        let schema = json!({ "type": "string", "pattern": "^[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}" });
        json!({ "name": "traceparent", "in": "header", "description": about, "schema": schema })
    });
    let mut told = json!({
        "operationId": route.id,
        "summary": route.about,
        "parameters": in_path.into_iter().chain(in_query).chain(in_headers).collect::<Vec<_>>(),
        "responses": {
            "200": { "description": "done", "content": content(route.told) },
            "default": { "description": "not done: `code` says why", "content": content(Told::Json("Error")) },
        },
    });
    if let Some(shape) = route.body {
        told["requestBody"] = json!({ "required": true, "content": content(Told::Json(shape)) });
    }
    let is_login = route.path == session::PATH && route.method == "POST";
    if !is_guarded || is_login {
        told["security"] = json!([]);
    } else if let Some(right) =
        Method::from_bytes(route.method.as_bytes()).ok().and_then(|method| token::needed(&method, route.path))
    {
        told["x-right"] = right.name().into();
    }
    told
}

/// The values that a parameter takes, of the words that name them: `a, b or c`.
fn alternatives(takes: &str) -> Vec<&str> {
    takes.split(", ").flat_map(|part| part.split(" or ")).collect()
}

fn content(told: Told) -> Value {
    let of = |shape: &str| json!({ "schema": { "$ref": format!("#/components/schemas/{shape}") } });
    match told {
        Told::Json(shape) => json!({ "application/json": of(shape) }),
        // A line each, or the data of an event.
        Told::Stream(shape) => json!({ "application/x-ndjson": of(shape), "text/event-stream": of(shape) }),
        Told::Document(kind) => json!({ kind: {} }),
    }
}
