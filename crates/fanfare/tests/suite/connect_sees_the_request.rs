//! What decides who may connect is given the whole request: headers, cookies, and what middleware has found out.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::extract::Request;
use axum::middleware::{self, Next};
use fanfare::testing::TestEndpoint;
use fanfare::{Connect, ConnectRequest, Connected, Connection, Endpoint, Mount, Rejected};
use parking_lot::Mutex;

use crate::support::client::Client;

/// What the middleware knows of a user.
#[derive(Clone)]
struct User(&'static str);

/// Writes down what it is told.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<String>>>);

impl Connect for Notes {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let user = request.extension::<User>().map(|user| user.0);
        let cookies: Vec<_> = request.cookies().collect();
        self.0.lock().push(format!(
            "{} {:?} {:?} {:?} {:?} {:?} {cookies:?} {:?}",
            request.uri(),
            request.peer().map(|peer| peer.ip()),
            request.header("x-tenant"),
            request.headers().get_all("x-tenant").iter().count(),
            request.header("x-bytes"),
            request.cookie("session"),
            user,
        ));
        Ok(Connected::new())
    }
}

#[tokio::test]
async fn connect_is_told_headers_cookies_and_extensions() {
    let notes = Notes::default();
    let test = TestEndpoint::start(Endpoint::builder().mount("/socket", Mount::new().connect(notes.clone()))).await;
    let request = http::Request::get("/socket?vsn=2.0.0&a=1")
        .header("x-tenant", "one")
        .header("x-tenant", "two")
        .header("x-bytes", &b"\xff"[..])
        .header("cookie", "a=1; session=\"s 1\"")
        .header("cookie", "session=other")
        .extension(User("ada"))
        .extension(Connection::new(SocketAddr::from(([203, 0, 113, 7], 1)), false));
    test.connect_with(request.body(()).unwrap()).await.unwrap();
    test.connect_with(http::Request::get("/socket?vsn=2.0.0").body(()).unwrap()).await.unwrap();
    let expected = [
        "/socket?vsn=2.0.0&a=1 Some(203.0.113.7) Some(\"one\") 2 None Some(\"s 1\") \
         [(\"a\", \"1\"), (\"session\", \"s 1\"), (\"session\", \"other\")] Some(\"ada\")",
        "/socket?vsn=2.0.0 None None 0 None None [] None",
    ];
    assert_eq!(*notes.0.lock(), expected);
}

#[tokio::test]
async fn extensions_of_the_middleware_around_a_router_reach_connect() {
    let notes = Notes::default();
    let endpoint = Endpoint::builder().mount("/socket", Mount::new().connect(notes.clone())).build().await.unwrap();
    let authenticate = async |mut request: Request, next: Next| {
        if request.headers().contains_key("x-known") {
            request.extensions_mut().insert(User("known"));
        }
        next.run(request).await
    };
    let app: axum::Router =
        axum::Router::new().nest("/api", endpoint.routes()).layer(middleware::from_fn(authenticate));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, app).await });
    let target = "/api/socket/websocket?vsn=2.0.0";
    let mut known = Client::connect(address, target, &[("x-known", "1"), ("cookie", "session=s")]).await.unwrap();
    known.assert_untouched().await;
    let expected = format!("{target} Some(127.0.0.1) None 0 None Some(\"s\") [(\"session\", \"s\")] Some(\"known\")");
    assert_eq!(*notes.0.lock(), [expected]);
}
