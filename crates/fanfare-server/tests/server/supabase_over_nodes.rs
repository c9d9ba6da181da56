//! Supabase's clients on two nodes with one Redis: they hear each other, see each other, and get what was kept.

use serde_json::{Value, json};

use crate::services::redis;
use crate::supabase::{SECRET, anon, ok, token};
use crate::support::{Client, Server, eventually};

fn config(url: &str) -> String {
    format!(
        r#"
[broker]
url = "{url}"
[auth.supabase]
kind = "jwt"
algorithms = "HS256"
secret = "{SECRET}"
[[endpoint]]
path = "/realtime/v1"
protocol = "supabase"
auth = "supabase"
[[channel]]
topic = "realtime:team:*"
private = true
join = "claim:role=authenticated"
history = {{ messages = 100 }}
"#
    )
}

/// Two nodes that are connected.
fn nodes(url: &str) -> [Server; 2] {
    let nodes = [(); 2].map(|()| Server::serve(&config(url)));
    for node in &nodes {
        let message = json!({"topic": "realtime:other", "event": "n", "payload": {}});
        eventually(|| node.api("POST", "/api/publish", &message).status == 200);
    }
    nodes
}

fn enter(node: &Server, user: &str, topic: &str, mut config: Value) -> Client {
    let mut client = node.upgrade(&format!("/realtime/v1/websocket?apikey={}", anon()), &[]).unwrap();
    config["presence"] = json!({"key": user, "enabled": true});
    ok(client.enter(topic, &token("authenticated", user, 600), config));
    client
}

/// The next message of a kind, without the refs of presences.
fn next(client: &mut Client, event: &str) -> Value {
    loop {
        let frame = client.receive();
        if frame["event"] == event {
            return frame["payload"].clone();
        }
    }
}

/// Who is named in a state, or in a part of a diff.
fn names(of: &Value) -> Vec<&str> {
    of.as_object().unwrap().keys().map(String::as_str).collect()
}

fn broadcast(client: &mut Client, topic: &str, n: u64) {
    let payload = json!({"type": "broadcast", "event": "e", "payload": {"n": n}});
    client.send(json!({"topic": topic, "event": "broadcast", "payload": payload, "ref": "9"}));
}

#[test]
fn members_of_two_nodes_hear_and_see_each_other_and_get_what_was_kept() {
    let redis = redis::start();
    let nodes = nodes(&redis.redis_url());
    for is_private in [false, true] {
        let (topic, config) = ("realtime:team:1", json!({ "private": is_private }));
        let [mut ada, mut bob] =
            [(0, "ada"), (1, "bob")].map(|(node, user)| enter(&nodes[node], user, topic, config.clone()));
        assert_eq!(next(&mut bob, "presence_state"), json!({}));
        broadcast(&mut ada, topic, 1);
        assert_eq!(bob.hear()["payload"], json!({"n": 1}));
        broadcast(&mut bob, topic, 2);
        assert_eq!(ada.hear()["payload"], json!({"n": 2}));
        let body = json!({"messages": [{"topic": "team:1", "event": "e", "payload": {"n": 3}, "private": is_private}]});
        let bearer = format!("Bearer {}", token("authenticated", "eve", 600));
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        assert_eq!(nodes[1].http("POST", "/realtime/v1/api/broadcast", &headers, &body.to_string()).status, 202);
        for client in [&mut ada, &mut bob] {
            assert_eq!(client.hear()["payload"], json!({"n": 3}));
        }

        ok(ada.ask(topic, "presence", json!({"event": "track", "payload": {"at": "desk"}})));
        let joins = next(&mut bob, "presence_diff")["joins"].clone();
        assert_eq!((names(&joins), &joins["ada"]["metas"][0]["at"]), (vec!["ada"], &json!("desk")));
        let mut late = enter(&nodes[1], "late", topic, config.clone());
        assert_eq!(names(&next(&mut late, "presence_state")), ["ada"]);
        drop(ada);
        assert_eq!(names(&next(&mut bob, "presence_diff")["leaves"]), ["ada"]);
    }

    // What was said on one node is kept for those who come to the other.
    let config = json!({"private": true, "broadcast": {"replay": {"since": 1}}});
    for node in &nodes {
        let mut late = enter(node, "late", "realtime:team:1", config.clone());
        for n in 1..=3 {
            let heard = late.hear();
            assert_eq!((&heard["payload"], &heard["meta"]["replayed"]), (&json!({ "n": n }), &json!(true)));
        }
    }
}
