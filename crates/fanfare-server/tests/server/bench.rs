//! `fanfare bench`, against the binary itself and against servers that get it wrong.

mod mischief;

use std::process::{Command, Stdio};
use std::time::Duration;

use mischief::{Kind, Mischief};
use serde_json::Value;

use crate::services::redis;
use crate::support::{Folder, Server, eventually, fanfare};

/// Rooms for everybody, and rooms whose members see each other.
const CONFIG: &str = "\
[[channel]]
topic = 'bench:*'
join = 'open'
publish = 'open'
events = ['new_msg']
[[channel]]
topic = 'seen:*'
join = 'open'
presence = true
";

/// Short runs: what is looked at does not depend on the time.
const SHORT: [&str; 5] = ["--seconds", "0.5", "--warmup", "0.2", "--json"];

/// Runs it: exit status, standard output, standard error.
fn bench(args: &[&str]) -> (i32, String, String) {
    let output = fanfare(&["bench"]).args(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
}

/// Runs a scenario that must succeed, as its JSON says it.
#[track_caller]
fn measured(scenario: &str, url: &str, args: &[&str]) -> Value {
    let (status, stdout, stderr) = bench(&[&[scenario, url], &SHORT[..], args].concat());
    assert_eq!(status, 0, "{scenario}: {stdout}{stderr}");
    assert_eq!(stdout.lines().count(), 1, "{stdout}");
    let report: Value = serde_json::from_str(&stdout).unwrap();
    for (key, expected) in [("lost", 0), ("duplicated", 0), ("reordered", 0), ("strays", 0)] {
        assert_eq!(report[key], expected, "{scenario} {key}: {report}");
    }
    assert_eq!(report["scenario"], scenario);
    assert_eq!(report["delivered"], report["expected"], "{report}");
    assert_eq!(report["problems"], Value::Array(Vec::new()), "{report}");
    report
}

fn url(server: &Server) -> String {
    format!("ws://{}/socket", server.address)
}

const TOPIC: [&str; 2] = ["--topic", "bench:{room}"];

#[test]
fn clients_are_spread_over_nodes_and_every_message_arrives() {
    let redis = redis::start();
    let config = format!("[broker]\nurl = '{}'\n{CONFIG}", redis.redis_url());
    let nodes = [(); 3].map(|()| Server::serve(&config));
    for node in &nodes {
        eventually(|| node.publish("bench:warm-up", 0).status == 200);
    }
    let others = format!("{},{}", nodes[1].address, nodes[2].address);
    measured(
        "fanout",
        &url(&nodes[0]),
        &[&TOPIC[..], &["--clients", "30", "--rate", "50", "--nodes", &others]].concat(),
    );
    for node in &nodes {
        // Those that receive, by turns, and one that publishes.
        let sockets = node.counter("connections", "accepted");
        assert!((10..=11).contains(&sockets), "{sockets}");
    }
    let (status, _, said) = bench(&["fanout", &url(&nodes[0]), "--nodes", "nowhere"]);
    assert!(status == 1 && said.contains("a node looks like 127.0.0.1:4010"), "{status}: {said}");
}

#[test]
fn every_message_of_fanout_arrives() {
    let server = Server::serve(CONFIG);
    let pid = server.pid().to_string();
    for (args, publishers) in [
        (&["--clients", "20", "--window", "4"][..], 1),
        (&["--clients", "20", "--publishers", "3"], 3),
        (&["--clients", "9", "--publishers", "2", "--threads", "2", "--window", "2"], 2),
        (&["--clients", "20", "--rate", "100", "--size", "1000"], 1),
    ] {
        let report = measured("fanout", &url(&server), &[&TOPIC[..], &["--server-pid", &pid], args].concat());
        let clients = report["clients"].as_u64().unwrap();
        assert_eq!(report["expected"], report["sent"].as_u64().unwrap() * clients, "{report}");
        assert!(report["sent"].as_u64().unwrap() >= 10 * publishers, "{report}");
        assert!(report["server"]["rss_bytes"].as_u64().unwrap() > 1_000_000, "{report}");
        assert!(report["latency_us"]["p50"].as_f64().unwrap() > 1.0, "{report}");
        let counted: u64 =
            report["histogram"].as_array().unwrap().iter().map(|bucket| bucket[1].as_u64().unwrap()).sum();
        assert_eq!(report["delivered"], counted, "{report}");
        assert!(report["bytes_per_delivery"].as_f64().unwrap() > report["size"].as_f64().unwrap(), "{report}");
    }
}

#[test]
fn older_messages_in_the_answer_to_a_join_are_no_deliveries() {
    let server = Server::serve(
        "[[channel]]\ntopic = 'bench:*'\njoin = 'open'\npublish = 'open'\nhistory = { messages = 100 }\ncatch_up = 20\n",
    );
    for _ in 0..2 {
        let report = measured("fanout", &url(&server), &[&TOPIC[..], &["--clients", "5", "--window", "4"]].concat());
        assert!(report["delivered"].as_u64() > Some(0), "{report}");
    }
}

#[test]
fn a_rate_is_kept() {
    let server = Server::serve(CONFIG);
    let args = [&TOPIC[..], &["--clients", "5", "--rate", "200", "--publishers", "2"]].concat();
    let sent = measured("fanout", &url(&server), &args)["sent"].as_u64().unwrap();
    assert!((200..=220).contains(&sent), "two publishers, 200 a second each, half a second: {sent}");
}

#[test]
fn rooms_and_echo() {
    let server = Server::serve(CONFIG);
    for args in [
        &["--clients", "38", "--members", "4", "--rate", "5"][..],
        &["--rooms", "10", "--members", "4", "--window", "1", "--threads", "3"],
    ] {
        let report = measured("rooms", &url(&server), &[&TOPIC[..], args].concat());
        assert_eq!(report["clients"], 40);
        assert_eq!(report["expected"], report["sent"].as_u64().unwrap() * 4, "{report}");
    }
    for args in [&["--clients", "8"][..], &["--clients", "8", "--window", "4", "--threads", "2"], &["--rate", "20"]] {
        let report = measured("echo", &url(&server), &[&TOPIC[..], args].concat());
        assert_eq!(report["expected"], report["sent"], "{report}");
        assert!(report["scenario_figures"]["round_trips_per_s"].as_f64().unwrap() > 10.0, "{report}");
    }
}

#[test]
fn clients_that_come_and_go() {
    let server = Server::serve(CONFIG);
    let (url, pid) = (url(&server), server.pid().to_string());
    let figures = |scenario: &str, args: &[&str]| {
        let report = measured(scenario, &url, &[&["--server-pid", &pid], args].concat());
        let figures = report["scenario_figures"].clone();
        move |name: &str| figures[name].as_f64().unwrap_or_else(|| panic!("{name} in {figures}"))
    };

    let idle = figures("idle", &[&TOPIC[..], &["--steps", "10,40"]].concat());
    assert!(idle("bytes_per_connection") < 1e6);

    let churn = figures("churn", &[&TOPIC[..], &["--clients", "5"]].concat());
    assert!(churn("cycles") >= 10.0 && churn("cycles_per_s") >= 20.0 && churn("retries") == 0.0);

    for backoff in ["phoenix", "none"] {
        let args = ["--clients", "40", "--rounds", "2", "--backoff", backoff];
        let storm = figures("storm", &[&TOPIC[..], &args].concat());
        let at_least = if backoff == "phoenix" { 10.0 } else { 0.0 };
        assert!(storm("all_back_ms") > at_least && storm("connects_per_s") > 0.0, "{backoff}");
    }

    let presence = figures("presence", &["--topic", "seen:all", "--clients", "20", "--rate", "40"]);
    assert!((15.0..=25.0).contains(&presence("leaves")) && presence("joins") == presence("leaves"));
    assert!(presence("diffs") >= 20.0 * presence("leaves"));
    assert!(presence("settle_ms") < 10_000.0 && presence("settle_again_ms") < 10_000.0);

    let args = ["--clients", "20", "--share", "0.5", "--rate", "100", "--up", "0.2", "--down", "0.1"];
    let jitter = figures("jitter", &[&TOPIC[..], &args].concat());
    assert!(jitter("drops") >= 5.0 && jitter("arrived") < jitter("expected") && jitter("arrived") > 0.0);

    let args = ["--clients", "20", "--rounds", "2", "--pause", "0.1", "--threads", "2"];
    let report = measured("broadcast", &url, &[&TOPIC[..], &args].concat());
    let figures = &report["scenario_figures"];
    assert_eq!((figures["rounds"].as_u64(), report["sent"].as_u64()), (Some(2), Some(2)));
    let finish = |name: &str| figures["finish_us"][name].as_f64().unwrap();
    assert!(0.0 < finish("min") && finish("min") <= finish("median") && finish("median") <= finish("max"), "{report}");
    assert!(finish("max") < 100_000.0, "{report}");
}

#[test]
fn what_a_server_gets_wrong_is_counted() {
    for (kind, wrong) in [
        (Kind::Right, [0, 0, 0, 0]),
        (Kind::Loses, [1, 0, 0, 0]),
        (Kind::Doubles, [0, 1, 0, 0]),
        (Kind::Swaps, [0, 0, 1, 0]),
        (Kind::Misdelivers, [1, 0, 0, 1]),
    ] {
        let server = Mischief::start(kind);
        let url = format!("ws://{}/{{room}}", server.address);
        let args = ["fanout", &url, "--protocol", "plain", "--clients", "4", "--rate", "100", "--warmup", "0.1"];
        let (status, stdout, stderr) = bench(&[&args[..], &["--seconds", "1", "--json"]].concat());
        let report: Value = serde_json::from_str(&stdout).unwrap_or_else(|_| panic!("{stdout}{stderr}"));
        let sent = report["sent"].as_u64().unwrap();
        assert!((100..=110).contains(&sent), "{sent}");
        // Every tenth message, the fifth first, at four clients.
        let times = (sent + 5) / 10 * 4;
        let found = ["lost", "duplicated", "reordered", "strays"].map(|name| report[name].as_u64().unwrap());
        assert_eq!(found, wrong.map(|each| each * times), "{kind:?}: {report}");
        assert_eq!(status, if kind == Kind::Right { 0 } else { 3 }, "{kind:?}");
    }
}

#[test]
fn a_window_does_not_stay_closed_when_messages_are_lost() {
    let server = Mischief::start(Kind::Loses);
    let url = format!("ws://{}/{{room}}", server.address);
    let args = ["fanout", &url, "--protocol", "plain", "--clients", "2", "--window", "4", "--warmup", "0"];
    let (status, stdout, _) = bench(&[&args[..], &["--seconds", "3", "--json"]].concat());
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert!(status == 3 && report["sent"].as_u64().unwrap() > 50, "{report}");
}

#[test]
fn whatever_goes_wrong_is_explained() {
    let server = Server::serve(CONFIG);
    let here = url(&server);
    let elsewhere = format!("ws://{}/other", server.address);
    let hung_up = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let nobody = format!("ws://{}/socket", hung_up.local_addr().unwrap());
    drop(hung_up);
    let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let silent = format!("ws://{}/socket", silent.local_addr().unwrap());
    for (args, parts) in [
        (&["fanout", nobody.as_str()][..], &["connection refused", "fanfare dev"][..]),
        (&["fanout", &elsewhere], &["404", "without /websocket"]),
        (&["fanout", &silent, "--clients", "2", "--timeout", "0.3"], &["0 of 3 clients had joined", "--timeout"]),
        (&["fanout", &here], &["unmatched topic", "--topic"]),
        (&["fanout", &here, "--protocol", "nats"], &["1011", "--protocol"]),
        (&["fanout", "http://127.0.0.1/"], &["not ws or wss"]),
        (&["fanout", &here, "--join", "{"], &["--join", "not JSON"]),
        (&["fanout", &here, "--topic", "a b"], &["--topic a b"]),
        (&["fanout", &here, "--size", "5"], &["34..=8000000"]),
        (&["fanout", &here, "--rate", "5", "--window", "5"], &["cannot be used with"]),
        (&["fanout", &here, "--clients", "9000000"], &["9000001 connections need", "ulimit -Hn"]),
        (&["fanout", &here, "--server-pid", "4294967295"], &["no such process"]),
        (&["rooms", &here], &["--topic 'bench:{room}'"]),
        (&["idle", &here, "--steps", "5,2"], &["growing numbers"]),
        (&["presence", &here, "--topic", "bench:1", "--timeout", "0.3"], &["does this topic have presence?"]),
        (&["presence", &here, "--protocol", "plain"], &["only Phoenix"]),
        (&["broadcast", "wss://127.0.0.1/socket"], &["ws:// only"]),
        (&["fanout", "wss://127.0.0.1/socket", "--ca", "/no/such/file"], &["/no/such/file", "--insecure"]),
    ] {
        let (status, stdout, stderr) = bench(&[args, &["--quiet"]].concat());
        // What the command line takes is known before anything else is.
        let expected = if stderr.contains("try '--help'") { 2 } else { 1 };
        assert_eq!((status, stdout.as_str()), (expected, ""), "{args:?}: {stderr}");
        for part in parts {
            assert!(stderr.contains(part), "{args:?}: {part} is not in {stderr}");
        }
    }
}

#[test]
fn refused_messages_are_told() {
    let server = Server::serve(CONFIG);
    let args = ["fanout", &url(&server), "--clients", "2", "--rate", "10", "--event", "other"];
    let (status, stdout, _) = bench(&[&args[..], &TOPIC, &SHORT].concat());
    let report: Value = serde_json::from_str(&stdout).unwrap();
    assert!(status == 3 && report["lost"] == report["expected"], "{report}");
    assert!(report["problems"][0][0].as_str().unwrap().contains("answered a push with an error"), "{report}");
}

#[test]
fn tls() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let server = Server::serve(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n{CONFIG}"));
    let url = format!("wss://localhost:{}/socket", server.address.rsplit(':').next().unwrap());
    for trust in [&["--ca", cert.to_str().unwrap()][..], &["--insecure"]] {
        for size in ["64", "100000"] {
            let args = [&TOPIC[..], trust, &["--clients", "5", "--window", "4", "--size", size]].concat();
            assert!(measured("fanout", &url, &args)["sent"].as_u64().unwrap() > 0);
        }
        measured("churn", &url, &[&TOPIC[..], trust, &["--clients", "3"]].concat());
    }
    let (status, _, stderr) = bench(&[&["fanout", &url], &TOPIC[..]].concat());
    assert!(status == 1 && stderr.contains("--insecure"), "{stderr}");
}

#[test]
fn people_get_a_table_and_progress() {
    let server = Server::serve(CONFIG);
    let url = url(&server);
    let args = [&["fanout", url.as_str(), "--clients", "10", "--rate", "50", "--seconds", "1.5"], &TOPIC[..]].concat();
    let (status, stdout, stderr) = bench(&args);
    assert_eq!(status, 0);
    for part in ["10 clients", "lost, duplicated, reordered", "0, 0, 0", "p99", "█"] {
        assert!(stdout.contains(part), "{part} is not in {stdout}");
    }
    assert!(stderr.lines().count() >= 2 && stderr.contains("measuring: 11 clients"), "{stderr}");
    let (_, _, stderr) = bench(&[&args[..], &["--quiet"]].concat());
    assert_eq!(stderr, "");
}

#[test]
fn an_interrupted_run_prints_what_it_has() {
    let server = Server::serve(CONFIG);
    let mut command = fanfare(&["bench", "fanout", &url(&server), "--seconds", "60", "--warmup", "0", "--json", "-q"]);
    let child = command.args(TOPIC).args(["--clients", "5"]).stdout(Stdio::piped()).spawn().unwrap();
    std::thread::sleep(Duration::from_millis(1_500));
    assert!(Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap().success());
    let output = child.wait_with_output().unwrap();
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert!(output.status.success() && report["interrupted"] == true && report["lost"] == 0, "{report}");
    assert!(report["delivered"].as_u64().unwrap() > 0 && report["seconds"].as_f64().unwrap() < 30.0, "{report}");
}
