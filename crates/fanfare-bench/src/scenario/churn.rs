//! Connect, join, leave, close, over and over.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::{Figures, Setup, per_cpu_second, rounded};
use crate::args::Churn;
use crate::plan::Life;
use crate::report::Report;

pub(super) fn run(args: &Churn) -> Result<Report, String> {
    let setup = Setup::new("churn", &args.common)?;
    let mut plan = setup.plan_of_clients(args.clients)?;
    plan.life = Life::Churn;
    setup.run(args.clients, &plan, |stage| {
        let shared = stage.shared;
        let cycles = || shared.counts.left.load(Ordering::Relaxed);
        shared.wanted.store(args.clients as usize, Ordering::Relaxed);
        shared.wake_all();
        let state = |_| "no client has connected, joined, left and closed".to_owned();
        stage.wait_while_progressing(|| 0, state, || cycles() > 0)?;
        stage.sleep(Duration::from_secs_f64(args.common.warmup))?;
        let before = cycles();
        stage.begin();
        let slept = stage.sleep(Duration::from_secs_f64(args.common.seconds));
        stage.end();
        slept?;
        let cycles = cycles() - before;
        Ok(Figures::from_iter([
            ("cycles".to_owned(), json!(cycles)),
            ("cycles_per_s".to_owned(), rounded(cycles as f64 / stage.seconds())),
            ("per_server_cpu_s".to_owned(), per_cpu_second(stage, cycles as f64)),
            ("retries".to_owned(), json!(shared.counts.retries.load(Ordering::Relaxed))),
        ]))
    })
}
