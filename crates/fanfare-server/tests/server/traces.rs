//! Spans of what is published, as a collector gets them.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;

use serde_json::{Value, json};

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

    fn next(&self) -> (Value, Value) {
        self.spans.recv_timeout(PATIENCE).expect("a span")
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

#[test]
fn what_is_published_is_a_span_of_the_trace_that_it_is_sent_with() {
    let collector = Collector::start();
    let traces = format!("[traces]\nendpoint = 'http://{}'\n", collector.address);
    let server = Server::serve(&format!("{CONFIG}{traces}"));
    let message = json!({"topic": "room:1", "event": "e", "payload": {"token": MARKER}, "idempotency_key": MARKER});
    let sampled = format!("00-{TRACE}-{PARENT}-01");
    // Those that are not sampled, by what they say or by the ratio, come before and leave nothing.
    for traceparent in ["", "nonsense", &format!("00-{TRACE}-{PARENT}-00")] {
        assert_eq!(publish(&server, traceparent, &json!({"topic": "room:2", "event": "e"})).status, 200);
    }
    let told = publish(&server, &sampled, &message).json();
    let (span, request) = collector.next();
    let of_span = [("traceId", TRACE), ("parentSpanId", PARENT), ("name", "send room:*")];
    assert!(of_span.iter().all(|(name, value)| span[name] == *value) && span["kind"] == 4, "{span}");
    let nanos = |name: &str| span[name].as_str().unwrap().parse::<u64>().unwrap();
    assert!(
        nanos("startTimeUnixNano") > 1_600_000_000_000_000_000
            && nanos("startTimeUnixNano") <= nanos("endTimeUnixNano")
    );
    assert!(span.get("status").is_none(), "{span}");
    let expected = json!({
        "messaging.system": "fanfare",
        "messaging.operation.name": "send",
        "messaging.operation.type": "send",
        "messaging.destination.name": "room:1",
        "messaging.destination.template": "room:*",
        "messaging.message.body.size": message["payload"].to_string().len().to_string(),
        "fanfare.position": told["messages"][0]["position"],
        "fanfare.repeated": false,
    });
    assert_eq!(attributes(&span), expected);
    let resource = attributes(&request["resourceSpans"][0]["resource"]);
    assert_eq!(resource["service.name"], "fanfare");
    assert!(resource["service.instance.id"].as_str().is_some_and(|node| !node.is_empty()), "{resource}");

    let two = json!({"messages": [
        {"topic": "room:1", "event": "e", "payload": {"card": MARKER}, "expect": "1:1"},
        {"topic": "elsewhere", "event": "e", "payload": {"text": MARKER}},
    ]});
    assert_eq!(publish(&server, &sampled, &two).status, 409);
    let (mut failed, mut elsewhere) = (collector.next(), collector.next());
    if failed.0["name"] == "send" {
        std::mem::swap(&mut failed, &mut elsewhere);
    }
    assert_eq!((&attributes(&failed.0)["error.type"], &failed.0["status"]), (&json!("conflict"), &json!({"code": 2})));
    assert_eq!(elsewhere.0["name"], "send", "no channel fits the topic");
    assert_ne!(failed.0["spanId"], elsewhere.0["spanId"]);
    for (_, request) in [&failed, &elsewhere].into_iter().chain([&(span, request)]) {
        let text = request.to_string();
        assert!(!text.contains(MARKER) && !text.contains(TOKEN), "{text}");
    }
    eventually(|| spans(&server, "sent") == 3);
    assert!(!server.stderr().contains(MARKER));
}

#[test]
fn a_collector_that_is_not_there_holds_nothing_up() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let server = Server::serve_with(&format!("{CONFIG}[traces]\nratio = 1.0\n"), |command| {
        command.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("http://{nobody}/"));
    });
    assert_eq!(publish(&server, "", &json!({"topic": "room:1", "event": "e"})).status, 200);
    eventually(|| spans(&server, "failed") == 1);
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
