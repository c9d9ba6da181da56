//! Credentials of a socket that is there already: sent by its first message, renewed in band, expired.

use std::sync::Arc;

use fanfare_proto::message::Incoming;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::heartbeat::PHOENIX_TOPIC;
use fanfare_proto::session::Verdict;
use serde::Deserialize;

use super::replies::reason_payload;
use super::turn::Errand;
use super::{Socket, Turn};
use crate::channel::Status;
use crate::connect::{Connected, Rejected, SocketHandle, SocketInfo, UserSlot};
use crate::event::Event;
use crate::fact::{Fact, Kind};
use crate::mailbox::{Asked, Command, Verified};
use crate::tenant::TenantSlot;

/// The event that carries a credential, on the topic `phoenix` or on any that is joined.
pub(super) const ACCESS_TOKEN: &str = "access_token";

/// How many credentials of one socket are checked at a time: some clients send theirs on each topic that they have joined.
const CHECKS_MAX: u16 = 100;

/// Supabase's clients call it `access_token`.
#[derive(Deserialize)]
struct Credential {
    #[serde(alias = "token")]
    access_token: String,
}

impl Socket {
    /// Takes a message that is a credential, or that a socket without one may not send yet. Any other comes back.
    pub(super) fn take_credential<'a>(
        &mut self,
        turn: &mut Turn,
        verdict: Verdict,
        message: Incoming<'a>,
    ) -> Option<Incoming<'a>> {
        let is_here = message.topic == PHOENIX_TOPIC || matches!(verdict, Verdict::Dispatch(_));
        if message.event == ACCESS_TOKEN && is_here {
            self.verify(turn, message);
            return None;
        }
        if !self.info.is_pending || verdict == Verdict::Heartbeat {
            return Some(message);
        }
        // A client that sends its credential and goes on at once need not wait for the answer.
        let limits = self.info.mount.limits;
        let size = message.payload.size();
        let has_room = self.waiting_bytes + size <= limits.waiting_bytes_max;
        if let Some(credentials) = self.credentials.as_mut().filter(|credentials| credentials.checking > 0)
            && has_room
            && credentials.held.len() < limits.waiting_frames_max
        {
            credentials.held.push_back(message.into_owned());
            self.waits(turn, size);
            return None;
        }
        let reason = reason_payload("send a credential first: the event access_token on the topic phoenix");
        self.answer(turn, &message.join_ref, &message.msg_ref, &message.topic, Status::Error, reason);
        None
    }

    /// Asks the application.
    fn verify(&mut self, turn: &mut Turn, message: Incoming<'_>) {
        let Incoming { join_ref, msg_ref, topic, payload, .. } = message;
        let asked = Asked { join_ref, msg_ref, topic: topic.into() };
        let credential: Option<Credential> = match &payload {
            Payload::Json(json) => json.to().ok(),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        let Some(Credential { access_token }) = credential else {
            let reason = r#"the payload is not like {"access_token": "…"}"#;
            return self.refuse_credential(turn, &asked, reason);
        };
        let credentials = self.credentials.get_or_insert_default();
        if credentials.checking >= CHECKS_MAX {
            let reason = format!("{CHECKS_MAX} credentials are being checked: wait for an answer");
            return self.refuse_credential(turn, &asked, &reason);
        }
        credentials.checking += 1;
        let (info, shard, socket) = (self.info.clone(), turn.shard.clone(), self.key);
        let check = async move { info.mount.connect.refresh(&info, access_token).await };
        turn.run_user_code(Box::pin(check), move |refreshed| {
            let refreshed = refreshed.unwrap_or_else(|panic| {
                tracing::error!(panic, "refresh panicked");
                Err(Rejected::new())
            });
            shard.send(Command::Verified { socket, verified: Box::new(Verified { asked, refreshed }) });
        });
    }

    /// A credential was checked. What waited for that is to be [released](Socket::release_held) next.
    pub(crate) fn verified(&mut self, turn: &mut Turn, verified: Verified) {
        if !self.is_open() {
            return;
        }
        let Verified { asked, refreshed } = verified;
        if let Some(credentials) = &mut self.credentials {
            credentials.checking -= 1;
        }
        match refreshed {
            Ok(connected) if self.info.is_pending || connected.id.as_deref() == self.info.id() => {
                let of_user = match self.info.is_pending {
                    true => self.info.endpoint.gate().place_of_user(&self.info.mount, connected.id.as_deref()),
                    false => Ok(self.info.of_user.clone()),
                };
                let of_user = match of_user {
                    Ok(of_user) => of_user,
                    Err(max) => {
                        let reason = format!("the user has {max} sockets, which is sockets_per_user_max: close one");
                        return self.refuse_credential(turn, &asked, &reason);
                    }
                };
                let tenant = match self.tenant_of(&connected) {
                    Ok(tenant) => tenant,
                    Err(reason) => return self.refuse_credential(turn, &asked, &reason),
                };
                self.renewed(turn, connected, (of_user, tenant));
                let Asked { join_ref, msg_ref, topic } = asked;
                self.answer(turn, &join_ref, &msg_ref, &topic, Status::Ok, Payload::default());
            }
            Ok(_) => self.refuse_credential(turn, &asked, "the credential is somebody else's: connect anew with it"),
            Err(rejected) => {
                self.tell_of_credential(turn, rejected.detail());
                let reason = match rejected {
                    Rejected { is_passing: true, .. } => "the credential cannot be checked now: send it again".into(),
                    Rejected { reason: Some(reason), .. } => format!("the credential is not accepted: {reason}"),
                    Rejected { reason: None, .. } => "the credential is not accepted".into(),
                };
                self.answer_refused(turn, &asked, &reason);
            }
        }
    }

    /// A credential takes the place of the one before.
    fn renewed(
        &mut self,
        turn: &mut Turn,
        connected: Connected,
        counts: (Option<Arc<UserSlot>>, Option<Arc<TenantSlot>>),
    ) {
        let info = Arc::new(SocketInfo::refreshed(&self.info, connected, counts));
        if let Some(of_user) = info.of_user.as_ref().filter(|_| self.info.is_pending) {
            of_user.lives_at(&info, self.key);
        }
        let old = self.known_as(info);
        if old.tenant.is_none() {
            self.count_for_tenant(turn);
        }
        self.watch(turn);
        if old.is_pending {
            turn.errands.push_back(Errand::Named(self.key));
            self.tell(turn, |observer, socket| observer.opened(socket));
        } else {
            let before = SocketHandle { info: old, key: self.key };
            self.tell(turn, |observer, socket| observer.renewed(&before, socket));
        }
    }

    /// All its joins see what is known of it now. Returns what was before.
    pub(super) fn known_as(&mut self, info: Arc<SocketInfo>) -> Arc<SocketInfo> {
        let old = std::mem::replace(&mut self.info, info.clone());
        for slot in 0..self.session.entries().len() {
            // A join whose code runs at the moment gets it when that comes back.
            if let Some(instance) = self.seat(slot).phase.instance_mut() {
                instance.cx.socket = info.clone();
            }
        }
        old
    }

    /// Takes the next message that waited for the first credential: it means now what it would mean if it came now.
    pub(crate) fn release_held(&mut self, turn: &mut Turn) -> Option<Incoming<'static>> {
        let is_open = self.is_open();
        let credentials = self.credentials.as_mut().filter(|credentials| is_open && credentials.checking == 0)?;
        let message = credentials.held.pop_front();
        match &message {
            Some(message) => self.waits_no_longer(turn, message.payload.size()),
            None if self.info.is_pending => {}
            // Most sockets keep nothing.
            None => self.credentials = None,
        }
        message
    }

    fn tell_of_credential(&self, turn: &Turn, why: &str) {
        let fact = Fact {
            kind: Kind::CredentialRefused,
            event: Event::CredentialRefused,
            who: self.info.who(),
            topic: None,
            code: None,
            detail: format_args!("{why}"),
        };
        fact.tell(turn.counters());
    }

    fn refuse_credential(&mut self, turn: &mut Turn, asked: &Asked, reason: &str) {
        self.tell_of_credential(turn, reason);
        self.answer_refused(turn, asked, reason);
    }

    fn answer_refused(&mut self, turn: &mut Turn, asked: &Asked, reason: &str) {
        let Asked { join_ref, msg_ref, topic } = asked;
        self.answer(turn, join_ref, msg_ref, topic, Status::Error, reason_payload(reason));
    }
}
