//! The server `fanfare`: the engine of the crate `fanfare` with channels from a TOML file.
//!
//! `cli` says what can be typed, `command` does it. `config` knows every setting, `engine` turns them into mounts and
//! channels, `run` starts and stops, `admin` is the HTTP API, `client` the commands that talk to a running server.

#![cfg_attr(
    not(all(feature = "mongodb", feature = "nats", feature = "postgres", feature = "redis", feature = "sqlite")),
    allow(dead_code, unused_imports, reason = "a build with fewer backends reads all settings, and uses fewer")
)]

use std::process::ExitCode;

use clap::Parser;

mod access;
mod admin;
mod apikey;
mod auth;
mod backoff;
mod bridge;
mod broker;
mod channel;
mod cli;
mod client;
mod command;
mod config;
mod connections;
mod contact;
mod contract;
mod demo;
mod descriptors;
mod engine;
mod expiry;
mod file;
#[cfg(test)]
mod guide_tables;
mod health;
mod hook;
mod http_client;
mod identity;
mod inherited;
mod json;
mod live;
mod log;
mod memory;
mod message;
mod metrics;
mod mint;
mod moment;
mod notify;
mod pages;
mod policy;
mod preflight;
mod ranking;
mod reach;
mod reload;
mod routes;
mod run;
mod scaffold;
mod schema;
mod signals;
mod signature;
mod source;
mod supabase;
mod terminal;
mod tls;
mod traces;
mod upgrade;
mod webhook;

/// An idle connection takes 40 % less memory with it than with the system's (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    // Drivers that make their own TLS take what is set here. It is set once, so that it cannot fail.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    let cli = match cli::Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { ExitCode::from(terminal::WRONG_USE) } else { ExitCode::SUCCESS };
            return error.print().map_or(ExitCode::FAILURE, |()| status);
        }
    };
    match command::execute(cli.command) {
        Ok(status) => status,
        Err(failure) => {
            eprintln!("{}", failure.text);
            ExitCode::from(failure.status)
        }
    }
}
