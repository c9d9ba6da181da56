//! The last facts, kept so that somebody can ask why a client was refused, closed, or lost something.
//!
//! The same fact about the same client within ten seconds, in the same words, is one entry with a number, and one address has at most a quarter of all
//! entries: who causes many facts pushes nobody else's out.

use std::collections::{BTreeMap, VecDeque};
use std::fmt::{self, Write as _};
use std::hash::{BuildHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use hashbrown::HashMap;
use parking_lot::Mutex;

use crate::path::MountPath;

/// So many facts are kept of each shard, and of what happens before clients have one.
pub(crate) const FACTS_MAX: usize = 1_024;

/// So many of them of one address.
pub(crate) const FACTS_PER_ADDRESS_MAX: usize = FACTS_MAX / 4;

/// The texts of an entry have at most so many bytes together.
pub(crate) const TEXTS_SIZE_MAX: usize = 256;

/// Of which a user's id or a topic may take so many, and a path so many.
const NAME_SIZE_MAX: usize = 64;
const PATH_SIZE_MAX: usize = 32;

/// What happens again within this time is counted with the first.
const TOGETHER: Duration = Duration::from_secs(10);

/// Stands where something is left out.
const CUT: char = '…';

/// Something that happened to a client, and why: see [`Endpoint::facts`](crate::Endpoint::facts).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct PastFact {
    /// When it happened first.
    pub first: SystemTime,
    /// When it happened last.
    pub at: SystemTime,
    /// How often, within ten seconds.
    pub count: u64,
    /// What kind of fact it is, such as `refused`: see [`PastFact::KINDS`].
    pub kind: &'static str,
    /// The reason under which it is counted.
    pub reason: &'static str,
    /// The status of the answer, or the code of the close frame.
    pub code: Option<u16>,
    /// For people: the value, what is allowed, the next step. Never a credential.
    pub detail: Box<str>,
    /// The id of the socket, unless that is a credential.
    pub user: Option<Box<str>>,
    /// The client's address.
    pub address: Option<IpAddr>,
    /// The path at which the client connected.
    pub endpoint: Option<Box<str>>,
    /// The topic that it was about.
    pub topic: Option<Box<str>>,
}

impl PastFact {
    /// Whether it concerns this user. What is too long to be kept is compared as far as it is kept.
    pub fn is_of_user(&self, user: &str) -> bool {
        is_cut_of(self.user.as_deref(), user)
    }

    /// Whether it is about this topic.
    pub fn is_about(&self, topic: &str) -> bool {
        is_cut_of(self.topic.as_deref(), topic)
    }
}

fn is_cut_of(kept: Option<&str>, whole: &str) -> bool {
    kept.is_some_and(|kept| match kept.strip_suffix(CUT) {
        Some(begin) => kept == whole || whole.len() > NAME_SIZE_MAX && whole.starts_with(begin),
        None => kept == whole,
    })
}

/// A fact as it comes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct News<'f> {
    pub(crate) kind: &'static str,
    pub(crate) reason: &'static str,
    pub(crate) code: Option<u16>,
    pub(crate) detail: fmt::Arguments<'f>,
    pub(crate) user: Option<&'f str>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) endpoint: Option<&'f MountPath>,
    pub(crate) topic: Option<&'f str>,
}

/// The last facts of one writer.
#[derive(Debug, Default)]
pub(crate) struct Past(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    /// By their numbers, with what makes them the same.
    facts: BTreeMap<u64, (u64, PastFact)>,
    /// The number of the next one.
    next: u64,
    /// The newest of those that are the same.
    newest: HashMap<u64, u64, foldhash::fast::RandomState>,
    /// Those of each address, oldest first.
    by_address: HashMap<IpAddr, VecDeque<u64>, foldhash::fast::RandomState>,
    hashes: foldhash::fast::RandomState,
}

impl Past {
    /// Keeps a fact that has happened `times`.
    pub(crate) fn enter(&self, news: News<'_>, times: u64, now: SystemTime) {
        self.0.lock().enter(news, times, now);
    }

    /// All that is kept, oldest first.
    pub(crate) fn all(&self) -> Vec<PastFact> {
        self.0.lock().facts.values().map(|(_, fact)| fact.clone()).collect()
    }
}

impl Entries {
    fn enter(&mut self, news: News<'_>, times: u64, now: SystemTime) {
        let News { kind, reason, code, user, address, topic, .. } = news;
        let mut hasher = self.hashes.build_hasher();
        (kind, reason, code, user, address, topic).hash(&mut hasher);
        // It does not fail.
        let _ = Alike(&mut hasher).write_fmt(news.detail);
        let key = hasher.finish();
        if let Some((_, fact)) = self.newest.get(&key).and_then(|number| self.facts.get_mut(number))
            && now.duration_since(fact.first).is_ok_and(|since| since < TOGETHER)
        {
            fact.count += times;
            fact.at = now;
            return;
        }
        self.make_room(address);
        let user = user.map(|user| cut(format_args!("{user}"), NAME_SIZE_MAX));
        let topic = topic.map(|topic| cut(format_args!("{topic}"), NAME_SIZE_MAX));
        let endpoint = news.endpoint.map(|path| cut(format_args!("{path}"), PATH_SIZE_MAX));
        let taken: usize = [&user, &topic, &endpoint].into_iter().flatten().map(|text| text.len()).sum();
        let detail = cut(news.detail, TEXTS_SIZE_MAX - taken);
        let fact =
            PastFact { first: now, at: now, count: times, kind, reason, code, detail, user, address, endpoint, topic };
        self.facts.insert(self.next, (key, fact));
        self.newest.insert(key, self.next);
        if let Some(address) = address {
            self.by_address.entry(address).or_default().push_back(self.next);
        }
        self.next += 1;
    }

    /// Forgets the oldest of an address that has its share, or of all.
    fn make_room(&mut self, address: Option<IpAddr>) {
        let of_address = address.and_then(|address| self.by_address.get(&address));
        let oldest = match of_address.filter(|numbers| numbers.len() >= FACTS_PER_ADDRESS_MAX) {
            Some(numbers) => numbers.front().copied(),
            None if self.facts.len() >= FACTS_MAX => self.facts.keys().next().copied(),
            None => None,
        };
        let Some((number, (key, fact))) = oldest.and_then(|oldest| self.facts.remove_entry(&oldest)) else { return };
        if self.newest.get(&key) == Some(&number) {
            self.newest.remove(&key);
        }
        // The oldest of all is the oldest of its address.
        if let Some(address) = fact.address
            && let Some(numbers) = self.by_address.get_mut(&address)
        {
            numbers.pop_front();
            if numbers.is_empty() {
                self.by_address.remove(&address);
            }
        }
    }
}

/// Hashes what details have in common that differ in a number, such as the time that has passed. What happens again is not put
/// together.
struct Alike<'h, H>(&'h mut H);

impl<H: Hasher> fmt::Write for Alike<'_, H> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        text.bytes().filter(|byte| !byte.is_ascii_digit()).for_each(|byte| self.0.write_u8(byte));
        Ok(())
    }
}

/// A text of at most so many bytes.
fn cut(text: fmt::Arguments<'_>, size_max: usize) -> Box<str> {
    let mut cut = Cut { text: String::new(), size_max };
    if cut.write_fmt(text).is_err() && size_max >= CUT.len_utf8() {
        let mut end = cut.text.len().min(size_max - CUT.len_utf8());
        while !cut.text.is_char_boundary(end) {
            end -= 1;
        }
        cut.text.truncate(end);
        cut.text.push(CUT);
    }
    cut.text.into()
}

/// Fails once there is more than fits, so that nothing long is put together.
struct Cut {
    text: String,
    size_max: usize,
}

impl fmt::Write for Cut {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = self.size_max - self.text.len();
        if text.len() <= room {
            self.text.push_str(text);
            return Ok(());
        }
        let mut end = room;
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        self.text.push_str(&text[..end]);
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NEWS: News<'_> = News {
        kind: "refused",
        reason: "refused_limit",
        code: Some(429),
        detail: format_args!("why"),
        user: None,
        address: None,
        endpoint: None,
        topic: None,
    };

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    fn address(number: u8) -> Option<IpAddr> {
        Some([10, 0, 0, number].into())
    }

    /// Topics and counts, oldest first.
    fn kept(past: &Past) -> Vec<(String, u64)> {
        past.all().into_iter().map(|fact| (fact.topic.unwrap_or_default().into(), fact.count)).collect()
    }

    #[test]
    fn the_same_within_ten_seconds_is_one_entry() {
        let past = Past::default();
        for (seconds, topic, number, reason) in [
            (0, "a", 1, "x"),
            (3, "a", 1, "x"),
            (4, "b", 1, "x"),
            (5, "a", 2, "x"),
            (6, "a", 1, "y"),
            (9, "a", 1, "x"),
            (10, "a", 1, "x"),
            (19, "a", 1, "x"),
        ] {
            past.enter(News { topic: Some(topic), address: address(number), reason, ..NEWS }, 1, at(seconds));
        }
        let expected = [("a", 3), ("b", 1), ("a", 1), ("a", 1), ("a", 2)].map(|(topic, n)| (topic.to_owned(), n));
        assert_eq!(kept(&past), expected);
        let first = past.all().swap_remove(0);
        assert_eq!((first.first, first.at), (at(0), at(9)));
    }

    /// A number in the detail makes no difference; other words and other answers are other facts.
    #[test]
    fn different_failures_are_entries_of_their_own() {
        let past = Past::default();
        for (code, detail) in [
            (Some(413), "larger than 8000000 bytes"),
            (Some(413), "larger than 9000000 bytes"),
            (Some(413), "more than 1000 messages"),
            (Some(408), "larger than 8000000 bytes"),
        ] {
            past.enter(News { code, detail: format_args!("{detail}"), ..NEWS }, 1, at(0));
        }
        let kept: Vec<_> =
            past.all().into_iter().map(|fact| (fact.code, fact.count, fact.detail.to_string())).collect();
        let expected = [
            (Some(413), 2, "larger than 8000000 bytes".to_owned()),
            (Some(413), 1, "more than 1000 messages".to_owned()),
            (Some(408), 1, "larger than 8000000 bytes".to_owned()),
        ];
        assert_eq!(kept, expected);
    }

    #[test]
    fn a_flood_of_one_address_pushes_out_its_own() {
        let past = Past::default();
        past.enter(News { topic: Some("other"), address: address(1), ..NEWS }, 1, at(0));
        for n in 0..5_000 {
            let topic = n.to_string();
            past.enter(News { topic: Some(&topic), address: address(2), ..NEWS }, 1, at(1));
        }
        let kept = kept(&past);
        assert_eq!(kept.len(), 1 + FACTS_PER_ADDRESS_MAX);
        assert_eq!((&*kept[0].0, &*kept[1].0, &*kept[FACTS_PER_ADDRESS_MAX].0), ("other", "4744", "4999"));
    }

    #[test]
    fn what_is_kept_has_a_bound() {
        let past = Past::default();
        for n in 0..10_000_u32 {
            let (topic, ip) = (n.to_string(), IpAddr::from(n.to_be_bytes()));
            past.enter(News { topic: Some(&topic), address: Some(ip), ..NEWS }, 1, at(u64::from(n)));
        }
        let entries = past.0.lock();
        let sizes = [entries.facts.len(), entries.newest.len(), entries.by_address.len()];
        assert_eq!(sizes, [FACTS_MAX; 3]);
        assert_eq!(entries.facts.values().next().unwrap().1.topic.as_deref(), Some("8976"));
    }

    #[test]
    fn texts_are_cut_between_characters_and_found_all_the_same() {
        let past = Past::default();
        let (long, detail) = ("ä".repeat(100), "ß".repeat(300));
        let other = format!("x{long}");
        let path = MountPath::parse(&format!("/{}", "p".repeat(100))).unwrap();
        for name in [&long, &other] {
            let news = News { user: Some(name), topic: Some(name), endpoint: Some(&path), ..NEWS };
            past.enter(News { detail: format_args!("{detail}"), ..news }, 1, at(0));
        }
        for (fact, name, other) in [(&past.all()[0], &long, &other), (&past.all()[1], &other, &long)] {
            let texts = [&fact.user, &fact.topic, &fact.endpoint, &Some(fact.detail.clone())];
            let size: usize = texts.into_iter().flatten().map(|text| text.len()).sum();
            assert!((TEXTS_SIZE_MAX - 8..=TEXTS_SIZE_MAX).contains(&size), "{size} {fact:?}");
            assert!(fact.is_of_user(name) && fact.is_about(name), "{fact:?}");
            assert!(!fact.is_of_user(other) && !fact.is_about("ä") && !fact.is_about(""), "{fact:?}");
        }
    }
}
