//! What has changed between two configurations, key by key.

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use toml::de::DeValue;

use super::Config;
use super::section::{Form, Key, Places, Reload, Section};
use super::value::Raw;

/// What a value is, as far as two of them are compared. Nothing can be read from it: it may stand for a secret.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) struct Weight(u64);

impl Weight {
    /// Of a value as it is written; comments, spaces and the order of a table do not count.
    pub(super) fn of(raw: &Raw<'_>) -> Self {
        let mut hasher = DefaultHasher::new();
        weigh(raw.get_ref(), &mut hasher);
        Self(hasher.finish())
    }

    /// Together with something that it leads to.
    pub(super) fn and(self, content: &[u8]) -> Self {
        let mut hasher = DefaultHasher::new();
        (self.0, content).hash(&mut hasher);
        Self(hasher.finish())
    }

    /// Of a default.
    fn of_default(key: &Key) -> Option<Self> {
        let raw = DeValue::parse(key.default).ok().filter(|_| !key.default.is_empty())?;
        Some(Self::of(&raw))
    }
}

impl std::fmt::Debug for Weight {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Weight")
    }
}

fn weigh(value: &DeValue<'_>, hasher: &mut DefaultHasher) {
    std::mem::discriminant(value).hash(hasher);
    match value {
        DeValue::String(text) => text.hash(hasher),
        DeValue::Integer(number) => (number.as_str(), number.radix()).hash(hasher),
        DeValue::Float(number) => number.as_str().hash(hasher),
        DeValue::Boolean(is_true) => is_true.hash(hasher),
        DeValue::Datetime(time) => time.to_string().hash(hasher),
        DeValue::Array(items) => {
            items.len().hash(hasher);
            items.iter().for_each(|item| weigh(item.get_ref(), hasher));
        }
        DeValue::Table(table) => {
            let sorted: BTreeMap<&str, _> =
                table.iter().map(|(name, value)| (&**name.get_ref(), value.get_ref())).collect();
            sorted.len().hash(hasher);
            for (name, value) in sorted {
                name.hash(hasher);
                weigh(value, hasher);
            }
        }
    }
}

/// All that a configuration says, by the names of its sections.
#[derive(Debug)]
pub(crate) struct Imprint(BTreeMap<String, Of>);

#[derive(Debug)]
struct Of {
    section: &'static Section,
    weights: BTreeMap<&'static str, Weight>,
}

/// A key, or a section as a whole, that one configuration has and the other has not, or not so.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Change {
    /// With the names of its section: `limits.joins_max`, `auth.main`, `channel[2].join`.
    pub(crate) key: String,
    /// When it counts.
    pub(crate) reload: Reload,
}

impl Config {
    /// What it says.
    pub(crate) fn imprint(&self) -> Imprint {
        let of = |section, places: &Places| Of { section, weights: places.weights().clone() };
        Imprint(self.labelled().into_iter().map(|(label, section, places)| (label, of(section, places))).collect())
    }

    /// Its sections by the names that messages have for them.
    pub(super) fn labelled(&self) -> Vec<(String, &'static Section, &Places)> {
        let mut counts: BTreeMap<&str, usize> = BTreeMap::new();
        let mut label = |section: &Section, places: &Places| match section.form {
            Form::List => {
                let count = counts.entry(section.name).or_default();
                *count += 1;
                format!("{}[{count}]", section.name)
            }
            _ => places.name().to_owned(),
        };
        self.sections().into_iter().map(|(section, places)| (label(section, places), section, places)).collect()
    }
}

impl Imprint {
    /// What another one has changed.
    pub(crate) fn changes(&self, new: &Self) -> Vec<Change> {
        let labels: std::collections::BTreeSet<&String> = self.0.keys().chain(new.0.keys()).collect();
        labels.into_iter().flat_map(|label| changes(label, self.0.get(label), new.0.get(label))).collect()
    }

    /// Whether a section is there in both, and says the same.
    pub(crate) fn is_same(&self, new: &Self, label: &str) -> bool {
        let (old, new) = (self.0.get(label), new.0.get(label));
        old.is_some() && new.is_some() && changes(label, old, new).is_empty()
    }
}

fn changes(label: &str, old: Option<&Of>, new: Option<&Of>) -> Vec<Change> {
    let (old, new) = match (old, new) {
        (Some(old), Some(new)) => (old, new),
        (Some(of), None) | (None, Some(of)) => {
            return vec![Change { key: label.to_owned(), reload: of.section.presence }];
        }
        (None, None) => return Vec::new(),
    };
    let differs = |key: &&Key| {
        let weight = |of: &Of| of.weights.get(key.name()).copied().or_else(|| Weight::of_default(key));
        weight(old) != weight(new)
    };
    let changed = new.section.keys.iter().filter(differs);
    changed.map(|key| Change { key: key.labelled(label), reload: key.reload }).collect()
}

impl Config {
    /// Every section, in the order of the file where that counts.
    fn sections(&self) -> Vec<(&'static Section, &Places)> {
        use super::*;
        let mut all = vec![
            (Server::SECTION, &self.server.places),
            (History::SECTION, &self.history.places),
            (Limits::SECTION, &self.limits.places),
            (Tenant::SECTION, &self.tenant.places),
            (Drain::SECTION, &self.drain.places),
            (Log::SECTION, &self.log.places),
            (Cluster::SECTION, &self.cluster.places),
        ];
        all.extend(self.tls.iter().map(|tls| (Tls::SECTION, &tls.places)));
        all.extend(self.certificates.iter().map(|certificate| (Certificate::SECTION, &certificate.places)));
        all.extend(self.acme.iter().map(|acme| (Acme::SECTION, &acme.places)));
        all.extend(self.endpoints.iter().map(|endpoint| (Endpoint::SECTION, &endpoint.places)));
        all.extend(self.auths.values().map(|auth| (Auth::SECTION, &auth.places)));
        all.extend(self.keys.values().map(|keys| (Keys::SECTION, &keys.places)));
        all.extend(self.channels.iter().map(|channel| (Channel::SECTION, &channel.places)));
        all.extend(self.broker.iter().map(|broker| (Broker::SECTION, &broker.places)));
        all.extend(self.sources.values().map(|source| (Source::SECTION, &source.places)));
        all.extend(self.bridge.iter().map(|bridge| (Bridge::SECTION, &bridge.places)));
        all.extend(self.hooks.values().map(|hook| (Hook::SECTION, &hook.places)));
        all.extend(self.webhooks.iter().map(|webhook| (Webhook::SECTION, &webhook.places)));
        all.extend(self.tenants.values().map(|named| (tenant::Named::SECTION, &named.places)));
        all.extend(self.admin.iter().map(|admin| (Admin::SECTION, &admin.places)));
        all.extend(self.metrics.iter().map(|metrics| (Metrics::SECTION, &metrics.places)));
        all.extend(self.traces.iter().map(|traces| (Traces::SECTION, &traces.places)));
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Overrides;
    use crate::preflight;

    #[track_caller]
    fn check(old: &str, new: &str, expected: &[(&str, Reload)]) {
        let imprint = |text| preflight::parse("f", text, &Overrides::default()).unwrap().imprint();
        let changes = imprint(old).changes(&imprint(new));
        let changes: Vec<_> = changes.iter().map(|change| (change.key.as_str(), change.reload)).collect();
        assert_eq!(changes, expected);
    }

    #[test]
    fn only_what_says_something_else_has_changed() {
        check("", "", &[]);
        check("", "listen = '127.0.0.1:4000'\n[limits]\njoins_max = 100 # as by default", &[]);
        check("", "listen = '127.0.0.1:4002'", &[("listen", Reload::Restart)]);
        check("[limits]\njoins_max = 7", "[limits]\njoins_max = 8", &[("limits.joins_max", Reload::Connect)]);
        check("[limits]\njoins_max = 7", "", &[("limits.joins_max", Reload::Connect)]);
        check("drain = '30s'", "[drain]\nlimit = '30s'", &[]);
        check("", "[admin]", &[("admin", Reload::Restart)]);
        let metrics = |port| format!("[metrics]\nlisten = '127.0.0.1:{port}'");
        check(&metrics(1), &metrics(2), &[("metrics.listen", Reload::Restart)]);
        let (one, two) = ("[[channel]]\ntopic = 'a'\njoin = 'open'\n", "[[channel]]\ntopic = 'b'\njoin = 'open'\n");
        check(one, &format!("{one}{two}"), &[("channel[2]", Reload::Connect)]);
        check(one, two, &[("channel[1].topic", Reload::Connect)]);
        check(one, &one.replace("'open'", "['open']"), &[("channel[1].join", Reload::Join)]);
        check(
            "[hook.a]\nurl = 'https://a/'",
            "[hook.b]\nurl = 'https://a/'",
            &[("hook.a", Reload::Once), ("hook.b", Reload::Once)],
        );
    }

    #[test]
    fn a_secret_that_changed_is_a_change_and_is_not_shown() {
        let hook = |secret| format!("[hook.a]\nurl = 'https://a/'\nsecret = '{secret}'");
        let (one, two) = (hook("0123456789012345678901234567890123"), hook("0123456789012345678901234567890124"));
        check(&one, &two, &[("hook.a.secret", Reload::Once)]);
        let imprint = preflight::parse("f", &one, &Overrides::default()).unwrap().imprint();
        assert!(!format!("{imprint:?}").contains("0123"));
    }
}
