//! The Rust blocks of the README and the guides, as documentation tests. Nothing of it is in the built crate.

#[doc = include_str!("../../../README.md")]
struct Readme;

#[doc = include_str!("../../../docs/history.md")]
struct History;

#[doc = include_str!("../../../docs/rust-api.md")]
struct RustApi;

#[doc = include_str!("../../../docs/delivery.md")]
struct Delivery;

#[doc = include_str!("../../../docs/moving/phoenix.md")]
struct MovingFromPhoenix;
