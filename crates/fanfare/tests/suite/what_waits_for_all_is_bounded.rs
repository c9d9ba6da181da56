//! Invariant 4 once more: each outbox has a bound, and so has what all of them hold together.

use std::net::SocketAddr;
use std::time::Duration;

use fanfare::testing::{Lockstep, Pipe};
use fanfare::{Builder, Endpoint, Mount, Policy, Relay, Retention, Slow};
use http::Request;
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpSocket;
use tokio::time::{sleep, timeout};

use crate::support::client::Client;
use crate::support::guest::Guest;
use crate::support::http::{head, request};
use crate::support::{PATIENCE, counter, eventually, serve, stage};

const BOUND: usize = 2_000_000;
const BODY: usize = 20_000;

fn builder() -> Builder {
    builder_of(stage())
}

fn builder_of(mount: Mount) -> Builder {
    let mount = mount.channel("drop:*", Relay).channel("kept:*", Relay);
    let retention = Retention { messages_max: 1_000, bytes_max: 10_000_000, ..Retention::default() };
    Endpoint::builder()
        .outboxes_bytes_max(BOUND)
        .policy("drop:*", Policy::new().slow(Slow::DropOldest))
        .policy("kept:*", Policy::new().history(retention))
        .mount("/socket", mount)
}

fn guest(lockstep: &mut Lockstep, topic: &str, params: Value) -> Guest {
    let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
    let mut guest = Guest::at(lockstep, request, Pipe::keeping()).unwrap();
    guest.join(lockstep, topic, params);
    guest
}

/// One that is joined, and takes nothing more.
fn unread(lockstep: &mut Lockstep, topic: &str) -> Guest {
    let guest = guest(lockstep, topic, json!({}));
    guest.pipe.limit(0);
    guest
}

fn publish(lockstep: &mut Lockstep, topic: &str, n: usize) {
    publish_large(lockstep, topic, n, BODY);
}

fn publish_large(lockstep: &mut Lockstep, topic: &str, n: usize, size: usize) {
    let endpoint = lockstep.endpoint().clone();
    lockstep.run(endpoint.broadcast(topic, "n", json!({ "n": n, "body": "x".repeat(size) }))).unwrap();
    lockstep.settle();
}

fn numbers(guest: &mut Guest) -> Vec<u64> {
    guest.frames().iter().filter_map(|frame| frame[4]["n"].as_u64()).collect()
}

/// What waits, in bytes and in memory, whichever is more.
fn held(lockstep: &Lockstep) -> u64 {
    let overview = lockstep.endpoint().overview();
    overview.waiting_bytes.max(overview.waiting_memory)
}

fn closed(endpoint: &Endpoint) -> u64 {
    counter(endpoint, "closes", "outboxes_full")
}

#[test]
fn those_that_hold_most_are_closed_1013_and_a_reader_gets_all() {
    let mut lockstep = Lockstep::new(builder(), 2);
    let unread: Vec<Guest> = (0..40).map(|n| unread(&mut lockstep, &format!("room:{n}"))).collect();
    let mut reader = guest(&mut lockstep, "room:read", json!({}));
    let rounds = 10;
    for round in 0..rounds {
        for n in 0..unread.len() {
            publish(&mut lockstep, &format!("room:{n}"), round);
            // If it is the other shard's turn to give something up.
            lockstep.turn();
            assert!(held(&lockstep) <= BOUND as u64);
        }
        publish(&mut lockstep, "room:read", round);
        assert_eq!(numbers(&mut reader), [round as u64]);
    }
    let endpoint = lockstep.endpoint().clone();
    // Eight megabytes were published to those that take nothing.
    assert!(closed(&endpoint) > 0);
    assert_eq!(counter(&endpoint, "limits", "outboxes_bytes_max_closed"), closed(&endpoint));
    let fact = endpoint.facts().into_iter().find(|fact| fact.reason == "outboxes_full").unwrap();
    assert!(fact.detail.contains("2000000 are allowed: raise outboxes_bytes_max"), "{}", fact.detail);
    let mut codes = 0;
    for mut guest in unread {
        lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
        lockstep.settle();
        codes += guest.frames().iter().filter(|frame| **frame == json!(1013)).count();
    }
    assert_eq!(codes as u64, closed(&endpoint));
    assert_eq!(endpoint.overview().waiting_memory, 0, "nothing waits any more");
}

#[test]
fn who_has_begun_a_large_frame_goes_without_its_end() {
    let mut lockstep = Lockstep::new(builder(), 2);
    let guests: Vec<Guest> = (0..40)
        .map(|n| {
            let guest = guest(&mut lockstep, &format!("room:{n}"), json!({}));
            guest.pipe.limit(100);
            guest
        })
        .collect();
    for n in 0..guests.len() {
        publish_large(&mut lockstep, &format!("room:{n}"), 0, 60_000);
        lockstep.turn();
    }
    let overview = lockstep.endpoint().overview();
    assert!(closed(lockstep.endpoint()) > 0);
    assert_eq!(overview.sockets as u64, 40 - closed(lockstep.endpoint()), "none stays until its write deadline");
}

#[test]
fn what_many_wait_for_counts_once() {
    let mut lockstep = Lockstep::new(builder(), 2);
    let unread: Vec<Guest> = (0..100).map(|_| unread(&mut lockstep, "room:1")).collect();
    for n in 0..20 {
        publish(&mut lockstep, "room:1", n);
    }
    let overview = lockstep.endpoint().overview();
    assert!(overview.waiting_bytes > 20 * BOUND as u64, "{}", overview.waiting_bytes);
    assert_eq!(closed(lockstep.endpoint()), 0, "what is there is no more than a quarter of the bound");
    drop(unread);
}

#[test]
fn messages_give_way_where_their_topic_lets_them() {
    let mut lockstep = Lockstep::new(builder(), 1);
    let mut unread: Vec<Guest> = (0..20).map(|n| unread(&mut lockstep, &format!("drop:{n}"))).collect();
    for n in 0..20 * unread.len() {
        publish(&mut lockstep, &format!("drop:{}", n % unread.len()), n);
        assert!(held(&lockstep) <= BOUND as u64);
    }
    assert_eq!(closed(lockstep.endpoint()), 0);
    assert!(counter(lockstep.endpoint(), "drops", "drop_oldest") > 0);
    // They go on with the newest.
    let guest = &mut unread[7];
    lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
    publish(&mut lockstep, "drop:7", 1_000);
    assert_eq!(numbers(guest).last(), Some(&1_000));
}

#[test]
fn those_that_have_missed_something_wait_for_room_and_get_all() {
    let mut lockstep = Lockstep::new(builder(), 1);
    let (topics, messages) = (20, 20);
    for topic in 0..topics {
        (0..messages).for_each(|n| publish(&mut lockstep, &format!("kept:{topic}"), n));
    }
    let mut guests: Vec<Guest> = (0..topics)
        .map(|topic| {
            let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).unwrap();
            let guest = Guest::at(&mut lockstep, request, Pipe::keeping()).unwrap();
            guest.pipe.limit(0);
            guest.push(&mut lockstep, &format!("kept:{topic}"), "phx_join", json!({ "resume": "0:0" }));
            lockstep.settle();
            assert!(held(&lockstep) <= BOUND as u64);
            guest
        })
        .collect();
    for guest in &mut guests {
        lockstep.make_room(guest.peer, &guest.pipe, usize::MAX);
        lockstep.settle();
        assert!(held(&lockstep) <= BOUND as u64);
    }
    assert_eq!(closed(lockstep.endpoint()), 0);
    let all: Vec<u64> = (0..messages as u64).collect();
    assert_eq!(guests.iter_mut().map(numbers).collect::<Vec<_>>(), vec![all; topics]);
}

/// One that wants all of a history. The kernel takes little of it for those that do not read.
async fn resuming(address: SocketAddr, topic: &str) -> Client {
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let stream = socket.connect(address).await.unwrap();
    let Ok(mut client) = Client::over(stream, "/socket/websocket?vsn=2.0.0", &[]).await else { panic!("no upgrade") };
    client.push("1", topic, "phx_join", json!({ "resume": "0:0" })).await;
    client
}

/// Two hundred that read nothing hold all the room that there is. Some of them give it up, for others to have it, and come back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn those_that_read_nothing_keep_nobody_from_what_he_has_missed() {
    const MESSAGES: u64 = 100;
    let served = serve(builder_of(stage().write_timeout(Duration::from_secs(600))).shards(2)).await;
    for n in 0..MESSAGES {
        let payload = json!({ "n": n, "body": "x".repeat(BODY) });
        served.endpoint.broadcast("kept:1", "n", payload).await.unwrap();
    }
    let unread: Vec<_> = (0..200)
        .map(|n| {
            let (address, endpoint) = (served.address, served.endpoint.clone());
            tokio::spawn(async move {
                loop {
                    let _client = resuming(address, "kept:1").await;
                    assert!(endpoint.overview().waiting_memory <= 2 * BOUND as u64);
                    let stays = if n % 4 == 0 { Duration::from_millis(500 + n) } else { 5 * PATIENCE };
                    sleep(stays).await;
                }
            })
        })
        .collect();
    eventually("all have come", async || served.endpoint.overview().sockets >= 150).await;
    sleep(Duration::from_secs(1)).await;
    for _ in 0..2 {
        let mut reader = served.client().await;
        reader.push("1", "kept:1", "phx_join", json!({ "resume": "0:0" })).await;
        let all = async {
            assert_eq!(reader.frame().await[4]["status"], "ok");
            for n in 0..MESSAGES {
                assert_eq!(reader.frame().await[4]["n"], n);
            }
        };
        timeout(PATIENCE, all).await.expect("a reader gets all that it has missed");
    }
    unread.iter().for_each(|task| task.abort());
}

#[tokio::test]
async fn sessions_that_nobody_polls_are_among_them() {
    let served = serve(builder().shards(1)).await;
    let mut targets = Vec::new();
    for n in 0..20 {
        let target = "/socket/longpoll?vsn=2.0.0";
        let begun = request(served.address, "GET", target, &[], b"").await.json();
        let target = format!("{target}&token={}", begun["token"].as_str().unwrap());
        let join = json!(["1", "1", format!("room:{n}"), "phx_join", {}]).to_string();
        request(served.address, "POST", &target, &[], join.as_bytes()).await;
        targets.push(target);
    }
    for n in 0..400 {
        let payload = json!({ "body": "x".repeat(BODY) });
        served.endpoint.broadcast(&format!("room:{}", n % 20), "n", payload).await.unwrap();
    }
    eventually("some are closed", async || closed(&served.endpoint) > 0).await;
    eventually("enough", async || served.endpoint.overview().waiting_memory <= BOUND as u64).await;
    let mut gone = 0;
    for target in &targets {
        let answer = request(served.address, "GET", target, &[], b"").await;
        gone += usize::from(answer.json()["status"] == 410);
    }
    assert_eq!(gone as u64, closed(&served.endpoint));
    assert_eq!(served.endpoint.overview().waiting_bytes, 0, "what was given to its client waits no more");
}

/// The kernel takes little of what they are answered, the HTTP library the rest. One after the other is cut; their messages wait meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_that_nobody_reads_are_among_them() {
    // Some megabytes of an answer may be the kernel's.
    const SESSIONS: usize = 3;
    const BOUND: usize = 24_000_000;
    let mount = stage().write_timeout(Duration::from_millis(300)).longpoll_window(5 * PATIENCE);
    let served = serve(builder_of(mount).outboxes_bytes_max(BOUND).shards(1)).await;
    let mut targets = Vec::new();
    for n in 0..=SESSIONS {
        let target = "/socket/longpoll?vsn=2.0.0";
        let begun = request(served.address, "GET", target, &[], b"").await.json();
        let target = format!("{target}&token={}", begun["token"].as_str().unwrap());
        let join = json!(["1", "1", format!("room:{n}"), "phx_join", {}]).to_string();
        request(served.address, "POST", &target, &[], join.as_bytes()).await;
        let size = if n < SESSIONS { 1_400_000 } else { 10 };
        for _ in 0..5 {
            let payload = json!({ "body": "x".repeat(size) });
            served.endpoint.broadcast(&format!("room:{n}"), "n", payload).await.unwrap();
        }
        targets.push(target);
    }
    let reader = targets.pop().unwrap();
    let mut unread = Vec::new();
    for target in &targets {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4_096).unwrap();
        let mut stream = socket.connect(served.address).await.unwrap();
        stream.write_all(head("GET", target, &[]).as_bytes()).await.unwrap();
        unread.push(stream);
    }
    sleep(Duration::from_millis(100)).await;
    let overview = served.endpoint.overview();
    assert!(overview.waiting_memory > overview.waiting_bytes, "answers count: {overview:?}");
    assert!(overview.waiting_bytes > BOUND as u64 / 4, "not all are given at once: {overview:?}");
    let answer = request(served.address, "GET", &reader, &[], b"").await.json();
    let messages = answer["messages"].as_array().unwrap().len();
    assert_eq!(messages, 6, "a reply and five messages: {}", answer["status"]);
    eventually("all are cut", async || served.endpoint.overview().waiting_memory == 0).await;
}
