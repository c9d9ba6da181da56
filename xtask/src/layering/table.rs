//! The data of the rules: edit here when a module is added or moves.

/// The top-level modules of the engine, lowest layer first. A module may use those of its own layer and below.
pub(super) const ENGINE: &[&[&str]] = &[
    &["error", "event"],
    &["outbox", "message"],
    &["hub", "presence"],
    &["join", "context", "channel", "command", "mailbox"],
    &["shard", "socket"],
    &["transport"],
    &["mount", "endpoint"],
    &["serve", "axum", "testing"],
];

/// The engine's sources; its root file ties the modules together and may name them all.
pub(super) const ENGINE_SOURCES: &str = "crates/fanfare/src/";

/// Pairs of `(module, module it must not use)` that the layers alone would allow.
pub(super) const STRANGERS: &[(&str, &str)] = &[];

/// Uses of a higher layer that are wanted nevertheless: `(module, the higher one, why)`. One that is not needed any more
/// is a breach as well.
pub(super) const EXCEPTIONS: &[(&str, &str, &str)] = &[];

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

/// Lines of code in one file, comments, blank lines and tests not counted.
pub(super) const CODE_LINES_MAX: usize = 500;
