//! Lists of topics: pages in an order, and how much passes through each.
//!
//! Shards are asked for a slice at a time, so that their sockets wait for nobody who looks. What they tell is put together outside of
//! them; names are shared, not copied.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hashbrown::HashMap;

use super::TopicSummary;
use crate::endpoint::Endpoint;
use crate::hub::Flow;
use crate::mailbox::{Best, Question, Seen, Slice};
use crate::policy::Slow;

/// So many topics are looked through at a time.
const SLICE: usize = 4_096;

/// What of the topics is asked for.
#[derive(Debug, Clone, Default)]
pub struct TopicQuery {
    /// Only those that begin like this.
    pub prefix: String,
    /// Only those that have this in their names.
    pub contains: String,
    /// Which come first.
    pub order: TopicOrder,
    /// At most so many.
    pub limit: usize,
    /// Only those behind this one: [`TopicPage::next`] of the page before.
    pub after: Option<String>,
    /// For how long it is looked how much passes through them; not at all if there is none, unless that is the order.
    pub window: Option<Duration>,
}

/// The order of a list of topics.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum TopicOrder {
    /// By name.
    #[default]
    Name,
    /// Those with most members first.
    Members,
    /// Those first through which most deliveries pass.
    Rate,
    /// Those first in which most is published.
    Published,
    /// Those first by the bytes of their deliveries.
    Bytes,
}

impl TopicOrder {
    /// Whether it says how much passes.
    fn is_of_rates(self) -> bool {
        matches!(self, Self::Rate | Self::Published | Self::Bytes)
    }
}

/// A part of a list of topics.
#[derive(Debug, Default)]
#[non_exhaustive]
pub struct TopicPage {
    /// In the order that was asked for.
    pub topics: Vec<TopicRow>,
    /// How many there are of those that begin like what was asked for.
    pub total: usize,
    /// What to ask for to go on, if there are more. Those that have moved in the order meanwhile may be missed or come twice.
    pub next: Option<String>,
}

/// One of a list of topics.
#[derive(Debug)]
#[non_exhaustive]
pub struct TopicRow {
    /// It and who is there.
    pub summary: TopicSummary,
    /// How much passes through it, if that was looked at.
    pub rates: Option<Rates>,
}

/// How much passes through a topic on this node, a second.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
#[non_exhaustive]
pub struct Rates {
    /// Messages published.
    pub published: f64,
    /// Messages delivered, one for each member.
    pub delivered: f64,
    /// Bytes of these.
    pub bytes: f64,
}

/// A topic and what holds for it.
#[derive(Debug)]
#[non_exhaustive]
pub struct TopicReport {
    /// Its members by shard.
    pub members: Vec<usize>,
    /// How much passes through it.
    pub rates: Rates,
    /// What happens to its messages where a reader is slow.
    pub slow: Slow,
    /// How many messages of it may be kept, how many bytes, and how long.
    pub history: Option<fanfare_proto::history::Retention>,
    /// The first of the declared patterns that fits it, by which it is counted.
    pub channel: String,
}

type AllSeen = HashMap<Arc<str>, Seen, foldhash::fast::RandomState>;

/// A place in the order: the lowest come first.
type Rank = (u64, Arc<str>);

impl Rates {
    /// What has passed between two looks. A topic that was gone meanwhile counts from its new beginning.
    fn between(before: Seen, after: Seen, time: Duration) -> Self {
        let seconds = time.as_secs_f64().max(0.001);
        let is_same = after.flow.delivered >= before.flow.delivered && after.flow.published >= before.flow.published;
        let begin = if is_same { before.flow } else { Flow::default() };
        Rates {
            published: after.flow.published.saturating_sub(begin.published) as f64 / seconds,
            delivered: after.flow.delivered.saturating_sub(begin.delivered) as f64 / seconds,
            bytes: after.flow.bytes.saturating_sub(begin.bytes) as f64 / seconds,
        }
    }
}

impl Endpoint {
    /// A page of the topics that have members on this node, and of those that a hub's publisher has started. Some may appear and
    /// vanish meanwhile: what was there all the time is told.
    pub async fn list_topics(&self, query: &TopicQuery) -> TopicPage {
        let window = query.window.or(query.order.is_of_rates().then_some(Duration::from_secs(1)));
        let Some(window) = window else {
            return self.page_of_topics(query, None).await;
        };
        let (before, at) = (self.seen_topics(&query.prefix).await, Instant::now());
        tokio::time::sleep(window).await;
        self.page_of_topics(query, Some((&before, at))).await
    }

    /// What is known of one topic. It takes as long as it is looked what passes through it.
    pub async fn topic(&self, topic: &str, window: Duration) -> TopicReport {
        let (before, at) = (self.look_at(topic).await, Instant::now());
        tokio::time::sleep(window).await;
        let after = self.look_at(topic).await;
        let sum = |shards: &[Seen]| {
            shards.iter().fold(Seen::default(), |mut sum, &seen| {
                sum.add(seen);
                sum
            })
        };
        let labels = self.labels();
        TopicReport {
            members: after.iter().map(|seen| seen.members).collect(),
            rates: Rates::between(sum(&before), sum(&after), at.elapsed()),
            slow: self.policies().slow(topic).map(|slow| (**slow).clone()).unwrap_or_default(),
            history: self.policies().retention(topic),
            channel: labels.names().nth(labels.of(topic)).unwrap_or_default().to_owned(),
        }
    }

    async fn look_at(&self, topic: &str) -> Vec<Seen> {
        let mut all = Vec::new();
        for shard in self.shards() {
            let seen = shard.ask_promptly(|answer| Question::Topic { topic: topic.into(), answer }).await;
            all.push(seen.unwrap_or_default());
        }
        all
    }

    /// All topics of a prefix on all shards.
    async fn seen_topics(&self, prefix: &str) -> AllSeen {
        let mut seen = AllSeen::default();
        for shard in self.shards() {
            let mut next = Some(0);
            while let Some(from) = next {
                let some = |answer| Question::Topics { prefix: prefix.into(), from, places: SLICE, answer };
                let slice = shard.ask_promptly(some).await;
                let Slice { items, next: rest } = slice.unwrap_or_default();
                for (topic, on_shard) in items {
                    seen.entry(topic).or_default().add(on_shard);
                }
                next = rest;
            }
        }
        seen
    }

    async fn page_of_topics(&self, query: &TopicQuery, before: Option<(&AllSeen, Instant)>) -> TopicPage {
        let mut seen = self.seen_topics(&query.prefix).await;
        let time = before.map(|(_, at)| at.elapsed());
        let mut last: Option<String> = None;
        loop {
            let slice = self.started().after(last.as_deref(), SLICE);
            last = slice.last().map(|(topic, _)| topic.clone());
            let is_end = slice.len() < SLICE;
            for (topic, _) in slice.into_iter().filter(|(topic, _)| topic.starts_with(&query.prefix)) {
                seen.entry(topic.into()).or_default();
            }
            if is_end {
                break;
            }
        }
        seen.retain(|topic, _| topic.contains(&query.contains));
        let total = seen.len();
        let after = query.after.as_deref().map(|text| rank_of_cursor(query.order, text));
        let mut best = Best::<Rank, (Seen, Option<Rates>)>::new(query.limit);
        for (topic, seen) in seen {
            let rates = before
                .zip(time)
                .map(|((all, _), time)| Rates::between(all.get(&topic).copied().unwrap_or_default(), seen, time));
            let value = match query.order {
                TopicOrder::Name => 0,
                TopicOrder::Members => u64::MAX - seen.members as u64,
                TopicOrder::Rate => most(rates, |rates| rates.delivered),
                TopicOrder::Published => most(rates, |rates| rates.published),
                TopicOrder::Bytes => most(rates, |rates| rates.bytes),
            };
            let rank = (value, topic);
            if after.as_ref().is_none_or(|after| rank > *after) {
                best.offer(rank, (seen, rates));
            }
        }
        let (page, has_more) = best.into_page();
        let next = page.last().filter(|_| has_more).map(|(rank, _)| cursor(query.order, rank));
        let row = |((_, topic), (seen, rates)): (Rank, (Seen, Option<Rates>))| {
            let started = self.started().of(&topic);
            TopicRow {
                summary: TopicSummary {
                    topic: topic.to_string(),
                    members: seen.members,
                    is_started: started.is_some(),
                    publisher: started.flatten(),
                    publisher_node: None,
                },
                rates,
            }
        };
        let mut topics: Vec<_> = page.into_iter().map(row).collect();
        self.find_publishers_elsewhere(&mut topics).await;
        TopicPage { topics, total, next }
    }

    /// Adds the publishers that other nodes have.
    async fn find_publishers_elsewhere(&self, rows: &mut [TopicRow]) {
        if !self.has_other_nodes() {
            return;
        }
        let is_open = |row: &&mut TopicRow| !row.summary.is_started && self.is_of_a_hub(&row.summary.topic);
        let mut open: Vec<_> = rows.iter_mut().filter(is_open).collect();
        let topics: Vec<&str> = open.iter().map(|row| &*row.summary.topic).collect();
        let holders = self.holders_elsewhere(&topics).await;
        for (row, holder) in open.iter_mut().zip(holders) {
            row.summary.is_started = holder.is_some();
            row.summary.publisher_node =
                holder.filter(|holder| !holder.is_waiting).map(|holder| holder.node.to_string());
        }
    }
}

/// The highest goes first.
fn most(rates: Option<Rates>, of: fn(&Rates) -> f64) -> u64 {
    u64::MAX - rates.as_ref().map_or(0, |rates| of(rates).round() as u64)
}

fn cursor(order: TopicOrder, (value, topic): &Rank) -> String {
    match order {
        TopicOrder::Name => topic.to_string(),
        _ => format!("{}:{topic}", u64::MAX - value),
    }
}

/// What is no cursor goes before everything.
fn rank_of_cursor(order: TopicOrder, text: &str) -> Rank {
    if order == TopicOrder::Name {
        return (0, text.into());
    }
    let split = text.split_once(':').and_then(|(value, topic)| Some((value.parse::<u64>().ok()?, topic)));
    split.map_or((0, "".into()), |(value, topic)| (u64::MAX - value, topic.into()))
}
