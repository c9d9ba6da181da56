//! Channels in an axum application that is there already: its session cookie says who connects, its handlers publish, and its state
//! has the endpoint. Its tests need no network.
//!
//!     cargo run --release --example session
//!     cargo test --features testing --example session

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::http::header::{COOKIE, SET_COOKIE};
use axum::middleware::{self, Next};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Context, Endpoint, Joined, Mount, OriginPolicy, Payload,
    Refused, Rejected, Reply,
};
use serde_json::json;

// ---- The application as it was ----

/// Who is logged in.
#[derive(Clone)]
struct User {
    name: String,
}

/// The sessions by the value of the cookie. Yours are in a database.
#[derive(Clone, Default)]
struct Sessions(Arc<Mutex<HashMap<String, User>>>);

#[derive(Clone)]
struct App {
    sessions: Sessions,
    endpoint: Endpoint,
}

impl Sessions {
    fn log_in(&self, name: String) -> Result<String, BoxError> {
        let mut random = [0; 16];
        getrandom::fill(&mut random)?;
        let id = random.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
        self.0.lock().map_err(|_| "a handler panicked")?.insert(id.clone(), User { name });
        Ok(id)
    }

    fn find(&self, id: &str) -> Option<User> {
        self.0.lock().ok()?.get(id).cloned()
    }
}

/// `POST /login` with a name as its body.
async fn log_in(State(app): State<App>, name: String) -> Result<impl IntoResponse, StatusCode> {
    let id = app.sessions.log_in(name).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)?;
    Ok((StatusCode::NO_CONTENT, AppendHeaders([(SET_COOKIE, format!("session={id}; Path=/; HttpOnly; SameSite=Lax"))])))
}

/// The middleware that all requests pass: it puts the user among the request's extensions.
async fn with_user(State(sessions): State<Sessions>, mut request: Request, next: Next) -> Response {
    let cookies = request.headers().get(COOKIE).and_then(|cookies| cookies.to_str().ok()).unwrap_or_default();
    let session = cookies.split("; ").find_map(|cookie| cookie.strip_prefix("session="));
    if let Some(user) = session.and_then(|id| sessions.find(id)) {
        request.extensions_mut().insert(user);
    }
    next.run(request).await
}

// ---- What Fanfare adds ----

/// Whoever the middleware knows may connect.
struct LoggedIn;

impl Connect for LoggedIn {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        // Without such a middleware: `request.cookie("session")`, looked up here.
        let user = request.extension::<User>().ok_or_else(|| Rejected::reason("log in first"))?.clone();
        Ok(Connected::new().id(format!("user:{}", user.name)).assigns(user))
    }
}

/// `inbox:NAME` is that user's alone.
struct Inbox;

impl Channel for Inbox {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        let owner = cx.topic().strip_prefix("inbox:");
        match cx.assigns::<User>() {
            Some(user) if owner == Some(&user.name) => Ok(Joined::new(())),
            _ => Err(Refused::reason("this is not your inbox")),
        }
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::error(json!({ "reason": "unknown event" })))
    }
}

/// `POST /notify/NAME`: any handler can publish.
async fn notify(
    State(app): State<App>,
    axum::extract::Path(name): axum::extract::Path<String>,
    text: String,
) -> Result<StatusCode, (StatusCode, String)> {
    let published = app.endpoint.broadcast(&format!("inbox:{name}"), "notice", json!({ "text": text })).await;
    published.map(|()| StatusCode::NO_CONTENT).map_err(|error| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string()))
}

fn mount() -> Mount {
    // Browsers send cookies with the sockets that pages of other sites open, too.
    Mount::new().origin(OriginPolicy::SameAsRequest).connect(LoggedIn).channel("inbox:*", Inbox)
}

pub(crate) async fn app() -> Result<Router, BoxError> {
    let endpoint = Endpoint::builder().mount("/socket", mount()).build().await?;
    let app = App { sessions: Sessions::default(), endpoint: endpoint.clone() };
    Ok(Router::new()
        .route("/", get("log in with POST /login, then connect to /socket"))
        .route("/login", post(log_in))
        .route("/notify/{name}", post(notify))
        .merge(endpoint.routes())
        .layer(middleware::from_fn_with_state(app.sessions.clone(), with_user))
        .with_state(app))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
    println!("session: listening on http://{}", listener.local_addr()?);
    Ok(axum::serve(listener, app().await?).await?)
}

#[cfg(all(test, feature = "testing"))]
mod tests {
    use fanfare::testing::TestEndpoint;

    use super::*;

    async fn test() -> TestEndpoint {
        TestEndpoint::start(Endpoint::builder().mount("/socket", mount())).await
    }

    #[tokio::test]
    async fn who_is_not_logged_in_cannot_connect() {
        assert_eq!(test().await.connect("/socket", json!({})).await.unwrap_err().status(), 403);
    }

    #[tokio::test]
    async fn an_inbox_is_its_owners_alone() {
        let test = test().await;
        // What the middleware would have put there.
        let request = Request::get("/socket?vsn=2.0.0").extension(User { name: "ada".into() }).body(()).unwrap();
        let ada = test.connect_with(request).await.unwrap();
        assert_eq!(ada.join("inbox:bob", json!({})).await.unwrap_err(), json!({ "reason": "this is not your inbox" }));
        let inbox = ada.join("inbox:ada", json!({})).await.unwrap();
        test.endpoint().broadcast("inbox:ada", "notice", json!({ "text": "a parcel" })).await.unwrap();
        inbox.assert_push("notice", json!({ "text": "a parcel" })).await;
    }
}
