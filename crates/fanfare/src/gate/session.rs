//! Where a session that is polled lives, as those know it who ask it for messages.

use tokio::sync::oneshot;

use crate::key::SocketKey;
use crate::mailbox::{Command, ShardHandle};
use crate::transport::longpoll::Polled;

/// Where a session lives, and what admits to it.
#[derive(Debug, Clone)]
pub(crate) struct SessionHandle {
    pub(crate) shard: ShardHandle,
    pub(crate) socket: SocketKey,
    pub(crate) secret: u128,
}

impl SessionHandle {
    /// Asks for messages.
    pub(crate) fn poll(&self) -> oneshot::Receiver<Polled> {
        let (answer, answered) = oneshot::channel();
        self.shard.send_promptly(Command::Poll { socket: self.socket, secret: self.secret, position: None, answer });
        answered
    }
}
