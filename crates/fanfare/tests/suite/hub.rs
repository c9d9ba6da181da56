//! The hub: one publisher a topic, and subscribers that get its frames as they are.

use std::time::Duration;

use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Rejected};
use fanfare_proto::websocket::frame::Opcode;

use crate::support::client::{Client, Received};
use crate::support::{Served, eventually, serve};

/// Lets publishers in with the key `good` for the domain `d`.
struct Keys;

impl Connect for Keys {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let param = |name| request.params.str(name).unwrap_or_default();
        match (param("role"), param("key"), param("domain")) {
            ("sub", ..) | ("pub", "good", "d" | "e") => Ok(Connected::new()),
            _ => Err(Rejected::new()),
        }
    }
}

async fn hub(mount: Mount) -> Served {
    serve(Endpoint::builder().shards(2).mount("/ws", mount)).await
}

fn mount() -> Mount {
    Mount::hub().connect(Keys)
}

impl Served {
    async fn at(&self, target: &str) -> Result<Client, u16> {
        Client::connect(self.address, target, &[]).await.map_err(|answer| answer.status)
    }

    async fn has_sockets(&self, count: usize) {
        eventually("sockets", async || self.endpoint.sockets() == count).await;
    }

    async fn refused(&self, target: &str) -> u16 {
        self.at(target).await.err().unwrap_or_else(|| panic!("{target} was let in"))
    }
}

#[tokio::test]
async fn hub_1_paths_have_a_fixed_number_of_segments() {
    let hub = hub(mount()).await;
    for target in ["/ws", "/ws/pub", "/ws/pub/d/t", "/ws/pub/good/d/t/x", "/ws/sub/t", "/ws/sub/good/d/t", "/other/pub"]
    {
        assert_eq!(hub.refused(target).await, 404, "{target}");
    }
    assert!(hub.at("/ws/pub/good/d/t").await.is_ok());
}

#[tokio::test]
async fn hub_2_hub_6_a_publisher_starts_the_topic() {
    let hub = hub(mount()).await;
    assert_eq!(hub.refused("/ws/sub/d/t").await, 404, "nobody has started it");
    let _publisher = hub.at("/ws/pub/good/d/t").await.unwrap();
    assert!(hub.at("/ws/sub/d/t").await.is_ok());
    assert_eq!(hub.refused("/ws/sub/e/t").await, 404, "not in that domain");
    assert_eq!(hub.counter("connections", "refused_topic_unknown"), 2);
}

#[tokio::test]
async fn hub_2_a_topic_is_named_by_its_domain_and_its_name() {
    // Whatever the two are made of.
    let pairs = ["d/t", "e/t", "d/d%2Ft", "d%2Fd/t", "d%252Fd/t", "%25/t", "%2525/t", "d%2F/t", "d/%2Ft", "*/t"];
    let hub = hub(Mount::hub().waits_for_topic(true).owner_grace(Duration::ZERO)).await;
    let mut subscribers = Vec::new();
    for pair in pairs {
        subscribers.push(hub.at(&format!("/ws/sub/{pair}")).await.unwrap());
    }
    let mut publishers = Vec::new();
    for pair in pairs {
        publishers.push(hub.at(&format!("/ws/pub/good/{pair}")).await.unwrap());
        assert_eq!(hub.refused(&format!("/ws/pub/good/{pair}")).await, 409, "{pair}");
    }
    for (publisher, pair) in publishers.iter_mut().zip(pairs) {
        publisher.send_text(pair).await;
    }
    for (subscriber, pair) in subscribers.iter_mut().zip(pairs) {
        subscriber.assert_text(pair).await;
    }
    let topics: Vec<String> = hub.endpoint.topics().await.into_iter().map(|summary| summary.topic).collect();
    let names = ["%25/t", "%2525/t", "*/t", "d%252Fd/t", "d%2F/t", "d%2Fd/t", "d//t", "d/d/t", "d/t", "e/t"];
    assert_eq!(topics, names.map(|name| format!("hub:{name}")));

    // The end of one is not the end of another.
    publishers[0].send(Opcode::Close, &1000u16.to_be_bytes(), true).await;
    subscribers[0].assert_closed(1000).await;
    publishers[1].send_text("still there").await;
    subscribers[1].assert_text("still there").await;
}

#[tokio::test]
async fn hub_2_one_domain_takes_over_nothing_of_another_in_its_grace() {
    let hub = hub(mount().owner_grace(Duration::from_secs(20))).await;
    let first = hub.at("/ws/pub/good/d/t").await.unwrap();
    let mut subscriber = hub.at("/ws/sub/d/t").await.unwrap();
    drop(first);
    hub.has_sockets(1).await;
    let mut stranger = hub.at("/ws/pub/good/e/t").await.unwrap();
    stranger.send_text("of another domain").await;
    let mut second = hub.at("/ws/pub/good/d/t").await.unwrap();
    second.send_text("of this one").await;
    subscriber.assert_text("of this one").await;
}

#[tokio::test]
async fn hub_6_a_subscriber_may_come_first_where_that_is_wanted() {
    let hub = hub(mount().waits_for_topic(true)).await;
    let mut subscriber = hub.at("/ws/sub/d/t").await.unwrap();
    let mut publisher = hub.at("/ws/pub/good/d/t").await.unwrap();
    hub.has_members("hub:d/t", 1).await;
    publisher.send_text("first").await;
    subscriber.assert_text("first").await;
}

#[tokio::test]
async fn hub_4_hub_5_bad_keys_and_second_publishers_are_refused() {
    let hub = hub(mount()).await;
    for target in ["/ws/pub/bad/d/t", "/ws/pub/good/other/t", "/ws/pub/-/d/t"] {
        assert_eq!(hub.refused(target).await, 403, "{target}");
    }
    let _owner = hub.at("/ws/pub/good/d/t").await.unwrap();
    assert_eq!(hub.refused("/ws/pub/good/d/t").await, 409);
    assert!(hub.at("/ws/pub/good/d/u").await.is_ok(), "another topic");
    assert!(hub.at("/ws/pub/good/e/t").await.is_ok(), "the topic of another domain");
    assert_eq!(hub.counter("connections", "refused_topic_taken"), 1);
}

#[tokio::test]
async fn hub_7_hub_12_frames_go_verbatim_and_in_order() {
    let hub = hub(mount()).await;
    let mut publisher = hub.at("/ws/pub/good/d/a%20t").await.unwrap();
    let mut subscribers = [hub.at("/ws/sub/d/a%20t").await.unwrap(), hub.at("/ws/sub/d/a%20t").await.unwrap()];
    hub.has_members("hub:d/a t", 2).await;
    subscribers[0].send_text("what subscribers send is thrown away").await;
    subscribers[0].send(Opcode::Ping, b"but pings are answered", true).await;
    assert_eq!(subscribers[0].receive().await, Received::Pong(b"but pings are answered".to_vec()));
    publisher.send(Opcode::Ping, b"not relayed", true).await;
    for text in ["", "hello", " {\"a\": 1 } ", "é\u{0}"] {
        publisher.send_text(text).await;
        publisher.send(Opcode::Binary, text.as_bytes(), true).await;
    }
    for n in 0..1_000 {
        publisher.send_text(&n.to_string()).await;
    }
    for subscriber in &mut subscribers {
        for text in ["", "hello", " {\"a\": 1 } ", "é\u{0}"] {
            subscriber.assert_text(text).await;
            assert_eq!(subscriber.receive().await, Received::Binary(text.as_bytes().to_vec()));
        }
        for n in 0..1_000 {
            subscriber.assert_text(&n.to_string()).await;
        }
    }
    assert_eq!(publisher.receive().await, Received::Pong(b"not relayed".to_vec()), "no echo, no ack");
}

#[tokio::test]
async fn hub_8_another_publisher_takes_over_within_the_grace() {
    let hub = hub(mount().owner_grace(Duration::from_secs(20))).await;
    let first = hub.at("/ws/pub/good/d/t").await.unwrap();
    let mut subscriber = hub.at("/ws/sub/d/t").await.unwrap();
    hub.has_members("hub:d/t", 1).await;
    drop(first);
    let mut second = None;
    eventually("the topic is free", async || {
        second = hub.at("/ws/pub/good/d/t").await.ok();
        second.is_some()
    })
    .await;
    drop(second.take());
    hub.has_sockets(1).await;
    assert_eq!(hub.refused("/ws/pub/bad/d/t").await, 403, "it takes a good key as before");
    let second = hub.at("/ws/pub/good/d/t").await;
    second.unwrap().send_text("from the second").await;
    subscriber.assert_text("from the second").await;
}

#[tokio::test]
async fn hub_8_then_the_topic_ends_and_its_subscribers_are_told() {
    for grace_ms in [0, 50] {
        let hub = hub(mount().owner_grace(Duration::from_millis(grace_ms))).await;
        let mut publisher = hub.at("/ws/pub/good/d/t").await.unwrap();
        let mut subscriber = hub.at("/ws/sub/d/t").await.unwrap();
        hub.has_members("hub:d/t", 1).await;
        publisher.send_text("the last").await;
        publisher.send(Opcode::Close, &1000u16.to_be_bytes(), true).await;
        subscriber.assert_text("the last").await;
        subscriber.assert_closed(1000).await;
        assert_eq!(hub.refused("/ws/sub/d/t").await, 404);
        assert_eq!(hub.counter("closes", "topic_ended"), 1);
        assert!(hub.at("/ws/pub/good/d/t").await.is_ok(), "it can be started again");
    }
}

#[tokio::test]
async fn hub_9_subscribers_come_and_go() {
    let hub = hub(mount()).await;
    let mut publisher = hub.at("/ws/pub/good/d/t").await.unwrap();
    publisher.send_text("to nobody").await;
    eventually("it was read", async || hub.counter("messages", "received") == 1).await;
    let mut stays = hub.at("/ws/sub/d/t").await.unwrap();
    let leaves = hub.at("/ws/sub/d/t").await.unwrap();
    hub.has_members("hub:d/t", 2).await;
    drop(leaves);
    hub.has_members("hub:d/t", 1).await;
    publisher.send_text("to one").await;
    stays.assert_text("to one").await;
    drop(stays);
    hub.has_members("hub:d/t", 0).await;
    assert!(hub.at("/ws/sub/d/t").await.is_ok(), "a topic lives without subscribers");
}

#[tokio::test]
async fn hub_10_a_connection_has_one_topic_and_there_are_many_connections() {
    let hub = hub(mount()).await;
    let mut topics = Vec::new();
    for n in 0..30 {
        let publisher = hub.at(&format!("/ws/pub/good/d/t{n}")).await.unwrap();
        let mut subscribers = Vec::new();
        for _ in 0..4 {
            subscribers.push(hub.at(&format!("/ws/sub/d/t{n}")).await.unwrap());
        }
        topics.push((publisher, subscribers));
    }
    hub.has_sockets(30 * 5).await;
    for text in ["first", "second"] {
        for (n, (publisher, _)) in topics.iter_mut().enumerate() {
            publisher.send_text(&format!("{text} of {n}")).await;
        }
    }
    for (n, (_, subscribers)) in topics.iter_mut().enumerate() {
        for subscriber in subscribers {
            for text in ["first", "second"] {
                subscriber.assert_text(&format!("{text} of {n}")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_failed_upgrade_leaves_no_topic_behind() {
    let hub = hub(mount()).await;
    let answer = crate::support::http::request(hub.address, "GET", "/ws/pub/good/d/t", &[], b"").await;
    assert_eq!(answer.status, 400);
    assert!(hub.at("/ws/pub/good/d/t").await.is_ok());
}

#[tokio::test]
async fn security_31_topics_that_cannot_be_are_refused() {
    let hub = hub(mount()).await;
    let long = "t".repeat(250);
    for topic in ["%0a", "%00", &long] {
        assert_eq!(hub.refused(&format!("/ws/pub/good/d/{topic}")).await, 403, "{topic}");
    }
    assert_eq!(hub.refused("/ws/pub/good/d/%ff").await, 404, "not UTF-8");
    assert!(hub.at(&format!("/ws/pub/good/d/{}", &long[1..])).await.is_ok());
}

#[tokio::test]
async fn a_silent_subscriber_is_pinged_and_lives() {
    let hub = hub(mount().idle_timeout(Duration::from_millis(300))).await;
    // Pongs are the client's; it sends none by itself here, since it does not read.
    let mut publisher = hub.at("/ws/pub/good/d/t").await.unwrap();
    let mut silent = hub.at("/ws/sub/d/t").await.unwrap();
    let speaks = async {
        for _ in 0..20 {
            publisher.send(Opcode::Pong, b"", true).await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let (code, ()) = tokio::join!(silent.close_code(), speaks);
    assert_eq!(code, 1002, "who does not even pong is closed");
    assert_eq!(hub.counter("closes", "idle"), 1, "who pongs is not");
}
