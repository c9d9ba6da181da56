//! What a roll's cell says of one name: with which nodes it is, what was told of it last, and which node is telling. Pure.

use bytes::Bytes;
use fanfare_proto::envelope::Incarnation;

/// So many nodes fit into a cell. What is with others besides does not count there.
const NODES_MAX: usize = 500;

/// Of what is written; cells of other versions are left as they are.
const VERSION: u8 = 1;

const IS_TOLD: u8 = 1;
const IS_TELLING: u8 = 2;
const TELLS_HERE: u8 = 4;

/// A cell that says nothing and one that is not there are the same.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Standing {
    nodes: Vec<Incarnation>,
    /// It was told last that the name is there.
    is_told: bool,
    telling: Option<Telling>,
    /// When the first node came, or the last one went, in milliseconds since 1970.
    at_ms: u64,
}

/// A node tells something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Telling {
    by: Incarnation,
    pub(super) is_here: bool,
    pub(super) id: Id,
    pub(super) at_ms: u64,
}

/// Of what is told: the node that began to, and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(pub(super) Incarnation, pub(super) u64);

/// What a node wants of a cell.
pub(super) struct Wish {
    pub(super) me: Incarnation,
    pub(super) is_here: bool,
    /// When that has become so, in milliseconds since 1970.
    pub(super) at_ms: u64,
    /// What it has told.
    pub(super) told: Option<Id>,
    /// Of the next thing that it tells.
    pub(super) next: Id,
}

impl Standing {
    /// There is no cell. It was told that the name is there, as far as this node knows, or that is not known.
    pub(super) fn nothing(is_told: bool) -> Self {
        Standing { is_told, ..Standing::default() }
    }

    /// The same without lost nodes. What those were telling is this node's to tell.
    pub(super) fn without(mut self, is_lost: impl Fn(Incarnation) -> bool, wish: &Wish) -> Self {
        let had_some = !self.nodes.is_empty();
        self.nodes.retain(|node| !is_lost(*node));
        if had_some && self.nodes.is_empty() {
            self.at_ms = wish.at_ms;
        }
        if let Some(telling) = self.telling.as_mut().filter(|telling| is_lost(telling.by)) {
            telling.by = wish.me;
        }
        self
    }

    /// The same as this node wants it. Whoever makes what is so another thing than what was told tells of it, if nobody is telling.
    pub(super) fn with(mut self, wish: &Wish) -> Self {
        let had_some = !self.nodes.is_empty();
        let place = self.nodes.iter().position(|node| *node == wish.me);
        match (place, wish.is_here) {
            (None, true) if self.nodes.len() < NODES_MAX => self.nodes.push(wish.me),
            (Some(place), false) => drop(self.nodes.remove(place)),
            _ => {}
        }
        let is_here = !self.nodes.is_empty();
        if had_some != is_here {
            self.at_ms = wish.at_ms;
        }
        if let Some(telling) = self.told_by(wish.me).filter(|telling| Some(telling.id) == wish.told) {
            self.is_told = telling.is_here;
            self.telling = None;
        }
        if self.telling.is_none() && self.is_told != is_here {
            self.telling = Some(Telling { by: wish.me, is_here, id: wish.next, at_ms: self.at_ms });
        }
        self
    }

    /// What a node is telling.
    pub(super) fn told_by(&self, node: Incarnation) -> Option<Telling> {
        self.telling.filter(|telling| telling.by == node)
    }

    pub(super) fn names(&self, node: Incarnation) -> bool {
        self.nodes.contains(&node)
    }

    /// Whether it has to do with nodes that are lost.
    pub(super) fn waits_for(&self, is_lost: impl Fn(Incarnation) -> bool) -> bool {
        self.nodes.iter().any(|node| is_lost(*node)) || self.telling.is_some_and(|telling| is_lost(telling.by))
    }

    /// Nothing is there, and nothing is left to be told.
    pub(super) fn is_over(&self) -> bool {
        self.nodes.is_empty() && !self.is_told && self.telling.is_none()
    }

    pub(super) fn to_bytes(&self) -> Bytes {
        let mut flags = if self.is_told { IS_TOLD } else { 0 };
        if let Some(telling) = &self.telling {
            flags |= IS_TELLING | if telling.is_here { TELLS_HERE } else { 0 };
        }
        let mut bytes = vec![VERSION, flags];
        let mut put = |number: u64| bytes.extend_from_slice(&number.to_le_bytes());
        put(self.at_ms);
        if let Some(Telling { by, id: Id(first, number), at_ms, .. }) = self.telling {
            [by.number(), first.number(), number, at_ms].into_iter().for_each(&mut put);
        }
        self.nodes.iter().for_each(|node| put(node.number()));
        bytes.into()
    }

    /// `None` if a later version, or other software, has written it.
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let (&[VERSION, flags @ 0..=7], mut rest) = bytes.split_first_chunk::<2>()? else { return None };
        let mut next = || {
            let (number, behind) = rest.split_first_chunk()?;
            rest = behind;
            Some(u64::from_le_bytes(*number))
        };
        let at_ms = next()?;
        let telling = match flags & IS_TELLING {
            0 => None,
            _ => Some(Telling {
                by: Incarnation::new(next()?)?,
                id: Id(Incarnation::new(next()?)?, next()?),
                at_ms: next()?,
                is_here: flags & TELLS_HERE != 0,
            }),
        };
        let (nodes, []) = rest.as_chunks() else { return None };
        let nodes = nodes.iter().map(|node| Incarnation::new(u64::from_le_bytes(*node))).collect::<Option<_>>()?;
        Some(Standing { nodes, is_told: flags & IS_TOLD != 0, telling, at_ms })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::broker::REGISTER_SIZE_MAX;

    fn node(number: u64) -> Incarnation {
        Incarnation::new(number).unwrap()
    }

    fn wish(me: u64, is_here: bool, told: Option<u64>, at_ms: u64) -> Wish {
        let me = node(me);
        Wish { me, is_here, at_ms, told: told.map(|number| Id(me, number)), next: Id(me, at_ms) }
    }

    /// What is told, by which node: `+1@5` that it is there, by the first node, since the fifth millisecond.
    fn told(standing: &Standing) -> String {
        let sign = |is_here| if is_here { "+" } else { "-" };
        let show = |telling: Telling| format!("{}{}@{}", sign(telling.is_here), telling.by.number(), telling.at_ms);
        standing.telling.map(show).unwrap_or_default()
    }

    #[test]
    fn whoever_comes_first_and_goes_last_tells_one_thing_after_the_other() {
        let mut standing = Standing::default();
        let steps: [(Wish, &str); 8] = [
            (wish(1, true, None, 5), "+1@5"),
            (wish(2, true, None, 6), "+1@5"),
            (wish(1, true, Some(5), 7), ""),
            (wish(1, false, None, 8), ""),
            (wish(2, false, None, 9), "-2@9"),
            // It is back before that is told, and then told again.
            (wish(1, true, None, 10), "-2@9"),
            (wish(2, false, Some(9), 11), "+2@10"),
            (wish(2, false, Some(11), 12), ""),
        ];
        for (wish, expected) in steps {
            standing = standing.with(&wish);
            assert_eq!(told(&standing), expected, "{}", wish.at_ms);
            assert_eq!(Standing::read(&standing.to_bytes()), Some(standing.clone()));
        }
        standing = standing.with(&wish(1, false, None, 13)).with(&wish(1, false, Some(13), 14));
        assert!(standing.is_over(), "{standing:?}");
    }

    #[test]
    fn what_a_lost_node_had_and_was_telling_is_another_ones() {
        let standing = Standing::default().with(&wish(1, true, None, 5));
        let is_lost = |lost: Incarnation| lost == node(1);
        assert!(standing.waits_for(is_lost));
        let takes = wish(2, false, None, 9);
        let standing = standing.without(is_lost, &takes).with(&takes);
        // The same as the first would have told, with the same id; then that it has gone.
        assert_eq!((told(&standing), standing.told_by(node(2)).unwrap().id), ("+2@5".into(), Id(node(1), 5)));
        let has_told = Wish { told: Some(Id(node(1), 5)), ..wish(2, false, None, 10) };
        assert_eq!(told(&standing.with(&has_told)), "-2@9");
    }

    #[test]
    fn so_many_nodes_fit_and_anything_else_is_nobodys() {
        let mut standing = Standing::default();
        for number in 1..=NODES_MAX as u64 + 1 {
            standing = standing.with(&wish(number, true, None, 1));
        }
        assert!(standing.names(node(NODES_MAX as u64)) && !standing.names(node(NODES_MAX as u64 + 1)));
        let bytes = standing.to_bytes();
        assert!(bytes.len() <= REGISTER_SIZE_MAX && Standing::read(&bytes) == Some(standing));
        for other in [&b""[..], &[1, 0, 0], &[2; 10], &[1; 12], &[1, 8, 0, 0, 0, 0, 0, 0, 0, 0], &[0; 18], &[1, 2, 0]] {
            assert_eq!(Standing::read(other), None, "{other:?}");
        }
    }
}
