//! The wire protocols of Fanfare as pure state machines: bytes and time go in, operations and bytes come out.
//!
//! No socket, clock, task or source of randomness lives here. The engine that drives these machines is the `fanfare` crate.

pub mod bullet;
pub mod chunked;
pub mod cookie;
pub mod delta;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod history;
pub mod hub;
pub mod json;
pub mod message;
pub mod nats;
pub mod origin;
pub mod params;
pub mod parcel;
pub mod payload;
pub mod phoenix;
pub mod position;
pub mod presence;
pub mod rate;
pub mod resp;
pub mod resume;
pub mod rooms;
pub mod session;
pub mod sse;
pub mod supabase;
pub mod topic;
pub mod websocket;
pub mod wire;
