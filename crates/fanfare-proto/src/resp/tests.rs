//! RESP3: a table of frames, each also cut at every byte, and mutated ones.

use proptest::prelude::*;

use super::*;

/// What a value is, in words.
fn words(value: Value<'_>) -> String {
    let all = |items: Items<'_>| items.map(words).collect::<Vec<_>>().join(" ");
    match value {
        Value::Text(text) => String::from_utf8_lossy(text).into_owned(),
        Value::Error(text) => format!("error<{}>", String::from_utf8_lossy(text)),
        Value::Number(number) => number.to_string(),
        Value::Boolean(boolean) => boolean.to_string(),
        Value::Null => "null".to_owned(),
        Value::List(items) => format!("[{}]", all(items)),
        Value::Map(items) => format!("{{{}}}", all(items)),
        Value::Push(items) => format!(">[{}]", all(items)),
    }
}

/// All frames of a stream that comes in pieces of so many bytes: their words, and how it ends.
fn read(stream: &[u8], piece: usize) -> (Vec<String>, Option<Fault>) {
    let (mut scanner, mut all, mut at) = (Scanner::new(1_000), Vec::new(), 0);
    for end in (piece..stream.len()).step_by(piece).chain([stream.len()]) {
        loop {
            match scanner.frame(&stream[at..end]) {
                Ok(None) => break,
                Ok(Some(size)) => {
                    all.push(words(Value::read(&stream[at..at + size])));
                    at += size;
                }
                Err(fault) => return (all, Some(fault)),
            }
        }
    }
    (all, None)
}

#[track_caller]
fn check(stream: &str, expected: &[&str], fault: Option<Fault>) {
    for piece in 1..=stream.len().max(1) {
        let (all, ended) = read(stream.as_bytes(), piece);
        assert_eq!(all, expected, "{stream:?} in pieces of {piece}");
        assert_eq!(ended, fault, "{stream:?} in pieces of {piece}");
    }
}

#[test]
fn frames_of_all_types() {
    for (stream, expected) in [
        ("+OK\r\n", "OK"),
        ("+\r\n", ""),
        ("-NOSCRIPT No matching\r\n", "error<NOSCRIPT No matching>"),
        (":-7\r\n", "-7"),
        ("$2\r\nhi\r\n", "hi"),
        ("$0\r\n\r\n", ""),
        ("$4\r\n\r\n\r\n\r\n", "\r\n\r\n"),
        ("$-1\r\n", "null"),
        ("*-1\r\n", "null"),
        ("_\r\n", "null"),
        ("#t\r\n", "true"),
        ("#f\r\n", "false"),
        (",1.5\r\n", "1.5"),
        ("(123456789012345678901234567890\r\n", "123456789012345678901234567890"),
        ("!5\r\nERR x\r\n", "error<ERR x>"),
        ("=6\r\ntxt:hi\r\n", "hi"),
        ("*0\r\n", "[]"),
        ("*2\r\n:1\r\n*1\r\n+a\r\n", "[1 [a]]"),
        ("~2\r\n:1\r\n:2\r\n", "[1 2]"),
        ("%2\r\n+a\r\n:1\r\n+b\r\n*0\r\n", "{a 1 b []}"),
        (">3\r\n$8\r\nsmessage\r\n$1\r\nt\r\n$2\r\nhi\r\n", ">[smessage t hi]"),
        ("|1\r\n+ttl\r\n:9\r\n+OK\r\n", "OK"),
        ("*2\r\n|1\r\n+a\r\n|1\r\n+b\r\n:1\r\n:2\r\n:3\r\n:4\r\n", "[3 4]"),
    ] {
        check(stream, &[expected], None);
        check(&format!("{stream}:1\r\n"), &[expected, "1"], None);
    }
}

#[test]
fn what_is_not_a_frame_ends_the_connection() {
    for (stream, fault) in [
        ("HTTP/1.1 400 Bad Request\r\n", Fault::Type(b'H')),
        ("\r\n", Fault::Type(b'\r')),
        ("$x\r\n", Fault::Number),
        ("$\r\n", Fault::Number),
        ("$?\r\n", Fault::Number),
        ("*?\r\n", Fault::Number),
        ("$-2\r\n", Fault::Number),
        ("$1\rx", Fault::Number),
        ("$1234567890123\r\n", Fault::Number),
        (":1.5\r\n", Fault::Number),
        (":\r\n", Fault::Number),
        ("+OK\n", Fault::Ending),
        ("$2\r\nhi--", Fault::Ending),
        ("$1001\r\n", Fault::StringSize(1_001)),
        ("*1048577\r\n", Fault::Values),
        ("%524289\r\n", Fault::Values),
        ("*1048576\r\n*1\r\n", Fault::Values),
        ("|999999999999\r\n", Fault::Values),
    ] {
        check(stream, &[], Some(fault));
        check(&format!("+OK\r\n{stream}"), &["OK"], Some(fault));
    }
    let endless = [&b"+"[..], &[b'x'; LINE_SIZE_MAX + 1]].concat();
    assert_eq!(read(&endless, 4_096), (Vec::new(), Some(Fault::Line)));
}

#[test]
fn commands() {
    let mut out = Vec::new();
    write_command(&[b"SPUBLISH", b"a\r\n", b""], &mut out);
    assert_eq!(out, b"*3\r\n$8\r\nSPUBLISH\r\n$3\r\na\r\n\r\n$0\r\n\r\n");
    assert_eq!(read(&out, 7), (vec!["[SPUBLISH a\r\n ]".to_owned()], None));
}

/// Appends a frame.
fn frame() -> impl Strategy<Value = String> {
    let leaf = prop_oneof![
        "[a-z ]{0,9}".prop_map(|text| format!("+{text}\r\n")),
        ".{0,9}".prop_map(|text| format!("${}\r\n{text}\r\n", text.len())),
        any::<i64>().prop_map(|number| format!(":{number}\r\n")),
        Just("_\r\n".to_owned()),
        Just("$-1\r\n".to_owned()),
        "[A-Z]{1,9}".prop_map(|text| format!("-{text}\r\n")),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let many = (prop::sample::select(vec!['*', '~', '>']), proptest::collection::vec(inner.clone(), 0..4));
        let pairs = proptest::collection::vec((inner.clone(), inner.clone()), 0..3);
        prop_oneof![
            many.prop_map(|(kind, all)| format!("{kind}{}\r\n{}", all.len(), all.concat())),
            pairs.prop_map(|all| {
                let text: String = all.iter().map(|(key, value)| format!("{key}{value}")).collect();
                format!("%{}\r\n{text}", all.len())
            }),
            (inner.clone(), inner.clone(), inner).prop_map(|(key, value, about)| format!("|1\r\n{key}{value}{about}")),
        ]
    })
}

proptest! {
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(all in proptest::collection::vec(frame(), 0..4), piece in 1..40_usize) {
        let stream = all.concat();
        let (words, fault) = read(stream.as_bytes(), piece);
        prop_assert_eq!(fault, None);
        prop_assert_eq!(words.len(), all.len());
        prop_assert_eq!(words, read(stream.as_bytes(), usize::MAX).0);
    }

    #[test]
    fn whatever_comes_is_read_or_refused(
        all in proptest::collection::vec(frame(), 0..4),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..4),
        piece in 1..40_usize,
    ) {
        let mut stream = all.concat().into_bytes();
        if !stream.is_empty() {
            for (place, byte) in mutations {
                let place = place.index(stream.len());
                stream[place] = byte;
            }
        }
        prop_assert_eq!(read(&stream, piece), read(&stream, usize::MAX));
    }

    #[test]
    fn a_value_is_read_from_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        words(Value::read(&bytes));
    }
}
