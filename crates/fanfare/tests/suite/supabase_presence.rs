//! Supabase's clients: who is there, by `track`.

use serde_json::{Value, json};

use crate::support::Served;
use crate::support::client::Client;
use crate::support::supabase::{private, realtime, user};

const TOPIC: &str = "realtime:a";

async fn member(served: &Served, key: &str) -> (Client, Value) {
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, json!({"config": {"presence": {"key": key, "enabled": true}}})).await;
    let state = client.frame().await;
    assert_eq!(json!([state[0], state[1], state[2], state[3]]), json!([TOPIC, null, TOPIC, "presence_state"]));
    (client, state[4].clone())
}

fn track(meta: Value) -> Value {
    json!({"type": "presence", "event": "track", "payload": meta})
}

/// The next diff, with the refs of its metas taken out.
async fn diff(client: &mut Client) -> (Value, Value) {
    let frame = client.frame().await;
    assert_eq!(json!([frame[0], frame[1], frame[2], frame[3]]), json!([null, null, TOPIC, "presence_diff"]), "{frame}");
    (frame[4]["joins"].clone(), frame[4]["leaves"].clone())
}

fn phx_ref(part: &Value, key: &str) -> String {
    part[key]["metas"][0]["phx_ref"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn supabase_33_and_36_nobody_is_shown_by_joining() {
    let served = realtime().await;
    let (mut ada, state) = member(&served, "ada").await;
    assert_eq!(state, json!({}));
    let (mut bob, state) = member(&served, "bob").await;
    assert_eq!(state, json!({}));
    ada.call(TOPIC, "presence", track(json!({"x": 1})), "ok").await;
    let (joins, leaves) = diff(&mut ada).await;
    assert_eq!((&joins["ada"]["metas"][0]["x"], leaves), (&json!(1), json!({})));
    assert_eq!(diff(&mut bob).await.0, joins);
    let (_, state) = member(&served, "eve").await;
    assert_eq!(state, joins);
    // Diffs come to those who do not ask for the state as well.
    let mut quiet = served.supabase("2.0.0").await;
    quiet.enter(TOPIC, json!({"config": {"presence": {"enabled": false}}})).await;
    for event in ["UNTRACK", "untrack"] {
        ada.push(TOPIC, TOPIC, "presence", json!({ "event": event })).await;
    }
    for client in [&mut bob, &mut quiet] {
        let (joins_now, leaves) = diff(client).await;
        assert_eq!((joins_now, leaves), (json!({}), joins.clone()));
    }
    // The own diff may come before the answer or after it.
    let frames = [ada.frame().await, ada.frame().await, ada.frame().await];
    assert_eq!(frames.iter().filter(|frame| frame[3] == "phx_reply" && frame[4]["status"] == "ok").count(), 2);
}

#[tokio::test]
async fn supabase_34_and_35_another_track_replaces_in_one_diff() {
    let served = realtime().await;
    let (mut ada, _) = member(&served, "ada").await;
    let (mut bob, _) = member(&served, "bob").await;
    ada.call(TOPIC, "presence", track(json!({"x": 1})), "ok").await;
    let first = phx_ref(&diff(&mut bob).await.0, "ada");
    diff(&mut ada).await;
    ada.call(TOPIC, "presence", track(json!({"x": 1})), "ok").await;
    bob.assert_untouched().await;
    ada.call(TOPIC, "presence", json!({"event": "TRACK", "payload": {"x": 2, "phx_ref": "forged"}}), "ok").await;
    let (joins, leaves) = diff(&mut bob).await;
    assert_eq!((&joins["ada"]["metas"][0]["x"], &joins["ada"]["metas"][0]["phx_ref_prev"]), (&json!(2), &json!(first)));
    assert_ne!(phx_ref(&joins, "ada"), "forged");
    assert_eq!(phx_ref(&leaves, "ada"), first);
    assert_eq!(joins["ada"]["metas"].as_array().unwrap().len(), 1);
    // Two sockets with one key are two metas.
    let (mut twin, _) = member(&served, "ada").await;
    twin.call(TOPIC, "presence", track(json!({"twin": true})), "ok").await;
    let (_, state) = member(&served, "eve").await;
    assert_eq!(state["ada"]["metas"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn supabase_37_diffs_come_to_the_member_itself_and_have_no_refs() {
    let served = realtime().await;
    let (mut ada, _) = member(&served, "ada").await;
    ada.push(TOPIC, TOPIC, "presence", track(json!({"x": 1}))).await;
    let frames = [ada.frame().await, ada.frame().await];
    let told = frames.iter().find(|frame| frame[3] == "presence_diff").expect("a diff");
    assert_eq!(json!([told[0], told[1], told[2]]), json!([null, null, TOPIC]));
    assert_eq!((&told[4]["joins"]["ada"]["metas"][0]["x"], &told[4]["leaves"]), (&json!(1), &json!({})));
}

#[tokio::test]
async fn supabase_34_what_is_no_meta_is_refused() {
    let served = realtime().await;
    let (mut ada, _) = member(&served, "ada").await;
    for meta in [json!("text"), json!([1]), json!(null)] {
        let refused = ada.call(TOPIC, "presence", track(meta), "error").await;
        assert_eq!(refused, json!({"reason": "Presence track payload must be a map"}));
    }
    for payload in [json!({}), json!([]), json!({"event": "dance"}), json!({"event": 5})] {
        ada.call(TOPIC, "presence", payload, "error").await;
    }
    let large = track(json!({"x": "x".repeat(64_000)}));
    let refused = ada.call(TOPIC, "presence", large, "error").await;
    assert!(refused["reason"].as_str().unwrap().starts_with("Track message size exceeded: "), "{refused}");
    ada.assert_untouched().await;
    let facts = served.endpoint.facts();
    let too_large: Vec<_> = facts.iter().filter(|fact| fact.reason == "payload_too_large").collect();
    assert_eq!(too_large.len(), 1, "{facts:?}");
    assert!(too_large[0].detail.contains("it has 64008 bytes, more than 64000"), "{too_large:?}");
    assert!(facts.iter().all(|fact| fact.detail.contains("resence") || fact.detail.contains("Track")), "{facts:?}");
}

#[tokio::test]
async fn supabase_36_whoever_leaves_or_is_cut_off_is_gone() {
    let served = realtime().await;
    let (mut bob, _) = member(&served, "bob").await;
    for leaves_first in [true, false] {
        let (mut ada, _) = member(&served, "ada").await;
        ada.call(TOPIC, "presence", track(json!({})), "ok").await;
        let (joins, _) = diff(&mut bob).await;
        if leaves_first {
            ada.push(TOPIC, TOPIC, "phx_leave", json!({})).await;
        } else {
            drop(ada);
        }
        assert_eq!(diff(&mut bob).await, (json!({}), joins));
    }
}

#[tokio::test]
async fn supabase_32_and_38_keys_that_are_missing_or_harmful_are_made_up() {
    let served = realtime().await;
    let (mut bob, _) = member(&served, "bob").await;
    for key in ["", "ids", "__proto__", "constructor", "toString"] {
        let (mut ada, _) = member(&served, key).await;
        ada.call(TOPIC, "presence", track(json!({})), "ok").await;
        let (joins, _) = diff(&mut bob).await;
        let shown: Vec<&String> = joins.as_object().unwrap().keys().collect();
        assert_eq!((shown.len(), shown[0].len()), (1, 36), "{key}: {shown:?}");
        ada.push(TOPIC, TOPIC, "phx_leave", json!({})).await;
        diff(&mut bob).await;
    }
    let params = json!({"config": {"presence": {"key": "x".repeat(256)}}});
    let reply = served.supabase("2.0.0").await.try_join(TOPIC, params).await;
    assert_eq!(reply["response"]["reason"], "the presence key has 256 bytes, more than 255");
}

#[tokio::test]
async fn supabase_b3_too_many_tracks_are_merged_and_never_close() {
    let served = realtime().await;
    let (mut ada, _) = member(&served, "ada").await;
    let (mut bob, _) = member(&served, "bob").await;
    for n in 0..50 {
        ada.push(TOPIC, TOPIC, "presence", track(json!({ "n": n }))).await;
    }
    let (mut diffs, mut last) = (0, json!(null));
    while last != 49 {
        let (joins, _) = diff(&mut bob).await;
        (diffs, last) = (diffs + 1, joins["ada"]["metas"][0]["n"].clone());
    }
    // A busy machine may have begun another window, or several.
    assert!(diffs < 40, "{diffs}");
    bob.assert_untouched().await;
}

#[tokio::test]
async fn supabase_48_a_key_that_is_somebody_elses_is_not_shown() {
    let served = realtime().await;
    let mut ada = served.supabase("2.0.0").await;
    let config = json!({"presence": {"key": "somebody else", "enabled": true}});
    ada.enter(TOPIC, private(&user("ada"), config)).await;
    assert_eq!(ada.frame().await[4], json!({}));
    assert_eq!(ada.call(TOPIC, "presence", track(json!({})), "error").await, json!({}));
}
