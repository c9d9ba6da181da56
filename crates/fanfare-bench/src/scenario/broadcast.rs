//! The time until the last one has a single message.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::{Figures, Layout, Setup, median, rounded};
use crate::args::Broadcast;
use crate::report::Report;

pub(super) fn run(args: &Broadcast) -> Result<Report, String> {
    let setup = Setup::new("broadcast", &args.common)?;
    if setup.target.tls {
        return Err("over TLS the kernel does not know when a message came: broadcast takes ws:// only".into());
    }
    let mut plan = setup.plan(&Layout::audience(args.clients, 1), false)?;
    plan.pause = Some(Duration::from_secs_f64(args.pause));
    plan.dialer.time_stamps = true;
    let mut report = setup.run(args.clients, &plan, |stage| {
        let shared = stage.shared;
        stage.connect(stage.plan.seats.len())?;
        stage.settle()?;
        stage.begin();
        for round in 1..=args.rounds {
            shared.round.store(round.into(), Ordering::Release);
            shared.wake_all();
            // Nothing of ours runs meanwhile, and the progress would.
            std::thread::sleep(Duration::from_secs_f64(args.pause));
            let done = || shared.round_done.load(Ordering::Acquire);
            let all = round as usize * stage.plan.threads;
            let waited =
                stage.wait_while_progressing(|| done() as u64, |_| "the clients had slept".into(), || done() == all);
            if waited.is_err() {
                stage.end();
            }
            waited?;
        }
        stage.end();
        Ok(Figures::new())
    })?;
    let finish = |round: u32| {
        let of_round = report.outcome.finishes.iter().filter(|finish| finish.round == u64::from(round));
        Some(of_round.map(|finish| finish.after).max()? as f64 / 1e3)
    };
    let finishes: Vec<f64> = (1..=args.rounds).filter_map(finish).collect();
    let figure = json!({
        "median": rounded(median(finishes.clone())),
        "min": rounded(finishes.iter().copied().fold(f64::INFINITY, f64::min)),
        "max": rounded(finishes.iter().copied().fold(0.0, f64::max)),
    });
    report.figures.insert("finish_us".into(), figure);
    report.figures.insert("rounds".into(), json!(finishes.len()));
    Ok(report)
}
