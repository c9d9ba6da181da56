//! Connections that break, and servers that stop or end.

use std::net::TcpListener;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::broker::{COMMANDS_WAITING_BYTES_MAX, COMMANDS_WAITING_MAX};

#[test]
fn a_server_that_is_killed_is_connected_to_again_and_all_topics_are_attached() {
    let mut service = nats_server::start();
    let node = up(&broker(&service));
    for name in ["room", "a.b", "gone"] {
        node.attach(name, false).unwrap();
    }
    service.kill();
    assert!(matches!(node.next(), Told::Down(why) if why.contains("nats 127.0.0.1:")));
    refused_since(&node, "refused");
    node.detach("gone");
    service.restart();
    assert_eq!(node.next(), Told::Up);
    for name in ["gone", "room", "a.b"] {
        node.publish(name, "after").unwrap();
    }
    assert_eq!(node.rest(), [live("room", "after"), live("a.b", "after")]);
}

#[test]
fn a_server_that_does_not_answer_leaves_it_unknown_and_is_found_deaf() {
    let service = nats_server::start();
    let node = up(&broker(&service));
    node.attach("room", false).unwrap();
    let hanging = service.hang();
    let began = Instant::now();
    let outcome = node.publish("room", "perhaps");
    assert!(matches!(&outcome, Err(Undone::Unknown(why)) if why.contains("has not answered within 2s")), "{outcome:?}");
    assert!(began.elapsed() >= Duration::from_secs(2));
    assert!(matches!(node.next(), Told::Down(why) if why.contains("deaf")));
    assert!(began.elapsed() < Duration::from_secs(20), "it is found by the canary, not by the system");
    refused_since(&node, "127.0.0.1");
    drop(hanging);
    assert_eq!(node.next(), Told::Up);
    node.publish("room", "again").unwrap();
    assert_eq!(node.rest(), [live("room", "again")]);
}

#[test]
fn another_server_of_the_cluster_is_used_when_one_is_gone() {
    let mut services = [(); 2].map(|()| nats_server::start());
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let [one, two] = services.each_ref().map(|service| format!("nats://127.0.0.1:{}", service.port));
    let node = up(&at_url(&format!("nats://{nobody},{one},{two}")));
    node.attach("room", false).unwrap();
    let other = up(&at_url(&two));
    services[0].kill();
    assert!(matches!(node.next(), Told::Down(_)));
    assert_eq!(node.next(), Told::Up);
    other.publish("room", "here").unwrap();
    assert_eq!(node.next(), live("room", "here"));
}

#[test]
fn more_than_may_wait_is_refused() {
    let service = nats_server::start();
    let node = up(&broker(&service));
    let hanging = service.hang();
    let refused = Arc::new(AtomicUsize::new(0));
    let publish = |size: usize, count: usize| {
        for _ in 0..count {
            let refused = refused.clone();
            let done = move |outcome: Result<_, Undone>| {
                if matches!(&outcome, Err(Undone::Refused(why)) if why.contains("wait for nats")) {
                    refused.fetch_add(1, Ordering::Relaxed);
                }
            };
            node.parts.transport.publish(&topic("room"), vec![1; size].into(), Box::new(done));
        }
        refused.swap(0, Ordering::Relaxed)
    };
    let bytes = publish(MESSAGE_SIZE_MAX, 200);
    assert!((65..=70).contains(&bytes), "{bytes} of 100 MB with room for {COMMANDS_WAITING_BYTES_MAX} bytes");
    drop(hanging);
    eventually(|| node.publish("room", "m").is_ok());
    let hanging = service.hang();
    let commands = publish(1, COMMANDS_WAITING_MAX + 1_000);
    assert!((995..=1_010).contains(&commands), "{commands} beyond {COMMANDS_WAITING_MAX}");
    drop(hanging);
    eventually(|| node.publish("room", "m").is_ok());
}
