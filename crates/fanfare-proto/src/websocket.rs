//! WebSocket: the handshake, frames and messages of RFC 6455, and permessage-deflate of RFC 7692.
//!
//! Everything here works on bytes in memory: nothing reads a socket, answers a ping or runs the close handshake.
//! Start at [`decoder`]; [`frame`] writes what goes out.

pub mod decoder;
pub mod deflate;
pub mod frame;
pub mod handshake;

mod mask;
