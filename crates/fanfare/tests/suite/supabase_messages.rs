//! Supabase's clients: broadcasts in all forms, to whom they come, and how they are answered.

use std::time::Duration;

use fanfare::{Publish, Supabase};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use crate::support::client::Received;
use crate::support::supabase::{House, kind_3, private, realtime, realtime_with, token, user};

const TOPIC: &str = "realtime:a";

fn v1(event: &str, msg_ref: Value, payload: Value) -> Value {
    json!({"topic": TOPIC, "event": event, "payload": payload, "ref": msg_ref})
}

#[tokio::test]
async fn supabase_12_13_and_26_every_client_gets_every_broadcast_in_its_form() {
    let served = realtime().await;
    let mut new = served.supabase("2.0.0").await;
    new.enter(TOPIC, json!({})).await;
    let mut old = served.supabase("1.0.0").await;
    old.send_json(&v1("phx_join", json!("1"), json!({"config": {"presence": {"enabled": false}}}))).await;
    old.frame().await;
    let mut sender = served.supabase("2.0.0").await;
    sender.enter(TOPIC, json!({})).await;
    for payload in [json!({"b": 1}), json!([1, "x"]), json!("text"), json!(null), json!(1.5)] {
        sender.say(TOPIC, "msg", &payload).await;
        new.hears(TOPIC, "msg", payload.clone()).await;
        let envelope = json!({"type": "broadcast", "event": "msg", "payload": payload});
        assert_eq!(old.frame().await, v1("broadcast", json!(null), envelope.clone()));
        sender.push(TOPIC, TOPIC, "broadcast", envelope).await;
        new.hears(TOPIC, "msg", payload).await;
        old.frame().await;
    }
    // What is published by anything else, under names that the protocol has for itself as well.
    for event in ["from outside", "presence_diff", "phx_close", "system", "broadcast", ""] {
        sender.say(TOPIC, event, &json!({})).await;
        new.hears(TOPIC, event, json!({})).await;
        assert_eq!(old.frame().await["payload"]["event"], event);
    }
    served.endpoint.publish(Publish::new(TOPIC, "from outside", json!({"n": 1}))).await.unwrap();
    new.hears(TOPIC, "from outside", json!({"n": 1})).await;
    old.frame().await;
    // Clients of version 1.0.0 get no bytes, and the others their own.
    sender.send(Opcode::Binary, &kind_3("2", TOPIC, "bytes", 0, b"\0\xff"), true).await;
    new.hears(TOPIC, "bytes", json!([0, 255])).await;
    assert_eq!(old.receive().await, Received::Pong(Vec::new()));
    old.assert_untouched_v1().await;
    // The envelope of old clients comes out of new ones.
    old.send_json(&v1("broadcast", json!("2"), json!({"type": "broadcast", "event": "old", "payload": {"a": 1}})))
        .await;
    new.hears(TOPIC, "old", json!({"a": 1})).await;
    sender.assert_untouched_after_broadcasts(1).await;
}

impl crate::support::client::Client {
    /// So many broadcasts, and then nothing but a heartbeat.
    async fn assert_untouched_after_broadcasts(&mut self, count: usize) {
        for _ in 0..count {
            // What it has published itself does not come back; the rest is of others.
            while self.broadcast().await.1 == "from outside" {}
        }
        self.assert_untouched().await;
    }
}

#[tokio::test]
async fn supabase_26_nobody_sets_the_metadata_of_a_message() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, json!({"config": {"broadcast": {"self": true}}})).await;
    let forged = json!({"type": "other", "event": "e", "payload": {}, "meta": {"id": "x", "replayed": true}});
    client.push(TOPIC, TOPIC, "broadcast", forged).await;
    client.hears(TOPIC, "e", json!({})).await;
}

#[tokio::test]
async fn supabase_27_the_sender_gets_its_own_if_it_asks() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, json!({"config": {"broadcast": {"self": true}}})).await;
    client.enter("realtime:b", json!({})).await;
    for n in 0..3 {
        client.say(TOPIC, "e", &json!({ "n": n })).await;
        client.say("realtime:b", "e", &json!({ "n": n })).await;
    }
    for n in 0..3 {
        client.hears(TOPIC, "e", json!({ "n": n })).await;
    }
    client.assert_untouched().await;
}

#[tokio::test]
async fn supabase_28_answers_on_request_and_errors_always() {
    let served = realtime_with(Supabase::new(House).payload_size_max(1_000)).await;
    let mut client = served.supabase("2.0.0").await;
    let sent = |payload: Value| json!({"type": "broadcast", "event": "e", "payload": payload});
    let large = || sent(json!("x".repeat(1_000)));
    client.enter(TOPIC, json!({"config": {"broadcast": {"ack": true}}})).await;
    assert_eq!(client.call(TOPIC, "broadcast", sent(json!({})), "ok").await, json!({}));
    let too_large = json!({"reason": "payload_size_exceeded"});
    assert_eq!(client.call(TOPIC, "broadcast", large(), "error").await, too_large);
    client.enter("realtime:b", json!({})).await;
    client.push("realtime:b", "realtime:b", "broadcast", sent(json!({}))).await;
    client.assert_untouched().await;
    assert_eq!(client.call("realtime:b", "broadcast", large(), "error").await, too_large);
    // Nobody waits where there is no ref.
    client.send_json(&json!([null, null, TOPIC, "broadcast", large()])).await;
    client.send_json(&json!([null, null, TOPIC, "broadcast", sent(json!({}))])).await;
    client.assert_untouched().await;
    client.call(TOPIC, "broadcast", json!({"no": "event"}), "error").await;
    // Who asks why is told the size, and what is allowed.
    let mut facts = served.endpoint.facts();
    facts.sort_by_key(|fact| fact.topic.clone());
    let why: Vec<_> = facts.iter().map(|fact| (fact.kind, fact.reason, fact.topic.as_deref())).collect();
    let expected = |topic| ("push_refused", "payload_too_large", Some(topic));
    assert_eq!(why, [expected(TOPIC), expected("realtime:b")]);
    assert_eq!(facts[0].count, 2);
    let detail = "the payload of a broadcast has 1002 bytes, more than 1000: send less, or in several broadcasts";
    assert_eq!(&*facts[0].detail, detail);
    assert_eq!((served.counter("drops", "payload_too_large"), served.counter("pushes", "refused")), (3, 2));
}

#[tokio::test]
async fn supabase_29_other_events_mean_nothing() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, json!({"config": {"broadcast": {"self": true}}})).await;
    for event in ["shout", "postgres_changes", "presence_diff", "phx_close", "broadcast/e"] {
        client.push(TOPIC, TOPIC, event, json!({})).await;
    }
    client.assert_untouched().await;
    assert_eq!(served.counter("drops", "ignored_event"), 5);
}

#[tokio::test]
async fn supabase_48_broadcasts_come_to_those_who_may_read_them_and_from_those_who_may_write() {
    let served = realtime().await;
    let as_role = |role: &str, config: Value| private(&token(role, "x", Duration::from_secs(60)), config);
    let mut clients = Vec::new();
    for role in ["listener", "looker", "reader"] {
        let mut client = served.supabase("2.0.0").await;
        client.enter(TOPIC, as_role(role, json!({}))).await;
        clients.push(client);
    }
    let mut writer = served.supabase("2.0.0").await;
    writer.enter(TOPIC, private(&user("ada"), json!({"presence": {"key": "ada"}}))).await;
    writer.say(TOPIC, "e", &json!({})).await;
    writer.call(TOPIC, "presence", json!({"event": "track", "payload": {}}), "ok").await;
    let [listener, looker, reader] = &mut clients[..] else { unreachable!() };
    for client in [&mut *listener, &mut *reader] {
        client.hears(TOPIC, "e", json!({})).await;
    }
    for client in [&mut *looker, &mut *reader] {
        assert_eq!(client.frame().await[3], "presence_diff");
    }
    for client in clients.iter_mut() {
        client.assert_untouched().await;
        let refused = client.call(TOPIC, "broadcast", json!({"event": "e", "payload": {}}), "error").await;
        let reason = "Unauthorized: You do not have permissions to write to this Channel topic: a";
        assert_eq!(refused, json!({ "reason": reason }));
        client.call(TOPIC, "presence", json!({"event": "track", "payload": {}}), "error").await;
    }
}

#[tokio::test]
async fn supabase_26_order_holds_per_publisher() {
    let served = realtime().await;
    let (mut sender, mut reader) = (served.supabase("2.0.0").await, served.supabase("2.0.0").await);
    sender.enter(TOPIC, json!({})).await;
    reader.enter(TOPIC, json!({})).await;
    for n in 0..500 {
        sender.say(TOPIC, "e", &json!({ "n": n })).await;
    }
    for n in 0..500 {
        reader.hears(TOPIC, "e", json!({ "n": n })).await;
    }
}
