//! The example `cluster`: two processes on one Redis, of which one is killed.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::brokers::{process, redis_server};

const PATIENCE: Duration = Duration::from_secs(30);

/// A process of the example, which was built with this test.
struct Node {
    child: Child,
    address: String,
}

impl Node {
    fn start(redis: &process::Service) -> Node {
        let program: PathBuf = std::env::current_exe().unwrap().ancestors().nth(2).unwrap().join("examples/cluster");
        let mut command = Command::new(program);
        command.args(["--port", "0", "--redis", &format!("redis://127.0.0.1:{}", redis.port)]);
        let mut child =
            command.stdout(Stdio::piped()).spawn().expect("the example is built with the tests of its crate");
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        Node { child, address: line.split("http://").nth(1).unwrap().trim().to_owned() }
    }

    fn request(&self, head: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let size = body.len();
        write!(stream, "{head} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {size}\r\n\r\n{body}").unwrap();
        stream
    }

    /// Says something, as soon as it can be said.
    fn say(&self, text: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut status = [0; 12];
            self.request("POST /say/lobby", text).read_exact(&mut status).unwrap();
            match &status[9..] {
                b"204" => return,
                b"503" if Instant::now() < deadline => std::thread::sleep(Duration::from_millis(20)),
                other => panic!("{}", String::from_utf8_lossy(other)),
            }
        }
    }

    /// What is said from a position on, with the position of each.
    fn hear(&self, since: &str) -> impl Iterator<Item = (String, String)> {
        let stream = self.request(&format!("GET /events/room:lobby?since={since}"), "");
        BufReader::new(stream).lines().map_while(Result::ok).filter(|line| line.contains("\"said\"")).map(|line| {
            let line: serde_json::Value = serde_json::from_str(&line).unwrap();
            let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
            (text(&line["payload"]["body"]), text(&line["position"]))
        })
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn what_is_said_on_one_is_heard_on_the_other_also_by_those_who_come_from_a_node_that_was_killed() {
    let redis = redis_server::start();
    let [one, two] = [(); 2].map(|()| Node::start(&redis));
    one.say("first");
    let mut heard = two.hear("0:0");
    let (text, position) = heard.next().unwrap();
    assert_eq!(text, "first");
    two.say("second");
    assert_eq!(heard.next().unwrap().0, "second");
    drop(heard);
    drop(two);
    one.say("third");
    let texts: Vec<_> = one.hear(&position).take(2).map(|(text, _)| text).collect();
    assert_eq!(texts, ["second", "third"]);
}
