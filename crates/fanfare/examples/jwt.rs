//! JSON Web Tokens: a login that issues them, sockets that live as long as theirs, and a new token on an open socket.
//!
//!     SECRET=… cargo run --release --example jwt

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use fanfare::{
    BoxError, Channel, Connect, ConnectRequest, Connected, Context, Endpoint, Joined, Mount, Payload, Refused,
    Rejected, Reply, SocketInfo,
};
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// What a token says.
#[derive(Serialize, Deserialize)]
struct Claims {
    sub: String,
    /// Seconds since 1970.
    exp: u64,
}

/// Who a socket belongs to.
struct User {
    id: String,
}

/// Issues and checks tokens. Clones share the keys.
#[derive(Clone)]
pub(crate) struct Tokens(Arc<(EncodingKey, DecodingKey)>);

impl Tokens {
    pub(crate) fn new(secret: &[u8]) -> Self {
        Tokens(Arc::new((EncodingKey::from_secret(secret), DecodingKey::from_secret(secret))))
    }

    fn issue(&self, sub: String, lifetime: Duration) -> Result<String, BoxError> {
        let exp = (SystemTime::now() + lifetime).duration_since(UNIX_EPOCH)?.as_secs();
        Ok(encode(&Header::new(Algorithm::HS256), &Claims { sub, exp }, &self.0.0)?)
    }

    /// Why a token is not accepted is for the log; the client is told nothing.
    fn check(&self, token: &str) -> Result<Connected, Rejected> {
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = 0;
        let claims = decode::<Claims>(token, &self.0.1, &validation).map_err(|_| Rejected::new())?.claims;
        // The socket is closed when its token expires, unless the client sends a new one before.
        let expires_at = UNIX_EPOCH + Duration::from_secs(claims.exp);
        Ok(Connected::new().id(format!("user:{}", claims.sub)).expires_at(expires_at).assigns(User { id: claims.sub }))
    }
}

impl Connect for Tokens {
    const REFRESHES: bool = true;

    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        // `authToken` of the npm package `phoenix`, which stays out of URLs and so out of logs; else a param; else a header.
        let token = request.auth_token().or(request.params.str("token")).or(request.header_token());
        self.check(token.ok_or_else(|| Rejected::reason("a token is missing"))?)
    }

    /// The event `access_token` on any topic that is joined, with `{"access_token": "…"}`.
    async fn refresh(&self, _: &SocketInfo, token: String) -> Result<Connected, Rejected> {
        self.check(&token)
    }
}

/// `user:7` may be joined by user 7 only.
struct Account;

impl Channel for Account {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        match cx.assigns::<User>() {
            Some(user) if cx.topic().strip_prefix("user:") == Some(&user.id) => Ok(Joined::new(())),
            _ => Err(Refused::reason("unauthorized")),
        }
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::error(json!({ "reason": "unknown event" })))
    }
}

/// `POST /login` with a user's id as its body. Yours asks for a password.
async fn log_in(State(tokens): State<Tokens>, user: String) -> Result<String, StatusCode> {
    tokens.issue(user, Duration::from_secs(3600)).map_err(|_| StatusCode::INTERNAL_SERVER_ERROR)
}

pub(crate) async fn app(tokens: Tokens) -> Result<Router, BoxError> {
    let mount = Mount::new().auth_token(true).connect(tokens.clone()).channel("user:*", Account);
    let endpoint = Endpoint::builder().mount("/socket", mount).build().await?;
    Ok(Router::new().route("/login", post(log_in)).merge(endpoint.routes()).with_state(tokens))
}

#[tokio::main]
async fn main() -> Result<(), BoxError> {
    let secret = std::env::var("SECRET")
        .map_err(|_| "set SECRET to at least 32 random bytes, for example `openssl rand -hex 32`")?;
    let app = app(Tokens::new(secret.as_bytes())).await?;
    let listener = tokio::net::TcpListener::bind("127.0.0.1:4000").await?;
    println!("jwt: listening on http://{}", listener.local_addr()?);
    let app = app.into_make_service_with_connect_info::<SocketAddr>();
    Ok(axum::serve(listener, app).await?)
}
