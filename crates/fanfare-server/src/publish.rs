//! A message from outside, in the form that the HTTP API and sources share, and what is checked before it is published.

use fanfare::{Json, Payload, check_topic};
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::reserved::is_reserved;

pub(crate) const EVENT_SIZE_MAX: usize = 255;

/// As it comes.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Message<'a> {
    pub(crate) topic: String,
    pub(crate) event: String,
    #[serde(borrow)]
    pub(crate) payload: Option<&'a RawValue>,
}

/// A message that may go out.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) topic: String,
    pub(crate) event: String,
    pub(crate) payload: Payload,
}

impl Message<'_> {
    /// Checks it. The protocol's own events are refused unless they are allowed.
    ///
    /// # Errors
    /// What is wrong, for whoever sent it.
    pub(crate) fn check(self, allow_reserved: bool) -> Result<Checked, String> {
        let Message { topic, event, payload } = self;
        check_topic(&topic).map_err(|error| error.to_string())?;
        if event.is_empty() || event.len() > EVENT_SIZE_MAX {
            return Err(format!("the event has {} bytes; it takes 1 to {EVENT_SIZE_MAX}", event.len()));
        }
        if is_reserved(&event) && !allow_reserved {
            let next = r#"send "allow_reserved": true beside it if you mean it"#;
            return Err(format!("the event {event:?} is the protocol's own; {next}"));
        }
        let payload: Payload = match payload {
            None => Payload::default(),
            Some(raw) => Json::parse(raw.get().to_owned()).map_err(|error| format!("payload: {error}"))?.into(),
        };
        if !payload.is_pushable() {
            return Err("the payload must be a JSON object".into());
        }
        Ok(Checked { topic, event, payload })
    }
}
