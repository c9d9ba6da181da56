//! How much a node has and does, in a few numbers that are read where they are counted: no shard is asked.

use std::time::Duration;

use super::Endpoint;
use crate::event::Event;
use crate::figures::Figures;

/// What a node has, and has done since it was built.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub struct Overview {
    /// Sockets, those of this process included.
    pub sockets: usize,
    /// Memberships of topics.
    pub members: u64,
    /// Messages published.
    pub published: u64,
    /// Messages handed to members, one for each.
    pub delivered: u64,
    /// Messages that clients have sent.
    pub received: u64,
    /// Bytes that have left.
    pub sent_bytes: u64,
    /// Sockets for which something waits.
    pub waiting_sockets: u64,
    /// The bytes that wait.
    pub waiting_bytes: u64,
    /// What that takes in memory, and what was read of histories for those that have missed it, at most.
    pub waiting_memory: u64,
    /// What clients have sent and is not handled, in memory.
    pub unhandled_memory: u64,
    /// How long messages took from their publication until they were written to all members that take them, one for each message and
    /// shard: the bounds of buckets in microseconds, the last one without any, and how many fell into each.
    pub written: Vec<(u64, u64)>,
    /// Messages that were lost, by reason.
    pub dropped: Vec<(&'static str, u64)>,
    /// By the patterns of channels.
    pub channels: Vec<ChannelFigures>,
    /// Each shard.
    pub shards: Vec<ShardFigures>,
}

/// What is counted of a channel's topics.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ChannelFigures {
    /// The pattern of the topics.
    pub channel: String,
    /// Topics with members; one with members on several shards counts on each of them.
    pub topics: u64,
    /// Memberships.
    pub members: u64,
    /// Messages handed to members, one for each.
    pub delivered: u64,
}

/// What a shard has and does.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct ShardFigures {
    /// Its sockets.
    pub sockets: usize,
    /// For how many microseconds it has worked.
    pub busy_us: u64,
    /// For how many microseconds its turn has been going on; 0 while it waits for the kernel.
    pub turn_age_us: u64,
    /// Commands that its last turn has left undone.
    pub left_over: u64,
}

impl Overview {
    /// Within which time 99 of 100 of the messages that were written since an earlier moment of the same endpoint were, as far as buckets
    /// tell: within one, messages count as spread evenly. `None` if none was.
    pub fn p99_since(&self, earlier: &Overview) -> Option<Duration> {
        let both = earlier.written.iter().zip(&self.written);
        let grown: Vec<_> = both.map(|((_, was), (bound, is))| (*bound, is.saturating_sub(*was))).collect();
        let mut wanted = grown.iter().map(|(_, count)| count).sum::<u64>() as f64 * 0.99;
        let mut floor = 0;
        for (bound, count) in grown {
            let count = count as f64;
            if count > 0.0 && wanted <= count {
                // What is beyond the last bound is told as that bound.
                let width = if bound == u64::MAX { 0 } else { bound - floor };
                let us = floor as f64 + width as f64 * wanted / count;
                return Some(Duration::from_micros(us.round() as u64));
            }
            wanted -= count;
            floor = bound;
        }
        None
    }
}

impl Endpoint {
    /// How much there is on this node, and how much it has done.
    pub fn overview(&self) -> Overview {
        let channel = |(number, name): (usize, &str)| {
            let sum = |of: fn(&crate::figures::OfChannel) -> u64| {
                self.shards().iter().map(|shard| of(&shard.figures().channels[number])).sum()
            };
            ChannelFigures {
                channel: name.to_owned(),
                topics: sum(|figures| figures.topics.get()),
                members: sum(|figures| figures.members.get()),
                delivered: sum(|figures| figures.delivered.get()),
            }
        };
        let channels: Vec<_> = self.labels().names().enumerate().map(channel).collect();
        let sum = |of: fn(&Figures) -> u64| self.shards().iter().map(|shard| of(shard.figures())).sum();
        let now_us = self.clock().now_us();
        let shards = self.shards().iter().map(|shard| {
            let figures = shard.figures();
            let began_us = figures.turn_began_us.get();
            ShardFigures {
                sockets: shard.sockets(),
                busy_us: figures.busy_us.get(),
                turn_age_us: if began_us == 0 { 0 } else { now_us.saturating_sub(began_us) },
                left_over: figures.left_over.get(),
            }
        });
        let dropped = Event::ALL.iter().filter(|event| event.name().0 == "drops");
        Overview {
            sockets: self.sockets(),
            members: channels.iter().map(|channel| channel.members).sum(),
            published: self.count_of(Event::Published),
            delivered: channels.iter().map(|channel| channel.delivered).sum(),
            received: self.count_of(Event::Received),
            sent_bytes: sum(|figures| figures.outflow.bytes_websocket.get() + figures.outflow.bytes_stream.get()),
            waiting_sockets: sum(|figures| figures.outflow.waiting_sockets.get()),
            waiting_bytes: sum(|figures| figures.outflow.waiting_bytes.get()),
            waiting_memory: self.outboxes().held(),
            unhandled_memory: self.inboxes().held(),
            written: self.written(),
            dropped: dropped.map(|&event| (event.name().1, self.count_of(event))).collect(),
            channels,
            shards: shards.collect(),
        }
    }

    fn written(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        for shard in self.shards() {
            for (number, (bound, count)) in shard.figures().written.buckets().enumerate() {
                match all.get_mut(number) {
                    Some((_, sum)) => *sum += count,
                    None => all.push((bound, count)),
                }
            }
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_hundredth_of_what_was_written_since_is_told() {
        let written = |counts: [u64; 4]| {
            let bounds = [50, 100, 1_000, u64::MAX];
            Overview { written: bounds.into_iter().zip(counts).collect(), ..Overview::default() }
        };
        for (earlier, now, expected_us) in [
            ([0; 4], [0; 4], None),
            ([9, 9, 9, 9], [9, 9, 9, 9], None),
            ([0; 4], [100, 0, 0, 0], Some(50)),
            ([500, 0, 0, 0], [500, 100, 0, 0], Some(100)),
            ([0; 4], [980, 0, 20, 0], Some(550)),
            ([0; 4], [0, 0, 0, 7], Some(1_000)),
        ] {
            let p99 = written(now).p99_since(&written(earlier));
            assert_eq!(p99, expected_us.map(Duration::from_micros), "{earlier:?} {now:?}");
        }
    }
}
