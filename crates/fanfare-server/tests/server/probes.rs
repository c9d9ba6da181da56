//! What balancers, orchestrators and service managers are told: `/livez`, `/readyz`, and the notifications of systemd.

use std::os::unix::net::UnixDatagram;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, Server, http};

const LOBBY: &str = "drain = { limit = '10m', batch = 1, every = '60s' }\n[[channel]]\npreset = 'lobby'\n";

fn probe(server: &Server, path: &str) -> (u16, Value) {
    let answer = http(&server.admin(), "GET", path, &[], "");
    (answer.status, answer.json())
}

#[test]
fn a_server_that_drains_is_live_and_not_ready() {
    let server = Server::serve(LOBBY);
    assert_eq!(probe(&server, "/livez"), (200, json!({"live": true, "reasons": []})));
    assert_eq!(probe(&server, "/readyz"), (200, json!({"ready": true, "reasons": []})));
    let _clients = [server.connect(""), server.connect("")];
    server.signal("-TERM");
    assert!(server.wait_for_stderr(|log| log.contains("draining").then_some(())).is_some());
    let draining = json!({"ready": false, "reasons": ["draining"]});
    let deadline = Instant::now() + PATIENCE;
    while probe(&server, "/readyz") != (503, draining.clone()) {
        assert!(Instant::now() < deadline, "{:?}", probe(&server, "/readyz"));
    }
    assert_eq!(probe(&server, "/livez").0, 200);
}

#[test]
fn the_service_manager_is_told_that_it_is_ready_alive_and_stopping() {
    let folder = Folder::new();
    let path = folder.path("notify");
    let manager = UnixDatagram::bind(&path).unwrap();
    manager.set_read_timeout(Some(PATIENCE)).unwrap();
    let server = Server::serve_with(LOBBY, |command| {
        command.env("NOTIFY_SOCKET", &path).env("WATCHDOG_USEC", "400000");
    });
    let next = || {
        let mut buffer = [0; 1_000];
        let size = manager.recv(&mut buffer).expect("a notification");
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    };
    assert!(next().starts_with("READY=1"));
    let _client = server.connect("");
    let (mut fed, begun) = (0, Instant::now());
    while fed < 4 {
        let told = next();
        fed += u32::from(told.starts_with("WATCHDOG=1"));
        assert!(told.starts_with("WATCHDOG=1") || (told.starts_with("STATUS=") && told.contains("sockets")), "{told}");
    }
    assert!(begun.elapsed() >= Duration::from_millis(400), "{:?}", begun.elapsed());
    server.signal("-TERM");
    let deadline = Instant::now() + PATIENCE;
    while !next().contains("STOPPING=1") {
        assert!(Instant::now() < deadline);
    }
}

#[test]
fn before_a_drain_it_is_told_while_all_goes_on() {
    let server = Server::serve("drain = { announce = '2s' }\n[[channel]]\npreset = 'lobby'\npresence = false\n");
    let mut client = server.connect("");
    server.signal("-TERM");
    let told = server.wait_for_stderr(|log| log.contains("going to drain").then_some(Instant::now()));
    let told = told.expect("it is logged");
    assert_eq!(probe(&server, "/readyz"), (503, json!({"ready": false, "reasons": ["draining"]})));
    assert_eq!(probe(&server, "/livez").0, 200);
    server.connect("").join_ok("room:lobby");
    client.heartbeat();
    assert_eq!(client.receive_close(), 1012);
    assert!(told.elapsed() >= Duration::from_millis(1_500), "{:?}", told.elapsed());
}

#[test]
fn the_port_of_the_traffic_answers_probes_where_that_was_written_down() {
    let rooms = "[[endpoint]]\npath = '/'\nprotocol = 'rooms'\n[[channel]]\ntopic = '*'\njoin = 'open'\n";
    for (config, status) in [(format!("health = true\n{rooms}"), 200), (rooms.to_owned(), 400)] {
        let server = Server::serve(&config);
        for path in ["/livez", "/readyz"] {
            let answer = http(&server.address, "GET", path, &[], "");
            assert_eq!(answer.status, status, "{path}: {answer:?}");
            assert!(status != 200 || answer.body.is_empty(), "{answer:?}");
        }
        assert!(server.upgrade("/livez/of/mine", &[]).is_ok());
    }
}

#[test]
fn a_server_is_not_ready_without_the_parts_that_it_needs() {
    let jwks = "[auth.j]\nkind = 'jwt'\nalgorithms = 'ES256'\njwks_url = 'http://127.0.0.1:9/'\njwks_allow_http = true\n\
                [[endpoint]]\nauth = 'j'\n[[channel]]\ntopic = '*'\n";
    let server = Server::serve(&format!("ready_needs = 'keys.j'\n{jwks}"));
    assert_eq!(probe(&server, "/readyz"), (503, json!({"ready": false, "reasons": ["keys.j is unavailable"]})));
    server.rewrite(jwks);
    assert_eq!(server.reload().status, 200);
    assert_eq!(probe(&server, "/readyz"), (200, json!({"ready": true, "reasons": []})));
    server.rewrite(&format!("ready_needs = ['keys.k', 'hook.a']\n{jwks}"));
    let problems = server.reload().json()["error"]["problems"].take();
    let texts: Vec<_> =
        problems.as_array().unwrap().iter().map(|problem| problem["message"].as_str().unwrap()).collect();
    assert!(texts[0].contains("there is no keys.k") && texts[1].contains("there are hooks, keys"), "{texts:?}");
}
