//! Invariant 8: secrets appear in no log, metric or error. What could end up in one shows nothing of what it holds.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD;
use fanfare::testing::TestEndpoint;
use fanfare::{
    Connect, ConnectRequest, Connected, Endpoint, JsonText, Mount, OriginPattern, OriginPolicy, Payload, Rejected,
};
use http::Request;
use parking_lot::Mutex;
use serde_json::json;
use std::sync::Arc;

use crate::support::client::Client;
use crate::support::http::request;
use crate::support::{serve_mount, stage};

const SECRET: &str = "s3cr3t";

/// Writes down what a log line of the request would show.
struct Logging(Arc<Mutex<String>>);

impl Connect for Logging {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        assert_eq!(request.params.str("token"), Some(SECRET));
        assert_eq!((request.header("x-key"), request.cookie("session")), (Some(SECRET), Some(SECRET)));
        let connected = Connected::new().id("user:1").assigns(SECRET.to_owned());
        *self.0.lock() = format!("{request:?} {:?} {connected:?}", request.params);
        Ok(connected)
    }
}

#[tokio::test]
async fn secrets_are_not_shown_of_requests_and_sockets() {
    let shown = Arc::new(Mutex::new(String::new()));
    let mount = Mount::new()
        .connect(Logging(shown.clone()))
        .origin(OriginPolicy::List(vec![OriginPattern::parse("//example.com").unwrap()]));
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", mount)).await;
    let request = Request::get(format!("/socket?vsn=2.0.0&token={SECRET}"))
        .header("x-key", SECRET)
        .header("cookie", format!("session={SECRET}"))
        .body(())
        .unwrap();
    let socket = test.connect_with(request).await.unwrap();
    let shown = format!("{} {socket:?} {:?}", shown.lock(), test);
    assert!(!shown.contains(SECRET), "{shown}");
    assert!(shown.contains("ConnectRequest") && shown.contains("token") && shown.contains("user:1"), "{shown}");
}

/// Keeps the text of every log line of ours, at every level.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<String>>);

impl tracing::Subscriber for Log {
    fn enabled(&self, metadata: &tracing::Metadata<'_>) -> bool {
        metadata.target().starts_with("fanfare")
    }

    fn new_span(&self, attributes: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        attributes.record(&mut Line(&mut self.0.lock()));
        tracing::span::Id::from_u64(1)
    }

    fn record(&self, _: &tracing::span::Id, values: &tracing::span::Record<'_>) {
        values.record(&mut Line(&mut self.0.lock()));
    }

    fn event(&self, event: &tracing::Event<'_>) {
        event.record(&mut Line(&mut self.0.lock()));
    }

    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

struct Line<'a>(&'a mut String);

impl tracing::field::Visit for Line<'_> {
    fn record_debug(&mut self, field: &tracing::field::Field, value: &dyn std::fmt::Debug) {
        *self.0 += &format!("{field}={value:?} ");
    }
}

/// Whatever goes wrong with a request or a message, its log line holds nothing of it.
#[tokio::test]
async fn secrets_are_not_logged() {
    let log = Log::default();
    tracing::subscriber::set_global_default(log.clone()).unwrap();
    let served = serve_mount(stage().auth_token(true)).await;
    let address = served.address;
    let upgrade = |target: &'static str, headers: Vec<(&'static str, String)>| async move {
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, &**value)).collect();
        Client::connect(address, target, &headers).await
    };
    let protocols = |token: String| vec![("sec-websocket-protocol", format!("phoenix, base64url.bearer.phx.{token}"))];
    let in_base64 = STANDARD_NO_PAD.encode(SECRET);
    for (target, headers, status) in [
        ("/socket?vsn=9&token=s3cr3t", Vec::new(), Some(403)),
        ("/socket?vsn=2.0.0&token=s3cr3t&x=%ff", Vec::new(), Some(400)),
        ("/socket?vsn=2.0.0", protocols(format!("{in_base64}!")), Some(403)),
        ("/socket?vsn=2.0.0&token=s3cr3t", protocols(in_base64.clone()), None),
    ] {
        assert_eq!(upgrade(target, headers).await.err().map(|answer| answer.status), status, "{target}");
    }
    let poll = format!("/socket/longpoll?vsn=2.0.0&token={SECRET}");
    request(address, "GET", &poll, &[("x-phoenix-authtoken", SECRET)], b"").await;
    request(address, "POST", &poll, &[], SECRET.as_bytes()).await;
    for message in [SECRET.to_owned(), format!("[\"{SECRET}\"]")] {
        let mut client = served.client().await;
        client.send_text(&message).await;
        client.assert_closed(1011).await;
    }
    let mut client = served.client().await;
    client.join("room:1").await;
    client.push("room:1", "room:1", "panic", json!({ "password": SECRET })).await;
    client.frame().await;
    client.try_join("room:2", json!({"fail": true, "password": SECRET})).await;
    served.endpoint.broadcast("room:1", "told", json!({ "password": SECRET })).await.unwrap();
    client.assert_untouched().await;
    let log = log.0.lock();
    for expected in ["undecodable", "told to panic", "told to fail"] {
        assert!(log.contains(expected), "this test would see it: {expected}, {log}");
    }
    assert!(!log.contains(SECRET) && !log.contains(&in_base64), "{log}");
}

#[test]
fn secrets_are_not_shown_of_payloads() {
    let payloads = [
        Payload::from(json!({ "password": SECRET })),
        Payload::Binary(SECRET.as_bytes().into()),
        JsonText::from(json!(SECRET)).into(),
    ];
    for payload in payloads {
        let shown = format!("{payload:?}");
        assert!(!shown.contains(SECRET) && shown.contains("bytes"), "{shown}");
    }
}
