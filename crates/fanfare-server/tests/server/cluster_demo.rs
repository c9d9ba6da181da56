//! `fanfare cluster demo`: people chat on several nodes, one of them is killed, and the chat goes on on another.

use std::net::TcpStream;
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};

use crate::services::process;
use crate::support::{Client, Server, eventually, fanfare, run};

/// The reference of the first join of a socket.
const JOIN: &str = "2";

/// How long everything may take to end.
const ENDING: Duration = Duration::from_secs(20);

/// A demo, which ends with its test whatever becomes of that.
struct Demo(Option<Server>);

impl Demo {
    /// With two nodes.
    fn start(broker: &str) -> Self {
        let mut command = fanfare(&["cluster", "demo", "--nodes", "2", "--broker", broker, "--listen", "127.0.0.1:0"]);
        command.stdin(Stdio::piped());
        Demo(Some(Server::run(command)))
    }

    fn server(&mut self) -> &mut Server {
        self.0.as_mut().expect("it has not ended")
    }

    /// Waits until it says something: the rest of that line.
    fn says(&mut self, what: &str) -> String {
        let rest = |said: &str| Some(said.split_once(what)?.1.split_once('\n')?.0.to_owned());
        self.server().wait_for_stderr(rest).unwrap_or_else(|| panic!("{what}: {}", self.server().stderr()))
    }

    /// Somebody at the load balancer: which node that is, and the socket.
    fn visit(&mut self, name: &str, resume: Value) -> (String, Client) {
        let mut client = self.server().connect("");
        let reply = client.join("room:lobby", json!({ "name": name, "resume": resume }));
        (reply["response"]["node"].as_str().unwrap_or_else(|| panic!("{reply}")).to_owned(), client)
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        if let Some(server) = self.0.take() {
            server.signal("-INT");
            server.wait(ENDING);
        }
    }
}

fn say(client: &mut Client, body: &str) {
    client.send(json!([JOIN, "7", "room:lobby", "new_msg", { "body": body }]));
}

/// Waits for a message: its position.
fn hears(client: &mut Client, body: &str) -> Value {
    loop {
        let frame = client.receive();
        if frame[3] == "new_msg" {
            assert_eq!(frame[4]["body"], body);
            return frame[1].clone();
        }
    }
}

#[test]
fn the_chat_of_a_killed_node_goes_on_on_another() {
    for broker in ["redis", "nats", "memory"] {
        let mut demo = Demo::start(broker);
        let ((first, mut ann), (second, mut bob)) = (demo.visit("Ann", json!(true)), demo.visit("Bob", json!(true)));
        assert_ne!(first, second, "each connection goes to the next node");
        let pages = [&first, &second].map(|node| demo.says(&format!("  {node}   http://")));
        say(&mut ann, "hello");
        hears(&mut bob, "hello");
        let position = hears(&mut ann, "hello");

        match pages[0].split_once("kill it: ") {
            Some((_, command)) => drop(process::run(std::process::Command::new("sh").args(["-c", command]))),
            None => demo.server().type_line(&first[5..]),
        }
        assert_eq!(pages[0].contains("kill -9"), broker != "memory", "{pages:?}");
        demo.says(&format!("{first} has ended: "));
        ann.receive_end();
        say(&mut bob, "still here?");
        hears(&mut bob, "still here?");
        let (now_on, mut ann) = demo.visit("Ann", position);
        assert_eq!(now_on, second);
        hears(&mut ann, "still here?");
        say(&mut ann, "back again");
        hears(&mut bob, "back again");

        demo.server().type_line(&first[5..]);
        demo.says(&format!("{first} is back: "));
        eventually(|| demo.visit("Cleo", json!(false)).0 == first);
        let addresses = pages.map(|page| page.split_once('/').unwrap().0.to_owned());
        let broker = demo.says(" with ").split_once('(').map(|(_, rest)| rest.split_once(')').unwrap().0.to_owned());
        drop(demo);
        for address in addresses.into_iter().chain(broker) {
            assert!(TcpStream::connect(&address).is_err(), "{address} still listens");
        }
    }
}

#[test]
fn a_demo_that_cannot_be_says_why() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    let cases: [(&[&str], &str); 3] = [
        (&["--listen", &taken], "choose another --listen address"),
        (&["--nodes", "0"], "0 is not in 1..=20"),
        (&["--broker", "kafka"], "possible values: redis, nats, memory"),
    ];
    for (args, said) in cases {
        let (is_ok, _, error) = run(&[&["cluster", "demo"], args].concat());
        assert!(!is_ok && error.contains(said), "{args:?}: {error}");
    }
    for broker in ["redis", "nats"] {
        let mut command = fanfare(&["cluster", "demo", "--broker", broker, "--listen", "127.0.0.1:0"]);
        let output = command.env("PATH", "/nowhere").output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        let said = format!("{broker}-server is not installed; install it, or take --broker memory");
        assert!(error.contains(&said), "{error}");
    }
}
