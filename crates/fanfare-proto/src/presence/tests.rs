//! The presence of one topic: diffs and states by example and by property.

use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;
use crate::payload::JsonText;
use crate::websocket::deflate::{Deflater, Inflater};

const BOUNDS: Bounds = Bounds { members_max: 1_000, bytes_max: 1_000_000 };

fn meta(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(fields) => fields,
        _ => panic!("metas are objects"),
    }
}

fn track(
    topic: &mut TopicPresence<u32>,
    id: u32,
    key: &str,
    fields: Map<String, Value>,
    phx_ref: &str,
) -> Result<Diff, Untracked> {
    topic.track(id, key, Meta::new(fields, phx_ref, None), BOUNDS)
}

fn update(
    topic: &mut TopicPresence<u32>,
    id: u32,
    key: &str,
    fields: Map<String, Value>,
    phx_ref: &str,
) -> Result<Diff, Untracked> {
    let previous = topic.tracked(id, key).map(|meta| meta.phx_ref().to_owned());
    topic.update(id, key, Meta::new(fields, phx_ref, previous.as_deref()), BOUNDS)
}

fn wire(diff: &Diff) -> Value {
    diff.to_json(&Extras::new()).to().unwrap()
}

fn state(topic: &TopicPresence<u32>) -> Value {
    topic.list().to_json(&Extras::new()).to().unwrap()
}

/// A topic with one tracking for each `(id, key, ref)`, with empty metas.
fn topic(trackings: &[(u32, &str, &str)]) -> TopicPresence<u32> {
    let mut topic = TopicPresence::new();
    for (id, key, phx_ref) in trackings {
        track(&mut topic, *id, key, Map::new(), phx_ref).unwrap();
    }
    topic
}

#[test]
fn a_life_of_two_users() {
    let mut topic = TopicPresence::new();
    let diff = track(&mut topic, 1, "alice", meta(json!({"online_at": "100"})), "R1").unwrap();
    assert_eq!(
        wire(&diff),
        json!({"joins": {"alice": {"metas": [{"phx_ref": "R1", "online_at": "100"}]}}, "leaves": {}})
    );
    track(&mut topic, 2, "bob", meta(json!({"online_at": "200"})), "R2").unwrap();
    track(&mut topic, 3, "alice", meta(json!({"online_at": "300"})), "R3").unwrap();

    let diff = update(&mut topic, 1, "alice", meta(json!({"status": "away"})), "R4").unwrap();
    assert_eq!(
        wire(&diff),
        json!({
            "joins": {"alice": {"metas": [{"phx_ref": "R4", "phx_ref_prev": "R1", "status": "away"}]}},
            "leaves": {"alice": {"metas": [{"phx_ref": "R1", "online_at": "100"}]}},
        })
    );
    let mut fields = topic.tracked(1, "alice").unwrap().fields();
    assert_eq!(fields, meta(json!({"status": "away"})));
    fields.insert("n".into(), json!(1));
    let diff = update(&mut topic, 1, "alice", fields, "R5").unwrap();
    assert_eq!(
        wire(&diff),
        json!({
            "joins": {"alice": {"metas": [{"n": 1, "phx_ref": "R5", "phx_ref_prev": "R4", "status": "away"}]}},
            "leaves": {"alice": {"metas": [{"phx_ref": "R4", "phx_ref_prev": "R1", "status": "away"}]}},
        })
    );
    assert_eq!(
        state(&topic),
        json!({
            "alice": {"metas": [
                {"n": 1, "phx_ref": "R5", "phx_ref_prev": "R4", "status": "away"},
                {"phx_ref": "R3", "online_at": "300"},
            ]},
            "bob": {"metas": [{"phx_ref": "R2", "online_at": "200"}]},
        })
    );
    assert_eq!(topic.get("alice").iter().map(Meta::phx_ref).collect::<Vec<_>>(), ["R5", "R3"]);
    assert_eq!(topic.get("nobody"), []);

    let diff = topic.untrack_all(3);
    assert_eq!(
        wire(&diff),
        json!({"joins": {}, "leaves": {"alice": {"metas": [{"phx_ref": "R3", "online_at": "300"}]}}})
    );
    let diff = topic.untrack(1, "alice").unwrap();
    assert_eq!(diff.leaves.get("alice")[0].phx_ref(), "R5");
    assert_eq!(topic.list().iter().map(|(key, _)| key).collect::<Vec<_>>(), ["bob"]);
}

#[test]
fn a_channel_tracks_a_key_once_and_keys_of_its_own() {
    let mut topic = topic(&[(1, "a", "R1")]);
    assert_eq!(track(&mut topic, 1, "a", Map::new(), "R2"), Err(Untracked::Already));
    assert_eq!(topic.get("a")[0].phx_ref(), "R1");
    assert!(track(&mut topic, 1, "b", Map::new(), "R3").is_ok());
    assert!(track(&mut topic, 2, "a", Map::new(), "R4").is_ok());
    assert_eq!(topic.len(), 3);
    assert_eq!(topic.untrack(2, "b"), None);
    assert_eq!(update(&mut topic, 2, "b", Map::new(), "R5"), Err(Untracked::Never));
    assert!(topic.untrack_all(3).is_empty());
    let diff = topic.untrack_all(1);
    assert_eq!(diff.leaves.iter().map(|(key, _)| key).collect::<Vec<_>>(), ["a", "b"]);
    assert!(track(&mut topic, 1, "a", Map::new(), "R6").is_ok(), "after its end a key can be tracked again");
    topic.untrack_all(2);
    topic.untrack_all(1);
    assert!(topic.is_empty());
}

#[test]
fn the_refs_are_the_servers() {
    let mut topic = TopicPresence::new();
    let forged = || meta(json!({"phx_ref": "mine", "phx_ref_prev": "older", "k": 1}));
    let diff = track(&mut topic, 1, "a", forged(), "R1").unwrap();
    assert_eq!(diff.joins.get("a")[0].as_json().as_str(), r#"{"k":1,"phx_ref":"R1"}"#);
    let diff = update(&mut topic, 1, "a", forged(), "R2").unwrap();
    assert_eq!(diff.joins.get("a")[0].as_json().as_str(), r#"{"k":1,"phx_ref":"R2","phx_ref_prev":"R1"}"#);
}

#[test]
fn keys_pass_unharmed() {
    #[track_caller]
    fn check(key: &str) {
        let mut topic = topic(&[(1, key, "R1")]);
        assert_eq!(state(&topic)[key], json!({"metas": [{"phx_ref": "R1"}]}));
        assert!(topic.untrack(1, key).is_some());
    }
    check("");
    check("__proto__");
    check("constructor");
    check("metas");
    check("a\"b\\c\n");
    check("😀");
}

#[test]
fn extras_stand_beside_the_metas() {
    let mut topic = topic(&[(1, "7", "R1"), (2, "8", "R2")]);
    let extras = Extras::from([
        ("7".to_owned(), meta(json!({"user": {"name": "A"}, "metas": "never", "x": 1}))),
        ("9".to_owned(), meta(json!({"user": {}}))),
    ]);
    assert_eq!(
        topic.list().to_json(&extras).as_str(),
        r#"{"7":{"metas":[{"phx_ref":"R1"}],"user":{"name":"A"},"x":1},"8":{"metas":[{"phx_ref":"R2"}]}}"#
    );
    let diff = update(&mut topic, 1, "7", Map::new(), "R3").unwrap();
    let diff: Value = diff.to_json(&extras).to().unwrap();
    assert_eq!(diff["joins"]["7"]["user"], json!({"name": "A"}));
    assert_eq!(diff["leaves"]["7"]["user"], json!({"name": "A"}));
}

#[test]
fn departing_metas_stay_until_their_time() {
    let mut topic = topic(&[(1, "a", "R1"), (1, "b", "R2"), (2, "a", "R3")]);
    assert_eq!(topic.next_expiry_ms(), None);
    topic.depart(1, 500);
    topic.depart(3, 100);
    assert_eq!(topic.next_expiry_ms(), Some(500));
    assert_eq!(topic.len(), 3, "still present");
    assert_eq!(topic.tracked(1, "a"), None, "but no longer the channel's");
    assert_eq!(topic.untrack(1, "a"), None);
    assert!(topic.untrack_all(1).is_empty());
    assert!(topic.expire(499).is_empty());
    let diff = topic.expire(500);
    let empty = json!({"metas": [{"phx_ref": "R1"}]});
    assert_eq!(wire(&diff), json!({"joins": {}, "leaves": {"a": empty, "b": {"metas": [{"phx_ref": "R2"}]}}}));
    assert_eq!(topic.next_expiry_ms(), None);
    assert!(topic.expire(u64::MAX).is_empty());
    assert_eq!(state(&topic), json!({"a": {"metas": [{"phx_ref": "R3"}]}}));
}

#[test]
fn who_comes_back_in_time_never_left() {
    let mut topic = topic(&[(1, "a", "R1"), (2, "a", "R2"), (3, "a", "R3"), (1, "b", "R4")]);
    topic.depart(1, 500);
    topic.depart(2, 400);
    let diff = track(&mut topic, 4, "a", Map::new(), "R5").unwrap();
    assert_eq!(
        wire(&diff),
        json!({
            "joins": {"a": {"metas": [{"phx_ref": "R5"}]}},
            "leaves": {"a": {"metas": [{"phx_ref": "R1"}, {"phx_ref": "R2"}]}},
        })
    );
    assert_eq!(topic.get("a").iter().map(Meta::phx_ref).collect::<Vec<_>>(), ["R3", "R5"]);
    assert_eq!(topic.next_expiry_ms(), Some(500), "the other key still departs");
    let diff = topic.expire(1000);
    assert_eq!(wire(&diff), json!({"joins": {}, "leaves": {"b": {"metas": [{"phx_ref": "R4"}]}}}));
}

#[test]
fn the_same_channel_may_come_back() {
    let mut topic = topic(&[(1, "a", "R1")]);
    topic.depart(1, 500);
    let diff = track(&mut topic, 1, "a", Map::new(), "R2").unwrap();
    assert_eq!(diff.leaves.get("a")[0].phx_ref(), "R1");
    assert_eq!(diff.joins.get("a")[0].phx_ref(), "R2");
    assert_eq!(topic.len(), 1);
    assert_eq!(topic.next_expiry_ms(), None);
}

#[test]
fn a_merged_diff_keeps_what_joined_and_left() {
    let mut topic = TopicPresence::new();
    let mut diff = track(&mut topic, 1, "a", Map::new(), "R1").unwrap();
    diff.merge(track(&mut topic, 2, "b", Map::new(), "R2").unwrap());
    diff.merge(update(&mut topic, 1, "a", Map::new(), "R3").unwrap());
    diff.merge(topic.untrack_all(2));
    assert_eq!(
        wire(&diff),
        json!({
            "joins": {
                "a": {"metas": [{"phx_ref": "R1"}, {"phx_ref": "R3", "phx_ref_prev": "R1"}]},
                "b": {"metas": [{"phx_ref": "R2"}]},
            },
            "leaves": {"a": {"metas": [{"phx_ref": "R1"}]}, "b": {"metas": [{"phx_ref": "R2"}]}},
        })
    );
}

#[test]
fn a_large_diff_comes_in_parts_with_each_key_in_one() {
    let mut diff = Diff::default();
    let mut topic = TopicPresence::new();
    for id in 0..100 {
        diff.merge(track(&mut topic, id, &format!("user{}", id % 50), Map::new(), &format!("R{id}")).unwrap());
        diff.merge(update(&mut topic, id, &format!("user{}", id % 50), Map::new(), &format!("S{id}")).unwrap());
    }
    let parts = diff.clone().into_parts(2_000);
    assert!(parts.len() > 5);
    let mut keys = BTreeSet::new();
    let mut whole = Diff::default();
    for part in parts {
        assert!(part.to_json(&Extras::new()).as_bytes().len() < 2_500);
        let of_part: BTreeSet<_> = part.joins.iter().chain(part.leaves.iter()).map(|(key, _)| key.to_owned()).collect();
        assert!(of_part.iter().all(|key| keys.insert(key.clone())));
        whole.merge(part);
    }
    assert_eq!(whole, diff);
    assert_eq!(diff.clone().into_parts(usize::MAX), [diff]);
    assert_eq!(Diff::default().into_parts(1), []);
}

#[test]
fn debug_shows_no_content() {
    let mut topic = topic(&[(1, "a", "R1")]);
    track(&mut topic, 2, "b", meta(json!({"pw": "secret"})), "R2").unwrap();
    topic.depart(1, 5);
    assert_eq!(format!("{topic:?}"), "TopicPresence(2 trackings, 1 departing)");
    assert!(!format!("{:?}", topic.list()).contains("secret"));
}

/// What a client makes of states and diffs, as the stock client does: joins first, metas known by their refs.
#[derive(Default, Debug, PartialEq)]
struct Client(BTreeMap<String, BTreeSet<String>>);

impl Client {
    fn of(topic: &TopicPresence<u32>) -> Self {
        let refs = |metas: &[Meta]| metas.iter().map(|meta| meta.phx_ref().to_owned()).collect();
        Self(topic.list().iter().map(|(key, metas)| (key.to_owned(), refs(metas))).collect())
    }

    fn apply(&mut self, diff: &Diff) {
        for (key, metas) in diff.joins.iter() {
            let present = self.0.entry(key.to_owned()).or_default();
            present.extend(metas.iter().map(|meta| meta.phx_ref().to_owned()));
        }
        for (key, metas) in diff.leaves.iter() {
            let Some(present) = self.0.get_mut(key) else { continue };
            metas.iter().for_each(|meta| _ = present.remove(meta.phx_ref()));
            if present.is_empty() {
                self.0.remove(key);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Track(u32, &'static str),
    Untrack(u32, &'static str),
    Update(u32, &'static str),
    Close(u32),
    Depart(u32, u64),
    Wait(u64),
}

fn any_step() -> impl Strategy<Value = Step> {
    let id = 0..4_u32;
    let key = prop::sample::select(vec!["a", "b", "c"]);
    prop_oneof![
        4 => (id.clone(), key.clone()).prop_map(|(id, key)| Step::Track(id, key)),
        1 => (id.clone(), key.clone()).prop_map(|(id, key)| Step::Untrack(id, key)),
        2 => (id.clone(), key).prop_map(|(id, key)| Step::Update(id, key)),
        1 => id.clone().prop_map(Step::Close),
        2 => (id, 0..10_u64).prop_map(|(id, grace)| Step::Depart(id, grace)),
        2 => (0..10_u64).prop_map(Step::Wait),
    ]
}

proptest! {
    /// One client follows every diff, one gets them merged by threes, and one comes late, with a state from the middle
    /// of what is still to be merged: all see what is.
    #[test]
    fn clients_see_what_is(steps in prop::collection::vec(any_step(), 0..60)) {
        let mut topic = TopicPresence::new();
        let (mut follower, mut batched, mut late) = (Client::default(), Client::default(), Client::default());
        let mut pending = Diff::default();
        let mut now_ms = 0;
        for (index, step) in steps.into_iter().enumerate() {
            let phx_ref = format!("R{index}");
            let diff = match step {
                Step::Track(id, key) => track(&mut topic, id, key, Map::new(), &phx_ref).unwrap_or_default(),
                Step::Untrack(id, key) => topic.untrack(id, key).unwrap_or_default(),
                Step::Update(id, key) => update(&mut topic, id, key, Map::new(), &phx_ref).unwrap_or_default(),
                Step::Close(id) => topic.untrack_all(id),
                Step::Depart(id, grace) => {
                    topic.depart(id, now_ms + grace);
                    Diff::default()
                }
                Step::Wait(time) => {
                    now_ms += time;
                    topic.expire(now_ms)
                }
            };
            follower.apply(&diff);
            pending.merge(diff);
            prop_assert_eq!(&follower, &Client::of(&topic));
            prop_assert_eq!(topic.keys(), topic.list().len());
            prop_assert_eq!(topic.state().to_json(), topic.list().to_json(&Extras::new()));
            if index % 3 == 0 {
                late = Client::of(&topic);
            }
            if index % 3 == 2 {
                let diff = std::mem::take(&mut pending);
                batched.apply(&diff);
                late.apply(&diff);
                prop_assert_eq!(&batched, &Client::of(&topic));
                prop_assert_eq!(&late, &Client::of(&topic));
            }
        }
        for id in 0..4 {
            topic.untrack_all(id);
        }
        topic.expire(u64::MAX);
        prop_assert!(topic.is_empty());
        prop_assert_eq!((topic.keys, topic.bytes), (0, 0));
        prop_assert!(topic.by_channel.is_empty() && topic.departing.is_empty() && topic.deadlines.is_empty());
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// The text of a large topic is written in pieces, of which a change costs one: whatever has changed between two of
    /// them, it is the text of all that are present.
    #[test]
    fn a_large_state_is_as_if_written_anew(steps in prop::collection::vec((any::<bool>(), 0..600_u32, 0..40_usize), 1..200)) {
        let mut topic = TopicPresence::new();
        for number in 0..400_u32 {
            track(&mut topic, number, &format!("user{}", number * 7 % 400), Map::new(), &format!("R{number}")).unwrap();
        }
        for (index, (joins, number, more)) in steps.into_iter().enumerate() {
            for id in number..number + more as u32 {
                if joins {
                    let phx_ref = format!("R{index}-{id}");
                    let _ = track(&mut topic, id, &format!("user{}", id * 7 % 500), Map::new(), &phx_ref);
                } else {
                    topic.untrack_all(id);
                }
            }
            prop_assert_eq!(topic.state().to_json(), topic.list().to_json(&Extras::new()));
        }
    }
}

#[test]
fn a_change_costs_its_piece_of_the_state() {
    let mut topic = TopicPresence::new();
    let bounds = Bounds { members_max: usize::MAX, bytes_max: usize::MAX };
    for number in 0..10_000_u32 {
        let key = format!("user{number:05}");
        topic.track(number, &key, Meta::new(Map::new(), &format!("R{number}"), None), bounds).unwrap();
    }
    // Held, so that no other text gets the memory of one that is gone.
    let texts = |topic: &TopicPresence<u32>| -> Vec<_> { topic.pieces.texts().cloned().collect() };
    topic.state();
    let before = texts(&topic);
    assert!(before.len() > 100);
    topic.untrack_all(5_000);
    topic.state();
    let after = texts(&topic);
    let kept = after.iter().filter(|text| before.iter().any(|old| old.as_ptr() == text.as_ptr())).count();
    assert_eq!(kept, before.len() - 1);
    // Most leave: what is left is no heap of empty pieces.
    for number in (0..10_000_u32).filter(|number| number % 100 != 0) {
        topic.untrack_all(number);
    }
    let state = topic.state();
    assert!(topic.pieces.texts().count() <= 8);
    assert_eq!(state.to_json(), topic.list().to_json(&Extras::new()));
}

/// However few there are.
#[test]
fn a_large_state_is_shared_by_all_who_are_told() {
    let mut topic = TopicPresence::new();
    let bounds = Bounds { members_max: usize::MAX, bytes_max: usize::MAX };
    for number in 0..9_u32 {
        let meta = Meta::new(meta(json!({ "text": format!("{number}").repeat(5_000) })), "R1", None);
        topic.track(number, &format!("user{number}"), meta, bounds).unwrap();
    }
    let (one, other) = (topic.state(), topic.state());
    let (mut deflater, mut inflater) = (Deflater::default(), Inflater::default());
    let places = |state: &State| state.parts().map(|part| part.as_ptr()).collect::<Vec<_>>();
    let deflated_places = |state: &State, deflater: &mut Deflater| -> Vec<_> {
        state.deflated_parts(deflater).map(|part| part.as_ptr()).collect()
    };
    assert_eq!(places(&one), places(&other));
    assert_eq!(deflated_places(&one, &mut deflater), deflated_places(&other, &mut deflater));
    let mut message: Vec<u8> = one.deflated_parts(&mut deflater).flatten().copied().collect();
    deflater.compress(b"", &mut message);
    assert!(message.len() < one.size() / 10);
    let listed = topic.list().to_json(&Extras::new());
    assert!(inflater.inflate(&message, 1 << 20).unwrap() == listed.as_bytes());
    assert_eq!(State::from(&listed).to_json(), listed);
    assert_eq!(State::from(&JsonText::empty_object()).to_json(), JsonText::empty_object());
}

#[test]
fn a_topic_is_bounded_in_members_and_bytes() {
    let mut topic = topic(&[(1, "a", "R1"), (2, "b", "R2")]);
    let meta = |size: usize| Meta::new(meta(json!({ "text": "x".repeat(size) })), "R9", None);
    let size = topic.bytes + bounds::size("c", &meta(10));
    let full = Bounds { members_max: 2, bytes_max: usize::MAX };
    assert_eq!(topic.track(3, "c", meta(10), full), Err(Untracked::TooMany { members_max: 2 }));
    let heavy = Bounds { members_max: 9, bytes_max: size - 1 };
    assert_eq!(topic.track(3, "c", meta(10), heavy), Err(Untracked::TooLarge { bytes: size, bytes_max: size - 1 }));
    assert_eq!((topic.len(), topic.tracked(3, "c")), (2, None), "nothing has changed");
    // Who comes back takes the place of what departs.
    topic.depart(2, 100);
    assert!(topic.track(3, "b", meta(10), Bounds { members_max: 2, bytes_max: size }).is_ok());
    // An update may shrink where all is full already, but not grow.
    let full = Bounds { members_max: 1, bytes_max: 1 };
    assert!(topic.update(3, "b", meta(9), full).is_ok());
    assert!(matches!(topic.update(3, "b", meta(10), full), Err(Untracked::TooLarge { bytes_max: 1, .. })));
    assert!(topic.untrack(3, "b").is_some() && topic.untrack(1, "a").is_some());
    assert_eq!(topic.bytes, 0);
}
