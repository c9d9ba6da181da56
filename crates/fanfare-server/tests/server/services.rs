//! The real services that tests need, each started privately.

#![allow(dead_code)] // Each test file uses its part of this.

pub(crate) mod mongo;
pub(crate) mod namespace;
pub(crate) mod nats;
pub(crate) mod nats_server;
pub(crate) mod pebble;
pub(crate) mod postgres;
pub(crate) mod process;
pub(crate) mod redis;
pub(crate) mod redis_server;
pub(crate) mod strait;

pub(crate) use self::process::{Service, run};
