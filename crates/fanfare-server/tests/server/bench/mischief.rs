//! A server that passes messages on, and gets some of them wrong on purpose.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};

/// What it does to every tenth message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Right,
    Loses,
    Doubles,
    /// Sends it after the next one.
    Swaps,
    /// Says that somebody else has sent it, who publishes in another room.
    Misdelivers,
}

pub(super) struct Mischief {
    pub(super) address: SocketAddr,
}

/// Where the publisher and the number stand in a message of the load generator.
const PUBLISHER: std::ops::Range<usize> = 17..25;
const NUMBER: std::ops::Range<usize> = 25..33;

impl Mischief {
    /// Serves until the test's process ends.
    pub(super) fn start(kind: Kind) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let all: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let (stream, all) = (stream.unwrap(), all.clone());
                std::thread::spawn(move || serve(kind, stream, &all));
            }
        });
        Self { address }
    }
}

fn serve(kind: Kind, stream: TcpStream, all: &Mutex<Vec<TcpStream>>) {
    let writer = stream.try_clone().unwrap();
    writer.set_nodelay(true).unwrap();
    let Ok(mut socket) = tungstenite::accept(stream) else { return };
    all.lock().unwrap().push(writer);
    let mut held: Option<String> = None;
    while let Ok(message) = socket.read() {
        let Ok(text) = message.into_text() else { return };
        let text = text.to_string();
        let number = text.get(NUMBER).and_then(|digits| u32::from_str_radix(digits, 16).ok()).unwrap_or(0);
        let mut messages = Vec::new();
        match kind {
            _ if number == 0 || number % 10 != 5 => messages.push(text),
            Kind::Right => messages.push(text),
            Kind::Loses => {}
            Kind::Doubles => messages.extend([text.clone(), text]),
            Kind::Swaps => {
                held = Some(text);
                continue;
            }
            Kind::Misdelivers => {
                messages.push(format!("{}00000009{}", &text[..PUBLISHER.start], &text[PUBLISHER.end..]))
            }
        }
        messages.extend(held.take());
        for client in all.lock().unwrap().iter_mut() {
            for message in &messages {
                let mut frame = vec![0x81, message.len() as u8];
                frame.extend_from_slice(message.as_bytes());
                // A client may be gone by now.
                let _ = client.write_all(&frame);
            }
        }
    }
}
