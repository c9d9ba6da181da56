//! A new process takes over from a running server, or cannot.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use command_fds::{CommandFdExt, FdMapping};
use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, Server, TOKEN, dial, eventually, fanfare, http};

const LOBBY: &str = "drain = '2s'\n[[channel]]\npreset = 'lobby'\n";

const SOCKET: &str = "/socket/websocket?vsn=2.0.0";

/// A server whose program can be exchanged for another.
struct Exchangeable {
    folder: Folder,
    program: PathBuf,
    server: Server,
    /// The processes that have taken over. They are killed in the end, whatever happens.
    successors: Vec<u32>,
}

impl Exchangeable {
    fn serve(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let program = folder.path("fanfare");
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_fanfare"), &program).unwrap();
        let config = config.replace("DIR", folder.path("history").to_str().unwrap());
        let file = folder.write("fanfare.toml", &config);
        let arguments =
            ["serve", "--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"];
        let mut command = Command::new(&program);
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANFARE_")) {
            command.env_remove(name);
        }
        command.args(arguments).env("FANFARE_ADMIN_TOKEN", TOKEN);
        prepare(&mut command);
        Self { server: Server::run(command), folder, program, successors: Vec::new() }
    }

    /// Puts a shell script where the program was.
    fn script(&self, lines: &str) {
        std::fs::remove_file(&self.program).unwrap();
        self.folder.write("fanfare", &format!("#!/bin/sh\n{lines}\n"));
        std::fs::set_permissions(&self.program, std::fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Asks for an upgrade, which must succeed: the process that has taken over.
    fn upgrade(&mut self) -> u32 {
        let answer = self.server.api("POST", "/api/upgrade", &Value::Null);
        assert_eq!(answer.status, 200, "{}: {}", answer.body, self.server.stderr());
        let process = answer.json()["process"].as_u64().unwrap() as u32;
        self.successors.push(process);
        process
    }

    /// The same by a signal to the process that serves now.
    fn upgrade_by_signal(&mut self, process: u32) -> u32 {
        let told = |log: &str| {
            let line = log
                .lines()
                .filter(|line| line.contains("another process has taken over"))
                .nth(self.successors.len())?;
            line.split("process=").nth(1)?.split_whitespace().next()?.parse().ok()
        };
        assert!(Command::new("kill").args(["-USR2", &process.to_string()]).status().unwrap().success());
        let next = self.server.wait_for_stderr(told).unwrap_or_else(|| panic!("{}", self.server.stderr()));
        self.successors.push(next);
        next
    }

    /// The same where it must not: what is said.
    fn refused(&self) -> String {
        let answer = self.server.api("POST", "/api/upgrade", &Value::Null);
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (409, &json!("not_upgraded")));
        answer.json()["error"]["message"].as_str().unwrap().to_owned()
    }
}

impl Drop for Exchangeable {
    fn drop(&mut self) {
        for process in &self.successors {
            let _ = Command::new("kill").args(["-KILL", &process.to_string()]).status();
        }
    }
}

fn is_running(process: u32) -> bool {
    // A zombie has ended, though nobody has asked for its status.
    let status = std::fs::read_to_string(format!("/proc/{process}/stat"));
    status.is_ok_and(|status| !status.rsplit(')').next().unwrap().trim_start().starts_with('Z'))
}

#[test]
fn what_cannot_take_over_leaves_the_old_process_serving() {
    let up = Exchangeable::serve(LOBBY, |_| {});
    let mut client = up.server.connect("");
    let join_ref = client.join_ok("room:lobby");
    let mut still = |what: &str| {
        let mut next = up.server.connect("");
        next.join_ok("room:lobby");
        assert_eq!(client.push(&join_ref, "room:lobby", "new_msg", json!({}))["status"], "ok", "{what}");
        next.receive_event("new_msg");
    };
    let configured = |text: &str| up.folder.write("fanfare.toml", text);
    configured("nonsense");
    assert!(up.refused().contains("fanfare.toml:1"), "{}", up.refused());
    still("a wrong configuration");
    configured(&format!("{LOBBY}[metrics]\nlisten = '{}'\n", up.server.address));
    assert!(up.refused().contains("cannot listen"), "{}", up.refused());
    still("a listener that cannot be had");
    configured(LOBBY);
    for (script, expected) in [
        ("exit 7", "the new process has ended (exit status: 7)"),
        ("kill -KILL $$", "the new process has ended (signal: 9 (SIGKILL))"),
        ("echo nonsense >&0", "the new process is not one of `fanfare serve`"),
        ("echo prepared >&0; read go <&0; exit 8", "the new process has ended (exit status: 8)"),
        ("echo prepared >&0; read go <&0; echo failed for this reason >&0", "does not start: for this reason"),
    ] {
        up.script(script);
        let told = up.refused();
        assert!(told.contains(expected), "{script}: {told}");
        still(script);
    }
    // What asks for another one meanwhile is told that it comes to nothing.
    let (begins, end) = ("an upgrade: a new process is started", up.folder.path("end"));
    let begun = up.server.stderr().matches(begins).count();
    up.script(&format!("while ! [ -e {} ]; do sleep 0.05; done; exit 9", end.display()));
    up.server.signal("-USR2");
    eventually(|| up.server.stderr().matches(begins).count() > begun);
    up.server.signal("-USR2");
    let told = up.server.wait_for_stderr(|log| {
        let line = log.lines().rfind(|line| line.contains("SIGUSR2"))?;
        line.contains("nothing: the server is being upgraded").then_some(())
    });
    assert!(told.is_some(), "{}", up.server.stderr());
    std::fs::write(&end, "").unwrap();
    eventually(|| up.server.stderr().contains("exit status: 9"));
    still("two signals");
    std::fs::remove_file(&up.program).unwrap();
    assert!(up.refused().contains("cannot start"));
    still("no program");
    // A signal asks for the same, and the log has what the API would have said.
    up.server.signal("-USR2");
    let told = up.server.wait_for_stderr(|log| {
        (log.matches("the upgrade has failed: this process serves as before").count() >= 10).then_some(())
    });
    assert!(told.is_some(), "{}", up.server.stderr());
    still("a signal");
    // Another kind of server has no program to be started like it.
    let dev = Server::dev();
    let answer = dev.api("POST", "/api/upgrade", &Value::Null);
    assert!(answer.body.contains("was not started by `fanfare serve`"), "{}", answer.body);
    assert_eq!(dev.terminate().code(), Some(0));
}

#[test]
fn an_address_that_has_changed_is_told_and_not_upgraded_to() {
    let up = Exchangeable::serve(LOBBY, |_| {});
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    up.script(&format!(
        "exec {} serve --config {} --listen {address}",
        env!("CARGO_BIN_EXE_fanfare"),
        up.folder.path("fanfare.toml").display()
    ));
    let told = up.refused();
    assert!(
        told.contains(&format!("listen is {address}, and the listener for it is on {}", up.server.address)),
        "{told}"
    );
    up.server.connect("").join_ok("room:lobby");
}

/// With histories on disk nobody but the new process can go on, and it cannot.
#[test]
fn a_new_process_that_crashes_once_the_histories_are_closed_ends_the_server_to_be_started_again() {
    let up = Exchangeable::serve(&format!("{LOBBY}history = {{ messages = 10 }}\n[history]\ndir = 'DIR'\n"), |_| {});
    assert_eq!(up.server.publish("room:lobby", 1).status, 200);
    up.script("echo prepared >&0; read go <&0; exit 8");
    assert!(up.refused().contains("exit status: 8"));
    let file = up.folder.path("fanfare.toml");
    eventually(|| !is_running(up.server.pid()));
    assert!(up.server.stderr().contains("the histories are closed"), "{}", up.server.stderr());
    let mut command =
        fanfare(&["serve", "--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    command.env("FANFARE_ADMIN_TOKEN", TOKEN);
    let next = Server::run(command);
    let kept = next.api("GET", "/api/history/room:lobby", &Value::Null).json();
    assert_eq!(kept["messages"].as_array().unwrap().len(), 1);
}

/// Follows the topic over one connection after the other, each from where the one before was: the numbers that it has got. Whoever connects
/// is let in.
fn follow(address: &str, last: &AtomicU64) -> Vec<u64> {
    let (mut position, mut seen) = (json!(true), Vec::new());
    loop {
        let mut client = dial(address, SOCKET, &[]).unwrap();
        client.send(json!(["1", "1", "room:lobby", "phx_join", { "resume": position }]));
        while let Some(frame) = client.receive_before_close() {
            match frame[3].as_str() {
                Some("phx_reply") => {
                    let resume = &frame[4]["response"]["resume"];
                    assert_eq!(resume["recovered"], true, "{frame}");
                    position = resume["position"].clone();
                }
                Some("n") => {
                    seen.push(frame[4]["n"].as_u64().unwrap());
                    position = frame[1].clone();
                }
                _ => {}
            }
            if last.load(Ordering::Relaxed).checked_sub(1).is_some_and(|last| seen.last() == Some(&last)) {
                return seen;
            }
        }
    }
}

#[test]
fn nobody_is_refused_while_processes_take_over_and_nothing_kept_is_lost_or_doubled() {
    let config = format!("{LOBBY}history = {{ messages = 1000 }}\n[history]\ndir = 'DIR'\n");
    let manager = Folder::new();
    let manager = UnixDatagram::bind(manager.path("notify")).map(|socket| (socket, manager)).unwrap();
    manager.0.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut up = Exchangeable::serve(&config, |command| {
        command.env("NOTIFY_SOCKET", manager.1.path("notify"));
    });
    let (is_over, last, connects) = (AtomicBool::new(false), AtomicU64::new(0), AtomicU64::new(0));
    let (address, admin) = (up.server.address.clone(), up.server.admin());
    let seen = std::thread::scope(|scope| {
        let followers = [0, 1].map(|_| {
            let (address, last) = (&address, &last);
            scope.spawn(move || follow(address, last))
        });
        let strangers = scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                dial(&address, SOCKET, &[]).unwrap();
                connects.fetch_add(1, Ordering::Relaxed);
            }
        });
        // One after the other; what is not answered with success is repeated.
        let publisher = scope.spawn(|| {
            for number in 1.. {
                let message = json!({ "topic": "room:lobby", "event": "n", "payload": { "n": number }, "idempotency_key": number.to_string() });
                let token = format!("Bearer {TOKEN}");
                let publish = || http(&admin, "POST", "/api/publish", &[("authorization", &token)], &message.to_string());
                let is_last = is_over.load(Ordering::Relaxed);
                if is_last {
                    // Known before anybody can have it.
                    last.store(number + 1, Ordering::Relaxed);
                }
                eventually(|| publish().status == 200);
                if is_last {
                    return;
                }
            }
        });
        let mut process = up.server.pid();
        for by_signal in [false, true, false] {
            let before = connects.load(Ordering::Relaxed);
            let next = match by_signal {
                false => up.upgrade(),
                true => up.upgrade_by_signal(process),
            };
            assert!(next != process);
            eventually(|| !is_running(process));
            eventually(|| connects.load(Ordering::Relaxed) > before + 5);
            process = next;
        }
        is_over.store(true, Ordering::Relaxed);
        strangers.join().unwrap();
        publisher.join().unwrap();
        followers.map(|follower| follower.join().unwrap())
    });
    for seen in seen {
        // Whoever has joined first of all may have missed the first numbers.
        let all: Vec<u64> = (seen[0]..last.load(Ordering::Relaxed)).collect();
        assert!(all.len() > 20, "{seen:?}");
        assert_eq!(seen, all);
    }
    // The service manager is told by each who comes next, and by the next that it lives.
    let mut told = String::new();
    let mut datagram = [0; 1_000];
    let expected: Vec<String> = up.successors.iter().map(|process| format!("MAINPID={process}\n")).collect();
    while !expected.iter().all(|process| told.contains(process)) {
        let size = manager.0.recv(&mut datagram).unwrap_or_else(|error| panic!("{error}: {expected:?} in {told}"));
        told.push_str(&String::from_utf8_lossy(&datagram[..size]));
    }
    assert!(!told.contains("STOPPING=1"), "{told}");
    assert_eq!(up.server.stderr().matches("another process has taken over").count(), 3);
}

/// As systemd does it with a socket unit: the listener is there before the process, and who connects early is served.
#[test]
fn listeners_are_inherited_from_the_service_manager() {
    let folder = Folder::new();
    let file = folder.write(
        "fanfare.toml",
        "listen = '127.0.0.1:9'\n[[channel]]\npreset = 'lobby'\n[admin]\nlisten = '127.0.0.1:0'\n",
    );
    let start = |names: Option<&str>, listeners: Vec<TcpListener>| {
        let mut command = fanfare(&["serve", "--config", file.to_str().unwrap()]);
        command.env("LISTEN_FDS", listeners.len().to_string()).env("FANFARE_ADMIN_TOKEN", TOKEN);
        command.envs(names.map(|names| ("LISTEN_FDNAMES", names)));
        let mapped = (3..).zip(listeners);
        let mapped = mapped.map(|(child_fd, listener)| FdMapping { parent_fd: OwnedFd::from(listener), child_fd });
        command.fd_mappings(mapped.collect()).unwrap();
        command
    };
    let listen = || TcpListener::bind("127.0.0.1:0").unwrap();
    for names in [Some("admin:clients"), Some("fanfare.socket"), None] {
        let (first, second) = (listen(), listen());
        let (one, two) = (first.local_addr().unwrap().to_string(), second.local_addr().unwrap().to_string());
        // Without a name the first is for clients.
        let (clients, admin) = if names == Some("admin:clients") { (two, one) } else { (one, two) };
        let early = TcpStream::connect(&clients).unwrap();
        let server = Server::run(start(names, vec![first, second]));
        assert_eq!(server.address, clients, "{names:?}");
        assert!(http(&admin, "GET", "/livez", &[], "").status == 200, "{names:?}");
        let request =
            tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{clients}/socket/websocket"));
        assert!(tungstenite::client(request.unwrap(), early).is_ok(), "{names:?}");
        let told = server.wait_for_stderr(|log| log.contains("listen is 127.0.0.1:9, and").then_some(()));
        assert!(told.is_some(), "{}", server.stderr());
    }
    for (names, count, expected) in [
        ("clients:clients", 2, "listener 2 of the 2 that this process was given is the second for clients"),
        ("clients:admin:metrics:more", 4, "listener 4 of the 4 that this process was given is for nothing"),
    ] {
        let output = start(Some(names), (0..count).map(|_| listen()).collect()).output().unwrap();
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(expected), "{told}");
    }
}
