//! The broker: a node connects as any other does and waits for its own message to come back, which shows that all that it needs is
//! allowed. What its servers are and how they are set is asked besides.

use std::collections::HashMap;
use std::time::Instant;

use fanfare::{BrokerLink, Drain, Endpoint};
use futures_util::future::join_all;
use tokio::time::{Duration, sleep};

use super::{Answer, Found, PATIENCE, exposed};
use crate::broker;
use crate::config::Config;
use crate::config::broker::Broker as Settings;

/// How often it is looked whether the message is back.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A link that has failed by then will not come up.
const REASON_AFTER: Duration = Duration::from_secs(1);

/// Asks each of its servers.
pub(super) async fn ask(settings: &Settings, config: &Config) -> Vec<(String, Answer)> {
    let links = match links(settings, config).await {
        Ok(links) => links,
        Err(why) => return vec![("broker".to_owned(), Err(why))],
    };
    let addresses = broker::addresses(exposed(settings.url.as_ref()));
    let is_each = links.len() == addresses.len();
    let keeps = config.channels.iter().any(|channel| channel.history.is_some());
    // A link may be to any of several servers, which then have to be asked each for itself.
    let addresses = addresses.into_iter().enumerate();
    let details = join_all(addresses.map(|(number, url)| details(number, url, settings, config, keeps))).await;
    let mut told = Vec::new();
    let mut details = details.into_iter();
    for link in links {
        let of_link = if is_each { details.next().into_iter().collect() } else { details.by_ref().collect::<Vec<_>>() };
        let part = format!("broker {}", link.name);
        told.push((part, answer(&link, of_link, is_each)));
    }
    told
}

/// Puts together what the link shows and what its servers say, all of which are needed or one of them.
fn answer(link: &BrokerLink, details: Vec<Answer>, is_each: bool) -> Answer {
    if let Some(why) = &link.down {
        return Err(why.strip_prefix(&format!("{}: ", link.name)).unwrap_or(why).to_owned());
    }
    let Some(round) = link.round else {
        return Err(format!("it is connected, and has not brought a node its own message within {PATIENCE:?}"));
    };
    let (mut said, mut all_warnings) = (Vec::new(), Vec::new());
    for detail in details {
        match detail {
            Ok(Found { what, warnings }) => {
                said.push(what);
                all_warnings.extend(warnings);
            }
            Err(why) if is_each => return Err(why),
            Err(why) => all_warnings.push(why),
        }
    }
    said.push(format!("a node's own message was back after {:.1} ms", round.as_secs_f64() * 1_000.0));
    Ok(Found { what: said.join("; "), warnings: all_warnings })
}

/// How the links stand of a node that has been connected for long enough to hear itself.
async fn links(settings: &Settings, config: &Config) -> Result<Vec<BrokerLink>, String> {
    let broker = broker::settled(settings, config.limits.message_size_max.0 as usize)?;
    let node = Endpoint::builder().shards(1).broker(broker).build().await.map_err(|error| error.to_string())?;
    let (since, mut links) = (Instant::now(), node.broker_links());
    // By their names: those of a cluster are found one after the other.
    let (mut begun, mut reasons) = (HashMap::new(), HashMap::new());
    while since.elapsed() < PATIENCE {
        links = node.broker_links();
        for link in &links {
            let first = begun.entry(link.name.clone()).or_insert_with(|| link.down.clone());
            if let Some(reason) = link.down.as_ref().filter(|_| link.down != *first) {
                reasons.insert(link.name.clone(), reason.clone());
            }
        }
        let has_failed = since.elapsed() > REASON_AFTER;
        if links.iter().all(|link| link.round.is_some() || (has_failed && reasons.contains_key(&link.name))) {
            break;
        }
        sleep(LOOK_EVERY).await;
    }
    // A link that breaks again and again may be up at this moment.
    for link in links.iter_mut().filter(|link| link.round.is_none()) {
        link.down = reasons.remove(&link.name).or(link.down.take());
    }
    // So that others need not find out.
    node.drain(Drain::default()).await;
    Ok(links)
}

#[cfg(feature = "redis")]
async fn redis(url: &str, keeps: bool) -> Answer {
    let mut redis = super::redis::Redis::connect(url).await?;
    let warnings = redis.warnings(keeps).await;
    Ok(Found { what: redis.what().await?, warnings })
}

#[cfg(not(feature = "redis"))]
async fn redis(_url: &str, _keeps: bool) -> Answer {
    Err("this build has no Redis; build it with the feature \"redis\"".to_owned())
}

#[cfg(feature = "nats")]
async fn nats(settings: &Settings, number: usize, config: &Config, keeps: bool) -> Answer {
    let message_size_max = config.limits.message_size_max.0 as usize;
    let said = super::nats::ask(broker::nats_broker(settings, message_size_max)?, number).await?;
    if keeps {
        said.keeps()?;
    }
    Ok(Found { what: said.what(), warnings: said.warnings(message_size_max) })
}

#[cfg(not(feature = "nats"))]
async fn nats(_settings: &Settings, _number: usize, _config: &Config, _keeps: bool) -> Answer {
    Err("this build has no NATS; build it with the feature \"nats\"".to_owned())
}

/// What a server says of itself, in time.
async fn details(number: usize, url: String, settings: &Settings, config: &Config, keeps: bool) -> Answer {
    let asked = async {
        // Which ones they are changes: the links have found them.
        let found = |what: &str| Ok(Found { what: what.to_owned(), warnings: Vec::new() });
        if broker::is_redis_sentinel(&url) {
            return found("a Redis, found by its sentinels");
        }
        if broker::is_redis_cluster(&url) {
            return found("a Redis Cluster");
        }
        match broker::is_nats(&url) {
            true => nats(settings, number, config, keeps).await,
            false => redis(&url, keeps).await,
        }
    };
    tokio::time::timeout(PATIENCE, asked).await.unwrap_or_else(|_| Err(format!("no answer within {PATIENCE:?}")))
}
