//! The test kit: sockets without a network, and a clock that stands still until a test moves it.
//!
//! A [`TestEndpoint`] runs the real engine. Its sockets pass the mount's own [`Connect`](crate::Connect), routes and
//! limits; only the bytes of the transport are left out. What a test expects, it asserts: an assertion waits up to a second
//! for what shall come and says what came instead, a refutation lets the engine finish its work and then looks.
//!
//! A [`Lockstep`] is for those who want the bytes, and every step in their own hands.
//!
//! ```
//! use std::time::Duration;
//!
//! use fanfare::testing::{TestEndpoint, including};
//! use fanfare::{BoxError, Channel, Context, Endpoint, Flow, Joined, Mount, Payload, Refused, Reply};
//! use serde_json::json;
//!
//! struct Room;
//!
//! impl Channel for Room {
//!     type State = ();
//!     type Params = Payload;
//!     type Info = &'static str;
//!
//!     async fn join(&self, cx: &mut Context<&'static str>, _: Payload) -> Result<Joined<()>, Refused> {
//!         cx.send_after(Duration::from_secs(60), "reminder");
//!         Ok(Joined::new(()).reply(json!({ "topic": cx.topic() })))
//!     }
//!
//!     async fn handle_in(&self, _: &mut (), cx: &mut Context<&'static str>, event: &str, payload: Payload) -> Result<Reply, BoxError> {
//!         match event {
//!             "shout" => cx.broadcast("shout", payload).await?,
//!             _ => return Err(format!("unknown event {event:?}").into()),
//!         }
//!         Ok(Reply::ok(json!({ "heard": event })))
//!     }
//!
//!     async fn handle_info(&self, _: &mut (), cx: &mut Context<&'static str>, info: &'static str) -> Result<Flow, BoxError> {
//!         cx.push(info, json!({ "after": 60 }))?;
//!         Ok(Flow::Continue)
//!     }
//! }
//!
//! # #[tokio::main]
//! # async fn main() {
//! let test = TestEndpoint::start(Endpoint::builder().mount("/socket", Mount::new().channel("room:*", Room))).await;
//! let socket = test.connect("/socket", json!({ "token": "of anybody" })).await.unwrap();
//! assert_eq!(socket.join("hall", json!({})).await.unwrap_err(), json!({ "reason": "unmatched topic" }));
//!
//! let lobby = socket.join("room:lobby", json!({})).await.unwrap();
//! assert_eq!(*lobby.response(), json!({ "topic": "room:lobby" }));
//!
//! let listener = test.subscribe("room:lobby").await;
//! let shout = lobby.push("shout", json!({ "body": "hi", "loud": true })).await;
//! lobby.assert_reply(&shout, "ok", json!({ "heard": "shout" })).await;
//! listener.assert_broadcast("shout", including(json!({ "body": "hi" }))).await;
//!
//! lobby.refute_push("reminder").await;
//! test.advance(Duration::from_secs(60)).await;
//! lobby.assert_push("reminder", json!({ "after": 60 })).await;
//!
//! lobby.leave().await;
//! # }
//! ```

mod expected;
mod inbox;
mod join;
mod lockstep;
mod query;
mod socket;
mod subscription;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::{Request, Response};
use serde_json::Value;

pub use expected::{Expected, anything, including};
pub use join::{Pushed, TestJoin};
pub use lockstep::{Lockstep, Peer};
pub use socket::TestSocket;
pub use subscription::TestSubscription;

use crate::body::Body;
pub use crate::broker::memory::Misbehaviour;
use crate::builder::Builder;
use crate::clock::Clock;
use crate::endpoint::Endpoint;
pub use crate::history::Faults;
use crate::mailbox::Question;
pub use crate::transport::memory::{Pipe, Written};

/// An assertion waits so long for what shall come.
const ARRIVAL_MAX: Duration = Duration::from_secs(1);

/// A refutation gives channels' code that waits for something of its own so long, after the engine has nothing to do.
const REFUTAL_WAIT: Duration = Duration::from_millis(20);

/// An endpoint under test.
#[derive(Debug)]
pub struct TestEndpoint {
    endpoint: Endpoint,
    now_ms: Arc<AtomicU64>,
}

impl TestEndpoint {
    /// Builds the endpoint with a clock that stands still. Must be called in a tokio runtime of any kind.
    ///
    /// # Panics
    /// The endpoint cannot be built.
    pub async fn start(builder: Builder) -> Self {
        let now_ms = Arc::new(AtomicU64::new(0));
        let built = builder.clock(Clock::Virtual(now_ms.clone())).build().await;
        let endpoint = built.unwrap_or_else(|error| panic!("the endpoint cannot be built: {error}"));
        TestEndpoint { endpoint, now_ms }
    }

    /// The endpoint: broadcast from it, drain it, ask it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.endpoint
    }

    /// Moves the engine's clock, and lets all that is due by then happen, in order and each at its own time.
    ///
    /// [`Context::send_after`](crate::Context::send_after), the grace of presences, the expiry of credentials and long-poll
    /// windows follow this clock; `tokio::time` does not.
    pub async fn advance(&self, by: Duration) {
        self.settle().await;
        let target_ms = Clock::Virtual(self.now_ms.clone()).after(by);
        while let Some(due_ms) = self.next_timer_ms().await.filter(|&due_ms| due_ms <= target_ms) {
            self.now_ms.fetch_max(due_ms, Ordering::AcqRel);
            self.endpoint.tick();
            for shard in self.endpoint.shards() {
                // A shard ends with the endpoint only, which is here.
                let _ = shard.ask(Question::ExpireTimers).await;
            }
            self.settle().await;
        }
        self.now_ms.fetch_max(target_ms, Ordering::AcqRel);
        self.settle().await;
    }

    /// Waits until the engine has done all that it was asked to. Channels' code that waits for something of its own, such
    /// as a timer of tokio's, is not waited for.
    pub async fn settle(&self) {
        settle(&self.endpoint).await;
    }

    /// Connects to a mount by its path, in version 2.0.0. The params travel as a client's query does: what connect sees are
    /// strings, in objects and lists of strings.
    ///
    /// # Errors
    /// The mount has refused; or there is none at the path.
    pub async fn connect(&self, path: &str, params: Value) -> Result<TestSocket, NotConnected> {
        let uri = format!("{path}?{}", query::of(&params));
        let request = Request::get(uri).body(()).expect("the params are percent-encoded, the path is the test's own");
        self.connect_with(request).await
    }

    /// The same with a request of your own: headers, another `vsn`, and a [`Connection`](crate::Connection) among the
    /// extensions for the client's address.
    ///
    /// # Errors
    /// As [`connect`](TestEndpoint::connect).
    pub async fn connect_with(&self, request: Request<()>) -> Result<TestSocket, NotConnected> {
        TestSocket::connect(self.endpoint.clone(), request).await.map_err(|response| NotConnected { response })
    }

    /// Listens to a topic from outside of any channel.
    ///
    /// # Panics
    /// It is no topic.
    #[track_caller]
    pub fn subscribe(&self, topic: &str) -> impl Future<Output = TestSubscription> {
        let socket = self.endpoint.subscribe(topic);
        async {
            let socket = socket.await.unwrap_or_else(|error| panic!("cannot subscribe: {error}"));
            TestSubscription::new(self.endpoint.clone(), socket)
        }
    }

    async fn next_timer_ms(&self) -> Option<u64> {
        let mut next_ms = self.endpoint.next_tick_ms();
        for shard in self.endpoint.shards() {
            let due_ms = shard.ask(Question::NextTimer).await.ok().flatten();
            next_ms = next_ms.into_iter().chain(due_ms).min();
        }
        next_ms
    }
}

/// A connect that was refused.
pub struct NotConnected {
    response: Box<Response<Body>>,
}

impl NotConnected {
    /// The HTTP status of the answer.
    pub fn status(&self) -> u16 {
        self.response.status().as_u16()
    }

    /// The whole answer, for mounts that word their refusals themselves.
    pub fn into_response(self) -> Response<Body> {
        *self.response
    }
}

impl fmt::Debug for NotConnected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NotConnected").field("status", &self.status()).finish_non_exhaustive()
    }
}

/// Lets every shard do what it has to, and what others send it because of that.
async fn settle(endpoint: &Endpoint) {
    /// From a client's message to a broadcast, to a channel elsewhere that intercepts it, to that one's client.
    const HOPS: usize = 4;
    for _ in 0..HOPS {
        for shard in endpoint.shards() {
            let _ = shard.ask(Question::Alive).await;
        }
    }
}

/// Waits for what might still come.
async fn let_arrive(endpoint: &Endpoint) {
    settle(endpoint).await;
    tokio::time::sleep(REFUTAL_WAIT).await;
    settle(endpoint).await;
}
