//! The examples, run as their readers run them: with a client, over a real connection.

use std::net::SocketAddr;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{BoxError, Drain};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::time::timeout;

use crate::support::PATIENCE;
use crate::support::client::Client;
use crate::support::http::{Answer, request};

#[expect(dead_code, reason = "its main is for readers")]
#[path = "../../examples/chat.rs"]
mod chat;
#[expect(dead_code, reason = "its main is for readers")]
#[path = "../../examples/history.rs"]
mod history;
#[expect(dead_code, reason = "its main is for readers")]
#[path = "../../examples/jwt.rs"]
mod jwt;
#[expect(dead_code, reason = "its main is for readers")]
#[path = "../../examples/session.rs"]
mod session;
#[expect(dead_code, reason = "its main is for readers")]
#[path = "../../examples/shutdown.rs"]
mod shutdown;

/// A program that runs until it is told to stop.
struct Running {
    address: SocketAddr,
    stop: oneshot::Sender<()>,
    ended: tokio::task::JoinHandle<Result<(), BoxError>>,
}

impl Running {
    async fn start<F>(run: impl FnOnce(Server, oneshot::Receiver<()>) -> F) -> Running
    where
        F: Future<Output = Result<(), BoxError>> + Send + 'static,
    {
        let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap();
        let address = server.local_addr().unwrap();
        let (stop, stopped) = oneshot::channel();
        Running { address, stop, ended: tokio::spawn(run(server, stopped)) }
    }

    async fn end(self, mut client: Client) {
        self.stop.send(()).unwrap();
        assert_eq!(client.close_code().await, 1012);
        timeout(PATIENCE, self.ended).await.unwrap().unwrap().unwrap();
        assert!(TcpStream::connect(self.address).await.is_err(), "nobody listens any more");
    }
}

/// An axum application, served until the test ends.
async fn serve(app: axum::Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    address
}

async fn post(address: SocketAddr, target: &str, body: &str) -> Answer {
    request(address, "POST", target, &[], body.as_bytes()).await
}

/// The payload of the next frame with this event.
async fn event(client: &mut Client, event: &str) -> Value {
    loop {
        let mut frame = client.frame().await;
        if frame[3] == event {
            return frame[4].take();
        }
    }
}

#[tokio::test]
async fn chat() {
    let running = Running::start(|server, stop| chat::run(server, async { _ = stop.await })).await;
    let connect = async |name: &str| {
        Client::connect(running.address, &format!("/socket/websocket?vsn=2.0.0&name={name}"), &[]).await
    };
    assert_eq!(connect("").await.err().unwrap().status, 403);
    let (mut ada, mut bob) = (connect("ada").await.unwrap(), connect("bob").await.unwrap());
    assert_eq!(ada.join("room:lobby").await, json!({"room": "room:lobby"}));
    assert_eq!(event(&mut ada, "presence_state").await["ada"]["metas"][0]["via"], "websocket");
    let refused = bob.try_join("room:private", json!({})).await;
    assert_eq!(refused["response"]["reason"], "this room is private");
    bob.join("room:lobby").await;
    // The first is her own.
    while event(&mut ada, "presence_diff").await["joins"]["bob"]["metas"][0]["via"] != "websocket" {}
    bob.push("room:lobby", "room:lobby", "new_msg", json!({"body": "hello"})).await;
    assert_eq!(event(&mut ada, "new_msg").await, json!({"from": "bob", "body": "hello"}));
    bob.push("room:lobby", "room:lobby", "new_msg", json!({"text": "hello"})).await;
    let reason = loop {
        let reply = event(&mut bob, "phx_reply").await;
        if reply["status"] == "error" {
            break reply["response"]["reason"].as_str().unwrap().to_owned();
        }
    };
    assert!(reason.contains("missing field `body`"), "{reason}");
    assert_eq!(post(running.address, "/announce/lobby", "Tea is ready").await.status, 204);
    assert_eq!(event(&mut ada, "announcement").await, json!({"body": "Tea is ready"}));
    running.end(ada).await;
}

#[tokio::test]
async fn an_application_with_session_cookies() {
    let address = serve(session::app().await.unwrap()).await;
    let target = "/socket/websocket?vsn=2.0.0";
    assert_eq!(Client::connect(address, target, &[]).await.err().unwrap().status, 403);
    let cookie = post(address, "/login", "ada").await.headers["set-cookie"].split(';').next().unwrap().to_owned();
    let foreign = [("cookie", cookie.as_str()), ("origin", "https://evil.example")];
    assert_eq!(Client::connect(address, target, &foreign).await.err().unwrap().status, 403);
    let mut ada = Client::connect(address, target, &[("cookie", &cookie)]).await.unwrap();
    ada.join("inbox:ada").await;
    let refused = ada.try_join("inbox:bob", json!({})).await;
    assert_eq!(refused["response"]["reason"], "this is not your inbox");
    assert_eq!(post(address, "/notify/ada", "a parcel").await.status, 204);
    assert_eq!(event(&mut ada, "notice").await, json!({"text": "a parcel"}));
}

#[tokio::test]
async fn json_web_tokens() {
    let secret = b"a secret of at least thirty-two bytes";
    let address = serve(jwt::app(jwt::Tokens::new(secret)).await.unwrap()).await;
    let token = String::from_utf8(post(address, "/login", "7").await.body).unwrap();
    let connect = async |token: &str| {
        let target = format!("/socket/websocket?vsn=2.0.0&token={token}");
        Client::connect(address, &target, &[]).await
    };
    for bad in ["", "x", &token[..token.len() - 2]] {
        assert_eq!(connect(bad).await.err().unwrap().status, 403, "{bad}");
    }
    let bearer = format!("Bearer {token}");
    let mut by_header =
        Client::connect(address, "/socket/websocket?vsn=2.0.0", &[("authorization", &bearer)]).await.unwrap();
    by_header.assert_untouched().await;
    let mut seven = connect(&token).await.unwrap();
    seven.join("user:7").await;
    assert_eq!(seven.try_join("user:8", json!({})).await["response"]["reason"], "unauthorized");
    seven.call("user:7", "access_token", json!({"access_token": token}), "ok").await;
    let other = String::from_utf8(post(address, "/login", "8").await.body).unwrap();
    seven.call("user:7", "access_token", json!({"access_token": other}), "error").await;
}

#[tokio::test]
async fn history_and_server_sent_events() {
    let address = serve(history::app().await.unwrap()).await;
    let first = post(address, "/publish/sports", "One nil").await;
    assert_eq!(first.status, 200);
    let mut events = Events::open(address, "news:sports", None).await;
    let second = post(address, "/publish/sports", "Two nil").await.text().to_owned();
    assert_eq!(events.next("headline").await, (second.clone(), json!({"text": "Two nil"})));
    drop(events);
    // What came while it was away, and what comes.
    let third = post(address, "/publish/sports", "Three nil").await.text().to_owned();
    let mut events = Events::open(address, "news:sports", Some(&second)).await;
    assert_eq!(events.next("headline").await, (third, json!({"text": "Three nil"})));
    post(address, "/publish/sports", "Four nil").await;
    assert_eq!(events.next("headline").await.1, json!({"text": "Four nil"}));
    // A client of Phoenix's gets the newest with its join.
    let mut client = Client::connect(address, "/socket/websocket?vsn=2.0.0", &[]).await.unwrap();
    let texts = client.join("news:sports").await["messages"].take();
    let texts: Vec<_> = texts.as_array().unwrap().iter().map(|message| message["payload"]["text"].clone()).collect();
    assert_eq!(texts, ["One nil", "Two nil", "Three nil", "Four nil"]);
}

/// A reader of server-sent events.
struct Events(BufReader<TcpStream>);

impl Events {
    async fn open(address: SocketAddr, topic: &str, last: Option<&str>) -> Events {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let last = last.map(|id| format!("last-event-id: {id}\r\n")).unwrap_or_default();
        let head = format!("GET /stream?topic={topic} HTTP/1.1\r\nhost: x\r\naccept: text/event-stream\r\n{last}\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut events = Events(BufReader::new(stream));
        events.next("joined").await;
        events
    }

    /// The id and the data of the next event of this name.
    async fn next(&mut self, name: &str) -> (String, Value) {
        let (mut id, mut event, mut data) = (String::new(), String::new(), Value::Null);
        loop {
            let mut line = String::new();
            timeout(PATIENCE, self.0.read_line(&mut line)).await.unwrap().unwrap();
            assert!(!line.is_empty(), "the stream has ended");
            match line.trim_end().split_once(':') {
                Some(("id", value)) => id = value.trim().to_owned(),
                Some(("event", value)) => event = value.trim().to_owned(),
                Some(("data", value)) => data = serde_json::from_str(value).unwrap(),
                _ if line.trim_end().is_empty() && event == name => return (id, data),
                _ => {}
            }
        }
    }
}

#[tokio::test]
async fn shutdown_closes_sockets_at_an_even_pace() {
    let pace = Drain { batch: 1, every: Duration::from_millis(300), limit: Duration::from_secs(20) };
    let running = Running::start(|server, stop| shutdown::run(server, pace, async { _ = stop.await })).await;
    assert_eq!(request(running.address, "GET", "/", &[], b"").await.text(), "connect to /socket\n");
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(running.address, "/socket/websocket?vsn=2.0.0", &[]).await.unwrap();
        client.join("room:lobby").await;
        clients.push(client);
    }
    clients[0].push("room:lobby", "room:lobby", "new_msg", json!({"body": "hi"})).await;
    assert_eq!(event(&mut clients[2], "new_msg").await, json!({"body": "hi"}));
    let begun = std::time::Instant::now();
    let last = clients.pop().unwrap();
    let others = tokio::spawn(async move {
        for mut client in clients {
            client.close_code().await;
        }
    });
    running.end(last).await;
    others.await.unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(600), "two of the three had to wait");
}
