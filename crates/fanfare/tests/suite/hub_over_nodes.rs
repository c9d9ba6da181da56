//! Hubs over nodes: one publisher a topic, whichever node it is on, and subscribers on all of them.

use std::time::Duration;

use fanfare::testing::{Lockstep, Pipe};
use fanfare::{Broker, Connect, ConnectRequest, Connected, Endpoint, MemoryBroker, Mount, Policy, Rejected, Retention};
use http::Request;

use crate::support::brokers::AnyBroker;
use crate::support::client::Client;
use crate::support::guest::Guest;
use crate::support::{Served, eventually, serve};

/// A publisher's key is its name.
struct Named;

impl Connect for Named {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(match request.params.str("key") {
            Some(key) => Connected::new().publisher(key),
            None => Connected::new(),
        })
    }
}

const GRACE: Duration = Duration::from_millis(300);

fn node(broker: Broker) -> fanfare::Builder {
    let mount = || Mount::hub().connect(Named).owner_grace(GRACE);
    // A NATS has registers where it has a JetStream, and that where topics have a history.
    let kept = Policy::new().history(Retention::default());
    let builder = Endpoint::builder().broker(broker).policy("kept", kept).mount("/ws", mount());
    builder.mount("/replacing", mount().topic_prefix("r:").replaces_publisher(true))
}

/// Two nodes that are connected to their broker.
async fn two_nodes(broker: &AnyBroker) -> [Served; 2] {
    let nodes = [serve(node(broker.broker())).await, serve(node(broker.broker())).await];
    for node in &nodes {
        eventually("its broker is there", async || at(node, "/ws/sub/d/nobody").await.err() == Some(404)).await;
    }
    nodes
}

/// Those that have registers.
async fn on_each_broker(run: impl AsyncFn([Served; 2])) {
    run(two_nodes(&AnyBroker::memory()).await).await;
    #[cfg(feature = "nats")]
    {
        let nats = AnyBroker::jetstream();
        run(two_nodes(&nats).await).await;
    }
    #[cfg(feature = "redis")]
    {
        let redis = AnyBroker::redis();
        run(two_nodes(&redis).await).await;
    }
}

async fn at(node: &Served, target: &str) -> Result<Client, u16> {
    Client::connect(node.address, target, &[]).await.map_err(|answer| answer.status)
}

/// A publisher, once it is let in.
async fn publishes(node: &Served, target: &str) -> Client {
    let publisher = std::cell::RefCell::new(None);
    eventually("the publisher is let in", async || {
        *publisher.borrow_mut() = at(node, target).await.ok();
        publisher.borrow().is_some()
    })
    .await;
    publisher.into_inner().unwrap()
}

#[tokio::test]
async fn a_topic_has_one_publisher_and_its_subscribers_are_anywhere() {
    on_each_broker(async |[a, b]| {
        let mut first = at(&a, "/ws/pub/x/d/t").await.unwrap();
        assert_eq!(at(&b, "/ws/pub/y/d/t").await.err(), Some(409));
        assert_eq!(at(&b, "/ws/sub/d/u").await.err(), Some(404));
        let [mut here, mut there] = [at(&a, "/ws/sub/d/t").await.unwrap(), at(&b, "/ws/sub/d/t").await.unwrap()];
        first.send_text("one").await;
        here.assert_text("one").await;
        there.assert_text("one").await;
        // Another node takes over within the grace.
        drop(first);
        let mut second = publishes(&b, "/ws/pub/y/d/t").await;
        assert_eq!(at(&a, "/ws/pub/x/d/t").await.err(), Some(409));
        tokio::time::sleep(GRACE * 2).await;
        second.send_text("two").await;
        here.assert_text("two").await;
        there.assert_text("two").await;
        // It ends for all.
        drop(second);
        here.assert_closed(1000).await;
        there.assert_closed(1000).await;
        assert_eq!(at(&a, "/ws/sub/d/t").await.err(), Some(404));
        assert!(at(&a, "/ws/pub/x/d/t").await.is_ok());
    })
    .await;
}

#[tokio::test]
async fn whoever_is_let_in_gets_what_another_node_publishes_next() {
    on_each_broker(async |[a, b]| {
        for round in 0..20 {
            let mut publisher = at(&a, &format!("/ws/pub/x/d/{round}")).await.unwrap();
            let mut subscriber = at(&b, &format!("/ws/sub/d/{round}")).await.unwrap();
            publisher.send_text("first").await;
            subscriber.assert_text("first").await;
        }
    })
    .await;
}

#[tokio::test]
async fn of_two_that_come_at_once_one_is_let_in() {
    on_each_broker(async |[a, b]| {
        let mut publishers = Vec::new();
        for round in 0..50 {
            let target = format!("/ws/pub/x/d/{round}");
            let (one, two) = tokio::join!(at(&a, &target), at(&b, &target));
            let refused: Vec<u16> = [&one, &two].into_iter().filter_map(|at| at.as_ref().err().copied()).collect();
            assert_eq!(refused, [409], "{round}");
            publishers.extend(one.into_iter().chain(two));
        }
    })
    .await;
}

#[tokio::test]
async fn a_publisher_takes_the_place_of_one_of_its_name_on_another_node() {
    on_each_broker(async |[a, b]| {
        let mut old = at(&a, "/replacing/pub/x/d/t").await.unwrap();
        let mut subscriber = at(&a, "/replacing/sub/d/t").await.unwrap();
        assert_eq!(at(&b, "/replacing/pub/y/d/t").await.err(), Some(409));
        let mut new = at(&b, "/replacing/pub/x/d/t").await.unwrap();
        old.assert_closed(4409).await;
        tokio::time::sleep(GRACE * 2).await;
        new.send_text("here").await;
        subscriber.assert_text("here").await;
    })
    .await;
}

/// Lets time pass on both.
fn advance(a: &mut Lockstep, b: &mut Lockstep, seconds: u64) {
    for _ in 0..seconds * 10 {
        a.advance(Duration::from_millis(100));
        b.advance(Duration::from_millis(100));
    }
}

/// A publisher on a node whose time is the test's, or why there is none.
fn publisher(node: &mut Lockstep, key: &str) -> Result<Guest, u16> {
    let request = Request::get(format!("/ws/pub/{key}/d/t")).body(()).unwrap();
    Guest::at(node, request, Pipe::keeping())
}

#[test]
fn a_node_that_is_cut_off_closes_its_publishers_before_others_take_over() {
    let broker = MemoryBroker::new().unwrap();
    let [mut a, mut b] = [1, 2].map(|number| Lockstep::new(node(Broker::memory(&broker)).incarnation(number), 1));
    advance(&mut a, &mut b, 12);
    let mut held = publisher(&mut a, "x").unwrap();
    broker.break_link(1, true);
    advance(&mut a, &mut b, 4);
    assert_eq!((held.frames().len(), publisher(&mut b, "y").err()), (0, Some(409)));
    advance(&mut a, &mut b, 4);
    assert_eq!(held.frames(), [1013]);
    assert_eq!((publisher(&mut a, "x").err(), publisher(&mut b, "y").err()), (Some(503), Some(409)));
    advance(&mut a, &mut b, 5);
    let mut taken = publisher(&mut b, "y").unwrap();
    broker.let_back(1);
    advance(&mut a, &mut b, 5);
    assert_eq!((taken.frames().len(), publisher(&mut a, "x").err()), (0, Some(409)));
}

#[test]
fn the_topics_of_a_dead_node_end() {
    let broker = MemoryBroker::new().unwrap();
    let [mut a, mut b] = [1, 2].map(|number| Lockstep::new(node(Broker::memory(&broker)).incarnation(number), 1));
    advance(&mut a, &mut b, 12);
    let _held = publisher(&mut a, "x").unwrap();
    let request = Request::get("/ws/sub/d/t").body(()).unwrap();
    let mut subscriber = Guest::at(&mut b, request, Pipe::keeping()).unwrap();
    broker.kill(1);
    b.advance(Duration::from_secs(9));
    assert!(subscriber.frames().is_empty());
    b.advance(Duration::from_secs(5));
    assert_eq!(subscriber.frames(), [1000]);
}
