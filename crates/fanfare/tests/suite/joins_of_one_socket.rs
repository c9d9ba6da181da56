//! A socket with very many joins: each costs what the first did.

use std::time::{Duration, Instant};

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{BoxError, Channel, Context, Endpoint, Flow, Joined, Mount, Payload, Refused, Reply};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

const JOINS: usize = 40_000;

/// So many joins are timed together, and the fastest of a few such parts counts, so that other programs do not.
const PART: usize = 500;
const PARTS: usize = 8;

/// The last ones may take so many times as long as the first.
const SLOWER_MAX: u32 = 4;

/// Wants to see what its members get.
struct Sees;

impl Channel for Sees {
    type State = ();
    type Params = Payload;
    type Info = ();

    const INTERCEPT: &'static [&'static str] = &["n"];

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, payload: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::ok(payload))
    }

    async fn handle_out(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Flow, BoxError> {
        cx.push(event, payload)?;
        Ok(Flow::Continue)
    }
}

fn send(lockstep: &mut Lockstep, peer: Peer, frame: &Value) {
    let mut bytes = Vec::new();
    encode_masked(Opcode::Text, frame.to_string().as_bytes(), [1, 2, 3, 4], true, false, &mut bytes);
    lockstep.send(peer, &bytes);
    lockstep.settle();
}

/// Does something for each join; what the fastest part of the first and of the last took.
fn timed(joins: std::ops::Range<usize>, mut each: impl FnMut(usize)) -> (Duration, Duration) {
    let numbers: Vec<usize> = joins.collect();
    let took: Vec<Duration> = numbers
        .chunks(PART)
        .map(|part| {
            let started = Instant::now();
            part.iter().for_each(|&number| each(number));
            started.elapsed()
        })
        .collect();
    let fastest = |parts: &[Duration]| *parts.iter().min().unwrap();
    (fastest(&took[..PARTS]), fastest(&took[took.len() - PARTS..]))
}

#[test]
fn joining_speaking_hearing_and_leaving_cost_the_same_however_many_there_are() {
    let mount = Mount::new().joins_max(JOINS).channel("*", Sees);
    let mut lockstep = Lockstep::new(Endpoint::builder().mount("/socket", mount), 1);
    let pipe = Pipe::discarding();
    let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
    let peer = lockstep.connect(request, &pipe).unwrap();

    let topic = |number: usize| format!("room:{number}");
    let (first, last) = timed(0..JOINS, |number| {
        send(&mut lockstep, peer, &json!(["1", "1", topic(number), "phx_join", {}]));
    });
    assert!(last < first * SLOWER_MAX, "{PART} joins took {first:?} at first, and {last:?} at last");
    let endpoint = lockstep.endpoint().clone();
    assert_eq!(lockstep.run(endpoint.topics()).len(), JOINS);

    // By one that joined early, since a list would be looked through from its beginning.
    let mut once = |what: &str, number: usize, each: &mut dyn FnMut(&mut Lockstep, usize)| {
        let (took, _) = timed(number..number + PART * PARTS, |number| each(&mut lockstep, number));
        assert!(took < first * SLOWER_MAX, "{PART} of {what} took {took:?}, and {PART} joins {first:?}");
    };
    once("messages", JOINS - PART * PARTS, &mut |lockstep, number| {
        send(lockstep, peer, &json!(["1", "2", topic(number), "e", {}]));
    });
    once("intercepted events", JOINS - PART * PARTS, &mut |lockstep, number| {
        lockstep.run(endpoint.broadcast(&topic(number), "n", json!({}))).unwrap();
        lockstep.settle();
    });
    once("leaves", JOINS / 2, &mut |lockstep, number| {
        send(lockstep, peer, &json!(["1", "3", topic(number), "phx_leave", {}]));
    });
    assert_eq!(lockstep.run(endpoint.topics()).len(), JOINS - PART * PARTS);
}
