//! What a server says, whole, cut and broken.

use proptest::prelude::*;

use super::*;

const SIZE_MAX: usize = 1_000;

/// What a stream says in words, if its bytes come in pieces, and why it ends.
fn read(stream: &[u8], piece: usize) -> (Vec<String>, Option<Fault>) {
    let (mut all, mut at, mut end) = (Vec::new(), 0, 0);
    loop {
        match Said::read(&stream[at..end], SIZE_MAX) {
            Ok(Some((said, size))) => {
                all.push(words(said));
                at += size;
            }
            Ok(None) if end == stream.len() => return (all, None),
            Ok(None) => end = stream.len().min(end.saturating_add(piece)),
            Err(fault) => return (all, Some(fault)),
        }
    }
}

fn words(said: Said<'_>) -> String {
    match said {
        Said::Info(json) => format!("info {}", String::from_utf8_lossy(json)),
        Said::Message(Message { subject, subscription, reply, headers, payload }) => {
            let payload = String::from_utf8_lossy(payload);
            let reply = reply.map_or_else(String::new, |reply| format!(" reply {reply}"));
            let status =
                headers.status().map_or_else(String::new, |status| format!(" {status} {}", headers.description()));
            let of = headers.get("of").map_or_else(String::new, |of| format!(" of {of}"));
            format!("{subject} {subscription}{reply}{status}{of}: {payload}")
        }
        Said::Ping => "ping".to_owned(),
        Said::Pong => "pong".to_owned(),
        Said::Ok => "ok".to_owned(),
        Said::Error(text) => format!("error {text}"),
    }
}

#[test]
fn what_a_server_says() {
    for (stream, expected) in [
        ("", &[][..]),
        ("INFO {\"a\":1} \r\n", &["info {\"a\":1}"]),
        ("PING\r\nPONG\r\n+OK\r\n", &["ping", "pong", "ok"]),
        ("-ERR 'Authorization Violation'\r\n", &["error Authorization Violation"]),
        ("MSG a.b 7 5\r\nhello\r\n", &["a.b 7: hello"]),
        ("MSG a.b 7 to.me 0\r\n\r\nPING\r\n", &["a.b 7 reply to.me: ", "ping"]),
        ("msg a\t7  2\r\n\r\n\r\n", &["a 7: \r\n"]),
        ("HMSG a 7 16 16\r\nNATS/1.0 503\r\n\r\n\r\n", &["a 7 503 : "]),
        ("HMSG a 7 b 28 30\r\nNATS/1.0 404 No Messages\r\n\r\nhi\r\n", &["a 7 reply b 404 No Messages: hi"]),
        ("HMSG a 7 24 26\r\nNATS/1.0\r\nx: 1\r\nOF:2\r\n\r\nhi\r\n", &["a 7 of 2: hi"]),
        ("HMSG a 7 0 2\r\nhi\r\n", &["a 7: hi"]),
        ("HMSG a 7 4 6\r\nof:2hi\r\n", &["a 7: hi"]),
    ] {
        for piece in [1, 2, 3, 7, usize::MAX] {
            let (words, fault) = read(stream.as_bytes(), piece);
            assert_eq!(
                (words.as_slice(), fault),
                (&*expected.iter().map(|word| word.to_string()).collect::<Vec<_>>(), None)
            );
        }
    }
}

#[test]
fn what_no_server_says_is_refused() {
    for (stream, fault) in [
        ("HTTP/1.1 400 Bad Request\r\n", Fault::Unknown),
        ("-NOAUTH\r\n", Fault::Unknown),
        ("\r\n", Fault::Unknown),
        ("PING\n", Fault::Unknown),
        ("PINGS\r\n", Fault::Unknown),
        ("MSG\r\n", Fault::Message),
        ("MSG a 1\r\n", Fault::Message),
        ("MSG a x 1\r\n", Fault::Message),
        ("MSG a 1 b c 1\r\n", Fault::Message),
        ("MSG a 1 +1\r\n", Fault::Message),
        ("MSG a 1 -1\r\n", Fault::Message),
        ("MSG a 1 99999999999999999999\r\n", Fault::Message),
        ("MSG a 1 1001\r\n", Fault::Size(1_001)),
        ("MSG a 1 18446744073709551615\r\n", Fault::Size(u64::MAX)),
        ("HMSG a 1 1\r\n", Fault::Message),
        ("HMSG a 1 3 2\r\n", Fault::Message),
        ("HMSG a 1 b c 2 2\r\n", Fault::Message),
        ("MSG a 1 2\r\nhi!\r\n", Fault::Ending),
    ] {
        for piece in [1, usize::MAX] {
            assert_eq!(
                read(format!("PING\r\n{stream}").as_bytes(), piece),
                (vec!["ping".into()], Some(fault)),
                "{stream}"
            );
        }
    }
    let endless = |word: &str, size: usize| [word.as_bytes(), &vec![b'x'; size]].concat();
    assert_eq!(read(&endless("-ERR ", LINE_SIZE_MAX), 100), (vec![], Some(Fault::Line)));
    assert_eq!(read(&endless("INFO ", INFO_SIZE_MAX), 9_999), (vec![], Some(Fault::Line)));
    assert_eq!(read(&endless("INFO ", LINE_SIZE_MAX), 100), (vec![], None));
}

#[test]
fn a_command_is_read_by_a_server() {
    let mut out = Vec::new();
    write_line(&["SUB", "a.b", "7"], &mut out);
    write_message("a", None, &[], b"hi", &mut out);
    write_message("a", Some("b"), &[], b"", &mut out);
    write_message("a", Some("b"), &[("of", "2")], b"hi", &mut out);
    let expected = "SUB a.b 7\r\nPUB a 2\r\nhi\r\nPUB a b 0\r\n\r\nHPUB a b 19 21\r\nNATS/1.0\r\nof: 2\r\n\r\nhi\r\n";
    assert_eq!(String::from_utf8(out).unwrap(), expected);
}

/// What a server says, and the same in words.
fn said() -> impl Strategy<Value = (String, String)> {
    prop_oneof![
        Just(("PING\r\n".to_owned(), "ping".to_owned())),
        Just(("+OK\r\n".to_owned(), "ok".to_owned())),
        "[a-z ]{0,9}x".prop_map(|text| (format!("-ERR '{text}'\r\n"), format!("error {text}"))),
        ("[a-z%]{1,9}", any::<u64>(), ".{0,30}").prop_map(|(subject, number, payload)| {
            let size = payload.len();
            (format!("MSG {subject} {number} {size}\r\n{payload}\r\n"), format!("{subject} {number}: {payload}"))
        }),
        ("[a-z.]{1,9}", 0..9_u64, "[a-z]{1,9}", ".{0,30}").prop_map(|(subject, number, of, payload)| {
            let headers = format!("NATS/1.0\r\nx: 0\r\nof: {of}\r\n\r\n");
            let (size, all) = (headers.len(), headers.len() + payload.len());
            let line = format!("HMSG {subject} {number} reply {size} {all}");
            (format!("{line}\r\n{headers}{payload}\r\n"), format!("{subject} {number} reply reply of {of}: {payload}"))
        }),
    ]
}

proptest! {
    #[test]
    fn a_stream_means_the_same_however_it_is_cut(all in proptest::collection::vec(said(), 0..6), piece in 1..40_usize) {
        let stream: String = all.iter().map(|(stream, _)| &**stream).collect();
        let expected: Vec<_> = all.into_iter().map(|(_, words)| words).collect();
        prop_assert_eq!(read(stream.as_bytes(), piece), (expected, None));
    }

    #[test]
    fn whatever_comes_is_read_or_refused(
        all in proptest::collection::vec(said(), 0..6),
        mutations in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6),
        piece in 1..40_usize,
    ) {
        let mut stream = all.iter().map(|(stream, _)| &**stream).collect::<String>().into_bytes();
        if !stream.is_empty() {
            for (place, byte) in mutations {
                let place = place.index(stream.len());
                stream[place] = byte;
            }
        }
        prop_assert_eq!(read(&stream, piece), read(&stream, usize::MAX));
    }

    #[test]
    fn headers_are_read_from_any_bytes(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
        let headers = Headers::new(&bytes);
        let _ = (headers.status(), headers.description(), headers.get("of"), headers.number("x"));
    }
}
