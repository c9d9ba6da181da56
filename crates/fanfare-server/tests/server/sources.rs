//! Messages from Redis, PostgreSQL and NATS, which are killed and come back in the middle of it.

use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::{Value, json};

use crate::services::{Service, nats, postgres, redis};
use crate::support::{Client, Server, TOKEN, eventually, http};

/// A server with one source, and a Phoenix endpoint where everything can be joined.
fn server(source: &str) -> Server {
    Server::serve(&format!(
        "[source.main]\n{source}\n[[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/websocket'\nprotocol = 'bullet'\nauth = 'none'\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\n"
    ))
}

fn health(server: &Server) -> Value {
    server.api("GET", "/api/health", &json!(null)).json()["sources"]["main"].clone()
}

fn counter(server: &Server, reason: &str) -> u64 {
    server.counter("sources.main", reason)
}

fn is_connected(server: &Server) {
    eventually(|| health(server) == "ok");
}

/// Kills a service in the middle, and looks at what clients notice: nothing.
fn survives(server: &Server, client: &mut Client, service: &mut Service, send: impl Fn(&Service, &str)) {
    let envelope = |n: u32| json!({"topic": "t", "event": "e", "payload": {"n": n}}).to_string();
    is_connected(server);
    send(service, &envelope(1));
    assert_eq!(client.receive_event("e"), json!({"n": 1}));
    for n in 2..4 {
        service.kill();
        eventually(|| health(server) == "unavailable");
        client.heartbeat();
        service.restart();
        is_connected(server);
        // What is sent in the same moment may come too early for a subscription.
        send(service, &envelope(n));
        assert_eq!(client.receive_event("e"), json!({"n": n}));
    }
    let status = server.api("GET", "/api/health", &json!(null)).json();
    assert_eq!(status["status"], "ok");
    assert_eq!(counter(server, "lost_connections"), 2);
    for (poison, reason) in [("nonsense", "skipped_malformed"), (r#"{"topic":"","event":"e"}"#, "skipped_bad_topic")] {
        send(service, poison);
        eventually(|| counter(server, reason) == 1);
    }
    send(service, &envelope(9));
    assert_eq!(client.receive_event("e"), json!({"n": 9}));
    assert!(!server.stderr().contains("nonsense"), "no content in the log");
}

fn member(server: &Server, topic: &str) -> Client {
    let mut client = server.connect("");
    client.join_ok(topic);
    client
}

#[test]
fn bridge_10_security_32_redis_channels_and_patterns() {
    let mut service = redis::start();
    let url = service.redis_url();
    let server =
        server(&format!("kind = 'redis'\nurl = '{url}'\nchannels = ['my_channel', 'a*b']\npatterns = ['p.*']"));
    let mut client = member(&server, "t");
    survives(&server, &mut client, &mut service, |service, body| drop(service.redis(&["PUBLISH", "my_channel", body])));
    let body = json!({"topic": "t", "event": "e", "payload": {"by": "pattern"}}).to_string();
    assert_eq!(service.redis(&["PUBLISH", "axb", &body]), "0", "a channel is no pattern");
    assert_eq!(service.redis(&["PUBLISH", "a*b", &body]), "1");
    assert_eq!(client.receive_event("e"), json!({"by": "pattern"}));
    assert_eq!(service.redis(&["PUBLISH", "p.x", &body]), "1");
    assert_eq!(client.receive_event("e"), json!({"by": "pattern"}));
}

#[test]
fn bridge_5_bridge_6_bridge_7_recipients_get_theirs_in_order() {
    let service = redis::start();
    let source = "kind = 'redis'\nchannels = 'my_channel'\nroute = 'recipients'";
    let server = server(&format!("{source}\nurl = '{}'", service.redis_url()));
    is_connected(&server);
    let mut clients = ["k1", "k2", "k2"].map(|key| server.upgrade(&format!("/websocket?{key}"), &[]).unwrap());
    eventually(|| {
        let topics = server.api("GET", "/api/topics", &json!(null)).json();
        topics["topics"].as_array().unwrap().iter().any(|entry| entry["topic"] == "bridge" && entry["members"] == 3)
    });
    let publish = |body: &str| service.redis(&["PUBLISH", "my_channel", body]);
    for n in 0..50 {
        publish(&format!(r#"{{"recipients":["k1"],"data":{{"n":{n}, "to":"k1"}}}}"#));
        publish(&format!(r#"{{"data":{{"n":{n}}}}}"#));
        publish(&format!(r#"{{"data":{{"n": {n}}}, "recipients":["k2","offline","k1"]}}"#));
    }
    let all = |n: u32| format!(r#"{{"data":{{"n":{n}}}}}"#);
    let two = |n: u32| format!(r#"{{"data":{{"n": {n}}}}}"#);
    for n in 0..50 {
        assert_eq!(clients[0].receive_text(), format!(r#"{{"data":{{"n":{n}, "to":"k1"}}}}"#));
        for client in &mut clients {
            assert_eq!(client.receive_text(), all(n));
            assert_eq!(client.receive_text(), two(n));
        }
    }
}

#[test]
fn bridge_4_bridge_8_redis_is_told_of_clients() {
    let mut service = redis::start();
    let url = service.redis_url();
    let server = Server::serve(&format!(
        "[bridge]\nurl = '{url}'\nforward = 'from_clients'\n\
         [source.connected]\nkind = 'redis'\nurl = '{url}'\nchannels = ['connected', 'disconnected', 'from_clients']\n\
         route = 'channel'\ntopic = 'told'\n\
         [[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/websocket'\nprotocol = 'bullet'\nauth = 'none'\n\
         [[channel]]\ntopic = 'told'\njoin = 'open'\n"
    ));
    let health = || server.api("GET", "/api/health", &json!(null)).json()["status"].clone();
    eventually(|| health() == "ok");
    let mut told = member(&server, "told");
    let open = || server.upgrade("/websocket?k1", &[]).unwrap();
    let mut first = open();
    assert_eq!(told.receive_event("message"), json!({"text": "k1"}), "connected");
    let second = open();
    first.send_text("ping");
    assert_eq!(first.receive_text(), "heartbeat message");
    first.send_text("anything else");
    let forwarded = json!({"key": "k1", "data": "anything else"});
    assert_eq!(told.receive_event("message"), forwarded, "the second connect is no news, nor is a ping");
    drop(second);
    told.expect_silence();
    drop(first);
    assert_eq!(told.receive_event("message"), json!({"text": "k1"}), "disconnected");

    service.kill();
    eventually(|| health() == "degraded");
    let _waits = server.upgrade("/websocket?k2", &[]).unwrap();
    told.heartbeat();
    service.restart();
    eventually(|| health() == "ok");
    // It waited, if only for the source to be back before it.
    let third = server.upgrade("/websocket?k3", &[]).unwrap();
    let mut seen = vec![told.receive_event("message")];
    while seen.last() != Some(&json!({"text": "k3"})) {
        seen.push(told.receive_event("message"));
    }
    drop(third);
}

#[test]
fn redis_streams_are_acknowledged_once_published() {
    let mut service = redis::start();
    let source = format!(
        "kind = 'redis_stream'\nurl = '{}'\nchannels = ['s1', 's2']\ngroup = 'g'\npark = 'parked'",
        service.redis_url()
    );
    // Before anybody reads.
    let add = |service: &Service, body: &str| service.redis(&["XADD", "s1", "*", "data", body]);
    let envelope = |n: u32| json!({"topic": "t", "event": "e", "payload": {"n": n}}).to_string();
    let first = server(&source);
    let mut client = member(&first, "t");
    is_connected(&first);
    add(&service, &envelope(1));
    assert_eq!(client.receive_event("e"), json!({"n": 1}));
    // One that has waited for a minute.
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
    let id = format!("{}-0", (now - Duration::from_secs(60)).as_millis());
    service.redis(&["XADD", "s2", &id, "data", &envelope(1)]);
    assert_eq!(client.receive_event("e"), json!({"n": 1}));
    eventually(|| {
        let bearer = format!("Bearer {TOKEN}");
        let metrics = http(&first.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body;
        let lag = metrics
            .lines()
            .find_map(|line| line.strip_prefix("fanfare_source_lag_seconds{source=\"")?.split_once("\"} "));
        lag.is_some_and(|(_, lag)| (60.0..120.0).contains(&lag.parse().unwrap()))
    });
    add(&service, "poison");
    eventually(|| service.redis(&["XLEN", "parked"]) == "1");
    assert!(service.redis(&["XRANGE", "parked", "-", "+"]).contains("poison"));
    eventually(|| service.redis(&["XPENDING", "s1", "g"]).starts_with('0'));

    service.kill();
    eventually(|| health(&first) == "unavailable");
    client.heartbeat();
    service.restart();
    for n in 2..5 {
        add(&service, &envelope(n));
    }
    for n in 2..5 {
        assert_eq!(client.receive_event("e"), json!({"n": n}), "nothing of a stream is lost");
    }
    // What is published but not acknowledged yet comes again, from whoever takes it over.
    eventually(|| service.redis(&["XPENDING", "s1", "g"]).starts_with('0'));
    drop(first);
    // Another consumer has taken an entry and died before it acknowledged it.
    add(&service, &envelope(5));
    assert!(service.redis(&["XREADGROUP", "GROUP", "g", "dead", "STREAMS", "s1", ">"]).contains("\"n\":5"));
    let second = server(&source);
    let mut client = member(&second, "t");
    add(&service, &envelope(6));
    assert_eq!(client.receive_event("e"), json!({"n": 6}));
    client.set_patience(Duration::from_secs(40));
    assert_eq!(client.receive_event("e"), json!({"n": 5}), "it is taken over");
    eventually(|| service.redis(&["XPENDING", "s1", "g"]).starts_with('0'));
}

#[test]
fn nats_subjects() {
    let mut service = nats::start();
    let server = server(&format!("kind = 'nats'\nurl = '{}'\nchannels = ['a.*', 'b.>']", service.nats_url()));
    let mut client = member(&server, "t");
    survives(&server, &mut client, &mut service, |service, body| service.nats_publish("a.x", body));
    let body = json!({"topic": "t", "event": "e", "payload": {"n": 10}}).to_string();
    service.nats_publish("a.x.y", &body);
    service.nats_publish("b.x.y", &body);
    assert_eq!(client.receive_event("e"), json!({"n": 10}));
    client.heartbeat();
}

#[test]
fn postgres_notifications() {
    let mut service = postgres::start();
    service.wait_for_sql();
    let channels = r#"channels = ['news', 'Odd "name"']"#;
    let server = server(&format!("kind = 'postgres'\nurl = '{}'\n{channels}", service.postgres_url()));
    let mut client = member(&server, "t");
    survives(&server, &mut client, &mut service, |service, body| {
        service.wait_for_sql();
        service.sql(&format!("SELECT pg_notify('news', '{body}')"));
    });
    service.sql(r#"SELECT pg_notify('Odd "name"', '{"topic":"t","event":"e"}')"#);
    assert_eq!(client.receive_event("e"), json!({}));
}

#[test]
fn an_outbox_is_published_once_and_in_order_by_several_servers() {
    let mut service = postgres::start();
    service.wait_for_sql();
    let source = format!("kind = 'outbox'\nurl = '{}'\ntable = 'public.messages'", service.postgres_url());
    let servers = [server(&source), server(&source)];
    servers.iter().for_each(is_connected);
    let insert = |service: &Service, from: u32, to: u32| {
        service.sql(&format!(
            "INSERT INTO messages (topic, event, payload) SELECT 't', 'e', jsonb_build_object('n', n) \
             FROM generate_series({from}, {to}) n; NOTIFY public_messages"
        ));
    };
    // Whichever of the two publishes a row, its own members get it.
    let mut clients = servers.each_ref().map(|server| member(server, "t"));
    let collect = |clients: &mut [Client; 2], expected: usize| -> Vec<Vec<u64>> {
        eventually(|| servers.iter().map(|server| counter(server, "published")).sum::<u64>() == expected as u64);
        let published = servers.each_ref().map(|server| counter(server, "published"));
        let read = |(client, count): (&mut Client, u64)| {
            (0..count).map(|_| client.receive_event("e")["n"].as_u64().unwrap()).collect()
        };
        clients.iter_mut().zip(published).map(read).collect()
    };
    for batch in 0..20 {
        insert(&service, batch * 50 + 1, batch * 50 + 50);
    }
    let mut got = collect(&mut clients, 1_000);
    for numbers in &got {
        assert!(numbers.is_sorted(), "{numbers:?}");
    }
    let mut all: Vec<u64> = got.drain(..).flatten().collect();
    all.sort_unstable();
    assert_eq!(all, (1..=1_000).collect::<Vec<_>>(), "each once");
    assert_eq!(service.sql("SELECT count(*) FROM messages WHERE published_at IS NULL"), "0");

    service.kill();
    eventually(|| servers.iter().all(|server| health(server) == "unavailable"));
    clients.iter_mut().for_each(Client::heartbeat);
    service.restart();
    service.wait_for_sql();
    insert(&service, 1_001, 1_001);
    eventually(|| servers.iter().map(|server| counter(server, "published")).sum::<u64>() == 1_001);
    service.sql("INSERT INTO messages (topic, event) VALUES ('t', 'phx_close'), ('', 'e')");
    eventually(|| servers.iter().map(|server| counter(server, "skipped_malformed")).sum::<u64>() == 2);
    thread::sleep(Duration::from_millis(100));
    assert_eq!(service.sql("SELECT count(*) FROM messages WHERE published_at IS NULL"), "0", "poison is marked too");
}
