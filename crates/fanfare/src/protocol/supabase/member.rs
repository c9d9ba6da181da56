//! One membership of a channel: how it is joined, what its member sends, and what becomes of it when its token changes or ends.

use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::{Position, Since};
use fanfare_proto::supabase::{BROADCAST, JoinConfig, ReplayWish, channel_name, is_private, system, told};
use serde::Deserialize;
use serde_json::json;

use super::changes::{LOOK_EVERY, Watch};
use super::door::KeyHolder;
use super::presence::Shown;
use crate::authority::{Bearer, Rights, RightsRequest, Settings, TokenFault, TokenHash};
use crate::channel::{Channel, Context, Flow, Joined, Mutes, Refused, Reply, Stop};
use crate::error::{BoxError, Error};
use crate::event::Event;
use crate::fact::Kind;
use crate::message::Broadcast;

/// The channel of all topics.
pub(super) struct Members(pub(super) Arc<Settings>);

/// What is kept of one membership.
pub(super) struct Member {
    bearer: Bearer,
    token: TokenHash,
    rights: Rights,
    /// Broadcasts are answered.
    acks: bool,
    /// The member gets its own broadcasts.
    own: bool,
    shown: Shown,
    watch: Watch,
    /// How often the token has changed: what was to be done when an older one ended is not done.
    generation: u32,
}

/// What a member has yet to be told or to do.
pub(super) enum Later {
    /// It was answered.
    Begin { wants_presence: bool, wants_replication: bool, replays: bool },
    /// Whether changes of the database come may be known now.
    Changes,
    /// The same of what its functions send.
    Replication,
    /// The token has ended, if it has not changed since.
    Expired(u32),
    /// What was shown too often may be shown again.
    Show,
}

#[derive(Deserialize)]
struct AccessToken {
    access_token: Option<String>,
}

/// Whether a token stands for the one that the connection has come with.
fn is_key(token: &str) -> bool {
    token.starts_with("sb_")
}

impl Members {
    async fn rights(&self, cx: &Context<Later>, bearer: &Bearer, key: &str) -> Rights {
        let topic = cx.topic();
        let (name, is_private) = (channel_name(topic), is_private(topic));
        let request = RightsRequest { topic, name, is_private, bearer, presence_key: Some(key) };
        self.0.rights(request).await
    }

    /// From where on a join gets what was kept.
    async fn since(&self, cx: &Context<Later>, wish: Option<ReplayWish>) -> Result<Option<Since>, Refused> {
        let (ms, limit) = match wish {
            None => return Ok(None),
            Some(_) if !is_private(cx.topic()) => return Err(Refused::reason(told::NO_PUBLIC_REPLAY)),
            Some(ReplayWish::Invalid) => return Err(Refused::reason(told::BAD_REPLAY)),
            Some(ReplayWish::Since { ms, limit }) => (ms, limit),
        };
        let replay_max = self.0.replay_max.max(1);
        let limit = limit.map_or(replay_max, |limit| usize::try_from(limit).unwrap_or(replay_max)).clamp(1, replay_max);
        let replay = match cx.history(limit).await {
            Ok(replay) => replay,
            // The topic keeps nothing, which is not the client's fault.
            Err(error) if error.is_invalid() => return Ok(None),
            Err(_) => return Err(Refused::reason(told::NO_REPLAY)),
        };
        let age_max_ms = now_ms().saturating_sub(ms);
        let is_wanted = |age_ms: u64| i64::try_from(age_ms).is_ok_and(|age_ms| age_ms <= age_max_ms);
        let first = replay.messages().iter().find(|message| is_wanted(message.age_ms));
        Ok(first.map(|first| {
            let Position { epoch, offset } = first.position();
            Since::Position(Position { epoch, offset: offset.saturating_sub(1) })
        }))
    }

    async fn broadcast(
        &self,
        member: &Member,
        cx: &mut Context<Later>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, Error> {
        let refused = |cx: &Context<Later>, reason: &str| match cx.msg_ref.is_null() {
            true => Reply::none(),
            false => Reply::error(json!({ "reason": reason })),
        };
        if !member.rights.broadcast_write {
            cx.tell(
                (Kind::PushRefused, Event::NotAllowed),
                format_args!("broadcasts to the topic are not among the member's rights"),
            );
            return Ok(refused(cx, &told::may_not_write(channel_name(cx.topic()))).told());
        }
        let (size, size_max) = (payload.size(), self.0.payload_size_max);
        if size > size_max {
            cx.tell(
                (Kind::PushRefused, Event::PayloadTooLarge),
                format_args!(
                    "the payload of a broadcast has {size} bytes, more than {size_max}: send less, or in several broadcasts"
                ),
            );
            return Ok(refused(cx, told::TOO_LARGE).told());
        }
        let published = match member.own {
            true => cx.broadcast(event, payload).await,
            false => cx.broadcast_from(event, payload).await,
        };
        match published {
            Ok(()) if member.acks && !cx.msg_ref.is_null() => Ok(Reply::empty()),
            Ok(()) => Ok(Reply::none()),
            Err(error) if error.is_invalid() => {
                let reason = error.to_string();
                if cx.msg_ref.is_null() {
                    cx.tell((Kind::PushRefused, Event::PushRefused), format_args!("{reason}"));
                }
                Ok(refused(cx, &reason).because(reason))
            }
            Err(error) => Err(error),
        }
    }

    /// A token takes the place of the one before. It is never answered.
    async fn renew(&self, member: &mut Member, cx: &mut Context<Later>, payload: &Payload) -> Result<Reply, Error> {
        let Payload::Json(json) = payload else { return Ok(Reply::none()) };
        let Ok(AccessToken { access_token: Some(token) }) = json.to() else { return Ok(Reply::none()) };
        if token.is_empty() || is_key(&token) || TokenHash::of(&token) == member.token {
            return Ok(Reply::none());
        }
        let bearer = match self.0.verify(&token).await {
            Ok(bearer) => bearer,
            Err(TokenFault::Unavailable) => {
                // The one before counts until it ends.
                tracing::warn!(topic = cx.topic(), "a token could not be checked, and the one before it counts");
                return Ok(Reply::none());
            }
            Err(fault) => return Ok(Reply::none().stop(self.over(cx, &fault)?)),
        };
        let rights = self.rights(cx, &bearer, member.shown.key()).await;
        let before = std::mem::replace(&mut member.rights, rights);
        let name = channel_name(cx.topic()).to_owned();
        let lost = match rights {
            Rights { broadcast_read: false, presence_read: false, .. } => Some(told::may_not_read(&name)),
            _ if (before.broadcast_read && !rights.broadcast_read)
                || (before.presence_read && !rights.presence_read) =>
            {
                Some(told::may_no_longer_read(&name))
            }
            _ => None,
        };
        if let Some(reason) = lost {
            cx.push("system", system("system", false, &reason, &name))?;
            return Ok(Reply::none().stop(Stop::Normal));
        }
        if !rights.presence_write {
            member.shown.hide(cx).await;
        }
        cx.mute(mutes(rights));
        (member.bearer, member.token) = (bearer, TokenHash::of(&token));
        member.generation = member.generation.wrapping_add(1);
        member.mind(cx);
        Ok(Reply::none())
    }

    /// Tells a member that messages of the database come, once they do.
    fn replicates(&self, cx: &mut Context<Later>) -> Result<(), Error> {
        if !self.0.are_changes_coming() {
            cx.send_after(LOOK_EVERY, Later::Replication);
            return Ok(());
        }
        let name = channel_name(cx.topic()).to_owned();
        cx.push("system", system("system", true, "Replication connection established", &name))
    }

    /// Tells a member why its channel ends, and how it ends: a client comes back from an error, and never from a close.
    fn over(&self, cx: &mut Context<Later>, fault: &TokenFault) -> Result<Stop, Error> {
        let name = channel_name(cx.topic()).to_owned();
        let text = fault.text();
        cx.push("system", system("system", false, &text, &name))?;
        let (event, comes_back) = match fault {
            TokenFault::Expired(_) => (Event::TokenExpired, !self.0.closes_expired),
            _ => (Event::TokenRefused, false),
        };
        let next = if comes_back { "the client joins again with a new one" } else { "the client stays away" };
        cx.tell((Kind::Ended, event), format_args!("{text}: {next}"));
        Ok(if comes_back { Stop::Error("token expired".to_owned()) } else { Stop::Normal })
    }
}

impl Member {
    /// Looks again when the token ends.
    fn mind(&self, cx: &mut Context<Later>) {
        if let Some(Ok(left)) = self.bearer.left() {
            // What ends within a millisecond has not ended before it is looked at.
            cx.send_after(left + Duration::from_millis(1), Later::Expired(self.generation));
        }
    }
}

impl Channel for Members {
    type State = Member;
    type Params = Payload;
    type Info = Later;

    async fn join(&self, cx: &mut Context<Later>, params: Payload) -> Result<Joined<Member>, Refused> {
        let config = JoinConfig::of(&params);
        let (name, is_private) = (channel_name(cx.topic()), is_private(cx.topic()));
        if name.is_empty() {
            return Err(Refused::reason(told::NAME_REQUIRED));
        }
        if self.0.private_only && !is_private {
            return Err(Refused::reason(told::PRIVATE_ONLY));
        }
        let found = match config.token.as_ref().filter(|token| !is_key(&token.0)) {
            Some(token) => self.0.verify(&token.0).await.map(|bearer| (bearer, TokenHash::of(&token.0))),
            None => {
                let holder = cx.assigns::<KeyHolder>().ok_or_else(|| Error::failed("a socket without a key"))?;
                holder.bearer.clone().current().map(|bearer| (bearer, holder.token))
            }
        };
        let (bearer, token) = found.map_err(|fault| Refused::reason(&fault.at_join()))?;
        let shown = Shown::new(&config.key)?;
        let rights = self.rights(cx, &bearer, shown.key()).await;
        if !rights.broadcast_read && !rights.presence_read {
            return Err(Refused::reason(&told::unauthorized(name)));
        }
        let watch = Watch::of(&config, &self.0, cx).await?;
        let since = self.since(cx, config.replay.filter(|_| rights.broadcast_read)).await?;
        // Clients of old versions cannot say that they want to know who is there, and do.
        let wants_presence = config.presence.unwrap_or(cx.socket().version() == Version::V1) && rights.presence_read;
        let (wants_replication, replays) = (config.replication_ready, since.is_some());
        cx.send(Later::Begin { wants_presence, wants_replication, replays })?;
        let (acks, own) = (config.ack, config.own);
        let member = Member { bearer, token, rights, acks, own, shown, watch, generation: 0 };
        Ok(Joined { since, waits: replays, mutes: mutes(rights), ..Joined::new(member).reply(config.reply()) })
    }

    async fn handle_in(
        &self,
        member: &mut Member,
        cx: &mut Context<Later>,
        event: &str,
        payload: Payload,
    ) -> Result<Reply, BoxError> {
        match event {
            "access_token" => Ok(self.renew(member, cx, &payload).await?),
            "presence" => Ok(member.shown.heard(cx, member.rights.presence_write, &payload).await?),
            event => match event.strip_prefix(BROADCAST) {
                Some(event) => Ok(self.broadcast(member, cx, event, payload).await?),
                None => Ok(Reply::none()),
            },
        }
    }

    async fn handle_info(&self, member: &mut Member, cx: &mut Context<Later>, later: Later) -> Result<Flow, BoxError> {
        match later {
            Later::Begin { wants_presence, wants_replication, replays } => {
                if wants_presence {
                    cx.push_presence_state().await?;
                }
                member.watch.tell(&self.0, cx)?;
                if wants_replication {
                    self.replicates(cx)?;
                }
                // Who is there and what is served come first, then what was kept, and then what is new.
                if replays {
                    cx.feed()?;
                }
                member.mind(cx);
                Ok(Flow::Continue)
            }
            Later::Changes => {
                member.watch.tell(&self.0, cx)?;
                Ok(Flow::Continue)
            }
            Later::Replication => {
                self.replicates(cx)?;
                Ok(Flow::Continue)
            }
            Later::Expired(generation) if generation == member.generation => match member.bearer.left() {
                Some(Err(since)) => Ok(Flow::Stop(self.over(cx, &TokenFault::Expired(since.as_secs()))?)),
                _ => {
                    member.mind(cx);
                    Ok(Flow::Continue)
                }
            },
            Later::Expired(_) => Ok(Flow::Continue),
            Later::Show => {
                member.shown.show_again(cx).await?;
                Ok(Flow::Continue)
            }
        }
    }

    async fn handle_broadcast(
        &self,
        member: &mut Member,
        cx: &mut Context<Later>,
        broadcast: Broadcast,
    ) -> Result<Flow, BoxError> {
        member.watch.changed(&self.0, &member.bearer, cx, &broadcast)?;
        Ok(Flow::Continue)
    }
}

/// What a member with these rights does not get.
fn mutes(rights: Rights) -> Mutes {
    Mutes { messages: !rights.broadcast_read, presence: !rights.presence_read }
}

fn now_ms() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
