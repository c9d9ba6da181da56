//! One stalled, flooding or vanished party never delays another: a table of offenders, each beside every kind of victim, on one
//! shard, where a single thread serves them all.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use fanfare::testing::Faults;
use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Policy, Rejected, Retention, Slow};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::client::Client;
use crate::support::http::{head, request};
use crate::support::stage::Stage;
use crate::support::{PATIENCE, Served, serve};

/// No victim waits longer, on a machine with other work to do.
const WAIT_MAX: Duration = Duration::from_secs(2);

/// How long the victims are looked at, and the pause between two looks.
const TIME: Duration = Duration::from_millis(1_500);
const PAUSE: Duration = Duration::from_millis(10);

/// Where the offenders are. Nothing that a victim waits for has to do with it.
const OFFENCE: &str = "room:offence";

macro_rules! nobody_waits_for {
    ($($(#[$doc:meta])* $name:ident = $offender:ident;)*) => {$(
        $(#[$doc])*
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let scene = Scene::open().await;
            let mut offence = Offence::default();
            $offender(&scene, &mut offence).await;
            scene.check().await;
            assert!(offence.tasks.try_join_next().is_none(), "the offender has given up, and nothing was tried");
        }
    )*};
}

nobody_waits_for! {
    a_reader_that_has_stalled = stalled_reader;
    a_stream_that_has_stalled = stalled_stream;
    a_poller_that_has_vanished = vanished_poller;
    a_member_that_floods = flooding_member;
    a_publisher_that_floods = flooding_publisher;
    a_channel_that_takes_its_time = busy_channel;
    a_database_that_hangs = hanging_database;
    a_client_that_drips = dripping_client;
    a_disk_that_does_not_read = unread_disk;
    a_disk_that_does_not_write = unwritten_disk;
    a_disk_that_is_full = full_disk;
}

/// What goes on until the test ends.
#[derive(Default)]
struct Offence {
    clients: Vec<Client>,
    streams: Vec<TcpStream>,
    tasks: JoinSet<()>,
}

async fn stalled_reader(scene: &Scene, offence: &mut Offence) {
    let mut stalled = scene.served.client().await;
    stalled.join(OFFENCE).await;
    offence.clients.push(stalled);
    offence.publish_much(scene).await;
}

async fn stalled_stream(scene: &Scene, offence: &mut Offence) {
    offence.streams.push(scene.stream(OFFENCE).await);
    offence.publish_much(scene).await;
}

async fn vanished_poller(scene: &Scene, offence: &mut Offence) {
    // It has a poll that waits, and then never takes an answer again.
    let mut poller = Poller::begin(scene.served.address).await;
    poller.join(OFFENCE).await;
    offence.publish_much(scene).await;
}

/// Pushes what the connection takes, and reads none of the replies.
async fn flooding_member(scene: &Scene, offence: &mut Offence) {
    let mut member = scene.served.client().await;
    member.join(OFFENCE).await;
    let mut pushes = Vec::new();
    for _ in 0..500 {
        let push = json!([OFFENCE, null, OFFENCE, "shout", { "body": "x".repeat(60) }]).to_string();
        encode_masked(Opcode::Text, push.as_bytes(), [1, 2, 3, 4], true, false, &mut pushes);
    }
    let mut silent = scene.served.client().await;
    silent.join(OFFENCE).await;
    offence.clients.push(silent);
    offence.tasks.spawn(async move {
        loop {
            member.send_bytes(&pushes).await;
            tokio::task::yield_now().await;
        }
    });
}

/// Publishes without a pause, for members that do not read.
async fn flooding_publisher(scene: &Scene, offence: &mut Offence) {
    for _ in 0..20 {
        let mut silent = scene.served.client().await;
        silent.join(OFFENCE).await;
        offence.clients.push(silent);
    }
    for _ in 0..2 {
        let endpoint = scene.served.endpoint.clone();
        offence.tasks.spawn(async move {
            let payload = json!({ "body": "x".repeat(100) });
            loop {
                // Refused or not, it goes on.
                let _ = endpoint.broadcast(OFFENCE, "flood", payload.clone()).await;
                tokio::task::yield_now().await;
            }
        });
    }
}

async fn busy_channel(scene: &Scene, offence: &mut Offence) {
    let mut member = scene.served.client().await;
    member.join(OFFENCE).await;
    member.push(OFFENCE, OFFENCE, "wait_ms", json!({ "ms": 60_000 })).await;
    for _ in 0..100 {
        member.push(OFFENCE, OFFENCE, "echo", json!({})).await;
    }
    offence.clients.push(member);
}

/// Clients wait to be let in by what never answers.
async fn hanging_database(scene: &Scene, offence: &mut Offence) {
    for _ in 0..50 {
        let mut stream = TcpStream::connect(scene.served.address).await.unwrap();
        let target = "/socket/longpoll?vsn=2.0.0&hang=true";
        stream.write_all(head("GET", target, &[]).as_bytes()).await.unwrap();
        offence.streams.push(stream);
    }
}

/// Members wait for what the disk has kept.
async fn unread_disk(scene: &Scene, offence: &mut Offence) {
    scene.served.endpoint.broadcast("kept:1", "m", json!({})).await.unwrap();
    scene.faults.delay_reads(true);
    for _ in 0..50 {
        let mut member = scene.served.client().await;
        member.send_json(&json!(["1", "1", "kept:1", "phx_join", { "resume": "0:0" }])).await;
        offence.clients.push(member);
    }
}

/// Publishers do not hear whether their messages were kept, and go on as long as they are let.
async fn unwritten_disk(scene: &Scene, offence: &mut Offence) {
    scene.faults.delay_appends(true);
    let mut member = scene.served.client().await;
    member.join("kept:1").await;
    for _ in 0..1_000 {
        member.push("kept:1", "kept:1", "shout", json!({ "body": "x".repeat(1_000) })).await;
    }
    offence.clients.push(member);
    let endpoint = scene.served.endpoint.clone();
    offence.tasks.spawn(async move {
        let payload = json!({ "body": "x".repeat(1_000) });
        let mut waiting = JoinSet::new();
        loop {
            let (endpoint, payload) = (endpoint.clone(), payload.clone());
            waiting.spawn(async move { endpoint.broadcast("kept:1", "m", payload).await.map(drop) });
            tokio::time::sleep(Duration::from_micros(100)).await;
        }
    });
}

/// Requests whose heads and bodies come byte by byte.
async fn dripping_client(scene: &Scene, offence: &mut Offence) {
    for number in 0..50 {
        let mut stream = TcpStream::connect(scene.served.address).await.unwrap();
        let length = if number % 2 == 0 { "content-length: 1000\r\n\r\n" } else { "" };
        let beginning = format!("POST /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: localhost\r\n{length}");
        stream.write_all(beginning.as_bytes()).await.unwrap();
        offence.tasks.spawn(async move {
            // The server may end it.
            while stream.write_all(b"x").await.is_ok() {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            std::future::pending::<()>().await;
        });
    }
}

async fn full_disk(scene: &Scene, offence: &mut Offence) {
    scene.faults.fail_appends(true);
    let endpoint = scene.served.endpoint.clone();
    offence.tasks.spawn(async move {
        loop {
            endpoint.broadcast("kept:1", "m", json!({})).await.expect_err("the disk is full");
            tokio::task::yield_now().await;
        }
    });
}

impl Offence {
    /// More than any buffer holds, to the topic of the offence, and then no more than a server should notice.
    async fn publish_much(&mut self, scene: &Scene) {
        let endpoint = scene.served.endpoint.clone();
        let payload = json!({ "body": "x".repeat(20_000) });
        for _ in 0..50 {
            for _ in 0..15 {
                endpoint.broadcast(OFFENCE, "big", payload.clone()).await.unwrap();
            }
            // They have been handed out.
            endpoint.topics().await;
        }
        self.tasks.spawn(async move {
            loop {
                endpoint.broadcast(OFFENCE, "big", payload.clone()).await.unwrap();
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
    }
}

/// One server with all the ways to be connected.
struct Scene {
    served: Served,
    faults: Faults,
}

/// Lets everybody in, but those that say `hang`: never.
struct Door;

impl Connect for Door {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        if request.params.get("hang").is_some() {
            std::future::pending::<()>().await;
        }
        Ok(Connected::new())
    }
}

impl Scene {
    async fn open() -> Self {
        let faults = Faults::new(1);
        let channels = |mount: Mount| mount.channel("room:*", Stage::default()).channel("kept:*", Stage::default());
        let socket = channels(Mount::new().connect(Door)).outbox_bytes_max(1_000_000).outbox_frames_max(1_000);
        let builder = Endpoint::builder()
            .shards(1)
            .policy("kept:*", Policy::new().history(Retention::default()))
            .policy("room:*", Policy::new().slow(Slow::DropOldest))
            .mount("/socket", socket)
            .mount("/events", channels(Mount::stream()))
            .faulty_history(&faults);
        Scene { served: serve(builder).await, faults }
    }

    /// A reader of a stream of events, which has read its beginning.
    async fn stream(&self, topic: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.served.address).await.unwrap();
        let head = head("GET", &format!("/events/{topic}"), &[("accept", "text/event-stream")]);
        stream.write_all(head.as_bytes()).await.unwrap();
        read_until(&mut stream, "retry:").await;
        stream
    }

    /// Every victim goes on meanwhile; none waits for long.
    async fn check(&self) {
        let (member, reader, stream, poller, newcomer, operator) = tokio::join!(
            self.member(),
            self.reader(),
            self.reader_of_a_stream(),
            self.poller(),
            self.newcomer(),
            self.operator(),
        );
        let waits = [
            ("a member for its reply", member),
            ("a reader for a message", reader),
            ("a stream for a message", stream),
            ("a poller for a message", poller),
            ("a newcomer for its join", newcomer),
            ("who operates it for an answer", operator),
        ];
        let late: Vec<_> = waits.iter().filter(|(_, wait)| *wait > WAIT_MAX).collect();
        assert!(late.is_empty(), "of at most {WAIT_MAX:?} waited: {late:?}");
    }

    async fn member(&self) -> Duration {
        let mut member = self.served.client().await;
        member.join("room:member").await;
        longest(async |n| drop(member.call("room:member", "echo", json!({ "n": n }), "ok").await)).await
    }

    async fn reader(&self) -> Duration {
        let mut reader = self.served.client().await;
        reader.join("room:reader").await;
        longest(async |n| {
            self.publish("room:reader", n).await;
            reader.assert_event("room:reader", "n", json!({ "n": n })).await;
        })
        .await
    }

    async fn reader_of_a_stream(&self) -> Duration {
        let mut stream = self.stream("room:stream").await;
        longest(async |n| {
            self.publish("room:stream", n).await;
            read_until(&mut stream, &format!("{{\"n\":{n}}}")).await;
        })
        .await
    }

    async fn poller(&self) -> Duration {
        let mut poller = Poller::begin(self.served.address).await;
        poller.join("room:poller").await;
        longest(async |n| {
            self.publish("room:poller", n).await;
            while !poller.poll().await.iter().any(|message| message.contains(&format!("{{\"n\":{n}}}"))) {}
        })
        .await
    }

    async fn newcomer(&self) -> Duration {
        longest(async |_| drop(self.served.client().await.join("room:newcomer").await)).await
    }

    async fn operator(&self) -> Duration {
        longest(async |_| drop(self.served.endpoint.topics().await)).await
    }

    async fn publish(&self, topic: &str, n: u64) {
        self.served.endpoint.broadcast(topic, "n", json!({ "n": n })).await.unwrap();
    }
}

/// Does something over and over: the longest that it took.
async fn longest(mut once: impl AsyncFnMut(u64)) -> Duration {
    let (begun, mut longest) = (Instant::now(), Duration::ZERO);
    for n in 0.. {
        let at = Instant::now();
        once(n).await;
        longest = longest.max(at.elapsed());
        if begun.elapsed() > TIME {
            break;
        }
        tokio::time::sleep(PAUSE).await;
    }
    longest
}

/// Reads up to some text, in whatever pieces it comes.
async fn read_until(stream: &mut TcpStream, text: &str) {
    let read = async {
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(text) {
            let count = stream.read_buf(&mut seen).await.unwrap();
            assert!(count > 0, "the stream has ended, before {text:?}");
        }
    };
    tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| panic!("not in time: {text:?}"));
}

/// A client of long-polling.
struct Poller {
    address: SocketAddr,
    token: String,
}

impl Poller {
    async fn begin(address: SocketAddr) -> Self {
        let begun = request(address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
        Poller { address, token: begun["token"].as_str().unwrap().to_owned() }
    }

    fn target(&self) -> String {
        format!("/socket/longpoll?vsn=2.0.0&token={}", self.token)
    }

    async fn join(&mut self, topic: &str) {
        let join = json!(["1", "1", topic, "phx_join", {}]).to_string();
        request(self.address, "POST", &self.target(), &[], join.as_bytes()).await;
        assert!(self.poll().await.iter().any(|message| message.contains("phx_reply")), "{topic}");
    }

    async fn poll(&mut self) -> Vec<String> {
        let answer = request(self.address, "GET", &self.target(), &[], b"").await.json();
        if let Some(token) = answer["token"].as_str() {
            self.token = token.to_owned();
        }
        let messages = answer["messages"].as_array().into_iter().flatten();
        messages.filter_map(Value::as_str).map(str::to_owned).collect()
    }
}
