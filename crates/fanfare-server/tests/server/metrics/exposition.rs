//! The text form of OpenMetrics, read strictly: what Prometheus would refuse is an error.

use std::collections::BTreeMap;

/// What a metric is declared as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A scrape.
#[derive(Debug, Default)]
pub(super) struct Exposition {
    /// By the name of the metric, as queries have it: its kind and its help.
    pub(super) families: BTreeMap<String, (Kind, String)>,
    /// By name and labels as they are written.
    pub(super) series: BTreeMap<String, f64>,
}

impl Exposition {
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let body = text.strip_suffix("# EOF\n").ok_or("it does not end with # EOF")?;
        let (mut told, mut current) = (Exposition::default(), None::<(String, Kind)>);
        let mut helps = BTreeMap::new();
        for line in body.lines() {
            let wrong = |why: &str| format!("{why}: {line:?}");
            if let Some(rest) = line.strip_prefix("# ") {
                let mut parts = rest.splitn(3, ' ');
                let (Some(what), Some(name), Some(value)) = (parts.next(), parts.next(), parts.next()) else {
                    return Err(wrong("half a description"));
                };
                match what {
                    "HELP" => drop(helps.insert(name.to_owned(), value.to_owned())),
                    "TYPE" => {
                        let kind = match value {
                            "counter" => Kind::Counter,
                            "gauge" => Kind::Gauge,
                            "histogram" => Kind::Histogram,
                            _ => return Err(wrong("an unknown type")),
                        };
                        let full = if kind == Kind::Counter { format!("{name}_total") } else { name.to_owned() };
                        let help = helps.get(name).cloned().unwrap_or_default();
                        if told.families.insert(full, (kind, help)).is_some() {
                            return Err(wrong("declared twice"));
                        }
                        current = Some((name.to_owned(), kind));
                    }
                    "UNIT" => {}
                    _ => return Err(wrong("an unknown description")),
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').ok_or_else(|| wrong("no value"))?;
            let value: f64 = value.parse().map_err(|_| wrong("not a number"))?;
            let (name, labels) = match series.split_once('{') {
                Some((name, labels)) => (name, labels.strip_suffix('}').ok_or_else(|| wrong("labels without an end"))?),
                None => (series, ""),
            };
            let Some((family, kind)) = &current else { return Err(wrong("not declared")) };
            let suffix = name.strip_prefix(family.as_str()).ok_or_else(|| wrong("among those of another metric"))?;
            let fits = match kind {
                Kind::Counter => suffix == "_total",
                Kind::Gauge => suffix.is_empty(),
                Kind::Histogram => ["_bucket", "_sum", "_count"].contains(&suffix),
            };
            if !fits || !are_labels(labels) || (*kind == Kind::Counter && (value < 0.0 || !value.is_finite())) {
                return Err(wrong("not what the metric has"));
            }
            if told.series.insert(series.to_owned(), value).is_some() {
                return Err(wrong("told twice"));
            }
        }
        Ok(told)
    }

    /// The value of a series; 0 where there is none yet.
    pub(super) fn value(&self, series: &str) -> f64 {
        self.series.get(series).copied().unwrap_or_default()
    }
}

/// Whether it is `name="value"`, any number of them: quotes, backslashes and line ends within a value are escaped.
fn are_labels(labels: &str) -> bool {
    let mut rest = labels;
    while !rest.is_empty() {
        let Some((name, value)) = rest.split_once("=\"") else { return false };
        if name.is_empty() || !name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_') {
            return false;
        }
        let mut escaped = false;
        let end = value.find(|c| match (escaped, c) {
            (false, '"') => true,
            _ => {
                escaped = !escaped && c == '\\';
                false
            }
        });
        let Some(end) = end else { return false };
        rest = match &value[end + 1..] {
            "" => "",
            more => match more.strip_prefix(',') {
                Some(more) => more,
                None => return false,
            },
        };
    }
    true
}
