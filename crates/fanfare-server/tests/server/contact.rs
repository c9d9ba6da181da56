//! `fanfare check --connect`: what is said of each server that a configuration names, and of what is wrong with it.

use std::io::Write;
use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::services::{Service, nats, nats_server, postgres, redis};
use crate::support::{Folder, run};

/// What it prints of a configuration, and whether all is well.
fn check(config: &str) -> (bool, String) {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", config);
    let (ok, stdout, stderr) = run(&["check", "--connect", "--config", file.to_str().unwrap()]);
    assert_eq!(stderr, "");
    (ok, stdout)
}

/// Each line begins and goes on as expected, in this order, where `…` stands for anything.
fn assert_lines(said: &str, expected: &[String]) {
    let fits = |line: &str, expected: &str| {
        let mut rest = line;
        expected.split('…').all(|part| rest.find(part).map(|at| rest = &rest[at + part.len()..]).is_some())
    };
    let lines: Vec<_> = said.lines().collect();
    let is_so =
        lines.len() == expected.len() && lines.iter().zip(expected).all(|(line, expected)| fits(line, expected));
    assert!(is_so, "{said}\nis not\n{}", expected.join("\n"));
}

const KEPT: &str = "[[endpoint]]\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\nhistory = {}\n";

#[test]
fn each_server_says_what_it_is_and_what_is_not_as_it_should_be() {
    let (redis, postgres, nats) = (redis::start(), postgres::start(), nats::start());
    let hook = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let webhook = listener.local_addr().unwrap().port();
    let postgres_url = format!("postgres://postgres@127.0.0.1:{}/postgres?sslmode=disable", postgres.port);
    let config = format!(
        "[[endpoint]]\nauth = 'a'\n[auth.a]\nkind = 'hook'\nhook = 'h'\n\
         [[channel]]\ntopic = 'room:*'\njoin = 'open'\nhistory = {{}}\n[broker]\nurl = '{redis}'\n\
         [source.a]\nkind = 'redis'\nurl = '{redis}'\nchannels = 'a'\n\
         [source.b]\nkind = 'postgres'\nurl = '{postgres_url}'\nchannels = 'b'\n\
         [source.c]\nkind = 'outbox'\nurl = '{postgres_url}'\ncreate = false\ntable = 'nothing'\n\
         [source.d]\nkind = 'nats'\nurl = '{nats}'\nchannels = 'd'\n\
         [source.e]\nkind = 'nats'\nurl = '{secured}'\nchannels = 'e'\n\
         [source.f]\nkind = 'redis'\nurl = '{crossed}'\nchannels = 'f'\n\
         [keys.k]\nstore = 'postgres'\nurl = '{postgres_url}'\n\
         [bridge]\nurl = 'redis://127.0.0.1:{hook}'\n\
         [hook.h]\nurl = 'http://127.0.0.1:{hook}/ask'\n\
         [[webhook]]\nname = 'w'\nurl = 'http://127.0.0.1:{webhook}/tell'\nevents = 'topic_occupied'\n",
        redis = redis.redis_url(),
        nats = nats.nats_url(),
        secured = nats.nats_url().replace("nats://", "tls://"),
        crossed = nats.nats_url().replace("nats://", "redis://"),
    );
    let (ok, said) = check(&config);
    assert!(!ok, "{said}");
    let broker = format!("broker redis 127.0.0.1:{}", redis.port);
    assert_lines(
        &said,
        &[
            "error: keys.k: PostgreSQL: …does not exist; `fanfare apikey migrate` makes what is missing".to_owned(),
            format!("ok: {broker}: Redis …; a node's own message was back after … ms"),
            format!("warning: {broker}: client-output-buffer-limit pubsub is 33554432 8388608 60, …: CONFIG SET"),
            "ok: source.a: Redis ".to_owned(),
            "ok: source.b: PostgreSQL ".to_owned(),
            "error: source.c: PostgreSQL … has no table nothing: make it, or set create = true".to_owned(),
            "ok: source.d: NATS … without JetStream".to_owned(),
            "error: source.e: no connection to 127.0.0.1:…; does the server speak TLS on this port? If not, write nats://".to_owned(),
            "error: source.f: it does not answer as a Redis does: correct the host and port in the address".to_owned(),
            "error: bridge: no connection: … start it, or correct the address".to_owned(),
            format!("error: hook.h: no connection to 127.0.0.1:{hook}: …; start it, or correct the address"),
            format!("ok: webhook w: 127.0.0.1:{webhook} takes connections"),
        ],
    );
}

#[test]
fn a_broker_that_cannot_be_used_is_told_with_the_next_step() {
    let redis = redis::start();
    let port = redis.port;
    for command in [
        &["CONFIG", "SET", "client-output-buffer-limit", "pubsub 0 0 0"][..],
        &["ACL", "SETUSER", "quiet", "on", ">m4rk3r", "~*", "&*", "+@all", "-config"],
        &["ACL", "SETUSER", "mute", "on", ">m4rk3r", "~*", "&*", "+@all", "-spublish"],
    ] {
        redis.redis_query::<String>(command);
    }
    let broker = |url: &str| check(&format!("{KEPT}[broker]\nurl = '{url}'\n"));
    let one = |verdict: &str, said: &str| format!("{verdict}: broker redis 127.0.0.1:{port}: {said}");
    for (url, is_well, expected) in [
        (redis.redis_url(), true, vec![one("ok", "Redis ")]),
        (
            format!("redis://quiet:m4rk3r@127.0.0.1:{port}"),
            true,
            vec![one("ok", "Redis "), one("warning", "its settings cannot be read (…): compare them by hand")],
        ),
        (
            format!("redis://quiet:wrong@127.0.0.1:{port}"),
            false,
            vec![one("error", "…WRONGPASS …; check the user and password in the broker's address")],
        ),
        (format!("redis://mute:m4rk3r@127.0.0.1:{port}"), false, vec![one("error", "…NOPERM …docs/cluster.md")]),
        (
            format!("{},redis://127.0.0.1:9", redis.redis_url()),
            false,
            vec![
                format!("ok: broker redis 1 of 2 (127.0.0.1:{port}): Redis "),
                "error: broker redis 2 of 2 (127.0.0.1:9): …Connection refused".to_owned(),
            ],
        ),
    ] {
        let (ok, said) = broker(&url);
        assert_eq!(ok, is_well, "{url}: {said}");
        assert!(!said.contains("m4rk3r"), "{said}");
        assert_lines(&said, &expected);
    }

    let sentinel = redis::start_sentinel(port, "requirepass m4rk3r\n");
    let named = format!("broker redis chat by its sentinels 127.0.0.1:{}", sentinel.port);
    let theirs = "…; the sentinels' own user and password stand at the end of the broker's address";
    for (password, is_well, expected) in [
        ("m4rk3r", true, "a Redis, found by its sentinels; a node's own message was back after … ms"),
        ("wr0ng", false, &*format!("the sentinel 127.0.0.1:{}: …WRONGPASS{theirs}", sentinel.port)),
    ] {
        let (ok, said) = broker(&format!("redis+sentinel://127.0.0.1:{}/chat?sentinel=:{password}", sentinel.port));
        assert!(ok == is_well && !said.contains("m4rk3r"), "{password}: {said}");
        assert_lines(&said, &[format!("{}: {named}: {expected}", if is_well { "ok" } else { "error" })]);
    }

    let (plain, none) = (nats::start(), "it has no JetStream, …: start it with -js");
    let prepare = |folder: &Folder| {
        let users = "[{ user: chat, password: m4rk3r, permissions: { publish: \"ff.>\", subscribe: \"ff.>\" } }]";
        let lines = format!("{}\nauthorization {{ users = {users} }}", nats_server::jetstream(folder));
        drop(folder.write("nats.conf", &lines));
    };
    let limited = Service::start(prepare, nats_server::command);
    let account = |folder: &Folder| {
        let accounts = "accounts { A { users = [ { user: chat, password: m4rk3r } ] } }";
        drop(folder.write("nats.conf", &format!("{}\n{accounts}", nats_server::jetstream(folder))));
    };
    let elsewhere = Service::start(account, nats_server::command);
    for (server, credentials, expected) in [
        (&plain, "u:m4rk3r@", none),
        (&limited, "chat:m4rk3r@", "its JetStream does not answer: allow the user of a node $JS.API.>"),
        (&elsewhere, "chat:m4rk3r@", "its JetStream says \"…: enable it for the account of a node"),
    ] {
        let (ok, said) = broker(&format!("nats://{credentials}127.0.0.1:{}", server.port));
        assert!(!ok && !said.contains("m4rk3r"), "{said}");
        assert_lines(&said, &[format!("error: broker nats 127.0.0.1:{}: {expected}", server.port)]);
    }
    // As a user that is known by a key.
    let (user, seed) = (
        "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4",
        "SUACSSL3UAHUDXKFSNVUZRF5UHPMWZ6BFDTJ7M6USDXIEDNPPQYYYCU3VY",
    );
    let with_key = |more: &'static str| {
        let prepare = move |folder: &Folder| {
            let jetstream = if more.is_empty() { nats_server::jetstream(folder) } else { more.to_owned() };
            drop(
                folder.write("nats.conf", &format!("{jetstream}\nauthorization {{ users = [ {{ nkey: {user} }} ] }}")),
            );
        };
        Service::start(prepare, nats_server::command)
    };
    for (server, is_well, expected) in [
        (with_key(""), true, "NATS … with JetStream; a node's own message was back after … ms"),
        (with_key("debug: false"), false, none),
    ] {
        let (ok, said) = check(&format!(
            "{KEPT}[broker]\nurl = 'nats://127.0.0.1:{}'\ncredentials = '{seed}'\n[limits]\nmessage_size_max = '1MB'\n",
            server.port
        ));
        assert!(ok == is_well && !said.contains(seed), "{said}");
        let verdict = if is_well { "ok" } else { "error" };
        assert_lines(&said, &[format!("{verdict}: broker nats 127.0.0.1:{}: {expected}", server.port)]);
    }
    // What is no broker of this kind, or does not speak TLS there.
    let (redis_url, nats_url) = (redis.redis_url(), plain.nats_url().replace("u:m4rk3r@", ""));
    let web = TcpListener::bind("127.0.0.1:0").unwrap();
    let web_port = web.local_addr().unwrap().port();
    thread::spawn(move || {
        for stream in web.incoming().flatten() {
            let _ = (&stream).write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n");
            thread::sleep(Duration::from_millis(100));
        }
    });
    let wrong = [
        (nats_url.replace("nats://", "redis://"), "it may be a NATS: write nats:// in the broker's address"),
        (format!("redis://127.0.0.1:{web_port}"), "it may be a web server: correct the host and port"),
        (
            format!("nats://127.0.0.1:{web_port}"),
            "not NATS…is it a NATS? Correct the host and port in the broker's address",
        ),
        (redis_url.replace("redis://", "redis+cluster://"), "it is part of no cluster: write redis:// in place of"),
        (
            redis_url.replace("redis://", "redis+sentinel://") + "/chat",
            "is it a sentinel? A Redis itself is named by redis://",
        ),
        (nats_url.replace("nats://", "tls://"), "it offers no TLS: write nats://"),
        (
            nats_url.replace("nats://", "rediss://"),
            "does the server speak TLS on this port? If not, name it without TLS",
        ),
    ];
    thread::scope(|scope| {
        let asked = wrong.each_ref().map(|(url, expected)| {
            let asked = scope.spawn(|| broker(url));
            (url, *expected, asked)
        });
        for (url, expected, asked) in asked {
            let (ok, said) = asked.join().unwrap();
            assert!(!ok && said.lines().count() == 1, "{url}: {said}");
            let place = url.split("://").nth(1).unwrap().split('/').next().unwrap();
            assert_lines(&said, &[format!("error: broker …{place}: …{expected}")]);
        }
    });
    let keeps = nats::start_jetstream();
    let (ok, said) = broker(&keeps.nats_url());
    assert!(ok, "{said}");
    let name = format!("broker nats 127.0.0.1:{}", keeps.port);
    assert_lines(
        &said,
        &[
            format!("ok: {name}: NATS … with JetStream; a node's own message was back after … ms"),
            format!(
                "warning: {name}: max_payload is 1048576, and limits.message_size_max …: larger messages are refused"
            ),
        ],
    );
}

#[test]
fn a_configuration_without_other_servers_has_nothing_to_ask() {
    assert_eq!(
        check("[[channel]]\npreset = 'lobby'\n"),
        (true, "the configuration names no other servers\n".to_owned())
    );
}
