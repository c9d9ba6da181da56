//! Live messages: who gets them, in which order, and from when until when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use bytes::Bytes;
use fanfare_proto::position::Position;

use super::{Case, Node, Subject, Told, answer, envelope, eventually, live, topic};
use crate::broker::{Appended, Stamp, Undone};

pub(super) const CASES: &[Case] = &[
    ("a message reaches all who are attached, the publisher too, and nobody else", reaches_the_attached),
    ("what one node publishes to a topic arrives in its order", keeps_the_order),
    ("hostile names are topics like any other", takes_names_literally),
    ("an inbox is a node's own until it ends", has_inboxes),
    ("an envelope beyond the bound is refused, and one at it is carried", bounds_envelopes),
    ("detached and attached again at once, a topic is attached", takes_calls_in_their_order),
    ("a connection that ends is made again, and its topics are attached", attaches_again),
    ("attaching leaves no hole and no double while somebody publishes", attaches_under_a_race),
];

fn reached(subject: &dyn Subject, count: u64) -> Result<Option<u64>, Undone> {
    Ok(subject.counts_receivers().then_some(count))
}

fn reaches_the_attached(subject: &dyn Subject) {
    let [one, two, three] = [(); 3].map(|()| Node::up(subject));
    one.attach("reach", false).unwrap();
    two.attach("reach", false).unwrap();
    assert_eq!(one.publish("reach", "hi"), reached(subject, 2));
    assert_eq!((one.next(), two.next()), (live("reach", "hi"), live("reach", "hi")));
    two.detach("reach");
    assert_eq!(three.publish("reach", "again"), reached(subject, 1));
    assert_eq!(one.next(), live("reach", "again"));
    assert_eq!((two.rest(), three.rest()), (vec![], vec![]));
    assert_eq!(one.publish("elsewhere", "hi"), reached(subject, 0));
}

fn keeps_the_order(subject: &dyn Subject) {
    const MESSAGES: usize = 500;
    let [one, two] = [(); 2].map(|()| Node::up(subject));
    for name in ["order:1", "order:2"] {
        two.attach(name, false).unwrap();
    }
    for number in 0..MESSAGES {
        for name in ["order:1", "order:2"] {
            one.parts.transport.publish(&topic(name), envelope(&number.to_string()), Box::new(|_| ()));
        }
    }
    let mut numbers = [0; 2];
    while numbers != [MESSAGES; 2] {
        let Told::Live(name, content, None) = two.next() else { panic!("only messages come") };
        let number = &mut numbers[usize::from(name == "order:2")];
        assert_eq!(content, envelope(&number.to_string()), "{name}");
        *number += 1;
    }
}

fn takes_names_literally(subject: &dyn Subject) {
    let node = Node::up(subject);
    let long = "x".repeat(255);
    let strange = "ü".repeat(127);
    let names = [
        "*",
        "{}",
        "}",
        "{",
        "{a}b",
        "a",
        "%",
        "%7B",
        "room:*",
        "größe ☃",
        "a b",
        "\u{1}",
        ">",
        ".",
        "a.b",
        "a.*",
        "..",
        "?",
        "[a]",
        "$JS.API",
        "_INBOX.a",
        "\r\n",
        &long,
        &strange,
    ];
    let keeps = node.parts.log.is_some();
    for name in names {
        node.attach(name, keeps).unwrap();
    }
    for name in names {
        assert_eq!(node.publish(name, name), reached(subject, 1), "{name:?}");
        assert_eq!(node.next(), live(name, name));
        if keeps {
            let stamp = node.stamp(name, "kept");
            assert_eq!(node.next(), Told::Live(name.to_owned(), envelope("kept"), Some(stamp)));
        }
    }
    assert_eq!(node.rest(), []);
}

fn has_inboxes(subject: &dyn Subject) {
    let [one, two] = [(); 2].map(|()| Node::up(subject));
    let send = |to| answer(|done| one.parts.transport.send(to, envelope("psst"), done));
    assert_eq!(send(two.incarnation), Ok(()));
    assert_eq!(two.next(), Told::Inbox(envelope("psst")));
    assert_eq!(send(one.incarnation), Ok(()));
    assert_eq!(one.next(), Told::Inbox(envelope("psst")));
    let gone = two.incarnation;
    drop(two);
    eventually(|| send(gone) == Err(Undone::Gone));
}

fn bounds_envelopes(subject: &dyn Subject) {
    let Some(most) = subject.envelope_size_max() else { return };
    let node = Node::up(subject);
    node.attach("large", node.parts.log.is_some()).unwrap();
    let content = "x".repeat(most - 1);
    assert_eq!(node.publish("large", &content), reached(subject, 1));
    assert!(matches!(node.next(), Told::Live(_, bytes, None) if bytes.len() == most));
    let Err(Undone::Impossible(why)) = node.publish("large", &"x".repeat(most)) else { panic!("it is too large") };
    assert!(why.contains(&most.to_string()), "{why}");
    if node.parts.log.is_some() {
        let stamp = node.stamp("large", &content);
        assert!(matches!(node.next(), Told::Live(_, bytes, Some(live)) if bytes.len() == most && live == stamp));
        assert!(matches!(node.append("large", &"x".repeat(most)), Err(Undone::Impossible(_))));
    }
    let carries = |size| node.parts.transport.carries(size).is_ok();
    assert_eq!((carries(most), carries(most + 1)), (true, false));
}

fn takes_calls_in_their_order(subject: &dyn Subject) {
    let node = Node::up(subject);
    node.attach("again", false).unwrap();
    for round in 0..50 {
        let transport = &node.parts.transport;
        transport.detach("again", Box::new(|_| ()));
        answer(|done| transport.attach(&topic("again"), false, done)).unwrap();
        assert_eq!(node.publish("again", "m"), reached(subject, 1), "round {round}");
        assert_eq!(node.next(), live("again", "m"));
    }
}

fn attaches_again(subject: &dyn Subject) {
    let node = Node::up(subject);
    let names = ["anew:1", "anew:2", "anew:3"];
    for name in names {
        node.attach(name, false).unwrap();
    }
    assert_eq!(node.parts.transport.stands().len(), subject.links());
    if !subject.ends_connections_of(node.incarnation) {
        return;
    }
    let mut told: Vec<_> = (0..2 * subject.links()).map(|_| node.next()).collect();
    told.retain(|told| *told != Told::Up);
    assert!(told.len() == subject.links() && told.iter().all(|told| matches!(told, Told::Down(_))), "{told:?}");
    for name in names {
        assert_eq!(node.publish(name, "m"), reached(subject, 1));
        assert_eq!(node.next(), live(name, "m"));
    }
    assert_eq!(node.rest(), []);
}

/// A publisher that does not stop: whatever a node that attaches meanwhile is not given is at or before the head that it was told.
/// `FANFARE_ATTACH_ROUNDS` has it tried so often.
fn attaches_under_a_race(subject: &dyn Subject) {
    let publisher = Node::up(subject);
    let node = Node::up(subject);
    if node.parts.log.is_none() {
        return;
    }
    let rounds = std::env::var("FANFARE_ATTACH_ROUNDS").map_or(200, |rounds| rounds.parse::<u64>().unwrap());
    let stop = Arc::new(AtomicBool::new(false));
    let racing = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut number = 0_u64;
            while !stop.load(Ordering::Relaxed) {
                assert!(matches!(publisher.append("race", &number.to_string()), Ok(Appended::New(_))));
                number += 1;
            }
        }
    });
    let mut raced = 0;
    for round in 0..rounds {
        let head = node.attach("race", true).unwrap().head.unwrap();
        let mut span = Span { head: head.position, came: Vec::new(), is_ordered: subject.keeps_the_order_of_logs() };
        // Now and then until the publisher's next message has come, or an own one is kept; else it is detached at once.
        while round % 4 == 0 && span.came.is_empty() {
            span.take(node.next());
        }
        let own = (round % 10 == 0).then(|| node.stamp("race", "own"));
        while !span.is_ordered && (span.has_hole() || own.is_some_and(|own| !span.came.contains(&own))) {
            assert!(span.came.len() < 5_000, "round {round}: a message does not come");
            span.take(node.next());
        }
        let whole = span.came.len();
        node.detach("race");
        let marker = Bytes::from(format!("marker {round}"));
        answer(|done| node.parts.transport.send(node.incarnation, marker.clone(), done)).unwrap();
        loop {
            match node.next() {
                Told::Inbox(bytes) if bytes == marker => break,
                told => span.take(told),
            }
        }
        raced += span.came.len() as u64;
        if !span.is_ordered {
            // What was late when it was detached does not come any more.
            span.came.truncate(whole);
        }
        assert!(!span.has_hole(), "round {round}: {span:?}");
        let has_own = own.is_none_or(|own| span.came.contains(&own) || own.position.offset <= head.position.offset);
        assert!(has_own, "round {round}: the own message came while it was attached");
    }
    stop.store(true, Ordering::Relaxed);
    racing.join().unwrap();
    assert!(raced >= rounds / 4, "{raced} messages came while they raced");
}

/// What a node is given of a log while it is attached.
#[derive(Debug)]
struct Span {
    head: Position,
    came: Vec<Stamp>,
    is_ordered: bool,
}

impl Span {
    /// Takes what comes behind the head.
    fn take(&mut self, told: Told) {
        match told {
            Told::Live(_, _, Some(stamp)) if stamp.position.offset <= self.head.offset => {}
            Told::Live(_, _, Some(stamp)) => self.came.push(stamp),
            told => panic!("{told:?}"),
        }
    }

    fn has_hole(&self) -> bool {
        let mut came = self.came.clone();
        if !self.is_ordered {
            came.sort_by_key(|stamp| stamp.position.offset);
        }
        let mut last = self.head;
        came.iter().any(|stamp| stamp.prev != std::mem::replace(&mut last, stamp.position))
    }
}
