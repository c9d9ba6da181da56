//! The user's back end for tests of hooks and webhooks: an HTTP server that keeps what it is asked and answers as it is told.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::PATIENCE;

/// What was asked.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) path: String,
    pub(crate) headers: HashMap<String, String>,
    pub(crate) body: String,
}

impl Request {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// What is answered.
pub(crate) enum Reply {
    /// 200 with this.
    Json(Value),
    /// This status with this body.
    Status(u16, String),
    /// The same after a while.
    Late(Duration, Value),
    /// This as it stands, and the end of the connection.
    Raw(String),
    /// A head that promises a body without an end, and the body.
    Endless,
    /// The end of the connection.
    HangUp,
}

type Handler = Arc<dyn Fn(&Request) -> Reply + Send + Sync>;

/// A running back end.
pub(crate) struct BackEnd {
    pub(crate) address: String,
    handler: Arc<Mutex<Handler>>,
    requests: Arc<Mutex<Vec<Request>>>,
    connections: Arc<AtomicUsize>,
    stopped: Arc<AtomicBool>,
    listening: Option<thread::JoinHandle<()>>,
}

impl BackEnd {
    pub(crate) fn new(handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", handler)
    }

    /// At an address where another one was before.
    pub(crate) fn at(address: &str, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let handler: Handler = Arc::new(handler);
        let handler = Arc::new(Mutex::new(handler));
        let (requests, connections) = (Arc::<Mutex<Vec<Request>>>::default(), Arc::<AtomicUsize>::default());
        let stopped = Arc::<AtomicBool>::default();
        let shared = (handler.clone(), requests.clone(), stopped.clone());
        let counter = connections.clone();
        let listening = thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if shared.2.load(Ordering::SeqCst) {
                    return;
                }
                counter.fetch_add(1, Ordering::SeqCst);
                let (handler, requests, stopped) = shared.clone();
                thread::spawn(move || serve(stream, &handler, &requests, &stopped));
            }
        });
        Self { address, handler, requests, connections, stopped, listening: Some(listening) }
    }

    /// One that says yes to everything.
    pub(crate) fn agreeing() -> Self {
        Self::new(|_| Reply::Json(serde_json::json!({"allow": true})))
    }

    pub(crate) fn set(&self, handler: impl Fn(&Request) -> Reply + Send + Sync + 'static) {
        *self.handler.lock().unwrap() = Arc::new(handler);
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/fanfare", self.address)
    }

    /// All that was asked so far.
    pub(crate) fn requests(&self) -> Vec<Request> {
        self.requests.lock().unwrap().clone()
    }

    pub(crate) fn asked(&self) -> usize {
        self.requests.lock().unwrap().len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Stops listening; whoever is connected is cut off.
    pub(crate) fn stop(mut self) -> String {
        self.end();
        self.address.clone()
    }

    fn end(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        drop(TcpStream::connect(&self.address));
        if let Some(listening) = self.listening.take() {
            let _ = listening.join();
        }
    }
}

impl Drop for BackEnd {
    fn drop(&mut self) {
        self.end();
    }
}

fn serve(mut stream: TcpStream, handler: &Mutex<Handler>, requests: &Mutex<Vec<Request>>, stopped: &AtomicBool) {
    stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = Vec::new();
    while let Some(request) = read(&mut stream, &mut buffer, stopped) {
        if stopped.load(Ordering::SeqCst) {
            return;
        }
        requests.lock().unwrap().push(request.clone());
        let handler = handler.lock().unwrap().clone();
        let answer = |status: u16, body: &str| {
            let size = body.len();
            format!("HTTP/1.1 {status} x\r\ncontent-type: application/json\r\ncontent-length: {size}\r\n\r\n{body}")
        };
        let text = match handler(&request) {
            Reply::Json(value) => answer(200, &value.to_string()),
            Reply::Status(status, body) => answer(status, &body),
            Reply::Late(wait, value) => {
                thread::sleep(wait);
                answer(200, &value.to_string())
            }
            Reply::Raw(text) => {
                let _ = stream.write_all(text.as_bytes());
                return;
            }
            Reply::Endless => {
                let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
                while sent.is_ok() {
                    sent = stream.write_all(&[b' '; 65_536]);
                }
                return;
            }
            Reply::HangUp => return,
        };
        if stream.write_all(text.as_bytes()).is_err() {
            return;
        }
    }
}

/// The next request of a connection, `None` at its end.
fn read(stream: &mut TcpStream, buffer: &mut Vec<u8>, stopped: &AtomicBool) -> Option<Request> {
    let mut chunk = [0; 65_536];
    loop {
        if let Some(request) = take(buffer) {
            return Some(request);
        }
        match stream.read(&mut chunk) {
            Ok(0) => return None,
            Ok(size) => buffer.extend_from_slice(&chunk[..size]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                if stopped.load(Ordering::SeqCst) {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
}

fn take(buffer: &mut Vec<u8>) -> Option<Request> {
    let end = buffer.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let head = String::from_utf8(buffer[..end].to_vec()).unwrap();
    let mut lines = head.lines();
    let path = lines.next()?.split(' ').nth(1)?.to_owned();
    let fields = lines.filter_map(|line| line.split_once(": "));
    let headers: HashMap<_, _> = fields.map(|(name, value)| (name.to_lowercase(), value.to_owned())).collect();
    let size: usize = headers.get("content-length").map_or(0, |size| size.parse().unwrap());
    if buffer.len() < end + size {
        return None;
    }
    let body = String::from_utf8(buffer[end..end + size].to_vec()).unwrap();
    buffer.drain(..end + size);
    Some(Request { path, headers, body })
}

/// Waits until something is so.
#[track_caller]
pub(crate) fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The signature of a request, computed by Python.
pub(crate) fn signature_of(request: &Request, secret: &str) -> String {
    let script = "import sys, hmac, hashlib, base64\n\
                  key = sys.argv[1].encode()\n\
                  print('v1,' + base64.b64encode(hmac.new(key, sys.stdin.buffer.read(), hashlib.sha256).digest()).decode())";
    let mut python = std::process::Command::new("python3")
        .args(["-c", script, secret])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let signed = format!("{}.{}.{}", request.headers["webhook-id"], request.headers["webhook-timestamp"], request.body);
    python.stdin.take().unwrap().write_all(signed.as_bytes()).unwrap();
    String::from_utf8(python.wait_with_output().unwrap().stdout).unwrap().trim().to_owned()
}
