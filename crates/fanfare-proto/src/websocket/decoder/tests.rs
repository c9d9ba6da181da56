//! Tables of bytes and what they mean, and the bounds.

use proptest::prelude::*;

use super::*;
use crate::websocket::deflate::Deflater;
use crate::websocket::frame::{encode, encode_close, encode_masked, header};

const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// An [`Item`] to keep.
#[derive(Clone, Debug, PartialEq)]
enum Got {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<u16>),
    Violation(u16),
}

impl From<Item<'_>> for Got {
    fn from(item: Item<'_>) -> Self {
        match item {
            Item::Text(text) => Got::Text(text.into()),
            Item::Binary(bytes) => Got::Binary(bytes.into()),
            Item::Ping(bytes) => Got::Ping(bytes.into()),
            Item::Pong(bytes) => Got::Pong(bytes.into()),
            Item::Close(code) => Got::Close(code),
        }
    }
}

fn text(text: &str) -> Got {
    Got::Text(text.into())
}

/// One connection and all that came out of it.
struct Peer {
    decoder: Decoder,
    limits: Limits,
    deflate: bool,
    scratch: Scratch,
    got: Vec<Got>,
}

impl Peer {
    fn new(role: Role, limits: Limits, deflate: bool) -> Self {
        Peer { decoder: Decoder::new(role), limits, deflate, scratch: Scratch::default(), got: Vec::new() }
    }

    fn feed(&mut self, bytes: &[u8]) {
        let Peer { decoder, limits, deflate, scratch, got } = self;
        let mut sink = |item: Item<'_>| {
            got.push(item.into());
            ControlFlow::Continue(())
        };
        if let Err(violation) = decoder.decode(&mut bytes.to_vec(), limits, *deflate, scratch, &mut sink) {
            got.push(Got::Violation(violation.code));
        }
    }

    fn is_idle(&self) -> bool {
        self.decoder.partial.is_none()
    }
}

/// Frames of a client, written compactly.
fn frames(list: &[(Opcode, bool, &[u8])]) -> Vec<u8> {
    let mut out = Vec::new();
    for (opcode, fin, payload) in list {
        encode_masked(*opcode, payload, MASK, *fin, false, &mut out);
    }
    out
}

fn frame(opcode: Opcode, payload: &[u8]) -> Vec<u8> {
    frames(&[(opcode, true, payload)])
}

/// A frame whose payload, if any, is masked with zeros, and so stands as it is.
fn raw(first: u8, second: u8, payload: &[u8]) -> Vec<u8> {
    [&[first, second | 0x80, 0, 0, 0, 0], payload].concat()
}

/// Decodes in one piece and byte by byte, which must come to the same.
fn check_with(limits: Limits, deflate: bool, bytes: &[u8], expected: &[Got]) {
    let mut whole = Peer::new(Role::Server, limits, deflate);
    whole.feed(bytes);
    assert_eq!(whole.got, expected, "in one piece: {:x?}", &bytes[..bytes.len().min(40)]);
    let mut single = Peer::new(Role::Server, limits, deflate);
    for byte in bytes {
        single.feed(&[*byte]);
    }
    assert_eq!(single.got, expected, "byte by byte: {:x?}", &bytes[..bytes.len().min(40)]);
    assert_eq!(whole.is_idle(), single.is_idle());
}

fn check(bytes: &[u8], expected: &[Got]) {
    check_with(Limits::default(), false, bytes, expected);
}

#[test]
fn messages() {
    use Opcode::*;
    check(&[], &[]);
    check(&frame(Text, b""), &[text("")]);
    check(&frame(Text, "h\u{fc}".as_bytes()), &[text("h\u{fc}")]);
    for len in [125, 126, 127, 65_535, 65_536] {
        check(&frame(Binary, &vec![7; len]), &[Got::Binary(vec![7; len])]);
    }
    check(&frames(&[(Text, true, b"a"), (Binary, true, b"b")]), &[text("a"), Got::Binary(b"b".into())]);
    check(&frames(&[(Text, false, b"a"), (Continuation, false, b""), (Continuation, true, b"b")]), &[text("ab")]);
    check(&frames(&[(Text, false, b""), (Continuation, true, b"")]), &[text("")]);
    check(
        &frames(&[(Binary, false, b"a"), (Ping, true, b"p"), (Pong, true, b""), (Continuation, true, b"b")]),
        &[Got::Ping(b"p".into()), Got::Pong(vec![]), Got::Binary(b"ab".into())],
    );
    check(&frame(Ping, &[1; 125]), &[Got::Ping(vec![1; 125])]);
}

#[test]
fn protocol_violations() {
    use Opcode::*;
    let refused = |bytes: &[u8]| check(bytes, &[Got::Violation(1002)]);
    refused(b"\x81\x05Hello"); // not masked
    refused(b"\x89\x00");
    for reserved in [0xc1, 0xa1, 0x91, 0xf1, 0xc9, 0xc0] {
        refused(&raw(reserved, 0, b""));
    }
    for opcode in [3, 4, 5, 6, 7, 0xb, 0xc, 0xd, 0xe, 0xf] {
        refused(&raw(0x80 | opcode, 0, b""));
    }
    refused(&frames(&[(Continuation, true, b"a")]));
    refused(&frames(&[(Continuation, false, b"a")]));
    refused(&frames(&[(Text, false, b"a"), (Text, true, b"b")]));
    refused(&frames(&[(Text, false, b"a"), (Binary, false, b"b")]));
    for control in [8, 9, 10] {
        refused(&raw(control, 0, b"")); // fragmented
        refused(&raw(0x80 | control, 126, &[0, 126]));
        refused(&raw(0x80 | control, 127, &[0, 0, 0, 0, 0, 0, 0, 126]));
    }
    refused(&[0x81, 0xfe, 0, 125, 0, 0, 0, 0]); // a length longer than it need be
    refused(&[0x81, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0]);
    refused(&[0x81, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]); // 2^63
    // What came before is handed out, what comes after is not.
    let bytes = [frame(Text, b"a"), raw(0x83, 0, b""), frame(Text, b"b")].concat();
    check(&bytes, &[text("a"), Got::Violation(1002)]);
}

#[test]
fn close_frames() {
    let check = |payload: &[u8], expected| check(&frame(Opcode::Close, payload), &[expected]);
    check(b"", Got::Close(None));
    for code in [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999u16] {
        check(&code.to_be_bytes(), Got::Close(Some(code)));
    }
    for code in [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65_535u16] {
        check(&code.to_be_bytes(), Got::Violation(1002));
    }
    check(b"\x03\xe8bye \xe2\x82\xac", Got::Close(Some(1000)));
    check(b"\x03", Got::Violation(1002));
    check(b"\x03\xe8\xff", Got::Violation(1007));
}

#[test]
fn nothing_after_a_close() {
    let bytes = [frame(Opcode::Close, b""), frame(Opcode::Text, b"a"), raw(0x83, 0, b"")].concat();
    check(&bytes, &[Got::Close(None)]);
}

/// However the bytes are cut, a sink that has enough after each item gets all of them, if what was not taken is given again.
#[test]
fn a_break_leaves_the_rest_for_later() {
    let bytes = [
        frames(&[(Opcode::Text, true, b"a"), (Opcode::Ping, true, b""), (Opcode::Text, false, b"b")]),
        frames(&[(Opcode::Continuation, true, b"c"), (Opcode::Binary, true, &[7; 300]), (Opcode::Close, true, b"")]),
    ]
    .concat();
    for cut in 0..=bytes.len() {
        let mut decoder = Decoder::new(Role::Server);
        let (limits, mut scratch, mut got) = (Limits::default(), Scratch::default(), Vec::new());
        for part in [&bytes[..cut], &bytes[cut..]] {
            let mut input = part.to_vec();
            while !input.is_empty() {
                let mut count = 0;
                let mut sink = |item: Item<'_>| {
                    count += 1;
                    got.push(Got::from(item));
                    ControlFlow::Break(())
                };
                let taken = decoder.decode(&mut input, &limits, false, &mut scratch, &mut sink).unwrap();
                assert!(taken > 0 && count <= 1, "one item at a time");
                input.drain(..taken);
            }
        }
        let expected = [text("a"), Got::Ping(vec![]), text("bc"), Got::Binary(vec![7; 300]), Got::Close(None)];
        assert_eq!(got, expected, "cut at {cut}");
    }
}

#[test]
fn text_is_utf8() {
    use Opcode::*;
    let euro = "\u{20ac}".as_bytes();
    // A character may be cut by a fragment, even by an empty one.
    check(
        &frames(&[(Text, false, &euro[..1]), (Continuation, false, b""), (Continuation, true, &euro[1..])]),
        &[text("\u{20ac}")],
    );
    let refused = |bytes: &[u8]| check(bytes, &[Got::Violation(1007)]);
    refused(&frame(Text, &euro[..2]));
    refused(&frame(Text, b"\xc0\xaf"));
    refused(&frame(Text, b"\xed\xa0\x80")); // a surrogate
    refused(&frame(Text, b"\xf4\x90\x80\x80")); // beyond U+10FFFF
    refused(&frames(&[(Text, false, &euro[..2]), (Continuation, true, b"a")]));
    refused(&frames(&[(Text, false, b"a"), (Continuation, true, &euro[..2])]));
    // Refused before the message, or even the frame, is complete.
    refused(&frames(&[(Text, false, b"a\xff")]));
    refused(&frame(Text, b"a\xffbcdefgh")[..10]);
    check(&frame(Binary, b"\xff"), &[Got::Binary(vec![0xff])]);
}

#[test]
fn sizes_are_limited_before_the_payload_comes() {
    use Opcode::*;
    let limits = Limits { message_size_max: 300, ..Limits::default() };
    let check = |bytes: &[u8], expected: &[Got]| check_with(limits, false, bytes, expected);
    check(&frame(Binary, &[0; 300]), &[Got::Binary(vec![0; 300])]);
    check(&frame(Binary, &[0; 301])[..8], &[Got::Violation(1009)]);
    let fragments = frames(&[(Binary, false, &[0; 200]), (Continuation, true, &[0; 100])]);
    check(&fragments, &[Got::Binary(vec![0; 300])]);
    let fragments = frames(&[(Binary, false, &[0; 200]), (Continuation, true, &[0; 101])]);
    check(&fragments[..200 + 8 + 6], &[Got::Violation(1009)]);
    for high in [0x7f, 0x01, 0x00] {
        check(&[0x82, 0xff, high, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0], &[Got::Violation(1009)]);
    }
    // A control frame is not part of the message.
    let bytes = frames(&[(Binary, false, &[0; 300]), (Ping, true, &[0; 125]), (Continuation, true, b"")]);
    check(&bytes, &[Got::Ping(vec![0; 125]), Got::Binary(vec![0; 300])]);
}

#[test]
fn a_declared_length_allocates_nothing() {
    let limits = Limits { message_size_max: usize::MAX, ..Limits::default() };
    let mut peer = Peer::new(Role::Server, limits, false);
    peer.feed(&[0x82, 0xff, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0]);
    let capacity = |peer: &Peer| peer.decoder.partial.as_ref().unwrap().message.as_ref().unwrap().bytes.capacity();
    assert_eq!(capacity(&peer), 0);
    peer.feed(&[1; 1000]);
    assert!(capacity(&peer) <= 2000);
    assert_eq!(peer.got, []);
}

#[test]
fn fragments_are_counted() {
    use Opcode::*;
    let limits = Limits { fragments_max: 3, ..Limits::default() };
    let check = |bytes: &[u8], expected: &[Got]| check_with(limits, false, bytes, expected);
    let (begin, go_on, end) =
        ((Binary, false, &b""[..]), (Continuation, false, &b""[..]), (Continuation, true, &b""[..]));
    let full = frames(&[begin, go_on, end]);
    check(&full, &[Got::Binary(vec![])]);
    check(&full.repeat(3), &vec![Got::Binary(vec![]); 3]); // each message counts anew
    check(&frames(&[begin, go_on, (Ping, true, b""), end]), &[Got::Ping(vec![]), Got::Binary(vec![])]);
    check(&frames(&[begin, go_on, go_on, end]), &[Got::Violation(1009)]);
}

#[test]
fn a_million_fragments_of_one_byte() {
    let mut bytes = frames(&[(Opcode::Text, false, b"a")]);
    bytes.extend_from_slice(&frames(&[(Opcode::Continuation, false, b"a")]).repeat(1_000_000));
    let mut peer = Peer::new(Role::Server, Limits::default(), false);
    peer.feed(&bytes);
    assert_eq!(peer.got, [Got::Violation(1009)]);
    assert!(peer.is_idle());
    // Without the cap they are put together in linear time: quadratic would take minutes.
    bytes.extend_from_slice(&frame(Opcode::Continuation, b""));
    let mut peer = Peer::new(Role::Server, Limits { fragments_max: u32::MAX, ..Limits::default() }, false);
    for chunk in bytes.chunks(16 * 1024) {
        peer.feed(chunk);
    }
    assert_eq!(peer.got, [text(&"a".repeat(1_000_001))]);
    assert!(peer.is_idle());
}

/// Each payload as a frame of one compressed message.
fn compressed(opcode: Opcode, payload: &[u8], fragment_size: usize) -> Vec<u8> {
    let mut deflated = Vec::new();
    Deflater::default().compress(payload, &mut deflated);
    let (mut out, count) = (Vec::new(), deflated.chunks(fragment_size).count());
    for (at, part) in deflated.chunks(fragment_size).enumerate() {
        let opcode = if at == 0 { opcode } else { Opcode::Continuation };
        encode_masked(opcode, part, MASK, at + 1 == count, at == 0, &mut out);
    }
    out
}

#[test]
fn compressed_messages() {
    use Opcode::*;
    let check = |bytes: &[u8], expected: &[Got]| check_with(Limits::default(), true, bytes, expected);
    let words = "all work and no play makes a dull text ".repeat(50);
    check(&compressed(Text, words.as_bytes(), usize::MAX), &[text(&words)]);
    check(&compressed(Text, words.as_bytes(), 3), &[text(&words)]);
    check(&compressed(Binary, b"", usize::MAX), &[Got::Binary(vec![])]);
    check(&frame(Text, b"plain"), &[text("plain")]); // may always be mixed in
    check(&compressed(Text, b"\xff", usize::MAX), &[Got::Violation(1007)]);
    check(&raw(0xc1, 3, &[0xff; 3]), &[Got::Violation(1007)]); // no deflate stream
    check(&raw(0xc9, 0, b""), &[Got::Violation(1002)]); // on a control frame
    check(&[frames(&[(Text, false, b"a")]), raw(0xc0, 0, b"")].concat(), &[Got::Violation(1002)]);
    check(&raw(0xe1, 0, b""), &[Got::Violation(1002)]); // RSV2
}

#[test]
fn bombs_are_cut_by_what_they_inflate_to() {
    let check = |limits, len, expected: Got| {
        let bytes = compressed(Opcode::Binary, &vec![0; len], usize::MAX);
        let mut peer = Peer::new(Role::Server, limits, true);
        peer.feed(&bytes);
        assert_eq!(peer.got, [expected]);
    };
    check(Limits::default(), 8_000_000, Got::Binary(vec![0; 8_000_000]));
    check(Limits::default(), 8_000_001, Got::Violation(1009));
    check(Limits { message_size_max: 99, ..Limits::default() }, 99, Got::Binary(vec![0; 99]));
    check(Limits { message_size_max: 99, ..Limits::default() }, 100, Got::Violation(1009));
}

#[test]
fn the_client_takes_what_the_server_writes() {
    let mut peer = Peer::new(Role::Client, Limits::default(), true);
    let mut bytes = Vec::new();
    encode(Opcode::Text, b"hello", false, &mut bytes);
    let mut deflated = Vec::new();
    Deflater::default().compress_within(9, b"squeezed", &mut deflated);
    encode(Opcode::Binary, &deflated, true, &mut bytes);
    bytes.extend_from_slice(header(Opcode::Text, 1, false, false).as_slice());
    bytes.push(b'x');
    encode(Opcode::Ping, b"?", false, &mut bytes);
    encode(Opcode::Continuation, b"y", false, &mut bytes);
    encode_close(1012, "", &mut bytes);
    let expected =
        [text("hello"), Got::Binary(b"squeezed".into()), Got::Ping(b"?".into()), text("xy"), Got::Close(Some(1012))];
    peer.feed(&bytes);
    assert_eq!(peer.got, expected);

    let mut peer = Peer::new(Role::Client, Limits::default(), false);
    peer.feed(&frame(Opcode::Text, b"masked"));
    assert_eq!(peer.got, [Got::Violation(1002)]);
}

#[test]
fn an_idle_connection_owns_nothing() {
    assert!(size_of::<Decoder>() <= 16);
    let mut peer = Peer::new(Role::Server, Limits::default(), false);
    for byte in frames(&[(Opcode::Text, false, b"a"), (Opcode::Ping, true, b"b"), (Opcode::Continuation, true, b"c")]) {
        assert!(peer.got.len() < 2);
        peer.feed(&[byte]);
        assert_eq!(peer.is_idle(), peer.got.len() == 2);
    }
}

#[test]
fn whole_messages_are_not_copied() {
    let mut bytes = [frame(Opcode::Text, b"first"), frame(Opcode::Binary, &[1; 1000])].concat();
    let range = bytes.as_ptr_range();
    let mut count = 0;
    let mut sink = |item: Item<'_>| {
        let (Item::Text(_) | Item::Binary(_)) = item else { panic!("{item:?}") };
        let start = match item {
            Item::Text(text) => text.as_ptr(),
            Item::Binary(bytes) => bytes.as_ptr(),
            _ => std::ptr::null(),
        };
        assert!(range.contains(&start));
        count += 1;
        ControlFlow::Continue(())
    };
    let mut decoder = Decoder::new(Role::Server);
    decoder.decode(&mut bytes, &Limits::default(), false, &mut Scratch::default(), &mut sink).unwrap();
    assert_eq!(count, 2);
}

/// A frame that may be right or wrong, in any order.
fn any_frame() -> impl Strategy<Value = Vec<u8>> {
    let opcode = prop_oneof![
        4 => Just(Opcode::Text), 2 => Just(Opcode::Binary), 6 => Just(Opcode::Continuation),
        2 => Just(Opcode::Ping), 1 => Just(Opcode::Pong)
    ];
    let payload = prop_oneof![
        8 => "\\PC{0,40}".prop_map(String::into_bytes),
        1 => prop::collection::vec(any::<u8>(), 0..300),
    ];
    (opcode, payload, any::<[u8; 4]>(), any::<bool>(), prop::bool::weighted(0.3)).prop_map(
        |(opcode, mut payload, mask, fin, squeeze)| {
            let mut out = Vec::new();
            let squeeze = squeeze && matches!(opcode, Opcode::Text | Opcode::Binary);
            if squeeze {
                let plain = std::mem::take(&mut payload);
                Deflater::default().compress(&plain, &mut payload);
            }
            if opcode.is_control() {
                payload.truncate(125);
            }
            encode_masked(opcode, &payload, mask, fin || opcode.is_control(), squeeze, &mut out);
            out
        },
    )
}

/// Frames, at times with a byte of them spoiled.
fn any_bytes() -> impl Strategy<Value = Vec<u8>> {
    let frames = prop::collection::vec(any_frame(), 0..12).prop_map(|frames| frames.concat());
    (frames, prop::option::weighted(0.3, (any::<prop::sample::Index>(), any::<u8>()))).prop_map(|(mut bytes, spoil)| {
        if let (Some((at, value)), false) = (spoil, bytes.is_empty()) {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        bytes
    })
}

proptest! {
    #[test]
    fn any_cut_of_the_bytes_means_the_same(bytes in any_bytes(), cuts in prop::collection::vec(1usize..60, 1..20)) {
        let limits = Limits { message_size_max: 400, fragments_max: 4 };
        let mut whole = Peer::new(Role::Server, limits, true);
        whole.feed(&bytes);
        let mut pieces = Peer::new(Role::Server, limits, true);
        let (mut rest, mut sizes) = (&bytes[..], cuts.iter().cycle());
        while let Some(size) = sizes.next().filter(|_| !rest.is_empty()) {
            let (piece, after) = rest.split_at(rest.len().min(*size));
            pieces.feed(piece);
            rest = after;
        }
        prop_assert_eq!(&pieces.got, &whole.got);
        prop_assert_eq!(pieces.is_idle(), whole.is_idle());
    }

    #[test]
    fn what_is_encoded_is_decoded(
        payload in prop::collection::vec(any::<u8>(), 0..5_000),
        fragment_size in 1usize..2000,
        squeeze: bool,
    ) {
        let bytes = if squeeze || payload.is_empty() {
            compressed(Opcode::Binary, &payload, fragment_size)
        } else {
            let count = payload.chunks(fragment_size).count();
            let part = |(at, part)| (if at == 0 { Opcode::Binary } else { Opcode::Continuation }, at + 1 == count, part);
            frames(&payload.chunks(fragment_size).enumerate().map(part).collect::<Vec<_>>())
        };
        let mut peer = Peer::new(Role::Server, Limits { fragments_max: u32::MAX, ..Limits::default() }, true);
        for chunk in bytes.chunks(1500) {
            peer.feed(chunk);
        }
        prop_assert_eq!(peer.got, [Got::Binary(payload)]);
    }
}
