//! Lists of sockets: pages in an order, with what is known of each, and one socket by its name.

use std::sync::Arc;

use crate::close_reason::CloseReason;
use crate::endpoint::Endpoint;
use crate::key::SocketId;
use crate::mailbox::{
    Best, Command, Question, Search, Slice, SocketPage, SocketPlace, SocketQuery, SocketReport, TopicMember,
};

/// So many sockets are looked through at a time: fewer than topics, since each lies somewhere else in memory.
const SLICE: usize = 1_024;

/// So many members of a topic are looked through at a time.
const MEMBERS_SLICE: usize = 1_000;

impl Endpoint {
    /// A page of the clients' sockets on this node. Some may come and go meanwhile.
    pub async fn list_sockets(&self, query: SocketQuery) -> SocketPage {
        let query = Arc::new(query);
        let mut best = Best::<SocketPlace, SocketReport>::new(query.limit);
        let mut total = 0;
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let search = Search { query: query.clone(), bar: best.bar().copied() };
                let found =
                    shard.ask_promptly(|answer| Question::Sockets { search, from, places: SLICE, answer }).await;
                let found = found.unwrap_or_default();
                found.best.into_iter().for_each(|(place, socket)| best.offer(place, socket));
                best.leave_out(found.has_more);
                total += found.total;
                next = found.next;
            }
        }
        let (page, has_more) = best.into_page();
        let next = page.last().filter(|_| has_more).map(|(place, _)| *place);
        SocketPage { sockets: page.into_iter().map(|(_, socket)| socket).collect(), total, next }
    }

    /// All clients' sockets of this node, folded into one value: nobody needs to hold a list of them.
    pub async fn fold_sockets<T: Send>(&self, init: T, mut fold: impl FnMut(T, SocketReport) -> T) -> T {
        let query = Arc::new(SocketQuery { limit: SLICE, ..SocketQuery::default() });
        let mut value = init;
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let search = Search { query: query.clone(), bar: None };
                let found =
                    shard.ask_promptly(|answer| Question::Sockets { search, from, places: SLICE, answer }).await;
                let found = found.unwrap_or_default();
                value = found.best.into_iter().fold(value, |value, (_, socket)| fold(value, socket));
                next = found.next;
            }
        }
        value
    }

    /// One socket of this node and the topics that it has joined, at most so many of them.
    pub async fn find_socket(&self, id: SocketId, topics_max: usize) -> Option<(SocketReport, Vec<Arc<str>>)> {
        let shard = self.shards().get(usize::from(id.shard))?;
        shard.ask_promptly(|answer| Question::Socket { socket: id.key, topics_max, answer }).await.ok()?
    }

    /// Closes a socket of this node with a code and a text of yours, or with 1001 as a [disconnect](Endpoint::disconnect) does. Says whether it
    /// was there.
    pub async fn close_socket(&self, id: SocketId, with: Option<(u16, String)>) -> bool {
        let Some(shard) = self.shards().get(usize::from(id.shard)) else { return false };
        let found = self.find_socket(id, 0).await;
        let is_there = found.is_some();
        if is_there {
            let reason = match with {
                Some((code, text)) => CloseReason::Application(code, text.into()),
                None => CloseReason::Disconnect,
            };
            shard.send(Command::Close { socket: id.key, reason });
        }
        is_there
    }

    /// Some of the members of a topic on this node, and where the next begin: what to give as `from`. Others may join and leave
    /// meanwhile, and one that moved for that may be missed, or come twice.
    pub async fn list_members(
        &self,
        topic: &str,
        from: (usize, usize),
        limit: usize,
    ) -> (Vec<TopicMember>, Option<(usize, usize)>) {
        let (mut members, (first, mut place)) = (Vec::new(), from);
        for (number, shard) in self.shards().iter().enumerate().skip(first) {
            loop {
                let left = limit.saturating_sub(members.len()).min(MEMBERS_SLICE);
                if left == 0 {
                    return (members, Some((number, place)));
                }
                let some = |answer| Question::MemberSockets { topic: topic.into(), from: place, count: left, answer };
                let slice = shard.ask_promptly(some).await;
                let Slice { items, next } = slice.unwrap_or_default();
                members.extend(items);
                match next {
                    Some(next) => place = next,
                    None => break,
                }
            }
            place = 0;
        }
        (members, None)
    }
}
