//! Invariant 3 once more: what a slow reader does not get, by the policy of each topic, and what it is told of that.

use std::time::{Duration, Instant};

use fanfare::testing::Lockstep;
use fanfare::{Endpoint, Mount, Policy, Relay, Retention, Slow};
use serde_json::{Value, json};

use crate::support::guest::Guest;
use crate::support::http::request;
use crate::support::stage::Stage;
use crate::support::{PATIENCE, Served, counter, eventually, serve, stage};

/// What has come, each in short: what its payload is called by, and what is said of its place.
fn heard(guest: &mut Guest, epoch: &str) -> Vec<String> {
    guest.frames().iter().map(|frame| in_short(frame, epoch)).collect()
}

/// `A1` is a message with the symbol A and the number 1, `A1@3` the same with position 3, `gap(latest 2 0-3)` a gap, `ok` a
/// reply.
fn in_short(frame: &Value, epoch: &str) -> String {
    let place = |position: &Value| match position.as_str().and_then(|position| position.split_once(':')) {
        Some((of, offset)) if of == epoch || epoch.is_empty() => offset.to_owned(),
        Some(_) => panic!("{position} is not of {epoch}"),
        None => "?".to_owned(),
    };
    let Some(event) = frame[3].as_str() else { return frame.to_string() };
    let payload = &frame[4];
    let what = match event {
        "gap" => {
            assert_eq!(frame[0], frame[2], "it is a push of the join, whose join_ref is its topic");
            let (from, to) = (place(&payload["from"]), place(&payload["to"]));
            format!("gap({} {} {from}-{to})", payload["reason"].as_str().unwrap(), payload["dropped"])
        }
        "phx_reply" => return payload["status"].as_str().unwrap().to_owned(),
        "phx_error" => return event.to_owned(),
        "tick" => format!("{}{}", payload["symbol"].as_str().unwrap_or_default(), payload["n"]),
        other => format!("{other} {}{}", payload["symbol"].as_str().unwrap_or_default(), payload["n"]),
    };
    if epoch.is_empty() || frame[1].is_null() { what } else { format!("{what}@{}", place(&frame[1])) }
}

/// Publishes `A1` as tick, `A1!` as another event.
fn publish(lockstep: &mut Lockstep, topic: &str, what: &str) {
    let (event, what) = what.strip_suffix('!').map_or(("tick", what), |what| ("tock", what));
    let payload = json!({ "symbol": what[..1], "n": what[1..].parse::<u64>().unwrap() });
    let endpoint = lockstep.endpoint().clone();
    lockstep.run(endpoint.broadcast(topic, event, payload)).unwrap();
}

fn lost(lockstep: &Lockstep) -> [u64; 4] {
    ["slow_consumer", "drop_oldest", "latest", "resync"].map(|reason| counter(lockstep.endpoint(), "drops", reason))
}

const KEEPS_HISTORY: bool = true;
const KEEPS_NOTHING: bool = false;

fn by_symbol() -> Slow {
    Slow::Latest { key: Some("symbol".into()) }
}

/// Three frames may wait for a reader that takes none: the policy, what waits, what leaves when there is room again.
#[test]
fn what_waits_and_what_leaves() {
    #[track_caller]
    fn check(slow: Slow, kept: bool, params: Value, published: &str, expected: &[&str], losses: [u64; 4]) {
        let mut policy = Policy::new().slow(slow.clone());
        if kept {
            policy = policy.history(Retention::default());
        }
        let mount = stage().outbox_frames_max(3);
        let mut lockstep = Lockstep::new(Endpoint::builder().policy("room:*", policy).mount("/socket", mount), 1);
        let [mut reader, mut quick] = std::array::from_fn(|_| Guest::connect(&mut lockstep));
        let epoch = reader.join(&mut lockstep, "room:1", params.clone());
        quick.join(&mut lockstep, "room:1", json!({}));
        reader.pipe.limit(0);
        for what in published.split(' ') {
            publish(&mut lockstep, "room:1", what);
            lockstep.turn();
            assert_eq!(quick.frames().len(), 1, "nobody waits for the slow one");
        }
        assert_eq!(reader.frames().len(), 0);
        lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
        lockstep.settle();
        let all = heard(&mut reader, &epoch);
        assert_eq!(all, expected, "{slow:?} {params} {published}");
        assert_eq!(lost(&lockstep), losses, "{slow:?} {params} {published}");
        if slow == Slow::Disconnect {
            return;
        }
        // It is a reader like any other again.
        publish(&mut lockstep, "room:1", "Z9");
        lockstep.turn();
        assert!(heard(&mut reader, &epoch)[0].starts_with("Z9"));
    }
    let (silent, told, resumes) = (json!({}), json!({ "gap": true }), json!({ "resume": true }));
    let (plain, kept) = (KEEPS_NOTHING, KEEPS_HISTORY);

    check(Slow::Disconnect, plain, told.clone(), "A1 A2 A3 A4", &["1013"], [3, 0, 0, 0]);

    check(Slow::DropOldest, plain, silent.clone(), "A1 A2 A3 A4 A5", &["A3", "A4", "A5"], [0, 2, 0, 0]);
    let gap = "gap(drop_oldest 2 ?-?)";
    check(Slow::DropOldest, plain, told.clone(), "A1 A2 A3 A4 A5", &[gap, "A3", "A4", "A5"], [0, 2, 0, 0]);
    let gap = "gap(drop_oldest 2 0-2)";
    check(Slow::DropOldest, kept, told.clone(), "A1 A2 A3 A4 A5", &[gap, "A3", "A4", "A5"], [0, 2, 0, 0]);
    let gap = "gap(drop_oldest 2 0-2)@0";
    check(Slow::DropOldest, kept, resumes.clone(), "A1 A2 A3 A4 A5", &[gap, "A3@3", "A4@4", "A5@5"], [0, 2, 0, 0]);
    check(Slow::DropOldest, kept, resumes.clone(), "A1 A2 A3", &["A1@1", "A2@2", "A3@3"], [0, 0, 0, 0]);

    let by_event = Slow::Latest { key: None };
    check(by_event.clone(), plain, told.clone(), "A1 A1! B2 B2! A3", &["A3", "tock B2"], [0, 0, 3, 0]);
    check(by_symbol(), plain, told.clone(), "A1 B1 A2 A3 B2", &["A3", "B2"], [0, 0, 3, 0]);
    check(by_symbol(), plain, told.clone(), "A1 A1! A2", &["A2", "tock A1"], [0, 0, 1, 0]);
    // Who came back from 1 would get A3 again; who came back from 3 has got B2.
    check(by_symbol(), kept, resumes.clone(), "A1 B2 A3", &["A3@1", "B2@2"], [0, 0, 1, 0]);
    check(by_symbol(), kept, resumes.clone(), "A1 A2 A3", &["A3@3"], [0, 0, 2, 0]);
    // More keys than there is room for: values that nothing replaced are lost, and that is told.
    let gap = "gap(latest 1 0-1)@0";
    check(by_symbol(), kept, resumes.clone(), "A1 B2 C3 D4 C5", &[gap, "B2@2", "C5@3", "D4@4"], [0, 0, 2, 0]);
    check(by_symbol(), plain, silent.clone(), "A1 B2 C3 D4", &["B2", "C3", "D4"], [0, 0, 1, 0]);

    check(Slow::Resync, plain, silent, "A1 A2 A3 A4 A5", &[], [0, 0, 0, 5]);
    check(Slow::Resync, plain, told.clone(), "A1 A2 A3 A4 A5", &["gap(resync 5 ?-?)"], [0, 0, 0, 5]);
    check(Slow::Resync, kept, resumes.clone(), "A1 A2 A3 A4 A5", &["gap(resync 5 0-5)@0"], [0, 0, 0, 5]);
    check(Slow::Resync, kept, resumes, "A1 A2 A3", &["A1@1", "A2@2", "A3@3"], [0, 0, 0, 0]);
}

/// Topics `oldest`, `newest`, `resync` and `room:1` with the policies of those names, and room for so many frames.
fn all_policies(frames_max: usize) -> Lockstep {
    let mount = Mount::new().channel("*", Stage::default()).outbox_frames_max(frames_max);
    let builder = Endpoint::builder()
        .policy("oldest", Policy::new().slow(Slow::DropOldest))
        .policy("newest", Policy::new().slow(by_symbol()))
        .policy("resync", Policy::new().slow(Slow::Resync));
    Lockstep::new(builder.mount("/socket", mount), 1)
}

fn reader_of_all(lockstep: &mut Lockstep) -> Guest {
    let mut reader = Guest::connect(lockstep);
    for topic in ["oldest", "newest", "resync", "room:1"] {
        reader.join(lockstep, topic, json!({ "gap": true }));
    }
    reader
}

/// Replies, pushes and the messages of topics without a policy stay; the messages of the others make room for them, the oldest
/// first.
#[test]
fn what_must_not_be_lost_is_not() {
    let mut lockstep = all_policies(4);
    let mut reader = reader_of_all(&mut lockstep);
    reader.pipe.limit(0);
    for (topic, what) in [("oldest", "A1"), ("resync", "B1"), ("resync", "B2"), ("newest", "C1")] {
        publish(&mut lockstep, topic, what);
        lockstep.turn();
    }
    reader.push(&mut lockstep, "room:1", "echo", json!({}));
    publish(&mut lockstep, "room:1", "D1");
    lockstep.turn();
    reader.push(&mut lockstep, "room:1", "whisper", json!({ "symbol": "W", "n": 1 }));
    lockstep.turn();
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    let gaps = ["gap(drop_oldest 1 ?-?)", "gap(resync 2 ?-?)"];
    assert_eq!(heard(&mut reader, ""), [gaps[0], gaps[1], "C1", "ok", "D1", "whisper W1"]);
    assert_eq!(lost(&lockstep), [0, 1, 0, 2]);
}

/// A topic makes room for itself first, though another one's messages wait for longer.
#[test]
fn a_topic_costs_others_nothing_as_long_as_it_can() {
    let mut lockstep = all_policies(3);
    let mut reader = reader_of_all(&mut lockstep);
    reader.pipe.limit(0);
    for (topic, what) in [("newest", "C1"), ("oldest", "A1"), ("oldest", "A2"), ("oldest", "A3")] {
        publish(&mut lockstep, topic, what);
        lockstep.turn();
    }
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    assert_eq!(heard(&mut reader, ""), ["C1", "gap(drop_oldest 1 ?-?)", "A2", "A3"]);
}

/// What was published before a reply goes ahead of it, and may give way all the same.
#[test]
fn messages_that_went_ahead_of_a_reply_give_way_like_others() {
    let mut lockstep = all_policies(4);
    let mut reader = reader_of_all(&mut lockstep);
    reader.pipe.limit(0);
    for n in 1..=3 {
        reader.push(&mut lockstep, "oldest", "shout", json!({ "symbol": "A", "n": n }));
    }
    reader.push(&mut lockstep, "oldest", "echo", json!({}));
    lockstep.turn();
    publish(&mut lockstep, "oldest", "B4");
    lockstep.turn();
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    assert_eq!(heard(&mut reader, ""), ["gap(drop_oldest 1 ?-?)", "shout A2", "shout A3", "ok", "B4"]);
}

#[test]
fn without_room_for_what_must_not_be_lost_the_socket_is_closed() {
    let mut lockstep = all_policies(3);
    let mut reader = reader_of_all(&mut lockstep);
    reader.pipe.limit(0);
    for (topic, what) in [("room:1", "A1"), ("oldest", "B1"), ("room:1", "A2"), ("room:1", "A3")] {
        publish(&mut lockstep, topic, what);
        lockstep.turn();
    }
    // Nothing but the message itself could give way to this one.
    publish(&mut lockstep, "oldest", "B2");
    lockstep.turn();
    assert_eq!((lost(&lockstep), counter(lockstep.endpoint(), "closes", "slow_consumer")), ([0, 2, 0, 0], 0));
    reader.push(&mut lockstep, "room:1", "echo", json!({}));
    lockstep.turn();
    assert_eq!(counter(lockstep.endpoint(), "closes", "slow_consumer"), 1);
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    lockstep.turn();
    assert_eq!(heard(&mut reader, ""), ["1013"]);
}

/// Several messages leave in one write, of which the kernel takes a part: the frame that was begun stays whole, and the rest
/// are messages of their own again.
#[test]
fn a_batch_that_was_cut_gives_way_message_by_message() {
    for topic in ["oldest", "newest", "resync"] {
        let mut lockstep = all_policies(3);
        let mut reader = reader_of_all(&mut lockstep);
        publish(&mut lockstep, topic, "A1");
        lockstep.turn();
        let size = reader.pipe.take().len();
        for room in 0..=size * 4 {
            reader.pipe.limit(room);
            for what in ["A2", "A3", "B4", "A5"] {
                publish(&mut lockstep, topic, what);
            }
            lockstep.turn();
            publish(&mut lockstep, topic, "A6");
            lockstep.turn();
            lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
            // Of A2, A3, B4, A5 so many have left, and one has begun to: then two more fit, else three.
            let (left, has_begun) = (room / size, room % size > 0);
            let all = ["A2", "A3", "B4", "A5", "A6"];
            let (sent, rest) = all.split_at((left + usize::from(has_begun)).min(4));
            let fit = if has_begun { 2 } else { 3 };
            let dropped = rest.len().saturating_sub(fit);
            let expected: Vec<String> = match topic {
                _ if room >= size * 4 => sent.iter().chain(rest).map(ToString::to_string).collect(),
                "newest" => {
                    let newest = match rest.iter().position(|what| *what == "B4") {
                        Some(0) => vec!["B4", "A6"],
                        Some(_) => vec!["A6", "B4"],
                        None => vec!["A6"],
                    };
                    sent.iter().chain(&newest).map(ToString::to_string).collect()
                }
                "oldest" => {
                    let gap = (dropped > 0).then(|| format!("gap(drop_oldest {dropped} ?-?)"));
                    sent.iter()
                        .map(ToString::to_string)
                        .chain(gap)
                        .chain(rest[dropped..].iter().map(ToString::to_string))
                        .collect()
                }
                _ if dropped == 0 => all.iter().map(ToString::to_string).collect(),
                _ => sent.iter().map(ToString::to_string).chain([format!("gap(resync {} ?-?)", rest.len())]).collect(),
            };
            assert_eq!(heard(&mut reader, ""), expected, "{topic}: {room} of {size}-byte frames");
        }
    }
}

/// It is live again only when the reader has taken what was before the gap.
#[test]
fn resync_begins_anew_when_the_reader_has_caught_up() {
    let mut lockstep = all_policies(3);
    let mut reader = reader_of_all(&mut lockstep);
    reader.pipe.limit(20);
    for n in 1..=6 {
        publish(&mut lockstep, "resync", &format!("A{n}"));
        lockstep.turn();
    }
    lockstep.make_room(reader.peer, &reader.pipe, 1);
    publish(&mut lockstep, "resync", "A7");
    lockstep.turn();
    assert_eq!(heard(&mut reader, ""), [""; 0], "A1 has begun to leave");
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    publish(&mut lockstep, "resync", "A8");
    lockstep.turn();
    assert_eq!(heard(&mut reader, ""), ["A1", "gap(resync 6 ?-?)", "A8"]);
}

/// A join whose channel crashes while its messages wait comes back from where it was: the gap must have come before that.
#[test]
fn a_gap_is_told_though_its_join_has_ended() {
    let policy = Policy::new().history(Retention::default()).slow(Slow::DropOldest);
    let mount = stage().outbox_frames_max(2);
    let mut lockstep = Lockstep::new(Endpoint::builder().policy("room:*", policy).mount("/socket", mount), 1);
    let mut reader = Guest::connect(&mut lockstep);
    let epoch = reader.join(&mut lockstep, "room:1", json!({ "resume": true }));
    reader.pipe.limit(0);
    for what in ["A1", "A2", "A3"] {
        publish(&mut lockstep, "room:1", what);
        lockstep.turn();
    }
    reader.push(&mut lockstep, "room:1", "fail", json!({}));
    lockstep.turn();
    lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
    assert_eq!(heard(&mut reader, &epoch), ["gap(drop_oldest 2 0-2)@0", "A3@3", "phx_error"]);
}

/// Policies are for what waits, not for what a reader could take at once: two topics in a turn, more messages than may wait.
#[test]
fn a_quick_reader_gets_everything() {
    let mut lockstep = all_policies(3);
    let mut reader = reader_of_all(&mut lockstep);
    let mut expected = Vec::new();
    for n in 0..10 {
        for topic in ["oldest", "newest", "resync"] {
            publish(&mut lockstep, topic, &format!("{}{n}", &topic[..1]));
            expected.push(format!("{}{n}", &topic[..1]));
        }
    }
    lockstep.turn();
    let mut heard = heard(&mut reader, "");
    expected.sort();
    heard.sort();
    assert_eq!(heard, expected);
    assert_eq!(lost(&lockstep), [0; 4]);
}

/// A reader that takes nothing at all is closed when its time is up, whatever gives way for it.
#[test]
fn the_write_deadline_holds_for_every_policy() {
    for slow in [Slow::DropOldest, by_symbol(), Slow::Resync] {
        let mount = stage().write_timeout(Duration::from_secs(10));
        let policy = Policy::new().slow(slow);
        let mut lockstep = Lockstep::new(Endpoint::builder().policy("room:*", policy).mount("/socket", mount), 1);
        let mut reader = Guest::connect(&mut lockstep);
        reader.join(&mut lockstep, "room:1", json!({}));
        reader.pipe.limit(0);
        for n in 0..10 {
            publish(&mut lockstep, "room:1", &format!("A{n}"));
            lockstep.advance(Duration::from_millis(990));
        }
        assert_eq!(counter(lockstep.endpoint(), "closes", "slow_consumer"), 0);
        lockstep.advance(Duration::from_millis(100));
        assert_eq!(counter(lockstep.endpoint(), "closes", "slow_consumer"), 1);
    }
}

async fn served(slow: Slow, mount: Mount) -> Served {
    let policy = Policy::new().history(Retention::default()).slow(slow);
    // One shard: all are served by one thread.
    serve(Endpoint::builder().shards(1).policy("room:*", policy).mount("/socket", mount)).await
}

/// Real clients, one of which stops reading for a while: the other one waits for nothing, and this one gets the newest, a
/// message that was on its way whole, and is told how many it has missed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stalled_reader_costs_nobody_anything_and_goes_on() {
    const COUNT: u64 = 300;
    for slow in [Slow::DropOldest, Slow::Latest { key: Some("symbol".into()) }, Slow::Resync] {
        let served = served(slow.clone(), stage().outbox_bytes_max(1_000_000).write_timeout(PATIENCE * 3)).await;
        let mut stalled = served.client().await;
        assert_eq!(stalled.try_join("room:1", json!({ "gap": true })).await["status"], "ok");
        let mut quick = served.client().await;
        quick.join("room:1").await;
        let body = "x".repeat(100_000);
        let mut longest = Duration::ZERO;
        for n in 1..=COUNT {
            let sent = Instant::now();
            let payload = json!({"n": n, "symbol": n % 3, "body": body});
            served.endpoint.broadcast("room:1", "big", payload).await.unwrap();
            assert_eq!(quick.frame().await[4]["n"], n);
            longest = longest.max(sent.elapsed());
        }
        assert!(longest < Duration::from_secs(2), "{slow:?}: {longest:?} for one message to a quick reader");
        let reason = match slow {
            Slow::DropOldest => "drop_oldest",
            Slow::Resync => "resync",
            _ => "latest",
        };
        let lost = served.counter("drops", reason);
        assert!(lost > 50, "{slow:?}: what it lost is counted, {lost}");
        let (mut got, mut told, mut last) = (0, 0, 0);
        while got + lost < COUNT || (slow == Slow::Resync && told == 0) {
            let frame = stalled.frame().await;
            if frame[3] == "gap" {
                assert_eq!(frame[4]["reason"], reason);
                told += frame[4]["dropped"].as_u64().unwrap();
            } else {
                got += 1;
                last = frame[4]["n"].as_u64().unwrap();
            }
        }
        match slow {
            Slow::DropOldest => assert_eq!((told, last), (lost, COUNT)),
            Slow::Resync => assert!(told == lost && last < COUNT),
            // A value that a newer one has replaced is no gap.
            _ => assert!(told == 0 && last > COUNT - 3, "{told} {last}"),
        }
        served.endpoint.broadcast("room:1", "small", json!({ "n": 0 })).await.unwrap();
        stalled.assert_event("room:1", "small", json!({ "n": 0 })).await;
        stalled.assert_untouched().await;
        assert_eq!(served.counter("closes", "slow_consumer"), 0);
    }
}

/// A client that heeds the gap has everything in the end: it joins again from where that begins.
#[test]
fn who_comes_back_from_a_gap_has_missed_nothing() {
    for slow in [Slow::DropOldest, by_symbol(), Slow::Resync] {
        let policy = Policy::new().history(Retention::default()).slow(slow.clone());
        let mount = stage().outbox_frames_max(10);
        let mut lockstep = Lockstep::new(Endpoint::builder().policy("room:1", policy).mount("/socket", mount), 1);
        let mut reader = Guest::connect(&mut lockstep);
        reader.join(&mut lockstep, "room:2", json!({}));
        let epoch = reader.join(&mut lockstep, "room:1", json!({ "resume": true }));
        reader.pipe.limit(0);
        for n in 0..8 {
            publish(&mut lockstep, "room:2", &format!("X{n}"));
            lockstep.turn();
        }
        for what in ["A1", "B2", "C3", "D4", "E5"] {
            publish(&mut lockstep, "room:1", what);
            lockstep.turn();
        }
        lockstep.make_room(reader.peer, &reader.pipe, usize::MAX);
        let frames = reader.frames();
        assert_eq!(frames[8][3], "gap", "{slow:?}: {frames:?}");
        reader.push(&mut lockstep, "room:1", "phx_join", json!({ "resume": frames[8][4]["from"] }));
        lockstep.settle();
        let mut heard = reader.frames();
        let reply = heard.remove(0);
        assert_eq!(reply[4]["response"]["resume"]["recovered"], true, "{slow:?}: {reply}");
        heard.retain(|frame| frame[3] == "tick");
        let heard: Vec<String> = heard.iter().map(|frame| in_short(frame, &epoch)).collect();
        assert_eq!(heard, ["A1@1", "B2@2", "C3@3", "D4@4", "E5@5"], "{slow:?}");
    }
}

/// Where a reply did not fit into a session, nothing of the same turn goes out behind it: whoever resumes would take it for all there was.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_behind_what_did_not_fit() {
    let served = serve(
        Endpoint::builder()
            .shards(1)
            .policy("room:*", Policy::new().history(Retention::default()))
            .mount("/socket", stage().outbox_bytes_max(1_000)),
    )
    .await;
    let join = json!(["1", "1", "room:1", "phx_join", { "resume": true }]);
    let echo = json!(["1", "2", "room:1", "echo", { "body": "x".repeat(700) }]);
    let shout = json!(["1", "3", "room:1", "shout", {}]);

    let target = "/socket/longpoll?vsn=2.0.0";
    let begun = request(served.address, "GET", target, &[], b"").await.json();
    let target = format!("{target}&token={}", begun["token"].as_str().unwrap());
    request(served.address, "POST", &target, &[], join.to_string().as_bytes()).await;
    request(served.address, "GET", &target, &[], b"").await;
    let waiting = {
        let (address, target) = (served.address, target.clone());
        tokio::spawn(async move { request(address, "GET", &target, &[], b"").await.json() })
    };
    tokio::time::sleep(Duration::from_millis(100)).await;
    let ndjson = [("content-type", "application/x-ndjson")];
    request(served.address, "POST", &target, &ndjson, format!("{echo}\n{echo}\n{shout}").as_bytes()).await;
    let answer = waiting.await.unwrap();
    assert_eq!(answer["status"], 204, "{answer}");
}

/// A long-poll session has the same queue.
#[tokio::test]
async fn sessions_lose_by_the_same_policies() {
    let cases: [(Slow, &[&str], [u64; 3]); 3] = [
        (Slow::DropOldest, &["gap(drop_oldest 3 0-3)@0", "B4@4", "A5@5", "B6@6"], [3, 0, 0]),
        (by_symbol(), &["A5@1", "B6@6"], [0, 4, 0]),
        (Slow::Resync, &["gap(resync 6 0-6)@0"], [0, 0, 6]),
    ];
    for (slow, expected, losses) in cases {
        let served = served(slow.clone(), stage().outbox_frames_max(3)).await;
        let target = "/socket/longpoll?vsn=2.0.0";
        let begun = request(served.address, "GET", target, &[], b"").await.json();
        let target = format!("{target}&token={}", begun["token"].as_str().unwrap());
        let poll = async || {
            let answer = request(served.address, "GET", &target, &[], b"").await.json();
            assert_eq!(answer["status"], 200, "{answer}");
            let messages = answer["messages"].as_array().unwrap().iter();
            messages
                .map(|message| serde_json::from_str::<Value>(message.as_str().unwrap()).unwrap())
                .collect::<Vec<_>>()
        };
        let join = json!(["room:1", "1", "room:1", "phx_join", { "resume": true }]).to_string();
        request(served.address, "POST", &target, &[], join.as_bytes()).await;
        let reply = poll().await.remove(0);
        let position = reply[4]["response"]["resume"]["position"].as_str().unwrap();
        let epoch = position.split(':').next().unwrap();
        for n in 1..=6 {
            let payload = json!({ "symbol": if n % 2 == 0 { "B" } else { "A" }, "n": n });
            served.endpoint.broadcast("room:1", "tick", payload).await.unwrap();
        }
        let arrived = async || served.counter("messages", "delivered") == 1 + 6;
        eventually("all is there", arrived).await;
        let heard: Vec<String> = poll().await.iter().map(|frame| in_short(frame, epoch)).collect();
        assert_eq!(heard, expected, "{slow:?}");
        assert_eq!(["drop_oldest", "latest", "resync"].map(|reason| served.counter("drops", reason)), losses);
        served.endpoint.broadcast("room:1", "tick", json!({ "symbol": "A", "n": 7 })).await.unwrap();
        assert_eq!(in_short(&poll().await[0], epoch), "A7@7");
    }
}

/// Where payloads stand alone a gap is told in the envelope that comes with positions.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gap_in_an_envelope() {
    let served = served(Slow::DropOldest, Mount::rooms().channel("room:*", Relay).outbox_bytes_max(1_000_000)).await;
    let mut client = served.client_at("/socket").await;
    client.send_json(&json!({ "join": "room:1", "since": true })).await;
    let joined = client.frame().await;
    assert_eq!(joined["event"], "joined");
    let body = "x".repeat(100_000);
    for n in 1..=200 {
        served.endpoint.broadcast("room:1", "n", json!({ "n": n, "body": body })).await.unwrap();
    }
    eventually("something is lost", async || served.counter("drops", "drop_oldest") > 100).await;
    let mut last = joined["position"].clone();
    let gap = loop {
        let envelope = client.frame().await;
        if envelope["event"] == "gap" {
            break envelope;
        }
        last = envelope["position"].clone();
    };
    assert_eq!((&gap["topic"], &gap["position"], &gap["payload"]["from"]), (&json!("room:1"), &last, &last));
    let after = client.frame().await;
    let (to, next) = (offset(&gap["payload"]["to"]), offset(&after["position"]));
    assert_eq!((to - offset(&last), next), (gap["payload"]["dropped"].as_u64().unwrap(), to + 1));
}

fn offset(position: &Value) -> u64 {
    position.as_str().unwrap().split_once(':').unwrap().1.parse().unwrap()
}
