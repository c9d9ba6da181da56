//! The slots of a Redis Cluster: which one a name has, and which servers have them.

use fanfare_proto::resp::Value;

use crate::broker::crc16::crc16;

/// So many there are.
pub(super) const SLOTS: usize = 16_384;

/// A slot.
pub(super) type Slot = u16;

/// A server, by host and port.
pub(super) type Address = (String, u16);

/// The slot of a tag, which stands between the braces of a name.
pub(super) fn slot_of(tag: &[u8]) -> Slot {
    (crc16(tag) as usize % SLOTS) as Slot
}

/// A tag with this in front whose slot is one of those. There is one as long as there is any slot.
pub(super) fn tag_within(prefix: &str, slots: &[(Slot, Slot)]) -> String {
    let is_within = |tag: &str| {
        let slot = slot_of(tag.as_bytes());
        slots.iter().any(|(first, last)| (*first..=*last).contains(&slot))
    };
    // A server with a single slot is found after some 16,000 tags.
    let mut tags = (0u32..1_000_000).map(|number| format!("{prefix}{number}"));
    tags.find(|tag| is_within(tag)).unwrap_or_else(|| prefix.to_owned())
}

/// Ranges of slots with the masters that have them, in the order of the slots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Map(pub(super) Vec<Range>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) first: Slot,
    pub(super) last: Slot,
    pub(super) master: Address,
}

impl Map {
    /// Reads the answer to `CLUSTER SLOTS` of a server that was asked at this host: it may not know its own name.
    ///
    /// # Errors
    /// It is none, or there are slots that nobody has.
    pub(super) fn read(answer: Value<'_>, asked: &str) -> Result<Self, String> {
        let senseless = || "its answer to CLUSTER SLOTS makes no sense; is it a Redis Cluster?".to_owned();
        let mut ranges = Vec::new();
        for range in answer.items().ok_or_else(senseless)? {
            let mut parts = range.items().ok_or_else(senseless)?;
            let mut slot = || Slot::try_from(parts.next()?.number()?).ok().filter(|slot| usize::from(*slot) < SLOTS);
            let (Some(first), Some(last)) = (slot(), slot()) else { return Err(senseless()) };
            let mut master = parts.next().and_then(Value::items).ok_or_else(senseless)?;
            let host =
                master.next().and_then(Value::text).and_then(|host| str::from_utf8(host).ok()).unwrap_or_default();
            let port = master.next().and_then(Value::number).and_then(|port| u16::try_from(port).ok());
            let host = if matches!(host, "" | "?") { asked } else { host };
            let master = (host.to_owned(), port.ok_or_else(senseless)?);
            ranges.push(Range { first, last, master });
        }
        ranges.sort_unstable_by_key(|range| range.first);
        let mut next = 0;
        for range in &ranges {
            if usize::from(range.first) != next || range.last < range.first {
                break;
            }
            next = usize::from(range.last) + 1;
        }
        match next {
            SLOTS => Ok(Map(ranges)),
            next => {
                Err(format!("no server has the slot {next}; look at CLUSTER SHARDS, and give each slot to a master"))
            }
        }
    }

    /// All masters, each once.
    pub(super) fn masters(&self) -> Vec<Address> {
        let mut masters: Vec<_> = self.0.iter().map(|range| range.master.clone()).collect();
        masters.sort_unstable();
        masters.dedup();
        masters
    }

    /// The slots of one.
    pub(super) fn slots(&self, master: &Address) -> Vec<(Slot, Slot)> {
        let its = self.0.iter().filter(|range| range.master == *master);
        its.map(|range| (range.first, range.last)).collect()
    }
}

/// Where else something is to be asked, as an error says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Redirection {
    /// For this once: the slot is on its way.
    pub(super) is_ask: bool,
    /// Without a host it is the one that says so.
    pub(super) to: Address,
}

impl Redirection {
    /// Reads it, if it is one.
    pub(super) fn read(error: &[u8]) -> Option<Self> {
        let mut words = str::from_utf8(error).ok()?.split(' ');
        let is_ask = match words.next()? {
            "MOVED" => false,
            "ASK" => true,
            _ => return None,
        };
        words.next()?.parse::<Slot>().ok()?;
        let (host, port) = words.next()?.rsplit_once(':')?;
        Some(Redirection { is_ask, to: (host.to_owned(), port.parse().ok()?) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_are_those_of_redis() {
        for (tag, slot) in [("123456789", 12_739), ("", 0), ("foo", 12_182), ("lobby", 10_294), ("registers", 16_026)] {
            assert_eq!(slot_of(tag.as_bytes()), slot, "{tag}");
        }
        let slots = [(100, 200), (16_000, 16_383)];
        let tag = tag_within("x-", &slots);
        let slot = slot_of(tag.as_bytes());
        assert!(tag.starts_with("x-") && slots.iter().any(|(first, last)| (*first..=*last).contains(&slot)), "{tag}");
    }

    #[test]
    fn maps() {
        let a = |host: &str| (host.to_owned(), 7_000);
        let read = |text: &str| Map::read(Value::read(text.as_bytes()), "10.0.0.9");
        let range = |first: u16, last: u16, host: &str| {
            format!("*3\r\n:{first}\r\n:{last}\r\n*3\r\n${}\r\n{host}\r\n:7000\r\n+id\r\n", host.len())
        };
        let whole = format!("*3\r\n{}{}{}", range(9_000, 16_383, "b"), range(0, 99, "b"), range(100, 8_999, ""));
        let map = read(&whole).unwrap();
        assert_eq!(map.masters(), [a("10.0.0.9"), a("b")]);
        assert_eq!(map.slots(&a("b")), [(0, 99), (9_000, 16_383)]);
        for (text, said) in [
            ("*0\r\n".to_owned(), "no server has the slot 0"),
            (format!("*1\r\n{}", range(0, 16_382, "b")), "no server has the slot 16383"),
            (format!("*2\r\n{}{}", range(0, 99, "b"), range(200, 16_383, "b")), "no server has the slot 100"),
            (format!("*1\r\n{}", range(0, 16_384, "b")), "makes no sense"),
            ("+OK\r\n".to_owned(), "makes no sense"),
        ] {
            let error = read(&text).unwrap_err();
            assert!(error.contains(said), "{text:?}: {error}");
        }
    }

    #[test]
    fn redirections() {
        for (error, expected) in [
            ("MOVED 3999 127.0.0.1:6381", Some((false, ("127.0.0.1", 6_381)))),
            ("ASK 3999 ::1:6381", Some((true, ("::1", 6_381)))),
            ("MOVED 3999 :6381", Some((false, ("", 6_381)))),
            ("MOVED x 127.0.0.1:6381", None),
            ("MOVED 1 127.0.0.1", None),
            ("CLUSTERDOWN Hash slot not served", None),
        ] {
            let expected = expected.map(|(is_ask, (host, port))| Redirection { is_ask, to: (host.to_owned(), port) });
            assert_eq!(Redirection::read(error.as_bytes()), expected, "{error}");
        }
    }
}
