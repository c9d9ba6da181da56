//! Invariant 4: what a client has sent and is not handled has a bound, and so has what all of them have.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fanfare::Endpoint;
use serde_json::json;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::support::client::Client;
use crate::support::{PATIENCE, Served, eventually, serve, stage};

const BOUND: usize = 400_000;

/// One read, and what each of the clients may hold however much others do.
const SLACK: u64 = 64 * 1024 + 12 * 12 * 1024;

async fn served() -> Served {
    let builder = Endpoint::builder().inboxes_bytes_max(BOUND).shards(1).mount("/socket", stage());
    serve(builder).await
}

/// Looks how much is held at most, until it is told to end.
struct Watched {
    most: Arc<AtomicU64>,
    ends: Arc<AtomicBool>,
    task: JoinHandle<()>,
}

fn watch(endpoint: &Endpoint) -> Watched {
    let (endpoint, most, ends) = (endpoint.clone(), Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let (seen, end) = (most.clone(), ends.clone());
    let task = tokio::spawn(async move {
        while !end.load(Ordering::Relaxed) {
            seen.fetch_max(endpoint.overview().unhandled_memory, Ordering::Relaxed);
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    });
    Watched { most, ends, task }
}

impl Watched {
    fn most(&self) -> u64 {
        self.most.load(Ordering::Relaxed)
    }

    async fn end(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.task.await.unwrap();
        self.most.load(Ordering::Relaxed)
    }
}

async fn nothing_is_held(served: &Served) {
    eventually("all is handled", async || served.endpoint.overview().unhandled_memory == 0).await;
}

/// Each may send 8 MB behind its join. They are not read instead, and all that they have sent is answered.
#[tokio::test]
async fn clients_whose_messages_wait_are_not_read_while_all_hold_too_much_and_lose_nothing() {
    let (clients, messages) = (12, 100);
    let served = served().await;
    let mut other = served.client().await;
    other.join("room:other").await;
    let watched = watch(&served.endpoint);
    let mut senders = Vec::new();
    for _ in 0..clients {
        let mut client = served.client().await;
        senders.push(tokio::spawn(async move {
            client.send_json(&json!(["1", "join", "room:1", "phx_join", { "wait_ms": 700 }])).await;
            for n in 0..messages {
                client.send_json(&json!(["1", n, "room:1", "echo", { "x": "x".repeat(5_000) }])).await;
            }
            assert_eq!(client.frame().await[1], "join");
            for n in 0..messages {
                let reply = client.frame().await;
                assert_eq!((&reply[1], &reply[4]["status"]), (&json!(n), &json!("ok")));
            }
        }));
    }
    eventually("they are not read", async || served.counter("limits", "inboxes_bytes_max_paced") > 0).await;
    // Others are.
    other.call("room:other", "echo", json!({ "x": "x".repeat(2_000) }), "ok").await;
    for sender in senders {
        timeout(PATIENCE, sender).await.unwrap().unwrap();
    }
    nothing_is_held(&served).await;
    let most = watched.end().await;
    assert!(most > BOUND as u64 / 2 && most <= BOUND as u64 + SLACK, "{most}");
    assert_eq!(served.counter("closes", "inboxes_full"), 0);
}

/// The beginning of a message of which this much comes.
async fn begin(client: &mut Client, all: usize, part: usize) {
    let mut frame = vec![0x81, 0xff];
    frame.extend_from_slice(&(all as u64).to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice("x".repeat(part).as_bytes());
    client.send_bytes(&frame).await;
}

/// They would wait for each other for ever.
#[tokio::test]
async fn messages_of_which_a_part_has_come_take_half_and_the_largest_are_given_up() {
    let served = served().await;
    let watched = watch(&served.endpoint);
    let mut small = served.client().await;
    let text = json!(["1", "1", "phoenix", "heartbeat", { "x": "x".repeat(70_000) }]).to_string();
    begin(&mut small, text.len(), 0).await;
    small.send_bytes(&text.as_bytes()[..10_000]).await;
    let mut large = Vec::new();
    for _ in 0..10 {
        let mut client = served.client().await;
        begin(&mut client, 1_000_000, 100_000).await;
        large.push(client);
    }
    // All but as many as half has room for.
    eventually("some are given up", async || served.counter("closes", "inboxes_full") >= 8).await;
    assert_eq!(served.counter("limits", "inboxes_bytes_max_closed"), served.counter("closes", "inboxes_full"));
    let fact = served.endpoint.facts().into_iter().find(|fact| fact.reason == "inboxes_full").unwrap();
    assert!(
        fact.detail.contains("400000 are allowed") && fact.detail.contains("raise inboxes_bytes_max"),
        "{}",
        fact.detail
    );
    large[0].assert_closed(1013).await;
    // What is left of the others goes with them, and the smallest goes on.
    small.send_bytes(&text.as_bytes()[10_000..]).await;
    assert_eq!(small.frame().await[4]["status"], "ok");
    drop(large);
    nothing_is_held(&served).await;
    assert!(watched.most() <= BOUND as u64 + SLACK, "{}", watched.most());
    watched.end().await;
}
