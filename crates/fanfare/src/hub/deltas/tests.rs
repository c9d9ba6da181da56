//! Differences against a model: whatever the interleaving of joins, leaves, exclusions, settlings, flushes and slow readers,
//! whoever applies what it gets to what it has got sees each message as it was published.

use std::collections::{BTreeMap, HashMap as Map};

use fanfare_proto::frame::Form;
use fanfare_proto::phoenix::message::Format;
use fanfare_proto::websocket::frame::HEADER_SIZE_MAX;
use serde_json::{Value, json};

use super::super::{Hub, Place};
use super::*;
use crate::figures::{Figures, Labels};
use crate::interest::{Interest, Tick};
use crate::message::Carriage;
use crate::policy::{Policies, Policy};

const FRAMES: Variant = Variant::new(Form::Phoenix(Format::V2), Carriage::WebSocket);
const TEXT: Variant = Variant::new(Form::Phoenix(Format::V2), Carriage::Text);

struct Dice(u64);

impl Dice {
    fn below(&mut self, n: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % n
    }
}

fn hub(key: Option<&str>, slow: Slow) -> Hub {
    let policy = Policy::new().slow(slow).delta(key);
    let policies = Arc::new(Policies::new(vec![("topic".to_owned(), policy)]).unwrap());
    let figures = Arc::new(Figures::new(Arc::new(Labels::new(std::iter::empty())), 0));
    Hub::new(0, Arc::new(Interest::new(1, None)), policies, figures)
}

fn message(event: &str, payload: Value) -> Arc<Message> {
    Message::new("topic".into(), event, payload.into()).unwrap()
}

/// A price of some length, of which two fields are those of this moment.
fn price(n: usize, symbol: &str) -> Value {
    json!({"n": n, "symbol": symbol, "bid": n * 7, "name": "x".repeat(200), "venue": {"id": 5, "open": n.is_multiple_of(9)}})
}

/// A client that applies differences, and may be slow: then what is queued for it may give way.
#[derive(Default)]
struct Client {
    kept: Map<(String, String), Value>,
    got: Vec<Value>,
    differences: usize,
    is_slow: bool,
    queue: Vec<(Arc<Message>, Variant)>,
}

impl Client {
    fn take(&mut self, key: Option<&str>, bytes: &[u8], is_text: bool) {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (begin, size) = match rest {
                _ if is_text => (0, rest.len()),
                [_, 126, high, low, ..] => (4, usize::from(u16::from_be_bytes([*high, *low]))),
                [_, size, ..] => (2, usize::from(*size)),
                _ => panic!("no frame"),
            };
            assert!(begin <= HEADER_SIZE_MAX);
            self.hear(key, &rest[begin..begin + size]);
            rest = &rest[begin + size..];
        }
    }

    fn hear(&mut self, key: Option<&str>, frame: &[u8]) {
        let frame: Value = serde_json::from_slice(frame).unwrap();
        let (mark, event, payload) = (&frame[1], frame[3].as_str().unwrap().to_owned(), frame[4].clone());
        let name = |payload: &Value| key.map_or(Some(""), |key| payload[key].as_str()).map(str::to_owned);
        let whole = match mark.as_str() {
            Some("~") => {
                self.differences += 1;
                let name = (event.clone(), payload["key"].as_str().unwrap_or_default().to_owned());
                apply(self.kept[&name].clone(), &payload["patch"])
            }
            _ => payload,
        };
        if let Some(name) = name(&whole) {
            self.kept.insert((event, name), whole.clone());
        }
        self.got.push(whole);
    }
}

fn apply(target: Value, patch: &Value) -> Value {
    let Value::Object(patch) = patch else { return patch.clone() };
    let mut target = match target {
        Value::Object(target) => target,
        _ => serde_json::Map::new(),
    };
    for (name, value) in patch {
        if value.is_null() {
            target.remove(name);
        } else {
            let old = target.remove(name).unwrap_or_default();
            target.insert(name.clone(), apply(old, value));
        }
    }
    target.into()
}

struct Game {
    hub: Hub,
    key: Option<&'static str>,
    dice: Dice,
    clients: BTreeMap<u32, (Place, Client)>,
    published: Vec<Value>,
    differences: usize,
}

impl Game {
    fn join(&mut self, socket: u32) {
        let variant = if self.dice.below(5) == 0 { TEXT } else { FRAMES };
        let place = self.hub.join(&"topic".into(), MemberId { socket, serial: 0 }, Reach::Shared(variant), None);
        if self.dice.below(4) > 0 {
            self.hub.wants_deltas(place);
        }
        self.clients.insert(socket, (place, Client::default()));
    }

    fn leave(&mut self, socket: u32) {
        let (place, mut client) = self.clients.remove(&socket).unwrap();
        self.hub.settle(place, |_, frames| client.take(self.key, frames.bytes, frames.variant.is_text()));
        if let Some((moved, _)) = self.hub.leave(place) {
            self.clients.get_mut(&moved.socket).unwrap().0 = place;
        }
        self.check(&client);
    }

    /// All that it got is as it was published, in order.
    fn check(&mut self, client: &Client) {
        let mut last = None;
        for got in &client.got {
            let n = got["n"].as_u64().unwrap() as usize;
            assert_eq!(*got, self.published[n]);
            assert!(last < Some(n), "{last:?} {n}");
            last = Some(n);
        }
        self.differences += client.differences;
    }

    fn publish(&mut self) {
        let n = self.published.len();
        let symbol = ["a", "b", "c"][self.dice.below(3) as usize];
        let payload = match self.dice.below(12) {
            0 => json!({"n": n, "symbol": symbol, "gone": null, "name": "x".repeat(100)}),
            1 => json!({"n": n, "symbol": 5, "name": "y".repeat(100)}),
            2 => json!({"n": n}),
            _ => price(n, symbol),
        };
        self.published.push(payload.clone());
        let except = (self.dice.below(4) == 0).then(|| self.some()).flatten();
        let place = except.map(|socket| self.clients[&socket].0);
        let mut settled = Vec::new();
        let event = if self.dice.below(6) == 0 { "other" } else { "price" };
        let message = message(event, payload);
        let settle = |member: MemberId, frames: Frames<'_>| {
            settled.push((member.socket, frames.messages.to_vec(), frames.variant));
        };
        self.hub.publish(&message, Tick::default(), place, settle, |_, _| unreachable!());
        for (socket, messages, variant) in settled {
            self.queue(socket, &messages, variant);
        }
    }

    /// What one member gets by itself, any of which may give way.
    fn queue(&mut self, socket: u32, messages: &[Arc<Message>], variant: Variant) {
        let client = &mut self.clients.get_mut(&socket).unwrap().1;
        for message in messages {
            match client.is_slow {
                true => client.queue.push((message.clone(), variant)),
                false => client.take(self.key, message.encoded(variant), variant.is_text()),
            }
        }
    }

    fn flush(&mut self) {
        let (clients, key) = (&mut self.clients, self.key);
        self.hub.flush(|member, frames| {
            let client = &mut clients.get_mut(&member.socket).unwrap().1;
            match (client.is_slow, frames.at_once) {
                (true, true) => return false,
                (true, false) => client.queue.extend(frames.messages.iter().map(|one| (one.clone(), frames.variant))),
                (false, _) => client.take(key, frames.bytes, frames.variant.is_text()),
            }
            true
        });
    }

    /// A reader begins to be slow, or has caught up with what has not given way.
    fn turn(&mut self, socket: u32) {
        let key = self.key;
        let client = &mut self.clients.get_mut(&socket).unwrap().1;
        client.is_slow = !client.is_slow;
        for (message, variant) in std::mem::take(&mut client.queue) {
            if self.dice.below(3) > 0 {
                client.take(key, message.encoded(variant), variant.is_text());
            }
        }
    }

    fn some(&mut self) -> Option<u32> {
        let nth = self.dice.below(self.clients.len().max(1) as u64) as usize;
        self.clients.keys().nth(nth).copied()
    }
}

#[test]
fn whoever_applies_differences_sees_what_was_published() {
    let mut differences = 0;
    for seed in 0..100 {
        let key = (seed % 2 == 0).then_some("symbol");
        let gives_way = seed % 4 < 2;
        let slow = if gives_way { Slow::DropOldest } else { Slow::Disconnect };
        let (dice, clients) = (Dice(seed * 7 + 1), BTreeMap::new());
        let mut game = Game { hub: hub(key, slow), key, dice, clients, published: Vec::new(), differences: 0 };
        let mut next = 0;
        for _ in 0..150 {
            match (game.dice.below(20), game.some()) {
                (0 | 1, _) | (_, None) => {
                    game.join(next);
                    next += 1;
                }
                (2, Some(socket)) => game.leave(socket),
                (3, Some(socket)) if gives_way => game.turn(socket),
                (4, Some(socket)) => {
                    let (place, mut settled) = (game.clients[&socket].0, Vec::new());
                    game.hub.settle(place, |_, frames| settled.push((frames.messages.to_vec(), frames.variant)));
                    settled.iter().for_each(|(messages, variant)| game.queue(socket, messages, *variant));
                }
                (5..11, _) => game.flush(),
                _ => game.publish(),
            }
        }
        while let Some(socket) = game.some() {
            game.flush();
            game.leave(socket);
        }
        differences += game.differences;
    }
    assert!(differences > 1_000, "{differences}");
}

#[test]
fn a_topic_keeps_so_many_messages_and_no_more() {
    let mut hub = hub(Some("symbol"), Slow::Disconnect);
    let place = hub.join(&"topic".into(), MemberId { socket: 0, serial: 0 }, Reach::Shared(FRAMES), None);
    hub.wants_deltas(place);
    let mut sizes = Vec::new();
    let mut publish = |payload| {
        hub.publish(&message("price", payload), Tick::default(), None, |_, _| (), |_, _| unreachable!());
        hub.flush(|_, frames| {
            sizes.push(frames.bytes.len());
            true
        });
    };
    for n in 0..=KEYS_MAX {
        publish(price(n, &format!("s{n}")));
    }
    publish(price(1, "s0"));
    publish(price(2, "s0"));
    // Of large ones fewer.
    let large = |symbol: &str, n: usize| json!({"symbol": symbol, "n": n, "text": "x".repeat(SIZE_MAX - 100)});
    for n in 0..BYTES_MAX / SIZE_MAX + 2 {
        publish(large(&format!("l{n}"), n));
    }
    publish(large("l0", 1));
    publish(large("l0", 2));
    let [.., whole_large, small_large] = sizes[..] else { panic!("sizes") };
    assert!(whole_large > SIZE_MAX / 2 && small_large < 200, "{whole_large} {small_large}");
    assert!(sizes[KEYS_MAX + 1] > 200 && sizes[KEYS_MAX + 2] < 150, "{:?}", &sizes[KEYS_MAX + 1..KEYS_MAX + 3]);
}
