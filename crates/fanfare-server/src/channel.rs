//! A `[[channel]]` of the configuration as a channel of the engine.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use fanfare::{BoxError, Channel, Context, Flow, Joined, Pattern, Payload, Policy, Presence, Refused, Reply, Route};
use fanfare_proto::event::Reserved;
use serde_json::{Map, Value, json};

use crate::config::channel::{Audience, Channel as Settings, EventName, Presence as Tracking, PresenceKey};
use crate::config::history::Kept;
use crate::config::rule::Rule;
use crate::config::section::listed;
use crate::config::value::{Count, Size};
use crate::contract::{Contract, Misfit};
use crate::hook::{self, Answer, Carried, Hook, Hooks, Question};
use crate::identity::Identity;

/// The longest name that a client may give itself in the presence, in bytes.
const NAME_SIZE_MAX: usize = 255;

/// What a member that may not publish is told.
const NOT_ALLOWED: &str = "not allowed to publish";

/// What is said where a hook has no answer.
const UNAVAILABLE: &str = "unavailable";

/// Does what the configuration says. Clones share it, one for each pattern.
#[derive(Debug, Clone)]
pub(crate) struct Declared(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    /// Exchanged when the configuration is read again.
    settled: ArcSwap<Settled>,
    /// Who is in its topics, if that is kept. Those of all mounts share it.
    presence: Option<Presence>,
}

/// What it goes by.
#[derive(Debug)]
pub(crate) struct Settled {
    settings: Arc<Settings>,
    /// The configuration has it no more. Clients that have connected before may still ask for it.
    is_gone: bool,
    /// Those of the rules of `join`, and of `publish`.
    join_hooks: Vec<Arc<Hook>>,
    publish_hooks: Vec<Arc<Hook>>,
    /// What members are told as the node that they are on, if they are.
    node: Option<Arc<str>>,
    contract: Option<Arc<Contract>>,
}

/// Comes after the reply to the join, so that `presence_state` does too.
pub(crate) struct Enter {
    key: String,
}

impl Declared {
    /// Goes by this at first.
    pub(crate) fn new(settled: Settled) -> Self {
        let presence = presence(&settled.settings);
        Self(Arc::new(Shared { settled: ArcSwap::from_pointee(settled), presence }))
    }

    /// Goes by this from now on: the next join and the next message.
    pub(crate) fn settle(&self, settled: Settled) {
        self.0.settled.store(Arc::new(settled));
    }

    /// Lets nobody in any more, and nobody publish.
    pub(crate) fn end(&self) {
        let settings = self.settled().settings.clone();
        self.settle(Settled {
            settings,
            is_gone: true,
            join_hooks: Vec::new(),
            publish_hooks: Vec::new(),
            contract: None,
            node: None,
        });
    }

    /// Whether it serves the same patterns as this.
    pub(crate) fn is_of(&self, settings: &Settings) -> bool {
        self.settled().settings.patterns().eq(settings.patterns())
    }

    fn settled(&self) -> Arc<Settled> {
        self.0.settled.load_full()
    }

    /// What a mount does with the topics of one of its patterns.
    pub(crate) fn route(&self, pattern: &Pattern) -> Route {
        let route = Route::new(&pattern.to_string(), self.clone());
        match &self.0.presence {
            Some(presence) => route.presence(presence.clone()),
            None => route,
        }
    }

    /// Whether a mount has a route to it.
    pub(crate) fn is_used(&self) -> bool {
        Arc::strong_count(&self.0) > 1
    }

    /// Whether the two are one.
    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Settled {
    /// `settings` are complete, and name hooks that exist; `node` is what this node of a cluster is called.
    pub(crate) fn new(
        settings: Settings,
        hooks: &Hooks,
        contract: Option<Arc<Contract>>,
        node: Option<&Arc<str>>,
    ) -> Self {
        let of = |policy: &str| -> Vec<Arc<Hook>> {
            let rules = settings.rules().filter(|(key, _)| *key == policy);
            rules.filter_map(|(_, rule)| hooks.get(rule.hook()?).cloned()).collect()
        };
        let (join_hooks, publish_hooks) = (of("join"), of("publish"));
        let node = node.filter(|_| settings.show_node).cloned();
        Self { settings: Arc::new(settings), is_gone: false, join_hooks, publish_hooks, contract, node }
    }

    /// Whether one of the rules of a policy allows a socket to act on a topic, without a hook being asked.
    fn allows(&self, policy: &str, identity: Option<&Identity>, topic: &str) -> bool {
        let suffix = self.settings.patterns().find_map(|pattern| pattern.suffix(topic)).unwrap_or_default();
        let mut rules = self.settings.rules().filter(|(key, _)| *key == policy);
        !self.is_gone && rules.any(|(_, rule): (_, &Rule)| rule.allows(identity, suffix))
    }

    /// Why a policy does not allow a socket to act on a topic, for the log.
    fn why_not(&self, policy: &str, identity: Option<&Identity>, topic: &str) -> String {
        let rules = self.settings.rules().filter(|(key, _)| *key == policy);
        let rules: Vec<_> = rules.map(|(_, rule)| format!("\"{rule}\"")).collect();
        let pattern = self.settings.patterns().find(|pattern| pattern.matches(topic)).map(ToString::to_string);
        let (pattern, rules) = (pattern.unwrap_or_default(), rules.join(", "));
        let shown = if identity.is_some() { "shown a credential that is not enough" } else { "shown no credential" };
        format!("the [[channel]] \"{pattern}\" has {policy} = [{rules}], and the client has {shown}")
    }

    /// What a member is called in the presence.
    fn presence_key(&self, identity: Option<&Identity>, params: &Payload) -> Result<String, Refused> {
        let params = || match params {
            Payload::Json(json) => json.to::<Map<String, Value>>().ok(),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        let key = self.settings.presence_key.0.iter().find_map(|key| match key {
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
            None => Err("no random bytes for a name".into()),
        }
    }

    /// Asks the hooks whether a socket may join: what it is answered with, if they say something of it.
    async fn ask_to_join(&self, cx: &Context<Enter>, params: &Payload) -> Result<Option<Payload>, Refused> {
        let claims = cx.assigns::<Identity>().map(Identity::claims);
        let question = Question::Join { topic: cx.topic(), claims, payload: Carried::new(params) };
        match hook::ask_any(&self.join_hooks, &question).await {
            Ok(answer) => match &*answer {
                Answer::Yes { reply, .. } => Ok(reply.clone()),
                Answer::No { reason } => {
                    let refused = Refused::reason(reason.as_deref().unwrap_or(&self.settings.refused));
                    Err(refused.because(said_no("join", reason.as_deref())))
                }
            },
            Err(hook::Unavailable) => Err(Refused::reason(UNAVAILABLE).because("the hook of `join` has no answer")),
        }
    }

    /// Asks the hooks whether a member may publish: what is to be published, or why not.
    async fn ask_to_publish(
        &self,
        cx: &Context<Enter>,
        event: &str,
        payload: Payload,
    ) -> Result<(Option<String>, Payload), Objection> {
        let claims = cx.assigns::<Identity>().map(Identity::claims);
        let question = Question::Message { topic: cx.topic(), event, claims, payload: Carried::new(&payload) };
        match hook::ask_any(&self.publish_hooks, &question).await {
            Ok(answer) => match &*answer {
                Answer::Yes { event, payload: changed, .. } => {
                    let changed = changed.clone();
                    Ok((event.clone(), changed.unwrap_or(payload)))
                }
                Answer::No { reason } => Err(Objection {
                    told: reason.clone().unwrap_or_else(|| NOT_ALLOWED.into()),
                    because: said_no("publish", reason.as_deref()),
                }),
            },
            Err(hook::Unavailable) => {
                Err(Objection { told: UNAVAILABLE.into(), because: "the hook of `publish` has no answer".into() })
            }
        }
    }

    /// Whether a member may publish without a hook's consent. Not kept from the join: the credential may have been renewed
    /// since.
    fn may_publish(&self, cx: &Context<Enter>) -> bool {
        self.allows("publish", cx.assigns(), cx.topic())
    }

    /// Why a member may not publish this, if so, as far as is known without a hook.
    fn objection(&self, may_publish: bool, cx: &Context<Enter>, event: &str, payload: &Payload) -> Option<Objection> {
        if !may_publish && self.publish_hooks.is_empty() {
            let because = self.why_not("publish", cx.assigns(), cx.topic());
            return Some(Objection { told: NOT_ALLOWED.into(), because });
        }
        // On a topic that is somebody's id, a disconnect would close sockets of others.
        if Reserved::of(event).is_some() {
            let because = format!("the event {event:.64?} is reserved: clients cannot publish it");
            return Some(Objection { told: "the event is reserved".into(), because });
        }
        if let Some(events) = &self.settings.events
            && !events.0.iter().any(|EventName(name)| name == event)
        {
            let allowed: Vec<_> = events.0.iter().map(|EventName(name)| name.as_str()).collect();
            let allowed = listed(allowed.into_iter());
            let because = format!("the event {event:.64?} is not among the `events` of the [[channel]]: {allowed}");
            return Some(Objection { told: "unknown event".into(), because });
        }
        if let Some(size_max) = self.settings.payload_size_max
            && payload.size() as u64 > size_max.0
        {
            let told = format!("the payload has {} bytes, more than {}", payload.size(), size_max.0);
            let because = format!("{told}, the payload_size_max of the [[channel]]");
            return Some(Objection { told, because });
        }
        (!payload.is_pushable()).then(|| Objection::plain("the payload must be an object".into()))
    }
}

impl Channel for Declared {
    type State = ();
    type Params = Payload;
    type Info = Enter;

    async fn join(&self, cx: &mut Context<Enter>, params: Payload) -> Result<Joined<()>, Refused> {
        let settled = self.settled();
        let identity = cx.assigns::<Identity>();
        let may_join = settled.allows("join", identity, cx.topic());
        if settled.is_gone {
            return Err(
                Refused::reason("unmatched topic").because("the configuration has no [[channel]] for it any more")
            );
        }
        if !may_join && settled.join_hooks.is_empty() {
            let because = settled.why_not("join", identity, cx.topic());
            return Err(Refused::reason(&settled.settings.refused).because(because));
        }
        if let Some(contract) = &settled.contract {
            contract.check_join(&params).await?;
        }
        let reply = if may_join { None } else { settled.ask_to_join(cx, &params).await? };
        let identity = cx.assigns::<Identity>();
        if self.0.presence.is_some() {
            let key = settled.presence_key(identity, &params)?;
            cx.send(Enter { key })?;
        }
        let mut joined = Joined::new(());
        if let Some(messages) = settled.settings.catch_up {
            joined = joined.catch_up(messages.0 as usize);
        }
        Ok(match (reply, &settled.node) {
            (Some(reply), _) => joined.reply(reply),
            (None, Some(node)) => joined.reply(json!({ "node": &**node })),
            (None, None) => joined,
        })
    }

    async fn handle_in(
        &self,
        _: &mut (),
        cx: &mut Context<Enter>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        let (may_publish, audience, replies, contract) = {
            let settled = self.0.settled.load();
            let may_publish = settled.may_publish(cx);
            if let Some(objection) = settled.objection(may_publish, cx, event, &payload) {
                return Ok(objection.into());
            }
            (may_publish, settled.settings.broadcast, settled.settings.reply, settled.contract.clone())
        };
        if let Err(misfit) = check(contract.as_deref(), event, &payload).await {
            return Ok(misfit.into());
        }
        let (changed, payload) = match may_publish {
            true => (None, payload),
            false => match self.settled().ask_to_publish(cx, event, payload).await {
                Ok(asked) => asked,
                Err(objection) => return Ok(objection.into()),
            },
        };
        let event = changed.as_deref().unwrap_or(event);
        // What a hook has made of it is to fit as well.
        if !may_publish && let Err(misfit) = check(contract.as_deref(), event, &payload).await {
            return Ok(misfit.into());
        }
        let published = match audience {
            Audience::All => cx.broadcast(event, payload).await,
            Audience::Others => cx.broadcast_from(event, payload).await,
        };
        match published {
            Err(error) if error.is_invalid() => Ok(Objection::plain(error.to_string()).into()),
            Err(error) => Err(error.into()),
            Ok(()) if replies => Ok(Reply::empty()),
            Ok(()) => Ok(Reply::none()),
        }
    }

    async fn handle_info(&self, _: &mut (), cx: &mut Context<Enter>, enter: Enter) -> Result<Flow, BoxError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Seconds as a string: the form in which existing clients get it from Phoenix's own guide.
        let mut meta = json!({ "online_at": now.as_secs().to_string() });
        if let Some(node) = &self.settled().node {
            meta["node"] = json!(&**node);
        }
        match cx.track(&enter.key, meta).await {
            // The engine has counted it, and says so in its log: the member is told who else is there.
            Err(error) if error.is_unavailable() => {}
            tracked => drop(tracked?),
        }
        cx.push_presence_state().await?;
        Ok(Flow::Continue)
    }
}

/// Why a message is not published.
struct Objection {
    /// What its sender is told.
    told: String,
    /// What the log says.
    because: String,
}

impl Objection {
    /// The same for both.
    fn plain(reason: String) -> Self {
        Self { told: reason.clone(), because: reason }
    }
}

impl From<Objection> for Reply {
    fn from(objection: Objection) -> Self {
        Reply::error(json!({ "reason": objection.told })).because(objection.because)
    }
}

/// A hook's no, for the log.
fn said_no(policy: &str, reason: Option<&str>) -> String {
    match reason {
        Some(reason) => format!("the hook of `{policy}` says no: {reason}"),
        None => format!("the hook of `{policy}` says no, without a reason"),
    }
}

/// What holds for the topics of a channel.
pub(crate) fn policy(settings: &Settings) -> Policy {
    let policy = Policy::new().slow(settings.slow()).trace_clients(settings.trace_clients);
    let policy = if settings.delta { policy.delta(settings.delta_key.as_deref()) } else { policy };
    match settings.history {
        Some(Kept(retention)) => policy.history(retention),
        None => policy,
    }
}

/// Whether a payload fits what a channel says of its event.
async fn check(contract: Option<&Contract>, event: &str, payload: &Payload) -> Result<(), Misfit> {
    match contract {
        Some(contract) => contract.check_event(event, payload).await,
        None => Ok(()),
    }
}

/// Where it is kept who is in a channel's topics.
fn presence(settings: &Settings) -> Option<Presence> {
    let mut presence = match settings.presence {
        Some(Tracking::Roster) => Presence::new(),
        Some(Tracking::Count) => Presence::new().counts_only(),
        Some(Tracking::Off) | None => return None,
    };
    if let Some(Count(members)) = settings.presence_members_max {
        presence = presence.members_max(usize::try_from(members).unwrap_or(usize::MAX));
    }
    if let Some(Size(bytes)) = settings.presence_bytes_max {
        presence = presence.bytes_max(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    Some(presence)
}

fn made_up() -> Option<String> {
    getrandom::u64().ok().map(|random| format!("guest-{random:016x}"))
}
