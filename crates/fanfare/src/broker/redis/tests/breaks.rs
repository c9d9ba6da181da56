//! Connections that break, and servers that stop, forget, or are none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use fanfare_proto::position::Since;

use super::*;
use crate::broker::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX};

#[test]
fn a_server_that_is_killed_is_connected_to_again_and_all_topics_are_attached() {
    let mut service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    node.attach("gone", true).unwrap();
    let before = node.stamp("room", "before");
    assert_eq!(node.next(), Told::Live("room".into(), envelope("before"), Some(before)));
    service.kill();
    assert!(matches!(node.next(), Told::Down(why) if why.contains("127.0.0.1")));
    refused_since(&node, "refused");
    answer(|done| node.redis.detach("gone", done)).unwrap();
    service.restart();
    assert_eq!(node.next(), Told::Up);
    let after = node.stamp("room", "after");
    assert_eq!(node.next(), Told::Live("room".into(), envelope("after"), Some(after)));
    // Nothing was lost, which only the log can say: it goes on in another epoch.
    assert_ne!(after.position.epoch, before.position.epoch);
    assert_eq!(after.prev, before.position);
    assert_eq!(answer(|done| node.redis.publish(&topic("gone"), envelope("m"), done)), Ok(Some(0)));
    let page = || answer(|done| node.redis.read(&topic("room"), read_all(Since::Start), done));
    eventually(|| page().is_ok());
    assert_eq!(contents(&page().unwrap()), ["before", "after"]);
}

fn read_all(since: Since) -> Read {
    Read { since, limit: 100, bytes_max: 1 << 20, newest: 0, retention: Retention::default() }
}

#[test]
fn a_server_that_does_not_answer_leaves_it_unknown_and_is_found_deaf() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    let hanging = service.hang();
    let began = Instant::now();
    let outcome = node.append("room", "perhaps");
    assert!(matches!(&outcome, Err(Undone::Unknown(why)) if why.contains("has not answered within 2s")), "{outcome:?}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(matches!(node.next(), Told::Down(why) if why.contains("deaf")));
    refused_since(&node, "127.0.0.1");
    drop(hanging);
    assert_eq!(node.next(), Told::Up);
    // It has happened after all, once.
    eventually(|| answer(|done| node.redis.heads(vec![topic("room")], done)).is_ok());
    assert_eq!(contents(&node.read("room", Since::Start)), ["perhaps"]);
}

#[test]
fn a_flushed_server_counts_as_another_one() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    let before = node.stamp("room", "before");
    node.next();
    service.redis(&["FLUSHALL"]);
    assert!(matches!(node.next(), Told::Down(why) if why.contains("flushed")));
    assert_eq!(node.next(), Told::Up);
    assert!(!node.read("room", Since::Position(before.position)).recovered);
    let after = node.stamp("room", "after");
    assert_ne!(after.position.epoch, before.position.epoch);
    assert_eq!(node.next(), Told::Live("room".into(), envelope("after"), Some(after)));
    // And it is enough to have been told once.
    thread::sleep(Duration::from_secs(6));
    assert_eq!(node.rest(), []);
}

#[test]
fn a_promoted_server_counts_as_another_one() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let before = node.stamp("room", "before");
    service.redis(&["REPLICAOF", "127.0.0.1", "1"]);
    assert!(matches!(node.next(), Told::Down(_)));
    refused_since(&node, "only a master can be written to");
    service.redis(&["REPLICAOF", "NO", "ONE"]);
    assert_eq!(node.next(), Told::Up);
    let after = node.stamp("room", "after");
    assert_ne!(after.position.epoch, before.position.epoch);
    assert_eq!(after.prev, before.position);
}

#[test]
fn lost_scripts_are_loaded_again_and_nothing_changes_its_place() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", true).unwrap();
    let (sender, receiver) = mpsc::channel();
    for number in 0..2_000 {
        if number % 500 == 250 {
            service.redis(&["SCRIPT", "FLUSH"]);
        }
        let sender = sender.clone();
        node.redis.append(Append {
            topic: topic("room"),
            envelope: envelope(&number.to_string()),
            retention: Retention { messages_max: 10_000, ..Retention::default() },
            key: None,
            expected: None,
            done: Box::new(move |outcome| sender.send((number, outcome)).unwrap()),
        });
    }
    for expected in 0..2_000 {
        let (number, outcome) = receiver.recv_timeout(PATIENCE).unwrap();
        assert!(matches!(outcome, Ok(Appended::New(stamp)) if stamp.position.offset == expected + 1), "{outcome:?}");
        assert_eq!(number, expected);
        assert!(matches!(node.next(), Told::Live(_, bytes, _) if bytes == envelope(&expected.to_string())));
    }
    assert_eq!(node.read("room", Since::Now).head.position.offset, 2_000, "the other link has loaded them as well");
}

#[test]
fn a_connection_that_the_server_ends_is_made_again() {
    let service = redis_server::start();
    let node = Node::up(&service);
    node.attach("room", false).unwrap();
    service.redis(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert!(matches!(node.next(), Told::Down(_)));
    assert_eq!(node.next(), Told::Up);
    assert_eq!(answer(|done| node.redis.publish(&topic("room"), envelope("m"), done)), Ok(Some(1)));
}

#[test]
fn more_than_may_wait_is_refused() {
    let service = redis_server::start();
    let node = Node::up(&service);
    let hanging = service.hang();
    let refused = Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let publish = |size: usize, count: usize| {
        for _ in 0..count {
            let refused = refused.clone();
            let done = move |outcome: Result<_, Undone>| {
                if matches!(&outcome, Err(Undone::Refused(why)) if why.contains("wait for redis")) {
                    refused.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                }
            };
            node.redis.publish(&topic("room"), vec![1; size].into(), Box::new(done));
        }
        refused.swap(0, std::sync::atomic::Ordering::Relaxed)
    };
    let bytes = publish(1024 * 1024, 100);
    assert!((36..=40).contains(&bytes), "{bytes} of 100 MiB with room for {COMMANDS_WAITING_BYTES_MAX} bytes");
    drop(hanging);
    eventually(|| answer(|done| node.redis.publish(&topic("room"), envelope("m"), done)).is_ok());
    let hanging = service.hang();
    let commands = publish(1, COMMANDS_WAITING_MAX + 1_000);
    assert!((995..=1_010).contains(&commands), "{commands} beyond {COMMANDS_WAITING_MAX}");
    drop(hanging);
    eventually(|| answer(|done| node.redis.publish(&topic("room"), envelope("m"), done)).is_ok());
}

#[test]
fn credentials_are_needed_and_say_so() {
    let service = redis_server::start_with("requirepass secret\nuser chat on >p@ss ~ff:* &ff:* +@all\n");
    let url = |credentials: &str| format!("redis://{credentials}127.0.0.1:{}", service.port);
    for (credentials, said) in [("", "NOAUTH"), (":wrong@", "WRONGPASS"), ("chat:wrong@", "WRONGPASS")] {
        let node = Node::with(&at_url(&url(credentials)));
        refused_since(&node, said);
        refused_since(&node, "check the user and password in the broker's address");
    }
    for credentials in [":secret@", "default:secret@", "chat:p%40ss@"] {
        let node = Node::with(&at_url(&url(credentials)));
        assert_eq!(node.next(), Told::Up, "{credentials}");
        assert_eq!(node.attach("room", true).map(drop), Ok(()));
    }
}

#[test]
fn a_user_that_is_not_allowed_a_channel_is_told() {
    let service = redis_server::start_with("user chat on >secret ~* &ff:n:* &ff:l:{open} +@all\n");
    let url = format!("redis://chat:secret@127.0.0.1:{}", service.port);
    let node = Node::with(&at_url(&url));
    assert_eq!(node.next(), Told::Up);
    for wants_head in [true, false] {
        assert_eq!(node.attach("open", wants_head).map(drop), Ok(()));
        let refused = node.attach("closed", wants_head);
        assert!(matches!(&refused, Err(Undone::Denied(why)) if why.contains("NOPERM")), "{refused:?}");
    }
    // It is not tried again either.
    service.redis(&["CLIENT", "KILL", "TYPE", "pubsub"]);
    assert!(matches!(node.next(), Told::Down(_)));
    assert_eq!(node.next(), Told::Up);
}

#[test]
fn what_is_not_redis_is_not_talked_to() {
    for (answers, said) in [
        (&b"HTTP/1.1 400 Bad Request\r\n\r\n"[..], "not RESP3"),
        (b"-ERR unknown command 'HELLO'\r\n", "unknown command"),
        (b"%2\r\n+version\r\n+6.2.7\r\n+role\r\n+master\r\n", "sharded channels need 7.0"),
        (b"+OK\r\n", "does not speak RESP3"),
        (b"%1\r\n+version\r\n+7.2.0\r\n+PONG\r\n", "makes no sense"),
        (b"%1\r\n+version\r\n+7.2.0\r\n*1\r\n+slave\r\n", "only a master"),
        (b"$99999999\r\n", "longer than anything"),
        (b"", "it has closed the connection; if the server speaks TLS, write rediss://"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.read(&mut [0; 64 * 1_024]);
                let _ = stream.write_all(answers);
                // What is closed with unread bytes would take the answer along.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                while !answers.is_empty() && stream.read(&mut [0; 64 * 1_024]).is_ok_and(|size| size > 0) {}
            }
        });
        let node = Node::with(&at_url(&format!("redis://127.0.0.1:{port}")));
        refused_since(&node, said);
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    let good = at_url("redis://localhost");
    assert!(good.check().is_ok());
    for (broker, said) in [
        (at_url("http://localhost"), "the scheme \"http\" is not Redis"),
        (good.clone().namespace(""), "the namespace \"\" is not 1 to 64 letters"),
        (good.clone().namespace("a{b}"), "the namespace \"a{b}\" is not"),
        (good.clone().namespace(&"x".repeat(65)), "the namespace"),
        (good.clone().timeout(Duration::ZERO), "a timeout of 0"),
    ] {
        let error = broker.check().unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    assert!(!format!("{:?}", at_url("redis://:secret@localhost")).contains("secret"));
}

#[test]
fn tls_with_a_password() {
    let trust = Trust::new("localhost");
    let service = redis_server::start_tls(trust.identity(), "");
    let url = |host: &str| format!("rediss://:secret@{host}:{}", service.port);
    let node = trust.node(&url("localhost"));
    assert_eq!(node.next(), Told::Up);
    node.attach("room", true).unwrap();
    // More than the buffers of TLS take at once.
    for size in [1, 100_000, 1_000_000] {
        let stamp = node.stamp("room", &"x".repeat(size));
        assert_eq!(node.next(), Told::Live("room".into(), envelope(&"x".repeat(size)), Some(stamp)));
    }
    refused_since(&trust.node(&url("127.0.0.1")), "TLS");
    let plain = Node::with(&at_url(&format!("redis://:secret@localhost:{}", service.port)));
    refused_since(&plain, "if the server speaks TLS, write rediss:// in the broker's address");
}

#[test]
fn a_server_takes_no_more_than_its_own_bound() {
    let service = redis_server::start_with("proto-max-bulk-len 1mb\nuser quiet on nopass ~* &* +@all -config");
    let told = Node::up(&service);
    let most = 1024 * 1024;
    assert!(told.append("room", &"x".repeat(most - 1)).is_ok());
    let quiet = Node::with(&at_url(&format!("redis://quiet:any@127.0.0.1:{}", service.port)));
    assert_eq!(quiet.next(), Told::Up);
    for outcome in
        [told.append("room", &"x".repeat(most)), told.publish("room", &"x".repeat(most)).map(|_| unreachable!())]
    {
        let Err(Undone::Impossible(why)) = &outcome else { panic!("{outcome:?}") };
        let says = |part: &str| why.contains(part);
        assert!(says("1048577 bytes") && says("more than 1048576:") && says("raise proto-max-bulk-len"), "{why}");
    }
    // It can be raised meanwhile.
    service.redis(&["CONFIG", "SET", "proto-max-bulk-len", "2mb"]);
    eventually(|| told.append("room", &"x".repeat(most)).is_ok());
}
