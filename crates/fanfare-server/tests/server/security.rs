//! The fifty checks of security: which test makes each, and those that no other file makes.

use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;

use fanfare_tables::Table;
use serde_json::Value;

use crate::support::{Folder, PATIENCE, Server, TOKEN, http};

/// What is checked, and the functions that check it. Those that are no function of a test are commands.
const ROWS: [(&str, &[&str]); 50] = [
    (
        "An origin is compared as a whole: suffixes, prefixes, user information, `null` and `file:` are refused",
        &["only_listed_pages_may_connect", "patterns"],
    ),
    ("A request without `Origin` is let in: it is not a page's", &["only_listed_pages_may_connect"]),
    (
        "The origin counts for long-polling and streams too",
        &["only_listed_pages_may_connect", "pages_of_other_origins_are_let_in_by_name_only"],
    ),
    (
        "An upgrade has to be one: method, version of HTTP, headers, key, version 13",
        &["what_is_an_upgrade_and_what_is_not", "method_and_version_of_http", "each_refusal_has_its_status_and_header"],
    ),
    (
        "Heads with two meanings are refused",
        &[
            "security_5_heads_that_can_be_understood_in_two_ways_are_refused",
            "heads_that_can_be_understood_in_two_ways_are_refused",
        ],
    ),
    (
        "A head has at most 16 KiB and 100 headers, and costs by its length",
        &["security_6_heads_are_bounded", "headers_of_a_handshake"],
    ),
    ("The time for a handshake is absolute", &["rooms_5_a_handshake_has_an_absolute_limit"]),
    ("So is that for a handshake of TLS", &["security_8_a_handshake_of_tls_has_an_absolute_limit"]),
    ("TLS is 1.2 or newer", &["security_9_tls_is_new_enough"]),
    (
        "Connections are bounded by address and in total, before the upgrade",
        &["connections_are_bounded_in_total_and_per_address", "connections_are_counted"],
    ),
    ("`X-Forwarded-For` is believed of listed proxies", &["security_11_only_listed_proxies_say_who_the_client_is"]),
    ("A declared length allocates nothing", &["a_declared_length_allocates_nothing"]),
    (
        "Messages, frames and fragments are bounded",
        &["oversized_and_fragmented_floods_close_1009", "fragments_are_counted"],
    ),
    ("Reassembly costs by the length", &["a_million_fragments_of_one_byte", "frames_of_websockets"]),
    (
        "A bomb is cut by what it inflates to",
        &["bombs_are_cut_by_what_they_inflate_to", "a_bomb_costs_no_more_than_the_limit"],
    ),
    (
        "Offers of compression that cannot be honoured are declined",
        &["offers_that_are_declined", "protocol_violations"],
    ),
    ("A connection that says nothing keeps no buffers of compression", &["an_idle_connection_owns_nothing"]),
    ("Pings are bounded", &["whoever_pings_too_often_is_closed", "joins_errors_and_pings_have_rates"]),
    ("Silence ends a connection", &["silence_ends_a_connection"]),
    (
        "No credential is in a log, at any level",
        &[
            "security_20_a_marker_is_in_no_line_at_trace_level",
            "security_20_authenticators_log_no_secret_at_trace_level",
            "security_20_hooks_and_webhooks_log_no_secret_at_trace_level",
        ],
    ),
    (
        "A credential comes by header, subprotocol, first message and parameter",
        &["security_21_every_way_of_a_credential"],
    ),
    (
        "JSON Web Tokens: algorithms, times, audience, issuer, types",
        &[
            "security_22_security_25_json_web_tokens_of_every_kind",
            "security_22_keys_that_do_not_fit_are_configuration_errors",
        ],
    ),
    (
        "No claim that is not verified causes a request",
        &["security_23_no_token_causes_a_request", "security_23_a_client_chooses_no_address"],
    ),
    (
        "Keys are kept by issuer and `kid`",
        &["security_24_keys_rotate_by_the_clock", "security_24_keys_belong_to_their_issuer"],
    ),
    (
        "An open connection ends with its credential",
        &["security_25_phoenix_tokens", "security_25_a_key_that_came_by_message_can_be_revoked"],
    ),
    ("API keys are random, and stored as a hash", &["security_26_keys_are_random_and_stored_as_a_hash"]),
    ("Comparisons take the same time", &["security_27_nothing_tells_how_near_a_signature_was"]),
    (
        "A key is bound to a query as a string",
        &["hub_4_security_28_security_29_unknown_inactive_and_foreign_keys_look_the_same"],
    ),
    (
        "Unknown, inactive and foreign keys have one answer",
        &["hub_4_security_28_security_29_unknown_inactive_and_foreign_keys_look_the_same"],
    ),
    (
        "Who may join is decided on the bytes that are joined",
        &["security_30_who_may_join_is_decided_on_the_bytes_that_are_joined"],
    ),
    (
        "Topics are bounded and printable",
        &["security_31_names_that_cannot_be_are_refused_at_every_door", "security_31_names_are_bounded"],
    ),
    (
        "Wildcards of Redis and NATS are characters",
        &[
            "security_32_wildcards_in_names_are_characters",
            "security_32_redis_channels_and_patterns",
            "security_32_nats_subjects_and_its_death",
        ],
    ),
    (
        "A push to a topic that is not joined is refused",
        &["security_33_unknown_topics_and_events_and_pushes_before_join_are_answered"],
    ),
    (
        "A message reaches its topic and nothing else",
        &["security_33_security_34_a_message_reaches_its_topic_and_nothing_else"],
    ),
    ("Joins are bounded, and each costs the same", &["joins_max", "joins"]),
    (
        "Joins, messages and errors have rates",
        &[
            "joins_have_a_rate_and_one_beyond_it_leaves_the_socket_as_it_is",
            "messages_beyond_their_rate_are_refused_and_their_senders_told_when_to_come_again",
            "whoever_errs_too_often_is_closed",
        ],
    ),
    (
        "JSON: depth, numbers, lone surrogates, keys that are there twice",
        &[
            "deep_nesting_closes_1011",
            "numbers_are_bounded_by_what_a_double_holds_and_not_by_their_digits",
            "documents",
        ],
    ),
    ("Lengths within a binary message that are too long", &["binary_of_version_2"]),
    ("Keys such as `__proto__` harm no client", &["keys_pass_unharmed"]),
    (
        "No line break gets out of an event of a stream",
        &["line_breaks_of_any_kind_stay_within_their_event", "no_text_breaks_out_of_its_event"],
    ),
    ("`Last-Event-ID` is not trusted", &["an_id_of_somebody_elses_is_a_gap"]),
    (
        "The token of a long-poll session is signed, random and ends",
        &["only_untouched_young_tokens_of_this_key_pass", "long_poll_bodies_and_tokens"],
    ),
    ("The token of a session opens that session and no other", &["long_poll_bodies_and_tokens"]),
    (
        "Bodies, their lines, and sessions of an address are bounded",
        &["long_poll_requests_have_limits", "long_poll_sessions_per_address_are_bounded"],
    ),
    (
        "A slow reader meets a bound and a deadline",
        &[
            "slow_reader_is_closed_1013_and_delays_nobody",
            "a_reader_that_takes_nothing_for_the_write_timeout_is_closed_1013",
        ],
    ),
    ("Memory and descriptors come back", &["cargo xtask scoreboard 10 19 20"]),
    (
        "A poisoned message ends one join",
        &["panic_ends_one_join", "bridge_10_security_47_poisoned_messages_harm_nothing"],
    ),
    (
        "The API is on a listener of its own, and closed without a token",
        &[
            "without_a_token_the_api_is_closed",
            "what_looks_closed_and_is_open_is_refused",
            "a_stranger_gets_metrics_where_that_was_written_down_and_nothing_else",
            "a_token_does_what_it_may",
            "wrong_tokens_are_braked",
        ],
    ),
    (
        "No answer lets pages of all origins in with credentials",
        &["security_49_no_answer_is_for_all_pages_with_credentials", "a_page_of_somebody_else_changes_nothing"],
    ),
    ("Dependencies have no known faults", &["cargo xtask dependencies"]),
];

#[test]
fn checks_and_their_tests_stand_in_the_guide() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut known = BTreeSet::new();
    for folder in ["crates/fanfare/src", "crates/fanfare/tests", "crates/fanfare-proto", "crates/fanfare-server"] {
        collect(&root.join(folder), &mut known);
    }
    let mut table = Table::new(&["check", "what holds", "shown by"]);
    for (number, (what, tests)) in (1..).zip(ROWS) {
        for test in tests {
            assert!(test.contains(' ') || known.contains(*test), "check {number}: there is no test {test}");
        }
        let tests: Vec<_> = tests.iter().map(|test| format!("`{test}`")).collect();
        table.row(&[&format!("{number}"), what, &tests.join(", ")]);
    }
    table.check("security.md", "checks");
}

/// The names of all functions in the sources below a folder.
fn collect(folder: &Path, known: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            collect(&path, known);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).unwrap();
            let names =
                text.lines().filter_map(|line| line.trim_start().trim_start_matches("async ").strip_prefix("fn "));
            known.extend(names.filter_map(|rest| Some(rest.split_once('(')?.0.to_owned())));
        }
    }
}

fn connect(address: &str) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The status of the answer to a request; 0 if there is none.
fn status(stream: &mut TcpStream, request: &str) -> u16 {
    // The server may have answered and closed before all of it is sent.
    let _ = stream.write_all(request.as_bytes());
    let mut line = [0; 12];
    match stream.read_exact(&mut line) {
        Ok(()) => std::str::from_utf8(&line[9..]).unwrap().parse().unwrap(),
        Err(_) => 0,
    }
}

#[test]
fn security_6_heads_are_bounded() {
    let server = Server::serve("[[channel]]\npreset = 'lobby'\n");
    let head = |count: usize, size: usize| {
        let headers: String = (0..count).map(|n| format!("x-{n}: {}\r\n", "x".repeat(size))).collect();
        format!("GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nHost: x\r\n{headers}\r\n")
    };
    for address in [server.address.clone(), server.admin()] {
        for (count, size, is_refused) in
            [(98, 1, false), (101, 1, true), (10, 1_000, false), (1, 17_000, true), (17, 1_000, true)]
        {
            let status = status(&mut connect(&address), &head(count, size));
            assert_eq!(status == 431, is_refused, "{count} headers of {size} bytes: {status}");
        }
    }
    let facts = server.api("GET", "/api/why?kind=refused", &Value::Null).body;
    assert!(facts.contains("more than 16384 bytes or 100 headers, which is fixed: send fewer or shorter"), "{facts}");
    server.connect("").heartbeat();
}

#[test]
fn security_9_tls_is_new_enough() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let server = Server::serve(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n[[channel]]\npreset = 'lobby'\n"));
    // A greeting of TLS 1.1, with a suite that it had.
    let mut hello = vec![3, 2];
    hello.extend([7; 32]);
    hello.extend([0, 0, 2, 0, 0x2f, 1, 0]);
    let mut record = vec![22, 3, 1, 0, hello.len() as u8 + 4, 1, 0, 0, hello.len() as u8];
    record.extend(&hello);
    let mut old = connect(&server.address);
    old.write_all(&record).unwrap();
    let mut answer = Vec::new();
    let _ = old.read_to_end(&mut answer);
    // A fatal alert, of which there are several that fit.
    assert_eq!((answer.len(), answer.first(), answer.get(5)), (7, Some(&21), Some(&2)), "{answer:?}");
}

#[test]
fn security_49_no_answer_is_for_all_pages_with_credentials() {
    let server = Server::serve("[[endpoint]]\norigins = 'any'\n[[channel]]\npreset = 'lobby'\n");
    let bearer = format!("Bearer {TOKEN}");
    let origin = ("origin", "https://evil.example");
    for (address, paths) in [
        (
            server.address.clone(),
            ["/socket/longpoll?vsn=2.0.0", "/socket/websocket?vsn=2.0.0", "/", "/fanfare-resume.js"],
        ),
        (server.admin(), ["/api/counters", "/api/health", "/metrics", "/"]),
    ] {
        for path in paths {
            for method in ["GET", "OPTIONS"] {
                let headers = [origin, ("authorization", bearer.as_str()), ("access-control-request-method", "POST")];
                let answer = http(&address, method, path, &headers, "");
                let header = |name: &str| answer.headers.get(name).map(String::as_str);
                let for_all = header("access-control-allow-origin") == Some("*");
                assert!(
                    !for_all || header("access-control-allow-credentials").is_none(),
                    "{method} {path}: {answer:?}"
                );
                let is_told = header("access-control-allow-origin").is_some();
                assert!(address == server.address || !is_told, "{method} {path}: {answer:?}");
            }
        }
    }
}
