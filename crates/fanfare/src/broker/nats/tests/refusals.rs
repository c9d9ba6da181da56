//! Servers that refuse, or are none.

use std::io::{Read as _, Write as _};
use std::net::TcpListener;

use super::*;

#[test]
fn credentials_are_needed_and_say_so() {
    let users = nats_server::start_with("authorization { users = [ { user: chat, password: \"p@ss\" } ] }");
    let token = nats_server::start_with("authorization { token: s3cret }");
    let key = "UDXU4RCSJNZOIQHZNWXHXORDPRTGNJAHAHFRGZNEEJCPQTT2M7NLCNF4";
    let keys = nats_server::start_with(&format!("authorization {{ users = [ {{ nkey: {key} }} ] }}"));
    let url = |service: &Service, credentials: &str| at_url(&format!("nats://{credentials}127.0.0.1:{}", service.port));
    for (service, credentials, said) in [
        (&users, "", "check the user and password or the token in the broker's address"),
        (&users, "chat:wrong@", "Authorization Violation"),
        (&token, "wrong@", "check the user and password"),
        (&token, "chat:p%40ss@", "Authorization Violation"),
        (&keys, "", "where it checks NKeys or JWTs, give the node its own by credentials_file"),
    ] {
        refused_since(&open(&url(service, credentials)), said);
    }
    for (service, credentials) in [(&users, "chat:p%40ss@"), (&token, "s3cret@")] {
        let node = up(&url(service, credentials));
        node.attach("room", false).unwrap();
    }
}

#[test]
fn what_a_user_is_not_allowed_is_told_and_the_rest_goes_on() {
    let denied = "{ deny: [\"ff.l.closed\", \"ff.n.00000000000000ff\"] }";
    let permissions = format!("{{ publish: {denied}, subscribe: {denied} }}");
    let mut service = nats_server::start_with(&format!(
        "authorization {{ users = [ {{ user: chat, password: secret, permissions: {permissions} }} ] }}"
    ));
    let broker = at_url(&format!("nats://chat:secret@127.0.0.1:{}", service.port));
    let node = up(&broker);
    node.attach("open", false).unwrap();
    let send = |name: &str| {
        let transport = &node.parts.transport;
        transport.publish(&topic("open"), envelope("before"), Box::new(|_| ()));
        let outcome = answer(|done| transport.publish(&topic(name), envelope("m"), done)).map(drop);
        assert_eq!(node.next(), live("open", "before"));
        outcome
    };
    let to_nobody = answer(|done| {
        node.parts.transport.send(crate::broker::Incarnation::new(0xff).unwrap(), envelope("m"), done);
    });
    for outcome in [node.attach("closed", false).map(drop), send("closed"), to_nobody] {
        let said = "docs/cluster.md has what the user of a node has to be allowed";
        assert!(matches!(&outcome, Err(Undone::Denied(why)) if why.contains(said)), "{outcome:?}");
    }
    assert_eq!(send("open"), Ok(()));
    assert_eq!(node.next(), live("open", "m"));
    // It is not tried again either.
    service.restart();
    assert!(matches!(node.next(), Told::Down(_)));
    assert_eq!(node.next(), Told::Up);
}

#[test]
fn a_server_takes_no_more_than_its_own_bound() {
    let prepare = |folder: &Folder| {
        let lines = format!("max_payload: 10000\n{}", nats_server::jetstream(folder));
        drop(folder.write("nats.conf", &lines));
    };
    let service = Service::start(prepare, nats_server::command);
    let node = up_with_logs(&broker(&service));
    node.attach("room", false).unwrap();
    assert_eq!(node.publish("room", &"x".repeat(9_999)), Ok(None));
    let said = "raise max_payload in the configuration of the NATS server";
    let Err(Undone::Impossible(why)) = node.publish("room", &"x".repeat(10_000)) else { panic!("it is too large") };
    assert!(why.contains("10001 bytes") && why.contains("more than 10000:") && why.contains(said), "{why}");
    // What is kept has headers, which count.
    let mut sizes = Vec::new();
    for size in (9_500..=10_000).step_by(50) {
        match node.append_with("room", &"x".repeat(size), Retention::default(), Some(&size.to_string()), None) {
            Ok(Appended::New(_) | Appended::Repeated(_)) => sizes.push(size),
            Err(Undone::Impossible(why)) => assert!(why.contains(said), "{why}"),
            other => panic!("{size}: {other:?}"),
        }
    }
    assert_eq!(sizes, [9_500, 9_550, 9_600, 9_650, 9_700]);
    // And no connection was lost.
    assert!(node.rest().iter().all(|told| matches!(told, Told::Live(..))));
}

#[test]
fn a_stream_may_take_less() {
    let service = nats_server::start_jetstream();
    let node = up_with_logs(&broker(&service));
    let names = service.nats_ask("$JS.API.STREAM.NAMES", "");
    let name = names.split('"').find(|part| part.starts_with("ff_1000_")).expect("it has been made").to_owned();
    let info: serde_json::Value =
        serde_json::from_str(&service.nats_ask(&format!("$JS.API.STREAM.INFO.{name}"), "")).unwrap();
    let mut config = info["config"].clone();
    config["max_msg_size"] = 2_000.into();
    let updated = service.nats_ask(&format!("$JS.API.STREAM.UPDATE.{name}"), &config.to_string());
    assert!(!updated.contains("error"), "{updated}");
    let Err(Undone::Impossible(why)) = node.append("room", &"x".repeat(2_000)) else { panic!("it is too large") };
    assert!(why.contains("raise max_msg_size of the stream"), "{why}");
    assert!(node.append("room", "small").is_ok());
}

#[test]
fn why_there_is_no_jetstream_is_in_the_answers() {
    let none = nats_server::start();
    let account = "accounts { A { users = [ { user: chat, password: secret } ] } }";
    let prepare = |folder: &Folder| {
        drop(folder.write("nats.conf", &format!("{}\n{account}", nats_server::jetstream(folder))));
    };
    let elsewhere = Service::start(prepare, nats_server::command);
    for (service, credentials, said) in [
        (&none, "", "it has no JetStream, nobody answers: start nats-server with -js"),
        (&elsewhere, "chat:secret@", "enable JetStream for the account of the node"),
    ] {
        let node = open_with_logs(&at_url(&format!("nats://{credentials}127.0.0.1:{}", service.port)));
        let is_told = || {
            let appended = node.append("room", "m");
            matches!(&appended, Err(Undone::Refused(why)) if why.contains(said))
        };
        eventually(is_told);
    }
}

#[test]
fn what_is_not_nats_is_not_talked_to() {
    const INFO: &str = "INFO {\"version\":\"2.9.10\",\"headers\":true,\"max_payload\":1048576}\r\n";
    let with = |more: &str| format!("{INFO}{more}");
    for (says, said) in [
        ("HTTP/1.1 400 Bad Request\r\n\r\n".to_owned(), "not NATS"),
        ("-ERR unknown command 'CONNECT'\r\n".to_owned(), "unknown command"),
        ("PING\r\n".to_owned(), "does not say who it is"),
        ("INFO version\r\n".to_owned(), "its INFO is no JSON"),
        ("INFO {}\r\n".to_owned(), "a node needs 2.9 or newer"),
        ("INFO {\"version\":\"2.8.4\",\"headers\":true}\r\n".to_owned(), "it is of version \"2.8.4\""),
        ("INFO {\"version\":\"2.10.0\"}\r\n".to_owned(), "no_header_support"),
        (with("PONG\r\nPONG\r\nPONG\r\n"), "answered what nobody asked"),
        (with("MSG a 1 99999999\r\n"), "longer than anything"),
        (with("-ERR 'Maximum Connections Exceeded'\r\n"), "raise max_connections"),
        (String::new(), "it has closed the connection; if it has handshake_first in its tls section, take that out"),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let _ = stream.write_all(says.as_bytes());
                // What is closed with unread bytes would take the answer along.
                let _ = stream.set_read_timeout(Some(Duration::from_millis(200)));
                while !says.is_empty() && stream.read(&mut [0; 64 * 1_024]).is_ok_and(|size| size > 0) {}
            }
        });
        refused_since(&open(&at_url(&format!("nats://127.0.0.1:{port}"))), said);
    }
}

#[test]
fn settings_that_cannot_be_are_named() {
    let good = at_url("nats://localhost");
    assert!(good.check().is_ok());
    for (broker, said) in [
        (at_url("http://localhost"), "the scheme \"http\" is not NATS"),
        (good.clone().namespace(""), "the namespace \"\" is not 1 to 64 letters"),
        (good.clone().namespace("a>"), "the namespace \"a>\" is not"),
        (good.clone().namespace(&"x".repeat(65)), "the namespace"),
        (good.clone().timeout(Duration::ZERO), "a timeout of 0"),
        (good.clone().credentials("secret"), "the credentials: its key is no seed of NATS"),
    ] {
        let error = broker.check().unwrap_err().to_string();
        assert!(error.starts_with(said), "{error}");
    }
    assert!(!format!("{:?}", at_url("nats://secret@localhost").credentials("secret")).contains("secret"));
}

#[test]
fn tls_with_a_token() {
    let key = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let service = nats_server::start_tls(&key.cert.pem(), &key.signing_key.serialize_pem());
    let mut roots = rustls::RootCertStore::empty();
    roots.add(key.cert.der().clone()).unwrap();
    let tls = rustls::ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
    let tls = tls.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots).with_no_client_auth();
    let tls = Arc::new(tls);
    let url = |scheme: &str, host: &str| at_url(&format!("{scheme}://secret@{host}:{}", service.port));
    for scheme in ["tls", "nats"] {
        let node = open_with_tls(&url(scheme, "localhost"), &tls);
        assert_eq!(node.next(), Told::Up, "{scheme}");
        node.attach("room", false).unwrap();
        // More than the buffers of TLS take at once.
        for size in [1, 100_000, 500_000] {
            node.publish("room", &"x".repeat(size)).unwrap();
            assert_eq!(node.next(), live("room", &"x".repeat(size)));
        }
    }
    refused_since(&open_with_tls(&url("tls", "127.0.0.1"), &tls), "TLS");
    let plain = nats_server::start();
    let insists = at_url(&format!("tls://localhost:{}", plain.port));
    refused_since(&open_with_tls(&insists, &tls), "it offers no TLS: write nats:// in the broker's address");
}
