//! The first moments of a node: who comes back to it before it is connected to its broker waits, and is not told to come again.

use std::net::TcpStream;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use tungstenite::{Message, WebSocket};

use crate::services::{Service, nats, redis};
use crate::support::{PATIENCE, Server, eventually, http};

fn config(url: &str, timeout: &str) -> String {
    format!(
        "[broker]\nurl = '{url}'\ntimeout = '{timeout}'\n[[endpoint]]\n\
         [[channel]]\ntopic = 'kept'\njoin = 'open'\nhistory = {{ messages = 10000 }}\n\
         [[channel]]\ntopic = 'plain'\njoin = 'open'\n"
    )
}

/// What all clients of a test share.
struct Crowd {
    /// Where the nodes are: each connection goes to the next one.
    places: [String; 2],
    connections: AtomicUsize,
    /// The number of the last message, once it is known.
    last: AtomicU64,
}

impl Crowd {
    fn connect(&self) -> Option<WebSocket<TcpStream>> {
        let place = &self.places[self.connections.fetch_add(1, Ordering::Relaxed) % self.places.len()];
        let stream = TcpStream::connect(place).ok()?;
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let socket = tungstenite::client(format!("ws://{place}/socket/websocket?vsn=2.0.0"), stream).ok()?;
        Some(socket.0)
    }

    /// Follows the topic to its end, with another connection after every few messages, or when none has come for a moment. Fails if a join is
    /// refused, or a message is missing.
    fn follow(&self) {
        let (mut position, mut got) = (json!("0:0"), 0);
        loop {
            let Some(mut socket) = self.connect() else { continue };
            let join = json!(["1", "1", "kept", "phx_join", { "resume": position }]);
            if socket.send(Message::text(join.to_string())).is_err() {
                continue;
            }
            let until = got + 7;
            // An end of the connection is that of its node.
            while let Ok(message) = socket.read() {
                let Message::Text(text) = message else { continue };
                let frame: Value = serde_json::from_str(&text).unwrap();
                match frame[3].as_str() {
                    Some("phx_reply") => {
                        assert_eq!(frame[4]["response"]["resume"]["recovered"], true, "{frame} behind {position}");
                        socket.get_ref().set_read_timeout(Some(Duration::from_millis(50))).unwrap();
                    }
                    Some("n") => {
                        assert_eq!(frame[4]["n"], got + 1, "{frame}");
                        (position, got) = (frame[1].clone(), got + 1);
                    }
                    _ => panic!("{frame}"),
                }
                if got == self.last.load(Ordering::SeqCst) {
                    return;
                }
                if got == until {
                    break;
                }
            }
        }
    }
}

fn publish(node: &Server, number: u64) {
    let key = number.to_string();
    let message = json!({ "topic": "kept", "event": "n", "payload": { "n": number }, "idempotency_key": key });
    eventually(|| node.api("POST", "/api/publish", &message).status == 200);
}

#[test]
fn a_node_that_is_restarted_under_load_refuses_no_client_that_resumes_and_loses_nothing() {
    let redis = redis::start();
    let config = config(&redis.redis_url(), "2s");
    let [one, two] = [(); 2].map(|()| Server::serve(&config));
    let crowd = Crowd {
        places: [&one, &two].map(|node| node.address.clone()),
        connections: AtomicUsize::new(0),
        last: AtomicU64::new(u64::MAX),
    };
    let is_over = AtomicUsize::new(0);
    publish(&one, 1);
    thread::scope(|scope| {
        let followers: Vec<_> = (0..8).map(|_| scope.spawn(|| crowd.follow())).collect();
        scope.spawn(|| {
            for number in 2.. {
                if is_over.load(Ordering::SeqCst) == 1 {
                    crowd.last.store(number, Ordering::SeqCst);
                    return publish(&one, number);
                }
                publish(&one, number);
                thread::sleep(Duration::from_millis(3));
            }
        });
        thread::sleep(Duration::from_millis(300));
        two.signal("-KILL");
        // So that its first moments take half a second.
        redis.redis(&["CLIENT", "PAUSE", "500"]);
        let again = Server::serve_at(&two.address, &config);
        thread::sleep(Duration::from_millis(300));
        is_over.store(1, Ordering::SeqCst);
        let outcomes = followers.into_iter().map(|follower| follower.join().is_ok());
        assert!(outcomes.fold(true, |all, is_ok| all & is_ok), "{}", again.stderr());
    });
}

#[test]
fn whoever_comes_before_the_broker_waits_for_it() {
    let wait = |mut broker: Service, url: &str| {
        let config = config(url, "100ms");
        let before = Server::serve(&config);
        publish(&before, 1);
        let kept = before.api("GET", "/api/history/kept?since=0:0", &Value::Null).json();
        let position = &kept["messages"][0]["position"];
        publish(&before, 2);
        drop(before);
        broker.kill();
        let node = Server::serve(&config);
        let probe = http(&node.admin(), "GET", "/readyz", &[], "");
        assert!(probe.status == 503 && probe.body.contains("not connected since the start"), "{probe:?}");
        let [mut resumes, mut joins] = [(); 2].map(|()| node.connect(""));
        resumes.send(json!(["1", "1", "kept", "phx_join", { "resume": position }]));
        joins.send(json!(["1", "1", "plain", "phx_join", {}]));
        broker.restart();
        let reply = resumes.receive();
        assert_eq!(reply[4]["response"]["resume"]["recovered"], true, "{reply}");
        assert_eq!(resumes.receive_event("n")["n"], 2);
        assert_eq!(joins.receive()[4]["status"], "ok");
        eventually(|| http(&node.admin(), "GET", "/readyz", &[], "").status == 200);
    };
    thread::scope(|scope| {
        let (redis, nats) = (redis::start(), nats::start_jetstream());
        let urls = [redis.redis_url(), nats.nats_url()];
        for (broker, url) in [redis, nats].into_iter().zip(urls) {
            scope.spawn(move || wait(broker, &url));
        }
    });
}
