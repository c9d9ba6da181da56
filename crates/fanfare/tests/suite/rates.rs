//! Clients that do something more often than they may: what they are answered, what is counted and kept of it, and that nothing is lost
//! where they are made to wait. The clock stands still unless it is moved.

use std::time::Duration;

use fanfare::testing::TestEndpoint;
use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, OverRate, Rate, Rejected, Relay, Route, Supabase};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::supabase::{House, key};
use crate::support::{Served, eventually, serve_endpoint, stage};

const MESSAGES: Rate = Rate::per_second(10).burst(3);

/// Each dialect whose clients send messages, below a path of its own.
struct Door {
    test: TestEndpoint,
    served: Served,
}

impl Door {
    async fn open(with: impl Fn(Mount) -> Mount) -> Self {
        let builder = Endpoint::builder()
            .shards(1)
            .mount("/socket", with(stage()))
            .mount("/rooms", with(Mount::rooms().channel("*", Relay)))
            .mount("/hub", with(Mount::hub().waits_for_topic(true)))
            .mount("/supabase", with(Mount::supabase(Supabase::new(House))))
            .mount("/bullet", with(Mount::bullet()));
        let test = TestEndpoint::start(builder).await;
        let served = serve_endpoint(test.endpoint().clone()).await;
        Door { test, served }
    }

    async fn client(&self, target: &str) -> Client {
        self.served.client_at(target).await
    }

    async fn supabase(&self) -> Client {
        self.client(&format!("/supabase/websocket?vsn=2.0.0&apikey={}", key())).await
    }

    async fn pass(&self, ms: u64) {
        self.test.advance(Duration::from_millis(ms)).await;
    }

    /// What was counted of a limit, and how often it is told by the last facts, of which one has this in its detail.
    fn assert_limited(&self, reason: &str, count: u64, detail: &str) {
        assert_eq!(self.served.counter("limits", reason), count, "{reason}");
        let facts = self.served.endpoint.facts();
        let of_it: Vec<_> = facts.iter().filter(|fact| fact.kind == "limited" && fact.reason == reason).collect();
        assert_eq!(of_it.iter().map(|fact| fact.count).sum::<u64>(), count, "{facts:?}");
        assert!(of_it.iter().any(|fact| fact.detail.contains(detail)), "{detail} in {of_it:?}");
    }
}

fn limited(retry_after_ms: u64) -> Value {
    json!({ "reason": "rate limited", "retry_after_ms": retry_after_ms })
}

#[tokio::test]
async fn messages_beyond_their_rate_are_refused_and_their_senders_told_when_to_come_again() {
    let door = Door::open(|mount| mount.message_rate(MESSAGES).over_rate(OverRate::Refuse)).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    phoenix.join("room:1").await;
    for round in 1..=2 {
        for _ in 0..3 {
            // What has rates of its own.
            phoenix.assert_untouched().await;
            phoenix.call("room:1", "echo", json!({}), "ok").await;
        }
        for _ in 0..2 {
            assert_eq!(phoenix.call("room:1", "echo", json!({}), "error").await, limited(100));
        }
        phoenix.join(&format!("room:1{round}")).await;
        door.pass(99).await;
        assert_eq!(phoenix.call("room:1", "echo", json!({}), "error").await, limited(1));
        door.pass(1).await;
        phoenix.call("room:1", "echo", json!({}), "ok").await;
        assert_eq!(phoenix.call("room:1", "echo", json!({}), "error").await, limited(100));
        door.pass(10_000).await;
    }
    door.assert_limited(
        "message_rate_refused",
        8,
        "more messages than message_rate allows, which is 10 a second and 3 at once",
    );

    let mut rooms = door.client("/rooms").await;
    rooms.send_text(r#"{"join":"lobby"}"#).await;
    for n in 0..5 {
        rooms.send_text(&format!(r#"{{"say":{n},"to":"lobby"}}"#)).await;
    }
    for n in 0..3 {
        rooms.assert_text(&n.to_string()).await;
    }
    for _ in 3..5 {
        rooms.assert_text(&format!(r#"{{"refused":"lobby","response":{}}}"#, limited(100))).await;
    }

    let mut supabase = door.supabase().await;
    let join =
        json!(["1", "1", "realtime:a", "phx_join", { "config": { "broadcast": { "ack": true, "self": false } } }]);
    supabase.send_json(&join).await;
    let mut told = Value::Null;
    for n in 0..4 {
        let payload = json!({ "type": "broadcast", "event": "e", "payload": {} });
        supabase.send_json(&json!(["1", format!("m{n}"), "realtime:a", "broadcast", payload])).await;
        let is_ok = |told: &Value| told[4]["status"] == "ok";
        assert!(n == 0 || is_ok(&told), "{n}: {told}");
        while told[1] != format!("m{n}") {
            told = supabase.frame().await;
        }
    }
    assert_eq!(told[4], json!({ "status": "error", "response": limited(100) }));
}

/// Nobody says again that a member has gone, or has another token.
#[tokio::test]
async fn what_a_supabase_client_says_once_is_handled_beyond_the_rate_and_the_rest_waits() {
    let door = Door::open(|mount| mount.message_rate(MESSAGES)).await;
    let mut client = door.supabase().await;
    let config = json!({ "presence": { "key": "ada", "enabled": true }, "broadcast": { "ack": true } });
    assert_eq!(client.try_join("realtime:a", json!({ "config": config })).await["status"], "ok");
    let presence = |event: &str| json!({ "type": "presence", "event": event, "payload": { "x": 1 } });
    let asked = [("track", presence("track")), ("b", json!({ "event": "e" })), ("untrack", presence("untrack"))];
    for n in 0..3 {
        let said = json!(["1", format!("m{n}"), "realtime:a", "broadcast", { "event": "e", "payload": {} }]);
        client.send_json(&said).await;
    }
    for (msg_ref, payload) in asked {
        let event = if msg_ref == "b" { "broadcast" } else { "presence" };
        client.send_json(&json!(["1", msg_ref, "realtime:a", event, payload])).await;
    }
    let mut answers = Vec::new();
    while answers.len() < 6 {
        // Up to `track` no time has to pass.
        let patience = Duration::from_millis(if answers.len() < 4 { 10_000 } else { 20 });
        match tokio::time::timeout(patience, client.frame()).await {
            Ok(frame) if frame[3] == "phx_reply" => answers.push((frame[1].clone(), frame[4]["status"].clone())),
            Ok(_) => {}
            Err(_) => door.pass(50).await,
        }
    }
    let expected = ["m0", "m1", "m2", "track", "b", "untrack"].map(|msg_ref| (json!(msg_ref), json!("ok")));
    assert_eq!(answers, expected);
    assert_eq!(door.served.counter("limits", "message_rate_refused"), 0);
    assert!(door.served.counter("limits", "message_rate_paced") > 0);
}

#[tokio::test]
async fn the_messages_of_a_post_are_refused_one_by_one() {
    // There is nothing to leave unread, so that it is the same where sockets are paced.
    let door = Door::open(|mount| mount.message_rate(MESSAGES).over_rate(OverRate::Pace)).await;
    let address = door.served.address;
    let begun = request(address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
    let target = format!("/socket/longpoll?vsn=2.0.0&token={}", begun["token"].as_str().unwrap());
    let mut lines = vec![json!(["1", "1", "room:1", "phx_join", {}]).to_string()];
    lines.extend((0..5).map(|n| json!(["1", n, "room:1", "echo", {}]).to_string()));
    let headers = [("content-type", "application/x-ndjson")];
    let posted = request(address, "POST", &target, &headers, lines.join("\n").as_bytes()).await;
    assert_eq!(posted.json()["status"], 200);
    let messages = request(address, "GET", &target, &[], b"").await.json()["messages"].take();
    let statuses: Vec<_> = messages.as_array().unwrap().iter().map(status_of).collect();
    assert_eq!(statuses, ["ok", "ok", "ok", "ok", "error", "error"]);
}

fn status_of(message: &Value) -> String {
    let frame: Value = serde_json::from_str(message.as_str().unwrap()).unwrap();
    frame[4]["status"].as_str().unwrap().to_owned()
}

/// Beyond the burst one is handled, and the next when that is paid for.
#[tokio::test]
async fn a_client_that_is_paced_is_not_read_for_a_while_and_loses_nothing() {
    let door = Door::open(|mount| mount.message_rate(MESSAGES)).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    phoenix.join("room:1").await;

    let mut rooms = door.client("/rooms").await;
    rooms.send_text(r#"{"join":"lobby"}"#).await;
    let mut subscriber = door.client("/hub/sub/d/t").await;
    let mut publisher = door.client("/hub/pub/-/d/t").await;
    for n in 0..20 {
        rooms.send_text(&format!(r#"{{"say":{n},"to":"lobby"}}"#)).await;
        publisher.send_text(&n.to_string()).await;
    }
    let mut heard = 0;
    let mut hear = async |rooms: &mut Client, subscriber: &mut Client, up_to: usize| {
        for n in heard..up_to {
            rooms.assert_text(&n.to_string()).await;
            subscriber.assert_text(&n.to_string()).await;
        }
        heard = up_to;
    };
    hear(&mut rooms, &mut subscriber, 4).await;
    for up_to in 5..=20 {
        door.pass(90).await;
        // Long enough for what must not come.
        phoenix.assert_untouched().await;
        assert_eq!(door.served.counter("messages", "published"), 2 * (up_to as u64 - 1), "before the time has come");
        door.pass(10).await;
        hear(&mut rooms, &mut subscriber, up_to).await;
    }
    door.assert_limited("message_rate_paced", 2 * 17, "message_rate");
    assert_eq!(door.served.counter("closes", "idle"), 0);
}

/// A paced client is held back by its own system: what it has sent stays there.
#[tokio::test]
async fn bytes_have_a_rate_and_what_is_larger_than_its_burst_passes_when_it_was_quiet() {
    let bytes = Rate::per_second(1_000).burst(1_000);
    let door = Door::open(|mount| mount.bytes_rate(bytes).over_rate(OverRate::Refuse)).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    phoenix.join("room:1").await;
    // The JSON around it has eight bytes.
    let payload = |size: usize| json!({ "x": "x".repeat(size - 8) });
    phoenix.call("room:1", "echo", payload(600), "ok").await;
    assert_eq!(phoenix.call("room:1", "echo", payload(600), "error").await, limited(200));
    phoenix.call("room:1", "echo", payload(400), "ok").await;
    door.pass(1_000).await;
    phoenix.call("room:1", "echo", payload(5_000), "ok").await;
    assert_eq!(phoenix.call("room:1", "echo", payload(10), "error").await, limited(4_010));
    door.assert_limited(
        "bytes_rate_refused",
        2,
        "more bytes of messages than bytes_rate allows, which is 1000 a second",
    );
}

#[tokio::test]
async fn whoever_is_not_to_send_so_much_is_closed_with_1008_if_that_is_wanted() {
    let door =
        Door::open(|mount| mount.message_rate(MESSAGES).over_rate(OverRate::Close).penalty(Duration::ZERO)).await;
    let frames = [
        ("/socket/websocket?vsn=2.0.0", r#"["1","1","room:1","echo",{}]"#),
        ("/rooms", r#"{"join":"lobby"}"#),
        ("/hub/pub/-/d/t", "any"),
        ("/bullet?key=k", "any"),
    ];
    for (number, (target, frame)) in frames.into_iter().enumerate() {
        let mut client = door.client(target).await;
        let frame = if target == "/rooms" {
            client.send_text(frame).await;
            r#"{"say":"any","to":"lobby"}"#
        } else {
            frame
        };
        for _ in 0..4 {
            client.send_text(frame).await;
        }
        assert_eq!(client.close_code().await, 1008, "{target}");
        assert_eq!(door.served.counter("closes", "over_rate"), number as u64 + 1, "{target}");
        assert_eq!(door.served.counter("limits", "message_rate_closed"), number as u64 + 1, "{target}");
    }
    let facts = door.served.endpoint.facts();
    let closed = facts.iter().find(|fact| fact.reason == "over_rate").unwrap();
    assert_eq!((closed.kind, closed.code), ("closed", Some(1008)));
    assert!(closed.detail.contains("message_rate allows, which is 10 a second and 3 at once"), "{}", closed.detail);
}

#[tokio::test]
async fn joins_have_a_rate_and_one_beyond_it_leaves_the_socket_as_it_is() {
    let door = Door::open(|mount| mount.join_rate(Rate::per_second(2).burst(3))).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    for n in 0..3 {
        phoenix.join(&format!("room:{n}")).await;
    }
    let told = |reason: &str| json!({ "status": "error", "response": { "reason": reason, "retry_after_ms": 500 } });
    assert_eq!(phoenix.try_join("room:3", json!({})).await, told("too many joins"));
    // Joining again what is joined counts, and the join stays.
    assert_eq!(phoenix.try_join("room:0", json!({})).await, told("too many joins"));
    phoenix.call("room:0", "echo", json!({}), "ok").await;
    door.pass(500).await;
    phoenix.join("room:3").await;
    door.assert_limited("join_rate_refused", 2, "more joins than join_rate allows, which is 2 a second and 3 at once");
    assert_eq!(door.served.counter("joins", "ok"), 4);

    let mut rooms = door.client("/rooms").await;
    for n in 0..4 {
        rooms.send_text(&format!(r#"{{"join":"{n}"}}"#)).await;
    }
    rooms.assert_text(r#"{"refused":"3","response":{"reason":"too many joins","retry_after_ms":500}}"#).await;

    let mut supabase = door.supabase().await;
    for n in 0..4 {
        supabase.send_json(&json!([n, n, format!("realtime:{n}"), "phx_join", {}])).await;
    }
    let refused = loop {
        let frame = supabase.frame().await;
        if frame[4]["status"] == "error" {
            break frame;
        }
    };
    assert_eq!(refused[4], told("ClientJoinRateLimitReached: Too many joins per second"));
}

#[tokio::test]
async fn whoever_errs_too_often_is_closed() {
    let door = Door::open(|mount| mount.error_rate(Rate::per_second(1).burst(4)).penalty(Duration::ZERO)).await;
    // In a socket that has joined a topic: each of them is one error.
    let errors = [
        json!([null, "1", "nowhere", "phx_join", {}]),
        json!(["1", "1", "room:2", "phx_join", { "refuse": "no" }]),
        json!(["1", "1", "room:3", "echo", {}]),
        json!(["stale", "1", "room:1", "echo", {}]),
    ];
    for (number, error) in errors.into_iter().enumerate() {
        let mut client = door.client("/socket/websocket?vsn=2.0.0").await;
        client.join("room:1").await;
        for _ in 0..4 {
            client.send_json(&error).await;
        }
        client.send_json(&json!([null, "hb", "phoenix", "heartbeat", {}])).await;
        while client.frame().await[1] != "hb" {}
        client.send_json(&error).await;
        assert_eq!(client.close_code().await, 1008, "{error}");
        assert_eq!(door.served.counter("limits", "error_rate_closed"), number as u64 + 1, "{error}");
    }
    // Slower than the rate it may go on for ever.
    let mut client = door.client("/socket/websocket?vsn=2.0.0").await;
    for n in 0..12 {
        assert_eq!(client.try_join("nowhere", json!({})).await["response"]["reason"], "unmatched topic", "{n}");
        door.pass(1_000).await;
    }
}

#[tokio::test]
async fn whoever_pings_too_often_is_closed() {
    let door = Door::open(|mount| mount.ping_rate(Rate::per_second(1).burst(3)).penalty(Duration::ZERO)).await;
    for (number, target) in ["/socket/websocket?vsn=2.0.0", "/rooms", "/hub/sub/d/t"].into_iter().enumerate() {
        let mut client = door.client(target).await;
        for _ in 0..3 {
            client.send(Opcode::Ping, b"p", true).await;
            assert_eq!(client.receive().await, Received::Pong(b"p".to_vec()));
        }
        client.send(Opcode::Ping, b"p", true).await;
        assert_eq!(client.close_code().await, 1008, "{target}");
        assert_eq!(door.served.counter("limits", "ping_rate_closed"), number as u64 + 1);
    }
    let mut client = door.client("/socket/websocket?vsn=2.0.0").await;
    for _ in 0..3 {
        client.assert_untouched().await;
    }
    client.send_json(&json!([null, "hb", "phoenix", "heartbeat", {}])).await;
    assert_eq!(client.close_code().await, 1008, "heartbeats are pings");
}

/// What waits behind a join was counted when it came.
#[tokio::test]
async fn a_message_that_waits_counts_once() {
    let door = Door::open(|mount| mount.message_rate(MESSAGES)).await;
    let mut client = door.client("/socket/websocket?vsn=2.0.0").await;
    client.send_json(&json!(["1", "join", "room:1", "phx_join", { "wait_ms": 50 }])).await;
    for n in 0..3 {
        client.send_json(&json!(["1", n, "room:1", "echo", {}])).await;
    }
    for _ in 0..4 {
        assert_eq!(client.frame().await[4]["status"], "ok");
    }
}

/// A client may go away while it is paced, and the server may end.
#[tokio::test]
async fn a_paced_client_can_end_and_be_closed() {
    let door = Door::open(|mount| mount.message_rate(Rate::per_second(1).burst(1))).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = door.client("/rooms").await;
        client.send_text(r#"{"join":"lobby"}"#).await;
        for _ in 0..10 {
            client.send_text(r#"{"say":"any","to":"lobby"}"#).await;
        }
        clients.push(client);
    }
    eventually("both are paced", async || door.served.counter("limits", "message_rate_paced") == 2).await;
    drop(clients.pop());
    let endpoint = door.served.endpoint.clone();
    tokio::spawn(async move { endpoint.drain(fanfare::Drain { every: Duration::ZERO, ..Default::default() }).await });
    assert_eq!(clients[0].close_code().await, 1012);
}

/// Whoever connects has the id that it says.
struct ById;

impl Connect for ById {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let connected = Connected::new();
        Ok(match request.params.str("user") {
            Some(user) => connected.id(user),
            None => connected,
        })
    }
}

#[tokio::test]
async fn the_sockets_of_a_user_share_a_rate() {
    let door = Door::open(|mount| mount.user_message_rate(MESSAGES).connect(ById)).await;
    let mut clients = Vec::new();
    for user in ["ann", "ann", "bob"] {
        let mut client = door.client(&format!("/socket/websocket?vsn=2.0.0&user={user}")).await;
        client.join("room:1").await;
        clients.push(client);
    }
    for (number, status) in [(0, "ok"), (1, "ok"), (0, "ok"), (0, "error"), (1, "error"), (2, "ok")] {
        clients[number].call("room:1", "echo", json!({}), status).await;
    }
    door.assert_limited("user_message_rate_refused", 2, "more messages of one user than user_message_rate allows");
    door.pass(100).await;
    for (number, status) in [(1, "ok"), (0, "error")] {
        clients[number].call("room:1", "echo", json!({}), status).await;
    }
    // Where there are no answers the sockets wait for one another.
    let mut rooms = [door.client("/rooms?user=cyd").await, door.client("/rooms?user=cyd").await];
    for (number, client) in rooms.iter_mut().enumerate() {
        client.send_text(&format!(r#"{{"join":"{number}"}}"#)).await;
        for n in 0..3 {
            client.send_text(&format!(r#"{{"say":{n},"to":"{number}"}}"#)).await;
        }
    }
    eventually("somebody is paced", async || door.served.counter("limits", "user_message_rate_paced") > 0).await;
    door.pass(1_000).await;
    for client in &mut rooms {
        for n in 0..3 {
            client.assert_text(&n.to_string()).await;
        }
    }
}

#[tokio::test]
async fn a_user_has_so_many_sockets_on_all_mounts_together() {
    let refusing = Door::open(|mount| mount.sockets_per_user(2, false).connect(ById)).await;
    let address = refusing.served.address;
    let connect = async |target: &str| Client::connect(address, target, &[]).await;
    let (phoenix, rooms) = ("/socket/websocket?vsn=2.0.0&user=ann", "/rooms?user=ann");
    let mut first = connect(phoenix).await.unwrap();
    let second = connect(rooms).await.unwrap();
    for target in [phoenix, rooms, "/hub/sub/d/t?user=ann"] {
        let refused = connect(target).await.err().expect("a third one");
        assert_eq!((refused.status, refused.headers["retry-after"].as_str()), (429, "1"), "{target}");
        assert!(refused.text().contains("the user has 2 connections"), "{}", refused.text());
    }
    let polled = request(address, "GET", "/socket/longpoll?vsn=2.0.0&user=ann", &[], b"").await;
    assert_eq!(polled.status, 429);
    assert_eq!(refusing.served.counter("connections", "refused_user"), 4);
    let facts = refusing.served.endpoint.facts();
    let refused: Vec<_> = facts.iter().filter(|fact| fact.reason == "refused_user").collect();
    assert!(!refused.is_empty() && refused.iter().all(|fact| fact.is_of_user("ann")), "{facts:?}");
    // Others, and who is nobody, are another matter.
    for target in ["/rooms?user=bob", "/rooms", "/rooms", "/rooms"] {
        assert!(connect(target).await.is_ok(), "{target}");
    }
    drop(second);
    eventually("there is room again", async || connect(rooms).await.is_ok()).await;
    first.assert_untouched().await;

    let displacing = Door::open(|mount| mount.sockets_per_user(2, true).connect(ById)).await;
    let mut sockets = Vec::new();
    for target in [phoenix, rooms, phoenix, rooms] {
        let mut socket = displacing.client(target).await;
        // Once it answers it lives, and can be closed for another.
        socket.send(Opcode::Ping, b"p", true).await;
        assert_eq!(socket.receive().await, Received::Pong(b"p".to_vec()));
        sockets.push(socket);
    }
    for closed in &mut sockets[..2] {
        assert_eq!(closed.close_code().await, 1008);
    }
    sockets[2].assert_untouched().await;
    assert_eq!(displacing.served.counter("closes", "displaced"), 2);
}

#[tokio::test]
async fn clients_of_one_address_connect_at_its_rate_and_take_nothing_from_others() {
    let asked = Rate::per_second(1).burst(2);
    let builder = Endpoint::builder().shards(1).accept_rate_per_address(asked).accept_rate(1, 8);
    let test = TestEndpoint::start(builder.mount("/socket", stage()).mount("/rooms", Mount::rooms())).await;
    let served = serve_endpoint(test.endpoint().clone()).await;
    let from = async |address: [u8; 4], target: &str| {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind((std::net::IpAddr::from(address), 0).into()).unwrap();
        let stream = socket.connect(served.address).await.unwrap();
        Client::over(stream, target, &[])
            .await
            .map(drop)
            .map_err(|answer| (answer.status, answer.headers["retry-after"].clone()))
    };
    let (here, there) = ([127, 0, 0, 1], [127, 0, 0, 2]);
    assert_eq!(from(here, "/socket?vsn=2.0.0").await, Ok(()));
    assert_eq!(from(here, "/rooms").await, Ok(()));
    for target in ["/socket?vsn=2.0.0", "/rooms", "/rooms", "/rooms", "/rooms", "/rooms"] {
        assert_eq!(from(here, target).await, Err((429, "1".to_owned())), "{target}");
    }
    // None of these has taken a place of the others.
    assert_eq!(from(there, "/rooms").await, Ok(()));
    assert_eq!(served.counter("connections", "refused_address_rate"), 6);
    let fact = served.endpoint.facts().into_iter().find(|fact| fact.reason == "refused_address_rate").unwrap();
    assert_eq!((fact.kind, fact.code, fact.count), ("refused", Some(429), 6));
    test.advance(Duration::from_secs(1)).await;
    assert_eq!(from(here, "/rooms").await, Ok(()));
    assert_eq!(from(here, "/rooms").await.unwrap_err().0, 429);
}

/// Two protocols, two sockets, one topic.
async fn one_topic(keys_max: usize) -> Door {
    let shared = |channel| Route::new("*", channel).message_rate(MESSAGES);
    let builder = Endpoint::builder()
        .shards(1)
        .keys_max(keys_max)
        .mount("/socket", Mount::new().channel_with(shared(Relay)))
        .mount("/rooms", Mount::rooms().channel_with(shared(Relay)));
    let test = TestEndpoint::start(builder).await;
    let served = serve_endpoint(test.endpoint().clone()).await;
    Door { test, served }
}

#[tokio::test]
async fn the_members_of_a_topic_share_a_rate() {
    let door = one_topic(100_000).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    phoenix.join("lobby").await;
    let mut rooms = door.client("/rooms").await;
    rooms.send_text(r#"{"join":"lobby"}"#).await;
    for n in 0..5 {
        rooms.send_text(&format!(r#"{{"say":"{n}","to":"lobby"}}"#)).await;
    }
    for n in 0..3 {
        rooms.assert_text(&n.to_string()).await;
        phoenix.frame().await;
    }
    let refused = format!(r#"{{"refused":"lobby","response":{}}}"#, limited(100));
    rooms.assert_text(&refused).await;
    rooms.assert_text(&refused).await;
    assert_eq!(phoenix.call("lobby", "said", json!({}), "error").await, limited(100));
    phoenix.join("another").await;
    phoenix.push("another", "another", "said", json!({})).await;
    assert_eq!(phoenix.frame().await[3], "said");
    door.assert_limited("publish_rate_refused", 3, "more messages into one topic than publish_rate allows");
}

/// Rather one too many than nobody.
#[tokio::test]
async fn whoever_finds_no_room_for_a_bucket_is_let_pass_and_counted() {
    let door = one_topic(1).await;
    let mut phoenix = door.client("/socket/websocket?vsn=2.0.0").await;
    // There are 64 locks, and each has one bucket.
    for n in 0..65 {
        let topic = &*format!("topic:{n}");
        phoenix.join(topic).await;
        assert_said(&mut phoenix, topic).await;
    }
    let passed = door.served.counter("limits", "keys_max_passed");
    assert!((1..65).contains(&passed), "{passed}");
    // Those that have rested make room.
    door.pass(5_000).await;
    for n in 0..65 {
        let topic = &*format!("topic:{n}");
        assert_said(&mut phoenix, topic).await;
    }
    assert!(door.served.counter("limits", "keys_max_passed") < 2 * passed + 1);
}

/// A message is not refused, and reaches its sender.
async fn assert_said(client: &mut Client, topic: &str) {
    client.push(topic, topic, "said", json!({})).await;
    let frames = [client.frame().await, client.frame().await];
    assert!(frames.iter().any(|frame| frame[3] == "said"), "{frames:?}");
}
