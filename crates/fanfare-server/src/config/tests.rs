//! What a configuration is read as, and what is said of a bad one.

use serde_json::{Value, json};

use super::channel::{Audience, Presence};
use super::server::LogFormat;
use super::*;
use crate::preflight;

fn overrides(flags: &[(&'static str, &str, &str)], variables: &[(&str, &str)]) -> Overrides {
    let flags = flags.iter().map(|(name, path, text)| Flag { name, path: path.to_string(), text: text.to_string() });
    Overrides::new(flags.collect(), variables.iter().map(|(name, text)| (name.to_string(), text.to_string())))
}

fn parse(content: &str) -> Result<Config, String> {
    preflight::parse("f.toml", content, &overrides(&[], &[("MY_SECRET", &"s".repeat(64)), ("EMPTY", "")]))
        .map_err(|report| report.to_string())
}

#[test]
fn an_empty_file_has_all_defaults() {
    let config = parse("").unwrap();
    assert_eq!(config.server.listen.0, "127.0.0.1:4000".parse().unwrap());
    assert_eq!(config.limits.message_size_max.0, 8_000_000);
    assert_eq!(config.limits.joins_max.0, 100);
    assert_eq!(config.drain.limit.0.as_secs(), 30);
    assert_eq!(config.log.format, LogFormat::Text);
    assert!(config.admin.is_none() && config.tls.is_none());
    assert_eq!(config.endpoints.iter().map(|endpoint| &endpoint.path.0[..]).collect::<Vec<_>>(), ["/socket"]);
    assert!(config.warnings[0].contains("no [[channel]]"), "{:?}", config.warnings);
}

#[test]
fn the_example_of_the_reference_is_right() {
    let reference = reference::markdown();
    let example = reference.split("```toml\n").nth(1).unwrap().split("```").next().unwrap();
    let secrets = [("FANFARE_SECRET", "s".repeat(64)), ("FANFARE_API_TOKEN", "t".repeat(32))];
    let variables = secrets.each_ref().map(|(name, text)| (*name, text.as_str()));
    let config = preflight::parse("example", example, &overrides(&[], &variables)).unwrap();
    assert!(config.warnings.is_empty(), "{:?}", config.warnings);
    assert_eq!(config.auths["users"].secret.as_ref().unwrap().expose(), "s".repeat(64));
    assert_eq!(config.admin.unwrap().token.unwrap().own.unwrap().expose(), "t".repeat(32));
    assert_eq!(config.channels.len(), 2);
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let content = "listen = '127.0.0.1:1'\ndrain = '1s'\nlimits.joins_max = 1\nlog.level = 'warn'";
    let variables =
        [("FANFARE_LISTEN", "127.0.0.1:2"), ("FANFARE_LIMITS_JOINS_MAX", "2"), ("FANFARE_ADMIN_LISTEN", "127.0.0.1:9")];
    let flags = [("--listen", "listen", "127.0.0.1:3"), ("--set", "drain.batch", "7"), ("--set", "drain.batch", "8")];
    let config = preflight::parse("f.toml", content, &overrides(&flags, &variables)).unwrap();
    assert_eq!(config.server.listen.0.port(), 3);
    assert_eq!(config.limits.joins_max.0, 2);
    assert_eq!(config.drain.batch.0, 8);
    assert_eq!(config.drain.limit.0.as_secs(), 1);
    assert_eq!(config.admin.unwrap().listen.0.port(), 9);
}

#[test]
fn the_environments_token_wins_over_the_files_in_any_form() {
    let [ours, theirs] = ["t", "f"].map(|c| c.repeat(32));
    let token = |content: &str, variables: &[(&str, &str)]| {
        let config = preflight::parse("f.toml", content, &overrides(&[], variables));
        let config = config.map_err(|report| report.to_string())?;
        Ok::<_, String>(config.admin.unwrap().token.unwrap().own.unwrap().expose().to_owned())
    };
    let variables = [("FANFARE_ADMIN_TOKEN", &ours[..]), ("MY_TOKEN", &theirs[..])];
    assert_eq!(token("admin.token_env = 'MY_TOKEN'", &variables).as_ref(), Ok(&ours));
    assert_eq!(token("admin.token_file = 'no-such-file'", &variables).as_ref(), Ok(&ours));
    assert_eq!(token("admin.token_env = 'MY_TOKEN'", &variables[1..]).as_ref(), Ok(&theirs));
    let both = [variables[0], variables[1], ("FANFARE_ADMIN_TOKEN_ENV", "MY_TOKEN")];
    let error = token("", &both).unwrap_err();
    assert!(error.contains("FANFARE_ADMIN_TOKEN_ENV: admin.token_env: only one of"), "{error}");
}

#[test]
fn presets_give_what_is_not_given() {
    let config =
        parse("[[channel]]\npreset = 'lobby'\nbroadcast = 'others'\n[[channel]]\ntopic = ['a', 'b:*']").unwrap();
    let [lobby, plain] = &config.channels[..] else { panic!("two channels") };
    let rules = |channel: &Channel| format!("{:?}", channel.rules().collect::<Vec<_>>());
    assert_eq!(lobby.patterns().map(ToString::to_string).collect::<Vec<_>>(), ["room:lobby"]);
    assert_eq!(rules(lobby), r#"[("join", Open), ("publish", Open)]"#);
    assert_eq!((lobby.presence, lobby.broadcast), (Some(Presence::Roster), Audience::Others));
    assert_eq!(rules(plain), r#"[("join", Authenticated), ("publish", Nobody)]"#);
    assert_eq!((plain.presence, plain.broadcast), (Some(Presence::Off), Audience::All));
    assert!(config.warnings[0].contains("nobody can join \"a\""), "{:?}", config.warnings);
}

#[test]
fn bounds_that_others_keep_from_being_reached_are_told() {
    #[track_caller]
    fn check(content: &str, part: Option<&str>) {
        let content = format!("[[channel]]\ntopic = 'a'\njoin = 'open'\n{content}");
        let warnings = parse(&content).unwrap().warnings;
        assert_eq!(warnings.len(), usize::from(part.is_some()), "{content}\n--> {warnings:?}");
        assert!(part.is_none_or(|part| warnings[0].contains(part)), "{content}\n--> {warnings:?}");
    }
    check("catch_up = 11\nhistory = { messages = 10 }", Some("has catch_up = 11 and keeps 10 messages"));
    check("catch_up = 10\nhistory = { messages = 10 }", None);
    let presence = |kind, bytes| format!("presence = {kind}\npresence_bytes_max = '{bytes}'");
    check(&presence("true", "8MB"), Some("presence_bytes_max = 8000000"));
    check(&presence("true", "7MB"), None);
    check(&presence("'count'", "8MB"), None);
}

#[test]
fn bad_configurations_are_explained() {
    /// Every part stands in the report.
    #[track_caller]
    fn check(content: &str, parts: &[&str]) {
        let report = parse(content).map(|_| ()).unwrap_err();
        for part in parts {
            assert!(report.contains(part), "{content}\n--> {report}\nwithout {part}");
        }
    }
    // A typo names the line, the column, the key and the keys that exist.
    check("lisen = '127.0.0.1:1'", &["f.toml:1:1: lisen: unknown key; did you mean `listen`?", "shards", "endpoint"]);
    check("\n[limits]\njoins = 5", &["f.toml:3:1: limits.joins: unknown key", "[limits] takes", "joins_max"]);
    check("[limit]\njoins_max = 5", &["f.toml:1:2: limit: unknown key; did you mean `limits`?"]);
    check("[[endpoint]]\npth = '/x'", &["f.toml:2:1: endpoint.pth", "did you mean `path`?"]);
    check("[auth.users]\nkind = 'none'\nparm = 'x'", &["f.toml:3:1: auth.users.parm", "did you mean `param`?"]);
    // One that stands elsewhere.
    check("[limits]\npresence_bytes_max = '1MB'", &["unknown key; it is a key of [[channel]]; [limits] takes"]);
    check("[[channel]]\ntopic = 'a'\nlisten = 'x'", &["unknown key; it is a key of the top level; [[channel]] takes"]);
    // A wrong type or value names the value and what is accepted.
    check("[[endpoint]]\norigins = []", &["2:11: endpoint.origins: an empty list is not accepted"]);
    check(
        "[[endpoint]]\norigins = ['same', 'https://a.b']",
        &["2:12: endpoint.origins: \"same\"", "this word stands alone, as in `origins = \"same\"`"],
    );
    check("listen = 4000", &["f.toml:1:10: listen: 4000 is not accepted", "127.0.0.1:4000"]);
    check("drain = 30", &["f.toml:1:9: drain.limit: 30 is not accepted", "a string with a unit"]);
    check("limits = 3", &["limits: is a section: write it as [limits]"]);
    check("[endpoint]\npath = '/x'", &["endpoint: is a section: write it as [[endpoint]]"]);
    check("[auth]\nkind = 'jwt'", &["auth: is a section: write it as [auth.NAME]"]);
    check(
        "[[endpoint]]\nprotocol = 'hub'\nauth = 'none'\nreplace = true",
        &["endpoint.replace: has no effect without `auth`"],
    );
    check(
        "[[endpoint]]\nprotocol = 'hub'\nauth = 'none'\nacks = true",
        &["endpoint.acks: has no effect with protocol = \"hub\""],
    );
    check("[[endpoint]]\ntopics = ['a']", &["endpoint.topics: has no effect with protocol = \"phoenix\""]);
    check(
        "[[endpoint]]\nprotocol = 'bullet'\nauth = 'none'\ntransports = ['websocket']",
        &["endpoint.transports: has no effect"],
    );
    check("[[endpoint]]\npath = '/'", &["endpoint.path: the root itself", "rooms"]);
    check("[[endpoint]]\nlongpoll_window = '30s'", &["endpoint.longpoll_window: 30s is too long", "at most 19s"]);
    check(
        "[[endpoint]]\nprotocol = 'bullet'\nauth = 'none'\ntopics = ['a:{sub}']\nsocket_id = '{sub}'",
        &["{sub} is a claim"],
    );
    check("[[channel]]\ntopic = 'a'\npresence = 'yes'", &["channel.presence: \"yes\"", "`true`, `false` or \"count\""]);
    check(
        "[[channel]]\ntopic = 'a'\npresence_members_max = 5",
        &["channel.presence_members_max", "has no effect without presence"],
    );
    check("[[channel]]\ntopic = 'a'\njoin = 'opne'", &["3:8: channel.join: \"opne\"", "\"authenticated\""]);
    check("[[channel]]\ntopic = 'a'\nevents = ['x', 5]", &["3:16: channel.events: 5 is not accepted"]);
    check("[[channel]]\ntopic = 'a'\nevents = ['phx_join']", &["the protocol keeps events"]);
    check(
        "[[channel]]\ntopic = 'a'\nevents = ['x', 'disconnect']",
        &["channel.events: \"disconnect\" closes the sockets"],
    );
    check("[[channel]]", &["f.toml:1:1: channel.topic: is missing"]);
    // Out of range.
    check("limits.accept_burst = 5", &["f.toml:1:23: limits.accept_burst", "no effect without `accept_rate`"]);
    check("limits.joins_max = 0", &["0 is not accepted: it takes a whole number from 1 to 1000000"]);
    check("limits.message_size_max = '9GB'", &["\"9GB\"", "from 1KB to 1GB"]);
    check("[[endpoint]]\nlongpoll_window = '600s'", &["endpoint.longpoll_window", "from 100ms to 2m"]);
    // Files and secrets that cannot be read.
    check("[tls]\ncert = 'no-such.pem'\nkey = 'no-such.key'", &["2:8: tls.cert: cannot read no-such.pem"]);
    check("[tls]", &["1:1: tls.cert: is missing", "[[tls.certificate]]"]);
    check("[tls]\ncert = 'no-such.pem'", &["tls.key: is missing: it takes the file with the private key of `cert`"]);
    check("[tls]\nkey = 'no-such.key'", &["tls.cert: is missing: it takes the file with the certificate of `key`"]);
    check("[tls]\ncertificates = 'x'", &["tls.certificates: unknown key; did you mean `certificate`?"]);
    check("[tls.certificate]\ncert = 'x'", &["tls.certificate: is a section: write it as [[tls.certificate]]"]);
    check("[[tls.certificate]]\ncert = 'x'", &["tls.certificate.key: is missing"]);
    check(
        "[[tls.certificate]]\ncert = 'no-such.pem'\nkey = 'no-such.key'",
        &["2:8: tls.certificate.cert: cannot read no-such.pem"],
    );
    check("[auth.u]\nkind = 'jwt'", &["auth.u.secret_env: a secret is missing"]);
    check("[auth.u]\nkind = 'jwt'\nsecret_env = 'NOT_SET'", &["3:14: auth.u.secret_env", "NOT_SET is not set"]);
    check("[auth.u]\nkind = 'jwt'\nsecret_env = 'EMPTY'", &["EMPTY is empty"]);
    check(
        "[auth.u]\nkind = 'jwt'\nsecret = '-----BEGIN PUBLIC KEY-----'",
        &["3:10: auth.u.secret: holds a key in PEM form", "give a public key as public_key_file"],
    );
    check("[auth.u]\nkind = 'jwt'\nsecret_file = 'no-such'", &["auth.u.secret_file: cannot read no-such"]);
    check("[auth.u]\nkind = 'jwt'\nsecret = 'x'\nsecret_env = 'MY_SECRET'", &["4:14", "only one of secret, "]);
    check("admin.token = 'short'", &["admin.token: the token is shorter than 16"]);
    check("admin.listen = '0.0.0.0:1'", &["admin.listen: 0.0.0.0:1 can be reached from other machines"]);
    check("admin.listen = '127.0.0.1:4000'", &["is the address of `listen` too"]);
    // Names and patterns.
    check(
        "[[endpoint]]\nauth = 'user'\n[auth.users]\nkind = 'none'",
        &["2:8: endpoint.auth", "did you mean \"users\"?"],
    );
    check(
        "[[endpoint]]\n[[endpoint]]\npath = '/socket'",
        &["3:8: endpoint.path: \"/socket\" is the path of an earlier"],
    );
    check(
        "[[endpoint]]\npath = '/a/:x'\n[[endpoint]]\npath = '/a/:y'",
        &["4:8: endpoint.path: \"/a/:y\" takes the same requests as \"/a/:x\" of an earlier"],
    );
    check("[[endpoint]]\npath = 'socket'", &["a path begins with a slash"]);
    check("[[endpoint]]\npath = '/a/'", &["leave out the slash"]);
    check("[[endpoint]]\norigins = ['example.com']", &["2:12: endpoint.origins: \"example.com\" is not accepted"]);
    check("[[endpoint]]\nsocket_id = 'u:{sub}'", &["endpoint.socket_id: {sub} is a claim"]);
    check("[[endpoint]]\nsocket_id = 'u:{sub'", &["braces stand in pairs"]);
    check("[[channel]]\ntopic = 'a*b'", &["2:9: channel.topic", "`*` as its last character only"]);
    check("[[channel]]\ntopic = 'a'\njoin = 'claim:sub={suffix}'", &["channel.join: {suffix} needs a pattern"]);
    check(
        "listen = '127.0.0.1:80'\n[metrics]\nlisten = '127.0.0.1:80'",
        &["metrics.listen: 127.0.0.1:80 is the address of `listen`"],
    );
    for ratio in ["1.5", "-0.1", "nan"] {
        let expected = format!("f.toml:2:9: traces.ratio: {ratio} is not accepted: it takes a number from 0.0 to 1.0");
        check(&format!("[traces]\nratio = {ratio}"), &[&expected]);
    }
    for (url, part) in [
        ("http://h:4318/v1/traces", "f.toml:2:12: traces.endpoint: the collector's address ends with /v1/traces"),
        ("http://h/otel/v1/traces/", "f.toml:2:12: traces.endpoint: the collector's address ends with /v1/traces"),
        ("http://h/?key=1", "f.toml:2:12: traces.endpoint: the collector's address has a query"),
        (
            "http://u:s3cret@h",
            "f.toml:2:12: traces.endpoint: \"http://…@h\" is not accepted: it has a user or password",
        ),
    ] {
        check(&format!("[traces]\nendpoint = '{url}'"), &[part]);
    }
    check("[metrics]\nconnections_max = 5", &["metrics.listen: is missing"]);
    check("[metrics]\nlisten = 'x'", &["f.toml:2:10: metrics.listen: \"x\" is not accepted: it takes an IP address"]);
    check("[broker]\nurl = 'redis://'", &["f.toml:2:7: broker.url: it names no host"]);
    for (url, credentials, said) in [
        ("nats://h", "s3cret", "the credentials: its key is no seed of NATS: give the content of a .creds file"),
        ("nats://u:s3cret@h", SEED, "the address has a user or a token, and there are credentials: give one of them"),
        ("redis://h", SEED, "credentials are those of a NATS"),
    ] {
        let content = format!("[broker]\nurl = '{url}'\ncredentials = '{credentials}'");
        check(&content, &[&format!("f.toml:3:15: broker.credentials: {said}")]);
    }
    check("[[channel]]\ntopic = 'a'\nhistory = 5", &["3:11: channel.history: it takes a table of bounds such as"]);
    check(
        "[[channel]]\ntopic = 'a'\nhistory = { messages = 0, ttl = '90d', age = 1 }",
        &[
            "messages",
            "0 is not accepted",
            "\"90d\" is not accepted",
            "unknown key \"age\" in history: it takes a table",
        ],
    );
    check("[[channel]]\ntopic = 'a'\ncatch_up = 5", &["3:12: channel.catch_up: there is nothing to catch up with"]);
    check(
        "[history]\ndir = 'x'\nsync = 'often'",
        &["history.sync: \"often\" is not accepted: it takes `always`, `never`, or"],
    );
    check("[history]\nsync = 'always'", &["history.sync: is for a history in a directory: give `dir` as well"]);
    check("[history]\nbytes_max = '1KB'", &["history.bytes_max: \"1KB\" is not accepted: it takes a size from 1MB"]);
    check(
        "[[channel]]\ntopic = 'a'\nslow = 'newest'",
        &["\"newest\" is not accepted: it takes \"disconnect\", \"drop_ol"],
    );
    check("[[channel]]\ntopic = 'a'\nlatest_key = 'id'", &["3:14: channel.latest_key: has no effect without slow"]);
    check("[auth.u]\nkind = 'apikeys'", &["auth.u.keys: is missing"]);
    check("[auth.u]\nkind = 'apikeys'\nkeys = 'mains'\n[keys.main]", &["no [keys.mains]; did you mean \"main\"?"]);
    check("[auth.u]\nkind = 'apikeys'\nkeys = 'm'\nsecret = 'x'\n[keys.m]", &["auth.u.secret: has no effect"]);
    check("[keys.m]\nstore = 'postgres'", &["keys.m.url: the address of the database is missing"]);
    check("[keys.m]\nstore = 'postgres'\nurl = 'nonsense pw'", &["keys.m.url: it is not a URL such as"]);
    check("[keys.m]\nstore = 'file'\npool_size = 5", &["keys.m.pool_size: has no effect with store = \"file\""]);
    check("[source.s]\nkind = 'redis'", &["source.s.url: the address is missing", "source.s.channels: is missing"]);
    check("[source.s]\nkind = 'outbox'\nurl = 'x'\nchannels = 'c'", &["source.s.channels: has no effect"]);
    check("[source.s]\nkind = 'outbox'\nurl = 'x'\ntable = 'a; drop'", &["source.s.table: a table's name has"]);
    check("[source.s]\nkind = 'redis_stream'\nurl = 'x'\nchannels = 'c'", &["source.s.group: is missing"]);
    check(
        "[source.s]\nkind = 'nats'\nurl = 'x'\nchannels = 'c'\nroute = 'recipients'\ntopic = '{channel}'",
        &["{channel} is unknown with route = \"recipients\"; there is {recipient}"],
    );
    check("[source.s]\nkind = 'nats'\nurl = 'x'\nchannels = 'c'\nevent = 'e'", &["has no effect with route"]);
    check(
        "[source.s]\nkind = 'redis'\nurl = 'x'\nchannels = 'c'\nroute = 'recipients'\ntopic = 'x'",
        &["source.s.topic: needs {recipient}"],
    );
    check("[source.s]\nkind = 'outbox'\nurl = 'x'\npark = 'a b'", &["source.s.park: a table's name has"]);
    check("[source.s]\nkind = 'redis'\nurl = 'x'\nchannels = 'c'\ndone = 'mark'", &["source.s.done: has no effect"]);
    check("[bridge]\nforward = 'c'", &["bridge.url: the address is missing"]);
    check("[[channel]]\ntopic = 'a'\njoin = 'hook:http://x'", &["there is no [hook.http://x]"]);
    // Syntax errors show the line.
    check("listen = '127.0.0.1:1'\nshards = = 2", &["f.toml:2:10: ", "\n  2 | shards = = 2"]);
    check("shards = 1\nshards = 2", &["f.toml:2:1: ", "\n  2 | shards = 2"]);
}

#[test]
fn bad_hooks_are_explained() {
    #[track_caller]
    fn check(content: &str, parts: &[&str]) {
        let report = parse(content).map(|_| ()).unwrap_err();
        for part in parts {
            assert!(report.contains(part), "{content}\n--> {report}\nwithout {part}");
        }
    }
    let channel = "[[channel]]\ntopic = 'a'";
    let hook = "[hook.rooms]\nurl = 'http://localhost:8000/'";
    assert!(parse(&format!("{hook}\n{channel}\njoin = 'hook:rooms'\npublish = ['claim:a=b', 'hook:rooms']")).is_ok());
    check(
        &format!("{channel}\njoin = 'hook:rooms'"),
        &["3:8: channel.join: there is no [hook.rooms]; add [hook.rooms]"],
    );
    check(
        &format!("{hook}\n{channel}\npublish = ['open', 'hook:room']"),
        &["5:11: channel.publish: there is no [hook.room]; did you mean \"rooms\"?"],
    );
    check(&format!("{channel}\njoin = 'hook:'"), &["a hook needs a name"]);
    check("[auth.u]\nkind = 'hook'", &["1:7: auth.u.hook: is missing"]);
    check("[auth.u]\nkind = 'hook'\nhook = 'x'", &["3:8: auth.u.hook: there is no [hook.x]"]);
    check(&format!("{hook}\n[auth.u]\nkind = 'none'\nhook = 'rooms'"), &["auth.u.hook: has no effect"]);
    check(
        &format!("{hook}\n[auth.u]\nkind = 'hook'\nhook = 'rooms'\nsecret = 'x'"),
        &["auth.u.secret: has no effect with kind = \"hook\""],
    );
    check("[hook.h]\ntimeout = '1s'", &["1:7: hook.h.url: is missing"]);
    for section in ["[hook.h]", "[[webhook]]"] {
        let with = |more: &str| format!("{section}\nurl = 'https://example.com/'\n{more}");
        assert!(parse(&with("secret_env = 'MY_SECRET'")).is_ok());
        check(&format!("{section}\nurl = 'http://example.com/'"), &["2:7: ", "url: is not https", "allow_http = true"]);
        assert!(parse(&format!("{section}\nurl = 'http://example.com/'\nallow_http = true")).is_ok());
        check(&with("secret_env = 'NOT_SET'"), &["secret_env: ", "NOT_SET is not set"]);
        check(&with("secret = 'whsec_?'"), &["secret: what follows whsec_ must be base64"]);
        check(&with("secret = 'x'\nsecret_env = 'MY_SECRET'"), &["only one of secret, "]);
        let warnings = parse(&with("secret = 'short'")).unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.contains("has 5 bytes")), "{warnings:?}");
    }
    check("[[webhook]]\nurl = 'https://a.b/'\nevents = ['topic_gone']", &["webhook.events: \"topic_gone\""]);
    check("[[webhook]]\nurl = 'https://a.b/'\nuser = 'sub'", &["webhook.user: \"sub\"", "\"claim:NAME\""]);
    let two = "[[webhook]]\nurl = 'https://a.b/'\n[[webhook]]\nurl = 'https://a.b/'\nname = '1'";
    check(two, &["5:8: webhook.name: \"1\" is the name of an earlier"]);
}

#[test]
fn what_looks_closed_and_is_open_is_refused() {
    #[track_caller]
    fn check(content: &str, part: &str) {
        let report = parse(content).map(|_| ()).err().unwrap_or_default();
        assert!(report.contains(part) && part.is_empty() == report.is_empty(), "{content}\n--> {report}");
    }
    let keys = "[keys.k]\n[auth.k]\nkind = 'apikeys'\nkeys = 'k'\n[auth.all]\nkind = 'none'\n[[endpoint]]\n";
    for protocol in ["hub", "bullet"] {
        let with = |more: &str| format!("{keys}protocol = '{protocol}'\n{more}");
        check(&with(""), "7:1: endpoint.auth: is missing: clients of protocol = ");
        check(&with("auth = 'none'"), "");
        check(&with("auth = 'all'"), "");
        check(&with("auth = 'k'"), "");
    }
    let hub = format!("{keys}protocol = 'hub'\nsubscribe = 'authenticated'\n");
    check(&format!("{hub}auth = 'none'"), "endpoint.subscribe: \"authenticated\" lets everybody in");
    check(&format!("{hub}auth = 'all'"), "endpoint.subscribe: \"authenticated\" lets everybody in");
    check(&format!("{hub}auth = 'k'"), "");
    check(&format!("{keys}credential_within = '5s'"), "endpoint.credential_within: has no effect without an `auth`");
    let unused = "[auth.a]\nkind = 'none'\n[hook.h]\nurl = 'http://localhost/'\n[traces]\nratio = 0.5";
    let warnings = parse(unused).unwrap().warnings;
    for part in ["no [[endpoint]] names [auth.a]", "nothing names [hook.h]", "traces.ratio has no effect"] {
        assert!(warnings.iter().any(|warning| warning.contains(part)), "{part}: {warnings:?}");
    }
}

#[test]
fn settings_that_do_nothing_are_refused() {
    #[track_caller]
    fn check(content: &str, expected: &[&str]) {
        let report = parse(content).map(|_| ()).err().unwrap_or_default();
        let found = report.lines().filter(|line| line.contains("has no effect"));
        let found: Vec<&str> = found.map(|line| line.splitn(4, ':').nth(3).unwrap().trim()).collect();
        let is_so =
            found.len() == expected.len() && found.iter().zip(expected).all(|(line, part)| line.starts_with(part));
        assert!(is_so, "{content}\n--> {report}");
    }
    let channel = "[[channel]]\ntopic = 'a'\nhistory = {}\n";
    let on = |protocol: &str, more: &str| format!("[[endpoint]]\nprotocol = '{protocol}'\n{channel}{more}");
    check(&on("phoenix", "catch_up = 5\npublish = 'open'\nreply = false"), &[]);
    check(
        &on("rooms", "catch_up = 5"),
        &["channel.catch_up: has no effect without an [[endpoint]] of protocol = \"phoenix\""],
    );
    check(&on("sse", "publish = 'open'\nbroadcast = 'others'"), &["channel.broadcast: has no effect without"]);
    check(
        &on("phoenix", "events = ['a']"),
        &["channel.events: has no effect while no member may publish: set `publish`"],
    );
    check(&on("phoenix", "presence_key = 'unique'"), &["channel.presence_key: has no effect without presence"]);
    let hub = on("hub", "join = 'open'").replace("'hub'", "'hub'\nauth = 'none'");
    check(&hub, &["channel.join: has no effect without an [[endpoint]] whose clients join"]);
    check("[[endpoint]]\nprotocol = 'sse'\ncompression = true", &["endpoint.compression: has no effect with protocol"]);
    check(
        "[[endpoint]]\ntransports = 'longpoll'\ncompression = true",
        &["endpoint.compression: has no effect without"],
    );
    check(
        "[[endpoint]]\ntransports = 'websocket'\nlongpoll_window = '1s'",
        &["endpoint.longpoll_window: has no effect"],
    );
    check("[history]\ndir = 'x'", &["history.dir: has no effect since no [[channel]] keeps a `history`"]);
    check("[bridge]\nurl = 'redis://x'\nforward = 'c'", &["bridge.forward: has no effect without an [[endpoint]]"]);
    check(
        "[bridge]\nurl = 'redis://x'\nconnected = 'c'",
        &["bridge.connected: has no effect since no socket has an id"],
    );
    let webhook = "[[webhook]]\nurl = 'https://a.b/'\nevents = ";
    check(
        &format!("{webhook}'user_online'\ntopics = 'a'"),
        &["webhook.topics: has no effect without an event of topics"],
    );
    check(
        &format!("{webhook}'topic_vacated'\nuser = 'id'"),
        &["webhook.user: has no effect without an event of users"],
    );
}

/// What is wrong with a large file is said in a time that grows with its size, not with its square.
#[test]
fn many_mistakes_are_reported_soon() {
    let mut content = String::new();
    for number in 0..8_000 {
        content.push_str(&format!(
            "[auth.a{number}]\nkind = 'none'\n[[endpoint]]\npath = '/s{number}'\nauth = 'b{number}'\n"
        ));
    }
    let begun = std::time::Instant::now();
    let report = parse(&content).map(|_| ()).unwrap_err();
    assert_eq!(report.lines().count(), 8_000);
    assert!(
        report.contains("f.toml:40000:8: endpoint.auth: there is no [auth.b7999]"),
        "{}",
        &report[report.len() - 300..]
    );
    // With every mistake looked for from the start of the file it was minutes.
    assert!(begun.elapsed().as_secs() < 15, "{:?}", begun.elapsed());
}

#[test]
fn all_problems_are_reported_together_and_in_order() {
    let content =
        "lisen = 1\n[[endpoint]]\npath = 'x'\nauth = 'u'\n[[endpoint]]\nauth = 'v'\n[[channel]]\njoin = 'x'\n";
    let report = parse(content).map(|_| ()).unwrap_err();
    let keys: Vec<_> = report.lines().map(|line| line.split(':').nth(3).unwrap_or(line).trim()).collect();
    assert_eq!(keys, ["lisen", "endpoint.path", "endpoint.auth", "channel.join"], "{report}");
}

#[test]
fn problems_of_flags_and_variables_name_them() {
    #[track_caller]
    fn check(flags: &[(&'static str, &str, &str)], variables: &[(&str, &str)], expected: &str) {
        let report = preflight::parse("f.toml", "", &overrides(flags, variables)).map(|_| ()).unwrap_err().to_string();
        assert!(report.contains(expected), "{report}");
    }
    check(&[("--listen", "listen", "x")], &[], "flag --listen: listen: \"x\" is not accepted");
    check(
        &[("--set", "limits.join_max", "5")],
        &[],
        "flag --set: limits.join_max: unknown key; did you mean `limits.joins_max`?",
    );
    check(&[("--set", "channel.topic", "a")], &[], "keys of lists and named tables can be set in the file only");
    check(&[], &[("FANFARE_SHARDS", "none")], "environment variable FANFARE_SHARDS: shards: \"none\" is not accepted");
}

#[test]
fn problems_of_tokens_name_their_table_and_no_secret() {
    let secret = "s".repeat(64);
    let variables = [
        ("ONE", secret.as_str()),
        ("TWO", secret.as_str()),
        ("OTHER", "another-token-of-the-tests"),
        ("SHORT", "short"),
        ("LINES", "first-line-of-a-token\nand-a-second"),
        ("BLANK", "a-token-with-a-blank-at-its-end "),
        ("LETTER", "a-token-with-an-\u{fc}-in-it"),
    ];
    let check = |content: &str, expected: &[&str]| {
        let report = preflight::parse("f.toml", content, &overrides(&[], &variables)).map(|_| ());
        let report = report.map_err(|report| report.to_string()).err().unwrap_or_default();
        let lines: Vec<&str> = report.lines().collect();
        assert_eq!(lines.len(), expected.len(), "{content}: {report}");
        for (line, expected) in lines.iter().zip(expected) {
            assert!(line.starts_with(expected), "{content}: {report}\nwithout {expected}");
        }
        assert!(!report.contains(&secret[..10]) && !report.contains("-line-"), "{report}");
    };
    let table = |name: &str, from: &str| format!("[[admin.token]]\nname = '{name}'\n{from}\nmay = ['read']\n");
    let [a, b] = [table("a", "token_env = 'ONE'"), table("b", "token_env = 'TWO'")];
    let other = table("o", "token_env = 'OTHER'");
    check(&format!("[admin]\n{other}{a}"), &[]);
    let twice = "admin.token: the token \"b\" is the same secret as the token \"a\"";
    check(&format!("[admin]\n{other}{a}{b}"), &[&format!("f.toml:10:1: {twice}")]);
    let own = "admin.token: the token \"b\" is the same secret as admin.token_env";
    check(&format!("[admin]\ntoken_env = 'ONE'\n{other}{b}"), &[&format!("f.toml:7:1: {own}")]);
    let missing = table("m", "token_file = '/no-such-folder/token'");
    let short = table("s", "token_env = 'SHORT'");
    check(
        &format!("[admin]\n{other}\n{missing}\n{short}"),
        &[
            "f.toml:7:1: admin.token: \"m\": cannot read /no-such-folder/token",
            "f.toml:12:1: admin.token: the token \"s\" is shorter",
        ],
    );
    // What cannot stand in a header.
    for (variable, part) in [("LINES", "several lines"), ("BLANK", "a blank"), ("LETTER", "character 17")] {
        let report = preflight::parse(
            "f.toml",
            &format!("[admin]\n{other}{}", table("x", &format!("token_env = '{variable}'"))),
            &overrides(&[], &variables),
        );
        let report = report.map(|_| ()).unwrap_err().to_string();
        assert!(report.starts_with("f.toml:6:1: admin.token: the token \"x\" ") && report.contains(part), "{report}");
        let own = format!("[admin]\ntoken_env = '{variable}'");
        let report = preflight::parse("f.toml", &own, &overrides(&[], &variables)).map(|_| ()).unwrap_err().to_string();
        assert!(report.starts_with("f.toml:2:13: admin.token_env: ") && report.contains(part), "{report}");
    }
    // The environment's token leaves the tables where they are.
    let both = [&variables[..], &[("FANFARE_ADMIN_TOKEN", secret.as_str())]].concat();
    let report = preflight::parse("f.toml", &format!("\n{other}{b}"), &overrides(&[], &both)).map(|_| ()).unwrap_err();
    assert!(
        report.to_string().starts_with("f.toml:6:1: admin.token: the token \"b\" is the same secret as"),
        "{report}"
    );
}

#[test]
fn problems_of_lists_within_sections_name_their_own_lines() {
    let pair = "[[tls.certificate]]\ncert = 'no-such-cert'\nkey = 'no-such-key'\n";
    let report = parse(&format!("{pair}{pair}\n[[tls.certificate]]\ncert = 'c'\n")).map(|_| ()).unwrap_err();
    let places: Vec<_> = report.lines().map(|line| line.split(' ').next().unwrap_or_default()).collect();
    assert!(
        places.contains(&"f.toml:2:8:") && places.contains(&"f.toml:5:8:") && places.contains(&"f.toml:8:1:"),
        "{report}"
    );
}

#[test]
fn listeners_that_would_be_in_one_anothers_way_are_refused() {
    #[track_caller]
    fn check(first: &str, second: &str, clashes: bool) {
        for (other, key) in [("admin", "admin.listen"), ("metrics", "metrics.listen")] {
            let token = if other == "admin" { "token_env = 'MY_SECRET'\n" } else { "" };
            let content = format!("listen = '{first}'\n[{other}]\n{token}listen = '{second}'\n");
            let report = parse(&content).map(|_| ()).err().unwrap_or_default();
            let is_told = report.contains(key) && report.contains("`listen`");
            assert_eq!((is_told, report.is_empty()), (clashes, !clashes), "{content}: {report}");
        }
    }
    check("127.0.0.1:4000", "127.0.0.1:4000", true);
    check("127.0.0.1:4000", "0.0.0.0:4000", true);
    check("0.0.0.0:4000", "127.0.0.1:4000", true);
    check("127.0.0.1:4000", "[::]:4000", true);
    check("[::]:4000", "0.0.0.0:4000", true);
    check("[::1]:4000", "[::]:4000", true);
    check("[::ffff:127.0.0.1]:4000", "127.0.0.1:4000", true);
    check("[::1]:4000", "0.0.0.0:4000", false);
    check("127.0.0.1:4000", "127.0.0.2:4000", false);
    check("127.0.0.1:4000", "0.0.0.0:4001", false);
    check("127.0.0.1:0", "0.0.0.0:0", false);
    let both = "[admin]\nlisten = '127.0.0.1:5000'\n[metrics]\nlisten = '0.0.0.0:5000'\n";
    let report = parse(both).map(|_| ()).unwrap_err();
    assert!(report.contains("metrics.listen") && report.contains("`admin.listen`"), "{report}");
}

#[test]
fn mistyped_variables_are_warned_of() {
    let overrides = overrides(&[], &[("FANFARE_LISEN", "x"), ("FANFARE_PORT_4000_TCP", "x"), ("HOME", "x")]);
    let config = preflight::parse("f.toml", "[[channel]]\npreset = 'lobby'", &overrides).unwrap();
    assert_eq!(config.warnings.len(), 1, "{:?}", config.warnings);
    assert!(config.warnings[0].contains("FANFARE_LISEN is not a setting; did you mean FANFARE_LISTEN?"));
}

/// A key of NATS, from its documentation.
const SEED: &str = "SUAOY5JZ2WJKVR4UO2KJ2P3SW6FZFNWEOIMAXF4WZEUNVQXXUOKGM55CYE";

#[test]
fn secrets_are_not_in_reports_or_debug_output() {
    let marker = "m4rk3r-secret";
    for content in [
        format!("[auth.u]\nkind = 'jwt'\nsecret = ['{marker}']"),
        format!("[auth.u]\nkind = 'jwt'\nsecret = '{marker}"),
        format!("[auth.u]\nkind = 'jwt'\nsecret = '{marker}'\nsecret_env = 'MY_SECRET'"),
        format!("[admin]\ntoken = '{marker}"),
        format!("[admin]\ntoken = '{}'", &marker[..10]),
    ] {
        let report = parse(&content).map(|_| ()).unwrap_err();
        assert!(!report.contains(&marker[..10]), "{report}");
    }
    let config =
        parse(&format!("[auth.u]\nkind = 'jwt'\nsecret = '{marker}'\n[admin]\ntoken = '{marker}-and-more'")).unwrap();
    assert!(!format!("{config:?}").contains(marker));
    // What is told of it has none either, whatever the key is called.
    let long = format!("{marker}-0123456789012345678901234567890123");
    for (content, key, value) in [
        (format!("[auth.u]\nkind = 'jwt'\nsecret = '{long}'"), "auth.u.secret", "set"),
        (format!("[admin]\ntoken = '{long}'"), "admin.token", "set"),
        (format!("[hook.a]\nurl = 'https://a.example/{marker}?k={marker}'"), "hook.a.url", "https://a.example/…"),
        (format!("[hook.a]\nurl = 'https://a/'\nsecret = '{long}'"), "hook.a.secret", "set"),
        (format!("[[webhook]]\nurl = 'https://a.example/?k={marker}'"), "webhook[1].url", "https://a.example/…"),
        (format!("[broker]\nurl = 'redis://:{marker}@127.0.0.1:6379'"), "broker.url", "set"),
        (
            format!("[broker]\nurl = 'nats://h'\ncredentials = '{SEED}\\n# {marker}'").replace('\'', "\""),
            "broker.credentials",
            "set",
        ),
        (format!("[bridge]\nurl = 'redis://:{marker}@127.0.0.1:6379'"), "bridge.url", "set"),
        (format!("[source.a]\nkind = 'redis'\nurl = 'redis://:{marker}@h'\nchannels = ['c']"), "source.a.url", "set"),
    ] {
        let config = parse(&content).unwrap_or_else(|report| panic!("{content}: {report}"));
        let told = serde_json::to_value(&config.told).unwrap();
        assert!(!told.to_string().contains(marker), "{content}: {told}");
        let line = told.as_array().unwrap().iter().find(|line| line["key"] == key).unwrap();
        assert_eq!(line["value"], value, "{content}");
    }
}

#[test]
fn each_key_tells_where_it_comes_from() {
    let content =
        "\n[limits]\njoins_max = 7\nmessage_size_max = '1MB'\n[[channel]]\ntopic = ['a', 'b:*']\njoin = 'open'\n";
    let flags = vec![Flag { name: "--set", path: "limits.joins_max".into(), text: "8".into() }];
    let overrides = Overrides::new(flags, [("FANFARE_LISTEN".into(), "127.0.0.1:0".into())]);
    let config = preflight::parse("f.toml", content, &overrides).unwrap();
    let told = serde_json::to_value(&config.told).unwrap();
    for (key, value, from) in [
        ("limits.joins_max", json!(8), "--set"),
        ("limits.message_size_max", json!("1MB"), "f.toml:4"),
        ("limits.connections_max", json!(1_000_000), "default"),
        ("channel[1].topic", json!(["a", "b:*"]), "f.toml:6"),
        ("listen", json!("127.0.0.1:0"), "FANFARE_LISTEN"),
        ("channel[1].replay_max", Value::Null, "default"),
        ("log.level", json!("info"), "default"),
    ] {
        let line = told.as_array().unwrap().iter().find(|line| line["key"] == key).unwrap();
        assert_eq!((&line["value"], &line["from"]), (&value, &json!(from)), "{key}");
    }
}

#[test]
fn every_default_is_accepted_and_every_key_documented() {
    for section in SECTIONS {
        assert!(!section.doc.is_empty(), "{}", section.name);
        for key in section.keys {
            assert!(!key.doc.is_empty() && !(key.accepts)().is_empty(), "{}", section.path(key.name()));
        }
    }
    // Reading each section with nothing in it takes every default.
    parse("[auth.a]\nkind = 'none'\n[admin]\n[[endpoint]]\n[[channel]]\npreset = 'lobby'").unwrap();
}

/// A setting that a guide names exists, and where its default follows, as in "`limits.joins_max`, 100", it is that.
#[test]
fn guides_have_settings_and_defaults_as_they_are() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let (mut named, mut compared) = (0, 0);
    for guide in std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        let Ok(text) = std::fs::read_to_string(&guide) else { continue };
        let mut rest = &text[..];
        while let Some((_, after)) = rest.split_once('`') {
            let Some((code, after)) = after.split_once('`') else { break };
            rest = after;
            let Some((name, key)) = code.split_once('.') else { continue };
            // A counter, and no setting.
            if code == "bridge.redis" {
                continue;
            }
            let is_plain = key.chars().all(|c| c.is_ascii_lowercase() || c == '_');
            let section = SECTIONS.iter().find(|section| section.name == name && !name.is_empty());
            let (Some(section), true) = (section, is_plain) else { continue };
            let known = section.keys.iter().find(|known| known.name() == key);
            let known = known.unwrap_or_else(|| panic!("{}: there is no {code}", guide.display()));
            named += 1;
            let value: String = after
                .strip_prefix(", ")
                .unwrap_or_default()
                .chars()
                .take_while(|c| !",|;)".contains(*c) || *c == ',')
                .collect();
            let digits: String = value.chars().take_while(|c| c.is_ascii_digit() || *c == ',').collect();
            let unit: String =
                value[digits.len()..].trim_start().chars().take_while(char::is_ascii_alphabetic).collect();
            if digits.trim_matches(',').is_empty() {
                continue;
            }
            compared += 1;
            let told = format!("{}{unit}", digits.replace(',', ""));
            assert_eq!(told, known.default.trim_matches('"'), "{}: the default of {code}", guide.display());
        }
    }
    assert!(named > 20 && compared >= 5, "{named} settings, {compared} defaults were found");
}

#[test]
fn no_text_panics() {
    let starter = starter::text().replace("\n# ", "\n");
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let tokens =
        ["=", "[", "]", "[[", "]]", "{", "}", "\"", "'", "\n", ",", ".", "#", "-1", "1e9", "\u{fe0f}", "true", "é"];
    for _ in 0..500 {
        let lines: Vec<&str> = starter.lines().filter(|_| random(3) > 0).collect();
        let mut text: Vec<char> = lines.join("\n").chars().collect();
        for _ in 0..random(4) {
            let at = random(text.len().max(1)).min(text.len());
            let end = (at + random(8)).min(text.len());
            text.splice(at..end, tokens[random(tokens.len())].chars());
        }
        let text: String = text.into_iter().collect();
        // Right or wrong, it ends with an answer, which can be shown.
        let _ = preflight::parse("f.toml", &text, &Overrides::default()).map_err(|report| report.to_string());
    }
}

/// Whatever stands in a file, it is read or said what is wrong with it, and where.
#[test]
fn broken_configurations() {
    let right: [&[u8]; 4] = [
        b"listen = '127.0.0.1:0'\nlimits = { joins_max = 7, message_size_max = '2KB' }\n[[channel]]\npreset = 'lobby'\n",
        b"[auth.j]\nkind = 'jwt'\nsecret_env = 'MY_SECRET'\n[[endpoint]]\nauth = 'j'\nsocket_id = 'user:{sub}'\norigins = ['https://*.a.example']\n",
        b"[[channel]]\ntopic = ['room:*', 'news']\njoin = ['claim:role=staff', 'open']\nhistory = { messages = 10, ttl = '5m' }\nslow = 'latest'\n",
        b"drain = '30s'\n[[endpoint]]\npath = '/hub'\nprotocol = \"hub\"\nauth = 'none'\n[log]\nlevel = 'info,fanfare=debug'\nformat = 'json'\n",
    ];
    fanfare_mutations::broken(&right, |bytes| {
        let Ok(text) = str::from_utf8(bytes) else { return };
        if let Err(report) = parse(text) {
            assert!(report.lines().next().is_some_and(|line| line.contains("f.toml")), "{report}");
        }
    });
}

#[test]
fn mistakes_about_ordered_certificates_are_explained() {
    let minimal = "domains = 'a.example'\ncache_dir = 'acme'\naccept_terms = true\n";
    let config = parse(&format!("[tls.acme]\n{minimal}")).unwrap();
    assert!(
        config
            .warnings
            .iter()
            .any(|warning| warning.contains("connects to port 443 of each domain, and `listen` has port 4000"))
    );
    let without = |line: &str| {
        minimal.lines().filter(|one| !one.starts_with(line)).map(|one| format!("{one}\n")).collect::<String>()
    };
    for (lines, part) in [
        (without("domains"), "tls.acme.domains: is missing: it takes the name of a host"),
        (without("cache_dir"), "tls.acme.cache_dir: is missing: it takes the path of a directory"),
        (without("accept"), "tls.acme.accept_terms: must be true: the certificate authority (acme-v02"),
        (minimal.replace("a.example", "*.example"), "only the challenge dns-01, which is not supported"),
        (minimal.replace("a.example", "192.0.2.7"), "it is an address; a certificate is for names"),
        (minimal.replace("'a.example'", "['a.example', 'A.example']"), "a.example stands there twice"),
        (
            format!("{minimal}contact = 'nobody'"),
            "tls.acme.contact: \"nobody\" is not accepted: it takes an e-mail address",
        ),
        (format!("{minimal}challenge = 'dns-01'"), "\"dns-01\" is not accepted: it is not supported in this version"),
        (format!("{minimal}directory = 'http://ca.example/dir'"), "is an http:// address of another machine"),
        (
            format!("{minimal}http_listen = '0.0.0.0:80'"),
            "tls.acme.http_listen: has no effect with challenge = \"tls-alpn-01\"",
        ),
        (
            format!("{minimal}challenge = 'http-01'\nhttp_listen = '0.0.0.0:4000'"),
            "tls.acme.http_listen: 0.0.0.0:4000 and 127.0.0.1:4000, which is `listen`",
        ),
        (format!("{minimal}eab_kid = 'kid'"), "tls.acme.eab_kid: needs the key that belongs to it"),
        (format!("{minimal}eab_key = 'a2V5'"), "tls.acme.eab_kid: is missing"),
        (format!("{minimal}eab_kid = 'kid'\neab_key = 'no key!'"), "tls.acme.eab_key: is not in base64url"),
        (format!("{minimal}eab_kid = 'kid'\neab_key_env = 'NO_SUCH'"), "the environment variable NO_SUCH is not set"),
        (minimal.replace("'acme'", "'Cargo.toml'"), "tls.acme.cache_dir: Cargo.toml is a file; it takes a directory"),
        (
            minimal.replace("'acme'", "'Cargo.toml/acme'"),
            "Cargo.toml/acme cannot be made: Cargo.toml is not a directory",
        ),
        (minimal.replace("'acme'", "'/proc/acme'"), "/proc/acme cannot be made: nothing can be put into /proc: "),
    ] {
        let report = parse(&format!("[tls.acme]\n{lines}")).unwrap_err();
        // Nothing is said of what is left out since this is there.
        assert!(report.contains(part) && !report.contains("tls.cert:"), "{part:?} is not in {report}");
    }
}
