//! Logs: positions, what is kept once, what is expected, and who is recovered.

use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use fanfare_proto::history::Retention;
use fanfare_proto::position::{Epoch, Position, Since};

use super::{Case, Node, PATIENCE, Subject, Told, answer, contents, envelope, topic};
use crate::broker::{Append, Appended, Read, Stamp};

pub(super) const CASES: &[Case] = &[
    ("positions name their predecessors, and live messages have them too", names_predecessors),
    ("appends of a node keep their order, and every node is given the order of the log", has_one_order),
    ("a key is kept once, whatever is expected, and by whichever node", keeps_a_key_once),
    ("what is not where it was expected is not written", looks_where_it_is),
    ("all that was missed or nothing, whoever has published and whoever reads", recovers_all_or_nothing),
    ("what is too old is not there, and the head stays", forgets_by_age),
    ("many pages are one log", reads_in_pages),
    ("a topic that nobody has published to begins where it is asked for", begins_where_it_is_asked_for),
    ("heads of many topics come in their order", tells_heads),
    ("messages that were thrown away are missed, and the log goes on", knows_what_it_has_thrown_away),
    ("a topic that was forgotten begins again with other positions", begins_again),
];

const PLENTY: Retention = Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max_ms: 3_600_000 };

const ALL: Read = Read { since: Since::Now, limit: 100, bytes_max: 1 << 20, newest: 0, retention: PLENTY };

fn new(appended: Appended) -> Stamp {
    if let Appended::New(stamp) = appended { stamp } else { panic!("{appended:?} is not new") }
}

fn keep(node: &Node, name: &str, content: &str) -> Stamp {
    new(node.append_with(name, content, PLENTY, None, None).unwrap())
}

fn names_predecessors(subject: &dyn Subject) {
    let [one, two] = [(); 2].map(|()| Node::up(subject));
    let head = one.attach("positions", true).unwrap().head.unwrap();
    let mut last = head.position;
    for (number, node) in [&one, &two, &one].into_iter().enumerate() {
        let content = number.to_string();
        let stamp = node.stamp("positions", &content);
        assert_eq!(stamp.prev, last);
        assert!(stamp.position.offset > last.offset && stamp.position.epoch == last.epoch);
        assert_eq!(one.next(), Told::Live("positions".into(), envelope(&content), Some(stamp)));
        last = stamp.position;
    }
    assert_eq!(two.attach("positions", true).unwrap().head.unwrap().position, last);
    assert_eq!(contents(&two.read("positions", Since::Position(head.position))), ["0", "1", "2"]);
    assert_eq!(contents(&two.read("positions", Since::Start)), ["0", "1", "2"]);
}

fn has_one_order(subject: &dyn Subject) {
    const MESSAGES: usize = 200;
    let nodes = [(); 2].map(|()| Node::up(subject));
    for node in &nodes {
        node.attach("one order", true).unwrap();
    }
    let (sender, answers) = mpsc::channel();
    for number in 0..MESSAGES {
        for (who, node) in nodes.iter().enumerate() {
            let sender = sender.clone();
            node.log().append(Append {
                topic: topic("one order"),
                envelope: envelope(&format!("{who} {number}")),
                retention: PLENTY,
                key: None,
                expected: None,
                done: Box::new(move |appended| sender.send((who, number, new(appended.unwrap()))).unwrap()),
            });
        }
    }
    let mut kept: Vec<_> = (0..2 * MESSAGES).map(|_| answers.recv_timeout(PATIENCE).unwrap()).collect();
    kept.sort_by_key(|(.., stamp)| stamp.position.offset);
    assert!(kept.windows(2).all(|pair| pair[1].2.prev == pair[0].2.position), "each follows the one before");
    for who in 0..2 {
        let own = kept.iter().filter(|(by, ..)| *by == who).map(|(_, number, _)| *number);
        assert!(own.eq(0..MESSAGES), "the order of node {who}");
    }
    for node in &nodes {
        let mut told: Vec<_> = kept.iter().map(|_| node.next()).collect();
        if !subject.keeps_the_order_of_logs() {
            told.sort_by_key(|told| match told {
                Told::Live(.., Some(stamp)) => stamp.position.offset,
                told => panic!("{told:?}"),
            });
        }
        for (told, (who, number, stamp)) in told.into_iter().zip(&kept) {
            let content = envelope(&format!("{who} {number}"));
            assert_eq!(told, Told::Live("one order".into(), content, Some(*stamp)));
        }
    }
}

fn keeps_a_key_once(subject: &dyn Subject) {
    let [one, two] = [(); 2].map(|()| Node::up(subject));
    let append = |node: &Node, key: &str, expected| node.append_with("keys", "m", PLENTY, Some(key), expected).unwrap();
    let first = new(append(&one, "a", Some(Since::Start)));
    let second = new(append(&one, "b", None));
    assert_eq!(second.prev, first.position);
    assert_eq!(append(&one, "a", Some(Since::Start)), Appended::Repeated(first.position));
    assert_eq!(append(&two, "b", None), Appended::Repeated(second.position));
    // Another topic knows nothing of it.
    new(one.append_with("other keys", "m", PLENTY, Some("a"), None).unwrap());
    assert_eq!(one.read("keys", Since::Start).entries.len(), 2);
}

fn looks_where_it_is(subject: &dyn Subject) {
    let node = Node::up(subject);
    let append = |expected| node.append_with("expected", "m", PLENTY, None, Some(expected)).unwrap();
    // The answer about a topic that nobody knows holds.
    let nowhere = Position { epoch: Epoch::new(7).unwrap(), offset: 1 };
    let Appended::Conflict(head) = append(Since::Position(nowhere)) else { panic!("it is not there") };
    let first = new(append(Since::Position(head)));
    assert_eq!(first.prev, head);
    assert_eq!(append(Since::Start), Appended::Conflict(first.position));
    assert_eq!(append(Since::Position(head)), Appended::Conflict(first.position));
    let another = Position { epoch: nowhere.epoch, ..first.position };
    assert_eq!(append(Since::Position(another)), Appended::Conflict(first.position));
    let second = new(append(Since::Position(first.position)));
    assert_eq!(new(append(Since::Now)).prev, second.position);
    assert_eq!(node.read("expected", Since::Start).entries.len(), 3);
}

fn recovers_all_or_nothing(subject: &dyn Subject) {
    let nodes = [(); 2].map(|()| Node::up(subject));
    // Ten messages of ten bytes, by turns.
    let stamps: Vec<_> = (1..=10).map(|number| keep(&nodes[number % 2], "missed", &format!("{number:09}"))).collect();
    let at = |number: usize| match number {
        0 => Since::Position(stamps[0].prev),
        number => Since::Position(stamps[number - 1].position),
    };
    let head = stamps[9].position;
    let future = Since::Position(Position { offset: head.offset + 1_000_000, ..head });
    let other = Since::Position(Position {
        epoch: Epoch::new(head.epoch.number() ^ 1).unwrap(),
        offset: stamps[5].position.offset,
    });
    let three = Retention { messages_max: 3, ..PLENTY };
    let thirty_bytes = Retention { bytes_max: 30, ..PLENTY };
    for (what, read, recovered, expected) in [
        ("now", ALL, true, 0..0),
        ("now, with the newest", Read { newest: 3, ..ALL }, true, 8..11),
        ("now, with more newest than are kept", Read { newest: 50, retention: three, ..ALL }, true, 8..11),
        ("start", Read { since: Since::Start, ..ALL }, true, 1..11),
        ("start, gone by count", Read { since: Since::Start, newest: 2, retention: three, ..ALL }, false, 9..11),
        ("before the first", Read { since: at(0), ..ALL }, true, 1..11),
        ("from a position", Read { since: at(6), ..ALL }, true, 7..11),
        ("the head", Read { since: at(10), ..ALL }, true, 0..0),
        ("the future", Read { since: future, newest: 1, ..ALL }, false, 10..11),
        ("another epoch", Read { since: other, ..ALL }, false, 0..0),
        ("the oldest by count", Read { since: at(7), retention: three, ..ALL }, true, 8..11),
        ("gone by count", Read { since: at(6), retention: three, ..ALL }, false, 0..0),
        ("the oldest by bytes", Read { since: at(7), retention: thirty_bytes, ..ALL }, true, 8..11),
        ("gone by bytes", Read { since: at(6), retention: thirty_bytes, ..ALL }, false, 0..0),
        (
            "the newest is kept whatever its size",
            Read { since: at(9), retention: Retention { bytes_max: 5, ..PLENTY }, ..ALL },
            true,
            10..11,
        ),
        ("a page by count", Read { since: at(2), limit: 4, ..ALL }, true, 3..7),
        ("a page by bytes", Read { since: at(2), bytes_max: 35, ..ALL }, true, 3..6),
        ("a page has one at least", Read { since: at(2), bytes_max: 1, ..ALL }, true, 3..4),
    ] {
        for node in &nodes {
            let page = node.read_with("missed", read);
            let numbers: Vec<usize> = contents(&page).iter().map(|text| text.parse().unwrap()).collect();
            assert_eq!((page.recovered, numbers.clone()), (recovered, expected.clone().collect::<Vec<_>>()), "{what}");
            assert_eq!(page.head.position, head, "{what}");
            let told = page.entries.iter().map(|entry| entry.stamp);
            assert!(told.eq(numbers.iter().map(|number| stamps[number - 1])), "{what}: where they are");
        }
    }
}

fn forgets_by_age(subject: &dyn Subject) {
    let node = Node::up(subject);
    let stamps: Vec<_> = (0..10).map(|number| keep(&node, "old", &number.to_string())).collect();
    thread::sleep(Duration::from_millis(120));
    let brief = Retention { age_max_ms: 100, ..PLENTY };
    let read = Read { since: Since::Position(stamps[8].position), newest: 5, retention: brief, ..ALL };
    let page = node.read_with("old", read);
    assert_eq!((page.recovered, page.entries.len(), page.head.position), (false, 0, stamps[9].position));
    let page = node.read_with("old", Read { since: Since::Position(stamps[9].position), ..read });
    assert_eq!((page.recovered, page.entries.len()), (true, 0));
}

fn reads_in_pages(subject: &dyn Subject) {
    let node = Node::up(subject);
    for number in 0..150 {
        keep(&node, "pages", &number.to_string());
    }
    let mut since = Since::Start;
    let mut last: Option<Position> = None;
    let mut all = Vec::new();
    loop {
        let page = node.read_with("pages", Read { since, limit: 37, ..ALL });
        assert!(page.recovered);
        all.extend(contents(&page));
        for entry in &page.entries {
            assert!(last.is_none_or(|last| last == entry.stamp.prev));
            last = Some(entry.stamp.position);
        }
        let Some(entry) = page.entries.last() else { break };
        since = Since::Position(entry.stamp.position);
    }
    assert_eq!(all, (0..150).map(|number| number.to_string()).collect::<Vec<_>>());
}

fn begins_where_it_is_asked_for(subject: &dyn Subject) {
    let node = Node::up(subject);
    let page = node.read("calm", Since::Start);
    assert_eq!((page.recovered, page.entries.len()), (true, 0));
    assert!(node.read("calm", Since::Position(page.head.position)).recovered);
    let still = answer(|done| node.log().heads(vec![topic("still")], done)).unwrap();
    assert!(node.read("still", Since::Position(still[0])).recovered);
    let head = node.attach("quiet", true).unwrap().head.unwrap();
    assert_eq!(node.read("quiet", Since::Position(head.position)).head, head);
    let stamp = node.stamp("quiet", "first");
    assert_eq!((stamp.prev, stamp.position.epoch), (head.position, head.position.epoch));
}

fn tells_heads(subject: &dyn Subject) {
    let node = Node::up(subject);
    let topics: Vec<_> = (0..200).map(|number| topic(&format!("heads:{number}"))).collect();
    let before = answer(|done| node.log().heads(topics.clone(), done)).unwrap();
    let mut expected = before.clone();
    for (number, name) in topics.iter().enumerate().step_by(7) {
        let stamp = keep(&node, name, "m");
        assert_eq!(stamp.prev, before[number]);
        expected[number] = stamp.position;
    }
    assert_eq!(answer(|done| node.log().heads(topics, done)).unwrap(), expected);
    assert_eq!(answer(|done| node.log().heads(Vec::new(), done)).unwrap(), []);
}

fn knows_what_it_has_thrown_away(subject: &dyn Subject) {
    let node = Node::up(subject);
    let stamps: Vec<_> = (0..10).map(|number| keep(&node, "thrown", &number.to_string())).collect();
    if !subject.evict("thrown", true) {
        return;
    }
    let recovered = |since| node.read("thrown", since).recovered;
    assert!(!recovered(Since::Position(stamps[4].position)) && !recovered(Since::Start));
    assert!(recovered(Since::Position(stamps[9].position)));
    // And what comes then goes on.
    assert_eq!(keep(&node, "thrown", "eleven").prev, stamps[9].position);
    assert_eq!(contents(&node.read("thrown", Since::Position(stamps[9].position))), ["eleven"]);
    assert!(!recovered(Since::Position(stamps[8].position)));
}

fn begins_again(subject: &dyn Subject) {
    let node = Node::up(subject);
    let before = keep(&node, "forgotten", "before");
    if !subject.evict("forgotten", false) {
        return;
    }
    let after = keep(&node, "forgotten", "after");
    assert_ne!(after.position.epoch, before.position.epoch);
    assert_eq!(after.prev.epoch, after.position.epoch);
    assert!(!node.read("forgotten", Since::Position(before.position)).recovered);
    assert_eq!(contents(&node.read("forgotten", Since::Start)), ["after"]);
}
