//! Supabase's clients: connecting, joining, leaving, and what is asked for at the join.

use std::time::Duration;

use fanfare::{Endpoint, Mount, Supabase};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::serve;
use crate::support::stage::Stage;
use crate::support::supabase::{House, key, private, realtime, realtime_with, token, user};

#[tokio::test]
async fn supabase_1_and_3_paths_versions_and_the_header_that_wins() {
    let served = realtime().await;
    let key = &key();
    for (target, headers, expected) in [
        (format!("/realtime/v1/websocket?apikey={key}&vsn=1.0.0&log_level=info&eventsPerSecond=10"), None, 101),
        (format!("/realtime/v1/websocket?apikey={key}"), None, 101),
        (format!("/socket/websocket?apikey={key}&vsn=2.0.0"), None, 101),
        (format!("/realtime/v1/websocket?apikey={key}&vsn=3.0.0"), None, 403),
        ("/realtime/v1/websocket?apikey=nonsense".to_owned(), Some(("x-api-key", &**key)), 101),
        (format!("/realtime/v1/websocket?apikey={key}"), Some(("x-api-key", "nonsense")), 401),
        (format!("/realtime/v1/longpoll?apikey={key}"), None, 404),
    ] {
        let headers = headers.map_or(vec![], |header| vec![header]);
        let connected = Client::connect(served.address, &target, &headers).await;
        let status = connected.err().map_or(101, |answer| answer.status);
        assert_eq!(status, expected, "{target} {headers:?}");
    }
}

#[tokio::test]
async fn supabase_4_a_refused_upgrade_says_why() {
    let served = realtime().await;
    let expired = token("anon", "", Duration::ZERO);
    for (key, expected) in [
        ("", "API key is missing"),
        (expired.as_str(), "Token has expired"),
        ("nonsense", "The token provided is not a valid JWT"),
        ("forged/x/1", "Failed to validate JWT signature"),
        ("anon/x/never", "Fields `role` and `exp` are required in JWT"),
    ] {
        let target = format!("/realtime/v1/websocket?apikey={key}");
        let Err(answer) = Client::connect(served.address, &target, &[]).await else { panic!("{key} was let in") };
        assert_eq!((answer.status, answer.json()), (401, json!({ "error": expected })));
    }
    let target = "/realtime/v1/websocket?apikey=panic/x/1";
    assert_eq!(Client::connect(served.address, target, &[]).await.err().unwrap().status, 503);
}

#[tokio::test]
async fn supabase_5_a_token_may_be_encoded_twice_and_broken_into_lines() {
    let served = realtime().await;
    let key = key().replace('/', "%252F").replacen("anon", "an%20on", 1);
    served.client_at(&format!("/realtime/v1/websocket?apikey={key}")).await.assert_untouched_v1().await;
}

impl Client {
    /// A heartbeat of a client of version 1.0.0, answered next.
    pub(crate) async fn assert_untouched_v1(&mut self) {
        self.send_text(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#).await;
        self.assert_text(
            r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":null}"#,
        )
        .await;
    }
}

#[tokio::test]
async fn supabase_16_heartbeats_with_and_without_a_ref() {
    let served = realtime().await;
    served.supabase("1.0.0").await.assert_untouched_v1().await;
    served.supabase("2.0.0").await.assert_untouched().await;
}

#[tokio::test]
async fn supabase_15_malformed_frames_do_not_close_the_socket_until_there_are_too_many() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    for frame in [&b"\x03\x01"[..], b"", b"\x02\x01\x01ab", b"\xff"] {
        client.send(Opcode::Binary, frame, true).await;
    }
    client.send_text("no JSON").await;
    client.assert_untouched().await;
    for _ in 0..100 {
        client.send_text("[]").await;
    }
    assert_eq!(client.close_code().await, 1011);
    assert_eq!(served.counter("drops", "malformed_frame"), 101);
    let mut client = served.supabase("2.0.0").await;
    client.send_text(&" ".repeat(5_000_001)).await;
    assert_eq!(client.close_code().await, 1009);
}

#[tokio::test]
async fn supabase_18_topics_begin_with_realtime() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    let reason = |reason: &str| json!({"status": "error", "response": {"reason": reason}});
    let required = "TopicNameRequired: You must provide a topic name";
    assert_eq!(client.try_join("realtime:", json!({})).await, reason(required));
    assert_eq!(client.try_join("realtime:", private(&user("ada"), json!({}))).await, reason(required));
    for topic in ["room", "private-realtime:a", "private-private-realtime:a", "realtime"] {
        client.send_json(&json!(["1", "1", topic, "phx_join", {}])).await;
        // On the topic that was asked for, whatever the engine calls the private ones.
        assert_eq!(client.frame().await, json!([null, "1", topic, "phx_reply", reason("unmatched topic")]));
    }
    client.enter("realtime:a:b:c", json!({})).await;
}

#[tokio::test]
async fn supabase_19_and_21_joins_with_whatever_they_have() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:a", json!({})).await;
    client.enter("realtime:b", json!({"config": {"broadcast": 7, "presence": "x", "private": null}})).await;
    client.enter("realtime:c", json!(null)).await;
    let bindings = json!([{"event": "*", "schema": "public"}, {"event": "INSERT", "schema": "public", "table": "t"}]);
    let reply = client.try_join("realtime:d", json!({"config": {"postgres_changes": bindings}})).await;
    let expected = json!({"postgres_changes": [
        {"event": "*", "schema": "public", "id": 1},
        {"event": "INSERT", "schema": "public", "table": "t", "id": 2},
    ]});
    assert_eq!(reply, json!({"status": "ok", "response": expected}));
}

#[tokio::test]
async fn supabase_17_join_refs_are_advice() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.send_json(&json!([null, "7", "realtime:a", "phx_join", {"config": {"broadcast": {"ack": true}}}])).await;
    let reply = client.frame().await;
    assert_eq!((&reply[0], &reply[1]), (&Value::Null, &json!("7")));
    let sent = json!({"type": "broadcast", "event": "e", "payload": {}});
    for join_ref in [json!("stale"), json!(null), json!(3)] {
        client.send_json(&json!([join_ref, "8", "realtime:a", "broadcast", sent])).await;
        let reply = client.frame().await;
        assert_eq!(json!([reply[1], reply[4]]), json!(["8", {"status": "ok", "response": {}}]), "{join_ref}");
    }
    // A leave of another join is not this one's; one without a ref is.
    client.send_json(&json!(["stale", "9", "realtime:a", "phx_leave", {}])).await;
    client.assert_untouched().await;
    client.send_json(&json!([null, "9", "realtime:a", "phx_leave", {}])).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
    assert_eq!(client.frame().await[3], "phx_close");
}

#[tokio::test]
async fn supabase_24_a_second_join_ends_the_first_and_a_leave_is_answered() {
    let served = realtime().await;
    let (topic, mut client) = ("realtime:a", served.supabase("2.0.0").await);
    client.enter(topic, json!({})).await;
    client.send_json(&json!(["2", "2", topic, "phx_join", {}])).await;
    assert_eq!(client.frame().await[3], "phx_reply");
    assert_eq!(client.frame().await, json!([topic, topic, topic, "phx_close", {}]));
    // If the new one is refused, the old one is gone as well.
    client.send_json(&json!(["3", "3", topic, "phx_join", private("nonsense", json!({}))])).await;
    assert_eq!(client.frame().await, json!(["2", "2", topic, "phx_close", {}]));
    assert_eq!(client.frame().await[4]["response"]["reason"], "MalformedJWT: The token provided is not a valid JWT");
    assert!(served.endpoint.topics().await.is_empty());
    client.send_json(&json!(["3", "4", topic, "phx_leave", {}])).await;
    assert_eq!(client.frame().await, json!(["3", "4", topic, "phx_reply", {"status": "ok", "response": {}}]));
}

#[tokio::test]
async fn supabase_24_and_55_no_phx_close_meets_a_newer_join_of_version_1() {
    let served = realtime().await;
    let mut client = served.supabase("1.0.0").await;
    let frame =
        |event: &str, msg_ref: &str| json!({"topic": "realtime:a", "event": event, "payload": {}, "ref": msg_ref});
    for (event, msg_ref) in [("phx_join", "1"), ("phx_join", "2"), ("phx_leave", "3"), ("phx_join", "4")] {
        client.send_json(&frame(event, msg_ref)).await;
        let received = client.frame().await;
        assert_eq!((&received["event"], &received["ref"]), (&json!("phx_reply"), &json!(msg_ref)), "{received}");
        if event == "phx_join" {
            // Clients of this version want to know who is there, and cannot say so.
            assert_eq!(client.frame().await["event"], "presence_state");
        }
    }
    client.assert_untouched_v1().await;
}

#[tokio::test]
async fn supabase_25_public_and_private_channels_of_a_name_are_two() {
    let served = realtime().await;
    let topic = "realtime:a";
    let (mut inside, mut outside) = (served.supabase("2.0.0").await, served.supabase("2.0.0").await);
    inside.enter(topic, private(&user("ada"), json!({"presence": {"enabled": true, "key": "ada"}}))).await;
    assert_eq!(inside.frame().await[4], json!({}));
    outside.enter(topic, json!({"config": {"presence": {"enabled": true}}})).await;
    assert_eq!(outside.frame().await[4], json!({}));
    outside.say(topic, "e", &json!({"from": "outside"})).await;
    outside.call(topic, "presence", json!({"event": "track", "payload": {}}), "ok").await;
    outside.frame().await;
    inside.assert_untouched().await;
    inside.say(topic, "e", &json!({"from": "inside"})).await;
    outside.assert_untouched().await;
    // The same socket changes from one to the other.
    inside.send_json(&json!(["2", "2", topic, "phx_join", {}])).await;
    assert_eq!(inside.frame().await, json!([topic, topic, topic, "phx_close", {}]));
    assert_eq!(inside.frame().await[1], "2");
    outside.say(topic, "e", &json!({"n": 2})).await;
    inside.hears(topic, "e", json!({"n": 2})).await;
    assert_eq!(served.endpoint.topics().await.len(), 1);
}

#[tokio::test]
async fn supabase_22_and_48_private_channels_need_a_right_to_read() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    let refused = "Unauthorized: You do not have permissions to read from this Channel topic: a";
    for role in ["anon", "writer"] {
        let token = token(role, "x", Duration::from_secs(60));
        let reply = client.try_join("realtime:a", private(&token, json!({}))).await;
        assert_eq!(reply, json!({"status": "error", "response": {"reason": refused}}));
    }
    for role in ["listener", "looker", "reader", "authenticated", "service_role"] {
        client.enter(&format!("realtime:{role}"), private(&token(role, "x", Duration::from_secs(60)), json!({}))).await;
    }
    // Without a token of its own a channel has that of the connection, also for a key that is none.
    for params in [json!({"config": {"private": true}}), private("sb_publishable_x", json!({}))] {
        assert_eq!(client.try_join("realtime:a", params).await["response"]["reason"], refused);
    }
}

#[tokio::test]
async fn supabase_22_private_channels_only() {
    let served = realtime_with(Supabase::new(House).private_only(true)).await;
    let mut client = served.supabase("2.0.0").await;
    let reason = "PrivateOnly: This project only allows private channels";
    assert_eq!(client.try_join("realtime:a", json!({})).await["response"]["reason"], reason);
    client.enter("realtime:a", private(&user("ada"), json!({}))).await;
}

#[tokio::test]
async fn supabase_25_a_wish_for_privacy_in_other_words_does_not_lead_to_the_public_channel() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    for said in [json!(1), json!("1"), json!("yes"), json!([])] {
        let reply = client.try_join("realtime:a", json!({"config": {"private": said}})).await;
        assert_eq!(reply["status"], "error", "an anonymous member of a private channel: {said} {reply}");
    }
}

#[tokio::test]
async fn supabase_25_private_channels_are_reached_by_no_other_mount() {
    let phoenix = Mount::new().channel("private-realtime:*", Stage::default()).channel("*", Stage::default());
    let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
    let hub = Mount::hub().topic_prefix("private-").waits_for_topic(true);
    let supabase = Mount::supabase(Supabase::new(House));
    let builder = Endpoint::builder().mount("/phoenix", phoenix).mount("/hub", hub).mount("/realtime/v1", supabase);
    let served = serve(builder).await;
    let mut client = served.client_at("/phoenix/websocket?vsn=2.0.0").await;
    assert_eq!(client.try_join("realtime:a", json!({})).await["status"], "ok");
    for topic in ["private-realtime:a", "postgres_changes:public:orders"] {
        assert_eq!(client.try_join(topic, json!({})).await, unmatched, "{topic}");
    }
    for (domain, status) in [("realtime:a", 403), ("realtime-a", 101)] {
        let connected = Client::connect(served.address, &format!("/hub/sub/{domain}/b"), &[]).await;
        assert_eq!(connected.err().map_or(101, |answer| answer.status), status, "{domain}");
    }
}

#[tokio::test]
async fn supabase_51_changes_that_are_not_served_are_told_once_and_the_channel_stays() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    let params = json!({"config": {"postgres_changes": [{"event": "*", "schema": "public"}]}});
    for topic in ["realtime:a", "realtime:b"] {
        client.try_join(topic, params.clone()).await;
        let told = client.system(topic).await;
        assert_eq!((&told["extension"], &told["status"]), (&json!("postgres_changes"), &json!("error")));
        assert!(told["message"].as_str().unwrap().starts_with("postgres_changes are not served here: "));
        assert_eq!(told["channel"], topic.strip_prefix("realtime:").unwrap());
    }
    client.send_json(&json!(["2", "2", "realtime:a", "phx_join", params])).await;
    assert_eq!(client.frame().await[4]["status"], "ok");
    assert_eq!(client.frame().await[3], "phx_close");
    client.assert_untouched().await;
    let mut waits = params.clone();
    waits["config"]["postgres_changes_options"] = json!({"wait": true});
    let reply = client.try_join("realtime:c", waits).await;
    assert!(reply["response"]["reason"].as_str().unwrap().starts_with("RealtimeDisabledForConfiguration: "));

    let served = realtime_with(Supabase::new(House).refuses_changes(true)).await;
    let reply = served.supabase("2.0.0").await.try_join("realtime:c", params).await;
    assert!(reply["response"]["reason"].as_str().unwrap().starts_with("RealtimeDisabledForConfiguration: "));
}

#[tokio::test]
async fn supabase_40_and_53_replication_is_ready() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:a", json!({"config": {"broadcast": {"replication_ready": true}}})).await;
    let ready =
        json!({"extension": "system", "status": "ok", "message": "Replication connection established", "channel": "a"});
    assert_eq!(client.system("realtime:a").await, ready);
}

#[tokio::test]
async fn supabase_23_what_a_join_is_told_comes_in_order_and_no_message_is_missed() {
    let served = realtime().await;
    let topic = "realtime:kept:a";
    let mut sender = served.supabase("2.0.0").await;
    sender.enter(topic, private(&user("ada"), json!({"broadcast": {"ack": true}}))).await;
    sender.say(topic, "e", &json!({"n": "kept"})).await;
    assert_eq!(sender.frame().await[4]["status"], "ok");
    let config = json!({
        "presence": {"enabled": true}, "postgres_changes": [{"event": "*", "schema": "public"}],
        "broadcast": {"replay": {"since": 1}},
    });
    for round in 0..10 {
        let mut reader = served.supabase("2.0.0").await;
        reader.send_json(&json!(["1", "1", topic, "phx_join", private(&user("bob"), config.clone())])).await;
        sender.say(topic, "e", &json!({ "n": round })).await;
        let (mut events, mut told) = (Vec::new(), Vec::new());
        // The answer, who is there, what is not served, and as many messages as were sent.
        while told.len() < round + 2 || events.len() < 3 {
            match reader.receive().await {
                Received::Text(text) => {
                    let frame: Value = serde_json::from_str(&text).unwrap();
                    events.push(frame[3].as_str().unwrap().to_owned());
                }
                Received::Binary(frame) => {
                    let at = frame.iter().rposition(|byte| *byte == b'{').unwrap();
                    told.push(serde_json::from_slice::<Value>(&frame[at..]).unwrap()["n"].clone());
                }
                other => panic!("{other:?}"),
            }
            assert!(told.is_empty() || events.len() == 3, "a message came before {events:?}: {told:?}");
        }
        let mut expected = vec![json!("kept")];
        expected.extend((0..=round).map(|n| json!(n)));
        assert_eq!((&told, events.join(" ").as_str()), (&expected, "phx_reply presence_state system"), "round {round}");
        sender.frame().await;
    }
}

#[tokio::test]
async fn supabase_54_an_answer_that_comes_late_is_that_of_its_own_join() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    for frame in [
        json!(["1", "1", "realtime:a", "phx_join", {}]),
        json!(["1", "2", "realtime:a", "phx_leave", {}]),
        json!(["3", "3", "realtime:a", "phx_join", {"config": {"broadcast": {"self": true}}}]),
    ] {
        client.send_json(&frame).await;
    }
    for expected in [["1", "1", "phx_reply"], ["1", "2", "phx_reply"], ["1", "1", "phx_close"], ["3", "3", "phx_reply"]]
    {
        let frame = client.frame().await;
        assert_eq!(json!([frame[0], frame[1], frame[3]]), json!(expected));
    }
    client.say("realtime:a", "e", &json!({})).await;
    client.hears("realtime:a", "e", json!({})).await;
}

#[tokio::test]
async fn supabase_30_and_31_kept_messages_come_on_request() {
    let served = realtime().await;
    let topic = "realtime:kept:a";
    let mut sender = served.supabase("2.0.0").await;
    sender.enter(topic, private(&user("ada"), json!({"broadcast": {"ack": true}}))).await;
    for n in 0..30 {
        sender.say(topic, "e", &json!({ "n": n })).await;
        assert_eq!(sender.frame().await[4]["status"], "ok");
    }
    let mut reader = served.supabase("2.0.0").await;
    let join = |replay: Value| private(&user("bob"), json!({"broadcast": {"replay": replay}}));
    // The newest, oldest first, and what comes then is live.
    for (replay, first) in
        [(json!({"since": 1, "limit": 2}), 28), (json!({"since": 1, "limit": 1_000}), 5), (json!({"since": 1}), 5)]
    {
        reader.send_json(&json!(["1", "1", topic, "phx_join", join(replay)])).await;
        assert_eq!(reader.frame().await[4], json!({"status": "ok", "response": {"postgres_changes": []}}));
        for n in first..30 {
            let (_, event, meta, payload) = reader.broadcast().await;
            assert_eq!((event.as_str(), payload, &meta["replayed"]), ("e", json!({ "n": n }), &json!(true)));
            assert!(meta["id"].is_string());
        }
        sender.say(topic, "e", &json!({"n": "live"})).await;
        sender.frame().await;
        let (_, _, meta, payload) = reader.broadcast().await;
        assert_eq!((payload, &meta["replayed"]), (json!({"n": "live"}), &Value::Null));
        served.endpoint.publish(fanfare::Publish::new("private-realtime:other", "e", json!({}))).await.unwrap();
        reader.send_json(&json!(["1", "9", topic, "phx_leave", {}])).await;
        assert_eq!(reader.frame().await[3], "phx_reply");
        assert_eq!(reader.frame().await[3], "phx_close");
        // Live ones are kept as well: the next reader gets those.
        break_even(&mut sender, topic).await;
    }
    let in_an_hour =
        std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as u64 + 3_600_000;
    reader.enter(topic, join(json!({ "since": in_an_hour }))).await;
    reader.assert_untouched().await;
    let invalid = "UnableToReplayMessages: Replay params are not valid";
    assert_eq!(
        served.supabase("2.0.0").await.try_join(topic, join(json!({"limit": 3}))).await["response"]["reason"],
        invalid
    );
    let public = json!({"config": {"broadcast": {"replay": {"since": 1}}}});
    let refused = "UnableToReplayMessages: Replay is not allowed for public channels";
    assert_eq!(served.supabase("2.0.0").await.try_join(topic, public).await["response"]["reason"], refused);
    // A topic that keeps nothing replays nothing.
    let mut reader = served.supabase("2.0.0").await;
    reader.enter("realtime:b", join(json!({"since": 1}))).await;
    reader.assert_untouched().await;
}

/// Thirty messages again, the newest of which are numbered as before.
async fn break_even(sender: &mut Client, topic: &str) {
    for n in 0..30 {
        sender.say(topic, "e", &json!({ "n": n })).await;
        assert_eq!(sender.frame().await[4]["status"], "ok");
    }
}

#[tokio::test]
async fn supabase_43_a_drain_ends_the_socket_so_that_clients_come_back() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:a", json!({})).await;
    let limit = Duration::from_secs(1);
    served.endpoint.drain(fanfare::Drain { batch: 10, every: Duration::from_millis(10), limit }).await;
    loop {
        match client.receive().await {
            Received::Closed(code) => break assert_eq!(code, 1012),
            Received::Ended => panic!("no close frame"),
            _ => {}
        }
    }
}
