//! A way from a node to its broker that can be cut without an end of its connections: bytes vanish, one way or both, as where a network
//! is parted.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;

/// A way that can be cut.
pub(crate) struct Strait {
    /// Where the node connects.
    pub(crate) port: u16,
    state: Arc<State>,
}

#[derive(Default)]
struct State {
    swallows_questions: AtomicBool,
    swallows_answers: AtomicBool,
    connections: Mutex<Vec<TcpStream>>,
}

impl Strait {
    /// To the service at this port.
    pub(crate) fn to(service: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(State::default());
        let this = state.clone();
        thread::spawn(move || {
            for near in listener.incoming() {
                let (Ok(near), Ok(far)) = (near, TcpStream::connect(("127.0.0.1", service))) else { continue };
                let both = [&near, &far].map(|stream| stream.try_clone().unwrap());
                this.connections.lock().unwrap().extend(both);
                let ways = [(near.try_clone().unwrap(), far.try_clone().unwrap(), true), (far, near, false)];
                for (from, to, asks) in ways {
                    let this = this.clone();
                    thread::spawn(move || this.carry(from, to, asks));
                }
            }
        });
        Strait { port, state }
    }

    /// From now on nothing arrives, of what the node sends as well or of the answers alone.
    pub(crate) fn cut(&self, one_way: bool) {
        self.state.swallows_answers.store(true, Ordering::SeqCst);
        self.state.swallows_questions.store(!one_way, Ordering::SeqCst);
    }

    /// All arrives again, on other connections: in those there were something is missing.
    pub(crate) fn heal(&self) {
        let mut connections = self.state.connections.lock().unwrap();
        self.state.swallows_answers.store(false, Ordering::SeqCst);
        self.state.swallows_questions.store(false, Ordering::SeqCst);
        connections.drain(..).for_each(|stream| drop(stream.shutdown(Shutdown::Both)));
    }
}

impl State {
    fn carry(&self, mut from: TcpStream, mut to: TcpStream, asks: bool) {
        let swallows = if asks { &self.swallows_questions } else { &self.swallows_answers };
        let mut bytes = [0; 16 * 1024];
        while let Ok(size @ 1..) = from.read(&mut bytes) {
            if !swallows.load(Ordering::SeqCst) && to.write_all(&bytes[..size]).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    }
}
