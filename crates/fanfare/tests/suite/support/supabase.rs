//! A house for Supabase's clients: tokens that anybody can read, and rights that follow from the role.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fanfare::{Authority, Bearer, Endpoint, Mount, Policy, Retention, Rights, RightsRequest, Supabase, TokenFault};
use fanfare_proto::websocket::frame::Opcode;
use serde_json::{Value, json};

use super::client::{Client, Received};
use super::{Served, serve};

/// A token is `ROLE/NAME/END`, the end in milliseconds since 1970.
pub(crate) struct House;

pub(crate) fn token(role: &str, name: &str, good_for: Duration) -> String {
    let end = SystemTime::now().duration_since(UNIX_EPOCH).unwrap() + good_for;
    format!("{role}/{name}/{}", end.as_millis())
}

pub(crate) fn key() -> String {
    token("anon", "", Duration::from_secs(3_600))
}

pub(crate) fn user(name: &str) -> String {
    token("authenticated", name, Duration::from_secs(3_600))
}

impl Authority for House {
    async fn verify(&self, token: &str) -> Result<Bearer, TokenFault> {
        match token.split('/').collect::<Vec<_>>()[..] {
            ["forged", ..] => Err(TokenFault::Signature),
            ["panic", ..] => panic!("told to panic"),
            [role, _, end] => {
                let end = end.parse().map_err(|_| TokenFault::Fields)?;
                Ok(Bearer::new(role.to_owned()).expires_at(UNIX_EPOCH + Duration::from_millis(end)))
            }
            _ => Err(TokenFault::Malformed),
        }
    }

    async fn rights(&self, request: RightsRequest<'_>) -> Rights {
        let role = request.bearer.who::<String>().unwrap();
        match (request.is_private, role.as_str()) {
            (false, _) | (_, "service_role") => Rights::ALL,
            (true, "authenticated") if request.presence_key != Some("somebody else") => Rights::ALL,
            (true, "authenticated") => Rights { presence_write: false, ..Rights::ALL },
            (true, "listener") => Rights { broadcast_read: true, ..Rights::NONE },
            (true, "looker") => Rights { presence_read: true, ..Rights::NONE },
            (true, "reader") => Rights { broadcast_read: true, presence_read: true, ..Rights::NONE },
            (true, "writer") => Rights { broadcast_write: true, ..Rights::NONE },
            _ => Rights::NONE,
        }
    }
}

pub(crate) async fn realtime() -> Served {
    realtime_with(Supabase::new(House)).await
}

/// At both paths, where private topics named `kept:…` keep their messages.
pub(crate) async fn realtime_with(options: Supabase) -> Served {
    let retention = Retention { messages_max: 100, bytes_max: 1_000_000, age_max_ms: 3_600_000 };
    let builder = Endpoint::builder().shards(2).policy("private-realtime:kept:*", Policy::new().history(retention));
    let beside = Mount::supabase(Supabase::new(House));
    serve(builder.mount("/realtime/v1", Mount::supabase(options)).mount("/socket", beside)).await
}

impl Served {
    /// A client of a version with a key of its own.
    pub(crate) async fn supabase(&self, vsn: &str) -> Client {
        let target = format!("/realtime/v1/websocket?apikey={}&vsn={vsn}", key());
        self.client_at(&target).await
    }
}

/// What a join with a private channel, a token and this configuration beside has.
pub(crate) fn private(token: &str, config: Value) -> Value {
    let mut config = config;
    config["private"] = true.into();
    json!({ "config": config, "access_token": token })
}

/// A broadcast as newer clients send it.
pub(crate) fn kind_3(msg_ref: &str, topic: &str, event: &str, encoding: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![3];
    frame.extend([topic, msg_ref, topic, event, ""].map(|part| part.len() as u8));
    frame.push(encoding);
    for part in [topic, msg_ref, topic, event] {
        frame.extend_from_slice(part.as_bytes());
    }
    frame.extend_from_slice(payload);
    frame
}

impl Client {
    /// Joins, and expects `ok`.
    pub(crate) async fn enter(&mut self, topic: &str, params: Value) {
        let reply = self.try_join(topic, params).await;
        assert_eq!(reply, json!({"status": "ok", "response": {"postgres_changes": []}}), "{topic}");
    }

    /// Sends a broadcast as newer clients do.
    pub(crate) async fn say(&mut self, topic: &str, event: &str, payload: &Value) {
        let frame = kind_3("s", topic, event, 1, payload.to_string().as_bytes());
        self.send(Opcode::Binary, &frame, true).await;
    }

    /// The next frame, which must be a broadcast of kind 4: its topic, event, metadata and payload.
    pub(crate) async fn broadcast(&mut self) -> (String, String, Value, Value) {
        let Received::Binary(frame) = self.receive().await else { panic!("a text frame, or none") };
        let [4, topic, event, meta, encoding, rest @ ..] = &frame[..] else { panic!("{frame:?}") };
        let (topic, rest) = rest.split_at(usize::from(*topic));
        let (event, rest) = rest.split_at(usize::from(*event));
        let (meta, payload) = rest.split_at(usize::from(*meta));
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        let meta = if meta.is_empty() { Value::Null } else { serde_json::from_slice(meta).unwrap() };
        let payload = match encoding {
            1 => serde_json::from_slice(payload).unwrap(),
            0 => json!(payload),
            other => panic!("encoding {other}"),
        };
        (text(topic), text(event), meta, payload)
    }

    /// Expects this broadcast next.
    pub(crate) async fn hears(&mut self, topic: &str, event: &str, payload: Value) {
        let heard = self.broadcast().await;
        assert_eq!(heard, (topic.to_owned(), event.to_owned(), Value::Null, payload));
    }

    /// The next `system` message.
    pub(crate) async fn system(&mut self, topic: &str) -> Value {
        let frame = self.frame().await;
        assert_eq!(
            (&frame[0], &frame[1], &frame[2], &frame[3]),
            (&json!(topic), &json!(null), &json!(topic), &json!("system"))
        );
        frame[4].clone()
    }
}
