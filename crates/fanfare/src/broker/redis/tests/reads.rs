//! What reads do to the server, and namespaces on it.

use super::*;

#[test]
fn a_topic_without_messages_is_remembered_for_as_long_as_somebody_is_interested() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let head = node.attach("quiet", true).unwrap().head.unwrap();
    let life = || service.redis(&["PTTL", "ff:m:{quiet}"]).parse::<u64>().unwrap();
    assert!((590_000..=600_000).contains(&life()));
    service.redis(&["PEXPIRE", "ff:m:{quiet}", "1000"]);
    let heads = answer(|done| node.redis.heads(vec![topic("quiet")], done)).unwrap();
    assert_eq!(heads, [head.position]);
    assert!(life() > 590_000);
}

#[test]
fn heads_of_many_topics_are_asked_for_by_several_commands_and_come_in_their_order() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let topics: Vec<_> = (0..500).map(|number| topic(&format!("room:{number}"))).collect();
    for name in topics.iter().step_by(3) {
        node.append(name, "m").unwrap();
    }
    let heads = answer(|done| node.redis.heads(topics, done)).unwrap();
    assert_eq!(heads.len(), 500);
    for (number, head) in heads.iter().enumerate() {
        assert_eq!(head.offset, u64::from(number % 3 == 0), "{number}");
    }
}

#[test]
fn namespaces_know_nothing_of_each_other() {
    let service = redis_server::start();
    let one = Node::up(&service);
    let two = Node::with(&broker(&service).namespace("other"));
    assert_eq!(two.next(), Told::Up);
    one.attach("room", true).unwrap();
    two.attach("room", true).unwrap();
    assert_eq!(one.publish("room", "hi"), Ok(Some(1)));
    let (first, second) = (one.stamp("room", "m"), two.stamp("room", "m"));
    assert_ne!(first.position.epoch, second.position.epoch);
    assert_eq!(two.rest(), [Told::Live("room".to_owned(), envelope("m"), Some(second))]);
}
