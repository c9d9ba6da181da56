//! API keys in every kind of store, by the command line and by clients that connect.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::services::{Service, mongo, postgres};
use crate::support::{Folder, Server, eventually, run};

/// A store with a name, its section of the configuration, and what runs it.
pub(crate) struct Store {
    pub(crate) kind: &'static str,
    pub(crate) section: String,
    pub(crate) service: Option<Service>,
    pub(crate) folder: Folder,
}

impl Store {
    pub(crate) fn all() -> Vec<Store> {
        ["file", "sqlite", "postgres", "mongo"].map(Store::new).into()
    }

    pub(crate) fn new(kind: &'static str) -> Store {
        let folder = Folder::new();
        let path = |name: &str| format!("path = '{}'", folder.path(name).display());
        let (service, address) = match kind {
            "postgres" => {
                let service = postgres::start();
                service.wait_for_sql();
                let url = format!("url = '{}'\npool_timeout = '2s'", service.postgres_url());
                (Some(service), url)
            }
            "mongo" => {
                let service = mongo::start();
                let url = format!("url = '{}'", service.mongo_url());
                (Some(service), url)
            }
            "file" => (None, path("keys.jsonl")),
            _ => (None, path("keys.db")),
        };
        let section = format!("[keys.main]\nstore = '{kind}'\n{address}\ncache_unknown = '0s'\n");
        Store { kind, section, service, folder }
    }

    fn config(&self, more: &str) -> String {
        format!(
            "{}{more}
[auth.keys]
kind = 'apikeys'
keys = 'main'
[[endpoint]]
path = '/socket'
auth = 'keys'
socket_id = 'key:{{key}}'
[[endpoint]]
path = '/ws'
protocol = 'hub'
auth = 'keys'
grace = '0s'
[[endpoint]]
path = '/bullet'
protocol = 'bullet'
auth = 'keys'
[[channel]]
topic = 'by:*'
join = 'claim:username={{suffix}}'
",
            self.section
        )
    }

    pub(crate) fn server(&self) -> Server {
        Server::serve_with(&self.config(""), |command| {
            command.env("FANFARE_LOG_LEVEL", "trace");
        })
    }

    /// `fanfare apikey …`: its output, or its error output.
    pub(crate) fn apikey(&self, args: &[&str]) -> Result<String, String> {
        let file = self.folder.write("fanfare.toml", &self.config(""));
        let (is_ok, out, err) = run(&[&["apikey", "--config", file.to_str().unwrap()], args].concat());
        if is_ok { Ok(out.trim().to_owned()) } else { Err(err) }
    }

    pub(crate) fn list(&self) -> Vec<Value> {
        let lines = self.apikey(&["list", "--json"]).unwrap();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub(crate) fn connect(server: &Server, key: &str) -> Result<(), u16> {
    server.try_connect(&format!("token={key}")).map(drop)
}

#[test]
fn keys_are_made_listed_rotated_and_revoked_in_every_store() {
    for store in Store::all() {
        let kind = store.kind;
        store.apikey(&["migrate"]).unwrap();
        store.apikey(&["migrate"]).unwrap_or_else(|error| panic!("{kind}: again: {error}"));
        let key = store.apikey(&["add", "--domain", "example.com", "--username", "ada"]).unwrap();
        let made: Value = serde_json::from_str(&store.apikey(&["add", "--json", "--inactive"]).unwrap()).unwrap();
        let (other, name) = (made["key"].as_str().unwrap(), made["name"].as_str().unwrap());
        assert!(key.starts_with("ff_") && key.len() == 44, "{kind}: {key}");
        let mut listed = store.list();
        listed.sort_by_key(|record| record["active"] != true);
        let expected = json!([
            {"name": key[..11], "domain": "example.com", "username": "ada", "active": true},
            {"name": name, "domain": null, "username": null, "active": false},
        ]);
        assert_eq!(json!(listed), expected, "{kind}");
        let table = store.apikey(&["list"]).unwrap();
        assert!(table.contains("example.com") && !table.contains(&key[12..]), "{kind}: {table}");

        let server = store.server();
        let mut client = server.connect(&format!("token={key}"));
        client.join_ok("by:ada");
        assert_eq!(client.join("by:bob", json!({}))["status"], "error");
        assert!(server.upgrade(&format!("/ws/pub/{key}/example.com/t"), &[]).is_ok(), "{kind}");
        assert!(server.upgrade(&format!("/bullet?{key}"), &[]).is_ok(), "{kind}");

        let rotated = store.apikey(&["rotate", &key[..11]]).unwrap();
        assert_eq!(client.receive_close(), 1001, "{kind}: the old key's socket is closed");
        assert_eq!(connect(&server, &key), Err(403), "{kind}");
        assert_eq!(connect(&server, &rotated), Ok(()), "{kind}");
        let mut client = server.connect(&format!("token={rotated}"));
        client.join_ok("by:ada");
        let revoked = Instant::now();
        store.apikey(&["revoke", &rotated]).unwrap();
        assert_eq!(client.receive_close(), 1001, "{kind}");
        assert!(revoked.elapsed() < Duration::from_secs(5), "{kind}: closed after {:?}", revoked.elapsed());
        assert_eq!(connect(&server, &rotated), Err(403), "{kind}: although it was remembered");
        let error = store.apikey(&["revoke", "nothing-like-it"]).unwrap_err();
        assert!(error.contains("no such key") && !error.contains("nothing-like-it"), "{kind}: {error}");

        let log = server.stderr();
        for secret in [&key, other, &rotated] {
            assert!(!log.contains(&secret[12..]), "{kind}: a key is in the log");
        }
    }
}

#[test]
fn a_rotated_key_works_beside_the_new_one_for_as_long_as_it_is_told() {
    for store in Store::all() {
        let kind = store.kind;
        store.apikey(&["migrate"]).unwrap();
        let old = store.apikey(&["add", "--domain", "example.com", "--username", "ada"]).unwrap();
        let server = store.server();
        let mut client = server.connect(&format!("token={old}"));
        let new = store.apikey(&["rotate", &old[..11], "--overlap", "1h"]).unwrap();
        for (key, topic) in [(&old, "t"), (&new, "u")] {
            assert_eq!(connect(&server, key), Ok(()), "{kind}");
            server.connect(&format!("token={key}")).join_ok("by:ada");
            assert!(server.upgrade(&format!("/ws/pub/{key}/example.com/{topic}"), &[]).is_ok(), "{kind}");
        }
        let listed = store.list();
        let of = |key: &str| listed.iter().find(|record| record["name"] == key[..11]).unwrap().clone();
        let mut before = of(&old);
        assert!(before["until"].as_i64().is_some_and(|until| until > 1_700_000_000), "{kind}: {before}");
        before.as_object_mut().unwrap().remove("until");
        let expected =
            |key: &str| json!({"name": key[..11], "domain": "example.com", "username": "ada", "active": true});
        assert_eq!([before, of(&new)], [expected(&old), expected(&new)], "{kind}");
        assert!(store.apikey(&["list"]).unwrap().contains("active for 3"), "{kind}");
        let error = store.apikey(&["rotate", &old[..11]]).unwrap_err();
        assert!(error.contains("rotate the key that has taken its place"), "{kind}: {error}");
        client.heartbeat();

        // The old one is not the end of it: the new one goes the same way, in a second.
        let mut client = server.connect(&format!("token={new}"));
        let newest = store.apikey(&["rotate", &new, "--overlap", "1s"]).unwrap();
        assert_eq!(client.receive_close(), 1001, "{kind}: its time has come");
        assert_eq!(connect(&server, &new), Err(403), "{kind}");
        assert_eq!((connect(&server, &old), connect(&server, &newest)), (Ok(()), Ok(())), "{kind}");
        let last = store.apikey(&["rotate", &newest, "--overlap", "1h"]).unwrap();
        let mut names: Vec<_> = store.list().iter().map(|record| record["name"].as_str().unwrap().to_owned()).collect();
        names.sort();
        let mut left = [&old, &newest, &last].map(|key| key[..11].to_owned());
        left.sort();
        assert_eq!(names, left, "{kind}: a key whose time has come is removed when the next one is rotated");
        store.apikey(&["revoke", &old]).unwrap();
        eventually(|| connect(&server, &old) == Err(403));
    }
}

/// Row 25, for keys that come by message: the one that counts is watched, and no longer the one before.
#[test]
fn security_25_a_key_that_came_by_message_can_be_revoked() {
    let store = Store::new("file");
    store.apikey(&["migrate"]).unwrap();
    let add = || store.apikey(&["add", "--username", "ada"]).unwrap();
    let (first, second) = (add(), add());
    let config = store.config("").replacen(
        "auth = 'keys'\nsocket_id = 'key:{key}'",
        "auth = 'keys'\ncredential_within = '10s'",
        1,
    );
    let server = Server::serve(&config);
    let mut client = server.connect("");
    for key in [&first, &second] {
        assert_eq!(client.push_on_phoenix("access_token", json!({"access_token": key}))["status"], "ok");
    }
    client.join_ok("by:ada");
    store.apikey(&["revoke", &first]).unwrap();
    eventually(|| connect(&server, &first) == Err(403));
    client.heartbeat();
    let revoked = Instant::now();
    store.apikey(&["revoke", &second]).unwrap();
    assert_eq!(client.receive_close(), 1001);
    assert!(revoked.elapsed() < Duration::from_secs(5), "closed after {:?}", revoked.elapsed());
}

#[test]
fn hub_11_bridge_3_a_database_that_is_down_is_503_and_closes_nobody() {
    for kind in ["postgres", "mongo"] {
        let mut store = Store::new(kind);
        store.apikey(&["migrate"]).unwrap();
        let (known, unknown) = (store.apikey(&["add", "--domain", "a"]).unwrap(), store.apikey(&["add"]).unwrap());
        let server = store.server();
        let mut client = server.connect(&format!("token={known}"));
        let mut publisher = server.upgrade(&format!("/ws/pub/{known}/a/t"), &[]).unwrap();
        let mut subscriber = server.upgrade("/ws/sub/a/t", &[]).unwrap();
        let health = || server.api("GET", "/api/health", &json!(null)).json();
        assert_eq!(health(), json!({"status": "ok", "stores": {"main": "ok"}}), "{kind}");

        store.service.as_mut().unwrap().kill();
        assert_eq!(connect(&server, &unknown), Err(503), "{kind}");
        assert_eq!(server.upgrade(&format!("/ws/pub/{unknown}/a/u"), &[]).err(), Some(503), "{kind}");
        assert_eq!(server.upgrade(&format!("/bullet?{unknown}"), &[]).err(), Some(503), "{kind}");
        assert_eq!(connect(&server, &known), Ok(()), "{kind}: it is remembered");
        eventually(|| health()["stores"]["main"] == "unavailable");
        let error = store.apikey(&["list"]).unwrap_err();
        assert!(error.contains("[keys.main]"), "{kind}: {error}");
        publisher.send_text("goes on");
        assert_eq!(subscriber.receive_text(), "goes on", "{kind}");

        store.service.as_mut().unwrap().restart();
        eventually(|| connect(&server, &unknown) == Ok(()));
        eventually(|| health()["status"] == "ok");
        client.heartbeat();
    }
}

/// A statement of somebody's that locks the table for longer than a connect waits.
#[test]
fn hub_11_a_slow_database_is_asked_over_a_bounded_pool_for_a_bounded_time() {
    let mut store = Store::new("postgres");
    store.section += "pool_size = 2\n";
    store.apikey(&["migrate"]).unwrap();
    let known = store.apikey(&["add", "--domain", "a"]).unwrap();
    let server = store.server();
    let mut publisher = server.upgrade(&format!("/ws/pub/{known}/a/t"), &[]).unwrap();
    let mut subscriber = server.upgrade("/ws/sub/a/t", &[]).unwrap();
    let service = store.service.as_ref().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| service.sql("LOCK TABLE apikeys IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(5)"));
        eventually(|| service.sql("SELECT count(*) FROM pg_locks WHERE mode = 'AccessExclusiveLock'") == "1");
        let asking: Vec<_> = (0..8)
            .map(|number| {
                let server = &server;
                scope.spawn(move || {
                    let asked = Instant::now();
                    let refused = server.upgrade(&format!("/ws/pub/unknown-{number}/a/u"), &[]).err();
                    (refused, asked.elapsed() < Duration::from_secs(4))
                })
            })
            .collect();
        publisher.send_text("goes on");
        assert_eq!(subscriber.receive_text(), "goes on");
        std::thread::sleep(Duration::from_secs(1));
        let connections = service.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'fanfare'");
        assert_eq!(connections, "2");
        let mut answers: Vec<_> = asking.into_iter().map(|asking| asking.join().unwrap()).collect();
        answers.sort();
        // Those that had a connection got their answer in the end, the others were told in time.
        let in_vain = answers.iter().filter(|answer| **answer == (Some(503), true)).count();
        assert!(in_vain >= 6 && answers.iter().all(|(refused, _)| matches!(refused, Some(403 | 503))), "{answers:?}");
    });
    eventually(|| server.upgrade("/ws/pub/unknown/a/u", &[]).err() == Some(403));
}

#[test]
fn hub_11_revoking_a_key_closes_its_publisher_unless_that_is_not_wanted() {
    for closes in [true, false] {
        let store = Store::new("file");
        store.apikey(&["migrate"]).unwrap();
        let key = store.apikey(&["add", "--domain", "a"]).unwrap();
        // It counts from a reload on, for sockets that were there before.
        let server = Server::serve(&store.config(&format!("revoke_closes = {}\n", !closes)));
        let mut publisher = server.upgrade(&format!("/ws/pub/{key}/a/t"), &[]).unwrap();
        let mut subscriber = server.upgrade("/ws/sub/a/t", &[]).unwrap();
        server.rewrite(&store.config(&format!("revoke_closes = {closes}\n")));
        assert_eq!(server.reload().json()["changed"], json!(["keys.main.revoke_closes"]));
        store.apikey(&["revoke", &key]).unwrap();
        if closes {
            assert_eq!(publisher.receive_close(), 1001);
            assert_eq!(subscriber.receive_close(), 1000);
        }
        eventually(|| server.upgrade(&format!("/ws/pub/{key}/a/u"), &[]).err() == Some(403));
        if !closes {
            // Longer than the keys in use stay unchecked.
            std::thread::sleep(Duration::from_secs(3));
            publisher.send_text("goes on");
            assert_eq!(subscriber.receive_text(), "goes on");
        }
    }
}

#[test]
fn clients_that_come_back_are_not_so_many_queries() {
    let store = Store::new("postgres");
    store.apikey(&["migrate"]).unwrap();
    let key = store.apikey(&["add"]).unwrap();
    let service = store.service.as_ref().unwrap();
    let server = Server::serve_with(&store.config("cache = '60s'"), |_| {});
    // How many look-ups PostgreSQL has answered: each uses the index of hashes once.
    let scans = || -> u64 {
        let query = "SELECT pg_stat_force_next_flush(); SELECT seq_scan + idx_scan FROM pg_stat_user_tables \
                     WHERE relname = 'apikeys'";
        service.sql(query).parse().unwrap()
    };
    connect(&server, &key).unwrap();
    let before = {
        let mut last = scans();
        eventually(|| std::mem::replace(&mut last, scans()) == last);
        last
    };
    std::thread::scope(|scope| {
        for _ in 0..10 {
            scope.spawn(|| (0..20).for_each(|_| connect(&server, &key).unwrap()));
        }
    });
    std::thread::sleep(Duration::from_millis(1_500));
    // The keys in use are checked every two seconds, all in one query.
    let queries = scans() - before;
    assert!(queries <= 6, "200 connects were {queries} queries");
    assert_eq!(server.counter("stores.main", "remembered"), 200);
    let counted = server.counter("stores.main", "queries");
    assert!(counted >= queries, "{queries} queries, and {counted} were counted");
}

#[test]
fn hub_3_the_published_table_is_read_as_it_is() {
    let store = Store::new("postgres");
    let service = store.service.as_ref().unwrap();
    service.sql(
        "CREATE SEQUENCE apikeys_id_seq; \
         CREATE TABLE apikeys (id integer PRIMARY KEY DEFAULT nextval('apikeys_id_seq'), domain varchar(64) UNIQUE, \
         username varchar(254), apikey varchar(36) UNIQUE, insert_ts timestamp DEFAULT now(), \
         active boolean DEFAULT false); \
         INSERT INTO apikeys (domain, username, apikey) VALUES \
         ('example.com', 'someone@example.com', '550e8400-e29b-41d4-a716-446655440000')",
    );
    let key = "550e8400-e29b-41d4-a716-446655440000";
    let server = store.server();
    let publish = || server.upgrade(&format!("/ws/pub/{key}/example.com/t"), &[]).map(drop).err();
    assert_eq!(publish(), Some(403), "the sample row is inactive");
    service.sql("UPDATE apikeys SET active = true");
    assert_eq!(publish(), None);
    store.apikey(&["migrate"]).unwrap();
    assert_eq!(publish(), None, "a plain key works beside hashed ones");
    let hashed = store.apikey(&["add", "--domain", "hashed.com"]).unwrap();
    assert!(server.upgrade(&format!("/ws/pub/{hashed}/hashed.com/u"), &[]).is_ok());
    assert_eq!(service.sql("SELECT count(*) FROM apikeys WHERE apikey IS NULL AND key_hash IS NOT NULL"), "1");
    let error = store.apikey(&["add", "--domain", "example.com"]).unwrap_err();
    assert!(error.contains("rotate"), "{error}");
    assert_eq!(store.list()[0]["name"], format!("plain_{}", plain_name(key)));
    assert!(!server.stderr().contains(key), "the key is in the log");
}

fn plain_name(key: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, key.as_bytes());
    hash.as_ref()[..4].iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn bridge_2_the_published_documents_are_read_as_they_are() {
    let store = Store::new("mongo");
    let service = store.service.as_ref().unwrap();
    service.mongo("keys.insert_one({'_id': 'some-old-key'}); keys.insert_one({'_id': 7})");
    let server = store.server();
    let bullet = |key: &str| server.upgrade(&format!("/bullet?{key}"), &[]).map(drop).err();
    assert_eq!(bullet("some-old-key"), None);
    assert_eq!(bullet("key=some-old-key"), None);
    assert_eq!(bullet("7"), Some(403), "a number is no text");
    for operator in ["%7B%22$ne%22:null%7D", "key[$ne]=", "key[$gt]=", "$where"] {
        assert_eq!(bullet(operator), Some(403), "{operator}");
    }
    let hashed = store.apikey(&["add"]).unwrap();
    assert_eq!(bullet(&hashed), None);
    let stored = service.mongo("print([d['_id'] for d in keys.find()])");
    assert!(stored.contains("sha256:") && !stored.contains(&hashed), "{stored}");
    let hash = stored.split('\'').find(|part| part.starts_with("sha256:")).unwrap();
    assert_eq!(bullet(hash), Some(403), "what is stored is no key");
}

/// The original's own statement, as it fails: no sequence for the ids. Of another size, they are looked up all the same.
#[test]
fn hub_3_a_table_without_its_sequence_is_put_right() {
    let store = Store::new("postgres");
    let service = store.service.as_ref().unwrap();
    service.sql(
        "CREATE TABLE apikeys (id bigint PRIMARY KEY, domain varchar(64) UNIQUE, username varchar(254), \
         apikey varchar(36) NOT NULL UNIQUE, insert_ts timestamp DEFAULT now(), active boolean DEFAULT false); \
         INSERT INTO apikeys VALUES (7, 'a.com', 'ada', 'old-key', now(), true)",
    );
    let error = store.apikey(&["add", "--domain", "b.com"]).unwrap_err();
    assert!(error.contains("fanfare apikey migrate"), "{error}");
    store.apikey(&["migrate"]).unwrap();
    let key = store.apikey(&["add", "--domain", "b.com"]).unwrap();
    store.apikey(&["migrate"]).unwrap();
    assert_eq!(service.sql("SELECT id FROM apikeys WHERE domain = 'b.com'"), "8");
    let server = store.server();
    for key in ["old-key", &key] {
        let mut client = server.connect(&format!("token={key}"));
        store.apikey(&["revoke", key]).unwrap();
        assert_eq!(client.receive_close(), 1001, "{}", server.stderr());
        assert_eq!(connect(&server, key), Err(403));
    }
}

#[test]
fn keys_are_activated_in_every_store() {
    for store in Store::all() {
        let kind = store.kind;
        store.apikey(&["migrate"]).unwrap();
        let key = store.apikey(&["add", "--inactive"]).unwrap();
        let server = store.server();
        assert_eq!(connect(&server, &key), Err(403), "{kind}");
        let done = store.apikey(&["activate", &key[..11]]).unwrap();
        assert_eq!(done, format!("activated {}", &key[..11]), "{kind}");
        assert_eq!(connect(&server, &key), Ok(()), "{kind}");
        assert_eq!(store.list()[0]["active"], true, "{kind}");
    }
}

/// Topics and ids of sockets are shown in the admin API and the console: they have the names of new keys, not the keys. Those of
/// older systems are what their Redis messages name, and stay as they are.
#[test]
fn bridge_5_security_20_topics_have_the_names_of_new_keys() {
    let store = Store::new("mongo");
    store.service.as_ref().unwrap().mongo("keys.insert_one({'_id': 'some-old-key'})");
    let new = store.apikey(&["add"]).unwrap();
    let server = store.server();
    let _clients = [&new, "some-old-key"].map(|key| server.upgrade(&format!("/bullet?{key}"), &[]).unwrap());
    let topics = || server.api("GET", "/api/topics?limit=1000", &json!(null)).body;
    eventually(|| [&new[..11], "some-old-key"].iter().all(|name| topics().contains(&format!("\"bridge:{name}\""))));
    assert!(!topics().contains(&new[12..]), "{}", topics());
    let disconnected = server.api("POST", "/api/disconnect", &json!({"id": &new[..11]}));
    assert_eq!(disconnected.status, 200, "{disconnected:?}");
}

#[test]
fn a_password_that_is_refused_keeps_nobody_waiting() {
    let mut store = Store::new("file");
    let service = mongo::start_with_auth();
    let url = service.mongo_url().replace("://", "://somebody:wr0ng-p4ssw0rd@");
    store.section = format!("[keys.main]\nstore = 'mongo'\nurl = '{url}'\n");
    let server = store.server();
    for number in 0..3 {
        let asked = Instant::now();
        assert_eq!(connect(&server, &format!("key-{number}")), Err(503));
        assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    }
    let error = store.apikey(&["list"]).unwrap_err();
    let log = server.wait_for_stderr(|log| log.contains("does not accept the user").then(|| log.to_owned())).unwrap();
    assert!(error.contains("does not accept the user and password"), "{error}");
    assert!(![&error, &log].iter().any(|text| text.contains("wr0ng")), "{error}{log}");
}

/// Nobody connects, and the health report knows all the same.
#[test]
fn the_health_report_needs_no_clients() {
    let mut store = Store::new("postgres");
    store.apikey(&["migrate"]).unwrap();
    let server = store.server();
    let state = || server.api("GET", "/api/health", &json!(null)).json()["stores"]["main"].clone();
    assert_eq!(state(), "ok");
    store.service.as_mut().unwrap().kill();
    eventually(|| state() == "unavailable");
    store.service.as_mut().unwrap().restart();
    eventually(|| state() == "ok");
}

#[test]
fn how_long_keys_are_remembered_can_be_reloaded() {
    let store = Store::new("file");
    let remembering = |setting: &str| store.config("").replace("cache_unknown = '0s'", setting);
    let server = Server::serve(&remembering("cache_unknown = '1h'"));
    let made: Value = serde_json::from_str(&store.apikey(&["add", "--json", "--inactive"]).unwrap()).unwrap();
    let key = made["key"].as_str().unwrap();
    assert_eq!(connect(&server, key), Err(403));
    store.apikey(&["activate", key]).unwrap();
    assert_eq!(connect(&server, key), Err(403), "what was found out counts for an hour");
    server.rewrite(&remembering("cache_unknown = '0s'"));
    assert_eq!(server.reload().json()["changed"], json!(["keys.main.cache_unknown"]));
    assert_eq!(connect(&server, key), Ok(()));
}
