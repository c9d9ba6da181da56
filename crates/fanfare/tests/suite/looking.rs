//! Whoever looks into a node gets pages of topics and sockets in an order, and no client waits for that.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare::{
    Connect, ConnectRequest, Connected, Endpoint, Mount, Rejected, SocketId, SocketOrder, SocketPage, SocketQuery,
    TopicOrder, TopicQuery, Transport,
};
use serde_json::json;

use crate::support::client::Client;
use crate::support::{Served, eventually, serve, stage};

/// A client has the id that its parameters say.
struct Named;

impl Connect for Named {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(match request.params.str("user") {
            Some(user) => Connected::new().id(user),
            None => Connected::new(),
        })
    }
}

/// Topics with a number of members each, on three shards.
async fn topics(members: &[(&str, usize)]) -> (Endpoint, Vec<fanfare::LocalSocket>) {
    let endpoint = Endpoint::builder().shards(3).build().await.unwrap();
    let mut sockets = Vec::new();
    for number in 0..members.iter().map(|(_, members)| *members).max().unwrap_or(0) {
        let socket = endpoint.socket().await.unwrap();
        for (topic, _) in members.iter().filter(|(_, members)| *members > number) {
            socket.join(topic, None).await.unwrap();
        }
        sockets.push(socket);
    }
    (endpoint, sockets)
}

#[tokio::test]
async fn topics_are_told_in_pages_of_any_order() {
    let (endpoint, _sockets) = topics(&[("a:1", 2), ("a:2", 7), ("b:1", 4), ("b:2", 4), ("c", 1)]).await;
    for (prefix, order, expected) in [
        ("", TopicOrder::Name, "a:1 2, a:2 7, b:1 4, b:2 4, c 1"),
        ("", TopicOrder::Members, "a:2 7, b:1 4, b:2 4, a:1 2, c 1"),
        ("b:", TopicOrder::Members, "b:1 4, b:2 4"),
        ("a:", TopicOrder::Name, "a:1 2, a:2 7"),
        ("d", TopicOrder::Name, ""),
    ] {
        for limit in 1..=6 {
            let (mut told, mut after, mut pages) = (Vec::new(), None, 0);
            loop {
                let query = TopicQuery { prefix: prefix.into(), order, limit, after, ..TopicQuery::default() };
                let page = endpoint.list_topics(&query).await;
                assert!(page.topics.len() <= limit);
                told.extend(page.topics.iter().map(|row| format!("{} {}", row.summary.topic, row.summary.members)));
                assert_eq!(page.total, if expected.is_empty() { 0 } else { expected.split(", ").count() });
                pages += 1;
                after = page.next;
                if after.is_none() {
                    break;
                }
            }
            assert_eq!(told.join(", "), expected, "{prefix} {order:?} by {limit}");
            assert_eq!(pages, told.len().div_ceil(limit).max(1), "a page that is not the last is full");
        }
    }
}

#[tokio::test]
async fn what_passes_through_topics_is_told() {
    let served = serve(Endpoint::builder().shards(2).mount("/socket", stage())).await;
    let (mut clients, endpoint) = (Vec::new(), served.endpoint.clone());
    for _ in 0..4 {
        let mut client = served.client().await;
        client.join("room:busy").await;
        clients.push(client);
    }
    clients[0].join("room:quiet").await;
    let query = TopicQuery {
        order: TopicOrder::Rate,
        limit: 1,
        window: Some(Duration::from_millis(400)),
        ..TopicQuery::default()
    };
    let publisher = tokio::spawn(async move {
        loop {
            for _ in 0..2 {
                endpoint.broadcast("room:busy", "n", json!({ "n": 1 })).await.unwrap();
            }
            endpoint.broadcast("room:quiet", "n", json!({ "text": "x".repeat(2_000) })).await.unwrap();
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let page = served.endpoint.list_topics(&query).await;
    let report = served.endpoint.topic("room:busy", Duration::from_millis(400)).await;
    for (order, contains, first) in [
        (TopicOrder::Published, "", "room:busy"),
        (TopicOrder::Bytes, "", "room:quiet"),
        (TopicOrder::Published, "qui", "room:quiet"),
    ] {
        let contains = contains.to_owned();
        let page = served.endpoint.list_topics(&TopicQuery { order, contains, ..query.clone() }).await;
        assert_eq!(page.topics[0].summary.topic, first, "{order:?}");
    }
    publisher.abort();
    assert_eq!((page.topics.len(), &*page.topics[0].summary.topic), (1, "room:busy"));
    assert_eq!((report.members.iter().sum::<usize>(), &*report.channel), (4, "room:*"));
    for rates in [page.topics[0].rates.unwrap(), report.rates] {
        assert!(rates.published > 1.0, "{rates:?}");
        // The four members get each message; at the ends of the window one may have been handed out on one shard only.
        assert!((rates.delivered / rates.published - 4.0).abs() < 1.0, "{rates:?}");
        assert!(rates.bytes > rates.delivered * 20.0, "{rates:?}");
    }
}

async fn connected(served: &Served, users: &[&str]) -> Vec<Client> {
    let mut clients = Vec::new();
    for user in users {
        let mut client = served.client_at(&format!("/socket/websocket?vsn=2.0.0&user={user}")).await;
        client.join("room:1").await;
        clients.push(client);
    }
    clients
}

fn users(page: &SocketPage) -> Vec<&str> {
    page.sockets.iter().map(|socket| socket.user.as_deref().unwrap()).collect()
}

#[tokio::test]
async fn sockets_are_told_in_pages_and_can_be_closed_one_by_one() {
    let served = serve(Endpoint::builder().shards(2).mount("/socket", stage().connect(Named))).await;
    let endpoint = &served.endpoint;
    let _own = endpoint.subscribe("room:1").await.unwrap();
    let mut clients = connected(&served, &["ann", "bob", "bob", "cid", "dan"]).await;
    clients[4].call("room:1", "echo", json!({}), "ok").await;
    let mut told = Vec::new();
    let mut after = None;
    loop {
        let page = endpoint.list_sockets(SocketQuery { limit: 2, after, ..SocketQuery::default() }).await;
        assert_eq!(page.total, 5, "sockets of this process are nobody's clients");
        told.extend(users(&page).into_iter().map(str::to_owned));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    told.sort();
    assert_eq!(told, ["ann", "bob", "bob", "cid", "dan"]);
    let find = async |query: SocketQuery| endpoint.list_sockets(SocketQuery { limit: 10, ..query }).await;
    let none = SocketQuery::default;
    let first = find(SocketQuery { order: SocketOrder::Received, ..none() }).await.sockets.swap_remove(0);
    assert_eq!((first.user.as_deref(), first.received, first.joins), (Some("dan"), 2, 1));
    assert_eq!(
        (first.transport, first.protocol, first.endpoint.as_deref()),
        (Transport::WebSocket, "phoenix", Some("/socket"))
    );
    for (query, expected) in [
        (SocketQuery { user: Some("bob".into()), ..none() }, 2),
        (SocketQuery { user: Some("eve".into()), ..none() }, 0),
        (SocketQuery { address: Some(served.address.ip()), ..none() }, 5),
        (SocketQuery { address: Some("192.0.2.1".parse().unwrap()), ..none() }, 0),
        (SocketQuery { endpoint: Some("/socket".into()), ..none() }, 5),
        (SocketQuery { endpoint: Some("/other".into()), ..none() }, 0),
        (SocketQuery { transport: Some(Transport::LongPoll), ..none() }, 0),
        (SocketQuery { topic: Some("room:1".into()), ..none() }, 5),
        (SocketQuery { topic: Some("room:2".into()), ..none() }, 0),
    ] {
        assert_eq!(find(query.clone()).await.total, expected, "{query:?}");
    }
    // The members of a topic, two at a time.
    let (mut members, mut from) = (0, Some((0, 0)));
    while let Some(place) = from {
        let (some, next) = endpoint.list_members("room:1", place, 2).await;
        members += some.len();
        from = next;
    }
    assert_eq!(members, 5);
    let (one, joined) = endpoint.find_socket(first.id, 10).await.unwrap();
    assert_eq!((one.id, joined.len(), &*joined[0]), (first.id, 1, "room:1"));
    assert!(endpoint.close_socket(first.id, Some((4001, "enough".into()))).await);
    clients[4].assert_closed(4001).await;
    assert!(endpoint.find_socket(first.id, 10).await.is_none());
    assert!(!endpoint.close_socket(first.id, None).await);
    assert!(first.id.to_string().parse::<SocketId>().unwrap() == first.id);
    for wrong in ["", "1", "1-2", "1-2-3-4", "a-2-3", "70000-1-1", "-1-2-3"] {
        assert!(wrong.parse::<SocketId>().is_err(), "{wrong}");
    }
    let _: SocketAddr = one.address.unwrap();
}

const MANY: usize = 200_000;

/// So many sockets are in them.
const PARTS: usize = 20;

/// Puts a client into many topics at once.
struct ToMany;

impl Connect for ToMany {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let part = request.params.str("key").unwrap_or_default().to_owned();
        let topics = (0..MANY / PARTS).map(|topic| format!("many:{part}:{topic}"));
        Ok(topics.fold(Connected::new(), Connected::topic))
    }
}

/// A heartbeat waits no longer while all topics are listed. With all topics in one turn it waits several hundred milliseconds here.
const WAIT_MAX: Duration = Duration::from_millis(100);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_client_waits_while_many_topics_are_listed() {
    let bullet = Mount::bullet().connect(ToMany);
    let served = serve(Endpoint::builder().shards(1).mount("/socket", stage()).mount("/bullet", bullet)).await;
    let endpoint = served.endpoint.clone();
    let mut sockets = Vec::new();
    for part in 0..PARTS {
        let target = format!("/bullet?key={part}");
        sockets.push(Client::connect(served.address, &target, &[]).await.unwrap());
    }
    let one = TopicQuery { limit: 1, ..TopicQuery::default() };
    eventually("all topics have begun", async || endpoint.list_topics(&one).await.total == MANY).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    let mut waits = Vec::new();
    for order in [TopicOrder::Members, TopicOrder::Name] {
        let endpoint = endpoint.clone();
        let query = TopicQuery { order, limit: 100, ..TopicQuery::default() };
        let listing = tokio::spawn(async move { endpoint.list_topics(&query).await });
        while !listing.is_finished() {
            let at = Instant::now();
            client.call("room:1", "echo", json!({}), "ok").await;
            waits.push(at.elapsed());
        }
        let page = listing.await.unwrap();
        assert_eq!((page.topics.len(), page.total), (100, MANY + 1));
    }
    waits.sort();
    assert!(waits.len() > 4, "the client was answered in between: {waits:?}");
    // One of them may have met something else that the machine does.
    assert!(waits[waits.len() * 9 / 10] < WAIT_MAX, "{waits:?}");
}
