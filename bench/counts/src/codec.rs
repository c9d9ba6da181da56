//! Cases of the protocol crate: bytes to messages, messages to bytes.

use std::hint::black_box;
use std::ops::ControlFlow;

use fanfare_proto::frame::Kind;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::{Format, Version};
use fanfare_proto::websocket::decoder::{Decoder, Limits, Role, Scratch};
use fanfare_proto::websocket::deflate::{Deflater, WINDOW_BITS_MAX};
use fanfare_proto::websocket::frame::{Opcode, encode, encode_masked};
use serde_json::json;

use crate::Work;

/// The same thing many times over.
struct Repeated<F>(F);

impl<F: FnMut()> Repeated<F> {
    const TIMES: usize = 256;

    fn new(act: F) -> Box<Self> {
        Box::new(Repeated(act))
    }
}

impl<F: FnMut()> Work for Repeated<F> {
    fn operations(&self) -> usize {
        Self::TIMES
    }

    fn run(&mut self) {
        (0..Self::TIMES).for_each(|_| (self.0)());
    }
}

const TOPIC: &str = "room:lobby";
const EVENT: &str = "new_msg";

fn payload(size: usize) -> serde_json::Value {
    json!({ "body": "x".repeat(size) })
}

pub(crate) fn decode_v1_push() -> Box<dyn Work> {
    decode_text(
        Version::V1,
        json!({ "topic": TOPIC, "event": EVENT, "payload": payload(64), "ref": "7", "join_ref": "1" }),
    )
}

pub(crate) fn decode_v2_push() -> Box<dyn Work> {
    decode_text(Version::V2, json!(["1", "7", TOPIC, EVENT, payload(64)]))
}

fn decode_text(version: Version, message: serde_json::Value) -> Box<dyn Work> {
    let text = message.to_string();
    Repeated::new(move || drop(black_box(codec::decode_text(version, black_box(&text)).expect("a push"))))
}

pub(crate) fn decode_v2_binary_push() -> Box<dyn Work> {
    let fields = ["1", "7", TOPIC, EVENT];
    let mut data = vec![0];
    data.extend(fields.map(|field| field.len() as u8));
    fields.iter().for_each(|field| data.extend_from_slice(field.as_bytes()));
    data.extend_from_slice(&[7; 64]);
    Repeated::new(move || drop(black_box(codec::decode_binary(Version::V2, black_box(&data)).expect("a push"))))
}

/// One read with one message of 64 bytes. Decoding unmasks in place, which is undone by doing it again.
pub(crate) fn decode_masked_frame() -> Box<dyn Work> {
    let mut frame = Vec::new();
    encode_masked(Opcode::Binary, &[b'x'; 64], [1, 2, 3, 4], true, false, &mut frame);
    let (mut decoder, mut scratch, limits) = (Decoder::new(Role::Server), Scratch::default(), Limits::default());
    let mut sink = |item: fanfare_proto::websocket::decoder::Item<'_>| {
        black_box(item);
        ControlFlow::Continue(())
    };
    Repeated::new(move || {
        decoder.decode(&mut frame, &limits, false, &mut scratch, &mut sink).expect("a good frame");
    })
}

pub(crate) fn encode_broadcast_text() -> Box<dyn Work> {
    broadcast(64, |_, _| {})
}

pub(crate) fn encode_broadcast_websocket() -> Box<dyn Work> {
    broadcast(64, |text, out| encode(Opcode::Text, text, false, out))
}

/// Eight times as much: less would go uncompressed.
pub(crate) fn encode_broadcast_deflated() -> Box<dyn Work> {
    let mut deflater = Deflater::default();
    let mut deflated = Vec::new();
    broadcast(512, move |text, out| {
        deflated.clear();
        deflater.compress_within(WINDOW_BITS_MAX, text, &mut deflated);
        encode(Opcode::Text, &deflated, true, out);
    })
}

fn broadcast(size: usize, mut carry: impl FnMut(&[u8], &mut Vec<u8>) + 'static) -> Box<dyn Work> {
    let payload = Payload::from(payload(size));
    let (mut text, mut out) = (Vec::new(), Vec::new());
    Repeated::new(move || {
        text.clear();
        out.clear();
        let kind = codec::broadcast(Format::V2, black_box(TOPIC), EVENT, &payload, &mut text);
        assert!(matches!(kind, Ok(Kind::Text)));
        carry(&text, &mut out);
        black_box((&text, &out));
    })
}
