//! Who may connect to the oracle's mounts, and as whom.

use fanfare::{Body, Connect, ConnectRequest, Connected, Params, Rejected};
use serde_json::{Value, json};

/// What connect assigned. Plain fields: an idle socket of a load test should own little.
#[derive(Default)]
pub(crate) struct Assigns {
    pub(crate) user: Option<Box<str>>,
    /// What connect was told, and with which params.
    pub(crate) told: Option<Box<(String, Value)>>,
}

impl Assigns {
    pub(crate) fn to_json(&self) -> Value {
        let mut assigns = json!({});
        if let Some(user) = &self.user {
            assigns["user"] = (**user).into();
        }
        if let Some((info, params)) = self.told.as_deref() {
            assigns["info"] = info.as_str().into();
            assigns["params"] = params.clone();
        }
        assigns
    }
}

pub(crate) struct User;

impl Connect for User {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let token = request.params.str("token");
        match token {
            Some("bad") => return Err(Rejected::new()),
            Some("badreason") => return Err(Rejected::reason("unauthorized")),
            Some("rate") => return Err(Rejected::reason("rate 7")),
            Some("crash") => panic!("connect crashed"),
            _ => {}
        }
        let user = request.params.str("user").or(token).unwrap_or("anon");
        let connected = Connected::new().assigns(Assigns { user: Some(user.into()), told: None });
        Ok(if user == "anon" { connected } else { connected.id(format!("user_socket:{user}")) })
    }
}

pub(crate) struct Info;

impl Connect for Info {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let (peer, uri, headers) = (request.peer(), request.uri(), request.headers());
        let text = format!("peer: {peer:?}, uri: {uri:?}, headers: {headers:?}");
        let params = params(request.params);
        Ok(Connected::new().assigns(Assigns { user: Some("info".into()), told: Some(Box::new((text, params))) }))
    }
}

pub(crate) struct Auth;

impl Connect for Auth {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let token = request.auth_token().unwrap_or_default().to_owned();
        if token == "bad" {
            return Err(Rejected::new());
        }
        let (info, params) = (format!("auth_token: {token}"), params(request.params));
        Ok(Connected::new().assigns(Assigns { user: Some(token.into()), told: Some(Box::new((info, params))) }))
    }
}

pub(crate) struct Unassigned;

impl Connect for Unassigned {
    async fn connect(&self, _request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(Connected::new())
    }
}

fn params(params: Params) -> Value {
    params.into_json().to().unwrap_or_default()
}

pub(crate) fn on_reject(reason: &str) -> http::Response<Body> {
    let mut response = http::Response::new(Body::from("custom"));
    *response.status_mut() = http::StatusCode::FORBIDDEN;
    if reason.starts_with("rate") {
        *response.body_mut() = Body::from(reason.to_owned());
        *response.status_mut() = http::StatusCode::TOO_MANY_REQUESTS;
        response.headers_mut().insert("x-reason", http::HeaderValue::from_static("rate"));
    }
    response
}
