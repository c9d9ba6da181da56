//! Requests before anybody is let in: what is read of them, for how long, and what a client is told that is refused.

use std::time::{Duration, Instant};

use fanfare::serve::{Limits, Server};
use fanfare::{Builder, Connect, ConnectRequest, Connected, Endpoint, Mount, OriginPolicy, Rejected};
use serde_json::json;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::http::{Answer, answer_to, head, is_closed, request};
use crate::support::stage::Stage;
use crate::support::{Served, counter, eventually, serve, stage};

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

const EVENTS: (&str, &str) = ("accept", "text/event-stream");

/// Lets in the key `good`.
struct Keys;

impl Connect for Keys {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        match request.params.str("key") {
            Some("good") => Ok(Connected::new().topic("all")),
            _ => Err(Rejected::new()),
        }
    }
}

fn doors() -> Builder {
    Endpoint::builder()
        .shards(1)
        .mount("/socket", stage().body_size_max(100_000))
        .mount("/bullet", Mount::bullet().connect(Keys).body_size_max(100_000))
        .mount("/hub", Mount::hub())
        .mount("/rooms", Mount::rooms())
        .mount("/events", Mount::stream().channel("room:*", Stage::default()))
}

/// A POST whose body has this length by its head.
fn posting(target: &str, length: &str) -> String {
    head("POST", target, &[("content-length", length)])
}

impl Served {
    /// The target of POSTs of a session.
    async fn session(&self) -> String {
        let begun = request(self.address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
        format!("/socket/longpoll?vsn=2.0.0&token={}", begun["token"].as_str().unwrap())
    }

    async fn connection(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The answer to these bytes on a connection of their own.
    async fn answer(&self, bytes: &str) -> Answer {
        let mut stream = self.connection().await;
        answer_to(&mut stream, bytes.as_bytes()).await.unwrap_or_else(|| panic!("no answer to {bytes}"))
    }
}

#[tokio::test]
async fn a_body_is_read_after_the_credential() {
    // Nobody who waits for a body ends within this test.
    let served = serve(doors().body_timeout(Duration::from_secs(3_600))).await;
    let nobody = served.answer(&posting("/socket/longpoll?vsn=2.0.0", "90000")).await;
    assert_eq!(nobody.json(), json!({ "status": 410 }));
    let bad_token = served.answer(&posting("/socket/longpoll?vsn=2.0.0&token=x", "90000")).await;
    assert_eq!(bad_token.json(), json!({ "status": 410 }));
    assert_eq!(served.answer(&posting("/bullet?bad", "90000")).await.status, 403);
    // A client that sends all the same has its answer.
    let body = vec![b'x'; 90_000];
    let refused = request(served.address, "POST", "/bullet?bad", &[], &body).await;
    assert_eq!(refused.status, 403);
}

#[tokio::test]
async fn a_body_that_says_that_it_is_too_large_is_not_waited_for() {
    let served = serve(doors().body_timeout(Duration::from_secs(3_600))).await;
    let session = served.session().await;
    for length in ["100001", "1000000000000000000"] {
        for target in [&session, "/bullet?good"] {
            let answer = served.answer(&posting(target, length)).await;
            assert_eq!(answer.status, 413, "{target} {length}");
            assert!(answer.text().contains("100000 bytes"), "{}", answer.text());
        }
    }
}

/// Bytes that keep coming do not lengthen it.
#[tokio::test]
async fn a_body_has_an_absolute_limit() {
    let served = serve(doors().body_timeout(Duration::from_millis(500))).await;
    let session = served.session().await;
    for target in [&session, "/bullet?good"] {
        let started = Instant::now();
        let mut stream = served.connection().await;
        stream.write_all(posting(target, "90000").as_bytes()).await.unwrap();
        let (mut reading, mut writing) = stream.split();
        let dripping = async {
            while writing.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let answer = tokio::select! {
            answer = crate::support::http::read_answer(&mut reading) => answer,
            () = dripping => panic!("closed without an answer"),
        };
        assert_eq!(answer.status, 408, "{target}");
        assert!(started.elapsed() >= Duration::from_millis(490), "{:?}", started.elapsed());
    }
    assert_eq!(served.counter("connections", "refused_request"), 2);
}

#[tokio::test]
async fn the_bodies_of_all_requests_have_a_bound() {
    let served = serve(doors().bodies_bytes_max(200_000).body_timeout(Duration::from_secs(3_600))).await;
    let session = served.session().await;
    let mut waiting = Vec::new();
    let mut full = None;
    // Each holds back its last bytes.
    while full.is_none() {
        assert!(waiting.len() < 10, "all fit");
        let mut stream = served.connection().await;
        stream.write_all(posting(&session, "90000").as_bytes()).await.unwrap();
        stream.write_all(&vec![b'x'; 89_000]).await.unwrap();
        let answer = answer_to(&mut stream, b"");
        full = tokio::time::timeout(Duration::from_millis(500), answer).await.ok().flatten();
        waiting.push(stream);
    }
    let full = full.unwrap();
    assert_eq!((full.status, &*full.headers["retry-after"]), (503, "1"), "{full:?}");
    let heartbeat = json!([null, "1", "phoenix", "heartbeat", {}]).to_string();
    let small = request(served.address, "POST", &session, &[], heartbeat.as_bytes()).await;
    assert_eq!(small.json(), json!({ "status": 200 }), "a small one finds room");
    assert!(served.counter("connections", "refused_limit") >= 1);
    // Whoever goes gives its room back.
    drop(waiting);
    let other = served.session().await;
    eventually("there is room", async || {
        request(served.address, "POST", &other, &[], &vec![b'x'; 90_000]).await.status == 200
    })
    .await;
}

/// A proxy in front may read them otherwise, and take the end of one request for another one.
#[tokio::test]
async fn security_5_heads_that_can_be_understood_in_two_ways_are_refused() {
    let served = serve(doors()).await;
    let poll = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\n";
    let post = "POST /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n";
    let hidden = "GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n\r\n";
    let cases = [
        format!("{poll}\r\n"),
        format!("{poll}Host:\r\n\r\n"),
        format!("{poll}Host: a b\r\n\r\n"),
        format!("{poll}Host: a/b\r\n\r\n"),
        format!("{poll}Host: a:99999\r\n\r\n"),
        format!("{poll}Host: a\r\nHost: b\r\n\r\n"),
        format!("{poll}Host: a\r\nHost: a\r\n\r\n"),
        "GET http://b/socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: a\r\n\r\n".into(),
        format!("{post}Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"),
        format!("{post}Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd{hidden}"),
    ];
    for bytes in &cases {
        let mut stream = served.connection().await;
        let answer = answer_to(&mut stream, bytes.as_bytes()).await.unwrap();
        assert_eq!((answer.status, &*answer.headers["connection"]), (400, "close"), "{bytes}");
        assert!(is_closed(&mut stream).await, "{bytes}");
    }
    // A request before it is answered, on a connection that lives on.
    let mut stream = served.connection().await;
    assert_eq!(answer_to(&mut stream, hidden.as_bytes()).await.unwrap().status, 200);
    let both = &cases[8];
    let answer = answer_to(&mut stream, both.as_bytes()).await.unwrap();
    assert_eq!((answer.status, answer.text()), (400, "the request has a Content-Length beside a Transfer-Encoding"));
    assert!(is_closed(&mut stream).await);
    // So is a body whose chunks have sizes with a sign.
    let session = served.session().await;
    let chunked = head("POST", &session, &[("transfer-encoding", "chunked")]);
    let mut stream = served.connection().await;
    let answer = answer_to(&mut stream, format!("{chunked}+5\r\nabcde\r\n0\r\n\r\n{hidden}").as_bytes()).await.unwrap();
    assert_eq!(answer.status, 400);
    assert!(is_closed(&mut stream).await);
    // Old monitors know no Host.
    assert_eq!(served.answer("GET /nowhere HTTP/1.0\r\n\r\n").await.status, 404);
}

#[tokio::test]
async fn an_upgrade_has_no_body() {
    let served = serve(doors()).await;
    for (name, value, body) in [("content-length", "5", "hello"), ("transfer-encoding", "chunked", "0\r\n\r\n")] {
        for target in ["/socket/websocket?vsn=2.0.0", "/bullet?good", "/rooms/x", "/hub/pub/-/d/t"] {
            let head = head("GET", target, &[&UPGRADE[..], &[(name, value)]].concat());
            let answer = served.answer(&format!("{head}{body}")).await;
            assert_eq!(answer.status, 400, "{target} {name}");
            assert!(answer.text().contains("without a body"), "{}", answer.text());
        }
    }
    let head = head("GET", "/rooms/x", &[&UPGRADE[..], &[("content-length", "0")]].concat());
    let mut stream = served.connection().await;
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    tokio::io::AsyncReadExt::read_exact(&mut stream, &mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 101");
}

#[tokio::test]
async fn whoever_is_refused_is_told_why() {
    let policy = OriginPolicy::List(vec!["//good.example".parse().unwrap()]);
    let builder = doors().mount("/own", stage().origin(policy).subprotocols(["chat"]));
    let served = serve(builder).await;
    let ask = async |method: &str, target: &str, headers: &[(&str, &str)]| {
        let headers = if headers.is_empty() { &UPGRADE[..] } else { headers };
        request(served.address, method, target, headers, b"").await
    };
    let (plain, origin) = (("x", "y"), ("origin", "http://evil.example"));
    let offer = [&UPGRADE[..], &[("sec-websocket-protocol", "other")]].concat();
    for (method, target, headers, status, words) in [
        ("GET", "/socket/websocket?vsn=9.1.0", &[][..], 403, "\"9.1.0\" is not served"),
        ("GET", "/socket/websocket?vsn=2.0.0&a=%ff", &[], 400, "not UTF-8"),
        ("GET", "/socket/websocket?vsn=2.0.0", &[plain], 400, "Upgrade"),
        ("GET", "/own/websocket?vsn=2.0.0", &[origin], 403, "\"http://evil.example\" may not connect here"),
        ("GET", "/own/websocket?vsn=2.0.0", &offer, 403, "offer one of chat"),
        ("GET", "/rooms/x?since=x", &[], 400, "since=\"x\" is not a position"),
        ("GET", "/hub/sub/d/nobodys", &[], 404, "nobody has started"),
        ("GET", "/bullet?bad", &[plain], 403, "not allowed to connect"),
        ("GET", "/bullet?bad", &[EVENTS], 403, "not allowed to connect"),
        ("GET", "/nowhere", &[plain], 404, "nothing is served"),
    ] {
        let answer = ask(method, target, headers).await;
        assert_eq!(answer.status, status, "{method} {target}: {answer:?}");
        assert!(answer.text().contains(words), "{method} {target}: {}", answer.text());
        assert_eq!(answer.headers["content-type"], "text/plain; charset=utf-8", "{method} {target}");
    }
    for (target, allowed) in [
        ("/socket/websocket?vsn=2.0.0", "GET"),
        ("/rooms/x", "GET"),
        ("/hub/sub/d/t", "GET"),
        ("/events/room:1", "GET"),
        ("/bullet?good", "GET, POST"),
        ("/socket/longpoll?vsn=2.0.0", "GET, POST, OPTIONS"),
    ] {
        let answer = ask("PUT", target, &[plain]).await;
        assert_eq!((answer.status, &*answer.headers["allow"]), (405, allowed), "{target}");
        assert!(answer.text().contains(allowed), "{target}: {}", answer.text());
    }
}

#[tokio::test]
async fn every_stream_asks_proxies_not_to_collect_it() {
    let served = serve(doors()).await;
    for (target, headers) in [("/events/room:1", &[EVENTS][..]), ("/events/room:1", &[]), ("/bullet?good", &[EVENTS])] {
        let mut stream = served.connection().await;
        stream.write_all(head("GET", target, headers).as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        while !answer.ends_with(b"\r\n\r\n") {
            answer.push(tokio::io::AsyncReadExt::read_u8(&mut stream).await.unwrap());
        }
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.contains("x-accel-buffering: no\r\n"), "{target} {headers:?}: {answer}");
    }
}

/// `EventSource` gives up for good after any status but 200.
#[tokio::test]
async fn a_server_with_as_many_connections_as_it_may_have_says_so_as_clients_understand() {
    for of_address in [false, true] {
        let endpoint = doors().build().await.unwrap();
        let mut limits = Limits { connections_max: 1, ..Limits::default() };
        if of_address {
            limits = Limits { connections_per_address_max: 1, ..Limits::default() };
        }
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
        let address = server.local_addr().unwrap();
        let serving = endpoint.clone();
        tokio::spawn(async move { server.serve(serving.clone(), &serving, std::future::pending()).await });
        let served = Served { endpoint, address };
        let first = served.client().await;
        let status = if of_address { 429 } else { 503 };

        let events = request(address, "GET", "/events/room:1", &[EVENTS], b"").await;
        assert_eq!((events.status, &*events.headers["content-type"]), (200, "text/event-stream"));
        assert!(events.text().starts_with("retry: "), "{}", events.text());
        for (target, headers) in [("/events/room:1", &[][..]), ("/socket?vsn=2.0.0", &UPGRADE), ("/nowhere", &[])] {
            let answer = request(address, "GET", target, headers, b"").await;
            assert_eq!((answer.status, &*answer.headers["retry-after"]), (status, "1"), "{target}");
            assert!(answer.text().contains("connections"), "{target}: {}", answer.text());
        }
        // One that says nothing is told as well, soon.
        let mut silent = served.connection().await;
        assert_eq!(answer_to(&mut silent, b"").await.unwrap().status, status);
        assert_eq!(served.counter("connections", "refused_limit"), 5);
        drop(first);
        eventually("there is a place", async || {
            request(address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.status == 200
        })
        .await;
    }
}

/// A client that has vanished acknowledges nothing, and so does one that takes nothing: only the system can see either, of what
/// has left us already.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_stream_whose_client_has_vanished_ends() {
    let mount = Mount::stream().channel("room:*", Stage::default());
    let mount = mount.write_timeout(Duration::from_secs(3_600)).outbox_bytes_max(1_000_000_000);
    let endpoint = Endpoint::builder().shards(1).mount("/events", mount).build().await.unwrap();
    let limits = Limits { vanished_timeout: Duration::from_secs(1), ..Limits::default() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
    let address = server.local_addr().unwrap();
    let serving = endpoint.clone();
    tokio::spawn(async move { server.serve(serving.clone(), &serving, std::future::pending()).await });
    let served = Served { endpoint, address };
    let mut stream = served.connection().await;
    stream.write_all(head("GET", "/events/room:1", &[EVENTS]).as_bytes()).await.unwrap();
    served.has_members("room:1", 1).await;
    // More than the system has room for.
    let body = "x".repeat(100_000);
    for _ in 0..200 {
        served.endpoint.broadcast("room:1", "n", json!({ "body": body })).await.unwrap();
    }
    eventually("the stream has ended", async || served.endpoint.sockets() == 0).await;
    assert_eq!(served.counter("closes", "client"), 1, "neither slow nor unpolled");
}

/// A browser keeps connections for later, and a page that is left goes while its poll waits.
#[tokio::test]
async fn a_client_that_leaves_nothing_undone_is_not_refused() {
    let endpoint = doors().build().await.unwrap();
    let limits = Limits { handshake_timeout: Duration::from_millis(200), ..Limits::default() };
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits);
    let address = server.local_addr().unwrap();
    let serving = endpoint.clone();
    tokio::spawn(async move { server.serve(serving.clone(), &serving, std::future::pending()).await });

    let mut keeping = TcpStream::connect(address).await.unwrap();
    let begun = answer_to(&mut keeping, head("GET", "/socket/longpoll?vsn=2.0.0", &[]).as_bytes()).await.unwrap();
    let token = begun.json()["token"].as_str().unwrap().to_owned();
    assert!(is_closed(&mut keeping).await, "a connection is not kept for longer than a head may take");

    let mut leaving = TcpStream::connect(address).await.unwrap();
    let poll = head("GET", &format!("/socket/longpoll?vsn=2.0.0&token={token}"), &[]);
    leaving.write_all(poll.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(leaving);

    // What is told is told by now, since this comes after it.
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(b"GET / HT").await.unwrap();
    assert!(is_closed(&mut half).await);
    eventually("half a head is refused", async || counter(&endpoint, "connections", "refused_request") > 0).await;
    assert_eq!(counter(&endpoint, "connections", "refused_request"), 1);
}
