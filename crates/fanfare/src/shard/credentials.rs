//! Credentials of a socket that is there already: sent by its first message, renewed in band, expired.

use std::sync::Arc;

use fanfare_proto::message::{Incoming, Ref};
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::heartbeat::PHOENIX_TOPIC;
use fanfare_proto::session::Verdict;
use serde::Deserialize;

use super::replies::reason_payload;
use super::{Shard, Timer};
use crate::channel::{Ended, Status};
use crate::command::{Command, SocketKey};
use crate::connect::{Connected, Rejected};
use crate::join::Live;
use crate::observer::SocketHandle;
use crate::socket::{CloseReason, SocketInfo};

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

/// What a credential is answered to.
struct Asked {
    join_ref: Ref,
    msg_ref: Ref,
    topic: Box<str>,
}

impl Shard {
    /// Takes a message that is a credential, or that a socket without one may not send yet. Any other comes back.
    pub(super) fn take_credential<'a>(
        &mut self,
        key: SocketKey,
        verdict: Verdict,
        message: Incoming<'a>,
    ) -> Option<Incoming<'a>> {
        let is_here = message.topic == PHOENIX_TOPIC || matches!(verdict, Verdict::Dispatch(_));
        if message.event == ACCESS_TOKEN && is_here {
            self.verify(key, message);
            return None;
        }
        let socket = self.socket(key)?;
        if !socket.info.is_pending || verdict == Verdict::Heartbeat {
            return Some(message);
        }
        // A client that sends its credential and goes on at once need not wait for the answer.
        let limits = socket.info.mount.limits;
        let (count, size) = (socket.credentials.held.len(), message.payload.size());
        let has_room = count < limits.waiting_frames_max && socket.waiting_bytes + size <= limits.waiting_bytes_max;
        if socket.credentials.checking > 0 && has_room {
            socket.waiting_bytes += size;
            socket.credentials.held.push(message.into_owned());
            return None;
        }
        self.send_credential_first(key, &message);
        None
    }

    fn send_credential_first(&mut self, key: SocketKey, message: &Incoming<'_>) {
        let reason = reason_payload("send a credential first: the event access_token on the topic phoenix");
        self.answer(key, &message.join_ref, &message.msg_ref, &message.topic, Status::Error, reason);
    }

    /// Asks the application.
    fn verify(&mut self, key: SocketKey, message: Incoming<'_>) {
        let Incoming { join_ref, msg_ref, topic, payload, .. } = message;
        let asked = Asked { join_ref, msg_ref, topic: topic.into() };
        let Some(socket) = self.socket(key) else { return };
        let credential: Option<Credential> = match &payload {
            Payload::Json(json) => json.to().ok(),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        let Some(Credential { access_token }) = credential else {
            let reason = r#"the payload is not like {"access_token": "…"}"#;
            return self.refuse_credential(key, &asked, reason);
        };
        if socket.credentials.checking >= CHECKS_MAX {
            let reason = format!("{CHECKS_MAX} credentials are being checked: wait for an answer");
            return self.refuse_credential(key, &asked, &reason);
        }
        socket.credentials.checking += 1;
        let (info, shard) = (socket.info.clone(), socket.info.shard.clone());
        let check = async move { info.mount.connect.refresh(&info, access_token).await };
        self.run_user_code(Box::pin(check), move |refreshed| {
            let refreshed = refreshed.unwrap_or_else(|panic| {
                tracing::error!(panic, "refresh panicked");
                Err(Rejected::new())
            });
            shard.send(Command::Run(Box::new(move |shard: &mut Shard| shard.verified(key, &asked, refreshed))));
        });
    }

    fn verified(&mut self, key: SocketKey, asked: &Asked, refreshed: Result<Connected, Rejected>) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        socket.credentials.checking -= 1;
        let old = socket.info.clone();
        match refreshed {
            Ok(connected) if old.is_pending || connected.id.as_deref() == old.id() => {
                self.renewed(key, connected);
                let Asked { join_ref, msg_ref, topic } = asked;
                self.answer(key, join_ref, msg_ref, topic, Status::Ok, Payload::default());
            }
            Ok(_) => self.refuse_credential(key, asked, "the credential is somebody else's: connect anew with it"),
            Err(Rejected(reason)) => {
                let reason = reason.map_or_else(
                    || "the credential is not accepted".into(),
                    |reason| format!("the credential is not accepted: {reason}"),
                );
                self.refuse_credential(key, asked, &reason);
            }
        }
        self.release_held(key);
    }

    /// A credential takes the place of the one before.
    fn renewed(&mut self, key: SocketKey, connected: Connected) {
        let Some(socket) = self.socket(key) else { return };
        let old = socket.info.clone();
        let info = Arc::new(SocketInfo::refreshed(&old, connected));
        socket.info = info.clone();
        for slot in 0..socket.session.entries().len() {
            // A join whose code runs at the moment gets it when that comes back.
            if let Some(live) = &mut socket.session.entry_mut(slot).data.live {
                live.cx.socket = info.clone();
            }
        }
        self.watch_expiry(key);
        if old.is_pending {
            self.name(key);
            self.tell(key, |observer, socket| observer.opened(socket));
        } else {
            let before = SocketHandle { info: old, key };
            self.tell(key, |observer, socket| observer.renewed(&before, socket));
        }
    }

    /// What waited for the first credential means now what it would mean if it came now.
    fn release_held(&mut self, key: SocketKey) {
        let Some(socket) = self.socket(key).filter(|socket| socket.credentials.checking == 0) else { return };
        for message in std::mem::take(&mut socket.credentials.held) {
            self.waited(key, &message.payload);
            self.receive(key, message);
            self.settle();
        }
    }

    /// Gives a join the credential that was renewed while its channel's code ran.
    pub(super) fn renew(&mut self, key: SocketKey, live: &mut Live) {
        let info = &self.sockets[key.index as usize].info;
        if !Arc::ptr_eq(info, &live.cx.socket) {
            live.cx.socket = info.clone();
        }
    }

    fn refuse_credential(&mut self, key: SocketKey, asked: &Asked, reason: &str) {
        let Asked { join_ref, msg_ref, topic } = asked;
        self.answer(key, join_ref, msg_ref, topic, Status::Error, reason_payload(reason));
    }

    /// The credential has expired, unless it was renewed: every join is told that something is wrong with it, and the socket
    /// is closed.
    pub(super) fn expired(&mut self, key: SocketKey) {
        let now_ms = self.now_ms;
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        if socket.credentials.timer_ms.is_none_or(|timer_ms| timer_ms > now_ms) {
            // There was an earlier one.
            return;
        }
        socket.credentials.timer_ms = None;
        if socket.info.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms) {
            return self.watch_expiry(key);
        }
        if socket.protocol.has_channels() {
            while let Some(slot) = self.socket(key).and_then(|socket| socket.session.entries().len().checked_sub(1)) {
                self.end_with_error(key, slot, Ended::Disconnected);
            }
        }
        self.close(key, CloseReason::Expired);
    }

    /// Looks whether the credential has expired no later than it does. One timer serves credentials that live ever longer, so
    /// that a client cannot fill the memory with them.
    pub(super) fn watch_expiry(&mut self, key: SocketKey) {
        let Some(socket) = self.socket(key) else { return };
        let timer_ms = socket.credentials.timer_ms;
        if let Some(expires_ms) =
            socket.info.expires_ms.filter(|expires_ms| timer_ms.is_none_or(|timer_ms| *expires_ms < timer_ms))
        {
            socket.credentials.timer_ms = Some(expires_ms);
            self.at(expires_ms, Timer::Expired(key));
        }
    }

    /// A client that was to send its credential has not.
    pub(super) fn check_pending(&mut self, key: SocketKey) {
        if self.socket(key).is_some_and(|socket| socket.info.is_pending) {
            self.close(key, CloseReason::Unauthorized);
        }
    }
}
