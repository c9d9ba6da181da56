//! The configuration: read from a text, the environment and flags, checked as a whole, and described.
//!
//! Each key is declared once, in a `section!` of `config/`. What the sections mean to the engine is not known here, and no
//! file is opened that a key names: `preflight` does that. All of the server may use this, and it uses nothing of it.

use std::collections::BTreeMap;

use toml::Spanned;
use toml::de::{DeString, DeTable, DeValue};

pub(crate) mod acme;
pub(crate) mod auth;
pub(crate) mod bridge;
pub(crate) mod broker;
pub(crate) mod change;
pub(crate) mod channel;
mod check;
pub(crate) mod cluster;
pub(crate) mod endpoint;
pub(crate) mod history;
pub(crate) mod hook;
pub(crate) mod keys;
pub(crate) mod limits;
pub(crate) mod metrics;
pub(crate) mod problem;
pub(crate) mod reference;
pub(crate) mod rows;
pub(crate) mod rule;
pub(crate) mod secret;
pub(crate) mod section;
pub(crate) mod server;
pub(crate) mod source;
mod sources;
pub(crate) mod starter;
pub(crate) mod supabase;
pub(crate) mod template;
pub(crate) mod tenant;
#[cfg(test)]
mod tests;
pub(crate) mod token;
pub(crate) mod told;
pub(crate) mod traces;
pub(crate) mod url;
pub(crate) mod value;
pub(crate) mod webhook;

use acme::Acme;
use auth::Auth;
use bridge::Bridge;
use broker::Broker;
use channel::Channel;
use cluster::Cluster;
use endpoint::Endpoint;
use history::History;
use hook::Hook;
use keys::Keys;
use limits::Limits;
use metrics::Metrics;
use problem::{Place, Problems};
use section::{Form, Reader, Section, find, find_below};
use server::{Admin, Certificate, Drain, Log, Server, Tls};
use source::Source;
use tenant::Tenant;
use traces::Traces;
use value::Raw;
use webhook::Webhook;

pub(crate) use problem::Report;
pub(crate) use section::from_text;
pub(crate) use sources::{Flag, Overrides};

/// Every section, in the order of the documentation.
const SECTIONS: [&Section; 23] = [
    Server::SECTION,
    Tls::SECTION,
    Certificate::SECTION,
    Acme::SECTION,
    Endpoint::SECTION,
    Auth::SECTION,
    Keys::SECTION,
    Channel::SECTION,
    History::SECTION,
    Broker::SECTION,
    Cluster::SECTION,
    Source::SECTION,
    Bridge::SECTION,
    Hook::SECTION,
    Webhook::SECTION,
    Admin::SECTION,
    Metrics::SECTION,
    Limits::SECTION,
    Tenant::SECTION,
    tenant::Named::SECTION,
    Drain::SECTION,
    Log::SECTION,
    Traces::SECTION,
];

/// A configuration that was found to be right.
#[derive(Debug)]
pub(crate) struct Config {
    pub(crate) server: Server,
    pub(crate) tls: Option<Tls>,
    /// Beside the one of [`Tls`].
    pub(crate) certificates: Vec<Certificate>,
    pub(crate) acme: Option<Acme>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) auths: BTreeMap<String, Auth>,
    pub(crate) keys: BTreeMap<String, Keys>,
    pub(crate) sources: BTreeMap<String, Source>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) history: History,
    pub(crate) broker: Option<Broker>,
    pub(crate) cluster: Cluster,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) hooks: BTreeMap<String, Hook>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) admin: Option<Admin>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) limits: Limits,
    pub(crate) tenant: Tenant,
    pub(crate) tenants: BTreeMap<String, tenant::Named>,
    pub(crate) drain: Drain,
    pub(crate) log: Log,
    pub(crate) traces: Option<Traces>,
    /// What looks wrong but may be meant.
    pub(crate) warnings: Vec<String>,
    /// All of it, for whoever may see it.
    pub(crate) told: Vec<told::Line>,
}

/// A configuration that was read, and what is wrong with it so far.
pub(crate) struct Reading<'c> {
    /// What messages call the text.
    name: &'c str,
    content: &'c str,
    pub(crate) draft: Draft,
    pub(crate) problems: Problems,
    pub(crate) warnings: Vec<String>,
}

impl<'c> Reading<'c> {
    /// Reads a text; `name` is what messages call it.
    ///
    /// # Errors
    /// It is not TOML.
    pub(crate) fn new(name: &'c str, content: &'c str, overrides: &Overrides) -> Result<Self, Report> {
        let mut problems = Problems::default();
        let (table, syntax) = DeTable::parse_recoverable(content);
        for error in &syntax {
            problems.add_syntax(error.span(), error.message());
        }
        if !syntax.is_empty() {
            // What the parser made of a broken file is a guess; complaints about it would mislead.
            problems.into_result(name, content)?;
        }
        let (mut problems, mut warnings) = (Problems::default(), Vec::new());
        let mut draft = Sections { table: table.get_ref(), overrides, problems: &mut problems }.read();
        draft.check(overrides, &mut problems, &mut warnings);
        overrides.check_flags(&SECTIONS, &mut problems);
        Ok(Self { name, content, draft, problems, warnings })
    }

    /// The configuration.
    ///
    /// # Errors
    /// Everything that is wrong.
    pub(crate) fn finish(self) -> Result<Config, Report> {
        self.problems.into_result(self.name, self.content)?;
        let mut config = self.draft.finish(self.warnings).expect("what was read without a problem is complete");
        config.told = told::lines(&config, self.name, self.content);
        Ok(config)
    }
}

/// As much of a configuration as could be read, for checks that concern several sections.
pub(crate) struct Draft {
    pub(crate) server: Option<Server>,
    pub(crate) tls: Option<Tls>,
    pub(crate) certificates: Vec<Certificate>,
    /// The inner one is `None` where it is there and cannot be read.
    pub(crate) acme: Option<Option<Acme>>,
    pub(crate) endpoints: Vec<Endpoint>,
    pub(crate) auths: BTreeMap<String, Option<Auth>>,
    pub(crate) keys: BTreeMap<String, Option<Keys>>,
    pub(crate) sources: BTreeMap<String, Option<Source>>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) history: Option<History>,
    pub(crate) broker: Option<Broker>,
    pub(crate) cluster: Option<Cluster>,
    pub(crate) bridge: Option<Bridge>,
    pub(crate) hooks: BTreeMap<String, Option<Hook>>,
    pub(crate) webhooks: Vec<Webhook>,
    pub(crate) admin: Option<Admin>,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) limits: Option<Limits>,
    pub(crate) tenant: Option<Tenant>,
    pub(crate) tenants: BTreeMap<String, Option<tenant::Named>>,
    pub(crate) drain: Option<Drain>,
    pub(crate) log: Option<Log>,
    pub(crate) traces: Option<Traces>,
}

impl Draft {
    fn finish(self, warnings: Vec<String>) -> Option<Config> {
        Some(Config {
            server: self.server?,
            tls: self.tls,
            certificates: self.certificates,
            acme: self.acme.map_or(Some(None), |acme| acme.map(Some))?,
            endpoints: self.endpoints,
            auths: complete(self.auths)?,
            keys: complete(self.keys)?,
            sources: complete(self.sources)?,
            channels: self.channels,
            history: self.history?,
            broker: self.broker,
            cluster: self.cluster?,
            bridge: self.bridge,
            hooks: complete(self.hooks)?,
            webhooks: self.webhooks,
            admin: self.admin,
            metrics: self.metrics,
            limits: self.limits?,
            tenant: self.tenant?,
            tenants: complete(self.tenants)?,
            drain: self.drain?,
            log: self.log?,
            traces: self.traces,
            warnings,
            told: Vec::new(),
        })
    }
}

/// All that were named, if each could be read.
fn complete<T>(named: BTreeMap<String, Option<T>>) -> Option<BTreeMap<String, T>> {
    named.into_iter().map(|(name, section)| Some((name, section?))).collect()
}

/// The names of the tables within a section.
fn named_within<'t>(table: &'t DeTable<'_>, section: &Section) -> Vec<&'t str> {
    let table = find(table, section.name).and_then(|(_, raw)| raw.get_ref().as_table());
    let tables = table.into_iter().flat_map(|table| table.iter());
    tables.filter(|(_, raw)| raw.get_ref().is_table()).map(|(name, _)| name.get_ref().as_ref()).collect()
}

/// Reads the sections of a file one by one, so that a problem in one does not hide those in others.
struct Sections<'r, 'i> {
    table: &'r DeTable<'i>,
    overrides: &'r Overrides,
    problems: &'r mut Problems,
}

impl Sections<'_, '_> {
    fn read(mut self) -> Draft {
        let names = SECTIONS.iter().map(|section| section.name);
        let names: Vec<_> = names.filter(|name| !name.is_empty() && !name.contains('.')).collect();
        let table = Some(self.table);
        let tenants = named_within(self.table, Tenant::SECTION);
        let mut draft = Draft {
            server: self.section(Server::SECTION, "", Place::Nowhere, table, |reader| Server::read(reader, &names)),
            tls: self.optional(Tls::SECTION, |reader| Tls::read(reader, &["certificate", "acme"])),
            certificates: self.list(Certificate::SECTION, |reader| Certificate::read(reader, &[])),
            acme: self.is_present(Acme::SECTION).then(|| self.single(Acme::SECTION, |reader| Acme::read(reader, &[]))),
            endpoints: self.list(Endpoint::SECTION, |reader| Endpoint::read(reader, &[])),
            auths: self.named(Auth::SECTION, |reader| Auth::read(reader, &[])),
            keys: self.named(Keys::SECTION, |reader| Keys::read(reader, &[])),
            channels: self.list(Channel::SECTION, |reader| Channel::read(reader, &[])),
            history: self.single(History::SECTION, |reader| History::read(reader, &[])),
            broker: self.optional(Broker::SECTION, |reader| Broker::read(reader, &[])),
            cluster: self.single(Cluster::SECTION, |reader| Cluster::read(reader, &[])),
            sources: self.named(Source::SECTION, |reader| Source::read(reader, &[])),
            bridge: self.optional(Bridge::SECTION, |reader| Bridge::read(reader, &[])),
            hooks: self.named(Hook::SECTION, |reader| Hook::read(reader, &[])),
            webhooks: self.list(Webhook::SECTION, |reader| Webhook::read(reader, &[])),
            admin: self.optional(Admin::SECTION, |reader| Admin::read(reader, &[])),
            metrics: self.optional(Metrics::SECTION, |reader| Metrics::read(reader, &[])),
            limits: self.single(Limits::SECTION, |reader| Limits::read(reader, &[])),
            tenant: self.single(Tenant::SECTION, |reader| Tenant::read(reader, &tenants)),
            tenants: self.named(tenant::Named::SECTION, |reader| tenant::Named::read(reader, &[])),
            drain: self.single(Drain::SECTION, |reader| Drain::read(reader, &[])),
            log: self.single(Log::SECTION, |reader| Log::read(reader, &[])),
            traces: self.optional(Traces::SECTION, |reader| Traces::read(reader, &[])),
        };
        if find(self.table, Endpoint::SECTION.name).is_none() {
            let read = |reader: Reader<'_, '_>| Endpoint::read(reader, &[]);
            draft.endpoints.extend(self.section(Endpoint::SECTION, Endpoint::SECTION.name, Place::Nowhere, None, read));
        }
        // The environment alone may give the one within the other.
        if draft.acme.is_some() && find(self.table, Tls::SECTION.name).is_none() && draft.tls.is_none() {
            draft.tls = self.single(Tls::SECTION, |reader| Tls::read(reader, &[]));
        }
        draft
    }

    /// A section that counts as empty when it is not there.
    fn single<T>(&mut self, section: &'static Section, read: impl FnOnce(Reader<'_, '_>) -> Option<T>) -> Option<T> {
        let Some((at, raw)) = find_below(self.table, section.name) else {
            return self.section(section, section.name, Place::Nowhere, None, read);
        };
        let place = Place::File(at);
        match (raw.get_ref(), section.form) {
            (DeValue::Table(table), _) => self.section(section, section.name, place, Some(table), read),
            (_, Form::Shorthand(key)) => {
                let key = Spanned::new(at..at, key.into());
                let table = DeTable::from_iter([(key, raw.clone())]);
                self.section(section, section.name, place, Some(&table), read)
            }
            _ => self.wrong_form(section, at),
        }
    }

    /// A section that means something by being there.
    fn optional<T>(&mut self, section: &'static Section, read: impl FnOnce(Reader<'_, '_>) -> Option<T>) -> Option<T> {
        self.is_present(section).then(|| self.single(section, read)).flatten()
    }

    fn is_present(&self, section: &Section) -> bool {
        find_below(self.table, section.name).is_some() || self.overrides.mentions(section)
    }

    /// Those of the tables of `[[section]]` that can be read.
    fn list<T>(&mut self, section: &'static Section, read: impl Fn(Reader<'_, '_>) -> Option<T>) -> Vec<T> {
        let Some((at, raw)) = find_below(self.table, section.name) else { return Vec::new() };
        let Some(items) = raw.get_ref().as_array() else {
            return Vec::from_iter(self.wrong_form(section, at));
        };
        let one = |item: &Raw<'_>| match item.get_ref() {
            DeValue::Table(table) => {
                self.section(section, section.name, Place::File(item.span().start), Some(table), &read)
            }
            _ => self.wrong_form(section, item.span().start),
        };
        items.iter().filter_map(one).collect()
    }

    /// Each `[section.NAME]` by its name, `None` where it cannot be read.
    fn named<T>(
        &mut self,
        section: &'static Section,
        read: impl Fn(Reader<'_, '_>) -> Option<T>,
    ) -> BTreeMap<String, Option<T>> {
        let Some((at, raw)) = find(self.table, section.name) else { return BTreeMap::new() };
        let Some(tables) = raw.get_ref().as_table() else {
            self.wrong_form::<T>(section, at);
            return BTreeMap::new();
        };
        // The keys of a section that has others within it are read as its own.
        let has_own = SECTIONS.iter().any(|other| other.name == section.name && other.form == Form::Table);
        let is_own = |raw: &Raw<'_>| has_own && !raw.get_ref().is_table();
        let one = |(name, raw): (&Spanned<DeString<'_>>, &Raw<'_>)| {
            let at = name.span().start;
            let path = format!("{}.{}", section.name, name.get_ref());
            let read = match raw.get_ref() {
                DeValue::Table(table) => self.section(section, &path, Place::File(at), Some(table), &read),
                _ => self.wrong_form(section, at),
            };
            (name.get_ref().to_string(), read)
        };
        tables.iter().filter(|(_, raw)| !is_own(raw)).map(one).collect()
    }

    fn section<T>(
        &mut self,
        section: &'static Section,
        name: &str,
        header: Place,
        table: Option<&DeTable<'_>>,
        read: impl FnOnce(Reader<'_, '_>) -> Option<T>,
    ) -> Option<T> {
        read(Reader::new(section, name.into(), header, table, self.overrides, self.problems))
    }

    fn wrong_form<T>(&mut self, section: &Section, at: usize) -> Option<T> {
        let text = format!("is a section: write it as {}", section.header());
        self.problems.add(Place::File(at), section.name, text);
        None
    }
}
