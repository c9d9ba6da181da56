//! What the tests of the binary share: the server as a process, a WebSocket client that types frames by hand, and HTTP.

#![allow(dead_code)] // Each test file uses its part of this.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tungstenite::protocol::CloseFrame;
use tungstenite::{Message, WebSocket};

use crate::services::namespace::Namespace;
pub(crate) use crate::services::process::Folder;

/// How long anything may take that is expected to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// How long to look for something that must not happen.
pub(crate) const SILENCE: Duration = Duration::from_millis(300);

/// The API token of servers that these tests start.
pub(crate) const TOKEN: &str = "an-api-token-for-the-tests";

/// A running `fanfare`. Killed when dropped.
pub(crate) struct Server {
    child: Child,
    /// Where clients connect: `127.0.0.1:PORT`.
    pub(crate) address: String,
    /// The line on the standard output.
    pub(crate) line: String,
    stderr: Arc<Mutex<String>>,
    folder: Option<Folder>,
}

impl Server {
    /// `fanfare dev` on free ports.
    pub(crate) fn dev() -> Self {
        Self::dev_with(|_| {})
    }

    /// The same with more in the environment.
    pub(crate) fn dev_with(prepare: impl FnOnce(&mut Command)) -> Self {
        let mut command = fanfare(&["dev", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0"]);
        command.env("FANFARE_ADMIN_TOKEN", TOKEN);
        prepare(&mut command);
        Self::start(command, None)
    }

    /// `fanfare serve` with this file, on free ports, with an HTTP API.
    pub(crate) fn serve(config: &str) -> Self {
        Self::serve_with(config, |_| {})
    }

    /// The same with more in the environment.
    pub(crate) fn serve_with(config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        Self::serve_at_with("127.0.0.1:0", config, prepare)
    }

    /// `fanfare serve` with this file at this address, with an HTTP API.
    pub(crate) fn serve_at(address: &str, config: &str) -> Self {
        Self::serve_at_with(address, config, |_| {})
    }

    /// The same with more in the environment.
    pub(crate) fn serve_at_with(address: &str, config: &str, prepare: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let file = folder.write("fanfare.toml", config);
        let mut command = fanfare(&["serve", "--config", file.to_str().unwrap(), "--listen", address]);
        command.args(["--admin", "127.0.0.1:0"]).env("FANFARE_ADMIN_TOKEN", TOKEN);
        prepare(&mut command);
        Self::start(command, Some(folder))
    }

    /// The same with other limits of the process: the arguments of `ulimit`.
    pub(crate) fn serve_under(ulimit: &str, config: &str) -> Self {
        let folder = Folder::new();
        let file = folder.write("fanfare.toml", config);
        let mut command =
            fanfare_under(ulimit, &["serve", "--config", file.to_str().unwrap(), "--listen", "127.0.0.1:0"]);
        command.args(["--admin", "127.0.0.1:0"]).env("FANFARE_ADMIN_TOKEN", TOKEN);
        Self::start(command, Some(folder))
    }

    /// `fanfare serve` with this file in a network of its own, with an HTTP API.
    pub(crate) fn serve_within(namespace: &Namespace, config: &str) -> Self {
        let folder = Folder::new();
        let file = folder.write("fanfare.toml", config);
        let address = format!("{}:0", namespace.address());
        let mut command = fanfare(&["serve", "--config", file.to_str().unwrap(), "--listen", &address]);
        command.args(["--admin", &address]).env("FANFARE_ADMIN_TOKEN", TOKEN);
        Self::start(namespace.run(&command), Some(folder))
    }

    /// Any command that starts a server.
    pub(crate) fn run(command: Command) -> Self {
        Self::start(command, None)
    }

    fn start(mut command: Command, folder: Option<Folder>) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = Arc::new(Mutex::new(String::new()));
        let (collected, mut pipe) = (stderr.clone(), BufReader::new(child.stderr.take().unwrap()));
        thread::spawn(move || {
            let mut line = String::new();
            while pipe.read_line(&mut line).is_ok_and(|size| size > 0) {
                collected.lock().unwrap().push_str(&line);
                line.clear();
            }
        });
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let address = line.split("://").nth(1).map(|rest| rest.trim().to_owned());
        let Some(address) = address else {
            thread::sleep(SILENCE);
            panic!("no address in {line:?}; the error output is:\n{}", stderr.lock().unwrap());
        };
        Self { child, address, line, stderr, folder }
    }

    /// The address of the HTTP API, from the log or from what `dev` explains.
    pub(crate) fn admin(&self) -> String {
        let found = self.wait_for_stderr(|stderr| {
            let line = stderr.lines().find(|line| line.contains("HTTP API"))?;
            let from = line.find("127.0.0.1:").or_else(|| Some(line.find("http://")? + "http://".len()))?;
            let address = line[from..].split(|c: char| !(c.is_ascii_digit() || c == '.' || c == ':')).next()?;
            Some(address.to_owned())
        });
        found.expect("the address of the HTTP API is told")
    }

    /// Writes another configuration to its file.
    pub(crate) fn rewrite(&self, config: &str) {
        self.folder.as_ref().expect("it was started with a file").write("fanfare.toml", config);
    }

    /// Has it read its configuration again.
    pub(crate) fn reload(&self) -> Answer {
        self.api("POST", "/api/reload", &Value::Null)
    }

    /// The number of its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What stands on the standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// Waits until something can be found on the standard error.
    pub(crate) fn wait_for_stderr<T>(&self, find: impl Fn(&str) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(found) = find(&self.stderr()) {
                return Some(found);
            }
            thread::sleep(Duration::from_millis(10));
        }
        None
    }

    /// A WebSocket at `/socket/websocket` with version 2 frames, and more of a query.
    pub(crate) fn connect(&self, query: &str) -> Client {
        self.try_connect(query).unwrap_or_else(|status| panic!("refused with {status}"))
    }

    /// The same, or the status of the refusal.
    pub(crate) fn try_connect(&self, query: &str) -> Result<Client, u16> {
        let and = if query.is_empty() { "" } else { "&" };
        self.upgrade(&format!("/socket/websocket?vsn=2.0.0{and}{query}"), &[])
    }

    /// An upgrade of any path.
    pub(crate) fn upgrade(&self, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
        dial(&self.address, path, headers)
    }

    /// A request to the listener for clients.
    pub(crate) fn http(&self, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        http(&self.address, method, path, headers, body)
    }

    /// A request to the HTTP API, with its token.
    pub(crate) fn api(&self, method: &str, path: &str, body: &Value) -> Answer {
        let body = if body.is_null() { String::new() } else { body.to_string() };
        http(&self.admin(), method, path, &[("authorization", &format!("Bearer {TOKEN}"))], &body)
    }

    /// Publishes a number, as the event `n`, by the HTTP API.
    pub(crate) fn publish(&self, topic: &str, n: u64) -> Answer {
        self.api("POST", "/api/publish", &serde_json::json!({ "topic": topic, "event": "n", "payload": { "n": n } }))
    }

    /// A command against the HTTP API, with its token.
    pub(crate) fn command(&self, args: &[&str]) -> Command {
        let mut command = fanfare(args);
        command.args(["--admin", &format!("http://{}", self.admin())]).env("FANFARE_ADMIN_TOKEN", TOKEN);
        command
    }

    /// A counter of the HTTP API.
    pub(crate) fn counter(&self, name: &str, reason: &str) -> u64 {
        let counters = self.api("GET", "/api/counters", &Value::Null).json();
        let found =
            counters["counters"].as_array().unwrap().iter().find(|c| c["name"] == name && c["reason"] == reason);
        found.unwrap_or_else(|| panic!("no counter {name}/{reason}"))["value"].as_u64().unwrap()
    }

    /// Sends a signal, such as `-TERM`.
    pub(crate) fn signal(&self, name: &str) {
        assert!(Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap().success());
    }

    /// Types a line, for a command that was started with a pipe to its standard input.
    pub(crate) fn type_line(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends SIGTERM and waits for the end.
    pub(crate) fn terminate(self) -> ExitStatus {
        self.signal("-TERM");
        self.wait(PATIENCE).0
    }

    /// Waits for the end: the status, and all that stands on the standard error.
    pub(crate) fn wait(mut self, limit: Duration) -> (ExitStatus, String) {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.stderr());
            }
            thread::sleep(Duration::from_millis(10));
        }
        panic!("still running after {limit:?}:\n{}", self.stderr());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn eventually(mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "not in time");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The binary with arguments, and nothing of the environment that it would take for settings.
pub(crate) fn fanfare(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanfare"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command.args(args);
    command
}

/// The same with other limits of the process.
pub(crate) fn fanfare_under(ulimit: &str, args: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", &format!("ulimit {ulimit} && exec \"$0\" \"$@\""), env!("CARGO_BIN_EXE_fanfare")]).args(args);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("FANFARE_")) {
        command.env_remove(name);
    }
    command
}

/// Runs the binary to its end: whether it succeeded, its output, its error output.
pub(crate) fn run(args: &[&str]) -> (bool, String, String) {
    let output = fanfare(args).output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (output.status.success(), text(output.stdout), text(output.stderr))
}

/// A connection that is upgraded, or the status of the refusal.
pub(crate) fn dial(address: &str, path: &str, headers: &[(&'static str, &str)]) -> Result<Client, u16> {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut request =
        tungstenite::client::IntoClientRequest::into_client_request(format!("ws://{address}{path}")).unwrap();
    for (name, value) in headers {
        request.headers_mut().insert(*name, value.parse().unwrap());
    }
    match tungstenite::client(request, stream) {
        Ok((socket, _)) => Ok(Client { socket, next_ref: 1 }),
        Err(tungstenite::HandshakeError::Failure(tungstenite::Error::Http(response))) => {
            Err(response.status().as_u16())
        }
        Err(error) => panic!("{error}"),
    }
}

/// A WebSocket client that knows nothing of channels.
pub(crate) struct Client {
    socket: WebSocket<TcpStream>,
    next_ref: u32,
}

impl Client {
    /// Sends a frame.
    pub(crate) fn send(&mut self, frame: Value) {
        self.send_text(&frame.to_string());
    }

    /// Sends any text.
    pub(crate) fn send_text(&mut self, text: &str) {
        self.socket.send(Message::text(text)).unwrap();
    }

    /// Sends a binary frame.
    pub(crate) fn send_binary(&mut self, data: &[u8]) {
        self.socket.send(Message::binary(data.to_vec())).unwrap();
    }

    /// The next message. A signal to the process, such as that of a stopped debugger, is no end of the connection.
    fn read(&mut self) -> tungstenite::Result<Message> {
        loop {
            match self.socket.read() {
                Err(tungstenite::Error::Io(error)) if error.kind() == ErrorKind::Interrupted => {}
                read => return read,
            }
        }
    }

    /// The next frame.
    pub(crate) fn receive(&mut self) -> Value {
        loop {
            match self.read().expect("a frame") {
                Message::Text(text) => return serde_json::from_str(&text).unwrap(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// The next text.
    pub(crate) fn receive_text(&mut self) -> String {
        loop {
            match self.read().expect("a frame") {
                Message::Text(text) => return text.to_string(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// The next frame, a text or the bytes of a binary one.
    pub(crate) fn receive_frame(&mut self) -> Result<String, Vec<u8>> {
        loop {
            match self.read().expect("a frame") {
                Message::Text(text) => return Ok(text.to_string()),
                Message::Binary(bytes) => return Err(bytes.to_vec()),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Sends a close frame.
    pub(crate) fn close(&mut self, code: u16, reason: &str) {
        let frame = CloseFrame { code: code.into(), reason: reason.into() };
        self.socket.close(Some(frame)).unwrap();
    }

    /// Checks that the next frame is this one.
    #[track_caller]
    pub(crate) fn expect(&mut self, frame: Value) {
        assert_eq!(self.receive(), frame);
    }

    /// Reads up to the frame with this event, and returns its payload.
    pub(crate) fn receive_event(&mut self, event: &str) -> Value {
        loop {
            let frame = self.receive();
            if frame[3] == event {
                return frame[4].clone();
            }
        }
    }

    /// The next frame, if one comes before the close frame.
    pub(crate) fn receive_before_close(&mut self) -> Option<Value> {
        loop {
            match self.read().expect("a frame") {
                Message::Close(_) => return None,
                Message::Text(text) => return Some(serde_json::from_str(&text).unwrap()),
                _ => {}
            }
        }
    }

    /// The payload of the next frame with this event, if one comes before the close frame.
    pub(crate) fn receive_event_before_close(&mut self, event: &str) -> Option<Value> {
        loop {
            let frame = self.receive_before_close()?;
            if frame[3] == event {
                return Some(frame[4].clone());
            }
        }
    }

    /// Reads up to the frame with this event, and returns its text.
    pub(crate) fn receive_text_with(&mut self, event: &str) -> String {
        loop {
            match self.read().expect("a frame") {
                Message::Text(text) if text.contains(event) => return text.to_string(),
                Message::Close(close) => panic!("closed: {close:?}"),
                _ => {}
            }
        }
    }

    /// Checks that nothing comes for a while.
    #[track_caller]
    pub(crate) fn expect_silence(&mut self) {
        self.expect_silence_but("");
    }

    /// Checks that nothing comes for a while, or only this event.
    #[track_caller]
    pub(crate) fn expect_silence_but(&mut self, event: &str) {
        self.socket.get_ref().set_read_timeout(Some(SILENCE)).unwrap();
        loop {
            match self.read() {
                Err(tungstenite::Error::Io(_)) => break,
                Ok(Message::Text(text)) if !event.is_empty() && text.contains(event) => {}
                other => panic!("{other:?}"),
            }
        }
        self.socket.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
    }

    /// Reads up to the end: the close code.
    pub(crate) fn receive_close(&mut self) -> u16 {
        self.receive_close_reason().0
    }

    /// Reads up to the end: the close code, and what is said beside it.
    pub(crate) fn receive_close_reason(&mut self) -> (u16, String) {
        loop {
            match self.read() {
                Ok(Message::Close(Some(close))) => return (close.code.into(), close.reason.to_string()),
                Ok(Message::Close(None)) => return (1005, String::new()),
                Ok(_) => {}
                Err(error) => panic!("no close frame: {error}"),
            }
        }
    }

    /// Reads up to the end, with a close frame or without.
    pub(crate) fn receive_end(&mut self) {
        while self.read().is_ok_and(|message| !message.is_close()) {}
    }

    /// How long to wait for a frame.
    pub(crate) fn set_patience(&mut self, patience: Duration) {
        self.socket.get_ref().set_read_timeout(Some(patience)).unwrap();
    }

    /// Joins a topic: the reply.
    pub(crate) fn join(&mut self, topic: &str, payload: Value) -> Value {
        let own_ref = self.new_ref();
        self.send(json!([own_ref, own_ref, topic, "phx_join", payload]));
        self.reply_to(&own_ref)
    }

    /// Joins a topic, which must succeed: the join_ref.
    #[track_caller]
    pub(crate) fn join_ok(&mut self, topic: &str) -> String {
        self.join_ok_with(topic, json!({}))
    }

    /// The same with a payload.
    pub(crate) fn join_ok_with(&mut self, topic: &str, payload: Value) -> String {
        let own_ref = self.new_ref();
        self.send(json!([own_ref, own_ref, topic, "phx_join", payload]));
        let reply = self.reply_to(&own_ref);
        assert_eq!(reply["status"], "ok", "{reply}");
        own_ref
    }

    /// Pushes an event to a joined topic: the reply.
    pub(crate) fn push(&mut self, join_ref: &str, topic: &str, event: &str, payload: Value) -> Value {
        let own_ref = self.new_ref();
        self.send(json!([join_ref, own_ref, topic, event, payload]));
        self.reply_to(&own_ref)
    }

    /// Pushes an event on the protocol's own topic: the reply.
    pub(crate) fn push_on_phoenix(&mut self, event: &str, payload: Value) -> Value {
        let own_ref = self.new_ref();
        self.send(json!([null, own_ref, "phoenix", event, payload]));
        self.reply_to(&own_ref)
    }

    /// Sends a heartbeat, which must be answered: nothing else has happened before the answer.
    #[track_caller]
    pub(crate) fn heartbeat(&mut self) {
        let own_ref = self.new_ref();
        self.send(json!([null, own_ref, "phoenix", "heartbeat", {}]));
        self.expect(json!([null, own_ref, "phoenix", "phx_reply", {"status": "ok", "response": {}}]));
    }

    fn new_ref(&mut self) -> String {
        self.next_ref += 1;
        self.next_ref.to_string()
    }

    fn reply_to(&mut self, own_ref: &str) -> Value {
        loop {
            let frame = self.receive();
            if frame[3] == "phx_reply" && frame[1] == own_ref {
                return frame[4].clone();
            }
        }
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Answer {
    /// The body as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request on a connection of its own, as `curl` makes it.
pub(crate) fn http(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let mut request = format!("{method} {path} HTTP/1.1\r\nhost: {address}\r\nconnection: close\r\n");
    for (name, value) in headers {
        write!(request, "{name}: {value}\r\n").unwrap();
    }
    write!(request, "content-length: {}\r\n\r\n{body}", body.len()).unwrap();
    // A refusal may come, and the connection go, before all of a large body was sent.
    let _ = stream.write_all(request.as_bytes());
    let mut response = Vec::new();
    let _ = stream.read_to_end(&mut response);
    let response = String::from_utf8(response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {response:?}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let lines = head.lines().skip(1).filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = lines.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let is_chunked = headers.get("transfer-encoding").is_some_and(|coding| coding == "chunked");
    Answer { status, headers, body: if is_chunked { unchunk(body) } else { body.to_owned() } }
}

fn unchunk(mut rest: &str) -> String {
    let mut body = String::new();
    while let Some((size, after)) = rest.split_once("\r\n") {
        let size = usize::from_str_radix(size, 16).unwrap();
        body.push_str(&after[..size]);
        rest = after.get(size + 2..).unwrap_or_default();
    }
    body
}
