//! Who may connect: whoever has an API key that is a good token. What is refused is said in the words of Supabase.

use std::collections::HashSet;
use std::sync::Arc;

use fanfare_proto::supabase::TokenFault;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response, StatusCode};
use parking_lot::Mutex;
use serde_json::json;

use crate::authority::{Bearer, Settings, TokenHash, hash};
use crate::body::Body;
use crate::connect::{Connect, ConnectRequest, Connected, Rejected};

/// Of how many topics a socket is remembered to have been told that no changes of a database are served.
const TOLD_MAX: usize = 1_000;

/// Asks for the key of each connection.
pub(super) struct Door(pub(super) Arc<Settings>);

/// What a connection has come with.
pub(super) struct KeyHolder {
    pub(super) bearer: Bearer,
    pub(super) token: TokenHash,
    /// The topics on which it was told what is not served here.
    told: Mutex<HashSet<u64>>,
}

impl KeyHolder {
    /// Whether this is to be told now, and not again on this topic: some clients take it for a broken channel and join again.
    pub(super) fn is_news(&self, topic: &str) -> bool {
        let mut told = self.told.lock();
        told.len() < TOLD_MAX && told.insert(hash(topic))
    }
}

impl Connect for Door {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        let header = request.header("x-api-key").filter(|key| !key.trim().is_empty());
        let key = header.or_else(|| request.params.str("apikey")).unwrap_or_default();
        match self.0.verify(key).await {
            Ok(bearer) => {
                let (token, told) = (TokenHash::of(key), Mutex::default());
                Ok(Connected::new().assigns(KeyHolder { bearer, token, told }))
            }
            Err(TokenFault::Unavailable) => Err(Rejected::unavailable()),
            Err(fault) => Err(Rejected::reason(fault.at_connect())),
        }
    }
}

/// The answer to a connection that is refused with a reason.
pub(super) fn refuse(reason: &str) -> Response<Body> {
    let mut response = Response::new(Body::from(json!({ "error": reason }).to_string()));
    *response.status_mut() = StatusCode::UNAUTHORIZED;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}
