//! From the configuration to the running engine.

use fanfare::{Endpoint, Error, Mount};

use crate::auth::{Gate, Jwt};
use crate::channel::Declared;
use crate::config::Config;
use crate::config::auth::AuthKind;
use crate::config::endpoint::{Endpoint as Settings, Protocol, Transport};

/// Builds the engine and takes out of the configuration what belongs to it.
pub(crate) async fn build(config: &mut Config) -> Result<Endpoint, Error> {
    let channels: Vec<Declared> = std::mem::take(&mut config.channels).into_iter().map(Declared::new).collect();
    let mut builder = Endpoint::builder();
    if let Some(shards) = config.server.shards {
        builder = builder.shards(shards.0 as usize);
    }
    for settings in &config.endpoints {
        builder = builder.mount(&settings.path.0, mount(settings, config, &channels));
    }
    builder.build().await
}

fn mount(settings: &Settings, config: &Config, channels: &[Declared]) -> Mount {
    let limits = &config.limits;
    let has = |transport| settings.transports.0.contains(&transport);
    let Protocol::Phoenix = settings.protocol;
    let mut mount = Mount::new()
        .websocket(has(Transport::Websocket))
        .longpoll(has(Transport::Longpoll))
        .longpoll_window(settings.longpoll_window.0)
        .idle_timeout(settings.idle_timeout.0)
        .origin(settings.origins.0.clone())
        .compression(settings.compression)
        .message_size_max(limits.message_size_max.0 as usize)
        .body_size_max(limits.longpoll_body_size_max.0 as usize)
        .body_lines_max(limits.longpoll_messages_max.0 as usize)
        .joins_max(limits.joins_max.0 as usize)
        .waiting_frames_max(limits.waiting_frames_max.0 as usize)
        .waiting_bytes_max(limits.waiting_bytes_max.0 as usize)
        .outbox_bytes_max(limits.outbox_bytes_max.0 as usize)
        .outbox_frames_max(limits.outbox_frames_max.0 as usize)
        .write_timeout(limits.write_timeout.0);
    if let Some(auth) = config.auths.get(&settings.auth)
        && auth.kind == AuthKind::Jwt
    {
        let gate = Gate::new(Jwt::new(auth), auth.param.clone(), settings.socket_id.clone());
        let info = fanfare::ConnectInfoFields { peer: true, ..Default::default() };
        mount = mount.auth_token(true).connect_info(info).connect(gate);
    }
    for channel in channels {
        for pattern in channel.patterns() {
            mount = mount.channel(&pattern.to_string(), channel.clone());
        }
    }
    mount
}
