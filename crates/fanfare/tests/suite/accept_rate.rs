//! More clients a second than are let in: who is refused, when, and what for. The clock stands still unless it is moved.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use fanfare::testing::TestEndpoint;
use fanfare::{Connect, ConnectRequest, Connected, Endpoint, Mount, Rejected};
use serde_json::json;

use crate::support::client::Client;
use crate::support::http::request;
use crate::support::stage::Stage;
use crate::support::{Served, serve_endpoint};

/// Lets everybody in, and counts how often it was asked.
#[derive(Clone, Default)]
struct Counting(Arc<AtomicUsize>);

impl Connect for Counting {
    async fn connect(&self, _: ConnectRequest) -> Result<Connected, Rejected> {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ok(Connected::new().topic("all"))
    }
}

/// One a second, four at once, on every kind of mount. Who has been let in is kept connected.
struct Door {
    test: TestEndpoint,
    served: Served,
    asked: Counting,
    clients: Vec<Client>,
}

impl Door {
    async fn open() -> Self {
        let asked = Counting::default();
        let builder = Endpoint::builder()
            .shards(1)
            .accept_rate(1, 4)
            .mount("/socket", Mount::new().connect(asked.clone()))
            .mount("/hub", Mount::hub().waits_for_topic(true).connect(asked.clone()))
            .mount("/rooms", Mount::rooms().connect(asked.clone()))
            .mount("/bullet", Mount::bullet().connect(asked.clone()))
            .mount("/events", Mount::stream().channel("*", Stage::default()).connect(asked.clone()));
        let test = TestEndpoint::start(builder).await;
        let served = serve_endpoint(test.endpoint().clone()).await;
        Door { test, served, asked, clients: Vec::new() }
    }

    /// The status of a client's handshake. Who is refused must be told when to come again.
    async fn knock(&mut self, (kind, target): (&str, &str), header: Option<(&str, &str)>) -> u16 {
        let address = self.served.address;
        let headers = Vec::from_iter(header);
        let answer = match kind {
            "websocket" => match Client::connect(address, target, &headers).await {
                Ok(client) => {
                    self.clients.push(client);
                    return 101;
                }
                Err(answer) => answer,
            },
            "events" => {
                let headers = [&headers[..], &[("accept", "text/event-stream")]].concat();
                request(address, "GET", target, &headers, b"").await
            }
            _ => request(address, "GET", target, &headers, b"").await,
        };
        let retry = answer.body.strip_prefix(b"retry: ").and_then(|body| std::str::from_utf8(body).ok());
        if let Some(retry_ms) = retry.and_then(|text| text.trim().parse::<u32>().ok()) {
            // `EventSource` comes again only after a stream that was opened.
            assert!(target.starts_with("/events") && (1_000..7_000).contains(&retry_ms), "{retry_ms}");
            return 503;
        }
        if answer.status == 503 {
            let seconds: u32 = answer.headers["retry-after"].parse().unwrap();
            assert!((1..=5).contains(&seconds), "{seconds}");
        }
        answer.status
    }
}

#[tokio::test]
async fn whoever_resumes_finds_the_last_quarter() {
    let id = Some(("last-event-id", "e:7"));
    for (kind, new, resuming, header) in [
        ("websocket", "/socket/websocket?vsn=2.0.0&resume=", "/socket/websocket?vsn=2.0.0&resume=e:7", None),
        ("longpoll", "/socket/longpoll?vsn=2.0.0&since=e:7", "/socket/longpoll?vsn=2.0.0&resume=e:7", None),
        ("websocket", "/hub/sub/d/t?resume=e:7", "/hub/sub/d/t?since=e:7", None),
        ("websocket", "/rooms/x?since=", "/rooms/x?since=e:7", None),
        ("events", "/bullet?key=k", "/bullet?key=k", id),
        ("events", "/events/a", "/events/a", id),
        ("lines", "/events/a?since=", "/events/a?since=e:7", None),
        ("websocket", "/bullet?key=k", "/bullet?key=k", id),
    ] {
        let mut door = Door::open().await;
        let (new, resuming) = ((kind, new), (kind, resuming));
        let admitted = if kind == "websocket" { 101 } else { 200 };
        for _ in 0..3 {
            assert_eq!(door.knock(new, None).await, admitted, "{new:?}");
        }
        assert_eq!(door.knock(new, None).await, 503, "{new:?}: only what is kept is left");
        assert_eq!(door.knock(resuming, header).await, admitted, "{resuming:?}");
        assert_eq!(door.knock(resuming, header).await, 503, "{resuming:?}: nothing is left");
        door.test.advance(Duration::from_secs(1)).await;
        assert_eq!(door.knock(new, None).await, 503, "{new:?}: what is kept comes first");
        assert_eq!(door.knock(resuming, header).await, admitted, "{resuming:?}");
        assert_eq!(door.asked.0.load(Ordering::Relaxed), 5, "{new:?}: nobody is asked about the others");
        assert_eq!(door.served.counter("connections", "refused_rate"), 3);
        assert_eq!(door.served.counter("connections", "refused_connect"), 0);
    }
}

#[tokio::test]
async fn a_longpoll_session_counts_once() {
    let mut door = Door::open().await;
    let address = door.served.address;
    let begun = request(address, "GET", "/socket/longpoll?vsn=2.0.0", &[], b"").await.json();
    let token = begun["token"].as_str().unwrap();
    let target = format!("/socket/longpoll?vsn=2.0.0&token={token}");
    for _ in 0..10 {
        let heartbeat = json!([null, "1", "phoenix", "heartbeat", {}]).to_string();
        assert_eq!(request(address, "POST", &target, &[], heartbeat.as_bytes()).await.json()["status"], 200);
        assert_eq!(request(address, "GET", &target, &[], b"").await.json()["status"], 200);
    }
    for expected in [101, 101, 503] {
        assert_eq!(door.knock(("websocket", "/socket?vsn=2.0.0"), None).await, expected, "all share one bucket");
    }
    assert_eq!(door.knock(("poll", "/bullet?key=k"), None).await, 503);
    assert_eq!(request(address, "GET", &target.replace("token=", "token=x"), &[], b"").await.status, 503, "a new one");
}

/// What is refused anyway is no load, and takes nobody's place.
#[tokio::test]
async fn refused_requests_take_no_place() {
    let mut door = Door::open().await;
    for _ in 0..10 {
        assert_eq!(door.knock(("websocket", "/socket/websocket?vsn=9.0.0"), None).await, 403);
        assert_eq!(door.knock(("poll", "/socket/nowhere"), None).await, 404);
    }
    assert_eq!(door.knock(("websocket", "/socket/websocket?vsn=2.0.0"), None).await, 101);
}

#[tokio::test]
async fn a_rate_of_none_is_no_rate() {
    for (per_second, burst) in [(0, 5), (5, 0)] {
        let error = Endpoint::builder().accept_rate(per_second, burst).build().await.unwrap_err().to_string();
        assert!(error.contains(&format!("{per_second} with a burst of {burst}")), "{error}");
    }
}
