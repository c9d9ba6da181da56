//! Users whom tokens name, signed with one secret: the endpoint that lets them in, and their tokens.

use serde_json::{Value, json};

const SECRET: &str = "a-secret-of-the-tests-that-has-sixty-four-bytes-0123456789abcdef";

/// What checks their tokens.
pub(crate) fn auth() -> String {
    format!("[auth.users]\nkind = 'jwt'\nalgorithms = 'HS256'\nsecret = '{SECRET}'\n")
}

/// An endpoint where sockets are named for them, with these channels.
pub(crate) fn endpoint_with(channels: &str) -> String {
    format!("[[endpoint]]\nauth = 'users'\nsocket_id = 'user:{{sub}}'\n{}{channels}", auth())
}

/// The token of a user.
pub(crate) fn token(sub: &str) -> String {
    signed(&json!({"sub": sub, "exp": 4_000_000_000_u64}))
}

pub(crate) fn signed(claims: &Value) -> String {
    let key = jsonwebtoken::EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&jsonwebtoken::Header::default(), claims, &key).unwrap()
}
