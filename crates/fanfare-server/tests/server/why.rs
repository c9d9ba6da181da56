//! `GET /api/why` and `fanfare why`. That each refusal and each close is told there is tested beside its line in the log: `refusals.rs`.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::support::{Server, TOKEN, eventually};
use crate::users::{endpoint_with, token};

const MORE: &str = "
[[endpoint]]
path = '/hub'
protocol = 'hub'
auth = 'users'
[[channel]]
topic = 'room:*'
join = 'open'
publish = 'nobody'
";

fn serve() -> Server {
    Server::serve(&format!("limits = {{ joins_max = 1 }}\n{}", endpoint_with(MORE)))
}

/// A server at which one client was refused, two were refused joins, and one of them a push.
fn eventful() -> Server {
    let server = serve();
    for user in ["7", "8"] {
        let mut client = server.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={}", token(user)), &[]).unwrap();
        let joined = client.join_ok("room:1");
        assert_eq!(client.join("room:2", json!({}))["response"]["reason"], "too many channels joined");
        if user == "7" {
            client.push(&joined, "room:1", "new_msg", json!({}));
        }
    }
    assert_eq!(server.http("GET", "/socket/websocket?vsn=2.0.0", &[], "").status, 403);
    server
}

fn told(server: &Server, query: &str) -> Vec<Value> {
    server.api("GET", &format!("/api/why{query}"), &Value::Null).json()["facts"].as_array().unwrap().clone()
}

#[test]
fn facts_are_told_by_whom_and_what_they_concern() {
    let server = eventful();
    let kinds = |query: &str| -> Vec<String> {
        let mut kinds: Vec<_> =
            told(&server, query).iter().map(|fact| fact["kind"].as_str().unwrap().to_owned()).collect();
        kinds.sort();
        kinds
    };
    let all = ["join_refused", "join_refused", "push_refused", "refused"];
    assert_eq!(kinds(""), all);
    assert_eq!(kinds("?since=1h&address=127.0.0.1"), all);
    assert_eq!(kinds("?user=user:7"), ["join_refused", "push_refused"]);
    assert_eq!(kinds("?user=user:9"), [""; 0]);
    assert_eq!(kinds("?topic=room:2"), ["join_refused", "join_refused"]);
    assert_eq!(kinds("?topic=room:2&user=user:8"), ["join_refused"]);
    assert_eq!(kinds("?kind=refused"), ["refused"]);
    assert_eq!(kinds("?address=127.0.0.2"), [""; 0]);
    assert_eq!(kinds("?limit=1").len(), 1);

    let fact = &told(&server, "?user=user:8")[0];
    assert_eq!((&fact["reason"], &fact["endpoint"]), (&json!("too_many"), &json!("/socket")));
    assert!(fact["detail"].as_str().unwrap().contains("joined 1 topics"), "{fact}");
    assert!(fact["next"].as_str().unwrap().contains("limits.joins_max"), "{fact}");
    assert!(fact["at"].as_str().unwrap().ends_with('Z'), "{fact}");
    for (query, part) in [
        ("?kind=x", "push_refused"),
        ("?address=localhost", "IP address"),
        ("?since=x", "a duration"),
        ("?limit=0", "1 to 1000"),
        ("?who=7", "user, address"),
    ] {
        let answer = server.api("GET", &format!("/api/why{query}"), &Value::Null);
        assert_eq!(answer.status, 422, "{answer:?}");
        assert!(answer.body.contains(part), "{answer:?}");
    }
}

/// Wherever a client may put a credential, and wherever one gets by mistake.
#[test]
fn no_credential_is_in_a_fact() {
    let server = serve();
    let marker = "m4rk3rm4rk3r";
    let get = |path: &str, headers: &[(&str, &str)]| server.http("GET", path, headers, "").status;
    let encoded = "bTRyazNybTRyazNy";
    let refused = [
        get(&format!("/socket/websocket?vsn=2.0.0&token={marker}"), &[]),
        get("/socket/websocket?vsn=2.0.0", &[("authorization", &format!("Bearer {marker}"))]),
        get("/socket/websocket?vsn=2.0.0", &[("cookie", &format!("token={marker}"))]),
        get(
            "/socket/websocket?vsn=2.0.0",
            &[("sec-websocket-protocol", &format!("phoenix, base64url.bearer.phx.{encoded}"))],
        ),
        get(
            "/socket/websocket?vsn=2.0.0",
            &[("sec-websocket-protocol", &format!("phoenix, base64url.bearer.phx.{marker}"))],
        ),
        get(&format!("/hub/pub/{marker}/example.com/t"), &[]),
        get(&format!("/hubb/pub/{marker}/example.com/t"), &[]),
        get(&format!("/socket/longpoll?vsn=2.0.0&token={marker}"), &[]),
    ];
    assert!(refused.iter().all(|status| *status >= 400 || *status == 200), "{refused:?}");
    let mut client = server.upgrade(&format!("/socket/websocket?vsn=2.0.0&token={}", token("7")), &[]).unwrap();
    client.push_on_phoenix("access_token", json!({"access_token": marker}));
    let joined = client.join_ok("room:1");
    client.join("room:2", json!({"token": marker}));
    client.push(&joined, "room:1", "new_msg", json!({"password": marker}));
    client.push(&joined, "room:1", "access_token", json!({"access_token": marker}));
    client.send_text(&format!("[{marker}"));
    client.receive_close();
    let mut facts = Vec::new();
    eventually(|| {
        facts = told(&server, "");
        facts.iter().any(|fact| fact["kind"] == "closed")
    });
    let kinds: Vec<&str> = facts.iter().map(|fact| fact["kind"].as_str().unwrap()).collect();
    for kind in ["refused", "credential_refused", "join_refused", "push_refused", "closed"] {
        assert!(kinds.contains(&kind), "{kind} is not among {kinds:?}");
    }
    let text = serde_json::to_string(&facts).unwrap();
    assert!(!text.contains(marker) && !text.contains(encoded), "{text}");
    assert!(!server.stderr().contains(marker), "{}", server.stderr());
}

#[test]
fn facts_are_followed_as_they_happen() {
    let server = eventful();
    let command = server.command(&["why", "--follow", "--kind", "refused"]);
    let mut patient = Command::new("timeout");
    patient.arg("20").arg(command.get_program()).args(command.get_args()).env("FANFARE_ADMIN_TOKEN", TOKEN);
    let mut follow = patient.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(follow.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(next()["count"], 1);
    assert_eq!(server.http("GET", "/socket/websocket?vsn=2.0.0", &[], "").status, 403);
    assert_eq!(server.http("GET", "/nowhere", &[], "").status, 404);
    let mut seen: Vec<_> = (0..2).map(|_| next()).map(|fact| (fact["code"].clone(), fact["count"].clone())).collect();
    seen.sort_by_key(|(code, _)| code.as_u64());
    assert!(Command::new("kill").arg(follow.id().to_string()).status().unwrap().success());
    follow.wait().unwrap();
    assert_eq!(seen, [(json!(403), json!(2)), (json!(404), json!(1))], "again with its number, and what is new");
}

#[test]
fn a_table_for_people_and_lines_for_programs() {
    let server = eventful();
    let args = ["why", "--topic", "room:2", "--since", "1h"];
    let output = server.command(&args).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let lines = String::from_utf8(output.stdout).unwrap();
    let facts: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(facts.len(), 2, "{lines}");
    assert_eq!(facts[0]["user"], "user:8");

    let shown = on_a_terminal(&server.command(&args));
    let rows: Vec<&str> = shown.lines().collect();
    assert!(rows[0].contains("join_refused") && rows[0].contains("user:8"), "{shown}");
    assert_eq!(rows.last().unwrap().trim(), "next: leave topics, or raise limits.joins_max", "{shown}");
    let shown = on_a_terminal(&server.command(&["why", "--json", "--limit", "1"]));
    assert!(serde_json::from_str::<Value>(shown.trim()).is_ok(), "{shown}");

    let wrong = server.command(&["why", "--kind", "closd"]).output().unwrap();
    assert!(!wrong.status.success() && String::from_utf8_lossy(&wrong.stderr).contains("closed"), "{wrong:?}");
}

/// What a command prints on a terminal 200 characters wide.
pub(crate) fn on_a_terminal(command: &Command) -> String {
    on_a_terminal_of(200, command)
}

/// The same on one of another width.
pub(crate) fn on_a_terminal_of(columns: u32, command: &Command) -> String {
    let words: Vec<_> = [command.get_program()].into_iter().chain(command.get_args()).collect();
    let words: Vec<_> = words.iter().map(|word| format!("'{}'", word.to_str().unwrap())).collect();
    let mut script = Command::new("script");
    script
        .args(["-qec", &format!("stty cols {columns}; {}", words.join(" ")), "/dev/null"])
        .env("FANFARE_ADMIN_TOKEN", TOKEN);
    let output = script.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}
