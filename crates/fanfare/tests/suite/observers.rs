//! What observers are told, and the order that a fence keeps.

use std::sync::Arc;

use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Observer, Rejected, SocketHandle};
use parking_lot::Mutex;
use serde_json::json;

use crate::support::{eventually, serve, stage};

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Diary(Arc<Mutex<Vec<String>>>, Arc<Mutex<Vec<SocketHandle>>>);

impl Diary {
    fn lines(&self) -> Vec<String> {
        self.0.lock().clone()
    }
}

impl Observer for Diary {
    fn opened(&self, socket: &SocketHandle) {
        self.0.lock().push(format!("opened {}", socket.info().id().unwrap_or("?")));
        self.1.lock().push(socket.clone());
    }

    fn closed(&self, socket: &SocketHandle) {
        self.0.lock().push(format!("closed {}", socket.info().id().unwrap_or("?")));
        self.1.lock().retain(|open| open != socket);
    }

    fn occupied(&self, topic: &Arc<str>) {
        self.0.lock().push(format!("occupied {topic}"));
    }

    fn vacated(&self, topic: &Arc<str>) {
        self.0.lock().push(format!("vacated {topic}"));
        assert!(!topic.contains("panic"), "an observer that panics hurts nobody");
    }
}

/// Names sockets by their param `id` and joins them to the topics `all` and the id.
struct ById;

impl Connect for ById {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let id = request.params.str("key").ok_or_else(Rejected::new)?.to_owned();
        Ok(Connected::new().id(&*id).topic("all").topic(&*id))
    }
}

#[tokio::test]
async fn sockets_and_topics_are_told_once_over_all_shards() {
    let diary = Diary::default();
    let builder = Endpoint::builder().shards(2).observer(diary.clone()).mount("/socket", stage());
    let served = serve(builder.mount("/bullet", Mount::bullet().connect(ById))).await;
    let mut clients = Vec::new();
    for _ in 0..2 {
        let mut client = served.client().await;
        client.join("room:1").await;
        clients.push(client);
    }
    assert_eq!(diary.lines().iter().filter(|line| *line == "occupied room:1").count(), 1, "{:?}", diary.lines());
    let one = clients.pop().unwrap();
    drop(one);
    eventually("one has gone", async || served.endpoint.members("room:1").await.len() == 1).await;
    assert!(!diary.lines().contains(&"vacated room:1".into()));
    drop(clients);
    eventually("all have gone", async || diary.lines().contains(&"vacated room:1".into())).await;
    eventually("all are closed", async || diary.1.lock().is_empty()).await;

    let _local = served.endpoint.subscribe("panic").await.unwrap();
    drop(_local);
    eventually("the panic is over", async || diary.lines().contains(&"vacated panic".into())).await;

    let before = diary.lines().len();
    let mut bullet = served.client_at("/bullet?k1").await;
    eventually("it is there", async || diary.lines().len() == before + 3).await;
    assert_eq!(diary.lines()[before..], ["occupied all", "occupied k1", "opened k1"], "its topics are joined by then");
    diary.1.lock()[0].clone().close();
    assert_eq!(bullet.close_code().await, 1001);
    eventually("it has gone", async || diary.lines().len() == before + 6).await;
    assert_eq!(diary.lines()[before + 5], "closed k1", "and left by then");
}

#[tokio::test]
async fn a_fence_keeps_order_across_topics() {
    let served = serve(Endpoint::builder().shards(1).mount("/bullet", Mount::bullet().connect(ById))).await;
    let mut client = served.client_at("/bullet?k1").await;
    eventually("it is there", async || served.endpoint.members("k1").await.len() == 1).await;
    let topics = ["all", "k1", "all", "all", "k1", "k1", "all"];
    for n in 0..1_000 {
        served.endpoint.broadcast(topics[n % topics.len()], "e", json!({"n": n})).await.unwrap();
        served.endpoint.fence();
    }
    for n in 0..1_000 {
        assert_eq!(client.frame().await, json!({"n": n}));
    }
}

/// Is told on one thread, and waits there as long as the test likes.
#[derive(Clone)]
struct Slow(Arc<Mutex<Vec<String>>>, Arc<std::sync::Barrier>);

impl Observer for Slow {
    fn occupied(&self, topic: &Arc<str>) {
        if &**topic == "room:slow" {
            self.1.wait();
            self.1.wait();
        }
        self.0.lock().push(format!("occupied {topic}"));
    }

    fn vacated(&self, topic: &Arc<str>) {
        self.0.lock().push(format!("vacated {topic}"));
    }
}

/// Code of the application's that takes its time holds up its own thread, and no other; what has changed meanwhile is told
/// afterwards, in order.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_observer_that_takes_its_time_holds_up_no_other_shard() {
    let slow = Slow(Arc::default(), Arc::new(std::sync::Barrier::new(2)));
    let builder = Endpoint::builder().shards(2).observer(slow.clone()).mount("/socket", stage());
    let served = serve(builder).await;
    let (mut first, mut second) = (served.client().await, served.client().await);
    first.send_json(&json!(["1", "1", "room:slow", "phx_join", {}])).await;
    let barrier = slow.1.clone();
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    // The other shard goes on, with this topic and with as many others as share its lock.
    second.join("room:slow").await;
    for n in 0..200 {
        second.join(&format!("room:{n}")).await;
        second.send_json(&json!([format!("room:{n}"), "leave", format!("room:{n}"), "phx_leave", {}])).await;
        second.frame().await;
        second.frame().await;
    }
    assert_eq!(slow.0.lock().len(), 400, "{:?}", slow.0.lock());
    let barrier = slow.1.clone();
    tokio::task::spawn_blocking(move || barrier.wait()).await.unwrap();
    let told = |line: &str| slow.0.lock().iter().filter(|told| *told == line).count();
    eventually("the topic is told of", async || told("occupied room:slow") == 1).await;
    drop((first, second));
    eventually("the end is told of", async || told("vacated room:slow") == 1).await;
    assert_eq!(told("occupied room:slow"), 1);
}
