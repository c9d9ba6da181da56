//! The commands: what they print where, and how they end.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Folder, Server, TOKEN, fanfare, http, run};

#[test]
fn dev_and_serve_print_one_line_and_stop_on_sigterm() {
    for (server, name) in [(Server::dev(), "dev"), (Server::serve("[[channel]]\npreset = 'lobby'\n"), "serve")] {
        let expected = format!("fanfare {name}: listening on http://{}\n", server.address);
        assert_eq!(server.line, expected);
        let mut client = server.connect("");
        client.join_ok("room:lobby");
        let ended = std::thread::spawn(move || client.receive_close());
        assert_eq!(server.terminate().code(), Some(0));
        assert_eq!(ended.join().unwrap(), 1012);
    }
}

#[test]
fn a_drain_does_not_outlast_its_limit() {
    let server = Server::serve("drain = '500ms'\n[[channel]]\npreset = 'lobby'\n");
    // A client that never answers the close frame.
    let _deaf = server.connect("");
    let started = Instant::now();
    assert_eq!(server.terminate().code(), Some(0));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}

/// As a service manager runs it: started twice, with the error output appended to a file.
#[test]
fn hub_13_it_starts_and_stops_can_be_looked_into_and_logs_to_a_file() {
    let folder = Folder::new();
    let keys = folder.path("keys.jsonl");
    let config = format!(
        "[keys.main]\nstore = 'file'\npath = {keys:?}\n[auth.keys]\nkind = 'apikeys'\nkeys = 'main'\n\
         [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'keys'\nsocket_id = 'publisher:{{domain}}'\n"
    );
    let file = folder.write("fanfare.toml", &config);
    let file = file.to_str().unwrap();
    assert!(run(&["apikey", "migrate", "--config", file]).0);
    let key = run(&["apikey", "add", "--config", file, "--domain", "example.com"]).1;
    let (key, log) = (key.trim(), folder.path("fanfare.log"));
    for round in 1..=2 {
        let admin = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().to_string();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", r#"exec "$0" "$@" 2>>"$LOG""#, env!("CARGO_BIN_EXE_fanfare"), "serve", "--config", file]);
        command.args(["--listen", "127.0.0.1:0", "--admin", &admin]);
        command.env_clear().env("LOG", &log).env("FANFARE_ADMIN_TOKEN", TOKEN);
        let server = Server::run(command);
        let ask = |path: &str| http(&admin, "GET", path, &[("authorization", &format!("Bearer {TOKEN}"))], "").json();
        assert_eq!(ask("/api/health"), json!({"status": "ok", "stores": {"main": "ok"}}));
        let mut publisher = server.upgrade(&format!("/ws/pub/{key}/example.com/news"), &[]).unwrap();
        let mut subscribers = [(); 2].map(|()| server.upgrade("/ws/sub/example.com/news", &[]).unwrap());
        let topics = ask("/api/topics")["topics"].clone();
        let peer = topics[0]["publisher"]["peer"].as_str().unwrap_or_default().to_owned();
        let expected = json!({"key": key[..11], "sub": "example.com", "peer": peer});
        let topic = json!({"topic": "hub:example.com/news", "members": 2, "publisher": expected});
        assert_eq!((topics, peer.starts_with("127.0.0.1:")), (json!([topic]), true));
        assert_eq!(ask("/api/connections")["connections"], json!([{"key": "publisher:example.com", "sockets": 1}]));
        let mut topics = fanfare(&["topics", "--admin", &format!("http://{admin}")]);
        let printed = topics.env("FANFARE_ADMIN_TOKEN", TOKEN).output().unwrap().stdout;
        assert_eq!(String::from_utf8(printed).unwrap(), format!("{topic}\n"));
        publisher.send_text("hello");
        for subscriber in &mut subscribers {
            assert_eq!(subscriber.receive_text(), "hello");
        }
        let counters = ask("/api/counters")["counters"].clone();
        let counted = |name: &str, reason: &str, value: u64| {
            counters.as_array().unwrap().contains(&json!({"name": name, "reason": reason, "value": value}))
        };
        assert!(counted("connections", "accepted", 3) && counted("messages", "received", 1), "{counters}");

        let ended = subscribers.into_iter().chain([publisher]);
        let ended: Vec<_> = ended.map(|mut client| std::thread::spawn(move || client.receive_close())).collect();
        assert_eq!(server.terminate().code(), Some(0));
        for client in ended {
            assert_eq!(client.join().unwrap(), 1012);
        }
        let written = std::fs::read_to_string(&log).unwrap();
        for (part, times) in [("HTTP API", round), (" draining;", round), (" stopped\n", round), (&key[12..], 0)] {
            assert_eq!(written.matches(part).count(), times, "{part} in\n{written}");
        }
    }
}

#[test]
fn dev_says_what_it_does_and_where() {
    let server = Server::dev();
    let admin = server.admin();
    for part in [
        format!("http://{}/", server.address),
        format!("ws://{}/socket", server.address),
        format!("http://{admin}"),
        "curl".into(),
        "room:lobby".into(),
        "new_msg".into(),
    ] {
        let told = server.wait_for_stderr(|stderr| stderr.contains(&part).then_some(()));
        assert!(told.is_some(), "{part} is not in\n{}", server.stderr());
    }
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", "[[channel]]\npreset = 'lobby'\n");
    let file = file.to_str().unwrap();
    for args in [
        &["dev", "--listen", &address, "--admin", "127.0.0.1:0"][..],
        &["dev", "--listen", "127.0.0.1:0", "--admin", &address],
        &["serve", "--config", file, "--listen", &address],
        &["serve", "--config", file, "--listen", "127.0.0.1:0", "--admin", &address],
    ] {
        let (ok, stdout, stderr) = run(args);
        assert!(!ok && stdout.is_empty(), "{args:?} {stdout}");
        assert!(stderr.contains(&address) && stderr.contains("another address"), "{args:?} {stderr}");
    }
}

#[test]
fn nothing_is_served_while_an_address_is_missing() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let metrics = format!("metrics.listen={}", taken.local_addr().unwrap());
    for command in ["serve", "dev"] {
        let (ok, stdout, stderr) =
            run(&[command, "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--set", &metrics]);
        assert!(!ok && stdout.is_empty() && stderr.contains("metrics.listen"), "{stderr}");
        assert!(!stderr.contains("listens on") && !stderr.contains("HTTP API"), "{stderr}");
    }
}

#[test]
fn check_is_silent_or_says_what_is_wrong() {
    let folder = Folder::new();
    let good = folder.write("good.toml", "[[channel]]\npreset = 'lobby'\n");
    assert_eq!(run(&["check", "--config", good.to_str().unwrap()]), (true, String::new(), String::new()));
    let bad = folder.write("bad.toml", "lisen = 'x'\n[[channel]]\ntopic = 'a*b'\n");
    let bad = bad.to_str().unwrap();
    let (ok, stdout, stderr) = run(&["check", "--config", bad]);
    let lines: Vec<_> = stderr.lines().collect();
    assert!(!ok && stdout.is_empty() && lines.len() == 2, "{stderr}");
    assert!(lines[0].starts_with(&format!("{bad}:1:1: lisen: unknown key; did you mean `listen`?")), "{stderr}");
    assert!(lines[1].starts_with(&format!("{bad}:3:9: channel.topic: \"a*b\" is not accepted")), "{stderr}");
    let (ok, _, served) = run(&["serve", "--config", bad]);
    assert!(!ok && served == stderr, "{served}");
    assert_eq!(run(&["check", bad]), (false, String::new(), stderr), "the file without a flag");
    let (ok, _, stderr) = run(&["check", bad, "--config", bad]);
    assert!(!ok && stderr.contains("cannot be used with"), "{stderr}");
    let (ok, _, stderr) = run(&["check", "--config", "no-such-file.toml"]);
    assert!(!ok && stderr.contains("no-such-file.toml") && stderr.contains("fanfare init"), "{stderr}");
}

#[test]
fn init_writes_a_file_that_works_and_overwrites_none() {
    let folder = Folder::new();
    let file = folder.path("new.toml");
    let file = file.to_str().unwrap();
    let (ok, _, stderr) = run(&["init", file]);
    assert!(ok && stderr.contains(&format!("fanfare serve --config {file}")), "{stderr}");
    assert_eq!(run(&["check", "--config", file]), (true, String::new(), String::new()));
    let server = Server::serve(&std::fs::read_to_string(file).unwrap());
    server.connect("").join_ok("room:lobby");
    std::fs::write(file, "mine").unwrap();
    let (ok, _, stderr) = run(&["init", file]);
    assert!(!ok && stderr.contains("--force") && std::fs::read_to_string(file).unwrap() == "mine", "{stderr}");
    assert!(run(&["init", file, "--force"]).0);
    assert!(std::fs::read_to_string(file).unwrap().contains("preset = \"lobby\""));
    assert!(run(&["init", file, "--force", "--short"]).0);
    let short = std::fs::read_to_string(file).unwrap();
    assert!(short.lines().count() <= 40, "{short}");
    Server::serve(&short).connect("").join_ok("room:1");
}

#[test]
fn the_reference_in_docs_is_what_the_binary_prints() {
    let (ok, printed, _) = run(&["docs", "config"]);
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/configuration.md");
    let written = std::fs::read_to_string(file).unwrap_or_default();
    assert!(ok && printed == written, "renew it: cargo run -- docs config > docs/configuration.md");
}

#[test]
fn flags_and_environment_reach_the_server() {
    let server = Server::serve_with("limits.joins_max = 1\n[[channel]]\ntopic = '*'\njoin = 'open'\n", |command| {
        command.env("FANFARE_LIMITS_JOINS_MAX", "2").args(["--set", "log.format=json"]);
    });
    let mut client = server.connect("");
    client.join_ok("a");
    client.join_ok("b");
    assert_eq!(client.join("c", json!({}))["response"]["reason"], "too many channels joined");
    let line = server.wait_for_stderr(|stderr| stderr.lines().next().map(str::to_owned)).unwrap();
    assert!(serde_json::from_str::<serde_json::Value>(&line).is_ok(), "{line}");
}

#[test]
fn mistakes_on_the_command_line_are_explained() {
    #[track_caller]
    fn check(args: &[&str], part: &str) {
        let (ok, stdout, stderr) = run(args);
        assert!(!ok && stdout.is_empty() && stderr.contains(part), "{args:?}: {stderr}");
    }
    check(&[], "Usage");
    check(&["serv"], "serve");
    check(&["serve"], "cannot read fanfare.toml");
    check(&["dev", "--listen", "4000"], "127.0.0.1:4000");
    check(&["dev", "--set", "listen"], "KEY=VALUE");
    check(&["dev", "--set", "limits.join_max=5"], "did you mean `limits.joins_max`?");
    check(&["new", "channel", "9lives"], "9lives");
    assert!(fanfare(&["--help"]).output().unwrap().status.success());
}

#[test]
fn a_command_whose_reader_has_enough_ends_well() {
    let mut child = fanfare(&["docs", "config"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
