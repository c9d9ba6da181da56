//! Hooks: the user's back end says who may connect, join and publish, and what it does not say is no.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::back_end::{BackEnd, Reply, Request, signature_of, wait_for};
use crate::support::{Server, http};

const SECRET: &str = "a secret of the tests, long enough for everybody";

/// A server whose connects, joins and messages are all asked about, with more in `[hook.h]`.
fn config(back_end: &str, more: &str) -> String {
    format!(
        "[hook.h]\nurl = '{back_end}'\n{more}\n[auth.users]\nkind = 'hook'\nhook = 'h'\n\
         [[endpoint]]\nauth = 'users'\nsocket_id = 'user_socket:{{sub}}'\n\
         [[channel]]\ntopic = '*'\njoin = 'hook:h'\npublish = 'hook:h'\nevents = ['new_msg', 'x']\n"
    )
}

/// Agrees, as user 7.
fn yes(request: &Request) -> Reply {
    Reply::Json(match request.json()["type"].as_str() {
        Some("connect") => json!({"allow": true, "sub": "7", "claims": {"role": "x"}}),
        _ => json!({"allow": true}),
    })
}

fn status(server: &Server, query: &str) -> u16 {
    server.try_connect(query).err().unwrap_or(101)
}

fn health(server: &Server) -> Value {
    http(&server.admin(), "GET", "/api/health", &[], "").json()
}

fn counter(server: &Server, reason: &str) -> u64 {
    server.counter("hooks.h", reason)
}

#[track_caller]
fn refused(reply: &Value, reason: &str) {
    assert_eq!((&reply["status"], &reply["response"]), (&json!("error"), &json!({"reason": reason})), "{reply}");
}

#[test]
fn questions_are_of_the_documented_form() {
    let back_end = BackEnd::new(yes);
    let server = Server::serve(&config(&back_end.url(), ""));
    let mut client = server.connect("token=abc&room=5");
    assert_eq!(client.join("room:1", json!({"n": 1.5}))["status"], "ok");
    let join_ref = client.join_ok("room:2");
    assert_eq!(client.push(&join_ref, "room:2", "new_msg", json!({"body": "hi"}))["status"], "ok");
    let asked: Vec<_> = back_end.requests().iter().map(Request::json).collect();
    let claims = json!({"sub": "7", "role": "x"});
    let params = json!({"vsn": "2.0.0", "room": "5"});
    let expected = [
        json!({"type": "connect", "endpoint": "/socket", "token": "abc", "params": params, "peer": "127.0.0.1"}),
        json!({"type": "join", "topic": "room:1", "claims": claims, "payload": {"n": 1.5}}),
        json!({"type": "join", "topic": "room:2", "claims": claims, "payload": {}}),
        json!({"type": "message", "topic": "room:2", "event": "new_msg", "claims": claims, "payload": {"body": "hi"}}),
    ];
    assert_eq!(asked, expected);
    // All on one connection.
    assert_eq!(back_end.connections(), 1);
    let request = &back_end.requests()[0];
    assert_eq!((&request.path[..], &request.headers["content-type"][..]), ("/fanfare", "application/json"));
    assert!(!request.headers.contains_key("webhook-signature"));
    // Without a token it is asked as well.
    assert_eq!(status(&server, ""), 101);
    assert!(back_end.requests()[4].json().get("token").is_none());
    assert_eq!(health(&server), json!({"status": "ok", "hooks": {"h": "ok"}}));
}

#[test]
fn a_hook_is_told_the_headers_and_cookies_that_are_listed_and_they_are_not_logged() {
    let back_end = BackEnd::new(yes);
    let config = config(&back_end.url(), "")
        .replace("hook = 'h'", "hook = 'h'\nheaders = 'X-Tenant'\ncookies = ['session', 'gone']");
    let server = Server::serve(&config);
    let headers = [("x-tenant", "acme-marker"), ("x-other", "unlisted"), ("cookie", "a=1; session=\"cookie-marker\"")];
    server.upgrade("/socket/websocket?vsn=2.0.0", &headers).unwrap();
    let asked = back_end.requests()[0].json();
    assert_eq!(asked["headers"], json!({"X-Tenant": "acme-marker"}));
    assert_eq!(asked["cookies"], json!({"session": "cookie-marker"}));
    back_end.set(|_| Reply::Json(json!({"allow": false})));
    let other = [("x-tenant", "acme-marker-2"), ("cookie", "session=cookie-marker-2")];
    assert_eq!(server.upgrade("/socket/websocket?vsn=2.0.0", &other).err(), Some(403));
    wait_for("the line of the refusal", || server.stderr().contains("the hook says no"));
    assert!(!server.stderr().contains("marker"), "{}", server.stderr());
}

#[test]
fn answers_count() {
    let back_end = BackEnd::new(|request| {
        let question = request.json();
        Reply::Json(match (question["type"].as_str().unwrap(), question["topic"].as_str()) {
            ("connect", _) if question["token"] == "bad" => json!({"allow": false, "reason": "never seen"}),
            ("join", Some("full")) => json!({"allow": false, "reason": "the room is full"}),
            ("join", Some("closed")) => json!({"allow": false}),
            ("join", Some("told")) => json!({"allow": true, "reply": {"last": [1, 2]}}),
            ("message", _) => match question["payload"]["body"].as_str() {
                Some("rude") => json!({"allow": false, "reason": "be kind"}),
                Some("no") => json!({"allow": false}),
                Some("shout") => json!({"allow": true, "payload": {"body": "SHOUT"}, "event": "loud"}),
                _ => json!({"allow": true}),
            },
            _ => return yes(request),
        })
    });
    let server = Server::serve(&config(&back_end.url(), ""));
    assert_eq!(status(&server, "token=bad"), 403);
    let mut client = server.connect("token=good");
    refused(&client.join("full", json!({})), "the room is full");
    refused(&client.join("closed", json!({})), "unauthorized");
    assert_eq!(client.join("told", json!({})), json!({"status": "ok", "response": {"last": [1, 2]}}));
    let join_ref = client.join_ok("room");
    let mut say = |body: &str| client.push(&join_ref, "room", "new_msg", json!({"body": body}));
    refused(&say("rude"), "be kind");
    refused(&say("no"), "not allowed to publish");
    assert_eq!(say("fine")["status"], "ok");
    let mut other = server.connect("token=good");
    let others = other.join_ok("room");
    other.send(json!([others, "9", "room", "new_msg", {"body": "shout"}]));
    assert_eq!(other.receive_event("loud"), json!({"body": "SHOUT"}));
    // The socket is that of the user that the answer named.
    server.api("POST", "/api/disconnect", &json!({"id": "user_socket:7"}));
    assert_eq!(other.receive_close(), 1001);
}

#[test]
fn what_is_refused_without_it_is_not_asked() {
    let back_end = BackEnd::agreeing();
    let server = Server::serve(&format!(
        "[hook.h]\nurl = '{}'\n[[channel]]\ntopic = 'a'\njoin = 'open'\npublish = 'hook:h'\nevents = 'x'\n\
         payload_size_max = 20\n[[channel]]\ntopic = 'b'\njoin = ['hook:h', 'open']\npublish = ['hook:h', 'open']\n",
        back_end.url()
    ));
    let mut client = server.connect("");
    let join_ref = client.join_ok("a");
    refused(&client.push(&join_ref, "a", "y", json!({})), "unknown event");
    refused(&client.push(&join_ref, "a", "x", json!([])), "the payload must be an object");
    refused(&client.push(&join_ref, "a", "x", json!({"k": "0123456789123"})), "the payload has 21 bytes, more than 20");
    let join_ref = client.join_ok("b");
    assert_eq!(client.push(&join_ref, "b", "y", json!({}))["status"], "ok");
    assert_eq!(back_end.asked(), 0);
    // Sockets without an identity have no claims.
    let join_ref = client.join_ok("a");
    assert_eq!(client.push(&join_ref, "a", "x", json!({}))["status"], "ok");
    assert_eq!(back_end.requests()[0].json()["claims"], Value::Null);
}

#[test]
fn whatever_is_no_answer_is_a_no() {
    let back_end = BackEnd::new(yes);
    let server = Server::serve(&config(
        &back_end.url(),
        "timeout = '300ms'\nanswer_size_max = '1KB'\nfailures_max = 1000\ncache = '0s'",
    ));
    let mut client = server.connect("");
    let join_ref = client.join_ok("room");
    let mut check = |reply: fn() -> Reply, log: &str| {
        let before = server.stderr().len();
        back_end.set(move |_| reply());
        assert_eq!(status(&server, ""), 503, "{log}");
        refused(&client.join("other", json!({})), "unavailable");
        refused(&client.push(&join_ref, "room", "x", json!({})), "unavailable");
        // Of many lines in a second some are held back.
        wait_for(log, || status(&server, "") == 503 && server.stderr()[before..].contains(log));
    };
    check(|| Reply::Json(json!({})), "documented form");
    check(|| Reply::Json(json!({"allow": "yes"})), "documented form");
    check(|| Reply::Json(json!(true)), "documented form");
    check(|| Reply::Status(200, "<html>m4rk3r".into()), "documented form");
    check(|| Reply::Status(204, String::new()), "documented form");
    check(|| Reply::Status(403, r#"{"allow":true}"#.into()), "has the status 403");
    check(|| Reply::Status(500, r#"{"allow":true}"#.into()), "has the status 500");
    check(|| Reply::Raw("HTTP/1.1 302 Found\r\nlocation: /\r\ncontent-length: 0\r\n\r\n".into()), "redirect (302)");
    check(|| Reply::Raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{\"allow\":true}".into()), "breaks off");
    check(|| Reply::Raw("garbage\r\n\r\n".into()), "no connection");
    check(|| Reply::Endless, "more than 1000 bytes");
    check(|| Reply::HangUp, "no connection");
    check(|| Reply::Late(Duration::from_millis(1500), json!({"allow": true})), "no answer within 300ms");
    assert!(!server.stderr().contains("m4rk3r"));
    back_end.set(yes);
    assert_eq!(status(&server, ""), 101);
    assert_eq!(client.push(&join_ref, "room", "x", json!({}))["status"], "ok");
}

#[test]
fn a_slow_answer_holds_up_nobody_else() {
    let back_end = BackEnd::new(|request| match request.json()["topic"].as_str() {
        Some("slow") => Reply::Late(Duration::from_secs(3), json!({"allow": true})),
        _ => yes(request),
    });
    let server = Server::serve(&config(&back_end.url(), "timeout = '20s'"));
    let mut client = server.connect("");
    let started = Instant::now();
    client.send(json!(["1", "1", "slow", "phx_join", {}]));
    let join_ref = client.join_ok("quick");
    assert_eq!(client.push(&join_ref, "quick", "x", json!({}))["status"], "ok");
    server.connect("").join_ok("quick");
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
    assert_eq!(client.receive_event("phx_reply")["status"], "ok");
}

#[test]
fn answers_are_remembered() {
    let back_end = BackEnd::new(yes);
    let server = Server::serve(&config(&back_end.url(), "cache = '1s'"));
    let storm = |count: usize, token: &str| (0..count).for_each(|_| server.connect(token).join_ok("room").clear());
    storm(10, "token=a");
    assert_eq!((back_end.asked(), counter(&server, "cached"), counter(&server, "answered")), (2, 18, 2));
    storm(1, "token=b");
    assert_eq!(back_end.asked(), 3, "another token is another question");
    wait_for("the end of the answer", || {
        storm(1, "token=a");
        back_end.asked() > 3
    });
    // Messages are asked about each time.
    let mut client = server.connect("token=a");
    let join_ref = client.join_ok("room");
    let before = back_end.asked();
    for _ in 0..3 {
        assert_eq!(client.push(&join_ref, "room", "x", json!({}))["status"], "ok");
    }
    assert_eq!(back_end.asked(), before + 3);
}

#[test]
fn replies_and_failures_are_not_remembered() {
    let count = AtomicUsize::new(0);
    let back_end = BackEnd::new(move |request| match request.json()["type"].as_str() {
        Some("join") => Reply::Json(json!({"allow": true, "reply": {"n": count.fetch_add(1, Ordering::SeqCst)}})),
        _ => Reply::Status(500, String::new()),
    });
    let server = Server::serve(&format!(
        "[hook.h]\nurl = '{}'\ncache = '1h'\n[[channel]]\ntopic = '*'\njoin = 'hook:h'\npublish = 'hook:h'\n\
         [auth.a]\nkind = 'hook'\nhook = 'h'\n[[endpoint]]\n[[endpoint]]\npath = '/asked'\nauth = 'a'\n",
        back_end.url()
    ));
    for n in 0..3 {
        assert_eq!(server.connect("").join("room", json!({}))["response"], json!({ "n": n }));
    }
    let asked = || server.upgrade("/asked/websocket?vsn=2.0.0", &[]).map(drop);
    assert_eq!(asked(), Err(503));
    back_end.set(yes);
    assert_eq!(asked(), Ok(()));
}

#[test]
fn connections_end_when_the_answer_says() {
    let back_end = BackEnd::new(|_| Reply::Json(json!({"allow": true, "sub": "7", "expires_in": 1})));
    let server = Server::serve(&config(&back_end.url(), "cache = '1h'"));
    let started = Instant::now();
    assert_eq!(server.connect("").receive_close(), 1001);
    assert!((900..6000).contains(&started.elapsed().as_millis()), "{:?}", started.elapsed());
    // The answer was not kept for longer than it is good.
    server.connect("");
    assert_eq!(back_end.asked(), 2);
}

#[test]
fn credentials_by_message_are_asked_about_too() {
    let back_end = BackEnd::new(|request| match request.json()["token"].as_str() {
        Some("good" | "better") => Reply::Json(json!({"allow": true, "sub": "7"})),
        _ => Reply::Json(json!({"allow": request.json()["type"] == "join"})),
    });
    let config = config(&back_end.url(), "").replace("auth = 'users'", "auth = 'users'\ncredential_within = '9s'");
    let server = Server::serve(&config);
    let mut client = server.connect("");
    assert_eq!(back_end.asked(), 0);
    let mut show = |token: &str| {
        client.send(json!([null, "9", "phoenix", "access_token", {"access_token": token}]));
        client.receive_event("phx_reply")["status"].clone()
    };
    assert_eq!(
        (show("bad"), show("good"), show("better"), show("bad")),
        ("error".into(), "ok".into(), "ok".into(), "error".into())
    );
    client.join_ok("room");
    let asked: Vec<_> = back_end.requests().iter().map(Request::json).collect();
    let expected =
        json!({"type": "connect", "endpoint": "/socket", "token": "good", "params": {}, "peer": "127.0.0.1"});
    assert_eq!(asked[1], expected);
    assert_eq!(asked.last().unwrap()["claims"], json!({"sub": "7"}));
}

#[test]
fn a_back_end_that_is_down_is_left_alone_and_found_again() {
    let back_end = BackEnd::new(yes);
    let url = back_end.url();
    let server = Server::serve(&config(&url, "failures_max = 3\npause = '1s'\ncache = '0s'\ntimeout = '5s'"));
    let mut inside = server.connect("");
    let join_ref = inside.join_ok("room");
    let address = back_end.stop();
    for _ in 0..3 {
        assert_eq!(status(&server, ""), 503);
    }
    assert_eq!(health(&server), json!({"status": "degraded", "hooks": {"h": "unavailable"}}));
    let (failed, started) = (counter(&server, "failed"), Instant::now());
    assert_eq!(failed, 3);
    refused(&inside.push(&join_ref, "room", "x", json!({})), "unavailable");
    refused(&inside.join("other", json!({})), "unavailable");
    if started.elapsed() < Duration::from_millis(500) {
        assert_eq!((counter(&server, "paused"), counter(&server, "failed")), (2, 3));
    }
    let back_end = BackEnd::at(&address, yes);
    wait_for("the recovery", || status(&server, "") == 101);
    assert_eq!(inside.push(&join_ref, "room", "x", json!({}))["status"], "ok");
    assert_eq!(health(&server)["hooks"]["h"], "ok");
    let log = server.stderr();
    assert!(log.contains("left alone for a while") && log.contains("the hook answers again"), "{log}");
    assert!(back_end.asked() >= 2);
}

#[test]
fn while_it_is_left_alone_one_question_at_a_time_tries_it() {
    let back_end = BackEnd::new(|_| Reply::Status(503, String::new()));
    let server = Server::serve(&config(&back_end.url(), "failures_max = 2\npause = '400ms'\ncache = '0s'"));
    let deadline = Instant::now() + Duration::from_secs(2);
    let mut count = 0;
    while Instant::now() < deadline {
        assert_eq!(status(&server, ""), 503);
        count += 1;
        thread::sleep(Duration::from_millis(10));
    }
    // Two to open it, then one for each pause.
    let asked = back_end.asked();
    assert!((3..=8).contains(&asked) && count > 10, "{asked} of {count}");
}

#[test]
fn no_more_than_concurrency_max_are_under_way() {
    static NOW: AtomicUsize = AtomicUsize::new(0);
    static MOST: AtomicUsize = AtomicUsize::new(0);
    let back_end = BackEnd::new(|_| {
        MOST.fetch_max(NOW.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
        thread::sleep(Duration::from_millis(50));
        NOW.fetch_sub(1, Ordering::SeqCst);
        Reply::Json(json!({"allow": true, "sub": "7"}))
    });
    let server = Server::serve(&config(&back_end.url(), "concurrency_max = 2\ntimeout = '20s'\ncache = '0s'"));
    thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| assert_eq!(status(&server, ""), 101));
        }
    });
    assert_eq!(MOST.load(Ordering::SeqCst), 2);
    // Who waits too long is refused.
    back_end.set(|_| Reply::Late(Duration::from_secs(3), json!({"allow": true, "sub": "7"})));
    let server = Server::serve(&config(&back_end.url(), "concurrency_max = 1\ntimeout = '500ms'\ncache = '0s'"));
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| assert_eq!(status(&server, ""), 503));
        }
    });
    assert!(counter(&server, "busy") > 0);
}

#[test]
fn requests_are_signed() {
    let back_end = BackEnd::new(yes);
    let server = Server::serve_with(&config(&back_end.url(), "secret_env = 'HOOK_SECRET'"), |command| {
        command.env("HOOK_SECRET", SECRET);
    });
    server.connect("token=\u{e9}").join_ok("r\u{f6}\u{f6}m");
    let requests = back_end.requests();
    assert_eq!(requests.len(), 2);
    for request in &requests {
        assert_eq!(request.headers["webhook-signature"], signature_of(request, SECRET));
        assert_ne!(request.headers["webhook-signature"], signature_of(request, "another secret"));
        let time: u64 = request.headers["webhook-timestamp"].parse().unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        assert!(time.abs_diff(now) < 60, "{time} {now}");
    }
    assert_ne!(requests[0].headers["webhook-id"], requests[1].headers["webhook-id"]);
}

/// Row 23: what a client sends chooses no address.
#[test]
fn security_23_a_client_chooses_no_address() {
    let (back_end, trap) = (BackEnd::new(yes), BackEnd::agreeing());
    let server = Server::serve(&config(&back_end.url(), ""));
    let (address, url) = (&trap.address, trap.url());
    let mut client = server.connect(&format!("token={url}&url={url}&hook={url}&host={address}"));
    assert_eq!(client.join("room", json!({"url": url, "hook": url, "callback": url}))["status"], "ok");
    let _ = client.join(&url, json!({}));
    server.http("GET", "/socket/longpoll?vsn=2.0.0", &[("x-forwarded-host", address)], "");
    assert!(back_end.asked() >= 3);
    assert_eq!(trap.asked(), 0);
    for request in back_end.requests() {
        assert_eq!((&request.path[..], &request.headers["host"]), ("/fanfare", &back_end.address));
    }
}
