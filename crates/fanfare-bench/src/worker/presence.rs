//! Who each client sees: how it is told, and whether it is everybody.

use std::collections::HashMap;
use std::sync::atomic::Ordering;

use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::codec;
use fanfare_proto::phoenix::message::Version;
use serde_json::Value;

use super::Worker;

/// What a message does to what its receiver sees.
#[derive(Default)]
struct Change {
    joins: Vec<u32>,
    leaves: Vec<u32>,
}

/// Whom a worker's clients see.
pub(super) struct Roll {
    /// How many clients there are in all.
    everybody: u32,
    /// Each presence has a number, by its `phx_ref`.
    numbers: HashMap<String, u32>,
    /// For each client a bit for each presence, and how many are set.
    seen: Vec<(Vec<u64>, u32)>,
    /// A diff goes to all clients in the same words, so that it is understood only once.
    last: (Vec<u8>, Change),
}

impl Roll {
    pub(super) fn new(everybody: usize, clients: usize) -> Self {
        Self {
            everybody: everybody as u32,
            numbers: HashMap::new(),
            seen: vec![(Vec::new(), 0); clients],
            last: Default::default(),
        }
    }

    fn sees_all(&self, client: usize) -> bool {
        self.seen[client].1 == self.everybody
    }

    fn clear(&mut self, client: usize) {
        self.seen[client] = (Vec::new(), 0);
    }

    /// Takes a message; false if it is not about presence.
    fn take(&mut self, client: usize, message: &[u8]) -> bool {
        if self.last.0 != message {
            match self.understand(message) {
                Some(change) => self.last = (message.to_vec(), change),
                None => return false,
            }
        }
        let (seen, count) = &mut self.seen[client];
        let mut set = |number: u32, is_there: bool| {
            let (word, bit) = (number as usize / 64, 1_u64 << (number % 64));
            if seen.len() <= word {
                seen.resize(word + 1, 0);
            }
            match (seen[word] & bit != 0, is_there) {
                (false, true) => *count += 1,
                (true, false) => *count -= 1,
                _ => return,
            }
            seen[word] ^= bit;
        };
        self.last.1.joins.iter().for_each(|number| set(*number, true));
        self.last.1.leaves.iter().for_each(|number| set(*number, false));
        true
    }

    fn understand(&mut self, message: &[u8]) -> Option<Change> {
        let message = codec::decode_text(Version::V2, std::str::from_utf8(message).ok()?).ok()?;
        let Payload::Json(json) = &message.payload else { return None };
        let value = || serde_json::from_str::<Value>(json.as_str()).ok();
        match message.event.as_ref() {
            "presence_state" => Some(Change { joins: self.numbers(&value()?), leaves: Vec::new() }),
            "presence_diff" => {
                let diff = value()?;
                Some(Change { joins: self.numbers(&diff["joins"]), leaves: self.numbers(&diff["leaves"]) })
            }
            _ => None,
        }
    }

    fn numbers(&mut self, presences: &Value) -> Vec<u32> {
        let metas = presences.as_object().into_iter().flat_map(|keys| keys.values());
        let metas = metas.filter_map(|presence| presence["metas"].as_array()).flatten();
        let mut number = |reference: &str| {
            let next = self.numbers.len() as u32;
            *self.numbers.entry(reference.to_owned()).or_insert(next)
        };
        metas.filter_map(|meta| Some(number(meta["phx_ref"].as_str()?))).collect()
    }
}

impl Worker<'_> {
    /// Takes a message if it is about presence, where that is followed.
    pub(super) fn presence(&mut self, index: usize, message: &[u8]) -> bool {
        let Some(roll) = &mut self.roll else { return false };
        let before = roll.sees_all(index);
        if !roll.take(index, message) {
            return false;
        }
        self.tally.sums.presence_messages += 1;
        let after = roll.sees_all(index);
        self.settle(before, after);
        true
    }

    pub(super) fn forget_presence(&mut self, index: usize) {
        let Some(roll) = &mut self.roll else { return };
        let before = roll.sees_all(index);
        roll.clear(index);
        self.settle(before, false);
    }

    fn settle(&mut self, before: bool, after: bool) {
        match (before, after) {
            (false, true) => {
                self.shared.last_settled.fetch_max(self.shared.now(), Ordering::Relaxed);
                self.shared.settled.fetch_add(1, Ordering::AcqRel);
            }
            (true, false) => _ = self.shared.settled.fetch_sub(1, Ordering::AcqRel),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn who_is_seen() {
        let mut roll = Roll::new(3, 2);
        let metas = |refs: &[&str]| json!({"metas": refs.iter().map(|r| json!({"phx_ref": r})).collect::<Vec<_>>()});
        let message = |event: &str, payload: Value| json!([null, null, "t", event, payload]).to_string().into_bytes();
        let none = json!({});
        let state = message("presence_state", json!({"a": metas(&["1"]), "b": metas(&["2"])}));
        let joins = message("presence_diff", json!({"joins": {"b": metas(&["2", "3"])}, "leaves": none}));
        let leaves = message("presence_diff", json!({"joins": none, "leaves": {"a": metas(&["1"])}}));
        for (client, message, seen) in [
            (0, &state, 2),
            (0, &joins, 3), // 2 is there already
            (1, &joins, 2), // before the state
            (1, &state, 3),
            (0, &leaves, 2),
            (0, &leaves, 2), // nobody leaves twice
            (1, &leaves, 2),
        ] {
            assert!(roll.take(client, message));
            assert_eq!((roll.seen[client].1, roll.sees_all(client)), (seen, seen == 3));
        }
        roll.clear(0);
        assert_eq!(roll.seen[0].1, 0);
        for other in [message("new_msg", none), b"nonsense".to_vec()] {
            assert!(!roll.take(0, &other));
        }
    }
}
