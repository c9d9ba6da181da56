//! Credentials that come by header, subprotocol or message, are renewed in band, and expire.

use std::time::{Duration, SystemTime};

use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Context, Endpoint, Joined, Mount, Payload, Refused,
    Rejected, Reply, SocketInfo,
};
use serde_json::{Value, json};

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::{Served, eventually, serve};

/// A credential is `USER:NUMBER:MILLISECONDS`, the time that it is good for.
struct Gate;

/// What a credential says.
struct Number(u64);

fn check(credential: &str) -> Result<Connected, Rejected> {
    let parts: Vec<&str> = credential.split(':').collect();
    let [user, number, ms] = parts[..] else { return Err(Rejected::new()) };
    let (number, ms) = (number.parse().map_err(|_| Rejected::new())?, ms.parse().map_err(|_| Rejected::new())?);
    let expires_at = SystemTime::now() + Duration::from_millis(ms);
    Ok(Connected::new().id(user).assigns(Number(number)).expires_at(expires_at))
}

impl Connect for Gate {
    const REFRESHES: bool = true;

    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        match request.auth_token().or(request.params.str("token")).or(request.header_token()) {
            Some(credential) => check(credential),
            None if request.params.str("late").is_some() => Ok(Connected::pending()),
            None => Err(Rejected::new()),
        }
    }

    async fn refresh(&self, socket: &SocketInfo, credential: String) -> Result<Connected, Rejected> {
        assert!(socket.id().is_none_or(|id| id != "panic"), "told to panic in refresh");
        if credential.starts_with("slow") {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        check(&credential)
    }
}

/// Answers with what the socket's credential says.
struct Who;

impl Channel for Who {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, _: Payload) -> Result<Reply, BoxError> {
        if event == "slow" {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        let number = cx.assigns::<Number>().map_or(0, |number| number.0);
        Ok(Reply::ok(json!({ "number": number, "event": event })))
    }
}

async fn served(timeout: Duration) -> Served {
    let mount = Mount::new().auth_token(true).connect(Gate).channel("*", Who).credential_timeout(timeout);
    serve(Endpoint::builder().shards(2).mount("/socket", mount.longpoll_window(Duration::from_millis(500)))).await
}

/// A stock client that has a token closes a connection on which its offer is not answered.
#[tokio::test]
async fn an_endpoint_without_credentials_answers_the_offer_of_a_stock_client() {
    let served = serve(Endpoint::builder().mount("/socket", Mount::new().connect(Gate))).await;
    for (offer, answer) in [
        ("phoenix, base64url.bearer.phx.YWRh", Some("phoenix")),
        ("phoenix, base64url.bearer.phx.***", Some("phoenix")),
        ("mqtt", None),
    ] {
        let upgrade = [
            ("connection", "Upgrade"),
            ("upgrade", "websocket"),
            ("sec-websocket-version", "13"),
            ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
            ("sec-websocket-protocol", offer),
        ];
        let got = request(served.address, "GET", &format!("{TARGET}&token=ada:7:60000"), &upgrade[..], b"").await;
        let got = (got.status, got.headers.get("sec-websocket-protocol").cloned());
        assert_eq!(got, (101, answer.map(str::to_owned)), "{offer}");
    }
}

/// How a credential comes: what it is called, a header with a good and a bad one, and the subprotocol that is answered.
type Way = (&'static str, Option<(&'static str, String, String)>, &'static str);

const TARGET: &str = "/socket/websocket?vsn=2.0.0";

#[tokio::test]
async fn a_credential_comes_by_header_subprotocol_or_parameter() {
    let served = served(Duration::from_secs(10)).await;
    // `ada:7:60000` in base64, and `bad`.
    let (good, bad) = ("YWRhOjc6NjAwMDA", "YmFk");
    let token = |text: &str| format!("{TARGET}&token={text}");
    let with = |prefix: &str, text: &str| format!("{prefix}{text}");
    let ways: [Way; 6] = [
        ("authorization", Some(("authorization", "Bearer ada:7:60000".into(), "bearer bad".into())), ""),
        ("x-api-key", Some(("x-api-key", "ada:7:60000".into(), "bad".into())), ""),
        (
            "phoenix",
            Some((
                "sec-websocket-protocol",
                with("phoenix, base64url.bearer.phx.", good),
                with("phoenix, base64url.bearer.phx.", bad),
            )),
            "phoenix",
        ),
        (
            "fanfare",
            Some(("sec-websocket-protocol", with("fanfare, bearer.", good), with("fanfare, bearer.", bad))),
            "fanfare",
        ),
        ("lone", Some(("sec-websocket-protocol", with("bearer.", good), with("bearer.", bad))), ""),
        ("parameter", None, ""),
    ];
    for (way, header, protocol) in ways {
        let (mut headers, mut targets) = ([vec![], vec![]], [token("ada:7:60000"), token("bad")]);
        if let Some((name, good, bad)) = &header {
            headers = [vec![(*name, good.as_str())], vec![(*name, bad.as_str())]];
            targets = [TARGET.to_owned(), TARGET.to_owned()];
        }
        let mut client = Client::connect(served.address, &targets[0], &headers[0]).await.expect(way);
        client.join("t").await;
        assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 7, "{way}");
        let refused = Client::connect(served.address, &targets[1], &headers[1]).await.err().expect(way);
        assert_eq!(refused.status, 403, "{way}");
        if let (Some((_, good, _)), false) = (&header, protocol.is_empty()) {
            let upgrade = [
                ("connection", "Upgrade"),
                ("upgrade", "websocket"),
                ("sec-websocket-version", "13"),
                ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
                ("sec-websocket-protocol", good),
            ];
            let answer = request(served.address, "GET", TARGET, &upgrade[..], b"").await;
            assert_eq!(answer.headers["sec-websocket-protocol"], protocol, "{way}");
        }
        if let Some((name, good, bad)) = header.filter(|(name, ..)| *name != "sec-websocket-protocol") {
            let poll = async |value: &str| {
                request(served.address, "GET", "/socket/longpoll?vsn=2.0.0", &[(name, value)], b"").await.json()["status"].clone()
            };
            assert_eq!((poll(&good).await, poll(&bad).await), (json!(410), json!(403)), "{way} on long-poll");
        }
    }
}

async fn refresh(client: &mut Client, topic: &str, credential: &str) -> Value {
    let join_ref = if topic == "phoenix" { Value::Null } else { json!(topic) };
    client.send_json(&json!([join_ref, "r", topic, "access_token", {"access_token": credential}])).await;
    let frame = client.frame().await;
    assert_eq!((&frame[1], &frame[2], &frame[3]), (&json!("r"), &json!(topic), &json!("phx_reply")), "{frame}");
    frame[4].clone()
}

#[tokio::test]
async fn a_renewed_credential_is_what_channels_see_and_lives_longer() {
    let served = served(Duration::from_secs(10)).await;
    let started = std::time::Instant::now();
    let mut client = served.client_at(&format!("{TARGET}&token=ada:1:1500")).await;
    client.join("t").await;
    assert_eq!(refresh(&mut client, "phoenix", "ada:2:1500").await["status"], "ok");
    assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 2);
    // While the channel's code runs, and by the name that some clients use.
    client.push("t", "t", "slow", json!({})).await;
    client.send_json(&json!(["t", "r", "t", "access_token", {"token": "ada:3:2500"}])).await;
    let replies = [client.frame().await, client.frame().await];
    assert!(replies.iter().all(|frame| frame[4]["status"] == "ok"), "{replies:?}");
    assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 3);
    for (credential, reason) in [("nonsense", "not accepted"), ("bob:4:9000", "somebody else's")] {
        let refused = refresh(&mut client, "t", credential).await;
        assert!(refused["response"]["reason"].as_str().unwrap().contains(reason), "{refused}");
    }
    client.send_json(&json!([null, "r", "phoenix", "access_token", {"password": 1}])).await;
    assert_eq!(client.frame().await[4]["status"], "error");
    assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 3, "the old one counts");
    tokio::time::sleep(Duration::from_millis(1_600).saturating_sub(started.elapsed())).await;
    client.assert_untouched().await;
    let error = client.frame().await;
    assert_eq!((&error[2], &error[3]), (&json!("t"), &json!("phx_error")), "the last one expires: {error}");
    client.assert_closed(1001).await;
    let lived = started.elapsed();
    assert!(lived > Duration::from_millis(2_400) && lived < Duration::from_secs(8), "{lived:?}");
    assert_eq!(served.counter("closes", "expired"), 1);
}

#[tokio::test]
async fn a_credential_may_come_by_the_first_message() {
    let served = served(Duration::from_millis(700)).await;
    let mut client = served.client_at(&format!("{TARGET}&late=1")).await;
    let refused = client.try_join("t", json!({})).await;
    assert!(refused["response"]["reason"].as_str().unwrap().contains("access_token"), "{refused}");
    client.assert_untouched().await;
    assert_eq!(refresh(&mut client, "phoenix", "bad").await["status"], "error");
    assert_eq!(refresh(&mut client, "phoenix", "ada:5:60000").await["status"], "ok");
    client.join("t").await;
    assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 5);
    let mut silent = served.client_at(&format!("{TARGET}&late=1")).await;
    assert_eq!(silent.close_code().await, 1008);
    client.assert_untouched().await;
    served.endpoint.disconnect("ada").await;
    assert_eq!(client.close_code().await, 1001, "it is known by its id");
    assert_eq!(served.counter("closes", "unauthorized"), 1);
}

#[tokio::test]
async fn long_poll_sessions_renew_and_expire_too() {
    let served = served(Duration::from_secs(10)).await;
    let target = "/socket/longpoll?vsn=2.0.0";
    let first = request(served.address, "GET", &format!("{target}&token=ada:1:60000"), &[], b"").await.json();
    let session = format!("{target}&token={}", first["token"].as_str().unwrap());
    let post = async |frame: Value| {
        let (body, json) = (frame.to_string(), [("content-type", "application/x-ndjson")]);
        assert_eq!(request(served.address, "POST", &session, &json, body.as_bytes()).await.json()["status"], 200);
    };
    let poll = async || request(served.address, "GET", &session, &[], b"").await.json();
    post(json!([null, "r", "phoenix", "access_token", {"access_token": "ada:2:700"}])).await;
    let mut messages = String::new();
    eventually("it is answered", async || {
        messages.push_str(&poll().await["messages"].to_string());
        messages.contains("\\\"ok\\\"")
    })
    .await;
    eventually("it has expired", async || poll().await["status"] == 403).await;
}

#[tokio::test]
async fn a_panic_in_refresh_hurts_nobody_and_without_refresh_it_is_an_event_like_any_other() {
    let served = served(Duration::from_secs(10)).await;
    let mut client = served.client_at(&format!("{TARGET}&token=panic:1:60000")).await;
    assert_eq!(refresh(&mut client, "phoenix", "panic:2:60000").await["status"], "error");
    client.assert_untouched().await;

    let plain = serve(Endpoint::builder().mount("/socket", Mount::new().channel("*", Who))).await;
    let mut client = plain.client().await;
    client.join("t").await;
    assert_eq!(client.call("t", "access_token", json!({}), "ok").await["event"], "access_token");
    client.send_json(&json!([null, "r", "phoenix", "access_token", {}])).await;
    match client.receive().await {
        Received::Text(text) => assert!(text.contains("unmatched topic"), "{text}"),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_comes_behind_a_first_credential_waits_for_its_answer() {
    let served = served(Duration::from_secs(10)).await;
    for (credential, status) in [("slow:5:60000", "ok"), ("slow:bad", "error")] {
        let mut client = served.client_at(&format!("{TARGET}&late=1")).await;
        client.send_json(&json!([null, "r", "phoenix", "access_token", {"access_token": credential}])).await;
        client.send_json(&json!(["1", "1", "t", "phx_join", {}])).await;
        client.send_json(&json!([null, "h", "phoenix", "heartbeat", {}])).await;
        let refs = [client.frame().await, client.frame().await, client.frame().await];
        let refs = refs.map(|frame| (frame[1].clone(), frame[4]["status"].clone()));
        let expected = [("h", "ok"), ("r", status), ("1", status)];
        assert_eq!(refs, expected.map(|(msg_ref, status)| (json!(msg_ref), json!(status))), "{credential}");
    }
}

/// Some clients send theirs on each topic at once.
#[tokio::test]
async fn several_credentials_may_be_checked_at_a_time() {
    let served = served(Duration::from_secs(10)).await;
    let mut client = served.client_at(&format!("{TARGET}&token=slow:1:60000")).await;
    for number in 2..22 {
        client
            .send_json(&json!([null, "r", "phoenix", "access_token", {"access_token": format!("slow:{number}:60000")}]))
            .await;
    }
    for _ in 2..22 {
        assert_eq!(client.frame().await[4]["status"], "ok");
    }
    for _ in 0..101 {
        client.send_json(&json!([null, "r", "phoenix", "access_token", {"access_token": "slow:9:60000"}])).await;
    }
    let refused = client.frame().await;
    assert!(refused[4]["response"]["reason"].as_str().unwrap().contains("100"), "{refused}");
}

#[tokio::test]
async fn a_header_that_a_proxy_added_does_not_hide_the_parameter() {
    let served = served(Duration::from_secs(10)).await;
    let headers = [("authorization", "Bearer the-proxy's-own")];
    let mut client = Client::connect(served.address, &format!("{TARGET}&token=ada:7:60000"), &headers).await.unwrap();
    client.join("t").await;
    assert_eq!(client.call("t", "who", json!({}), "ok").await["number"], 7);
}
