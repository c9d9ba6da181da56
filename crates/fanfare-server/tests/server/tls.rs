//! TLS from the configuration.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};

use crate::support::{Folder, PATIENCE, Server, run};

#[test]
fn a_certificate_makes_it_https() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let server = Server::serve(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n[[channel]]\npreset = 'lobby'\n"));
    assert!(server.line.contains("https://"), "{}", server.line);

    let mut roots = RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    let name = ServerName::try_from("localhost").unwrap();
    let stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let secured = StreamOwned::new(ClientConnection::new(Arc::new(config), name).unwrap(), stream);
    let (mut socket, _) = tungstenite::client("wss://localhost/socket/websocket?vsn=2.0.0", secured).unwrap();
    socket.send(r#"["1","1","room:lobby","phx_join",{}]"#.into()).unwrap();
    let reply = socket.read().unwrap().into_text().unwrap();
    assert_eq!(reply.as_str(), r#"["1","1","room:lobby","phx_reply",{"status":"ok","response":{}}]"#);

    // Nobody gets in without it.
    let mut plain = TcpStream::connect(&server.address).unwrap();
    plain.set_read_timeout(Some(PATIENCE)).unwrap();
    plain.write_all(b"GET /socket/longpoll?vsn=2.0.0 HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = plain.read_to_end(&mut answer);
    assert!(!String::from_utf8_lossy(&answer).contains("HTTP/1.1 200"));
}

/// Whether its client says nothing, or a byte now and then.
#[test]
fn security_8_a_handshake_of_tls_has_an_absolute_limit() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let (cert, key) =
        (folder.write("cert.pem", &made.cert.pem()), folder.write("key.pem", &made.signing_key.serialize_pem()));
    let server =
        Server::serve(&format!("limits.handshake_timeout = '300ms'\n[tls]\ncert = {cert:?}\nkey = {key:?}\n{LOBBY}"));
    let begun = Instant::now();
    let connect = || {
        let stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        stream
    };
    // The head of a record of 512 bytes, and of a ClientHello within it.
    let hello = [22, 3, 1, 2, 0, 1, 0, 1, 252, 3, 3].into_iter().chain(std::iter::repeat(0));
    let (mut silent, mut slow, mut hello) = (connect(), connect(), hello);
    let is_over = |stream: &mut TcpStream| match stream.read(&mut [0; 64]) {
        Ok(read) => read == 0,
        Err(error) => !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut),
    };
    let mut sent = 0;
    while !is_over(&mut slow) {
        assert!(begun.elapsed() < PATIENCE, "{sent} bytes were taken one by one");
        sent += usize::from(slow.write_all(&[hello.next().unwrap()]).is_ok());
    }
    assert!(begun.elapsed() >= Duration::from_millis(290) && sent < 400, "{sent} bytes after {:?}", begun.elapsed());
    while !is_over(&mut silent) {
        assert!(begun.elapsed() < PATIENCE);
    }
    let told = server.wait_for_stderr(|log| log.contains("TLS handshake took longer than 300ms").then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
}

/// Something that there is nothing to warn of.
const LOBBY: &str = "[[channel]]\npreset = 'lobby'\n";

#[test]
fn files_that_are_no_certificate_are_named_by_check() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let other = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let foreign = folder.write("foreign.pem", &other.signing_key.serialize_pem());
    let garbage = folder.write("garbage.pem", "no PEM at all");
    let check = |cert: &std::path::Path, key: &std::path::Path, part: &str| {
        let file = folder.write("fanfare.toml", &format!("{LOBBY}[tls]\ncert = {cert:?}\nkey = {key:?}\n"));
        let (ok, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!((ok, stderr.is_empty()), (part.is_empty(), part.is_empty()), "{stderr}");
        assert!(stderr.contains(part), "{part} is not in {stderr}");
    };
    check(&cert, &key, "");
    check(&garbage, &key, "tls.cert");
    check(&cert, &garbage, "tls.key");
    check(&cert, &foreign, "is the key of another certificate than");
}

#[test]
fn a_client_is_told_in_plain_words_what_is_wrong_with_a_certificate() {
    let made = rcgen::generate_simple_self_signed(["example.com".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("cert.pem", &made.cert.pem());
    let key = folder.write("key.pem", &made.signing_key.serialize_pem());
    let secured = Server::serve(&format!("{LOBBY}[tls]\ncert = {cert:?}\nkey = {key:?}\n"));
    let plain = Server::serve(LOBBY);
    let ca: &[&str] = &["--ca", cert.to_str().unwrap()];
    for (scheme, server, more, part) in [
        ("wss", &secured, &[][..], "is signed by nobody whom this machine trusts: --ca FILE"),
        ("wss", &secured, ca, "is for another name: connect to the name that it is for"),
        ("ws", &secured, &[], "check the port, or connect with wss://"),
        ("wss", &plain, &[], "check the port, or connect with ws://"),
    ] {
        let url = format!("{scheme}://{}/socket", server.address);
        let (ok, _, stderr) = run(&[&["sub", "room:lobby", "--url", &url], more].concat());
        assert!(!ok && stderr.contains(part), "{part:?} is not in {stderr:?}");
    }
}

#[test]
fn certificates_are_exchanged_under_a_stream_of_connects_and_a_wrong_key_leaves_the_old_one() {
    let make = || rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let (one, two) = (make(), make());
    let folder = Folder::new();
    let write = |made: &rcgen::CertifiedKey<rcgen::KeyPair>| {
        (folder.write("cert.pem", &made.cert.pem()), folder.write("key.pem", &made.signing_key.serialize_pem()))
    };
    let (cert, key) = write(&one);
    let server = Server::serve(&format!("[tls]\ncert = {cert:?}\nkey = {key:?}\n{LOBBY}"));
    let mut roots = RootCertStore::empty();
    roots.add(one.cert.der().clone()).unwrap();
    roots.add(two.cert.der().clone()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    let config = Arc::new(config);
    // The certificate that a connect is shown.
    let connect = || {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let mut tls = ClientConnection::new(config.clone(), name).unwrap();
        tls.complete_io(&mut stream).unwrap();
        let shown = tls.peer_certificates().unwrap()[0].to_vec();
        (StreamOwned::new(tls, stream), shown)
    };
    let (kept, shown) = connect();
    assert_eq!(shown, one.cert.der().to_vec());
    let (mut open, _) = tungstenite::client("wss://localhost/socket/websocket?vsn=2.0.0", kept).unwrap();
    let is_over = std::sync::atomic::AtomicBool::new(false);
    std::thread::scope(|scope| {
        let storm = || {
            let mut connects = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                connect();
                connects += 1;
            }
            connects
        };
        let storms = [scope.spawn(storm), scope.spawn(storm)];
        for made in [&two, &one, &two] {
            write(made);
            assert_eq!(server.reload().json()["changed"], serde_json::json!(["tls.cert", "tls.key"]));
            assert_eq!(connect().1, made.cert.der().to_vec());
        }
        // Every connect of the two has unwrapped: none was refused.
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
        for storm in storms {
            assert!(storm.join().unwrap() > 0);
        }
    });
    folder.write("key.pem", &make().signing_key.serialize_pem());
    let refused = server.reload();
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["error"]["problems"][0]["key"], "tls.key");
    assert_eq!(connect().1, two.cert.der().to_vec());
    // Who has connected by the first keeps it.
    open.send(r#"["1","1","room:lobby","phx_join",{}]"#.into()).unwrap();
    assert!(open.read().unwrap().into_text().unwrap().contains("phx_reply"));
}

#[test]
fn each_name_has_its_certificate_and_certificates_can_be_added_while_the_server_runs() {
    let folder = Folder::new();
    let make = |names: &[&str]| {
        rcgen::generate_simple_self_signed(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap()
    };
    let made = [make(&["a.example"]), make(&["b.example", "c.example"]), make(&["*.d.example"])];
    let files: Vec<String> = (0..made.len())
        .map(|number| {
            let cert = folder.write(&format!("cert{number}.pem"), &made[number].cert.pem());
            let key = folder.write(&format!("key{number}.pem"), &made[number].signing_key.serialize_pem());
            format!("cert = {cert:?}\nkey = {key:?}\n")
        })
        .collect();
    let first = format!("{LOBBY}[tls]\n{}", files[0]);
    let two = format!("{first}[[tls.certificate]]\n{}", files[1]);
    let three = format!("{two}[[tls.certificate]]\n{}", files[2]);
    let server = Server::serve(&two);
    let mut roots = RootCertStore::empty();
    made.iter().for_each(|made| roots.add(made.cert.der().clone()).unwrap());
    let config = Arc::new(ClientConfig::builder().with_root_certificates(roots).with_no_client_auth());
    // The number of the certificate that a client gets, if it is for its name.
    let shown = |name: &str| {
        let mut stream = TcpStream::connect(&server.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let mut tls = ClientConnection::new(config.clone(), ServerName::try_from(name.to_owned()).unwrap()).unwrap();
        tls.complete_io(&mut stream).ok()?;
        let shown = tls.peer_certificates()?[0].to_vec();
        made.iter().position(|made| made.cert.der().to_vec() == shown)
    };
    let all = || ["a.example", "B.example", "c.example", "x.d.example", "elsewhere.example"].map(shown);
    assert_eq!(all(), [Some(0), Some(1), Some(1), None, None]);
    let change = |config: &str| {
        server.rewrite(config);
        server.reload().json()["changed"].clone()
    };
    assert_eq!(change(&three), serde_json::json!(["tls.certificate[2]"]));
    assert_eq!(all(), [Some(0), Some(1), Some(1), Some(2), None]);
    // Without one at the top the first of the list is the first of all.
    assert_eq!(
        change(&format!("{LOBBY}[[tls.certificate]]\n{}[[tls.certificate]]\n{}", files[2], files[1])),
        serde_json::json!([
            "tls.cert",
            "tls.key",
            "tls.certificate[1].cert",
            "tls.certificate[1].key",
            "tls.certificate[2].cert",
            "tls.certificate[2].key"
        ])
    );
    assert_eq!(all(), [None, Some(1), Some(1), Some(2), None]);
}
