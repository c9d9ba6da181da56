//! The server closes sockets: credentials expire, users are disconnected, the server goes down.

use std::time::{Duration, SystemTime};

use fanfare::testing::TestEndpoint;
use fanfare::{Connect, ConnectRequest, Connected, Drain, Ended, Endpoint, Mount, Rejected};
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::stage::Stage;
use crate::support::{Served, eventually, serve_mount};

/// The param `user` becomes the id, `expires_in` (seconds) the end of the credential.
struct Users;

impl Connect for Users {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let user = request.params.str("user").ok_or_else(|| Rejected::reason("nobody"))?;
        let connected = Connected::new().id(format!("user_socket:{user}"));
        Ok(match request.params.str("expires_in").and_then(|seconds| seconds.parse().ok()) {
            Some(seconds) => connected.expires_at(SystemTime::now() + Duration::from_secs_f64(seconds)),
            None => connected,
        })
    }
}

fn mount(channel: &Stage) -> Mount {
    Mount::new().connect(Users).channel("room:*", channel.clone())
}

/// A long-poll session that has joined `room:1`: its URL.
async fn session(served: &Served, params: &str) -> String {
    let base = format!("/socket/longpoll?vsn=2.0.0&{params}");
    let begun = request(served.address, "GET", &base, &[], b"").await.json();
    let target = format!("{base}&token={}", begun["token"].as_str().unwrap());
    let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    request(served.address, "POST", &target, &[], join.as_bytes()).await;
    poll(served, &target).await;
    target
}

async fn poll(served: &Served, target: &str) -> Value {
    request(served.address, "GET", target, &[], b"").await.json()
}

#[tokio::test]
async fn an_expired_credential_closes_1001() {
    let channel = Stage::default();
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", mount(&channel))).await;
    let socket = test.connect("/socket", json!({"user": "a", "expires_in": "30"})).await.unwrap();
    let lasting = test.connect("/socket", json!({"user": "b"})).await.unwrap();
    socket.join("room:1", json!({})).await.unwrap();
    test.advance(Duration::from_secs(29)).await;
    let room = socket.join("room:2", json!({})).await.unwrap();
    test.advance(Duration::from_secs(2)).await;
    socket.assert_closed(1001).await;
    drop(room);
    assert_eq!(channel.ends().len(), 2);
    assert!(channel.ends().iter().all(|(_, ended)| *ended == Ended::Disconnected), "{:?}", channel.ends());
    lasting.join("room:1", json!({})).await.unwrap();
}

#[tokio::test]
async fn a_credential_that_is_over_already_closes_at_once() {
    let served = serve_mount(mount(&Stage::default())).await;
    let mut client = served.client_at("/socket?vsn=2.0.0&user=a&expires_in=0").await;
    client.assert_closed(1001).await;
    assert_eq!(served.counter("closes", "expired"), 1);
}

#[tokio::test]
async fn disconnect_reaches_every_socket_of_the_id_and_no_other() {
    let channel = Stage::default();
    let served = serve_mount(mount(&channel)).await;
    let mut sevens = Vec::new();
    for _ in 0..4 {
        let mut client = served.client_at("/socket?vsn=2.0.0&user=7").await;
        client.join("room:1").await;
        sevens.push(client);
    }
    let mut eight = served.client_at("/socket?vsn=2.0.0&user=8").await;
    eight.join("room:1").await;
    let polling = session(&served, "user=7").await;
    let (address, target) = (served.address, polling.clone());
    let waiting = tokio::spawn(async move { request(address, "GET", &target, &[], b"").await.json() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.endpoint.disconnect("user_socket:7").await;
    for mut client in sevens {
        client.assert_closed(1001).await;
    }
    let woken = waiting.await.unwrap();
    assert!(woken["status"] == 204 || woken["status"] == 410, "at once: {woken}");
    assert_eq!(poll(&served, &polling).await["status"], 410);
    eight.call("room:1", "echo", json!({}), "ok").await;
    assert_eq!(channel.ends(), vec![("room:1".to_owned(), Ended::Disconnected); 5]);
    assert_eq!(served.counter("closes", "disconnect"), 5);
}

/// The event on the topic of the id does the same, wherever it is broadcast from; other events there do nothing.
#[tokio::test]
async fn a_disconnect_broadcast_closes_too() {
    let served = serve_mount(mount(&Stage::default())).await;
    let mut client = served.client_at("/socket?vsn=2.0.0&user=7").await;
    served.endpoint.broadcast("user_socket:7", "hello", json!({})).await.unwrap();
    client.assert_untouched().await;
    served.endpoint.broadcast("user_socket:7", "disconnect", json!({})).await.unwrap();
    client.assert_closed(1001).await;
}

#[tokio::test]
async fn drain_closes_1012_and_answers_waiting_polls() {
    let channel = Stage::default();
    let served = serve_mount(mount(&channel)).await;
    let mut joined = served.client_at("/socket?vsn=2.0.0&user=1").await;
    joined.join("room:1").await;
    let mut idle = served.client_at("/socket?vsn=2.0.0&user=2").await;
    let mut busy = served.client_at("/socket?vsn=2.0.0&user=3").await;
    busy.join("room:2").await;
    // Longer than all that comes before the drain takes on a busy machine.
    busy.push("room:2", "room:2", "wait_ms", json!({"ms": 2_000})).await;
    let target = session(&served, "user=4").await;
    let address = served.address;
    let waiting = tokio::spawn(async move { request(address, "GET", &target, &[], b"").await.json() });
    tokio::time::sleep(Duration::from_millis(100)).await;

    let began = std::time::Instant::now();
    let endpoint = served.endpoint.clone();
    let draining = tokio::spawn(async move { endpoint.drain(Drain::default()).await });
    for client in [&mut joined, &mut idle, &mut busy] {
        client.assert_closed(1012).await;
    }
    assert_eq!(waiting.await.unwrap()["status"], 204);
    let refused = Client::connect(address, "/socket?vsn=2.0.0&user=5", &[]).await.err().unwrap();
    assert_eq!(refused.status, 503);
    assert_eq!(request(address, "GET", "/socket/longpoll?vsn=2.0.0&user=5", &[], b"").await.status, 503);
    drop((joined, idle, busy));
    draining.await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(10), "no longer than it takes: {:?}", began.elapsed());
    assert!(served.endpoint.is_draining());
    eventually("all are told", async || channel.ends().len() == 3).await;
    assert!(channel.ends().iter().all(|(_, ended)| *ended == Ended::Draining), "{:?}", channel.ends());
    assert_eq!(served.counter("closes", "drain"), 4);
    assert_eq!(served.endpoint.sockets(), 0);
}

/// Clients come back by a table that all of them have: whoever is closed together comes back together.
#[tokio::test]
async fn a_drain_is_spread_over_its_time_and_not_in_the_order_of_connecting() {
    let served = serve_mount(mount(&Stage::default())).await;
    let mut clients = Vec::new();
    for number in 0..40 {
        let mut client = served.client_at("/socket?vsn=2.0.0&user=1").await;
        client.join("room:1").await;
        clients.push(async move {
            client.assert_closed(1012).await;
            (std::time::Instant::now(), number)
        });
    }
    let clients: Vec<_> = clients.into_iter().map(tokio::spawn).collect();
    let pace = Drain { batch: 40, every: Duration::from_secs(1), limit: Duration::from_secs(20) };
    let began = std::time::Instant::now();
    served.endpoint.drain(pace).await;
    let mut closed = Vec::new();
    for client in clients {
        closed.push(client.await.unwrap());
    }
    closed.sort_unstable();
    let times: Vec<Duration> = closed.iter().map(|(at, _)| at.duration_since(began)).collect();
    assert!(times[39] >= Duration::from_millis(900), "the last one at its time: {times:?}");
    for quarter in 1..4 {
        let expected = Duration::from_millis(250) * quarter;
        assert!(times[10 * quarter as usize].abs_diff(expected) < Duration::from_millis(200), "{quarter}: {times:?}");
    }
    let later_ones_later = closed.windows(2).filter(|pair| pair[0].1 < pair[1].1).count();
    assert!(later_ones_later < 30, "in the order of connecting: {closed:?}");
}

/// 30 sockets at one in a second would take half a minute; nobody answers the close frames.
#[tokio::test]
async fn a_drain_closes_all_within_its_limit() {
    let served = serve_mount(mount(&Stage::default())).await;
    let mut clients = Vec::new();
    for _ in 0..30 {
        let mut client = served.client_at("/socket?vsn=2.0.0&user=1").await;
        client.assert_untouched().await;
        clients.push(client);
    }
    let pace = Drain { batch: 1, every: Duration::from_secs(1), limit: Duration::from_secs(1) };
    let began = std::time::Instant::now();
    served.endpoint.drain(pace).await;
    assert!(began.elapsed() < Duration::from_secs(3), "{:?}", began.elapsed());
    assert_eq!(served.counter("closes", "drain"), 30, "each is told, none is merely cut");
    assert_eq!(served.endpoint.sockets(), 0);
    for mut client in clients {
        client.assert_closed(1012).await;
    }
}

#[tokio::test]
async fn a_channel_drains_its_own_socket() {
    let served = serve_mount(mount(&Stage::default())).await;
    let mut client = served.client_at("/socket?vsn=2.0.0&user=1").await;
    client.join("room:1").await;
    client.push("room:1", "room:1", "drain", json!({})).await;
    client.assert_closed(1012).await;
}

#[tokio::test]
async fn a_session_that_nobody_polls_ends() {
    let channel = Stage::default();
    let served = serve_mount(mount(&channel).longpoll_window(Duration::from_millis(200))).await;
    let target = session(&served, "user=1").await;
    let began = std::time::Instant::now();
    assert_eq!(poll(&served, &target).await["status"], 204);
    assert!(began.elapsed() >= Duration::from_millis(190), "the window: {:?}", began.elapsed());
    eventually("it ends", async || channel.ends() == [("room:1".to_owned(), Ended::Closed)]).await;
    assert_eq!(poll(&served, &target).await["status"], 410);
    assert_eq!(served.counter("closes", "unpolled"), 1);
}

/// The last bytes and the end of the connection may be one piece of news from the kernel.
#[tokio::test]
async fn a_client_that_ends_behind_its_last_bytes_is_gone_at_once() {
    let channel = Stage::default();
    let served = serve_mount(mount(&channel)).await;
    for turn in 1..=100 {
        let mut client = served.client_at("/socket?vsn=2.0.0&user=1").await;
        client.join("room:1").await;
        // The beginning of a frame, or a frame with an answer, which still comes.
        let is_whole = turn % 2 == 0;
        let frame = [0x89, 0x80, 1, 2, 3, 4];
        client.send_bytes_and_end(if is_whole { &frame } else { &frame[..3] }).await;
        if is_whole {
            assert_eq!(client.receive().await, Received::Pong(Vec::new()));
        }
        assert_eq!(client.receive().await, Received::Ended);
        assert_eq!(channel.ends().len(), turn);
    }
}
