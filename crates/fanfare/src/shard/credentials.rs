//! Credentials of a socket that is there already: sent by its first message, renewed in band, expired.

use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::message::Ref;
use fanfare_proto::phoenix::session::{PHOENIX_TOPIC, Verdict};
use serde::Deserialize;

use super::Shard;
use super::replies::reason_payload;
use crate::channel::{Ended, Status};
use crate::command::{Command, SocketKey};
use crate::connect::{Connected, Rejected};
use crate::socket::{CloseReason, SocketInfo};

/// The event that carries a credential, on the topic `phoenix` or on any that is joined.
const EVENT: &str = "access_token";

/// Supabase's clients call it `access_token`.
#[derive(Deserialize)]
struct Credential {
    #[serde(alias = "token")]
    access_token: String,
}

/// What a credential is answered to.
pub(super) struct Asked {
    join_ref: Ref,
    msg_ref: Ref,
    topic: Box<str>,
}

impl Shard {
    /// Takes a message that is a credential, or that a socket without one may not send. Whether it was one.
    pub(super) fn is_credential(
        &mut self,
        key: SocketKey,
        verdict: Verdict,
        (join_ref, msg_ref, topic, event): (&Ref, &Ref, &str, &str),
        payload: &Payload,
    ) -> bool {
        let Some(socket) = self.socket(key) else { return false };
        let is_pending = socket.info.is_pending;
        let is_here = topic == PHOENIX_TOPIC || matches!(verdict, Verdict::Dispatch(_));
        if event == EVENT && is_here && socket.info.mount.connect.refreshes() {
            let asked = Asked { join_ref: join_ref.clone(), msg_ref: msg_ref.clone(), topic: topic.into() };
            self.verify(key, asked, payload);
            return true;
        }
        if is_pending && verdict != Verdict::Heartbeat {
            let reason = "send a credential first: the event access_token on the topic phoenix";
            self.answer(key, join_ref, msg_ref, topic, Status::Error, reason_payload(reason));
            return true;
        }
        false
    }

    /// Asks the application, off this thread.
    fn verify(&mut self, key: SocketKey, asked: Asked, payload: &Payload) {
        let Some(socket) = self.socket(key) else { return };
        let credential: Option<Credential> = match payload {
            Payload::Json(json) => json.to().ok(),
            Payload::Text(_) | Payload::Binary(_) => None,
        };
        let Some(Credential { access_token }) = credential else {
            let reason = r#"the payload is not like {"access_token": "…"}"#;
            return self.refuse_credential(key, &asked, reason);
        };
        if std::mem::replace(&mut socket.is_verifying, true) {
            return self.refuse_credential(key, &asked, "another credential is being checked: wait for its answer");
        }
        let (info, shard) = (socket.info.clone(), self.handle.clone());
        self.surroundings.runtime.spawn(async move {
            let refreshed = info.mount.connect.refresh(&info, access_token).await;
            let refreshed = refreshed.unwrap_or_else(|panic| {
                tracing::error!(panic, "refresh panicked");
                Err(Rejected::new())
            });
            shard.send(Command::Run(Box::new(move |shard| shard.verified(key, &asked, refreshed))));
        });
    }

    fn verified(&mut self, key: SocketKey, asked: &Asked, refreshed: Result<Connected, Rejected>) {
        let Some(socket) = self.socket(key).filter(|socket| !socket.closing) else { return };
        socket.is_verifying = false;
        let old = socket.info.clone();
        let connected = match refreshed {
            Ok(connected) => connected,
            Err(_) => return self.refuse_credential(key, asked, "the credential is not accepted"),
        };
        if !old.is_pending && connected.id.as_deref() != old.id() {
            return self.refuse_credential(key, asked, "the credential is somebody else's: connect anew with it");
        }
        let info = std::sync::Arc::new(SocketInfo::refreshed(&old, connected));
        let expires_ms = info.expires_ms;
        socket.info = info.clone();
        for slot in 0..socket.session.entries().len() {
            // A join whose code runs at the moment gets it when that comes back.
            if let Some(live) = &mut socket.session.entry_mut(slot).data.live {
                live.cx.socket = info.clone();
            }
        }
        if let Some(expires_ms) = expires_ms {
            self.at(expires_ms, super::Timer::Expired(key));
        }
        if old.is_pending {
            self.name(key);
            self.tell(key, |observer, socket| observer.opened(socket));
        }
        let Asked { join_ref, msg_ref, topic } = asked;
        self.answer(key, join_ref, msg_ref, topic, Status::Ok, Payload::default());
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
        if socket.info.expires_ms.is_none_or(|expires_ms| expires_ms > now_ms) {
            return;
        }
        if socket.protocol.has_channels() {
            while let Some(slot) = self.socket(key).and_then(|socket| socket.session.entries().len().checked_sub(1)) {
                self.end_with_error(key, slot, Ended::Disconnected);
            }
        }
        self.close(key, CloseReason::Expired);
    }

    /// A client that was to send its credential has not.
    pub(super) fn check_pending(&mut self, key: SocketKey) {
        if self.socket(key).is_some_and(|socket| socket.info.is_pending) {
            self.close(key, CloseReason::Unauthorized);
        }
    }
}
