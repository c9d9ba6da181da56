//! The tables of the guides that tell of what the parts of the server count.

use fanfare_tables::Table;

use crate::config::limits::Limits;
use crate::{apikey, hook, metrics, source, tls, webhook};

#[test]
fn metrics_of_the_server_stand_in_the_guide() {
    let mut table = Table::new(&["metric", "type", "labels", "what it is", "what to do"]);
    for family in metrics::FAMILIES {
        let labels: Vec<_> = family.labels().iter().map(|label| format!("`{label}`")).collect();
        let (name, kind) = (format!("`{}`", family.name()), family.kind().name());
        table.row(&[&name, kind, &labels.join(", "), family.help(), family.advice()]);
    }
    table.check("metrics.md", "server-metrics");
}

/// The settings of each rate, what it is for, and what happens beyond it.
const RATES: &[(&[&str], &str, &str)] = &[
    (
        &["join_rate", "join_burst"],
        "socket",
        "the join is answered with the error `too many joins` and `retry_after_ms`",
    ),
    (
        &["message_rate", "message_burst"],
        "socket",
        "`message_over`: the message is answered with the error `rate limited` and `retry_after_ms`, the client is not read for a while, or \
         its socket is closed with 1008",
    ),
    (&["bytes_rate"], "socket", "as `message_rate`"),
    (&["error_rate", "error_burst"], "socket", "it is closed with 1008"),
    (&["ping_rate", "ping_burst"], "socket", "it is closed with 1008"),
    (&["user_message_rate"], "user: the id of a socket", "as `message_rate`"),
    (&["accept_rate_per_address", "accept_burst_per_address"], "address", "429 with `Retry-After`"),
    (&["accept_rate", "accept_burst"], "server", "503 with `Retry-After`"),
];

#[test]
fn rates_stand_in_the_guide() {
    let mut table = Table::new(&["rate", "default", "for each", "beyond it"]);
    let keys = || Limits::SECTION.keys.iter().map(|key| key.name());
    for (names, each, beyond) in RATES {
        let default_of = |name: &str| match Limits::SECTION.keys.iter().find(|key| key.name() == name) {
            Some(key) if key.default.is_empty() => "none".to_owned(),
            Some(key) => format!("{} a second", key.default),
            None => panic!("there is no limits.{name}"),
        };
        let listed: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        table.row(&[&listed.join(", "), &default_of(names[0]), each, beyond]);
    }
    let told: Vec<_> = RATES.iter().flat_map(|(names, ..)| *names).copied().collect();
    let is_a_rate = |name: &&str| name.contains("_rate") || name.contains("_burst");
    assert_eq!(keys().filter(is_a_rate).find(|name| !told.contains(name)), None, "the table lacks one");
    table.check("limits.md", "rates");
}

#[test]
fn counters_of_parts_stand_in_the_guide() {
    let parts = [
        ("hooks.NAME", hook::COUNTED.to_vec()),
        ("webhooks.NAME", webhook::COUNTED.to_vec()),
        ("sources.NAME", source::counted()),
        ("stores.NAME", apikey::lookup::COUNTED.to_vec()),
        ("bridge.redis", source::publisher::COUNTED.to_vec()),
        ("certificates.acme", tls::COUNTED.to_vec()),
    ];
    let mut table = Table::new(&["name", "reason", "counts"]);
    for (part, counted) in &parts {
        for (reason, about) in counted {
            table.row(&[&format!("`{part}`"), &format!("`{reason}`"), about]);
        }
    }
    table.check("operations.md", "part-counters");
}
