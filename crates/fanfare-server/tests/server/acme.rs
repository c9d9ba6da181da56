//! Certificates that are ordered by ACME, from a real certificate authority.

use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};

use crate::back_end::{BackEnd, Reply};
use crate::services::pebble::{Pebble, Settings, free_port};
use crate::support::{Folder, Server, eventually, http};

const LOBBY: &str = "[[channel]]\npreset = 'lobby'\n";

/// With a directory and a folder, and more of `[tls.acme]`.
fn config(directory: &str, folder: &Folder, more: &str) -> String {
    let cache = folder.path("acme");
    format!("{LOBBY}[tls.acme]\naccept_terms = true\ndirectory = '{directory}'\ncache_dir = {cache:?}\n{more}\n")
}

/// A server that trusts an authority, and listens there.
fn serve(port: u16, pebble: Option<&Pebble>, config: &str) -> Server {
    Server::serve_at_with(&format!("127.0.0.1:{port}"), config, |command| {
        if let Some(pebble) = pebble {
            command.env("SSL_CERT_FILE", pebble.certificate());
        }
    })
}

/// The certificates in the folder of a test, where all that was ordered is.
fn kept(folder: &Folder) -> Vec<PathBuf> {
    let inner = |path: &Path| {
        std::fs::read_dir(path).map_or(Vec::new(), |found| found.map(|entry| entry.unwrap().path()).collect())
    };
    let found = inner(&folder.path("acme"));
    found.iter().flat_map(|path| inner(path)).filter(|path| path.ends_with("certificate.pem")).collect()
}

/// The certificate that a client is shown who trusts the authority that has signed the one in the folder; none if it is not let in.
fn connect(port: u16, name: &str, folder: &Folder) -> Option<(StreamOwned<ClientConnection, TcpStream>, Vec<u8>)> {
    let mut roots = RootCertStore::empty();
    for file in kept(folder) {
        // The one that has signed it.
        let chain: Vec<_> = CertificateDer::pem_file_iter(file).unwrap().map(Result::unwrap).collect();
        roots.add(chain[1].clone()).unwrap();
    }
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let mut tls = ClientConnection::new(Arc::new(config), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
    tls.complete_io(&mut stream).ok()?;
    let shown = tls.peer_certificates()?[0].to_vec();
    Some((StreamOwned::new(tls, stream), shown))
}

/// How the certificate stands, by the health report.
fn state(server: &Server) -> Value {
    server.api("GET", "/api/health", &Value::Null).json()["certificates"]["acme"].clone()
}

/// How many were ordered with this result.
fn orders(server: &Server, result: &str) -> u64 {
    let metrics = server.api("GET", "/metrics", &Value::Null).body;
    let name = format!("fanfare_tls_certificate_orders_total{{name=\"acme\",result=\"{result}\"}} ");
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name));
    line.unwrap_or_else(|| panic!("no {name} in {metrics}")).parse().unwrap()
}

/// A time as a directory writes it, so many days from now.
fn in_days(days: i64) -> String {
    let at = time::OffsetDateTime::from(SystemTime::now()) + time::Duration::days(days);
    at.format(&time::format_description::well_known::Rfc3339).unwrap()
}

#[test]
fn a_certificate_is_ordered_by_tls_kept_over_a_restart_and_renewed_without_closing_a_socket() {
    let (port, folder) = (free_port(), Folder::new());
    let pebble = Pebble::start(&Settings { tls_port: port, http_port: 1, eab_key: None, reuse_percent: 100 });
    // Pebble says nothing of renewals: beside it there is somebody who does.
    let directory = BackEnd::new(|_| Reply::Status(503, String::new()));
    let url = format!("http://{}/directory", directory.address);
    let answer = |days: i64| {
        let (mut all, address) = (pebble.directory(), directory.address.clone());
        all["renewalInfo"] = format!("http://{address}/renewal").into();
        move |request: &crate::back_end::Request| match request.path.as_str() {
            "/directory" => Reply::Json(all.clone()),
            _ => {
                let window = json!({ "suggestedWindow": { "start": in_days(days), "end": in_days(days) } }).to_string();
                let head = format!("HTTP/1.1 200 OK\r\nretry-after: 21600\r\ncontent-length: {}\r\n\r\n", window.len());
                Reply::Raw(format!("{head}{window}"))
            }
        }
    };
    directory.set(answer(60));
    let settings = config(&url, &folder, "domains = ['chat.example', 'www.chat.example']");
    let server = serve(port, Some(&pebble), &settings);
    assert!(server.wait_for_stderr(|log| log.contains("nobody can connect by TLS until").then_some(())).is_some());
    eventually(|| !kept(&folder).is_empty() && state(&server) == "ok");
    assert_eq!(orders(&server, "issued"), 1);
    let (_, first) = connect(port, "chat.example", &folder).expect("the certificate is for this name");
    assert_eq!(connect(port, "www.chat.example", &folder).expect("and for this").1, first);
    assert!(connect(port, "elsewhere.example", &folder).is_none());
    // Keys are nobody else's, and what has shown whose the domains are is gone.
    let in_cache =
        Command::new("find").arg(folder.path("acme")).args(["-type", "f", "-printf", "%m %f\n"]).output().unwrap();
    let mut in_cache: Vec<_> = std::str::from_utf8(&in_cache.stdout).unwrap().lines().collect();
    in_cache.sort_unstable();
    assert!(in_cache.iter().all(|file| file.starts_with("600 ")) && in_cache.len() == 3, "{in_cache:?}");
    drop(server);

    // The directory is away: what is kept is served.
    directory.set(|_| Reply::Status(503, String::new()));
    let server = serve(port, Some(&pebble), &settings);
    eventually(|| connect(port, "chat.example", &folder).is_some_and(|(_, shown)| shown == first));
    let (stream, _) = connect(port, "chat.example", &folder).unwrap();
    let (mut open, _) = tungstenite::client("wss://chat.example/socket/websocket?vsn=2.0.0", stream).unwrap();
    assert_eq!((state(&server), orders(&server, "issued")), (json!("ok"), 0));
    // The authority wants it to be renewed now, and is asked since the settings have changed.
    directory.set(answer(-1));
    server.rewrite(&format!("{settings}contact = 'admin@chat.example'\n"));
    assert_eq!(server.reload().json()["changed"], json!(["tls.acme.contact"]));
    eventually(|| connect(port, "chat.example", &folder).is_some_and(|(_, shown)| shown != first));
    let asked: Vec<_> =
        directory.requests().into_iter().filter(|request| request.path.starts_with("/renewal/")).collect();
    // The identifiers of the key that has signed it and of the certificate.
    assert!(asked.iter().all(|request| request.path["/renewal/".len()..].split('.').count() == 2), "{asked:?}");
    eventually(|| orders(&server, "issued") == 1 && state(&server) == "ok");
    // It is not obeyed again and again.
    assert!(server.stderr().matches("a certificate by ACME is served").count() == 2, "{}", server.stderr());
    open.send(r#"["1","1","room:lobby","phx_join",{}]"#.into()).unwrap();
    assert!(open.read().unwrap().into_text().unwrap().contains(r#""status":"ok""#));

    // Other domains are ordered at once. Until then, the certificate before stays in force, which is told.
    directory.set(|_| Reply::Status(503, String::new()));
    let of = |domains: &str| config(&url, &folder, &format!("domains = [{domains}]"));
    let (_, both) = connect(port, "www.chat.example", &folder).unwrap();
    server.rewrite(&of("'chat.example', 'third.example'"));
    assert_eq!(server.reload().status, 200);
    assert_eq!(state(&server), "stale");
    let is_told = |log: &str| log.contains("without_certificate=\"third.example\"").then_some(());
    assert!(server.wait_for_stderr(is_told).is_some(), "{}", server.stderr());
    assert_eq!(connect(port, "chat.example", &folder).expect("it is let in").1, both);
    directory.set(answer(60));
    eventually(|| state(&server) == "ok");
    assert!(connect(port, "third.example", &folder).is_some() && orders(&server, "issued") == 2);
    drop(server);

    // After a restart as well: of those that are kept, the one that is for the most of the domains.
    directory.set(|_| Reply::Status(503, String::new()));
    let server = serve(port, Some(&pebble), &of("'chat.example', 'www.chat.example', 'fourth.example'"));
    eventually(|| connect(port, "chat.example", &folder).is_some_and(|(_, shown)| shown == both));
    let is_told = |log: &str| log.contains("without_certificate=\"fourth.example\"").then_some(());
    assert!(server.wait_for_stderr(is_told).is_some(), "{}", server.stderr());
    assert_eq!(state(&server), "stale");
    // One that is for none of them is not.
    server.rewrite(&of("'fourth.example'"));
    assert_eq!(server.reload().status, 200);
    assert_eq!(state(&server), "unavailable");
}

#[test]
fn http_01_and_a_bound_account_do_as_well_and_a_wrong_domain_is_refused_in_the_words_of_the_authority() {
    let (http_port, folder) = (free_port(), Folder::new());
    let key = "zWNDZM6eQGHWpSRTPal5eIUYFTu7EajVIoguysqZ9wG44nMEtx3MUAsUDkMTQ12W";
    let nobody = free_port();
    let pebble = Pebble::start(&Settings { tls_port: nobody, http_port, eab_key: Some(key), reuse_percent: 0 });
    let more = format!("domains = 'chat.example'\nchallenge = 'http-01'\nhttp_listen = '127.0.0.1:{http_port}'\n");
    let bound = format!("{more}eab_kid = 'kid-1'\neab_key = '{key}'\n");

    // Before anything is served, what is wrong can be seen.
    let check_as = |trusts: bool, more: &str| {
        let file = folder.write("check.toml", &config(&pebble.url(), &folder, more));
        let mut command = crate::support::fanfare(&["check", "--connect", "--config", file.to_str().unwrap()]);
        if trusts {
            command.env("SSL_CERT_FILE", pebble.certificate());
        }
        String::from_utf8(command.output().unwrap().stdout).unwrap()
    };
    let check = |more: &str| check_as(true, more);
    let told = check_as(false, &bound);
    assert!(
        told.contains("UnknownIssuer; have the operating system trust") && told.contains("SSL_CERT_FILE"),
        "{told}"
    );
    assert!(
        check(&more).contains("error: tls.acme: the certificate authority asks for an account"),
        "{}",
        check(&more)
    );
    let authority = pebble.url().trim_start_matches("https://").trim_end_matches("/dir").to_owned();
    let told = format!("ok: tls.acme: a certificate authority answers at {authority}, terms of service at");
    assert!(check(&bound).contains(&told), "{}", check(&bound));

    let server = serve(0, Some(&pebble), &config(&pebble.url(), &folder, &bound));
    let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
    eventually(|| state(&server) == "ok");
    assert!(connect(port, "chat.example", &folder).is_some());
    // Nothing else is answered there, and the certificate authority has been.
    let address = format!("127.0.0.1:{http_port}");
    for path in
        ["/", "/.well-known/acme-challenge/", "/.well-known/acme-challenge/x", "/.well-known/acme-challenge/..%2flock"]
    {
        assert_eq!(http(&address, "GET", path, &[], "").status, 404, "{path}");
    }

    // The address of the challenge is free again when another order begins.
    server.rewrite(&config(
        &pebble.url(),
        &folder,
        &bound.replace("'chat.example'", "['chat.example', 'www.example']"),
    ));
    assert_eq!(server.reload().status, 200);
    eventually(|| connect(port, "www.example", &folder).is_some());
    assert_eq!(orders(&server, "failed"), 0, "{}", server.stderr());

    // A domain that does not lead here: nobody answers where the authority looks.
    let other = Folder::new();
    let bound = format!("domains = 'other.example'\neab_kid = 'kid-1'\neab_key = '{key}'\n");
    let refused = serve(0, Some(&pebble), &config(&pebble.url(), &other, &bound));
    let log = refused.wait_for_stderr(|log| log.contains("no certificate could be had").then(|| log.to_owned()));
    let log = log.unwrap_or_else(|| panic!("{}", refused.stderr()));
    for part in ["the certificate authority says: other.example: ", "Failed to connect to", "nobody can connect by TLS"]
    {
        assert!(log.contains(part), "{part:?} is not in {log}");
    }
    assert_eq!((state(&refused), orders(&refused, "failed")), (json!("unavailable"), 1));
    let told = refused.command(&["status"]).output().unwrap().stdout;
    let told: Value = serde_json::from_slice(&told).unwrap();
    assert_eq!(told["parts"]["certificates"]["acme"], "unavailable");
    let port = refused.address.rsplit(':').next().unwrap().parse().unwrap();
    assert!(connect(port, "other.example", &folder).is_none());
    // A restart does not have it asked again before it is time, unless something else is asked for.
    drop(refused);
    let again = serve(0, Some(&pebble), &config(&pebble.url(), &other, &bound));
    let told = again.wait_for_stderr(|log| log.contains("has refused lately").then(|| log.to_owned()));
    let told = told.unwrap_or_else(|| panic!("{}", again.stderr()));
    assert!(told.contains("Failed to connect to") && told.contains("refused.json"), "{told}");
    assert_eq!((state(&again), orders(&again, "failed")), (json!("unavailable"), 0));
    again.rewrite(&config(
        &pebble.url(),
        &other,
        &format!(
            "{bound}contact = 'admin@other.example'
"
        ),
    ));
    assert_eq!(again.reload().status, 200);
    eventually(|| orders(&again, "failed") == 1);
    let refused = again;
    // The keys of accounts are told nobody.
    let told = refused.api("GET", "/api/config", &Value::Null).body;
    assert!(!log.contains(&key[..8]) && !told.contains(&key[..8]), "{told}");
}

#[test]
fn an_authority_that_wants_to_be_left_alone_is() {
    let directory = BackEnd::new(|_| {
        Reply::Raw(
            "HTTP/1.1 503 Service Unavailable
retry-after: 5000
content-length: 0

"
            .to_owned(),
        )
    });
    let url = format!("http://{}/directory", directory.address);
    let server = serve(0, None, &config(&url, &Folder::new(), "domains = 'chat.example'"));
    let wait = server.wait_for_stderr(|log| {
        let told = log.split("next_try_in_s=").nth(1)?;
        told.split(|sign: char| !sign.is_ascii_digit()).next()?.parse::<u64>().ok()
    });
    assert!(wait.is_some_and(|wait| (5_000..=7_500).contains(&wait)), "{wait:?} {}", server.stderr());
}

#[test]
fn nodes_that_share_a_folder_order_one_certificate_once_the_directory_is_there() {
    let (port, folder) = (free_port(), Folder::new());
    let directory = BackEnd::new(|_| Reply::Status(503, String::new()));
    let url = format!("http://{}/directory", directory.address);
    let settings = config(&url, &folder, "domains = 'chat.example'");
    let pebble = Pebble::start(&Settings { tls_port: port, http_port: 1, eab_key: None, reuse_percent: 0 });
    // The authority connects to one of the two, and the other is the one that orders.
    let (shows, orders_it) = (serve(port, Some(&pebble), &settings), serve(0, Some(&pebble), &settings));
    for server in [&shows, &orders_it] {
        let log = server.wait_for_stderr(|log| log.contains("no certificate could be had").then(|| log.to_owned()));
        assert!(log.expect("it is told").contains("next_try_in_s"));
        assert_eq!(state(server), "unavailable");
    }
    shows.signal("-STOP");
    directory.set({
        let all = pebble.directory();
        move |_| Reply::Json(all.clone())
    });
    let is_asked = || {
        let found =
            Command::new("find").arg(folder.path("acme")).args(["-path", "*challenges/chat.example"]).output().unwrap();
        !found.stdout.is_empty()
    };
    eventually(is_asked);
    shows.signal("-CONT");
    let one = orders_it.address.rsplit(':').next().unwrap().parse().unwrap();
    eventually(|| !kept(&folder).is_empty() && state(&shows) == "ok" && state(&orders_it) == "ok");
    let shown = |port| connect(port, "chat.example", &folder).expect("it is let in").1;
    assert_eq!(shown(port), shown(one));
    assert_eq!((orders(&orders_it, "issued"), orders(&shows, "issued")), (1, 0));
}
