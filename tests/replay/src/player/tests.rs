//! Whole transcripts against a server that does exactly what it is told, right or wrong.

use super::*;
use crate::websocket::encode;
use base64::Engine as _;
use serde_json::{Value, json};
use sha1::{Digest, Sha1};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};

/// What the server does on one connection: first when the request has come, then once for each frame from the client.
type Reactions = Vec<Vec<Do>>;

#[derive(Clone)]
enum Do {
    Upgrade,
    /// Goes on only if this is in the request.
    Insist(&'static str),
    Say(Vec<u8>),
    Pause(u64),
    Close,
}

fn raw(opcode: u8, payload: &[u8]) -> Do {
    Do::Say(encode(&SentFrame { opcode, payload: payload.to_vec(), fin: true, rsv: 0, masked: false }))
}

fn text(message: Value) -> Do {
    raw(1, message.to_string().as_bytes())
}

fn close(code: u16) -> Do {
    raw(8, &code.to_be_bytes())
}

fn respond(status: u16, body: &str) -> Do {
    Do::Say(format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\n\r\n{body}", body.len()).into_bytes())
}

/// Starts a server for as many connections as there are reactions, taken in the order in which they come.
fn serve(connections: Vec<Reactions>) -> Server {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let port = listener.local_addr().unwrap().port();
    std::thread::spawn(move || {
        for reactions in connections {
            let (stream, _) = listener.accept().unwrap();
            std::thread::spawn(move || react(stream, reactions));
        }
    });
    Server { port, pid: None }
}

fn react(stream: TcpStream, reactions: Reactions) -> Option<()> {
    let mut reader = BufReader::new(stream.try_clone().ok()?);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        (reader.read_line(&mut head).ok()? > 0).then_some(())?;
    }
    for (i, reaction) in reactions.into_iter().enumerate() {
        if i > 0 {
            // The client's frames here are short: two bytes of header, four of mask.
            let mut header = [0; 6];
            reader.read_exact(&mut header).ok()?;
            reader.read_exact(&mut vec![0; usize::from(header[1] & 0x7f)]).ok()?;
        }
        for what in reaction {
            match what {
                Do::Upgrade => (&stream).write_all(upgrade_answer(&head).as_bytes()).ok()?,
                Do::Insist(wanted) => head.contains(wanted).then_some(())?,
                Do::Say(bytes) => (&stream).write_all(&bytes).ok()?,
                Do::Pause(ms) => std::thread::sleep(Duration::from_millis(ms)),
                Do::Close => stream.shutdown(Shutdown::Both).ok()?,
            }
        }
    }
    // Stays open until the client goes.
    reader.read_to_end(&mut Vec::new()).ok()?;
    Some(())
}

fn upgrade_answer(head: &str) -> String {
    let key = head.lines().find_map(|line| line.strip_prefix("sec-websocket-key: ")).unwrap_or("none");
    let accept = Sha1::digest(format!("{key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
    let accept = base64::engine::general_purpose::STANDARD.encode(accept);
    format!("HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n")
}

/// Plays `steps` against `connections`; the report must contain `difference`, or there must be none.
#[track_caller]
fn check(steps: Value, connections: Vec<Reactions>, difference: Option<&str>) {
    let transcript = Transcript::parse(&json!({"name": "test", "steps": steps}).to_string()).unwrap();
    let report = play(&transcript, serve(connections), Options::default()).err().map(|mismatch| mismatch.to_string());
    match (difference, &report) {
        (None, None) => {}
        (Some(difference), Some(report)) if report.contains(difference) => {}
        _ => panic!("expected {difference:?}, got {report:?}"),
    }
}

/// Plays `steps` on one WebSocket connection after its upgrade.
#[track_caller]
fn check_socket(steps: Value, reactions: Reactions, difference: Option<&str>) {
    let mut all = vec![
        json!({"dir": "http_request", "method": "GET", "path": "/", "ws": true}),
        json!({"dir": "http_response", "status": 101}),
    ];
    all.extend(steps.as_array().unwrap().iter().cloned());
    for step in &mut all {
        step["conn"] = "A".into();
    }
    let mut connection = vec![vec![Do::Upgrade]];
    connection[0].extend(reactions.first().cloned().unwrap_or_default());
    connection.extend(reactions.into_iter().skip(1));
    check(json!(all), vec![connection], difference);
}

fn send(data: &str) -> Value {
    json!({"dir": "send", "op": "text", "data": data})
}

fn recv(message: Value) -> Value {
    json!({"dir": "recv", "op": "text", "json": message})
}

fn message(n: u32) -> Value {
    json!([null, null, "t", "e", { "n": n }])
}

#[test]
fn frames_are_awaited_and_compared() {
    let steps = json!([send("go"), recv(message(1)), recv(message(2))]);
    for (said, difference) in [
        (vec![text(message(1)), text(message(2))], None),
        (vec![text(message(1)), Do::Pause(300), text(message(2))], None),
        (
            vec![text(message(2)), text(message(1))],
            Some(r#"step 4 [A]: expected text [null,null,"t","e",{"n":1}]; got text [null,null,"t","e",{"n":2}]"#),
        ),
        (
            vec![text(message(1)), Do::Close],
            Some("step 5 [A]: expected text [null,null,\"t\",\"e\",{\"n\":2}]; got end of connection"),
        ),
        (vec![text(message(1)), close(1011)], Some("got close 1011")),
        (vec![Do::Say(vec![0x83, 0])], Some("got opcode 3 out of place")),
        (vec![raw(1, b"\xff")], Some("got text that is not UTF-8")),
    ] {
        check_socket(steps.clone(), vec![vec![], said], difference);
    }
}

#[test]
fn what_never_comes_is_missed() {
    check_socket(json!([recv(message(1))]), vec![], Some("nothing came"));
}

#[test]
fn silence_is_listened_to() {
    let steps = json!([send("go"), recv(message(1)), {"dir": "silence", "ms": 200}]);
    for (said, difference) in [
        (vec![text(message(1))], None),
        (vec![text(message(1)), Do::Pause(400), text(message(2))], None),
        (vec![text(message(1)), Do::Pause(50), text(message(2))], Some("expected silence; got text")),
        (vec![text(message(1)), Do::Pause(50), Do::Close], Some("expected silence; got end of connection")),
    ] {
        check_socket(steps.clone(), vec![vec![], said], difference);
    }
    // A diff of which a part is due may come within the silence, but not one that is not.
    let optional = json!({"dir": "recv", "op": "text", "none": true, "lane": "own", "or": [{"json": message(2)}]});
    let steps = json!([send("go"), recv(message(1)), optional, {"dir": "silence", "ms": 200}]);
    for (late, difference) in [(message(2), None), (message(3), Some("expected silence; got text"))] {
        check_socket(steps.clone(), vec![vec![], vec![text(message(1)), Do::Pause(50), text(late)]], difference);
    }
}

#[test]
fn closing_is_expected_in_full() {
    let steps = json!([send("go"), {"dir": "recv", "op": "close", "code": 1000}, {"dir": "closed"}]);
    for (said, difference) in [
        (vec![close(1000), Do::Close], None),
        (vec![close(1000)], Some("step 5 [A]: expected end of connection; nothing came")),
        (vec![close(1001), Do::Close], Some("expected close 1000; got close 1001")),
        (vec![Do::Close], Some("expected close 1000; got end of connection")),
    ] {
        check_socket(steps.clone(), vec![vec![], said], difference);
    }
}

#[test]
fn a_connection_that_ended_is_left_alone() {
    let alternative =
        json!({"dir": "recv", "op": "text", "json": message(1), "or": [{"op": "close", "code": 1011, "ends": true}]});
    let steps = json!([send("go"), alternative, {"dir": "silence", "ms": 50}, send("again"), recv(message(2))]);
    check_socket(steps.clone(), vec![vec![], vec![close(1011), Do::Close]], None);
    check_socket(steps.clone(), vec![vec![], vec![text(message(1))], vec![text(message(2))]], None);
    check_socket(steps, vec![vec![], vec![text(message(1))], vec![text(message(3))]], Some("step 7 [A]"));
}

#[test]
fn optional_frames_before_a_send_do_not_leak() {
    let optional = json!({"dir": "recv", "op": "text", "none": true, "or": [{"json": message(1)}]});
    let steps = json!([send("go"), optional, send("more"), recv(message(2))]);
    check_socket(steps.clone(), vec![vec![], vec![Do::Pause(50), text(message(1))], vec![text(message(2))]], None);
    check_socket(steps.clone(), vec![vec![], vec![], vec![text(message(2))]], None);
    let other = vec![vec![], vec![text(message(3))], vec![text(message(2))]];
    check_socket(steps, other, Some("step 6 [A]"));
}

#[test]
fn moments_are_measured_from_the_last_frame() {
    let steps = |timing: Value| {
        let mut step = recv(message(1));
        step.as_object_mut().unwrap().extend(timing.as_object().unwrap().clone());
        json!([{"dir": "send", "op": "text", "data": "go", "wait_ms": 300}, step])
    };
    let after = |ms| vec![vec![], vec![Do::Pause(ms), text(message(1))]];
    check_socket(steps(json!({"within_ms": 250})), after(0), None);
    check_socket(steps(json!({"within_ms": 250})), after(350), Some("ms after the last frame sent"));
    check_socket(steps(json!({"after_ms": [200, 800]})), after(300), None);
    check_socket(steps(json!({"after_ms": [200, 800]})), after(0), Some("after 200 to 800 ms; got text"));
}

#[test]
fn pings_are_answered_and_not_shown() {
    // The server goes on only when it got a second frame, which must be the pong.
    let reactions = vec![vec![], vec![raw(9, b"p")], vec![text(message(1))]];
    check_socket(json!([send("go"), recv(message(1))]), reactions, None);
}

#[test]
fn upgrades_are_checked() {
    let steps = |or: Value| {
        json!([{"dir": "http_request", "conn": "A", "method": "GET", "path": "/", "ws": true},
               {"dir": "http_response", "conn": "A", "status": 101, "or": or},
               {"dir": "send", "conn": "A", "op": "text", "data": ""},
               {"dir": "silence", "conn": "A", "ms": 100}])
    };
    let refused = || vec![vec![vec![respond(403, "")]]];
    check(steps(json!([])), vec![vec![vec![Do::Upgrade]]], None);
    check(steps(json!([])), refused(), Some("step 2 [A]: expected HTTP 101; got 403"));
    check(steps(json!([{"status": 403}])), refused(), None);
    let wrong = "HTTP/1.1 101 X\r\nupgrade: websocket\r\nconnection: upgrade\r\nsec-websocket-accept: x\r\n\r\n";
    check(steps(json!([])), vec![vec![vec![Do::Say(wrong.into())]]], Some("got Sec-WebSocket-Accept \"x\""));
    check(steps(json!([])), vec![vec![vec![Do::Close]]], Some("step 1 [A]: cannot connect"));
}

#[test]
fn requests_run_beside_each_other() {
    let request =
        |conn: &str| json!({"dir": "http_request", "conn": conn, "method": "GET", "path": "/", "wait_ms": 50});
    let response = |conn: &str| json!({"dir": "http_response", "conn": conn, "status": 200, "body": conn});
    let steps = json!([request("slow"), request("fast"), response("fast"), response("slow")]);
    let connections = vec![vec![vec![Do::Pause(300), respond(200, "slow")]], vec![vec![respond(200, "fast")]]];
    check(steps.clone(), connections, None);
    check(
        steps.clone(),
        vec![vec![vec![Do::Close]], vec![vec![respond(200, "fast")]]],
        Some("step 4 [slow]: no response"),
    );
    check(json!([response("never asked")]), vec![], Some("there is no request to answer"));
}

#[test]
fn a_poll_is_repeated_for_the_rest() {
    let poll = |messages: &[Value]| {
        let messages: Vec<String> = messages.iter().map(Value::to_string).collect();
        vec![vec![respond(200, &json!({"status": 200, "messages": messages}).to_string())]]
    };
    let expected = json!({"status": 200, "messages": [message(1), message(2), message(3)]});
    let steps = json!([{"dir": "http_request", "method": "GET", "path": "/"},
                       {"dir": "http_response", "status": 200, "json": expected}]);
    let (one, two, three) = (message(1), message(2), message(3));
    for (polls, difference) in [
        (vec![poll(&[one.clone(), two.clone(), three.clone()])], None),
        (
            vec![
                poll(std::slice::from_ref(&one)),
                poll(std::slice::from_ref(&two)),
                poll(std::slice::from_ref(&three)),
            ],
            None,
        ),
        (vec![poll(std::slice::from_ref(&one)), poll(&[three.clone(), two.clone()])], Some("expected message 2, text")),
        (
            vec![poll(std::slice::from_ref(&one)), vec![vec![respond(200, r#"{"status":204,"messages":[]}"#)]]],
            Some("got {\"status\":204"),
        ),
        (vec![poll(&[one.clone(), two.clone()]), poll(&[])], Some("expected message 3, text")),
    ] {
        check(steps.clone(), polls, difference);
    }
}

#[test]
fn tokens_find_their_way_into_paths() {
    let steps = json!([{"dir": "http_request", "method": "GET", "path": "/"},
                       {"dir": "http_response", "status": 200, "json": {"token": "$T1"}},
                       {"dir": "http_request", "conn": "A", "method": "GET", "path": "/?token=$T1", "headers": [["x-token", "$T1"]], "ws": true},
                       {"dir": "http_response", "conn": "A", "status": 101}]);
    let connections = |token: &str| {
        let upgrade = vec![Do::Insist("GET /?token=abc HTTP/1.1\r\n"), Do::Insist("x-token: abc\r\n"), Do::Upgrade];
        vec![vec![vec![respond(200, &json!({ "token": token }).to_string())]], vec![upgrade]]
    };
    check(steps.clone(), connections("abc"), None);
    check(steps.clone(), connections("other"), Some("step 3 [A]: cannot connect"));
    check(steps, connections(""), Some("step 2 [http]: expected {\"token\":\"$T1\"}"));
}

#[test]
fn refused_means_refused() {
    let steps = json!([{"dir": "refused", "conn": "A", "path": "/"}]);
    check(steps.clone(), vec![vec![vec![respond(503, "")]]], None);
    check(steps.clone(), vec![vec![vec![Do::Close]]], None);
    check(steps.clone(), vec![vec![vec![Do::Upgrade]]], Some("a new connection was answered 101"));
    check(steps, vec![vec![vec![respond(404, "")]]], Some("a new connection was answered 404"));
}
