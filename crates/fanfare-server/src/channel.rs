//! A `[[channel]]` of the configuration as a channel of the engine.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use fanfare::{Channel, Context, Error, Flow, Joined, Pattern, Payload, Refused, Reply};
use serde_json::{Map, Value, json};

use crate::config::channel::{Audience, Channel as Settings, EventName, PresenceKey, Slow};
use crate::identity::Identity;
use crate::policy::Rule;
use crate::reserved::is_reserved;

/// The longest name that a client may give itself in the presence, in bytes.
const NAME_SIZE_MAX: usize = 255;

/// Does what the configuration says. Clones share it, one for each pattern.
#[derive(Debug, Clone)]
pub(crate) struct Declared(Arc<Settings>);

/// What is known of a member for as long as it is one.
pub(crate) struct Member {
    may_publish: bool,
}

/// Comes after the reply to the join, so that `presence_state` does too.
pub(crate) struct Enter {
    key: String,
}

impl Declared {
    /// `settings` are complete.
    pub(crate) fn new(settings: Settings) -> Self {
        // What the engine does with slow readers by itself. A second choice will not compile until it is heeded.
        let Slow::Disconnect = settings.slow;
        Self(Arc::new(settings))
    }

    /// The patterns that it serves.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.0.patterns()
    }

    /// Whether one of the rules of a policy allows a socket to act on a topic.
    fn allows(&self, policy: &str, identity: Option<&Identity>, topic: &str) -> bool {
        let suffix = self.patterns().find_map(|pattern| pattern.suffix(topic)).unwrap_or_default();
        let mut rules = self.0.rules().filter(|(key, _)| *key == policy);
        rules.any(|(_, rule): (_, &Rule)| rule.allows(identity, suffix))
    }

    /// What a member is called in the presence.
    fn presence_key(&self, identity: Option<&Identity>, params: &Payload) -> Result<String, Refused> {
        let params = || match params {
            Payload::Json(json) => json.to::<Map<String, Value>>().ok(),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        let key = self.0.presence_key.0.iter().find_map(|key| match key {
            PresenceKey::Claim(name) => identity?.text(name),
            PresenceKey::Param(name) => Some(params()?.get(name)?.as_str()?.to_owned()).filter(|name| !name.is_empty()),
            PresenceKey::Unique => made_up(),
        });
        match key.or_else(made_up) {
            Some(key) if key.len() <= NAME_SIZE_MAX => Ok(key),
            Some(key) => {
                let size = key.len();
                Err(Refused::reason(&format!("the name has {size} bytes, more than {NAME_SIZE_MAX}")))
            }
            None => Err(Error::new("no random bytes for a name").into()),
        }
    }

    /// Why a member may not publish this, if so.
    fn objection(&self, member: &Member, event: &str, payload: &Payload) -> Option<String> {
        if !member.may_publish {
            return Some("not allowed to publish".into());
        }
        if is_reserved(event) {
            return Some("the event is reserved".into());
        }
        if let Some(events) = &self.0.events
            && !events.0.iter().any(|EventName(name)| name == event)
        {
            return Some("unknown event".into());
        }
        if let Some(size_max) = self.0.payload_size_max
            && payload.size() as u64 > size_max.0
        {
            return Some(format!("the payload has {} bytes, more than {}", payload.size(), size_max.0));
        }
        (!payload.is_pushable()).then(|| "the payload must be an object".into())
    }
}

impl Channel for Declared {
    type State = Member;
    type Params = Payload;
    type Info = Enter;

    async fn join(&self, cx: &mut Context, params: Payload) -> Result<Joined<Member>, Refused> {
        let identity = cx.assigns::<Identity>();
        if !self.allows("join", identity, cx.topic()) {
            return Err(Refused::reason(&self.0.refused));
        }
        let may_publish = self.allows("publish", identity, cx.topic());
        if self.0.presence == Some(true) {
            let key = self.presence_key(identity, &params)?;
            cx.send(Enter { key });
        }
        Ok(Joined::new(Member { may_publish }))
    }

    async fn handle_in(
        &self,
        member: &mut Member,
        cx: &mut Context,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, Error> {
        if let Some(reason) = self.objection(member, event, &payload) {
            return Ok(Reply::error(json!({ "reason": reason })));
        }
        let published = match self.0.broadcast {
            Audience::All => cx.broadcast(event, payload).await,
            Audience::Others => cx.broadcast_from(event, payload).await,
        };
        match published {
            Err(error) if error.is_invalid() => Ok(Reply::error(json!({ "reason": error.to_string() }))),
            Err(error) => Err(error),
            Ok(()) if self.0.reply => Ok(Reply::empty()),
            Ok(()) => Ok(Reply::none()),
        }
    }

    async fn handle_info(&self, _: &mut Member, cx: &mut Context, enter: Enter) -> Result<Flow, Error> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Seconds as a string: the form in which existing clients get it from Phoenix's own guide.
        cx.track(&enter.key, json!({ "online_at": now.as_secs().to_string() })).await?;
        cx.push_presence_state().await?;
        Ok(Flow::Continue)
    }
}

fn made_up() -> Option<String> {
    getrandom::u64().ok().map(|random| format!("guest-{random:016x}"))
}
