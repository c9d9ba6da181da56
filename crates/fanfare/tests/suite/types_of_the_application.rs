//! Payloads, infos, assigns and errors have the application's own types.

use std::collections::BTreeMap;
use std::error::Error as StdError;

use fanfare::testing::{TestEndpoint, including};
use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Context, Ended, Endpoint, Flow, Joined, Mount, Payload,
    Publish, Refused, Rejected, Reply, ReplyHandle,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

#[derive(Clone, Serialize, Deserialize)]
struct Message {
    body: String,
}

/// What JSON has no form for.
fn unserializable() -> BTreeMap<(u8, u8), u8> {
    BTreeMap::from([((1, 2), 3)])
}

#[derive(Clone)]
struct User {
    name: String,
    is_admin: bool,
}

struct Login;

impl Connect for Login {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let name = request.params.str("name").unwrap_or_default().to_owned();
        Ok(Connected::new().assigns(User { name, is_admin: true }))
    }
}

struct Room;

enum Info {
    Tick(u32),
    Later(ReplyHandle),
}

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = Info;

    async fn join(&self, cx: &mut Context<Info>, _: Payload) -> Result<Joined<()>, Refused> {
        match cx.topic() {
            "room:unserializable reply" => Ok(Joined::new(()).reply(unserializable())),
            "room:unserializable meta" => Ok(Joined::new(()).meta(unserializable())),
            "room:unserializable refusal" => Err(Refused::with(unserializable())),
            "room:number" => {
                let number: u32 = "seven".parse()?;
                Ok(Joined::new(()).reply(json!({ "number": number })))
            }
            "room:renamed in join" => {
                cx.assign(User { name: "Grace".into(), is_admin: true });
                Ok(Joined::new(()))
            }
            _ => Ok(Joined::new(()).reply(Message { body: "welcome".into() })),
        }
    }

    async fn handle_in(
        &self,
        _: &mut (),
        cx: &mut Context<Info>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        match event {
            "new_msg" => {
                let message: Message = payload.to()?;
                cx.broadcast("new_msg", &message).await?;
                cx.push("pushed", &message)?;
                Ok(Reply::ok(message))
            }
            "unserializable broadcast" => match cx.broadcast("new_msg", unserializable()).await {
                Err(error) if error.is_invalid() => Ok(Reply::error(json!({ "reason": error.to_string() }))),
                other => Ok(Reply::ok(format!("{other:?}"))),
            },
            "unserializable reply" => Ok(Reply::ok(unserializable())),
            "late unserializable reply" => {
                let handle = cx.reply_later();
                cx.send(Info::Later(handle))?;
                Ok(Reply::none())
            }
            "rename" => {
                let name = payload.to()?;
                let user = cx.assigns::<User>().cloned().ok_or("nobody is logged in")?;
                cx.assign(User { name, ..user });
                let User { name, is_admin } = cx.assigns().unwrap();
                Ok(Reply::ok(json!({ "name": name, "admin": is_admin })))
            }
            "name" => Ok(Reply::ok(json!({ "name": cx.assigns::<User>().unwrap().name }))),
            "number" => {
                let number: u32 = "seven".parse()?;
                Ok(Reply::ok(number))
            }
            other => Err(format!("unknown event {other:?}").into()),
        }
    }

    async fn handle_info(&self, _: &mut (), cx: &mut Context<Info>, info: Info) -> Result<Flow, BoxError> {
        match info {
            Info::Tick(n) => cx.push("tick", json!({ "n": n }))?,
            Info::Later(handle) => {
                let error = handle.send(Reply::ok(unserializable())).unwrap_err();
                cx.push("refused", json!({ "reason": error.to_string() }))?;
            }
        }
        Ok(Flow::Continue)
    }

    async fn terminate(&self, _: &mut (), cx: &mut Context<Info>, reason: &Ended) {
        if let Ended::Crashed(reason) = reason {
            let _ = cx.endpoint().broadcast("ends", "crashed", json!({ "reason": reason })).await;
        }
    }
}

async fn test() -> TestEndpoint {
    let mount = Mount::new().connect(Login).channel("room:*", Room);
    TestEndpoint::start(Endpoint::builder().shards(2).mount("/socket", mount)).await
}

#[tokio::test]
async fn values_that_serialize_are_payloads() {
    let test = test().await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let room = socket.join("room:1", json!({})).await.unwrap();
    assert_eq!(*room.response(), json!({"body": "welcome"}));
    let message = Message { body: "hi".into() };
    let pushed = room.push("new_msg", &message).await;
    for event in ["new_msg", "pushed"] {
        room.assert_push(event, json!({"body": "hi"})).await;
    }
    room.assert_reply(&pushed, "ok", json!({"body": "hi"})).await;
    test.endpoint().broadcast("room:1", "news", &message).await.unwrap();
    room.assert_push("news", json!({"body": "hi"})).await;
}

#[tokio::test]
async fn a_payload_that_does_not_fit_is_an_error_reply_and_the_join_goes_on() {
    let test = test().await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let room = socket.join("room:1", json!({})).await.unwrap();
    let pushed = room.push("new_msg", json!({"text": "hi"})).await;
    let reason = "invalid payload: missing field `body` at line 1 column 13";
    room.assert_reply(&pushed, "error", json!({"reason": reason})).await;
    let pushed = room.push("new_msg", Payload::Binary(vec![1].into())).await;
    room.assert_reply(&pushed, "error", json!({"reason": "invalid payload: expected JSON, got binary"})).await;
    let pushed = room.push("new_msg", json!({"body": "still here"})).await;
    room.assert_reply(&pushed, "ok", including(json!({}))).await;
}

#[tokio::test]
async fn what_cannot_be_serialized_is_an_error_where_it_is_sent() {
    let test = test().await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let ends = test.subscribe("ends").await;
    let said = "cannot be written as JSON: key must be a string";
    for topic in ["room:unserializable reply", "room:unserializable meta", "room:unserializable refusal"] {
        assert_eq!(socket.join(topic, json!({})).await.unwrap_err(), json!({"reason": "join crashed"}), "{topic}");
    }
    let room = socket.join("room:1", json!({})).await.unwrap();
    let pushed = room.push("unserializable broadcast", json!({})).await;
    room.assert_reply(&pushed, "error", json!({"reason": format!("the payload of \"new_msg\" {said}")})).await;
    room.push("late unserializable reply", json!({})).await;
    room.assert_push("refused", json!({"reason": format!("the response {said}")})).await;
    room.push("unserializable reply", json!({})).await;
    room.assert_crashed().await;
    ends.assert_broadcast("crashed", json!({"reason": format!("the response {said}")})).await;

    let publish = Publish::new("room:1", "new_msg", unserializable());
    assert!(test.endpoint().publish(publish).await.unwrap_err().is_invalid());
}

#[tokio::test]
async fn any_error_ends_a_callback() {
    let test = test().await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let ends = test.subscribe("ends").await;
    assert_eq!(socket.join("room:number", json!({})).await.unwrap_err(), json!({"reason": "join crashed"}));
    for (event, reason) in [("number", "invalid digit found in string"), ("sing", "unknown event \"sing\"")] {
        let room = socket.join("room:1", json!({})).await.unwrap();
        room.push(event, json!({})).await;
        room.assert_crashed().await;
        ends.assert_broadcast("crashed", json!({"reason": reason})).await;
    }
}

#[tokio::test]
async fn errors_of_the_engine_are_errors_of_the_standard_library() {
    async fn build(mount: Mount) -> Result<Endpoint, Box<dyn StdError>> {
        Ok(Endpoint::builder().mount("/socket", mount).build().await?)
    }
    let error = build(Mount::new().channel("a*b", Room)).await.unwrap_err();
    assert!(error.downcast_ref::<fanfare::Error>().unwrap().is_invalid());
    assert_eq!(format!("{error:?}"), error.to_string(), "what a main that returns it prints");
}

#[tokio::test]
async fn a_test_can_send_an_info() {
    let test = test().await;
    let socket = test.connect("/socket", json!({})).await.unwrap();
    let room = socket.join("room:1", json!({})).await.unwrap();
    room.send(Info::Tick(7)).await;
    room.assert_push("tick", json!({"n": 7})).await;
    room.send("of another type").await;
    room.assert_crashed().await;
}

#[tokio::test]
async fn what_a_join_assigns_all_joins_of_its_socket_see() {
    let test = test().await;
    let socket = test.connect("/socket", json!({"name": "Ada"})).await.unwrap();
    let other = test.connect("/socket", json!({"name": "Bob"})).await.unwrap();
    let one = socket.join("room:1", json!({})).await.unwrap();
    let two = socket.join("room:2", json!({})).await.unwrap();
    let bobs = other.join("room:1", json!({})).await.unwrap();
    let renamed = one.push("rename", json!("Lovelace")).await;
    one.assert_reply(&renamed, "ok", json!({"name": "Lovelace", "admin": true})).await;
    for (join, name) in [(&one, "Lovelace"), (&two, "Lovelace"), (&bobs, "Bob")] {
        let asked = join.push("name", json!({})).await;
        join.assert_reply(&asked, "ok", json!({"name": name})).await;
    }
    let three = socket.join("room:renamed in join", json!({})).await.unwrap();
    for join in [&one, &three] {
        let asked = join.push("name", json!({})).await;
        join.assert_reply(&asked, "ok", json!({"name": "Grace"})).await;
    }
}

#[tokio::test]
async fn routes_merge_into_a_router_with_a_state_of_its_own() {
    #[derive(Clone)]
    struct App(&'static str);
    let endpoint = Endpoint::builder().mount("/socket", Mount::new().channel("room:*", Room)).build().await.unwrap();
    let app = axum::Router::new()
        .route("/", axum::routing::get(async |axum::extract::State(app): axum::extract::State<App>| app.0))
        .merge(endpoint.routes())
        .with_state(App("mine"));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let get = |path: &'static str| async move {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    assert!(get("/").await.ends_with("mine"));
    assert!(get("/socket/longpoll?vsn=2.0.0").await.contains("\"status\":410"));
}
