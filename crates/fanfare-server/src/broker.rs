//! The broker between nodes: `[broker]`.

use crate::config::broker::Broker as Settings;

/// The broker, as the engine takes it; the address has been opened.
///
/// # Errors
/// It is of a kind that this build does not have, or a setting cannot be; the text has no password.
#[cfg(feature = "redis")]
pub(crate) fn settled(settings: &Settings, message_size_max: usize) -> Result<fanfare::Broker, String> {
    let url = settings.url.as_ref().map(|url| url.expose()).unwrap_or_default();
    let redis = fanfare::RedisBroker::new(url)
        .namespace(&settings.namespace.0)
        .timeout(settings.timeout.0)
        .message_size_max(message_size_max);
    redis.check().map_err(|error| error.to_string())?;
    let broker = fanfare::Broker::redis(&redis);
    Ok(broker.grace(settings.grace.0).window_bytes_max(settings.window.0 as usize))
}

#[cfg(not(feature = "redis"))]
pub(crate) fn settled(_settings: &Settings, _message_size_max: usize) -> Result<fanfare::Broker, String> {
    Err("this build has no Redis; build it with the feature \"redis\"".to_owned())
}
