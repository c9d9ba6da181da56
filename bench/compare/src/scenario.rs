//! What is measured: one row for each scenario.

use crate::server::{CEILING, CEILING_PHOENIX, FANFARE, FANFARE_2, FANFARE_TLS};

/// One kind of load.
#[derive(Debug)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    /// The block of the page that it belongs to.
    pub(crate) group: &'static str,
    pub(crate) title: &'static str,
    /// The scenario of `fanfare bench`, and its options.
    pub(crate) args: &'static [&'static str],
    pub(crate) seconds: f64,
    pub(crate) warmup: f64,
    /// What else a run takes, in seconds: connecting above all. Only for the guess of how long all takes.
    pub(crate) setup: f64,
    /// The first one is plotted, and is what the summary shows.
    pub(crate) figures: &'static [Figure],
    /// What Fanfare is meant to reach, as the summary shows it.
    pub(crate) bar: &'static str,
    /// Whether the ceiling puts what one read has brought into one send: only fair if several messages are in flight.
    pub(crate) coalesces: bool,
    /// Which of the ceiling and Fanfare run, in every round.
    pub(crate) ours: &'static [&'static str],
    /// In how many rounds it takes part at most: some settle within one.
    pub(crate) rounds_max: u32,
    /// In how many rounds the other servers run: they cost time, and their distance is large.
    pub(crate) peer_rounds: u32,
}

/// A figure of the report of `fanfare bench`.
#[derive(Debug, PartialEq)]
pub(crate) struct Figure {
    /// Where it is, as JSON pointer.
    pub(crate) pointer: &'static str,
    pub(crate) title: &'static str,
    pub(crate) unit: &'static str,
    /// What it is multiplied by to be shown, and with how many decimals.
    pub(crate) scale: f64,
    pub(crate) decimals: usize,
    pub(crate) more_is_better: bool,
    /// Whether a ratio to the ceiling says anything: it has next to no memory, and no joins.
    pub(crate) compares: bool,
}

const PER_CPU: Figure = Figure {
    pointer: "/deliveries_per_server_cpu_s",
    title: "deliveries a second of server CPU",
    unit: "thousands",
    scale: 1e-3,
    decimals: 0,
    more_is_better: true,
    compares: true,
};
const P99: Figure = Figure {
    pointer: "/latency_us/p99",
    title: "latency, p99",
    unit: "ms",
    scale: 1e-3,
    decimals: 2,
    more_is_better: false,
    compares: true,
};
const P50: Figure = Figure {
    pointer: "/latency_us/p50",
    title: "median latency",
    unit: "ms",
    scale: 1e-3,
    decimals: 2,
    more_is_better: false,
    compares: true,
};
const MEMORY: Figure = Figure {
    pointer: "/scenario_figures/bytes_per_connection",
    title: "memory of one connection more",
    unit: "bytes",
    scale: 1.0,
    decimals: 0,
    more_is_better: false,
    compares: false,
};
const JOINS_PER_CPU: Figure = Figure {
    pointer: "/scenario_figures/joins_per_server_cpu_s",
    title: "joins a second of server CPU",
    unit: "thousands",
    scale: 1e-3,
    decimals: 1,
    more_is_better: true,
    compares: false,
};
const ALL_BACK: Figure = Figure {
    pointer: "/scenario_figures/all_back_ms",
    title: "all back after",
    unit: "ms",
    scale: 1.0,
    decimals: 0,
    more_is_better: false,
    compares: true,
};
const FINISH: Figure = Figure {
    pointer: "/scenario_figures/finish_us/median",
    title: "the last one has it after",
    unit: "ms",
    scale: 1e-3,
    decimals: 1,
    more_is_better: false,
    compares: true,
};

const MAIN: &[&str] = &[CEILING, CEILING_PHOENIX, FANFARE, FANFARE_2];
/// Where few bytes are sent at once, their number does not matter.
const FEW_BYTES: &[&str] = &[CEILING, FANFARE, FANFARE_2];

/// As many rounds as were asked for.
const ALL_ROUNDS: u32 = u32::MAX;

pub(crate) const FANOUT: &str = "fan-out";
pub(crate) const LATENCY: &str = "latency";
pub(crate) const ROOMS: &str = "rooms";
pub(crate) const IDLE: &str = "idle";
pub(crate) const CONNECT: &str = "connect";
pub(crate) const FINISH_TIME: &str = "finish";

/// All of them, in the order of the page.
pub(crate) const ALL: &[Scenario] = &[
    fanout(
        "fanout-1000-w1",
        "1,000 subscribers, one message in flight",
        &["fanout", "--clients", "1000", "--window", "1"],
        false,
        2,
    ),
    fanout(
        "fanout-1000-w16",
        "1,000 subscribers, 16 messages in flight",
        &["fanout", "--clients", "1000", "--window", "16"],
        true,
        2,
    ),
    Scenario {
        warmup: 1.0,
        setup: 3.0,
        ..fanout(
            "fanout-10000-w1",
            "10,000 subscribers, one message in flight",
            &["fanout", "--clients", "10000", "--window", "1"],
            false,
            1,
        )
    },
    Scenario {
        warmup: 1.0,
        setup: 3.0,
        ..fanout(
            "fanout-10000-w8",
            "10,000 subscribers, 8 messages in flight",
            &["fanout", "--clients", "10000", "--window", "8"],
            true,
            1,
        )
    },
    fanout(
        "fanout-1000-512",
        "1,000 subscribers, 16 messages of 512 bytes in flight",
        &["fanout", "--clients", "1000", "--window", "16", "--size", "512"],
        true,
        1,
    ),
    latency(
        "latency-100",
        "100 subscribers, 500 messages a second",
        &["fanout", "--clients", "100", "--rate", "500"],
        1,
    ),
    latency(
        "latency-1000",
        "1,000 subscribers, 50 messages a second",
        &["fanout", "--clients", "1000", "--rate", "50"],
        1,
    ),
    Scenario {
        warmup: 1.0,
        setup: 3.0,
        ..latency(
            "latency-10000",
            "10,000 subscribers, 5 messages a second",
            &["fanout", "--clients", "10000", "--rate", "5"],
            0,
        )
    },
    rooms(
        "rooms-1",
        "1,000 clients in rooms of 10, each sends one message a second",
        &["rooms", "--clients", "1000", "--members", "10", "--rate", "1"],
    ),
    rooms(
        "rooms-10",
        "1,000 clients in rooms of 10, each sends ten messages a second",
        &["rooms", "--clients", "1000", "--members", "10", "--rate", "10"],
    ),
    rooms("echo-64", "64 clients, each is answered alone", &["echo", "--clients", "64", "--window", "1"]),
    Scenario {
        name: "idle",
        group: IDLE,
        title: "Memory of one more connection, from 5,000 to 19,000",
        args: &["idle", "--steps", "5000,19000"],
        seconds: 1.0,
        warmup: 0.5,
        setup: 8.0,
        figures: &[MEMORY],
        bar: "at most 1,500 bytes",
        coalesces: false,
        ours: &[CEILING, FANFARE],
        rounds_max: 3,
        peer_rounds: 1,
    },
    Scenario {
        name: "idle-tls",
        group: IDLE,
        title: "Memory of one more connection over TLS, from 1,000 to 6,000",
        args: &["idle", "--steps", "1000,6000"],
        seconds: 1.0,
        warmup: 0.5,
        setup: 8.0,
        figures: &[MEMORY],
        bar: "at most 12,000 bytes",
        coalesces: false,
        ours: &[FANFARE_TLS],
        rounds_max: 2,
        peer_rounds: 0,
    },
    Scenario {
        name: "storm",
        group: CONNECT,
        title: "5,000 clients are cut and come back at once",
        args: &["storm", "--clients", "5000", "--rounds", "1", "--backoff", "none"],
        seconds: 1.0,
        warmup: 0.0,
        setup: 4.0,
        figures: &[JOINS_PER_CPU, ALL_BACK],
        bar: "at least 10 thousands",
        coalesces: false,
        ours: &[CEILING, FANFARE, FANFARE_2],
        rounds_max: 3,
        peer_rounds: 1,
    },
    Scenario {
        name: "finish",
        group: FINISH_TIME,
        title: "One message to 10,000 subscribers that do not run meanwhile",
        args: &["broadcast", "--clients", "10000", "--rounds", "5"],
        seconds: 2.5,
        warmup: 0.0,
        setup: 4.0,
        figures: &[FINISH],
        bar: "",
        coalesces: false,
        ours: MAIN,
        rounds_max: 3,
        peer_rounds: 1,
    },
];

/// A few seconds with few clients: that everything works, not how fast.
pub(crate) const QUICK: &[Scenario] = &[
    Scenario {
        seconds: 0.3,
        warmup: 0.1,
        setup: 0.4,
        ..fanout(
            "quick-fanout",
            "100 subscribers, 16 messages in flight",
            &["fanout", "--clients", "100", "--window", "16"],
            true,
            1,
        )
    },
    Scenario {
        seconds: 0.3,
        warmup: 0.1,
        setup: 0.4,
        ..rooms(
            "quick-rooms",
            "100 clients in rooms of 10, each sends five messages a second",
            &["rooms", "--clients", "100", "--members", "10", "--rate", "5"],
        )
    },
    Scenario {
        name: "quick-idle",
        group: IDLE,
        title: "Memory of one more connection over TLS, from 50 to 100",
        args: &["idle", "--steps", "50,100"],
        seconds: 0.3,
        warmup: 0.1,
        setup: 0.4,
        figures: &[MEMORY],
        bar: "",
        coalesces: false,
        ours: &[FANFARE_TLS],
        rounds_max: 1,
        peer_rounds: 0,
    },
];

/// One publishes as fast as the window lets it, all others get it.
const fn fanout(
    name: &'static str,
    title: &'static str,
    args: &'static [&'static str],
    coalesces: bool,
    peer_rounds: u32,
) -> Scenario {
    Scenario {
        name,
        group: FANOUT,
        title,
        args,
        seconds: 2.0,
        warmup: 0.5,
        setup: 0.8,
        figures: &[PER_CPU, P99],
        bar: "at least 0.92",
        coalesces,
        ours: MAIN,
        rounds_max: ALL_ROUNDS,
        peer_rounds,
    }
}

/// At a fixed rate: how long it takes.
const fn latency(name: &'static str, title: &'static str, args: &'static [&'static str], peer_rounds: u32) -> Scenario {
    Scenario {
        name,
        group: LATENCY,
        title,
        args,
        seconds: 3.0,
        warmup: 0.5,
        setup: 0.8,
        figures: &[P99, P50, PER_CPU],
        bar: "at most 1.10",
        coalesces: false,
        ours: FEW_BYTES,
        rounds_max: ALL_ROUNDS,
        peer_rounds,
    }
}

/// What comes in weighs as much as what goes out.
const fn rooms(name: &'static str, title: &'static str, args: &'static [&'static str]) -> Scenario {
    Scenario {
        name,
        group: ROOMS,
        title,
        args,
        seconds: 2.0,
        warmup: 0.5,
        setup: 0.8,
        figures: &[PER_CPU, P99],
        bar: "",
        coalesces: false,
        ours: FEW_BYTES,
        rounds_max: ALL_ROUNDS,
        peer_rounds: 1,
    }
}
