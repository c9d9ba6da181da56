//! What may be sent on the topics of a `[[channel]]`: a JSON Schema for the payload of its joins, and one for each event.
//!
//! The schemas are the only source: payloads are checked against them here, and what is written for people and compilers is
//! made of them (`document`, `asyncapi`, `typescript`). A channel without schemas has no contract and pays nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arc_swap::ArcSwap;
use fanfare::{HeldBack, Pattern, Payload, Refused, Reply};
use serde_json::{Value, json};

use crate::config::channel::{Channel as Settings, JOIN, SchemaMode};
use crate::schema::{Schema, Violation};

mod asyncapi;
mod command;
mod compatible;
mod document;
mod named;
mod typescript;

use command::write;
pub(crate) use command::{Format, of, read, run};
pub(crate) use document::Document;

/// Larger payloads are checked on a thread for such work, not on one that serves sockets.
const INLINE_SIZE_MAX: usize = 16_384;

/// So many lines a second tell of payloads that were let through.
const LINES_PER_SECOND_MAX: u64 = 10;

/// The schemas of one `[[channel]]`.
#[derive(Debug)]
pub(crate) struct Contract {
    /// Its patterns, for the log.
    channel: String,
    mode: SchemaMode,
    join: Option<Arc<Schema>>,
    events: BTreeMap<String, Arc<Schema>>,
    reported: HeldBack,
    refused: AtomicU64,
    let_through: AtomicU64,
}

/// Why a payload is not taken.
#[derive(Debug)]
pub(crate) struct Misfit {
    /// What it was sent as.
    what: String,
    violations: Vec<Violation>,
}

impl Contract {
    /// With the schemas of a channel, as they were opened; `None` if it names none.
    pub(crate) fn new(settings: &Settings) -> Option<Self> {
        let mut events = settings.schemas.as_ref()?.opened.clone();
        let patterns: Vec<_> = settings.patterns().map(ToString::to_string).collect();
        let join = events.remove(JOIN);
        let mode = settings.schema_mode;
        Some(Self {
            channel: patterns.join(", "),
            mode,
            join,
            events,
            reported: HeldBack::new(LINES_PER_SECOND_MAX, 1),
            refused: AtomicU64::new(0),
            let_through: AtomicU64::new(0),
        })
    }

    /// Whether somebody may join with this payload.
    pub(crate) async fn check_join(&self, payload: &Payload) -> Result<(), Misfit> {
        match &self.join {
            Some(schema) => self.check(schema, "the payload of the join", payload).await,
            None => Ok(()),
        }
    }

    /// Whether this may be published.
    pub(crate) async fn check_event(&self, event: &str, payload: &Payload) -> Result<(), Misfit> {
        match self.events.get(event) {
            Some(schema) => self.check(schema, &format!("the payload of {event:?}"), payload).await,
            None => Ok(()),
        }
    }

    async fn check(&self, schema: &Arc<Schema>, what: &str, payload: &Payload) -> Result<(), Misfit> {
        let checked = if payload.size() > INLINE_SIZE_MAX {
            let (schema, payload) = (schema.clone(), payload.clone());
            tokio::task::spawn_blocking(move || schema.check_large(&payload)).await.unwrap_or_else(|_| Err(Vec::new()))
        } else {
            schema.check(payload)
        };
        let Err(violations) = checked else { return Ok(()) };
        let misfit = Misfit { what: what.to_owned(), violations };
        match self.mode {
            SchemaMode::Refuse => {
                self.refused.fetch_add(1, Ordering::Relaxed);
                Err(misfit)
            }
            SchemaMode::Report => {
                self.let_through.fetch_add(1, Ordering::Relaxed);
                if let Some(held_back) = self.reported.pass() {
                    let text = misfit.text();
                    tracing::warn!(
                        channel = self.channel,
                        held_back,
                        "{text}; it was let through, as schema_mode says"
                    );
                }
                Ok(())
            }
        }
    }

    /// How many payloads did not fit, by what was done with them.
    fn misfits(&self) -> [(&'static str, u64); 2] {
        [("refused", &self.refused), ("let_through", &self.let_through)]
            .map(|(result, count)| (result, count.load(Ordering::Relaxed)))
    }

    fn join_schema(&self) -> Option<&Value> {
        self.join.as_ref().map(|schema| schema.document())
    }

    fn event_schemas(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.events.iter().map(|(event, schema)| (event.as_str(), schema.document()))
    }
}

impl Misfit {
    /// In words. It names places in the payload and what the schema wants there, never what stood there.
    pub(crate) fn text(&self) -> String {
        let mut text = format!("{} does not fit its schema", self.what);
        for Violation { path, message } in &self.violations {
            // The pointer to the whole is empty.
            let place = if path.is_empty() { String::new() } else { format!("{path}: ") };
            text.push_str(&format!("; {place}{message}"));
        }
        text
    }

    fn told(&self) -> Value {
        json!({ "reason": "invalid payload", "errors": self.violations })
    }
}

impl From<Misfit> for Reply {
    fn from(misfit: Misfit) -> Self {
        Self::error(misfit.told()).because(misfit.text())
    }
}

impl From<Misfit> for Refused {
    fn from(misfit: Misfit) -> Self {
        Self::with(misfit.told()).because(misfit.text())
    }
}

/// The patterns of a channel and its contract, if it has one.
pub(crate) type OfChannel = (Vec<Pattern>, Option<Arc<Contract>>);

/// The contracts of all channels.
#[derive(Debug, Default)]
struct All {
    channels: Vec<OfChannel>,
    document: Document,
}

/// The contracts in force, for messages that do not come from a member. Clones share them, and they are exchanged as a whole.
#[derive(Debug, Clone, Default)]
pub(crate) struct Contracts(Arc<ArcSwap<All>>);

impl Contracts {
    /// Those of other channels from now on, in the order in which topics are looked up.
    pub(crate) fn replace(&self, channels: Vec<OfChannel>, document: Document) {
        self.0.store(Arc::new(All { channels, document }));
    }

    /// All that they say, in a form.
    pub(crate) fn write(&self, format: Format) -> String {
        write(&self.0.load().document, format)
    }

    /// How many payloads did not fit, since these contracts were read: by channel, and by what was done with them.
    pub(crate) fn misfits(&self) -> Vec<(String, &'static str, u64)> {
        let all = self.0.load();
        let contracts = all.channels.iter().filter_map(|(_, contract)| contract.as_ref());
        let of = |contract: &Arc<Contract>| {
            contract.misfits().map(|(result, count)| (contract.channel.clone(), result, count))
        };
        contracts.flat_map(of).collect()
    }

    /// Whether this may be published to a topic.
    pub(crate) async fn check(&self, topic: &str, event: &str, payload: &Payload) -> Result<(), Misfit> {
        let fits = |patterns: &[Pattern]| patterns.iter().any(|pattern| pattern.matches(topic));
        let contract =
            self.0.load().channels.iter().find(|(patterns, _)| fits(patterns)).and_then(|(_, of)| of.clone());
        match contract {
            Some(contract) => contract.check_event(event, payload).await,
            None => Ok(()),
        }
    }
}
