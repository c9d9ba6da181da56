//! How often messages may be posted: the rate of a socket, for a token at an address, since each request comes alone. The answers and
//! their headers are those of Supabase.

use fanfare_proto::rate::{Bucket, Rate};
use http::header::{HeaderName, RETRY_AFTER};
use http::{Response, StatusCode};

use super::message;
use crate::address::block;
use crate::authority::TokenHash;
use crate::body::Body;
use crate::event::{Action, Event, Limit};
use crate::fact::{Fact, Kind, Who};
use crate::service::admission::Asking;

/// What a rate leaves to a sender.
pub(super) struct Left {
    rate: Rate,
    now: u32,
}

/// The sender has posted more than it may: after how many nanoseconds it may go on.
pub(super) struct TooMany {
    left: Left,
    wait_ns: u64,
}

impl Asking<'_> {
    /// Counts messages of a sender; `None` where there is no rate.
    pub(super) fn spend(&self, token: &str, messages: usize) -> Result<Option<Left>, TooMany> {
        let (endpoint, mount) = (self.endpoint, &self.found.mount);
        let (Some(rate), Some(connection)) = (mount.rates.messages, self.connection) else { return Ok(None) };
        let now_ns = endpoint.clock().now_us().saturating_mul(1_000);
        let key = (block(connection.peer.ip()), TokenHash::of(token));
        let taken = endpoint.gate().post_rates.with(&key, now_ns, |bucket: &mut Bucket| {
            (bucket.take(rate, now_ns, messages as u64), bucket.left(rate, now_ns))
        });
        let Some((taken, now)) = taken else {
            endpoint.own_counters().count(Event::KeysMaxPassed);
            return Ok(None);
        };
        let left = Left { rate, now };
        let Err(wait_ns) = taken else { return Ok(Some(left)) };
        let (name, ms) = (Limit::Messages.name(), wait_ns.div_ceil(1_000_000));
        let fact = Fact {
            kind: Kind::Limited,
            event: Limit::Messages.event(Action::Refused),
            who: Who { user: None, address: Some(connection.peer), endpoint: mount.path.as_ref() },
            topic: None,
            code: Some(StatusCode::TOO_MANY_REQUESTS.as_u16()),
            detail: format_args!(
                "more messages were posted with one token than {name} allows, which is {} a second and {} at once: the next in {ms} ms",
                rate.each_second(),
                rate.at_once()
            ),
        };
        fact.tell(endpoint.own_counters());
        Err(TooMany { left, wait_ns })
    }
}

impl Left {
    /// Tells it with an answer.
    pub(super) fn tell(&self, answer: &mut Response<Body>) {
        let headers = answer.headers_mut();
        for (name, number) in [
            ("x-rate-limit", self.rate.each_second()),
            ("x-rate-limit-remaining", self.now),
            ("x-rate-rolling", self.rate.at_once().saturating_sub(self.now)),
        ] {
            headers.insert(HeaderName::from_static(name), number.into());
        }
    }
}

impl TooMany {
    pub(super) fn answer(&self) -> Response<Body> {
        let mut answer = message(StatusCode::TOO_MANY_REQUESTS, "You have exceeded your rate limit");
        answer.headers_mut().insert(RETRY_AFTER, self.wait_ns.div_ceil(1_000_000_000).into());
        self.left.tell(&mut answer);
        answer
    }
}
