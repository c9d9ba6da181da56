//! What a `[[channel]]` can say beyond the numbered behaviours.

use serde_json::{Value, json};

use crate::support::{Client, Server};

fn reason(reply: &Value) -> &str {
    assert_eq!(reply["status"], "error", "{reply}");
    reply["response"]["reason"].as_str().unwrap()
}

#[test]
fn payloads_have_a_limit() {
    let server = Server::serve(
        "[[channel]]\ntopic = 'a'\njoin = 'open'\npublish = 'open'\npayload_size_max = 20\nevents = ['x', 'y']\n",
    );
    let mut client = server.connect("");
    let join_ref = client.join_ok("a");
    assert_eq!(client.push(&join_ref, "a", "x", json!({"k": "012345678912"}))["status"], "ok");
    let reply = client.push(&join_ref, "a", "y", json!({"k": "0123456789123"}));
    assert_eq!(reason(&reply), "the payload has 21 bytes, more than 20");
    assert_eq!(reason(&client.push(&join_ref, "a", "z", json!({}))), "unknown event");
    for payload in [json!([]), json!("x"), json!(null), json!(7)] {
        assert_eq!(reason(&client.push(&join_ref, "a", "x", payload)), "the payload must be an object");
    }
}

#[test]
fn every_event_passes_where_none_is_listed_but_the_protocols_own() {
    let server = Server::serve("[[channel]]\ntopic = 'a'\njoin = 'open'\npublish = 'open'\n");
    let mut client = server.connect("");
    let join_ref = client.join_ok("a");
    for event in ["anything", "", "heartbeat", "PHX_CLOSE"] {
        assert_eq!(client.push(&join_ref, "a", event, json!({}))["status"], "ok", "{event}");
    }
    for event in ["phx_reply", "phx_error", "phx_close", "presence_state", "presence_diff", "disconnect"] {
        assert_eq!(reason(&client.push(&join_ref, "a", event, json!({}))), "the event is reserved");
    }
}

#[test]
fn answers_can_be_turned_off() {
    let server = Server::serve("[[channel]]\ntopic = 'a'\njoin = 'open'\npublish = 'open'\nreply = false\n");
    let mut client = server.connect("");
    let join_ref = client.join_ok("a");
    client.send(json!([join_ref, "9", "a", "x", {}]));
    client.expect(json!([null, null, "a", "x", {}]));
    client.expect_silence();
    assert_eq!(reason(&client.push(&join_ref, "a", "phx_close", json!({}))), "the event is reserved");
}

#[test]
fn several_rules_mean_any_of_them() {
    let server = Server::serve("[[channel]]\ntopic = 'a'\njoin = ['claim:role=x', 'open']\npublish = 'nobody'\n");
    let mut client = server.connect("");
    let join_ref = client.join_ok("a");
    assert_eq!(reason(&client.push(&join_ref, "a", "x", json!({}))), "not allowed to publish");
}

#[test]
fn presence_keys_come_from_where_they_are_said_to() {
    let server = Server::serve(
        "[[channel]]\ntopic = 'named'\njoin = 'open'\npresence = true\npresence_key = ['param:nick', 'param:name']\n\
         [[channel]]\ntopic = 'unique'\njoin = 'open'\npresence = true\npresence_key = 'unique'\n",
    );
    let key = |client: &mut Client, topic: &str, payload: Value| {
        assert_eq!(client.join(topic, payload)["status"], "ok");
        let state = client.receive_event("presence_state");
        state.as_object().unwrap().keys().next().unwrap().clone()
    };
    let fresh = |topic: &str, payload: Value| key(&mut server.connect(""), topic, payload);
    assert_eq!(fresh("named", json!({"nick": "a", "name": "b"})), "a");
    let alone = |payload: Value| {
        let server = Server::serve(
            "[[channel]]\ntopic = 'named'\njoin = 'open'\npresence = true\npresence_key = ['param:nick', 'param:name']\n",
        );
        key(&mut server.connect(""), "named", payload)
    };
    assert_eq!(alone(json!({"nick": "", "name": "b"})), "b");
    assert_eq!(alone(json!({"nick": 5, "name": "__proto__"})), "__proto__");
    assert!(alone(json!([])).starts_with("guest-"));
    assert!(fresh("unique", json!({"name": "b"})).starts_with("guest-"));
}

#[test]
fn a_topic_may_tell_how_many_there_are_only() {
    let server = Server::serve("[[channel]]\ntopic = '*'\njoin = 'open'\npresence = 'count'\n");
    let (mut first, mut second) = (server.connect(""), server.connect(""));
    first.join_ok("a");
    assert_eq!(first.receive_event("presence_count"), json!({"count": 1}));
    second.join_ok("a");
    assert_eq!(second.receive_event("presence_count"), json!({"count": 2}));
    while first.receive_event("presence_count") != json!({"count": 2}) {}
    let told = server.api("GET", "/api/presence/a", &Value::Null).json();
    assert_eq!(told, json!({"topic": "a", "count": 2, "presence": {}}));
    drop(second);
    while first.receive_event("presence_count") != json!({"count": 1}) {}
}

/// Who finds a presence full has joined all the same, and is told who is there; the server says that it does not show them.
#[test]
fn who_finds_a_presence_full_joins_without_being_tracked() {
    let server = Server::serve(
        "[[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\npresence = true\npresence_members_max = 2\n",
    );
    let mut clients: Vec<Client> = (0..3).map(|_| server.connect("")).collect();
    for (number, client) in clients.iter_mut().enumerate() {
        assert_eq!(client.join("a", json!({"name": format!("user{number}")}))["status"], "ok");
        let state = client.receive_event("presence_state");
        assert_eq!(state.as_object().unwrap().len(), 2.min(number + 1), "{state}");
    }
    let counters = server.api("GET", "/api/counters", &Value::Null).json();
    let full = json!({"name": "presence", "reason": "full", "value": 1});
    assert!(counters["counters"].as_array().unwrap().contains(&full), "{counters}");
    let line = "is not tracked in \\\"a\\\", where 2 members are present, and no more may be";
    let told = server.wait_for_stderr(|log| log.contains(line).then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
}

#[test]
fn names_of_the_presence_are_unharmed_in_every_topic_of_a_socket() {
    let server = Server::serve("[[channel]]\ntopic = '*'\njoin = 'open'\npresence = true\n");
    let mut client = server.connect("");
    for topic in ["a", "b"] {
        assert_eq!(client.join(topic, json!({"name": "Ann \u{1f600} \"x\" </script>"}))["status"], "ok");
        let state = client.receive_event("presence_state");
        assert_eq!(state.as_object().unwrap().keys().next().unwrap(), "Ann \u{1f600} \"x\" </script>");
    }
}
