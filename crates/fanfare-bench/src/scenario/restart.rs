//! The server restarts, and all clients come back as phoenix.js does it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::json;

use super::{Figures, Setup, rounded};
use crate::args::Restart;
use crate::plan::Life;
use crate::report::Report;

/// How often to look whether the server has begun to close.
const LOOK: Duration = Duration::from_millis(20);

pub(super) fn run(args: &Restart) -> Result<Report, String> {
    let setup = Setup::new("restart", &args.common)?;
    let mut plan = setup.plan_of_clients(args.clients)?;
    plan.life = Life::Restart;
    setup.run(args.clients, &plan, |stage| {
        let (shared, clients) = (stage.shared, args.clients as usize);
        let restart = &shared.restart;
        stage.connect(clients)?;
        stage.begin();
        stage.say("all have joined, restart the server now");
        while restart.ended() == 0 {
            stage.sleep(LOOK)?;
        }
        stage.say("coming back");
        let back = || shared.counts.entered.load(Ordering::Relaxed) - clients as u64;
        let waited = stage.wait_while_progressing(
            || back() + restart.ended(),
            |_| format!("{} of {clients} clients were back", back()),
            || restart.ended() >= clients as u64 && shared.live.load(Ordering::Relaxed) == clients,
        );
        stage.end();
        waited?;
        let back = restart.back();
        let ms = |nanoseconds: u64| rounded(nanoseconds as f64 / 1e6);
        let quantile = |share: f64| ms(back[((back.len() as f64 * share) as usize).min(back.len() - 1)]);
        let count = |count: &AtomicU64| json!(count.load(Ordering::Relaxed));
        Ok(Figures::from_iter([
            ("all_back_ms".to_owned(), quantile(1.0)),
            ("back_ms".to_owned(), json!({ "p50": quantile(0.5), "p99": quantile(0.99) })),
            ("closing_ms".to_owned(), ms(restart.closing())),
            ("down_ms".to_owned(), ms(restart.down())),
            ("closed_1012".to_owned(), count(&restart.closed)),
            ("cut".to_owned(), count(&restart.cut)),
            ("refused".to_owned(), count(&restart.refused)),
            ("failed".to_owned(), count(&restart.failed)),
        ]))
    })
}
