//! How much a shard does in a turn before it writes and looks at its sockets again.

use crate::mailbox::Command;

/// Ordered commands of one turn, whatever they are.
const COMMANDS_MAX: usize = 4_096;

/// Messages of one turn: more hardly make its writes any cheaper, and each may have to be queued for every reader that falls behind
/// in this turn.
const MESSAGES_MAX: usize = 256;

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

    /// A turn is over in which messages were queued so often for readers that did not take them at once. The next one may have as
    /// many as cost no more than [`QUEUED_MAX`], but at most twice as many: one turn without slow readers says little of the next.
    pub(crate) fn renew(&mut self, queued: usize) {
        let published = self.messages_max - self.messages;
        let messages = match (published, queued) {
            // Without a message there is nothing to be learnt.
            (0, _) => self.messages_max,
            (_, 0) => self.messages_max * 2,
            _ => (QUEUED_MAX.saturating_mul(published) / queued).min(self.messages_max * 2),
        };
        let messages = messages.clamp(MESSAGES_MIN, MESSAGES_MAX);
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

#[cfg(test)]
mod tests {
    use fanfare_proto::payload::JsonText;

    use super::*;
    use crate::interest::Tick;
    use crate::message::Message;

    /// The budget after turns with so many messages, queued so often.
    fn after(turns: &[(usize, usize)]) -> usize {
        let mut budget = Budget::new();
        for &(published, queued) in turns {
            budget.messages -= published;
            budget.renew(queued);
        }
        budget.messages
    }

    #[test]
    fn a_turn_has_a_bound_in_bytes() {
        let payload = JsonText::from(serde_json::json!({ "padding": "x".repeat(BYTES_MAX / 4) }));
        let message = Message::new("t".into(), "e", payload.into()).unwrap();
        let publish = Command::Publish { message, at: Tick::default(), except: None };
        let mut budget = Budget::new();
        assert_eq!((0..MESSAGES_MAX).take_while(|_| budget.spend(&publish)).count(), 4);
        assert!(budget.is_spent(), "nor is more read");
        budget.renew(0);
        assert!(budget.spend(&publish));
    }

    #[test]
    fn turns_with_slow_readers_are_short_and_those_behind_them_grow() {
        assert_eq!(after(&[]), MESSAGES_MAX);
        assert_eq!(after(&[(MESSAGES_MAX, 0)]), MESSAGES_MAX);
        let slow = (MESSAGES_MAX, MESSAGES_MAX * 200);
        assert_eq!(after(&[slow]), 100);
        assert_eq!(after(&[slow, (100, 100 * 200)]), 100);
        assert_eq!(after(&[(MESSAGES_MAX, MESSAGES_MAX * 100_000)]), MESSAGES_MIN);
        // Nothing was published, or little and to others: a crowd may still be there.
        assert_eq!(after(&[slow, (0, 0), (0, 0)]), 100);
        assert_eq!(after(&[slow, (1, 0)]), 200);
        assert_eq!(after(&[slow, (1, 1)]), 200);
        assert_eq!(after(&[slow, (1, 0), (1, 0)]), MESSAGES_MAX);
    }
}
