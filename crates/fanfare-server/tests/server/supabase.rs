//! An endpoint of Supabase's clients as the file declares it: keys, tokens, rights, histories, and who else publishes.

use std::time::{SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use serde_json::{Value, json};

use crate::issuer::{Issuer, Kind, shared};
use crate::support::{Client, Folder, Server, eventually, run};

pub(crate) const SECRET: &str = "super-secret-jwt-token-with-at-least-32-characters-long";

/// As in the specification, and an issuer with key pairs beside the secret.
fn config(jwks: &str) -> String {
    format!(
        r#"
[auth.supabase]
kind = "jwt"
algorithms = ["HS256"]
secret_env = "SUPABASE_JWT_SECRET"

[auth.signed]
kind = "jwt"
algorithms = ["ES256"]
jwks_file = "{jwks}"

[[endpoint]]
path = "/realtime/v1"
protocol = "supabase"
auth = ["supabase", "signed"]
origins = "any"
api_keys = {{ PUBLISHABLE = "anon", SECRET = "service_role" }}
bypass = "claim:role=service_role"
private_only = false
expired = "rejoin"
postgres_changes = "tell"

[[channel]]
topic = "realtime:team:*"
private = true
broadcast_read = "claim:role=authenticated"
broadcast_write = "claim:role=authenticated"
presence_read = "claim:role=authenticated"
presence_write = ["claim:role=authenticated and presence_key=claim:sub"]
history = {{ messages = 100, ttl = "72h" }}
replay_max = 25

[[channel]]
topic = "realtime:user:*"
private = true
join = "claim:sub={{suffix}}"

[[channel]]
topic = "realtime:news"
broadcast_write = "nobody"
"#
    )
}

struct Realtime {
    server: Server,
    issuer: Issuer,
    _folder: Folder,
}

fn realtime() -> Realtime {
    let (folder, issuer) = (Folder::new(), Issuer::new(Kind::P256));
    let jwks = folder.write("jwks.json", &json!({"keys": [issuer.jwk("key-1")]}).to_string());
    let server = Server::serve_with(&config(jwks.to_str().unwrap()), |command| {
        command.env("SUPABASE_JWT_SECRET", SECRET);
        command.env("PUBLISHABLE", "sb_publishable_0123456789").env("SECRET", "sb_secret_0123456789");
    });
    Realtime { server, issuer, _folder: folder }
}

fn claims(role: &str, sub: &str, seconds: i64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() as i64;
    json!({"role": role, "sub": sub, "exp": now + seconds, "iat": now}).to_string()
}

/// A token of Supabase Auth carries a `kid` that is in no key set.
pub(crate) fn token(role: &str, sub: &str, seconds: i64) -> String {
    shared(
        Algorithm::HS256,
        SECRET.as_bytes(),
        r#"{"alg":"HS256","typ":"JWT","kid":"abc"}"#,
        &claims(role, sub, seconds),
    )
}

pub(crate) fn anon() -> String {
    token("anon", "", 3_600)
}

impl Realtime {
    fn connect(&self, key: &str) -> Client {
        self.server.upgrade(&format!("/realtime/v1/websocket?apikey={key}"), &[]).unwrap()
    }

    fn refusal(&self, key: &str) -> (u16, Value) {
        let head = [
            ("connection", "upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
        ];
        let answer = self.server.http("GET", &format!("/realtime/v1/websocket?apikey={key}"), &head, "");
        (answer.status, answer.json())
    }
}

impl Client {
    /// Pushes as a client of version 1.0.0, and returns the reply's status and response.
    pub(crate) fn ask(&mut self, topic: &str, event: &str, payload: Value) -> (String, Value) {
        self.send(json!({"topic": topic, "event": event, "payload": payload, "ref": "1"}));
        loop {
            let frame = self.receive();
            if frame["event"] == "phx_reply" {
                let status = frame["payload"]["status"].as_str().unwrap().to_owned();
                return (status, frame["payload"]["response"].clone());
            }
        }
    }

    pub(crate) fn enter(&mut self, topic: &str, token: &str, config: Value) -> (String, Value) {
        self.ask(topic, "phx_join", json!({"config": config, "access_token": token}))
    }

    /// The next broadcast.
    pub(crate) fn hear(&mut self) -> Value {
        loop {
            let frame = self.receive();
            if frame["event"] == "broadcast" {
                return frame["payload"].clone();
            }
        }
    }
}

#[track_caller]
pub(crate) fn ok(answer: (String, Value)) {
    assert_eq!(answer.0, "ok", "{}", answer.1);
}

#[track_caller]
fn refused(answer: (String, Value), reason: &str) {
    assert_eq!(answer, ("error".to_owned(), json!({ "reason": reason })));
}

#[test]
fn supabase_4_and_5_keys_of_every_kind_and_why_they_are_refused() {
    let realtime = realtime();
    let signed = |kid: &str| {
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": kid}).to_string();
        realtime.issuer.token(Algorithm::ES256, &header, &claims("anon", "", 60))
    };
    let hs256 = |secret: &str, claims: &str| {
        shared(Algorithm::HS256, secret.as_bytes(), r#"{"alg":"HS256","typ":"JWT"}"#, claims)
    };
    for key in [&anon(), &signed("key-1"), "sb_publishable_0123456789", "sb_secret_0123456789"] {
        realtime.connect(key).send_text(r#"{"topic":"phoenix","event":"heartbeat","payload":{},"ref":null}"#);
    }
    for (key, expected) in [
        ("", "API key is missing"),
        ("nonsense", "The token provided is not a valid JWT"),
        ("sb_publishable_other", "The token provided is not a valid JWT"),
        (&token("anon", "", -60), "Token has expired"),
        (&hs256("another secret", &claims("anon", "", 60)), "Failed to validate JWT signature"),
        (&hs256(SECRET, r#"{"exp": 4000000000}"#), "Fields `role` and `exp` are required in JWT"),
        (&hs256(SECRET, r#"{"role": "anon"}"#), "Fields `role` and `exp` are required in JWT"),
        (&hs256(SECRET, r#"{"role": "anon", "exp": "x"}"#), "Fields `role` and `exp` are required in JWT"),
        (
            &signed("other"),
            "Failed to generate JWT signer for key ID (kid) \"other\", check your JWT secret or JWKS configuration",
        ),
    ] {
        assert_eq!(realtime.refusal(key), (401, json!({ "error": expected })));
    }
    // Seconds of a fraction count as they are rounded.
    let mut client = realtime.connect(&anon());
    let (status, response) = client.enter("realtime:a", &token("anon", "", -60), json!({}));
    let reason = response["reason"].as_str().unwrap();
    assert_eq!(status, "error");
    assert!(reason.starts_with("InvalidJWTToken: Token has expired 6"), "{reason}");
    let log = realtime.server.stderr();
    assert!(!log.contains("nonsense") && !log.contains("sb_"), "{log}");
}

#[test]
fn supabase_48_the_four_rights_as_the_file_gives_them() {
    let realtime = realtime();
    let (ada, bob) = (token("authenticated", "ada", 600), token("authenticated", "bob", 600));
    let mut client = realtime.connect(&anon());
    let private = |key: &str| json!({"private": true, "presence": {"key": key}, "broadcast": {"ack": true}});
    let may_not =
        |name: &str| format!("Unauthorized: You do not have permissions to read from this Channel topic: {name}");
    refused(client.enter("realtime:team:1", &anon(), private("")), &may_not("team:1"));
    refused(client.enter("realtime:other", &ada, private("")), &may_not("other"));
    refused(client.enter("realtime:user:bob", &ada, private("")), &may_not("user:bob"));
    ok(client.enter("realtime:user:ada", &ada, private("")));
    // Whoever may do everything.
    let mut back_end = realtime.connect("sb_secret_0123456789");
    ok(back_end.ask("realtime:other", "phx_join", json!({"config": private("")})));

    ok(client.enter("realtime:team:1", &ada, private("ada")));
    ok(client.ask("realtime:team:1", "presence", json!({"event": "track", "payload": {}})));
    let mut other = realtime.connect(&anon());
    ok(other.enter("realtime:team:1", &bob, private("ada")));
    assert_eq!(other.ask("realtime:team:1", "presence", json!({"event": "track", "payload": {}})).0, "error");

    // Public channels are open, unless the file says otherwise.
    ok(client.enter("realtime:anything", &anon(), json!({})));
    ok(client.enter("realtime:news", &anon(), json!({})));
    let message = json!({"event": "e", "payload": {}});
    let may_not_write = "Unauthorized: You do not have permissions to write to this Channel topic: news";
    refused(client.ask("realtime:news", "broadcast", message), may_not_write);
}

#[test]
fn supabase_30_and_44_what_others_publish_arrives_and_is_kept() {
    let realtime = realtime();
    let (ada, service) = (token("authenticated", "ada", 600), token("service_role", "", 600));
    let mut client = realtime.connect(&anon());
    let config = |since: u64| json!({"private": true, "broadcast": {"replay": {"since": since}}});
    ok(client.enter("realtime:team:1", &ada, json!({"private": true})));
    let bearer = format!("Bearer {service}");
    let post = |n: u64| {
        let body = json!({"messages": [{"topic": "team:1", "event": "e", "payload": {"n": n}, "private": true}]});
        let headers = [("authorization", &*bearer), ("content-type", "application/json")];
        realtime.server.http("POST", "/realtime/v1/api/broadcast", &headers, &body.to_string()).status
    };
    assert_eq!(post(1), 202);
    assert_eq!(client.hear()["payload"], json!({"n": 1}));
    // Fanfare's own interface names the engine's topic.
    let message = json!({"topic": "private-realtime:team:1", "event": "e", "payload": {"n": 2}});
    assert_eq!(realtime.server.api("POST", "/api/publish", &message).status, 200);
    let heard = client.hear();
    assert_eq!((&heard["payload"], heard["meta"]["id"].is_string()), (&json!({"n": 2}), true));

    let mut late = realtime.connect(&anon());
    ok(late.enter("realtime:team:1", &ada, config(1)));
    for n in [1, 2] {
        let heard = late.hear();
        assert_eq!((&heard["payload"], &heard["meta"]["replayed"]), (&json!({ "n": n }), &json!(true)));
    }
    assert_eq!(post(3), 202);
    let heard = late.hear();
    assert_eq!((&heard["payload"], &heard["meta"]["replayed"]), (&json!({"n": 3}), &Value::Null));
}

#[test]
fn supabase_49_an_endpoint_without_a_channel_just_works() {
    let config = "[auth.a]\nkind = 'jwt'\nalgorithms = 'HS256'\nsecret_env = 'S'\n[[endpoint]]\nprotocol = 'supabase'\nauth = 'a'\n";
    let server = Server::serve_with(config, |command| {
        command.env("S", SECRET);
    });
    let mut client = server.upgrade(&format!("/socket/websocket?apikey={}", anon()), &[]).unwrap();
    ok(client.enter("realtime:a", &anon(), json!({"broadcast": {"self": true}})));
    client.send(json!({"topic": "realtime:a", "event": "broadcast", "payload": {"event": "e", "payload": {"n": 1}}, "ref": "2"}));
    assert_eq!(client.hear(), json!({"type": "broadcast", "event": "e", "payload": {"n": 1}}));
    assert!(!server.stderr().contains("every join is refused"), "{}", server.stderr());
    let served = "protocol=\"supabase\" auth=\"a\" origins=\"everybody\"";
    assert!(server.stderr().contains(served), "{}", server.stderr());
    // What is too large is told with its size, and what can be done.
    let large = json!({"type": "presence", "event": "track", "payload": {"x": "x".repeat(64_000)}});
    assert_eq!(client.ask("realtime:a", "presence", large).0, "error");
    let facts = server.api("GET", "/api/why?topic=realtime:a", &Value::Null).json()["facts"].take();
    assert_eq!((&facts[0]["reason"], facts.as_array().unwrap().len()), (&json!("payload_too_large"), 1), "{facts}");
    assert!(facts[0]["detail"].as_str().unwrap().contains("64008 bytes, more than 64000"), "{facts}");
    assert!(facts[0]["next"].as_str().unwrap().contains("send less than the detail allows"), "{facts}");
}

#[test]
fn supabase_49_what_has_no_effect_or_no_meaning_is_told() {
    #[track_caller]
    fn check(config: &str, expected: &str) {
        let folder = Folder::new();
        let auth = "[auth.a]\nkind = 'jwt'\nalgorithms = 'HS256'\nsecret = '0123456789abcdef0123456789abcdef'\n";
        let file = folder.write("f.toml", &format!("{auth}{config}"));
        let (is_good, stdout, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert!(!is_good && stderr.contains(expected), "{stdout}{stderr}");
    }
    let endpoint = "[[endpoint]]\nprotocol = 'supabase'\nauth = 'a'\n";
    check("[[endpoint]]\nprotocol = 'supabase'\n", "show tokens with a role");
    check(&format!("{endpoint}api_keys = {{ NOT_SET = 'anon' }}\n"), "NOT_SET is not set");
    check(&format!("{endpoint}socket_id = 'user:{{sub}}'\n"), "socket_id");
    check(&format!("{endpoint}postgres_changes = 'source'\n"), "there is no [source.source]; add it");
    let source = "[source.db]\nkind = 'outbox'\nurl = 'postgres://u@127.0.0.1/d'\n";
    check(&format!("{source}{endpoint}postgres_changes = 'db'\n"), "[source.db] names no tables: give it `changes`");
    check(&format!("{source}{endpoint}postgres_changes = 'dbs'\n"), "did you mean \"db\"?");
    check(&format!("{source}changes = {{ 'a.b.c' = 'open' }}\n"), "\"a.b.c\" is no table");
    check(&format!("{source}changes = {{ orders = 'hook:h' }}\n"), "a hook is not asked for each row");
    check(
        "[source.db]\nkind = 'nats'\nurl = 'nats://127.0.0.1'\nchannels = 'a'\nchanges = { a = 'open' }\n",
        "changes",
    );
    check(&format!("{endpoint}[[channel]]\ntopic = 'realtime:a'\nprivate = true\n"), "says nothing of who has a right");
    check(&format!("{endpoint}[[channel]]\ntopic = 'a'\nprivate = true\njoin = 'open'\n"), "begin with realtime:");
    check("[[channel]]\ntopic = 'private-realtime:a'\njoin = 'open'\n", "only Supabase's clients reach");
    let channel = format!("{endpoint}[[channel]]\ntopic = 'realtime:a'\nprivate = true\n");
    check(&format!("{channel}join = 'open'\npublish = 'open'\n"), "has no effect on a private channel");
    check(&format!("{channel}broadcast_read = 'presence_key=claim:sub'\n"), "stands in presence_write only");
    check(
        "[[channel]]\ntopic = 'realtime:a'\nprivate = true\njoin = 'open'\n",
        "without an [[endpoint]] of protocol = \"supabase\"",
    );
    check("[[endpoint]]\nprivate_only = true\n", "private_only");
}

#[cfg(feature = "postgres")]
#[test]
fn supabase_52_functions_of_supabases_names_reach_the_members_from_the_database() {
    use crate::services::postgres;
    let service = postgres::start();
    service.wait_for_sql();
    let folder = Folder::new();
    let jwks = folder.write("jwks.json", &json!({"keys": [Issuer::new(Kind::P256).jwk("key-1")]}).to_string());
    let source = format!("[source.database]\nkind = 'outbox'\nurl = '{}'\npoll = '50ms'\n", service.postgres_url());
    let server = Server::serve_with(&(config(jwks.to_str().unwrap()) + &source), |command| {
        command.env("SUPABASE_JWT_SECRET", SECRET).env("PUBLISHABLE", "sb_publishable_0").env("SECRET", "sb_secret_0");
    });
    eventually(|| service.sql("SELECT to_regclass('fanfare_outbox') IS NOT NULL").trim() == "t");
    let (is_good, functions, _) = run(&["docs", "supabase"]);
    assert!(is_good);
    service.sql(&functions);
    service.sql(
        "CREATE TABLE orders (id int PRIMARY KEY, total int);
         CREATE FUNCTION orders_changed() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
             PERFORM realtime.broadcast_changes(
                 'team:' || COALESCE(NEW.id, OLD.id), TG_OP, TG_OP, TG_TABLE_NAME, TG_TABLE_SCHEMA, NEW, OLD);
             RETURN NULL;
         END $$;
         CREATE TRIGGER orders_changed AFTER INSERT OR UPDATE OR DELETE ON orders
             FOR EACH ROW EXECUTE FUNCTION orders_changed()",
    );
    let connect = || server.upgrade(&format!("/realtime/v1/websocket?apikey={}", anon()), &[]).unwrap();
    let ada = token("authenticated", "ada", 600);
    let (mut inside, mut outside) = (connect(), connect());
    ok(inside.enter("realtime:team:1", &ada, json!({"private": true, "broadcast": {"replication_ready": true}})));
    ok(outside.enter("realtime:team:1", &anon(), json!({})));

    service.sql("SELECT realtime.send('{\"n\": 1}', 'presence_diff', 'team:1', false)");
    let heard = outside.hear();
    let id = heard["meta"]["id"].as_str().unwrap().to_owned();
    assert_eq!((&heard["event"], &heard["payload"]), (&json!("presence_diff"), &json!({"n": 1, "id": id})));
    service.sql("INSERT INTO orders VALUES (1, 10); UPDATE orders SET total = 20; DELETE FROM orders");
    let rows = [json!({"id": 1, "total": 10}), json!({"id": 1, "total": 20})];
    for (operation, record, old) in
        [("INSERT", &rows[0], &Value::Null), ("UPDATE", &rows[1], &rows[0]), ("DELETE", &Value::Null, &rows[1])]
    {
        let heard = inside.hear();
        let payload = &heard["payload"];
        assert_eq!((&heard["event"], &payload["operation"]), (&json!(operation), &json!(operation)));
        assert_eq!((&payload["record"], &payload["old_record"]), (record, old));
        assert_eq!((&payload["schema"], &payload["table"]), (&json!("public"), &json!("orders")));
        assert!(payload["id"].is_string() && heard["meta"]["id"].is_string());
    }
    // What was rolled back is not sent, and what was sent is kept.
    service.sql("BEGIN; INSERT INTO orders VALUES (1, 5); ROLLBACK; INSERT INTO orders VALUES (1, 7)");
    assert_eq!(inside.hear()["payload"]["record"]["total"], 7);
    let mut late = connect();
    ok(late.enter("realtime:team:1", &ada, json!({"private": true, "broadcast": {"replay": {"since": 1}}})));
    assert_eq!(late.hear()["payload"]["operation"], "INSERT");
}

#[cfg(feature = "postgres")]
#[test]
fn supabase_52_changes_of_tables_come_from_an_outbox_and_from_notify() {
    use crate::services::postgres;
    let service = postgres::start();
    service.wait_for_sql();
    let url = service.postgres_url();
    let tables = r#"{ "public.orders" = "claim:sub=row:owner", notes = "row:shared=true" }"#;
    let config = format!(
        r#"
[auth.a]
kind = "jwt"
algorithms = "HS256"
secret = "{SECRET}"

[[endpoint]]
path = "/outbox"
protocol = "supabase"
auth = "a"
postgres_changes = "database"

[[endpoint]]
path = "/notify"
protocol = "supabase"
auth = "a"
postgres_changes = "told"

[source.database]
kind = "outbox"
url = "{url}"
poll = "50ms"
changes = {tables}

[source.told]
kind = "postgres"
url = "{url}"
channels = "changes"
changes = {{ "public.notified" = "open" }}
"#
    );
    let server = Server::serve_with(&config, |_| {});
    eventually(|| service.sql("SELECT to_regclass('fanfare_outbox') IS NOT NULL").trim() == "t");
    let (_, functions, _) = run(&["docs", "supabase"]);
    service.sql(&functions);
    service.sql(
        "CREATE TABLE orders (id bigint PRIMARY KEY, owner text, total numeric);
         CREATE TABLE notes (id int PRIMARY KEY, shared boolean);
         CREATE TABLE notified (id int PRIMARY KEY, body text);
         CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON orders
             FOR EACH ROW EXECUTE FUNCTION realtime.row_changed();
         CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON notes
             FOR EACH ROW EXECUTE FUNCTION realtime.row_changed();
         CREATE TRIGGER changed AFTER INSERT OR UPDATE OR DELETE ON notified
             FOR EACH ROW EXECUTE FUNCTION realtime.row_changed('changes')",
    );
    let listen = |path: &str, user: &str, bindings: Value| {
        let mut client = server.upgrade(&format!("{path}/websocket?apikey={}", anon()), &[]).unwrap();
        let config = json!({ "postgres_changes": bindings, "presence": {"enabled": false} });
        ok(client.enter("realtime:db", &token("authenticated", user, 600), config));
        let told = client.receive();
        assert_eq!(
            (&told["event"], &told["payload"]["message"]),
            (&json!("system"), &json!("Subscribed to PostgreSQL"))
        );
        client
    };
    let learns = |client: &mut Client| {
        let frame = client.receive();
        assert_eq!(frame["event"], "postgres_changes", "{frame}");
        frame["payload"].clone()
    };
    let all = json!([{"event": "*", "schema": "public"}]);
    let mut ada = listen("/outbox", "ada", all.clone());
    let mut bob = listen("/outbox", "bob", all);
    service.sql(
        "INSERT INTO orders VALUES (9007199254740993, 'ada', 1.10); UPDATE orders SET owner = 'bob'; DELETE FROM orders;
         INSERT INTO notes VALUES (1, false), (2, true)",
    );
    let inserted = learns(&mut ada);
    let columns = [("id", "int8"), ("owner", "text"), ("total", "numeric")];
    let columns: Vec<_> = columns.iter().map(|(name, kind)| json!({"name": name, "type": kind})).collect();
    let data = &inserted["data"];
    assert_eq!((&inserted["ids"], &data["type"], &data["columns"]), (&json!([1]), &json!("INSERT"), &json!(columns)));
    assert_eq!(data["record"], json!({"id": 9_007_199_254_740_993_i64, "owner": "ada", "total": 1.10}));
    assert!(data["commit_timestamp"].as_str().unwrap().ends_with('Z') && data["errors"].is_null());
    let updated = learns(&mut bob);
    assert_eq!((&updated["data"]["type"], &updated["data"]["old_record"]), (&json!("UPDATE"), &json!({})));
    let deleted = learns(&mut bob);
    assert_eq!((&deleted["data"]["type"], &deleted["data"]["old_record"]["owner"]), (&json!("DELETE"), &json!("bob")));
    for client in [&mut ada, &mut bob] {
        assert_eq!(learns(client)["data"]["record"], json!({"id": 2, "shared": true}));
    }

    let filtered = json!([{"event": "*", "schema": "public", "table": "notified", "filter": "id=gt.1"}, {"event": "INSERT", "schema": "*"}]);
    let mut told = listen("/notify", "eve", filtered);
    service.sql("INSERT INTO notified VALUES (1, 'a'), (2, repeat('x', 9000))");
    assert_eq!(learns(&mut told)["ids"], json!([2]));
    let cut = learns(&mut told);
    assert_eq!((&cut["ids"], &cut["data"]["record"]), (&json!([2]), &json!({})));
    assert_eq!(cut["data"]["errors"], json!(["Error 413: Payload Too Large"]));
}

#[cfg(feature = "postgres")]
#[test]
fn supabase_52_bytes_from_the_database_arrive_as_bytes() {
    use crate::services::postgres;
    let service = postgres::start();
    service.wait_for_sql();
    let source = format!("[source.database]\nkind = 'outbox'\nurl = '{}'\npoll = '50ms'\n", service.postgres_url());
    let auth = format!("[auth.a]\nkind = 'jwt'\nalgorithms = 'HS256'\nsecret = '{SECRET}'\n");
    let endpoint = "[[endpoint]]\nprotocol = 'supabase'\nauth = 'a'\n";
    let server = Server::serve_with(&format!("{auth}{endpoint}{source}"), |_| {});
    eventually(|| service.sql("SELECT to_regclass('fanfare_outbox') IS NOT NULL").trim() == "t");
    let (_, functions, _) = run(&["docs", "supabase"]);
    service.sql(&functions);
    let mut client = server.upgrade(&format!("/socket/websocket?vsn=2.0.0&apikey={}", anon()), &[]).unwrap();
    client.send(json!(["1", "1", "realtime:a", "phx_join", {}]));
    assert_eq!(client.receive()[4]["status"], "ok");
    service.sql(r"SELECT realtime.send_binary('\x00ff', 'e', 'a', false)");
    let frame = client.receive_frame().unwrap_err();
    let [4, 10, 1, meta, 0, rest @ ..] = &frame[..] else { panic!("{frame:?}") };
    let (names, rest) = rest.split_at(11);
    assert_eq!((names, &rest[usize::from(*meta)..]), (&b"realtime:ae"[..], &[0, 255][..]));
}
