//! A configuration as it is told to whoever may see it: every key of its sections, what it says, and where it says so.

use serde::Serialize;
use serde_json::Value;
use toml::de::DeValue;

use super::Config;
use super::problem::{Lines, Place};
use super::section::Key;

/// What one key says.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Line {
    /// With the names of its section: `limits.joins_max`, `auth.main.secret`, `channel[2].join`.
    key: String,
    /// `null` where nothing is said and there is no default; `"set"` for a secret.
    value: Value,
    /// `fanfare.toml:12`, the name of a variable or of a flag, or `default`.
    from: String,
    /// When a change of it counts.
    reload: &'static str,
}

/// Of a configuration that was read from a text; `file` is what messages call it.
pub(super) fn lines(config: &Config, file: &str, content: &str) -> Vec<Line> {
    let text = Lines::new(content);
    let mut all = Vec::new();
    for (label, section, places) in config.labelled() {
        for key in section.keys {
            let from = match places.place(key.name()) {
                Place::File(at) => format!("{file}:{}", text.find(*at).0),
                Place::Environment(name) | Place::Flag(name) => name.clone(),
                Place::Nowhere => "default".to_owned(),
            };
            let value = places.shown(key.name()).cloned().unwrap_or_else(|| of_default(key));
            all.push(Line { key: key.labelled(&label), value, from, reload: key.reload.about() });
        }
    }
    all
}

fn of_default(key: &Key) -> Value {
    let raw = DeValue::parse(key.default).ok().filter(|_| !key.default.is_empty());
    raw.map_or(Value::Null, |raw| (key.shown)(&raw))
}
