//! Who is present in a topic, on several nodes with one broker: as clients of each of them are told.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use fanfare::testing::Lockstep;
use fanfare::{Broker, Endpoint, Extras, MemoryBroker, Mount, Presence, PresenceHooks, Route};
use serde_json::{Value, json};

use crate::support::guest::Guest;
use crate::support::roster::Roster;
use crate::support::stage::Stage;

const TOPIC: &str = "room:1";

/// Nodes that share a broker, with one clock.
struct Nodes {
    broker: MemoryBroker,
    nodes: Vec<Option<Lockstep>>,
    presence: fn() -> Presence,
    now_ms: u64,
}

impl Nodes {
    fn new(count: usize, presence: fn() -> Presence) -> Self {
        let mut nodes = Nodes { broker: MemoryBroker::stepped(1), nodes: Vec::new(), presence, now_ms: 0 };
        (0..count).for_each(|_| nodes.start());
        nodes
    }

    fn start(&mut self) {
        let number = self.nodes.len() as u64 + 1;
        // Clients of tests send no heartbeats.
        let route = Route::new("room:*", Stage::default()).presence((self.presence)());
        let mount = Mount::new().channel_with(route).idle_timeout(Duration::from_secs(3_600));
        // Mounts that take the topic as well, and have no presence of their own.
        let other = || Mount::new().channel("*", Stage::default());
        let builder = Endpoint::builder().mount("/a", other()).mount("/socket", mount).mount("/z", other());
        self.nodes.push(Some(Lockstep::new(builder.broker(Broker::memory(&self.broker)).incarnation(number), 2)));
        self.settle();
    }

    /// The process ends, and nobody hears of it.
    fn kill(&mut self, node: usize) {
        self.broker.kill(node as u64 + 1);
        self.nodes[node] = None;
    }

    fn node(&mut self, node: usize) -> &mut Lockstep {
        self.nodes[node].as_mut().expect("it lives")
    }

    /// Lets all happen that happens at this time.
    fn settle(&mut self) {
        loop {
            self.nodes.iter_mut().flatten().for_each(Lockstep::settle);
            if self.broker.next_ms().is_none_or(|next_ms| next_ms > self.now_ms) {
                return;
            }
            self.broker.step(self.now_ms);
        }
    }

    fn advance(&mut self, ms: u64) {
        const STEP_MS: u64 = 10;
        self.settle();
        for _ in 0..ms / STEP_MS {
            self.now_ms += STEP_MS;
            for node in self.nodes.iter_mut().flatten() {
                node.advance(Duration::from_millis(STEP_MS));
            }
            self.settle();
        }
    }

    /// A client that tracks a key, if there is one, and is told who is present.
    fn join(&mut self, node: usize, key: Option<&str>) -> Member {
        let guest = Guest::connect(self.node(node));
        let params = key.map_or(json!({}), |key| json!({ "track": key, "at": node }));
        guest.push(self.node(node), TOPIC, "phx_join", params);
        self.settle();
        let mut member = Member { node, guest, roster: Roster::default(), told: Vec::new() };
        member.look();
        member
    }

    fn push(&mut self, member: &Member, event: &str, payload: Value) {
        member.guest.push(self.node(member.node), TOPIC, event, payload);
        self.advance(60);
    }
}

/// A client, and what it makes of what it is told.
struct Member {
    node: usize,
    guest: Guest,
    roster: Roster,
    told: Vec<(String, Value)>,
}

impl Member {
    /// What it was told of presences since the last time.
    fn look(&mut self) -> Vec<(String, Value)> {
        let frames = self.guest.frames().into_iter().filter_map(|frame| {
            let event = frame[3].as_str()?.to_owned();
            event.starts_with("presence_").then(|| (event, frame[4].clone()))
        });
        let told: Vec<_> = frames.collect();
        for (event, payload) in &told {
            self.roster.take(event, payload.clone());
        }
        self.told.extend(told.iter().cloned());
        told
    }

    fn present(&mut self) -> BTreeMap<String, Vec<String>> {
        self.look();
        self.roster.present.clone().expect("a state has come")
    }

    fn keys(&mut self) -> Vec<String> {
        self.present().into_keys().collect()
    }
}

#[test]
fn states_and_diffs_have_those_of_all_nodes() {
    let mut nodes = Nodes::new(3, Presence::new);
    let mut ada = nodes.join(0, Some("ada"));
    let mut bob = nodes.join(1, Some("bob"));
    let mut eve = nodes.join(2, Some("eve"));
    let (_, state) = eve.told.iter().find(|(event, _)| event == "presence_state").unwrap();
    let keys: Vec<_> = state.as_object().unwrap().keys().collect();
    assert_eq!(keys, ["ada", "bob", "eve"], "it waited for what the others have");
    nodes.advance(60);
    for member in [&mut ada, &mut bob, &mut eve] {
        assert_eq!(member.keys(), ["ada", "bob", "eve"]);
    }
    let refs: BTreeSet<_> = eve.present().into_values().flatten().collect();
    assert_eq!(refs.len(), 3);
    nodes.push(&bob, "untrack", json!({"key": "bob"}));
    for member in [&mut ada, &mut eve] {
        let told = member.look();
        assert_eq!(told.len(), 1);
        assert_eq!(told[0].1["leaves"]["bob"]["metas"][0]["at"], 1);
        assert_eq!(member.keys(), ["ada", "eve"]);
    }
}

#[test]
fn an_update_is_one_diff_on_every_node() {
    let mut nodes = Nodes::new(2, Presence::new);
    let ada = nodes.join(0, Some("ada"));
    let mut bob = nodes.join(1, Some("bob"));
    nodes.advance(60);
    let before = bob.present()["ada"].clone();
    nodes.push(&ada, "update", json!({"key": "ada", "meta": {"at": 7}}));
    let told = bob.look();
    assert_eq!(told.len(), 1);
    let (joins, leaves) = (&told[0].1["joins"]["ada"]["metas"], &told[0].1["leaves"]["ada"]["metas"]);
    assert_eq!((&joins[0]["at"], &joins[0]["phx_ref_prev"]), (&json!(7), &json!(before[0])));
    assert_eq!(leaves[0]["phx_ref"], json!(before[0]));
}

#[test]
fn members_that_never_asked_are_told() {
    let mut nodes = Nodes::new(2, Presence::new);
    let mut quiet = nodes.join(1, None);
    let _ada = nodes.join(0, Some("ada"));
    nodes.advance(60);
    let told = quiet.look();
    assert_eq!(told.len(), 1);
    assert_eq!(told[0].1["joins"]["ada"]["metas"][0]["at"], 0);
}

#[test]
fn those_of_a_dead_node_leave_after_its_lease_and_who_has_moved_stays() {
    let mut nodes = Nodes::new(2, Presence::new);
    let _ada = nodes.join(0, Some("ada"));
    let _bob = nodes.join(0, Some("bob"));
    let mut eve = nodes.join(1, Some("eve"));
    nodes.advance(3_000);
    nodes.kill(0);
    let _ada = nodes.join(1, Some("ada"));
    nodes.advance(7_000);
    assert_eq!(eve.keys(), ["ada", "bob", "eve"]);
    assert_eq!(eve.present()["ada"].len(), 2);
    nodes.advance(5_000);
    assert_eq!(eve.keys(), ["ada", "eve"]);
    assert_eq!(eve.present()["ada"].len(), 1);
    let ada_left = eve.told.iter().filter(|(_, diff)| diff["leaves"]["ada"].is_object()).count();
    assert_eq!(ada_left, 1, "one meta, and never the key");
}

#[test]
fn what_changed_while_a_link_was_down_is_repaired_and_nobody_flaps() {
    let mut nodes = Nodes::new(3, Presence::new);
    let mut members = [nodes.join(0, Some("ada")), nodes.join(1, Some("bob")), nodes.join(2, Some("eve"))];
    nodes.advance(5_000);
    members.iter_mut().for_each(|member| drop(member.look()));
    nodes.broker.break_link(1, true);
    nodes.push(&members[0], "track", json!({"key": "more", "meta": {}}));
    nodes.push(&members[1], "untrack", json!({"key": "bob"}));
    nodes.push(&members[1], "track", json!({"key": "other", "meta": {}}));
    nodes.advance(6_000);
    assert_eq!(members[0].keys(), ["ada", "bob", "eve", "more"]);
    nodes.broker.let_back(1);
    nodes.advance(1_000);
    for member in &mut members {
        assert_eq!(member.keys(), ["ada", "eve", "more", "other"]);
        let leaves: Vec<_> = member.told.iter().flat_map(|(_, diff)| diff["leaves"].as_object()).flatten().collect();
        assert!(leaves.iter().all(|(key, _)| *key == "bob"), "{leaves:?}");
    }
}

#[test]
fn a_node_that_was_away_for_long_shows_all_again() {
    let mut nodes = Nodes::new(2, Presence::new);
    let mut members = [nodes.join(0, Some("ada")), nodes.join(1, Some("bob"))];
    nodes.advance(3_000);
    // It hears, and is not heard; its own heartbeats do not come back, so it expires nobody.
    nodes.broker.cut(1, true, false);
    nodes.advance(80_000);
    assert_eq!(members[0].keys(), ["ada", "bob"]);
    assert_eq!(members[1].keys(), ["bob"]);
    nodes.broker.cut(1, false, false);
    nodes.advance(3_000);
    assert_eq!((members[0].keys().len(), members[1].keys().len()), (2, 2));
}

#[test]
fn who_comes_back_on_another_node_within_the_grace_never_leaves() {
    let mut nodes = Nodes::new(2, || Presence::new().leave_grace(Duration::from_secs(5)));
    let ada = nodes.join(0, Some("ada"));
    let mut bob = nodes.join(1, Some("bob"));
    nodes.advance(60);
    nodes.node(0).hang_up(ada.guest.peer);
    nodes.advance(1_000);
    let _ada = nodes.join(1, Some("ada"));
    nodes.advance(1_000);
    assert_eq!(bob.present()["ada"].len(), 2);
    nodes.advance(5_000);
    assert_eq!(bob.present()["ada"].len(), 1);
}

#[test]
fn numbers_are_added_up_over_nodes() {
    let mut nodes = Nodes::new(2, || Presence::new().counts_only().members_max(4));
    let mut ada = nodes.join(0, Some("ada"));
    let _bob = nodes.join(0, Some("bob"));
    let eve = nodes.join(1, Some("eve"));
    assert_eq!(eve.told.last(), Some(&("presence_count".to_owned(), json!({"count": 3}))));
    nodes.advance(2_500);
    assert_eq!(ada.look().last(), Some(&("presence_count".to_owned(), json!({"count": 3}))));
    let _mae = nodes.join(1, Some("mae"));
    nodes.advance(2_500);
    assert_eq!(ada.look().last(), Some(&("presence_count".to_owned(), json!({"count": 4}))));
    assert!(ada.told.iter().all(|(event, _)| event == "presence_count"));
    let track = json!({"key": "too many", "meta": {}, "tell": true});
    ada.guest.push(nodes.node(0), TOPIC, "track", track);
    nodes.settle();
    let reply = ada.guest.frames().into_iter().find(|frame| frame[3] == "phx_reply").unwrap();
    assert_eq!(reply[4]["response"]["is_unavailable"], true);
    nodes.kill(1);
    nodes.advance(13_000);
    assert_eq!(ada.look().last(), Some(&("presence_count".to_owned(), json!({"count": 2}))));
}

#[test]
fn members_of_all_nodes_count_for_the_bound() {
    let mut nodes = Nodes::new(2, || Presence::new().members_max(2));
    let _ada = nodes.join(0, Some("ada"));
    let _bob = nodes.join(0, Some("bob"));
    let mut eve = nodes.join(1, None);
    let track = json!({"key": "eve", "meta": {}, "tell": true});
    eve.guest.push(nodes.node(1), TOPIC, "state", json!({}));
    nodes.settle();
    eve.look();
    eve.guest.push(nodes.node(1), TOPIC, "track", track);
    nodes.settle();
    let frames = eve.guest.frames();
    let error = frames.iter().find_map(|frame| frame[4]["response"]["error"].as_str()).unwrap();
    assert!(error.contains("2 members are present"), "{error}");
}

struct Names;

impl PresenceHooks for Names {
    async fn fetch(&self, _: &str, keys: Vec<String>) -> Extras {
        let name =
            |key: String| (key.clone(), serde_json::Map::from_iter([("name".to_owned(), json!(key.to_uppercase()))]));
        keys.into_iter().map(name).collect()
    }
}

#[test]
fn hooks_run_on_each_node_for_its_own_clients() {
    let mut nodes = Nodes::new(2, || Presence::new().hooks(Names));
    let _ada = nodes.join(0, Some("ada"));
    nodes.advance(60);
    let mut bob = nodes.join(1, Some("bob"));
    nodes.advance(60);
    bob.look();
    let (_, state) = bob.told.iter().find(|(event, _)| event == "presence_state").unwrap();
    assert_eq!((&state["ada"]["name"], &state["bob"]["name"]), (&json!("ADA"), &json!("BOB")));
}

/// Clients come, change and go on three nodes, while the broker loses a tenth, reorders and delays: once it is quiet all see the same.
#[test]
fn clients_of_all_nodes_see_the_same_whatever_is_lost() {
    for seed in 0..30 {
        let mut nodes = Nodes::new(3, Presence::new);
        nodes.broker = {
            let broker = MemoryBroker::stepped(seed);
            nodes.nodes.clear();
            broker
        };
        (0..3).for_each(|_| nodes.start());
        nodes.broker.disturb(100, 50, 30);
        let mut dice = seed;
        let mut below = |bound: u64| {
            dice = dice.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (dice >> 33) % bound
        };
        let mut members: Vec<Member> = Vec::new();
        for _ in 0..60 {
            let node = below(3) as usize;
            match below(6) {
                0 | 1 => members.push(nodes.join(node, Some(&format!("user{}", below(8))))),
                2 if !members.is_empty() => {
                    let member = members.swap_remove(below(members.len() as u64) as usize);
                    nodes.node(member.node).hang_up(member.guest.peer);
                }
                3 | 4 if !members.is_empty() => {
                    let member = &members[below(members.len() as u64) as usize];
                    let (event, key) = (if below(2) == 0 { "track" } else { "untrack" }, format!("extra{}", below(4)));
                    let payload = json!({ "key": key, "meta": {}, "tell": true });
                    member.guest.push(nodes.node(member.node), TOPIC, event, payload);
                }
                _ => nodes.advance(below(30) * 10),
            }
        }
        nodes.broker.disturb(0, 0, 0);
        nodes.advance(6_000);
        let seen: BTreeSet<_> = members
            .iter_mut()
            .map(|member| {
                let present = member.present().into_iter();
                present.map(|(key, refs)| (key, BTreeSet::from_iter(refs))).collect::<BTreeMap<_, _>>()
            })
            .collect();
        assert!(seen.len() <= 1, "seed {seed}: {seen:#?}");
    }
}
