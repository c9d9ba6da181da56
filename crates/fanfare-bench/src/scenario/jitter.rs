//! Some drop and come back while messages flow.

use std::sync::atomic::Ordering;

use serde_json::json;

use super::{Figures, Layout, Setup, rounded};
use crate::args::Jitter;
use crate::plan::{Life, Traffic};
use crate::report::Report;

pub(super) fn run(args: &Jitter) -> Result<Report, String> {
    let setup = Setup::new("jitter", &args.common)?;
    let mut plan = setup.plan(&Layout::audience(args.clients, 1), false)?;
    let seats = (f64::from(args.clients) * args.share).round() as u32;
    plan.traffic = Traffic::Rate(args.rate);
    plan.life = Life::Jitter { seats, up: (args.up * 1e9) as u64, down: (args.down * 1e9) as u64 };
    let mut report = setup.run(args.clients, &plan, |stage| {
        stage.connect(stage.plan.seats.len())?;
        stage.settle()?;
        stage.warm_up(args.common.warmup)?;
        let drops = stage.shared.counts.left.load(Ordering::Relaxed);
        stage.measure(args.common.seconds)?;
        let drops = stage.shared.counts.left.load(Ordering::Relaxed) - drops;
        Ok(Figures::from_iter([("drops".to_owned(), drops.into())]))
    })?;
    let (arrived, expected) = (report.outcome.sums.delivered_unsteady, report.outcome.sent * u64::from(seats));
    report.figures.insert("arrived".into(), json!(arrived));
    report.figures.insert("expected".into(), json!(expected));
    report.figures.insert("share".into(), rounded(arrived as f64 / expected.max(1) as f64));
    Ok(report)
}
