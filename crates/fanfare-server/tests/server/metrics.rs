//! What Prometheus is given: in a form that it takes, of whom it is to be given to, and true.

mod exposition;
mod timings;

use std::collections::BTreeSet;
use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Server, TOKEN, eventually, http};
use exposition::{Exposition, Kind};

const CONFIG: &str = "[metrics]\nlisten = '127.0.0.1:0'\n\
                      [[endpoint]]\npath = '/socket'\n[[endpoint]]\npath = '/hub'\nprotocol = 'hub'\nauth = 'none'\n\
                      [[channel]]\ntopic = 'room:*'\njoin = 'open'\npublish = 'open'\nhistory = { messages = 10 }\n\
                      [[channel]]\ntopic = 'staff'\njoin = 'claim:role=staff'\n";

/// The address of the listener for Prometheus.
pub(crate) fn listener(server: &Server) -> String {
    let found = server.wait_for_stderr(|log| {
        let rest = log.split_once("metrics and probes are on http://")?.1;
        rest.lines().next().map(|line| line.trim_end_matches(|c: char| !c.is_ascii_digit()).to_owned())
    });
    found.expect("the address is told")
}

fn scrape(server: &Server) -> Exposition {
    let answer = http(&listener(server), "GET", "/metrics", &[], "");
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(answer.headers["content-type"].starts_with("application/openmetrics-text; version=1.0.0"));
    Exposition::parse(&answer.body).unwrap_or_else(|error| panic!("{error}\n{}", answer.body))
}

#[test]
fn a_stranger_gets_metrics_where_that_was_written_down_and_nothing_else() {
    let server = Server::serve(CONFIG);
    let (admin, open) = (server.admin(), listener(&server));
    let bearer = format!("Bearer {TOKEN}");
    for (address, path, headers, status) in [
        (&admin, "/metrics", &[][..], 401),
        (&admin, "/metrics", &[("authorization", "Bearer of-something-else")][..], 401),
        (&admin, "/metrics", &[("authorization", bearer.as_str())][..], 200),
        (&admin, &format!("/metrics?token={TOKEN}"), &[][..], 401),
        (&server.address, "/metrics", &[("authorization", bearer.as_str())][..], 404),
        (&open, "/metrics", &[][..], 200),
        (&open, "/livez", &[][..], 200),
        (&open, "/readyz", &[][..], 200),
        (&open, "/api/counters", &[("authorization", bearer.as_str())][..], 404),
        (&open, "/api/health", &[][..], 404),
        (&open, "/", &[][..], 404),
    ] {
        let answer = http(address, "GET", path, headers, "");
        assert_eq!(answer.status, status, "{path} {headers:?}: {answer:?}");
    }
    assert_eq!(http(&open, "POST", "/metrics", &[], "").status, 405);
}

#[test]
fn metrics_are_those_of_the_guide() {
    let server = Server::serve(CONFIG);
    let told = scrape(&server);
    let guide = include_str!("../../../../docs/metrics.md");
    let rows = guide.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    let in_guide: BTreeSet<_> = rows.map(|(name, _)| name).collect();
    let of_a_cluster = [
        "events_total",
        "publishes_total",
        "subscriptions",
        "up",
        "lag_seconds",
        "heard_age_seconds",
        "connects_total",
    ];
    let of_a_cluster = of_a_cluster.map(|name| format!("fanfare_broker_{name}"));
    let names: BTreeSet<_> = told.families.keys().chain(&of_a_cluster).map(String::as_str).collect();
    assert_eq!(names, in_guide, "the metrics, and those of docs/metrics.md");
    for (name, (kind, help)) in &told.families {
        assert_eq!(name.ends_with("_total"), *kind == Kind::Counter, "{name}");
        assert!(!help.is_empty() && help.ends_with('.'), "{name}: {help}");
    }
}

#[test]
fn metrics_pass_promtool() {
    let server = Server::serve(CONFIG);
    let older = http(&listener(&server), "GET", "/metrics", &[("accept", "text/plain;version=0.0.4")], "");
    assert!(older.headers["content-type"].starts_with("text/plain; version=0.0.4"), "{older:?}");
    let promtool =
        Command::new("promtool").args(["check", "metrics"]).stdin(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let Ok(mut promtool) = promtool else {
        eprintln!(
            "SKIPPED: there is no promtool (Debian: prometheus), so that nothing has looked at the names of metrics"
        );
        return;
    };
    promtool.stdin.take().unwrap().write_all(older.body.as_bytes()).unwrap();
    let output = promtool.wait_with_output().unwrap();
    let complaints = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{complaints}");
}

#[test]
fn counters_equal_what_clients_have_sent_and_got() {
    let server = Server::serve(CONFIG);
    let before = scrape(&server);
    let mut clients: Vec<_> = (0..5).map(|_| server.connect("")).collect();
    let refs: Vec<_> = clients.iter_mut().map(|client| client.join_ok("room:1")).collect();
    assert_eq!(clients[0].join("staff", json!({}))["status"], "error");
    assert_eq!(clients[0].join("elsewhere", json!({}))["status"], "error");
    let (mut got, mut replies) = (0, 5 + 2);
    for n in 0..20 {
        assert_eq!(clients[0].push(&refs[0], "room:1", "n", json!({ "n": n }))["status"], "ok");
        replies += 1;
    }
    let message = json!({"topic": "room:1", "event": "last", "payload": {}});
    assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
    for client in &mut clients[1..] {
        // The publisher has let its own go by while it waited for replies.
        loop {
            let frame = client.receive();
            got += u64::from(frame[2] == "room:1");
            if frame[3] == "last" {
                break;
            }
        }
    }
    clients[0].receive_event("last");
    assert!(server.try_connect("vsn=9.0.0").is_err());
    drop(clients.pop());
    let now = || scrape(&server);
    eventually(|| now().value("fanfare_sockets_closed_total{reason=\"client\"}") == 1.0);
    let told = now();
    let grown = |series: &str| (told.value(series) - before.value(series)) as u64;
    assert_eq!(got, 4 * 21);
    for (series, expected) in [
        ("fanfare_messages_published_total{channel=\"room:*\",source=\"client\"}", 20),
        ("fanfare_messages_published_total{channel=\"room:*\",source=\"api\"}", 1),
        ("fanfare_messages_published_total{channel=\"room:*\",source=\"rust\"}", 0),
        ("fanfare_messages_delivered_total{channel=\"room:*\"}", 5 * 21),
        ("fanfare_messages_delivered_total{channel=\"staff\"}", 0),
        ("fanfare_messages_received_total{protocol=\"phoenix\"}", 5 + 2 + 20),
        ("fanfare_joins_total{channel=\"room:*\",result=\"ok\"}", 5),
        ("fanfare_joins_total{channel=\"staff\",result=\"refused\"}", 1),
        ("fanfare_joins_total{channel=\"other\",result=\"unmatched_topic\"}", 1),
        ("fanfare_replies_total{result=\"ok\"}", replies - 2),
        ("fanfare_replies_total{result=\"error\"}", 2),
        ("fanfare_sockets_opened_total{endpoint=\"/socket\",transport=\"websocket\"}", 5),
        ("fanfare_sockets{endpoint=\"/socket\",transport=\"websocket\"}", 4),
        ("fanfare_connections_refused_total{reason=\"vsn\"}", 1),
        ("fanfare_members{channel=\"room:*\"}", 4),
        ("fanfare_topics{channel=\"room:*\"}", 1),
        ("fanfare_history_topics{store=\"memory\"}", 1),
        ("fanfare_history_appends_total{store=\"memory\",result=\"ok\"}", 21),
        ("fanfare_history_append_seconds_count", 21),
        ("fanfare_join_seconds_count{channel=\"room:*\"}", 5),
        ("fanfare_join_seconds_count{channel=\"staff\"}", 0),
        ("fanfare_handshake_seconds_count{transport=\"websocket\"}", 5),
        ("fanfare_handshake_seconds_count{transport=\"longpoll\"}", 0),
        ("fanfare_socket_lifetime_seconds_count", 1),
        ("fanfare_connections_accepted_total{listener=\"clients\"}", 6),
        ("fanfare_connections{listener=\"clients\"}", 4),
        ("fanfare_sockets_waiting", 0),
        ("fanfare_ready", 0),
    ] {
        assert_eq!(grown(series), expected, "{series}");
    }
    assert_eq!((told.value("fanfare_ready"), told.value("fanfare_draining")), (1.0, 0.0));
    // One for each message and shard that has members of its topic.
    let shards = told.series.keys().filter(|series| series.starts_with("fanfare_shard_sockets")).count() as u64;
    let written = grown("fanfare_publish_to_write_seconds_count");
    assert!((21..=21 * shards).contains(&written), "{written} on {shards} shards");
    let bytes = grown("fanfare_sent_bytes_total{transport=\"websocket\"}");
    assert!(bytes > 5 * 21 * 20, "{bytes} bytes were sent");
    let sends = grown("fanfare_sends_total{path=\"direct\"}") + grown("fanfare_sends_total{path=\"queued\"}");
    assert!((26..=5 * 21 + 5 + 2 + 20).contains(&sends), "{sends} sends");
}

#[test]
fn no_label_comes_from_a_client() {
    let server = Server::serve(CONFIG);
    let before: BTreeSet<_> = scrape(&server).series.into_keys().collect();
    let hostile = ["room:\"} 1\nevil 1", "room:<script>", "ev\\il", "room:{a=\"b\"}", &"room:x".repeat(30)];
    let mut client = server.connect("user=evil%22&token=evil");
    for topic in hostile {
        let join_ref = client.join(topic, json!({"evil": true}))["status"].clone();
        if join_ref == "ok" {
            let last = client.join_ok(topic);
            client.push(&last, topic, "evil\"}", json!({}));
        }
    }
    for path in ["/evil", "/socket/evil\"}", "/hub/evil/sub", "/hub/evil%22%7D/sub"] {
        drop(server.upgrade(path, &[("user-agent", "evil")]));
    }
    let admin = server.admin();
    for (method, path) in
        [("EVIL", "/api/topics"), ("GET", "/api/evil"), ("GET", "/evil%22%7D"), ("DELETE", "/api/connections/evil")]
    {
        http(&admin, method, path, &[], "");
    }
    assert_eq!(server.api("GET", "/api/presence/room:evil", &Value::Null).status, 200);
    let told = scrape(&server);
    let new: Vec<_> = told.series.keys().filter(|series| !before.contains(*series)).collect();
    // Series of requests come with the first request.
    let is_of_requests = |series: &str| series.starts_with("fanfare_api_request") && series.contains("route=\"");
    assert!(new.iter().all(|series| is_of_requests(series)), "{new:#?}");
    let text = new.iter().map(|series| series.as_str()).collect::<Vec<_>>().join("\n").to_lowercase();
    assert!(!text.contains("evil"), "{text}");
    assert!(text.contains("method=\"other\"") && text.contains("route=\"/api/presence/{*topic}\""), "{text}");
}
