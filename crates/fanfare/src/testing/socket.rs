//! A client's socket without a network.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::{IntoPayload, Payload};
use http::{Request, Response};
use serde_json::Value;
use tokio::sync::{Mutex, mpsc};

use super::expected::Expected;
use super::inbox::{Frame, Inbox};
use super::join::TestJoin;
use super::let_arrive;
use crate::body::Body;
use crate::channel::Job;
use crate::close_reason::CloseReason;
use crate::endpoint::Endpoint;
use crate::key::SocketKey;
use crate::mailbox::{Command, Question, ShardHandle};
use crate::transport::{Carrier, Transport};

/// A connected socket. The connection is lost when it and all its joins are dropped.
pub struct TestSocket(Arc<Line>);

/// The connection, shared by a socket and its joins.
pub(super) struct Line {
    pub(super) endpoint: Endpoint,
    shard: ShardHandle,
    key: SocketKey,
    next_ref: AtomicU64,
    pub(super) inbox: Mutex<Inbox>,
}

impl TestSocket {
    pub(super) async fn connect(endpoint: Endpoint, request: Request<()>) -> Result<Self, Box<Response<Body>>> {
        let (frames, arriving) = mpsc::unbounded_channel();
        let (shard, key) = endpoint.connect_local(request, Transport::Local, |_| Carrier::Frames(frames)).await?;
        let inbox = Mutex::new(Inbox::new(arriving));
        Ok(TestSocket(Arc::new(Line { endpoint, shard, key, next_ref: AtomicU64::new(1), inbox })))
    }

    /// Joins a topic. Joining it again ends the earlier join.
    ///
    /// # Errors
    /// The join is refused: the response, e.g. `{"reason": "unmatched topic"}`.
    ///
    /// # Panics
    /// No answer comes within a second.
    #[track_caller]
    pub fn join(&self, topic: &str, params: impl IntoPayload) -> impl Future<Output = Result<TestJoin, Value>> {
        let (at, params) = (Location::caller(), payload_of(params));
        async move {
            let join_ref = self.0.next_ref();
            self.0.send(Some(&join_ref), &join_ref, topic, "phx_join", params).await;
            let what = format!("the answer to joining {topic:?}");
            let is_answer = |frame: &Frame| frame.event == "phx_reply" && frame.msg_ref == *join_ref;
            let mut answer = self.0.expect(at, &what, is_answer).await.payload;
            let response = answer["response"].take();
            if answer["status"] == "ok" {
                Ok(TestJoin::new(self.0.clone(), topic, join_ref, response))
            } else {
                Err(response)
            }
        }
    }

    /// Asserts that an event comes on a topic, by a push or a broadcast, and returns its payload.
    ///
    /// # Panics
    /// It does not come within a second.
    #[track_caller]
    pub fn assert_push(&self, topic: &str, event: &str, payload: impl Into<Expected>) -> impl Future<Output = Value> {
        let (at, payload) = (Location::caller(), payload.into());
        async move {
            let what = format!("{event:?} on {topic:?} with {payload}");
            let fits = |frame: &Frame| frame.topic == topic && frame.event == event && payload.matches(&frame.payload);
            self.0.expect(at, &what, fits).await.payload
        }
    }

    /// Asserts that an event has not come on a topic.
    ///
    /// # Panics
    /// It has come, and no assertion took it.
    #[track_caller]
    pub fn refute_push(&self, topic: &str, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { self.0.refute(at, |frame| frame.topic == topic && frame.event == event).await }
    }

    /// Asserts that the server closes the socket with this code.
    ///
    /// # Panics
    /// It does not within a second, or with another code.
    #[track_caller]
    pub fn assert_closed(&self, code: u16) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let mut inbox = self.0.inbox.lock().await;
            match inbox.close_code().await {
                Some(actual) => assert!(actual == code, "expected close code {code} ({at}), the server's was {actual}"),
                None => panic!("expected the server to close the socket with {code} ({at}); {inbox}"),
            }
        }
    }

    /// Closes the socket from the client's side, in good order.
    pub async fn close(self) {
        self.0.end(CloseReason::Client).await;
    }

    /// Loses the connection, without a word.
    pub async fn lose(self) {
        self.0.end(CloseReason::Lost).await;
    }
}

impl fmt::Debug for TestSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TestSocket")
    }
}

impl Line {
    pub(super) fn next_ref(&self) -> String {
        self.next_ref.fetch_add(1, Ordering::Relaxed).to_string()
    }

    /// Hands a client's message to the engine.
    pub(super) async fn send(&self, join_ref: Option<&str>, msg_ref: &str, topic: &str, event: &str, payload: Payload) {
        let message = Incoming {
            join_ref: join_ref.map_or(Ref::NULL, Ref::string),
            msg_ref: Ref::string(msg_ref),
            topic: topic.to_owned().into(),
            event: event.to_owned().into(),
            payload,
        };
        let (socket, message) = (self.key, Box::new(message));
        // To an engine that has ended a client's message is lost, too.
        let _ = self.shard.ask(|answer| Question::Receive { socket, message, answer }).await;
    }

    /// Has a join do something.
    pub(super) async fn give(&self, topic: &str, job: Job) {
        let (socket, topic) = (self.key, topic.into());
        let _ = self.shard.ask(|answer| Question::Give { socket, topic, job, answer }).await;
    }

    pub(super) async fn expect(&self, at: &Location<'_>, what: &str, fits: impl Fn(&Frame) -> bool) -> Frame {
        let mut inbox = self.inbox.lock().await;
        match inbox.take(fits).await {
            Some(frame) => frame,
            None => panic!("expected {what} ({at}); {inbox}"),
        }
    }

    pub(super) async fn refute(&self, at: &Location<'_>, fits: impl Fn(&Frame) -> bool) {
        let_arrive(&self.endpoint).await;
        if let Some(frame) = self.inbox.lock().await.take_arrived(fits) {
            panic!("unexpected ({at}): {frame}");
        }
    }

    async fn end(&self, reason: CloseReason) {
        self.shard.send(Command::Close { socket: self.key, reason });
        super::settle(&self.endpoint).await;
    }
}

/// What a test sends.
#[track_caller]
pub(super) fn payload_of(payload: impl IntoPayload) -> Payload {
    payload.into_payload().unwrap_or_else(|error| panic!("the payload cannot be written as JSON: {error}"))
}

impl Drop for Line {
    fn drop(&mut self) {
        self.shard.send(Command::Close { socket: self.key, reason: CloseReason::Lost });
    }
}
