//! Presence: who is in a topic, as clients are told.

use std::collections::BTreeMap;
use std::time::Duration;

use fanfare::testing::{TestEndpoint, TestJoin, anything};
use fanfare::{Change, Endpoint, Extras, Mount, Presence, PresenceHooks, Route};
use parking_lot::Mutex;
use serde_json::{Value, json};
use std::sync::Arc;

use crate::support::roster::{Roster, refs};
use crate::support::stage::Stage;
use crate::support::{serve, stage};

async fn kit(presence: Presence) -> TestEndpoint {
    TestEndpoint::start(Endpoint::builder().shards(2).presence(presence).mount("/socket", stage())).await
}

async fn join(test: &TestEndpoint, key: &str, at: u64) -> (fanfare::testing::TestSocket, TestJoin) {
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let room = socket.join("room:1", json!({"track": key, "at": at})).await.unwrap();
    (socket, room)
}

/// The metas of one key in a state or a half of a diff, without their refs.
fn metas(presences: &Value, key: &str) -> Vec<Value> {
    let strip = |meta: &Value| {
        let mut meta = meta.clone();
        let fields = meta.as_object_mut().unwrap();
        assert!(fields.remove("phx_ref").is_some_and(|phx_ref| !phx_ref.as_str().unwrap().is_empty()));
        fields.remove("phx_ref_prev");
        meta
    };
    presences[key]["metas"].as_array().map(|metas| metas.iter().map(strip).collect()).unwrap_or_default()
}

#[tokio::test]
async fn state_then_diffs() {
    let test = kit(Presence::new()).await;
    let (_ada, first) = join(&test, "ada", 1).await;
    let state = first.assert_push("presence_state", anything()).await;
    assert_eq!(metas(&state, "ada"), [json!({"at": 1})]);
    first.assert_push("presence_diff", anything()).await;
    let (_bob, second) = join(&test, "bob", 2).await;
    let state = second.assert_push("presence_state", anything()).await;
    assert_eq!((metas(&state, "ada").len(), metas(&state, "bob").len()), (1, 1));
    let diff = first.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["joins"], "bob"), [json!({"at": 2})]);
    assert_eq!(diff["leaves"], json!({}));
    let state_ref = &state["bob"]["metas"][0]["phx_ref"];
    assert_eq!(&diff["joins"]["bob"]["metas"][0]["phx_ref"], state_ref);
    second.leave().await;
    let diff = first.assert_push("presence_diff", anything()).await;
    assert_eq!(diff["joins"], json!({}));
    assert_eq!(&diff["leaves"]["bob"]["metas"][0]["phx_ref"], state_ref);
    let listed: Value = test.endpoint().presences("room:1").await.to().unwrap();
    assert_eq!(listed.as_object().unwrap().keys().collect::<Vec<_>>(), ["ada"]);
}

#[tokio::test]
async fn update_is_one_diff_with_both_halves() {
    let test = kit(Presence::new()).await;
    let (_socket, room) = join(&test, "ada", 1).await;
    let before = room.assert_push("presence_diff", anything()).await["joins"]["ada"]["metas"][0].clone();
    room.push("update", json!({"key": "ada", "meta": {"at": 2, "phx_ref": "forged"}})).await;
    let diff = room.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["joins"], "ada"), [json!({"at": 2})]);
    assert_eq!(diff["leaves"]["ada"]["metas"], json!([before]));
    let after = &diff["joins"]["ada"]["metas"][0];
    assert_eq!(after["phx_ref_prev"], before["phx_ref"]);
    assert!(after["phx_ref"] != before["phx_ref"] && after["phx_ref"] != "forged");
    room.push("untrack", json!({"key": "ada"})).await;
    let diff = room.assert_push("presence_diff", anything()).await;
    assert_eq!(diff["leaves"]["ada"]["metas"][0]["phx_ref"], after["phx_ref"]);
    room.push("untrack", json!({"key": "ada"})).await;
    room.refute_push("presence_diff").await;
}

#[tokio::test]
async fn tracking_twice_and_updating_nothing_are_errors_of_the_channel() {
    let test = kit(Presence::new()).await;
    for (event, told) in [
        ("track", json!({"key": "ada", "meta": {}})),
        ("update", json!({"key": "nobody", "meta": {}})),
        ("update", json!({"key": "ada", "meta": []})),
        ("track", json!({"key": "other", "meta": "no object"})),
    ] {
        let (_socket, room) = join(&test, "ada", 1).await;
        room.push(event, told).await;
        room.assert_crashed().await;
        test.settle().await;
        assert_eq!(test.endpoint().presences("room:1").await.as_str(), "{}", "a crash takes its presences along");
    }
}

#[tokio::test]
async fn a_key_stays_while_somebody_tracks_it() {
    let test = kit(Presence::new()).await;
    let (_watch, watcher) = join(&test, "eve", 0).await;
    watcher.assert_push("presence_diff", anything()).await;
    let (phone, _phone_room) = join(&test, "ada", 1).await;
    watcher.assert_push("presence_diff", anything()).await;
    let (laptop, laptop_room) = join(&test, "ada", 2).await;
    let state = laptop_room.assert_push("presence_state", anything()).await;
    assert_eq!(metas(&state, "ada").len(), 2);
    watcher.assert_push("presence_diff", anything()).await;
    phone.close().await;
    let diff = watcher.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["leaves"], "ada"), [json!({"at": 1})]);
    let present: Value = test.endpoint().presences("room:1").await.to().unwrap();
    assert_eq!(metas(&present, "ada"), [json!({"at": 2})]);
    laptop.lose().await;
    let diff = watcher.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["leaves"], "ada"), [json!({"at": 2})]);
}

#[tokio::test]
async fn who_comes_back_within_the_grace_has_never_left() {
    let test = kit(Presence::new().leave_grace(Duration::from_secs(5))).await;
    let (_watch, watcher) = join(&test, "eve", 0).await;
    watcher.assert_push("presence_diff", anything()).await;
    let (socket, room) = join(&test, "ada", 1).await;
    watcher.assert_push("presence_diff", anything()).await;
    drop(room);
    socket.lose().await;
    test.advance(Duration::from_millis(4_900)).await;
    watcher.refute_push("presence_diff").await;
    let (back, room) = join(&test, "ada", 2).await;
    let diff = watcher.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["joins"], "ada"), [json!({"at": 2})]);
    assert_eq!(metas(&diff["leaves"], "ada"), [json!({"at": 1})], "in one diff");
    test.advance(Duration::from_secs(60)).await;
    watcher.refute_push("presence_diff").await;
    // Leaving on purpose knows no grace.
    room.leave().await;
    let diff = watcher.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["leaves"], "ada"), [json!({"at": 2})]);
    drop(back);
}

#[tokio::test]
async fn who_stays_away_leaves_when_the_grace_is_over() {
    let test = kit(Presence::new().leave_grace(Duration::from_secs(5))).await;
    let (_watch, watcher) = join(&test, "eve", 0).await;
    watcher.assert_push("presence_diff", anything()).await;
    let (socket, room) = join(&test, "ada", 1).await;
    watcher.assert_push("presence_diff", anything()).await;
    drop(room);
    socket.lose().await;
    test.advance(Duration::from_secs(4)).await;
    watcher.refute_push("presence_diff").await;
    test.advance(Duration::from_secs(2)).await;
    let diff = watcher.assert_push("presence_diff", anything()).await;
    assert_eq!(metas(&diff["leaves"], "ada"), [json!({"at": 1})]);
    let present: Value = test.endpoint().presences("room:1").await.to().unwrap();
    assert_eq!(present.as_object().unwrap().keys().collect::<Vec<_>>(), ["eve"]);
}

/// Under concurrent joins, updates and leaves every client that watches ends with what the server has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_watcher_converges_under_concurrency() {
    let served = serve(Endpoint::builder().shards(4).mount("/socket", stage())).await;
    let mut actors = Vec::new();
    for n in 0..12 {
        let mut client = served.client().await;
        actors.push(tokio::spawn(async move {
            let key = format!("user{}", n % 5);
            for round in 0..6 {
                let join_ref = format!("{n}-{round}");
                let params = json!({"track": key, "at": round});
                client.send_json(&json!([join_ref, join_ref, "room:1", "phx_join", params])).await;
                for _ in 0..3 {
                    client.push(&join_ref, "room:1", "update", json!({"key": key, "meta": {"n": n}})).await;
                }
                if round < 5 {
                    client.push(&join_ref, "room:1", "phx_leave", json!({})).await;
                }
            }
            // Reads on, so that it is no slow reader, until its own last word has been handled.
            let last = client.push("11-5", "room:1", "phx_join", json!({"refuse": "last"})).await;
            let _ = last;
            client
        }));
    }
    let mut watchers = Vec::new();
    for _ in 0..4 {
        let mut client = served.client().await;
        client.try_join("room:1", json!({"track": "watcher"})).await;
        watchers.push(client);
    }
    let mut clients = Vec::new();
    for actor in actors {
        clients.push(actor.await.unwrap());
    }
    // A last diff that all watchers see behind all others.
    let mut last = served.client().await;
    crate::support::eventually("the actors are done", async || {
        last.try_join("room:probe", json!({})).await;
        last.push("room:probe", "room:probe", "phx_leave", json!({})).await;
        last.frame().await;
        last.frame().await;
        served.counter("joins", "refused") == 12
    })
    .await;
    // Counted is not yet handed over to the other shards: that happens at the end of a turn, and the answer to the second
    // question can only come from a later turn.
    for _ in 0..2 {
        assert!(served.endpoint.is_alive(Duration::from_secs(5)).await);
    }
    served.endpoint.broadcast("room:1", "the end", json!({})).await.unwrap();
    let state: Value = served.endpoint.presences("room:1").await.to().unwrap();
    let expected: BTreeMap<_, _> =
        state.as_object().unwrap().iter().map(|(k, metas)| (k.clone(), refs(metas))).collect();
    let sorted = |mut presences: BTreeMap<String, Vec<String>>| {
        presences.values_mut().for_each(|refs| refs.sort());
        presences
    };
    for (number, mut watcher) in watchers.into_iter().enumerate() {
        let mut roster = Roster::default();
        loop {
            let frame = watcher.frame().await;
            let event = frame[3].as_str().unwrap().to_owned();
            if event == "the end" {
                break;
            }
            roster.take(&event, frame[4].clone());
        }
        assert_eq!(sorted(roster.present.unwrap()), sorted(expected.clone()), "watcher {number}");
    }
}

/// Adds a name to every presence, and writes down what changed.
#[derive(Clone, Default)]
struct Names(Arc<Mutex<Vec<(usize, usize, usize)>>>);

impl PresenceHooks for Names {
    async fn fetch(&self, _: &str, keys: Vec<String>) -> Extras {
        tokio::task::yield_now().await;
        keys.into_iter()
            .map(|key| {
                let name = json!(format!("Dr. {key}"));
                (key, [("name".to_owned(), name)].into_iter().collect())
            })
            .collect()
    }

    async fn handle_metas(&self, _: &Endpoint, _: &str, change: Change) {
        self.0.lock().push((change.joins.iter().count(), change.leaves.iter().count(), change.present.iter().count()));
    }
}

#[tokio::test]
async fn hooks_add_to_state_and_diffs_alike() {
    let names = Names::default();
    let route = Route::new("room:*", Stage::default()).presence(Presence::new().hooks(names.clone()));
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", Mount::new().channel_with(route))).await;
    let (_socket, room) = join(&test, "ada", 1).await;
    let state = room.assert_push("presence_state", anything()).await;
    assert_eq!(state["ada"]["name"], "Dr. ada");
    let diff = room.assert_push("presence_diff", anything()).await;
    assert_eq!(diff["joins"]["ada"]["name"], "Dr. ada");
    room.push("untrack", json!({"key": "ada"})).await;
    let diff = room.assert_push("presence_diff", anything()).await;
    assert_eq!(diff["leaves"]["ada"]["name"], "Dr. ada");
    crate::support::eventually("both changes were handled", async || names.0.lock().len() == 2).await;
    assert_eq!(*names.0.lock(), [(1, 0, 1), (0, 1, 0)]);
}
