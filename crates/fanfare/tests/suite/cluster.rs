//! Nodes that share a broker behave like one.

use fanfare::{Endpoint, Payload, Policy, Publish, Retention, Since};
use serde_json::{Value, json};

use crate::support::nodes::{Member, Nodes};
use crate::support::stage;

fn nodes(count: usize) -> Nodes {
    Nodes::new(1, count, 1, || {
        let kept = Policy::new().history(Retention::default());
        Endpoint::builder().policy("room:kept*", kept).mount("/socket", stage())
    })
}

fn joined(nodes: &mut Nodes, node: usize, topic: &str, params: Value) -> Member {
    let mut member = Member::connect(nodes, node);
    member.join(nodes, topic, params);
    nodes.advance(0);
    let heard = member.heard();
    assert!(heard[0].starts_with("phx_reply") && heard[0].contains("\"status\":\"ok\""), "{heard:?}");
    member
}

fn tick(topic: &str, n: u64) -> Publish {
    Publish::new(topic, "tick", json!({ "n": n }))
}

fn position(frame: &Value) -> String {
    frame[4]["response"]["resume"]["position"].as_str().expect("it resumes").to_owned()
}

#[test]
fn members_on_two_nodes_hear_each_other() {
    for topic in ["room:1", "room:kept"] {
        let mut nodes = nodes(2);
        let mut members = [0, 1, 1].map(|node| joined(&mut nodes, node, topic, json!({})));
        members[0].send(&mut nodes, &json!(["1", "2", topic, "shout", { "from": 0 }]));
        members[2].send(&mut nodes, &json!(["1", "2", topic, "shout", { "from": 2 }]));
        nodes.advance(10);
        for (number, member) in members.iter_mut().enumerate() {
            let mut shouts: Vec<String> = member.heard();
            shouts.retain(|heard| heard.starts_with("shout"));
            shouts.sort();
            assert_eq!(shouts, ["shout {\"from\":0}", "shout {\"from\":2}"], "member {number} of {topic}");
        }
        nodes.publish(1, tick(topic, 3)).unwrap();
        nodes.publish(0, tick("room:nobody", 4)).unwrap();
        for member in &mut members {
            assert_eq!(member.heard(), ["tick {\"n\":3}"], "{topic}");
        }
        for reason in ["gap", "lost", "hole", "repair", "unread"] {
            assert_eq!(nodes.counter(1, "broker", reason), 0, "{reason} in {topic}");
        }
    }
}

#[test]
fn a_broadcast_to_others_leaves_out_its_own_join_only() {
    for topic in ["room:1", "room:kept"] {
        let mut nodes = nodes(2);
        let mut members = [0, 0, 1].map(|node| joined(&mut nodes, node, topic, json!({})));
        members[0].send(&mut nodes, &json!(["1", "2", topic, "shout_others", {}]));
        nodes.advance(10);
        let shouts = members.each_mut().map(|member| {
            let heard = member.heard();
            heard.iter().filter(|heard| heard.starts_with("shout")).count()
        });
        assert_eq!(shouts, [0, 1, 1], "{topic}");
    }
}

#[test]
fn a_history_is_one_for_all_nodes() {
    let mut nodes = nodes(2);
    let mut listeners = [0, 1].map(|node| joined(&mut nodes, node, "room:kept", json!({ "resume": true })));
    let positions: Vec<String> = (0..6)
        .map(|n| nodes.publish(n as usize % 2, tick("room:kept", n)).unwrap().position().unwrap().to_string())
        .collect();
    nodes.advance(10);
    for listener in &mut listeners {
        let heard: Vec<String> = listener.frames().iter().map(|frame| frame[1].as_str().unwrap().to_owned()).collect();
        assert_eq!(heard, positions, "the same order and positions everywhere");
    }
    let expected = nodes.publish(1, tick("room:kept", 7).expect(Since::Start)).unwrap_err();
    assert!(expected.is_conflict(), "{expected}");
    let once = |nodes: &mut Nodes, node| {
        let published = nodes.publish(node, tick("room:kept", 8).idempotency_key("k")).unwrap();
        (published.position(), published.is_repeated())
    };
    let (first, is_repeated) = once(&mut nodes, 0);
    assert!(!is_repeated);
    assert_eq!(once(&mut nodes, 1), (first, true));
}

#[test]
fn a_client_goes_on_where_it_was_on_another_node() {
    let mut nodes = nodes(3);
    let mut first = Member::connect(&mut nodes, 0);
    first.join(&mut nodes, "room:kept", json!({ "resume": true }));
    nodes.advance(0);
    let mut at = position(&first.frames()[0]);
    nodes.publish(1, tick("room:kept", 1)).unwrap();
    at = first.frames().last().map_or(at, |frame| frame[1].as_str().unwrap().to_owned());
    drop(first);
    // Node 1 has members all the while, node 2 never had any.
    let _witness = joined(&mut nodes, 1, "room:kept", json!({}));
    for n in 2..=4 {
        nodes.publish(0, tick("room:kept", n)).unwrap();
    }
    let mut missed: Vec<String> = (2..=4).map(|n| format!("tick {{\"n\":{n}}}")).collect();
    for node in [0, 1, 2] {
        let mut again = Member::connect(&mut nodes, node);
        again.join(&mut nodes, "room:kept", json!({ "resume": at }));
        nodes.advance(10);
        let heard = again.heard();
        assert!(heard[0].contains("\"recovered\":true"), "node {node}: {heard:?}");
        assert_eq!(heard[1..], missed, "node {node}");
        nodes.publish(2 - node, tick("room:kept", 9)).unwrap();
        nodes.advance(10);
        assert_eq!(again.heard(), ["tick {\"n\":9}"], "node {node}");
        missed.push("tick {\"n\":9}".to_owned());
    }
}

/// What was before is lost, which is told. What the broker has got since, before a node was back, is not.
#[test]
fn what_a_broker_has_since_it_forgot_everything_reaches_members() {
    let mut nodes = nodes(2);
    let mut member = joined(&mut nodes, 1, "room:kept", json!({ "gap": true }));
    nodes.publish(0, tick("room:kept", 1)).unwrap();
    nodes.advance(10);
    assert_eq!(member.heard(), ["tick {\"n\":1}"]);
    let away = nodes.incarnations[1];
    nodes.broker.break_link(away, true);
    nodes.broker.flush();
    nodes.advance(3_000);
    nodes.publish(0, tick("room:kept", 2)).unwrap();
    nodes.advance(10);
    assert_eq!(member.heard(), [""; 0]);
    nodes.broker.let_back(away);
    nodes.advance(3_000);
    let heard = member.heard();
    assert!(heard[0].starts_with("gap ") && heard[0].contains(":0\""), "up to where the log begins: {heard:?}");
    assert_eq!(heard[1..], ["tick {\"n\":2}"]);
    // Nodes have a log of their own, of what all are to do, which the broker has forgotten as well.
    assert_eq!(nodes.counter(1, "broker", "repair"), 2, "one of the topic, and one of that log");
}

/// The same of a log that keeps less than a node has missed.
#[test]
fn what_a_log_still_has_reaches_members_that_have_missed_more() {
    let mut nodes = Nodes::new(1, 2, 1, || {
        let few = Policy::new().history(Retention { messages_max: 3, ..Retention::default() });
        Endpoint::builder().policy("room:few", few).mount("/socket", stage())
    });
    let mut member = joined(&mut nodes, 1, "room:few", json!({ "gap": true }));
    nodes.publish(0, tick("room:few", 1)).unwrap();
    nodes.advance(10);
    assert_eq!(member.heard(), ["tick {\"n\":1}"]);
    let away = nodes.incarnations[1];
    nodes.broker.break_link(away, true);
    for n in 2..=8 {
        nodes.publish(0, tick("room:few", n)).unwrap();
    }
    nodes.broker.let_back(away);
    nodes.advance(3_000);
    let heard = member.heard();
    assert!(heard[0].starts_with("gap ") && heard[0].contains(":5\""), "{heard:?}");
    assert_eq!(heard[1..], ["tick {\"n\":6}", "tick {\"n\":7}", "tick {\"n\":8}"]);
    assert_eq!(nodes.counter(1, "broker", "repair"), 1, "it was read once");
    nodes.publish(0, tick("room:few", 9)).unwrap();
    nodes.advance(10);
    assert_eq!(member.heard(), ["tick {\"n\":9}"]);
}

/// Positions of two epochs cannot be compared, and messages of both must come once, in order, whichever comes first.
#[test]
fn an_epoch_may_begin_while_a_join_reads() {
    for late_ms in [0, 1, 5, 20] {
        let mut nodes = nodes(2);
        let mut witness = joined(&mut nodes, 0, "room:kept", json!({ "resume": true }));
        let first = nodes.publish(0, tick("room:kept", 1)).unwrap().position().unwrap().to_string();
        nodes.publish(1, tick("room:kept", 2)).unwrap();
        nodes.advance(0);
        witness.frames();
        nodes.broker.disturb(0, 0, 9);
        let mut late = Member::connect(&mut nodes, 1);
        late.join(&mut nodes, "room:kept", json!({ "resume": first }));
        nodes.advance(late_ms);
        // Nothing is lost with the session: the log goes on, under another epoch.
        nodes.broker.replicate();
        nodes.broker.fail_over();
        let mut published = Vec::new();
        for n in 3..=8 {
            published.push(nodes.begin_publishing(n as usize % 2, tick("room:kept", n)));
            nodes.advance(3);
        }
        nodes.advance(5_000);
        let ticks = |frames: Vec<Value>| -> Vec<u64> {
            frames.iter().filter(|frame| frame[3] == "tick").map(|frame| frame[4]["n"].as_u64().unwrap()).collect()
        };
        let told = nodes.node(0).endpoint().clone();
        let mut history = Box::pin(async move { told.history("room:kept", Since::Start, 100).await });
        let kept = loop {
            let mut context = std::task::Context::from_waker(std::task::Waker::noop());
            if let std::task::Poll::Ready(replay) = history.as_mut().poll(&mut context) {
                break replay.unwrap();
            }
            nodes.advance(1);
        };
        let epochs: std::collections::BTreeSet<u64> =
            kept.messages().iter().map(|stored| stored.position().epoch.number()).collect();
        let kept: Vec<u64> = kept.messages()[1..]
            .iter()
            .map(|stored| match stored.payload() {
                Payload::Json(json) => json.to::<Value>().unwrap()["n"].as_u64().unwrap(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert!(epochs.len() == 2 || kept.len() < 3, "{epochs:?} {kept:?}");
        let frames = late.frames();
        match frames.iter().find(|frame| frame[3] == "phx_reply").map(|frame| frame[4]["status"] == "ok") {
            Some(true) => assert_eq!(ticks(frames), kept, "late by {late_ms} ms"),
            // It could not be read, and the client is told so.
            _ => assert!(!frames.is_empty(), "late by {late_ms} ms"),
        }
        assert_eq!(ticks(witness.frames()), kept[1..], "late by {late_ms} ms");
    }
}
