//! The binary over real sockets: a process is started, clients connect, frames are typed by hand.

mod admin_api;
mod api_keys;
mod authentication;
mod back_end;
mod bench;
mod channels;
mod client_commands;
mod commands;
mod history;
mod hooks;
mod instructions;
mod issuer;
mod jwks;
mod key_secrecy;
mod limits;
mod names;
mod phoenix;
mod protocols;
mod scaffold;
mod secrets;
mod services;
mod source_kinds;
mod sources;
mod support;
mod tls;
mod webhooks;
