//! Live messages, inboxes, and registers.

use super::*;
use crate::broker::{Cell, REGISTER_SIZE_MAX, Registers, Swapped};

fn publish(node: &Node, name: &str, content: &str) -> Result<Option<u64>, Undone> {
    answer(|done| node.redis.publish(&topic(name), envelope(content), done))
}

fn live(name: &str, content: &str) -> Told {
    Told::Live(name.to_owned(), envelope(content), None)
}

#[test]
fn a_message_reaches_all_who_are_attached_the_publisher_too_and_nobody_else() {
    let service = redis_server::start();
    let [one, two, three] = [(); 3].map(|()| Node::up(&service));
    one.attach("room", false).unwrap();
    two.attach("room", false).unwrap();
    assert_eq!(publish(&one, "room", "hi"), Ok(Some(2)));
    assert_eq!((one.next(), two.next()), (live("room", "hi"), live("room", "hi")));
    answer(|done| two.redis.detach("room", done)).unwrap();
    assert_eq!(publish(&three, "room", "again"), Ok(Some(1)));
    assert_eq!(one.next(), live("room", "again"));
    assert_eq!((two.rest(), three.rest()), (vec![], vec![]));
    assert_eq!(publish(&one, "elsewhere", "hi"), Ok(Some(0)));
}

#[test]
fn hostile_names_are_topics_like_any_other() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let long = "x".repeat(255);
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
        "?",
        "[a]",
        &long,
    ];
    for name in names {
        node.attach(name, true).unwrap();
    }
    for name in names {
        assert_eq!(publish(&node, name, name), Ok(Some(1)), "{name}");
        assert_eq!(node.next(), live(name, name));
        let stamp = node.stamp(name, "kept");
        assert_eq!(stamp.position.offset, 1, "{name} is a log of its own");
        assert_eq!(node.next(), Told::Live(name.to_owned(), envelope("kept"), Some(stamp)));
    }
    assert_eq!(node.rest(), []);
}

#[test]
fn an_inbox_is_a_nodes_own_until_it_ends() {
    let service = redis_server::start();
    let [one, two] = [(); 2].map(|()| Node::up(&service));
    let send = |to| answer(|done| one.redis.send(to, envelope("psst"), done));
    assert_eq!(send(two.incarnation), Ok(()));
    assert_eq!(two.next(), Told::Inbox(envelope("psst")));
    assert_eq!(send(one.incarnation), Ok(()));
    assert_eq!(one.next(), Told::Inbox(envelope("psst")));
    let gone = two.incarnation;
    drop(two);
    eventually(|| send(gone) == Err(Undone::Gone));
}

#[test]
fn namespaces_know_nothing_of_each_other() {
    let service = redis_server::start();
    let one = Node::up(&service);
    let two = Node::with(&broker(&service).namespace("other"));
    assert_eq!(two.next(), Told::Up);
    one.attach("room", true).unwrap();
    two.attach("room", true).unwrap();
    assert_eq!(publish(&one, "room", "hi"), Ok(Some(1)));
    let (first, second) = (one.stamp("room", "m"), two.stamp("room", "m"));
    assert_ne!(first.position.epoch, second.position.epoch);
    assert_eq!(two.rest(), [Told::Live("room".to_owned(), envelope("m"), Some(second))]);
}

#[test]
fn an_envelope_beyond_the_bound_is_refused_and_one_at_it_is_carried() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", false).unwrap();
    let most = MESSAGE_SIZE_MAX + 1_024;
    assert_eq!(publish(&node, "room", &"x".repeat(most - 1)), Ok(Some(1)));
    assert!(matches!(node.next(), Told::Live(_, bytes, _) if bytes.len() == most));
    let stamp = node.stamp("room", &"x".repeat(most - 1));
    assert!(matches!(node.next(), Told::Live(_, bytes, Some(live)) if bytes.len() == most && live == stamp));
    let Err(Undone::Refused(why)) = publish(&node, "room", &"x".repeat(most)) else { panic!("it is too large") };
    assert!(why.contains("raise message_size_max"), "{why}");
    assert!(matches!(node.append("room", &"x".repeat(most)), Err(Undone::Refused(_))));
}

/// A publisher that does not stop: whatever a node that attaches meanwhile is not given is at or before the head that it was told.
#[test]
fn attaching_leaves_no_hole_and_no_double_while_somebody_publishes() {
    const ROUNDS: u64 = 1_000;
    let service = redis_server::start();
    let publisher = Node::up(&service);
    let node = Node::up(&service);
    let stop = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let racing = thread::spawn({
        let stop = stop.clone();
        move || {
            let mut number = 0_u64;
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                publisher.append("room", &number.to_string()).unwrap();
                number += 1;
            }
        }
    });
    let mut raced = 0;
    for round in 0..ROUNDS {
        let head = node.attach("room", true).unwrap().head.unwrap();
        let marker = Bytes::from(round.to_string());
        // Long enough for a few messages to come.
        let stamp = if round % 10 == 0 { Some(node.stamp("room", "own")) } else { None };
        answer(|done| node.redis.detach("room", done)).unwrap();
        answer(|done| node.redis.send(node.incarnation, marker.clone(), done)).unwrap();
        let mut last = head.position.offset;
        loop {
            match node.next() {
                Told::Inbox(bytes) if bytes == marker => break,
                Told::Live(_, _, Some(stamp)) => {
                    let offset = stamp.position.offset;
                    if offset > head.position.offset {
                        assert_eq!(offset, last + 1, "round {round}");
                        last = offset;
                        raced += 1;
                    }
                }
                told => panic!("{told:?}"),
            }
        }
        if let Some(stamp) = stamp {
            assert!(stamp.position.offset <= last, "round {round}: the own message came while it was attached");
        }
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    racing.join().unwrap();
    assert!(raced > ROUNDS / 10, "{raced} messages came while they raced");
}

#[test]
fn cells_change_only_as_expected() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let redis = &node.redis;
    let value = |text: &'static str| Bytes::from_static(text.as_bytes());
    let put = |name: &str, revision, text| answer(|done| redis.put_if(name, revision, value(text), done)).unwrap();
    let get = |name: &str| answer(|done| redis.get(name, done)).unwrap();
    let delete = |name: &str, revision| answer(|done| redis.delete_if(name, revision, done)).unwrap();

    assert_eq!((get("a"), delete("a", 1)), (None, Swapped::Not(None)));
    assert_eq!(put("a", Some(1), "x"), Swapped::Not(None));
    let Swapped::Done(first) = put("a", None, "one") else { panic!("it is not there") };
    assert!(first > 1_700_000_000_000_000, "the server's time in microseconds");
    let cell = Some(Cell { revision: first, value: value("one") });
    assert_eq!((get("a"), put("a", None, "two")), (cell.clone(), Swapped::Not(cell.clone())));
    assert_eq!(put("a", Some(first + 1), "two"), Swapped::Not(cell.clone()));
    let Swapped::Done(second) = put("a", Some(first), "") else { panic!("it has this revision") };
    assert!(second > first);
    assert_eq!(get("a"), Some(Cell { revision: second, value: Bytes::new() }));
    assert!(matches!(delete("a", first), Swapped::Not(Some(_))));
    assert_eq!((delete("a", second), get("a")), (Swapped::Done(second), None));

    let too_large = Bytes::from(vec![0; REGISTER_SIZE_MAX + 1]);
    assert!(matches!(answer(|done| redis.put_if("a", None, too_large, done)), Err(Undone::Refused(_))));
}

#[test]
fn cells_are_listed_by_the_beginning_of_their_names() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let list = |prefix: &str| answer(|done| node.redis.list(prefix, done)).unwrap();
    for name in (0..100).map(|number| format!("w/1/{number:02}")).chain(["w/".into(), "w/2/ü".into(), "v".into()]) {
        assert!(matches!(
            answer(|done| node.redis.put_if(&name, None, name.clone().into(), done)),
            Ok(Swapped::Done(_))
        ));
    }
    let all = list("w/1/");
    assert!(all.iter().map(|(name, _)| name.clone()).eq((0..100).map(|number| format!("w/1/{number:02}"))));
    assert!(all.iter().all(|(name, cell)| cell.value == name.as_bytes()));
    assert_eq!((list("w/").len(), list("").len(), list("x").len(), list("w/2/").len()), (102, 103, 0, 1));
    let revision = list("v")[0].1.revision;
    answer(|done| node.redis.delete_if("v", revision, done)).unwrap();
    assert_eq!(list("v").len(), 0);
}
