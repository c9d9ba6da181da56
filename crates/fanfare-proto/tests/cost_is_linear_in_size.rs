//! What strangers send costs no more than its size: every parser is given the input that would hurt a careless one, in two sizes.

use std::hint::black_box;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_proto::history::{Retention, Stream};
use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::origin::{OriginPattern, OriginPolicy, RequestOrigin};
use fanfare_proto::params::Params;
use fanfare_proto::payload::{JsonText, Payload, Text};
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::phoenix::{auth_token, codec, longpoll, term};
use fanfare_proto::position::{Epoch, Position, Since};
use fanfare_proto::session::{Answered, Session};
use fanfare_proto::topic::Pattern;
use fanfare_proto::websocket::decoder::{Decoder, Limits, Role, Scratch};
use fanfare_proto::websocket::deflate::{self, Deflater};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use fanfare_proto::websocket::handshake;
use fanfare_proto::{bullet, hub, resume, rooms, sse};
use http::header::{HeaderMap, HeaderName, HeaderValue, SEC_WEBSOCKET_EXTENSIONS, SEC_WEBSOCKET_PROTOCOL};
use nix::time::{ClockId, clock_gettime};

/// The larger input is so many times the smaller one.
const TIMES: usize = 16;

/// And may take so many times as long, which allows for caches and for what else the machine does. What is quadratic takes
/// `TIMES * TIMES`.
const SLOWER_MAX: u32 = 4 * TIMES as u32;

/// So long a parser is tried before it counts as slow, and three times at least: one that is takes too long each time.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long this thread has worked, without what others did meanwhile.
fn worked() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap().into()
}

/// Gives a parser what `input` makes of a size, in bytes.
#[track_caller]
fn check<I>(what: &str, size: usize, input: impl Fn(usize) -> I, mut parse: impl FnMut(&I)) {
    let (small, large) = (input(size), input(size * TIMES));
    let mut took = |input: &I| {
        let started = worked();
        parse(input);
        worked() - started
    };
    let (mut of_small, mut of_large) = (Duration::MAX, Duration::MAX);
    let started = Instant::now();
    for tries in 1.. {
        // The small one is over before anything else has a chance to come in between.
        of_small = (0..3).map(|_| took(&small)).fold(of_small, Duration::min);
        of_large = of_large.min(took(&large));
        if of_large <= of_small * SLOWER_MAX {
            return;
        }
        if tries >= 3 && started.elapsed() > PATIENCE {
            panic!("{what}: {size} bytes take {of_small:?}, {TIMES} times as many {of_large:?}");
        }
    }
}

/// A text of a size: a beginning, a part again and again, an end.
fn repeated(begin: &str, part: &str, end: &str) -> impl Fn(usize) -> String {
    move |size| format!("{begin}{}{end}", part.repeat(size / part.len()))
}

/// JSON that is as long as it likes.
const LONG: [(&str, &str, &str); 12] = [
    ("[", "1,", "1]"),
    ("{", "\"a\":1,", "\"a\":1}"),
    ("{", "\"\\u0061\":{},", "\"a\":1}"),
    ("\"", "\\\"", "\""),
    ("\"", "\\ud83d\\ude00", "\""),
    ("\"", "x", "\""),
    ("", " \n", "1"),
    ("1", "", ""),
    ("0.", "1", ""),
    ("-1.", "7", "e1"),
    ("[", "[],", "[]]"),
    ("[", "1e400,", "1]"),
];

fn long_json() -> impl Iterator<Item = (&'static str, impl Fn(usize) -> String)> {
    LONG.into_iter()
        .filter(|(_, part, _)| !part.is_empty())
        .map(|(begin, part, end)| (part, repeated(begin, part, end)))
}

#[test]
fn messages_of_phoenix() {
    let decode = |version, text: &String| drop(black_box(codec::decode_text(version, text)));
    for (part, json) in long_json() {
        let as_payload = |size| format!("[null,\"1\",\"t\",\"e\",{}]", json(size));
        check(&format!("version 2, payload of {part:?}"), 20_000, as_payload, |text| decode(Version::V2, text));
        let as_ref = |size| format!("[{},\"1\",\"t\",\"e\",{{}}]", json(size));
        check(&format!("version 2, ref of {part:?}"), 20_000, as_ref, |text| decode(Version::V2, text));
        let as_topic = |size| format!("[null,\"1\",{},\"e\",{{}}]", json(size));
        check(&format!("version 2, topic of {part:?}"), 20_000, as_topic, |text| decode(Version::V2, text));
        let as_payload = |size| format!("{{\"topic\":\"t\",\"event\":\"e\",\"ref\":1,\"payload\":{}}}", json(size));
        check(&format!("version 1, payload of {part:?}"), 20_000, as_payload, |text| decode(Version::V1, text));
    }
    check("version 2, elements", 20_000, repeated("[1,1,\"t\",\"e\"", ",{}", "]"), |text| decode(Version::V2, text));
    check("version 1, keys", 20_000, repeated("{", "\"topic\":\"t\",", "\"x\":1}"), |text| decode(Version::V1, text));
    check("version 2, nesting", 20_000, repeated("", "[", ""), |text| decode(Version::V2, text));
    let binary = |size| [&[0, 255, 255, 255, 255][..], &vec![b'x'; size]].concat();
    check("version 2, binary", 200_000, binary, |frame| drop(black_box(codec::decode_binary(Version::V2, frame))));
}

#[test]
fn bodies_of_long_polls() {
    const NDJSON: Option<&str> = Some("application/x-ndjson");
    let decode = |content_type, lines_max| {
        move |body: &String| {
            drop(black_box(longpoll::decode_body(Version::V2, content_type, body.as_bytes(), lines_max)))
        }
    };
    check("messages", 20_000, repeated("", "[1,1,\"t\",\"e\",{}]\n", ""), decode(NDJSON, usize::MAX));
    check(
        "binary messages",
        20_000,
        repeated("", "AAEBCgQxNHJvb206bG9iYnllY2hvAP9iaW4=\r\n", ""),
        decode(NDJSON, usize::MAX),
    );
    check("no messages", 20_000, repeated("", "\n", ""), decode(NDJSON, 100));
    check("line ends", 20_000, repeated("", "\r\n\n", "[]"), decode(NDJSON, 100));
    check("too many lines", 20_000, repeated("", "x\n", ""), decode(NDJSON, 100));
    check("base64", 20_000, repeated("", "AAAA", ""), decode(NDJSON, 100));
    check("a message", 20_000, repeated("[1,1,\"t\",\"e\"", ",1", "]"), decode(None, 100));
    let content_type = |size| format!("{};", " ;".repeat(size / 2));
    check("the content type", 20_000, content_type, |content_type| {
        drop(black_box(longpoll::decode_body(Version::V2, Some(content_type), b"", 100)));
    });
}

#[test]
fn frames_of_rooms() {
    let decode = |text: &String| drop(black_box(rooms::decode(text.as_bytes(), "e")));
    for (part, json) in long_json() {
        let say = |size| format!("{{\"say\":{},\"to\":\"a\"}}", json(size));
        check(&format!("say of {part:?}"), 20_000, say, decode);
        let join = |size| format!("{{\"join\":\"a\",\"since\":{}}}", json(size));
        check(&format!("since of {part:?}"), 20_000, join, decode);
    }
    check("members", 20_000, repeated("{", "\"join\":1,", "\"x\":1}"), decode);
}

#[test]
fn joins_that_resume() {
    for (part, json) in long_json() {
        let params = |size| Payload::from(Text::from(format!("{{\"x\":0,\"resume\":{}}}", json(size))));
        check(&format!("resume of {part:?}"), 20_000, params, |params| drop(black_box(resume::resume_param(params))));
        let params = |size| Payload::from(Text::from(format!("{{\"gap\":true,\"x\":{}}}", json(size))));
        check(&format!("beside gap {part:?}"), 20_000, params, |params| _ = black_box(resume::gap_param(params)));
    }
    for part in ["0", "f", ":", "0:"] {
        let parse = |text: &String| _ = black_box(text.parse::<Since>());
        check(&format!("a position of {part:?}"), 20_000, repeated("", part, ":1"), parse);
    }
}

#[test]
fn payloads() {
    for (part, json) in long_json() {
        check(&format!("JSON of {part:?}"), 20_000, &json, |text| drop(black_box(JsonText::parse(text.clone()))));
        let text = |size| Text::from(json(size));
        check(&format!("a text of {part:?}"), 20_000, text, |text| drop(black_box(text.to_json())));
    }
}

#[test]
fn queries() {
    let parse = |query: &String| drop(black_box(Params::parse(query)));
    for (begin, part) in [
        ("", "&"),
        ("", "a=1&"),
        ("a=", "%"),
        ("a=", "%41"),
        ("a=", "+"),
        ("a", "[x]"),
        ("a", "[]"),
        ("a", "["),
        ("a", "]"),
        ("a[", "]["),
        ("", "="),
    ] {
        check(&format!("a query of {part:?}"), 20_000, repeated(begin, part, ""), parse);
    }
    // As many as there may be: they are found again among the others.
    let pairs = |format: fn(usize) -> String| move |size: usize| (0..size / 16).map(format).collect::<String>();
    check("keys", 1_000, pairs(|n| format!("k{n}=1&")), parse);
    check("keys within one", 1_000, pairs(|n| format!("a[{n}]=1&")), parse);
    check("elements of a list", 1_000, pairs(|_| "a[]=1&".into()), parse);
    let key = |query: &String| drop(black_box(bullet::key_of(query)));
    for part in ["_=1&", "&", "key=", "%41", "x&_="] {
        check(&format!("a key of {part:?}"), 20_000, repeated("", part, ""), key);
    }
}

#[test]
fn names_and_paths() {
    for part in ["a", "*", ":", "ü", "\n"] {
        let parse = |text: &String| drop(black_box(text.parse::<Pattern>()));
        check(&format!("a topic of {part:?}"), 20_000, repeated("", part, "*"), parse);
        check(&format!("a version of {part:?}"), 20_000, repeated("2.0.", part, ""), |vsn| {
            black_box(Version::parse(Some(vsn)));
        });
    }
    check("a build", 20_000, repeated("2.0.0+", "a.", "a"), |vsn| _ = black_box(Version::parse(Some(vsn))));
    let prefix: Pattern = "aaaa:*".parse().unwrap();
    check("a topic for a pattern", 20_000, repeated("", "aaaa:", ""), |topic| _ = black_box(prefix.matches(topic)));
    let path = |size: usize| vec!["pub"; size / 3];
    check("the path of a hub", 20_000, path, |segments| _ = black_box(hub::Path::of(segments)));
}

/// Headers with one line of a text.
fn header(name: HeaderName, text: impl Fn(usize) -> String) -> impl Fn(usize) -> HeaderMap {
    move |size| HeaderMap::from_iter([(name.clone(), HeaderValue::try_from(text(size)).unwrap())])
}

#[test]
fn headers_of_a_handshake() {
    for (begin, part, end) in [
        ("", ",", ""),
        ("", ", ", ""),
        ("", ",", "                                x"),
        ("", " ", ","),
        ("permessage-deflate", ";", ""),
        ("permessage-deflate", "; client_max_window_bits", ""),
        ("", "permessage-deflate; x,", ""),
        ("", "permessage-deflate,", ""),
        ("", "\"", ""),
        ("", "\",", ""),
        ("x; a=\"", ",", "\""),
        ("permessage-deflate; server_max_window_bits=", "1", ""),
        ("permessage-deflate; server_max_window_bits=\"", "\"", ""),
    ] {
        let headers = header(SEC_WEBSOCKET_EXTENSIONS, repeated(begin, part, end));
        check(&format!("an offer of {part:?}"), 4_000, headers, |headers| drop(black_box(deflate::negotiate(headers))));
    }
    // Half of it commas, half of it blanks.
    for halves in [[",", " "], [" ", ","]] {
        let text = move |size: usize| halves.map(|half| half.repeat(size / 2)).concat();
        let headers = header(SEC_WEBSOCKET_EXTENSIONS, text);
        check(&format!("an offer of {halves:?}"), 4_000, headers, |headers| {
            drop(black_box(deflate::negotiate(headers)))
        });
    }
    for part in [",", ", ", "a,", "bearer.a,", "base64url.bearer.phx.,", "-"] {
        let headers = header(SEC_WEBSOCKET_PROTOCOL, repeated("bearer.", part, ""));
        check(&format!("subprotocols of {part:?}"), 4_000, headers, |headers| {
            drop(black_box(auth_token::extract(handshake::subprotocols(headers))));
        });
    }
    check("a token", 20_000, repeated("bearer.", "A", ""), |text| {
        drop(black_box(auth_token::extract([&**text].into_iter())))
    });
}

#[test]
fn origins() {
    let policy = OriginPolicy::List(vec!["https://*.ok.example".parse().unwrap()]);
    let request = RequestOrigin { scheme: "https", host_and_port: "ok.example" };
    for (begin, part) in
        [("", "://"), ("https://", "a."), ("https://[", ":"), ("https://a:", "1"), ("https://", "ok.example.")]
    {
        let origin = repeated(begin, part, "ok.example");
        check(&format!("an origin of {part:?}"), 20_000, &origin, |origin| {
            _ = black_box(policy.allows(Some(origin), request))
        });
        let host = |size| (origin)(size);
        check(&format!("a host of {part:?}"), 20_000, host, |host| {
            let request = RequestOrigin { host_and_port: host, ..request };
            black_box(OriginPolicy::SameAsRequest.allows(Some("https://ok.example"), request));
        });
        check(&format!("a pattern of {part:?}"), 20_000, &origin, |text| drop(black_box(OriginPattern::parse(text))));
    }
}

#[test]
fn terms_of_tokens() {
    let decode = |bytes: &Vec<u8>| drop(black_box(term::decode(bytes)));
    let counted = |tag: u8, item: &'static [u8]| {
        move |size: usize| {
            let count = size / item.len();
            let mut bytes = vec![131, tag];
            bytes.extend((count as u32).to_be_bytes());
            bytes.extend(item.repeat(count));
            bytes.push(106);
            bytes
        }
    };
    check("a list", 20_000, counted(108, &[106]), decode);
    check("a map", 20_000, counted(116, &[97, 1, 97, 2]), decode);
    check("a tuple of lists", 20_000, counted(105, &[107, 0, 1, 7]), decode);
    check("a binary", 20_000, counted(109, b"x"), decode);
    check("nesting", 20_000, |size| [&[131][..], &[104, 1].repeat(size / 2)].concat(), decode);
}

#[test]
fn server_sent_events() {
    for part in ["\n", "\r", "\r\n", "x", "é", "\n\r"] {
        let write = |text: &String| {
            let mut out = Vec::new();
            sse::data(text, &mut out);
            sse::event(text, &Payload::from(Text::copy(text)), None, &mut out);
            black_box(out);
        };
        check(&format!("an event of {part:?}"), 20_000, repeated("", part, ""), write);
    }
}

#[test]
fn frames_of_websockets() {
    let decode = |bytes: &Vec<u8>, chunk: usize| {
        let (mut decoder, mut scratch, mut bytes) = (Decoder::new(Role::Server), Scratch::default(), bytes.clone());
        let limits = Limits { message_size_max: usize::MAX, fragments_max: u32::MAX };
        for chunk in bytes.chunks_mut(chunk) {
            let mut sink = |item: fanfare_proto::websocket::decoder::Item<'_>| {
                black_box(item);
                ControlFlow::Continue(())
            };
            let _ = decoder.decode(chunk, &limits, true, &mut scratch, &mut sink);
        }
    };
    let frames = |opcode, payload: &'static [u8], fin| {
        move |size: usize| {
            let mut out = Vec::new();
            encode_masked(Opcode::Text, b"", [1; 4], false, false, &mut out);
            while out.len() < size {
                encode_masked(opcode, payload, [1, 2, 3, 4], fin, false, &mut out);
            }
            out
        }
    };
    for (what, opcode, payload, fin) in [
        ("empty fragments", Opcode::Continuation, &b""[..], false),
        ("fragments of half a character", Opcode::Continuation, b"\xc3", false),
        ("fragments", Opcode::Continuation, "é".as_bytes(), false),
        ("pings within a message", Opcode::Ping, b"ping", true),
    ] {
        check(what, 10_000, frames(opcode, payload, fin), |bytes| decode(bytes, usize::MAX));
        check(&format!("{what}, byte by byte"), 10_000, frames(opcode, payload, fin), |bytes| decode(bytes, 1));
    }
    let one = |size| {
        let mut out = Vec::new();
        encode_masked(Opcode::Text, &b"x".repeat(size), [1, 2, 3, 4], true, false, &mut out);
        out
    };
    check("a text, byte by byte", 10_000, one, |bytes| decode(bytes, 1));
    let compressed = |size| {
        let (mut deflated, mut out) = (Vec::new(), Vec::new());
        Deflater::default().compress(&b"xyz".repeat(size / 3), &mut deflated);
        encode_masked(Opcode::Text, &deflated, [1, 2, 3, 4], true, true, &mut out);
        out
    };
    check("a compressed text", 100_000, compressed, |bytes| decode(bytes, usize::MAX));
}

struct Live;

impl Answered for Live {
    fn is_answered(&self) -> bool {
        true
    }
}

/// The joins of one socket, found by their topics and by their serials.
#[test]
fn joins() {
    let topics = |count: usize| (0..count).map(|number| format!("room:{number}").into()).collect::<Vec<Arc<str>>>();
    check("joins, messages and leaves", 200_000 / TIMES, topics, |topics| {
        let mut session = Session::new(usize::MAX);
        let mut begin = |topic: &Arc<str>| {
            let index = session.begin(topic.clone(), Ref::NULL, &Ref::NULL, Live);
            session.entry(index).serial()
        };
        let serials: Vec<u32> = topics.iter().map(&mut begin).collect();
        for (topic, serial) in topics.iter().zip(serials) {
            let (topic, event) = ((&**topic).into(), "e".into());
            let message =
                Incoming { join_ref: Ref::NULL, msg_ref: Ref::NULL, topic, event, payload: Payload::default() };
            black_box(session.admit(&message));
            session.end(session.position(serial).unwrap());
        }
    });
}

/// What a topic keeps, read page by page.
#[test]
fn histories() {
    let history = |count: usize| {
        let mut stream = Stream::new(Epoch::new(7).unwrap());
        let retention = Retention { messages_max: usize::MAX, bytes_max: usize::MAX, age_max_ms: u64::MAX };
        (0..count).for_each(|number| _ = stream.append(number, 1, 0, &retention));
        stream
    };
    check("pages", 2_000, history, |stream| {
        for offset in (0..stream.head().offset).step_by(10) {
            let since = Since::Position(Position { offset, ..stream.head() });
            black_box((stream.recover(since), stream.after(offset).take(10).count()));
        }
    });
}
