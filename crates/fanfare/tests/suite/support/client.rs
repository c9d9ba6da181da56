//! A WebSocket client that sends what it is told, right or wrong, and waits for what comes.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::ControlFlow;

use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::deflate::Deflater;
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;
use super::http::{Answer, head, read_answer};

/// A connected client. Frames are those of version 2.0.0 unless a method says otherwise.
pub(crate) struct Client<S = TcpStream> {
    stream: S,
    decoder: Decoder,
    received: VecDeque<Received>,
    next_ref: u64,
    /// Whether permessage-deflate was agreed on.
    inflates: bool,
}

/// Something from the server.
#[derive(Debug, PartialEq)]
pub(crate) enum Received {
    Text(String),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame.
    Closed(u16),
    /// The end of the connection.
    Ended,
}

impl Client {
    pub(crate) async fn connect(address: SocketAddr, target: &str, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        Client::over(TcpStream::connect(address).await.unwrap(), target, headers).await
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Client<S> {
    /// Upgrades a connection. `Err` is an answer other than 101.
    pub(crate) async fn over(mut stream: S, target: &str, headers: &[(&str, &str)]) -> Result<Self, Answer> {
        let upgrade = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let request = head("GET", target, &[&upgrade, headers].concat());
        let exchange = async {
            stream.write_all(request.as_bytes()).await.unwrap();
            read_answer(&mut stream).await
        };
        let answer = tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers");
        if answer.status != 101 {
            return Err(answer);
        }
        assert_eq!(answer.headers["sec-websocket-accept"], "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
        let inflates = answer.headers.contains_key("sec-websocket-extensions");
        Ok(Client { inflates, ..Client::on(stream) })
    }

    /// A client on a stream that was made for it without an upgrade.
    pub(crate) fn on(stream: S) -> Self {
        Client { stream, decoder: Decoder::new(Role::Client), received: VecDeque::new(), next_ref: 0, inflates: false }
    }

    /// Sends one frame.
    pub(crate) async fn send(&mut self, opcode: Opcode, payload: &[u8], fin: bool) {
        let mut frame = Vec::new();
        encode_masked(opcode, payload, [1, 2, 3, 4], fin, false, &mut frame);
        self.send_bytes(&frame).await;
    }

    /// Sends a text compressed, as was agreed on.
    pub(crate) async fn send_compressed(&mut self, text: &str) {
        let (mut deflated, mut frame) = (Vec::new(), Vec::new());
        Deflater::default().compress(text.as_bytes(), &mut deflated);
        encode_masked(Opcode::Text, &deflated, [1, 2, 3, 4], true, true, &mut frame);
        self.send_bytes(&frame).await;
    }

    /// Sends bytes as they are. The server may have closed already: then they are lost.
    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The same, and sends no more; what comes is still read.
    pub(crate) async fn send_bytes_and_end(&mut self, bytes: &[u8]) {
        self.send_bytes(bytes).await;
        self.stream.shutdown().await.unwrap();
    }

    pub(crate) async fn send_text(&mut self, text: &str) {
        self.send(Opcode::Text, text.as_bytes(), true).await;
    }

    pub(crate) async fn send_json(&mut self, frame: &Value) {
        self.send_text(&frame.to_string()).await;
    }

    /// Pushes with this join_ref, and returns the ref.
    pub(crate) async fn push(&mut self, join_ref: &str, topic: &str, event: &str, payload: Value) -> String {
        self.next_ref += 1;
        let msg_ref = format!("m{}", self.next_ref);
        self.send_json(&json!([join_ref, msg_ref, topic, event, payload])).await;
        msg_ref
    }

    /// Joins, with the topic as join_ref and ref, and expects it to be answered ok.
    pub(crate) async fn join(&mut self, topic: &str) -> Value {
        let reply = self.try_join(topic, json!({})).await;
        assert_eq!(reply["status"], "ok", "{topic}: {reply}");
        reply["response"].clone()
    }

    /// Joins, and returns the payload of the next frame, which must be the reply.
    pub(crate) async fn try_join(&mut self, topic: &str, params: Value) -> Value {
        self.send_json(&json!([topic, topic, topic, "phx_join", params])).await;
        let frame = self.frame().await;
        assert_eq!((&frame[1], &frame[3]), (&json!(topic), &json!("phx_reply")), "{frame}");
        frame[4].clone()
    }

    /// Pushes, and expects the reply with this status next; returns the response.
    pub(crate) async fn call(&mut self, topic: &str, event: &str, payload: Value, status: &str) -> Value {
        let msg_ref = self.push(topic, topic, event, payload).await;
        let frame = self.frame().await;
        assert_eq!((&frame[1], &frame[3]), (&json!(msg_ref), &json!("phx_reply")), "{frame}");
        assert_eq!(frame[4]["status"], status, "{frame}");
        frame[4]["response"].clone()
    }

    /// A heartbeat, answered: the socket is as it should be, and has been sent nothing else.
    pub(crate) async fn assert_untouched(&mut self) {
        self.send_json(&json!([null, "hb", "phoenix", "heartbeat", {}])).await;
        let ok = json!([null, "hb", "phoenix", "phx_reply", {"status": "ok", "response": {}}]);
        assert_eq!(self.frame().await, ok);
    }

    /// The next frame, which must be text.
    pub(crate) async fn frame(&mut self) -> Value {
        match self.receive().await {
            Received::Text(frame) => serde_json::from_str(&frame).unwrap(),
            other => panic!("expected a text frame, got {other:?}"),
        }
    }

    /// Expects exactly this text next.
    pub(crate) async fn assert_text(&mut self, text: &str) {
        assert_eq!(self.receive().await, Received::Text(text.to_owned()));
    }

    /// Expects exactly this broadcast or push next.
    pub(crate) async fn assert_event(&mut self, topic: &str, event: &str, payload: Value) {
        let frame = self.frame().await;
        assert_eq!(json!([frame[2], frame[3], frame[4]]), json!([topic, event, payload]));
    }

    /// Expects the server to close with this code, and then to end the connection.
    pub(crate) async fn assert_closed(&mut self, code: u16) {
        assert_eq!(self.receive().await, Received::Closed(code));
        assert_eq!(self.receive().await, Received::Ended);
    }

    /// The close code, whatever comes before it.
    pub(crate) async fn close_code(&mut self) -> u16 {
        loop {
            match self.receive().await {
                Received::Closed(code) => return code,
                Received::Ended => panic!("the connection ended without a close frame"),
                _ => {}
            }
        }
    }

    /// The next thing from the server.
    pub(crate) async fn receive(&mut self) -> Received {
        tokio::time::timeout(PATIENCE, self.read()).await.expect("the server sends something")
    }

    async fn read(&mut self) -> Received {
        let mut buffer = vec![0; 64 * 1024];
        while self.received.is_empty() {
            match self.stream.read(&mut buffer).await {
                Ok(0) | Err(_) => return Received::Ended,
                Ok(count) => self.decode(&mut buffer[..count]),
            }
        }
        self.received.pop_front().expect("not empty")
    }

    fn decode(&mut self, bytes: &mut [u8]) {
        let received = &mut self.received;
        let mut sink = |item: Item<'_>| {
            received.extend(match item {
                Item::Text(text) => Some(Received::Text(text.to_owned())),
                Item::Binary(data) => Some(Received::Binary(data.to_vec())),
                Item::Pong(data) => Some(Received::Pong(data.to_vec())),
                Item::Close(code) => Some(Received::Closed(code.unwrap_or(1005))),
                Item::Ping(_) => None,
            });
            ControlFlow::Continue(())
        };
        let mut scratch = Scratch::default();
        let decoded = self.decoder.decode(bytes, &Limits::default(), self.inflates, &mut scratch, &mut sink);
        decoded.unwrap_or_else(|violation| panic!("the server broke the rules: {violation:?}"));
    }
}
