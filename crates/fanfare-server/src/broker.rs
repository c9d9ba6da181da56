//! The broker between nodes: `[broker]`.

use fanfare::Broker;

use crate::config::broker::Broker as Settings;

/// The broker, as the engine takes it; the address has been opened.
///
/// # Errors
/// It is of a kind that this build does not have, or a setting cannot be; the text has no password.
pub(crate) fn settled(settings: &Settings, message_size_max: usize) -> Result<Broker, String> {
    let broker =
        if is_nats(url(settings)) { nats(settings, message_size_max) } else { redis(settings, message_size_max) };
    Ok(broker?.grace(settings.grace.0).window_bytes_max(settings.window.0 as usize))
}

/// Whether an address is that of a NATS.
pub(crate) fn is_nats(url: &str) -> bool {
    ["nats://", "tls://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Whether it is that of a Redis Cluster.
pub(crate) fn is_redis_cluster(url: &str) -> bool {
    ["redis+cluster://", "rediss+cluster://"].iter().any(|scheme| url.starts_with(scheme))
}

/// Whether it is that of a Redis that sentinels know.
pub(crate) fn is_redis_sentinel(url: &str) -> bool {
    ["redis+sentinel://", "rediss+sentinel://"].iter().any(|scheme| url.starts_with(scheme))
}

/// The addresses of the servers that one names; it has been found to be right.
pub(crate) fn addresses(url: &str) -> Vec<String> {
    let mut addresses: Vec<String> = Vec::new();
    for part in url.split(',') {
        match addresses.last_mut() {
            // A password may have a comma.
            Some(last) if !part.contains("://") => *last += &format!(",{part}"),
            _ => addresses.push(part.to_owned()),
        }
    }
    addresses
}

fn url(settings: &Settings) -> &str {
    settings.url.as_ref().map(|url| url.expose()).unwrap_or_default()
}

#[cfg(feature = "redis")]
fn redis(settings: &Settings, message_size_max: usize) -> Result<Broker, String> {
    let redis = fanfare::RedisBroker::new(url(settings))
        .namespace(&settings.namespace.0)
        .timeout(settings.timeout.0)
        .message_size_max(message_size_max);
    redis.check().map_err(|error| error.to_string())?;
    if settings.credentials.is_some() {
        return Err("credentials are those of a NATS; the user and password of a Redis stand in its address".to_owned());
    }
    Ok(Broker::redis(&redis))
}

#[cfg(not(feature = "redis"))]
fn redis(_settings: &Settings, _message_size_max: usize) -> Result<Broker, String> {
    Err("this build has no Redis; build it with the feature \"redis\"".to_owned())
}

#[cfg(feature = "nats")]
fn nats(settings: &Settings, message_size_max: usize) -> Result<Broker, String> {
    Ok(Broker::nats(&nats_broker(settings, message_size_max)?))
}

/// A NATS as a node connects to it.
///
/// # Errors
/// As [`settled`].
#[cfg(feature = "nats")]
pub(crate) fn nats_broker(settings: &Settings, message_size_max: usize) -> Result<fanfare::NatsBroker, String> {
    let mut nats = fanfare::NatsBroker::new(url(settings))
        .namespace(&settings.namespace.0)
        .timeout(settings.timeout.0)
        .message_size_max(message_size_max);
    if let Some(credentials) = &settings.credentials {
        nats = nats.credentials(credentials.expose());
    }
    nats.check().map_err(|error| error.to_string())?;
    Ok(nats)
}

#[cfg(not(feature = "nats"))]
fn nats(_settings: &Settings, _message_size_max: usize) -> Result<Broker, String> {
    Err("this build has no NATS; build it with the feature \"nats\"".to_owned())
}
