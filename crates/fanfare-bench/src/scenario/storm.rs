//! All are cut at once and come back at once.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use serde_json::json;

use super::{Figures, Setup, median, per_cpu_second, rounded};
use crate::args::Storm;
use crate::plan::Life;
use crate::report::Report;

/// The calm between two rounds.
const CALM: Duration = Duration::from_millis(300);

pub(super) fn run(args: &Storm) -> Result<Report, String> {
    let setup = Setup::new("storm", &args.common)?;
    let mut plan = setup.plan_of_clients(args.clients)?;
    plan.life = Life::Storm(args.backoff);
    setup.run(args.clients, &plan, |stage| {
        let (shared, clients) = (stage.shared, args.clients as usize);
        stage.connect(clients)?;
        stage.sleep(CALM)?;
        let entered = || shared.counts.entered.load(Ordering::Relaxed);
        let retries = shared.counts.retries.load(Ordering::Relaxed);
        let first = entered();
        let mut times = Vec::new();
        stage.begin();
        for round in 1..=args.rounds {
            let (before, start) = (entered(), Instant::now());
            shared.round.store(round.into(), Ordering::Release);
            shared.wake_all();
            let state = |entered| format!("{} of {clients} clients were back", entered - before);
            let back = stage.wait_while_progressing(entered, state, || {
                entered() >= before + clients as u64 && shared.live.load(Ordering::Relaxed) == clients
            });
            if back.is_err() {
                stage.end();
            }
            back?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            stage.sleep(CALM)?;
        }
        stage.end();
        let joins = (entered() - first) as f64;
        let all_back = median(times.clone());
        Ok(Figures::from_iter([
            ("connects_per_s".to_owned(), rounded(f64::from(args.clients) / all_back * 1e3)),
            ("all_back_ms".to_owned(), rounded(all_back)),
            ("each_round_ms".to_owned(), times.into_iter().map(rounded).collect()),
            ("retries".to_owned(), json!(shared.counts.retries.load(Ordering::Relaxed) - retries)),
            ("joins_per_server_cpu_s".to_owned(), per_cpu_second(stage, joins)),
        ]))
    })
}
