//! The test kit: what its assertions see, and what they say when they fail.

use std::time::Duration;

use fanfare::testing::{TestEndpoint, TestSocket, anything, including};
use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Connection, Context, Endpoint, Flow, Joined, Mount, Payload,
    Refused, Rejected, Reply,
};
use http::Request;
use serde_json::{Value, json};

use crate::support::stage;

async fn kit() -> (TestEndpoint, TestSocket) {
    let test = TestEndpoint::start(Endpoint::builder().shards(2).mount("/socket", stage())).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    (test, socket)
}

/// What the assertion says when it panics.
async fn said(assertion: impl Future<Output = ()> + Send + 'static) -> String {
    let panic = tokio::spawn(assertion).await.unwrap_err().into_panic();
    *panic.downcast::<String>().unwrap()
}

#[tokio::test]
async fn a_failed_assertion_names_its_place_and_what_came_instead() {
    let (_test, socket) = kit().await;
    let room = socket.join("room:1", json!({})).await.unwrap();
    room.push("whisper", json!({"n": 1})).await;
    let said = said(async move { drop(room.assert_push("whisper", json!({"n": 2})).await) }).await;
    for part in ["\"whisper\" on \"room:1\" with {\"n\":2}", "test_kit.rs:", "{\"n\":1}"] {
        assert!(said.contains(part), "no {part} in: {said}");
    }
}

#[tokio::test]
async fn a_failed_reply_assertion_shows_the_reply() {
    let (_test, socket) = kit().await;
    let room = socket.join("room:1", json!({})).await.unwrap();
    let echo = room.push("echo", json!({"n": 1})).await;
    let said = said(async move { drop(room.assert_reply(&echo, "error", anything()).await) }).await;
    assert!(said.contains("\"phx_reply\"") && said.contains("\"status\":\"ok\""), "{said}");
}

#[tokio::test]
async fn a_failed_refutation_shows_what_came() {
    let (test, socket) = kit().await;
    let room = socket.join("room:1", json!({})).await.unwrap();
    let heard = test.subscribe("room:1").await;
    room.push("shout", json!({"n": 1})).await;
    let broadcast = said(async move { heard.refute_broadcast("shout").await }).await;
    assert!(broadcast.contains("unexpected") && broadcast.contains("{\"n\":1}"), "{broadcast}");
    let push = said(async move { room.refute_push("shout").await }).await;
    assert!(push.contains("unexpected") && push.contains("{\"n\":1}"), "{push}");
}

#[tokio::test]
async fn a_failed_broadcast_or_close_assertion_says_what_was() {
    let (test, socket) = kit().await;
    let heard = test.subscribe("room:1").await;
    let nothing = said(async move { drop(heard.assert_broadcast("any", anything()).await) }).await;
    assert!(nothing.contains("nothing was broadcast"), "{nothing}");
    let open = said(async move { socket.assert_closed(1001).await }).await;
    assert!(open.contains("expected the server to close the socket with 1001"), "{open}");
}

#[tokio::test]
async fn assertions_take_what_fits_and_leave_the_rest() {
    let (test, socket) = kit().await;
    let room = socket.join("room:1", json!({})).await.unwrap();
    let heard = test.subscribe("room:1").await;
    let pushed = room.push("all_three", json!({"n": 1, "more": {"a": [1, 2]}})).await;
    room.assert_reply(&pushed, "ok", json!({})).await;
    room.refute_reply(&pushed).await;
    room.assert_push("push", including(json!({"more": {"a": [1, 2]}}))).await;
    assert_eq!(socket.assert_push("room:1", "broadcast", anything()).await["n"], 1);
    room.refute_push("broadcast").await;
    socket.refute_push("room:1", "broadcast").await;
    heard.assert_broadcast("broadcast", including(json!({"n": 1}))).await;
    heard.refute_broadcast("broadcast").await;
    let echo = room.push("echo", Payload::Binary(vec![0, 255].into())).await;
    room.assert_reply(&echo, "ok", Payload::Binary(vec![0, 255].into())).await;
}

#[tokio::test]
async fn joins_end_as_they_do_for_clients() {
    let (test, socket) = kit().await;
    assert_eq!(socket.join("hall", json!({})).await.unwrap_err(), json!({"reason": "unmatched topic"}));
    assert_eq!(socket.join("room:1", json!({"refuse": "no"})).await.unwrap_err(), json!({"reason": "no"}));
    let room = socket.join("room:1", json!({})).await.unwrap();
    room.push("stop", json!({})).await;
    room.assert_ended().await;
    let room = socket.join("room:1", json!({})).await.unwrap();
    room.push("panic", json!({})).await;
    room.assert_crashed().await;
    let old = socket.join("room:1", json!({})).await.unwrap();
    let new = socket.join("room:1", json!({})).await.unwrap();
    old.assert_ended().await;
    new.leave().await;
    socket.close().await;
    assert_eq!(test.endpoint().sockets(), 0);
}

#[tokio::test]
async fn the_mounts_limits_hold() {
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", stage().joins_max(1))).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let _room = socket.join("room:1", json!({})).await.unwrap();
    assert_eq!(socket.join("room:2", json!({})).await.unwrap_err(), json!({"reason": "too many channels joined"}));
}

/// Lets in who has a token; tells its channel what it was given.
struct Doors;

impl Connect for Doors {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        match request.params.str("token") {
            Some("good") => Ok(Connected::new().assigns(request.params.into_json().to::<Value>().unwrap())),
            Some(_) => Err(Rejected::reason("a bad token")),
            None => panic!("no token"),
        }
    }
}

/// Ticks once a second, and replies with what connect was given.
struct Clockwork;

impl Channel for Clockwork {
    type State = u32;
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<u32>, Refused> {
        cx.send_after(Duration::from_secs(1), ());
        let given = cx.assigns::<Value>().cloned().unwrap_or_default();
        let version = format!("{:?} {:?}", cx.socket().version(), cx.socket().peer());
        Ok(Joined::new(0).reply(json!({ "given": given, "socket": version })))
    }

    async fn handle_in(&self, _: &mut u32, _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }

    async fn handle_info(&self, ticks: &mut u32, cx: &mut Context, (): ()) -> Result<Flow, BoxError> {
        *ticks += 1;
        cx.push("tick", json!({ "n": ticks }))?;
        cx.send_after(Duration::from_secs(1), ());
        Ok(Flow::Continue)
    }
}

#[tokio::test]
async fn connect_is_the_mounts_own() {
    let mount = Mount::new().connect(Doors).channel("clock", Clockwork);
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket/:tenant", mount)).await;
    for (path, params, status) in [
        ("/socket/acme", json!({"token": "bad"}), 403),
        ("/socket/acme", json!({"token": "good", "vsn": "9"}), 403),
        ("/socket/acme", json!({}), 500),
        ("/elsewhere", json!({"token": "good"}), 404),
    ] {
        assert_eq!(test.connect(path, params.clone()).await.unwrap_err().status(), status, "{path} {params}");
    }
    let socket = test.connect("/socket/acme", json!({"token": "good", "n": 1})).await.unwrap();
    let clock = socket.join("clock", json!({})).await.unwrap();
    let given = json!({"token": "good", "n": "1", "tenant": "acme", "vsn": "2.0.0"});
    assert_eq!(clock.response()["given"], given);

    let peer = "192.0.2.1:7".parse().unwrap();
    let mut request = Request::get("/socket/acme/websocket?token=good").body(()).unwrap();
    request.extensions_mut().insert(Connection::new(peer, true));
    let old = test.connect_with(request).await.unwrap();
    let clock = old.join("clock", json!({})).await.unwrap();
    assert_eq!(clock.response()["socket"], "V1 Some(192.0.2.1:7)");
    clock.leave().await;
}

#[tokio::test]
async fn time_stands_still_until_it_is_moved() {
    let test =
        TestEndpoint::start(Endpoint::builder().mount("/socket", Mount::new().channel("clock", Clockwork))).await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let clock = socket.join("clock", json!({})).await.unwrap();
    test.advance(Duration::from_millis(990)).await;
    clock.refute_push("tick").await;
    test.advance(Duration::from_millis(10)).await;
    clock.assert_push("tick", json!({"n": 1})).await;
    // Each timer at its own time: those that are set on the way are due as well.
    test.advance(Duration::from_secs(3_600)).await;
    clock.assert_push("tick", json!({"n": 3_601})).await;
}
