//! The tables of the guides that tell of what the parts of the server count.

use fanfare_tables::Table;

use crate::{apikey, hook, metrics, source, webhook};

#[test]
fn metrics_of_the_server_stand_in_the_guide() {
    let mut table = Table::new(&["metric", "labels", "what it is", "what to do"]);
    for family in metrics::FAMILIES {
        let labels: Vec<_> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        table.row(&[&format!("`{}`", family.name()), &labels.join(", "), family.help(), family.advice()]);
    }
    table.check("metrics.md", "server-metrics");
}

#[test]
fn counters_of_parts_stand_in_the_guide() {
    let parts = [
        ("hooks.NAME", hook::COUNTED.to_vec()),
        ("webhooks.NAME", webhook::COUNTED.to_vec()),
        ("sources.NAME", source::counted()),
        ("stores.NAME", apikey::lookup::COUNTED.to_vec()),
        ("bridge.redis", source::publisher::COUNTED.to_vec()),
    ];
    let mut table = Table::new(&["name", "reason", "counts"]);
    for (part, counted) in &parts {
        for (reason, about) in counted {
            table.row(&[&format!("`{part}`"), &format!("`{reason}`"), about]);
        }
    }
    table.check("operations.md", "part-counters");
}
