//! What metrics say of time, and of what is not counted by events.

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::exposition::Exposition;
use super::scrape;
use crate::back_end::{BackEnd, Reply};
use crate::support::{Folder, Server, TOKEN, eventually, http};

const LATE: Duration = Duration::from_millis(120);

/// The sum of a histogram, which everything that it has counted took.
fn sum(told: &Exposition, name: &str, labels: &str) -> Duration {
    Duration::from_secs_f64(told.value(&format!("{name}_sum{labels}")))
}

#[test]
fn a_slow_hook_is_in_the_time_of_the_hook_of_the_join_and_of_the_handshake() {
    let back_end = BackEnd::new(|request| {
        let asked = request.json();
        Reply::Late(LATE, json!({ "allow": asked["token"] != "bad" }))
    });
    let url = back_end.url();
    let began = Instant::now();
    let server = Server::serve(&format!(
        "[metrics]\nlisten = '127.0.0.1:0'\n[hook.h]\nurl = '{url}'\n[auth.users]\nkind = 'hook'\nhook = 'h'\n\
         [[endpoint]]\nauth = 'users'\n[[channel]]\ntopic = 'slow'\njoin = 'hook:h'\n[[channel]]\ntopic = 'fast'\njoin = 'open'\n"
    ));
    assert_eq!(server.try_connect("token=bad").err(), Some(403));
    let mut client = server.connect("token=good");
    client.join_ok("fast");
    client.join_ok("slow");
    let most = began.elapsed();
    let told = scrape(&server);
    let between = |name: &str, labels: &str, least: Duration| {
        let sum = sum(&told, name, labels);
        assert!((least..=most).contains(&sum), "{name}{labels}: {sum:?} is not from {least:?} to {most:?}");
    };
    // Two connects and a join, of which joins are measured in milliseconds of the shard.
    between("fanfare_hook_seconds", "{hook=\"h\"}", 3 * LATE);
    between("fanfare_join_seconds", "{channel=\"slow\"}", LATE - Duration::from_millis(10));
    between("fanfare_handshake_seconds", "{transport=\"websocket\"}", LATE);
    assert_eq!(told.value("fanfare_hook_seconds_bucket{le=\"0.1\",hook=\"h\"}"), 0.0);
    assert_eq!(told.value("fanfare_hook_seconds_bucket{le=\"+Inf\",hook=\"h\"}"), 3.0);
    assert_eq!(told.value("fanfare_join_seconds_bucket{le=\"+Inf\",channel=\"fast\"}"), 1.0);
    for (result, expected) in [("ok", 1.0), ("invalid", 1.0), ("missing", 0.0), ("expired", 0.0)] {
        let series = format!("fanfare_auth_total{{auth=\"users\",result=\"{result}\"}}");
        assert_eq!(told.value(&series), expected, "{series}");
    }
}

#[test]
fn a_client_that_takes_no_more_is_in_the_time_of_stalls_once_it_does_again() {
    let server = Server::serve(
        "[metrics]\nlisten = '127.0.0.1:0'\n[limits]\noutbox_bytes_max = '64MB'\n[[channel]]\ntopic = 'a'\njoin = 'open'\n",
    );
    let mut client = server.connect("");
    client.join_ok("a");
    let message = json!({"topic": "a", "event": "e", "payload": {"text": "x".repeat(1_000_000)}});
    let mut published = 0;
    while scrape(&server).value("fanfare_sockets_waiting") == 0.0 {
        assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
        published += 1;
    }
    std::thread::sleep(LATE);
    assert_eq!(scrape(&server).value("fanfare_outbox_stall_seconds_count"), 0.0);
    (0..published).for_each(|_| drop(client.receive_event("e")));
    let told = scrape(&server);
    assert!(told.value("fanfare_outbox_stall_seconds_count") >= 1.0);
    assert!(sum(&told, "fanfare_outbox_stall_seconds", "") >= LATE - Duration::from_millis(10));
    // Each was given to the system as far as that took it, which is not the client's time.
    assert_eq!(told.value("fanfare_publish_to_write_seconds_count"), f64::from(published));
}

#[test]
fn reloads_certificates_and_handshakes_are_told() {
    let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let config = format!(
        "[metrics]\nlisten = '127.0.0.1:0'\n[tls]\ncert = {cert:?}\nkey = {key:?}\n[[channel]]\npreset = 'lobby'\n"
    );
    let server = Server::serve(&config);
    let told = scrape(&server);
    let end = told.value("fanfare_tls_certificate_not_after_timestamp_seconds{name=\"example.com\"}");
    assert!(end > 4e9, "the end that rcgen gives is in 4096: {end}");
    let since = told.value("fanfare_config_last_reload_success_timestamp_seconds");
    assert!(since > 1.7e9, "{since}");
    assert_eq!(told.value("fanfare_config_last_reload_successful"), 1.0);
    TcpStream::connect(&server.address).unwrap().write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    eventually(|| scrape(&server).value("fanfare_tls_handshakes_total{listener=\"clients\",result=\"failed\"}") == 1.0);
    let steps = [("joins_max = 'many'", 422, (0.0, 1.0, 0.0)), ("joins_max = 7", 200, (1.0, 1.0, 1.0))];
    for (line, status, expected) in steps {
        server.rewrite(&format!("{config}[limits]\n{line}\n"));
        assert_eq!(server.reload().status, status, "{line}");
        let told = scrape(&server);
        let reloads = |result: &str| told.value(&format!("fanfare_config_reloads_total{{result=\"{result}\"}}"));
        let is_done = told.value("fanfare_config_last_reload_successful");
        assert_eq!((reloads("ok"), reloads("refused"), is_done), expected, "{line}");
    }
}

#[test]
fn presences_and_taps_are_told() {
    let server = Server::serve(
        "[metrics]\nlisten = '127.0.0.1:0'\n[[channel]]\ntopic = 'a'\njoin = 'open'\npublish = 'open'\npresence = true\n",
    );
    let present = || scrape(&server).value("fanfare_presence_entries");
    let mut clients: Vec<_> = (0..3).map(|_| server.connect("")).collect();
    let refs: Vec<_> = clients.iter_mut().map(|client| client.join_ok("a")).collect();
    eventually(|| present() == 3.0);
    assert!(scrape(&server).value("fanfare_presence_diffs_total") >= 1.0);
    clients[0].push(&refs[0], "a", "phx_leave", Value::Null);
    drop(clients.pop());
    eventually(|| present() == 1.0);
    let mut tap = server.command(&["tap", "--topic", "a", "--rate", "1"]).spawn().unwrap();
    eventually(|| scrape(&server).value("fanfare_taps") == 1.0);
    for n in 0..20 {
        server.publish("a", n);
    }
    let of = |result: &str| scrape(&server).value(&format!("fanfare_tap_events_total{{result=\"{result}\"}}"));
    eventually(|| of("told") + of("left_out") == 20.0);
    assert!(of("told") >= 1.0 && of("left_out") >= 1.0);
    tap.kill().unwrap();
    tap.wait().unwrap();
    eventually(|| scrape(&server).value("fanfare_taps") == 0.0);
}

#[test]
fn logins_are_told() {
    let server = Server::serve("[metrics]\nlisten = '127.0.0.1:0'\n[[channel]]\npreset = 'lobby'\n");
    let admin = server.admin();
    let log_in = |token: &str| {
        let headers = [("content-type", "application/json"), ("sec-fetch-site", "same-origin")];
        http(&admin, "POST", "/api/session", &headers, &json!({ "token": token }).to_string()).status
    };
    assert_eq!(log_in(TOKEN), 200);
    let wrong: Vec<_> = (0..7).map(|_| log_in("of-something-else-that-is-long")).collect();
    assert!(wrong.contains(&401) && wrong.contains(&429), "{wrong:?}");
    let told = scrape(&server);
    let of = |result: &str| told.value(&format!("fanfare_admin_logins_total{{result=\"{result}\"}}"));
    let count = |status: u16| wrong.iter().filter(|wrong| **wrong == status).count() as f64;
    assert_eq!((of("ok"), of("failed"), of("limited")), (1.0, count(401), count(429)));
}
