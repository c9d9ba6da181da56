//! Whoever is refused or closed is told why, the log has a line with the reason, a counter counts it, and `GET /api/why` tells it.

use std::time::Duration;

use serde_json::{Value, json};

use crate::back_end::{BackEnd, Reply};
use crate::support::{Answer, Server};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const CONFIG: &str = "
limits = { joins_max = 2, message_size_max = '2KB', join_burst = 1000, error_burst = 1000 }
[[endpoint]]
[[endpoint]]
path = '/listed'
origins = ['https://a.example', '//*.b.example:8443']
[[endpoint]]
path = '/private'
auth = 'users'
[[endpoint]]
path = '/idle'
idle_timeout = '1s'
[auth.users]
kind = 'jwt'
secret = '0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef'
[[channel]]
topic = 'staff'
join = 'claim:role=staff'
[[channel]]
topic = 'room:*'
join = 'open'
publish = 'claim:role=speaker'
[[channel]]
topic = 'talk'
join = 'open'
publish = 'open'
events = 'new_msg'
payload_size_max = '16B'
";

fn serve() -> Server {
    Server::serve(CONFIG)
}

/// Checks that one line of the log has all these parts, that a counter was counted once, and that the line is told by `why`.
#[track_caller]
fn check_told(server: &Server, (name, reason): (&str, &str), parts: &[&str]) {
    let reason_in_line = format!("reason=\"{reason}\"");
    let is_it = |line: &&str| line.contains(&reason_in_line) && parts.iter().all(|part| line.contains(part));
    let found = server.wait_for_stderr(|log| log.lines().find(is_it).map(str::to_owned));
    let Some(line) = found else { panic!("no line with {reason_in_line} and {parts:?} in\n{}", server.stderr()) };
    assert_eq!(server.counter(name, reason), 1, "{name}/{reason}");
    let facts = server.api("GET", "/api/why", &Value::Null).json()["facts"].take();
    let fact = facts.as_array().unwrap().iter().find(|fact| fact["reason"] == reason);
    let fact = fact.unwrap_or_else(|| panic!("{reason} is not in {facts}"));
    let detail = fact["detail"].as_str().unwrap();
    let in_line = format!("{:?}", detail.trim_end_matches('…'));
    assert!(line.contains(in_line.trim_end_matches('"')), "{fact} is another than {line}");
    assert!(detail.len() > 180 || !detail.ends_with('…'), "{fact} says too little");
    let kind = format!("event=\"{}\"", fact["kind"].as_str().unwrap());
    assert!(line.contains(&kind) && fact["count"] == 1 && fact["next"].is_string(), "{fact} for {line}");
}

#[track_caller]
fn check_answer(answer: &Answer, status: u16, body: &str) {
    assert_eq!((answer.status, answer.body.contains(body)), (status, true), "{body} is not in {answer:?}");
}

#[test]
fn a_refused_connection_says_why() {
    let server = serve();
    let get = |path: &str, headers: &[(&str, &str)]| server.http("GET", path, headers, "");

    let answer = get("/socket/websocket?vsn=2.0.0", &[("origin", "https://evil.example")]);
    check_answer(&answer, 403, "https://evil.example");
    let own = format!("http://{}", server.address);
    let parts =
        ["event=\"refused\"", "endpoint=/socket ", "address=127.0.0.1:", "evil.example", &own, "behind a proxy"];
    check_told(&server, ("connections", "refused_origin"), &parts);

    check_answer(&get("/socket/websocket?vsn=9", &[]), 403, "vsn=2.0.0");
    check_told(&server, ("connections", "refused_vsn"), &["endpoint=/socket ", "\\\"9\\\"", "2.0.0", "code=403"]);

    check_answer(&get("/sockets/websocket", &[]), 404, "nothing is served at this path");
    check_told(&server, ("connections", "refused_path"), &["/sockets/websocket", "/listed", "/private"]);

    let offers = [("sec-websocket-protocol", "graphql")];
    check_answer(&get("/private/websocket?vsn=2.0.0", &offers), 403, "phoenix, fanfare");
    check_told(&server, ("connections", "refused_subprotocol"), &["endpoint=/private ", "phoenix, fanfare"]);

    check_answer(&get("/private/websocket?vsn=2.0.0", &[]), 403, "no credential was sent");
    check_told(&server, ("connections", "refused_connect"), &["endpoint=/private ", "there is no token"]);
}

#[test]
fn a_refused_origin_is_told_with_the_list_of_allowed_ones() {
    let server = serve();
    let answer = server.http("GET", "/listed/websocket?vsn=2.0.0", &[("origin", "http://a.example")], "");
    assert_eq!(answer.status, 403);
    let parts = ["endpoint=/listed ", "http://a.example", "https://a.example, //*.b.example:8443"];
    check_told(&server, ("connections", "refused_origin"), &parts);
}

#[test]
fn a_refused_join_or_push_says_why() {
    let server = serve();
    let mut client = server.connect("");

    let reply = client.join("lobby", json!({}));
    assert_eq!(reply["response"]["reason"], "unmatched topic");
    let parts = ["event=\"join_refused\"", "topic=\"lobby\"", "staff, room:*, talk", "endpoint=/socket "];
    check_told(&server, ("drops", "unmatched_topic"), &parts);

    let reply = client.join("staff", json!({}));
    assert_eq!(reply["response"]["reason"], "unauthorized");
    let parts = ["event=\"join_refused\"", "topic=\"staff\"", "claim:role=staff", "no credential"];
    check_told(&server, ("joins", "refused"), &parts);

    let room = client.join_ok("room:1");
    let reply = client.push(&room, "room:1", "new_msg", json!({}));
    assert_eq!(reply["response"]["reason"], "not allowed to publish");
    let parts = ["event=\"push_refused\"", "topic=\"room:1\"", "room:*", "publish = ", "claim:role=speaker"];
    check_told(&server, ("pushes", "refused"), &parts);

    let reply = client.join("x".repeat(300).as_str(), json!({}));
    assert_eq!(reply["status"], "error");
    check_told(&server, ("joins", "bad_topic"), &["300 bytes", "255"]);

    client.join_ok("talk");
    let reply = client.join("room:2", json!({}));
    assert_eq!(reply["response"]["reason"], "too many channels joined");
    check_told(&server, ("joins", "too_many"), &["topic=\"room:2\"", "joined 2 topics", "joins_max"]);
}

#[test]
fn a_refused_event_or_payload_is_told_with_what_is_allowed() {
    for (event, payload, reason, part) in [
        ("typing", json!({}), "unknown event", "\\\"typing\\\" is not among the `events` of the [[channel]]: new_msg"),
        ("new_msg", json!({"body": "too long for this"}), "the payload has 28 bytes", "payload_size_max"),
        ("new_msg", json!([1]), "the payload must be an object", "an object"),
        ("disconnect", json!({}), "the event is reserved", "\\\"disconnect\\\" is reserved"),
    ] {
        let server = serve();
        let mut client = server.connect("");
        let talk = client.join_ok("talk");
        let reply = client.push(&talk, "talk", event, payload);
        assert!(reply["response"]["reason"].as_str().unwrap().contains(reason), "{reply}");
        check_told(&server, ("pushes", "refused"), &["topic=\"talk\"", part]);
    }
}

#[test]
fn a_push_to_a_topic_that_is_not_joined_says_so() {
    let server = serve();
    let mut client = server.connect("");
    assert_eq!(client.push("1", "room:1", "new_msg", json!({}))["response"]["reason"], "unmatched topic");
    check_told(&server, ("drops", "unmatched_topic"), &["event=\"push_refused\"", "topic=\"room:1\"", "not joined"]);
}

#[test]
fn a_message_of_an_earlier_join_or_session_says_so() {
    let server = serve();
    let mut client = server.connect("");
    let earlier = client.join_ok("talk");
    client.join_ok("talk");
    client.send(json!([earlier, "99", "talk", "new_msg", {}]));
    let parts = ["event=\"push_refused\"", "topic=\"talk\"", "a join that is over", "the newest one"];
    check_told(&server, ("drops", "stale_join_ref"), &parts);

    let posted = server.http("POST", "/socket/longpoll?vsn=2.0.0", &[("x-phoenix-longpoll-token", "nonsense")], "[]");
    check_answer(&posted, 200, "410");
    check_told(
        &server,
        ("drops", "no_session"),
        &["event=\"refused\"", "endpoint=/socket ", "code=410", "begins a new one"],
    );
}

#[test]
fn messages_beyond_those_that_may_wait_say_so() {
    let back_end = BackEnd::new(|_| {
        std::thread::sleep(Duration::from_millis(500));
        Reply::Json(json!({"allow": true}))
    });
    let server = Server::serve(&format!(
        "limits = {{ waiting_frames_max = 2 }}\n[hook.app]\nurl = '{}'\nsecret = '{SECRET}'\n\
         [[channel]]\ntopic = 'room:*'\njoin = 'hook:app'\npublish = 'open'\n",
        back_end.url()
    ));
    let mut client = server.connect("");
    client.send(json!(["1", "1", "room:1", "phx_join", {}]));
    for number in 2..5 {
        client.send(json!(["1", number.to_string(), "room:1", "new_msg", {}]));
    }
    let parts = ["event=\"push_refused\"", "topic=\"room:1\"", "at most 2", "waiting_frames_max"];
    check_told(&server, ("drops", "waiting_full"), &parts);
}

#[test]
fn a_close_by_the_server_says_why() {
    let server = serve();
    let mut idle = server.upgrade("/idle/websocket?vsn=2.0.0", &[]).unwrap();
    assert_eq!(idle.receive_close_reason(), (1002, "nothing was heard for too long".into()));
    let parts = ["event=\"closed\"", "endpoint=/idle ", "code=1002", "1s", "idle_timeout"];
    check_told(&server, ("closes", "idle"), &parts);

    let mut wrong = server.connect("");
    wrong.send_text("{no frame");
    assert_eq!(wrong.receive_close_reason(), (1011, "not a message of this protocol".into()));
    check_told(&server, ("closes", "undecodable"), &["event=\"closed\"", "code=1011", "9 bytes"]);

    let mut large = server.connect("");
    large.send_text(&"x".repeat(2_001));
    assert_eq!(large.receive_close_reason(), (1009, "the message is too large".into()));
    check_told(&server, ("closes", "too_large"), &["code=1009", "2000 bytes", "message_size_max"]);
    assert!(!server.stderr().contains("no frame"), "contents are in the log:\n{}", server.stderr());
}

#[test]
fn a_hooks_reason_reaches_the_client_and_the_log() {
    let back_end = BackEnd::new(|request| {
        let asked = request.json();
        Reply::Json(match asked["type"].as_str() {
            Some("connect") if asked["params"]["plan"] == "none" => {
                json!({"allow": false, "reason": "your plan has ended"})
            }
            Some("connect") => json!({"allow": true}),
            _ => json!({"allow": false, "reason": "the room is closed"}),
        })
    });
    let server = Server::serve(&format!(
        "[auth.users]\nkind = 'hook'\nhook = 'app'\n[hook.app]\nurl = '{}'\nsecret = '{SECRET}'\n[[endpoint]]\nauth = 'users'\n\
         [[channel]]\ntopic = 'room:*'\njoin = 'hook:app'\n",
        back_end.url()
    ));
    let answer = server.http("GET", "/socket/websocket?vsn=2.0.0&plan=none", &[], "");
    check_answer(&answer, 403, "your plan has ended");
    check_told(&server, ("connections", "refused_connect"), &["endpoint=/socket ", "your plan has ended"]);
    let mut client = server.connect("");
    assert_eq!(client.join("room:1", json!({}))["response"]["reason"], "the room is closed");
    check_told(&server, ("joins", "refused"), &["topic=\"room:1\"", "the room is closed"]);
}

#[test]
fn a_refused_credential_by_message_is_in_the_log() {
    let server = serve();
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    let claims = json!({"sub": "7", "exp": 4_000_000_000_u64});
    let token = jsonwebtoken::encode(&jsonwebtoken::Header::default(), &claims, &key).unwrap();
    let mut client = server.upgrade(&format!("/private/websocket?vsn=2.0.0&token={token}"), &[]).unwrap();
    let reply = client.push_on_phoenix("access_token", json!({"access_token": "nonsense"}));
    assert_eq!(reply["response"]["reason"], "the credential is not accepted");
    check_told(&server, ("credentials", "refused"), &["event=\"credential_refused\"", "no JSON Web Token"]);
}

#[test]
fn a_flood_of_one_kind_keeps_no_other_out_of_the_log() {
    let server = serve();
    let mut client = server.connect("");
    for _ in 0..200 {
        client.join("lobby", Value::Null);
    }
    client.join("staff", json!({}));
    check_told(&server, ("joins", "refused"), &["topic=\"staff\""]);
    let lines = server.stderr().lines().filter(|line| line.contains("unmatched_topic")).count();
    assert!((1..100).contains(&lines), "{lines} lines of 200");
    assert_eq!(server.counter("drops", "unmatched_topic"), 200);
    let facts = server.api("GET", "/api/why?topic=lobby", &Value::Null).json()["facts"].take();
    let facts = facts.as_array().unwrap();
    // One for each ten seconds.
    assert!(facts.len() < 4, "{facts:?}");
    assert_eq!(facts.iter().map(|fact| fact["count"].as_u64().unwrap()).sum::<u64>(), 200);
}
