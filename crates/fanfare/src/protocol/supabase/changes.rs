//! Changes of a database, as members ask for them in their joins: bindings, what is told about them, and rows to whoever may see
//! them. A change is a message on the topic of its table, which a member listens to beside its own.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use fanfare_proto::supabase::{CHANGES, Change, JoinConfig, Wanted, changes_topic, channel_name, system};

use super::door::KeyHolder;
use super::member::Later;
use crate::authority::{Bearer, ChangedRow, Settings};
use crate::channel::{Context, Refused};
use crate::error::Error;
use crate::message::Broadcast;

/// How a member of a channel is told that changes are not served.
const NOT_SERVED: &str = "postgres_changes are not served here: broadcast them from the database instead, with \
                          realtime.broadcast_changes in a trigger";

/// What is before a reason to refuse a join.
const DISABLED: &str = "RealtimeDisabledForConfiguration: ";

/// Whether changes come is looked at this often by those who wait to be told.
pub(super) const LOOK_EVERY: Duration = Duration::from_millis(500);

/// How often a join that waits for changes looks whether they come before it is refused. Clients give up after ten seconds.
const LOOKS_MAX: u32 = 14;

/// This many faults of the bindings of a join are told.
const FAULTS_MAX: usize = 10;

/// What a member wants to know of a database.
#[derive(Default)]
pub(super) struct Watch {
    wanted: Vec<Wanted>,
    /// The bindings of which no change has shown yet whether their table has the columns that they name.
    unproven: Vec<u32>,
    /// What the member is yet to be told.
    news: Option<News>,
}

enum News {
    /// Why some of what it has asked for does not come.
    Fault(String),
    /// All comes, once the source is connected.
    Served,
}

impl Watch {
    /// What a join asks for, and listens to from now on.
    pub(super) async fn of(config: &JoinConfig, settings: &Settings, cx: &mut Context<Later>) -> Result<Self, Refused> {
        if config.postgres_changes.is_empty() {
            return Ok(Watch::default());
        }
        let refused = |reason: &str| Err(Refused::reason(&format!("{DISABLED}{reason}")));
        if settings.tables.is_empty() {
            return match settings.refuses_changes || config.waits_for_changes {
                true => refused(NOT_SERVED),
                false => Ok(Watch { news: Some(News::Fault(NOT_SERVED.to_owned())), ..Watch::default() }),
            };
        }
        let (mut wanted, mut faults) = (Vec::new(), Vec::new());
        for (read, id) in Wanted::all(&config.postgres_changes).into_iter().zip(1..) {
            let served = read.and_then(|wanted| {
                let is_served = settings.tables.iter().any(|(schema, table)| wanted.covers(schema, table));
                is_served.then_some(wanted).ok_or_else(|| "changes of this table are not served here".to_owned())
            });
            match served {
                Ok(served) => wanted.push(served),
                Err(reason) => faults.push(format!("binding {id} of postgres_changes: {reason}")),
            }
        }
        let mut news = None;
        match all_of(&faults) {
            Some(reason) if config.waits_for_changes => return refused(&reason),
            _ if config.waits_for_changes => {
                let mut looks = 0;
                while !settings.are_changes_coming() {
                    if looks == LOOKS_MAX {
                        return refused("the source of changes is not connected: try again later");
                    }
                    looks += 1;
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            }
            fault => news = fault.map(News::Fault),
        }
        for (schema, table) in &settings.tables {
            if wanted.iter().any(|wanted| wanted.covers(schema, table)) {
                cx.subscribe(&changes_topic(schema, table))?;
            }
        }
        let unproven = wanted.iter().map(|wanted| wanted.id).collect();
        Ok(Watch { wanted, unproven, news: news.or(Some(News::Served)) })
    }

    /// Tells the member how what it has asked for stands, now or when it can be told.
    pub(super) fn tell(&mut self, settings: &Settings, cx: &mut Context<Later>) -> Result<(), Error> {
        let name = channel_name(cx.topic()).to_owned();
        match &self.news {
            None => {}
            Some(News::Fault(reason)) => {
                if cx.assigns::<KeyHolder>().is_some_and(|holder| holder.is_news(cx.topic())) {
                    tracing::info!(
                        topic = cx.topic(),
                        reason,
                        "a client asks for postgres_changes that are not served"
                    );
                    cx.push("system", system("postgres_changes", false, reason, &name))?;
                }
                self.news = None;
            }
            Some(News::Served) if settings.are_changes_coming() => {
                cx.push("system", system("postgres_changes", true, "Subscribed to PostgreSQL", &name))?;
                self.news = None;
            }
            Some(News::Served) => cx.send_after(LOOK_EVERY, Later::Changes),
        }
        Ok(())
    }

    /// Something has changed in a table.
    pub(super) fn changed(
        &mut self,
        settings: &Settings,
        bearer: &Bearer,
        cx: &mut Context<Later>,
        broadcast: &Broadcast,
    ) -> Result<(), Error> {
        let Some(change) = read(broadcast) else { return Ok(()) };
        let may_see = |row| settings.may_see(bearer, ChangedRow { schema: &change.schema, table: &change.table, row });
        if !may_see(change.row()) {
            return Ok(());
        }
        if !self.unproven.is_empty() {
            self.prove(cx, &change)?;
        }
        let with_before = change.row_before().is_some_and(may_see);
        for payload in change.told(&self.wanted, with_before) {
            cx.push("postgres_changes", payload)?;
        }
        Ok(())
    }
}

impl Watch {
    /// Which columns a table has, its first change says: a binding that names others finds nothing, and its member is told so.
    fn prove(&mut self, cx: &mut Context<Later>, change: &Change) -> Result<(), Error> {
        let Watch { wanted, unproven, .. } = self;
        let covers = |wanted: &&Wanted| wanted.covers(&change.schema, &change.table);
        for wanted in wanted.iter().filter(covers) {
            if !unproven.contains(&wanted.id) {
                continue;
            }
            unproven.retain(|id| *id != wanted.id);
            let Some(column) = wanted.unknown_column(change) else { continue };
            let (id, schema, table) = (wanted.id, &change.schema, &change.table);
            let reason = format!(
                "binding {id} of postgres_changes: the table {schema}.{table} has no column {column:.64?}: correct its filter or select"
            );
            let is_news = |holder: &KeyHolder| holder.is_news(&format!("{}\n{reason}", cx.topic()));
            if cx.assigns::<KeyHolder>().is_some_and(is_news) {
                tracing::info!(topic = cx.topic(), reason, "a client asks for columns that a table does not have");
                let told = system("postgres_changes", false, &reason, channel_name(cx.topic()));
                cx.push("system", told)?;
            }
        }
        Ok(())
    }
}

/// What is wrong with bindings, in one text.
fn all_of(faults: &[String]) -> Option<String> {
    let more = match faults.len().saturating_sub(FAULTS_MAX) {
        0 => String::new(),
        more => format!("; {more} more"),
    };
    let told = &faults[..faults.len().min(FAULTS_MAX)];
    (!told.is_empty()).then(|| told.join("; ") + &more)
}

/// What a message says; the members of a shard get it one after the other, and it is read once for all.
fn read(broadcast: &Broadcast) -> Option<Rc<Change>> {
    thread_local!(static LAST: RefCell<Option<(Broadcast, Option<Rc<Change>>)>> = const { RefCell::new(None) });
    LAST.with_borrow_mut(|last| match last {
        Some((read, change)) if read.is_same(broadcast) => change.clone(),
        _ => {
            let named = broadcast.topic().strip_prefix(CHANGES);
            let change = Change::of(broadcast.payload());
            // What a table's topic is told is of that table.
            let change = change.filter(|change| named == Some(&format!("{}:{}", change.schema, change.table)));
            let change = change.map(Rc::new);
            *last = Some((broadcast.clone(), change.clone()));
            change
        }
    })
}
