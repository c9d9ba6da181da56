//! One publishes, all the others get it.

use super::{Layout, Setup, traffic};
use crate::args::Fanout;
use crate::plan::Traffic;
use crate::report::Report;

pub(super) fn run(args: &Fanout) -> Result<Report, String> {
    let setup = Setup::new("fanout", &args.common)?;
    let mut plan = setup.plan(&Layout::audience(args.clients, args.publishers), false)?;
    plan.traffic = traffic(args.window, args.rate, Traffic::Window(16));
    setup.run(args.clients, &plan, |stage| setup.send_and_measure(stage))
}
