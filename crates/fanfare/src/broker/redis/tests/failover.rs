//! A master that dies, and sentinels that make another one.

use fanfare_proto::position::Since;

use super::*;

#[test]
fn a_promoted_replica_is_found_and_what_it_does_not_have_is_told() {
    let mut master = redis_server::start();
    let replica = redis_server::start_with(&format!("replicaof 127.0.0.1 {}\n", master.port));
    let is_in_step = |service: &Service| service.redis(&["INFO", "replication"]).contains("master_link_status:up");
    eventually(|| is_in_step(&replica));
    let sentinel = redis_server::start_sentinel(master.port);
    eventually(|| sentinel.redis(&["SENTINEL", "REPLICAS", "chat"]).contains(&replica.port.to_string()));
    // The first is none that answers.
    let url = format!("redis+sentinel://127.0.0.1:9,127.0.0.1:{}/chat", sentinel.port);
    let node = Node::with(&at_url(&url));
    assert_eq!(node.next(), Told::Up);
    node.warm_up();
    node.attach("room", true).unwrap();
    let kept = node.stamp("room", "kept");
    node.next();
    assert_eq!(master.redis(&["WAIT", "1", "5000"]), "1");
    // From now on the replica gets nothing.
    master.redis(&["CONFIG", "SET", "requirepass", "secret"]);
    replica.redis(&["CONFIG", "SET", "masterauth", "wrong"]);
    run_with_password(&master, &["CLIENT", "KILL", "TYPE", "replica"]);
    let lost = node.stamp("room", "lost");
    node.next();
    master.kill();
    assert!(matches!(node.next(), Told::Down(why) if why.contains("chat by its sentinels")));
    assert_eq!(node.next(), Told::Up);
    eventually(|| answer(|done| node.redis.heads(vec![topic("room")], done)).is_ok());
    assert!(!node.read("room", Since::Position(lost.position)).recovered, "it is on the lost branch");
    assert!(node.read("room", Since::Position(kept.position)).recovered, "it holds");
    let after = node.stamp("room", "after");
    assert_eq!((after.prev, after.position.offset), (kept.position, lost.position.offset));
    assert_ne!(after.position.epoch, lost.position.epoch, "no position is that of two messages");
    assert_eq!(node.next(), Told::Live("room".into(), envelope("after"), Some(after)));
    assert_eq!(contents(&node.read("room", Since::Start)), ["kept", "after"]);
}

fn run_with_password(service: &Service, args: &[&str]) {
    let words = [&["-a", "secret", "--no-auth-warning"], args].concat();
    service.redis(&words);
}

#[test]
fn a_master_that_no_sentinel_knows_is_named() {
    let master = redis_server::start();
    let sentinel = redis_server::start_sentinel(master.port);
    for (port, said) in [(sentinel.port, "it knows no master \"other\""), (master.port, "is it a sentinel?")] {
        let node = Node::with(&at_url(&format!("redis+sentinel://127.0.0.1:{port}/other")));
        eventually(|| matches!(node.append("room", "m"), Err(Undone::Refused(why)) if why.contains(said)));
    }
}
