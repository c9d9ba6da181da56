//! Many small rooms, every member sends.

use super::{Layout, Setup, traffic};
use crate::args::Rooms;
use crate::plan::Traffic;
use crate::report::Report;

pub(super) fn run(args: &Rooms) -> Result<Report, String> {
    let setup = Setup::new("rooms", &args.common)?;
    if !setup.template().contains("{room}") {
        return Err(format!(
            "all rooms would be the one topic {}; --topic needs a {{room}} in it, such as --topic 'bench:{{room}}', and the server \
             a channel for such topics",
            setup.template()
        ));
    }
    let rooms = args.rooms.unwrap_or_else(|| args.clients.div_ceil(args.members));
    let mut plan = setup.plan(&Layout::rooms(rooms, args.members), false)?;
    plan.traffic = traffic(args.window, args.rate, Traffic::Rate(1.0));
    setup.run(rooms * args.members, &plan, |stage| setup.send_and_measure(stage))
}
