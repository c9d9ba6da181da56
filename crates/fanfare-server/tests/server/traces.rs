//! Spans, as a collector gets them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

use crate::back_end::{BackEnd, Reply};
use crate::support::{Answer, Folder, PATIENCE, Server, TOKEN, eventually, fanfare, http};

const CONFIG: &str = "
[[endpoint]]
[[channel]]
topic = 'room:*'
join = 'open'
publish = 'open'
history = { messages = 5 }
";

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const PARENT: &str = "00f067aa0ba902b7";

/// Stands in what nobody may see.
const MARKER: &str = "marker-of-the-test";

/// What takes spans. Each comes with the request that it was in.
struct Collector {
    address: String,
    spans: Receiver<(Value, Value)>,
}

impl Collector {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (sender, spans) = channel();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let sender = sender.clone();
                thread::spawn(move || {
                    let mut stream = BufReader::new(stream.unwrap());
                    while let Some(request) = take(&mut stream) {
                        let spans = &request["resourceSpans"][0]["scopeSpans"][0]["spans"];
                        for span in spans.as_array().unwrap() {
                            if sender.send((span.clone(), request.clone())).is_err() {
                                return;
                            }
                        }
                    }
                });
            }
        });
        Self { address, spans }
    }

    /// The next spans, so many, by their names.
    fn take(&self, count: usize) -> BTreeMap<String, (Value, Value)> {
        let next = || self.spans.recv_timeout(PATIENCE).expect("a span");
        let named = |(span, request): (Value, Value)| (span["name"].as_str().unwrap().to_owned(), (span, request));
        let spans: BTreeMap<_, _> = (0..count).map(|_| named(next())).collect();
        assert_eq!(spans.len(), count, "of two with one name one is lost: {:?}", spans.keys());
        spans
    }
}

/// One request, which is answered.
fn take(stream: &mut BufReader<TcpStream>) -> Option<Value> {
    let (mut head, mut length) = (String::new(), 0);
    while !head.ends_with("\r\n\r\n") {
        let from = head.len();
        if stream.read_line(&mut head).ok()? == 0 {
            return None;
        }
        if let Some(text) = head[from..].to_ascii_lowercase().strip_prefix("content-length:") {
            length = text.trim().parse().unwrap();
        }
    }
    assert!(head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("application/json"), "{head}");
    let mut body = vec![0; length];
    stream.read_exact(&mut body).unwrap();
    stream
        .get_mut()
        .write_all(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}")
        .unwrap();
    Some(serde_json::from_slice(&body).unwrap())
}

fn publish(server: &Server, traceparent: &str, message: &Value) -> Answer {
    let token = format!("Bearer {TOKEN}");
    let mut headers = vec![("authorization", &*token)];
    headers.extend((!traceparent.is_empty()).then_some(("traceparent", traceparent)));
    http(&server.admin(), "POST", "/api/publish", &headers, &message.to_string())
}

fn attributes(of: &Value) -> Value {
    let pairs = of["attributes"].as_array().unwrap().iter().map(|attribute| {
        let value = attribute["value"].as_object().unwrap().values().next().unwrap();
        (attribute["key"].as_str().unwrap().to_owned(), value.clone())
    });
    Value::Object(pairs.collect())
}

fn spans(server: &Server, result: &str) -> u64 {
    let metrics = server.api("GET", "/metrics", &Value::Null).body;
    let name = format!("fanfare_trace_spans_total{{result=\"{result}\"}} ");
    metrics.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok()).unwrap()
}

/// What a span has beside its name, with its trace and the one above.
fn place(span: &Value) -> [&Value; 3] {
    [&span["traceId"], &span["parentSpanId"], &span["kind"]]
}

#[test]
fn a_message_is_followed_from_its_request_to_its_members() {
    let collector = Collector::start();
    let traces = format!("[traces]\nendpoint = 'http://{}'\n", collector.address);
    let server = Server::serve(&format!("shards = 1\n{CONFIG}{traces}"));
    let mut clients = [server.connect(""), server.connect("")];
    clients.iter_mut().for_each(|client| drop(client.join_ok("room:1")));
    let message = json!({"topic": "room:1", "event": "e", "payload": {"token": MARKER}, "idempotency_key": MARKER});
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    // Those that are not sampled, by what they say or by the ratio, come before and leave nothing.
    for traceparent in ["", "nonsense", &format!("00-{TRACE}-{PARENT}-00")] {
        assert_eq!(publish(&server, traceparent, &json!({"topic": "room:2", "event": "e"})).status, 200);
    }
    let told = publish(&server, &sampled, &message).json();
    let spans = collector.take(3);
    let (send, request) = &spans["send room:*"];
    assert_eq!(place(send), [&json!(TRACE), &json!(PARENT), &json!(4)]);
    let nanos = |name: &str| send[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(
        nanos("startTimeUnixNano") > 1_600_000_000_000_000_000
            && nanos("startTimeUnixNano") <= nanos("endTimeUnixNano")
    );
    assert!(send.get("status").is_none(), "{send}");
    let topic = json!({
        "messaging.system": "fanfare",
        "messaging.destination.name": "room:1",
        "messaging.destination.template": "room:*",
    });
    let with = |more: Value| {
        let mut all = topic.as_object().unwrap().clone();
        all.extend(more.as_object().unwrap().clone());
        Value::Object(all)
    };
    let kept = json!({ "fanfare.position": told["messages"][0]["position"], "fanfare.repeated": false });
    let mut of_send = with(json!({
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.message.body.size": message["payload"].to_string().len().to_string(),
    }));
    of_send.as_object_mut().unwrap().extend(kept.as_object().unwrap().clone());
    assert_eq!(attributes(send), of_send);
    let (append, deliver) = (&spans["append"].0, &spans["deliver room:*"].0);
    for span in [append, deliver] {
        assert_eq!(place(span), [&json!(TRACE), &send["spanId"], &json!(1)], "{span}");
    }
    let mut of_append = json!({ "fanfare.store": "local" });
    of_append.as_object_mut().unwrap().extend(kept.as_object().unwrap().clone());
    assert_eq!(attributes(append), of_append);
    assert_eq!(attributes(deliver), with(json!({ "fanfare.members": "2", "fanfare.shard": "0" })));
    let resource = attributes(&request["resourceSpans"][0]["resource"]);
    assert_eq!(resource["service.name"], "fanfare");
    assert!(resource["service.instance.id"].as_str().is_some_and(|node| !node.is_empty()), "{resource}");

    let two = json!({"messages": [
        {"topic": "room:1", "event": "e", "payload": {"card": MARKER}, "expect": "1:1"},
        {"topic": "elsewhere", "event": "e", "payload": {"text": MARKER}},
    ]});
    assert_eq!(publish(&server, &sampled, &two).status, 409);
    let failed = collector.take(3);
    for name in ["send room:*", "append"] {
        let span = &failed[name].0;
        assert_eq!((&attributes(span)["error.type"], &span["status"]), (&json!("conflict"), &json!({"code": 2})));
    }
    assert!(failed.contains_key("send"), "no channel fits the topic");
    for (_, request) in spans.values().chain(failed.values()) {
        let text = request.to_string();
        assert!(!text.contains(MARKER) && !text.contains(TOKEN), "{text}");
    }
    eventually(|| self::spans(&server, "sent") == 6);
    assert!(!server.stderr().contains(MARKER));
}

#[test]
fn what_clients_do_is_traced_and_hooks_are_told_the_trace() {
    let (collector, back_end) = (
        Collector::start(),
        BackEnd::new(|request| {
            let asked = request.json();
            Reply::Json(json!({ "allow": asked["topic"] != "room:no" && asked["token"] != "wrong" }))
        }),
    );
    let server = Server::serve(&format!(
        "[log]\nformat = 'json'\n[traces]\nendpoint = 'http://{}'\nratio = 1.0\n\
         [hook.h]\nurl = '{}'\n[auth.users]\nkind = 'hook'\nhook = 'h'\n[[endpoint]]\nauth = 'users'\n\
         [[channel]]\ntopic = 'room:*'\njoin = 'hook:h'\npublish = 'hook:h'\ntrace_clients = true\n",
        collector.address,
        back_end.url()
    ));
    let header = |sampled| format!("00-{TRACE}-{PARENT}-{sampled}");
    // This one says that it is not traced, and leaves nothing.
    server.upgrade("/socket/websocket?vsn=2.0.0&token=t", &[("traceparent", &header("00"))]).unwrap();
    let url = format!("/socket/websocket?vsn=2.0.0&token={MARKER}");
    let mut client = server.upgrade(&url, &[("traceparent", &header("01"))]).unwrap();
    let connected = collector.take(2);
    let (connect, hook) = (&connected["connect /socket"].0, &connected["hook h"].0);
    assert_eq!(place(connect), [&json!(TRACE), &json!(PARENT), &json!(2)]);
    assert_eq!(attributes(connect), json!({ "fanfare.transport": "websocket", "fanfare.result": "ok" }));
    assert_eq!(place(hook), [&json!(TRACE), &connect["spanId"], &json!(3)]);
    let told = format!("00-{TRACE}-{}-01", hook["spanId"].as_str().unwrap());
    assert_eq!(back_end.requests()[1].headers["traceparent"], told);
    assert!(!back_end.requests()[0].headers.contains_key("traceparent"));

    let join_ref = client.join_ok_with("room:1", json!({ "traceparent": header("01"), "password": MARKER }));
    let joined = collector.take(2);
    let join = &joined["join room:*"].0;
    assert_eq!(place(join), [&json!(TRACE), &json!(PARENT), &json!(2)]);
    assert_eq!(
        (&attributes(join)["fanfare.result"], &joined["hook h"].0["parentSpanId"]),
        (&json!("ok"), &join["spanId"])
    );

    assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({ "body": MARKER }))["status"], "ok");
    let pushed = collector.take(4);
    let (handle, send) = (&pushed["handle new_msg"].0, &pushed["send room:*"].0);
    assert!(
        handle.get("parentSpanId").is_none() && handle["traceId"] != TRACE,
        "nobody has said where it belongs: {handle}"
    );
    for (name, above) in [("hook h", handle), ("send room:*", handle), ("deliver room:*", send)] {
        let span = &pushed[name].0;
        assert_eq!((&span["traceId"], &span["parentSpanId"]), (&handle["traceId"], &above["spanId"]), "{span}");
    }

    let long = "e".repeat(3_000);
    client.push(&join_ref, "room:1", &long, json!({}));
    let name = format!("handle {}", &long[..64]);
    assert!(collector.take(4).contains_key(&*name), "what a client makes up is cut");

    assert_eq!(client.join("room:no", json!({}))["status"], "error");
    let refused = collector.take(2);
    let span = &refused["join room:*"].0;
    assert_eq!(attributes(span)["fanfare.result"], "refused");
    assert_eq!(server.upgrade("/socket/websocket?token=wrong", &[]).err(), Some(403));
    let turned_away = collector.take(2);
    let away = &turned_away["connect /socket"].0;
    assert_eq!(attributes(away)["fanfare.result"], "refused_connect");
    for (event, span) in [("join_refused", span), ("refused", away)] {
        let line = server.wait_for_stderr(|log| {
            let mut lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            lines.find(|line| line["event"] == event)
        });
        assert_eq!(line.expect(event)["trace_id"], span["traceId"]);
    }
    for (_, request) in [connected, joined, pushed, refused, turned_away].iter().flat_map(|spans| spans.values()) {
        assert!(!request.to_string().contains(MARKER), "{request}");
    }
    assert!(!server.stderr().contains(MARKER));
}

#[test]
fn a_reload_begins_and_ends_tracing() {
    let collector = Collector::start();
    let server = Server::serve(CONFIG);
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    let message = |n: u64| json!({"topic": format!("elsewhere:{n}"), "event": "e"});
    publish(&server, &sampled, &message(1));
    server.rewrite(&format!("{CONFIG}[traces]\nendpoint = 'http://{}'\n", collector.address));
    assert_eq!(server.reload().status, 200);
    publish(&server, &sampled, &message(2));
    let spans = collector.take(1);
    assert_eq!(attributes(&spans["send"].0)["messaging.destination.name"], "elsewhere:2");
    server.rewrite(CONFIG);
    assert_eq!(server.reload().status, 200);
    publish(&server, &sampled, &message(3));
    eventually(|| self::spans(&server, "sent") == 1);
    assert!(collector.spans.recv_timeout(std::time::Duration::from_millis(300)).is_err(), "nothing is traced any more");
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::serve_with(&format!("{CONFIG}[traces]\nratio = 1.0\n"), |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}/"));
    });
    assert_eq!(publish(&server, "", &json!({"topic": "room:1", "event": "e"})).status, 200);
    eventually(|| spans(&server, "failed") == 2);
    assert!(server.wait_for_stderr(|log| log.contains("spans_lost").then_some(())).is_some());
}

#[test]
fn an_address_of_the_environment_that_is_none_is_refused_by_check() {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", CONFIG);
    let check = |address: &str| {
        let mut command = fanfare(&["check", "--config", file.to_str().unwrap()]);
        let output = command.env("OTEL_EXPORTER_OTLP_ENDPOINT", address).output().unwrap();
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    for (address, part) in [
        ("junk", "OTEL_EXPORTER_OTLP_ENDPOINT is not a URL such as"),
        (
            "http://127.0.0.1:4318/v1/traces",
            "OTEL_EXPORTER_OTLP_ENDPOINT: the collector's address ends with /v1/traces",
        ),
    ] {
        let (status, stderr) = check(address);
        assert!(status == Some(2) && stderr.contains(part), "{address}: {status:?} {stderr}");
    }
    for address in ["", "http://127.0.0.1:4318"] {
        assert_eq!(check(address), (Some(0), String::new()), "{address}");
    }
}
