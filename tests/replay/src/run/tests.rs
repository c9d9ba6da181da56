//! Tables of what may come: the steps of a transcript, what the server sends, and whether that is accepted.

use super::*;
use crate::script::{Action, parse};
use serde_json::json;

/// Offers `sent` to the frames that `steps` expect. Accepted means: all of it was taken, and nothing is missing.
fn accepts(steps: &Value, sent: &[Value], better: Better) -> bool {
    let mut joins = Joins::default();
    for i in ["1", "2"] {
        joins.sent_text(json!([i, i, "t", "phx_join", {}]).to_string().as_bytes());
    }
    let steps: Vec<Value> = steps.as_array().unwrap().iter().map(step).collect();
    let parsed = parse(&steps).unwrap();
    let [only] = parsed.as_slice() else { panic!("one group of steps is meant, not {parsed:?}") };
    let Action::Expect { frames, .. } = &only.action else { panic!("frames are meant, not {only:?}") };
    let mut run = Run::new(frames, better, &joins);
    let mut bindings = Bindings::default();
    let taken = sent.iter().all(|sent| {
        let (incoming, elapsed) = incoming(sent);
        run.offer(&incoming, elapsed, &mut bindings) != Offer::Unexpected
    });
    taken && run.is_complete()
}

/// Fills in what all steps here share: text frames to connection A.
fn step(fields: &Value) -> Value {
    let mut step = json!({"dir": "recv", "conn": "A"});
    if fields.is_array() {
        step["op"] = "text".into();
        step["json"] = fields.clone();
    } else {
        step.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    }
    step
}

/// An array is a text frame; `{"close": code}`, `{"pong": text}`, `{"binary": text}`, `{"end": true}`; and
/// `{"at": ms, "text": ...}` is a text frame that comes that late.
fn incoming(sent: &Value) -> (Incoming, Duration) {
    let bytes = |value: &Value| value.as_str().unwrap().as_bytes().to_vec();
    let incoming = if let Some(code) = sent.get("close") {
        Incoming::Close { code: code.as_u64().map(|code| code.try_into().unwrap()), reason: String::new() }
    } else if let Some(data) = sent.get("pong") {
        Incoming::Pong(bytes(data))
    } else if let Some(data) = sent.get("binary") {
        Incoming::Binary(bytes(data))
    } else if sent.get("end").is_some() {
        Incoming::End
    } else {
        Incoming::Text(sent.get("text").unwrap_or(sent).to_string().into_bytes())
    };
    (incoming, Duration::from_millis(sent.get("at").and_then(Value::as_u64).unwrap_or(0)))
}

#[track_caller]
fn check(steps: Value, cases: &[(Value, bool)]) {
    check_better(steps, Better::Allow, cases);
}

#[track_caller]
fn check_better(steps: Value, better: Better, cases: &[(Value, bool)]) {
    for (sent, accepted) in cases {
        assert_eq!(accepts(&steps, sent.as_array().unwrap(), better), *accepted, "{better:?} {sent} for {steps}");
    }
}

fn message(topic: &str, n: u32) -> Value {
    json!([null, null, topic, "e", { "n": n }])
}

fn reply(reference: &str) -> Value {
    json!([reference, reference, "t", "phx_reply", {}])
}

#[test]
fn order_counts_within_a_topic_only() {
    let (a1, a2, b) = (message("a", 1), message("a", 2), message("b", 1));
    check(
        json!([a1, a2, b]),
        &[
            (json!([a1, a2, b]), true),
            (json!([b, a1, a2]), true),
            (json!([a2, a1, b]), false),
            (json!([a1, a2]), false),
            (json!([a1, a1, b]), false),
            (json!([a1, a2, b, b]), false),
            (json!([a1, {"binary": "x"}, a2, b]), false),
        ],
    );
}

#[test]
fn binary_messages_have_topics_too() {
    let binary = json!({"op": "binary", "data": "\u{2}\u{1}\u{1}aex"});
    let sent = json!({"binary": "\u{2}\u{1}\u{1}aex"});
    check(
        json!([message("a", 1), binary, message("b", 1)]),
        &[
            (json!([message("a", 1), sent, message("b", 1)]), true),
            (json!([message("b", 1), message("a", 1), sent]), true),
            (json!([sent, message("a", 1), message("b", 1)]), false),
            (json!([message("a", 1), message("b", 1), {"binary": "other"}]), false),
        ],
    );
}

#[test]
fn a_lane_is_free_of_the_order() {
    let (old, other) = (message("t", 9), message("t", 1));
    let old_step = json!({"op": "text", "json": old, "lane": "old"});
    check(
        json!([other, old_step]),
        &[(json!([other, old]), true), (json!([old, other]), true), (json!([other]), false)],
    );
    check(json!([reply("1"), old_step]), &[(json!([old, reply("1")]), true)]);
    let in_lane = |n: u32| json!({"op": "text", "json": message("t", n), "lane": "l"});
    check(
        json!([in_lane(1), in_lane(2)]),
        &[(json!([message("t", 1), message("t", 2)]), true), (json!([message("t", 2), message("t", 1)]), false)],
    );
}

#[test]
fn the_join_reply_comes_first() {
    let diff = json!([null, null, "t", "presence_diff", {"joins": {"k": 1}, "leaves": {}}]);
    check(json!([reply("1"), diff]), &[(json!([reply("1"), diff]), true), (json!([diff, reply("1")]), false)]);
    // Any other reply has no such precedence over a diff.
    check(json!([reply("7"), diff]), &[(json!([diff, reply("7")]), true)]);
}

#[test]
fn closing_comes_last() {
    let close = json!({"op": "close", "code": 1000});
    let end = json!({"dir": "closed"});
    let sent = message("a", 1);
    check(
        json!([sent, close, end]),
        &[
            (json!([sent, {"close": 1000}, {"end": true}]), true),
            (json!([{"close": 1000}, sent, {"end": true}]), false),
            (json!([sent, {"end": true}]), false),
            (json!([sent, {"close": 1000}]), false),
            (json!([sent, {"close": 1001}, {"end": true}]), false),
            (json!([sent, {"close": null}, {"end": true}]), false),
        ],
    );
    check(
        json!([{"op": "close", "code": 1000, "or": [{"op": "close", "code": null}]}]),
        &[(json!([{"close": null}]), true), (json!([{"close": 1000}]), true), (json!([{"close": 1001}]), false)],
    );
}

#[test]
fn exact_payloads() {
    check(
        json!([{"op": "pong", "data": "x"}, {"op": "pong", "parts": [["y", 3]]}]),
        &[
            (json!([{"pong": "x"}, {"pong": "yyy"}]), true),
            (json!([{"pong": "yyy"}, {"pong": "x"}]), false),
            (json!([{"pong": "x"}, {"binary": "yyy"}]), false),
        ],
    );
    check(json!([{"op": "text", "data": "[1]"}]), &[(json!([[1]]), true), (json!([[1.0]]), false)]);
}

#[test]
fn what_may_stay_away() {
    let (a, b) = (message("t", 1), message("t", 2));
    let optional = json!({"op": "text", "none": true, "or": [{"json": a}], "better": {"json": a}});
    let cases = |without: bool| {
        [
            (json!([a, b]), true),
            (json!([b]), without),
            // Passed over: it is too late for it.
            (json!([b, a]), false),
            (json!([a, a, b]), false),
        ]
    };
    check_better(json!([optional, b]), Better::Allow, &cases(true));
    check_better(json!([optional, b]), Better::Never, &cases(true));
    check_better(json!([optional, b]), Better::Require, &cases(false));
}

#[test]
fn better_forms() {
    let steps = json!([{"op": "close", "code": 1011, "better": {"op": "text", "json": [1]}},
                       {"dir": "closed", "or": [{"none": true}], "better": {"none": true}}]);
    let (recorded, better) = (json!([{"close": 1011}, {"end": true}]), json!([[1]]));
    for (mode, recorded_ok, better_ok) in
        [(Better::Allow, true, true), (Better::Require, false, true), (Better::Never, true, false)]
    {
        check_better(steps.clone(), mode, &[(recorded.clone(), recorded_ok), (better.clone(), better_ok)]);
    }
}

#[test]
fn frames_in_time() {
    let late = |at: u64| json!([{"at": at, "text": [1]}]);
    check(json!([{"op": "text", "json": [1], "within_ms": 300}]), &[(late(300), true), (late(301), false)]);
    check(
        json!([{"op": "text", "json": [1], "after_ms": [100, 200]}]),
        &[(late(99), false), (late(100), true), (late(200), true), (late(201), false)],
    );
}

#[test]
fn ends_is_told() {
    let steps = [step(&json!({"op": "text", "json": [1], "or": [{"op": "close", "code": 1011, "ends": true}]}))];
    let parsed = parse(&steps).unwrap();
    let Action::Expect { frames, .. } = &parsed[0].action else { panic!() };
    for (sent, offer) in
        [(json!([1]), Offer::Taken), (json!({"close": 1011}), Offer::Ends), (json!([2]), Offer::Unexpected)]
    {
        let mut run = Run::new(frames, Better::Allow, &Joins::default());
        assert_eq!(run.offer(&incoming(&sent).0, Duration::ZERO, &mut Bindings::default()), offer);
    }
}

fn diff(joins: Value, leaves: Value) -> Value {
    json!([null, null, "t", "presence_diff", {"joins": joins, "leaves": leaves}])
}

fn metas(refs: &[&str]) -> Value {
    json!({"metas": refs.iter().map(|r| json!({ "phx_ref": r })).collect::<Vec<_>>()})
}

#[test]
fn diffs_may_be_merged_and_split() {
    let apart = [diff(json!({"a": metas(&["$R1"])}), json!({})), diff(json!({"b": metas(&["$R2"])}), json!({}))];
    let merged = diff(json!({"a": metas(&["x"]), "b": metas(&["y"])}), json!({}));
    let sent = |key: &str, r: &str| diff(json!({key: metas(&[r])}), json!({}));
    let cases = [
        (json!([merged]), true),
        (json!([sent("a", "x"), sent("b", "y")]), true),
        (json!([sent("b", "y"), sent("a", "x")]), true),
        (json!([sent("a", "x"), sent("b", "x")]), false),
        (json!([sent("a", "x")]), false),
        (json!([sent("a", "x"), sent("a", "y")]), false),
        (json!([merged, sent("a", "x")]), false),
        (json!([sent("a", "x"), merged]), false),
        (json!([diff(json!({}), json!({})), merged]), false),
        (json!([diff(json!({}), json!({"a": metas(&["x"]), "b": metas(&["y"])}))]), false),
    ];
    check(json!(apart), &cases);
    check(json!([diff(json!({"a": metas(&["$R1"]), "b": metas(&["$R2"])}), json!({}))]), &cases);
}

#[test]
fn diffs_of_one_key_keep_their_order() {
    let (joined, left) = (diff(json!({"a": 1}), json!({})), diff(json!({}), json!({"a": 1})));
    let update = diff(json!({"a": 1}), json!({"a": 1}));
    check(
        json!([joined, left]),
        &[(json!([joined, left]), true), (json!([left, joined]), false), (json!([update]), false)],
    );
    check(json!([update]), &[(json!([update]), true), (json!([joined, left]), false)]);
    // A diff and the state are free of each other.
    let state = json!(["1", null, "t", "presence_state", {"a": 1}]);
    check(json!([joined, state]), &[(json!([state, joined]), true), (json!([joined, state]), true)]);
}

#[test]
fn messages_of_polls() {
    let messages = [reply("1"), message("t", 1), message("u", 1)];
    for (sent, accepted) in [
        (json!([messages[0], messages[1], messages[2]]), true),
        (json!([messages[2], messages[0], messages[1]]), true),
        (json!([messages[1], messages[0], messages[2]]), false),
    ] {
        let mut run = Run::of_messages(&messages, &Joins::default()).unwrap();
        let mut bindings = Bindings::default();
        let offers =
            sent.as_array().unwrap().iter().map(|sent| run.offer(&incoming(sent).0, Duration::ZERO, &mut bindings));
        assert_eq!(offers.filter(|offer| *offer == Offer::Taken).count() == 3, accepted, "{sent}");
    }
}

#[test]
fn a_report_names_what_is_due() {
    let steps: Vec<Value> = [message("a", 1), json!({"op": "close", "code": 1000})].iter().map(step).collect();
    let parsed = parse(&steps).unwrap();
    let Action::Expect { frames, .. } = &parsed[0].action else { panic!() };
    let mut run = Run::new(frames, Better::Allow, &Joins::default());
    assert_eq!(run.next(), Some(("1".to_owned(), r#"text [null,null,"a","e",{"n":1}]"#.to_owned())));
    assert_eq!(run.offer(&incoming(&message("a", 1)).0, Duration::ZERO, &mut Bindings::default()), Offer::Taken);
    assert_eq!(run.next(), Some(("2".to_owned(), "close 1000".to_owned())));
}
