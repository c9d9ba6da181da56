//! What a scenario asks of the workers: who connects, who sends when, and who comes and goes.

use std::net::IpAddr;
use std::time::Duration;

use crate::args::Backoff;
use crate::protocol::{Protocol, Role};
use crate::stream::Dialer;

/// One connection.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seat {
    /// Its topic, an index of [`Plan::topics`].
    pub(crate) topic: u32,
    pub(crate) role: Role,
    /// Its number as a publisher: those of one topic follow each other, and each topic has as many.
    pub(crate) publisher: u32,
}

/// When publishers send.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Traffic {
    None,
    /// As soon as fewer messages than this are in flight.
    Window(u32),
    /// So many a second.
    Rate(f64),
}

/// How long connections live.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Life {
    /// To the end.
    Stay,
    /// They leave as soon as they have joined, and come again.
    Churn,
    /// They are cut at a command, and come back.
    Storm(Backoff),
    /// They stay until the server closes them, and come back.
    Restart,
    /// The first ones drop and come back by themselves.
    Jitter {
        /// How many of the seats do.
        seats: u32,
        /// Nanoseconds connected, on average.
        up: u64,
        /// Nanoseconds away.
        down: u64,
    },
    /// They leave their topic and join again, so many a second in all; who is present is followed.
    Presence(f64),
}

/// Everything that the workers have to know.
pub(crate) struct Plan {
    pub(crate) seats: Vec<Seat>,
    pub(crate) topics: Vec<String>,
    pub(crate) publishers_per_topic: u32,
    pub(crate) subscribers_per_topic: u32,
    pub(crate) traffic: Traffic,
    pub(crate) life: Life,
    pub(crate) size: usize,
    /// Where single messages are broadcast: how long the clients sleep then.
    pub(crate) pause: Option<Duration>,
    pub(crate) threads: usize,
    pub(crate) connect_rate: Option<f64>,
    pub(crate) protocol: Box<dyn Protocol>,
    pub(crate) dialer: Dialer,
    pub(crate) sources: Vec<IpAddr>,
    /// Host and port for requests.
    pub(crate) authority: String,
}

impl Plan {
    /// How many publishers there are.
    pub(crate) fn publishers(&self) -> usize {
        self.topics.len() * self.publishers_per_topic as usize
    }

    /// How many of the seats drop and come back while messages flow.
    pub(crate) fn unsteady(&self) -> u32 {
        match self.life {
            Life::Jitter { seats, .. } => seats,
            _ => 0,
        }
    }
}
