//! `fanfare pub`, `sub`, `presence`, `topics` and `disconnect` against the binary: what they print where, how they end, and
//! that a subscription survives its server.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::process::{Child, ChildStdout, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::support::{Folder, Server, TOKEN, eventually, fanfare};

const OPEN: &str = "[[channel]]\ntopic = ['room:*', 'lobby', 'hub:*', 'bridge*']\njoin = 'open'\npublish = 'open'\n";

const DOORS: &str = r#"
[[endpoint]]
path = "/socket"

[[endpoint]]
path = "/ws"
protocol = "hub"
auth = "none"
grace = "0s"

[[endpoint]]
path = "/websocket"
protocol = "bullet"
auth = "none"

[[endpoint]]
path = "/"
protocol = "rooms"
acks = true
"#;

/// A running `fanfare sub`. Killed when dropped.
struct Sub {
    child: Child,
    /// None where it was closed.
    stdout: Option<BufReader<ChildStdout>>,
    stderr: Arc<Mutex<String>>,
}

impl Sub {
    fn start(args: &[&str]) -> Self {
        Self::start_with(args, |_| {})
    }

    fn start_with(args: &[&str], prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = fanfare(&["sub"]);
        command.args(args).stdout(Stdio::piped()).stderr(Stdio::piped());
        prepare(&mut command);
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().map(BufReader::new);
        let stderr = Arc::new(Mutex::new(String::new()));
        let (collected, pipe) = (stderr.clone(), BufReader::new(child.stderr.take().unwrap()));
        thread::spawn(move || {
            for line in pipe.lines().map_while(Result::ok) {
                collected.lock().unwrap().push_str(&(line + "\n"));
            }
        });
        Self { child, stdout, stderr }
    }

    /// Waits until this stands on the standard error so many times.
    #[track_caller]
    fn told(&self, part: &str, times: usize) {
        eventually(|| self.stderr.lock().unwrap().matches(part).count() >= times);
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        assert!(line.ends_with('\n'), "{line:?}\n{}", self.stderr.lock().unwrap());
        line.trim_end().to_owned()
    }

    fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// The exit status, and what else is on the standard output.
    #[track_caller]
    fn end(&mut self) -> (Option<i32>, String) {
        let mut ended = None;
        eventually(|| {
            ended = self.child.try_wait().unwrap();
            ended.is_some()
        });
        let mut rest = String::new();
        if let Some(stdout) = &mut self.stdout {
            stdout.read_to_string(&mut rest).unwrap();
        }
        (ended.unwrap().code(), rest)
    }
}

impl Drop for Sub {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn socket(server: &Server) -> String {
    format!("ws://{}/socket", server.address)
}

/// A command against the API of a server, with its token, and with this input.
fn api(server: &Server, args: &[&str], input: &str) -> Output {
    with_input(server.command(args), input)
}

fn with_input(mut command: Command, input: &str) -> Output {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A command that ends early does not read it.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

#[track_caller]
fn succeeds(output: &Output, stdout: &str) {
    assert_eq!(String::from_utf8_lossy(&output.stdout), stdout, "{}", String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

#[track_caller]
fn fails(output: &Output, part: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(stderr.contains(part) && output.stdout.is_empty() && !stderr.contains(TOKEN), "{part} is not in {stderr}");
}

#[track_caller]
fn has_members(server: &Server, topic: &str, count: u64) {
    eventually(|| {
        let topics = server.api("GET", "/api/topics", &json!(null)).json();
        let found = topics["topics"].as_array().unwrap().iter().find(|entry| entry["topic"] == topic).cloned();
        found.map_or(0, |entry| entry["members"].as_u64().unwrap()) == count
    });
}

#[test]
fn what_is_published_is_printed() {
    let server = Server::serve(OPEN);
    let mut sub = Sub::start(&["room:1", "room:2", "--url", &socket(&server), "--count", "6"]);
    sub.told("joined room:1", 1);
    sub.told("joined room:2", 1);
    let published = |args: &[&str], input: &str, count: u32| {
        succeeds(&api(&server, args, input), &format!("{{\"published\":{count}}}\n"));
    };
    published(&["pub", "room:1", "new", r#"{"n": 1.50}"#], "", 1);
    published(&["pub", "room:2", "new"], "", 1);
    published(&["pub", "room:1", "new", "-"], "{\"n\":2}\n\n{\"n\":3}", 2);
    let whole = r#"{"topic":"room:2","event":"a","payload":{"x":"é\n"}}"#;
    published(&["pub", "-"], &format!("{whole}\n{{\"topic\":\"room:1\",\"event\":\"b\"}}\n"), 2);
    for expected in [
        r#"{"topic":"room:1","event":"new","payload":{"n": 1.50}}"#,
        r#"{"topic":"room:2","event":"new","payload":{}}"#,
        r#"{"topic":"room:1","event":"new","payload":{"n":2}}"#,
        r#"{"topic":"room:1","event":"new","payload":{"n":3}}"#,
        whole,
        r#"{"topic":"room:1","event":"b","payload":{}}"#,
    ] {
        assert_eq!(sub.line(), expected);
    }
    assert_eq!(sub.end(), (Some(0), String::new()));
}

#[test]
fn many_lines_go_in_order() {
    let server = Server::serve(OPEN);
    let mut sub = Sub::start(&["lobby", "--url", &socket(&server), "--count", "5000"]);
    sub.told("joined lobby", 1);
    let lines: String = (0..5_000).map(|n| format!("{{\"n\":{n}}}\n")).collect();
    succeeds(&api(&server, &["pub", "lobby", "e", "-"], &lines), "{\"published\":5000}\n");
    for n in 0..5_000 {
        assert_eq!(sub.line(), format!(r#"{{"topic":"lobby","event":"e","payload":{{"n":{n}}}}}"#));
    }
    assert_eq!(sub.end(), (Some(0), String::new()));
}

#[test]
fn a_subscription_outlives_its_server() {
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let serve = || Server::serve_at(&format!("127.0.0.1:{port}"), OPEN);
    let mut server = serve();
    let mut sub = Sub::start(&["lobby", "room:1", "--url", &socket(&server)]);
    for round in 1..=3 {
        sub.told("joined room:1", round);
        sub.told("joined lobby", round);
        let payload = json!({ "round": round }).to_string();
        succeeds(&api(&server, &["pub", "lobby", "e", &payload], ""), "{\"published\":1}\n");
        assert_eq!(sub.line(), format!(r#"{{"topic":"lobby","event":"e","payload":{payload}}}"#));
        drop(server);
        sub.told("reconnecting in", round);
        server = serve();
    }
    sub.signal("-INT");
    assert_eq!(sub.end(), (Some(0), String::new()));
}

#[test]
fn a_signal_ends_it_and_the_server_is_told() {
    let server = Server::serve(OPEN);
    for signal in ["-INT", "-TERM"] {
        let mut sub = Sub::start(&["lobby", "--url", &socket(&server)]);
        sub.told("joined lobby", 1);
        sub.signal(signal);
        assert_eq!(sub.end(), (Some(0), String::new()));
        has_members(&server, "lobby", 0);
    }
    let mut sub = Sub::start(&["lobby", "--url", &socket(&server), "--count", "2"]);
    sub.told("joined lobby", 1);
    sub.signal("-INT");
    assert_eq!(sub.end().0, Some(1), "it was to print two lines");
    sub.told("ended after 0 of 2 lines", 1);
}

#[test]
fn a_reader_that_has_enough_ends_it() {
    let server = Server::serve(OPEN);
    let mut sub = Sub::start(&["lobby", "--url", &socket(&server)]);
    sub.told("joined lobby", 1);
    drop(sub.stdout.take());
    succeeds(&api(&server, &["pub", "lobby", "e"], ""), "{\"published\":1}\n");
    assert_eq!(sub.end(), (Some(0), String::new()));
}

#[test]
fn refusals_end_it_with_their_reason() {
    let server = Server::serve("[[channel]]\ntopic = 'lobby'\njoin = 'open'\n");
    let mut sub = Sub::start(&["lobby", "elsewhere", "--url", &socket(&server)]);
    assert_eq!(sub.end(), (Some(1), String::new()));
    sub.told("elsewhere: the join was refused: unmatched topic", 1);

    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    for (url, part) in [
        (format!("ws://{nobody}/socket"), format!("ws://{nobody}/socket/websocket: cannot connect")),
        (format!("ws://{}/nothing", server.address), "refused with status 404".into()),
        (format!("ws://{}/socket", server.admin()), "give another address with --url".into()),
        ("http://127.0.0.1/".into(), "must begin with ws:// or wss://".into()),
    ] {
        let mut sub = Sub::start(&["lobby", "--url", &url]);
        assert_eq!(sub.end(), (Some(1), String::new()), "{url}");
        sub.told(&part, 1);
    }
}

#[test]
fn tokens_come_from_three_places_and_are_not_shown() {
    let config = "[auth.users]\nkind = 'jwt'\nalgorithms = 'HS512'\nsecret_env = 'SECRET'\n[[endpoint]]\nauth = 'users'\n\
                  socket_id = 'user:{sub}'\n[[channel]]\ntopic = 'user:*'\njoin = 'claim:sub={suffix}'\n";
    let secret = "s".repeat(64);
    let server = Server::serve_with(config, |command| {
        command.env("SECRET", &secret);
    });
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", config);
    let mut made = fanfare(&["token", "--config", file.to_str().unwrap(), "--sub", "7"]);
    let token = String::from_utf8(made.env("SECRET", &secret).output().unwrap().stdout).unwrap();
    let token_file = folder.write("token", &token);
    let (token, url) = (token.trim(), socket(&server));
    for how in [["--token", token], ["--token-env", "MINE"], ["--token-file", token_file.to_str().unwrap()]] {
        let mut sub = Sub::start_with(&["user:7", "--url", &url, how[0], how[1]], |command| {
            command.env("MINE", token);
        });
        sub.told("joined user:7", 1);
        succeeds(&api(&server, &["disconnect", "user:7"], ""), "{\"closed\":1,\"ok\":true}\n");
        sub.told("closed the connection with 1001; reconnecting in", 1);
        sub.told("joined user:7", 2);
        if how[0] == "--token-file" {
            // It is read for every connection.
            std::fs::write(&token_file, "another").unwrap();
            succeeds(&api(&server, &["disconnect", "user:7"], ""), "{\"closed\":1,\"ok\":true}\n");
            assert_eq!(sub.end().0, Some(1));
            sub.told("refused with status 403: the server does not accept this token", 1);
        }
        assert!(!sub.stderr.lock().unwrap().contains(token));
    }
    let mut sub = Sub::start(&["user:7", "--url", &url]);
    assert_eq!(sub.end().0, Some(1));
    sub.told("give --token-env, --token-file or --param", 1);
}

#[test]
fn only_the_events_that_are_asked_for() {
    let server = Server::serve(OPEN);
    let flags = ["--event", "b", "--event", "phx_reply", "--join-payload", r#"{"a":1}"#, "--count", "2"];
    let mut sub = Sub::start(&[&["lobby", "--url", &socket(&server)], &flags[..]].concat());
    sub.told("joined lobby", 1);
    for event in ["a", "b"] {
        succeeds(&api(&server, &["pub", "lobby", event], ""), "{\"published\":1}\n");
    }
    assert_eq!(sub.line(), r#"{"topic":"lobby","event":"phx_reply","payload":{"status":"ok","response":{}}}"#);
    assert_eq!(sub.line(), r#"{"topic":"lobby","event":"b","payload":{}}"#);
    assert_eq!(sub.end(), (Some(0), String::new()));
}

#[test]
fn topics_presence_and_disconnect() {
    let server = Server::serve("[[channel]]\ntopic = '*'\njoin = 'open'\n");
    succeeds(&api(&server, &["topics"], ""), "");
    let mut client = server.connect("");
    for topic in ["a", "b", "c d/é"] {
        client.join_ok(topic);
    }
    let listed =
        "{\"members\":1,\"topic\":\"a\"}\n{\"members\":1,\"topic\":\"b\"}\n{\"members\":1,\"topic\":\"c d/é\"}\n";
    succeeds(&api(&server, &["topics"], ""), listed);
    succeeds(&api(&server, &["presence", "c d/é"], ""), "{\"count\":0,\"presence\":{},\"topic\":\"c d/é\"}\n");
    succeeds(&api(&server, &["disconnect", "nobody"], ""), "{\"closed\":0,\"ok\":true}\n");
}

#[test]
fn what_goes_wrong_with_the_api_is_explained() {
    let server = Server::serve(OPEN);
    fails(&api(&server, &["pub", "lobby", "e", "hello"], ""), r#"not a JSON object such as {"body": "hello"}"#);
    fails(&api(&server, &["pub", "lobby", "phx_close"], ""), "allow_reserved");
    fails(&api(&server, &["pub", "lobby"], ""), "the event is missing");
    let broken = api(&server, &["pub", "lobby", "e", "-"], "{}\n{}\n[]\n{}\n");
    fails(&broken, "line 3: the payload is not a JSON object");
    fails(&broken, "messages published before: 2");
    fails(&api(&server, &["disconnect", ""], ""), "id");
    succeeds(&api(&server, &["pub", "lobby", "phx_x", "--allow-reserved"], ""), "{\"published\":1}\n");

    let admin = format!("http://{}", server.admin());
    fails(&with_input(fanfare(&["topics", "--admin", &admin]), ""), "FANFARE_ADMIN_TOKEN");
    let mut wrong = fanfare(&["topics", "--admin", &admin]);
    wrong.env("FANFARE_ADMIN_TOKEN", "another-token-of-some-length");
    fails(&with_input(wrong, ""), "does not accept this token");
    let nobody = format!("http://{}", TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap());
    let mut unreachable = fanfare(&["topics", "--admin", &nobody]);
    unreachable.env("FANFARE_ADMIN_TOKEN", TOKEN);
    fails(&with_input(unreachable, ""), &format!("{nobody}: no connection"));
    let mut elsewhere = fanfare(&["topics", "--admin", &format!("http://{}", server.address)]);
    elsewhere.env("FANFARE_ADMIN_TOKEN", TOKEN);
    fails(&with_input(elsewhere, ""), "no answer of Fanfare's HTTP API");
}

#[test]
fn another_server_is_told_from_one_of_ours() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let admin = format!("http://{}", listener.local_addr().unwrap());
    let asked: [(&[&str], &str, &str); 6] = [
        (&["why"], "[]", "it has no `facts`"),
        (&["topics"], r#"{"data": []}"#, "it has no `topics`"),
        (&["top", "--once"], "5", "it has no `rows`"),
        (&["history", "a"], r#"{"messages": 5}"#, "expected a sequence"),
        (&["tap", "--topic", "a"], "<html>", "it is no JSON, with the status 200"),
        (&["tap", "--topic", "a"], "{}", "it is not in lines"),
    ];
    let answers = asked.map(|(_, body, _)| body);
    let serving = std::thread::spawn(move || {
        for body in answers {
            let mut stream = BufReader::new(listener.accept().unwrap().0);
            let mut line = String::new();
            while line != "\r\n" {
                line.clear();
                stream.read_line(&mut line).unwrap();
            }
            let length = body.len();
            write!(stream.get_mut(), "HTTP/1.1 200 OK\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}")
                .unwrap();
        }
    });
    for (args, body, why) in asked {
        let mut command = fanfare(&[args, &["--admin", &admin]].concat());
        command.env("FANFARE_ADMIN_TOKEN", TOKEN);
        let ended = with_input(command, "");
        fails(&ended, &format!("{admin}: this is no answer of Fanfare's HTTP API"));
        fails(&ended, why);
        assert!(!format!("{ended:?}").contains("struct"), "{args:?} {body}");
    }
    serving.join().unwrap();
}

#[test]
fn addresses_and_token_come_from_the_configuration() {
    let free = || TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (listen, admin) = (free(), free());
    let folder = Folder::new();
    let token = folder.write("token", TOKEN);
    let config = format!("listen = '{listen}'\n{DOORS}\n{OPEN}\n[admin]\nlisten = '{admin}'\ntoken_file = {token:?}\n");
    let file = folder.write("fanfare.toml", &config);
    let file = file.to_str().unwrap();
    let _server = Server::run(fanfare(&["serve", "--config", file]));
    let mut phoenix = Sub::start(&["lobby", "--config", file, "--count", "1"]);
    let mut rooms = Sub::start(&["lobby", "--config", file, "--protocol", "rooms", "--count", "1"]);
    phoenix.told("joined lobby", 1);
    rooms.told("joined lobby", 1);
    let run = |args: &[&str]| with_input(fanfare(&[args, &["--config", file]].concat()), "");
    succeeds(&run(&["pub", "lobby", "e", r#"{"n":1}"#]), "{\"published\":1}\n");
    assert_eq!(phoenix.line(), r#"{"topic":"lobby","event":"e","payload":{"n":1}}"#);
    assert_eq!(rooms.line(), r#"{"n":1}"#);
    let none = folder.write("none.toml", OPEN);
    fails(&with_input(fanfare(&["topics", "--config", none.to_str().unwrap()]), ""), "has no [admin]");
}

#[test]
fn the_other_protocols() {
    let server = Server::serve(&format!("{DOORS}{OPEN}"));
    let at = |path: &str| format!("ws://{}{path}", server.address);

    let mut early = Sub::start(&["--protocol", "hub", "example.com/news", "--url", &at("/ws")]);
    assert_eq!(early.end().0, Some(1));
    early.told("nobody has started the topic", 1);
    let mut publisher = server.upgrade("/ws/pub/any-key/example.com/news", &[]).unwrap();
    let mut hub = Sub::start(&["--protocol", "hub", "example.com/news", "--url", &at("/ws")]);
    has_members(&server, "hub:example.com/news", 1);
    publisher.send_text("hi \"there\"");
    publisher.send_text(r#"{"a":1}"#);
    publisher.send_binary(&[0, 255]);
    for expected in [r#"{"text":"hi \"there\""}"#, r#"{"a":1}"#, r#"{"binary":"AP8="}"#] {
        assert_eq!(hub.line(), expected);
    }
    drop(publisher);
    assert_eq!(hub.end(), (Some(0), String::new()));
    hub.told("the topic has ended", 1);

    let mut bullet = Sub::start(&["--protocol", "bullet", "--param", "key=k 1", "--url", &at("/websocket")]);
    has_members(&server, "bridge:k 1", 1);
    succeeds(&api(&server, &["pub", "bridge:k 1", "e", r#"{"n":1}"#], ""), "{\"published\":1}\n");
    assert_eq!(bullet.line(), r#"{"n":1}"#);
    assert!(!bullet.stderr.lock().unwrap().contains("k%201"), "the key is not shown");

    let mut rooms = Sub::start(&["--protocol", "rooms", "lobby", "room:1", "--url", &at("/any")]);
    rooms.told("joined lobby", 1);
    rooms.told("joined room:1", 1);
    let mut phoenix = server.connect("");
    let join_ref = phoenix.join_ok("lobby");
    phoenix.send(json!([join_ref, "9", "lobby", "new", {"from": "phoenix"}]));
    assert_eq!(serde_json::from_str::<Value>(&rooms.line()).unwrap(), json!({"from": "phoenix"}));
    let mut refused = Sub::start(&["--protocol", "rooms", "elsewhere", "--url", &at("/any")]);
    assert_eq!(refused.end(), (Some(1), String::new()));
    refused.told(r#"elsewhere: the join was refused: {"reason":"unmatched topic"}"#, 1);
}

#[test]
fn wss_with_a_certificate_of_ones_own() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let server = Server::serve(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n{OPEN}"));
    let port = server.address.rsplit(':').next().unwrap();
    let url = format!("wss://localhost:{port}/socket");
    let by_variable = |command: &mut Command| {
        command.env("SSL_CERT_FILE", &cert);
    };
    let by_flag = |_: &mut Command| {};
    let named = ["--ca", cert.to_str().unwrap()];
    for (trust, prepare) in
        [(&[][..], &by_variable as &dyn Fn(&mut Command)), (&named, &by_flag), (&["--insecure"], &by_flag)]
    {
        let mut sub = Sub::start_with(&[&["lobby", "--url", &url], trust].concat(), prepare);
        sub.told("joined lobby", 1);
        sub.signal("-INT");
        assert_eq!(sub.end().0, Some(0), "{trust:?}");
    }
    let mut sub = Sub::start(&["lobby", "--url", &url]);
    assert_eq!(sub.end().0, Some(1));
    sub.told("--ca FILE trusts another certificate", 1);
}
