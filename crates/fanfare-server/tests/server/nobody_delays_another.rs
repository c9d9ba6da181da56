//! A server that Fanfare depends on and that never answers delays nobody who does not need its answer: a database with API keys, a
//! back end that is asked or told, a Redis that messages come from or that is told of connections.

use std::io::{ErrorKind, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Client, Server};

/// No victim waits longer, on a machine with other work to do.
const WAIT_MAX: Duration = Duration::from_secs(1);

/// How long the victims are looked at.
const TIME: Duration = Duration::from_millis(1_500);

/// What every server has beside the one that hangs.
const OPEN: &str = "[[endpoint]]\npath = '/open'\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\npublish = 'open'\n";

/// The configuration with an address that never answers, and what clients do that have to wait for it.
struct Row {
    configuration: &'static str,
    offend: fn(&Server) -> Waiting,
}

/// Whoever waits for what never comes.
#[derive(Default)]
struct Waiting {
    guests: Vec<TcpStream>,
    _members: Vec<Client>,
}

#[test]
fn a_database_that_hangs() {
    check(&Row {
        configuration: "[keys.clients]\nstore = 'postgres'\nurl = 'postgres://fanfare@{silent}/fanfare?sslmode=disable'\n\
                        [auth.keys]\nkind = 'apikeys'\nkeys = 'clients'\n[[endpoint]]\npath = '/guarded'\nauth = 'keys'\n",
        offend: |server| Waiting { guests: guests(server), ..Waiting::default() },
    });
}

#[test]
fn a_back_end_that_is_asked_and_hangs() {
    check(&Row {
        configuration: "[hook.back_end]\nurl = 'http://{silent}/asked'\n[auth.users]\nkind = 'hook'\nhook = 'back_end'\n\
                        [[endpoint]]\npath = '/guarded'\nauth = 'users'\n\
                        [[channel]]\ntopic = 'asked:*'\njoin = 'hook:back_end'\n",
        offend: |server| Waiting { guests: guests(server), _members: members(server, "asked") },
    });
}

#[test]
fn a_back_end_that_is_told_and_hangs() {
    check(&Row {
        configuration: "[[webhook]]\nurl = 'http://{silent}/told'\n",
        offend: |server| Waiting { _members: members(server, "room"), ..Waiting::default() },
    });
}

#[test]
fn a_redis_that_hangs() {
    check(&Row {
        configuration: "[bridge]\nurl = 'redis://{silent}'\n\
                        [source.redis]\nkind = 'redis'\nurl = 'redis://{silent}'\nchannels = 'events'\n",
        offend: |server| Waiting { _members: members(server, "room"), ..Waiting::default() },
    });
}

fn check(row: &Row) {
    let silent = Silent::start();
    let configuration = row.configuration.replace("{silent}", &silent.address.to_string());
    let server = Server::serve(&format!("{configuration}{OPEN}"));
    let waiting = (row.offend)(&server);
    let mut reader = newcomer(&server);
    let mut waits =
        [("a newcomer", Duration::ZERO), ("a reader", Duration::ZERO), ("the health report", Duration::ZERO)];
    let begun = Instant::now();
    for n in 0.. {
        let [to_join, to_read, to_report] = &mut waits;
        longer(to_join, || drop(newcomer(&server)));
        longer(to_read, || {
            let message = json!({ "topic": "room:1", "event": "n", "payload": { "n": n } });
            assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
            assert_eq!(reader.receive()[4]["n"], n);
        });
        longer(to_report, || assert_eq!(server.api("GET", "/api/health", &Value::Null).status, 200));
        if begun.elapsed() > TIME {
            break;
        }
        thread::sleep(Duration::from_millis(10));
    }
    assert!(silent.connections() > 0, "nobody has asked it for anything");
    for guest in &waiting.guests {
        guest.set_nonblocking(true).unwrap();
        let waits = guest.peek(&mut [0]).is_err_and(|error| error.kind() == ErrorKind::WouldBlock);
        assert!(waits, "a guest was let in or refused without an answer");
    }
    let late: Vec<_> = waits.iter().filter(|(_, wait)| *wait > WAIT_MAX).collect();
    assert!(late.is_empty(), "of at most {WAIT_MAX:?} waited: {late:?}\n{}", server.stderr());
}

fn longer((_, longest): &mut (&str, Duration), act: impl FnOnce()) {
    let begun = Instant::now();
    act();
    *longest = begun.elapsed().max(*longest);
}

fn newcomer(server: &Server) -> Client {
    let mut client = server.upgrade("/open/websocket?vsn=2.0.0", &[]).unwrap_or_else(|status| panic!("{status}"));
    client.join_ok("room:1");
    client
}

/// Clients whose credentials have to be looked up.
fn guests(server: &Server) -> Vec<TcpStream> {
    let key = "ff_abcdefgh_0123456789abcdefghijklmnopqrstuvwxyzABCDEFG";
    let request = format!(
        "GET /guarded/websocket?vsn=2.0.0&token={key} HTTP/1.1\r\nhost: {}\r\nconnection: upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
        server.address
    );
    let guest = |_| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    (0..20).map(guest).collect()
}

/// Clients that join a topic of their own, and do not wait for the reply.
fn members(server: &Server, kind: &str) -> Vec<Client> {
    let member = |n| {
        let mut client = server.upgrade("/open/websocket?vsn=2.0.0", &[]).unwrap_or_else(|status| panic!("{status}"));
        client.send(json!(["1", "1", format!("{kind}:member-{n}"), "phx_join", {}]));
        client
    };
    (0..20).map(member).collect()
}

/// Takes connections, and never says a word.
struct Silent {
    address: SocketAddr,
    taken: Arc<Mutex<Vec<TcpStream>>>,
}

impl Silent {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let taken = Arc::new(Mutex::new(Vec::new()));
        let kept = taken.clone();
        thread::spawn(move || {
            listener.incoming().map_while(Result::ok).for_each(|stream| kept.lock().unwrap().push(stream))
        });
        Silent { address, taken }
    }

    fn connections(&self) -> usize {
        self.taken.lock().unwrap().len()
    }
}
