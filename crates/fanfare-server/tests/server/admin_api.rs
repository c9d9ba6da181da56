//! The HTTP API for back offices.

use serde_json::{Value, json};

use crate::support::{Answer, Client, Server, TOKEN, http};

fn lobby(names: &[&str]) -> (Server, Vec<Client>) {
    let server = Server::dev();
    let join = |name: &&str| {
        let mut client = server.connect("");
        assert_eq!(client.join("room:lobby", json!({"name": name}))["status"], "ok");
        client.receive_event("presence_state");
        client
    };
    let clients = names.iter().map(join).collect();
    (server, clients)
}

#[track_caller]
fn check_error(answer: &Answer, status: u16, code: &str, part: &str) {
    assert_eq!(answer.status, status, "{answer:?}");
    let body = answer.json();
    assert_eq!(body["error"]["code"], code, "{body}");
    assert!(body["error"]["message"].as_str().unwrap().contains(part), "{body}");
    assert_eq!(answer.headers["content-type"], "application/json");
}

#[test]
fn requests_need_the_token() {
    let server = Server::dev();
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| http(&server.admin(), method, path, headers, "");
    for path in ["/api/topics", "/api/counters", "/api/presence/a", "/api/publish", "/api/missing"] {
        let answer = ask("GET", path, &[]);
        check_error(&answer, 401, "unauthorized", "Authorization: Bearer");
        assert_eq!(answer.headers["www-authenticate"], "Bearer");
        check_error(&ask("GET", path, &[("authorization", "Bearer wrong")]), 401, "unauthorized", "not an API token");
    }
    assert_eq!(ask("GET", "/api/topics", &[("authorization", &format!("Bearer {TOKEN}"))]).status, 200);
    // Load balancers have no token.
    let health = ask("GET", "/api/health", &[]);
    assert_eq!((health.status, health.json()), (200, json!({"status": "ok"})));
    assert_eq!(ask("GET", "/", &[]).headers["content-type"], "text/html; charset=utf-8");
}

#[test]
fn without_a_token_the_api_is_closed() {
    let server = Server::serve_with("[[channel]]\npreset = 'lobby'\n", |command| {
        command.env_remove("FANFARE_ADMIN_TOKEN");
    });
    check_error(&server.api("GET", "/api/topics", &Value::Null), 401, "unauthorized", "token_env");
    assert_eq!(http(&server.admin(), "GET", "/api/health", &[], "").status, 200);
}

#[test]
fn dev_makes_a_token_of_its_own() {
    let server = Server::dev_with(|command| {
        command.env_remove("FANFARE_ADMIN_TOKEN");
    });
    let token =
        server.wait_for_stderr(|stderr| Some(stderr.split("Bearer ").nth(1)?.split('\'').next()?.to_owned())).unwrap();
    assert_eq!(token.len(), 32, "{token}");
    let answer = http(&server.admin(), "GET", "/api/topics", &[("authorization", &format!("Bearer {token}"))], "");
    assert_eq!(answer.status, 200);
}

#[test]
fn topics_are_listed_in_pages() {
    let server = Server::serve("[[channel]]\ntopic = '*'\njoin = 'open'\n");
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    for topic in ["c", "a", "b/x", "b"] {
        ann.join_ok(topic);
    }
    bob.join_ok("a");
    let ask = |query: &str| server.api("GET", &format!("/api/topics{query}"), &Value::Null);
    let list = |answer: Answer| {
        let body = answer.json();
        let topics: Vec<_> =
            body["topics"].as_array().unwrap().iter().map(|t| (t["topic"].clone(), t["members"].clone())).collect();
        (json!(topics), body["next"].clone(), body["total"].clone())
    };
    assert_eq!(list(ask("")), (json!([["a", 2], ["b", 1], ["b/x", 1], ["c", 1]]), Value::Null, json!(4)));
    assert_eq!(list(ask("?limit=2")), (json!([["a", 2], ["b", 1]]), json!("b"), json!(4)));
    assert_eq!(list(ask("?limit=2&after=b")), (json!([["b/x", 1], ["c", 1]]), Value::Null, json!(4)));
    assert_eq!(list(ask("?after=zzz")), (json!([]), Value::Null, json!(4)));
    check_error(&ask("?limit=0"), 422, "invalid", "1 to 1000");
    check_error(&ask("?limit=x"), 422, "invalid", "limit");
    check_error(&ask("?size=1"), 422, "invalid", "size");
}

#[test]
fn presence_is_told() {
    let (server, clients) = lobby(&["Ann", "Bob", "Ann"]);
    let answer = server.api("GET", "/api/presence/room:lobby", &Value::Null).json();
    assert_eq!(answer["topic"], "room:lobby");
    assert_eq!(answer["presence"]["Ann"]["metas"].as_array().unwrap().len(), 2);
    assert_eq!(answer["count"], 2);
    assert_eq!(answer["presence"]["Bob"]["metas"].as_array().unwrap().len(), 1);
    let nobody = server.api("GET", "/api/presence/some%2Fother/topic", &Value::Null).json();
    assert_eq!(nobody, json!({"topic": "some/other/topic", "count": 0, "presence": {}}));
    check_error(&server.api("GET", "/api/presence/a%0A", &Value::Null), 422, "invalid", "control character");
    drop(clients);
}

#[test]
fn counters_are_told() {
    let (server, _clients) = lobby(&["Ann"]);
    let counters = server.api("GET", "/api/counters", &Value::Null).json();
    let value = |name: &str, reason: &str| {
        let found =
            counters["counters"].as_array().unwrap().iter().find(|c| c["name"] == name && c["reason"] == reason);
        found.unwrap_or_else(|| panic!("{name} {reason} is not in {counters}"))["value"].as_u64().unwrap()
    };
    assert_eq!(value("connections", "accepted"), 1);
    assert_eq!(value("joins", "ok"), 1);
}

#[test]
fn payloads_pass_as_they_came() {
    let (server, mut clients) = lobby(&["Ann"]);
    let body = r#"{"topic":"room:lobby","event":"new_msg","payload":{"n":123456789012345678901234567890,"e":1.10}}"#;
    let headers = [("authorization", &format!("Bearer {TOKEN}")[..]), ("content-type", "text/plain")];
    assert_eq!(http(&server.admin(), "POST", "/api/publish", &headers, body).status, 200);
    let text = clients[0].receive_text_with("new_msg");
    assert!(text.contains(r#"{"n":123456789012345678901234567890,"e":1.10}"#), "{text}");
}

#[test]
fn bad_requests_are_explained_and_publish_nothing() {
    let (server, mut clients) = lobby(&["Ann"]);
    let post = |path: &str, body: &str| {
        http(&server.admin(), "POST", path, &[("authorization", &format!("Bearer {TOKEN}"))], body)
    };
    let good = r#"{"topic":"room:lobby","event":"new_msg"}"#;
    check_error(&post("/api/publish", "{"), 422, "invalid", "the body is not like");
    check_error(
        &post("/api/publish", r#"{"topic":"room:lobby","event":"phx_close"}"#),
        422,
        "invalid",
        "allow_reserved",
    );
    let half = format!(r#"{{"messages":[{good},{{"topic":"","event":"x"}}]}}"#);
    check_error(&post("/api/publish", &half), 422, "invalid", "message 1: the topic is empty");
    check_error(&post("/api/disconnect", "{}"), 422, "invalid", "user_socket:7");
    check_error(&post("/api/disconnect", r#"{"id":""}"#), 422, "invalid", "empty");
    let large = format!(r#"{{"topic":"room:lobby","event":"new_msg","payload":{{"x":"{}"}}}}"#, "x".repeat(8_000_000));
    check_error(&post("/api/publish", &large), 413, "too_large", "8000000");
    check_error(&post("/api/topics", ""), 405, "method_not_allowed", "POST");
    check_error(&post("/api/nothing", ""), 404, "not_found", "/api/nothing");
    check_error(&post("/nothing", ""), 404, "not_found", "/nothing");
    clients[0].expect_silence_but("presence_diff");
    let allowed = r#"{"topic":"room:lobby","event":"phx_error","allow_reserved":true}"#;
    assert_eq!(post("/api/publish", allowed).status, 200);
    assert_eq!(clients[0].receive_event("phx_error"), json!({}));
}

#[test]
fn answers_are_json_with_counts_and_hints() {
    let server = Server::serve("[[endpoint]]\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\n");
    let publish =
        |topic: &str| server.api("POST", "/api/publish", &json!({"topic": topic, "event": "e", "payload": {}})).json();
    assert_eq!(publish("room:1"), json!({"published": 1}));
    let strange = publish("rooms:1");
    assert_eq!(strange["published"], 1);
    let hint = strange["hints"][0].as_str().unwrap();
    assert!(hint.contains("\"rooms:1\"") && hint.contains("room:*"), "{hint}");
    assert_eq!(
        server.api("POST", "/api/disconnect", &json!({"id": "nobody"})).json(),
        json!({"ok": true, "closed": 0})
    );
    for path in ["/api/presence/%ff", "/api/history/%ff", "/api/connections/%ff"] {
        let answer = server.api("GET", path, &Value::Null);
        assert_eq!((answer.status, answer.json()["error"]["code"].clone()), (422, json!("invalid")), "{path}");
    }
    assert_eq!(server.api("GET", "/nowhere/%ff", &Value::Null).json()["error"]["code"], "not_found");
    for path in ["/", "/nowhere", "/socket/nowhere"] {
        let answer = server.http("GET", path, &[], "");
        assert!(
            answer.status == 404 && answer.body.contains("connect to the path of an endpoint"),
            "{path}: {answer:?}"
        );
    }
}
