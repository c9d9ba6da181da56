//! However a connection begins: a client that asks for a WebSocket gets one, and what is none is answered or let go, whether a shard
//! reads the request or the HTTP library.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use fanfare::serve::{Limits, Server};
use fanfare::{Connect, ConnectRequest, Connected, Drain, Endpoint, Rejected};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::{Response, StatusCode};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::support::client::Client;
use crate::support::http::{answer_to, head, is_closed, read_answer};
use crate::support::{PATIENCE, Served, eventually, stage};

const UPGRADE: [(&str, &str); 4] = [
    ("connection", "Upgrade"),
    ("upgrade", "websocket"),
    ("sec-websocket-version", "13"),
    ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
];

/// So long a thread is blocked by a connect that should not do that.
const BLOCKED: Duration = Duration::from_millis(20);

/// Lets everybody in but who asks for something else, and counts how often it is asked.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Connect for Counting {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        self.0.fetch_add(1, Ordering::Relaxed);
        match request.params.str("then") {
            Some("wait") => tokio::time::sleep(Duration::from_millis(20)).await,
            Some("wait-and-refuse") => {
                tokio::time::sleep(Duration::from_millis(20)).await;
                return Err(Rejected::new());
            }
            Some("block") => std::thread::sleep(BLOCKED),
            Some("refuse") => return Err(Rejected::new()),
            Some("panic") => panic!("as it was asked"),
            Some("panic-later") => return Err(Rejected::reason("panic")),
            _ => {}
        }
        Ok(Connected::new())
    }
}

/// A server whose shards read the first requests, and how often it has asked who may connect.
async fn serve(limits: Limits) -> (Served, Counting) {
    let asked = Counting::default();
    let mount = stage().connect(asked.clone()).on_reject(|reason| match reason {
        "panic" => panic!("as it was asked"),
        _ => Response::builder().status(StatusCode::FORBIDDEN).body(reason.to_owned().into()).unwrap(),
    });
    let endpoint = Endpoint::builder().shards(2).mount("/socket", mount).build().await.unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits).upgrades_first();
    let address = server.local_addr().unwrap();
    let served = endpoint.clone();
    tokio::spawn(async move { server.serve(served.clone(), &served, std::future::pending()).await });
    (Served { endpoint, address }, asked)
}

fn upgrade(query: &str) -> Vec<u8> {
    head("GET", &format!("/socket/websocket?vsn=2.0.0{query}"), &UPGRADE).into_bytes()
}

fn text(text: &str) -> Vec<u8> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
    frame
}

fn joining() -> Vec<u8> {
    text(&json!(["1", "1", "room:1", "phx_join", {}]).to_string())
}

/// Reads until this has come.
async fn until(stream: &mut TcpStream, expected: &str) -> String {
    let mut read = String::new();
    let reading = async {
        while !read.contains(expected) {
            let mut buffer = [0; 4096];
            let count = stream.read(&mut buffer).await.unwrap();
            assert_ne!(count, 0, "it ended: {read}");
            read.push_str(&String::from_utf8_lossy(&buffer[..count]));
        }
    };
    if tokio::time::timeout(PATIENCE, reading).await.is_err() {
        panic!("{expected:?} did not come");
    }
    read
}

#[tokio::test]
async fn an_upgrade_in_whatever_pieces_it_comes_is_one() {
    let (served, asked) = serve(Limits::default()).await;
    let joined = r#""phx_reply",{"status":"ok""#;
    let whole = [upgrade(""), joining()].concat();
    let head_size = upgrade("").len();
    // More than the first read takes.
    let padding = text(&json!([null, "2", "phoenix", "heartbeat", {"padding": "x".repeat(900)}]).to_string());
    let long = [upgrade(""), padding.repeat(40), joining()].concat();
    let get = head("GET", "/socket/elsewhere", &[]).into_bytes();
    let cases: &[(&str, Vec<&[u8]>)] = &[
        ("at once, with what follows", vec![&whole]),
        ("with much that follows", vec![&long]),
        ("what follows by itself", vec![&whole[..head_size], &whole[head_size..]]),
        ("byte by byte", whole.chunks(1).collect()),
        ("cut in its first line", vec![&whole[..3], &whole[3..]]),
        ("cut before its last byte", vec![&whole[..head_size - 1], &whole[head_size - 1..]]),
        ("cut in a frame", vec![&whole[..head_size + 3], &whole[head_size + 3..]]),
        ("long, cut in its head", vec![&long[..20], &long[20..]]),
        ("behind another request", vec![&get, &whole]),
        ("behind another request, at once", vec![&[], &get, &whole[..head_size], &whole[head_size..]]),
    ];
    for (number, (name, pieces)) in cases.iter().enumerate() {
        for waits_first in [false, true] {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            if waits_first {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            for piece in pieces {
                stream.write_all(piece).await.unwrap();
                // One packet each, mostly.
                tokio::task::yield_now().await;
                if pieces.len() < 8 {
                    tokio::time::sleep(Duration::from_millis(3)).await;
                }
            }
            let read = until(&mut stream, joined).await;
            assert!(read.contains("101 Switching Protocols\r\n"), "{name}: {read}");
        }
        assert_eq!(asked.0.load(Ordering::Relaxed), 2 * (number + 1), "{name}: asked once each");
    }
}

#[tokio::test]
async fn whatever_is_no_upgrade_is_answered_as_ever() {
    let (served, asked) = serve(Limits::default()).await;
    let with = |more: &str| {
        let mut bytes = upgrade("");
        bytes.truncate(bytes.len() - 2);
        [&bytes, more.as_bytes(), b"\r\n"].concat()
    };
    for (name, bytes, status, asks) in [
        ("one that is refused", upgrade("&then=refuse"), Some(403), 1),
        ("one that is refused later", upgrade("&then=wait-and-refuse"), Some(403), 1),
        ("connect panics", upgrade("&then=panic"), Some(500), 1),
        ("the answer to a refusal panics", upgrade("&then=panic-later"), None, 1),
        ("another version", head("GET", "/socket/websocket?vsn=9.0.0", &UPGRADE).into_bytes(), Some(403), 0),
        ("nothing is there", head("GET", "/nowhere", &UPGRADE).into_bytes(), Some(404), 0),
        ("no key", head("GET", "/socket/websocket", &UPGRADE[..3]).into_bytes(), Some(400), 1),
        ("two hosts", with("host: localhost\r\n"), Some(400), 0),
        ("a length", with("content-length: 5\r\n"), Some(400), 0),
        ("two lengths", with("content-length: 5\r\ntransfer-encoding: chunked\r\n"), Some(400), 0),
        ("a folded header", with("a: b\r\n c\r\n"), Some(400), 0),
        ("many headers", with(&"a: b\r\n".repeat(200)), Some(431), 0),
        ("frames that are none", [with("a: b\r\n"), vec![b'x'; 20_000]].concat(), Some(101), 1),
        ("a long header", with(&format!("a: {}\r\n", "b".repeat(40_000))), Some(431), 0),
        ("no HTTP", vec![0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3], Some(400), 0),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), None, 0),
    ] {
        let before = asked.0.load(Ordering::Relaxed);
        for waits_first in [false, true] {
            let mut stream = TcpStream::connect(served.address).await.unwrap();
            if waits_first {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            let answer = answer_to(&mut stream, &bytes).await;
            assert_eq!(answer.map(|answer| answer.status), status, "{name}");
        }
        assert_eq!(asked.0.load(Ordering::Relaxed) - before, 2 * asks, "{name}");
    }
    // A refusal does not end the connection, and the next request is read by somebody else.
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    assert_eq!(answer_to(&mut stream, &upgrade("&then=refuse")).await.unwrap().status, 403);
    assert_eq!(answer_to(&mut stream, &upgrade("&then=wait")).await.unwrap().status, 101);
    served.client().await.join("room:1").await;
}

#[tokio::test]
async fn whoever_goes_before_it_has_asked_leaves_its_place() {
    let (served, asked) = serve(Limits { connections_max: 3, ..Limits::default() }).await;
    let whole = upgrade("");
    for begun in [&b""[..], b"G", &whole[..whole.len() - 1], b"\r\n"] {
        for waits in [false, true] {
            for resets in [false, true] {
                let mut stream = TcpStream::connect(served.address).await.unwrap();
                stream.write_all(begun).await.unwrap();
                if waits {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                if resets {
                    socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
                }
            }
        }
    }
    // All three at once.
    let mut clients = Vec::new();
    for _ in 0..3 {
        eventually("there is a place", async || {
            let client = Client::connect(served.address, "/socket?vsn=2.0.0", &[]).await;
            clients.extend(client);
            true
        })
        .await;
    }
    eventually("there are three places", async || {
        if clients.len() < 3 {
            clients.extend(Client::connect(served.address, "/socket?vsn=2.0.0", &[]).await);
        }
        clients.len() == 3
    })
    .await;
    assert_eq!(asked.0.load(Ordering::Relaxed), 3, "no other has asked for anything");
}

#[tokio::test]
async fn a_thousand_that_are_silent_delay_nobody_and_are_let_go() {
    let timeout = Duration::from_millis(1_500);
    let (served, _) = serve(Limits { handshake_timeout: timeout, ..Limits::default() }).await;
    let began = Instant::now();
    let mut silent = Vec::new();
    for number in 0..1_000 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        if number % 10 == 0 {
            stream.write_all(b"GET /socket").await.unwrap();
        }
        silent.push(stream);
    }
    served.client().await.join("room:1").await;
    // One of them speaks in time.
    let mut late = silent.pop().unwrap();
    late.write_all(&upgrade("")).await.unwrap();
    let answer = tokio::time::timeout(PATIENCE, read_answer(&mut late)).await.unwrap();
    assert_eq!(answer.status, 101);
    assert!(began.elapsed() < timeout, "the machine is too slow for this test: {:?}", began.elapsed());
    for stream in &mut silent {
        assert!(is_closed(stream).await);
    }
    assert!(began.elapsed() >= timeout, "not before their time");
    // Those that have asked for nothing are not refused.
    assert_eq!(served.counter("connections", "refused_request"), 100);
    late.write_all(&joining()).await.unwrap();
    until(&mut late, r#""status":"ok""#).await;
}

#[tokio::test]
async fn more_at_once_than_a_turn_takes_all_get_in() {
    let (served, _) = serve(Limits::default()).await;
    let connecting: Vec<_> = (0..300)
        .map(|_| {
            let address = served.address;
            tokio::spawn(async move {
                let mut client = Client::connect(address, "/socket?vsn=2.0.0", &[]).await.unwrap();
                client.join("room:1").await;
                client
            })
        })
        .collect();
    let mut clients = Vec::new();
    for connecting in connecting {
        clients.push(connecting.await.unwrap());
    }
    served.has_members("room:1", 300).await;
}

#[tokio::test]
async fn newcomers_that_take_long_take_turns_with_sockets() {
    let (served, _) = serve(Limits::default()).await;
    // One on each shard, so that newcomers go to both.
    let mut clients = [served.client().await, served.client().await];
    let mut newcomers = Vec::new();
    for _ in 0..60 {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(&upgrade("&then=block")).await.unwrap();
        newcomers.push(stream);
    }
    let whole = BLOCKED * 30;
    let mut longest = Duration::ZERO;
    for _ in 0..5 {
        for client in &mut clients {
            let began = Instant::now();
            client.assert_untouched().await;
            longest = longest.max(began.elapsed());
        }
    }
    assert!(longest < whole / 2, "waited {longest:?} of {whole:?}");
    for mut stream in newcomers {
        until(&mut stream, "101 Switching Protocols").await;
    }
}

#[tokio::test]
async fn a_server_that_ends_waits_for_nobody_who_is_silent() {
    let endpoint = Endpoint::builder().shards(1).mount("/socket", stage()).build().await.unwrap();
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().upgrades_first();
    let address = server.local_addr().unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let served = endpoint.clone();
    let serving = tokio::spawn(async move { server.serve(served.clone(), &served, async { drop(ended.await) }).await });
    let mut client = Client::connect(address, "/socket?vsn=2.0.0", &[]).await.unwrap();
    let mut silent = TcpStream::connect(address).await.unwrap();
    client.join("room:1").await;
    end.send(()).unwrap();
    let closing = serving.await.unwrap();
    assert!(is_closed(&mut silent).await);
    client.assert_untouched().await;
    let began = Instant::now();
    endpoint.drain(Drain::default()).await;
    closing.finish(PATIENCE).await;
    assert!(began.elapsed() < PATIENCE / 2, "{:?}", began.elapsed());
}
