//! HTTP requests in the background: a transcript may do other things before it looks at the response.

use crate::http::{self, Request, Response};
use std::io;
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

/// How long a response may take where the recording does not say that it took longer.
const PATIENCE: Duration = Duration::from_secs(20);

/// A request on its way, on a thread of its own.
pub(super) struct Running {
    pub(super) request: Request,
    pub(super) started: Instant,
    done: Receiver<(io::Result<Response>, Instant)>,
}

impl Running {
    /// Sends the request. `started` is when the step began, also where the request is one of several.
    pub(super) fn start(port: u16, request: Request, started: Instant) -> Running {
        let (sender, done) = channel();
        let sent = request.clone();
        // Connected here and not in the background, so that requests reach the server in their order.
        let stream = http::connect(port);
        std::thread::spawn(move || {
            let response = stream.and_then(|stream| http::exchange(&stream, port, &sent));
            sender.send((response, Instant::now()))
        });
        Running { request, started, done }
    }

    /// The response, and how long it took; longer than `recorded` is allowed.
    pub(super) fn wait(&self, recorded: Duration) -> Result<(Response, Duration), String> {
        match self.done.recv_timeout(PATIENCE.max(recorded * 2)) {
            Ok((Ok(response), at)) => Ok((response, at - self.started)),
            Ok((Err(e), _)) => Err(format!("no response to {} {}: {e}", self.request.method, self.request.path)),
            Err(_) => Err(format!("no response to {} {} in time", self.request.method, self.request.path)),
        }
    }
}
