//! Whose address a client has behind proxies, whom is believed what it says of that, and what is counted by it.

use std::future::pending;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use fanfare::serve::{Limits, Server};
use fanfare::{AddressFrom, Connect, ConnectRequest, Connected, Endpoint, Mount, Proxies, Rejected, shown_address};
use parking_lot::Mutex;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::http::{answer_to, head, is_closed};
use crate::support::stage::Stage;
use crate::support::{Served, counter, eventually};

/// Lets everybody in, and remembers who came.
#[derive(Clone, Default)]
struct Remembering(Arc<Mutex<Option<SocketAddr>>>);

impl Connect for Remembering {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        *self.0.lock() = request.peer();
        Ok(Connected::new())
    }
}

struct Behind {
    served: Served,
    came: Remembering,
}

impl Behind {
    async fn serve(trusted: &str, source: AddressFrom, limits: Limits) -> Self {
        let came = Remembering::default();
        let mount = Mount::new().connect(came.clone()).channel("room:*", Stage::default());
        let endpoint = Endpoint::builder().shards(1).mount("/socket", mount).build().await.unwrap();
        let proxies = Proxies::trusted([trusted.parse().unwrap()]).address_from(source);
        let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap().limits(limits).proxies(proxies);
        let address = server.local_addr().unwrap();
        let served = endpoint.clone();
        tokio::spawn(async move { server.serve(served.clone(), &served, pending()).await });
        Behind { served: Served { endpoint, address }, came }
    }

    /// A client whose request has these headers.
    async fn client(&self, headers: &[(&str, &str)]) -> Result<Client, u16> {
        let client = Client::connect(self.served.address, "/socket/websocket?vsn=2.0.0", headers).await;
        client.map_err(|answer| answer.status)
    }

    /// Who the application was told that came, without the port of the test's own connection.
    fn came(&self) -> String {
        let came = self.came.0.lock().take().expect("somebody came");
        if came.ip().is_loopback() { "itself".to_owned() } else { shown_address(came).to_string() }
    }
}

#[tokio::test]
async fn security_11_only_listed_proxies_say_who_the_client_is() {
    let real_ip = || AddressFrom::Header("x-real-ip".parse().unwrap());
    for (trusted, source, header, told, expected) in [
        ("loopback", AddressFrom::ForwardedFor, "x-forwarded-for", "203.0.113.5, 192.0.2.1", "192.0.2.1"),
        ("loopback", AddressFrom::ForwardedFor, "x-forwarded-for", "192.0.2.1, 127.0.0.9", "192.0.2.1"),
        ("loopback", AddressFrom::ForwardedFor, "x-real-ip", "192.0.2.1", "itself"),
        ("loopback", AddressFrom::Peer, "x-forwarded-for", "192.0.2.1", "itself"),
        ("loopback", real_ip(), "x-real-ip", "192.0.2.1", "192.0.2.1"),
        ("loopback", real_ip(), "x-forwarded-for", "192.0.2.1", "itself"),
        // Headers of strangers are ignored.
        ("10.0.0.0/8", AddressFrom::ForwardedFor, "x-forwarded-for", "192.0.2.1", "itself"),
        ("10.0.0.0/8", real_ip(), "x-real-ip", "192.0.2.1", "itself"),
    ] {
        let behind = Behind::serve(trusted, source, Limits::default()).await;
        behind.client(&[(header, told)]).await.unwrap();
        assert_eq!(behind.came(), expected, "{trusted} {header}: {told}");
        assert_eq!(behind.served.counter("proxies", "forwarded_unread"), 0);
    }
}

#[tokio::test]
async fn what_is_no_address_is_counted_and_ends_the_walk() {
    let behind = Behind::serve("loopback", AddressFrom::ForwardedFor, Limits::default()).await;
    behind.client(&[("x-forwarded-for", "192.0.2.1, unknown")]).await.unwrap();
    assert_eq!(behind.came(), "itself");
    assert_eq!(behind.served.counter("proxies", "forwarded_unread"), 1);
}

/// All through one proxy, which keeps its connections.
#[tokio::test]
async fn places_by_address_are_those_of_the_client() {
    let limits = Limits { connections_per_address_max: 2, ..Limits::default() };
    let behind = Behind::serve("loopback", AddressFrom::ForwardedFor, limits).await;
    let by = async |address: &str| behind.client(&[("x-forwarded-for", address)]).await;
    let first = by("192.0.2.1").await.unwrap();
    let _second = by("192.0.2.1").await.unwrap();
    assert_eq!(by("192.0.2.1").await.err(), Some(429));
    assert!(by("192.0.2.2").await.is_ok(), "others have places of their own");
    drop(first);
    eventually("a place", async || by("192.0.2.1").await.is_ok()).await;
    // Of IPv6 a subscriber has a /64.
    let _third = by("2001:db8:0:1::1").await.unwrap();
    let _fourth = by("2001:db8:0:1:ffff::2").await.unwrap();
    assert_eq!(by("2001:db8:0:1:aaaa::3").await.err(), Some(429));
    assert!(by("2001:db8:0:2::1").await.is_ok());
    // Requests that are answered hold none.
    let mut kept = TcpStream::connect(behind.served.address).await.unwrap();
    for _ in 0..5 {
        let request = head("GET", "/socket/nowhere", &[("x-forwarded-for", "198.51.100.1")]);
        assert_eq!(answer_to(&mut kept, request.as_bytes()).await.unwrap().status, 404);
    }
}

/// Without the address nobody would know whose place it is.
#[tokio::test]
async fn strangers_have_places_by_their_own_address() {
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let behind = Behind::serve("10.0.0.0/8", AddressFrom::ForwardedFor, limits).await;
    let _first = behind.client(&[("x-forwarded-for", "192.0.2.1")]).await.unwrap();
    assert_eq!(behind.client(&[("x-forwarded-for", "192.0.2.2")]).await.err(), Some(429));
}

#[tokio::test]
async fn the_same_origin_is_the_one_that_the_proxy_was_asked_for() {
    let page = ("origin", "https://chat.example");
    let (proto, host) = (("x-forwarded-proto", "https"), ("x-forwarded-host", "chat.example"));
    for (trusted, headers, expected) in [
        ("loopback", &[page, proto, host][..], None),
        // A page cannot set headers of an upgrade, but a program between could.
        ("10.0.0.0/8", &[page, proto, host], Some(403)),
        ("loopback", &[page, host], Some(403)),
        ("loopback", &[page, proto], Some(403)),
        ("loopback", &[page, ("x-forwarded-proto", "http"), host], Some(403)),
        (
            "loopback",
            &[page, ("x-forwarded-proto", "http, https"), ("x-forwarded-host", "a.example, chat.example")],
            None,
        ),
        ("loopback", &[page, proto, ("x-forwarded-host", "chat.example/x")], Some(403)),
        ("loopback", &[("origin", "https://localhost"), proto], None),
    ] {
        let behind = Behind::serve(trusted, AddressFrom::Peer, Limits::default()).await;
        assert_eq!(behind.client(headers).await.err(), expected, "{trusted} {headers:?}");
    }
}

const V1: &[u8] = b"PROXY TCP4 192.0.2.1 192.0.2.9 4711 443\r\n";
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// A header of version 2 with this command, family and content.
fn v2(command: u8, family: u8, content: &[u8]) -> Vec<u8> {
    let size = (content.len() as u16).to_be_bytes();
    [SIGNATURE, &[command, family], &size, content].concat()
}

#[tokio::test]
async fn the_proxy_protocol_says_who_the_client_is() {
    let v4 = [192, 0, 2, 1, 192, 0, 2, 9, 0x12, 0x67, 1, 0xbb];
    let mut v6 = [0; 36];
    v6[..16].copy_from_slice(&"2001:db8::5".parse::<std::net::Ipv6Addr>().unwrap().octets());
    v6[32] = 1;
    let with_tls: Vec<u8> = [&v4[..], &[0x20, 0, 5, 1, 0, 0, 0, 0]].concat();
    for (what, header, expected) in [
        ("version 1", V1.to_vec(), "192.0.2.1:4711"),
        ("version 1, unknown", b"PROXY UNKNOWN\r\n".to_vec(), "itself"),
        ("version 2", v2(0x21, 0x11, &v4), "192.0.2.1:4711"),
        ("version 2, IPv6", v2(0x21, 0x21, &v6), "[2001:db8::5]:256"),
        ("version 2, a health check", v2(0x20, 0x00, &[]), "itself"),
        ("version 2, with TLS", v2(0x21, 0x11, &with_tls), "192.0.2.1:4711"),
        (
            "version 2, with much besides",
            v2(0x21, 0x11, &[&v4[..], &[0x04, 0x0b, 0xb8], &[0; 3_000]].concat()),
            "192.0.2.1:4711",
        ),
    ] {
        let behind = Behind::serve("loopback", AddressFrom::ProxyProtocol, Limits::default()).await;
        // Whole, and in pieces: no byte more than the header is taken.
        for pieces in [header.len(), 7] {
            let mut stream = TcpStream::connect(behind.served.address).await.unwrap();
            stream.set_nodelay(true).unwrap();
            for piece in header.chunks(pieces).take(40) {
                stream.write_all(piece).await.unwrap();
                if pieces == 7 {
                    tokio::task::yield_now().await;
                }
            }
            for piece in header.chunks(pieces).skip(40) {
                stream.write_all(piece).await.unwrap();
            }
            // No header of the request is believed, not of the proxy's connection either.
            let headers = [("x-forwarded-for", "203.0.113.5"), ("x-forwarded-proto", "https")];
            let scheme = if what.contains("TLS") { "https" } else { "http" };
            let origin = format!("{scheme}://localhost");
            let headers = [&headers[..], &[("origin", &origin)]].concat();
            let client = Client::over(stream, "/socket/websocket?vsn=2.0.0", &headers).await;
            client.unwrap_or_else(|answer| panic!("{what}: {answer:?}")).join("room:1").await;
            assert_eq!(behind.came(), expected, "{what}");
        }
    }
}

#[tokio::test]
async fn connections_without_the_header_of_a_trusted_proxy_are_closed() {
    let limits = Limits { handshake_timeout: Duration::from_millis(400), ..Limits::default() };
    let request = head("GET", "/socket/nowhere", &[]).into_bytes();
    let with_header = [V1, &request].concat();
    for (what, trusted, bytes) in [
        ("no header", "loopback", &request[..]),
        ("a stranger's", "10.0.0.0/8", &with_header),
        ("a broken one", "loopback", b"PROXY TCP4 192.0.2.1 192.0.2.9 99999 443\r\n"),
        ("no end of a line", "loopback", &[b"PROXY TCP4 ", &[b'1'; 200][..]].concat()),
        ("too long a one", "loopback", &v2(0x21, 0x11, &[0; 5_000])),
        ("not whole in time", "loopback", &V1[..20]),
        ("nothing", "loopback", b""),
    ] {
        let behind = Behind::serve(trusted, AddressFrom::ProxyProtocol, limits).await;
        let mut stream = TcpStream::connect(behind.served.address).await.unwrap();
        let _ = stream.write_all(bytes).await;
        assert!(is_closed(&mut stream).await, "{what}");
        assert_eq!(behind.served.counter("proxies", "refused"), 1, "{what}");
        assert!(behind.came.0.lock().is_none(), "{what}");
    }
}

/// A byte now and then does not lengthen it.
#[tokio::test]
async fn a_header_that_drips_is_cut_in_time() {
    let limits = Limits { handshake_timeout: Duration::from_millis(600), ..Limits::default() };
    let behind = Behind::serve("loopback", AddressFrom::ProxyProtocol, limits).await;
    let mut stream = TcpStream::connect(behind.served.address).await.unwrap();
    let started = tokio::time::Instant::now();
    let mut bytes = V1.iter().cycle();
    while stream.write_all(&[*bytes.next().unwrap()]).await.is_ok()
        && counter(&behind.served.endpoint, "proxies", "refused") == 0
    {
        assert!(started.elapsed() < Duration::from_secs(10), "it is still open");
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    assert!(started.elapsed() >= Duration::from_millis(550), "{:?}", started.elapsed());
}

#[tokio::test]
async fn places_by_address_are_taken_behind_the_header() {
    let limits = Limits { connections_per_address_max: 1, ..Limits::default() };
    let behind = Behind::serve("loopback", AddressFrom::ProxyProtocol, limits).await;
    let by = async |last: u8| {
        let mut stream = TcpStream::connect(behind.served.address).await.unwrap();
        stream.write_all(format!("PROXY TCP4 192.0.2.{last} 192.0.2.9 4711 443\r\n").as_bytes()).await.unwrap();
        Client::over(stream, "/socket/websocket?vsn=2.0.0", &[]).await.map_err(|answer| answer.status)
    };
    let _first = by(1).await.unwrap();
    assert_eq!(by(1).await.err(), Some(429));
    assert!(by(2).await.is_ok());
}

/// An axum application, served by axum's own server.
#[tokio::test]
async fn other_servers_have_it_by_one_setting() {
    let came = Remembering::default();
    let proxies = || Proxies::trusted(["loopback".parse().unwrap()]);
    let builder = Endpoint::builder().shards(1).mount("/socket", Mount::new().connect(came.clone()));
    let endpoint = builder.proxies(proxies().address_from(AddressFrom::ForwardedFor)).build().await.unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = endpoint.routes().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let behind = Behind { served: Served { endpoint, address }, came };
    behind.client(&[("x-forwarded-for", "203.0.113.5, 192.0.2.1")]).await.unwrap();
    assert_eq!(behind.came(), "192.0.2.1");

    let error =
        Endpoint::builder().proxies(proxies().address_from(AddressFrom::ProxyProtocol)).build().await.unwrap_err();
    assert!(error.to_string().contains("Server::proxies"), "{error}");
}
