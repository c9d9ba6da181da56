//! Row 13: a channel that panics, beside others that must not notice.
//!
//! The server is in this process, as its channel has to be written in Rust; sockets and threads are real. Some sockets join a topic
//! of the panicking channel over and over, each time to its end in another callback. On the same sockets a quiet topic is joined as
//! well, and other sockets are in both topics and do not panic. All count the numbered messages.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::panic;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use fanfare::serve::Server;
use fanfare::{BoxError, Channel, Context, Endpoint, Error, Flow, Joined, Mount, Payload, Refused, Relay, Reply};
use serde_json::{Value, json};

use crate::client::{Client, Dial};
use crate::figure::{Figure, count};
use crate::{Finding, Setting};

const PANICS: u64 = 10_000;
const PANICKING: u64 = 8;
const BYSTANDERS: u64 = 8;

const CALM: &str = "calm";
const FRAGILE: &str = "fragile";

/// What the messages that count are called.
const NUMBERED: &str = "numbered";

/// Between two numbers.
const PAUSE: Duration = Duration::from_millis(1);

/// The text of the panics that are wanted.
const WISHED: &str = "as wished";

/// Where a join panics, and the event that makes it.
const PLACES: &[(&str, &str)] = &[("join", ""), ("in", "any"), ("in later", "any"), ("out", "out"), ("info", "info")];

pub(super) fn check(_: &Setting) -> Result<Finding, String> {
    let panics = count_panics();
    let outcome = run();
    // Back to the hook that prints.
    drop(panic::take_hook());
    let outcome = outcome?;
    let panicked = panics.load(Ordering::Relaxed);
    let (sent, sockets) = (count(outcome.sent), PANICKING + BYSTANDERS);
    Ok(Finding {
        size: format!("{} panics among {sockets} sockets, {sent} messages to each", count(PANICS)),
        figures: vec![
            Figure::exactly("panics", panicked, PANICS),
            Figure::exactly("joins that ended for them", outcome.crashed, PANICS),
            Figure::exactly("messages lost, doubled or out of order", outcome.wrong, 0),
            Figure::exactly("sockets closed", outcome.closed, 0),
        ],
    })
}

/// Counts the panics that are wanted in place of printing them.
fn count_panics() -> Arc<AtomicU64> {
    let count = Arc::new(AtomicU64::new(0));
    let (counter, print) = (count.clone(), panic::take_hook());
    panic::set_hook(Box::new(move |info| match info.payload_as_str() {
        Some(WISHED) => _ = counter.fetch_add(1, Ordering::Relaxed),
        _ => print(info),
    }));
    count
}

struct Outcome {
    /// Messages to each topic.
    sent: u64,
    /// Those that did not come once and in order.
    wrong: u64,
    /// Joins that the server has ended with an error.
    crashed: u64,
    /// Sockets that were closed, for whatever reason.
    closed: u64,
}

fn run() -> Result<Outcome, String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.map_err(|e| format!("cannot start a runtime: {e}"))?;
    let (endpoint, address) = runtime.block_on(serve()).map_err(|e| format!("cannot serve: {e}"))?;
    // All are in their topics before the first number.
    let clients = (0..PANICKING + BYSTANDERS).map(|_| Numbered::join(address)).collect::<io::Result<Vec<_>>>();
    let clients = clients.map_err(|e| format!("cannot join: {e}"))?;
    let still_panicking = AtomicU64::new(PANICKING);
    thread::scope(|scope| {
        let work = |(number, mut client): (u64, Numbered)| {
            let still_panicking = &still_panicking;
            scope.spawn(move || {
                if number < PANICKING {
                    let done = client.panics(number);
                    still_panicking.fetch_sub(1, Ordering::Relaxed);
                    done?;
                }
                client.read_to_the_last()?;
                Ok::<_, io::Error>(client)
            })
        };
        let threads: Vec<_> = (0..).zip(clients).map(work).collect();
        let sent =
            runtime.block_on(publish(&endpoint, &still_panicking)).map_err(|e| format!("cannot publish: {e}"))?;
        let ended = threads.into_iter().map(|thread| thread.join().expect("clients do not panic"));
        let clients = ended.collect::<io::Result<Vec<_>>>().map_err(|e| format!("a socket has failed: {e}"))?;
        // While the clients are still there: their own leaving is no closing.
        let counters = endpoint.counters();
        let sum = |wanted: &dyn Fn(&str, &str) -> bool| {
            counters.iter().filter(|(name, reason, _)| wanted(name, reason)).map(|(_, _, value)| value).sum()
        };
        Ok(Outcome {
            sent,
            wrong: clients.iter().map(|client| client.wrong(sent)).sum(),
            crashed: sum(&|_, reason| reason == "crashed"),
            closed: sum(&|name, _| name == "closes"),
        })
    })
}

/// Serves both channels until the runtime ends.
async fn serve() -> Result<(Endpoint, SocketAddr), Error> {
    let mount = Mount::new().channel(CALM, Relay).channel(FRAGILE, Fragile);
    let endpoint = Endpoint::builder().shards(2).mount("/socket", mount).build().await?;
    let server = Server::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await?;
    let address = server.local_addr()?;
    let served = endpoint.clone();
    tokio::spawn(async move { server.serve(served.clone(), &served, pending()).await });
    Ok((endpoint, address))
}

/// Numbers to both topics while anybody panics, and then the last. Says how many there were.
async fn publish(endpoint: &Endpoint, still_panicking: &AtomicU64) -> Result<u64, Error> {
    let mut number = 0;
    loop {
        number += 1;
        let is_last = still_panicking.load(Ordering::Relaxed) == 0;
        for topic in [CALM, FRAGILE] {
            endpoint.broadcast(topic, NUMBERED, json!({ "n": number, "last": is_last })).await?;
        }
        if is_last {
            return Ok(number);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// A client that counts what comes on a topic that it never leaves.
struct Numbered {
    client: Client,
    calm: Sequence,
    fragile: Sequence,
    panics: bool,
}

#[derive(Default)]
struct Sequence {
    last: u64,
    came: u64,
    /// Those that were not one above the one before.
    wrong: u64,
    is_over: bool,
}

impl Numbered {
    fn join(address: SocketAddr) -> io::Result<Self> {
        let mut client = Client::phoenix(address, Dial::default())?;
        client.join(CALM)?;
        client.join(FRAGILE)?;
        Ok(Self { client, calm: Sequence::default(), fragile: Sequence::default(), panics: false })
    }

    /// Joins and makes it panic, over and over.
    fn panics(&mut self, number: u64) -> io::Result<()> {
        self.panics = true;
        let left = self.client.push(FRAGILE, "phx_leave", &json!({}))?;
        self.until(|message| message[1] == *left)?;
        for turn in 0..PANICS / PANICKING {
            let (place, event) = PLACES[((number + turn) % PLACES.len() as u64) as usize];
            let joined = self.client.push(FRAGILE, "phx_join", &json!({ "panic": place }))?;
            let reply = self.until(|message| message[1] == *joined)?;
            let expected = if place == "join" { "error" } else { "ok" };
            if reply[4]["status"] != expected {
                return Err(io::Error::other(format!("a join to panic in {place} was answered {reply}")));
            }
            if place != "join" {
                self.client.push(FRAGILE, event, &json!({}))?;
                self.until(|message| message[2] == FRAGILE && message[3] == "phx_error")?;
            }
        }
        Ok(())
    }

    fn read_to_the_last(&mut self) -> io::Result<()> {
        while !self.calm.is_over || !(self.panics || self.fragile.is_over) {
            self.message()?;
        }
        Ok(())
    }

    fn until(&mut self, is_it: impl Fn(&Value) -> bool) -> io::Result<Value> {
        loop {
            let message = self.message()?;
            if is_it(&message) {
                return Ok(message);
            }
        }
    }

    fn message(&mut self) -> io::Result<Value> {
        let message = self.client.message()?;
        if message[3] == NUMBERED {
            let sequence = if message[2] == CALM { &mut self.calm } else { &mut self.fragile };
            sequence.take(&message[4]);
        }
        Ok(message)
    }

    /// How many of so many messages did not come as they should. Of the topic where it panics, a client misses what it misses.
    fn wrong(&self, sent: u64) -> u64 {
        let wrong = |sequence: &Sequence| sequence.wrong + sent.abs_diff(sequence.came);
        wrong(&self.calm) + if self.panics { 0 } else { wrong(&self.fragile) }
    }
}

impl Sequence {
    fn take(&mut self, payload: &Value) {
        let number = payload["n"].as_u64().unwrap_or(0);
        self.wrong += u64::from(number != self.last + 1);
        self.came += 1;
        self.last = number;
        self.is_over |= payload["last"] == true;
    }
}

/// Panics where its join was told to: at once, or after having waited.
struct Fragile;

fn panic_if(wish: &str, place: &str) {
    if wish == place {
        panic!("{WISHED}");
    }
}

impl Channel for Fragile {
    type State = String;
    type Params = Value;
    type Info = ();

    const INTERCEPT: &'static [&'static str] = &["out"];

    async fn join(&self, _: &mut Context, params: Value) -> Result<Joined<String>, Refused> {
        let wish = params["panic"].as_str().unwrap_or_default().to_owned();
        panic_if(&wish, "join");
        Ok(Joined::new(wish))
    }

    async fn handle_in(&self, wish: &mut String, cx: &mut Context, event: &str, _: Payload) -> Result<Reply, BoxError> {
        panic_if(wish, "in");
        if wish == "in later" {
            tokio::time::sleep(Duration::from_millis(1)).await;
            panic_if(wish, "in later");
        }
        match event {
            "info" => cx.send(())?,
            // It panics in every join that wishes so; each of them has its turn, and one panic.
            "out" => cx.broadcast("out", json!({})).await?,
            _ => {}
        }
        Ok(Reply::none())
    }

    async fn handle_out(&self, wish: &mut String, _: &mut Context, _: &str, _: Payload) -> Result<Flow, BoxError> {
        panic_if(wish, "out");
        Ok(Flow::Continue)
    }

    async fn handle_info(&self, wish: &mut String, _: &mut Context, (): ()) -> Result<Flow, BoxError> {
        panic_if(wish, "info");
        Ok(Flow::Continue)
    }
}
