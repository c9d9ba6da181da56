//! Envelopes: tables of what is read and what is dropped, and mutated ones.

use proptest::prelude::*;
use serde_json::json;

use super::*;

const ORIGIN: Incarnation = Incarnation::new(0x0807_0605_0403_0201).unwrap();

fn message<'a>(event: &'a str, payload: impl Into<Payload>, series: u64) -> Message<'a> {
    Message { event, payload: payload.into(), series: NonZeroU64::new(series) }
}

/// Reads what a table says, and compares; whatever can be read is written the same again.
#[track_caller]
fn check(kind: u8, number: &[u8], content: &[u8], expected: Result<(u64, Content<'_>), Unread>) {
    let bytes = [&[VERSION, kind, 1, 2, 3, 4, 5, 6, 7, 8][..], number, content].concat();
    let bytes = Bytes::from(bytes);
    let expected = expected.map(|(number, content)| Envelope { origin: ORIGIN, number, content });
    let read = Envelope::read(&bytes);
    assert_eq!(read, expected, "kind {kind}");
    if let Ok(envelope) = read {
        assert_eq!(envelope.to_bytes(), bytes);
    }
}

#[test]
fn messages_and_what_is_not_one() {
    let content = |message| Ok((5, Content::Message(message)));
    check(1, &[5], b"\0\x02hi{}", content(message("hi", json!({}), 0)));
    check(1, &[5], b"\x01\x02hi{", content(message("hi", Text::copy("{"), 0)));
    check(1, &[5], b"\x02\x02hi\xff\0", content(message("hi", Payload::Binary(Bytes::from_static(b"\xff\0")), 0)));
    check(1, &[5], b"\x02\0", content(message("", Payload::Binary(Bytes::new()), 0)));
    check(1, &[5], b"\x06\x80\x01\x02hi", content(message("hi", Payload::Binary(Bytes::new()), 128)));
    check(1, &[0xac, 2], b"\x01\0", Ok((300, Content::Message(message("", Text::copy(""), 0)))));

    for (content, unread) in [
        (&b""[..], Unread::Malformed),
        (b"\0", Unread::Malformed),
        (b"\0\x02h", Unread::Malformed),
        (b"\0\x02hi", Unread::Malformed),
        (b"\0\x02hi{", Unread::Malformed),
        (b"\0\x02hi{}{}", Unread::Malformed),
        (b"\0\x02hi\"\\ud800\"", Unread::Malformed),
        (b"\x01\x02hi\xff", Unread::Malformed),
        (b"\x01\x02\xff\xff", Unread::Malformed),
        (b"\x04\0\x02hi{}", Unread::Malformed),
        (b"\x04\x80", Unread::Malformed),
        (b"\x03\x02hi", Unread::Flags(3)),
        (b"\x08\x02hi{}", Unread::Flags(8)),
        (b"\x80\x02hi{}", Unread::Flags(0x80)),
        (b"\0\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01{}", Unread::Malformed),
    ] {
        check(1, &[5], content, Err(unread));
    }
}

#[test]
fn several_messages() {
    let two = vec![message("a", json!({}), 0), message("b", Text::copy("x"), 2)];
    check(2, &[1], b"\x05\0\x01a{}\x05\x05\x02\x01bx", Ok((1, Content::Messages(two))));
    check(2, &[1], b"", Ok((1, Content::Messages(Vec::new()))));
    check(2, &[1], b"\0", Err(Unread::Malformed));
    check(2, &[1], b"\x06\0\x01a{}", Err(Unread::Malformed));
    check(2, &[1], b"\x04\0\x01a{}", Err(Unread::Malformed));
    check(2, &[1], b"\x05\x20\x01a{}", Err(Unread::Flags(0x20)));
}

#[test]
fn more_messages_than_fit_are_not_read() {
    for (count, fits) in [(MESSAGES_MAX, true), (MESSAGES_MAX + 1, false)] {
        let content = Content::Messages(vec![message("", Text::copy(""), 0); count]);
        let bytes = Envelope { origin: ORIGIN, number: 0, content }.to_bytes();
        assert_eq!(Envelope::read(&bytes).is_ok(), fits, "{count}");
    }
}

#[test]
fn all_other_kinds() {
    type Opaque = fn(Bytes) -> Content<'static>;
    let opaque: [(u8, Opaque); 7] = [
        (3, Content::PresenceDelta),
        (4, Content::PresenceRow),
        (5, Content::PresenceAsk),
        (6, Content::PresenceDigest),
        (7, Content::Request),
        (8, Content::Response),
        (11, Content::Control),
    ];
    for (kind, content) in opaque {
        check(kind, &[1], b"\0\xff", Ok((1, content(Bytes::from_static(b"\0\xff")))));
        check(kind, &[1], b"", Ok((1, content(Bytes::new()))));
        check(kind, &[], b"", Err(Unread::Malformed));
    }
    let heartbeat = |topics, release| {
        let (version_min, version_max) = (1, 2);
        let name = "n-1".into();
        let heartbeat = Heartbeat {
            version_min,
            version_max,
            sockets: 300,
            joins: 0,
            clock_us: 1,
            topics,
            release,
            name,
            published_rate: Some(0),
            delivered_rate: Some(299),
            p99_us: None,
            admin_url: "http://a".into(),
        };
        Ok((1, Content::Heartbeat(heartbeat)))
    };
    check(9, &[1], b"\x01\x02\xac\x02\0\x01\x05\0\x01\x02\x03n-1\x01\xac\x02\0\x08http://a", heartbeat(5, [0, 1, 2]));
    check(9, &[1], b"\x01\x02\xac\x02\0", Err(Unread::Malformed));
    check(10, &[0xff, 0xff, 3], b"", Ok((0xffff, Content::Canary)));
    for kind in [0, 12, 255] {
        check(kind, &[1], b"anything", Err(Unread::Kind(kind)));
    }
}

#[test]
fn a_heartbeat_may_have_grown() {
    let [longest, longer] = [64, 65].map(|size| [b"\x05\x01\x02\x03", &[size][..], &vec![b'n'; size.into()]].concat());
    let name = "n".repeat(NODE_NAME_SIZE_MAX);
    let beat = |end: &[u8]| {
        let bytes = [&b"\x01\x09\x01\0\0\0\0\0\0\0\x01\x01\x01\0\0\0"[..], end].concat().into();
        let content = Envelope::read(&bytes).unwrap().content;
        let Content::Heartbeat(beat) = content else { panic!("{content:?}") };
        beat
    };
    for (end, topics, release, name) in [
        (&b""[..], 0, [0; 3], ""),
        (b"\x05", 5, [0; 3], ""),
        (b"\x05\x01\x02\x03", 5, [1, 2, 3], ""),
        (b"\x05\x01\x02\x03\x02n1\0\0\0\0and more", 5, [1, 2, 3], "n1"),
        (b"\x05\x01\x02\x03\x09short", 5, [1, 2, 3], ""),
        (b"\x05\x01\x02\x03\x01\xff", 5, [1, 2, 3], ""),
        (&longest, 5, [1, 2, 3], &name),
        (&longer, 5, [1, 2, 3], ""),
    ] {
        let beat = beat(end);
        assert_eq!((beat.topics, beat.release, &*beat.name), (topics, release, name), "{end:?}");
    }
    for (end, figures) in [
        (&b""[..], [None; 3]),
        (b"\0\0\0", [None; 3]),
        (b"\x01\x02\x80", [Some(0), Some(1), None]),
        (b"\x01\x02\x80\x01", [Some(0), Some(1), Some(127)]),
    ] {
        let beat = beat(&[b"\x05\x01\x02\x03\x02n1", end].concat());
        assert_eq!([beat.published_rate, beat.delivered_rate, beat.p99_us], figures, "{end:?}");
        assert_eq!(&*beat.admin_url, "");
    }
    let [longest, longer] = [0, 1].map(|more| format!("https://{}", "a".repeat(ADMIN_URL_SIZE_MAX - 8 + more)));
    for (url, is_read) in [
        ("https://a.b/c", true),
        ("http://a.b:4001/", true),
        ("javascript:alert(1)", false),
        ("a.b", false),
        (&longest, true),
        (&longer, false),
    ] {
        let mut end = b"\x05\x01\x02\x03\x02n1\0\0\0".to_vec();
        write_text(url, &mut end);
        assert_eq!(&*beat(&end).admin_url, if is_read { url } else { "" });
    }
}

#[test]
fn what_is_not_an_envelope_of_this_version() {
    for (bytes, unread) in [
        (&b""[..], Unread::Malformed),
        (b"\x01", Unread::Malformed),
        (b"\x01\x0a\x01\0\0\0\0\0\0", Unread::Malformed),
        (b"\x01\x0a\0\0\0\0\0\0\0\0\x01", Unread::Malformed),
        (b"\x02", Unread::Version(2)),
        (b"\0\x0a\x01\0\0\0\0\0\0\0\x01", Unread::Version(0)),
        (b"{\"event\":\"hi\"}", Unread::Version(b'{')),
    ] {
        assert_eq!(Envelope::read(&Bytes::from_static(bytes)), Err(unread), "{bytes:?}");
    }
}

#[test]
fn numbers_of_all_sizes() {
    for number in [0, 1, 127, 128, 16_383, 16_384, u64::from(u32::MAX), u64::MAX / 2, u64::MAX / 2 + 1, u64::MAX] {
        let bytes = Envelope { origin: ORIGIN, number, content: Content::Canary }.to_bytes();
        assert_eq!(bytes.len(), 10 + varint_size(number), "{number}");
        assert_eq!(Envelope::read(&bytes).map(|envelope| envelope.number), Ok(number));
    }
    check(10, b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02", b"", Err(Unread::Malformed));
    check(10, b"\x80\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01", b"", Err(Unread::Malformed));
}

#[test]
fn an_envelope_adds_few_bytes_to_event_and_payload() {
    let content = Content::Message(message("event", json!({"a": 1}), 0));
    assert_eq!(Envelope { origin: ORIGIN, number: 10_000, content }.to_bytes().len(), "event{\"a\":1}".len() + 14);
    let content = Content::Message(Message { series: NonZeroU64::new(u64::MAX), ..message("", Text::copy(""), 0) });
    assert!(Envelope { origin: ORIGIN, number: u64::MAX, content }.to_bytes().len() <= OVERHEAD_SIZE_MAX);
}

fn any_payload() -> impl Strategy<Value = Payload> {
    prop_oneof![
        "[a-z]{0,40}".prop_map(|value| Payload::from(json!({ "value": value }))),
        ".{0,40}".prop_map(|text| Payload::from(Text::copy(&text))),
        proptest::collection::vec(any::<u8>(), 0..40).prop_map(|data| Payload::Binary(data.into())),
    ]
}

/// An envelope's bytes, whatever it is about.
fn any_envelope() -> impl Strategy<Value = Bytes> {
    let messages = proptest::collection::vec((".{0,20}", any_payload(), any::<u64>()), 0..4);
    (1..12u8, any::<u64>(), messages, any::<[u64; 3]>()).prop_map(|(kind, number, messages, figures)| {
        let all: Vec<_> =
            messages.iter().map(|(event, payload, series)| message(event, payload.clone(), *series)).collect();
        let bytes = Bytes::copy_from_slice(&figures[0].to_le_bytes());
        let content = match kind {
            1 => Content::Message(all.into_iter().next().unwrap_or_else(|| message("", json!({}), 1))),
            2 => Content::Messages(all),
            3 => Content::PresenceDelta(bytes),
            4 => Content::PresenceRow(bytes),
            5 => Content::PresenceAsk(bytes),
            6 => Content::PresenceDigest(bytes),
            7 => Content::Request(bytes),
            8 => Content::Response(bytes),
            9 => {
                let [sockets, joins, clock_us] = figures;
                Content::Heartbeat(Heartbeat {
                    version_min: 1,
                    version_max: 1,
                    sockets,
                    joins,
                    clock_us,
                    topics: joins,
                    release: [0, 1, sockets],
                    name: "node".into(),
                    published_rate: sockets.checked_sub(1),
                    delivered_rate: joins.checked_sub(1),
                    p99_us: None,
                    admin_url: "https://node/".into(),
                })
            }
            10 => Content::Canary,
            _ => Content::Control(bytes),
        };
        Envelope { origin: ORIGIN, number, content }.to_bytes()
    })
}

/// What happens to envelopes on their way.
#[derive(Debug, Clone)]
enum Mutation {
    Flip(prop::sample::Index, u8),
    Cut(prop::sample::Index),
    Insert(prop::sample::Index, Vec<u8>),
}

impl Mutation {
    fn any() -> impl Strategy<Value = Mutation> {
        let place = any::<prop::sample::Index>;
        prop_oneof![
            (place(), any::<u8>()).prop_map(|(at, byte)| Mutation::Flip(at, byte)),
            place().prop_map(Mutation::Cut),
            (place(), proptest::collection::vec(any::<u8>(), 1..4)).prop_map(|(at, bytes)| Mutation::Insert(at, bytes)),
        ]
    }

    fn apply(self, bytes: &mut Vec<u8>) {
        match self {
            Mutation::Flip(at, byte) if !bytes.is_empty() => {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            Mutation::Flip(..) => {}
            Mutation::Cut(at) => bytes.truncate(at.index(bytes.len() + 1)),
            Mutation::Insert(at, more) => {
                let at = at.index(bytes.len() + 1);
                bytes.splice(at..at, more);
            }
        }
    }
}

proptest! {
    #[test]
    fn what_is_written_is_read(bytes in any_envelope()) {
        let envelope = Envelope::read(&bytes).unwrap();
        prop_assert_eq!(envelope.to_bytes(), bytes);
    }

    #[test]
    fn whatever_comes_is_read_or_dropped(bytes in any_envelope(), all in proptest::collection::vec(Mutation::any(), 1..4)) {
        let mut bytes = bytes.to_vec();
        all.into_iter().for_each(|mutation| mutation.apply(&mut bytes));
        let bytes = Bytes::from(bytes);
        if let Ok(envelope) = Envelope::read(&bytes) {
            let again = envelope.to_bytes();
            prop_assert_eq!(Envelope::read(&again), Ok(envelope));
        }
    }

    #[test]
    fn any_bytes_are_read_or_dropped(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
        let _ = Envelope::read(&Bytes::from(bytes));
    }
}
