//! How much a shard does in a turn before it writes and looks at its sockets again.

use crate::command::Command;

/// Ordered commands of one turn, whatever they are.
const COMMANDS_MAX: usize = 4_096;

/// Messages of one turn: more do not make its writes any cheaper.
const MESSAGES_MAX: usize = 1_024;

/// The same where each of them has to be queued for many slow readers.
const MESSAGES_MIN: usize = 16;

/// The same in bytes of payloads; one message at least.
const BYTES_MAX: usize = 256 * 1024;

/// So many times may a message be queued for a slow reader in a turn, by what the turn before has shown: about 10 ms.
const QUEUED_MAX: usize = 20_000;

/// What is left of a turn.
#[derive(Debug)]
pub(crate) struct Budget {
    commands: usize,
    messages: usize,
    bytes: usize,
    /// What this turn began with.
    messages_max: usize,
}

impl Budget {
    pub(crate) fn new() -> Self {
        Budget { commands: COMMANDS_MAX, messages: MESSAGES_MAX, bytes: BYTES_MAX, messages_max: MESSAGES_MAX }
    }

    /// A turn is over in which messages were queued so often for readers that did not take them at once.
    pub(crate) fn renew(&mut self, queued: usize) {
        let published = self.messages_max - self.messages;
        let messages = match queued {
            0 => MESSAGES_MAX,
            // Without a message there is nothing to be learnt.
            _ if published == 0 => self.messages_max,
            _ => (QUEUED_MAX.saturating_mul(published) / queued).clamp(MESSAGES_MIN, MESSAGES_MAX),
        };
        *self = Budget { commands: COMMANDS_MAX, messages, bytes: BYTES_MAX, messages_max: messages };
    }

    /// Whether the turn has done enough: what sockets send is handled in the next one.
    #[inline]
    pub(crate) fn is_spent(&self) -> bool {
        self.commands == 0 || self.messages == 0 || self.bytes == 0
    }

    /// Whether a command may still be carried out in this turn; if so it counts.
    #[inline]
    pub(crate) fn spend(&mut self, command: &Command) -> bool {
        if self.commands == 0 {
            return false;
        }
        if let Command::Publish { message, .. } = command {
            if self.is_spent() {
                return false;
            }
            self.messages -= 1;
            self.bytes = self.bytes.saturating_sub(message.payload.size());
        }
        self.commands -= 1;
        true
    }
}
