//! The report as one JSON object.

use serde_json::{Value, json};

use super::{Report, cores};
use crate::plan::Traffic;

/// A quantity with three decimals is exact enough, and readable.
fn rounded(number: f64) -> Value {
    json!((number * 1_000.0).round() / 1_000.0)
}

fn microseconds(nanoseconds: f64) -> Value {
    rounded(nanoseconds / 1_000.0)
}

pub(crate) fn object(report: &Report) -> Value {
    let (outcome, usage) = (&report.outcome, report.outcome.measured.usage);
    let (sums, latency) = (&outcome.sums, outcome.latency());
    let quantile = |share| microseconds(latency.quantile(share) as f64);
    let server = report.watches_server.then(|| {
        json!({
            "cpu_s": rounded(usage.server_total()),
            "user_s": rounded(usage.server.user),
            "system_s": rounded(usage.server.system),
            "softirq_s": rounded(usage.softirq),
            "rss_bytes": outcome.measured.memory,
        })
    });
    let mut object = json!({
        "scenario": report.scenario,
        "protocol": report.protocol,
        "url": report.url,
        "clients": report.clients,
        "size": report.size,
        "seconds": rounded(outcome.measured.seconds),
        "interrupted": outcome.interrupted,
        "sent": outcome.sent,
        "expected": report.expected,
        "delivered": sums.delivered,
        "lost": report.lost(),
        "duplicated": sums.duplicated,
        "reordered": sums.reordered,
        "strays": sums.strays,
        "deliveries_per_s": rounded(report.per_second()),
        "deliveries_per_server_cpu_s": report.per_server_cpu().map(rounded),
        "server": server,
        "generator_cpu_s": rounded(usage.generator.total()),
        "others_cpu_s": rounded(usage.others()),
        "stolen_cpu_s": rounded(usage.stolen),
        "cores": cores(),
        "frames_per_read": rounded(report.frames_per_read()),
        "bytes_per_delivery": rounded(report.bytes_per_delivery()),
        "latency_us": {
            "mean": microseconds(latency.mean()),
            "p50": quantile(0.5),
            "p90": quantile(0.9),
            "p99": quantile(0.99),
            "p99_9": quantile(0.999),
            "max": microseconds(latency.max() as f64),
        },
        "histogram": latency
            .buckets()
            .map(|(upper, count)| json!([microseconds(upper as f64), count]))
            .collect::<Vec<_>>(),
        "problems": outcome.problems.iter().map(|(text, count)| json!([text, count])).collect::<Vec<_>>(),
        "scenario_figures": report.figures,
    });
    match report.traffic {
        Traffic::None => {}
        Traffic::Window(window) => object["window"] = json!(window),
        Traffic::Rate(rate) => object["rate"] = json!(rate),
    }
    object
}
