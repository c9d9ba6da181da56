//! Valid frames of each protocol, and what becomes of them.

use fanfare_mutations::Random;

use crate::client::{BINARY, TEXT, frame};

/// A protocol as one path speaks it.
pub(super) struct Dialect {
    /// `{n}` becomes a number.
    pub(super) target: &'static str,
    texts: &'static [&'static str],
    binaries: &'static [&'static [u8]],
}

pub(super) const DIALECTS: &[Dialect] = &[
    Dialect { target: "/socket/websocket?vsn=2.0.0", texts: V2, binaries: V2_BINARY },
    Dialect { target: "/socket/websocket?vsn=1.0.0", texts: V1, binaries: &[] },
    Dialect { target: "/rooms/any", texts: ROOMS, binaries: &[] },
    Dialect { target: "/hub/pub/key/domain/topic{n}", texts: PLAIN, binaries: &[b"\0\x01\x02", b"binary"] },
    Dialect { target: "/hub/sub/domain/topic{n}", texts: PLAIN, binaries: &[b"\0\x01\x02", b"binary"] },
    Dialect { target: "/bullet?key{n}", texts: PLAIN, binaries: &[b"ping"] },
];

const V2: &[&str] = &[
    r#"["1","1","room:1","phx_join",{}]"#,
    r#"["1","2","room:1","new_msg",{"body":"hello","n":[1,2.5e3,null,true,{"deep":{"er":"\u00e9\ud83d\ude00"}}]}]"#,
    r#"[null,"3","phoenix","heartbeat",{}]"#,
    r#"["4","4","lobby","phx_join",{"token":"abc"}]"#,
    r#"["4","5","lobby","shout",{}]"#,
    r#"["4","6","lobby","phx_leave",{}]"#,
    r#"["1","7","phoenix","access_token",{"token":"abc"}]"#,
];

/// Kind 0, the lengths of join_ref, ref, topic and event, these, and the payload.
const V2_BINARY: &[&[u8]] = &[
    b"\0\x01\x01\x06\x0711room:1new_msg\x00\x01\x02\xff",
    b"\0\x00\x01\x07\x091phoenixheartbeat",
    b"\0\x01\x02\x05\x05412lobbyshoutpayload",
];

const V1: &[&str] = &[
    r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":"1"}"#,
    r#"{"topic":"room:1","event":"new_msg","payload":{"body":"hello","n":[1,-0.5,null]},"ref":2}"#,
    r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":"3"}"#,
    r#"{"topic":"room:1","event":"phx_leave","payload":{},"ref":"4","join_ref":"1"}"#,
];

const ROOMS: &[&str] = &[
    r#"{"join":"room:1"}"#,
    r#"{"say":{"body":"hello"},"to":"room:1"}"#,
    r#"{"say":"text","to":"room:1"}"#,
    r#"{"leave":"room:1"}"#,
];

const PLAIN: &[&str] = &["ping", "status", r#"{"any":"text"}"#, "caf\u{e9}"];

/// What JSON, and lengths of one byte, are strange with.
const ODD: &[&[u8]] = &[
    b"\"",
    b"\\",
    b"\\u0000",
    b"\\ud800",
    b"\0",
    b"\r\n",
    b"\xff",
    b"\xc0\x80",
    b"\xed\xa0\x80",
    b"\xef\xbb\xbf",
    b"null",
    b"true",
    b"-0",
    b"1e999",
    b"99999999999999999999",
    b"{}",
    b"[]",
    b"[[",
    b"{\"",
    b",",
    b":",
    b"\"__proto__\"",
    b"\"phx_join\"",
    b"\"phx_close\"",
    b"\"phx_error\"",
    b"\"presence_state\"",
    b"\"*\"",
    b"\"\"",
    b"\"phoenix\"",
    b"\x80",
    b"\x7f",
];

/// A frame that was broken, and a valid one to go before it.
pub(super) struct Broken {
    pub(super) before: Vec<u8>,
    pub(super) bytes: Vec<u8>,
    /// Its header is right, so that what is sent behind it is understood.
    pub(super) ends_where_it_says: bool,
}

impl Dialect {
    /// A broken frame: three times out of four it is the message, else the frame around it.
    pub(super) fn broken(&self, random: &mut Random) -> Broken {
        let (opcode, payload) = self.valid(random);
        let before = frame(opcode, payload);
        let (opcode, payload) = self.valid(random);
        let mut payload = payload.to_vec();
        let ends_where_it_says = !random.one_in(4);
        if ends_where_it_says {
            (0..=random.below(3)).for_each(|_| self.break_payload(random, &mut payload));
        }
        let opcode = match ends_where_it_says && random.one_in(16) {
            true => TEXT + BINARY - opcode,
            false => opcode,
        };
        let mut bytes = frame(opcode, &payload);
        if !ends_where_it_says {
            (0..=random.below(2)).for_each(|_| break_header(random, &mut bytes));
        }
        Broken { before, bytes, ends_where_it_says }
    }

    fn valid(&self, random: &mut Random) -> (u8, &'static [u8]) {
        match random.below(self.texts.len() + self.binaries.len()).checked_sub(self.texts.len()) {
            Some(at) => (BINARY, self.binaries[at]),
            None => (TEXT, random.of(self.texts).as_bytes()),
        }
    }

    fn break_payload(&self, random: &mut Random, payload: &mut Vec<u8>) {
        let at = random.below(payload.len() + 1);
        let to = (at + random.below(12)).min(payload.len());
        match random.below(9) {
            0 if at < payload.len() => payload[at] ^= 1 << random.below(8),
            1 if at < payload.len() => payload[at] = random.byte(),
            2 => payload.truncate(at),
            3 => drop(payload.drain(at..to)),
            4 => {
                let again = payload[at..to].repeat(1 + random.below(3));
                payload.splice(at..at, again);
            }
            // Deep, long, or both.
            5 if random.one_in(8) => {
                let again = random.of(ODD).repeat(random.below(2_000));
                payload.splice(at..at, again);
            }
            6 => {
                let (_, other) = self.valid(random);
                let from = random.below(other.len() + 1);
                payload.truncate(at);
                payload.extend_from_slice(&other[from..]);
            }
            // A whole string or number, so that what comes of it is still JSON.
            7 => {
                let odd = random.of(ODD);
                let token = token(payload, at);
                payload.splice(token, odd.iter().copied());
            }
            _ => {
                let odd = random.of(ODD);
                payload.splice(at..to, odd.iter().copied());
            }
        }
    }
}

/// The first string or word of JSON that begins at `at` or behind it; nothing where there is none.
fn token(payload: &[u8], at: usize) -> std::ops::Range<usize> {
    let is_word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'+' | b'_');
    let Some(start) = payload[at..].iter().position(|byte| *byte == b'"' || is_word(byte)).map(|start| at + start)
    else {
        return at..at;
    };
    let rest = &payload[start + 1..];
    let len = match payload[start] {
        b'"' => rest.iter().position(|byte| *byte == b'"').map_or(rest.len(), |end| end + 1),
        _ => rest.iter().position(|byte| !is_word(byte)).unwrap_or(rest.len()),
    };
    start..start + 1 + len
}

fn break_header(random: &mut Random, frame: &mut Vec<u8>) {
    match random.below(7) {
        // FIN, reserved bits, opcode.
        0 => frame[0] ^= 1 << random.below(8),
        1 => frame[0] = random.byte(),
        // The mask bit, or a length that lies.
        2 => frame[1] ^= 1 << random.below(8),
        // Lengths up to 2^64, of eight bytes or two.
        3 => {
            frame[1] = 0x80 | 127;
            let len = random.number() >> random.below(64);
            frame.splice(2..2, len.to_be_bytes());
        }
        4 => {
            frame[1] = 0x80 | 126;
            let len = random.number() as u16 >> random.below(16);
            frame.splice(2..2, len.to_be_bytes());
        }
        // Control frames, whole and in fragments, and continuations of nothing.
        5 => frame[0] = *random.of(&[0x08, 0x88, 0x09, 0x89, 0x0a, 0x8a, 0x00, 0x80, 0x8b, 0xff]),
        _ => {
            let end = random.below(frame.len());
            frame.truncate(end.max(2));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_what_it_has_broken() {
        let broken = |seed| {
            let mut random = Random::new(seed, 3);
            let frames = (0..200).map(|_| DIALECTS[random.below(DIALECTS.len())].broken(&mut random).bytes);
            frames.collect::<Vec<_>>()
        };
        assert_eq!(broken(1), broken(1));
        assert_ne!(broken(1), broken(2));
    }

    #[test]
    fn tokens() {
        let json = br#"{"a":"b",12,null}"#;
        for (at, expected) in [(0, r#""a""#), (2, r#"a"#), (5, r#""b""#), (8, "12"), (11, "null"), (16, ""), (17, "")] {
            assert_eq!(&json[token(json, at)], expected.as_bytes(), "{at}");
        }
    }
}
