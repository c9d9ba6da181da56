//! Logs in a JetStream that is killed, has lost something, or is not there.

use std::process::Command;

use fanfare_proto::position::Since;

use super::*;
use crate::broker::suite::{contents, process::run};
use crate::broker::{Read, Stamp};

/// Whether a reader goes on from a message, and what it gets.
fn read(node: &Node, since: Stamp) -> (bool, Vec<String>) {
    let page = node.read("room", Since::Position(since.position));
    (page.recovered, contents(&page))
}

/// Reads have a connection of their own, which comes up by itself.
fn is_read_again(node: &Node) {
    eventually(|| answer(|done| node.log().heads(vec![topic("room")], done)).is_ok());
}

#[test]
fn a_server_that_is_killed_has_kept_all_and_positions_hold() {
    let mut service = nats_server::start_jetstream();
    let node = up_with_logs(&broker(&service));
    node.attach("room", true).unwrap();
    let before = node.stamp("room", "before");
    assert_eq!(node.next(), Told::Live("room".into(), envelope("before"), Some(before)));
    service.kill();
    assert!(matches!(node.next(), Told::Down(_)));
    refused_since(&node, "refused");
    assert!(matches!(node.append("room", "never"), Err(Undone::Refused(_))));
    service.restart();
    assert_eq!(node.next(), Told::Up);
    let after = node.stamp("room", "after");
    assert_eq!(node.next(), Told::Live("room".into(), envelope("after"), Some(after)));
    assert_eq!((after.prev, after.position.epoch), (before.position, before.position.epoch));
    is_read_again(&node);
    assert_eq!(read(&node, before), (true, vec!["after".to_owned()]));
}

#[test]
fn a_server_that_has_lost_its_tail_begins_topics_again() {
    let mut service = nats_server::start_jetstream();
    let node = up_with_logs(&broker(&service));
    node.attach("room", true).unwrap();
    let first = node.stamp("room", "first");
    service.kill();
    let [kept, copy] = ["jetstream", "copy"].map(|name| service.folder.path(name));
    run(Command::new("cp").arg("-a").arg(&kept).arg(&copy));
    service.restart();
    eventually(|| node.append("room", "second").is_ok());
    let third = node.stamp("room", "third");
    service.kill();
    std::fs::remove_dir_all(&kept).unwrap();
    std::fs::rename(&copy, &kept).unwrap();
    service.restart();
    eventually(|| node.append("room", "other").is_ok());
    is_read_again(&node);
    let fourth = node.stamp("room", "fourth");
    assert_ne!(fourth.position.epoch, third.position.epoch);
    for lost in [first, third] {
        assert_eq!(read(&node, lost), (false, vec![]), "no position stands for two messages");
    }
    assert_eq!(contents(&node.read("room", Since::Start)), ["other", "fourth"]);
}

#[test]
fn a_stream_that_is_deleted_is_noticed_and_made_again() {
    let service = nats_server::start_jetstream();
    let node = up_with_logs(&broker(&service));
    node.attach("room", true).unwrap();
    let before = node.stamp("room", "before");
    node.next();
    let names = service.nats_ask("$JS.API.STREAM.NAMES", "");
    let name = names.split('"').find(|part| part.starts_with("ff_1000_")).unwrap().to_owned();
    service.nats_ask(&format!("$JS.API.STREAM.DELETE.{name}"), "");
    // The look every few seconds finds it, or the next message.
    assert!(matches!(node.next(), Told::Down(why) if why.contains("the stream of topics")));
    assert_eq!(node.next(), Told::Up);
    let after = node.stamp("room", "after");
    assert_ne!(after.position.epoch, before.position.epoch);
    assert_eq!(node.next(), Told::Live("room".into(), envelope("after"), Some(after)));
    assert_eq!(read(&node, before), (false, vec![]));
}

#[test]
fn a_server_that_does_not_answer_keeps_it_once_or_never() {
    let service = nats_server::start_jetstream();
    let node = up_with_logs(&broker(&service));
    node.attach("room", true).unwrap();
    let hanging = service.hang();
    let outcome = node.append("room", "perhaps");
    assert!(matches!(&outcome, Err(Undone::Unknown(why)) if why.contains("has not answered within 2s")), "{outcome:?}");
    drop(hanging);
    eventually(|| node.append("room", "surely").is_ok());
    is_read_again(&node);
    let kept = contents(&node.read("room", Since::Start));
    assert!(kept == ["perhaps", "surely"] || kept == ["surely"], "{kept:?}");
}

#[test]
fn a_nats_without_a_jetstream_or_with_foreign_streams_keeps_nothing_and_says_so() {
    let plain = nats_server::start();
    refused_since(&open_with_logs(&broker(&plain)), "it has no JetStream, nobody answers: start nats-server with -js");
    let taken = nats_server::start_jetstream();
    taken.nats_ask("$JS.API.STREAM.CREATE.theirs", r#"{"name":"theirs","subjects":["ff.h.>"]}"#);
    refused_since(&open_with_logs(&broker(&taken)), "the stream \"theirs\" has the subjects of this namespace");
    // Whoever keeps nothing needs none.
    up(&broker(&plain)).attach("room", false).unwrap();
}

#[test]
fn topics_of_all_sizes_keep_what_they_say() {
    let service = nats_server::start_jetstream();
    let kept = |messages_max| Retention { messages_max, bytes_max: 1 << 20, age_max_ms: 3_600_000 };
    let of = move |topic: &str| Some(kept(if topic == "few" { 10 } else { 50 }));
    let logs = Logs { kinds: vec![kept(10), kept(50)], of: Arc::new(of) };
    let node = Node::with(|incarnation, deliver| broker(&service).open(incarnation, deliver, logs).unwrap());
    assert_eq!(node.next(), Told::Up);
    for (name, messages_max) in [("few", 10), ("more", 50)] {
        eventually(|| answer(|done| node.log().heads(vec![topic(name)], done)).is_ok());
        let stamps: Vec<_> = (0..120)
            .map(|number| match node.append_with(name, &number.to_string(), kept(messages_max), None, None) {
                Ok(Appended::New(stamp)) => stamp,
                other => panic!("{other:?}"),
            })
            .collect();
        let read = |number: usize| {
            let since = Since::Position(stamps[number].position);
            let retention = kept(messages_max);
            let page =
                node.read_with(name, Read { since, limit: 1_000, bytes_max: usize::MAX, newest: 200, retention });
            (page.recovered, page.entries.len())
        };
        assert_eq!(read(119 - messages_max), (true, messages_max), "{name}");
        assert_eq!(read(118 - messages_max), (false, messages_max), "{name}");
    }
}
