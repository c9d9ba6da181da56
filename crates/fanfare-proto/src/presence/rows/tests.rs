//! Two nodes that tell each other, by example; many of them with faults are in `tests/presence_over_nodes`.

use serde_json::{Map, Value, json};

use super::super::{Bounds, Extras, Meta, Untracked};
use super::*;
use crate::envelope::Content;

const BOUNDS: Bounds = Bounds { members_max: 1_000, bytes_max: 10_000_000 };

fn incarnation(number: u64) -> Incarnation {
    Incarnation::new(number).unwrap()
}

/// One topic on one node.
struct OnNode {
    node: Incarnation,
    present: TopicPresence<u32>,
    rows: Rows,
}

impl OnNode {
    fn new(number: u64, counts_only: bool) -> Self {
        let rows = Rows::new(Arc::new(Node::new(incarnation(number))), counts_only);
        OnNode { node: incarnation(number), present: TopicPresence::new(), rows }
    }

    fn two() -> [Self; 2] {
        [OnNode::new(1, false), OnNode::new(2, false)]
    }

    fn try_track(&mut self, id: u32, key: &str, phx_ref: &str, bounds: Bounds) -> Result<(), Untracked> {
        let diff = self.present.track(id, key, Meta::new(Map::new(), phx_ref, None), bounds)?;
        self.rows.changed(&diff);
        Ok(())
    }

    fn track(&mut self, id: u32, key: &str, phx_ref: &str) {
        self.try_track(id, key, phx_ref, BOUNDS).unwrap();
    }

    fn untrack(&mut self, id: u32, key: &str) {
        let diff = self.present.untrack(id, key).unwrap();
        self.rows.changed(&diff);
    }

    /// What it sends at a time.
    fn tells(&mut self, now_ms: u64) -> Vec<Tell> {
        self.rows.act(&self.present, now_ms);
        self.rows.take_tells()
    }

    /// The diff for its clients.
    fn take(&mut self, from: Incarnation, tell: &Tell, now_ms: u64) -> Diff {
        let (Tell::Everyone(body) | Tell::One(_, body)) = tell.clone();
        self.rows.take(&mut self.present, from, body, true, now_ms)
    }

    fn list(&self) -> Value {
        self.present.list().to_json(&Extras::new()).to().unwrap()
    }
}

fn wire(diff: &Diff) -> Value {
    diff.to_json(&Extras::new()).to().unwrap()
}

/// Carries what either sends to the other until nothing is left, and returns what the second one's clients are told.
fn settle([a, b]: &mut [OnNode; 2], now_ms: u64) -> Value {
    let mut diff = Diff::default();
    loop {
        let (of_a, of_b) = (a.tells(now_ms), b.tells(now_ms));
        if of_a.is_empty() && of_b.is_empty() {
            return wire(&diff);
        }
        of_a.iter().for_each(|tell| diff.merge(b.take(a.node, tell, now_ms)));
        of_b.iter().for_each(|tell| _ = a.take(b.node, tell, now_ms));
    }
}

#[test]
fn an_update_is_one_diff_on_every_node() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "alice", "R1");
    let joins = json!({"joins": {"alice": {"metas": [{"phx_ref": "R1"}]}}, "leaves": {}});
    assert_eq!(settle(&mut nodes, 0), joins);
    let diff = nodes[0].present.update(1, "alice", Meta::new(Map::new(), "R2", Some("R1")), BOUNDS).unwrap();
    nodes[0].rows.changed(&diff);
    assert_eq!(settle(&mut nodes, 49), json!({"joins": {}, "leaves": {}}), "one delta in 50 ms");
    assert_eq!(nodes[0].rows.due_ms(&nodes[0].present), Some(50));
    let both = json!({
        "joins": {"alice": {"metas": [{"phx_ref": "R2", "phx_ref_prev": "R1"}]}},
        "leaves": {"alice": {"metas": [{"phx_ref": "R1"}]}},
    });
    assert_eq!(settle(&mut nodes, 50), both);
}

#[test]
fn who_joined_and_left_in_between_is_told_to_nobody() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "alice", "R1");
    settle(&mut nodes, 0);
    nodes[0].track(2, "bob", "R2");
    nodes[0].untrack(2, "bob");
    assert!(nodes[0].tells(1_000).is_empty());
}

#[test]
fn who_moved_from_a_dead_node_has_two_metas_and_never_leaves() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "alice", "R1");
    settle(&mut nodes, 0);
    let [dead, node] = &mut nodes;
    node.track(1, "alice", "R2");
    assert_eq!(node.list(), json!({"alice": {"metas": [{"phx_ref": "R2"}, {"phx_ref": "R1"}]}}));
    assert_eq!((node.present.keys(), node.present.len(), node.present.own_len()), (1, 2, 1));
    let diff = node.rows.hide(&mut node.present, dead.node);
    assert_eq!(wire(&diff), json!({"joins": {}, "leaves": {"alice": {"metas": [{"phx_ref": "R1"}]}}}));
    assert_eq!(node.list(), json!({"alice": {"metas": [{"phx_ref": "R2"}]}}));
}

#[test]
fn hidden_members_come_back_when_a_digest_confirms_them() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "alice", "R1");
    settle(&mut nodes, 0);
    let [a, b] = &mut nodes;
    b.rows.hide(&mut b.present, a.node);
    assert_eq!(b.list(), json!({}));
    a.rows.tell_digest(100);
    let digest = a.tells(100);
    assert!(matches!(digest[..], [Tell::Everyone(Body::Digest(_))]));
    assert_eq!(wire(&b.take(a.node, &digest[0], 100))["joins"], json!({"alice": {"metas": [{"phx_ref": "R1"}]}}));
    assert!(b.tells(100).is_empty(), "there is nothing to ask");
    b.rows.drop_row(&mut b.present, a.node);
    assert_eq!((b.list(), b.rows.nodes().count()), (json!({}), 0));
}

#[test]
fn a_lost_delta_is_noticed_by_the_next_one_and_by_the_digest() {
    for is_next in [true, false] {
        let mut nodes = OnNode::two();
        nodes[0].track(1, "a", "R1");
        settle(&mut nodes, 0);
        nodes[0].track(2, "b", "R2");
        assert_eq!(nodes[0].tells(100).len(), 1, "which is lost");
        if is_next {
            nodes[0].track(3, "c", "R3");
        }
        settle(&mut nodes, if is_next { 200 } else { 5_100 });
        assert_eq!(nodes[1].list(), nodes[0].list());
    }
}

#[test]
fn what_comes_late_brings_nobody_back() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "a", "R1");
    let first = nodes[0].tells(0);
    nodes[0].untrack(1, "a");
    let second = nodes[0].tells(100);
    let [a, b] = &mut nodes;
    for tell in second.iter().chain(&first).chain(&first) {
        b.take(a.node, tell, 100);
    }
    settle(&mut nodes, 100);
    assert_eq!(nodes[1].list(), json!({}));
    assert_eq!(nodes[1].take(incarnation(1), &first[0], 200), Diff::default());
    nodes[1].tells(70_000);
    assert_eq!(nodes[1].rows.nodes().count(), 0, "and is forgotten in time");
}

#[test]
fn a_question_is_answered_by_all_and_complete_when_they_have() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "a", "R1");
    nodes[0].tells(0);
    let number = nodes[1].rows.ask(100);
    let ask = nodes[1].tells(100);
    assert!(!nodes[1].rows.is_complete(100));
    let [a, b] = &mut nodes;
    a.take(b.node, &ask[0], 100);
    b.take(b.node, &ask[0], 100);
    b.rows.receivers(number, Some(2));
    assert!(!b.rows.is_complete(100), "its own answer is there");
    let answer = a.tells(100);
    b.take(a.node, &answer[0], 100);
    assert!(b.rows.is_complete(100));
    assert_eq!(b.list(), a.list());
    // The second time it says what it has, and is told that this is so.
    b.rows.ask(200);
    let ask = b.tells(200);
    a.take(b.node, &ask[0], 200);
    assert!(matches!(a.tells(200)[..], [Tell::One(_, Body::Digest(_))]));
}

#[test]
fn answers_are_waited_for_for_a_quarter_of_a_second() {
    #[track_caller]
    fn check(receivers: Option<Option<u64>>, complete_ms: u64) {
        let mut node = OnNode::new(1, false);
        let number = node.rows.ask(1_000);
        if let Some(nodes) = receivers {
            node.rows.receivers(number, nodes);
        }
        assert!(!node.rows.is_complete(complete_ms - 1));
        assert!(node.rows.is_complete(complete_ms));
    }
    check(None, 1_250);
    check(Some(Some(2)), 1_250);
    check(Some(None), 1_050);
    let mut node = OnNode::new(1, false);
    let number = node.rows.ask(1_000);
    node.rows.not_asked(number);
    assert!(node.rows.is_complete(1_000), "nobody will answer");
}

#[test]
fn a_large_row_is_answered_in_parts() {
    let mut nodes = OnNode::two();
    let fields: Map<String, Value> = Map::from_iter([("text".to_owned(), "x".repeat(4_000).into())]);
    for id in 0..40 {
        let meta = Meta::new(fields.clone(), &format!("R{id}"), None);
        let diff = nodes[0].present.track(id, &format!("user{id}"), meta, BOUNDS).unwrap();
        nodes[0].rows.changed(&diff);
    }
    let deltas = nodes[0].tells(0);
    assert_eq!(deltas.len(), 5, "and so are deltas");
    nodes[1].rows.ask(100);
    let ask = nodes[1].tells(100);
    let [a, b] = &mut nodes;
    a.take(b.node, &ask[0], 100);
    let parts = a.tells(100);
    assert_eq!(parts.len(), 5);
    for part in &parts {
        let Tell::One(_, body) = part else { panic!("an answer is for one") };
        let Content::PresenceRow(bytes) = body.to_content("room:1") else { panic!("an answer is a row") };
        assert!(bytes.len() <= PART_SIZE_MAX + 4_200);
    }
    for part in parts.iter().skip(1).rev() {
        assert!(b.take(a.node, part, 100).is_empty(), "what is not whole does not count");
    }
    assert_eq!(b.take(a.node, &parts[0], 100).joins.len(), 40);
    let mut again = [OnNode::new(1, false), OnNode::new(2, false)];
    std::mem::swap(&mut again[0], a);
    for delta in &deltas {
        again[1].take(incarnation(1), delta, 200);
    }
    assert_eq!(again[1].list(), again[0].list());
}

#[test]
fn members_of_all_nodes_count_for_the_bound() {
    let mut nodes = OnNode::two();
    nodes[0].track(1, "a", "R1");
    nodes[0].track(2, "b", "R2");
    settle(&mut nodes, 0);
    let bounds = Bounds { members_max: 2, ..BOUNDS };
    assert_eq!(nodes[1].try_track(1, "c", "R3", bounds), Err(Untracked::TooMany { members_max: 2 }));
    nodes[0].untrack(2, "b");
    settle(&mut nodes, 100);
    assert_eq!(nodes[1].try_track(1, "c", "R3", bounds), Ok(()));
}

#[test]
fn counts_are_added_up_once_a_second() {
    let mut nodes = [OnNode::new(1, true), OnNode::new(2, true)];
    nodes[0].track(1, "a", "R1");
    settle(&mut nodes, 0);
    nodes[0].track(2, "b", "R2");
    nodes[1].track(1, "c", "R3");
    settle(&mut nodes, 999);
    assert_eq!((nodes[0].present.keys(), nodes[1].present.keys()), (3, 2));
    let told = settle(&mut nodes, 1_999);
    assert_eq!((nodes[0].present.keys(), nodes[1].present.keys()), (3, 3));
    assert_eq!(told, json!({"joins": {}, "leaves": {}}), "nobody is named");
    let full = Bounds { members_max: 3, ..BOUNDS };
    assert_eq!(nodes[1].try_track(2, "d", "R4", full), Err(Untracked::TooMany { members_max: 3 }));
    let [_, b] = &mut nodes;
    b.rows.hide(&mut b.present, incarnation(1));
    assert_eq!(b.present.keys(), 1);
}

#[test]
fn digests_come_after_a_change_and_every_few_minutes() {
    let mut node = OnNode::new(1, false);
    node.track(1, "a", "R1");
    node.tells(0);
    assert_eq!(node.rows.due_ms(&node.present), Some(5_000));
    assert_eq!(node.tells(5_000).len(), 1);
    let next_ms = node.rows.due_ms(&node.present).unwrap();
    assert!((245_000..365_000).contains(&next_ms));
    node.untrack(1, "a");
    node.tells(6_000);
    assert_eq!(node.tells(11_000).len(), 1);
    assert_eq!(node.rows.due_ms(&node.present), None, "there is nothing more to say");
}
