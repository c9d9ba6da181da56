//! Every server that a configuration names is asked once who it is and whether it is set as it should be: `fanfare check --connect`.
//!
//! All are asked at the same time, and each has [`PATIENCE`]. Nothing is written, except what a node of a cluster sends to itself.
//! `contact/` has the servers: `broker`, `redis`, `nats`, `acme`, `tcp` (those of which only a connection is wanted).

use std::fmt;
use std::pin::Pin;
use std::process::ExitCode;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::timeout;

use crate::apikey::store;
use crate::config::Config;
use crate::config::keys::Keys;
use crate::config::secret::Secret;
use crate::config::source::{Kind, Source};
use crate::terminal::print;

mod acme;
mod broker;
#[cfg(feature = "nats")]
mod nats;
#[cfg(feature = "redis")]
mod redis;
mod tcp;

/// How long one of them may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a server has said of itself.
#[derive(Debug, Default, PartialEq, Eq)]
struct Found {
    /// What it is, with its version.
    what: String,
    /// What of its settings is not as it should be, with the next step.
    warnings: Vec<String>,
}

/// What has become of asking one: otherwise why it cannot be used, with the next step.
type Answer = Result<Found, String>;

/// The answers of some servers, later, each with the part of the configuration that it is of.
type Asked<'a> = Pin<Box<dyn Future<Output = Vec<(String, Answer)>> + Send + 'a>>;

/// Asks all of them, and prints what they say. The exit status says whether all can be used.
///
/// # Errors
/// Nobody can be asked on this machine.
pub(crate) fn run(config: &Config) -> Result<ExitCode, String> {
    let runtime = tokio::runtime::Runtime::new().map_err(|error| format!("cannot start threads: {error}"))?;
    let told = runtime.block_on(all(config));
    // What a driver still tries is of no interest.
    runtime.shutdown_background();
    if told.is_empty() {
        return print("the configuration names no other servers\n").map(|()| ExitCode::SUCCESS);
    }
    let is_well = told.iter().all(|(_, answer)| answer.is_ok());
    told.iter().try_for_each(|(part, answer)| print(&Told { part, answer }.to_string()))?;
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// In the order of the documentation of the sections.
async fn all(config: &Config) -> Vec<(String, Answer)> {
    let mut asked: Vec<Asked<'_>> = Vec::new();
    if let Some(settings) = &config.acme {
        asked.push(one("tls.acme".to_owned(), acme::ask(settings)));
    }
    for (name, auth) in &config.auths {
        asked.extend(auth.jwks_url.iter().map(|url| one(format!("auth.{name}.jwks_url"), tcp::ask(url))));
    }
    for (name, keys) in &config.keys {
        asked.push(one(format!("keys.{name}"), ask_store(keys)));
    }
    if let Some(settings) = &config.broker {
        asked.push(Box::pin(broker::ask(settings, config)));
    }
    for (name, source) in &config.sources {
        asked.push(one(format!("source.{name}"), ask_source(source)));
    }
    if let Some(bridge) = &config.bridge {
        asked.push(one("bridge".to_owned(), ask_redis(exposed(bridge.url.as_ref()))));
    }
    for (name, hook) in &config.hooks {
        asked.push(one(format!("hook.{name}"), tcp::ask(&hook.url)));
    }
    for (number, webhook) in config.webhooks.iter().enumerate() {
        let name = webhook.name.clone().unwrap_or_else(|| (number + 1).to_string());
        asked.push(one(format!("webhook {name}"), tcp::ask(&webhook.url)));
    }
    join_all(asked).await.into_iter().flatten().collect()
}

/// One server, which has so long and no longer.
fn one<'a>(part: String, asked: impl Future<Output = Answer> + Send + 'a) -> Asked<'a> {
    Box::pin(async move {
        let answer = timeout(PATIENCE, asked).await;
        let late = || {
            Err(format!(
                "no answer within {PATIENCE:?}; is it the right address of the right kind of server, and does a firewall let it through?"
            ))
        };
        vec![(part, answer.unwrap_or_else(|_| late()))]
    })
}

/// A store is there if it can be asked for keys.
async fn ask_store(settings: &Keys) -> Answer {
    let store = store::open(settings)?;
    store.active(&[]).await.map_err(|unavailable| unavailable.to_string())?;
    let what = store.server().await.map_err(|unavailable| unavailable.to_string())?;
    Ok(Found { what, warnings: Vec::new() })
}

async fn ask_source(settings: &Source) -> Answer {
    let url = exposed(settings.url.as_ref());
    match settings.kind {
        Kind::Redis | Kind::RedisStream => ask_redis(url).await,
        #[cfg(feature = "nats")]
        Kind::Nats => nats::what(url).await.map(|what| Found { what, warnings: Vec::new() }),
        #[cfg(feature = "postgres")]
        Kind::Postgres | Kind::Outbox => {
            let what = crate::source::postgres::greet(url, settings).await?;
            Ok(Found { what, warnings: Vec::new() })
        }
        #[cfg(not(all(feature = "nats", feature = "postgres")))]
        _ => Err("this build has no client for it; build it with the feature of that name".to_owned()),
    }
}

#[cfg(feature = "redis")]
async fn ask_redis(url: &str) -> Answer {
    let what = redis::Redis::connect(url).await?.what().await?;
    Ok(Found { what, warnings: Vec::new() })
}

#[cfg(not(feature = "redis"))]
async fn ask_redis(_url: &str) -> Answer {
    Err("this build has no Redis; build it with the feature \"redis\"".to_owned())
}

/// The address, which was opened when the configuration was read.
fn exposed(url: Option<&Secret>) -> &str {
    url.map(Secret::expose).unwrap_or_default()
}

/// A part of the configuration with what was found.
struct Told<'a> {
    part: &'a str,
    answer: &'a Answer,
}

impl fmt::Display for Told<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = self.part;
        match self.answer {
            Ok(Found { what, warnings }) => {
                writeln!(f, "ok: {part}: {what}")?;
                warnings.iter().try_for_each(|warning| writeln!(f, "warning: {part}: {warning}"))
            }
            Err(why) => writeln!(f, "error: {part}: {why}"),
        }
    }
}
