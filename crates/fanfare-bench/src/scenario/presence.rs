//! All join one topic and see each other come and go.

use std::sync::atomic::Ordering;
use std::time::Duration;

use serde_json::json;

use super::{Figures, Layout, Setup, rounded};
use crate::args::{Presence, ProtocolName};
use crate::plan::Life;
use crate::report::Report;
use crate::run::{Halt, Stage};

pub(super) fn run(args: &Presence) -> Result<Report, String> {
    if args.common.protocol != ProtocolName::Phoenix {
        return Err("only Phoenix has presence: leave --protocol out".into());
    }
    let setup = Setup::new("presence", &args.common)?;
    let mut plan = setup.plan(&Layout::audience(args.clients, 0), false)?;
    plan.life = Life::Presence(args.rate);
    let mut report = setup.run(args.clients, &plan, |stage| {
        let shared = stage.shared;
        stage.connect(args.clients as usize)?;
        let settle = until_settled(stage, args)?;
        stage.begin();
        let counts = || (shared.counts.entered.load(Ordering::Relaxed), shared.counts.left.load(Ordering::Relaxed));
        let before = counts();
        let slept = stage.sleep(Duration::from_secs_f64(args.common.seconds));
        stage.rest();
        let settled = slept.and_then(|()| until_settled(stage, args));
        stage.end();
        let after = counts();
        Ok(Figures::from_iter([
            ("joins".to_owned(), json!(after.0 - before.0)),
            ("leaves".to_owned(), json!(after.1 - before.1)),
            ("settle_ms".to_owned(), rounded(settle)),
            ("settle_again_ms".to_owned(), rounded(settled?)),
        ]))
    })?;
    report.figures.insert("diffs".into(), json!(report.outcome.sums.presence_messages));
    Ok(report)
}

/// Waits until each client sees all: how long that took after the last one had joined, in milliseconds.
fn until_settled(stage: &mut Stage<'_>, args: &Presence) -> Result<f64, Halt> {
    let (shared, clients) = (stage.shared, args.clients as usize);
    let settled = || shared.settled.load(Ordering::Acquire);
    let state = |settled| match settled {
        0 => {
            "no client was told of all the others; does this topic have presence? --topic names another one".to_owned()
        }
        settled => format!("{settled} of {clients} clients saw all the others"),
    };
    stage.wait_while_progressing(
        || settled() as u64,
        state,
        || settled() == clients && shared.live.load(Ordering::Relaxed) == clients,
    )?;
    let (entered, settled) = (shared.last_entered.load(Ordering::Relaxed), shared.last_settled.load(Ordering::Relaxed));
    Ok(settled.saturating_sub(entered) as f64 / 1e6)
}
