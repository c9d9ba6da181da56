//! Presence in large topics: what a crowd costs, that all see the same whatever is merged, and the topics that only count.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{Endpoint, Extras, Mount, Presence, PresenceHooks, Route};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use http_body_util::{BodyExt, Full};
use hyper::service::Service;
use serde_json::{Value, json};

use crate::simulation::Dice;
use crate::support::guest::Guest;
use crate::support::roster::{Roster, refs};
use crate::support::stage::Stage;

fn lockstep(shards: usize, presence: Presence) -> Lockstep {
    lockstep_of(Mount::new(), shards, presence)
}

fn lockstep_of(mount: Mount, shards: usize, presence: Presence) -> Lockstep {
    let route = Route::new("room:*", Stage::default()).presence(presence);
    Lockstep::new(Endpoint::builder().mount("/socket", mount.channel_with(route)), shards)
}

fn counter(lockstep: &Lockstep, name: &str, reason: &str) -> u64 {
    let counters = lockstep.endpoint().counters();
    counters.iter().find(|(n, r, _)| (*n, *r) == (name, reason)).expect("there is such a counter").2
}

fn connect(lockstep: &mut Lockstep, pipe: &Pipe) -> Peer {
    let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
    lockstep.connect(request, pipe).unwrap()
}

/// Joins `room:1` as a member of its presence.
fn enter(lockstep: &mut Lockstep, peer: Peer, name: &str) {
    let text = json!(["1", "1", "room:1", "phx_join", {"track": name, "at": 1_764_444_444}]).to_string();
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
    lockstep.send(peer, &frame);
}

/// Who joins a roster of n has to be sent the metas of all n once, in a state or in diffs: all together n times the state of all.
/// This is how many bytes are sent for one that must be, with frames, envelopes and the answers to the joins.
#[track_caller]
fn sent_for_one(members: usize, joins_per_turn: usize, shards: usize) -> f64 {
    let mut lockstep = lockstep(shards, Presence::new());
    let pipe = Pipe::discarding();
    let peers: Vec<Peer> = (0..members).map(|_| connect(&mut lockstep, &pipe)).collect();
    lockstep.settle();
    let before = pipe.written().bytes;
    for (number, peer) in peers.into_iter().enumerate() {
        enter(&mut lockstep, peer, &format!("user{number:05}"));
        if number % joins_per_turn == joins_per_turn - 1 {
            lockstep.turn();
        }
    }
    lockstep.settle();
    let roster = lockstep.run(lockstep.endpoint().clone().presences("room:1"));
    assert_eq!(roster.to::<BTreeMap<String, Value>>().unwrap().len(), members);
    assert_eq!(counter(&lockstep, "closes", "slow_consumer"), 0);
    (pipe.written().bytes - before) as f64 / (members * roster.as_str().len()) as f64
}

/// Ten thousand where that does not take a minute: without optimisation, each text that is put together is parsed again.
#[test]
fn ten_thousand_who_join_one_topic_are_sent_little_beyond_each_others_metas() {
    let ratio = sent_for_one(if cfg!(debug_assertions) { 2_000 } else { 10_000 }, 100, 1);
    assert!((1.0..1.05).contains(&ratio), "{ratio}");
}

#[test]
fn a_crowd_that_comes_in_one_turn_is_not_sent_twice() {
    let ratio = sent_for_one(1_000, usize::MAX, 1);
    assert!((1.0..1.2).contains(&ratio), "{ratio}");
}

#[test]
fn a_crowd_over_several_shards_is_not_sent_twice() {
    let ratio = sent_for_one(1_000, 100, 4);
    assert!((1.0..1.2).contains(&ratio), "{ratio}");
}

/// Somebody who has tracked so much that a state has 300 KB.
fn with_a_large_roster(lockstep: &mut Lockstep) -> Guest {
    let mut dice = Dice(7);
    let mut keeper = Guest::connect(lockstep);
    keeper.join(lockstep, "room:1", json!({}));
    for number in 0..150 {
        let about = about(&mut dice, 2_000);
        keeper.push(
            lockstep,
            "room:1",
            "track",
            json!({ "key": format!("kept{number:03}"), "meta": { "about": about } }),
        );
        lockstep.settle();
    }
    keeper.frames();
    keeper
}

/// A text that compresses badly.
fn about(dice: &mut Dice, size: usize) -> String {
    (0..size)
        .map(|_| char::from(b'0' + dice.below(64) as u8).to_ascii_lowercase())
        .filter(|char| *char != '\\')
        .collect()
}

/// The memory of this process, in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<usize>().unwrap() * 1024
}

/// 400 who join in one turn and take nothing. All that waits for them is much less than a copy of the roster for each.
#[track_caller]
fn wait_once_for_all(mount: Mount, presence: Presence, extensions: Option<&str>) {
    let mut lockstep = lockstep_of(mount, 1, presence);
    let _keeper = with_a_large_roster(&mut lockstep);
    let stalled: Vec<(Peer, Pipe)> = (0..400)
        .map(|_| {
            let pipe = Pipe::discarding();
            let mut request = Request::get("/socket/websocket?vsn=2.0.0");
            if let Some(extensions) = extensions {
                request = request.header("sec-websocket-extensions", extensions);
            }
            let peer = lockstep.connect(request.body(()).unwrap(), &pipe).unwrap();
            pipe.limit(0);
            (peer, pipe)
        })
        .collect();
    let before = resident();
    for (number, (peer, _)) in stalled.iter().enumerate() {
        enter(&mut lockstep, *peer, &format!("user{number:05}"));
    }
    // Hooks are asked on the runtime, which gives back a little each time.
    (0..20).for_each(|_| lockstep.settle());
    // 120 MB, if each had a copy; 80 MB, compressed.
    let more = resident().saturating_sub(before);
    assert!(more < 30_000_000, "{more} bytes");
    for (peer, pipe) in &stalled {
        lockstep.make_room(*peer, pipe, usize::MAX);
        let (written, least) = (pipe.written().bytes, if extensions.is_some() { 200_000 } else { 300_000 });
        assert!(written > least, "{written} bytes");
    }
}

#[test]
fn a_large_roster_waits_once_for_all_who_join_in_one_turn() {
    wait_once_for_all(Mount::new(), Presence::new(), None);
}

#[test]
fn a_large_roster_waits_once_for_all_whose_connections_are_compressed() {
    wait_once_for_all(Mount::new().compression(true), Presence::new(), Some("permessage-deflate"));
}

/// Adds a name to each.
#[derive(Default)]
struct Names {
    asked: Arc<AtomicUsize>,
}

impl PresenceHooks for Names {
    async fn fetch(&self, _: &str, keys: Vec<String>) -> Extras {
        self.asked.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        keys.into_iter().map(|key| (key.clone(), [("name".to_owned(), json!(key))].into_iter().collect())).collect()
    }
}

#[test]
fn a_large_roster_waits_once_for_all_whose_presence_has_hooks() {
    let names = Names::default();
    let asked = names.asked.clone();
    wait_once_for_all(Mount::new().compression(true), Presence::new().hooks(names), Some("permessage-deflate"));
    // Once for each change before; then a few times for all who are told.
    assert!(asked.load(Ordering::Relaxed) < 200, "{asked:?} calls for 150 changes and 400 who join");
}

/// The messages of streams whose bodies nobody polls wait as those of WebSockets do.
#[tokio::test(flavor = "multi_thread", worker_threads = 1)]
async fn a_large_roster_waits_once_for_all_streams() {
    let route = Route::new("room:*", Stage::default());
    let mount = Mount::stream().write_timeout(Duration::from_secs(600)).channel_with(route);
    let endpoint = Endpoint::builder().mount("/streams", mount).shards(1).build().await.unwrap();
    let mut dice = Dice(7);
    let join = async |key: String, at: String, accept: &str| {
        let uri = format!("/streams/room:1?params[track]={key}&params[at]={at}");
        let request = Request::get(uri).header("accept", accept).body(Full::<Bytes>::default()).unwrap();
        let response = Service::call(&endpoint, request).await.unwrap();
        assert_eq!(response.status(), 200);
        response
    };
    let told = async |members: usize| {
        let all_are_there = async {
            while endpoint.presence_count("room:1") < members {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(60), all_are_there).await.expect("all are present");
        endpoint.is_alive(Duration::from_secs(5)).await;
    };
    let mut streams = Vec::new();
    for number in 0..150 {
        let about = (0..2_000).map(|_| char::from(b'a' + dice.below(26) as u8)).collect();
        streams.push(join(format!("kept{number:03}"), about, "text/event-stream").await);
    }
    told(150).await;
    let before = resident();
    for number in 0..400 {
        let accept = if number % 2 == 0 { "text/event-stream" } else { "*/*" };
        streams.push(join(format!("user{number:05}"), "1".to_owned(), accept).await);
    }
    told(550).await;
    let more = resident().saturating_sub(before);
    assert!(more < 40_000_000, "{more} bytes; 120 MB, if each had a copy");
    // What waits is whole.
    for mut stream in streams.split_off(548) {
        let mut text = Vec::new();
        let payload = loop {
            text.extend(stream.frame().await.unwrap().unwrap().into_data().unwrap());
            let told = std::str::from_utf8(&text).unwrap().split_inclusive('\n').find_map(|line| {
                let line = line.strip_suffix('\n')?;
                let data = line.strip_prefix("data: ").and_then(|data| serde_json::from_str::<Value>(data).ok());
                let payload = data.or_else(|| Some(serde_json::from_str::<Value>(line).ok()?["payload"].take()))?;
                payload.get("kept000").is_some().then_some(payload)
            });
            if let Some(payload) = told {
                break payload;
            }
        };
        assert!(payload.as_object().unwrap().len() > 540, "{}", payload.as_object().unwrap().len());
    }
}

#[test]
fn a_large_roster_is_whole_however_it_is_cut() {
    let mut lockstep = lockstep(1, Presence::new());
    let _keeper = with_a_large_roster(&mut lockstep);
    for room in [1, 3, 999, 70_000] {
        let mut guest = Guest::connect(&mut lockstep);
        guest.pipe.limit(0);
        guest.push(&mut lockstep, "room:1", "phx_join", json!({ "track": format!("user{room}"), "at": 1 }));
        guest.push(&mut lockstep, "room:1", "echo", json!({ "behind": true }));
        lockstep.settle();
        // Small pieces at first, among them the end of the frame's head; then more.
        for part in [1, 2, 3, 50, 60, room, room, room] {
            lockstep.make_room(guest.peer, &guest.pipe, part);
        }
        lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
        let listed: Value = lockstep.run(lockstep.endpoint().clone().presences("room:1")).to().unwrap();
        let frames = guest.frames();
        let told = frames.iter().find(|frame| frame[3] == "presence_state").unwrap();
        assert_eq!(told[4], listed, "{room}");
        assert_eq!(told[0], "room:1");
        assert!(frames.iter().any(|frame| frame[4]["response"]["behind"] == true));
        lockstep.hang_up(guest.peer);
        lockstep.settle();
    }
}

/// A slow reader is closed in the middle of a roster: the frame that was begun goes on to its end, and then comes the close.
#[test]
fn a_large_roster_that_has_begun_to_leave_is_ended_before_a_close() {
    let mut lockstep = lockstep(1, Presence::new());
    let _keeper = with_a_large_roster(&mut lockstep);
    let mut guest = Guest::connect(&mut lockstep);
    guest.pipe.limit(5_000);
    guest.push(&mut lockstep, "room:1", "phx_join", json!({ "track": "slow", "at": 1 }));
    lockstep.settle();
    // More than fits.
    for _ in 0..30 {
        guest.push(&mut lockstep, "room:1", "state", json!({}));
    }
    lockstep.settle();
    lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
    let frames = guest.frames();
    let events: Vec<&str> = frames.iter().filter_map(|frame| frame[3].as_str()).collect();
    assert_eq!(events, ["phx_reply", "presence_state"]);
    assert_eq!(frames.last(), Some(&json!(1013)));
}

/// Members come, change, ask for the state again, go and are lost, on the shards and beside them, while turns end at any time:
/// whatever is merged, whoever watches sees in the end who is there.
#[test]
fn whatever_is_merged_all_see_the_same() {
    let mut checked = 0;
    for seed in 1..=150 {
        let grace = Duration::from_millis(if seed % 3 == 0 { 50 } else { 0 });
        let mut lockstep = lockstep(1 + seed as usize % 3, Presence::new().leave_grace(grace));
        let mut dice = Dice(seed);
        let mut guests: Vec<Option<Guest>> = (0..8).map(|_| None).collect();
        for step in 0..200 {
            let (number, later) = (dice.below(guests.len()), dice.one_in(3));
            let key = format!("user{}", dice.below(4));
            let mut push = |guest: &Guest, event, payload| guest.push(&mut lockstep, "room:1", event, payload);
            match (&mut guests[number], dice.below(8)) {
                (empty @ None, _) => {
                    let guest = Guest::connect(&mut lockstep);
                    guest.push(&mut lockstep, "room:1", "phx_join", json!({ "track": key, "at": step }));
                    *empty = Some(guest);
                }
                // Two of a key are an error of the channel's, which ends the join.
                (Some(guest), 0) => push(guest, "track", json!({ "key": key, "meta": {}, "later": later })),
                (Some(guest), 1) => push(guest, "untrack", json!({ "key": key, "later": later })),
                (Some(guest), 2) => push(guest, "state", json!({ "later": later })),
                (Some(guest), 3) => push(guest, "phx_join", json!({ "track": key, "at": step })),
                (gone @ Some(_), 4) => lockstep.hang_up(gone.take().unwrap().peer),
                _ => lockstep.turn(),
            }
            if dice.one_in(40) {
                lockstep.advance(Duration::from_millis(30));
            }
        }
        lockstep.advance(Duration::from_secs(1));
        let listed = lockstep.run(lockstep.endpoint().clone().presences("room:1")).to::<BTreeMap<String, Value>>();
        let expected: BTreeMap<_, _> = listed.unwrap().into_iter().map(|(key, of)| (key, sorted(refs(&of)))).collect();
        for (number, guest) in guests.iter_mut().flatten().enumerate() {
            let mut joined = None;
            for frame in guest.frames() {
                match (frame[3].as_str().unwrap(), &mut joined) {
                    ("phx_reply", _) if frame[4]["status"] == "ok" => joined = Some(Roster::default()),
                    ("phx_error", _) => joined = None,
                    (event, Some(roster)) => roster.take(event, frame[4].clone()),
                    _ => {}
                }
            }
            if let Some(present) = joined.and_then(|roster| roster.present) {
                checked += 1;
                let present: BTreeMap<_, _> = present.into_iter().map(|(key, refs)| (key, sorted(refs))).collect();
                assert_eq!(present, expected, "seed {seed}, guest {number}");
            }
        }
    }
    assert!(checked > 300, "{checked} had joined and were told");
}

fn sorted(mut refs: Vec<String>) -> Vec<String> {
    refs.sort();
    refs
}

/// The counts that a guest has been told since the last time.
fn counts(guest: &mut Guest) -> Vec<u64> {
    let told = |frame: Value| match frame[3].as_str().unwrap() {
        "presence_count" => Some(frame[4]["count"].as_u64().unwrap()),
        "presence_state" | "presence_diff" => panic!("{frame}"),
        _ => None,
    };
    guest.frames().into_iter().filter_map(told).collect()
}

#[test]
fn a_topic_that_only_counts_tells_once_a_second_at_most_how_many_there_are() {
    let mut lockstep = lockstep(1, Presence::new().counts_only());
    let pipe = Pipe::discarding();
    let mut first = Guest::connect(&mut lockstep);
    first.push(&mut lockstep, "room:1", "phx_join", json!({ "track": "first", "at": 1 }));
    lockstep.settle();
    assert_eq!(counts(&mut first), [1, 1], "who comes is told, and then all are");
    let crowd: Vec<Peer> = (0..1_000).map(|_| connect(&mut lockstep, &pipe)).collect();
    for (number, &peer) in crowd.iter().enumerate() {
        // Two of each key: keys are counted.
        enter(&mut lockstep, peer, &format!("user{}", number / 2));
        lockstep.turn();
    }
    let mut second = Guest::connect(&mut lockstep);
    second.push(&mut lockstep, "room:1", "phx_join", json!({}));
    second.push(&mut lockstep, "room:1", "state", json!({}));
    lockstep.settle();
    assert_eq!(counts(&mut second), [501], "a state says what is");
    assert_eq!(counts(&mut first), [0; 0], "within the second nothing is told");
    lockstep.advance(Duration::from_secs(1));
    assert_eq!((counts(&mut first), counts(&mut second)), (vec![501], vec![501]));
    assert_eq!(lockstep.endpoint().presence_count("room:1"), 501);
    assert_eq!(lockstep.run(lockstep.endpoint().clone().presences("room:1")).as_str(), "{}");
    // A crowd that goes is one number as well; when nothing changes, nothing is told, and the next change is told at once.
    crowd.into_iter().for_each(|peer| lockstep.hang_up(peer));
    lockstep.advance(Duration::from_secs(5));
    assert_eq!(counts(&mut first), [1]);
    first.push(&mut lockstep, "room:1", "untrack", json!({ "key": "first" }));
    lockstep.settle();
    assert_eq!((counts(&mut first), counts(&mut second).last()), (vec![0], Some(&0)));
    lockstep.advance(Duration::from_secs(2));
    assert_eq!((counts(&mut first), lockstep.endpoint().presence_count("room:1")), (vec![], 0));
}

#[test]
fn a_full_presence_tracks_nobody_else_and_says_so() {
    for (presence, text) in [
        (
            Presence::new().members_max(2),
            "2 members are present, and no more may be: raise the presence's members_max, or",
        ),
        (
            Presence::new().bytes_max(150),
            "bytes, more than 150: raise the presence's bytes_max, or let it tell their number",
        ),
        (Presence::new().counts_only().members_max(2), "raise the presence's members_max"),
    ] {
        let mut lockstep = lockstep(1, presence);
        let mut guests: Vec<Guest> = (0..3).map(|_| Guest::connect(&mut lockstep)).collect();
        for (number, guest) in guests.iter_mut().enumerate() {
            guest.join(&mut lockstep, "room:1", json!({}));
            let meta = json!({ "key": format!("user{number}"), "meta": {"at": number}, "tell": true });
            guest.push(&mut lockstep, "room:1", "track", meta);
            lockstep.settle();
            let replies: Vec<_> = guest.frames().into_iter().filter(|frame| frame[3] == "phx_reply").collect();
            let [reply] = &replies[..] else { panic!("{replies:?}") };
            let is_full = number == 2;
            assert_eq!(reply[4]["response"]["is_unavailable"], is_full, "{reply}");
            if is_full {
                let told = reply[4]["response"]["error"].as_str().unwrap();
                assert!(
                    told.starts_with("\"user2\" is not tracked in \"room:1\", where ") && told.contains(text),
                    "{told}"
                );
            }
        }
        assert_eq!(counter(&lockstep, "presence", "full"), 1);
        assert_eq!(lockstep.endpoint().presence_count("room:1"), 2);
        // Somebody leaves, and there is room.
        guests[0].push(&mut lockstep, "room:1", "phx_leave", json!({}));
        guests[2].push(&mut lockstep, "room:1", "track", json!({ "key": "user2", "meta": {} }));
        lockstep.settle();
        assert_eq!(lockstep.endpoint().presence_count("room:1"), 2);
        assert_eq!(counter(&lockstep, "presence", "full"), 1);
    }
}
