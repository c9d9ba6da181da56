//! The registry: sockets of this process that join topics, and what is told of members.

use fanfare::testing::TestEndpoint;
use fanfare::{Endpoint, LocalSocket, Transport};
use serde_json::{Value, json};

use crate::support::stage;

async fn engine() -> Endpoint {
    Endpoint::builder().shards(3).build().await.unwrap()
}

/// The metas of a topic's members, in order of their text.
async fn metas(endpoint: &Endpoint, topic: &str) -> Vec<Value> {
    let mut metas: Vec<Value> = endpoint
        .members(topic)
        .await
        .into_iter()
        .map(|member| member.meta.map_or(Value::Null, |meta| meta.to().unwrap()))
        .collect();
    metas.sort_by_key(Value::to_string);
    metas
}

async fn topics(socket: &LocalSocket) -> Vec<String> {
    socket.topics().await.iter().map(|topic| topic.to_string()).collect()
}

#[tokio::test]
async fn rooms_2_joining_again_keeps_the_first_meta() {
    let endpoint = engine().await;
    let socket = endpoint.socket().await.unwrap();
    socket.join("room", Some(json!({"first": 1}).into())).await.unwrap();
    socket.join("room", Some(json!({"second": 2}).into())).await.unwrap();
    assert_eq!(metas(&endpoint, "room").await, [json!({"first": 1})]);
    assert_eq!(topics(&socket).await, ["room"]);
}

#[tokio::test]
async fn rooms_2_leaving_is_safe_and_membership_is_told() {
    let endpoint = engine().await;
    let socket = endpoint.socket().await.unwrap();
    socket.leave("never joined").await;
    for topic in ["b", "a", "c"] {
        socket.join(topic, None).await.unwrap();
    }
    assert!(socket.is_member("a").await && !socket.is_member("d").await);
    assert_eq!(topics(&socket).await, ["a", "b", "c"], "ordered by name");
    socket.leave("a").await;
    socket.leave("a").await;
    assert!(!socket.is_member("a").await);
    assert_eq!(endpoint.topics().await.iter().map(|topic| &*topic.topic).collect::<Vec<_>>(), ["b", "c"]);
    socket.leave_all().await;
    assert!(topics(&socket).await.is_empty());
    assert!(endpoint.topics().await.is_empty(), "a topic exists while somebody is in it");
}

#[tokio::test]
async fn rooms_2_a_dropped_socket_leaves_everything() {
    let endpoint = engine().await;
    let socket = endpoint.subscribe("room").await.unwrap();
    assert_eq!(endpoint.members("room").await.len(), 1);
    drop(socket);
    crate::support::eventually("nobody is left", async || {
        endpoint.members("room").await.is_empty() && endpoint.sockets() == 0
    })
    .await;
}

#[tokio::test]
async fn rooms_2_members_fold_over_all_shards() {
    let endpoint = engine().await;
    let mut sockets = Vec::new();
    for weight in 1..=10 {
        let socket = endpoint.socket().await.unwrap();
        socket.join("room", Some(json!(weight).into())).await.unwrap();
        socket.join("other", Some(json!(1000).into())).await.unwrap();
        sockets.push(socket);
    }
    let sum = endpoint.fold_members("room", 0, |sum, member| sum + member.meta.unwrap().to::<u64>().unwrap()).await;
    assert_eq!(sum, 55);
    let summary: Vec<_> = endpoint.topics().await.into_iter().map(|topic| (topic.topic, topic.members)).collect();
    assert_eq!(summary, [("other".to_owned(), 10), ("room".to_owned(), 10)]);
}

#[tokio::test]
async fn rooms_2_a_broadcast_reaches_the_sender_too_and_nobody_else() {
    let endpoint = engine().await;
    let mut inside = [endpoint.subscribe("room").await.unwrap(), endpoint.subscribe("room").await.unwrap()];
    let mut outside = endpoint.subscribe("other").await.unwrap();
    endpoint.broadcast("room", "say", json!({"n": 1})).await.unwrap();
    for socket in &mut inside {
        let heard = socket.recv().await.unwrap();
        assert_eq!((heard.topic(), heard.event()), ("room", "say"));
    }
    endpoint.broadcast("other", "say", json!({"n": 2})).await.unwrap();
    assert_eq!(outside.recv().await.unwrap().topic(), "other", "the first that it hears");
}

#[tokio::test]
async fn rooms_2_a_broadcast_to_an_empty_topic_does_nothing() {
    let endpoint = engine().await;
    endpoint.broadcast("nobody", "say", json!({})).await.unwrap();
    assert!(endpoint.topics().await.is_empty());
    let mut late = endpoint.subscribe("nobody").await.unwrap();
    endpoint.broadcast("nobody", "again", json!({})).await.unwrap();
    assert_eq!(late.recv().await.unwrap().event(), "again");
}

#[tokio::test]
async fn rooms_2_names_are_checked() {
    let endpoint = engine().await;
    let socket = endpoint.socket().await.unwrap();
    for topic in ["", "a\u{7}b", &"x".repeat(256)] {
        assert!(socket.join(topic, None).await.unwrap_err().is_invalid(), "{topic:?}");
        assert!(endpoint.broadcast(topic, "say", json!({})).await.unwrap_err().is_invalid(), "{topic:?}");
    }
    assert!(endpoint.broadcast("room", "say", json!([1])).await.unwrap_err().is_invalid(), "a list is not pushable");
    socket.join(&"x".repeat(255), None).await.unwrap();
}

#[tokio::test]
async fn rooms_2_clients_are_members_with_the_meta_of_their_channel() {
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", stage())).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let room = socket.join("room:1", json!({"meta": {"name": "Ada"}})).await.unwrap();
    let local = test.endpoint().subscribe("room:1").await.unwrap();
    assert_eq!(metas(test.endpoint(), "room:1").await, [json!(null), json!({"name": "Ada"})]);
    let members = test.endpoint().members("room:1").await;
    assert_eq!(members.iter().filter(|member| member.transport == Transport::Local).count(), 2);
    room.leave().await;
    drop(local);
    test.settle().await;
    assert!(test.endpoint().members("room:1").await.is_empty());
}
