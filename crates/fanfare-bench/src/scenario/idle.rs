//! What connections cost that do nothing.

use std::time::Duration;

use serde_json::{Value, json};

use super::{Figures, Setup, rounded};
use crate::args::Idle;
use crate::report::Report;

pub(super) fn run(args: &Idle) -> Result<Report, String> {
    let setup = Setup::new("idle", &args.common)?;
    if !args.steps.is_sorted_by(|a, b| a < b) {
        return Err("--steps takes growing numbers, such as 1000,5000".into());
    }
    let steps: &[u32] = if args.steps.is_empty() { &[args.clients] } else { &args.steps };
    let clients = *steps.last().unwrap_or(&args.clients);
    let plan = setup.plan_of_clients(clients)?;
    setup.run(clients, &plan, |stage| {
        let mut points = Vec::new();
        if steps.len() == 1 {
            points.push((0, stage.watch.memory()));
        }
        for step in steps {
            stage.connect(*step as usize)?;
            // What the server needed only while they came is to be gone.
            stage.sleep(Duration::from_secs_f64(args.common.warmup))?;
            points.push((*step, stage.watch.memory()));
        }
        stage.begin();
        let slept = stage.sleep(Duration::from_secs_f64(args.common.seconds));
        stage.end();
        slept?;
        Ok(figures(&points, !stage.watch.is_empty()))
    })
}

/// The memory at each number of connections, and the slope from the first to the last.
fn figures(points: &[(u32, u64)], is_measured: bool) -> Figures {
    let ((first, least), (last, most)) = (points[0], points[points.len() - 1]);
    let slope = (most as f64 - least as f64) / f64::from(last - first).max(1.0);
    let known = |value: Value| if is_measured { value } else { Value::Null };
    Figures::from_iter([
        ("connections".to_owned(), json!(points.iter().map(|(many, _)| many).collect::<Vec<_>>())),
        ("rss".to_owned(), known(json!(points.iter().map(|(_, rss)| rss).collect::<Vec<_>>()))),
        ("bytes_per_connection".to_owned(), known(rounded(slope))),
    ])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slope() {
        let points = [(1_000, 10_000_000), (3_000, 11_000_000), (5_000, 14_000_000)];
        assert_eq!(figures(&points, true)["bytes_per_connection"], 1_000.0);
        assert_eq!(figures(&points, true)["rss"], json!([10_000_000, 11_000_000, 14_000_000]));
        assert_eq!(figures(&points, false)["bytes_per_connection"], Value::Null);
    }
}
