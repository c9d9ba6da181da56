//! The server restarts under its clients: each is told, and all are soon back.
//!
//! With 10,000 clients, and the figures: `FANFARE_TEST_RESTART_CLIENTS=10000 cargo test --release -p fanfare-server --test server
//! restart -- --nocapture`.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::{Server, fanfare};

const CONFIG: &str = "[[channel]]\ntopic = 'bench:*'\njoin = 'open'\n";

/// How long so many clients may take to connect.
const CONNECTING_MAX: Duration = Duration::from_secs(120);

/// After a restart all are to be back so soon.
const ALL_BACK_MS: f64 = 5_000.0;

/// The pauses of phoenix.js add up to so much before the first of 5 s.
const BACKOFF_MS: f64 = 4_260.0;

#[test]
fn all_clients_are_back_soon_after_a_restart() {
    let clients = std::env::var("FANFARE_TEST_RESTART_CLIENTS").unwrap_or("2000".into());
    let server = Server::serve(CONFIG);
    let (address, url) = (server.address.clone(), format!("ws://{}/socket", server.address));
    let args = ["bench", "restart", &url, "--clients", &clients, "--topic", "bench:{room}", "--json", "--quiet"];
    let bench = fanfare(&args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let clients: u64 = clients.parse().unwrap();
    let deadline = Instant::now() + CONNECTING_MAX;
    while server.counter("joins", "ok") < clients {
        assert!(Instant::now() < deadline, "{} of {clients} have joined", server.counter("joins", "ok"));
        thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(server.terminate().code(), Some(0));
    let server = Server::serve_at(&address, CONFIG);
    let output = bench.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let figures = &report["scenario_figures"];
    println!("{clients} clients: {figures}");
    for (name, expected) in [("closed_1012", clients), ("cut", 0), ("failed", 0)] {
        assert_eq!(figures[name], expected, "{name}: {figures}");
    }
    assert_eq!(server.counter("joins", "ok"), clients);
    let number = |name: &str| figures[name].as_f64().unwrap();
    // Whoever was closed longer ago than its short pauses last comes back in up to 5 s, whatever the server does.
    let allowed = if number("down_ms") < BACKOFF_MS { ALL_BACK_MS } else { 2.0 * ALL_BACK_MS };
    assert!(number("all_back_ms") < allowed, "{figures}");
}
