//! The report for people.

use std::fmt::Write as _;

use serde_json::Value;

use super::{Report, cores};
use crate::histogram::Histogram;
use crate::plan::Traffic;

/// The widest bar, in characters.
const BAR: usize = 40;

/// The most bars.
const BARS: usize = 16;

/// A whole number with commas between thousands.
pub(crate) fn grouped(number: f64) -> String {
    let digits = format!("{:.0}", number.max(0.0));
    let mut out = String::new();
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time in a unit that fits.
fn time(nanoseconds: f64) -> String {
    match nanoseconds {
        n if n < 1e3 => format!("{n:.0} ns"),
        n if n < 1e6 => format!("{:.0} µs", n / 1e3),
        n if n < 1e9 => format!("{:.2} ms", n / 1e6),
        n => format!("{:.2} s", n / 1e9),
    }
}

fn bytes(number: f64) -> String {
    match number {
        n if n < 1e4 => format!("{n:.0} bytes"),
        n if n < 1e7 => format!("{:.1} KB", n / 1e3),
        n => format!("{:.1} MB", n / 1e6),
    }
}

/// The whole report.
pub(crate) fn text(report: &Report) -> String {
    let (outcome, usage) = (&report.outcome, report.outcome.measured.usage);
    let sums = &outcome.sums;
    let mut out = String::new();
    let traffic = match report.traffic {
        Traffic::None => String::new(),
        Traffic::Window(window) => format!(", {window} in flight"),
        Traffic::Rate(rate) => format!(", {rate} messages a second each"),
    };
    let _ = writeln!(
        out,
        "{} over {} at {}: {} clients, {} bytes{traffic}",
        report.scenario,
        report.protocol,
        report.url,
        grouped(report.clients.into()),
        report.size
    );
    let mut row = |name: &str, value: String| _ = writeln!(out, "  {name:<28}{value}");
    if outcome.interrupted {
        row("interrupted", "what follows was measured up to then".into());
    }
    if outcome.sent > 0 {
        row("sent", grouped(outcome.sent as f64));
        row("delivered", format!("{} of {}", grouped(sums.delivered as f64), grouped(report.expected as f64)));
        row("lost, duplicated, reordered", format!("{}, {}, {}", report.lost(), sums.duplicated, sums.reordered));
        if sums.strays > 0 {
            row("to the wrong topic", grouped(sums.strays as f64));
        }
        row("deliveries a second", grouped(report.per_second()));
    }
    if let Some(rate) = report.per_server_cpu().filter(|rate| *rate > 0.0) {
        row("... of server CPU", grouped(rate));
    }
    for (name, value) in &report.figures {
        row(&name.replace('_', " "), figure(name, value));
    }
    let (seconds, server) = (outcome.measured.seconds, usage.server);
    if report.watches_server {
        row(
            "server CPU",
            format!(
                "{:.2} s ({:.2} user, {:.2} system, {:.2} softirq) in {seconds:.2} s",
                usage.server_total(),
                server.user,
                server.system,
                usage.softirq
            ),
        );
        row("server memory", bytes(outcome.measured.memory as f64));
    }
    row(
        "generator CPU",
        format!(
            "{:.2} s; others used {:.2} s of {} cores, {:.2} s were stolen",
            usage.generator.total(),
            usage.others(),
            cores(),
            usage.stolen
        ),
    );
    if outcome.sent > 0 {
        row(
            "on the wire",
            format!(
                "{:.0} bytes a delivery, {:.1} frames a read",
                report.bytes_per_delivery(),
                report.frames_per_read()
            ),
        );
    }
    let latency = outcome.latency();
    if latency.count() > 0 {
        let quantiles = [("mean", latency.mean()), ("p50", latency.quantile(0.5) as f64)];
        let more = [("p90", 0.9), ("p99", 0.99), ("p99.9", 0.999), ("max", 1.0)];
        let more = more.map(|(name, share)| (name, latency.quantile(share) as f64));
        let shown: Vec<String> =
            quantiles.iter().chain(&more).map(|(name, value)| format!("{name} {}", time(*value))).collect();
        row("latency", shown.join(", "));
        out += &bars(latency);
    }
    for (text, count) in &outcome.problems {
        let _ = writeln!(out, "  problem, {count} times: {text}");
    }
    out
}

/// A figure of a scenario; its name says the unit.
fn figure(name: &str, value: &Value) -> String {
    let number = |value: &Value| match (value.as_f64(), name) {
        (Some(number), _) if name.ends_with("_ms") => time(number * 1e6),
        (Some(number), "finish_us") => time(number * 1e3),
        (Some(number), _) if name.contains("bytes") || name == "rss" => bytes(number),
        (Some(number), _) if number < 10.0 && number.fract() != 0.0 => format!("{number:.3}"),
        (Some(number), _) => grouped(number),
        (None, _) => "unknown (--server-pid measures it)".into(),
    };
    match value {
        Value::Array(values) => values.iter().map(number).collect::<Vec<_>>().join(", "),
        Value::Object(values) => {
            values.iter().map(|(name, value)| format!("{name} {}", number(value))).collect::<Vec<_>>().join(", ")
        }
        value => number(value),
    }
}

/// The distribution of latency, a bar for each range. Ranges grow as the times do.
fn bars(latency: &Histogram) -> String {
    let buckets: Vec<(u64, u64)> = latency.buckets().collect();
    let (first, last) = match (buckets.first(), buckets.last()) {
        (Some(first), Some(last)) => (first.0.max(1) as f64, last.0.max(1) as f64),
        _ => return String::new(),
    };
    let step = (last / first).powf(1.0 / BARS as f64).max(1.1);
    let mut ranges: Vec<(f64, u64)> = Vec::new();
    let mut edge = first;
    let mut rest = buckets.as_slice();
    while !rest.is_empty() {
        edge *= step;
        let inside = rest.iter().take_while(|(upper, _)| *upper as f64 <= edge * 1.000_001).count();
        ranges.push((edge, rest[..inside].iter().map(|(_, count)| count).sum()));
        rest = &rest[inside..];
    }
    let most = ranges.iter().map(|(_, count)| *count).max().unwrap_or(1);
    let mut out = String::new();
    for (upper, count) in ranges {
        let bar = "█".repeat((count as f64 / most as f64 * BAR as f64).ceil() as usize);
        let share = count as f64 / latency.count() as f64 * 100.0;
        let _ = writeln!(out, "    up to {:>9}  {share:>5.1} %  {bar}", time(upper));
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn numbers_read_well() {
        for (number, expected) in [(0.0, "0"), (999.4, "999"), (1_000.0, "1,000"), (1_234_567.0, "1,234,567")] {
            assert_eq!(grouped(number), expected);
        }
        for (number, expected) in [(950.0, "950 ns"), (12_345.0, "12 µs"), (1_234_567.0, "1.23 ms"), (2.5e9, "2.50 s")]
        {
            assert_eq!(time(number), expected);
        }
        for (name, value, expected) in [
            ("all_back_ms", json!([12.5, 1500]), "12.50 ms, 1.50 s"),
            ("finish_us", json!({"max": 2000.0, "min": 10.0}), "max 2.00 ms, min 10 µs"),
            ("bytes_per_connection", json!(1234.0), "1234 bytes"),
            ("cycles", json!(12_345), "12,345"),
            ("share", json!(0.875), "0.875"),
            ("per_server_cpu_s", json!(null), "unknown (--server-pid measures it)"),
        ] {
            assert_eq!(figure(name, &value), expected);
        }
    }

    #[test]
    fn every_time_is_in_a_bar() {
        let mut histogram = Histogram::default();
        assert_eq!(bars(&histogram), "");
        histogram.record(1_000);
        assert!(bars(&histogram).contains("100.0 %"), "{}", bars(&histogram));
        for _ in 0..9 {
            histogram.record(1_000_000);
        }
        let bars = bars(&histogram);
        assert!(bars.lines().count() <= BARS + 1, "{bars}");
        assert!(bars.lines().next().unwrap().contains(" 10.0 %"), "{bars}");
        assert!(bars.lines().last().unwrap().ends_with(&format!(" 90.0 %  {}", "█".repeat(BAR))), "{bars}");
    }
}
