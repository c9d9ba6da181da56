//! Topics over plain HTTP: server-sent events and JSON lines.

use fanfare::{Endpoint, Mount, OriginPolicy, Policy, Retention, Slow};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;

use crate::support::http::{head, request};
use crate::support::stage::Stage;
use crate::support::{PATIENCE, Served, eventually, serve};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

async fn served() -> Served {
    let policy = Policy::new().history(Retention { messages_max: 3, ..Retention::default() });
    let mount = Mount::stream().channel("room:*", Stage::default()).channel("plain", Stage::default());
    serve(Endpoint::builder().shards(2).policy("room:*", policy).mount("/events", mount)).await
}

/// The body of an answer that does not end, chunk by chunk.
struct Reader {
    stream: BufReader<TcpStream>,
    unread: String,
}

impl Served {
    async fn open(&self, target: &str, headers: &[(&str, &str)]) -> Reader {
        let mut stream = BufReader::new(TcpStream::connect(self.address).await.unwrap());
        stream.write_all(head("GET", target, headers).as_bytes()).await.unwrap();
        let mut line = String::new();
        while !line.ends_with("\r\n\r\n") {
            assert_ne!(stream.read_line(&mut line).await.unwrap(), 0, "{target}: {line}");
        }
        assert!(line.starts_with("HTTP/1.1 200"), "{target}: {line}");
        let accepts_events = headers.contains(&EVENTS);
        let content_type = if accepts_events { "text/event-stream" } else { "application/x-ndjson" };
        assert!(line.contains(&format!("content-type: {content_type}\r\n")), "{line}");
        Reader { stream, unread: String::new() }
    }
}

impl Reader {
    /// What comes up to a separator; `None` at the end of the stream.
    async fn until(&mut self, separator: &str) -> Option<String> {
        let read = async {
            while !self.unread.contains(separator) {
                let mut size = String::new();
                self.stream.read_line(&mut size).await.unwrap();
                let size = usize::from_str_radix(size.trim(), 16).unwrap_or_default();
                let mut chunk = vec![0; size + 2];
                self.stream.read_exact(&mut chunk).await.unwrap();
                if size == 0 {
                    return None;
                }
                self.unread.push_str(std::str::from_utf8(&chunk[..size]).unwrap());
            }
            let (part, rest) = self.unread.split_once(separator)?;
            let (part, rest) = (part.to_owned(), rest.to_owned());
            self.unread = rest;
            Some(part)
        };
        tokio::time::timeout(PATIENCE, read).await.expect("the server sends something")
    }

    /// The id, name and data of the next event; heartbeats and the time to wait before a retry are passed over.
    async fn event(&mut self) -> (String, String, String) {
        loop {
            let event = self.until("\n\n").await.expect("an event");
            let field = |name: &str| {
                let prefix = format!("{name}: ");
                let values: Vec<&str> = event.lines().filter_map(|line| line.strip_prefix(&prefix)).collect();
                values.join("\n")
            };
            if event.contains("data: ") {
                return (field("id"), field("event"), field("data"));
            }
        }
    }

    async fn line(&mut self) -> Value {
        loop {
            let line = self.until("\n").await.expect("a line");
            if !line.is_empty() {
                return serde_json::from_str(&line).unwrap();
            }
        }
    }
}

#[tokio::test]
async fn events_have_ids_by_which_a_client_goes_on() {
    let served = served().await;
    let publish = async |n: u64| served.endpoint.broadcast("room:1", "n", json!({ "n": n })).await.unwrap();
    let mut reader = served.open("/events/room:1", &[EVENTS]).await;
    let retry = reader.until("\n\n").await.unwrap();
    assert!(retry.starts_with("retry: "), "{retry}");
    let (start, name, data) = reader.event().await;
    assert_eq!(name, "joined");
    assert_eq!(serde_json::from_str::<Value>(&data).unwrap(), json!({ "position": start, "recovered": true }));
    publish(1).await;
    let (first, name, data) = reader.event().await;
    assert_eq!((&*name, &*data), ("n", r#"{"n":1}"#));
    drop(reader);
    served.has_members("room:1", 0).await;

    for n in 2..=3 {
        publish(n).await;
    }
    for (target, headers) in [
        ("/events/room:1".to_owned(), vec![EVENTS, ("last-event-id", &*first)]),
        (format!("/events?topic=room:1&since={first}"), vec![EVENTS]),
    ] {
        let mut reader = served.open(&target, &headers).await;
        assert_eq!(reader.event().await.0, first, "joined, where the client was");
        for n in 2..=3 {
            assert_eq!(reader.event().await.2, format!("{{\"n\":{n}}}"));
        }
    }
    for n in 4..=5 {
        publish(n).await;
    }
    let mut late = served.open("/events/room:1", &[EVENTS, ("last-event-id", &first)]).await;
    let (_, name, data) = late.event().await;
    assert!(name == "joined" && data.contains("\"recovered\":false"), "{data}");
    publish(6).await;
    assert_eq!(late.event().await.2, r#"{"n":6}"#);
}

/// security_41: an `EventSource` stops for good after any status but 200, and sends whatever id it got last, be it of another server.
#[tokio::test]
async fn an_id_of_somebody_elses_is_a_gap() {
    let served = served().await;
    served.endpoint.broadcast("room:1", "n", json!({ "n": 1 })).await.unwrap();
    for id in ["x", "1:2:3", "0:7", "\u{e9}", &"9".repeat(1_000), "urn:uuid:36d883aa-4015-4241-aaae-bde887c2662e"] {
        let mut reader = served.open("/events/room:1", &[EVENTS, ("last-event-id", id)]).await;
        let (at, name, data) = reader.event().await;
        let data: Value = serde_json::from_str(&data).unwrap();
        assert_eq!((&*name, data), ("joined", json!({ "position": at, "recovered": false })), "{id}");
        let mut reader = served.open("/events/room:1", &[("last-event-id", id)]).await;
        assert_eq!(reader.line().await["payload"], json!({ "position": at, "recovered": false }), "{id}");
    }
    // A topic that keeps nothing has no position, but a client that had one has missed something.
    for target in ["/events/plain", "/events/plain?since=0:0"] {
        let id = [EVENTS, ("last-event-id", "1:2")];
        let headers = if target.contains("since") { &id[..1] } else { &id };
        let mut reader = served.open(target, headers).await;
        assert_eq!(reader.event().await, (String::new(), "joined".into(), r#"{"recovered":false}"#.into()), "{target}");
        let mut reader = served.open(target, &headers[1..]).await;
        let joined = json!({ "topic": "plain", "event": "joined", "payload": { "recovered": false } });
        assert_eq!(reader.line().await, joined, "{target}");
    }
    // What a program writes into the address is a mistake of its own.
    let answer = request(served.address, "GET", "/events/room:1?since=x", &[EVENTS], b"").await;
    assert_eq!(answer.status, 400);
    assert!(answer.text().contains("since=\"x\" is not a position"), "{}", answer.text());
}

#[tokio::test]
async fn lines_are_whole_messages() {
    let served = served().await;
    let mut reader = served.open("/events/room:1?since=0:0", &[]).await;
    let joined = reader.line().await;
    assert_eq!((&joined["topic"], &joined["event"]), (&json!("room:1"), &json!("joined")));
    let text = "a\r\nb\rc\nd";
    served.endpoint.broadcast("room:1", "n", json!({ "text": text })).await.unwrap();
    let message = reader.line().await;
    assert_eq!(message["payload"]["text"], text);
    assert!(message["position"].as_str().unwrap().ends_with(":1"));

    // A topic without a history has neither ids nor positions.
    let mut plain = served.open("/events/plain", &[]).await;
    served.has_members("plain", 1).await;
    served.endpoint.broadcast("plain", "n", json!({ "n": 1 })).await.unwrap();
    assert_eq!(plain.line().await, json!({ "topic": "plain", "event": "n", "payload": { "n": 1 } }));
}

/// A client's JSON may have line breaks between its parts, which are none of the stream's.
#[tokio::test]
async fn no_message_breaks_out_of_its_line() {
    let streams = Mount::stream().channel("*", Stage::default());
    let sockets = Mount::new().channel("*", Stage::default());
    let rooms = Mount::rooms().event("shout").channel("*", Stage::default());
    let policy = Policy::new().history(Retention::default());
    let builder = Endpoint::builder().policy("kept", policy);
    let served = serve(builder.mount("/events", streams).mount("/socket", sockets).mount("/rooms", rooms)).await;
    let forged = r#"{"topic":"other","event":"admin","payload":{},"position":"1:1"}"#;
    for topic in ["plain", "kept"] {
        let mut reader = served.open(&format!("/events/{topic}"), &[]).await;
        served.has_members(topic, 1).await;
        if topic == "kept" {
            assert_eq!(reader.line().await["event"], "joined");
        }
        let mut phoenix = served.client().await;
        phoenix.join(topic).await;
        let mut member = served.client_at("/rooms/x").await;
        member.send_json(&json!({ "join": topic })).await;
        served.has_members(topic, 3).await;
        for line_break in ["\n", "\r", "\r\n", "\n\n\r"] {
            let payload = format!("{{\"x\":{line_break}{forged}{line_break}}}");
            phoenix.send_text(&format!(r#"["{topic}","2","{topic}","shout",{payload}]"#)).await;
            let said = serde_json::to_string(&payload).unwrap();
            for said in [&*payload, &said, &format!("[{line_break}{forged}{line_break}]")] {
                // One after the other: they come from two sockets.
                let line = reader.line().await;
                assert_eq!((&line["topic"], &line["event"]), (&json!(topic), &json!("shout")), "{line}");
                member.send_text(&format!(r#"{{"say":{said},"to":"{topic}"}}"#)).await;
            }
            let line = reader.line().await;
            assert_eq!(line["payload"]["value"], json!([serde_json::from_str::<Value>(forged).unwrap()]), "{line}");
        }
        served.endpoint.broadcast(topic, "e\n", json!({ "last": true })).await.unwrap();
        assert_eq!(reader.line().await["payload"], json!({ "last": true }));
    }
}

/// security_40: no text gets out of its event, in whatever it is put.
#[tokio::test]
async fn line_breaks_of_any_kind_stay_within_their_event() {
    let served = served().await;
    let mut reader = served.open("/events/plain", &[EVENTS]).await;
    served.has_members("plain", 1).await;
    for (event, text, name, data) in [
        ("a\rid: 1", "x\rdata: y", "a id: 1", "x\ndata: y"),
        ("a\r\nevent: b", "x\r\n\r\nevent: evil", "a  event: b", "x\n\nevent: evil"),
        ("a\n\ndata: z", "\n", "a  data: z", "\n"),
    ] {
        served.endpoint.broadcast("plain", event, fanfare::Text::copy(text)).await.unwrap();
        assert_eq!(reader.event().await, (String::new(), name.to_owned(), data.to_owned()), "{event:?} {text:?}");
    }
}

#[tokio::test]
async fn joins_are_the_channels_business() {
    let served = served().await;
    let get = async |target: &str| request(served.address, "GET", target, &[EVENTS], b"").await;
    let refused = get("/events/room:1?params[refuse]=no").await;
    assert_eq!((refused.status, refused.json()), (403, json!({ "reason": "no" })));
    let crashed = get("/events/room:1?params[panic]=true").await;
    assert_eq!(crashed.status, 200, "a text is not the boolean that makes the channel panic");
    for (target, status, reason) in [
        ("/events/other", 403, "unmatched topic"),
        ("/events", 403, "the topic is empty"),
        ("/events/a%0ab", 403, "the topic contains a control character"),
    ] {
        let answer = get(target).await;
        assert_eq!((answer.status, answer.json()["reason"].as_str()), (status, Some(reason)), "{target}");
    }
    assert_eq!(request(served.address, "POST", "/events/room:1", &[], b"").await.status, 405);
    eventually("refused clients leave no session", async || served.endpoint.sockets() == 0).await;
}

/// security_3
#[tokio::test]
async fn pages_of_other_origins_are_let_in_by_name_only() {
    let mount = Mount::stream().channel("*", Stage::default());
    let policy = OriginPolicy::List(vec!["https://good.example".parse().unwrap()]);
    let served = serve(Endpoint::builder().mount("/events", mount.origin(policy))).await;
    let evil = request(served.address, "GET", "/events/a", &[EVENTS, ("origin", "https://evil.example")], b"").await;
    assert_eq!(evil.status, 403);
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let asked = head("GET", "/events/a", &[EVENTS, ("origin", "https://good.example")]);
    stream.write_all(asked.as_bytes()).await.unwrap();
    let mut answer = vec![0; 4_096];
    let count = stream.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..count]).into_owned();
    assert!(answer.contains("access-control-allow-origin: https://good.example\r\n"), "{answer}");
    assert!(!answer.contains("access-control-allow-credentials"), "{answer}");
}

#[tokio::test]
async fn a_stream_ends_with_its_join() {
    let served = served().await;
    let mut reader = served.open("/events/plain", &[]).await;
    served.has_members("plain", 1).await;
    served.endpoint.drain(fanfare::Drain::default()).await;
    while let Some(line) = reader.until("\n").await {
        assert_eq!(line, "", "heartbeats only");
    }
    assert_eq!(request(served.address, "GET", "/events/plain", &[], b"").await.status, 503);
}

/// A reader that stops reading for a while loses by the policy of the topic. The id of the gap is where it was before that, so
/// that whoever comes back has missed nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_is_slow_is_told_of_its_gap() {
    let policy = Policy::new().history(Retention::default()).slow(Slow::DropOldest);
    let mount = Mount::stream().channel("room:*", Stage::default()).outbox_bytes_max(1_000_000);
    let served = serve(Endpoint::builder().shards(1).policy("room:*", policy).mount("/events", mount)).await;
    let mut reader = served.open("/events/room:1", &[EVENTS]).await;
    let (mut last, name, _) = reader.event().await;
    assert_eq!(name, "joined");
    let body = "x".repeat(100_000);
    for n in 1..=200 {
        served.endpoint.broadcast("room:1", "n", json!({ "n": n, "body": body })).await.unwrap();
    }
    eventually("something is lost", async || served.counter("drops", "drop_oldest") > 50).await;
    let offset = |position: &str| position.split_once(':').unwrap().1.parse::<u64>().unwrap();
    let gap: Value = loop {
        let (id, name, data) = reader.event().await;
        if name == "gap" {
            assert_eq!(id, last);
            break serde_json::from_str(&data).unwrap();
        }
        assert_eq!(offset(&id), offset(&last) + 1);
        last = id;
    };
    assert_eq!((&gap["reason"], &gap["from"]), (&json!("drop_oldest"), &json!(last)));
    let (id, ..) = reader.event().await;
    assert_eq!(offset(&id), offset(&last) + gap["dropped"].as_u64().unwrap() + 1);
}
