//! The data of the rules: edit here when a module is added or moves.

use super::figures::{self, Figure};

/// The top-level modules of the engine, lowest layer first. A module may use those of its own layer and below.
pub(super) const ENGINE: &[&[&str]] = &[
    &["error", "event", "fact", "address", "clock", "key", "path", "token"],
    &["message", "figures", "gap", "outbox", "interest", "close_reason", "timers", "tap"],
    &["hub", "history", "policy", "broker"],
    &["cluster"],
    &["publish"],
    &["command", "mailbox", "channel", "context", "join", "presence", "transport", "body"],
    &["socket", "connect", "observer"],
    &["shard"],
    &["mount", "gate", "dialect", "registry", "relay", "endpoint"],
    &["service"],
    &["serve", "axum", "testing"],
];

/// The engine's sources; its root file ties the modules together and may name them all.
pub(super) const ENGINE_SOURCES: &str = "crates/fanfare/src/";
pub(super) const SERVER_SOURCES: &str = "crates/fanfare-server/src/";

/// Pairs of `(module, module it must not use)` that the layers alone would allow.
pub(super) const STRANGERS: &[(&str, &str)] = &[];

/// Uses of a higher layer that are wanted nevertheless: `(module, the higher one, why)`. One that is not needed any more
/// is a breach as well.
pub(super) const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("command", "shard", "a command may be code that runs on the shard"),
    ("command", "socket", "commands bring new sockets, and say why one is closed"),
    ("context", "endpoint", "channels are given the handle of the engine"),
    ("context", "socket", "channels are told whose socket it is"),
    ("presence", "endpoint", "hooks are given the handle of the engine"),
    ("socket", "dialect", "a socket asks its dialect what a frame means"),
    ("socket", "endpoint", "a socket knows the engine that it belongs to"),
    ("socket", "mount", "a socket has the options of its mount"),
    ("shard", "registry", "what is told of members is the registry's"),
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
        max: 17,
        goal: 8,
    },
    Figure {
        what: "largest circle of the server's modules by imports",
        measure: figures::circle_of_server,
        max: 0,
        goal: 0,
    },
    Figure { what: "exceptions in the table of layers", measure: figures::exceptions, max: 9, goal: 3 },
    Figure { what: "modules in one layer", measure: figures::modules_in_one_layer, max: 8, goal: 4 },
    Figure {
        what: "dialects asked for by name outside of `dialect`",
        measure: figures::protocols_by_name,
        max: 0,
        goal: 0,
    },
    Figure {
        what: "`expect` in the engine outside of tests and the test kit",
        measure: figures::expectations,
        max: 11,
        goal: 10,
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
