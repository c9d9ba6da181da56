//! Who may do what over the HTTP API, by a token or by a session in a browser.

use std::io::{BufRead, BufReader, Lines, Write};
use std::net::TcpStream;
use std::process::Stdio;

use serde_json::{Value, json};

use crate::support::{Answer, PATIENCE, Server, TOKEN, http};

const CONFIG: &str = "
[[endpoint]]
[[channel]]
topic = '*'
join = 'open'
[admin]
token_env = 'FANFARE_ADMIN_TOKEN'
[[admin.token]]
name = 'board'
token_env = 'BOARD_TOKEN'
may = ['read']
[[admin.token]]
name = 'shop'
token_env = 'SHOP_TOKEN'
may = ['publish', 'tap']
";

const BOARD: &str = "a-token-of-the-board";
const SHOP: &str = "a-token-of-the-shop";

fn server() -> Server {
    Server::serve_with(CONFIG, |command| {
        command.env("BOARD_TOKEN", BOARD).env("SHOP_TOKEN", SHOP);
    })
}

fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    http(&server.admin(), method, path, headers, body)
}

fn with_token(server: &Server, token: &str, method: &str, path: &str) -> Answer {
    let body = if path == "/api/publish" { r#"{"topic":"a","event":"e"}"# } else { r#"{"id":"a"}"# };
    ask(server, method, path, &[("authorization", &format!("Bearer {token}"))], body)
}

#[test]
fn a_token_does_what_it_may() {
    let server = server();
    for (method, path, board, shop) in [
        ("GET", "/api/topics", 200, 403),
        ("GET", "/metrics", 200, 403),
        ("GET", "/api/presence/a", 403, 200),
        ("POST", "/api/publish", 403, 200),
        ("POST", "/api/disconnect", 403, 403),
        ("DELETE", "/api/connections/a", 403, 403),
        ("POST", "/api/reload?check=true", 403, 403),
        ("GET", "/api/tap?topic=a&payload=full", 403, 403),
        ("GET", "/api/config", 403, 403),
        ("GET", "/api/log", 403, 403),
        ("GET", "/api/session", 200, 200),
    ] {
        for (token, expected) in [(BOARD, board), (SHOP, shop)] {
            let answer = with_token(&server, token, method, path);
            assert_eq!(answer.status, expected, "{token} {method} {path}: {answer:?}");
        }
        let status = if path.contains("tap") { continue } else { with_token(&server, TOKEN, method, path).status };
        assert!([200, 404].contains(&status), "{method} {path}: {status}");
    }
    for path in ["/api/drain", "/api/log"] {
        assert_eq!(with_token(&server, SHOP, "POST", path).status, 403, "{path}");
    }
    let refused = with_token(&server, BOARD, "POST", "/api/publish").json();
    let message = refused["error"]["message"].as_str().unwrap();
    assert!(message.contains("\"board\"") && message.contains("publish"), "{message}");
    let told = with_token(&server, SHOP, "GET", "/api/session").json();
    assert_eq!(told, json!({"name": "shop", "rights": ["tap", "publish"]}));
    let line = server.wait_for_stderr(|log| Some(log.lines().find(|line| line.contains("admin_action"))?.to_owned()));
    assert!(line.unwrap().contains("/api/presence/a"), "what shows presence is in the log");
    assert!(![TOKEN, BOARD, SHOP].iter().any(|token| server.stderr().contains(token)));
}

#[test]
fn a_message_that_closes_sockets_needs_the_right_to_close_them() {
    let server = server();
    let closes = r#"{"messages":[{"topic":"user:7","event":"e"},{"topic":"user:7","event":"disconnect"}]}"#;
    let publish =
        |token: &str| ask(&server, "POST", "/api/publish", &[("authorization", &format!("Bearer {token}"))], closes);
    let refused = publish(SHOP);
    let message = refused.json()["error"]["message"].as_str().unwrap().to_owned();
    assert!(refused.status == 403 && message.contains("lacks the right disconnect"), "{refused:?}");
    assert_eq!(server.counter("messages", "published"), 0, "nothing of the request is published");
    assert_eq!(publish(TOKEN).status, 200);
}

#[test]
fn whoever_tries_tokens_is_seen() {
    let server = server();
    for number in 0..7 {
        assert_eq!(with_token(&server, &format!("a-token-that-is-none-{number}"), "GET", "/api/topics").status, 401);
    }
    assert_eq!(with_token(&server, BOARD, "GET", "/api/topics").status, 200, "nobody else is kept out");
    let lines = server.wait_for_stderr(|log| {
        let lines = log.lines().filter(|line| line.contains("admin_token_unknown"));
        Some(lines.map(str::to_owned).collect::<Vec<_>>()).filter(|lines| lines.len() == 5)
    });
    assert!(lines.unwrap()[0].contains("address=\"127.0.0.1"), "{}", server.stderr());
    assert!(!server.stderr().contains("a-token-that-is-none"));
}

#[test]
fn a_token_ends_with_its_configuration() {
    let server = server();
    let cookie = log_in(&server, SHOP);
    assert_eq!(ask(&server, "GET", "/api/session", &[("cookie", &cookie)], "").status, 200);
    let mut tap = server
        .command(&["tap", "--topic", "a"])
        .env("FANFARE_ADMIN_TOKEN", SHOP)
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut told = BufReader::new(tap.stderr.take().unwrap()).lines();
    assert_eq!(told.next().unwrap().unwrap(), "watching");
    server.rewrite(CONFIG.split("[[admin.token]]\nname = 'shop'").next().unwrap());
    let reloaded = server.reload();
    assert_eq!((reloaded.status, &reloaded.json()["changed"]), (200, &json!(["admin.token"])));
    assert_eq!(with_token(&server, SHOP, "POST", "/api/publish").status, 401);
    assert_eq!(ask(&server, "GET", "/api/session", &[("cookie", &cookie)], "").status, 401);
    assert_eq!(with_token(&server, BOARD, "GET", "/api/topics").status, 200);
    assert_eq!(tap.wait().unwrap().code(), Some(1));
    assert!(told.next().unwrap().unwrap().contains("the token counts no more"));
    // So does a stream of samples, which began before.
    let mut samples = stream(&server, "/api/live", &format!("authorization: Bearer {BOARD}"), "event: sample");
    server.rewrite(CONFIG.split("[[admin.token]]").next().unwrap());
    assert_eq!(server.reload().status, 200);
    assert!(samples.any(|line| line.unwrap() == "0"), "the last chunk");
}

/// The lines of an answer that goes on, behind the first that has this in it.
fn stream(server: &Server, path: &str, header: &str, first: &str) -> Lines<BufReader<TcpStream>> {
    let admin = server.admin();
    let mut stream = TcpStream::connect(&admin).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: {admin}\r\n{header}\r\n\r\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert!(lines.any(|line| line.unwrap().contains(first)), "{path}");
    lines
}

#[test]
fn what_a_session_reads_ends_with_it() {
    let server = server();
    let [ended, other] = [(); 2].map(|()| log_in(&server, TOKEN));
    let read = |path: &str, cookie: &str, first: &str| stream(&server, path, &format!("cookie: {cookie}"), first);
    let of_ended = [("/api/live", "event: sample"), ("/api/tap?topic=a", ": ")];
    let of_ended = of_ended.map(|(path, first)| (path, read(path, &ended, first)));
    let mut of_other = read("/api/live?every=500ms", &other, "event: sample");
    let session = [OURS[0], OURS[1], ("cookie", &*ended)];
    assert_eq!(ask(&server, "DELETE", "/api/session", &session, "").status, 200);
    for (path, lines) in of_ended {
        // A sample a second: one that goes on is found out by what it has sent by then.
        assert!(lines.take(60).any(|line| line.unwrap() == "0"), "{path}: the last chunk");
    }
    for _ in 0..2 {
        assert!(of_other.any(|line| line.unwrap().contains("event: sample")), "another session goes on");
    }
}

const OURS: [(&str, &str); 2] = [("content-type", "application/json"), ("sec-fetch-site", "same-origin")];

/// The cookie of a new session.
fn log_in(server: &Server, token: &str) -> String {
    let answer = ask(server, "POST", "/api/session", &OURS, &json!({ "token": token }).to_string());
    assert_eq!(answer.status, 200, "{answer:?}");
    let cookie = &answer.headers["set-cookie"];
    assert!(cookie.contains("; HttpOnly; SameSite=Strict; Path=/"), "{cookie}");
    let port = server.admin().rsplit(':').next().unwrap().to_owned();
    assert!(
        cookie.starts_with(&format!("fanfare_session_{port}=")),
        "two servers of a host keep theirs apart: {cookie}"
    );
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn a_browser_logs_in_and_out() {
    let server = server();
    let cookie = log_in(&server, BOARD);
    let session = [OURS[0], OURS[1], ("cookie", &*cookie)];
    assert_eq!(ask(&server, "GET", "/api/topics", &[("cookie", &cookie)], "").status, 200);
    let refused = ask(&server, "POST", "/api/publish", &session, r#"{"topic":"a","event":"e"}"#);
    assert_eq!(
        (refused.status, &refused.json()["error"]["code"]),
        (403, &json!("forbidden")),
        "a session has the rights of its token"
    );
    assert_eq!(ask(&server, "DELETE", "/api/session", &session, "").status, 200);
    assert_eq!(ask(&server, "GET", "/api/topics", &[("cookie", &cookie)], "").status, 401);
    assert!(!server.stderr().contains(cookie.split('=').nth(1).unwrap()));
}

#[test]
fn a_page_of_somebody_else_changes_nothing() {
    let server = server();
    let cookie = log_in(&server, TOKEN);
    let publish = r#"{"topic":"a","event":"e"}"#;
    let admin = server.admin();
    let origin = format!("http://{admin}");
    for (headers, expected) in [
        (&[OURS[0], OURS[1]][..], 200),
        (&[OURS[0], ("origin", &*origin)], 200),
        (&[OURS[0], ("origin", "http://attacker.example")], 403),
        (&[OURS[0], ("sec-fetch-site", "cross-site")], 403),
        (&[OURS[0], ("sec-fetch-site", "same-site"), ("origin", &*origin)], 403),
        (&[OURS[0]], 403),
        (&[("content-type", "text/plain"), OURS[1]], 403),
        (&[OURS[1]], 403),
    ] {
        let headers = [headers, &[("cookie", &*cookie)]].concat();
        let answer = ask(&server, "POST", "/api/publish", &headers, publish);
        assert_eq!(answer.status, expected, "{headers:?}: {answer:?}");
        assert!(!answer.headers.keys().any(|name| name.starts_with("access-control")), "{answer:?}");
    }
    assert_eq!(server.counter("messages", "published"), 2);
    for (site, expected) in [("same-origin", 200), ("none", 200), ("same-site", 403), ("cross-site", 403)] {
        let headers = [("cookie", &*cookie), ("sec-fetch-site", site)];
        assert_eq!(ask(&server, "GET", "/api/topics", &headers, "").status, expected, "{site}");
    }
    let token = format!("Bearer {TOKEN}");
    let program = [("authorization", &*token), ("content-type", "text/plain")];
    assert_eq!(ask(&server, "POST", "/api/publish", &program, publish).status, 200, "a token is proof enough");
}

#[test]
fn wrong_tokens_are_braked() {
    let server = server();
    let login = |token: &str| ask(&server, "POST", "/api/session", &OURS, &json!({ "token": token }).to_string());
    for _ in 0..5 {
        assert_eq!(login("a-wrong-token-of-somebody").status, 401);
    }
    let braked = login(BOARD);
    assert_eq!((braked.status, &braked.json()["error"]["code"]), (429, &json!("too_many")));
    assert!(braked.headers["retry-after"].parse::<u64>().is_ok_and(|seconds| (1..=60).contains(&seconds)));
    assert!(server.stderr().contains("admin_login_failed") && !server.stderr().contains("a-wrong-token-of-somebody"));
    // Programs are not held up by it.
    assert_eq!(server.api("GET", "/api/topics", &Value::Null).status, 200);
}

#[test]
fn tokens_that_make_no_sense_are_refused_at_the_start() {
    for (tokens, part) in [
        ("[[admin.token]]\nname = 'a'\nmay = ['read']", "takes one of token_env and token_file"),
        ("[[admin.token]]\nname = 'a'\ntoken_env = 'X'", "needs may"),
        (
            "[[admin.token]]\nname = 'a'\ntoken_env = 'X'\nmay = ['publish']\ntenant = 'other'",
            "no name that one can have",
        ),
        ("[[admin.token]]\nname = 'a'\ntoken_env = 'X'\nmay = ['all']", "\"read\""),
        ("[[admin.token]]\nname = ''\ntoken_env = 'X'\nmay = ['read']", "an empty string"),
        ("[[admin.token]]\nname = 'a'\ntoken = 'X'\nmay = ['read']", "unknown key `token`"),
        ("[[admin.token]]\nname = 'a'\ntoken_env = 'NOBODY_HAS_SET_THIS'\nmay = ['read']", "is not set"),
    ] {
        let folder = crate::support::Folder::new();
        let file = folder.write("fanfare.toml", tokens);
        let (succeeded, _, stderr) = crate::support::run(&["check", "--config", file.to_str().unwrap()]);
        assert!(!succeeded && stderr.contains(part), "{tokens}: {stderr}");
    }
}
