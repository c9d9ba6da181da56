//! A full disk below `history.dir`: what cannot be kept is published nowhere and told of, and waits where it can wait.
//!
//! The disk is one of 3 MB in memory, which takes root to make. Others see these tests skipped.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::services::{Service, nats, postgres, redis};
use crate::support::{Folder, Server, eventually};

/// A disk that can be filled.
struct SmallDisk {
    folder: Folder,
}

impl SmallDisk {
    fn new() -> Option<Self> {
        let disk = Self { folder: Folder::new() };
        std::fs::create_dir(disk.path()).unwrap();
        let mounted = Command::new("mount").args(["-t", "tmpfs", "-o", "size=3m", "tmpfs"]).arg(disk.path()).output();
        if mounted.is_ok_and(|output| output.status.success()) {
            return Some(disk);
        }
        eprintln!("skipped: this user cannot mount a disk");
        None
    }

    fn path(&self) -> PathBuf {
        self.folder.path("disk")
    }

    /// From now on there is room.
    fn grow(&self) {
        let grown = Command::new("mount").args(["-o", "remount,size=32m"]).arg(self.path()).status().unwrap();
        assert!(grown.success());
    }

    /// A server that keeps the messages of all topics but `live` there.
    fn serve(&self, sources: &str) -> Server {
        Server::serve(&format!(
            "[history]\ndir = '{}'\nsync = 'always'\n[[endpoint]]\n[[channel]]\ntopic = 'live'\njoin = 'open'\n\
             [[channel]]\ntopic = '*'\njoin = 'open'\nhistory = {{ messages = 1000, bytes = '64MiB' }}\n{sources}",
            self.path().join("history").display()
        ))
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(self.path()).status();
    }
}

/// Large enough for none to fit beside those that filled the disk.
fn payload(n: u64) -> Value {
    json!({ "n": n, "pad": "p".repeat(20_000) })
}

fn envelope(topic: &str, n: u64) -> String {
    json!({ "topic": topic, "event": "e", "payload": payload(n) }).to_string()
}

fn publish(server: &Server, size: usize) -> u16 {
    let message = json!({ "topic": "fill", "event": "e", "payload": { "pad": "p".repeat(size) } });
    server.api("POST", "/api/publish", &message).status
}

/// Publishes until nothing can be published any more.
fn fill(server: &Server) {
    for size in [20_000, 900] {
        while publish(server, size) == 200 {}
    }
}

fn health(server: &Server) -> Value {
    server.api("GET", "/api/health", &Value::Null).json()
}

/// What the history of a topic has.
fn kept(server: &Server, topic: &str) -> Vec<u64> {
    let history = server.api("GET", &format!("/api/history/{topic}?limit=1000"), &Value::Null).json();
    let messages = history["messages"].as_array().unwrap().iter();
    messages.map(|message| message["payload"]["n"].as_u64().unwrap()).collect()
}

#[test]
fn the_api_says_what_can_be_tried_again() {
    let Some(disk) = SmallDisk::new() else { return };
    let server = disk.serve("");
    assert_eq!(health(&server), json!({ "status": "ok", "history": { "dir": "ok" } }));
    fill(&server);
    assert_eq!(health(&server), json!({ "status": "degraded", "history": { "dir": "unavailable" } }));
    let message = |topic: &str, more: Value| {
        let mut message = json!({ "topic": topic, "event": "e", "payload": payload(1) });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        message
    };
    let batch = json!({ "messages": [
        message("kept", json!({ "expect": "1:1" })), message("live", json!({})), message("kept", json!({})),
    ] });
    let answer = server.api("POST", "/api/publish", &batch);
    assert_eq!((answer.status, answer.headers["retry-after"].as_str()), (503, "1"));
    let body = answer.json();
    assert_eq!((&body["error"]["code"], &body["published"]), (&json!("unavailable"), &json!(1)), "{body}");
    assert!(body["messages"][1]["error"].is_null() && body["messages"][2]["error"]["code"] == "unavailable", "{body}");
    disk.grow();
    assert_eq!(publish(&server, 20_000), 200);
    assert_eq!(health(&server)["status"], "ok");
}

/// The sources are refused, again and again.
#[track_caller]
fn is_waiting(server: &Server, sources: &[&str]) {
    eventually(|| sources.iter().all(|source| health(server)["sources"][source] == "waiting"));
    // Several attempts later all is as it was.
    eventually(|| sources.iter().all(|source| server.counter(&format!("sources.{source}"), "waits") > 4));
}

fn started_postgres() -> Service {
    let postgres = postgres::start();
    postgres.wait_for_sql();
    postgres
}

#[test]
fn rows_and_notifications_wait_until_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let postgres = started_postgres();
    let url = postgres.postgres_url();
    let server = disk.serve(&format!(
        "[source.outbox]\nkind = 'outbox'\nurl = '{url}'\npoll = '300ms'\npark = 'parked'\n\
         [source.notify]\nkind = 'postgres'\nurl = '{url}'\nchannels = 'c'\nroute = 'channel'\n"
    ));
    eventually(|| health(&server)["status"] == "ok");
    fill(&server);
    let row = |n: u64| format!("('rows', 'e', '{}')", payload(n));
    let rows: Vec<String> = (1..=5).map(row).chain(["('rows', 'phx_close', '{}')".into()]).collect();
    postgres.sql(&format!("INSERT INTO fanfare_outbox (topic, event, payload) VALUES {}", rows.join(", ")));
    // PostgreSQL takes no more than 8,000 bytes, and so little may still fit.
    let filled = |n: u64| json!({ "n": n, "pad": "p".repeat(7_000) }).to_string();
    for n in 1..=5 {
        postgres.sql(&format!("NOTIFY c, '{}'", filled(n)));
    }
    is_waiting(&server, &["outbox", "notify"]);
    let left = "SELECT count(*) FROM fanfare_outbox WHERE published_at IS NULL";
    assert_eq!(postgres.sql(left), "6", "no row is marked before it is published");
    assert_eq!(postgres.sql("SELECT count(*) FROM parked"), "0", "a refusal that passes parks nothing");
    disk.grow();
    eventually(|| kept(&server, "rows") == [1, 2, 3, 4, 5] && kept(&server, "c") == [1, 2, 3, 4, 5]);
    eventually(|| postgres.sql(left) == "0");
    assert_eq!(postgres.sql("SELECT topic, event, reason FROM parked"), "rows|phx_close|malformed");
    for (source, received, skipped) in [("outbox", 6, 1), ("notify", 5, 0)] {
        let count = |reason: &str| server.counter(&format!("sources.{source}"), reason);
        assert_eq!((count("received"), count("published"), count("skipped_malformed")), (received, 5, skipped));
        assert_eq!(count("lost_connections"), 0);
    }
    eventually(|| health(&server)["status"] == "ok");
    let log = server.stderr();
    assert_eq!(log.matches("it waits, and is tried again").count(), 2, "once for each source: {log}");
}

#[test]
fn entries_of_a_stream_wait_until_there_is_room() {
    let Some(disk) = SmallDisk::new() else { return };
    let redis = redis::start();
    let source = format!(
        "[source.main]\nkind = 'redis_stream'\nurl = '{}'\nchannels = ['s', 'u']\ngroup = 'g'\nclaim_after = '60s'\n\
         park = 'parked'\n",
        redis.redis_url()
    );
    let server = disk.serve(&source);
    eventually(|| health(&server)["status"] == "ok");
    let mut member = server.connect("");
    member.join_ok("live");
    fill(&server);
    let add = |stream: &str, body: &str| drop(redis.redis_query::<String>(&["XADD", stream, "*", "data", body]));
    let live = json!({ "topic": "live", "event": "e", "payload": {} });
    let both: Value = serde_json::from_str(&envelope("t", 1)).unwrap();
    add("s", &json!({ "messages": [live, both] }).to_string());
    for n in 2..=5 {
        add("s", &envelope("t", n));
        add("u", &envelope("u", n));
    }
    is_waiting(&server, &["main"]);
    member.receive_event("e");
    member.expect_silence(); // The part of an entry that was published is not published again with the rest.
    assert_eq!(redis.redis_query::<u64>(&["XLEN", "parked"]), 0);
    let pending = |stream: &str| {
        let all: Vec<::redis::Value> = redis.redis_query(&["XPENDING", stream, "g", "-", "+", "99"]);
        all.len()
    };
    assert_eq!(pending("s"), 1, "it is not acknowledged before it is published, and no other is read before it");

    // What waits when the server ends waits for the next one.
    drop(member);
    assert!(server.terminate().success());
    assert_eq!(pending("s"), 1);
    disk.grow();
    let server = disk.serve(&source);
    eventually(|| kept(&server, "t") == [1, 2, 3, 4, 5] && kept(&server, "u") == [2, 3, 4, 5]);
    eventually(|| pending("s") == 0 && pending("u") == 0);
    assert_eq!(redis.redis_query::<u64>(&["XLEN", "parked"]), 0);
}

#[test]
fn messages_of_channels_wait_up_to_a_bound() {
    let Some(disk) = SmallDisk::new() else { return };
    let (redis, nats) = (redis::start(), nats::start());
    let more = "channels = 'c'\nwaiting_messages_max = 10\nroute = 'channel'\n";
    let server = disk.serve(&format!(
        "[source.redis]\nkind = 'redis'\nurl = '{}'\ntopic = 'from_redis'\n{more}\
         [source.nats]\nkind = 'nats'\nurl = '{}'\ntopic = 'from_nats'\n{more}",
        redis.redis_url(),
        nats.nats_url()
    ));
    eventually(|| health(&server)["status"] == "ok");
    fill(&server);
    let send = |n: u64| {
        redis.redis_publish("c", &payload(n).to_string());
        nats.nats_publish("c", &payload(n).to_string());
    };
    send(0);
    is_waiting(&server, &["redis", "nats"]);
    (1..=15).for_each(send);
    for source in ["redis", "nats"] {
        eventually(|| server.counter(&format!("sources.{source}"), "skipped_overrun") == 5);
        assert_eq!(health(&server)["sources"][source], "losing");
    }
    disk.grow();
    let expected: Vec<u64> = (0..=10).collect();
    for topic in ["from_redis", "from_nats"] {
        eventually(|| kept(&server, topic) == expected);
    }
    eventually(|| health(&server)["status"] == "ok");
}

#[test]
fn a_conflict_is_skipped_as_one() {
    let redis = redis::start();
    let server = Server::serve(&format!(
        "[[channel]]\ntopic = '*'\nhistory = {{}}\n[source.main]\nkind = 'redis'\nurl = '{}'\nchannels = 'c'\n",
        redis.redis_url()
    ));
    eventually(|| health(&server)["status"] == "ok");
    let message = |n: u64, expect: Option<&str>| {
        let mut message = json!({ "topic": "t", "event": "e", "payload": { "n": n } });
        if let Some(expect) = expect {
            message["expect"] = expect.into();
        }
        message
    };
    let batch = json!({ "messages": [message(1, None), message(2, Some("1:1")), message(3, None)] });
    redis.redis_publish("c", &batch.to_string());
    eventually(|| kept(&server, "t") == [1, 3]);
    let count = |reason: &str| server.counter("sources.main", reason);
    assert_eq!((count("skipped_conflict"), count("skipped_malformed"), count("published")), (1, 0, 2));
}
