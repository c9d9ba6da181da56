//! The data of the rules: edit here when a module is added or moves.

use super::figures::{self, Figure};

/// The top-level modules of the engine, lowest layer first. A module may use those of its own layer and below.
pub(super) const ENGINE: &[&[&str]] = &[
    &["trace"],
    &["error", "clock", "key", "guard"],
    &["path", "address", "message", "interest"],
    &["event", "room", "publish", "body"],
    &["fact", "figures", "close_reason", "timers"],
    &["gap", "broker", "tap", "dialect"],
    &["policy", "outbox", "token", "authority"],
    &["history", "transport", "hub", "surroundings"],
    &["cluster", "tenant"],
    &["mailbox", "connect", "endpoint", "presence"],
    &["channel", "observer", "registry"],
    &["mount", "relay"],
    &["gate"],
    &["protocol", "socket"],
    &["shard", "service"],
    &["builder", "serve", "axum"],
    &["testing"],
];

/// The engine's sources; its root file ties the modules together and may name them all.
pub(super) const ENGINE_SOURCES: &str = "crates/fanfare/src/";
pub(super) const SERVER_SOURCES: &str = "crates/fanfare-server/src/";

/// Pairs of `(module, module it must not use)` that the layers alone would allow.
pub(super) const STRANGERS: &[(&str, &str)] = &[];

/// Uses of a higher layer that are wanted nevertheless: `(module, the higher one, why)`. One that is not needed any more
/// is a breach as well.
pub(super) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("mailbox", "channel", "what a channel's code came to, and what it answers, reaches its shard as a command"),
    ("endpoint", "gate", "the handle that channels are given is the one that is mounted"),
    ("connect", "mount", "a socket keeps the mount by which it has connected"),
];

/// How the engine is built, in numbers. `cargo xtask layering --figures` prints what they are and what makes them up; a limit is
/// lowered whenever its number has become smaller, down to the goal.
pub(super) const FIGURES: &[Figure] = &[
    Figure { what: "methods in `impl Shard`", measure: figures::methods_of_shard, max: 70, goal: 70 },
    Figure {
        what: "largest circle of files by calls through `self`",
        measure: figures::circle_through_self,
        max: 5,
        goal: 5,
    },
    Figure {
        what: "largest circle of the engine's modules by imports",
        measure: figures::circle_of_engine,
        max: 7,
        goal: 7,
    },
    Figure {
        what: "largest circle of the server's modules by imports",
        measure: figures::circle_of_server,
        max: 0,
        goal: 0,
    },
    Figure { what: "exceptions in the table of layers", measure: figures::exceptions, max: 3, goal: 3 },
    Figure { what: "modules in one layer", measure: figures::modules_in_one_layer, max: 4, goal: 4 },
    Figure {
        what: "dialects asked for by name outside of `dialect` and `protocol`",
        measure: figures::protocols_by_name,
        max: 0,
        goal: 0,
    },
    Figure {
        what: "`expect` in the engine outside of tests and the test kit",
        measure: figures::expectations,
        max: 8,
        goal: 8,
    },
];

/// The protocol crate gets time and random bytes as arguments, and does no input or output.
pub(super) const PURE_SOURCES: &str = "crates/fanfare-proto/src/";
pub(super) const IMPURE: &[&str] = &[
    "TcpStream",
    "TcpListener",
    "UdpSocket",
    "ToSocketAddrs",
    "std::fs",
    "std::env",
    "std::thread",
    "Instant",
    "SystemTime",
    "tokio",
    "rand",
    "getrandom",
];

pub(super) const PURE_WHY: &str = "the protocol crate, which gets time and random bytes as arguments";

/// The load generator measures any server, and must not know ours from within.
pub(super) const CLIENT_SOURCES: &str = "crates/fanfare-bench/src/";
pub(super) const CLIENT_WHY: &str = "the load generator, which is a client like any other";

/// Lines of code in one file, comments, blank lines and tests not counted.
pub(super) const CODE_LINES_MAX: usize = 500;
