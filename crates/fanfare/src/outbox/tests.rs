//! The outbox against a model of its readers: whatever is queued, cut and written, and whatever gives way.

use std::collections::BTreeMap;

use fanfare_proto::frame::Form;
use fanfare_proto::message::Ref;
use fanfare_proto::phoenix::message::Format;
use fanfare_proto::position::Epoch;
use fanfare_proto::websocket::frame::{Opcode, encode};
use serde_json::Value;

use super::*;
use crate::message::Carriage;

fn frame(payload: &[u8]) -> Bytes {
    let mut out = Vec::new();
    encode(Opcode::Text, payload, false, &mut out);
    out.into()
}

/// Frames of the given payload sizes, one after the other.
fn frames(sizes: &[usize]) -> Bytes {
    sizes.iter().flat_map(|&size| frame(&vec![7; size])).collect::<Vec<u8>>().into()
}

/// Chunks, as streams have them.
fn chunks(sizes: &[usize]) -> Bytes {
    let mut out = Vec::new();
    sizes.iter().for_each(|&size| chunked::encode(&vec![7; size], &mut out));
    out.into()
}

/// Lets `room` bytes leave, then cuts: what stays must complete exactly the frame that was begun, or the chunk.
#[test]
fn cut_keeps_the_begun_frame_only() {
    for whole in [frames(&[3, 200, 70_000, 0, 5]), chunks(&[3, 200, 70_000, 1, 5])] {
        cut_anywhere(&whole);
    }
}

fn cut_anywhere(whole: &Bytes) {
    for room in 0..whole.len() {
        if room > 300 && room < 70_200 && room % 997 != 0 {
            continue;
        }
        let mut outbox = Outbox::default();
        outbox.push(whole.clone(), 5);
        outbox.push(frames(&[1]), 1);
        let mut left = room;
        let done = outbox
            .write_to(&mut |slices| {
                let n = left.min(slices[0].len()).min(100);
                left -= n;
                if n == 0 { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(n) }
            })
            .unwrap();
        assert!(!done);
        outbox.cut();
        let mut boundary = 0;
        while boundary < room {
            boundary += frame_size(&whole[boundary..]);
        }
        let frames = usize::from(boundary > room);
        assert_eq!(outbox.waiting(), (boundary - room, frames), "after {room} bytes");
    }
}

#[test]
fn rest_is_a_boundary_or_a_begun_frame() {
    let two = frames(&[3, 4]);
    for (written, kept) in [(0, 0), (1, 4), (4, 1), (5, 0), (6, 5)] {
        let mut outbox = Outbox::default();
        outbox.push_rest(two.clone(), 2, written);
        outbox.cut();
        assert_eq!(outbox.waiting().0, kept, "{written} written");
    }
}

#[test]
fn bounds_hold_but_never_for_the_first() {
    let bounds = Bounds { bytes_max: 10, frames_max: 2 };
    let mut outbox = Outbox::default();
    assert!(outbox.has_room(100, 1, bounds));
    outbox.push(frames(&[3]), 1);
    assert!(outbox.make_room(5, 1, bounds));
    assert!(!outbox.make_room(6, 1, bounds), "bytes");
    assert!(!outbox.make_room(4, 2, bounds), "frames");
    assert_eq!(outbox.waiting(), (5, 1));
}

/// Values that come faster than they can leave, of a reader that is not slow: what a newer one replaces is not told.
#[test]
fn what_a_newer_value_replaces_is_no_gap() {
    let bounds = Bounds { bytes_max: 1_000, frames_max: 2 };
    for (keys, left) in [
        ("aaaa", vec!["a1", "a4"]),
        ("aab", vec!["a2", "b3"]),
        ("abab", vec!["a3", "b4"]),
        ("abc", vec!["gap of 1", "b2", "c3"]),
        ("aabc", vec!["gap of 1", "b3", "c4"]),
    ] {
        let mut outbox = Outbox::default();
        for (at, key) in (1..).zip(keys.bytes()) {
            let position = Some(Position { epoch: Epoch::new(1).unwrap(), offset: at });
            let text = format!("{}{at}", char::from(key));
            let voice = || {
                let (topic, form, carriage) = ("t".into(), Form::Phoenix(Format::V2), Carriage::Text);
                Some(Box::new(Voice { topic, join_ref: Ref::NULL, form, carriage, resumes: false }))
            };
            let message = Yielding {
                lane: 1,
                rule: Rule::Latest,
                key: key.into(),
                stamp: position.map(Stamp::in_row),
                is_held_up: false,
            };
            outbox.offer(message, |_| text.clone().into(), bounds, voice);
        }
        let said = |bytes: &Bytes| match serde_json::from_slice::<Value>(bytes) {
            Ok(gap) => format!("gap of {}", gap[4]["dropped"]),
            Err(_) => String::from_utf8(bytes.to_vec()).unwrap(),
        };
        assert_eq!(outbox.messages().iter().map(said).collect::<Vec<_>>(), left, "{keys}");
    }
}

/// A generator that a seed makes repeatable.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

/// What the lanes are, and whether they are told.
const LANES: [(Rule, bool); 6] = [
    (Rule::DropOldest, true),
    (Rule::Latest, true),
    (Rule::Resync, true),
    (Rule::DropOldest, false),
    (Rule::Latest, false),
    (Rule::Resync, false),
];

/// How often an outbox changes in one game.
const STEPS: usize = 200;

/// A reader of every lane, which takes as little as it likes, and what it knows.
#[derive(Default)]
struct Game {
    outbox: Outbox,
    bytes: Vec<u8>,
    /// The keys of what each lane was offered, by position, the first of which is 1.
    offered: [Vec<u64>; LANES.len()],
    /// The numbers of the required frames that were taken.
    required: Vec<usize>,
    number: usize,
    losses: Losses,
}

impl Game {
    fn step(&mut self, dice: &mut Dice, bounds: Bounds) {
        let size = [0, 0, 5, 30, 90][dice.below(5)];
        let number = self.number;
        match dice.below(8) {
            0 => {
                let before = self.outbox.waiting();
                let text = format!(r#"{{"required":{number},"pad":"{:size$}"}}"#, "");
                let frame = frame(text.as_bytes());
                if self.outbox.make_room(frame.len(), 1, bounds) {
                    self.outbox.push(frame, 1);
                    self.required.push(number);
                } else {
                    assert_eq!(self.outbox.waiting(), before, "what is of no use is not lost");
                }
            }
            1 | 2 => self.write([1, 7, 40, 200, 1000][dice.below(5)], [1, 10, 10_000][dice.below(3)]),
            _ => {
                let lane = dice.below(LANES.len());
                let (rule, is_told) = LANES[lane];
                let key = dice.below(4) as u64;
                self.offered[lane].push(key);
                let position = Position { epoch: Epoch::new(1).unwrap(), offset: self.offered[lane].len() as u64 };
                let encode = |said: Option<Position>| {
                    let (at, said) = (position.offset, said.unwrap().offset);
                    let text =
                        format!(r#"{{"number":{number},"lane":{lane},"at":{at},"said":{said},"pad":"{:size$}"}}"#, "");
                    frame(text.as_bytes())
                };
                let voice = || {
                    is_told.then(|| {
                        let topic = lane.to_string().into();
                        let form = Form::Phoenix(Format::V2);
                        let carriage = Carriage::WebSocket;
                        Box::new(Voice { topic, join_ref: Ref::NULL, form, carriage, resumes: false })
                    })
                };
                let is_held_up = dice.below(10) > 0;
                let message =
                    Yielding { lane: lane as u32, rule, key, stamp: Some(Stamp::in_row(position)), is_held_up };
                self.outbox.offer(message, encode, bounds, voice);
            }
        }
        self.number += 1;
        let losses = self.outbox.take_losses();
        (0..3).for_each(|rule| self.losses.0[rule] += losses.0[rule]);
        self.check_bounds(bounds);
    }

    /// Lets so many bytes leave, in writes of at most so many.
    fn write(&mut self, mut room: usize, at_once: usize) {
        let bytes = &mut self.bytes;
        let written = self.outbox.write_to(&mut |slices| {
            let before = bytes.len();
            for slice in slices {
                let left = room.min(at_once - (bytes.len() - before));
                let part = &slice[..slice.len().min(left)];
                bytes.extend_from_slice(part);
                room -= part.len();
            }
            if bytes.len() == before { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(bytes.len() - before) }
        });
        written.unwrap();
    }

    fn check_bounds(&self, bounds: Bounds) {
        let first = self.outbox.queue.first().map(|index| self.outbox.queue.get(index));
        // What has begun to leave is a gap, perhaps, and those come on top.
        let begun = first.filter(|entry| entry.begun > 0).map(|entry| entry.amount()).unwrap_or_default();
        let mut waiting = self.outbox.waiting;
        waiting -= begun;
        let fits = waiting.bytes <= bounds.bytes_max && waiting.frames <= bounds.frames_max;
        assert!(fits || waiting.frames == 1, "{waiting:?}");
    }

    /// Takes what is left, and compares what the reader got with what it was offered.
    fn check(mut self) {
        self.write(usize::MAX, usize::MAX);
        assert!(self.outbox.queue.first().is_none() && self.outbox.lanes.is_empty() && self.outbox.newest.is_empty());
        assert_eq!((self.outbox.waiting, self.outbox.yielding), Default::default());
        let mut required = Vec::new();
        let mut last_number = None;
        let mut seen: [Seen; LANES.len()] = Default::default();
        let mut rest = &self.bytes[..];
        while !rest.is_empty() {
            let size = frame_size(rest);
            let (whole, behind) = rest.split_at(size);
            rest = behind;
            let header = if size < 128 { 2 } else { 4 };
            let frame: Value = serde_json::from_slice(&whole[header..]).expect("a whole frame");
            let number = |name: &str| frame[name].as_u64().map(|n| n as usize);
            if let Some(gap) = frame.get(4) {
                let lane: usize = frame[2].as_str().unwrap().parse().unwrap();
                let offset = |name: &str| gap[name].as_str().unwrap().strip_prefix("1:").unwrap().parse().unwrap();
                let dropped = gap["dropped"].as_u64().unwrap() as usize;
                seen[lane].gap(LANES[lane].0, dropped, offset("from"), offset("to"));
                continue;
            }
            let sent = match (number("required"), number("lane")) {
                (Some(sent), _) => {
                    required.push(sent);
                    sent
                }
                (None, Some(lane)) => {
                    let (at, said) = (number("at").unwrap(), number("said").unwrap());
                    seen[lane].message(LANES[lane], at, said, &self.offered[lane]);
                    if LANES[lane].0 == Rule::Latest {
                        continue;
                    }
                    number("number").unwrap()
                }
                other => panic!("{other:?}"),
            };
            assert!(last_number.is_none_or(|last| last < sent), "{sent} comes behind {last_number:?}");
            last_number = Some(sent);
        }
        assert_eq!(required, self.required);
        let mut losses = Losses::default();
        for ((seen, offered), (rule, is_told)) in seen.into_iter().zip(&self.offered).zip(LANES) {
            (seen.delivered.len()..offered.len()).for_each(|_| losses.add(rule));
            if is_told && rule != Rule::Latest {
                assert_eq!(seen.known, offered.len(), "{rule:?}: all was delivered, or told");
            }
            for key in 0..4 {
                let newest = offered.iter().rposition(|&of| of == key).map(|at| at + 1);
                if let Some(newest) = newest.filter(|_| is_told && rule == Rule::Latest) {
                    assert!(seen.delivered.contains_key(&newest) || seen.is_in_gap(newest), "the newest of a key");
                }
            }
        }
        assert_eq!(self.losses, losses);
    }
}

/// What came of one lane.
#[derive(Default)]
struct Seen {
    /// By position.
    delivered: BTreeMap<usize, ()>,
    gaps: Vec<(usize, usize)>,
    /// Everything up to here was delivered or was said to be lost.
    known: usize,
    said: usize,
}

impl Seen {
    fn message(&mut self, (rule, is_told): (Rule, bool), at: usize, said: usize, offered: &[u64]) {
        assert!(self.delivered.insert(at, ()).is_none(), "twice");
        if rule != Rule::Latest {
            assert_eq!(at, said);
            assert!(at > self.known);
            assert!(!is_told || at == self.known + 1, "{rule:?}: {at} behind {}", self.known);
            self.known = at;
            return;
        }
        assert!(said <= at && said > self.said, "positions grow");
        self.said = said;
        let key_of = |at: usize| offered[at - 1];
        let newer = self.delivered.keys().filter(|&&other| key_of(other) == key_of(at)).all(|&other| other <= at);
        assert!(newer, "order within a key");
        for lost in (1..=said).filter(|at| is_told && !self.delivered.contains_key(at) && !self.is_in_gap(*at)) {
            let key = key_of(lost);
            let newer = (lost + 1..=offered.len()).filter(|&other| key_of(other) == key);
            let is_told = |other: usize| self.delivered.contains_key(&other) || self.is_in_gap(other);
            let is_known = newer.into_iter().any(|other| other > said || is_told(other));
            assert!(is_known, "who comes back from {said} does not get {lost}");
        }
    }

    fn gap(&mut self, rule: Rule, dropped: usize, from: usize, to: usize) {
        self.gaps.push((from, to));
        assert!(to > from && dropped <= to - from);
        if rule != Rule::Latest {
            assert_eq!((from, to), (self.known, self.known + dropped), "{rule:?}: it stands in its place");
            self.known = to;
        }
    }

    fn is_in_gap(&self, at: usize) -> bool {
        self.gaps.iter().any(|&(from, to)| from < at && at <= to)
    }
}

/// Whatever is queued, gives way and leaves, and however it is cut: the stream is whole frames, none is lost that must not
/// be, order and bounds hold, and of the rest the reader knows exactly what it has not got.
#[test]
fn what_gives_way_is_told_and_all_else_leaves() {
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let bounds =
            Bounds { bytes_max: [100, 400, 2_000][dice.below(3)], frames_max: [1, 4, 20, 1_000][dice.below(4)] };
        let mut game = Game::default();
        let played = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            (0..STEPS).for_each(|_| game.step(&mut dice, bounds));
            game.check();
        }));
        assert!(played.is_ok(), "seed {seed}");
    }
}
