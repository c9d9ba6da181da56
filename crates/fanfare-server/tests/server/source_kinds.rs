//! Sources more closely: what each kind promises beyond `sources.rs`, and who is told of connections.

use std::collections::BTreeSet;
use std::time::Instant;

use serde_json::{Value, json};

use crate::services::{Service, nats, postgres, redis as redis_server};
use crate::support::{Client, PATIENCE, Server, eventually};
use crate::users;

const CHANNEL: &str = "[[channel]]\ntopic = ['*']\njoin = 'open'\n";

fn serve(source: &str) -> Server {
    Server::serve(&format!("{CHANNEL}\n[source.main]\n{source}"))
}

fn health(server: &Server) -> Value {
    server.api("GET", "/api/health", &Value::Null).json()
}

#[track_caller]
fn is_up(server: &Server) {
    eventually(|| health(server)["sources"]["main"] == "ok");
}

#[track_caller]
fn is_down(server: &Server) {
    eventually(|| health(server)["sources"]["main"] == "unavailable");
    assert_eq!(health(server)["status"], "degraded");
}

/// What was counted of the source.
fn count(server: &Server, reason: &str) -> u64 {
    server.counter("sources.main", reason)
}

fn started_postgres() -> Service {
    let postgres = postgres::start();
    postgres.wait_for_sql();
    postgres
}

/// The payload of the next message of an event.
#[track_caller]
fn next(client: &mut Client, event: &str) -> Value {
    client.receive_event(event)
}

fn envelope(topic: &str, payload: Value) -> String {
    json!({"topic": topic, "event": "e", "payload": payload}).to_string()
}

#[test]
fn security_32_redis_channels_and_patterns() {
    let redis = redis_server::start();
    let source = format!(
        "kind = 'redis'\nurl = '{}'\nchannels = ['news', 'a*b?[c]']\npatterns = ['p.*']\n\
         route = 'channel'\ntopic = 'from:{{channel}}'\nevent = 'e'",
        redis.redis_url()
    );
    let server = serve(&source);
    is_up(&server);
    let mut client = server.connect("");
    for topic in ["from:news", "from:a*b?[c]", "from:p.x", "from:axbyc"] {
        client.join_ok(topic);
    }
    // Glob characters in a channel are characters: nobody listens where they would match.
    assert_eq!(redis.redis_publish("axbyc", "{}"), 0);
    assert_eq!(redis.redis_publish("a*b?[c]", r#"{"n": 1, "a": 2.50}"#), 1);
    assert!(client.receive_text_with("\"e\"").ends_with(r#""from:a*b?[c]","e",{"n": 1, "a": 2.50}]"#));
    redis.redis_publish("p.x", "plain");
    assert_eq!(next(&mut client, "e"), json!({"text": "plain"}));
    redis.redis_publish("p.\n", "{}");
    redis.redis_publish("news", "[1]");
    assert_eq!(next(&mut client, "e"), json!({"value": [1]}));
    assert_eq!(count(&server, "skipped_bad_topic"), 1);
    assert_eq!((count(&server, "received"), count(&server, "published")), (4, 3));
}

#[test]
fn bridge_10_redis_dies_and_comes_back() {
    let mut redis = redis_server::start();
    let server = serve(&format!("kind = 'redis'\nurl = '{}'\nchannels = 'c'", redis.redis_url()));
    is_up(&server);
    let mut client = server.connect("");
    client.join_ok("t");
    redis.redis_publish("c", &envelope("t", json!({"n": 1})));
    assert_eq!(next(&mut client, "e"), json!({"n": 1}));
    redis.kill();
    is_down(&server);
    client.heartbeat();
    // Longer than a driver that gives up would try.
    std::thread::sleep(std::time::Duration::from_secs(3));
    redis.restart();
    let back = Instant::now();
    is_up(&server);
    assert!(back.elapsed().as_secs() < 3, "{:?}", back.elapsed());
    redis.redis_publish("c", &envelope("t", json!({"n": 2})));
    assert_eq!(next(&mut client, "e"), json!({"n": 2}));
    assert_eq!(count(&server, "lost_connections"), 1);
    assert_eq!(health(&server)["status"], "ok");
    let log = server.stderr();
    assert!(log.contains("a source is lost") && log.contains("a source is connected"), "{log}");
}

#[test]
fn bridge_5_bridge_6_recipients_in_the_order_of_redis() {
    let redis = redis_server::start();
    let server =
        serve(&format!("kind = 'redis'\nurl = '{}'\nchannels = 'my_channel'\nroute = 'recipients'", redis.redis_url()));
    is_up(&server);
    let [mut ada, mut bob] = ["ada", "bob"].map(|name| {
        let mut client = server.connect("");
        client.join_ok(&format!("bridge:{name}"));
        client.join_ok("bridge");
        client
    });
    redis.redis_publish("my_channel", r#"{"recipients":["ada","nobody",5],"data":{"n":0}}"#);
    assert_eq!(next(&mut ada, "message"), json!({"data": {"n": 0}}));
    // By turns for all, for one, for the other: a lone connection keeps them together, so that they leave in one turn.
    let mut connection = redis.redis_connect("");
    let mut pipe = redis::pipe();
    for n in 1..=300 {
        let message = match n % 3 {
            0 => json!({"data": {"n": n}}),
            1 => json!({"recipients": ["ada", "bob"], "data": {"n": n}}),
            _ => json!({"recipients": [if n % 2 == 0 { "ada" } else { "bob" }], "data": {"n": n}}),
        };
        pipe.cmd("PUBLISH").arg("my_channel").arg(message.to_string()).ignore();
    }
    pipe.query::<()>(&mut connection).unwrap();
    for (client, skipped) in [(&mut ada, 1), (&mut bob, 0)] {
        for n in (1..=300).filter(|n| n % 3 != 2 || n % 2 != skipped) {
            assert_eq!(next(client, "message"), json!({"data": {"n": n}}));
        }
    }
    assert_eq!(count(&server, "skipped_bad_topic"), 1);
}

#[test]
fn bridge_10_security_47_poisoned_messages_harm_nothing() {
    let redis = redis_server::start();
    let source = format!("kind = 'redis'\nurl = '{}'\nchannels = 'c'\nmessage_size_max = 1000", redis.redis_url());
    let server = serve(&source);
    is_up(&server);
    let mut client = server.connect("");
    client.join_ok("t");
    let large = envelope("t", json!({"x": "y".repeat(1000)}));
    for poison in ["", "m4rk3r", "{", "[]", r#"{"topic":"t"}"#, r#"{"topic":"","event":"e"}"#, &large] {
        redis.redis_publish("c", poison);
    }
    redis.redis_publish("c", &envelope("t", json!({"n": 1})));
    assert_eq!(next(&mut client, "e"), json!({"n": 1}));
    for (reason, expected) in [("malformed", 5), ("bad_topic", 1), ("too_large", 1), ("overrun", 0)] {
        assert_eq!(count(&server, &format!("skipped_{reason}")), expected, "{reason}");
    }
    let log = server.stderr();
    assert!(log.contains("a message of a source was not published") && !log.contains("m4rk3r"), "{log}");
}

#[test]
fn streams_are_acknowledged_and_parked() {
    let mut redis = redis_server::start();
    let source = format!(
        "kind = 'redis_stream'\ngroup = 'fanfare'\nfield = 'message'\nurl = '{}'\nchannels = ['s', 'u']\nclaim_after = '200ms'\npark = 'parked'",
        redis.redis_url()
    );
    let server = serve(&source);
    is_up(&server);
    let mut client = server.connect("");
    client.join_ok("t");
    let add = |redis: &Service, stream: &str, message: &str| {
        redis.redis_query::<String>(&["XADD", stream, "*", "message", message]);
    };
    add(&redis, "s", &envelope("t", json!({"n": 1})));
    assert_eq!(next(&mut client, "e"), json!({"n": 1}));
    add(&redis, "u", "poison");
    add(&redis, "u", &envelope("t", json!({"n": 2})));
    assert_eq!(next(&mut client, "e"), json!({"n": 2}));
    eventually(|| redis.redis_query::<Vec<redis::Value>>(&["XPENDING", "u", "fanfare", "-", "+", "9"]).is_empty());
    let parked: redis::Value = redis.redis_query(&["XRANGE", "parked", "-", "+"]);
    let parked = format!("{parked:?}");
    assert!(parked.contains("poison") && parked.contains("malformed"), "{parked}");
    // What a consumer took that is gone comes again.
    add(&redis, "s", &envelope("t", json!({"n": 3})));
    assert_eq!(next(&mut client, "e"), json!({"n": 3}));
    server_takes_over(&redis, &mut client);
    redis.kill();
    is_down(&server);
    redis.restart();
    // Nothing is lost that comes before the server is back.
    add(&redis, "s", &envelope("t", json!({"n": 6})));
    assert_eq!(next(&mut client, "e"), json!({"n": 6}));
    let consumers = || redis.redis_query::<Vec<redis::Value>>(&["XINFO", "CONSUMERS", "s", "fanfare"]).len();
    let before = consumers();
    assert!(server.terminate().success());
    assert_eq!(consumers(), before - 1, "a server that ends leaves its group");
}

/// Another consumer takes entries and does not come back.
fn server_takes_over(redis: &Service, client: &mut Client) {
    let transaction = redis::pipe()
        .atomic()
        .cmd("XADD")
        .arg(&["s", "*", "message", &envelope("t", json!({"n": 5}))])
        .cmd("XREADGROUP")
        .arg(&["GROUP", "fanfare", "dead", "STREAMS", "s", ">"])
        .query::<redis::Value>(&mut redis.redis_connect(""))
        .unwrap();
    assert!(format!("{transaction:?}").contains("dead") || format!("{transaction:?}").contains("message"));
    assert_eq!(next(client, "e"), json!({"n": 5}));
    eventually(|| redis.redis_query::<Vec<redis::Value>>(&["XPENDING", "s", "fanfare", "-", "+", "9"]).is_empty());
}

/// Servers are killed while they read; the last one gets exactly what none of them had acknowledged.
#[test]
fn streams_lose_nothing_when_servers_are_killed() {
    let redis = redis_server::start();
    let source = format!(
        "kind = 'redis_stream'\ngroup = 'fanfare'\nfield = 'message'\nurl = '{}'\nchannels = 's'\nclaim_after = '200ms'\nbatch = 100\nstart = 'oldest'",
        redis.redis_url()
    );
    let add = |from: u64, to: u64| {
        let mut pipe = redis::pipe();
        for n in from..to {
            pipe.cmd("XADD").arg(&["s", "*", "message", &envelope("t", json!({ "n": n }))]).ignore();
        }
        pipe.query::<()>(&mut redis.redis_connect("")).unwrap();
    };
    let pending =
        || redis.redis_query::<(u64, redis::Value, redis::Value, redis::Value)>(&["XPENDING", "s", "fanfare"]).0;
    let read = || {
        let groups: redis::streams::StreamInfoGroupsReply = redis.redis_query(&["XINFO", "GROUPS", "s"]);
        groups.groups[0].entries_read.unwrap_or_default() as u64
    };
    add(0, 100);
    for round in 1..4 {
        let server = serve(&source);
        is_up(&server);
        add(round * 500, round * 500 + 500);
        drop(server); // As `kill -9` does it.
    }
    add(1_600, 3_000);
    let total: u64 = redis.redis_query(&["XLEN", "s"]);
    let acknowledged = read() - pending();
    let server = serve(&source);
    eventually(|| pending() == 0 && read() == total);
    assert_eq!(count(&server, "received"), total - acknowledged);
}

#[test]
fn postgres_notifications_and_its_death() {
    let mut postgres = started_postgres();
    let source = format!("kind = 'postgres'\nurl = '{}'\nchannels = ['c', 'Odd \"name\"']", postgres.postgres_url());
    let server = serve(&source);
    is_up(&server);
    let mut client = server.connect("");
    client.join_ok("t");
    postgres.sql(&format!("NOTIFY c, '{}'", envelope("t", json!({"n": 1}))));
    assert_eq!(next(&mut client, "e"), json!({"n": 1}));
    postgres.sql(&format!("NOTIFY \"Odd \"\"name\"\"\", '{}'", envelope("t", json!({"n": 2}))));
    assert_eq!(next(&mut client, "e"), json!({"n": 2}));
    postgres.kill();
    is_down(&server);
    client.heartbeat();
    postgres.restart();
    postgres.wait_for_sql();
    is_up(&server);
    postgres.sql(&format!("NOTIFY c, '{}'", envelope("t", json!({"n": 3}))));
    assert_eq!(next(&mut client, "e"), json!({"n": 3}));
}

#[test]
fn an_outbox_is_published_once_in_order_by_two_servers() {
    const ROWS: u64 = 1_000;
    let mut postgres = started_postgres();
    let source = format!(
        "kind = 'outbox'\nurl = '{}'\nbatch = 7\npoll = '50ms'\npark = 'parked'\ndone = 'mark'",
        postgres.postgres_url()
    );
    let servers = [serve(&source), serve(&source)];
    let mut clients = servers.each_ref().map(|server| {
        is_up(server);
        let mut client = server.connect("");
        client.join_ok("t");
        client
    });
    let insert = |postgres: &Service, from: u64, to: u64| {
        let values = "'t', 'e', json_build_object('n', n)";
        let rows = format!("generate_series({from}, {to}) n");
        postgres.sql(&format!("INSERT INTO fanfare_outbox (topic, event, payload) SELECT {values} FROM {rows}"));
    };
    insert(&postgres, 1, ROWS);
    postgres.sql("INSERT INTO fanfare_outbox (topic, event) VALUES ('t', 'phx_close'), ('', 'e')");
    let left = |postgres: &Service| postgres.sql("SELECT count(*) FROM fanfare_outbox WHERE published_at IS NULL");
    eventually(|| left(&postgres) == "0");
    assert_eq!(postgres.sql("SELECT count(*), min(reason), max(reason) FROM parked"), "2|malformed|malformed");
    // Killed with rows that nobody has seen.
    postgres.kill();
    servers.iter().for_each(|server| is_down(server));
    postgres.restart();
    postgres.wait_for_sql();
    insert(&postgres, ROWS + 1, ROWS + 20);
    eventually(|| left(&postgres) == "0");
    servers.iter().for_each(|server| is_up(server));
    let published: u64 = servers.iter().map(|server| count(server, "published")).sum();
    assert_eq!(published, ROWS + 20);
    let mut all = BTreeSet::new();
    for (server, client) in servers.iter().zip(&mut clients) {
        let numbers: Vec<u64> =
            (0..count(server, "published")).map(|_| next(client, "e")["n"].as_u64().unwrap()).collect();
        assert!(numbers.is_sorted(), "{numbers:?}");
        all.extend(numbers);
    }
    assert!(all.into_iter().eq(1..=ROWS + 20));
}

#[test]
fn an_outbox_of_ones_own_is_emptied() {
    let postgres = started_postgres();
    postgres.sql(
        "CREATE SCHEMA app; CREATE TABLE app.\"Box\" (id bigserial PRIMARY KEY, topic text, event text, payload jsonb)",
    );
    postgres.sql("INSERT INTO app.\"Box\" (topic, event, payload) VALUES ('t', NULL, '{}'), ('t', 'e', '[1]')");
    let server = serve(&format!(
        "kind = 'outbox'\nurl = '{}'\ntable = 'app.Box'\ncreate = false\ndone = 'delete'\npoll = '20ms'\n\
         message_size_max = 1000",
        postgres.postgres_url()
    ));
    is_up(&server);
    let mut client = server.connect("");
    client.join_ok("t");
    postgres.sql(
        "INSERT INTO app.\"Box\" (topic, event, payload) VALUES ('t', 'e', jsonb_build_object('x', repeat('y', 1000)))",
    );
    postgres.sql("INSERT INTO app.\"Box\" (topic, event, payload) VALUES ('t', 'e', '{\"n\": 1}')");
    assert_eq!(next(&mut client, "e"), json!({"n": 1}));
    eventually(|| postgres.sql("SELECT count(*) FROM app.\"Box\"") == "0");
    assert_eq!((count(&server, "skipped_malformed"), count(&server, "skipped_too_large")), (2, 1));
    // Its members got nothing of it, and who asks why is told.
    let facts = server.api("GET", "/api/why?topic=t", &Value::Null).json()["facts"].take();
    let fact = &facts[0];
    assert_eq!(
        (&fact["kind"], &fact["reason"], facts.as_array().unwrap().len()),
        (&json!("dropped"), &json!("source_skipped"), 1)
    );
    let detail = fact["detail"].as_str().unwrap();
    let part = "was skipped (too_large): it has 1009 bytes, more than message_size_max of the source, which is 1000";
    assert!(detail.contains(part), "{detail}");
    assert!(fact["next"].as_str().unwrap().contains("`park`"), "{fact}");
}

#[test]
fn security_32_nats_subjects_and_its_death() {
    let mut nats = nats::start();
    let source = format!(
        "kind = 'nats'\nurl = '{}'\nchannels = ['news.*', 'all.>', 'x*']\nroute = 'channel'\ntopic = '{{channel}}'\nevent = 'e'",
        nats.nats_url()
    );
    let server = serve(&source);
    is_up(&server);
    let mut client = server.connect("");
    for topic in ["news.a", "all.b.c", "x*", "news.a.b", "xy"] {
        client.join_ok(topic);
    }
    // One part; all that follow; a star that is part of a name is a character.
    for (n, subject) in ["news.a", "all.b.c", "x*"].iter().enumerate() {
        nats.nats_publish(subject, &json!({"n": n}).to_string());
        assert_eq!(next(&mut client, "e"), json!({"n": n}));
    }
    nats.nats_publish("news.a.b", "{}");
    nats.nats_publish("xy", "{}");
    nats.kill();
    is_down(&server);
    client.heartbeat();
    nats.restart();
    is_up(&server);
    nats.nats_publish("news.a", r#"{"n":9}"#);
    assert_eq!(next(&mut client, "e"), json!({"n": 9}));
    assert!(!server.stderr().contains("m4rk3r"), "{}", server.stderr());
}

#[test]
fn a_queue_group_shares_what_comes() {
    let nats = nats::start();
    let source = format!("kind = 'nats'\nurl = '{}'\nchannels = 's'\ngroup = 'q'", nats.nats_url());
    let servers = [serve(&source), serve(&source)];
    servers.iter().for_each(|server| is_up(server));
    for n in 0..40 {
        nats.nats_publish("s", &envelope("t", json!({ "n": n })));
    }
    let received = || servers.each_ref().map(|server| count(server, "received"));
    eventually(|| received().iter().sum::<u64>() >= 40);
    let [first, second] = received();
    assert_eq!(first + second, 40);
    assert!(first > 0 && second > 0, "{first} {second}");
}

#[test]
fn a_server_starts_while_its_sources_are_down() {
    let server = serve(
        "kind = 'redis'\nurl = 'redis://:m4rk3r@127.0.0.1:1'\nchannels = 'c'\n[bridge]\nurl = 'redis://:m4rk3r@127.0.0.1:1'",
    );
    is_down(&server);
    assert_eq!(health(&server)["bridge"]["redis"], "unavailable");
    server.connect("").join_ok("t");
    assert!(server.wait_for_stderr(|log| log.contains("a source is lost").then_some(())).is_some());
    assert!(!server.stderr().contains("m4rk3r"), "{}", server.stderr());
    assert!(server.terminate().success());
}

/// As the instructions of the original say, with its addresses and channels.
#[test]
fn bridge_4_to_7_as_its_instructions_say() {
    let redis = redis_server::start();
    let server = Server::serve(&format!(
        "[[endpoint]]\npath = '/websocket'\nprotocol = 'bullet'\nauth = 'none'\n[source.main]\nkind = 'redis'\nurl = '{0}'\n\
         channels = 'my_channel'\nroute = 'recipients'\n[bridge]\nurl = '{0}'",
        redis.redis_url()
    ));
    is_up(&server);
    let mut connection = redis.redis_connect("");
    let mut heard = connection.as_pubsub();
    heard.subscribe(&["connected", "disconnected"]).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut next = || {
        let message = heard.get_message().unwrap();
        format!("{} {}", message.get_channel_name(), message.get_payload::<String>().unwrap())
    };
    let mut clients = ["ada", "ada", "bob"].map(|key| server.upgrade(&format!("/websocket?{key}"), &[]).unwrap());
    let mut told = [next(), next()];
    told.sort();
    assert_eq!(told, ["connected ada", "connected bob"]);
    eventually(|| {
        server.api("GET", "/api/connections/ada", &Value::Null).json()["sockets"].as_array().unwrap().len() == 2
    });
    // The key is told when it has come: from then on it gets everything. Both sockets of a key get it.
    redis.redis_publish("my_channel", r#"{"recipients":["ada","nobody"],"data":{"text": "hi", "n":1.0}}"#);
    redis.redis_publish("my_channel", r#"{"data":"all"}"#);
    redis.redis_publish("my_channel", "not json");
    redis.redis_publish("my_channel", r#"{"recipients":["bob"],"data":{}}"#);
    let [ada, twin, bob] = &mut clients;
    for client in [ada, twin] {
        assert_eq!(client.receive_text(), r#"{"data":{"text": "hi", "n":1.0}}"#);
        assert_eq!(client.receive_text(), r#"{"data":"all"}"#);
    }
    assert_eq!(bob.receive_text(), r#"{"data":"all"}"#);
    assert_eq!(bob.receive_text(), r#"{"data":{}}"#);
    drop(clients);
    let mut told = [next(), next()];
    told.sort();
    assert_eq!(told, ["disconnected ada", "disconnected bob"]);
}

#[test]
fn bridge_4_bridge_11_keys_are_told_when_they_come_and_go() {
    let mut redis = redis_server::start();
    let auth = users::auth();
    let config = format!(
        "{CHANNEL}\n{auth}[[endpoint]]\nauth = 'users'\n\
         socket_id = 'user:{{sub}}'\n[bridge]\nurl = '{}'\nkey = '{{sub}}'",
        redis.redis_url()
    );
    let server = Server::serve(&config);
    eventually(|| health(&server)["bridge"]["redis"] == "ok");
    let mut connection = redis.redis_connect("");
    let mut heard = connection.as_pubsub();
    heard.subscribe(&["connected", "disconnected"]).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut next = || {
        let message = heard.get_message().unwrap();
        (message.get_channel_name().to_owned(), message.get_payload::<String>().unwrap())
    };
    let told = |channel: &str, key: &str| (channel.to_owned(), key.to_owned());
    let connect = |sub: &str| server.connect(&format!("token={}", users::token(sub)));
    let list = |query: &str| server.api("GET", &format!("/api/connections{query}"), &Value::Null);
    let first = connect("7");
    assert_eq!(next(), told("connected", "7"));
    let second = connect("7");
    let other = connect("8");
    assert_eq!(next(), told("connected", "8"));
    let all =
        json!({"connections": [{"key": "7", "sockets": 2}, {"key": "8", "sockets": 1}], "total": 2, "next": null});
    // The second of a key is told to nobody, so that there is nothing else to wait for.
    eventually(|| list("").json() == all);
    let page = json!({"connections": [{"key": "7", "sockets": 2}], "total": 2, "next": "7"});
    assert_eq!(list("?limit=1").json(), page);
    assert_eq!(list("?limit=1&after=7").json()["connections"], json!([{"key": "8", "sockets": 1}]));
    let sockets = list("/7").json()["sockets"].clone();
    assert_eq!((sockets.as_array().unwrap().len(), &sockets[0]["transport"]), (2, &json!("websocket")));
    assert_eq!(list("/9").status, 404);
    drop(first);
    drop(other);
    assert_eq!(next(), told("disconnected", "8"));
    drop(second);
    assert_eq!(next(), told("disconnected", "7"));
    // While Redis is away the keys wait, in order.
    redis.kill();
    eventually(|| health(&server)["bridge"]["redis"] == "unavailable");
    let mut third = connect("9");
    eventually(|| list("/9").status == 200);
    assert_eq!(server.api("DELETE", "/api/connections/9", &Value::Null).json(), json!({"closed": 1}));
    assert_eq!(third.receive_close(), 1001);
    eventually(|| list("/9").status == 404);
    let _fourth = connect("10");
    eventually(|| list("/10").status == 200);
    let waits = hear_from_the_start(&mut redis);
    let expected = [("connected", "9"), ("disconnected", "9"), ("connected", "10")];
    assert_eq!(waits.recv_timeout(PATIENCE).unwrap(), expected.map(|(channel, key)| told(channel, key)));
    // Whoever is there when the server ends is told of as gone.
    assert!(server.terminate().success());
    let gone = waits.recv_timeout(PATIENCE).unwrap();
    assert_eq!(gone, [told("disconnected", "10")]);
}

#[test]
fn nodes_of_a_cluster_tell_the_bridge_of_a_key_once() {
    let redis = redis_server::start();
    let auth = users::auth();
    let config = format!(
        "{CHANNEL}\n{auth}[[endpoint]]\nauth = 'users'\n\
         [broker]\nurl = '{0}'\n[bridge]\nurl = '{0}'\nkey = '{{sub}}'",
        redis.redis_url()
    );
    let nodes = [Server::serve(&config), Server::serve(&config)];
    let mut connection = redis.redis_connect("");
    let mut heard = connection.as_pubsub();
    heard.subscribe(&["connected", "disconnected"]).unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut next = || {
        let message = heard.get_message().unwrap();
        format!("{} {}", message.get_channel_name(), message.get_payload::<String>().unwrap())
    };
    let connect = |node: usize, sub: &str| nodes[node].connect(&format!("token={}", users::token(sub)));
    // A node asks the broker in order. Who is gone before it has answered causes nothing.
    let comes_and_goes = |node, sub, next: &mut dyn FnMut() -> String| {
        let client = connect(node, sub);
        assert_eq!(next(), format!("connected {sub}"));
        drop(client);
        assert_eq!(next(), format!("disconnected {sub}"));
    };
    let first = connect(0, "7");
    assert_eq!(next(), "connected 7");
    // That this has been told is known to the broker before the next one.
    comes_and_goes(0, "6", &mut next);
    let second = connect(1, "7");
    comes_and_goes(1, "8", &mut next);
    drop(first);
    comes_and_goes(0, "9", &mut next);
    drop(second);
    assert_eq!(next(), "disconnected 7");
}

/// Starts Redis again; three messages, and then one more. Whoever subscribes after the start might miss the first, so the
/// server's own attempts are held up by a password until somebody listens.
fn hear_from_the_start(redis: &mut Service) -> std::sync::mpsc::Receiver<Vec<(String, String)>> {
    redis.folder.write("more.conf", "requirepass locked");
    redis.restart();
    let mut connection = redis.redis_connect(":locked@");
    let (tell, told) = std::sync::mpsc::channel();
    let (ready, is_ready) = std::sync::mpsc::channel();
    let mut opener = redis.redis_connect(":locked@");
    std::thread::spawn(move || {
        let mut heard = connection.as_pubsub();
        heard.subscribe(&["connected", "disconnected"]).unwrap();
        ready.send(()).unwrap();
        for count in [3, 1] {
            let messages = (0..count).map(|_| {
                let message = heard.get_message().unwrap();
                (message.get_channel_name().to_owned(), message.get_payload::<String>().unwrap())
            });
            tell.send(messages.collect()).unwrap();
        }
    });
    is_ready.recv().unwrap();
    redis::cmd("CONFIG").arg(&["SET", "requirepass", ""]).query::<()>(&mut opener).unwrap();
    told
}

/// A renewed token may say something else: a socket stays under the key that it came with, and leaves it when it goes.
#[test]
fn bridge_11_a_renewed_token_leaves_nothing_behind() {
    let auth = users::auth();
    let server = Server::serve(&format!(
        "{CHANNEL}\n{auth}[[endpoint]]\nauth = 'users'\n\
         [bridge]\nurl = 'redis://127.0.0.1:1'\nkey = '{{team}}'"
    ));
    let list = || server.api("GET", "/api/connections", &Value::Null).json()["connections"].clone();
    let signed = |team: &str| users::signed(&json!({"sub": "7", "team": team, "exp": 4_000_000_000_u64}));
    let mut client = server.connect(&format!("token={}", signed("a")));
    eventually(|| list() == json!([{"key": "a", "sockets": 1}]));
    assert_eq!(client.push_on_phoenix("access_token", json!({"access_token": signed("b")}))["status"], "ok");
    // Its claims are those of the new token from now on, and with them the key.
    eventually(|| list() == json!([{"key": "b", "sockets": 1}]));
    drop(client);
    eventually(|| list() == json!([]));
}

/// A server that was killed and is started again with the same name goes on where it was.
#[test]
fn with_a_consumer_of_its_own_a_server_begins_with_what_it_had_taken() {
    let redis = redis_server::start();
    let source = |consumer: &str| {
        serve(&format!(
            "kind = 'redis_stream'\ngroup = 'g'\nchannels = 's'\nurl = '{}'\nconsumer = '{consumer}'\nclaim_after = '1h'",
            redis.redis_url()
        ))
    };
    redis.redis_query::<String>(&["XGROUP", "CREATE", "s", "g", "0", "MKSTREAM"]);
    let add =
        |n: u64| drop(redis.redis_query::<String>(&["XADD", "s", "*", "data", &envelope("t", json!({ "n": n }))]));
    (1..4).for_each(add);
    redis.redis_query::<redis::Value>(&["XREADGROUP", "GROUP", "g", "node-1", "STREAMS", "s", ">"]);
    // Nobody is in the topic before all has been published, so the history tells the order.
    (4..6).for_each(add);
    let other = source("node-2");
    eventually(|| count(&other, "published") == 2);
    assert!(other.terminate().success());
    (6..8).for_each(add);
    let server = Server::serve(&format!(
        "[[channel]]\ntopic = '*'\nhistory = {{}}\n[source.main]\nkind = 'redis_stream'\ngroup = 'g'\nchannels = 's'\n\
         url = '{}'\nconsumer = 'node-1'\n",
        redis.redis_url()
    ));
    eventually(|| count(&server, "published") == 5);
    let history = server.api("GET", "/api/history/t?limit=10", &Value::Null).json();
    let kept = history["messages"].as_array().unwrap().iter();
    let numbers: Vec<_> = kept.map(|message| message["payload"]["n"].as_u64().unwrap()).collect();
    assert_eq!(numbers, [1, 2, 3, 6, 7]);
}

#[test]
fn a_server_that_hangs_is_noticed() {
    let (redis, nats, postgres) = (redis_server::start(), nats::start(), started_postgres());
    let sources = [
        ("redis", format!("kind = 'redis'\nchannels = 'c'\nurl = '{}'", redis.redis_url())),
        ("stream", format!("kind = 'redis_stream'\ngroup = 'g'\nchannels = 's'\nurl = '{}'", redis.redis_url())),
        ("nats", format!("kind = 'nats'\nchannels = 'c'\nurl = '{}'", nats.nats_url())),
        ("postgres", format!("kind = 'postgres'\nchannels = 'c'\nurl = '{}'", postgres.postgres_url())),
        ("outbox", format!("kind = 'outbox'\nurl = '{}'", postgres.postgres_url())),
    ];
    let sections = sources.each_ref().map(|(name, source)| format!("[source.{name}]\n{source}\n"));
    let server = Server::serve(&format!("{CHANNEL}{}", sections.concat()));
    eventually(|| health(&server)["status"] == "ok");
    let _hanging = [&redis, &nats, &postgres].map(Service::hang);
    let begun = Instant::now();
    // The guide says 10 and 15 s; a busy machine may need some more.
    for (name, seconds) in [("redis", 15), ("stream", 15), ("postgres", 15), ("outbox", 15), ("nats", 20)] {
        while health(&server)["sources"][name] != "unavailable" {
            assert!(begun.elapsed().as_secs() < seconds, "{name}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
}
