//! Clients of other languages, replayed: the frames that each writes, as its public source says or as they were recorded (Rust), typed
//! raw into a socket, and what it must read. One row a client; the guide's table is made of them. The clients themselves are not run here.

use fanfare_tables::Table;

use crate::support::{Client, Server};

const CONFIG: &str = "[[channel]]\ntopic = 'room:*'\njoin = 'open'\npublish = 'open'\n";

/// A client as its source describes it.
struct Replayed {
    language: &'static str,
    client: &'static str,
    /// The version whose source was read.
    version: &'static str,
    /// What it appends to the address.
    query: &'static str,
    /// What is special about its frames, in Markdown.
    special: &'static str,
    exchanges: &'static [Exchange],
    /// How it closes when a heartbeat is not answered; `None` if it does not.
    close: Option<(u16, &'static str)>,
}

/// A frame of the client, and the frames that come back, byte for byte: several clients take them apart by hand.
struct Exchange(Sent, &'static [&'static str]);

enum Sent {
    Text(&'static str),
    Binary(&'static [u8]),
}

use Sent::{Binary, Text};

static CLIENTS: &[Replayed] = &[
    Replayed {
        language: "Go",
        client: "[nshafer/phx](https://github.com/nshafer/phx)",
        version: "0.2.5",
        query: "?vsn=2.0.0",
        special: "an empty `join_ref` outside of channels; `null` as the payload of heartbeats, and where none is given; gaps between refs",
        exchanges: &[
            Exchange(
                Text(r#"["4","4","room:1","phx_join",null]"#),
                &[r#"["4","4","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["4","7","room:1","new_msg",{"body":"hi"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"hi"}]"#,
                    r#"["4","7","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"["","9","phoenix","heartbeat",null]"#),
                &[r#"[null,"9","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["4","11","room:1","phx_leave",null]"#),
                &[
                    r#"["4","11","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["4","4","room:1","phx_close",{}]"#,
                ],
            ),
        ],
        close: Some((1000, "")),
    },
    Replayed {
        language: "Go",
        client: "[nshafer/phx](https://github.com/nshafer/phx) with `JSONSerializerV1`",
        version: "0.2.5",
        query: "?vsn=1.0.0",
        special: "version 1.0.0; no `join_ref` in heartbeats; `null` as their payload",
        exchanges: &[
            Exchange(
                Text(r#"{"join_ref":"1","ref":"1","topic":"room:1","event":"phx_join","payload":{"name":"Ada"}}"#),
                &[r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"1"}"#],
            ),
            Exchange(
                Text(r#"{"ref":"2","topic":"phoenix","event":"heartbeat","payload":null}"#),
                &[r#"{"topic":"phoenix","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"2"}"#],
            ),
            Exchange(
                Text(r#"{"join_ref":"1","ref":"3","topic":"room:1","event":"phx_leave","payload":null}"#),
                &[
                    r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":"3"}"#,
                    r#"{"topic":"room:1","event":"phx_close","payload":{},"ref":"1"}"#,
                ],
            ),
        ],
        close: Some((1000, "")),
    },
    Replayed {
        language: "Swift",
        client: "[SwiftPhoenixClient](https://github.com/davidstump/SwiftPhoenixClient)",
        version: "5.3.4",
        query: "?vsn=2.0.0&token=abc",
        special: "slashes escaped as `\\/`",
        exchanges: &[
            Exchange(
                Text(r#"["1","1","room:a\/b","phx_join",{"name":"Ada"}]"#),
                &[r#"["1","1","room:a/b","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","2","room:a\/b","new_msg",{"url":"https:\/\/example.com\/"}]"#),
                &[
                    r#"[null,null,"room:a/b","new_msg",{"url":"https:\/\/example.com\/"}]"#,
                    r#"["1","2","room:a/b","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"[null,"3","phoenix","heartbeat",{}]"#),
                &[r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","4","room:a\/b","phx_leave",{}]"#),
                &[
                    r#"["1","4","room:a/b","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:a/b","phx_close",{}]"#,
                ],
            ),
        ],
        close: Some((1000, "heartbeat timeout")),
    },
    Replayed {
        language: "Kotlin, Java",
        client: "[JavaPhoenixClient](https://github.com/dsrees/JavaPhoenixClient)",
        version: "1.3.1",
        query: "?vsn=2.0.0&token=abc",
        special: "`<`, `>`, `&`, `=` and `'` escaped as `\\u003c` and so on; it cuts the frames that it reads at their commas, so it needs them without blanks",
        exchanges: &[
            Exchange(
                Text(r#"["1","1","room:1","phx_join",{"name":"Ada"}]"#),
                &[r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","2","room:1","new_msg",{"body":"a \u003c b \u0026 it\u0027s"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"a \u003c b \u0026 it\u0027s"}]"#,
                    r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"[null,"3","phoenix","heartbeat",{}]"#),
                &[r#"[null,"3","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","4","room:1","phx_leave",{}]"#),
                &[
                    r#"["1","4","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:1","phx_close",{}]"#,
                ],
            ),
        ],
        close: Some((1000, "heartbeat timeout")),
    },
    Replayed {
        language: "Dart, Flutter",
        client: "[phoenix_socket](https://pub.dev/packages/phoenix_socket)",
        version: "0.8 (July 2025)",
        query: "?vsn=2.0.0",
        special: "refs from `0`; a heartbeat before the first join, whose answer it waits for; binary pushes",
        exchanges: &[
            Exchange(
                Text(r#"[null,"0","phoenix","heartbeat",{}]"#),
                &[r#"[null,"0","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","1","room:1","phx_join",{}]"#),
                &[r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","2","room:1","new_msg",{"body":"hi"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"hi"}]"#,
                    r#"["1","2","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Binary(b"\0\x01\x01\x06\x0313room:1bin\xff\x00\xfe"),
                // A broadcast: kind 2, the lengths of topic and event, both, and the bytes; then the reply, which is text.
                &[
                    r#"binary 02 06 03 "room:1bin" ff00fe"#,
                    r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"["1","4","room:1","phx_leave",{}]"#),
                &[
                    r#"["1","4","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:1","phx_close",{}]"#,
                ],
            ),
        ],
        close: Some((1000, "heartbeat timeout")),
    },
    Replayed {
        language: "C#, Unity",
        client: "[PhoenixSharp](https://github.com/Mazyod/PhoenixSharp)",
        version: "July 2023",
        query: "?vsn=2.0.0",
        special: "none: an empty payload is `{}`, heartbeats have `null` as their `join_ref`",
        exchanges: &[
            Exchange(
                Text(r#"["1","1","room:1","phx_join",{}]"#),
                &[r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"[null,"2","phoenix","heartbeat",{}]"#),
                &[r#"[null,"2","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","3","room:1","new_msg",{"body":"hi"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"hi"}]"#,
                    r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"["1","4","room:1","phx_leave",{}]"#),
                &[
                    r#"["1","4","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:1","phx_close",{}]"#,
                ],
            ),
        ],
        close: Some((1000, "heartbeat timeout")),
    },
    Replayed {
        language: "Rust",
        client: "[phoenix-chan](https://crates.io/crates/phoenix-chan)",
        version: "0.4.6",
        query: "?vsn=2.0.0",
        special: "one `join_ref` for all its joins; a heartbeat only if nothing else was sent for 30 s",
        exchanges: &[
            Exchange(
                Text(r#"["1","1","room:1","phx_join",{}]"#),
                &[r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","2","room:2","phx_join",{}]"#),
                &[r#"["1","2","room:2","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","3","room:1","new_msg",{"body":"hi"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"hi"}]"#,
                    r#"["1","3","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"[null,"4","phoenix","heartbeat",{}]"#),
                &[r#"[null,"4","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","5","room:1","phx_leave",{}]"#),
                &[
                    r#"["1","5","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:1","phx_close",{}]"#,
                ],
            ),
        ],
        close: None,
    },
    Replayed {
        language: "Rust",
        client: "[phoenix_channels_client](https://crates.io/crates/phoenix_channels_client)",
        version: "0.1.2",
        query: "?vsn=2.0.0",
        special: "refs from `0`, other than the `join_ref`; `null` as the ref of leaves, and of pushes that want no reply; words as refs of heartbeats, `null` as their payload",
        exchanges: &[
            Exchange(
                Text(r#"["1","0","room:1","phx_join",{}]"#),
                &[r#"["1","0","room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1","1","room:1","new_msg",{"body":"hi"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"hi"}]"#,
                    r#"["1","1","room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"["1",null,"room:1","new_msg",{"body":"ho"}]"#),
                &[
                    r#"[null,null,"room:1","new_msg",{"body":"ho"}]"#,
                    r#"["1",null,"room:1","phx_reply",{"status":"ok","response":{}}]"#,
                ],
            ),
            Exchange(
                Text(r#"[null,"heartbeat:1","phoenix","heartbeat",null]"#),
                &[r#"[null,"heartbeat:1","phoenix","phx_reply",{"status":"ok","response":{}}]"#],
            ),
            Exchange(
                Text(r#"["1",null,"room:1","phx_leave",null]"#),
                &[
                    r#"["1",null,"room:1","phx_reply",{"status":"ok","response":{}}]"#,
                    r#"["1","1","room:1","phx_close",{}]"#,
                ],
            ),
            // It leaves once more when its channel is dropped.
            Exchange(
                Text(r#"["1",null,"room:1","phx_leave",null]"#),
                &[r#"["1",null,"room:1","phx_reply",{"status":"ok","response":{}}]"#],
            ),
        ],
        close: None,
    },
];

#[test]
fn frames_of_clients_of_other_languages_are_answered_as_they_expect() {
    let server = Server::serve(CONFIG);
    for replayed in CLIENTS {
        let of = format!("{} {}", replayed.client, replayed.version);
        let mut client = server.upgrade(&format!("/socket/websocket{}", replayed.query), &[]).expect(&of);
        for (at, Exchange(sent, expected)) in replayed.exchanges.iter().enumerate() {
            match sent {
                Text(text) => client.send_text(text),
                Binary(bytes) => client.send_binary(bytes),
            }
            for expected in *expected {
                assert_eq!(next(&mut client), *expected, "{of}, exchange {at}");
            }
        }
        if let Some((code, reason)) = replayed.close {
            client.close(code, reason);
            assert_eq!(client.receive_close(), code, "{of}: its own code comes back");
        }
    }
}

#[test]
fn clients_without_a_version_and_with_numbers_as_refs_are_answered_in_kind() {
    let server = Server::serve(CONFIG);
    let mut client = server.upgrade("/socket/websocket", &[]).unwrap();
    client.send_text(r#"{"topic":"room:1","event":"phx_join","payload":{},"ref":0}"#);
    let reply = r#"{"topic":"room:1","event":"phx_reply","payload":{"status":"ok","response":{}},"ref":0}"#;
    assert_eq!(next(&mut client), reply);
    client.send_text(r#"{"topic":"room:1","event":"new_msg","payload":{"n":1},"ref":1}"#);
    assert_eq!(next(&mut client), r#"{"topic":"room:1","event":"new_msg","payload":{"n":1},"ref":null}"#);

    let mut client = server.upgrade("/socket/websocket?vsn=2.0.0", &[]).unwrap();
    client.send_text(r#"[1,1,"room:1","phx_join",{}]"#);
    assert_eq!(next(&mut client), r#"[1,1,"room:1","phx_reply",{"status":"ok","response":{}}]"#);
    client.send_text(r#"[null,2,"room:1","phx_leave",{}]"#);
    assert_eq!(next(&mut client), r#"[1,2,"room:1","phx_reply",{"status":"ok","response":{}}]"#);
}

#[test]
fn a_binary_push_with_an_empty_join_ref_is_of_another_join() {
    let server = Server::serve(CONFIG);
    let mut client = server.upgrade("/socket/websocket?vsn=2.0.0", &[]).unwrap();
    client.join_ok("room:1");
    client.send_binary(b"\0\0\x01\x06\x039room:1bin!");
    client.heartbeat();
    assert_eq!(server.counter("drops", "stale_join_ref"), 1);
}

#[test]
fn replayed_clients_stand_in_the_guide() {
    let mut table = Table::new(&["language", "client", "source of", "its frames", "closes with"]);
    for Replayed { language, client, version, special, close, .. } in CLIENTS {
        let close = match close {
            None => "–".to_owned(),
            Some((code, "")) => code.to_string(),
            Some((code, reason)) => format!("{code}, `{reason}`"),
        };
        table.row(&[language, client, version, special, &close]);
    }
    table.check("clients.md", "replayed");
}

/// The next frame: a text as it is, a binary one as its kind, lengths, names and bytes.
fn next(client: &mut Client) -> String {
    match client.receive_frame() {
        Ok(text) => text,
        Err(bytes) => {
            let (topic, event) = (usize::from(bytes[1]), usize::from(bytes[2]));
            let (head, data) = bytes.split_at(3 + topic + event);
            let data: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
            let names = String::from_utf8_lossy(&head[3..]);
            format!("binary {:02x} {topic:02x} {event:02x} {names:?} {data}", head[0])
        }
    }
}
