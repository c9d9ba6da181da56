//! The numbered behaviours of Phoenix that the server gives without code.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use serde_json::{Value, json};

use crate::support::{Server, http};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const AUTH: &str = "\
[auth.users]
kind = 'jwt'
secret = '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'
issuer = 'shop'
type = 'access'
[[endpoint]]
path = '/socket'
auth = 'users'
socket_id = 'user_socket:{sub}'
";

fn token(claims: &Value) -> String {
    let mut all = json!({"iss": "shop", "typ": "access", "exp": seconds_from_now(600)});
    all.as_object_mut().unwrap().extend(claims.as_object().unwrap().clone());
    encode(&Header::new(Algorithm::HS512), &all, &EncodingKey::from_secret(SECRET.as_bytes())).unwrap()
}

fn query(claims: Value) -> String {
    format!("token={}", token(&claims))
}

fn seconds_from_now(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

fn serve(channels: &str) -> Server {
    Server::serve(&format!("{AUTH}{channels}"))
}

#[test]
fn phoenix_4_lobby_with_no_code() {
    let server = Server::dev();
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    let ann_ref = ann.join_ok("room:lobby");
    bob.join_ok("room:lobby");
    let message = json!([null, null, "room:lobby", "new_msg", {"body": "hi"}]);
    ann.send(json!([ann_ref, "77", "room:lobby", "new_msg", {"body": "hi"}]));
    let mut seen = Vec::new();
    while seen.len() < 2 {
        let frame = ann.receive();
        if frame[3] != "presence_state" && frame[3] != "presence_diff" {
            seen.push(frame);
        }
    }
    // The sender gets its own message, then the answer.
    assert_eq!(seen[0], message);
    assert_eq!(seen[1], json!([ann_ref, "77", "room:lobby", "phx_reply", {"status": "ok", "response": {}}]));
    assert_eq!(bob.receive_event("new_msg"), json!({"body": "hi"}));
    // What the lobby does not know is answered, not passed on, and ends nothing.
    let reply = ann.push(&ann_ref, "room:lobby", "shout", json!({}));
    assert_eq!(reply, json!({"status": "error", "response": {"reason": "unknown event"}}));
    let reply = ann.push(&ann_ref, "room:lobby", "phx_close", json!({}));
    assert_eq!(reply, json!({"status": "error", "response": {"reason": "the event is reserved"}}));
    let reply = ann.push(&ann_ref, "room:lobby", "new_msg", json!([1]));
    assert_eq!(reply["response"]["reason"], "the payload must be an object");
    let reply = ann.push(&ann_ref, "room:lobby", "new_msg", json!({"body": "still here"}));
    assert_eq!(reply["status"], "ok");
    let reply = ann.join("room:other", json!({}));
    assert_eq!(reply, json!({"status": "error", "response": {"reason": "unmatched topic"}}));
}

#[test]
fn phoenix_4_lobby_shows_who_is_there() {
    let server = Server::dev();
    let mut ann = server.connect("");
    assert_eq!(ann.join("room:lobby", json!({"name": "Ann"}))["status"], "ok");
    let state = ann.receive_event("presence_state");
    assert_eq!(state.as_object().unwrap().keys().collect::<Vec<_>>(), ["Ann"]);
    assert!(state["Ann"]["metas"][0]["online_at"].as_str().unwrap().parse::<u64>().is_ok());
    let mut bob = server.connect("");
    assert_eq!(bob.join("room:lobby", json!({"name": "Bob"}))["status"], "ok");
    assert_eq!(bob.receive_event("presence_state").as_object().unwrap().len(), 2);
    let joined = loop {
        let diff = ann.receive_event("presence_diff");
        if diff["joins"].get("Bob").is_some() {
            break diff;
        }
    };
    assert_eq!(joined["leaves"], json!({}));
    drop(bob);
    let left = ann.receive_event("presence_diff");
    assert_eq!(left["leaves"]["Bob"]["metas"][0]["phx_ref"], joined["joins"]["Bob"]["metas"][0]["phx_ref"]);
    let reply = server.connect("").join("room:lobby", json!({"name": "x".repeat(256)}));
    assert_eq!(reply["response"]["reason"], "the name has 256 bytes, more than 255");
}

#[test]
fn phoenix_6_tokens_are_verified() {
    let server = serve("");
    #[track_caller]
    fn check(server: &Server, query: &str, refused: Option<(u16, &str)>) {
        let status = server.try_connect(query).err();
        assert_eq!(status, refused.map(|(status, _)| status), "{query}");
        if let Some((_, reason)) = refused {
            let told = server.wait_for_stderr(|log| log.contains(reason).then_some(()));
            assert!(told.is_some(), "{reason} is not in the log:\n{}", server.stderr());
        }
    }
    check(&server, &query(json!({"sub": "7"})), None);
    check(&server, &query(json!({"sub": "7", "exp": seconds_from_now(60)})), None);
    check(&server, "", Some((403, "there is no token")));
    check(&server, "token=", Some((403, "there is no token")));
    check(&server, "token=nonsense", Some((403, "the token is no JSON Web Token")));
    let good = token(&json!({"sub": "7"}));
    check(&server, &format!("token={}x", good), Some((403, "the token")));
    check(&server, &query(json!({"sub": "7", "exp": 1})), Some((403, "the token has expired")));
    check(&server, &query(json!({"sub": "7", "iss": "other"})), Some((403, "from another issuer")));
    check(&server, &query(json!({"sub": "7", "typ": "refresh"})), Some((403, "of another type")));
    check(&server, &query(json!({})), Some((403, "no claim \\\"sub\\\"")));
    check(&server, &query(json!({"sub": "a\nb"})), Some((403, "the socket's id would not do")));
    // The warnings name reasons, never a token.
    let parts: Vec<_> = good.split('.').collect();
    let log = server.stderr();
    assert!(log.contains("WARN"), "{log}");
    assert!(parts.iter().all(|part| !log.contains(part)), "{log}");
}

#[test]
fn phoenix_6_tokens_come_as_auth_token_too() {
    let server = serve("");
    let token = token(&json!({"sub": "7"}));
    let bearer = |token: &str| {
        use base64::Engine;
        let encoded = base64::engine::general_purpose::STANDARD_NO_PAD.encode(token);
        format!("phoenix, base64url.bearer.phx.{encoded}")
    };
    let connect =
        |protocols: &str| server.upgrade("/socket/websocket?vsn=2.0.0", &[("sec-websocket-protocol", protocols)]);
    assert!(connect(&bearer(&token)).is_ok());
    assert_eq!(connect(&bearer("nonsense")).err(), Some(403));
    // By long-poll it is a header.
    let poll = |token: &str| {
        let answer = server.http("GET", "/socket/longpoll?vsn=2.0.0", &[("x-phoenix-authtoken", token)], "");
        answer.json()["status"].clone()
    };
    assert_eq!(poll(&token), 410);
    assert_eq!(poll("nonsense"), 403);
}

#[test]
fn phoenix_6_expiry_holds_for_the_life_of_the_connection() {
    let server = serve("[[channel]]\ntopic = 'room:*'\n");
    let mut client = server.connect(&query(json!({"sub": "7", "exp": seconds_from_now(2)})));
    client.join_ok("room:1");
    let started = SystemTime::now();
    // Not 1000 and not 1008: clients take those as final.
    assert_eq!(client.receive_close(), 1001);
    assert!(started.elapsed().unwrap() < Duration::from_secs(7));
}

#[test]
fn phoenix_7_disconnect_closes_every_socket_of_a_user() {
    let server = serve("[[channel]]\ntopic = 'room:*'\n");
    let mut sevens = [server.connect(&query(json!({"sub": "7"}))), server.connect(&query(json!({"sub": "7"})))];
    let mut eight = server.connect(&query(json!({"sub": "8"})));
    let answer = server.api("POST", "/api/disconnect", &json!({"id": "user_socket:7"}));
    assert_eq!((answer.status, answer.json()), (200, json!({"ok": true, "closed": 2})));
    assert_eq!(sevens.each_mut().map(|client| client.receive_close()), [1001, 1001]);
    eight.heartbeat();
    // Publishing the event does the same.
    let disconnect = json!({"topic": "user_socket:8", "event": "disconnect"});
    assert_eq!(server.api("POST", "/api/publish", &disconnect).status, 200);
    assert_eq!(eight.receive_close(), 1001);
}

#[test]
fn phoenix_8_a_topic_of_the_users_own() {
    let server = serve("[[channel]]\ntopic = 'user:*'\njoin = 'claim:sub={suffix}'\n");
    let mut seven = server.connect(&query(json!({"sub": "7"})));
    let unauthorized = json!({"status": "error", "response": {"reason": "unauthorized"}});
    assert_eq!(seven.join("user:8", json!({})), unauthorized);
    assert_eq!(seven.join("user:", json!({})), unauthorized);
    assert_eq!(seven.join("user:77", json!({})), unauthorized);
    let join_ref = seven.join_ok("user:7");
    let message = json!({"topic": "user:7", "event": "notice", "payload": {"text": "for you"}});
    assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
    seven.expect(json!([null, null, "user:7", "notice", {"text": "for you"}]));
    let reply = seven.push(&join_ref, "user:7", "notice", json!({}));
    assert_eq!(reply["response"]["reason"], "not allowed to publish");
}

#[test]
fn phoenix_9_only_some_may_publish() {
    let server = serve("[[channel]]\ntopic = 'news'\npublish = 'claim:role=support'\nevents = ['new_msg']\n");
    let mut reader = server.connect(&query(json!({"sub": "1", "role": "reader"})));
    let mut support = server.connect(&query(json!({"sub": "2", "role": ["x", "support"]})));
    let reader_ref = reader.join_ok("news");
    let support_ref = support.join_ok("news");
    let reply = reader.push(&reader_ref, "news", "new_msg", json!({"body": "no"}));
    assert_eq!(reply, json!({"status": "error", "response": {"reason": "not allowed to publish"}}));
    support.send(json!([support_ref, "9", "news", "new_msg", {"body": "yes"}]));
    for client in [&mut reader, &mut support] {
        client.expect(json!([null, null, "news", "new_msg", {"body": "yes"}]));
    }
}

#[test]
fn phoenix_9_the_default_lets_nobody_publish() {
    let server = serve("[[channel]]\ntopic = 'news'\n");
    let mut client = server.connect(&query(json!({"sub": "1", "role": "support"})));
    let join_ref = client.join_ok("news");
    let reply = client.push(&join_ref, "news", "new_msg", json!({}));
    assert_eq!(reply["response"]["reason"], "not allowed to publish");
}

#[test]
fn phoenix_10_many_topics_and_the_first_pattern_wins() {
    let server = Server::serve(
        "[[channel]]\ntopic = 'room:vip'\njoin = 'nobody'\nrefused = 'vip only'\n\
         [[channel]]\ntopic = ['room:*', 'lobby']\njoin = 'open'\n\
         [[channel]]\ntopic = '*'\njoin = 'nobody'\nrefused = 'the rest'\n",
    );
    let mut client = server.connect("");
    let reason = |reply: Value| reply["response"]["reason"].as_str().unwrap().to_owned();
    assert_eq!(reason(client.join("room:vip", json!({}))), "vip only");
    assert_eq!(reason(client.join("lobby2", json!({}))), "the rest");
    assert_eq!(reason(client.join("Room:1", json!({}))), "the rest");
    let topics = ["room:", "room:1", "room:1:2", "lobby", "room:vip2"];
    for topic in topics {
        client.join_ok(topic);
    }
    for topic in topics {
        server.api("POST", "/api/publish", &json!({"topic": topic, "event": "e", "payload": {"to": topic}}));
        client.expect(json!([null, null, topic, "e", {"to": topic}]));
    }
}

#[test]
fn phoenix_11_a_join_is_refused_with_a_reason() {
    let server =
        serve("[[channel]]\ntopic = 'vip'\njoin = 'claim:level=gold'\nrefused = \"You don't have permission!\"\n");
    let mut client = server.connect(&query(json!({"sub": "7"})));
    let refusal = json!({"status": "error", "response": {"reason": "You don't have permission!"}});
    assert_eq!(client.join("vip", json!({})), refusal);
    server.connect(&query(json!({"sub": "7", "level": "gold"}))).join_ok("vip");
    // Without a credential nobody counts as authenticated.
    let open = Server::serve("[[channel]]\ntopic = 'vip'\n");
    assert_eq!(open.connect("").join("vip", json!({}))["response"]["reason"], "unauthorized");
}

#[test]
fn phoenix_12_broadcasts_come_from_http() {
    let server = Server::dev();
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    ann.join_ok("room:lobby");
    bob.join_ok("room:lobby");
    let many = json!({"messages": [
        {"topic": "room:lobby", "event": "new_msg", "payload": {"body": "one"}},
        {"topic": "room:empty", "event": "new_msg", "payload": {"body": "nobody"}},
        {"topic": "room:lobby", "event": "new_msg", "payload": {"body": "two"}},
    ]});
    let answer = server.api("POST", "/api/publish", &many);
    assert_eq!((answer.status, &answer.json()["published"]), (200, &json!(3)));
    for client in [&mut ann, &mut bob] {
        assert_eq!(client.receive_event("new_msg"), json!({"body": "one"}));
        assert_eq!(client.receive_event("new_msg"), json!({"body": "two"}));
    }
}

#[test]
fn phoenix_12_broadcast_from_leaves_out_the_sender() {
    let server = Server::serve("[[channel]]\npreset = 'lobby'\npresence = false\nbroadcast = 'others'\n");
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    let ann_ref = ann.join_ok("room:lobby");
    bob.join_ok("room:lobby");
    ann.send(json!([ann_ref, "9", "room:lobby", "new_msg", {"body": "hi"}]));
    bob.expect(json!([null, null, "room:lobby", "new_msg", {"body": "hi"}]));
    ann.expect(json!([ann_ref, "9", "room:lobby", "phx_reply", {"status": "ok", "response": {}}]));
    ann.expect_silence();
}

#[test]
fn phoenix_16_frames_typed_by_hand_get_sensible_answers() {
    let server = Server::serve("[[channel]]\npreset = 'lobby'\npresence = false\n");
    // Version 1 is what a URL without a version gives, and the easiest to type.
    let mut client = server.upgrade("/socket", &[]).ok().unwrap();
    client.send_text(r#"{"topic":"room:lobby","event":"phx_join","payload":{},"ref":1}"#);
    let reply = |payload: Value| json!({"topic": "room:lobby", "event": "phx_reply", "payload": payload, "ref": 1});
    client.expect(reply(json!({"status": "ok", "response": {}})));
    client.send_text(r#"  {"topic":"room:lobby","event":"new_msg","payload":{"body":"hi"},"ref":null}"#);
    client.expect(json!({"topic": "room:lobby", "event": "new_msg", "payload": {"body": "hi"}, "ref": null}));
    client.expect(
        json!({"topic": "room:lobby", "event": "phx_reply", "payload": {"status": "ok", "response": {}}, "ref": null}),
    );
    client.send_text(r#"{"topic":"nowhere","event":"hello","payload":{},"ref":1}"#);
    assert_eq!(client.receive()["payload"]["response"]["reason"], "unmatched topic");
    client.send_text("hello?");
    assert_eq!(client.receive_close(), 1011);
}

#[test]
fn phoenix_16_curl_on_the_long_poll_url() {
    let server = Server::serve("[[channel]]\npreset = 'lobby'\npresence = false\n");
    let ask = |method, query: &str, body: &str| {
        http(&server.address, method, &format!("/socket/longpoll?vsn=2.0.0{query}"), &[], body).json()
    };
    let created = ask("GET", "", "");
    assert_eq!((&created["status"], &created["messages"]), (&json!(410), &json!([])));
    let token = format!("&token={}", created["token"].as_str().unwrap().replace('+', "%2B").replace('=', "%3D"));
    assert_eq!(ask("POST", &token, r#"["1","1","room:lobby","phx_join",{}]"#), json!({"status": 200}));
    let frames = |answer: Value| -> Vec<Value> {
        assert_eq!(answer["status"], 200, "{answer}");
        let texts = answer["messages"].as_array().unwrap();
        texts.iter().map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
    };
    let ok = |own_ref: &str| json!(["1", own_ref, "room:lobby", "phx_reply", {"status": "ok", "response": {}}]);
    assert_eq!(frames(ask("GET", &token, "")), [ok("1")]);
    assert_eq!(ask("POST", &token, r#"["1","2","room:lobby","new_msg",{"body":"hi"}]"#), json!({"status": 200}));
    let mut seen = frames(ask("GET", &token, ""));
    if seen.len() < 2 {
        seen.extend(frames(ask("GET", &token, "")));
    }
    assert_eq!(seen, [json!([null, null, "room:lobby", "new_msg", {"body": "hi"}]), ok("2")]);
    assert_eq!(ask("POST", &token, "hello?"), json!({"status": 400}));
    assert_eq!(ask("POST", &token, "hello?"), json!({"status": 410}));
}

#[test]
fn phoenix_17_the_page_with_its_form() {
    let server = Server::dev();
    let page = server.http("GET", "/", &[], "");
    assert_eq!((page.status, page.headers["content-type"].as_str()), (200, "text/html; charset=utf-8"));
    let policy = &page.headers["content-security-policy"];
    assert!(policy.contains("default-src 'none'") && policy.contains("script-src 'self';"), "{policy}");
    assert!(policy.contains(&format!("ws://{}", server.address)), "{policy}");
    assert_eq!(page.headers["x-content-type-options"], "nosniff");
    assert_eq!(page.headers["cache-control"], "no-cache");
    // A form is what makes Enter send.
    assert!(page.body.contains("<form") && page.body.contains("type=\"submit\"") && page.body.contains("room:lobby"));
    let script = server.http("GET", "/app.js", &[], "");
    assert_eq!(script.headers["content-type"], "text/javascript; charset=utf-8");
    assert_eq!(server.http("GET", "/app.css", &[], "").headers["content-type"], "text/css; charset=utf-8");
    let etag = page.headers["etag"].as_str();
    assert_eq!(server.http("GET", "/", &[("if-none-match", etag)], "").status, 304);
    assert_eq!(server.http("GET", "/", &[("if-none-match", "\"other\"")], "").status, 200);
    assert_eq!(server.http("GET", "/missing", &[], "").status, 404);
    // `serve` has no page.
    let plain = Server::serve("[[channel]]\npreset = 'lobby'\n");
    assert_eq!(plain.http("GET", "/", &[], "").status, 404);
}
