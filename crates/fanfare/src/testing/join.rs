//! One joined topic of a socket of the kit.

use std::fmt;
use std::future::Future;
use std::panic::Location;
use std::sync::Arc;

use fanfare_proto::payload::IntoPayload;
use serde_json::{Value, json};

use super::expected::Expected;
use super::inbox::Frame;
use super::socket::{Line, payload_of};
use crate::channel::Job;

/// A join, as its client sees it.
pub struct TestJoin {
    line: Arc<Line>,
    topic: String,
    join_ref: String,
    response: Value,
}

/// A message that was pushed, to assert its reply by.
#[derive(Debug)]
pub struct Pushed(String);

impl TestJoin {
    pub(super) fn new(line: Arc<Line>, topic: &str, join_ref: String, response: Value) -> Self {
        TestJoin { line, topic: topic.to_owned(), join_ref, response }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// What the join was answered with.
    pub fn response(&self) -> &Value {
        &self.response
    }

    /// Pushes an event to the channel. The channel has begun to handle it when this returns.
    pub async fn push(&self, event: &str, payload: impl IntoPayload) -> Pushed {
        let msg_ref = self.line.next_ref();
        self.line.send(Some(&self.join_ref), &msg_ref, &self.topic, event, payload_of(payload)).await;
        Pushed(msg_ref)
    }

    /// Sends to the channel's [`handle_info`](crate::Channel::handle_info), as a [`JoinSender`](crate::JoinSender) does. The channel
    /// has begun to handle it when this returns. `info` must be of the channel's `Info` type: any other crashes the join.
    pub async fn send(&self, info: impl Send + 'static) {
        self.line.give(&self.topic, Job::Info(Box::new(info))).await;
    }

    /// Asserts that a message is replied to, and returns the response.
    ///
    /// # Panics
    /// No such reply comes within a second.
    #[track_caller]
    pub fn assert_reply(
        &self,
        to: &Pushed,
        status: &str,
        response: impl Into<Expected>,
    ) -> impl Future<Output = Value> {
        let (at, response) = (Location::caller(), response.into());
        async move {
            let what = format!("the reply {status:?} with {response} to ref {:?} on {:?}", to.0, self.topic);
            let fits = |frame: &Frame| {
                is_reply(frame, to) && frame.payload["status"] == status && response.matches(&frame.payload["response"])
            };
            self.line.expect(at, &what, fits).await.payload["response"].take()
        }
    }

    /// Asserts that a message has not been replied to.
    ///
    /// # Panics
    /// A reply has come, and no assertion took it.
    #[track_caller]
    pub fn refute_reply(&self, to: &Pushed) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { self.line.refute(at, |frame| is_reply(frame, to)).await }
    }

    /// Asserts that an event comes to this join, by a push or a broadcast, and returns its payload.
    ///
    /// # Panics
    /// It does not come within a second.
    #[track_caller]
    pub fn assert_push(&self, event: &str, payload: impl Into<Expected>) -> impl Future<Output = Value> {
        let (at, payload) = (Location::caller(), payload.into());
        async move {
            let what = format!("{event:?} on {:?} with {payload}", self.topic);
            let fits = |frame: &Frame| self.is_event(frame, event) && payload.matches(&frame.payload);
            self.line.expect(at, &what, fits).await.payload
        }
    }

    /// Asserts that an event has not come to this join.
    ///
    /// # Panics
    /// It has come, and no assertion took it.
    #[track_caller]
    pub fn refute_push(&self, event: &str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move { self.line.refute(at, |frame| self.is_event(frame, event)).await }
    }

    /// Asserts that the channel ends the join in good order: `phx_close`.
    ///
    /// # Panics
    /// It does not within a second.
    #[track_caller]
    pub fn assert_ended(&self) -> impl Future<Output = ()> {
        self.assert_end("phx_close")
    }

    /// Asserts that the join crashes: `phx_error`.
    ///
    /// # Panics
    /// It does not within a second.
    #[track_caller]
    pub fn assert_crashed(&self) -> impl Future<Output = ()> {
        self.assert_end("phx_error")
    }

    /// Leaves the topic, and asserts that the server says so.
    ///
    /// # Panics
    /// It does not within a second.
    #[track_caller]
    pub fn leave(self) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let leave = self.push("phx_leave", json!({})).await;
            self.line.expect(at, "the reply to phx_leave", |frame| is_reply(frame, &leave)).await;
            self.line.expect(at, "\"phx_close\" after phx_leave", |frame| self.is_event(frame, "phx_close")).await;
        }
    }

    #[track_caller]
    fn assert_end(&self, event: &'static str) -> impl Future<Output = ()> {
        let at = Location::caller();
        async move {
            let what = format!("{event:?} on {:?}", self.topic);
            self.line.expect(at, &what, |frame| self.is_event(frame, event)).await;
        }
    }

    /// Broadcasts carry no join_ref; what carries one is for the join that has it.
    fn is_event(&self, frame: &Frame, event: &str) -> bool {
        let is_ours = frame.join_ref.is_null() || frame.join_ref == *self.join_ref;
        frame.topic == self.topic && frame.event == event && is_ours
    }
}

impl fmt::Debug for TestJoin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TestJoin").field("topic", &self.topic).finish_non_exhaustive()
    }
}

fn is_reply(frame: &Frame, to: &Pushed) -> bool {
    frame.event == "phx_reply" && frame.msg_ref == *to.0
}
