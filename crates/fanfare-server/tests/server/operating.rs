//! What operators do while a server runs: `fanfare drain`, `fanfare log`, `GET /api/config`, and what exit statuses say.

use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, Server, eventually, fanfare};
use crate::why::{on_a_terminal, on_a_terminal_of};

const CONFIG: &str = "\n[limits]\njoins_max = 7\n[[channel]]\ntopic = '*'\njoin = 'open'\n";

/// What a command prints, as JSON.
fn printed(server: &Server, args: &[&str]) -> Value {
    let output = server.command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn a_server_drains_and_ends_when_it_is_asked_to() {
    let server = Server::serve(CONFIG);
    let mut client = server.connect("");
    client.join_ok("a");
    let answer = printed(&server, &["drain"]);
    assert_eq!((&answer["draining"], &answer["sockets"]), (&json!(true), &json!(1)));
    assert_eq!(client.receive_close(), 1012);
    let (status, log) = server.wait(PATIENCE);
    assert!(status.success() && log.contains("POST /api/drain") && log.contains("stopped"), "{log}");
}

#[test]
fn the_log_is_changed_until_the_next_reload_or_for_a_while() {
    let server = Server::serve(CONFIG);
    let level = || server.api("GET", "/api/log", &Value::Null).json();
    assert_eq!(level(), json!({ "level": "info", "configured": "info" }));
    let publish = || assert_eq!(server.publish("a", 1).status, 200);
    publish();
    assert_eq!(printed(&server, &["log", "debug"]), json!({ "level": "debug", "configured": "info" }));
    assert_eq!(server.stderr().matches("POST /api/publish").count(), 0, "publishing is told at debug only");
    publish();
    assert!(server.wait_for_stderr(|log| log.contains("POST /api/publish").then_some(())).is_some());
    server.rewrite(&CONFIG.replace('7', "8"));
    assert_eq!(server.reload().status, 200);
    assert_eq!(level()["level"], "info", "what is configured is in force again");
    let begun = Instant::now();
    printed(&server, &["log", "warn", "--for", "1s"]);
    assert_eq!(level()["level"], "warn");
    // The end of the first wish is none of the second.
    printed(&server, &["log", "error", "--for", "2s"]);
    eventually(|| level()["level"] != "error");
    assert!(begun.elapsed() >= Duration::from_secs(2), "{:?}", begun.elapsed());
    assert_eq!(level(), json!({ "level": "info", "configured": "info" }));
    // A file in which nothing has changed is read again as well; one that is only checked or refused leaves the log alone.
    printed(&server, &["log", "debug"]);
    assert_eq!(printed(&server, &["reload", "--check"])["changed"], json!([]));
    server.rewrite("lisen = 1");
    assert_eq!((server.reload().status, level()["level"].clone()), (422, json!("debug")));
    server.rewrite(&CONFIG.replace('7', "8"));
    assert_eq!((server.reload().json()["changed"].clone(), level()["level"].clone()), (json!([]), json!("info")));
    printed(&server, &["log", "debug"]);
    server.signal("-HUP");
    eventually(|| level()["level"] == "info");
    let refused = server.api("POST", "/api/log", &json!({ "level": "loud" }));
    assert_eq!(refused.status, 422);
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("\"debug\""));
    assert_eq!(server.api("POST", "/api/log", &json!({ "level": "info", "for": "25h" })).status, 422);
}

#[test]
fn a_server_that_is_to_end_reads_no_configuration() {
    let server = Server::serve(&format!("drain.announce = '30s'{CONFIG}"));
    assert_eq!(server.reload().status, 200);
    printed(&server, &["drain"]);
    assert!(server.wait_for_stderr(|log| log.contains("going to drain").then_some(())).is_some());
    server.rewrite(&format!("drain.announce = '30s'{}", CONFIG.replace('7', "8")));
    let output = server.command(&["reload"]).output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("the server drains") && told.contains("409"), "{told}");
    let refused = server.reload();
    assert_eq!((refused.status, &refused.json()["error"]["code"]), (409, &json!("not_reloaded")));
    server.signal("-HUP");
    let told = |log: &str| log.contains("signal=\"SIGHUP\"").then_some(());
    assert!(server.wait_for_stderr(told).is_some(), "{}", server.stderr());
    let config = server.api("GET", "/api/config", &Value::Null).json();
    assert_eq!(config["generation"], 1, "neither has put it in force");
}

#[test]
fn the_configuration_in_force_is_told_with_where_it_comes_from() {
    let server = Server::serve(CONFIG);
    let line = |key: &str| {
        let told = server.api("GET", "/api/config", &Value::Null).json();
        let keys = told["keys"].as_array().unwrap().clone();
        (told["generation"].clone(), keys.into_iter().find(|line| line["key"] == key).unwrap())
    };
    let (generation, joins) = line("limits.joins_max");
    assert_eq!((generation, &joins["value"]), (json!(1), &json!(7)));
    assert!(joins["from"].as_str().unwrap().ends_with("fanfare.toml:3"), "{joins}");
    assert_eq!(joins["reload"], "counts for clients that connect from then on");
    let (_, token) = line("admin.token");
    assert_eq!((&token["value"], &token["from"]), (&json!("set"), &json!("FANFARE_ADMIN_TOKEN")));
    server.rewrite(&CONFIG.replace('7', "8"));
    assert_eq!(server.reload().status, 200);
    let (generation, joins) = line("limits.joins_max");
    assert_eq!((generation, &joins["value"]), (json!(2), &json!(8)));
}

#[test]
fn people_get_tables_and_colours_only_if_they_want_them() {
    let server = Server::serve(CONFIG);
    let mut client = server.connect("");
    client.join_ok("a");
    for (args, expected) in [
        (&["topics"][..], "MEMBERS  TOPIC\r\n1        a"),
        (&["log"], "info"),
        (&["reload", "--check"], "configuration 1 is in force: nothing has changed"),
        (&["reload", "--json"], r#"{"changed":[],"generation":1}"#),
        (&["topics", "--json"], r#"{"members":1,"topic":"a"}"#),
    ] {
        // One that says that it has no columns does not know how many.
        for columns in [200, 0] {
            let shown = on_a_terminal_of(columns, &server.command(args));
            assert!(shown.starts_with(expected) && !shown.contains('\x1b'), "{args:?} {columns}: {shown:?}");
        }
    }
    let shown = on_a_terminal(&server.command(&["status"]));
    assert!(shown.contains("  drops 0/s  "), "{shown}");
    // It warns of the variable, and cannot have the address.
    let folder = Folder::new();
    let config = folder.write("fanfare.toml", CONFIG);
    let program = fanfare(&[]).get_program().to_owned();
    let log = |setting: &str| {
        let command = format!("{setting} FANFARE_LISTN=1 {program:?} serve -c {config:?} --listen {}", server.address);
        let output =
            Command::new("script").args(["-qec", &command, "/dev/null"]).env_remove("NO_COLOR").output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        assert!(text.contains("FANFARE_LISTN"), "{text}");
        text
    };
    assert!(log("TERM=xterm").contains('\x1b'));
    assert!(!log("TERM=xterm NO_COLOR=1").contains('\x1b'));
    assert!(!log("TERM=dumb").contains('\x1b'));
}

#[test]
fn what_clients_send_does_nothing_to_a_terminal() {
    let server = Server::serve("[[channel]]\ntopic = '*'\njoin = 'open'\nhistory = {}\n[limits]\njoins_max = 1\n");
    // Names of topics and events have no control characters, but those of the direction.
    let (turned, hostile) = ("\u{202e}\u{2066}\u{200f}\u{2028}", "\u{9b}31m\u{85}\u{7f}\u{202e}");
    let (topic, event) = (format!("a{turned}"), format!("e{turned}"));
    let publish = || {
        let payload = json!({ "body": hostile, "\u{9d}0;": 1 });
        server.api("POST", "/api/publish", &json!({ "topic": topic, "event": event, "payload": payload })).status
    };
    let mut client = server.connect("");
    client.join_ok(&topic);
    assert_eq!(client.join(&format!("b{turned}"), json!({}))["status"], "error");
    assert_eq!(publish(), 200);
    let url = format!("ws://{}/socket/websocket", server.address);
    let of_api = |args: &[&str]| server.command(args);
    let mut sub = fanfare(&["sub", &topic, "--url", &url, "--since", "0:0", "--count", "1"]);
    sub.env_remove("FANFARE_ADMIN_TOKEN");
    let commands = [
        (of_api(&["history", &topic]), r"\u009d0;"),
        (of_api(&["topics"]), r"a\u{202e}\u{2066}\u{200f}\u{2028}"),
        (of_api(&["topics", "--json"]), r"a\u202e\u2066\u200f\u2028"),
        (of_api(&["top", "--once", "--every", "1s"]), r"a\u{202e}"),
        (of_api(&["why"]), r"b\u{202e}"),
        (of_api(&["presence", &topic]), r"a\u202e"),
        (sub, r"a\u202e"),
    ];
    let check = |shown: &str, part: &str| {
        let is_bad = |c: char| c.is_control() && !"\n\r\t".contains(c) || turned.contains(c);
        assert!(!shown.contains(is_bad), "{shown:?}");
        assert!(shown.contains(part), "{part}: {shown:?}");
    };
    for (command, part) in &commands {
        check(&on_a_terminal(command), part);
    }
    std::thread::scope(|scope| {
        let tap = scope
            .spawn(|| on_a_terminal(&server.command(&["tap", "--topic", "a*", "--count", "1", "--payload", "full"])));
        while !tap.is_finished() {
            assert_eq!(publish(), 200);
            std::thread::sleep(Duration::from_millis(50));
        }
        let shown = tap.join().unwrap();
        check(&shown, r"e\u{202e}");
        check(&shown, r#""body":"\u009b31m\u0085\u007f\u202e""#);
    });
}

#[test]
fn exit_statuses_tell_wrong_use_from_failure() {
    let folder = Folder::new();
    let (good, bad) = (folder.write("good.toml", CONFIG), folder.write("bad.toml", "lisen = 1\n"));
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    let nowhere = "http://127.0.0.1:1";
    for (args, expected) in [
        (&["check", "-c", good][..], 0),
        (&["check", "-c", bad], 2),
        (&["serve", "-c", bad], 2),
        (&["check", "-c", "nowhere.toml"], 2),
        (&["check", "--nonsense"], 2),
        (&["tap"], 2),
        (&["log", "--for", "1m"], 2),
        (&["topics", "--admin", nowhere], 1),
        (&["--help"], 0),
    ] {
        let output = fanfare(args).env("FANFARE_ADMIN_TOKEN", "a-token-of-the-tests").output().unwrap();
        assert_eq!(output.status.code(), Some(expected), "{args:?}: {output:?}");
    }
}
