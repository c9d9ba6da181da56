//! Proxies in front: whom is believed who the client is. nginx and HAProxy themselves, where they are installed.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::Command;

use crate::services::process::{Folder, Service};
use crate::support::{PATIENCE, Server, run};

/// Clients come from here, so that their address is another than the proxy's.
const CLIENT: &str = "127.0.0.5";

const CHANNEL: &str = "[[channel]]\npreset = 'lobby'\npresence = false\n";

/// A connection of the client.
fn connect(port: u16) -> TcpStream {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build().unwrap();
    let stream = runtime.block_on(async {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(format!("{CLIENT}:0").parse().unwrap()).unwrap();
        socket.connect(([127, 0, 0, 1], port).into()).await.unwrap().into_std().unwrap()
    });
    stream.set_nonblocking(false).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// The status of a handshake by a page of `origin`, with headers by which a client would like to be somebody else.
fn knock(port: u16, origin: &str) -> String {
    let mut stream = connect(port);
    let head = format!(
        "GET /socket/websocket?vsn=2.0.0 HTTP/1.1\r\nhost: chat.example\r\norigin: {origin}\r\nconnection: Upgrade\r\n\
         upgrade: websocket\r\nsec-websocket-version: 13\r\nsec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\n\
         x-forwarded-for: 203.0.113.9\r\nx-real-ip: 203.0.113.9\r\nx-forwarded-host: evil.example\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).unwrap();
    String::from_utf8_lossy(&status[9..]).into_owned()
}

fn nginx(folder: &Folder, port: u16) -> Command {
    let upstream = std::fs::read_to_string(folder.path("upstream")).unwrap();
    let at = folder.path("").display().to_string();
    let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|name| format!("{name}_temp_path {at}{name};\n"))
        .concat();
    let config = format!(
        "daemon off; pid {at}nginx.pid; error_log stderr;\nevents {{}}\nhttp {{ access_log off; {temporary}\nserver {{\n\
         listen 127.0.0.1:{port};\nlocation / {{\nproxy_pass http://{upstream};\nproxy_http_version 1.1;\n\
         proxy_set_header Upgrade $http_upgrade;\nproxy_set_header Connection Upgrade;\nproxy_set_header Host $http_host;\n\
         proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;\nproxy_set_header X-Real-IP $remote_addr;\n\
         proxy_set_header X-Forwarded-Proto https;\nproxy_set_header X-Forwarded-Host $http_host;\n}} }} }}\n"
    );
    let path = folder.write("nginx.conf", &config);
    let mut command = Command::new("nginx");
    command.args(["-p", &at, "-c", path.to_str().unwrap()]);
    command
}

/// HAProxy with these lines for its front end and its server.
fn haproxy(folder: &Folder, port: u16) -> Command {
    let read = |name: &str| std::fs::read_to_string(folder.path(name)).unwrap();
    let config = format!(
        "defaults\ntimeout connect 5s\ntimeout client 30s\ntimeout server 30s\nfrontend f\nbind 127.0.0.1:{port}\n{}\n\
         default_backend b\nbackend b\n{}\nserver s {} {}\n",
        read("front"),
        read("back"),
        read("upstream"),
        read("server"),
    );
    let path = folder.write("haproxy.cfg", &config);
    let mut command = Command::new("haproxy");
    command.args(["-db", "-f", path.to_str().unwrap()]);
    command
}

type Lines = [(&'static str, &'static str); 3];

const NO_LINES: Lines = [("front", ""), ("back", ""), ("server", "")];

const FORWARDED: Lines = [
    (
        "front",
        "mode http\noption forwardfor\nhttp-request set-header X-Forwarded-Proto https\nhttp-request set-header X-Forwarded-Host %[req.hdr(host)]",
    ),
    ("back", "mode http"),
    ("server", ""),
];

fn tcp(version: &'static str) -> Lines {
    [("front", "mode tcp"), ("back", "mode tcp"), ("server", version)]
}

#[test]
fn real_proxies_say_who_the_client_is() {
    // By the PROXY protocol nobody knows of the proxy's TLS here: pages come by http.
    let (https, http) = ("https://chat.example", "http://chat.example");
    for (program, command, source, lines, page) in [
        ("nginx", nginx as fn(&Folder, u16) -> Command, "x-forwarded-for", NO_LINES, https),
        ("nginx", nginx, "header:X-Real-IP", NO_LINES, https),
        ("haproxy", haproxy, "x-forwarded-for", FORWARDED, https),
        ("haproxy", haproxy, "proxy-protocol", tcp("send-proxy"), http),
        ("haproxy", haproxy, "proxy-protocol", tcp("send-proxy-v2"), http),
    ] {
        if Command::new(program).arg("-v").output().is_err() {
            eprintln!("SKIPPED: {program} is not installed, so that {source} by it is not tried");
            continue;
        }
        let server = Server::serve(&format!("trusted_proxies = '127.0.0.1'\naddress_from = '{source}'\n{CHANNEL}"));
        let prepare = |folder: &Folder| {
            folder.write("upstream", &server.address);
            lines.iter().for_each(|(name, text)| drop(folder.write(name, text)));
        };
        let proxy = Service::start(prepare, command);
        assert_eq!(knock(proxy.port, page), "101", "{program} {source}");
        assert_eq!(knock(proxy.port, "https://evil.example"), "403", "{program} {source}");
        let told =
            server.wait_for_stderr(|log| log.lines().find(|line| line.contains("refused_origin")).map(str::to_owned));
        let line = told.expect("the refusal is logged");
        assert!(line.contains(&format!("address={CLIENT}")), "{program} {source}: {line}");
    }
}

#[test]
fn proxies_that_are_not_trusted_are_not_believed() {
    let server = Server::serve(&format!("trusted_proxies = '10.0.0.0/8'\naddress_from = 'x-forwarded-for'\n{CHANNEL}"));
    let port = server.address.rsplit(':').next().unwrap().parse().unwrap();
    assert_eq!(knock(port, "https://evil.example"), "403");
    assert_eq!(knock(port, "http://chat.example"), "101");
    let told = server.wait_for_stderr(|log| log.contains(&format!("address={CLIENT}:")).then_some(()));
    assert!(told.is_some(), "{}", server.stderr());
}

#[test]
fn settings_of_proxies_are_checked() {
    let folder = Folder::new();
    let check = |settings: &str, is_right: bool, parts: &[&str]| {
        let file = folder.write("fanfare.toml", &format!("{settings}\n{CHANNEL}"));
        let (ok, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(ok, is_right, "{settings}: {stderr}");
        parts.iter().for_each(|part| assert!(stderr.contains(part), "{settings}: {part} is not in {stderr}"));
    };
    check("trusted_proxies = ['10.0.0.0/8', '::1', 'loopback']\naddress_from = 'header:CF-Connecting-IP'", true, &[]);
    check("address_from = 'x-forwarded-for'", false, &["address_from: no proxy is trusted", "`trusted_proxies`"]);
    check("admin.address_from = 'proxy-protocol'", false, &["admin.address_from: no proxy is trusted"]);
    check("trusted_proxies = 'localhost'", false, &["trusted_proxies: \"localhost\" is not accepted", "loopback"]);
    check("trusted_proxies = ['::/0']", true, &["trusted_proxies has ::/0, which is everybody"]);
    check("address_from = 'forwarded'", false, &["header:NAME"]);
    check("address_from = 'header:a b'", false, &["is no name of a header"]);
    check("address_from = 'header:X-Forwarded-For'", false, &["write \"x-forwarded-for\""]);
}
