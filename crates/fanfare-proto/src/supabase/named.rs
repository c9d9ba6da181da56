//! The names of the engine's events: which are broadcasts of clients, and what stands in them beside the client's event.

use std::borrow::Cow;

use crate::event::Reserved;

/// What begins a name that says more than a client's event.
const MARK: &str = "broadcast:";

/// A broadcast's event, and the id that its publisher gave it.
///
/// Nearly always the name of the engine's event is the client's event. A client's event that means something to the engine
/// (`presence_diff`), and one whose message has an id, is written as `broadcast:`, the length of the id, a colon, the id, and
/// the event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Named<'a> {
    /// As clients call it.
    pub event: &'a str,
    /// As [`meta.id`](https://supabase.com/docs/guides/realtime/broadcast) has it.
    pub id: Option<&'a str>,
}

impl<'a> Named<'a> {
    /// A client's event without an id.
    pub fn new(event: &'a str) -> Self {
        Named { event, id: None }
    }

    /// What the engine calls it.
    pub fn to_engine(self) -> Cow<'a, str> {
        match self.id {
            None if Reserved::of(self.event).is_none() && !self.event.starts_with(MARK) => Cow::Borrowed(self.event),
            id => {
                let id = id.unwrap_or_default();
                Cow::Owned(format!("{MARK}{}:{id}{}", id.len(), self.event))
            }
        }
    }

    /// What an event of the engine's is to clients; `None` where it is one of the protocol's own.
    pub fn of_engine(event: &'a str) -> Option<Self> {
        if Reserved::of(event).is_some() {
            return None;
        }
        let marked = event.strip_prefix(MARK).and_then(|rest| {
            let (size, rest) = rest.split_once(':')?;
            let is_number = !size.is_empty() && size.bytes().all(|byte| byte.is_ascii_digit());
            let (id, event) = rest.split_at_checked(size.parse().ok().filter(|_| is_number)?)?;
            Some(Named { event, id: Some(id).filter(|id| !id.is_empty()) })
        });
        // Published by something else under a name that only looks like one of these.
        Some(marked.unwrap_or(Named::new(event)))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn names() {
        #[track_caller]
        fn check(event: &str, id: Option<&str>, in_engine: &str) {
            let named = Named { event, id };
            assert_eq!(named.to_engine(), in_engine);
            assert_eq!(Named::of_engine(in_engine), Some(named));
        }
        check("msg", None, "msg");
        check("", None, "");
        check("presence_diff", None, "broadcast:0:presence_diff");
        check("disconnect", None, "broadcast:0:disconnect");
        check("phx_close", None, "broadcast:0:phx_close");
        check("broadcast:0:x", None, "broadcast:0:broadcast:0:x");
        check("msg", Some("é:1"), "broadcast:4:é:1msg");
        for event in ["presence_diff", "phx_close", "disconnect"] {
            assert_eq!(Named::of_engine(event), None, "{event}");
        }
        for event in ["broadcast:", "broadcast:x", "broadcast:9:x", "broadcast:1:é", "broadcast:+0:x"] {
            assert_eq!(Named::of_engine(event), Some(Named::new(event)), "{event}");
        }
    }

    proptest! {
        #[test]
        fn every_event_comes_out_as_it_went_in(event in ".{0,40}", id in prop::option::of(".{1,40}")) {
            let named = Named { event: &event, id: id.as_deref() };
            let in_engine = named.to_engine();
            prop_assert!(Reserved::of(&in_engine).is_none());
            prop_assert_eq!(Named::of_engine(&in_engine), Some(named));
        }
    }
}
