//! TLS from the configuration.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

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
    check(&cert, &foreign, "tls.key");
}
