//! Streams over HTTP are written by their shard like WebSockets: on the connection itself where nobody changes the answer, and by way of
//! the answer's body everywhere else.

use std::future::pending;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use fanfare::serve::Server;
use fanfare::{Connect, ConnectRequest, Connected, Drain, Endpoint, Mount, Policy, Rejected, Retention};
use http_body_util::BodyExt;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::http::head;
use crate::support::stage::Stage;
use crate::support::{PATIENCE, Served, eventually, serve, stage};

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// A client of bullet.js in the topic `room:1`.
struct Anybody;

impl Connect for Anybody {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new().topic("room:1"))
    }
}

/// A stream of each kind, as they are asked for.
const STREAMS: [(&str, &[(&str, &str)]); 3] =
    [("/events/room:1", &[EVENTS]), ("/events/room:1", &[]), ("/bullet?key", &[EVENTS])];

fn mounts(limit: impl Fn(Mount) -> Mount) -> fanfare::Builder {
    let events = limit(Mount::stream().channel("room:*", Stage::default()));
    let bullet = limit(Mount::bullet().connect(Anybody));
    Endpoint::builder().shards(2).mount("/events", events).mount("/bullet", bullet).mount("/socket", stage())
}

/// Sends a request and does not read the answer.
async fn open(served: &Served, target: &str, headers: &[(&str, &str)]) -> TcpStream {
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    stream.write_all(head("GET", target, headers).as_bytes()).await.unwrap();
    stream
}

/// What comes up to a text.
async fn read_until(stream: &mut (impl AsyncRead + Unpin), end: &str) -> String {
    let (mut text, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    let read = async {
        while !text.windows(end.len()).any(|part| part == end.as_bytes()) {
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "it ended: {}", String::from_utf8_lossy(&text));
            text.extend_from_slice(&buffer[..count]);
        }
    };
    let in_time = tokio::time::timeout(PATIENCE, read).await.is_ok();
    let text = String::from_utf8(text).unwrap();
    assert!(in_time, "{end:?} did not come: {text}");
    text
}

/// The body of an answer in chunks, which has to have its end.
fn body(answer: &str) -> String {
    let (_, mut rest) = answer.split_once("\r\n\r\n").unwrap();
    let mut body = String::new();
    loop {
        let (size, data) = rest.split_once("\r\n").unwrap_or_else(|| panic!("no end: {answer}"));
        let size = usize::from_str_radix(size, 16).unwrap();
        let (data, behind) = data.split_at(size);
        body.push_str(data);
        rest = behind.strip_prefix("\r\n").unwrap();
        if size == 0 {
            assert_eq!(rest, "");
            return body;
        }
    }
}

const AT_ONCE: Drain = Drain { batch: 1, every: Duration::ZERO, limit: Duration::from_secs(30) };

/// Nothing that was published before a drain is lost, however short before that was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_before_a_drain_arrives() {
    for round in 0..10 {
        for (target, headers) in STREAMS {
            let served = serve(mounts(|mount| mount)).await;
            let mut stream = open(&served, target, headers).await;
            served.has_members("room:1", 1).await;
            for n in 0..=round {
                served.endpoint.broadcast("room:1", "e", json!({ "n": n })).await.unwrap();
            }
            let read = tokio::spawn(async move {
                let mut answer = String::new();
                stream.read_to_string(&mut answer).await.unwrap();
                answer
            });
            served.endpoint.drain(AT_ONCE).await;
            let answer = read.await.unwrap();
            let body = body(&answer);
            for n in 0..=round {
                assert!(body.contains(&format!(r#"{{"n":{n}}}"#)), "{target} {n} of {round}: {answer}");
            }
        }
    }
}

/// The same of a WebSocket.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_last_message_before_a_drain_arrives_at_a_websocket() {
    for n in 0..10 {
        let served = serve(mounts(|mount| mount)).await;
        let mut client = served.client().await;
        client.join("room:1").await;
        served.endpoint.broadcast("room:1", "e", json!({ "n": n })).await.unwrap();
        let endpoint = served.endpoint.clone();
        let drain = tokio::spawn(async move { endpoint.drain(AT_ONCE).await });
        client.assert_event("room:1", "e", json!({ "n": n })).await;
        drop(client);
        drain.await.unwrap();
    }
}

/// A reader that takes nothing is closed by the write deadline, and counted as any that is slow.
#[tokio::test]
async fn a_stalled_stream_has_the_write_deadline() {
    for (target, headers) in STREAMS {
        let deadline = Duration::from_millis(300);
        let served = serve(mounts(|mount| mount.write_timeout(deadline))).await;
        let _stalled = open(&served, target, headers).await;
        served.has_members("room:1", 1).await;
        let large = json!({ "x": "x".repeat(7_000_000) });
        let began = Instant::now();
        served.endpoint.broadcast("room:1", "e", large).await.unwrap();
        served.has_members("room:1", 0).await;
        assert!(began.elapsed() >= deadline, "{target}");
        eventually("it is counted", async || served.counter("closes", "slow_consumer") == 1).await;
        assert_eq!(served.counter("closes", "unpolled"), 0, "{target}");
        assert!(served.counter("drops", "slow_consumer") >= 1, "{target}");
    }
}

/// A client that vanishes is out of its topic at once, and one that ends its direction as well. What it sends behind its request is
/// not listened to.
#[tokio::test]
async fn a_stream_ends_with_its_client() {
    let served = serve(mounts(|mount| mount)).await;
    for (target, headers) in STREAMS {
        let mut stream = open(&served, target, headers).await;
        served.has_members("room:1", 1).await;
        stream.write_all(head("GET", "/nowhere", &[]).repeat(1_000).as_bytes()).await.unwrap();
        served.endpoint.broadcast("room:1", "e", json!({ "n": 7 })).await.unwrap();
        read_until(&mut stream, r#"{"n":7}"#).await;
        stream.shutdown().await.unwrap();
        served.has_members("room:1", 0).await;
        let stream = open(&served, target, headers).await;
        served.has_members("room:1", 1).await;
        drop(stream);
        served.has_members("room:1", 0).await;
    }
    eventually("nobody is left", async || served.endpoint.sockets() == 0).await;
}

/// An application whose answers pass a layer, served by our own server.
async fn serve_layered<L>(layer: L) -> Served
where
    L: Fn(Bytes) -> Bytes + Clone + Send + Sync + 'static,
{
    let endpoint = mounts(|mount| mount).build().await.unwrap();
    let change = move |response: axum::response::Response| {
        let layer = layer.clone();
        async move { response.map(|body| axum::body::Body::new(body.map_frame(move |frame| frame.map_data(&layer)))) }
    };
    let app = endpoint.routes().layer(axum::middleware::map_response(change));
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.local_addr().unwrap();
    let served = endpoint.clone();
    tokio::spawn(async move { server.serve_app(app, &served, pending()).await });
    Served { endpoint, address }
}

/// No task is woken for a message: an answer that nobody changes is written past the server and all of its layers.
#[tokio::test]
async fn messages_pass_the_server_by() {
    let frames = Arc::new(AtomicUsize::new(0));
    let counted = frames.clone();
    let served = serve_layered(move |data| {
        counted.fetch_add(1, Ordering::Relaxed);
        data
    })
    .await;
    for (target, headers) in STREAMS {
        let mut stream = open(&served, target, headers).await;
        served.has_members("room:1", 1).await;
        for n in 0..20 {
            served.endpoint.broadcast("room:1", "e", json!({ "n": n })).await.unwrap();
            read_until(&mut stream, &format!(r#"{{"n":{n}}}"#)).await;
        }
        assert_eq!(frames.swap(0, Ordering::Relaxed), 1, "{target}: the beginning");
        drop(stream);
        served.has_members("room:1", 0).await;
    }
}

/// A layer that changes answers changes all of a stream.
#[tokio::test]
async fn an_application_may_change_its_answers() {
    let served = serve_layered(|data| [b"+", &*data].concat().into()).await;
    for (target, headers) in STREAMS {
        let mut stream = open(&served, target, headers).await;
        served.has_members("room:1", 1).await;
        for n in 0..3 {
            served.endpoint.broadcast("room:1", "e", json!({ "n": n })).await.unwrap();
            let text = read_until(&mut stream, &format!("{{\"n\":{n}}}")).await;
            assert!(text.contains("\r\n+"), "{target}: {text}");
        }
        drop(stream);
        served.has_members("room:1", 0).await;
    }
}

/// HTTP/1.0 has no chunks: the body is what comes until the end.
#[tokio::test]
async fn a_client_of_http_1_0_has_no_chunks() {
    let served = serve(mounts(|mount| mount)).await;
    for (target, headers) in STREAMS {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        let head = head("GET", target, headers).replace("HTTP/1.1", "HTTP/1.0");
        stream.write_all(head.as_bytes()).await.unwrap();
        served.has_members("room:1", 1).await;
        served.endpoint.broadcast("room:1", "e", json!({ "n": 7 })).await.unwrap();
        let answer = read_until(&mut stream, "{\"n\":7}").await;
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.starts_with([':', 'r', '\n']), "{target}: {answer}");
        drop(stream);
        served.has_members("room:1", 0).await;
    }
}

/// On whatever a server runs: the messages come by way of the answer's body, whole and in order, and then its end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_somebody_elses_copies_them() {
    for (target, headers) in STREAMS {
        let policy = Policy::new().history(Retention::default());
        let endpoint = mounts(|mount| mount).policy("room:*", policy).build().await.unwrap();
        let (mut near, far) = tokio::io::duplex(4_096);
        let service = endpoint.clone();
        tokio::spawn(hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service));
        near.write_all(head("GET", target, headers).as_bytes()).await.unwrap();
        read_until(&mut near, "joined").await;
        let large = "x".repeat(1_000_000);
        for text in [&*large, "small"] {
            endpoint.broadcast("room:1", "e", json!({ "x": text })).await.unwrap();
            read_until(&mut near, &format!("{text}\"}}")).await;
        }
        endpoint.broadcast("room:1", "e", json!({ "n": 7 })).await.unwrap();
        let drain = tokio::spawn(async move { endpoint.drain(Drain::default()).await });
        let last = read_until(&mut near, "0\r\n\r\n").await;
        assert!(last.contains(r#"{"n":7}"#), "{target}: {last}");
        drop(near);
        drain.await.unwrap();
    }
}

/// Several topics, one of which keeps nothing and one gives way: the ids of what comes say where the client stands in all that are kept.
#[tokio::test]
async fn ids_are_of_their_stream() {
    struct Both;
    impl Connect for Both {
        async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
            Ok(Connected::new().topic("kept:1").topic("kept:2").topic("plain"))
        }
    }
    let policy = Policy::new().history(Retention::default());
    let builder = Endpoint::builder().policy("kept:*", policy).mount("/bullet", Mount::bullet().connect(Both));
    let served = serve(builder).await;
    let mut streams = [open(&served, "/bullet?a", &[EVENTS]).await, open(&served, "/bullet?b", &[EVENTS]).await];
    served.has_members("plain", 2).await;
    let mut offsets = [0, 0];
    for (n, topic) in ["kept:1", "plain", "kept:2", "kept:2", "kept:1", "plain"].into_iter().enumerate() {
        served.endpoint.broadcast(topic, "e", json!({ "n": n })).await.unwrap();
        if let Some(number) = topic.strip_prefix("kept:") {
            offsets[number.parse::<usize>().unwrap() - 1] += 1;
        }
        for stream in &mut streams {
            let data = format!("data: {{\"n\":{n}}}");
            let text = read_until(stream, &data).await;
            let event = &text[text[..text.find(&data).unwrap()].rfind("\r\n").unwrap() + 2..];
            let id = event.lines().find_map(|line| line.strip_prefix("id: "));
            let expected = topic.starts_with("kept").then_some(offsets);
            let stands = id.map(|id| {
                let stand = |position: &str| position.split_once(':').unwrap().1.parse::<u64>().unwrap();
                let (one, two) = id.split_once(',').unwrap();
                [stand(one), stand(two)]
            });
            assert_eq!(stands, expected, "{text}");
        }
    }
}

/// Answers that are no streams end as they did, on a connection that goes on.
#[tokio::test]
async fn a_stream_comes_behind_other_answers_of_its_connection() {
    let served = serve(mounts(|mount| mount)).await;
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    for _ in 0..3 {
        stream.write_all(head("GET", "/nowhere", &[]).as_bytes()).await.unwrap();
        read_until(&mut stream, "404 Not Found").await;
    }
    stream.write_all(head("GET", "/events/room:1", &[EVENTS]).as_bytes()).await.unwrap();
    served.has_members("room:1", 1).await;
    served.endpoint.broadcast("room:1", "e", json!({ "n": 1 })).await.unwrap();
    read_until(&mut stream, r#"{"n":1}"#).await;
}
