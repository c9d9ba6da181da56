//! What a member shows of itself to the others, by `track` and `untrack`.

use std::time::Duration;

use fanfare_proto::payload::{JsonText, Payload};
use fanfare_proto::supabase::{is_harmful_key, told};
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};

use super::member::Later;
use crate::authority::hash;
use crate::channel::{Context, Refused, Reply};
use crate::error::Error;
use crate::event::Event;
use crate::fact::Kind;

/// The longest key, in bytes.
const KEY_SIZE_MAX: usize = 255;

/// What a member may show of itself, in bytes: all others have to take it.
const META_SIZE_MAX: usize = 64_000;

/// A member that shows itself more often than this within the time below is shown once more at its end, with what it has said
/// last.
const SHOWN_MAX: u32 = 5;
const WINDOW: Duration = Duration::from_secs(1);

/// A member as others see it.
pub(super) struct Shown {
    key: Box<str>,
    /// What is shown, if something is.
    now: Option<u64>,
    /// What is to be shown at the end of the window.
    next: Option<Map<String, Value>>,
    /// When the window has begun, and how often the member was shown in it.
    window_ms: u64,
    count: u32,
}

#[derive(Deserialize)]
struct Message<'a> {
    event: String,
    #[serde(borrow)]
    payload: Option<&'a RawValue>,
}

impl Shown {
    /// A member with this key, or one that is made up: for nobody in particular, and for a name that breaks clients.
    pub(super) fn new(key: &str) -> Result<Self, Refused> {
        if key.len() > KEY_SIZE_MAX {
            let size = key.len();
            return Err(Refused::reason(&format!("the presence key has {size} bytes, more than {KEY_SIZE_MAX}")));
        }
        let key: Box<str> = match key.is_empty() || is_harmful_key(key) {
            true => made_up()?.into(),
            false => key.into(),
        };
        Ok(Shown { key, now: None, next: None, window_ms: 0, count: 0 })
    }

    pub(super) fn key(&self) -> &str {
        &self.key
    }

    /// A message of the member about itself.
    pub(super) async fn heard(
        &mut self,
        cx: &mut Context<Later>,
        is_allowed: bool,
        payload: &Payload,
    ) -> Result<Reply, Error> {
        let text = match payload {
            Payload::Json(json) => json.as_str(),
            Payload::Text(_) | Payload::Binary(_) => "",
        };
        let Ok(message) = serde_json::from_str::<Message<'_>>(text) else {
            return Ok(refused("a presence message is an object with `event`, which is track or untrack"));
        };
        if message.event.eq_ignore_ascii_case("untrack") {
            self.hide(cx).await;
            return Ok(Reply::empty());
        }
        if !message.event.eq_ignore_ascii_case("track") {
            return Ok(refused("a presence message is an object with `event`, which is track or untrack"));
        }
        if !is_allowed {
            cx.tell(
                (Kind::PushRefused, Event::NotAllowed),
                format_args!("to be present in the topic is not among the member's rights"),
            );
            return Ok(Reply::error(Payload::Json(JsonText::empty_object())).told());
        }
        let raw = message.payload.map_or("null", RawValue::get);
        if raw.len() > META_SIZE_MAX {
            let size = raw.len();
            let reason = format!("Track message size exceeded: it has {size} bytes, more than {META_SIZE_MAX}");
            cx.tell((Kind::PushRefused, Event::PayloadTooLarge), format_args!("{reason}"));
            return Ok(refused(&reason).told());
        }
        let Ok(meta) = serde_json::from_str::<Map<String, Value>>(raw) else { return Ok(refused(told::BAD_TRACK)) };
        if self.next.is_none() && self.now == Some(hash(raw)) {
            return Ok(Reply::empty());
        }
        let now_ms = cx.endpoint().clock().now_ms();
        let window_ms = WINDOW.as_millis() as u64;
        if now_ms.saturating_sub(self.window_ms) >= window_ms || self.count == 0 {
            (self.window_ms, self.count) = (now_ms, 0);
        }
        self.count += 1;
        if self.count > SHOWN_MAX {
            if self.next.replace(meta).is_none() {
                let rest_ms = (self.window_ms + window_ms).saturating_sub(now_ms);
                cx.send_after(Duration::from_millis(rest_ms), Later::Show);
            }
            return Ok(Reply::empty());
        }
        match self.show(cx, meta).await {
            Ok(()) => {
                self.now = Some(hash(raw));
                Ok(Reply::empty())
            }
            Err(error) if error.is_invalid() || error.is_unavailable() => Ok(refused(&error.to_string())),
            Err(error) => Err(error),
        }
    }

    /// Shows what was said too often to be shown at once.
    pub(super) async fn show_again(&mut self, cx: &mut Context<Later>) -> Result<(), Error> {
        let Some(meta) = self.next.take() else { return Ok(()) };
        match self.show(cx, meta).await {
            // The topic is full, which was counted: the member stays as it was.
            Err(error) if error.is_unavailable() => Ok(()),
            shown => shown,
        }
    }

    /// Shows it no longer.
    pub(super) async fn hide(&mut self, cx: &mut Context<Later>) {
        self.next = None;
        if self.now.take().is_some() {
            cx.untrack(&self.key).await;
        }
    }

    async fn show(&mut self, cx: &mut Context<Later>, meta: Map<String, Value>) -> Result<(), Error> {
        match self.now {
            Some(_) => cx.update(&self.key, meta).await?,
            None => cx.track(&self.key, meta).await?,
        };
        // Not known as text: the same again is another one.
        self.now = Some(0);
        Ok(())
    }
}

fn refused(reason: &str) -> Reply {
    Reply::error(json!({ "reason": reason })).because(reason)
}

/// A random UUID.
fn made_up() -> Result<String, Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)
        .map_err(|error| Error::failed(format!("no random bytes for a presence key: {error}")))?;
    bytes[6] = bytes[6] & 0x0f | 0x40;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    Ok([&hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..]].join("-"))
}
