//! Mistakes of configuration and environment: `check` and `serve` say the same of them, and what looks right and does nothing is found.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde_json::json;

use crate::support::{Folder, Server, fanfare, run};

const LOBBY: &str = "[[channel]]\npreset = 'lobby'\n";

/// What `check` says of a file, and whether it accepts it.
fn check(config: &str, prepare: impl FnOnce(&mut Command)) -> (bool, String) {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", config);
    let mut command = fanfare(&["check", "--config", file.to_str().unwrap()]);
    prepare(&mut command);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8(output.stderr).unwrap())
}

#[track_caller]
fn refused(config: &str, parts: &[&str]) {
    let (ok, said) = check(config, |_| {});
    assert!(!ok && parts.iter().all(|part| said.contains(part)), "{parts:?} are not in {said}");
}

#[test]
fn a_channel_that_another_hides_is_refused() {
    let open = "[[channel]]\ntopic = 'room:*'\njoin = 'open'\n";
    refused(
        &format!("{open}[[channel]]\ntopic = 'room:secret'\njoin = 'nobody'\n"),
        &["fanfare.toml:5:9: channel.topic", "\"room:secret\"", "the earlier \"room:*\" takes them all"],
    );
    refused(&format!("{open}{open}"), &["an earlier [[channel]] has \"room:*\" as well"]);
}

#[test]
fn an_address_of_another_kind_of_server_is_refused() {
    let source = |kind: &str, url: &str| {
        format!("{LOBBY}[source.s]\nkind = '{kind}'\nurl = '{url}'\nchannels = 'c'\ngroup = 'g'\n")
    };
    for (config, key, example) in [
        (source("redis", "localhost:6379").replace("group = 'g'\n", ""), "source.s.url", "redis://HOST:6379"),
        (source("redis_stream", "http://secret@localhost"), "source.s.url", "redis://HOST:6379"),
        (source("nats", "http://secret@localhost"), "source.s.url", "nats://HOST:4222"),
        (
            format!("{LOBBY}[bridge]\nurl = 'localhost:6379'\nconnected = 'x'\nkey = '{{sub}}'\n"),
            "bridge.url",
            "redis://HOST:6379",
        ),
    ] {
        let (ok, said) = check(&config, |_| {});
        assert!(!ok && said.contains(key) && said.contains(example), "{config}: {said}");
        assert!(!said.contains("secret"), "{said}");
    }
    let (_, said) = check(&source("nats", "localhost:4222").replace("group = 'g'\n", ""), |_| {});
    assert!(!said.contains("source.s.url"), "{said}");
}

#[test]
fn what_is_no_page_of_a_node_is_refused() {
    let long = format!("https://a/{}", "b".repeat(250));
    for (url, said) in [
        ("javascript:alert(1)", "cluster.admin_url"),
        ("ftp://a/", "begins with neither \"https://\" nor"),
        ("https://user:secret@a/", "user or password"),
        ("https://a/#token=secret", "behind which a token may be"),
        ("https://a/?token=secret", "behind which a token may be"),
        (&long, "it has 260 bytes, and 256 at most"),
    ] {
        let broker = "[broker]\nurl = 'redis://localhost'\n";
        refused(&format!("{LOBBY}{broker}[cluster]\nadmin_url = '{url}'\n"), &[said, "fanfare.toml:6:13"]);
    }
    refused(&format!("{LOBBY}[cluster]\nadmin_url = 'https://a/'\n"), &["cluster.admin_url", "without a [broker]"]);
}

#[test]
fn a_certificate_that_has_expired_is_refused_and_one_that_will_is_warned_of() {
    let folder = Folder::new();
    let tls = |name: &str, end: Duration| {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(2020, 1, 1);
        params.not_after = rcgen::date_time_ymd(1970, 1, 1) + end;
        let key = rcgen::KeyPair::generate().unwrap();
        let cert = params.self_signed(&key).unwrap();
        let cert = folder.write(&format!("{name}.pem"), &cert.pem());
        let key = folder.write(&format!("{name}.key"), &key.serialize_pem());
        format!("{LOBBY}[tls]\ncert = {cert:?}\nkey = {key:?}\n")
    };
    let (now, day) = (SystemTime::now().duration_since(UNIX_EPOCH).unwrap(), Duration::from_secs(86_400));
    refused(&tls("expired", now - day), &["tls.cert", "expired.pem", "has expired", "renew it"]);
    let (ok, said) = check(&tls("soon", now + day * 3), |_| {});
    assert!(ok && said.contains("soon.pem expires in 2 days"), "{said}");
    assert_eq!(check(&tls("good", now + day * 90), |_| {}), (true, String::new()));
}

#[test]
fn a_key_with_a_passphrase_is_called_so() {
    let folder = Folder::new();
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let pem = "-----BEGIN ENCRYPTED PRIVATE KEY-----\nMIIB\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let key = folder.write("key.pem", pem);
    let config = format!("{LOBBY}[tls]\ncert = {cert:?}\nkey = {key:?}\n");
    refused(&config, &["tls.key", "encrypted with a passphrase", "openssl pkey"]);
}

#[test]
fn variables_that_are_no_settings_are_told_by_check_and_serve() {
    let set = |command: &mut Command| {
        command.env("FANFARE_LIMITS_JOIN_MAX", "5").env("FANFARE_COLOUR", "red");
        // What Kubernetes sets for a service called fanfare.
        command.env("FANFARE_SERVICE_HOST", "10.0.0.1").env("FANFARE_PORT", "tcp://10.0.0.1:80");
        command.env("FANFARE_PORT_80_TCP_ADDR", "10.0.0.1");
    };
    let told = [
        "FANFARE_LIMITS_JOIN_MAX is not a setting; did you mean FANFARE_LIMITS_JOINS_MAX?",
        "FANFARE_COLOUR is not a setting; `fanfare docs config`",
    ];
    let (ok, said) = check(LOBBY, set);
    assert!(ok && told.iter().all(|part| said.contains(part)), "{said}");
    assert!(!said.contains("SERVICE_HOST") && !said.contains("FANFARE_PORT"), "{said}");
    let server = Server::serve_with(LOBBY, set);
    for part in told {
        assert!(server.wait_for_stderr(|log| log.contains(part).then_some(())).is_some(), "{}", server.stderr());
    }
}

#[test]
fn what_serve_warns_of_check_does_too() {
    for (config, part) in [
        ("", "there is no [[channel]]"),
        ("[[channel]]\ntopic = 'a'\n", "nobody can join \"a\""),
        ("[auth.a]\nkind = 'jwt'\nsecret = 'short'\n[[channel]]\npreset = 'lobby'\n", "can be guessed"),
    ] {
        let (ok, said) = check(config, |_| {});
        assert!(ok && said.contains(part), "{config}: {said}");
        let server = Server::serve(config);
        assert!(server.wait_for_stderr(|log| log.contains(part).then_some(())).is_some(), "{}", server.stderr());
    }
}

#[test]
fn the_file_in_the_folder_or_the_environment_alone_is_enough() {
    let folder = Folder::new();
    let here = folder.path("");
    let run_in = |dir: &Path, args: &[&str], variables: &[(&str, &str)]| {
        let output = fanfare(args).current_dir(dir).envs(variables.iter().copied()).output().unwrap();
        (output.status.success(), String::from_utf8(output.stderr).unwrap())
    };
    let (ok, said) = run_in(&here, &["check"], &[]);
    assert!(!ok && said.contains("cannot read fanfare.toml") && said.contains("fanfare init"), "{said}");
    let (ok, said) = run_in(&here, &["check"], &[("FANFARE_LISTEN", "127.0.0.1:0")]);
    assert!(ok, "{said}");
    let (ok, said) = run_in(&here, &["check"], &[("FANFARE_LISTEN", "nowhere")]);
    assert!(!ok && said.contains("environment variable FANFARE_LISTEN"), "{said}");
    folder.write("fanfare.toml", "nonsense = 1\n");
    let (ok, said) = run_in(&here, &["serve"], &[("FANFARE_LISTEN", "127.0.0.1:0")]);
    assert!(!ok && said.contains("fanfare.toml:1"), "{said}");
    folder.write("other.toml", LOBBY);
    assert!(run_in(&here, &["check", "-c", "other.toml"], &[]).0);
}

#[test]
fn an_address_that_cannot_be_listened_on_is_told_with_what_helps() {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", LOBBY);
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let taken = taken.local_addr().unwrap().to_string();
    for (address, part) in [(taken.as_str(), "stop what uses it"), ("203.0.113.7:4000", "no such address")] {
        let (ok, _, said) = run(&["serve", "--config", file.to_str().unwrap(), "--listen", address]);
        assert!(!ok && said.contains(part) && said.contains("--listen"), "{address}: {said}");
        assert_eq!(said.contains("stop what uses it"), address == taken, "{said}");
    }
}

#[test]
fn pages_of_the_public_address_are_let_in_behind_a_proxy() {
    let server = Server::serve(&format!("public_url = 'https://chat.example.com'\n{LOBBY}"));
    let status = |host: &str, origin: &str| {
        let headers = [("origin", origin), ("x-forwarded-host", host)];
        server.http("GET", "/socket/longpoll?vsn=2.0.0", &headers, "").json()["status"].clone()
    };
    let own = format!("http://{}", server.address);
    // A page that has had the name of its own host changed to this server's address is of no listed origin.
    for (origin, expected) in [
        ("https://chat.example.com", 410),
        ("https://chat.example.com:8443", 403),
        ("http://chat.example.com", 403),
        ("https://evil.example.com", 403),
        (own.as_str(), 403),
    ] {
        assert_eq!(status("chat.example.com", origin), json!(expected), "{origin}");
    }
    for wrong in ["chat.example.com", "ftp://chat.example.com", "https://chat.example.com/app", "https://*.example.com"]
    {
        refused(&format!("public_url = '{wrong}'\n{LOBBY}"), &["public_url", "https://chat.example.com"]);
    }
}

#[test]
fn the_log_says_at_the_start_what_is_served() {
    let server = Server::serve(&format!(
        "public_url = 'https://chat.example.com'\n[auth.users]\nkind = 'jwt'\nsecret = '{}'\n[[endpoint]]\nauth = 'users'\n\
         [[endpoint]]\npath = '/rooms'\nprotocol = 'rooms'\norigins = 'any'\n{LOBBY}",
        "x".repeat(64)
    ));
    let first = format!("url=\"http://{}/socket\" protocol=\"phoenix\" auth=\"users\"", server.address);
    let second = "/rooms\" protocol=\"rooms\" auth=\"none\" origins=\"everybody\"";
    for part in [first.as_str(), second, "origins=\"https://chat.example.com:443\"", "topics=\"room:lobby\""] {
        assert!(
            server.wait_for_stderr(|log| log.contains(part).then_some(())).is_some(),
            "{part}: {}",
            server.stderr()
        );
    }
}

/// A named pipe waits for somebody who writes into it, and a device may never end.
#[test]
fn what_is_no_file_is_refused_and_not_waited_for() {
    let folder = Folder::new();
    let pipe = folder.write("x", "").with_file_name("pipe.json");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let jwt = "[auth.a]\nkind = 'jwt'\nalgorithms = ";
    for config in [
        format!("{jwt}['HS256']\nsecret_file = {pipe:?}"),
        format!("{jwt}['RS256']\npublic_key_file = {pipe:?}"),
        format!("{jwt}['RS256']\njwks_file = {pipe:?}"),
        format!("[tls]\ncert = {pipe:?}\nkey = {pipe:?}"),
        format!("[admin]\nlisten = '127.0.0.1:1'\ntoken_file = {pipe:?}"),
        format!("[[channel]]\ntopic = '*'\njoin = 'open'\nschemas = {{ join = {pipe:?} }}"),
    ] {
        let file = folder.write("fanfare.toml", &config);
        let (ok, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert!(!ok && stderr.contains("it is a named pipe, and only files are read"), "{config}: {stderr}");
    }
    for (file, what) in [(pipe.to_str().unwrap(), "a named pipe"), ("/dev/zero", "a device")] {
        let (ok, _, stderr) = run(&["check", "--config", file]);
        assert!(!ok && stderr.contains(&format!("it is {what}, and only files are read")), "{stderr}");
    }
    // What a shell has opened ends with its writer.
    let command = format!("{} check --config <(echo \"listen = '127.0.0.1:1'\")", env!("CARGO_BIN_EXE_fanfare"));
    let output = Command::new("bash").args(["-c", &command]).output().unwrap();
    assert!(output.status.success(), "{output:?}");
}
