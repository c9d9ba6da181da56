//! The bounds of the configuration hold.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{PATIENCE, Server, TOKEN, eventually, http};

fn lobby(settings: &str) -> Server {
    Server::serve(&format!("{settings}\n[[channel]]\npreset = 'lobby'\npresence = false\n"))
}

#[test]
fn a_message_that_is_too_long_closes_its_socket_only() {
    let server = lobby("limits.message_size_max = '2KB'");
    let (mut ann, mut bob) = (server.connect(""), server.connect(""));
    ann.join_ok("room:lobby");
    bob.join_ok("room:lobby");
    ann.send_text(&" ".repeat(2_000));
    assert_eq!(ann.receive_close(), 1011);
    let mut ann = server.connect("");
    ann.send_text(&" ".repeat(2_001));
    assert_eq!(ann.receive_close(), 1009);
    bob.heartbeat();
}

#[test]
fn long_poll_requests_have_limits() {
    let server = lobby("limits.longpoll_body_size_max = '2KB'\nlimits.longpoll_messages_max = 2");
    let path = "/socket/longpoll?vsn=2.0.0";
    let token = http(&server.address, "GET", path, &[], "").json()["token"].as_str().unwrap().to_owned();
    let headers = [("x-phoenix-longpoll-token", &token[..]), ("content-type", "application/x-ndjson")];
    let post = |body: &str| http(&server.address, "POST", path, &headers, body);
    let line = r#"[null,"1","phoenix","heartbeat",{}]"#;
    assert_eq!(post(&format!("{line}\n{line}")).json(), json!({"status": 200}));
    for (body, key) in [
        (format!("{line}\n{line}\n{line}"), "more than 2 messages (longpoll_messages_max)"),
        ("x".repeat(2_001), "larger than 2000 bytes (longpoll_body_size_max)"),
    ] {
        let answer = post(&body);
        assert!(answer.status == 413 && answer.body.contains(key), "{key}: {answer:?}");
    }
    // The session has lost nothing by it.
    assert_eq!(post(line).json(), json!({"status": 200}));
}

#[test]
fn connections_are_counted() {
    let cases = [("limits.connections_max = 1", "503"), ("limits.connections_per_address_max = 1", "429")];
    for (limit, status) in cases {
        let server = lobby(limit);
        let mut first = server.connect("");
        first.heartbeat();
        let mut second = TcpStream::connect(&server.address).unwrap();
        second.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = second.read_to_string(&mut answer);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        first.heartbeat();
        drop(first);
        // The place is free again.
        let deadline = Instant::now() + PATIENCE;
        while !is_served(&server) {
            assert!(Instant::now() < deadline, "{limit}: the place is still taken");
        }
    }
}

/// Those of the admin listener, and those of metrics, whatever the other may have.
#[test]
fn connections_of_back_offices_are_counted() {
    let server = lobby("admin.connections_max = 2\n[metrics]\nlisten = '127.0.0.1:0'\nconnections_max = 3");
    for (address, most) in [(server.admin().as_str(), 2), (crate::metrics::listener(&server).as_str(), 3)] {
        let _held: Vec<_> = (0..most).map(|_| kept_connection(address)).collect();
        let mut next = TcpStream::connect(address).unwrap();
        next.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = next.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 503 "), "{most}: {answer}");
    }
}

/// A connection that has had an answer and stays open.
fn kept_connection(address: &str) -> TcpStream {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
    assert!(stream.read(&mut [0; 12]).unwrap() > 0);
    stream
}

#[test]
fn clients_a_second_are_counted_and_resuming_ones_come_first() {
    let server = lobby("limits.accept_rate = 1\nlimits.accept_burst = 8");
    let started = Instant::now();
    let mut clients = Vec::new();
    let refused = loop {
        match server.try_connect("") {
            Ok(client) => clients.push(client),
            Err(status) => break status,
        }
    };
    let most = 6 + started.elapsed().as_secs() as usize;
    assert!(refused == 503 && (6..=most).contains(&clients.len()), "{refused} after {}", clients.len());
    assert!(server.try_connect("resume=e:1").is_ok(), "a quarter is kept");
    clients.iter_mut().for_each(|client| client.heartbeat());
    assert_eq!(server.counter("connections", "refused_rate"), 1);
}

/// One rate in a protocol with answers and in one without; it is counted, told, and shown beside what is allowed.
#[test]
fn messages_have_a_rate() {
    let rooms = "[[endpoint]]\n[[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\n[[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n";
    let server = Server::serve(&format!("limits = {{ message_rate = 2, message_burst = 3 }}\n{rooms}"));
    let mut client = server.connect("");
    let topic = client.join_ok("room:1");
    let replies: Vec<_> = (0..4).map(|_| client.push(&topic, "room:1", "new_msg", json!({}))).collect();
    let refused = replies.iter().find(|reply| reply["status"] == "error").expect("one is beyond the rate");
    assert_eq!(refused["response"]["reason"], "rate limited");
    let retry_after_ms = refused["response"]["retry_after_ms"].as_u64().unwrap();
    assert!((1..=500).contains(&retry_after_ms), "{retry_after_ms}");

    let mut talker = server.upgrade("/rooms", &[]).unwrap();
    talker.send_text(r#"{"join":"lobby"}"#);
    let begun = Instant::now();
    for n in 0..6 {
        talker.send_text(&format!(r#"{{"say":"{n}","to":"lobby"}}"#));
    }
    for n in 0..6 {
        assert_eq!(talker.receive_text(), n.to_string());
    }
    // Beyond the burst each takes half a second, and the first of them is handled at once.
    assert!(begun.elapsed() >= Duration::from_millis(900), "{:?}", begun.elapsed());

    let facts = server.api("GET", "/api/why?kind=limited", &json!(null)).json()["facts"].take();
    let reasons: Vec<_> = facts.as_array().unwrap().iter().map(|fact| fact["reason"].as_str().unwrap()).collect();
    assert!(reasons.contains(&"message_rate_refused") && reasons.contains(&"message_rate_paced"), "{facts}");
    assert!(facts[0]["next"].as_str().unwrap().contains("limits.message_rate"), "{facts}");
    let told = server.wait_for_stderr(|log| log.contains("reason=\"message_rate_refused\"").then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
    let bearer = format!("Bearer {TOKEN}");
    let metrics = http(&server.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body;
    for line in [
        "fanfare_limit{limit=\"message_rate\"} 2",
        "fanfare_limited_total{limit=\"message_rate\",action=\"refused\"} 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

/// Of a topic's members, of users, and of the HTTP API.
#[test]
fn topics_users_and_the_api_have_rates() {
    let secret = "a-shared-secret-of-more-than-thirty-two-bytes";
    let server = Server::serve(&format!(
        "limits = {{ sockets_per_user_max = 1, user_message_rate = 1 }}\n\
         [auth.j]\nkind = 'jwt'\nsecret = '{secret}'\nrequire_exp = false\n\
         [[endpoint]]\nauth = 'j'\nsocket_id = 'user:{{sub}}'\n\
         [[channel]]\ntopic = 'slow:*'\njoin = 'open'\npublish = 'open'\npublish_rate = 1\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n\
         [admin]\npublish_rate = 2\n"
    ));
    let refused = |client: &mut crate::support::Client, topic: &str| {
        let join_ref = client.join_ok(topic);
        let replies: Vec<_> = (0..6).map(|_| client.push(&join_ref, topic, "new_msg", json!({}))).collect();
        let errors = replies.iter().filter(|reply| reply["response"]["reason"] == "rate limited").count();
        assert!((1..=4).contains(&errors), "{replies:?}");
    };
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let query = |user: &str| {
        let token = jsonwebtoken::encode(&Default::default(), &json!({ "sub": user }), &key).unwrap();
        format!("token={token}")
    };
    let mut ada = server.connect(&query("ada"));
    assert_eq!(server.try_connect(&query("ada")).err(), Some(429));
    refused(&mut ada, "room:1");
    assert!(server.counter("limits", "user_message_rate_refused") > 0);
    let mut bobs: Vec<_> = ["bob", "cyd", "dan"].map(|user| server.connect(&query(user))).into();
    let join_refs: Vec<_> = bobs.iter_mut().map(|client| client.join_ok("slow:1")).collect();
    // Each of them is within its own rate.
    for _ in 0..2 {
        for (client, join_ref) in bobs.iter_mut().zip(&join_refs) {
            client.push(join_ref, "slow:1", "new_msg", json!({}));
        }
    }
    assert!(server.counter("limits", "publish_rate_refused") > 0);

    let messages: Vec<_> = (0..4).map(|n| json!({ "topic": "room:1", "event": "m", "payload": { "n": n } })).collect();
    let publish = || server.api("POST", "/api/publish", &json!({ "messages": messages }));
    assert_eq!(publish().status, 200);
    let before = server.counter("messages", "published");
    let answer = publish();
    assert_eq!(answer.status, 429, "{answer:?}");
    assert!(["1", "2"].contains(&answer.headers["retry-after"].as_str()), "{answer:?}");
    assert_eq!(answer.json()["error"]["code"], "rate_limited");
    assert_eq!(server.counter("messages", "published"), before, "nothing of it");
    let facts = server.api("GET", "/api/why?kind=limited", &json!(null)).json()["facts"].take();
    let fact = facts.as_array().unwrap().iter().find(|fact| fact["reason"] == "admin_publish_rate_refused");
    let fact = fact.unwrap_or_else(|| panic!("{facts}"));
    assert_eq!((&fact["address"], &fact["code"]), (&json!("127.0.0.1"), &json!(429)), "{fact}");
    assert!(fact["next"].as_str().unwrap().contains("admin.publish_rate"), "{fact}");
    told(
        &server,
        &[
            "fanfare_limit{limit=\"admin_publish_rate\"} 2",
            "fanfare_limited_total{limit=\"admin_publish_rate\",action=\"refused\"} 1",
        ],
    );
}

/// Metrics have these lines.
#[track_caller]
fn told(server: &Server, lines: &[&str]) {
    let bearer = format!("Bearer {TOKEN}");
    let metrics = http(&server.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body;
    for line in lines {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
}

#[test]
fn whoever_was_closed_for_a_rate_is_refused_for_a_while_and_nobody_else() {
    let secret = "a-shared-secret-of-more-than-thirty-two-bytes";
    let server = Server::serve(&format!(
        "limits = {{ ping_rate = 1, ping_burst = 2, penalty = '2s' }}\n\
         [auth.j]\nkind = 'jwt'\nsecret = '{secret}'\nrequire_exp = false\n\
         [[endpoint]]\nauth = 'j'\nsocket_id = 'user:{{sub}}'\n[[channel]]\ntopic = '*'\njoin = 'open'\n"
    ));
    let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
    let query = |user: &str| {
        let token = jsonwebtoken::encode(&Default::default(), &json!({ "sub": user }), &key).unwrap();
        format!("token={token}")
    };
    let (ada, bob) = (query("ada"), query("bob"));
    let mut other = server.connect(&ada);
    let mut client = server.connect(&ada);
    (0..8).for_each(|_| client.send_text(r#"[null,"1","phoenix","heartbeat",{}]"#));
    assert_eq!(client.receive_close(), 1008);
    let closed = Instant::now();
    let refused = http(&server.address, "GET", &format!("/socket/longpoll?vsn=2.0.0&{ada}"), &[], "");
    assert_eq!((refused.status, &refused.headers["retry-after"][..]), (429, "2"), "{refused:?}");
    assert!(refused.body.contains("too much was sent in too short a time"), "{refused:?}");
    assert_eq!(server.try_connect(&ada).err(), Some(429));
    server.connect(&bob).heartbeat();
    // A socket that is open already stays so.
    other.heartbeat();
    eventually(|| server.try_connect(&ada).is_ok());
    assert!(closed.elapsed() >= Duration::from_millis(1_900), "{:?}", closed.elapsed());
    let facts = server.api("GET", "/api/why?kind=refused", &json!(null)).json()["facts"].take();
    assert_eq!((&facts[0]["reason"], &facts[0]["code"]), (&json!("refused_penalty"), &json!(429)), "{facts}");
    assert!(facts[0]["next"].as_str().unwrap().contains("limits.penalty"), "{facts}");
    assert_eq!(facts[0]["user"], "user:ada");
    assert!(server.counter("connections", "refused_penalty") >= 2);
}

#[test]
fn connections_that_say_nothing_are_counted() {
    let server = lobby("limits.handshakes_max = 2");
    let mut client = server.connect("");
    let silent: Vec<_> = (0..2).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    eventually(|| {
        let mut next = TcpStream::connect(&server.address).unwrap();
        next.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        let mut answer = String::new();
        let _ = next.read_to_string(&mut answer);
        answer.starts_with("HTTP/1.1 503 ") && answer.contains("retry-after: 1")
    });
    told(
        &server,
        &[
            "fanfare_handshakes{listener=\"clients\"} 2",
            "fanfare_handshakes{listener=\"admin\"} 1",
            "fanfare_limit{limit=\"handshakes_max\"} 2",
        ],
    );
    let facts = server.api("GET", "/api/why?kind=refused", &json!(null)).json()["facts"].take();
    assert_eq!((&facts[0]["reason"], &facts[0]["code"]), (&json!("refused_limit"), &json!(503)), "{facts}");
    assert!(facts[0]["detail"].as_str().unwrap().contains("(handshakes_max)"), "{facts}");
    // Those that have been answered do not count, whether they are sockets or wait for another request.
    client.heartbeat();
    drop(silent);
    eventually(|| is_served(&server));
    let kept: Vec<_> = (0..3)
        .map(|_| {
            let mut stream = TcpStream::connect(&server.address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(b"GET /nothing HTTP/1.1\r\nhost: a\r\n\r\n").unwrap();
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).unwrap();
            assert_eq!(&answer, b"HTTP/1.1 404");
            stream
        })
        .collect();
    assert_eq!(kept.len(), 3);
}

#[test]
fn joins_errors_and_pings_have_rates() {
    let server = Server::serve(
        "limits = { join_burst = 4, error_rate = 1, error_burst = 3, ping_burst = 5, penalty = '0s' }\n[[channel]]\ntopic = 'room:*'\njoin = 'open'\n",
    );
    let mut client = server.connect("");
    let replies: Vec<_> = (0..6).map(|n| client.join(&format!("room:{n}"), json!({}))).collect();
    let refused = replies.iter().find(|reply| reply["status"] == "error").expect("one is beyond the rate");
    assert_eq!(refused["response"]["reason"], "too many joins");
    let mut client = server.connect("");
    for _ in 0..8 {
        client.send_text(r#"["1","1","nowhere","phx_join",{}]"#);
    }
    assert_eq!(client.receive_close(), 1008);
    let mut client = server.connect("");
    for _ in 0..20 {
        client.send_text(r#"[null,"1","phoenix","heartbeat",{}]"#);
    }
    assert_eq!(client.receive_close(), 1008);
    assert_eq!((server.counter("limits", "error_rate_closed"), server.counter("limits", "ping_rate_closed")), (1, 1));
}

/// Each connection takes a descriptor. Some are kept for those who look after the server.
#[test]
fn clients_cannot_take_all_descriptors() {
    let server = Server::serve_under(
        "-n 200",
        "limits.handshake_timeout = '60s'\n[[channel]]\npreset = 'lobby'\npresence = false\n",
    );
    let admin = server.admin();
    let mut joined = server.connect("");
    joined.join_ok("room:lobby");
    let open: Vec<_> = (0..300).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    eventually(|| server.counter("connections", "refused_limit") > 150);
    for _ in 0..3 {
        assert_eq!(http(&admin, "GET", "/api/health", &[], "").status, 200);
        joined.heartbeat();
    }
    let message = json!({"topic": "room:lobby", "event": "new_msg", "payload": {}});
    assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
    joined.receive_event("new_msg");
    let log = server.stderr();
    assert!(log.contains("too many open files") && log.contains("limit=200"), "{log}");
    assert!(log.lines().count() < 60, "{log}");
    drop(open);
    eventually(|| server.try_connect("").is_ok());
}

#[test]
fn as_many_descriptors_are_taken_as_the_system_allows() {
    let server = Server::serve_under("-Sn 100", "");
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", server.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let columns: Vec<_> = line.split_whitespace().collect();
    assert_eq!(columns[3], columns[4], "{line}");
    let told = server.wait_for_stderr(|log| log.contains(&format!("limit={} soft=100", columns[4])).then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
}

#[test]
fn more_connections_than_descriptors_are_warned_of() {
    let folder = crate::support::Folder::new();
    let file = folder.write("fanfare.toml", "limits.connections_max = 5000\n[[channel]]\npreset = 'lobby'\n");
    let check = |ulimit: &str| {
        let args = ["check", "--config", file.to_str().unwrap()];
        let output = crate::support::fanfare_under(ulimit, &args).output().unwrap();
        assert!(output.status.success());
        String::from_utf8(output.stderr).unwrap()
    };
    assert_eq!(check("-n 10000"), "");
    let warning = check("-n 4000");
    assert!(warning.contains("limits.connections_max is 5000") && warning.contains("leaves 3872"), "{warning}");
}

/// The body of a request to the API is read after its token, in time, and not at all where it is too large.
#[test]
fn requests_to_the_api_have_limits() {
    use std::io::Write;
    let server = lobby("limits.body_timeout = '500ms'");
    let admin = server.admin();
    let ask = |token: &str, length: &str| {
        let mut stream = TcpStream::connect(&admin).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let head = format!(
            "POST /api/publish HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\ncontent-length: {length}\r\n\r\n{{"
        );
        stream.write_all(head.as_bytes()).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer
    };
    for (token, length, status, code) in [
        ("wrong", "7000000", "401", "unauthorized"),
        ("wrong", "1000000000000000000", "401", "unauthorized"),
        (TOKEN, "8000001", "413", "too_large"),
        (TOKEN, "1000000000000000000", "413", "too_large"),
        (TOKEN, "7000000", "408", "timeout"),
    ] {
        let answer = ask(token, length);
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{answer}");
        assert!(answer.contains(&format!("\"code\":\"{code}\"")), "{answer}");
    }
}

/// On both listeners, before anything of the application runs.
#[test]
fn heads_that_can_be_understood_in_two_ways_are_refused() {
    use std::io::Write;
    let server = lobby("");
    let auth = format!("Authorization: Bearer {TOKEN}\r\n");
    let body = r#"{"topic": "room:lobby", "event": "m"}"#;
    let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    let length = format!("Content-Length: {}\r\n", body.len());
    for headers in [
        format!("{auth}{length}"),
        format!("Host: a\r\nHost: b\r\n{auth}{length}"),
        format!("Host: a b\r\n{auth}{length}"),
        format!("Host: a\r\n{auth}{length}Transfer-Encoding: chunked\r\n"),
        format!("Host: a\r\n{auth}Transfer-Encoding: chunked\r\n{length}"),
    ] {
        for (address, path) in [(&server.address, "/socket/longpoll?vsn=2.0.0"), (&server.admin(), "/api/publish")] {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            stream.write_all(format!("POST {path} HTTP/1.1\r\n{headers}\r\n{chunked}").as_bytes()).unwrap();
            let mut answer = String::new();
            let _ = stream.read_to_string(&mut answer);
            assert!(answer.starts_with("HTTP/1.1 400 "), "{path} {headers}: {answer}");
            assert_eq!(answer.matches("HTTP/1.1").count(), 1, "{path} {headers}: {answer}");
        }
    }
    // The size of a chunk has a sign: the head says one thing, and its body is never read to the end.
    let mut stream = TcpStream::connect(server.admin()).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let head = format!("POST /api/publish HTTP/1.1\r\nHost: a\r\n{auth}Transfer-Encoding: chunked\r\n\r\n");
    stream.write_all(format!("{head}+{chunked}").as_bytes()).unwrap();
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    assert!(answer.starts_with("HTTP/1.1 400 ") && answer.matches("HTTP/1.1").count() == 1, "{answer}");
    assert_eq!(server.counter("messages", "published"), 0);
}

fn is_served(server: &Server) -> bool {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let _ = stream.write_all(b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer.starts_with("HTTP/1.1 404")
}

#[test]
fn silence_ends_a_connection() {
    let server = lobby("limits.handshake_timeout = '300ms'\n[[endpoint]]\nidle_timeout = '1s'\n");
    let started = Instant::now();
    assert_eq!(server.connect("").receive_close(), 1002);
    assert!(started.elapsed() < Duration::from_secs(4), "{:?}", started.elapsed());
    let mut silent = TcpStream::connect(&server.address).unwrap();
    silent.set_read_timeout(Some(PATIENCE)).unwrap();
    let started = Instant::now();
    let _ = silent.read_to_end(&mut Vec::new());
    assert!(started.elapsed() < Duration::from_secs(3), "{:?}", started.elapsed());
}

/// Bytes that keep coming do not lengthen it.
#[test]
fn rooms_5_a_handshake_has_an_absolute_limit() {
    use std::io::Write;
    let server = lobby("limits.handshake_timeout = '1s'\n[[endpoint]]\npath = '/'\nprotocol = 'rooms'\n");
    let mut dripping = TcpStream::connect(&server.address).unwrap();
    dripping.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    let started = Instant::now();
    let mut head = b"GET /any/path HTTP/1.1\r\nhost: x\r\nx-header: ".iter().chain(std::iter::repeat(&b'x'));
    let is_open = |stream: &mut TcpStream| match stream.read(&mut [0; 1000]) {
        Ok(0) => false,
        Ok(_) => true,
        Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
    };
    while dripping.write_all(&[*head.next().unwrap()]).is_ok() && is_open(&mut dripping) {
        assert!(started.elapsed() < Duration::from_secs(5), "it is still open");
    }
    assert!(started.elapsed() >= Duration::from_millis(900), "{:?}", started.elapsed());
    assert!(server.upgrade("/any/path", &[]).is_ok());
}

#[test]
fn only_listed_pages_may_connect() {
    #[track_caller]
    fn check(server: &Server, origin: &str, status: Option<u16>) {
        let result = server.upgrade("/socket/websocket?vsn=2.0.0", &[("origin", origin)]);
        assert_eq!(result.err(), status, "{origin}");
    }
    let server = lobby("[[endpoint]]\norigins = ['//example.com', 'https://*.example.org']\n");
    check(&server, "http://example.com", None);
    check(&server, "https://a.example.org", None);
    check(&server, "http://a.example.org", Some(403));
    check(&server, "http://evil-example.com", Some(403));
    check(&server, "null", Some(403));
    assert!(server.upgrade("/socket/websocket?vsn=2.0.0", &[]).is_ok());
    // The default: pages of this server's own.
    let server = lobby("");
    check(&server, &format!("http://{}", server.address), None);
    check(&server, "http://example.com", Some(403));
    let poll = http(&server.address, "GET", "/socket/longpoll?vsn=2.0.0", &[("origin", "http://example.com")], "");
    assert_eq!(poll.json(), json!({"status": 403}));
    // `dev` is for trying: pages of a development server elsewhere connect too.
    check(&Server::dev(), "http://localhost:3000", None);
}
