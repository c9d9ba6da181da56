//! Each message is answered to its sender.

use super::{Layout, Setup, traffic};
use crate::args::Echo;
use crate::plan::Traffic;
use crate::report::Report;

pub(super) fn run(args: &Echo) -> Result<Report, String> {
    let setup = Setup::new("echo", &args.common)?;
    let mut plan = setup.plan(&Layout::rooms(args.clients, 1), true)?;
    plan.traffic = traffic(args.window, args.rate, Traffic::Window(1));
    let mut report = setup.run(args.clients, &plan, |stage| setup.send_and_measure(stage))?;
    report.figures.insert("round_trips_per_s".into(), super::rounded(report.per_second()));
    Ok(report)
}
