//! The hub protocol: one publisher owns a topic, any number of subscribers get its frames as they are.
//!
//! Connections say by their path what they are: `pub/KEY/DOMAIN/TOPIC` or `sub/DOMAIN/TOPIC`. [`Topics`] knows which topics
//! are started and by whom; who may start one, and the frames themselves, are others' business. Source: the behaviour that
//! users of the original hub rely on.

use std::collections::HashMap;

/// Stands in the place of the key in a path when the key comes by a header instead.
pub const KEY_ELSEWHERE: &str = "-";

/// What a connection is, by the segments of its path behind the mount.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Path<'a> {
    /// A publisher. The segments are still percent-encoded.
    Publish {
        /// The API key; `None` where it is [`KEY_ELSEWHERE`].
        key: Option<&'a str>,
        /// The domain that the key is for.
        domain: &'a str,
        /// The topic.
        topic: &'a str,
    },
    /// A subscriber.
    Subscribe {
        /// The domain of the topic's publisher.
        domain: &'a str,
        /// The topic.
        topic: &'a str,
    },
}

impl<'a> Path<'a> {
    /// Reads the segments; `None` where they are not of a hub.
    pub fn of(segments: &[&'a str]) -> Option<Self> {
        match *segments {
            ["pub", key, domain, topic] => {
                Some(Path::Publish { key: (key != KEY_ELSEWHERE).then_some(key), domain, topic })
            }
            ["sub", domain, topic] => Some(Path::Subscribe { domain, topic }),
            _ => None,
        }
    }
}

/// A publisher's ownership of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

/// Why a topic cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// Another publisher has it, or it waits for one of another domain.
    Taken,
    /// There are as many topics as there may be.
    Full,
}

/// What becomes of a topic that its owner gave up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// It has ended: its subscribers are to be told.
    Ended,
    /// It waits so long for another owner; then [`Topics::expire`] is to be asked.
    UntilMs(u64),
    /// It is somebody else's by now, or gone.
    NotOwned,
}

/// The topics that are started, under names that are unique over all domains. A topic lives without subscribers, and for a
/// grace without an owner.
#[derive(Debug)]
pub struct Topics {
    by_name: HashMap<Box<str>, Topic>,
    next_owner: u64,
    topics_max: usize,
}

#[derive(Debug)]
struct Topic {
    domain: Box<str>,
    held: Held,
}

#[derive(Debug)]
enum Held {
    By(OwnerId),
    UntilMs(u64),
}

impl Topics {
    /// No topics yet, and at most so many at a time.
    pub fn new(topics_max: usize) -> Self {
        Topics { by_name: HashMap::new(), next_owner: 0, topics_max }
    }

    /// Starts a topic for a new owner, or takes over one of the same domain whose owner has gone.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(&mut self, topic: &str, domain: &str) -> Result<OwnerId, ClaimError> {
        let is_full = self.by_name.len() >= self.topics_max;
        let owner = OwnerId(self.next_owner);
        match self.by_name.get_mut(topic) {
            Some(Topic { held: Held::By(_), .. }) => return Err(ClaimError::Taken),
            Some(waiting) if *waiting.domain != *domain => return Err(ClaimError::Taken),
            Some(waiting) => waiting.held = Held::By(owner),
            None if is_full => return Err(ClaimError::Full),
            None => {
                self.by_name.insert(topic.into(), Topic { domain: domain.into(), held: Held::By(owner) });
            }
        }
        self.next_owner += 1;
        Ok(owner)
    }

    /// The owner has gone.
    pub fn release(&mut self, topic: &str, owner: OwnerId, now_ms: u64, grace_ms: u64) -> Released {
        let Some(held) = self.by_name.get_mut(topic).map(|topic| &mut topic.held) else { return Released::NotOwned };
        if !matches!(held, Held::By(holder) if *holder == owner) {
            return Released::NotOwned;
        }
        if grace_ms == 0 {
            self.by_name.remove(topic);
            return Released::Ended;
        }
        *held = Held::UntilMs(now_ms + grace_ms);
        Released::UntilMs(now_ms + grace_ms)
    }

    /// Whether a topic that waited for an owner ends now; if so it is gone.
    pub fn expire(&mut self, topic: &str, now_ms: u64) -> bool {
        let has_expired = self
            .by_name
            .get(topic)
            .is_some_and(|topic| matches!(topic.held, Held::UntilMs(until_ms) if until_ms <= now_ms));
        if has_expired {
            self.by_name.remove(topic);
        }
        has_expired
    }

    /// The domain whose publisher has started a topic; `None` where it is not started, or has ended.
    pub fn domain_of(&self, topic: &str) -> Option<&str> {
        self.by_name.get(topic).map(|topic| &*topic.domain)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let publish = |key| Some(Path::Publish { key, domain: "d", topic: "t" });
        for (path, expected) in [
            ("pub/k/d/t", publish(Some("k"))),
            ("pub/-/d/t", publish(None)),
            ("sub/d/t", Some(Path::Subscribe { domain: "d", topic: "t" })),
            ("pub/d/t", None),
            ("pub/k/d/t/x", None),
            ("sub/t", None),
            ("sub/k/d/t", None),
            ("Pub/k/d/t", None),
            ("", None),
        ] {
            let segments: Vec<&str> = path.split('/').collect();
            assert_eq!(Path::of(&segments), expected, "{path}");
        }
    }

    #[test]
    fn a_topic_has_one_owner_and_a_grace_without() {
        let mut topics = Topics::new(2);
        let first = topics.claim("t", "d").unwrap();
        assert_eq!(topics.claim("t", "d"), Err(ClaimError::Taken));
        assert_eq!(topics.claim("t", "e"), Err(ClaimError::Taken));
        assert_eq!((topics.domain_of("t"), topics.domain_of("u")), (Some("d"), None));

        assert_eq!(topics.release("t", first, 100, 50), Released::UntilMs(150));
        assert_eq!(topics.claim("t", "e"), Err(ClaimError::Taken), "in its grace it waits for its own domain");
        assert!(!topics.expire("t", 149) && topics.domain_of("t").is_some());
        let second = topics.claim("t", "d").unwrap();
        assert!(!topics.expire("t", 150), "it has an owner again");
        assert_eq!(topics.release("t", first, 160, 50), Released::NotOwned);

        assert_eq!(topics.release("t", second, 200, 50), Released::UntilMs(250));
        assert!(topics.expire("t", 250) && topics.domain_of("t").is_none());
        assert!(!topics.expire("t", 251), "it ends once");
        let third = topics.claim("t", "e").unwrap();
        assert_eq!(topics.release("t", third, 300, 0), Released::Ended);
        assert_eq!(topics.release("t", third, 300, 0), Released::NotOwned);
    }

    #[test]
    fn topics_are_bounded() {
        let mut topics = Topics::new(2);
        let one = topics.claim("1", "d").unwrap();
        topics.claim("2", "d").unwrap();
        assert_eq!(topics.claim("3", "d"), Err(ClaimError::Full));
        assert_eq!(topics.release("1", one, 0, 0), Released::Ended);
        assert!(topics.claim("3", "d").is_ok());
    }
}
