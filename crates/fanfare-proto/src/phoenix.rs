//! The protocol of Phoenix Channels, versions 1.0.0 and 2.0.0, as Phoenix 1.8 speaks it.
//!
//! Where this implementation deliberately does better than Phoenix, the place says so and why clients bear it.

pub mod auth_token;
pub mod codec;
pub mod heartbeat;
pub mod longpoll;
pub mod message;
pub mod session_question;
pub mod term;
pub mod token;
mod vsn;
