//! A master that dies, and sentinels that make another one.

use fanfare_proto::position::Since;

use super::*;

#[test]
fn a_promoted_replica_is_found_and_what_it_does_not_have_is_told() {
    let mut master = redis_server::start();
    let replica = redis_server::start_with(&format!("replicaof 127.0.0.1 {}\n", master.port));
    let is_in_step = |service: &Service| service.redis(&["INFO", "replication"]).contains("master_link_status:up");
    eventually(|| is_in_step(&replica));
    let sentinel = redis_server::start_sentinel(master.port, "");
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
    let sentinel = redis_server::start_sentinel(master.port, "");
    for (port, said) in [(sentinel.port, "it knows no master \"other\""), (master.port, "is it a sentinel?")] {
        let node = Node::with(&at_url(&format!("redis+sentinel://127.0.0.1:{port}/other")));
        eventually(|| matches!(node.append("room", "m"), Err(Undone::Refused(why)) if why.contains(said)));
    }
}

#[test]
fn sentinels_may_have_passwords_of_their_own_and_tls() {
    let trust = Trust::new("127.0.0.1");
    let master = redis_server::start_tls(trust.identity(), "");
    let own =
        "requirepass guard\nuser node on >w@tch -@all +sentinel|get-master-addr-by-name\nuser mute on >mute -@all\n";
    let sentinel = redis_server::start_sentinel_tls(master.port, trust.identity(), own);
    let url = |scheme: &str, password: &str, own: &str| {
        format!("{scheme}+sentinel://:{password}@127.0.0.1:{}/chat{own}", sentinel.port)
    };
    for own in ["?sentinel=:guard", "?sentinel=node:w@tch"] {
        let node = trust.node(&url("rediss", "secret", own));
        assert_eq!(node.next(), Told::Up, "{own}");
        node.attach("room", true).unwrap();
        let stamp = node.stamp("room", "m");
        assert_eq!(node.next(), Told::Live("room".into(), envelope("m"), Some(stamp)));
    }
    let theirs = "the sentinels' own user and password stand at the end";
    for (url, said) in [
        (url("rediss", "secret", ""), &["NOAUTH", theirs][..]),
        (url("rediss", "secret", "?sentinel=:w4tch"), &["WRONGPASS", theirs]),
        (url("rediss", "secret", "?sentinel=mute:mute"), &["NOPERM", "allow the sentinels' user"]),
        (url("redis", "secret", "?sentinel=:guard"), &["the sentinel", "speaks TLS, write rediss+sentinel://"]),
        (url("rediss", "wr0ng", "?sentinel=:guard"), &["WRONGPASS", "check the user and password in"]),
    ] {
        let node = trust.node(&url);
        said.iter().for_each(|part| refused_since(&node, part));
    }
    let plain = redis_server::start_sentinel(master.port, "");
    refused_since(
        &trust.node(&format!("rediss+sentinel://127.0.0.1:{}/chat", plain.port)),
        "does the server speak TLS on this port?",
    );
}
