//! How a server ends: with a drain, during which whoever publishes is still served, or at once.

use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::net::TcpStream;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Client, SILENCE, Server, fanfare};

/// One socket is closed in each `every`, so that there is time to look.
fn serve(every: &str) -> Server {
    Server::serve(&format!(
        "drain = {{ limit = '10m', batch = 1, every = '{every}' }}\n[[channel]]\ntopic = '*'\njoin = 'open'\n"
    ))
}

fn members(server: &Server, count: usize) -> Vec<Client> {
    let join = |_| {
        let mut client = server.connect("");
        client.join_ok("t");
        client
    };
    (0..count).map(join).collect()
}

#[test]
fn what_is_published_during_a_drain_reaches_clients_that_are_still_there() {
    let server = serve("4s");
    let admin = server.admin();
    let mut clients = members(&server, 3);
    server.signal("-TERM");
    assert!(server.wait_for_stderr(|log| log.contains("draining").then_some(())).is_some());
    thread::sleep(SILENCE);
    assert!(TcpStream::connect(&server.address).is_err(), "no new clients");
    let message = json!({ "topic": "t", "event": "e", "payload": { "n": 1 } });
    assert_eq!(server.api("POST", "/api/publish", &message).json(), json!({ "published": 1 }));
    let mut got = clients.iter_mut().map(|client| client.receive_event_before_close("e"));
    assert!(got.any(|payload| payload == Some(json!({ "n": 1 }))));
    let (status, log) = server.wait(Duration::from_secs(40));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(TcpStream::connect(&admin).is_err());
}

#[test]
fn a_second_signal_ends_the_server_at_once() {
    for second in ["-TERM", "-INT"] {
        let server = serve("60s");
        let _clients = members(&server, 3);
        server.signal("-TERM");
        assert!(server.wait_for_stderr(|log| log.contains("draining").then_some(())).is_some());
        let begun = Instant::now();
        server.signal(second);
        let (status, log) = server.wait(Duration::from_secs(20));
        assert_eq!(status.code(), Some(0), "{log}");
        assert!(log.contains("a second signal: clients that are left are cut off"), "{log}");
        assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    }
}

#[test]
fn signals_that_operators_send_by_habit_cut_no_client() {
    let server = serve("60s");
    let mut clients = members(&server, 2);
    for (signal, name) in [("-USR1", "SIGUSR1"), ("-USR2", "SIGUSR2")] {
        server.signal(signal);
        assert!(server.wait_for_stderr(|log| log.contains(name).then_some(())).is_some(), "{name} is not told");
        clients.iter_mut().for_each(Client::heartbeat);
    }
    assert!(!server.stderr().contains("draining"), "{}", server.stderr());
}

#[test]
fn a_quit_drains_and_says_so() {
    let server = serve("10ms");
    let mut client = members(&server, 1).remove(0);
    server.signal("-QUIT");
    assert_eq!(client.receive_close_reason(), (1012, "the server is shutting down: connect again".into()));
    let (status, log) = server.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("SIGQUIT") && log.contains("draining"), "{log}");
}

#[test]
fn signals_during_a_drain_cut_nobody_before_an_operator_was_impatient() {
    let server = serve("60s");
    let mut clients = members(&server, 3);
    server.signal("-QUIT");
    assert!(server.wait_for_stderr(|log| log.contains("draining").then_some(())).is_some());
    // A unit that is stopped after a failed reload.
    for (signal, name) in [("-HUP", "SIGHUP"), ("-USR1", "SIGUSR1"), ("-TERM", "SIGTERM or SIGINT")] {
        server.signal(signal);
        // Two of a kind that come before the first is seen count as one, and the lines of the others name these as well.
        let line = format!("signal=\"{name}\"");
        assert!(server.wait_for_stderr(|log| log.contains(&line).then_some(())).is_some(), "{name} is not told");
    }
    clients.pop().unwrap().heartbeat();
    server.signal("-TERM");
    let (status, log) = server.wait(Duration::from_secs(20));
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("cut off"), "{log}");
}

/// Whoever has started a server knows its number before it has done anything.
#[test]
fn a_server_that_has_just_begun_is_not_ended_by_what_is_asked_of_it() {
    // It waits for its configuration.
    let mut command = fanfare(&["serve", "--config", "/dev/stdin", "--listen", "127.0.0.1:0"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
    // SIGHUP, SIGUSR1 and SIGUSR2, as the kernel numbers them.
    let wanted: u64 = 1 << 0 | 1 << 9 | 1 << 11;
    let begun = Instant::now();
    let has_taken = || {
        let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap();
        let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap().trim();
        u64::from_str_radix(caught, 16).unwrap() & wanted == wanted
    };
    while !has_taken() {
        if begun.elapsed() > Duration::from_secs(10) {
            child.kill().unwrap();
            panic!("it waits for its configuration, and has not taken the signals");
        }
        thread::sleep(Duration::from_millis(5));
    }
    let id = child.id().to_string();
    let signal = |name: &str| Command::new("kill").args([name, &id]).status().unwrap();
    for name in ["-HUP", "-USR1", "-USR2"] {
        assert!(signal(name).success());
    }
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(b"[[channel]]\ntopic = '*'\njoin = 'open'\n").unwrap();
    drop(stdin);
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("listening on"), "{line:?}");
    signal("-TERM");
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
