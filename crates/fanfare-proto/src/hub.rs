//! The hub protocol: one publisher owns a topic, any number of subscribers get its frames as they are.
//!
//! Connections say by their path what they are: `pub/KEY/DOMAIN/TOPIC` or `sub/DOMAIN/TOPIC`. [`Topics`] knows which topics
//! are started and by whom; who may start one, and the frames themselves, are others' business. Source: the behaviour that
//! users of the original hub rely on.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Bound;

use crate::params::decode_path_segment;

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

/// What a server calls a topic of a domain: `PREFIX` and `DOMAIN/TOPIC`. In the domain a slash is written `%2F` and a percent
/// sign `%25`, so that no two pairs have the same name.
pub fn topic_name(prefix: &str, domain: &str, topic: &str) -> String {
    let mut name = String::with_capacity(prefix.len() + domain.len() + 1 + topic.len());
    name.push_str(prefix);
    for char in domain.chars() {
        match char {
            '/' => name.push_str("%2F"),
            '%' => name.push_str("%25"),
            other => name.push(other),
        }
    }
    name.push('/');
    name.push_str(topic);
    name
}

/// The domain and the topic of a [`topic_name`] without its prefix; `None` if it is not one.
pub fn domain_and_topic(name: &str) -> Option<(Cow<'_, str>, &str)> {
    let (domain, topic) = name.split_once('/')?;
    Some((decode_path_segment(domain).ok()?, topic))
}

/// A publisher's ownership of a topic.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OwnerId(u64);

/// Why a topic cannot be claimed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClaimError {
    /// Another publisher has it.
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

/// The topics that are started, by their [names](topic_name), each with what is known of its owner. A topic lives without
/// subscribers, and for a grace without an owner.
#[derive(Debug)]
pub struct Topics<O> {
    by_name: BTreeMap<Box<str>, Held<O>>,
    next_owner: u64,
    topics_max: usize,
}

#[derive(Debug)]
enum Held<O> {
    By(OwnerId, O),
    UntilMs(u64),
}

impl<O> Topics<O> {
    /// No topics yet, and at most so many at a time.
    pub fn new(topics_max: usize) -> Self {
        Topics { by_name: BTreeMap::new(), next_owner: 0, topics_max }
    }

    /// Starts a topic for a new owner, takes over one whose owner has gone, or one whose owner gives way to this one: that
    /// is returned, and has nothing to [release](Topics::release) any more.
    ///
    /// # Errors
    /// See [`ClaimError`].
    pub fn claim(
        &mut self,
        topic: &str,
        owner: O,
        gives_way: impl FnOnce(&O) -> bool,
    ) -> Result<(OwnerId, Option<O>), ClaimError> {
        let is_full = self.by_name.len() >= self.topics_max;
        let id = OwnerId(self.next_owner);
        let before = match self.by_name.get_mut(topic) {
            Some(Held::By(_, holder)) if !gives_way(holder) => return Err(ClaimError::Taken),
            Some(held) => std::mem::replace(held, Held::By(id, owner)).owner(),
            None if is_full => return Err(ClaimError::Full),
            None => {
                self.by_name.insert(topic.into(), Held::By(id, owner));
                None
            }
        };
        self.next_owner += 1;
        Ok((id, before))
    }

    /// The owner has gone.
    pub fn release(&mut self, topic: &str, owner: OwnerId, now_ms: u64, grace_ms: u64) -> Released {
        let Some(held) = self.by_name.get_mut(topic) else { return Released::NotOwned };
        if !matches!(held, Held::By(holder, _) if *holder == owner) {
            return Released::NotOwned;
        }
        if grace_ms == 0 {
            self.by_name.remove(topic);
            return Released::Ended;
        }
        *held = Held::UntilMs(now_ms + grace_ms);
        Released::UntilMs(now_ms + grace_ms)
    }

    /// A topic is somebody else's, elsewhere: its owner here, if it has one.
    pub fn remove(&mut self, topic: &str) -> Option<O> {
        self.by_name.remove(topic)?.owner()
    }

    /// Whether a topic that waited for an owner ends now; if so it is gone.
    pub fn expire(&mut self, topic: &str, now_ms: u64) -> bool {
        let has_expired =
            self.by_name.get(topic).is_some_and(|held| matches!(held, Held::UntilMs(until_ms) if *until_ms <= now_ms));
        if has_expired {
            self.by_name.remove(topic);
        }
        has_expired
    }

    /// Whether a topic is started, and has not ended.
    pub fn contains(&self, topic: &str) -> bool {
        self.by_name.contains_key(topic)
    }

    /// A started topic: its owner, unless it waits for one.
    pub fn get(&self, topic: &str) -> Option<Option<&O>> {
        Some(match self.by_name.get(topic)? {
            Held::By(_, owner) => Some(owner),
            Held::UntilMs(_) => None,
        })
    }

    /// The topics behind this one, or all, in order; each with its owner, unless it waits for one.
    pub fn after(&self, topic: Option<&str>) -> impl Iterator<Item = (&str, Option<&O>)> {
        let from = topic.map_or(Bound::Unbounded, Bound::Excluded);
        self.by_name.range::<str, _>((from, Bound::Unbounded)).map(|(topic, held)| match held {
            Held::By(_, owner) => (&**topic, Some(owner)),
            Held::UntilMs(_) => (&**topic, None),
        })
    }
}

impl<O> Held<O> {
    fn owner(self) -> Option<O> {
        match self {
            Held::By(_, owner) => Some(owner),
            Held::UntilMs(_) => None,
        }
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
    fn hub_2_no_two_pairs_of_domain_and_topic_have_one_name() {
        let parts = ["a", "b", "a/b", "/", "a/", "/b", "%", "%2F", "a%2Fb", "%25", "%252F", "é", " "];
        let mut names = std::collections::HashSet::new();
        for domain in parts {
            for topic in parts {
                let name = topic_name("hub:", domain, topic);
                let behind = name.strip_prefix("hub:").unwrap();
                assert_eq!(domain_and_topic(behind), Some((domain.into(), topic)), "{name}");
                assert!(names.insert(name.clone()), "{name} is of two");
            }
        }
        assert_eq!(topic_name("hub:", "example.com", "news/today"), "hub:example.com/news/today");
        assert_eq!(topic_name("", "a/b", "t"), "a%2Fb/t");
        assert_eq!((domain_and_topic("news"), domain_and_topic("%ff/news")), (None, None));
    }

    fn claim(topics: &mut Topics<&'static str>, topic: &str) -> Result<OwnerId, ClaimError> {
        topics.claim(topic, "somebody", |_| false).map(|(owner, before)| {
            assert_eq!(before, None);
            owner
        })
    }

    #[test]
    fn a_topic_has_one_owner_and_a_grace_without() {
        let mut topics = Topics::new(2);
        let first = claim(&mut topics, "t").unwrap();
        assert_eq!(claim(&mut topics, "t"), Err(ClaimError::Taken));
        assert_eq!((topics.contains("t"), topics.contains("u")), (true, false));

        assert_eq!(topics.release("t", first, 100, 50), Released::UntilMs(150));
        assert!(!topics.expire("t", 149) && topics.contains("t"));
        let second = claim(&mut topics, "t").unwrap();
        assert!(!topics.expire("t", 150), "it has an owner again");
        assert_eq!(topics.release("t", first, 160, 50), Released::NotOwned);

        assert_eq!(topics.release("t", second, 200, 50), Released::UntilMs(250));
        assert!(topics.expire("t", 250) && !topics.contains("t"));
        assert!(!topics.expire("t", 251), "it ends once");
        let third = claim(&mut topics, "t").unwrap();
        assert_eq!(topics.release("t", third, 300, 0), Released::Ended);
        assert_eq!(topics.release("t", third, 300, 0), Released::NotOwned);
    }

    #[test]
    fn hub_5_an_owner_gives_way_to_one_of_its_own() {
        let mut topics = Topics::new(1);
        let (first, _) = topics.claim("t", "ada", |_| false).unwrap();
        let is = |name: &'static str| move |holder: &&str| *holder == name;
        assert_eq!(topics.claim("t", "bob", is("bob")), Err(ClaimError::Taken));
        let (second, before) = topics.claim("t", "ada", is("ada")).unwrap();
        assert_eq!(before, Some("ada"));
        assert_eq!(topics.release("t", first, 0, 0), Released::NotOwned, "it goes, and the topic stays");
        assert_eq!(topics.release("t", second, 0, 9), Released::UntilMs(9));
        assert!(matches!(topics.claim("t", "bob", is("bob")), Ok((_, None))));
    }

    #[test]
    fn topics_are_bounded_and_in_order() {
        let mut topics = Topics::new(2);
        let two = claim(&mut topics, "2").unwrap();
        claim(&mut topics, "1").unwrap();
        assert_eq!(claim(&mut topics, "3"), Err(ClaimError::Full));
        topics.release("2", two, 0, 9);
        let all = [("1", Some(&"somebody")), ("2", None)];
        assert_eq!(topics.after(None).collect::<Vec<_>>(), all);
        assert_eq!(topics.after(Some("1")).collect::<Vec<_>>(), all[1..]);
        assert!(topics.expire("2", 9));
        assert!(claim(&mut topics, "3").is_ok());
    }
}
