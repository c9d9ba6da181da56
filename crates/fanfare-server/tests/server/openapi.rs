//! `GET /api/openapi.json`: each request that it describes is made, and each answer is as it says, with no member more.

use std::collections::BTreeSet;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Answer, PATIENCE, Server, TOKEN, eventually, http};
use crate::users::{endpoint_with, token};

const CHANNELS: &str = "
[[channel]]
topic = '*'
join = 'open'
publish = 'open'
presence = true
history = { messages = 7 }
";

fn config() -> String {
    format!("drain = '1s'\n{}", endpoint_with(CHANNELS))
}

/// The process that takes over. Killed when dropped, in case it has not ended by itself.
struct Successor(u64);

impl Drop for Successor {
    fn drop(&mut self) {
        let _ = Command::new("kill").args(["-KILL", &self.0.to_string()]).output();
    }
}

/// The description, which forbids what it does not name.
fn strict(mut schema: Value) -> Value {
    match &mut schema {
        Value::Object(members) => {
            members.values_mut().for_each(|value| *value = strict(value.take()));
            if members.get("properties").is_some_and(Value::is_object) && !members.contains_key("additionalProperties")
            {
                members.insert("additionalProperties".into(), false.into());
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|value| *value = strict(value.take())),
        _ => {}
    }
    schema
}

struct Described(Value);

impl Described {
    /// All that can be asked, as `GET /api/topics`.
    fn all(&self) -> BTreeSet<String> {
        let paths = self.0["paths"].as_object().unwrap().iter();
        let of_path = |(path, methods): (&String, &Value)| {
            let methods = methods.as_object().unwrap().keys();
            methods.map(|method| format!("{} {path}", method.to_uppercase())).collect::<Vec<_>>()
        };
        paths.flat_map(of_path).collect()
    }

    /// What is not as described of a part of a request.
    #[track_caller]
    fn check(&self, asked: &str, content: &Value, told: &Value) {
        let schema = &content["schema"];
        assert!(schema["$ref"].is_string(), "{asked} has no schema");
        let schema = json!({ "$ref": schema["$ref"], "components": self.0["components"] });
        let validator = jsonschema::validator_for(&schema).unwrap();
        let faults: Vec<_> =
            validator.iter_errors(told).map(|fault| format!("{}: {fault}", fault.instance_path())).collect();
        assert!(faults.is_empty(), "{asked}: {faults:?}: {told}");
    }
}

/// The first item of an answer that goes on.
fn first_line(server: &Server, path: &str) -> Value {
    let admin = server.admin();
    let mut stream = TcpStream::connect(&admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("host: {admin}\r\nauthorization: Bearer {TOKEN}\r\naccept: application/x-ndjson\r\n\r\n");
    write!(stream, "GET {path} HTTP/1.1\r\n{head}").unwrap();
    let mut lines = BufReader::new(stream).lines();
    if path.contains("tap") {
        // An empty item says that the tap is there: its length, itself, and an end.
        assert!(lines.any(|line| line.unwrap() == "1"));
        assert_eq!(server.publish("room:1", 7).status, 200);
    }
    let line = lines.map(Result::unwrap).find(|line| line.starts_with('{'));
    serde_json::from_str(&line.unwrap()).unwrap()
}

#[test]
fn each_request_is_answered_as_the_description_says() {
    let server = Server::serve(&config());
    let connect =
        |sub: &str| server.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={}", token(sub)), &[]).unwrap();
    let mut clients = ["7", "8"].map(connect);
    let joined = clients.each_mut().map(|client| client.join_ok("room:1"));
    clients[0].push(&joined[0], "room:1", "new_msg", json!({}));
    assert_eq!(server.upgrade("/nowhere/websocket?vsn=2.0.0", &[]).err(), Some(404));
    eventually(|| server.api("GET", "/api/why", &Value::Null).json()["total"].as_u64() > Some(0));
    let described = Described(strict(server.api("GET", "/api/openapi.json", &Value::Null).json()));
    assert_eq!(described.0["openapi"], "3.1.0");
    let sockets = server.api("GET", "/api/sockets?user=user:7", &Value::Null).json();
    let socket = sockets["sockets"][0]["socket"].as_str().unwrap();
    let (none, message) = (Value::Null, json!({"topic": "room:1", "event": "e", "payload": null}));
    let (mut made, mut ids) = (BTreeSet::new(), std::collections::HashSet::new());
    let mut successor = None;
    for (asked, name, query, body) in [
        ("POST /api/publish", "", "", &message),
        ("POST /api/publish", "", "", &json!({"messages": [message], "allow_reserved": true})),
        ("POST /api/disconnect", "", "", &json!({"id": "user:1"})),
        ("GET /api/topics", "", "?limit=5", &none),
        ("GET /api/topics", "", "?sort=rate&window=100ms", &none),
        ("GET /api/topic/{topic}", "room:1", "", &none),
        ("GET /api/members/{topic}", "room:1", "", &none),
        ("GET /api/sockets", "", "", &none),
        ("GET /api/sockets/{id}", socket, "", &none),
        ("GET /api/info", "", "", &none),
        ("GET /api/live", "", "?what=overview,shards,health", &none),
        ("GET /api/tap", "", "?topic=*", &none),
        ("GET /api/top", "", "?window=100ms", &none),
        ("GET /api/top", "", "?by=users&window=100ms", &none),
        ("GET /api/top", "", "?by=channels&window=100ms", &none),
        ("GET /api/presence/{topic}", "room:1", "", &none),
        ("GET /api/history/{topic}", "room:1", "", &none),
        ("GET /api/connections", "", "", &none),
        ("GET /api/connections/{key}", "user:7", "", &none),
        ("GET /api/contract", "", "", &none),
        ("GET /api/nodes", "", "", &none),
        ("GET /api/counters", "", "", &none),
        ("GET /api/why", "", "", &none),
        ("GET /api/config", "", "", &none),
        ("GET /api/log", "", "", &none),
        ("POST /api/log", "", "", &json!({"level": "info", "for": "10m"})),
        ("GET /api/session", "", "", &none),
        ("POST /api/session", "", "", &json!({"token": TOKEN})),
        ("DELETE /api/session", "", "", &none),
        ("GET /api/openapi.json", "", "", &none),
        ("GET /metrics", "", "", &none),
        ("GET /api/health", "", "", &none),
        ("GET /livez", "", "", &none),
        ("GET /readyz", "", "", &none),
        ("DELETE /api/sockets/{id}", socket, "?code=4001", &none),
        ("DELETE /api/connections/{key}", "user:8", "", &none),
        ("POST /api/reload", "", "?check=true", &none),
        ("POST /api/upgrade", "", "", &none),
        ("POST /api/drain", "", "", &none),
    ] {
        let made_before = !made.insert(asked.to_owned());
        let (method, template) = asked.split_once(' ').unwrap();
        let operation = &described.0["paths"][template][method.to_lowercase()];
        let path = match template.split_once('{') {
            Some((begin, _)) => format!("{begin}{name}{query}"),
            None => format!("{template}{query}"),
        };
        assert!(ids.insert(&operation["operationId"]) || made_before, "{asked}: {}", operation["operationId"]);
        let answer = &operation["responses"]["200"]["content"];
        if !body.is_null() {
            described.check(asked, &operation["requestBody"]["content"]["application/json"], body);
        }
        for name in query.trim_start_matches('?').split('&').filter_map(|pair| Some(pair.split_once('=')?.0)) {
            let is_named = |parameter: &Value| parameter["in"] == "query" && parameter["name"] == name;
            assert!(operation["parameters"].as_array().unwrap().iter().any(is_named), "{path}");
        }
        if let Some(line) = answer.get("application/x-ndjson") {
            described.check(asked, line, &first_line(&server, &path));
            continue;
        }
        let token = format!("Bearer {TOKEN}");
        let headers = [("authorization", &*token), ("content-type", "application/json")];
        // Those that say that no token is needed are asked without.
        let headers = if operation["security"] == json!([]) { &headers[1..] } else { &headers };
        let told: Answer = http(
            &server.admin(),
            method,
            &path,
            headers,
            &if body.is_null() { String::new() } else { body.to_string() },
        );
        assert_eq!(told.status, 200, "{path}: {told:?}");
        if template != "/metrics" && !answer["application/json"].as_object().unwrap().is_empty() {
            described.check(asked, &answer["application/json"], &told.json());
        }
        if template == "/api/upgrade" {
            successor = told.json()["process"].as_u64().map(Successor);
        }
    }
    assert_eq!(made, described.all(), "each request is made");
    drop(successor);
}

#[test]
fn refusals_are_described_and_need_the_right_that_is_named() {
    let tokens = "[admin]\ntoken_env = 'FANFARE_ADMIN_TOKEN'\n[[admin.token]]\nname = 'reader'\ntoken_env = 'READER'\nmay = ['read']\n\
                  [[admin.token]]\nname = 'tapper'\ntoken_env = 'TAPPER'\nmay = ['tap']\n";
    let server = Server::serve_with(&format!("{}{tokens}", config()), |command| {
        command.env("READER", "a-token-of-the-reader").env("TAPPER", "a-token-of-the-tapper");
    });
    let described = Described(strict(server.api("GET", "/api/openapi.json", &Value::Null).json()));
    for asked in described.all() {
        let (method, template) = asked.split_once(' ').unwrap();
        let operation = &described.0["paths"][template][method.to_lowercase()];
        let Some(right) = operation["x-right"].as_str() else { continue };
        let path = template.split_once('{').map_or(template.to_owned(), |(begin, _)| format!("{begin}a"));
        let token = if right == "read" { "Bearer a-token-of-the-tapper" } else { "Bearer a-token-of-the-reader" };
        let answer = http(&server.admin(), method, &path, &[("authorization", token)], "");
        assert_eq!(answer.status, 403, "{asked}");
        let told = answer.json();
        assert!(
            told["error"]["message"].as_str().unwrap().contains(&format!("lacks the right {right}:")),
            "{asked}: {told}"
        );
        described.check(&asked, &operation["responses"]["default"]["content"]["application/json"], &told);
    }
}
