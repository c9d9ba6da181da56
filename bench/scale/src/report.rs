//! What was measured, as tables, and what has grown.

use std::fmt::Write as _;

use crate::measure::{Layout, Measured};

/// A figure of a measurement.
pub(crate) struct Figure {
    pub(crate) name: &'static str,
    pub(crate) unit: &'static str,
    pub(crate) of: fn(&Measured) -> f64,
}

pub(crate) const FIGURES: &[Figure] = &[
    Figure { name: "memory of a socket", unit: "bytes", of: |m| m.bytes_per_socket },
    Figure { name: "memory of a join", unit: "bytes", of: |m| m.bytes_per_join },
    Figure { name: "connect", unit: "ns", of: |m| m.connect_ns },
    Figure { name: "join", unit: "ns", of: |m| m.join_ns },
    Figure { name: "publish, per member", unit: "ns", of: |m| m.publish_ns },
    Figure { name: "and its write, into memory", unit: "ns", of: |m| m.write_ns },
    Figure { name: "leave", unit: "ns", of: |m| m.leave_ns },
    Figure { name: "hang up", unit: "ns", of: |m| m.hang_up_ns },
    Figure { name: "time out", unit: "ns", of: |m| m.time_out_ns },
];

/// Growth is counted from here: with fewer sockets, all that they need is in the processor's caches.
const FROM_SOCKETS: usize = 10_000;

/// What may be: linear costs have the factor 1, and memory that is no longer in a cache is slower.
const GROWTH_MAX: f64 = 2.0;

/// A table for each layout, in Markdown.
pub(crate) fn tables(measured: &[Measured]) -> String {
    let mut out = String::new();
    for layout in [Layout::OneTopic, Layout::ManyTopics] {
        let columns: Vec<&Measured> = measured.iter().filter(|measured| measured.layout == layout).collect();
        table(&mut out, layout, &columns);
    }
    out
}

fn table(out: &mut String, layout: Layout, columns: &[&Measured]) {
    let sizes: Vec<String> = columns.iter().map(|measured| measured.sockets.to_string()).collect();
    let _ = writeln!(out, "\n| {}, for each socket | {} | growth |", layout.title(), sizes.join(" | "));
    let _ = writeln!(out, "|---|{}---|", "---|".repeat(sizes.len()));
    for figure in FIGURES {
        let values: Vec<f64> = columns.iter().map(|measured| (figure.of)(measured)).collect();
        let shown: Vec<String> = values.iter().map(|value| format!("{value:.0}")).collect();
        let growth = growth(columns, figure.of).map_or("-".to_owned(), |growth| {
            let word = if growth > GROWTH_MAX { ": more than linear" } else { "" };
            format!("{growth:.2}{word}")
        });
        let _ = writeln!(out, "| {}, {} | {} | {growth} |", figure.name, figure.unit, shown.join(" | "));
    }
}

/// The figure at the largest size against that at 10,000.
fn growth(columns: &[&Measured], of: fn(&Measured) -> f64) -> Option<f64> {
    let from = columns.iter().find(|measured| measured.sockets >= FROM_SOCKETS)?;
    let to = columns.last()?;
    (to.sockets > from.sockets).then(|| of(to) / of(from))
}
