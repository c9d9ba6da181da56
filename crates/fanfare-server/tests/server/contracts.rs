//! Contracts: payloads that do not fit their schema, and the documents that are made of the schemas.

use std::fs;

use serde_json::{Value, json};

use crate::services::redis_server;
use crate::support::{Folder, Server, eventually, http, run};

/// Schemas in a folder, and the channel that names them, with more of the configuration.
fn contract(more_of_channel: &str) -> (Folder, String) {
    let folder = Folder::new();
    let join =
        json!({"type": "object", "required": ["name"], "properties": {"name": {"type": "string", "maxLength": 10}}});
    let new_msg = json!({
        "type": "object",
        "required": ["body"],
        "additionalProperties": false,
        "properties": {"body": {"type": "string", "minLength": 1}, "mood": {"$ref": "mood.json"}},
    });
    let join = folder.write("join.json", &join.to_string());
    let new_msg = folder.write("new_msg.json", &new_msg.to_string());
    folder.write("mood.json", &json!({"enum": ["happy", "sad"]}).to_string());
    let config = format!(
        "[[endpoint]]\npath = '/socket'\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\npublish = 'open'\n\
         events = ['new_msg', 'free']\nschemas = {{ join = {join:?}, new_msg = {new_msg:?} }}\n{more_of_channel}\n"
    );
    (folder, config)
}

fn errors(reply: &Value) -> &Value {
    assert_eq!(
        (&reply["status"], &reply["response"]["reason"]),
        (&json!("error"), &json!("invalid payload")),
        "{reply}"
    );
    &reply["response"]["errors"]
}

#[test]
fn a_payload_that_does_not_fit_is_answered_with_where_and_why() {
    let (_folder, config) = contract("");
    let server = Server::serve(&config);
    let mut client = server.connect("");
    let refused = client.join("room:1", json!({"name": "longer than ten"}));
    assert_eq!(errors(&refused)[0]["path"], "/name");
    let refused = client.join("room:1", json!({}));
    assert_eq!(errors(&refused), &json!([{"path": "", "message": "\"name\" is a required property"}]));
    let mut other = server.connect("");
    assert_eq!(other.join("room:1", json!({"name": "b"}))["status"], "ok");
    let mut client = server.connect("");
    let join_ref = client.join_ok_with("room:1", json!({"name": "a"}));
    let mut push = |payload: Value| client.push(&join_ref, "room:1", "new_msg", payload);
    let refused = push(json!({"body": 5, "mood": "angry", "secret": "never in a log"}));
    let told = errors(&refused).clone();
    assert_eq!(told.as_array().unwrap().len(), 3, "{told}");
    assert!(!told.to_string().contains("never in a log"), "{told}");
    assert_eq!(push(json!({"body": "hi", "mood": "sad"}))["status"], "ok");
    assert_eq!(client.push(&join_ref, "room:1", "free", json!({"any": 1}))["status"], "ok");
    assert_eq!(other.receive_event("new_msg"), json!({"body": "hi", "mood": "sad"}), "what did not fit came to nobody");
    assert_eq!(other.receive_event("free"), json!({"any": 1}), "an event without a schema is free");
    let log = server.wait_for_stderr(|log| log.lines().find(|line| line.contains("does not fit")).map(str::to_owned));
    let log = log.expect("the log tells of it");
    assert!(!server.stderr().contains("never in a log"), "{log}");
}

/// Members of rooms get a string and the JSON that it looks like alike, so that either may fit.
#[test]
fn what_is_said_in_a_room_is_checked() {
    let folder = Folder::new();
    let schema = json!({"oneOf": [{"type": "object", "required": ["body"]}, {"type": "string", "maxLength": 3}]});
    let schema = folder.write("message.json", &schema.to_string());
    let server = Server::serve(&format!(
        "[[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\n[[channel]]\ntopic = 'r:*'\njoin = 'open'\npublish = 'open'\n\
         schemas = {{ message = {schema:?} }}\n"
    ));
    let mut client = server.upgrade("/rooms", &[]).unwrap();
    client.send(json!({"join": "r:1"}));
    for (said, heard) in [
        (json!({"body": 1}), Some(r#"{"body":1}"#)),
        (json!("hi"), Some("hi")),
        (json!("5"), Some("5")),
        (json!({"other": 1}), None),
        (json!("longer"), None),
        (json!(12345), None),
    ] {
        client.send(json!({"say": said, "to": "r:1"}));
        let got = client.receive_text();
        match heard {
            Some(heard) => assert_eq!(got, heard),
            None => assert!(got.contains("refused") && got.contains("invalid payload"), "{said}: {got}"),
        }
    }
}

#[test]
fn a_large_payload_is_checked_without_holding_up_others() {
    let (_folder, config) = contract("");
    let server = Server::serve(&config);
    let mut client = server.connect("");
    let join_ref = client.join_ok_with("room:1", json!({"name": "a"}));
    assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({"body": "x".repeat(1_000_000)}))["status"], "ok");
    let members: Vec<_> = (0..100_000).collect();
    let refused = client.push(&join_ref, "room:1", "new_msg", json!({"body": members, "a": 1, "b": 2}));
    assert_eq!(errors(&refused).as_array().unwrap().len(), 1, "of a large one the first fault only");
}

#[test]
fn back_ends_are_told_as_well_and_nothing_of_the_request_is_published() {
    let (_folder, config) = contract("");
    let server = Server::serve(&config);
    let message = |body: Value| json!({"topic": "room:1", "event": "new_msg", "payload": {"body": body}});
    let both = json!({"messages": [message(json!("a")), message(json!(5))]});
    let refused = server.api("POST", "/api/publish", &both);
    let text = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert_eq!((refused.status, text.contains("message 1: ") && text.contains("/body")), (422, true), "{text}");
    // What is wrong with the payload as a whole is at no place in it.
    let refused = server.api("POST", "/api/publish", &json!({"topic": "room:1", "event": "new_msg", "payload": {}}));
    let text = "message 0: the payload of \"new_msg\" does not fit its schema; \"body\" is a required property";
    assert_eq!(refused.json()["error"]["message"], text);
    assert_eq!(server.api("POST", "/api/publish", &message(json!("a"))).status, 200);
    let elsewhere = json!({"topic": "other", "event": "new_msg", "payload": {"body": 5}});
    assert_eq!(server.api("POST", "/api/publish", &elsewhere).status, 200);
}

#[test]
fn sources_skip_what_does_not_fit() {
    let redis = redis_server::start();
    let (_folder, config) = contract("");
    let source = format!("[source.main]\nkind = 'redis'\nurl = '{}'\nchannels = ['c']\n{config}", redis.redis_url());
    let server = Server::serve(&source);
    let mut client = server.connect("");
    assert_eq!(client.join("room:1", json!({"name": "a"}))["status"], "ok");
    let health = || server.api("GET", "/api/health", &Value::Null).json()["sources"]["main"].clone();
    eventually(|| health() == "ok");
    for body in [json!(5), json!("fits")] {
        redis
            .redis_publish("c", &json!({"topic": "room:1", "event": "new_msg", "payload": {"body": body}}).to_string());
    }
    assert_eq!(client.receive_event("new_msg"), json!({"body": "fits"}));
    assert_eq!(server.counter("sources.main", "skipped_schema"), 1);
}

/// How many payloads of `room:*` did not fit, as metrics have it.
fn misfits(server: &Server) -> Vec<String> {
    let metrics = server.api("GET", "/metrics", &Value::Null).body;
    let of = "fanfare_schema_misfits_total{channel=\"room:*\",result=\"";
    let mut counts: Vec<_> = metrics.lines().filter_map(|line| line.strip_prefix(of)).map(str::to_owned).collect();
    counts.sort();
    counts
}

#[test]
fn reports_let_through_and_say_so() {
    let (_folder, config) = contract("schema_mode = 'report'");
    let server = Server::serve(&config);
    let (mut client, mut other) = (server.connect(""), server.connect(""));
    let join_ref = client.join_ok_with("room:1", json!({}));
    assert_eq!(other.join("room:1", json!({}))["status"], "ok");
    assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({"body": 5}))["status"], "ok");
    assert_eq!(other.receive_event("new_msg"), json!({"body": 5}));
    let told = server.wait_for_stderr(|log| log.contains("/body: ").then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
    // The two joins, whose names are missing, and the push.
    assert_eq!(misfits(&server), ["let_through\"} 3", "refused\"} 0"]);
}

#[test]
fn a_schema_that_has_changed_counts_after_a_reload() {
    let (folder, config) = contract("");
    let server = Server::serve(&config);
    let mut client = server.connect("");
    let join_ref = client.join_ok_with("room:1", json!({"name": "a"}));
    assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({"body": "hi", "mood": "sad"}))["status"], "ok");
    // Files are read and schemas compiled once: what becomes of the files counts for no payload.
    folder.write("mood.json", "no JSON any more");
    let message = |mood: &str| json!({"topic": "room:1", "event": "new_msg", "payload": {"body": "hi", "mood": mood}});
    for (mood, status) in [("sad", 200), ("angry", 422)] {
        assert_eq!(server.api("POST", "/api/publish", &message(mood)).status, status, "{mood}");
    }
    assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({"body": "hi", "mood": "sad"}))["status"], "ok");
    assert!(server.api("GET", "/api/contract", &Value::Null).body.contains("sad"));
    folder.write("mood.json", &json!({"enum": ["happy"]}).to_string());
    let reloaded = server.api("POST", "/api/reload", &Value::Null).json();
    assert_eq!(reloaded["changed"], json!(["channel[1].schemas"]), "{reloaded}");
    let refused = client.push(&join_ref, "room:1", "new_msg", json!({"body": "hi", "mood": "sad"}));
    assert_eq!(errors(&refused)[0]["path"], "/mood");
    assert_eq!(server.api("POST", "/api/publish", &message("sad")).status, 422);
    assert!(!server.api("GET", "/api/contract", &Value::Null).body.contains("sad"));
}

#[test]
fn mistakes_are_found_before_the_start() {
    let (folder, config) = contract("");
    folder.write("bad.json", r#"{"type": "strin"}"#);
    folder.write("twice.json", r#"{"type": "object", "type": "string"}"#);
    folder.write("refers.json", r#"{"$ref": "../elsewhere.json"}"#);
    for (from, to, parts) in [
        ("new_msg = ", "new_mesage = ", vec!["new_mesage", "not among the `events`"]),
        ("new_msg.json", "absent.json", vec!["absent.json", "cannot read"]),
        ("new_msg.json", "bad.json", vec!["bad.json: /type: not a JSON Schema"]),
        ("new_msg.json", "refers.json", vec!["refers.json", "elsewhere.json"]),
        ("new_msg.json", "twice.json", vec!["twice.json: an object has \"type\" twice", "line 1"]),
        ("schemas = {", "schemas = { phx_leave = 'x', ", vec!["phx_"]),
        ("schemas = {", "schema_mode = 'maybe'\nschemas = {", vec!["maybe", "report"]),
    ] {
        let file = folder.write("fanfare.toml", &config.replacen(from, to, 1));
        let (ok, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert!(!ok, "{to}");
        for part in parts {
            assert!(stderr.contains(part), "{to}: {part} is not in {stderr}");
        }
    }
}

#[test]
fn contracts_are_written_in_three_forms_and_compared() {
    let (folder, config) = contract("presence = true");
    let file = folder.write("fanfare.toml", &config);
    let args = ["contract", "--config", file.to_str().unwrap()];
    let written = |more: &[&str]| run(&[&args[..], more].concat());
    let (ok, json, stderr) = written(&[]);
    assert!(ok, "{stderr}");
    let room = &serde_json::from_str::<Value>(&json).unwrap()["channels"]["room:*"];
    assert_eq!(room["push"]["new_msg"]["properties"]["mood"], json!({"enum": ["happy", "sad"]}));
    assert_eq!(room["join"]["required"], json!(["name"]));
    assert!(room["on"]["presence_diff"].is_object() && room["push"]["presence_diff"].is_null());
    let (_, asyncapi, _) = written(&["--format", "asyncapi"]);
    let asyncapi: Value = serde_json::from_str(&asyncapi).unwrap();
    let socket = &asyncapi["servers"]["socket"];
    assert_eq!((&socket["host"], &socket["protocol"]), (&json!("127.0.0.1:4000"), &json!("ws")));
    assert_eq!(asyncapi["channels"]["Room"]["address"], "room:{suffix}");
    assert_eq!(asyncapi["operations"]["Room.push.new_msg"]["action"], "receive");
    let out = folder.write("x", "").with_file_name("out");
    assert!(written(&["--format", "typescript", "--out", out.to_str().unwrap()]).0);
    let typescript = fs::read_to_string(out.join("contract.ts")).unwrap();
    assert!(typescript.contains(r#"mood?: "happy" | "sad";"#), "{typescript}");

    // What a program in Rust gives is taken in the same form.
    let thread = r##"{"$ref": "#/$defs/message", "$defs": {"message": {"properties": {"replies": {"items": {"$ref": "#/$defs/message"}}}}}}"##;
    folder.write("mood.json", thread);
    let (_, recursive, _) = written(&["--format", "typescript"]);
    assert!(recursive.contains("export type Message = {") && recursive.contains("mood?: Message;"), "{recursive}");
    let (_, asyncapi, _) = written(&["--format", "asyncapi"]);
    let asyncapi: Value = serde_json::from_str(&asyncapi).unwrap();
    let replies = &asyncapi["components"]["schemas"]["Message"]["properties"]["replies"];
    assert_eq!(replies["items"]["$ref"], "#/components/schemas/Message");
    folder.write("mood.json", r#"{"enum": ["happy", "sad"]}"#);
    let given = folder.write("given.json", &json);
    let (ok, from, stderr) = run(&["contract", "--from", given.to_str().unwrap(), "--format", "typescript"]);
    assert!(ok && from == typescript, "{stderr}{from}");
    let (_, asyncapi, _) = run(&["contract", "--from", given.to_str().unwrap(), "--format", "asyncapi"]);
    assert!(!asyncapi.contains("servers") && asyncapi.contains("room:{suffix}"), "{asyncapi}");
    let none = folder.write("none.json", r#"{"channels": {}}"#);
    let (ok, _, stderr) = run(&["contract", "--from", none.to_str().unwrap()]);
    assert!(!ok && stderr.contains("none.json is not a contract that"), "{stderr}");

    let old = folder.write("old.json", &json);
    let against = ["--against", old.to_str().unwrap()];
    assert_eq!(written(&against), (true, String::new(), String::new()));
    let schema = fs::read_to_string(old.with_file_name("new_msg.json")).unwrap();
    folder.write("new_msg.json", &schema.replace(r#""required":["body"]"#, r#""required":["body","mood"]"#));
    let (ok, _, stderr) = written(&against);
    assert!(!ok && stderr.contains(r#"push of "new_msg": "mood" is required now"#), "{stderr}");
}

#[test]
fn the_api_has_them_too() {
    let (_folder, config) = contract("");
    let server = Server::serve(&format!("public_url = 'https://chat.example.com'\n{config}"));
    let json = server.api("GET", "/api/contract", &Value::Null);
    assert_eq!(json.json()["channels"]["room:*"]["join"]["required"], json!(["name"]));
    let asyncapi = server.api("GET", "/api/contract?format=asyncapi", &Value::Null).json();
    let socket = &asyncapi["servers"]["socket"];
    assert_eq!((&socket["host"], &socket["protocol"]), (&json!("chat.example.com"), &json!("wss")));
    assert!(server.api("GET", "/api/contract?format=typescript", &Value::Null).body.contains("interface Room"));
    assert_eq!(server.api("GET", "/api/contract?format=xml", &Value::Null).status, 422);
    assert_eq!(http(&server.admin(), "GET", "/api/contract", &[], "").status, 401);
}
