//! How the links of a node to its broker stand.

use std::time::Duration;

/// A link that is down or deaf for so long makes its node unready.
const UNREADY_AFTER: Duration = Duration::from_secs(5);

/// How a link of this node to a server of its broker stands, and what was counted of the topics that it carries.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct BrokerLink {
    /// The kind of broker and where the server is, without credentials: `redis 2 of 3 (10.0.0.7:6379)`.
    pub name: String,
    /// Why it is down; `None` while it is up.
    pub down: Option<String>,
    /// For how long it has been up or down.
    pub since: Duration,
    /// How long ago the node has heard what it publishes to itself every second, if it ever has.
    pub heard: Option<Duration>,
    /// How long the last of these messages was on its way.
    pub round: Option<Duration>,
    /// How often it came up.
    pub ups: u64,
    /// Messages that came before the one that they follow.
    pub holes: u64,
    /// Reads of logs for what was missing.
    pub repairs: u64,
    /// Gaps that were told of, since messages are gone: of topics with a history.
    pub gaps: u64,
    /// The same of topics without one.
    pub lost: u64,
    /// Messages of other nodes that came twice, and were dropped.
    pub doubles: u64,
}

impl BrokerLink {
    /// One that is up, with nothing counted.
    pub(crate) fn new(name: &str) -> Self {
        BrokerLink {
            name: name.to_owned(),
            down: None,
            since: Duration::ZERO,
            heard: None,
            round: None,
            ups: 1,
            holes: 0,
            repairs: 0,
            gaps: 0,
            lost: 0,
            doubles: 0,
        }
    }

    /// Why no clients should be sent to this node, if it has been cut off from this server for five seconds, or has not been connected to it
    /// since the start.
    pub fn trouble(&self) -> Option<String> {
        let silent = match (&self.down, self.heard) {
            (Some(_), None) if self.ups == 0 => UNREADY_AFTER.max(self.since),
            (Some(_), _) => self.since,
            (None, Some(heard)) => heard.min(self.since),
            (None, None) => return None,
        };
        if silent < UNREADY_AFTER {
            return None;
        }
        let name = &self.name;
        Some(match self.heard {
            Some(heard) => format!("deaf: {name}: last canary {:.1} s ago", heard.as_secs_f64()),
            None if self.ups == 0 => {
                format!("deaf: {name}: not connected since the start, {:.1} s ago", self.since.as_secs_f64())
            }
            None => format!("deaf: {name}: no canary yet, and down for {:.1} s", silent.as_secs_f64()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_that_is_down_or_deaf_for_five_seconds_is_trouble() {
        let seconds = Duration::from_secs_f64;
        for (down, ups, since, heard, expected) in [
            (false, 1, 0.0, None, None),
            (false, 1, 100.0, Some(1.0), None),
            (false, 1, 100.0, Some(6.24), Some("deaf: redis 2 of 3 (10.0.0.7:6379): last canary 6.2 s ago")),
            // It has just come back, and its first canary is under way.
            (false, 2, 0.5, Some(30.0), None),
            (true, 1, 4.9, Some(5.5), None),
            (true, 1, 5.0, Some(6.2), Some("deaf: redis 2 of 3 (10.0.0.7:6379): last canary 6.2 s ago")),
            (true, 1, 4.9, None, None),
            (true, 1, 7.0, None, Some("deaf: redis 2 of 3 (10.0.0.7:6379): no canary yet, and down for 7.0 s")),
            // Clients that came now would wait for it.
            (true, 0, 0.2, None, Some("deaf: redis 2 of 3 (10.0.0.7:6379): not connected since the start, 0.2 s ago")),
        ] {
            let link = BrokerLink {
                down: down.then(|| "it does not answer".to_owned()),
                since: seconds(since),
                ups,
                heard: heard.map(seconds),
                ..BrokerLink::new("redis 2 of 3 (10.0.0.7:6379)")
            };
            assert_eq!(link.trouble().as_deref(), expected, "{link:?}");
        }
    }
}
