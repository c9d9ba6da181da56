//! `[tenant]`: what those may have who share a server, each with all of its clients.

use std::collections::BTreeMap;
use std::str::FromStr;

use fanfare::{Quota, Quotas, TenantFrom};

use super::limits::rate;
use super::problem::Problems;
use super::section::{Form, section};
use super::template::Template;
use super::value::{Count, Size, Text};

section! {
    /// What each tenant may have of this server: all clients of endpoints with a `tenant` that names the same one, together. A change counts
    /// at once, and takes nothing away from those who have more.
    struct Tenant: "tenant", Form::Table;
    keys {
        /// How many sockets a tenant may have. The next one is answered 429. Left out: no limit.
        sockets_max: Option<Count<0, 100_000_000>> = "" => Once,
        /// How many topics its sockets may have joined, added up. The next join is refused with `quota exceeded`. Left out: no limit.
        joins_max: Option<Count<0, 1_000_000_000>> = "" => Once,
        /// How many messages its clients may send a second, and twice as many at once when it was quiet; joins, leaves and heartbeats do not
        /// count. Beyond it a message is answered with the error `quota exceeded` and `retry_after_ms`, or what `limits.message_over` says
        /// happens. Left out: no limit.
        messages_per_s: Option<Count<1, 10_000_000>> = "" => Once,
        /// How many of these messages may be for topics that were joined, together with what is published by tokens of the HTTP API that are
        /// the tenant's (`tenant` in `[[admin.token]]`), and by requests to an endpoint of Supabase's clients. Beyond it the same happens, and
        /// requests are answered 429. Left out: no limit.
        publishes_per_s: Option<Count<1, 10_000_000>> = "" => Once,
        /// How many bytes of messages and replies its sockets may be sent in a day, which begins at midnight UTC. Beyond it no client of it
        /// connects, joins or publishes until the next day; sockets that are open stay so, and get what others publish. Left out: no limit.
        bytes_out_per_day: Option<Size<1_000, 1_000_000_000_000_000>> = "" => Once,
        /// How many tenants are told apart, beside those of a `[tenant.NAME]`. All beyond that share one quota, and are counted as `other`.
        tenants_max: Count<1, 100_000> = "1000" => Once,
    }
    later []
}

section! {
    /// What the tenant NAME may have instead of what `[tenant]` says. What is left out here is as there.
    struct Named: "tenant", Form::Named => Once;
    keys {
        /// How many sockets it may have. Left out: as in `[tenant]`, which holds for the other keys as well.
        sockets_max: Option<Count<0, 100_000_000>> = "" => Once,
        /// How many topics its sockets may have joined, added up.
        joins_max: Option<Count<0, 1_000_000_000>> = "" => Once,
        /// How many messages its clients may send a second.
        messages_per_s: Option<Count<1, 10_000_000>> = "" => Once,
        /// How many messages its clients and tokens may publish a second.
        publishes_per_s: Option<Count<1, 10_000_000>> = "" => Once,
        /// How many bytes its sockets may be sent in a day.
        bytes_out_per_day: Option<Size<1_000, 1_000_000_000_000_000>> = "" => Once,
    }
    later []
}

impl Tenant {
    /// What each may have, and those that are named.
    pub(crate) fn quotas(&self, named: &BTreeMap<String, Named>) -> Quotas {
        let quotas = Quotas::new(self.quota(None)).tenants_max(self.tenants_max.0 as usize);
        named.iter().fold(quotas, |quotas, (name, settings)| quotas.named(name, self.quota(Some(settings))))
    }

    fn quota(&self, own: Option<&Named>) -> Quota {
        let rate = |per_second: Count<1, 10_000_000>| rate(per_second.0, 2 * per_second.0);
        let sockets_max = own.and_then(|own| own.sockets_max).or(self.sockets_max);
        let joins_max = own.and_then(|own| own.joins_max).or(self.joins_max);
        let messages = own.and_then(|own| own.messages_per_s).or(self.messages_per_s);
        let publishes = own.and_then(|own| own.publishes_per_s).or(self.publishes_per_s);
        let bytes = own.and_then(|own| own.bytes_out_per_day).or(self.bytes_out_per_day);
        Quota::new()
            .sockets_max(sockets_max.map(|max| max.0))
            .joins_max(joins_max.map(|max| max.0))
            .messages(messages.map(rate))
            .publishes(publishes.map(rate))
            .bytes_out_per_day(bytes.map(|max| max.0))
    }

    /// Whether it says what each may have.
    pub(super) fn has_quota(&self) -> bool {
        self.quota(None) != Quota::new()
    }

    /// What it allows, by the names of metrics.
    pub(crate) fn limits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let count = |count: Option<u64>, name| count.map(|count| (name, count));
        let all = [
            count(self.sockets_max.map(|max| max.0), "tenant_sockets_max"),
            count(self.joins_max.map(|max| max.0), "tenant_joins_max"),
            count(self.messages_per_s.map(|max| max.0), "tenant_messages_per_s"),
            count(self.publishes_per_s.map(|max| max.0), "tenant_publishes_per_s"),
            count(self.bytes_out_per_day.map(|max| max.0), "tenant_bytes_out_per_day"),
        ];
        all.into_iter().flatten().chain([("tenants_max", self.tenants_max.0)])
    }
}

/// What says whose client one is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Naming {
    /// Its request.
    Request(TenantFrom),
    /// Its credential.
    Claims(Template),
}

impl Naming {
    /// What of the request says it, if that does.
    pub(crate) fn request(&self) -> Option<&TenantFrom> {
        match self {
            Self::Request(from) => Some(from),
            Self::Claims(_) => None,
        }
    }

    /// What of the credential says it, if that does.
    pub(crate) fn claims(&self) -> Option<&Template> {
        match self {
            Self::Claims(template) => Some(template),
            Self::Request(_) => None,
        }
    }
}

impl Text for Naming {
    fn accepts() -> String {
        r#"a text with names of claims in braces, such as "{org}", a named segment of the path, such as ":tenant", or "host""#.into()
    }
}

impl FromStr for Naming {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "host" {
            return Ok(Self::Request(TenantFrom::Host));
        }
        if let Some(segment) = text.strip_prefix(':') {
            return Ok(Self::Request(TenantFrom::Segment(segment.to_owned())));
        }
        let template: Template = text.parse()?;
        if template.names().next().is_none() {
            return Err("it names no claim: all clients would be of one tenant".into());
        }
        Ok(Self::Claims(template))
    }
}

/// What tenants can be called.
pub(super) const NAMES: &str =
    "a tenant has a name of 1 to 128 bytes without control characters, and \"other\" are those beyond tenants_max";

/// Whether a tenant can be called so.
pub(super) fn is_a_name(name: &str) -> bool {
    (1..=128).contains(&name.len()) && !name.contains(char::is_control) && name != "other"
}

/// Reports names of tenants that no client can have.
pub(super) fn check(named: &BTreeMap<String, Option<Named>>, problems: &mut Problems) {
    for (name, settings) in named {
        if let Some(settings) = settings
            && !is_a_name(name)
        {
            settings.places.problem(problems, "sockets_max", NAMES);
        }
    }
}
