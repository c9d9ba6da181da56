//! Those who share a server, and what each of them may have of it.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Server, TOKEN, eventually, http};

const SECRET: &str = "a-shared-secret-of-more-than-thirty-two-bytes";

/// Tenants by the claim `org`, whose clients may join and say what they like.
fn file(quotas: &str) -> String {
    format!(
        "{quotas}\n[auth.j]\nkind = 'jwt'\nsecret = '{SECRET}'\nrequire_exp = false\n\
         [[endpoint]]\nauth = 'j'\ntenant = '{{org}}'\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n"
    )
}

fn serve(quotas: &str) -> Server {
    Server::serve_with(&file(quotas), |command| {
        command.env("ACME_TOKEN", "a-token-of-the-back-end-of-acme");
    })
}

/// The query of a client of a tenant.
fn of(tenant: &str) -> String {
    with(&json!({ "org": tenant }))
}

fn with(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    format!("token={}", jsonwebtoken::encode(&Default::default(), claims, &key).unwrap())
}

/// A request to connect, as it is answered.
fn refused(server: &Server, query: &str) -> crate::support::Answer {
    http(&server.address, "GET", &format!("/socket/longpoll?vsn=2.0.0&{query}"), &[], "")
}

/// The last fact of a kind, which has a next step that names the section.
#[track_caller]
fn why(server: &Server, kind: &str, reason: &str, detail: &str) {
    let facts = server.api("GET", &format!("/api/why?kind={kind}"), &json!(null)).json()["facts"].take();
    let fact = facts.as_array().unwrap().iter().find(|fact| fact["reason"] == reason);
    let fact = fact.unwrap_or_else(|| panic!("{facts}"));
    assert!(fact["detail"].as_str().unwrap().contains(detail), "{fact}");
    assert!(fact["next"].as_str().unwrap().contains("[tenant]"), "{fact}");
    let line = server.wait_for_stderr(|log| log.contains(&format!("reason=\"{reason}\"")).then_some(()));
    assert!(line.is_some(), "{}", server.stderr());
}

fn metrics(server: &Server) -> String {
    let bearer = format!("Bearer {TOKEN}");
    http(&server.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body
}

#[track_caller]
fn told(server: &Server, lines: &[&str]) {
    let metrics = metrics(server);
    for line in lines {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[test]
fn a_tenant_has_so_many_sockets_and_joins_and_takes_none_of_others() {
    let server = serve("[tenant]\nsockets_max = 2\njoins_max = 3\n[tenant.large]\nsockets_max = 3");
    let mut clients: Vec<_> = (0..2).map(|_| server.connect(&of("acme"))).collect();
    let answer = refused(&server, &of("acme"));
    assert_eq!((answer.status, &answer.headers["retry-after"][..]), (429, "1"), "{answer:?}");
    assert_eq!(answer.body, "quota: the tenant \"acme\" has all of its 2 sockets (sockets_max)");
    assert_eq!(server.try_connect(&of("acme")).err(), Some(429));
    let large: Vec<_> = (0..3).map(|_| server.connect(&of("large"))).collect();
    assert_eq!(server.try_connect(&of("large")).err(), Some(429));
    why(&server, "refused", "refused_quota", "all of its 3 sockets");
    // Whoever does not say whose client it is has no part in anything.
    assert_eq!(server.try_connect(&with(&json!({}))).err(), Some(403));

    let join = |client: &mut Client, topic: &str| client.join(topic, json!({}))["response"]["reason"].clone();
    clients[0].join_ok("a");
    let left = clients[0].join_ok("b");
    clients[1].join_ok("a");
    // Once more is no more.
    clients[1].join_ok("a");
    assert_eq!(join(&mut clients[1], "b"), "quota exceeded");
    why(&server, "limited", "tenant_joins_max_refused", "have joined 3 topics (joins_max)");
    clients[0].push(&left, "b", "phx_leave", json!({}));
    clients[1].join_ok("b");
    told(
        &server,
        &[
            "fanfare_limit{limit=\"tenant_joins_max\"} 3",
            "fanfare_limited_total{limit=\"tenant_joins_max\",action=\"refused\"} 1",
            "fanfare_joins_total{channel=\"*\",result=\"tenant_joins_max_refused\"} 1",
            "fanfare_connections_refused_total{reason=\"quota\"} 3",
            "fanfare_tenant_sockets{tenant=\"acme\"} 2",
            "fanfare_tenant_sockets{tenant=\"large\"} 3",
            "fanfare_tenant_messages_total{tenant=\"large\",direction=\"in\"} 0",
        ],
    );
    // What ends is given back, joins with their socket.
    drop((large, clients.remove(0)));
    eventually(|| server.try_connect(&of("acme")).is_ok());
    eventually(|| join(&mut clients[0], "c") == Value::Null);
}

#[test]
fn a_tenant_says_and_publishes_so_much() {
    let token = "[[admin.token]]\nname = 'acme'\ntoken_env = 'ACME_TOKEN'\nmay = ['publish']\ntenant = 'acme'\n";
    let server = serve(&format!("[tenant.acme]\npublishes_per_s = 1\n[tenant.loud]\nmessages_per_s = 1\n{token}"));
    let say = |tenant: &str| {
        let mut client = server.connect(&of(tenant));
        let join_ref = client.join_ok("room:1");
        let replies: Vec<_> = (0..5).map(|_| client.push(&join_ref, "room:1", "new_msg", json!({}))).collect();
        let refused: Vec<_> = replies.into_iter().filter(|reply| reply["status"] == "error").collect();
        for reply in &refused {
            assert_eq!(reply["response"]["reason"], "quota exceeded");
            assert!((1..=1_000).contains(&reply["response"]["retry_after_ms"].as_u64().unwrap()), "{reply}");
        }
        refused.len()
    };
    assert_eq!(say("free"), 0);
    assert!((1..=3).contains(&say("loud")) && (1..=3).contains(&say("acme")));
    why(
        &server,
        "limited",
        "tenant_messages_per_s_refused",
        "\"loud\" than messages_per_s allows, which is 1 a second",
    );
    why(&server, "limited", "tenant_publishes_per_s_refused", "\"acme\" than publishes_per_s allows");

    let message = json!({ "topic": "room:1", "event": "m", "payload": {} });
    let body = json!({ "messages": [message, message, message] }).to_string();
    let headers = [("authorization", "Bearer a-token-of-the-back-end-of-acme"), ("content-type", "application/json")];
    let before = server.counter("messages", "published");
    let answer = http(&server.admin(), "POST", "/api/publish", &headers, &body);
    assert_eq!((answer.status, &answer.json()["error"]["code"]), (429, &json!("quota")), "{answer:?}");
    assert!(["1", "2", "3"].contains(&answer.headers["retry-after"].as_str()), "{answer:?}");
    assert_eq!(server.counter("messages", "published"), before, "nothing of it");
    // Those of nobody in particular take nothing of it.
    assert_eq!(server.api("POST", "/api/publish", &json!({ "messages": [message, message, message] })).status, 200);
    told(&server, &["fanfare_tenant_messages_total{tenant=\"loud\",direction=\"in\"} 6"]);
}

#[test]
fn paths_and_hosts_name_tenants_and_those_that_cannot_answer_are_paced() {
    let server = Server::serve(
        "[tenant]\nsockets_max = 1\npublishes_per_s = 10\ntenants_max = 2\n\
         [[endpoint]]\npath = '/of/:org'\ntenant = ':org'\n\
         [[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\ntenant = 'host'\norigins = 'any'\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n",
    );
    let _first = server.upgrade("/of/one/websocket?vsn=2.0.0", &[]).unwrap();
    // A parameter of the same name says nothing.
    assert_eq!(server.upgrade("/of/one/websocket?vsn=2.0.0&org=two", &[]).err(), Some(429));
    let mut talker = server.upgrade("/rooms", &[]).unwrap();
    assert_eq!(server.upgrade("/rooms", &[]).err(), Some(429));
    talker.send_text(r#"{"join":"lobby"}"#);
    let begun = Instant::now();
    for n in 0..24 {
        talker.send_text(&format!(r#"{{"say":"{n}","to":"lobby"}}"#));
    }
    for n in 0..24 {
        assert_eq!(talker.receive_text(), n.to_string());
    }
    // Beyond the burst of 20 each takes a tenth of a second.
    assert!(begun.elapsed() >= Duration::from_millis(250), "{:?}", begun.elapsed());
    let facts = server.api("GET", "/api/why?kind=limited", &json!(null)).json()["facts"].take();
    assert_eq!(facts[0]["reason"], "tenant_publishes_per_s_paced", "{facts}");
    // There are two already: the next ones are one together.
    let _third = server.upgrade("/of/three/websocket?vsn=2.0.0", &[]).unwrap();
    assert_eq!(server.upgrade("/of/four/websocket?vsn=2.0.0", &[]).err(), Some(429));
    told(
        &server,
        &[
            "fanfare_tenant_sockets{tenant=\"127.0.0.1\"} 1",
            "fanfare_tenant_sockets{tenant=\"other\"} 1",
            "fanfare_limited_total{limit=\"tenants_max\",action=\"passed\"} 2",
        ],
    );
}

#[test]
fn a_tenant_is_sent_so_much_a_day_and_loses_nothing_in_silence() {
    let server = serve("[tenant.acme]\nbytes_out_per_day = '2KB'");
    let mut client = server.connect(&of("acme"));
    let join_ref = client.join_ok("room:1");
    let mut other = server.connect(&of("free"));
    let of_other = other.join_ok("room:1");
    let text = "x".repeat(500);
    // What is published by others reaches it whatever it may have.
    for n in 0..6 {
        other.push(&of_other, "room:1", "m", json!({ "n": n, "text": text }));
        assert_eq!(client.receive_event("m")["n"], n);
    }
    let reply = client.push(&join_ref, "room:1", "m", json!({}));
    assert_eq!(reply["response"]["reason"], "quota exceeded", "{reply}");
    assert!(reply["response"]["retry_after_ms"].as_u64().unwrap() <= 86_400_000, "{reply}");
    assert_eq!(client.join("room:2", json!({}))["response"]["reason"], "quota exceeded");
    let answer = refused(&server, &of("acme"));
    assert!(answer.status == 429 && answer.body.contains("all of its 2000 bytes of today"), "{answer:?}");
    assert!((1..=86_400).contains(&answer.headers["retry-after"].parse().unwrap()), "{answer:?}");
    why(&server, "limited", "tenant_bytes_out_per_day_refused", "(bytes_out_per_day)");
    // Another quota counts at once.
    server.rewrite(&file("[tenant.acme]\nbytes_out_per_day = '1MB'"));
    assert_eq!(server.reload().json()["changed"], json!(["tenant.acme.bytes_out_per_day"]));
    client.join_ok("room:2");
    assert_eq!(client.push(&join_ref, "room:1", "m", json!({}))["status"], "ok");
}

#[test]
fn hosts_that_are_made_up_keep_no_place_from_a_customer() {
    let server = Server::serve(
        "[tenant]\npublishes_per_s = 100\ntenants_max = 3\n[[endpoint]]\ntenant = 'host'\norigins = 'any'\n\
         [[endpoint]]\npath = '/of/:org'\ntenant = ':org'\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n",
    );
    let connect = |host: &str| server.upgrade("/socket/websocket?vsn=2.0.0", &[("host", host)]);
    for n in 0..6 {
        let mut client = connect(&format!("made-up-{n}.example")).unwrap();
        client.heartbeat();
        drop(client);
        eventually(|| {
            !metrics(&server).lines().any(|line| line.starts_with("fanfare_tenant_sockets{") && !line.ends_with(" 0.0"))
        });
    }
    let _customer = connect("customer.example").unwrap();
    told(
        &server,
        &["fanfare_tenant_sockets{tenant=\"customer.example\"} 1", "fanfare_tenant_sockets{tenant=\"other\"} 0"],
    );
    // Nobody is what those are called who have no place.
    assert_eq!(connect("Other:80").err(), Some(403));
    let answer = server.http("GET", "/of/other/longpoll?vsn=2.0.0", &[], "");
    assert!(answer.status == 403 && answer.body.contains("other than \"other\""), "{answer:?}");
}
