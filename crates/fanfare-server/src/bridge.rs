//! Telling Redis which clients come and go, and what they send: `[bridge]`.

#[cfg(not(feature = "redis"))]
mod absent;
#[cfg(feature = "redis")]
mod redis;

#[cfg(not(feature = "redis"))]
pub(crate) use absent::Bridge;
#[cfg(feature = "redis")]
pub(crate) use redis::Bridge;
