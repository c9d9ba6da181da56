//! Heartbeats: a topic of Phoenix's own, on which no channel can be joined.

use crate::message::Incoming;
use crate::session::{Answered, Session, Verdict};

/// The topic of heartbeats.
pub const PHOENIX_TOPIC: &str = "phoenix";

/// Decides what a message means to a socket that speaks Phoenix's protocol. Changes nothing.
pub fn admit<J: Answered>(session: &Session<J>, message: &Incoming<'_>) -> Verdict {
    match (&*message.topic, &*message.event) {
        (PHOENIX_TOPIC, "heartbeat") => Verdict::Heartbeat,
        (PHOENIX_TOPIC, _) => Verdict::Unmatched,
        _ => session.admit(message),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Ref;
    use crate::payload::Payload;

    struct Live;

    impl Answered for Live {
        fn is_answered(&self) -> bool {
            true
        }
    }

    #[test]
    fn the_topic_phoenix_has_heartbeats_alone() {
        let session = Session::<Live>::new(1);
        for (topic, event, expected) in [
            ("phoenix", "heartbeat", Verdict::Heartbeat),
            ("phoenix", "phx_join", Verdict::Unmatched),
            ("phoenix", "phx_leave", Verdict::Unmatched),
            ("phoenix", "any", Verdict::Unmatched),
            ("Phoenix", "phx_join", Verdict::Join),
            ("other", "heartbeat", Verdict::Unmatched),
        ] {
            for join_ref in [Ref::NULL, Ref::string("9")] {
                let (topic, event) = (topic.into(), event.into());
                let message = Incoming { join_ref, msg_ref: Ref::NULL, topic, event, payload: Payload::default() };
                assert_eq!(admit(&session, &message), expected, "{message:?}");
            }
        }
    }
}
