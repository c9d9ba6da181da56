//! `fanfare top`, `status`, `nodes`, `completions` and `docs man`.

use std::io::{Read, Write};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};

use crate::services::redis;
use crate::support::{Folder, Server, TOKEN, eventually, run};

fn lines(server: &Server, args: &[&str]) -> Vec<Value> {
    let output = server.command(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

#[test]
fn a_server_is_looked_at_from_a_shell() {
    let server = Server::serve("[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\n");
    let mut client = server.connect("");
    client.join_ok("a");
    client.join_ok("b");
    let top = lines(&server, &["top", "--once", "--every", "1s"]);
    assert_eq!((top.len(), &top[0]["name"], &top[0]["members"]), (2, &json!("a"), &json!(1)));
    let top = lines(&server, &["top", "--by", "addresses", "--once", "--every", "1s", "--limit", "1"]);
    assert_eq!((top.len(), &top[0]["name"], &top[0]["sockets"]), (1, &json!("127.0.0.1"), &json!(1)));
    let status = lines(&server, &["status"]);
    assert_eq!((&status[0]["ready"], &status[0]["overview"]["members"]), (&json!(true), &json!(2)));
    let shards = lines(&server, &["status", "--shards"]);
    assert_eq!((shards.len() as u64, &shards[0]["shard"]), (status[0]["shards"].as_u64().unwrap(), &json!(0)));
}

/// A command on a terminal of 100 by 30, and what stands on it.
struct Screen {
    script: Child,
    shown: Arc<Mutex<String>>,
}

impl Screen {
    /// `command`, and what the terminal is like when it has ended.
    fn start(command: &Command) -> Self {
        let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
        let words: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
        let mut script = Command::new("script");
        script.args([
            "-qec",
            &format!("stty cols 100 rows 30; {}; echo ended $?; stty -a", words.join(" ")),
            "/dev/null",
        ]);
        script.env("FANFARE_ADMIN_TOKEN", TOKEN).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut script = script.spawn().unwrap();
        let shown = Arc::new(Mutex::new(String::new()));
        let (collected, mut output) = (shown.clone(), script.stdout.take().unwrap());
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(size @ 1..) = output.read(&mut buffer) {
                collected.lock().unwrap().push_str(&String::from_utf8_lossy(&buffer[..size]));
            }
        });
        Self { script, shown }
    }

    fn press(&mut self, keys: &str) {
        self.script.stdin.as_mut().unwrap().write_all(keys.as_bytes()).unwrap();
    }

    /// Waits for a picture with a head like this below the line about the node, and names in this order in its first column.
    #[track_caller]
    fn shows(&self, head: &str, names: &[&str]) {
        eventually(|| {
            let shown = self.shown.lock().unwrap();
            let picture = shown.rsplit("\x1b[2J\x1b[H").next().unwrap();
            let first = |line: &str| line.split_whitespace().next().unwrap_or_default().to_owned();
            let rows: Vec<_> = picture.lines().skip(3).map(first).filter(|name| !name.is_empty()).collect();
            picture.lines().nth(1).is_some_and(|line| line.starts_with(head)) && rows == names
        });
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.script.kill();
        let _ = self.script.wait();
    }
}

#[test]
fn top_is_sorted_and_filtered_by_keys_and_leaves_the_terminal_as_it_was() {
    let server = Server::serve("[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\n");
    let mut clients = [(); 3].map(|()| server.connect(""));
    for (client, topics) in clients.iter_mut().zip([&["z:1", "a:2", "b:2"][..], &["z:1", "b:2"], &["z:1"]]) {
        topics.iter().for_each(|topic| drop(client.join_ok(topic)));
    }
    let sorted = lines(&server, &["top", "--once", "--every", "1s", "--sort", "members"]);
    assert_eq!(sorted.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["z:1", "b:2", "a:2"]);
    let filtered = lines(&server, &["top", "--once", "--every", "1s", "--sort", "name", "--filter", ":2"]);
    assert_eq!(filtered.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["a:2", "b:2"]);
    let wrong = server.command(&["top", "--by", "users", "--sort", "members"]).output().unwrap();
    let told = String::from_utf8(wrong.stderr).unwrap();
    assert!(!wrong.status.success() && told.contains("they have name, sockets, received, waiting"), "{told}");

    let mut screen = Screen::start(&server.command(&["top", "--every", "1s", "--sort", "name"]));
    screen.shows("topics by name  [s: sort, /: filter, q: quit]", &["a:2", "b:2", "z:1"]);
    // Above it stands the node.
    eventually(|| {
        let shown = screen.shown.lock().unwrap();
        [" ready  3 sockets  6 joined  ", " deliveries/s  ", "drops 0/s  ", " MiB  cpu "]
            .iter()
            .all(|part| shown.contains(part))
    });
    screen.press("s");
    screen.shows("topics by members", &["z:1", "b:2", "a:2"]);
    screen.press("/:2");
    screen.shows("topics by members  filter: :2_", &["z:1", "b:2", "a:2"]);
    screen.press("\r");
    screen.shows("topics by members  filter: :2  [", &["b:2", "a:2"]);
    screen.press("q");
    eventually(|| {
        let shown = screen.shown.lock().unwrap();
        let after = shown.split("\x1b[?1049l").nth(1).unwrap_or_default();
        let is_as_before =
            ["icanon", "opost"].iter().all(|flag| after.contains(flag) && !after.contains(&format!("-{flag}")));
        after.contains("ended 0") && is_as_before && shown.contains("\x1b[?25h")
    });
}

#[test]
fn the_nodes_of_a_cluster_are_printed() {
    let alone = Server::serve("[[endpoint]]\n");
    let output = alone.command(&["nodes"]).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && output.stdout.is_empty() && said.contains("it has no [broker]"), "{said}");
    let redis = redis::start();
    let config =
        format!("[broker]\nurl = '{}'\n[[endpoint]]\n[[channel]]\ntopic = '*'\njoin = 'open'\n", redis.redis_url());
    let [one, other] = ["name = 'one'", "name = 'other'\nadmin_url = 'HTTPS://other.example.com'"]
        .map(|keys| Server::serve(&format!("{config}[cluster]\n{keys}\n")));
    let mut client = other.connect("");
    client.join_ok("a");
    eventually(|| lines(&one, &["nodes"]).iter().any(|node| node["self"] == false && node["joins"] == 1));
    let nodes = lines(&one, &["nodes"]);
    assert_eq!((nodes.len(), &nodes[0]["self"], &nodes[1]["sockets"]), (2, &json!(true), &json!(1)));
    assert_eq!([0, 1].map(|node: usize| &nodes[node]["name"]), [&json!("one"), &json!("other")]);
    assert_eq!(
        [0, 1].map(|node: usize| &nodes[node]["admin_url"]),
        [&json!(null), &json!("https://other.example.com/")]
    );
    // What is published there shows here, with the heartbeats that come meanwhile.
    eventually(|| {
        assert_eq!(other.publish("a", 1).status, 200);
        let nodes = one.api("GET", "/api/nodes", &json!(null)).json()["nodes"].clone();
        let above_0 = |node: usize, key: &str| nodes[node][key].as_f64() > Some(0.0);
        ["published_per_s", "delivered_per_s", "p99_ms"].iter().all(|key| above_0(1, key) && !above_0(0, key))
    });
    other.terminate();
    let gone = || one.api("GET", "/api/nodes", &json!(null)).json()["gone"].clone();
    eventually(|| gone() != json!([]));
    let node = &gone()[0];
    assert_eq!(
        (&node["name"], &node["left"], node["heard_s"].as_f64() < Some(10.0)),
        (&json!("other"), &json!(true), true)
    );
    let nodes = lines(&one, &["nodes"]);
    assert_eq!((nodes.len(), &nodes[1]["node"]), (2, &node["node"]));
}

#[test]
fn completions_and_manual_pages_are_those_of_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let (succeeded, script, _) = run(&["completions", shell]);
        assert!(succeeded && script.contains("disconnect") && script.contains("fanfare"), "{shell}");
    }
    let folder = Folder::new();
    let dir = folder.path("man");
    assert!(run(&["docs", "man", dir.to_str().unwrap()]).0);
    let page = std::fs::read_to_string(dir.join("fanfare-tap.1")).unwrap();
    assert!(page.contains("\\-\\-topic"), "{page}");
}
