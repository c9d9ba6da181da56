//! Which other nodes are alive, as far as this one can know: by their heartbeats, and only while it hears its own.
//!
//! A node that has been silent for a lease is hidden: its members are shown no more. One that comes back within the minute
//! after it is believed again, one that does not is forgotten. **A node that is deaf or was stalled itself expires nobody**: silence counts
//! from when it began to hear itself without a break, however long the others have been silent.

use std::collections::BTreeMap;

use crate::envelope::Incarnation;

/// How long a node that has said goodbye is remembered, so that what it wrote before and comes late does not count.
const LEFT_KEPT_MS: u64 = 120_000;

/// As many of those are remembered. Beyond it the oldest go.
const LEFT_MAX: usize = 4_096;

/// A node that looks at its clock later than this has been stalled.
const STALL_MS: u64 = 2_000;

/// What has become of another node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// It is heard, and was not: it may be new, or have been too far away for too long. Its rows have to be asked for.
    Appeared(Incarnation),
    /// It has been silent for too long: its members are shown no more.
    Hidden(Incarnation),
    /// It was silent for so long after that, or has said goodbye, that nothing of it is kept.
    Dropped(Incarnation),
}

/// The other nodes, as one node sees them.
#[derive(Debug)]
pub struct Leases {
    term_ms: u64,
    /// How long hidden ones are kept.
    kept_ms: u64,
    /// How long it may not hear itself.
    deaf_ms: u64,
    nodes: BTreeMap<Incarnation, Lease>,
    left: BTreeMap<Incarnation, u64>,
    /// When it last looked, and last heard itself.
    looked_ms: u64,
    canary_ms: u64,
    /// Since when it has heard itself without a break.
    hears_since_ms: u64,
}

#[derive(Debug)]
struct Lease {
    heard_ms: u64,
    is_hidden: bool,
}

impl Leases {
    /// No other node is known yet. A node is hidden after `term_ms` of silence and dropped `kept_ms` later, by a node
    /// that has heard itself at least every `deaf_ms`.
    pub fn new(term_ms: u64, kept_ms: u64, deaf_ms: u64, now_ms: u64) -> Self {
        Leases {
            term_ms,
            kept_ms,
            deaf_ms,
            nodes: BTreeMap::new(),
            left: BTreeMap::new(),
            looked_ms: now_ms,
            canary_ms: now_ms,
            hears_since_ms: now_ms,
        }
    }

    /// A heartbeat of another node, or anything else that it has written lately.
    pub fn heard(&mut self, node: Incarnation, now_ms: u64) -> Option<Event> {
        if self.left.contains_key(&node) {
            return None;
        }
        match self.nodes.get_mut(&node) {
            Some(lease) => {
                lease.heard_ms = now_ms;
                let was_hidden = std::mem::replace(&mut lease.is_hidden, false);
                was_hidden.then_some(Event::Appeared(node))
            }
            None => {
                self.nodes.insert(node, Lease { heard_ms: now_ms, is_hidden: false });
                Some(Event::Appeared(node))
            }
        }
    }

    /// Another node ends properly. Nothing of it counts any more.
    pub fn bye(&mut self, node: Incarnation, now_ms: u64) -> Option<Event> {
        self.left.insert(node, now_ms);
        if self.left.len() > LEFT_MAX {
            let oldest = self.left.iter().min_by_key(|(_, left_ms)| **left_ms).map(|(node, _)| *node);
            oldest.map(|oldest| self.left.remove(&oldest));
        }
        self.nodes.remove(&node).map(|_| Event::Dropped(node))
    }

    /// The node has heard itself, by every link. Whether it was deaf before: then it should ask for what it has missed.
    pub fn canary(&mut self, now_ms: u64) -> bool {
        let was_deaf = now_ms - self.canary_ms > self.deaf_ms;
        if was_deaf {
            self.hears_since_ms = now_ms;
        }
        self.canary_ms = now_ms;
        was_deaf
    }

    /// What was not heard lately may have been lost by this node itself, as when a link has broken: everybody gets a new lease.
    pub fn renew(&mut self, now_ms: u64) {
        self.hears_since_ms = now_ms;
    }

    /// Looks at the clock, about once a second and when all that has come is dealt with: who is silent, and whether this node was stalled.
    /// Then others have lost sight of it, and it should ask for what it has missed.
    pub fn look(&mut self, now_ms: u64) -> (Vec<Event>, bool) {
        let was_stalled = now_ms - self.looked_ms > STALL_MS;
        self.looked_ms = now_ms;
        if was_stalled {
            self.renew(now_ms);
        }
        self.left.retain(|_, left_ms| now_ms - *left_ms < LEFT_KEPT_MS);
        if now_ms - self.canary_ms > self.deaf_ms {
            return (Vec::new(), was_stalled);
        }
        let (term_ms, kept_ms, hears_since_ms) = (self.term_ms, self.kept_ms, self.hears_since_ms);
        let mut events = Vec::new();
        self.nodes.retain(|node, lease| {
            let silent_ms = now_ms - lease.heard_ms.max(hears_since_ms);
            if silent_ms >= term_ms && !std::mem::replace(&mut lease.is_hidden, true) {
                events.push(Event::Hidden(*node));
            }
            let is_kept = silent_ms < term_ms + kept_ms;
            if !is_kept {
                events.push(Event::Dropped(*node));
            }
            is_kept
        });
        (events, was_stalled)
    }

    /// Whether a node's members are to be shown.
    pub fn is_alive(&self, node: Incarnation) -> bool {
        self.nodes.get(&node).is_some_and(|lease| !lease.is_hidden)
    }

    /// Whether a node is certainly not alive: it has said goodbye, or was silent for a lease. As long as this node has not heard
    /// itself for one, others that it has not heard may be there.
    pub fn is_lost(&self, node: Incarnation, now_ms: u64) -> bool {
        self.has_left(node)
            || match self.nodes.get(&node) {
                Some(lease) => lease.is_hidden,
                None => self.knows_all(now_ms),
            }
    }

    /// Whether the node has heard itself for a lease, so that it has heard all that are alive.
    pub fn knows_all(&self, now_ms: u64) -> bool {
        now_ms - self.hears_since_ms >= self.term_ms && self.deaf_for_ms(now_ms) <= self.deaf_ms
    }

    /// For how long the node has not heard itself.
    pub fn deaf_for_ms(&self, now_ms: u64) -> u64 {
        now_ms - self.canary_ms
    }

    /// Whether a node has said goodbye: what still comes of it does not count.
    pub fn has_left(&self, node: Incarnation) -> bool {
        self.left.contains_key(&node)
    }

    /// The nodes that are alive beside this one.
    pub fn alive(&self) -> impl Iterator<Item = Incarnation> {
        self.nodes.iter().filter(|(_, lease)| !lease.is_hidden).map(|(node, _)| *node)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: Incarnation = Incarnation::new(1).expect("not 0");

    /// A node that hears itself every second from `from_ms` to `to_ms`, and what it sees.
    fn looks(leases: &mut Leases, from_ms: u64, to_ms: u64) -> Vec<Event> {
        let look = |now_ms| {
            leases.canary(now_ms);
            leases.look(now_ms).0
        };
        (from_ms..=to_ms).step_by(1_000).flat_map(look).collect()
    }

    fn leases() -> Leases {
        let mut leases = Leases::new(10_000, 60_000, 3_000, 0);
        assert_eq!(leases.heard(A, 0), Some(Event::Appeared(A)));
        leases
    }

    #[test]
    fn the_silent_are_hidden_and_then_dropped() {
        let mut leases = leases();
        assert_eq!(looks(&mut leases, 0, 9_000), []);
        assert_eq!(looks(&mut leases, 10_000, 12_000), [Event::Hidden(A)]);
        assert!(!leases.is_alive(A) && leases.is_lost(A, 12_000));
        assert_eq!(leases.heard(A, 12_500), Some(Event::Appeared(A)));
        assert!(leases.is_alive(A));
        assert_eq!(looks(&mut leases, 13_000, 82_000), [Event::Hidden(A)]);
        assert_eq!(looks(&mut leases, 83_000, 83_000), [Event::Dropped(A)]);
        assert!(!leases.is_alive(A) && leases.is_lost(A, 83_000));
        assert_eq!(leases.alive().count(), 0);
    }

    #[test]
    fn who_was_not_heard_yet_may_be_there_for_a_lease() {
        let mut leases = Leases::new(10_000, 60_000, 3_000, 0);
        assert_eq!(looks(&mut leases, 0, 10_000), []);
        assert!(!leases.is_lost(A, 9_999) && leases.is_lost(A, 10_000));
        leases.heard(A, 10_000);
        assert!(!leases.is_lost(A, 10_000));
        leases.bye(A, 10_001);
        assert!(leases.is_lost(A, 10_001));
    }

    #[test]
    fn a_deaf_node_expires_nobody() {
        let mut leases = leases();
        for now_ms in (1_000..60_000).step_by(1_000) {
            assert_eq!(leases.look(now_ms), (Vec::new(), false));
        }
        // Once it hears itself again, everybody has a whole lease.
        assert_eq!(looks(&mut leases, 60_000, 69_000), []);
        assert_eq!(looks(&mut leases, 70_000, 70_000), [Event::Hidden(A)]);
    }

    #[test]
    fn a_node_that_was_stalled_or_lost_a_link_begins_again() {
        let mut leases = leases();
        looks(&mut leases, 0, 8_000);
        leases.canary(11_000);
        assert_eq!(leases.look(11_000), (Vec::new(), true));
        assert_eq!(looks(&mut leases, 12_000, 20_000), []);
        leases.renew(20_500);
        assert_eq!(looks(&mut leases, 21_000, 30_000), []);
        assert_eq!(looks(&mut leases, 31_000, 31_000), [Event::Hidden(A)]);
    }

    #[test]
    fn who_said_goodbye_is_gone_whatever_still_comes() {
        let mut leases = leases();
        assert_eq!(leases.bye(A, 1_000), Some(Event::Dropped(A)));
        assert_eq!(leases.heard(A, 1_100), None);
        assert!(leases.has_left(A) && !leases.is_alive(A));
        for number in 2..LEFT_MAX as u64 + 10 {
            leases.bye(Incarnation::new(number).expect("not 0"), 2_000);
        }
        assert_eq!(leases.left.len(), LEFT_MAX);
    }
}
