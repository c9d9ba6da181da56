//! Every outcome of the scripts that read.

use fanfare_proto::history::Retention;
use fanfare_proto::position::{Position, Since};

use super::*;

const PLENTY: Retention = Retention { messages_max: 1_000, bytes_max: 1 << 20, age_max_ms: 3_600_000 };

/// Ten messages of ten bytes, "1" to "10" with zeros.
fn ten(node: &Node) -> Epoch {
    let mut epoch = None;
    for number in 1..=10 {
        let Ok(Appended::New(stamp)) = node.append_with("room", &format!("{number:09}"), PLENTY, None, None) else {
            panic!("it is kept")
        };
        epoch = Some(stamp.position.epoch);
    }
    epoch.unwrap()
}

#[test]
fn all_that_was_missed_or_nothing() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let epoch = ten(&node);
    let other = Epoch::new(epoch.number() ^ 1).unwrap();
    let read = Read { since: Since::Now, limit: 100, bytes_max: 1 << 20, newest: 0, retention: PLENTY };
    let three = Retention { messages_max: 3, ..PLENTY };
    let thirty_bytes = Retention { bytes_max: 30, ..PLENTY };
    for (what, read, recovered, expected) in [
        ("now", read, true, 0..0),
        ("now, with the newest", Read { newest: 3, ..read }, true, 8..11),
        ("now, with more newest than are kept", Read { newest: 50, retention: three, ..read }, true, 8..11),
        ("start", Read { since: Since::Start, ..read }, true, 1..11),
        ("start, gone by count", Read { since: Since::Start, newest: 2, retention: three, ..read }, false, 9..11),
        ("zero position", Read { since: at(epoch, 0), ..read }, true, 1..11),
        ("from a position", Read { since: at(epoch, 6), ..read }, true, 7..11),
        ("the head", Read { since: at(epoch, 10), ..read }, true, 0..0),
        ("the future", Read { since: at(epoch, 11), newest: 1, ..read }, false, 10..11),
        ("another epoch", Read { since: at(other, 6), ..read }, false, 0..0),
        ("the oldest by count", Read { since: at(epoch, 7), retention: three, ..read }, true, 8..11),
        ("gone by count", Read { since: at(epoch, 6), retention: three, ..read }, false, 0..0),
        ("the oldest by bytes", Read { since: at(epoch, 7), retention: thirty_bytes, ..read }, true, 8..11),
        ("gone by bytes", Read { since: at(epoch, 6), retention: thirty_bytes, ..read }, false, 0..0),
        (
            "the newest is kept whatever its size",
            Read { since: at(epoch, 9), retention: Retention { bytes_max: 5, ..PLENTY }, ..read },
            true,
            10..11,
        ),
        ("a page by count", Read { since: at(epoch, 2), limit: 4, ..read }, true, 3..7),
        ("a page by bytes", Read { since: at(epoch, 2), bytes_max: 35, ..read }, true, 3..6),
        ("a page has one at least", Read { since: at(epoch, 2), bytes_max: 1, ..read }, true, 3..4),
    ] {
        let page = node.read_with("room", read);
        let numbers: Vec<u64> = contents(&page).iter().map(|text| text.parse().unwrap()).collect();
        assert_eq!((page.recovered, numbers), (recovered, expected.collect::<Vec<_>>()), "{what}");
        assert_eq!(page.head.position, Position { epoch, offset: 10 }, "{what}");
        for entry in &page.entries {
            assert_eq!(entry.stamp.prev, Position { offset: entry.stamp.position.offset - 1, ..entry.stamp.position });
        }
    }
}

#[test]
fn what_is_too_old_is_not_there_and_the_head_stays() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let epoch = ten(&node);
    thread::sleep(Duration::from_millis(120));
    let brief = Retention { age_max_ms: 100, ..PLENTY };
    let read = Read { since: at(epoch, 9), limit: 100, bytes_max: 1 << 20, newest: 5, retention: brief };
    let page = node.read_with("room", read);
    assert_eq!((page.recovered, page.entries.len(), page.head.position.offset), (false, 0, 10));
    let page = node.read_with("room", Read { since: at(epoch, 10), ..read });
    assert_eq!((page.recovered, page.entries.len()), (true, 0));
}

#[test]
fn messages_that_were_evicted_are_missed() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let epoch = ten(&node);
    service.redis(&["DEL", "ff:s:{room}"]);
    assert!(!node.read("room", at(epoch, 5)).recovered);
    assert!(node.read("room", at(epoch, 10)).recovered);
    assert!(!node.read("room", Since::Start).recovered);
    // And what comes then goes on.
    assert_eq!(node.stamp("room", "eleven").position, Position { epoch, offset: 11 });
    assert_eq!(contents(&node.read("room", at(epoch, 10))), ["eleven"]);
    assert!(!node.read("room", at(epoch, 9)).recovered);
}

#[test]
fn many_pages_are_one_log() {
    let service = redis_server::start();
    let node = Node::up(&service);
    for number in 0..300 {
        node.append_with("room", &number.to_string(), PLENTY, None, None).unwrap();
    }
    let mut since = Since::Start;
    let mut all = Vec::new();
    loop {
        let read = Read { since, limit: 37, bytes_max: 1 << 20, newest: 0, retention: PLENTY };
        let page = node.read_with("room", read);
        assert!(page.recovered);
        all.extend(contents(&page));
        let Some(last) = page.entries.last() else { break };
        since = Since::Position(last.stamp.position);
    }
    assert_eq!(all, (0..300).map(|number| number.to_string()).collect::<Vec<_>>());
}

#[test]
fn a_topic_that_nobody_has_published_to_begins_where_it_is_attached() {
    let service = redis_server::start();
    let node = Node::up(&service);
    // And where it is read, or its head is asked for.
    let page = node.read("calm", Since::Start);
    assert_eq!((page.recovered, page.head.position.offset, page.entries.len()), (true, 0, 0));
    assert!(node.read("calm", Since::Position(page.head.position)).recovered);
    let still = answer(|done| node.redis.heads(vec![topic("still")], done)).unwrap();
    assert!(node.read("still", Since::Position(still[0])).recovered);

    let head = node.attach("quiet", true).unwrap().head.unwrap();
    assert_eq!(node.read("quiet", Since::Position(head.position)).head, head);
    let life = || service.redis(&["PTTL", "ff:m:{quiet}"]).parse::<u64>().unwrap();
    assert!((590_000..=600_000).contains(&life()));
    // It stays for as long as somebody is interested.
    service.redis(&["PEXPIRE", "ff:m:{quiet}", "1000"]);
    let heads = answer(|done| node.redis.heads(vec![topic("quiet")], done)).unwrap();
    assert_eq!(heads, [head.position]);
    assert!(life() > 590_000);
    let stamp = node.stamp("quiet", "first");
    assert_eq!((stamp.prev, stamp.position.epoch), (head.position, head.position.epoch));
}

#[test]
fn heads_of_many_topics_come_in_their_order() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let topics: Vec<_> = (0..500).map(|number| topic(&format!("room:{number}"))).collect();
    for (number, name) in topics.iter().enumerate() {
        if number % 3 == 0 {
            node.append(name, "m").unwrap();
        }
    }
    let heads = answer(|done| node.redis.heads(topics, done)).unwrap();
    assert_eq!(heads.len(), 500);
    for (number, head) in heads.iter().enumerate() {
        assert_eq!(head.offset, u64::from(number % 3 == 0), "{number}");
    }
    assert_eq!(answer(|done| node.redis.heads(Vec::new(), done)).unwrap(), []);
}
