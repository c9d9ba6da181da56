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
