//! What a topic's name lets nobody do: join or reach another than the one that was allowed.

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::api_keys::Store;
use crate::issuer::shared;
use crate::services::{nats, redis};
use crate::support::{Server, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A query with the token of a user.
fn as_user(sub: &str) -> String {
    let claims = json!({"sub": sub, "exp": 4_000_000_000_u64}).to_string();
    format!("token={}", shared(Algorithm::HS512, SECRET.as_bytes(), r#"{"alg":"HS512"}"#, &claims))
}

fn publish(server: &Server, topic: &str, payload: Value) {
    let answer = server.api("POST", "/api/publish", &json!({"topic": topic, "event": "e", "payload": payload}));
    assert_eq!(answer.status, 200, "{answer:?}");
}

fn members(server: &Server, topic: &str) -> u64 {
    let topics = server.api("GET", "/api/topics?limit=1000", &json!(null)).json()["topics"].clone();
    let found = topics.as_array().unwrap().iter().find(|entry| entry["topic"] == topic).cloned();
    found.map_or(0, |entry| entry["members"].as_u64().unwrap())
}

fn percent(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02X}")).collect()
}

#[test]
fn security_30_who_may_join_is_decided_on_the_bytes_that_are_joined() {
    let server = Server::serve(&format!(
        "[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\n[[endpoint]]\nauth = 'users'\n\
         [[channel]]\ntopic = 'user:*'\njoin = 'claim:sub={{suffix}}'\n"
    ));
    let mut client = server.connect(&as_user("ren\u{e9}"));
    client.join_ok("user:ren\u{e9}");
    let others = [
        "user:rene\u{301}",
        "user:rene",
        "user:REN\u{c9}",
        "USER:ren\u{e9}",
        "user:ren\u{e9} ",
        "user: ren\u{e9}",
        "user:ren\u{e9}\u{200b}",
        "user:\u{202e}ren\u{e9}",
        "user:ren%C3%A9",
        "user:ren&eacute;",
        "user:ren\\u00e9",
        "user:ren\u{e9}:",
        "user:x/../ren\u{e9}",
        "user:*",
        "user:ren*",
        "user:",
    ];
    for other in others {
        assert_eq!(client.join(other, json!({}))["status"], "error", "{other}");
        publish(&server, other, json!({"to": other}));
    }
    // However the client writes them down: an escape of JSON's is the character.
    client.send_text(r#"["9","9","\u0075ser:ren\u00E9","phx_join",{}]"#);
    assert_eq!(client.receive_event("phx_close"), json!({}), "the same topic again");
    publish(&server, "user:ren\u{e9}", json!({"to": "me"}));
    assert_eq!(client.receive_event("e"), json!({"to": "me"}), "and nothing before it");
}

#[test]
fn security_30_paths_are_decoded_once_before_anybody_looks() {
    let store = Store::new("file");
    store.apikey(&["migrate"]).unwrap();
    let key = store.apikey(&["add", "--domain", "example.com"]).unwrap();
    let server = store.server();
    let publish = |domain: &str, topic: &str| server.upgrade(&format!("/ws/pub/{key}/{domain}/{topic}"), &[]);
    for foreign in
        ["ex%2561mple.com", "EXAMPLE.COM", "example.com.", "example.com%20", "example.com%00", "example%2Ecom%2F"]
    {
        assert_eq!(publish(foreign, "t").err(), Some(403), "{foreign}");
    }
    let mut publisher = publish("ex%61mple.com", "%74").unwrap();
    assert_eq!(publish("example.com", "t").err(), Some(409), "it is this one");
    assert_eq!(server.upgrade("/ws/sub/example.com/%2574", &[]).err(), Some(404));
    let mut subscriber = server.upgrade("/ws/sub/example.com/t", &[]).unwrap();
    eventually(|| members(&server, "hub:example.com/t") == 1);
    publisher.send_text("hello");
    assert_eq!(subscriber.receive_text(), "hello");
}

#[test]
fn security_31_names_that_cannot_be_are_refused_at_every_door() {
    let server = Server::serve(
        "[[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'none'\n\
         [[endpoint]]\npath = '/bullet'\nprotocol = 'bullet'\nauth = 'none'\ntopics = '{key}'\n\
         [[endpoint]]\npath = '/'\nprotocol = 'rooms'\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n",
    );
    let mut phoenix = server.connect("");
    let mut rooms = server.upgrade("/", &[]).unwrap();
    let (long, wide) = ("x".repeat(256), "\u{e9}".repeat(128));
    for bad in [&*long, &wide, "a\nb", "a\u{0}", "\u{7f}", "\u{85}", "\u{1b}[0m"] {
        assert_eq!(phoenix.join(bad, json!({}))["status"], "error", "{bad:?}");
        rooms.send(json!({ "join": bad }));
        assert_eq!(rooms.receive()["refused"], bad);
        let encoded = percent(bad);
        assert_eq!(server.upgrade(&format!("/ws/pub/k/d/{encoded}"), &[]).err(), Some(403), "{bad:?}");
        assert_eq!(server.upgrade(&format!("/bullet?key={encoded}"), &[]).err(), Some(403), "{bad:?}");
        let answer = server.api("POST", "/api/publish", &json!({"topic": bad, "event": "e"}));
        assert_eq!(answer.status, 422, "{bad:?}: {answer:?}");
    }
    // Bytes that are no UTF-8.
    for bad in ["%FF", "a%C3", "%C0%AF", "%ED%A0%80", "%F4%90%80%80"] {
        let refused =
            [format!("/ws/pub/k/d/{bad}"), format!("/bullet?key={bad}")].map(|path| server.upgrade(&path, &[]).err());
        assert!(refused.iter().all(|status| matches!(status, Some(400..=404))), "{bad}: {refused:?}");
    }
    assert_eq!(server.api("GET", "/api/topics", &json!(null)).json()["topics"], json!([]));
    let longest = "x".repeat(255);
    phoenix.join_ok(&longest);
    assert!(server.upgrade(&format!("/bullet?{longest}"), &[]).is_ok());
}

/// Keys of clients and names of recipients go to Redis and NATS and come from them.
#[test]
fn security_32_wildcards_in_names_are_characters() {
    let (redis, nats) = (redis::start(), nats::start());
    let server = Server::serve(&format!(
        "[source.redis]\nkind = 'redis'\nurl = '{}'\nchannels = ['c*', 'c[a]', 'c?']\nroute = 'recipients'\n\
         [source.nats]\nkind = 'nats'\nurl = '{}'\nchannels = 's'\nroute = 'recipients'\n\
         [[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/bullet'\nprotocol = 'bullet'\nauth = 'none'\n\
         [[channel]]\ntopic = 'room:*'\njoin = 'open'\n",
        redis.redis_url(),
        nats.nats_url()
    ));
    eventually(|| server.api("GET", "/api/health", &json!(null)).json()["status"] == "ok");
    let keys = ["*", ">", "?", "[a-z]", "k*", "k.>", "k?", "k", "a", "kk", "k.k"];
    let mut clients = keys.map(|key| server.upgrade(&format!("/bullet?key={}", percent(key)), &[]).unwrap());
    eventually(|| members(&server, "bridge") == keys.len() as u64);
    for channel in ["cx", "ca", "c"] {
        assert_eq!(redis.redis_publish(channel, r#"{"data":"for nobody"}"#), 0, "{channel}");
    }
    for (send, via) in [(true, "redis"), (false, "nats")] {
        for key in keys {
            let message = json!({"recipients": [key], "data": {"to": key, "via": via}}).to_string();
            if send {
                assert_eq!(redis.redis_publish("c*", &message), 1);
            } else {
                nats.nats_publish("s", &message);
            }
        }
        for (client, key) in clients.iter_mut().zip(keys) {
            let received: Value = serde_json::from_str(&client.receive_text()).unwrap();
            assert_eq!(received, json!({"data": {"to": key, "via": via}}));
        }
    }
    // And in what is published here.
    let mut client = server.connect("");
    let topics = ["room:*", "room:>", "room:[ab]", "room:?", "room:a"];
    for topic in topics {
        client.join_ok(topic);
    }
    for topic in topics {
        publish(&server, topic, json!({"to": topic}));
        client.expect(json!([null, null, topic, "e", {"to": topic}]));
    }
    client.heartbeat();
}

#[test]
fn security_33_security_34_a_message_reaches_its_topic_and_nothing_else() {
    let server = Server::serve(&format!(
        "[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\n\
         [[endpoint]]\npath = '/socket'\nauth = 'users'\nsocket_id = 'user_socket:{{sub}}'\n\
         [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'none'\n[[endpoint]]\npath = '/bullet'\nprotocol = 'bullet'\nauth = 'none'\n\
         [[endpoint]]\npath = '/'\nprotocol = 'rooms'\n\
         [[channel]]\ntopic = ['room:*', 'user_socket:*']\njoin = 'open'\npublish = 'open'\n\
         [[channel]]\ntopic = 'news'\njoin = 'open'\n"
    ));
    let mut witness = server.connect(&as_user("8"));
    witness.join_ok("room:2");
    witness.join_ok("news");
    let mut publisher = server.upgrade("/ws/pub/k/d/news", &[]).unwrap();
    let mut subscriber = server.upgrade("/ws/sub/d/news", &[]).unwrap();
    let mut bullet = server.upgrade("/bullet?k", &[]).unwrap();
    eventually(|| members(&server, "hub:d/news") == 1 && members(&server, "bridge:k") == 1);

    let mut client = server.connect(&as_user("7"));
    let room = client.join_ok("room:1");
    let news = client.join_ok("news");
    let own = client.join_ok("user_socket:8");
    // Topics that were not joined, under the reference of a join that was.
    for topic in ["room:2", "room:*", "room:", "hub:d/news", "bridge:k", "bridge", "user:8", "phoenix", "*"] {
        let reply = client.push(&room, topic, "e", json!({}));
        assert_eq!(reply["response"]["reason"], "unmatched topic", "{topic}");
        client.send(json!([null, null, topic, "e", {}]));
    }
    // Joined, and not allowed to publish; the reference of another join changes nothing.
    assert_eq!(client.push(&news, "news", "e", json!({}))["response"]["reason"], "not allowed to publish");
    client.send(json!([room, "99", "news", "e", {}]));
    // Allowed to publish on a topic that is the id of somebody's sockets: they are not closed by it.
    assert_eq!(
        client.push(&own, "user_socket:8", "disconnect", json!({}))["response"]["reason"],
        "the event is reserved"
    );
    assert_eq!(client.push(&own, "user_socket:8", "e", json!({}))["status"], "ok");
    // In rooms likewise.
    let mut talker = server.upgrade("/", &[]).unwrap();
    talker.send(json!({"join": "room:3"}));
    talker.send(json!({"say": {}, "to": "room:2"}));
    assert_eq!(talker.receive_close_reason(), (3000, "cannot send to channel".into()));
    // Subscribers of a hub have nothing to say; bullet.js has no topics to name.
    subscriber.send_text("said by a subscriber");
    bullet.send_text(r#"{"recipients":["k"],"data":1}"#);

    assert_eq!(client.push(&room, "room:1", "e", json!({}))["status"], "ok", "it is still connected");
    witness.heartbeat();
    publisher.send_text("the first");
    assert_eq!(subscriber.receive_text(), "the first");
    bullet.send_text("ping");
    assert_eq!(bullet.receive_text(), "heartbeat message");
}

/// Members of channels and of other protocols share the engine, not their topics.
#[test]
fn a_bare_star_reaches_no_topics_of_hubs_and_bridges() {
    let config = |named: &str| {
        format!(
            "[[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'none'\n\
             [[endpoint]]\npath = '/bullet'\nprotocol = 'bullet'\nauth = 'none'\n\
             [[endpoint]]\npath = '/events'\nprotocol = 'sse'\n[[endpoint]]\npath = '/'\nprotocol = 'rooms'\n\
             [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\nhistory = {{}}\n{named}"
        )
    };
    let foreign = ["hub:d/news", "hub:", "bridge", "bridge:k"];
    let server = Server::serve(&config(""));
    let mut rooms = server.upgrade("/", &[]).unwrap();
    let mut phoenix = server.connect("");
    for topic in foreign {
        rooms.send(json!({ "join": topic }));
        assert_eq!(rooms.receive()["refused"], topic);
        rooms.send(json!({ "join": "elsewhere" }));
        assert_eq!(phoenix.join(topic, json!({}))["response"]["reason"], "unmatched topic");
        let history = server.api("GET", &format!("/api/history/{topic}"), &json!(null));
        assert_eq!(history.status, 422, "{topic} keeps nothing: {history:?}");
    }
    assert_eq!(server.http("GET", "/events/hub:d/news", &[], "").status, 403);
    phoenix.join_ok("hubs");
    phoenix.join_ok("bridges");

    let named = "[[channel]]\ntopic = ['hub:*', 'bridge:*']\njoin = 'open'\n";
    let server = Server::serve(&config(named));
    let mut phoenix = server.connect("");
    for topic in ["hub:d/news", "hub:"] {
        phoenix.join_ok(topic);
    }
}
