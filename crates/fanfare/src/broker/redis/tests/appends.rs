//! What the script that appends keeps and throws away.

use fanfare_proto::history::Retention;
use fanfare_proto::position::Since;

use super::*;

#[test]
fn the_last_1024_keys_are_remembered_and_not_more_than_twice_as_many() {
    let service = redis_server::start();
    let node = Node::up(&service);
    for number in 0..2_100 {
        let key = number.to_string();
        node.append_with("room", "m", Retention::default(), Some(&key), None).unwrap();
    }
    let mut repeated = |number: u64| {
        let key = number.to_string();
        matches!(node.append_with("room", "m", Retention::default(), Some(&key), None), Ok(Appended::Repeated(_)))
    };
    assert!((2_100 - 1_024..2_100).step_by(97).all(&mut repeated));
    assert!(repeated(2_099));
    assert!(!repeated(0));
    let known = |kind: &str| service.redis(&["HLEN", &format!("ff:{kind}:{{room}}")]).parse::<u64>().unwrap();
    assert!(known("k") <= 1_025 && known("K") <= 1_025, "{} {}", known("k"), known("K"));
    let lives = |kind: &str| service.redis(&["PTTL", &format!("ff:{kind}:{{room}}")]).parse::<i64>().unwrap();
    assert!(lives("k") > 500_000 && lives("K") > 200_000, "{} {}", lives("k"), lives("K"));
}

#[test]
fn another_session_begins_an_epoch_within_the_log_and_eight_are_kept() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    let mut stamps = vec![node.stamp("room", "0")];
    let session = node.redis.place("room").unwrap().server.session();
    for number in 1..=9 {
        node.redis.place("room").unwrap().server.set_session(session + number);
        stamps.push(node.stamp("room", &number.to_string()));
    }
    for (stamp, before) in stamps[1..].iter().zip(&stamps) {
        assert_ne!(stamp.position.epoch, before.position.epoch);
        assert_eq!((stamp.prev, stamp.position.offset), (before.position, before.position.offset + 1));
    }
    let live: Vec<_> = node.rest();
    let stamped = |told: &Told| if let Told::Live(.., Some(stamp)) = told { *stamp } else { panic!("{told:?}") };
    assert_eq!(live.iter().map(stamped).collect::<Vec<_>>(), stamps);
    // Of ten epochs the newest eight are known, so that the positions of the first two are not recovered.
    for (number, stamp) in stamps.iter().enumerate() {
        let page = node.read("room", Since::Position(stamp.position));
        assert_eq!(page.recovered, number >= 2, "{number}");
        assert_eq!(page.entries.len(), if page.recovered { 9 - number } else { 0 });
        assert!(
            page.entries.iter().map(|entry| entry.stamp).eq(stamps[number + 1..].iter().copied()) || !page.recovered
        );
    }
    assert_eq!(node.read("room", Since::Start).entries.len(), 10);
}

#[test]
fn what_is_too_much_or_too_old_goes() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let plenty = Retention { messages_max: 1_000_000, bytes_max: 1 << 30, age_max_ms: 3_600_000 };
    let append = |name: &str, size: usize, retention, count: usize| {
        for _ in 0..count {
            node.append_with(name, &"x".repeat(size), retention, None, None).unwrap();
        }
    };
    let kept = |name: &str| service.redis(&["XLEN", &format!("ff:s:{{{name}}}")]).parse::<usize>().unwrap();

    append("count", 10, Retention { messages_max: 20, ..plenty }, 100);
    assert!((20..36).contains(&kept("count")), "{}", kept("count"));

    append("bytes", 999, Retention { bytes_max: 20_000, ..plenty }, 200);
    assert!((20..24).contains(&kept("bytes")), "{}", kept("bytes"));

    // The newest stays whatever its size.
    append("large", 50_000, Retention { bytes_max: 20_000, ..plenty }, 5);
    assert_eq!(kept("large"), 1);

    append("age", 99, Retention { bytes_max: 800, age_max_ms: 300, ..plenty }, 8);
    thread::sleep(Duration::from_millis(310));
    append("age", 99, Retention { bytes_max: 800, age_max_ms: 300, ..plenty }, 2);
    assert!(kept("age") <= 3, "{}", kept("age"));

    // Nothing is left over for ever.
    for (key, at_least) in [("ff:s:{count}", 3_600_000), ("ff:m:{count}", 3_600_000 + 86_000_000), ("ff:s:{age}", 200)]
    {
        let left: i64 = service.redis(&["PTTL", key]).parse().unwrap();
        assert!(left > at_least, "{key} {left}");
    }
}

#[test]
fn foreign_keys_are_left_alone_and_named() {
    let service = redis_server::start();
    let node = Node::up(&service);
    for (name, key, command) in [
        ("a", "ff:m:{a}", "LPUSH"),
        ("b", "ff:s:{b}", "LPUSH"),
        ("c", "ff:m:{c}", "SET"),
        ("d", "ff:k:{d}", "SET"),
        ("e", "ff:K:{e}", "SET"),
    ] {
        service.redis(&[command, key, "something"]);
        node.attach(name, false).unwrap();
        let outcome = node.append_with(name, "m", Retention::default(), Some("key"), None);
        assert!(matches!(outcome, Err(Undone::Denied(_) | Undone::Refused(_))), "{name}: {outcome:?}");
        assert_eq!(service.redis(&["TYPE", key]), if command == "SET" { "string" } else { "list" });
        assert_eq!(service.redis(&["KEYS", &format!("ff:?:{{{name}}}")]), key);
    }
    assert_eq!(node.rest(), []);
}

#[test]
fn messages_that_wait_together_go_in_one_call_and_have_their_order() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    service.redis(&["CONFIG", "RESETSTAT"]);
    let (sender, receiver) = mpsc::channel();
    for number in 0..200 {
        let sender = sender.clone();
        node.redis.append(Append {
            topic: topic("room"),
            envelope: envelope(&number.to_string()),
            retention: Retention { messages_max: 1_000, ..Retention::default() },
            key: None,
            expected: None,
            done: Box::new(move |outcome| sender.send(outcome).unwrap()),
        });
    }
    for offset in 1..=200 {
        let outcome = receiver.recv_timeout(PATIENCE).unwrap();
        let Ok(Appended::New(stamp)) = outcome else { panic!("{outcome:?}") };
        assert_eq!((stamp.position.offset, stamp.prev.offset), (offset, offset - 1));
        assert_eq!(
            node.next(),
            Told::Live("room".into(), envelope(&(offset - 1).to_string()), Some(stamp)),
            "each is handed on by itself"
        );
    }
    let calls = cost::calls(&service, "evalsha");
    assert!(calls < 200, "{calls} calls");
}
