//! Plays the client's side of a recorded Phoenix transcript against a running server and says where the server differs.
//!
//! A transcript is data (`tests/transcripts`, whose README describes the format); everything here is about reading and
//! playing it. There is deliberately nothing of Fanfare in this crate: it shares no codec with the server it judges, so
//! that a mistake in one of them cannot hide in the other.
//!
//! The order of reading: [`Transcript`] (what is to be done), then the player (doing it), then the run (which frames may
//! come in which order) and the pattern (what a JSON value must look like). [`suite`] plays many.

mod client;
mod envelope;
mod form;
mod http;
mod pattern;
mod player;
mod presence_diff;
mod run;
mod script;
pub mod suite;
mod transcript;
mod websocket;

pub use form::Better;
pub use player::{Mismatch, Options, Server, play};
pub use transcript::{LoadError, Transcript, load};
