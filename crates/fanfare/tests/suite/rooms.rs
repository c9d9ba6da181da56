//! JSON rooms over WebSocket, with the channels that serve Phoenix as well.

use std::time::{Duration, Instant};

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{Endpoint, Mount, Relay};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::json;

use crate::support::client::{Client, Received};
use crate::support::{Served, eventually, serve, stage};

async fn rooms(mount: Mount) -> Served {
    serve(Endpoint::builder().shards(2).mount("/", mount).mount("/socket", stage())).await
}

impl Served {
    async fn in_rooms(&self) -> Client {
        self.client_at("/any/path").await
    }
}

#[tokio::test]
async fn rooms_1_members_receive_a_string_as_its_text_and_anything_else_as_its_json() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    let (mut ada, mut bob) = (rooms.in_rooms().await, rooms.in_rooms().await);
    ada.send_text(r#"{"join":"lobby"}"#).await;
    bob.send_text(r#"{"join":"lobby"}"#).await;
    rooms.has_members("lobby", 2).await;
    let said = [
        (r#"{"b": 1,"a":[]}"#, r#"{"b": 1,"a":[]}"#),
        (r#""over 9000!""#, "over 9000!"),
        (r#""\u0022h\u00e9\n""#, "\"hé\n"),
        (r#""{\"a\":1}""#, r#"{"a":1}"#),
        (r#""""#, ""),
        ("null", "null"),
        ("18446744073709551616", "18446744073709551616"),
        ("[ ]", "[ ]"),
        ("1.50", "1.50"),
    ];
    for (sent, _) in said {
        ada.send_text(&format!(r#"{{"say":{sent},"to":"lobby"}}"#)).await;
    }
    for member in [&mut ada, &mut bob] {
        for (_, received) in said {
            member.assert_text(received).await;
        }
    }
    bob.send_text(r#"{"leave":"lobby"}"#).await;
    rooms.has_members("lobby", 1).await;
}

#[tokio::test]
async fn rooms_1_acks_by_option() {
    let rooms = rooms(Mount::rooms().acks(true).channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for (sent, told) in [
        (r#"{"join":"a"}"#, r#"{"joined":"a"}"#),
        (r#"{"join":"a"}"#, r#"{"joined":"a"}"#),
        (r#"{"say":1,"to":"a"}"#, "1"),
        (r#"{"leave":"a"}"#, r#"{"left":"a"}"#),
        (r#"{"leave":"a"}"#, r#"{"left":"a"}"#),
        (r#"{"leave":"never joined"}"#, r#"{"left":"never joined"}"#),
    ] {
        client.send_text(sent).await;
        client.assert_text(told).await;
    }
    assert!(rooms.endpoint.topics().await.is_empty(), "rooms_3: topics exist while somebody is in them");
}

#[tokio::test]
async fn rooms_1_what_is_none_of_the_frames_closes_with_3000() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    for frame in ["", "hi", "{}", r#"{"join":5}"#, r#"{"say":"hi"}"#, r#"{"say":"hi","to":"not joined"}"#] {
        let mut client = rooms.in_rooms().await;
        client.send_text(frame).await;
        client.assert_closed(3000).await;
    }
    let mut client = rooms.in_rooms().await;
    client.send(Opcode::Binary, b"{\"join\":\"\xff\"}", true).await;
    client.assert_closed(3000).await;
    assert_eq!(rooms.counter("closes", "application"), 7);
}

#[tokio::test]
async fn rooms_1_of_the_keys_join_leave_and_say_the_first_decides_and_other_members_are_ignored() {
    let rooms = rooms(Mount::rooms().acks(true).channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for (sent, told) in [
        (r#"{"say":1,"to":"a","leave":"a","join":"a"}"#, r#"{"joined":"a"}"#),
        (r#"{"id":7,"say":{"join":"b"},"to":"a","at":[]}"#, r#"{"join":"b"}"#),
        (r#"{"to":"a","say":2,"leave":"a"}"#, r#"{"left":"a"}"#),
    ] {
        client.send_text(sent).await;
        client.assert_text(told).await;
    }
}

#[tokio::test]
async fn rooms_1_binary_frames_count_as_well() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for frame in [r#"{"join":"a"}"#, r#"{"say":"hi","to":"a"}"#] {
        client.send(Opcode::Binary, frame.as_bytes(), true).await;
    }
    client.assert_text("hi").await;
}

#[tokio::test]
async fn rooms_1_a_room_may_have_any_name() {
    let rooms = rooms(Mount::rooms().acks(true).channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for name in ["phoenix", "heartbeat", "*", "join", "\u{e9} \u{1f600}"] {
        client.send_json(&json!({ "join": name })).await;
        client.assert_text(&json!({ "joined": name }).to_string()).await;
        client.send_json(&json!({ "say": "hi", "to": name })).await;
        client.assert_text("hi").await;
        client.send_json(&json!({ "leave": name })).await;
        client.assert_text(&json!({ "left": name }).to_string()).await;
    }
}

#[tokio::test]
async fn rooms_3_a_disconnect_leaves_everything() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    let mut client = rooms.in_rooms().await;
    for topic in ["a", "b", "c"] {
        client.send_text(&format!(r#"{{"join":"{topic}"}}"#)).await;
        rooms.has_members(topic, 1).await;
    }
    drop(client);
    eventually("no topics are left", async || rooms.endpoint.topics().await.is_empty()).await;
}

/// Members of one room on sixteen threads, and three of them that say something at the same time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rooms_4_a_large_room_has_several_writers_and_keeps_order() {
    const SAID: usize = 100;
    let mount = Mount::rooms().channel("*", Relay);
    let rooms = serve(Endpoint::builder().shards(16).mount("/", mount)).await;
    let mut members = Vec::new();
    for _ in 0..32 {
        let mut member = rooms.in_rooms().await;
        member.send_text(r#"{"join":"general"}"#).await;
        members.push(member);
    }
    // One that never reads.
    let mut stalled = rooms.in_rooms().await;
    stalled.send_text(r#"{"join":"general"}"#).await;
    rooms.has_members("general", 33).await;
    let mut elsewhere = rooms.in_rooms().await;
    elsewhere.send_text(r#"{"join":"elsewhere"}"#).await;
    rooms.has_members("elsewhere", 1).await;

    let padding = "x".repeat(5_000);
    let mut longest = Duration::ZERO;
    for n in 0..SAID {
        for (speaker, member) in members.iter_mut().take(3).enumerate() {
            member.send_text(&format!(r#"{{"say":"{speaker} {n} {padding}","to":"general"}}"#)).await;
        }
        let asked = Instant::now();
        elsewhere.send_text(r#"{"say":1,"to":"elsewhere"}"#).await;
        elsewhere.assert_text("1").await;
        longest = longest.max(asked.elapsed());
    }
    assert!(longest < Duration::from_secs(2), "another room waited {longest:?}");
    for mut member in members {
        let mut next = [0; 3];
        while next != [SAID; 3] {
            let Received::Text(text) = member.receive().await else { panic!("a member lost its connection") };
            let mut words = text.split(' ').map(|word| word.parse::<usize>().unwrap_or_default());
            let (speaker, n) = (words.next().unwrap(), words.next().unwrap());
            assert_eq!(n, next[speaker], "of speaker {speaker}");
            next[speaker] += 1;
        }
    }
}

#[tokio::test]
async fn rooms_5_any_path_but_those_of_others() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    for path in ["/", "/x", "/x/y?z=1", "/sockets"] {
        let mut client = rooms.client_at(path).await;
        client.send_text("{}").await;
        client.assert_closed(3000).await;
    }
    let mut phoenix = rooms.client().await;
    phoenix.assert_untouched().await;
    let answer = crate::support::http::request(rooms.address, "GET", "/x", &[], b"").await;
    assert_eq!(answer.status, 400);
    assert!(!answer.body.is_empty(), "a refused handshake says why");
}

#[tokio::test]
async fn rooms_5_application_close_codes_are_answered() {
    let rooms = rooms(Mount::rooms().channel("*", Relay)).await;
    for code in [3000_u16, 3999, 4000, 4999] {
        let mut client = rooms.in_rooms().await;
        client.send(Opcode::Close, &code.to_be_bytes(), true).await;
        client.assert_closed(code).await;
    }
}

#[test]
fn rooms_6_a_room_of_more_than_50_000_members() {
    const CROWD: usize = 50_001;
    let mut lockstep = Lockstep::new(Endpoint::builder().mount("/", Mount::rooms().channel("*", Relay)), 2);
    let join = |lockstep: &mut Lockstep, pipe: &Pipe| {
        let peer = lockstep.connect(Request::get("/any").body(()).unwrap(), pipe).unwrap();
        send(lockstep, peer, r#"{"join":"general"}"#);
        peer
    };
    let (speakers, crowd) = (Pipe::keeping(), Pipe::discarding());
    let speaker = join(&mut lockstep, &speakers);
    for _ in 0..CROWD {
        join(&mut lockstep, &crowd);
    }
    lockstep.settle();
    let endpoint = lockstep.endpoint().clone();
    let members = lockstep.run(endpoint.fold_members("general", 0, |count, _| count + 1));
    assert_eq!((members, crowd.written().bytes), (CROWD + 1, 0));
    for n in 1..=3 {
        send(&mut lockstep, speaker, r#"{"say":"to all","to":"general"}"#);
        lockstep.settle();
        let frame = speakers.take();
        assert_eq!(frame, b"\x81\x06to all");
        assert_eq!(crowd.written().bytes, (n * CROWD * frame.len()) as u64);
    }
}

fn send(lockstep: &mut Lockstep, peer: Peer, text: &str) {
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
    lockstep.send(peer, &frame);
}

#[tokio::test]
async fn the_channels_of_phoenix_serve_rooms_as_well() {
    let rooms = rooms(Mount::rooms().event("shout").channel("room:*", crate::support::stage::Stage::default())).await;
    let mut phoenix = rooms.client().await;
    phoenix.join("room:1").await;
    let mut client = rooms.in_rooms().await;
    client.send_text(r#"{"join":"elsewhere"}"#).await;
    client.assert_text(r#"{"refused":"elsewhere","response":{"reason":"unmatched topic"}}"#).await;
    client.send_text(r#"{"join":"room:1"}"#).await;
    rooms.has_members("room:1", 2).await;

    client.send_text(r#"{"say":{"a":1},"to":"room:1"}"#).await;
    client.send_text(r#"{"say":"hi","to":"room:1"}"#).await;
    client.assert_text(r#"{"a":1}"#).await;
    client.assert_text("hi").await;
    phoenix.assert_event("room:1", "shout", json!({"a": 1})).await;
    phoenix.assert_event("room:1", "shout", json!({"text": "hi"})).await;

    phoenix.push("room:1", "room:1", "shout", json!({"from": "phoenix"})).await;
    client.assert_text(r#"{"from":"phoenix"}"#).await;
}

#[tokio::test]
async fn a_crash_ends_one_join_and_is_told() {
    let mount = Mount::rooms().event("panic").channel("room:*", crate::support::stage::Stage::default());
    let rooms = rooms(mount).await;
    let mut client = rooms.in_rooms().await;
    client.send_text(r#"{"join":"room:1"}"#).await;
    client.send_text(r#"{"join":"room:2"}"#).await;
    client.send_text(r#"{"say":{},"to":"room:1"}"#).await;
    client.assert_text(r#"{"left":"room:1","error":"channel_crash"}"#).await;
    rooms.has_members("room:2", 1).await;
    rooms.endpoint.broadcast("room:2", "e", json!({"still": "here"})).await.unwrap();
    assert_eq!(client.receive().await, Received::Text(r#"{"still":"here"}"#.into()));
}
