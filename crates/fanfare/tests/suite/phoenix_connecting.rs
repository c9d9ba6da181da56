//! Where clients connect, and in which version of the protocol.

use fanfare::serve::Server;
use fanfare::{Endpoint, Mount, Version};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::json;

use crate::support::client::{Client, Received};
use crate::support::http::request;
use crate::support::{serve, serve_mount, stage};

#[tokio::test]
async fn phoenix_1_websocket_below_and_at_the_mount() {
    let served = serve(Endpoint::builder().mount("/socket", stage()).mount("/other/:tenant", stage())).await;
    for target in [
        "/socket/websocket?vsn=2.0.0",
        "/socket/websocket/?vsn=2.0.0",
        "/socket//websocket?vsn=2.0.0",
        "/socket?vsn=2.0.0",
        "/socket/?vsn=2.0.0",
        "/other/acme/websocket?vsn=2.0.0",
    ] {
        served.client_at(target).await.join("room:1").await;
    }
    for target in ["/", "/socket/websocket/more", "/socket/elsewhere", "/sock", "/other"] {
        let refused = Client::connect(served.address, target, &[]).await.err().unwrap();
        assert_eq!(refused.status, 404, "{target}");
    }
}

#[tokio::test]
async fn phoenix_1_longpoll_below_the_mount() {
    let served = serve_mount(stage()).await;
    let target = "/socket/longpoll?vsn=2.0.0";
    let begun = request(served.address, "GET", target, &[], b"").await.json();
    assert_eq!((&begun["status"], &begun["messages"]), (&json!(410), &json!([])));
    let token = begun["token"].as_str().unwrap();
    let target = format!("{target}&token={token}");
    let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
    let posted = request(served.address, "POST", &target, &[], join.as_bytes()).await;
    assert_eq!(posted.json(), json!({"status": 200}));
    let polled = request(served.address, "GET", &target, &[], b"").await;
    assert_eq!(polled.headers["access-control-allow-origin"], "*");
    let reply = json!(["1", "1", "room:1", "phx_reply", {"status": "ok", "response": {}}]);
    let polled = polled.json();
    let message: serde_json::Value = serde_json::from_str(polled["messages"][0].as_str().unwrap()).unwrap();
    assert_eq!((&polled["status"], message), (&json!(200), reply));
}

#[tokio::test]
async fn phoenix_1_on_an_axum_router_of_ones_own() {
    let endpoint = Endpoint::builder().mount("/socket", stage()).build().await.unwrap();
    let own = axum::Router::new().route("/hello", axum::routing::get(async || "hello"));
    let app = own.merge(endpoint.routes()).nest("/nested", endpoint.routes());
    let server = Server::bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
    let address = server.local_addr().unwrap();
    tokio::spawn(async move { server.serve_app(app, &endpoint, std::future::pending()).await });
    assert_eq!(request(address, "GET", "/hello", &[], b"").await.body, b"hello");
    for target in ["/socket", "/socket/websocket", "/nested/socket/websocket"] {
        let target = format!("{target}?vsn=2.0.0");
        let mut client = Client::connect(address, &target, &[]).await.unwrap_or_else(|e| panic!("{target}: {e:?}"));
        client.join("room:1").await;
    }
    let begun = request(address, "GET", "/socket/longpoll", &[], b"").await.json();
    assert_eq!(begun["status"], 410);
}

#[tokio::test]
async fn phoenix_2_versions() {
    let served =
        serve(Endpoint::builder().mount("/socket", stage()).mount("/v2only", stage().versions([Version::V2]))).await;
    #[derive(Debug, PartialEq)]
    enum Frames {
        Objects,
        Lists,
        Refused,
    }
    let cases = [
        ("/socket", "", Frames::Objects),
        ("/socket", "vsn=1.0.0", Frames::Objects),
        ("/socket", "vsn=1.0.7", Frames::Objects),
        ("/socket", "vsn=2.0.0", Frames::Lists),
        ("/socket", "vsn=2.0.9", Frames::Lists),
        ("/socket", "vsn=2.0.0%2Bbuild", Frames::Lists),
        ("/socket", "vsn=", Frames::Refused),
        ("/socket", "vsn=2", Frames::Refused),
        ("/socket", "vsn=2.0", Frames::Refused),
        ("/socket", "vsn=2.1.0", Frames::Refused),
        ("/socket", "vsn=1.1.0", Frames::Refused),
        ("/socket", "vsn=3.0.0", Frames::Refused),
        ("/socket", "vsn=02.0.0", Frames::Refused),
        ("/socket", "vsn=2.0.0-rc", Frames::Refused),
        ("/socket", "vsn=abc", Frames::Refused),
        ("/socket", "vsn[]=2.0.0", Frames::Refused),
        ("/v2only", "vsn=2.0.0", Frames::Lists),
        ("/v2only", "", Frames::Refused),
        ("/v2only", "vsn=1.0.0", Frames::Refused),
    ];
    let mut refused = 0;
    for (mount, query, expected) in cases {
        let target = format!("{mount}/websocket?{query}");
        let frames = match Client::connect(served.address, &target, &[]).await {
            Err(answer) => {
                assert_eq!(answer.status, 403, "{target}");
                assert!(answer.text().contains("ask for vsn=2.0.0"), "{target}: {}", answer.text());
                Frames::Refused
            }
            Ok(mut client) => {
                let join = json!({"topic": "room:1", "event": "phx_join", "payload": {}, "ref": "7"});
                let list = json!(["7", "7", "room:1", "phx_join", {}]);
                client.send_json(if expected == Frames::Objects { &join } else { &list }).await;
                let reply = json!({"status": "ok", "response": {}});
                match client.frame().await {
                    frame if frame.is_array() => {
                        assert_eq!(frame, json!(["7", "7", "room:1", "phx_reply", reply]));
                        Frames::Lists
                    }
                    frame => {
                        let whole = json!({"topic": "room:1", "event": "phx_reply", "payload": reply, "ref": "7"});
                        assert_eq!(frame, whole);
                        Frames::Objects
                    }
                }
            }
        };
        assert_eq!(frames, expected, "{target}");
        let longpoll = format!("{mount}/longpoll?{query}");
        let begun = request(served.address, "GET", &longpoll, &[], b"").await;
        let status = if expected == Frames::Refused { 403 } else { 410 };
        assert_eq!((begun.status, &begun.json()["status"]), (200, &json!(status)), "{longpoll}");
        refused += 2 * u64::from(expected == Frames::Refused);
    }
    assert_eq!(served.counter("connections", "refused_vsn"), refused);
}

#[tokio::test]
async fn phoenix_2_binary_frames_are_of_version_2() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    let mut push = vec![0, 6, 1, 6, 4];
    push.extend_from_slice(b"room:17room:1echo\x00\xff");
    client.send(Opcode::Binary, &push, true).await;
    let mut reply = vec![1, 6, 1, 6, 2];
    reply.extend_from_slice(b"room:17room:1ok\x00\xff");
    assert_eq!(client.receive().await, Received::Binary(reply));

    let mut old = served.client_at("/socket?vsn=1.0.0").await;
    old.send(Opcode::Binary, &push, true).await;
    old.assert_closed(1011).await;
}

#[tokio::test]
async fn phoenix_1_transports_are_chosen_per_mount() {
    let served =
        serve(Endpoint::builder().mount("/sockets", stage().longpoll(false)).mount("/polls", stage().websocket(false)))
            .await;
    let status = async |target: &str| request(served.address, "GET", target, &[], b"").await.status;
    assert_eq!(status("/sockets/longpoll").await, 404);
    assert_eq!(status("/polls/longpoll").await, 200);
    assert_eq!(status("/polls/websocket").await, 404);
    served.client_at("/sockets?vsn=2.0.0").await.join("room:1").await;
    let neither = Endpoint::builder().mount("/none", Mount::new().websocket(false).longpoll(false)).build().await;
    assert!(neither.unwrap_err().is_invalid());
}
