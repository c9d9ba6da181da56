//! HTTP by hand, so that a test says every byte of its request.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::PATIENCE;

/// An answer; header names are in lower case.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// One request on a connection of its own.
pub(crate) async fn request(
    address: SocketAddr,
    method: &str,
    target: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Answer {
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        let mut head = head(method, target, &[&[("connection", "close")], headers].concat());
        if !body.is_empty() {
            head.insert_str(head.len() - 2, &format!("content-length: {}\r\n", body.len()));
        }
        stream.write_all(head.as_bytes()).await.unwrap();
        // A server that refuses a body need not read all of it.
        let _ = stream.write_all(body).await;
        match method {
            "HEAD" => read_head(&mut stream).await,
            _ => read_answer(&mut stream).await,
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.expect("the server answers")
}

/// An answer to a request of which every byte is given. `None` where the connection ends without one.
pub(crate) async fn answer_to(stream: &mut TcpStream, bytes: &[u8]) -> Option<Answer> {
    // Whoever is refused may find that nobody reads any more.
    let _ = stream.write_all(bytes).await;
    let answer = async {
        let mut first = [0];
        match stream.peek(&mut first).await {
            Ok(1) => Some(read_answer(stream).await),
            _ => None,
        }
    };
    tokio::time::timeout(PATIENCE, answer).await.expect("the server answers, or closes")
}

/// Whether the server ends its direction, with nothing more to say.
pub(crate) async fn is_closed(stream: &mut TcpStream) -> bool {
    let mut rest = Vec::new();
    let ended = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut rest)).await.expect("the server closes");
    ended.is_err() || rest.is_empty()
}

pub(crate) fn head(method: &str, target: &str, headers: &[(&str, &str)]) -> String {
    let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{lines}\r\n")
}

pub(crate) async fn read_answer(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut answer = read_head(stream).await;
    let len = answer.headers.get("content-length").map_or(0, |len| len.parse().unwrap());
    answer.body = vec![0; len];
    stream.read_exact(&mut answer.body).await.expect("a whole body");
    answer
}

async fn read_head(stream: &mut (impl AsyncRead + Unpin)) -> Answer {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.expect("a whole head"));
    }
    let head = String::from_utf8(head).unwrap();
    let mut lines = head.lines();
    let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_lowercase(), value.trim().to_owned()))
        .collect();
    Answer { status, headers, body: Vec::new() }
}
