//! A Redis Cluster whose slots move and whose masters die, while something is published.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use fanfare_proto::position::Since;

use super::*;
use crate::broker::Stamp;
use crate::broker::redis::slots::slot_of;

/// A node, and the servers: three masters, and replicas of the first.
struct Stage {
    services: Vec<Service>,
    node: Node,
}

impl Stage {
    fn new(replicas: usize) -> Self {
        let services = redis_server::start_cluster(replicas);
        let node = Node::with(&at_url(&format!("redis+cluster://127.0.0.1:{}", services[1].port)));
        (0..3).for_each(|_| assert_eq!(node.next(), Told::Up));
        node.warm_up();
        Stage { services, node }
    }

    /// Publishes without waiting for answers while something happens: what was kept, in the order of the calls.
    fn keeps_meanwhile(&self, name: &str, happens: impl FnOnce() + Send) -> Vec<(String, Stamp)> {
        let is_over = AtomicBool::new(false);
        let (answered, answers) = mpsc::channel();
        let append = |number: usize| {
            let answered = answered.clone();
            self.node.log().append(Append {
                topic: topic(name),
                envelope: envelope(&number.to_string()),
                retention: all(Since::Start).retention,
                key: None,
                expected: None,
                done: Box::new(move |outcome| drop(answered.send((number, outcome)))),
            });
        };
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(Duration::from_millis(20));
                happens();
                is_over.store(true, Ordering::Relaxed);
            });
            let (mut kept, mut number, mut under_way, mut left) = (Vec::new(), 0, 0, 200);
            while left > 0 || under_way > 0 {
                while left > 0 && under_way < 16 {
                    append(number);
                    (number, under_way) = (number + 1, under_way + 1);
                    left -= usize::from(is_over.load(Ordering::Relaxed));
                }
                under_way -= 1;
                match answers.recv_timeout(PATIENCE).expect("each is told what became of it") {
                    (number, Ok(Appended::New(stamp))) => kept.push((number, stamp)),
                    (_, Err(Undone::Refused(_))) => thread::sleep(Duration::from_millis(1)),
                    (number, other) => panic!("{number}: {other:?}"),
                }
            }
            kept.sort_by_key(|(number, _)| *number);
            kept.into_iter().map(|(number, stamp)| (number.to_string(), stamp)).collect()
        })
    }

    /// All that a topic has kept.
    fn all(&self, name: &str) -> Vec<(String, Stamp)> {
        let page = || answer(|done| self.node.log().read(&topic(name), all(Since::Start), done));
        eventually(|| page().is_ok());
        let page = page().unwrap();
        contents(&page).into_iter().zip(page.entries.iter().map(|entry| entry.stamp)).collect()
    }
}

fn all(since: Since) -> Read {
    let retention = Retention { messages_max: 100_000, bytes_max: 1 << 30, age_max_ms: 3_600_000 };
    Read { since, limit: 100_000, bytes_max: 1 << 30, newest: 0, retention }
}

/// A topic in a slot of the first master.
fn name_at_the_first() -> String {
    let mut names = (0..).map(|number| format!("room:{number}"));
    names.find(|name| slot_of(name.as_bytes()) <= 5_460).unwrap()
}

#[test]
fn a_slot_that_moves_takes_its_topics_along_and_nothing_is_lost() {
    let stage = Stage::new(0);
    let node = &stage.node;
    let name = name_at_the_first();
    node.attach(&name, true).unwrap();
    node.attach("elsewhere", true).unwrap();
    let services = &stage.services;
    let slot = slot_of(name.as_bytes());
    // One of the same slot, which begins while that is on its way.
    let born = (0..).map(|number| format!("born:{number}")).find(|name| slot_of(name.as_bytes()) == slot).unwrap();
    let (redis, begun) = (node.redis.clone(), OnceLock::new());
    let begin = || {
        let (topic, envelope, retention) = (topic(&born), envelope("m"), Retention::default());
        let append = |done| redis.append(Append { topic, envelope, retention, key: None, expected: None, done });
        begun.set(answer(append)).unwrap();
    };
    let kept = stage.keeps_meanwhile(&name, || redis_server::move_slot(services, [0, 1], slot, begin));
    // The old owner says that the new one is to be asked, which begins nothing before it has the slot.
    let begun = begun.into_inner();
    assert!(matches!(&begun, Some(Err(Undone::Refused(why))) if why.contains("is on its way")), "{begun:?}");
    assert!(stage.all(&born).is_empty());
    assert!(node.append(&born, "m").is_ok());
    assert!(kept.len() > 20);
    assert_eq!(stage.all(&born).into_iter().map(|(content, _)| content).collect::<Vec<_>>(), ["m"]);
    assert_eq!(stage.all(&name), kept, "each that was acknowledged is there once, in the order of the calls");
    // The chain is unbroken over the move.
    assert!(kept.windows(2).all(|two| two[1].1.prev == two[0].1.position));
    // What came while it was not attached can be read, as the node is told.
    let mut live = Vec::new();
    loop {
        match node.next() {
            Told::Live(topic, _, Some(stamp)) if topic == name => live.push(stamp),
            Told::Doubtful(topic) if topic == name => break,
            other => panic!("{other:?}"),
        }
    }
    let mut stamps = kept.iter().map(|(_, stamp)| *stamp);
    assert!(live.iter().all(|live| stamps.any(|stamp| stamp == *live)), "{live:?}");
    let owned = stage.services[1].redis(&["EXISTS", &format!("ff:m:{{{name}}}")]);
    assert_eq!(owned, "1");
    let stamp = node.stamp(&name, "after");
    assert!((0..=kept.len()).any(|_| node.next() == Told::Live(name.clone(), envelope("after"), Some(stamp))));
    // A publish without a log, and what nobody had attached, find it as well.
    assert_eq!(node.publish(&name, "plain"), Ok(Some(1)));
}

#[test]
fn a_master_that_dies_is_followed_by_its_replica() {
    let mut stage = Stage::new(1);
    let name = name_at_the_first();
    stage.node.attach(&name, true).unwrap();
    let first = stage.node.stamp(&name, "first");
    assert_eq!(stage.services[0].redis(&["WAIT", "1", "5000"]), "1");
    stage.services[0].kill();
    eventually(|| stage.services[3].redis(&["CLUSTER", "FAILOVER", "TAKEOVER"]) == "OK");
    eventually(|| stage.node.append(&name, "second").is_ok());
    let all = stage.all(&name);
    assert_eq!((&all[0], all.len()), (&("first".to_owned(), first), 2));
    assert_eq!(all[1].1.prev, first.position);
    assert_ne!(all[1].1.position.epoch, first.position.epoch, "it may have lost something");
    // It was attached there before anything could be missed without a word.
    let mut told = Vec::new();
    while told.last() != Some(&Told::Live(name.clone(), envelope("second"), Some(all[1].1))) {
        told.push(stage.node.next());
    }
    assert!(
        told.iter().any(|told| matches!(told, Told::Down(why) if why.contains("redis cluster 127.0.0.1"))),
        "{told:?}"
    );
    assert!(told.contains(&Told::Up) && told.len() == 4, "{told:?}");
}

#[test]
fn what_is_no_cluster_says_so() {
    let single = redis_server::start();
    let node = Node::with(&at_url(&format!("redis+cluster://127.0.0.1:9,127.0.0.1:{}", single.port)));
    let said = "cluster support disabled";
    eventually(|| matches!(node.append("room", "m"), Err(Undone::Refused(why)) if why.contains(said)));
    let stands = node.parts.transport.stands();
    assert!(stands[0].1.down.as_ref().is_some_and(|why| why.contains(said)), "{stands:?}");
}

#[test]
fn masters_that_speak_tls_with_a_password_are_found_and_followed() {
    let trust = Trust::new("127.0.0.1");
    let services = redis_server::start_cluster_tls(trust.identity());
    let url = |scheme: &str, password: &str| format!("{scheme}+cluster://:{password}@127.0.0.1:{}", services[1].port);
    let node = trust.node(&url("rediss", "secret"));
    (0..3).for_each(|_| assert_eq!(node.next(), Told::Up));
    node.warm_up();
    // Somewhere at each of them.
    for number in 0..12 {
        let name = format!("topic:{number}");
        node.attach(&name, true).unwrap();
        let stamp = node.stamp(&name, "m");
        assert_eq!(node.next(), Told::Live(name, envelope("m"), Some(stamp)));
    }
    let name = name_at_the_first();
    node.attach(&name, true).unwrap();
    let before = node.stamp(&name, "before");
    assert_eq!(node.next(), Told::Live(name.clone(), envelope("before"), Some(before)));
    redis_server::move_slot(&services, [0, 1], slot_of(name.as_bytes()), || ());
    eventually(|| node.append(&name, "after").is_ok());
    let page = node.read(&name, Since::Position(before.position));
    assert_eq!((page.recovered, contents(&page)), (true, vec!["after".to_owned()]));
    for (url, said) in [
        (url("rediss", "wr0ng"), "check the user and password in the broker's address"),
        (url("redis", "secret"), "if the server speaks TLS, write rediss+cluster://"),
    ] {
        refused_since(&trust.node(&url), said);
    }
}
