//! The binary over real sockets: a process is started, clients connect, frames are typed by hand.

mod admin_api;
mod bench;
mod channels;
mod commands;
mod limits;
mod phoenix;
mod scaffold;
mod secrets;
mod support;
mod tls;
