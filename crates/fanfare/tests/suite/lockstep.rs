//! The engine step by step: what happens when, down to the bytes.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::testing::{Lockstep, Peer, Pipe, Written};
use fanfare::{BoxError, Channel, Context, Endpoint, Flow, JoinSender, Joined, Mount, Payload, Refused, Reply};
use fanfare_proto::websocket::decoder::{Decoder, Item, Limits, Role, Scratch};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use parking_lot::Mutex;
use serde_json::{Value, json};

use crate::support::stage;
use crate::support::stage::Stage;

/// A client that keeps what it is sent, and joined to `room:1`.
struct Guest {
    peer: Peer,
    pipe: Pipe,
}

impl Guest {
    fn join(lockstep: &mut Lockstep) -> Guest {
        let pipe = Pipe::keeping();
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        let peer = lockstep.connect(request, &pipe).unwrap();
        let guest = Guest { peer, pipe };
        guest.send(lockstep, "phx_join", json!({}));
        lockstep.settle();
        assert_eq!(guest.received(), ["phx_reply {\"response\":{},\"status\":\"ok\"}"]);
        guest
    }

    fn send(&self, lockstep: &mut Lockstep, event: &str, payload: Value) {
        let text = json!(["1", "1", "room:1", event, payload]).to_string();
        let mut frame = Vec::new();
        encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
        lockstep.send(self.peer, &frame);
    }

    /// Events with their payloads, and close codes.
    fn received(&self) -> Vec<String> {
        decode(&mut Decoder::new(Role::Client), self.pipe.take())
    }
}

fn decode(decoder: &mut Decoder, mut bytes: Vec<u8>) -> Vec<String> {
    let mut received = Vec::new();
    let mut sink = |item: Item<'_>| {
        received.push(match item {
            Item::Text(text) => {
                let frame: Value = serde_json::from_str(text).unwrap();
                format!("{} {}", frame[3].as_str().unwrap(), frame[4])
            }
            Item::Close(code) => code.unwrap().to_string(),
            other => format!("{other:?}"),
        });
        std::ops::ControlFlow::Continue(())
    };
    decoder.decode(&mut bytes, &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
    received
}

fn lockstep(mount: Mount, shards: usize) -> Lockstep {
    Lockstep::new(Endpoint::builder().mount("/socket", mount), shards)
}

fn counter(lockstep: &Lockstep, name: &str, reason: &str) -> u64 {
    let counters = lockstep.endpoint().counters();
    counters.iter().find(|(n, r, _)| (*n, *r) == (name, reason)).expect("there is such a counter").2
}

#[test]
fn a_turn_writes_what_was_published_since_the_last_in_one_piece() {
    let mut lockstep = lockstep(stage(), 1);
    let guests = [Guest::join(&mut lockstep), Guest::join(&mut lockstep)];
    let before = guests[1].pipe.written();
    for n in 0..3 {
        guests[0].send(&mut lockstep, "shout", json!({ "n": n }));
    }
    assert_eq!(guests[1].pipe.written(), before, "nothing is written within a turn");
    lockstep.turn();
    assert_eq!(guests[1].pipe.written().writes, before.writes + 1);
    for guest in guests {
        assert_eq!(guest.received(), ["shout {\"n\":0}", "shout {\"n\":1}", "shout {\"n\":2}"]);
    }
}

#[test]
fn shards_take_their_turns_in_order() {
    let mut lockstep = lockstep(stage(), 2);
    // Connections alternate between the shards.
    let [first, second] = [Guest::join(&mut lockstep), Guest::join(&mut lockstep)];
    // To a later shard within the turn, to an earlier one with the next.
    for (from, to, turns) in [(&first, &second, 1), (&second, &first, 1)] {
        from.send(&mut lockstep, "shout", json!({}));
        for _ in 0..turns {
            lockstep.turn();
        }
        assert_eq!(to.received(), ["shout {}"]);
        from.received();
    }
    lockstep.run(lockstep.endpoint().clone().broadcast("room:1", "tick", json!({}))).unwrap();
    assert_eq!(second.received(), [""; 0], "nobody has taken a turn");
    lockstep.turn();
    assert_eq!([first.received(), second.received()].concat(), ["tick {}", "tick {}"]);
}

#[test]
fn a_full_pipe_holds_back_whole_and_half_frames() {
    let mut lockstep = lockstep(stage(), 1);
    let [slow, quick] = [Guest::join(&mut lockstep), Guest::join(&mut lockstep)];
    let mut decoder = Decoder::new(Role::Client);
    slow.pipe.limit(10);
    for n in 0..3 {
        quick.send(&mut lockstep, "shout", json!({ "n": n }));
        lockstep.turn();
        assert_eq!(quick.received().len(), 1, "nobody waits for the slow one");
    }
    assert_eq!(decode(&mut decoder, slow.pipe.take()), [""; 0]);
    lockstep.make_room(slow.peer, &slow.pipe, 60);
    assert_eq!(decode(&mut decoder, slow.pipe.take()), ["shout {\"n\":0}"]);
    lockstep.make_room(slow.peer, &slow.pipe, usize::MAX);
    assert_eq!(decode(&mut decoder, slow.pipe.take()), ["shout {\"n\":1}", "shout {\"n\":2}"]);
}

#[test]
fn a_reader_that_stands_still_is_closed_when_its_time_is_up() {
    let mut lockstep = lockstep(stage().write_timeout(Duration::from_secs(10)), 1);
    let slow = Guest::join(&mut lockstep);
    slow.pipe.limit(0);
    slow.send(&mut lockstep, "shout", json!({}));
    lockstep.advance(Duration::from_millis(9_990));
    assert_eq!(counter(&lockstep, "closes", "slow_consumer"), 0);
    lockstep.advance(Duration::from_millis(10));
    assert_eq!(counter(&lockstep, "closes", "slow_consumer"), 1);
    lockstep.make_room(slow.peer, &slow.pipe, usize::MAX);
    lockstep.turn();
    assert_eq!(slow.received(), ["1013"]);
    assert!(slow.pipe.has_ended());
}

#[test]
fn either_direction_may_end() {
    let channel = Stage::default();
    let mut lockstep = lockstep(Mount::new().channel("room:*", channel.clone()), 1);
    let [gone, broken, stays] = std::array::from_fn(|_| Guest::join(&mut lockstep));
    lockstep.hang_up(gone.peer);
    assert_eq!(channel.ends().len(), 1);
    broken.pipe.break_off();
    lockstep.turn();
    assert_eq!(channel.ends().len(), 1, "nobody knows before something is written");
    stays.send(&mut lockstep, "shout", json!({}));
    lockstep.turn();
    assert_eq!(channel.ends().len(), 2);
    assert_eq!(stays.received(), ["shout {}"]);
    let count = lockstep.endpoint().clone();
    assert_eq!(count.sockets(), 1);
    // Of a socket that is gone: lost, like the bytes of a real one.
    gone.send(&mut lockstep, "shout", json!({}));
    lockstep.settle();
    assert_eq!(stays.received(), [""; 0]);
}

#[test]
fn the_mount_decides_who_connects() {
    let mut lockstep = lockstep(stage(), 1);
    for (uri, status) in [("/elsewhere", 404), ("/socket/websocket?vsn=9", 403)] {
        let request = Request::get(uri).body(()).unwrap();
        assert_eq!(lockstep.connect(request, &Pipe::keeping()).unwrap_err().status(), status, "{uri}");
    }
}

#[test]
fn a_pipe_that_discards_serves_many() {
    let mut lockstep = lockstep(stage(), 1);
    let pipe = Pipe::discarding();
    let listener = Guest::join(&mut lockstep);
    for _ in 0..100 {
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        let peer = lockstep.connect(request, &pipe).unwrap();
        Guest { peer, pipe: pipe.clone() }.send(&mut lockstep, "phx_join", json!({}));
    }
    lockstep.turn();
    let joined = pipe.written();
    assert_eq!(joined.writes, 100);
    listener.send(&mut lockstep, "shout", json!({}));
    lockstep.turn();
    let frame = listener.pipe.take().len() as u64;
    assert_eq!(pipe.written(), Written { bytes: joined.bytes + 100 * frame, writes: 200 });
}

/// Answers with what it has to ask the engine for.
struct Asks;

impl Channel for Asks {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::ok(json!(cx.endpoint().topics().await.len())))
    }
}

#[test]
fn code_that_waits_goes_on_in_a_later_turn() {
    let mut lockstep = lockstep(Mount::new().channel("room:*", Asks), 1);
    let guest = Guest::join(&mut lockstep);
    guest.send(&mut lockstep, "ask", json!({}));
    let mut turns = 0;
    let answer = loop {
        lockstep.turn();
        turns += 1;
        if let [answer] = &guest.received()[..] {
            break answer.clone();
        }
    };
    assert_eq!(answer, "phx_reply {\"response\":1,\"status\":\"ok\"}");
    assert_eq!(turns, 2, "one that asks and goes on, one that writes the answer");
}

#[test]
#[should_panic = "waits for something that nothing in the engine brings about"]
fn a_future_that_nobody_wakes_is_told_of() {
    lockstep(stage(), 1).run(std::future::pending::<()>());
}

/// What comes behind messages that did not fit must not be seen: a client that counts positions would take them for had.
#[test]
fn a_socket_whose_outbox_overflowed_gets_nothing_more_but_its_close() {
    let policy = fanfare::Policy::new().history(fanfare::Retention::default());
    let builder = Endpoint::builder().policy("*", policy).mount("/socket", stage().outbox_frames_max(10));
    let mut lockstep = Lockstep::new(builder, 1);
    let pipe = Pipe::keeping();
    let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
    let guest = Guest { peer: lockstep.connect(request, &pipe).unwrap(), pipe };
    guest.send(&mut lockstep, "phx_join", json!({ "resume": true }));
    lockstep.settle();
    guest.received();
    guest.pipe.limit(0);
    // Five messages leave in one piece ahead of an answer, and do not fit behind eight others; one and its answer would.
    for (event, count) in [("echo", 8), ("shout", 5), ("echo", 1), ("shout", 1), ("echo", 1)] {
        (0..count).for_each(|_| guest.send(&mut lockstep, event, json!({})));
    }
    lockstep.turn();
    lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
    lockstep.turn();
    let received = guest.received();
    assert!(!received.iter().any(|frame| frame.starts_with("shout")), "{received:?}");
    assert_eq!(received.last().map(String::as_str), Some("1013"));
}

/// Reminds itself of what it is told, after an hour.
struct Reminders;

impl Channel for Reminders {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        cx.send_after(HOUR, ());
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, _: Payload) -> Result<Reply, BoxError> {
        cx.send_after(if event == "never" { Duration::MAX } else { HOUR }, ());
        Ok(Reply::none())
    }

    async fn handle_info(&self, _: &mut (), cx: &mut Context, (): ()) -> Result<Flow, BoxError> {
        cx.push("reminder", json!({}))?;
        Ok(Flow::Continue)
    }
}

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn clients_that_are_gone_leave_no_timers() {
    let mut lockstep = lockstep(stage(), 2);
    let stays = Guest::join(&mut lockstep);
    let pipe = Pipe::discarding();
    for n in 0..5_000 {
        let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
        let peer = lockstep.connect(request, &pipe).unwrap();
        Guest { peer, pipe: pipe.clone() }.send(&mut lockstep, "phx_join", json!({}));
        if n % 100 == 0 {
            lockstep.advance(Duration::from_millis(10));
        }
        lockstep.hang_up(peer);
    }
    lockstep.settle();
    assert_eq!(lockstep.timers(), 1, "that of the one who stays");
    stays.send(&mut lockstep, "shout", json!({}));
    lockstep.settle();
    assert_eq!(stays.received(), ["shout {}"]);
}

#[test]
fn what_a_channel_sends_to_itself_later_goes_with_its_join() {
    let mut lockstep = lockstep(Mount::new().channel("room:*", Reminders).idle_timeout(HOUR * 9), 1);
    let guest = Guest::join(&mut lockstep);
    assert_eq!(lockstep.timers(), 2);
    for event in ["hour", "never"] {
        guest.send(&mut lockstep, event, json!({}));
    }
    lockstep.settle();
    assert_eq!(lockstep.timers(), 4);
    lockstep.advance(HOUR);
    assert_eq!(guest.received(), ["reminder {}", "reminder {}"]);
    assert_eq!(lockstep.timers(), 2);
    guest.send(&mut lockstep, "hour", json!({}));
    guest.send(&mut lockstep, "phx_leave", json!({}));
    lockstep.settle();
    assert_eq!(lockstep.timers(), 1, "the socket's own");
    lockstep.advance(HOUR);
    assert_eq!(guest.received(), ["phx_reply {\"response\":{},\"status\":\"ok\"}", "phx_close {}"]);
}

/// A client that sends much in one piece has its share of each turn, and no more.
#[test]
fn a_socket_handles_256_messages_at_a_time() {
    let mut lockstep = lockstep(stage(), 1);
    let guest = Guest::join(&mut lockstep);
    let mut frames = Vec::new();
    for _ in 0..600 {
        let text = json!([null, "1", "phoenix", "heartbeat", {}]).to_string();
        encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frames);
    }
    // The first share when the bytes come, another in each turn.
    lockstep.send(guest.peer, &frames);
    let mut answered = Vec::new();
    for _ in 0..3 {
        lockstep.turn();
        answered.push(guest.received().len());
    }
    assert_eq!(answered, [512, 88, 0]);
}

/// Gives away what sends to its joins, and counts what they were sent.
#[derive(Clone, Default)]
struct Open {
    senders: Arc<Mutex<Vec<JoinSender<u32>>>>,
    infos: Arc<AtomicUsize>,
}

impl Channel for Open {
    type State = ();
    type Params = Payload;
    type Info = u32;

    async fn join(&self, cx: &mut Context<u32>, _: Payload) -> Result<Joined<()>, Refused> {
        self.senders.lock().push(cx.sender());
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context<u32>, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }

    async fn handle_info(&self, _: &mut (), _: &mut Context<u32>, _: u32) -> Result<Flow, BoxError> {
        self.infos.fetch_add(1, Ordering::Relaxed);
        Ok(Flow::Continue)
    }
}

/// What other threads send to joins waits for their shard within a bound: whoever sends more is told, and can send again later.
#[test]
fn what_other_threads_send_to_joins_has_a_bound() {
    let open = Open::default();
    let mut lockstep = lockstep(Mount::new().channel("room:*", open.clone()), 1);
    let _guest = Guest::join(&mut lockstep);
    let sender = open.senders.lock()[0].clone();
    let sent = (0..100_000).take_while(|&n| sender.send(n).is_ok()).count();
    assert_eq!(sent, 65_536);
    let error = sender.send(0).unwrap_err();
    assert!(error.is_unavailable(), "{error}");
    lockstep.settle();
    assert_eq!(open.infos.load(Ordering::Relaxed), sent, "what was taken is not lost");
    sender.send(0).unwrap();
}
