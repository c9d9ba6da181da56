//! The configuration is read again while the server runs.

use std::collections::BTreeSet;
use std::io::Read;
use std::net::TcpStream;

use serde_json::{Value, json};

use crate::support::{Folder, PATIENCE, Server, TOKEN, fanfare, http, run};

const SECRET: &str = "a-shared-secret-of-more-than-thirty-two-bytes";
const OTHER: &str = "another-secret-of-more-than-thirty-two-bytes!";

/// A key, and what its section has before and after.
struct Case {
    /// The section that it stands in, one of those of [`file`].
    slot: &'static str,
    key: &'static str,
    before: String,
    after: String,
}

/// The whole file, where one section has these lines.
fn file(slot: &str, lines: &str) -> String {
    let sections = [
        ("root", ""),
        ("limits", "[limits]\n"),
        ("tenant", "[tenant]\n"),
        ("tenant.acme", "[tenant.acme]\n"),
        ("drain", "[drain]\n"),
        ("broker", "[broker]\nurl = 'redis://127.0.0.1:9'\ntimeout = '100ms'\n"),
        ("traces", "[traces]\n"),
        ("log", "[log]\n"),
        ("auth.a", "[auth.a]\n"),
        ("hook.h", "[hook.h]\n"),
        ("endpoint[1]", "[[endpoint]]\n"),
        ("endpoint[2]", "[[endpoint]]\npath = '/hub'\nprotocol = 'hub'\n"),
        ("endpoint[3]", "[[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\n"),
        ("endpoint[4]", "[[endpoint]]\npath = '/bullet'\nprotocol = 'bullet'\nauth = 'j'\n"),
        ("endpoint[5]", "[[endpoint]]\npath = '/supabase'\nprotocol = 'supabase'\nauth = 'j'\n"),
        ("channel[1]", "[[channel]]\n"),
        ("channel[2]", "[[channel]]\npresence = true\n"),
        ("channel[3]", "[[channel]]\ntopic = 'realtime:*'\nprivate = true\njoin = 'authenticated'\n"),
        ("webhook[1]", "[[webhook]]\n"),
        ("keys.one", "[keys.one]\n"),
    ];
    let mut text = String::new();
    for (name, header) in sections {
        let defaults = match name {
            "auth.a" => "kind = 'none'\n",
            "hook.h" | "webhook[1]" => "url = 'http://127.0.0.1:9/'\n",
            "endpoint[2]" => "auth = 'none'\n",
            "channel[1]" => "topic = 'kept'\njoin = 'open'\nhistory = {}\n",
            "channel[2]" => "topic = 'room:*'\njoin = 'open'\n",
            _ => "",
        };
        text.push_str(header);
        text.push_str(if name == slot { lines } else { defaults });
        text.push('\n');
    }
    text.push_str(&format!("[auth.j]\nkind = 'jwt'\nsecret = '{SECRET}'\n"));
    text.push_str("[hook.other]\nurl = 'http://127.0.0.1:9/'\n[keys.two]\n");
    text
}

/// Every key that can be reloaded, but those of TLS and of the API's token, which have tests of their own.
fn cases(folder: &Folder) -> Vec<Case> {
    let mut cases = Vec::new();
    let mut add = |slot, common: &str, keys: &[(&'static str, &str, &str)]| {
        for (key, before, after) in keys {
            let line = |value: &str| match value {
                "" => format!("{common}\n"),
                value => format!("{common}\n{key} = {value}\n"),
            };
            cases.push(Case { slot, key, before: line(before), after: line(after) });
        }
    };
    let path = |name, text: &str| format!("{:?}", folder.write(name, text));
    let (secret, other) = (path("secret", SECRET), path("other", OTHER));
    let schema = path("schema.json", "{}");
    let (quoted_secret, quoted_other) = (format!("'{SECRET}'"), format!("'{OTHER}'"));
    let pem = |name| path(name, &rcgen::KeyPair::generate().unwrap().public_key_pem());
    let jwks = |name, kid| {
        path(
            name,
            &json!({ "keys": [{
        "kty": "EC", "crv": "P-256", "kid": kid,
        "x": "MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "y": "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM",
    }] })
            .to_string(),
        )
    };
    let secrets: &[(&'static str, &str, &str)] = &[
        ("secret", &quoted_secret, &quoted_other),
        ("secret_env", "'SECRET_ONE'", "'SECRET_TWO'"),
        ("secret_file", &secret, &other),
    ];

    add(
        "root",
        "",
        &[
            ("public_url", "", "'https://chat.example.com'"),
            ("ready_needs", "", "'hooks.h'"),
            ("trusted_proxies", "", "'10.0.0.0/8'"),
        ],
    );
    add(
        "limits",
        "",
        &[
            ("message_size_max", "", "'1MB'"),
            ("longpoll_messages_max", "", "7"),
            ("joins_max", "7", "8"),
            ("join_rate", "", "7"),
            ("join_burst", "", "7"),
            ("message_rate", "", "7"),
            ("bytes_rate", "", "'1MB'"),
            ("error_rate", "", "7"),
            ("error_burst", "", "7"),
            ("ping_rate", "", "7"),
            ("user_message_rate", "", "7"),
            ("sockets_per_user_max", "", "7"),
            ("ping_burst", "", "7"),
            ("penalty", "", "'7s'"),
            ("waiting_frames_max", "", "7"),
            ("waiting_bytes_max", "", "'1MB'"),
            ("outbox_bytes_max", "", "'1MB'"),
            ("outbox_frames_max", "", "70"),
            ("connections_max", "", "70"),
            ("connections_per_address_max", "", "70"),
            ("handshakes_max", "", "70"),
        ],
    );
    add("limits", "message_rate = 7", &[("message_burst", "", "8"), ("message_over", "", "'close'")]);
    add("limits", "sockets_per_user_max = 7", &[("sockets_per_user_over", "", "'oldest'")]);
    let quotas = [
        ("sockets_max", "", "7"),
        ("joins_max", "", "7"),
        ("messages_per_s", "", "7"),
        ("publishes_per_s", "", "7"),
        ("bytes_out_per_day", "", "'1MB'"),
    ];
    add("tenant", "", &quotas);
    add("tenant", "", &[("tenants_max", "", "7")]);
    add("tenant.acme", "", &quotas);
    add("drain", "", &[("limit", "", "'1s'"), ("batch", "", "7"), ("every", "", "'1s'"), ("announce", "", "'1s'")]);
    add("broker", "", &[("readiness", "", "'report'")]);
    add("traces", "", &[("endpoint", "", "'http://127.0.0.1:9'"), ("ratio", "", "0.5")]);
    add("log", "", &[("level", "", "'warn,fanfare=info'")]);
    add("auth.a", "kind = 'jwt'", secrets);
    add("auth.a", &format!("secret = '{SECRET}'"), &[("kind", "'jwt'", "'phoenix_token'")]);
    add(
        "auth.a",
        &format!("kind = 'jwt'\nsecret = '{SECRET}'"),
        &[
            ("algorithms", "'HS256'", "'HS512'"),
            ("issuer", "", "'us'"),
            ("audience", "", "'them'"),
            ("type", "", "'access'"),
            ("require_exp", "", "false"),
            ("leeway", "", "'1s'"),
            ("token_size_max", "", "'4KB'"),
            ("param", "", "'jwt'"),
        ],
    );
    add(
        "auth.a",
        "kind = 'jwt'\nalgorithms = 'ES256'",
        &[
            ("public_key_file", &pem("one.pem"), &pem("two.pem")),
            ("jwks_file", &jwks("one.json", "one"), &jwks("two.json", "two")),
            ("jwks_url", "'https://127.0.0.1:9/one'", "'https://127.0.0.1:9/two'"),
        ],
    );
    add(
        "auth.a",
        "kind = 'jwt'\nalgorithms = 'ES256'\njwks_url = 'https://127.0.0.1:9/one'",
        &[
            ("jwks_refresh", "", "'1m'"),
            ("jwks_timeout", "", "'1s'"),
            ("jwks_stale_max", "", "'1h'"),
            ("jwks_allow_http", "", "true"),
        ],
    );
    add(
        "auth.a",
        &format!("kind = 'phoenix_token'\nsecret = '{SECRET}'"),
        &[
            ("salt", "", "'other'"),
            ("max_age", "", "'1h'"),
            ("key_iterations", "", "10"),
            ("key_length", "", "64"),
            ("key_digest", "", "'sha512'"),
        ],
    );
    add(
        "keys.one",
        "",
        &[
            ("cache", "", "'1s'"),
            ("cache_unknown", "", "'1s'"),
            ("cache_entries_max", "", "7"),
            ("revoke_closes", "", "false"),
        ],
    );
    add("auth.a", "kind = 'apikeys'", &[("keys", "'one'", "'two'")]);
    add("auth.a", "kind = 'hook'", &[("hook", "'h'", "'other'")]);
    add("auth.a", "kind = 'hook'\nhook = 'h'", &[("headers", "", "'x-tenant'"), ("cookies", "", "'session'")]);
    add("hook.h", "url = 'http://127.0.0.1:9/'", secrets);
    add("hook.h", "", &[("url", "'http://127.0.0.1:9/'", "'http://127.0.0.1:9/other'")]);
    add(
        "hook.h",
        "url = 'https://127.0.0.1:9/'",
        &[
            ("allow_http", "", "true"),
            ("timeout", "", "'1s'"),
            ("cache", "", "'1s'"),
            ("cache_message", "", "'1s'"),
            ("cache_size_max", "", "'1MB'"),
            ("answer_size_max", "", "'1KB'"),
            ("concurrency_max", "", "7"),
            ("failures_max", "", "7"),
            ("pause", "", "'1s'"),
        ],
    );
    add("webhook[1]", "url = 'http://127.0.0.1:9/'", secrets);
    add("webhook[1]", "", &[("url", "'http://127.0.0.1:9/'", "'http://127.0.0.1:9/other'")]);
    add(
        "webhook[1]",
        "url = 'https://127.0.0.1:9/'",
        &[
            ("allow_http", "", "true"),
            ("timeout", "", "'1s'"),
            ("batch_max", "", "7"),
            ("concurrency_max", "", "7"),
            ("retry_max", "", "7"),
            ("retry_wait", "", "'2s'"),
        ],
    );
    add(
        "endpoint[1]",
        "",
        &[
            ("transports", "", "'websocket'"),
            ("auth", "", "'j'"),
            ("origins", "", "'any'"),
            ("idle_timeout", "", "'50s'"),
            ("longpoll_window", "", "'5s'"),
            ("compression", "", "true"),
            ("tenant", "", "'host'"),
        ],
    );
    add("endpoint[1]", "auth = 'j'", &[("credential_within", "", "'5s'"), ("socket_id", "", "'user:{sub}'")]);
    add(
        "endpoint[2]",
        "auth = 'j'",
        &[
            ("grace", "", "'1s'"),
            ("wait_for_topic", "", "true"),
            ("replace", "", "true"),
            ("subscribe", "", "'authenticated'"),
        ],
    );
    add("endpoint[3]", "", &[("event", "", "'said'"), ("acks", "", "true")]);
    add("endpoint[4]", "", &[("topics", "", "['one:{key}']")]);
    add(
        "endpoint[5]",
        "",
        &[
            ("api_keys", "", "{ SECRET_ONE = 'anon' }"),
            ("bypass", "", "'claim:role=admin'"),
            ("private_only", "", "true"),
            ("expired", "", "'close'"),
            ("postgres_changes", "", "'refuse'"),
        ],
    );
    add("channel[1]", "topic = 'kept'\nhistory = {}", &[("catch_up", "", "7")]);
    add("channel[2]", "join = 'open'", &[("topic", "'room:*'", "['room:*', 'news']")]);
    add(
        "channel[2]",
        "topic = 'room:*'",
        &[("join", "'open'", "'authenticated'"), ("refused", "", "'no'"), ("publish", "", "'open'")],
    );
    add(
        "channel[2]",
        "topic = 'room:*'\npublish = 'open'",
        &[
            ("events", "", "'said'"),
            ("broadcast", "", "'others'"),
            ("reply", "", "false"),
            ("payload_size_max", "", "100"),
            ("presence_key", "", "'unique'"),
            ("publish_rate", "", "7"),
            ("schemas", "", &format!("{{ said = {schema} }}")),
        ],
    );
    add(
        "channel[2]",
        &format!("topic = 'room:*'\npublish = 'open'\nschemas = {{ said = {schema} }}"),
        &[("schema_mode", "", "'report'")],
    );
    add(
        "channel[3]",
        "",
        &[
            ("broadcast_read", "", "'authenticated'"),
            ("broadcast_write", "", "'authenticated'"),
            ("presence_read", "", "'authenticated'"),
            ("presence_write", "", "'authenticated'"),
            ("replay_max", "", "7"),
        ],
    );
    cases
}

/// The keys that the reference says can be reloaded.
fn reloadable() -> BTreeSet<String> {
    let (_, reference, _) = run(&["docs", "config"]);
    let (mut keys, mut key) = (BTreeSet::new(), "");
    for line in reference.lines() {
        key = line.strip_prefix("### `").and_then(|rest| rest.strip_suffix('`')).unwrap_or(key);
        if line.starts_with("- Reload: counts") {
            keys.insert(key.to_owned());
        }
    }
    keys
}

#[test]
fn every_key_that_the_reference_calls_reloadable_is_and_no_socket_is_lost() {
    let folder = Folder::new();
    let cases = cases(&folder);
    // As the reference names them: without the names and numbers of sections.
    let plain = |case: &Case| {
        let section = case.slot.split(['.', '[']).next().unwrap();
        if section == "root" { case.key.to_owned() } else { format!("{section}.{}", case.key) }
    };
    let mut tried: BTreeSet<String> = cases.iter().map(plain).collect();
    let elsewhere = [
        "tls.cert",
        "tls.key",
        "tls.certificate.cert",
        "tls.certificate.key",
        "admin.token",
        "admin.token_env",
        "admin.token_file",
        "admin.publish_rate",
        // Without a broker only.
        "channel.history",
    ];
    tried.extend(elsewhere.map(str::to_owned));
    // A change of any of these is looked at as one: `acme` tries it.
    tried.extend(reloadable().into_iter().filter(|key| key.starts_with("tls.acme.")));
    assert_eq!(tried, reloadable());

    let server = Server::serve_with(&file("", ""), |command| {
        command.env("SECRET_ONE", SECRET).env("SECRET_TWO", OTHER);
    });
    let mut client = server.connect("");
    client.join_ok("kept");
    for Case { slot, key, before, after } in cases {
        let reload = |lines: &str| {
            server.rewrite(&file(slot, lines));
            let answer = server.reload();
            assert_eq!(answer.status, 200, "{slot}.{key}: {}", answer.body);
            answer.json()
        };
        let first = reload(&before);
        let second = reload(&after);
        let label = if slot == "root" { key.to_owned() } else { format!("{slot}.{key}") };
        assert_eq!(second["changed"], json!([label]));
        assert!(second["generation"].as_u64() > first["generation"].as_u64(), "{first} {second}");
        // The same again is no change.
        assert_eq!(server.reload().json(), json!({ "generation": second["generation"], "changed": [] }));
    }
    client.heartbeat();
}

#[test]
fn limits_of_connections_and_trusted_proxies_count_for_those_that_come_next_and_nobody_is_closed() {
    let file = |of_address: u32, all: u32, trusted: &str| {
        format!(
            "address_from = 'x-forwarded-for'\ntrusted_proxies = '{trusted}'\n\
             limits = {{ connections_per_address_max = {of_address}, connections_max = {all} }}\n\
             [[channel]]\npreset = 'lobby'\npresence = false\n"
        )
    };
    let server = Server::serve(&file(1, 9, "192.0.2.1"));
    let reload = |of_address, all, trusted| {
        server.rewrite(&file(of_address, all, trusted));
        assert_eq!(server.reload().status, 200);
    };
    let refused = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        answer[..13].to_owned()
    };
    let mut first = server.connect("");
    first.heartbeat();
    assert_eq!(refused(), "HTTP/1.1 429 ");
    reload(2, 9, "192.0.2.1");
    let mut second = server.connect("");
    second.heartbeat();
    reload(9, 1, "192.0.2.1");
    assert_eq!(refused(), "HTTP/1.1 503 ");
    let bearer = format!("Bearer {TOKEN}");
    let metrics = http(&server.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body;
    assert!(metrics.contains("fanfare_limit{limit=\"connections_max\"} 1"), "{metrics}");
    reload(9, 9, "192.0.2.1");
    let address_of = |path: &str| {
        assert_eq!(server.upgrade(path, &[("x-forwarded-for", "203.0.113.9")]).err(), Some(404));
        let facts = server.api("GET", "/api/why?kind=refused", &json!(null)).json()["facts"].take();
        facts[0]["address"].as_str().unwrap().to_owned()
    };
    assert_eq!(address_of("/nothing"), "127.0.0.1");
    reload(9, 9, "loopback");
    assert_eq!(address_of("/other"), "203.0.113.9");
    first.heartbeat();
    second.heartbeat();
}

#[test]
fn histories_keep_as_much_as_the_new_configuration_says_from_the_next_message_on() {
    let file = |kept: &str| {
        let policy = if kept.is_empty() { String::new() } else { format!("history = {{ messages = {kept} }}\n") };
        format!("[[channel]]\ntopic = 'kept'\njoin = 'open'\n{policy}")
    };
    let server = Server::serve(&file("10"));
    let mut client = server.connect("");
    client.join_ok("kept");
    let kept = || {
        let history = server.api("GET", "/api/history/kept", &json!(null)).json();
        history["messages"].as_array().unwrap().len()
    };
    (0..5).for_each(|n| assert_eq!(server.publish("kept", n).status, 200));
    assert_eq!(kept(), 5);
    server.rewrite(&file("2"));
    assert_eq!(server.reload().json()["changed"], json!(["channel[1].history"]));
    assert_eq!(kept(), 5, "nothing is thrown away before there is more");
    server.publish("kept", 5);
    assert_eq!(kept(), 2);
    let bearer = format!("Bearer {TOKEN}");
    let metrics = http(&server.admin(), "GET", "/metrics", &[("authorization", &bearer)], "").body;
    let appended = "fanfare_history_appends_total{store=\"memory\",result=\"ok\"} 6";
    for line in ["fanfare_history_messages{store=\"memory\"} 2", appended] {
        assert!(metrics.contains(line), "{line} is not in {metrics}");
    }
    server.rewrite(&file("10"));
    server.reload();
    (6..9).for_each(|n| assert_eq!(server.publish("kept", n).status, 200));
    assert_eq!(kept(), 5);
    // Whether there is one at all is for the start.
    server.rewrite(&file(""));
    assert_eq!((server.reload().status, kept()), (409, 5));
    (0..9).for_each(|n| assert_eq!(client.receive_event("n")["n"], n));
    client.heartbeat();
}

/// A channel with a rule, and a limit.
fn with(join: &str, publish: &str, joins_max: u32) -> String {
    format!(
        "[limits]\njoins_max = {joins_max}\n[[channel]]\ntopic = 'room:*'\njoin = '{join}'\npublish = '{publish}'\n"
    )
}

#[test]
fn rules_count_for_the_next_join_and_the_next_message_of_sockets_that_are_open() {
    let server = Server::serve(&with("open", "nobody", 100));
    let mut client = server.connect("");
    let join_ref = client.join_ok("room:1");
    let push =
        |client: &mut crate::support::Client| client.push(&join_ref, "room:1", "hello", json!({}))["status"].clone();
    assert_eq!(push(&mut client), "error");
    server.rewrite(&with("authenticated", "open", 100));
    assert_eq!(server.reload().json()["changed"], json!(["channel[1].join", "channel[1].publish"]));
    assert_eq!(push(&mut client), "ok", "the join stays, and may publish");
    assert_eq!(client.join("room:2", json!({}))["response"]["reason"], "unauthorized");
    // A channel that is gone is gone for them as well, and they find it again when it is back.
    server.rewrite("[[channel]]\ntopic = 'other'\n");
    assert_eq!(server.reload().json()["changed"], json!(["channel[1].topic", "channel[1].join", "channel[1].publish"]));
    assert_eq!(push(&mut client), "error");
    assert_eq!(client.join("room:2", json!({}))["response"]["reason"], "unmatched topic");
    server.rewrite(&with("open", "open", 1));
    server.reload();
    client.join_ok("room:2");
    // Limits are those of the connect.
    let mut next = server.connect("");
    next.join_ok("room:1");
    assert_eq!(next.join("room:2", json!({}))["response"]["reason"], "too many channels joined");
}

#[test]
fn one_key_that_needs_a_restart_refuses_all_and_a_wrong_file_changes_nothing() {
    let server = Server::serve(&with("open", "nobody", 1));
    let still = |server: &Server| {
        let mut client = server.connect("");
        client.join_ok("room:1");
        assert_eq!(client.join("room:2", json!({}))["response"]["reason"], "too many channels joined");
    };
    server.rewrite(&format!("shards = 2\n{}", with("open", "nobody", 2)));
    let answer = server.reload();
    assert_eq!(answer.status, 409);
    let message = "shards needs a restart; nothing was changed";
    assert_eq!(answer.json(), json!({ "error": { "code": "restart_needed", "message": message } }));
    still(&server);

    server.rewrite(&with("open", "nobody", 0));
    let answer = server.reload();
    assert_eq!(answer.status, 422);
    let error = answer.json()["error"].clone();
    assert_eq!(error["code"], "invalid");
    let text = "0 is not accepted: it takes a whole number from 1 to 1000000";
    assert_eq!(error["problems"], json!([{ "line": 2, "column": 13, "key": "limits.joins_max", "message": text }]));
    still(&server);
    let told = server.wait_for_stderr(|log| log.contains(text).then_some(()));
    assert!(told.is_some(), "{}", server.stderr());

    // A channel in front of one with a history would take its topics from it.
    server.rewrite("[[channel]]\ntopic = 'a'\nhistory = {}\n");
    assert_eq!(server.reload().json()["error"]["code"], "restart_needed");
    // A check changes nothing, right or wrong.
    server.rewrite(&with("open", "nobody", 2));
    let checked = server.command(&["reload", "--check"]).output().unwrap();
    assert!(checked.status.success());
    let answer: Value = serde_json::from_slice(&checked.stdout).unwrap();
    assert_eq!(answer, json!({ "generation": 1, "changed": ["limits.joins_max"] }));
    still(&server);
    server.rewrite("nonsense");
    let refused = server.command(&["reload"]).output().unwrap();
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("nothing was changed"));
    still(&server);
}

#[test]
fn sighup_reads_it_again_and_credentials_count_for_the_next_connect() {
    let auth = |secret: &str| {
        format!(
            "[auth.j]\nkind = 'jwt'\nsecret = '{secret}'\nrequire_exp = false\n[[endpoint]]\nauth = 'j'\n{}",
            with("open", "open", 9)
        )
    };
    let server = Server::serve(&auth(SECRET));
    let token = |secret: &str| {
        let key = jsonwebtoken::EncodingKey::from_secret(secret.as_bytes());
        jsonwebtoken::encode(&Default::default(), &json!({ "sub": "ada" }), &key).unwrap()
    };
    let query = |secret: &str| format!("token={}", token(secret));
    let mut client = server.connect(&query(SECRET));
    server.rewrite(&auth(OTHER));
    server.signal("-HUP");
    let told = server.wait_for_stderr(|log| log.contains("changed=\"auth.j.secret\"").then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
    assert!(!server.stderr().contains(OTHER));
    assert_eq!(server.try_connect(&query(SECRET)).err(), Some(403));
    server.connect(&query(OTHER)).join_ok("room:1");
    client.join_ok("room:1");
    // What nothing was prepared for at the start is said.
    let open = Server::serve(&with("open", "open", 9));
    open.rewrite(&auth(SECRET));
    assert_eq!(open.reload().json()["error"]["message"], "endpoint.auth needs a restart; nothing was changed");
}

#[test]
fn the_token_of_the_api_can_be_exchanged() {
    let folder = Folder::new();
    let (old, new) = ("the-first-token-of-the-api", "the-second-token-of-the-api");
    folder.write("one", old);
    let two = folder.write("two", new);
    let config = |keys: &str| {
        format!("listen = '127.0.0.1:0'\n[admin]\nlisten = '127.0.0.1:0'\n{keys}\n[[channel]]\npreset = 'lobby'\n")
    };
    let file = folder.write("fanfare.toml", &config(&format!("token = '{old}'")));
    let mut command = fanfare(&["serve", "--config", file.to_str().unwrap()]);
    command.env("TOKEN_ENV", TOKEN);
    let server = Server::run(command);
    let reload = |token: &str| {
        http(&server.admin(), "POST", "/api/reload", &[("authorization", &format!("Bearer {token}"))], "")
    };
    for (keys, before, after, changed) in [
        (format!("token = '{new}'"), old, new, json!(["admin.token"])),
        (format!("token_file = {two:?}"), new, new, json!(["admin.token_file", "admin.token"])),
        ("token_env = 'TOKEN_ENV'".to_owned(), new, TOKEN, json!(["admin.token_env", "admin.token_file"])),
    ] {
        folder.write("fanfare.toml", &config(&keys));
        let mut told = reload(before).json()["changed"].as_array().unwrap().clone();
        told.sort_by_key(Value::to_string);
        let mut expected = changed.as_array().unwrap().clone();
        expected.sort_by_key(Value::to_string);
        assert_eq!(told, expected);
        assert_eq!(reload(after).status, 200);
        if before != after {
            assert_eq!(reload(before).status, 401);
        }
    }
    // Another content of the file that is named is a change as well.
    folder.write("fanfare.toml", &config(&format!("token_file = {two:?}")));
    assert_eq!(reload(TOKEN).status, 200);
    folder.write("two", "the-third-token-of-the-api");
    assert_eq!(reload(new).json()["changed"], json!(["admin.token_file"]));
    assert_eq!(reload(new).status, 401);
}
