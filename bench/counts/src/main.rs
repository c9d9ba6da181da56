//! What the hot paths cost, in instructions: `counts` names its cases, `counts CASE` runs one.
//!
//! Run it with `cargo xtask counts`, which has callgrind count what happens inside of [`measured`], and compares with
//! `baseline.toml`. Instructions are no time, but they hardly vary from run to run, so that small losses are seen at once.

mod codec;
mod engine;

use std::hint::black_box;
use std::process::ExitCode;

use engine::{Publish, Topics};

/// Something to measure. `prepare` is not measured, nor is what it takes to do the work again.
struct Case {
    name: &'static str,
    prepare: fn() -> Box<dyn Work>,
}

/// Work that has been prepared.
trait Work {
    /// What it costs is divided by this.
    fn operations(&self) -> usize;
    fn run(&mut self);
    /// Makes it possible to run it again.
    fn undo(&mut self) {}
}

/// Those that take longest first, since two run at a time.
const CASES: &[Case] = &[
    Case { name: "join_beside_1000000_topics", prepare: || engine::join(Topics(1_000_000)) },
    Case { name: "leave_beside_1000000_topics", prepare: || engine::leave(Topics(1_000_000)) },
    Case { name: "join_beside_1_topic", prepare: || engine::join(Topics(1)) },
    Case { name: "join_beside_1000_topics", prepare: || engine::join(Topics(1_000)) },
    Case { name: "leave_beside_1_topic", prepare: || engine::leave(Topics(1)) },
    Case { name: "leave_beside_1000_topics", prepare: || engine::leave(Topics(1_000)) },
    Case { name: "decode_v1_push", prepare: codec::decode_v1_push },
    Case { name: "decode_v2_push", prepare: codec::decode_v2_push },
    Case { name: "decode_v2_binary_push", prepare: codec::decode_v2_binary_push },
    Case { name: "decode_masked_frame", prepare: codec::decode_masked_frame },
    Case { name: "encode_broadcast_text", prepare: codec::encode_broadcast_text },
    Case { name: "encode_broadcast_websocket", prepare: codec::encode_broadcast_websocket },
    Case { name: "encode_broadcast_deflated", prepare: codec::encode_broadcast_deflated },
    Case { name: "heartbeat", prepare: engine::heartbeat },
    Case { name: "push_and_reply", prepare: engine::push_and_reply },
    Case { name: "presence_track", prepare: engine::presence_track },
    Case { name: "publish_to_1", prepare: || engine::publish(Publish { members: 1, rounds: 64, ..Publish::LONE }) },
    Case {
        name: "publish_kept_to_1",
        prepare: || engine::publish(Publish { members: 1, rounds: 64, kept: true, ..Publish::LONE }),
    },
    Case { name: "publish_to_100", prepare: || engine::publish(Publish { members: 100, ..Publish::LONE }) },
    Case {
        name: "publish_to_100_beside_16_taps",
        prepare: || engine::publish(Publish { members: 100, taps: 16, ..Publish::LONE }),
    },
    Case { name: "publish_to_10000", prepare: || engine::publish(Publish { members: 10_000, ..Publish::LONE }) },
    Case { name: "publish_supabase_to_100", prepare: || engine::publish_supabase(100, 4) },
    Case { name: "publish_supabase_to_10000", prepare: || engine::publish_supabase(10_000, 4) },
    Case { name: "publish_prices_to_1000", prepare: || engine::prices(1_000, false) },
    Case { name: "publish_differences_to_1000", prepare: || engine::prices(1_000, true) },
    Case {
        name: "publish_16_at_once_to_100",
        prepare: || engine::publish(Publish { members: 100, batch: 16, ..Publish::LONE }),
    },
    Case {
        name: "publish_deflated_to_100",
        prepare: || engine::publish(Publish { members: 100, deflated: true, ..Publish::LONE }),
    },
];

fn main() -> ExitCode {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let [name] = &args[..] else {
        CASES.iter().for_each(|case| println!("{}", case.name));
        return ExitCode::SUCCESS;
    };
    let Some(case) = CASES.iter().find(|case| case.name == name) else {
        eprintln!("no case {name:?}: without an argument they are named");
        return ExitCode::FAILURE;
    };
    let mut work = (case.prepare)();
    // What only the first time costs is not meant: buffers that grow, tables that are made.
    work.run();
    work.undo();
    measured(&mut *work);
    println!("{}", work.operations());
    // Without taking a million topics apart again.
    std::process::exit(0)
}

/// What is counted, by this name.
#[inline(never)]
fn measured(work: &mut dyn Work) {
    work.run();
    // Behind the call, so that it does not become a jump, which would not count as being inside.
    black_box(work);
}
