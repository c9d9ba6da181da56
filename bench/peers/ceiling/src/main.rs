//! What the kernel allows: a WebSocket server that does nothing but send a ready frame to each socket.
//!
//!     cargo run --release -p ceiling -- --port 4900 --batch 1
//!
//! What a client of `/{room}` sends goes to everybody in that room, itself included: no channels, no rights, no bounds, one
//! thread. It is not meant to be used, but to be compared with: no server can do much better with one `send` a delivery.

mod handshake;
mod server;
mod socket;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use server::{Options, Server};
use signal_hook::consts::SIGTERM;

const USAGE: &str = "\
usage: ceiling --port PORT [--batch 0|1] [--overhead BYTES]

  --port PORT        listens on 127.0.0.1:PORT; 0 takes a free one
  --batch 1          each message is a send of its own to each socket (default)
  --batch 0          what one read has brought is one send to each socket
  --overhead BYTES   makes each message that much longer than it came: a protocol that says the topic and the event in
                     every message moves more bytes, and this is what those cost the kernel (default 0)
";

fn main() -> ExitCode {
    match run(std::env::args().skip(1)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("ceiling: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(args: impl Iterator<Item = String>) -> Result<(), String> {
    let (port, options) = parse(args)?;
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let server = Server::bind(address, options).map_err(|e| format!("cannot listen on {address}: {e}"))?;
    // There is nothing to end in good order: the process is left with status 0 from where it stands.
    signal_hook::flag::register_conditional_shutdown(SIGTERM, 0, Arc::new(AtomicBool::new(true)))
        .map_err(|e| format!("cannot watch for SIGTERM: {e}"))?;
    println!("ceiling: listening on ws://{}", server.address());
    server.run().map_err(|e| format!("cannot wait for the kernel: {e}"))
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<(u16, Options), String> {
    let (mut port, mut options) = (None, Options { coalesces: false, overhead: 0 });
    while let Some(flag) = args.next() {
        let value = args.next().unwrap_or_default();
        let wrong = || format!("{flag} does not take `{value}`\n\n{USAGE}");
        match flag.as_str() {
            "--port" => port = Some(value.parse().map_err(|_| wrong())?),
            "--batch" => options.coalesces = value.parse::<u8>().ok().filter(|n| *n < 2).ok_or_else(wrong)? == 0,
            "--overhead" => options.overhead = value.parse().map_err(|_| wrong())?,
            _ => return Err(format!("there is no option `{flag}`\n\n{USAGE}")),
        }
    }
    Ok((port.ok_or_else(|| USAGE.to_owned())?, options))
}
