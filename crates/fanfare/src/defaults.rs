//! The defaults of the engine are those that the configuration of the server documents.

use std::time::Duration;

use crate::endpoint::Drain;
use crate::gate;
use crate::history::HistoryLimits;
use crate::mount::Mount;
use crate::serve;

const GUIDE: &str = include_str!("../../../docs/configuration.md");

/// The documented default of a key, in bytes, milliseconds or as a number.
fn documented(key: &str) -> u128 {
    let (_, section) = GUIDE.split_once(&format!("### `{key}`\n")).unwrap_or_else(|| panic!("{key} is not documented"));
    let section = section.split("\n#").next().unwrap_or_default();
    let (_, default) = section.split_once("- Default: `").unwrap_or_else(|| panic!("{key} has no default"));
    let default = default.split('`').next().unwrap_or_default().trim_matches('"');
    let unit = default.trim_start_matches(|c: char| c.is_ascii_digit());
    let factor = match unit {
        "" | "B" | "ms" => 1,
        "KB" | "s" => 1_000,
        "MB" => 1_000_000,
        "MiB" => 1 << 20,
        "m" => 60_000,
        _ => panic!("the unit of {key}: {default}"),
    };
    default[..default.len() - unit.len()].parse::<u128>().unwrap() * factor
}

#[test]
fn the_guide_has_the_defaults_of_the_engine() {
    let (mount, history, drain, server) =
        (Mount::new(), HistoryLimits::default(), Drain::default(), serve::Limits::default());
    let limits = mount.limits;
    let gate = gate::Settings::default();
    let number = |number: usize| number as u128;
    let ms = |span: Duration| span.as_millis();
    for (key, own) in [
        ("limits.message_size_max", number(limits.websocket.message_size_max)),
        ("limits.longpoll_body_size_max", number(limits.body_size_max)),
        ("limits.longpoll_messages_max", number(limits.body_lines_max)),
        ("limits.joins_max", number(limits.joins_max)),
        ("limits.waiting_frames_max", number(limits.waiting_frames_max)),
        ("limits.waiting_bytes_max", number(limits.waiting_bytes_max)),
        ("limits.outbox_bytes_max", number(limits.outbox.bytes_max)),
        ("limits.outbox_frames_max", number(limits.outbox.frames_max)),
        ("limits.write_timeout", ms(mount.write_timeout)),
        ("limits.connections_max", number(server.connections_max)),
        ("limits.connections_per_address_max", number(server.connections_per_address_max)),
        ("limits.handshakes_max", number(server.handshakes_max)),
        ("limits.penalty", ms(mount.rates.penalty)),
        ("limits.sessions_max", number(gate.sessions_max)),
        ("limits.sessions_per_address_max", number(gate.sessions_per_address_max)),
        ("limits.handshake_timeout", ms(server.handshake_timeout)),
        ("endpoint.idle_timeout", ms(mount.idle_timeout)),
        ("endpoint.grace", ms(Mount::hub().owner_grace)),
        ("history.bytes_max", number(history.bytes_max)),
        ("history.topics_max", number(history.topics_max)),
        ("history.log_bytes_max", number(history.log_bytes_max)),
        ("history.waiting_messages_max", number(history.waiting_messages_max)),
        ("history.waiting_bytes_max", number(history.waiting_bytes_max)),
        ("drain.limit", ms(drain.limit)),
        ("drain.batch", number(drain.batch)),
        ("drain.every", ms(drain.every)),
    ] {
        assert_eq!(documented(key), own, "{key}");
    }
}
