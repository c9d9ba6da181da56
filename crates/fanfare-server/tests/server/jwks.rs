//! Keys from the network: rotation, outage, and sources that answer with something else.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};

use crate::issuer::{Issuer, Kind};
use crate::support::{Folder, PATIENCE, Server, http};

/// What the source of keys does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    /// Answers 200 with this.
    Body(Vec<u8>),
    /// Answers with this as it stands.
    Raw(String),
    /// Says that so many bytes follow, and sends them without end.
    Endless,
    /// Sends a byte now and then.
    Drip,
    /// Hangs up.
    Gone,
}

/// An HTTP server with keys, on a free port.
pub(crate) struct Source {
    pub(crate) address: String,
    behaviour: Arc<Mutex<Behaviour>>,
    requests: Arc<AtomicUsize>,
}

impl Source {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        Self::with_tls(behaviour, None)
    }

    fn with_tls(behaviour: Behaviour, tls: Option<Arc<rustls::ServerConfig>>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (behaviour, requests) = (Arc::new(Mutex::new(behaviour)), Arc::new(AtomicUsize::new(0)));
        let (shared, counter) = (behaviour.clone(), requests.clone());
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let (behaviour, counter, tls) = (shared.clone(), counter.clone(), tls.clone());
                thread::spawn(move || match tls {
                    None => answer(stream, &behaviour, &counter),
                    Some(tls) => {
                        let connection = rustls::ServerConnection::new(tls).unwrap();
                        answer(rustls::StreamOwned::new(connection, stream), &behaviour, &counter);
                    }
                });
            }
        });
        Self { address, behaviour, requests }
    }

    pub(crate) fn set(&self, behaviour: Behaviour) {
        *self.behaviour.lock().unwrap() = behaviour;
    }

    fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    fn url(&self) -> String {
        format!("http://{}/keys?tenant=m4rk3r", self.address)
    }
}

fn answer(mut stream: impl Read + Write, behaviour: &Mutex<Behaviour>, counter: &AtomicUsize) {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return,
        }
    }
    counter.fetch_add(1, Ordering::SeqCst);
    let behaviour = behaviour.lock().unwrap().clone();
    let _ = match behaviour {
        Behaviour::Body(body) => {
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
            stream.write_all(head.as_bytes()).and_then(|()| stream.write_all(&body))
        }
        Behaviour::Raw(text) => stream.write_all(text.as_bytes()),
        Behaviour::Endless => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\n\r\n");
            while sent.is_ok() {
                sent = stream.write_all(&[b' '; 65_536]);
            }
            sent
        }
        Behaviour::Drip => {
            let mut sent = stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n");
            while sent.is_ok() {
                thread::sleep(Duration::from_millis(50));
                sent = stream.write_all(b" ").and_then(|()| stream.flush());
            }
            sent
        }
        Behaviour::Gone => Ok(()),
    };
    let _ = stream.flush();
}

pub(crate) fn keys(list: &[Value]) -> Behaviour {
    Behaviour::Body(json!({ "keys": list }).to_string().into_bytes())
}

fn token(issuer: &Issuer, kid: &str) -> String {
    let exp = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 60;
    let header = json!({"alg": "EdDSA", "kid": kid}).to_string();
    issuer.token(Algorithm::EdDSA, &header, &json!({"sub": "7", "exp": exp}).to_string())
}

fn config(url: &str, more: &str) -> String {
    format!(
        "[auth.users]\nkind = 'jwt'\nalgorithms = 'EdDSA'\njwks_url = '{url}'\n{more}\n\
         [[endpoint]]\nauth = 'users'\n[[channel]]\ntopic = 'room:*'\n"
    )
}

/// The status that a token is answered with; 101 if it is let in.
fn status(server: &Server, token: &str) -> u16 {
    server.try_connect(&format!("token={token}")).err().unwrap_or(101)
}

#[track_caller]
fn wait_for(what: &str, is_so: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(50));
    }
}

fn health(server: &Server) -> Value {
    http(&server.admin(), "GET", "/api/health", &[], "").json()
}

#[test]
fn security_24_keys_rotate_by_the_clock() {
    let [old, new] = [Issuer::new(Kind::Ed25519), Issuer::new(Kind::Ed25519)];
    let source = Source::new(keys(&[old.jwk("old")]));
    let server = Server::serve(&config(&source.url(), "jwks_refresh = '1s'"));
    assert_eq!(status(&server, &token(&old, "old")), 101);
    assert_eq!(status(&server, &token(&new, "new")), 403);
    assert_eq!(health(&server), json!({"status": "ok", "keys": {"users": "ok"}}));
    source.set(keys(&[old.jwk("old"), new.jwk("new")]));
    wait_for("the new key", || status(&server, &token(&new, "new")) == 101);
    assert_eq!(status(&server, &token(&old, "old")), 101);
    let mut open = server.connect(&format!("token={}", token(&old, "old")));
    source.set(keys(&[new.jwk("new")]));
    wait_for("the end of the old key", || status(&server, &token(&old, "old")) == 403);
    assert_eq!(status(&server, &token(&new, "new")), 101);
    // Until its token expires: a rotation cuts nobody.
    open.heartbeat();
    // A key is what its issuer says it is: the same name may stand for another one later.
    source.set(keys(&[old.jwk("new")]));
    wait_for("the other key of the name", || status(&server, &token(&old, "new")) == 101);
    assert_eq!(status(&server, &token(&new, "new")), 403);
}

/// Row 24: the same name of a key at two issuers is two keys.
#[test]
fn security_24_keys_belong_to_their_issuer() {
    let [ours, theirs] = [Issuer::new(Kind::Ed25519), Issuer::new(Kind::Ed25519)];
    let sources = [&ours, &theirs].map(|issuer| Source::new(keys(&[issuer.jwk("k1")])));
    let server = Server::serve(&format!(
        "[auth.ours]\nkind = 'jwt'\nalgorithms = 'EdDSA'\njwks_url = '{}'\nissuer = 'ours'\n\
         [auth.theirs]\nkind = 'jwt'\nalgorithms = 'EdDSA'\njwks_url = '{}'\nissuer = 'theirs'\n\
         [[endpoint]]\nauth = ['ours', 'theirs']\n[[channel]]\ntopic = '*'\n",
        sources[0].url(),
        sources[1].url()
    ));
    let signed = |issuer: &Issuer, name: &str| {
        let claims = json!({"sub": "7", "iss": name, "exp": 4_000_000_000_u64}).to_string();
        issuer.token(Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"k1"}"#, &claims)
    };
    assert_eq!(status(&server, &signed(&ours, "ours")), 101);
    assert_eq!(status(&server, &signed(&theirs, "theirs")), 101);
    assert_eq!(status(&server, &signed(&ours, "theirs")), 403);
    assert_eq!(status(&server, &signed(&theirs, "ours")), 403);
}

#[test]
fn security_23_no_token_causes_a_request() {
    let [known, unknown] = [Issuer::new(Kind::Ed25519), Issuer::new(Kind::Ed25519)];
    let source = Source::new(keys(&[known.jwk("known")]));
    let trap = Source::new(keys(&[unknown.jwk("unknown")]));
    let server = Server::serve(&config(&source.url(), "jwks_refresh = '1h'"));
    assert_eq!(source.requests(), 1);
    for number in 0..50 {
        let header = json!({
            "alg": "EdDSA", "kid": format!("unknown-{number}"), "jku": trap.url(), "x5u": trap.url(),
            "jwk": unknown.jwk("unknown"),
        });
        let claims = json!({"sub": "7", "iss": trap.url(), "exp": 4_000_000_000_u64});
        let token = unknown.token(Algorithm::EdDSA, &header.to_string(), &claims.to_string());
        assert_eq!(status(&server, &token), 403);
        assert_eq!(status(&server, &token.replace("kid", "kie")), 403);
    }
    assert_eq!(status(&server, &token(&known, "known")), 101);
    thread::sleep(Duration::from_millis(500));
    assert_eq!((source.requests(), trap.requests()), (1, 0));
}

#[test]
fn the_last_good_keys_are_used_while_the_source_is_down() {
    let issuer = Issuer::new(Kind::Ed25519);
    let source = Source::new(keys(&[issuer.jwk("k")]));
    let server = Server::serve(&config(&source.url(), "jwks_refresh = '1s'\njwks_stale_max = '4s'"));
    let good = token(&issuer, "k");
    assert_eq!(status(&server, &good), 101);
    source.set(Behaviour::Gone);
    wait_for("the failure", || health(&server)["keys"]["users"] == "stale");
    assert_eq!(health(&server)["status"], "degraded");
    assert_eq!(status(&server, &good), 101);
    // Nobody who was let in is sent away, but after a while nobody is let in.
    let mut inside = server.connect(&format!("token={good}"));
    wait_for("the bound", || status(&server, &good) == 503);
    assert_eq!(health(&server), json!({"status": "degraded", "keys": {"users": "unavailable"}}));
    inside.join_ok("room:1");
    source.set(keys(&[issuer.jwk("k")]));
    wait_for("the recovery", || status(&server, &good) == 101);
    assert_eq!(health(&server)["status"], "ok");
    let log = server.stderr();
    assert!(log.contains("the keys cannot be fetched") && log.contains("the last good ones are used"), "{log}");
    assert!(!log.contains("m4rk3r"), "{log}");
}

#[test]
fn a_server_starts_while_the_source_is_down() {
    let issuer = Issuer::new(Kind::Ed25519);
    let source = Source::new(Behaviour::Gone);
    let server = Server::serve(&config(&source.url(), ""));
    assert_eq!(status(&server, &token(&issuer, "k")), 503);
    assert_eq!(health(&server)["keys"]["users"], "unavailable");
    source.set(keys(&[issuer.jwk("k")]));
    // Sooner than after jwks_refresh, which is ten minutes.
    wait_for("the keys", || status(&server, &token(&issuer, "k")) == 101);
}

#[test]
fn answers_that_are_no_keys_are_not_taken() {
    let [issuer, other] = [Issuer::new(Kind::Ed25519), Issuer::new(Kind::Ed25519)];
    let source = Source::new(keys(&[issuer.jwk("k")]));
    let server = Server::serve(&config(&source.url(), "jwks_refresh = '1s'\njwks_timeout = '500ms'"));
    let with = |name: &str, value: Value| {
        let mut key = other.jwk("k");
        key[name] = value;
        key
    };
    let body = |text: &str| Behaviour::Body(text.as_bytes().to_vec());
    let raw = |text: &str| Behaviour::Raw(text.to_owned());
    let cases = [
        (body(""), "is not a JSON object"),
        (body("<html>m4rk3r</html>"), "is not a JSON object"),
        (body("[]"), "is not a JSON object"),
        (body("{}"), "has no list `keys`"),
        (body(r#"{"keys": {}}"#), "has no list `keys`"),
        (body(r#"{"keys": []}"#), "has no key for signatures"),
        (body(r#"{"keys": [1]}"#), "no JSON object"),
        (body(r#"{"keys": [], "keys": []}"#), "has a name in it twice"),
        (keys(&vec![other.jwk("k"); 101]), "more than 100 keys"),
        (keys(&[with("use", "enc".into())]), "has no key for signatures"),
        (keys(&[with("key_ops", json!(["sign"]))]), "has no key for signatures"),
        (keys(&[with("alg", "ES256".into())]), "has no key for signatures"),
        (keys(&[with("alg", "none".into())]), "has no key for signatures"),
        (keys(&[with("crv", "X25519".into())]), "has no key for signatures"),
        (keys(&[with("x", "AAAA".into())]), "has no key for signatures"),
        (keys(&[with("kid", 5.into())]), "has no key for signatures"),
        (keys(&[Issuer::new(Kind::P256).jwk("k")]), "has no key for signatures"),
        (keys(&[with("d", "AAAA".into())]), "private or symmetric"),
        (keys(&[other.jwk("k"), json!({"kty": "oct", "k": "AAAA", "alg": "HS256"})]), "private or symmetric"),
        (raw("HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n"), "has the status 500"),
        (raw("HTTP/1.1 204 Nothing\r\n\r\n"), "is not a JSON object"),
        (raw("HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n"), "redirect (302)"),
        (raw("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"), "breaks off"),
        (raw("garbage"), "no connection"),
        (Behaviour::Endless, "has more than 1048576 bytes"),
        (Behaviour::Drip, "no answer within 500ms"),
    ];
    for (behaviour, reason) in cases {
        let before = server.stderr().len();
        source.set(behaviour);
        let told = server.wait_for_stderr(|log| log[before..].contains(reason).then_some(()));
        assert!(told.is_some(), "{reason} is not in\n{}", &server.stderr()[before..]);
        assert_eq!(status(&server, &token(&issuer, "k")), 101, "{reason}");
        assert_eq!(status(&server, &token(&other, "k")), 403, "{reason}");
        source.set(keys(&[issuer.jwk("k")]));
    }
    assert!(!server.stderr().contains("m4rk3r"), "{}", server.stderr());
}

#[test]
fn https_is_checked_against_trusted_certificates() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let folder = Folder::new();
    let cert = folder.write("ca.pem", &made.cert.pem());
    let chain = vec![CertificateDer::from_pem_file(&cert).unwrap()];
    let private = PrivateKeyDer::from_pem_slice(made.signing_key.serialize_pem().as_bytes()).unwrap();
    let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, private).unwrap();
    let issuer = Issuer::new(Kind::Ed25519);
    let source = Source::with_tls(keys(&[issuer.jwk("k")]), Some(Arc::new(tls)));
    let port = source.address.rsplit_once(':').unwrap().1;
    let config = config(&format!("https://localhost:{port}/keys"), "");
    let trusting = Server::serve_with(&config, |command| {
        command.env("SSL_CERT_FILE", &cert);
    });
    assert_eq!(status(&trusting, &token(&issuer, "k")), 101);
    let elsewhere =
        folder.write("other.pem", &rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem());
    let strict = Server::serve_with(&config, |command| {
        command.env("SSL_CERT_FILE", &elsewhere);
    });
    assert_eq!(status(&strict, &token(&issuer, "k")), 503);
    assert!(strict.stderr().contains("invalid peer certificate"), "{}", strict.stderr());
}

/// The source hears nothing of those who connect.
#[test]
fn the_source_learns_nothing() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/keys", listener.local_addr().unwrap());
    let heard = thread::spawn(move || {
        let mut stream: TcpStream = listener.accept().unwrap().0;
        let mut buffer = [0; 4096];
        let size = stream.read(&mut buffer).unwrap();
        String::from_utf8_lossy(&buffer[..size]).into_owned()
    });
    let _server = Server::serve(&config(&url, "jwks_timeout = '500ms'"));
    let request = heard.join().unwrap();
    let names: Vec<_> = request.lines().skip(1).filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
    assert!(request.starts_with("GET /keys HTTP/1.1\r\n"), "{request}");
    assert!(names.iter().all(|name| ["accept", "user-agent", "host"].contains(name)), "{names:?}");
}
