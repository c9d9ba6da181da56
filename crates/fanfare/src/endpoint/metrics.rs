//! What the engine counts, for a registry of [`prometheus_client`] (feature `metrics`).
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! let endpoint = fanfare::Endpoint::builder().build().await?;
//! let mut registry = prometheus_client::registry::Registry::default();
//! registry.register_collector(Box::new(endpoint.metrics()));
//! let mut text = String::new();
//! prometheus_client::encoding::text::encode(&mut text, &registry)?;
//! assert!(text.contains("fanfare_sockets_opened_total{endpoint=\"local\",transport=\"local\"} 0\n"));
//! # Ok(())
//! # }
//! ```
//!
//! The names and labels are the interface: [`FAMILIES`] has all of them. A label's value is a name from the configuration or from the
//! code, never one that a client has chosen.

mod families;
mod family;

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

use super::{Endpoint, WeakEndpoint};
use crate::dialect::PROTOCOL_NAMES;
use crate::event::{Cell, Event};
use crate::fact;
use crate::figures::{Appends, Figures, JOIN_RESULTS, Outflow, PresenceFigures};
use crate::publish::Publisher;
use crate::transport::Transport;

pub use families::FAMILIES;
pub use family::{Family, Kind, Samples, Timings};

/// What the sockets of this process are counted under, which have no endpoint.
const LOCAL: &str = "local";

/// What an endpoint counts. It does not keep the endpoint alive, and tells nothing once that has ended.
#[derive(Clone)]
pub struct Metrics(WeakEndpoint);

impl Endpoint {
    /// What the engine counts, for a registry of your own. Nothing is counted twice, however many there are.
    pub fn metrics(&self) -> Metrics {
        Metrics(self.downgrade())
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Metrics")
    }
}

impl Collector for Metrics {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(endpoint) = self.0.upgrade() else { return Ok(()) };
        endpoint.tell_connections(&mut encoder)?;
        endpoint.tell_channels(&mut encoder)?;
        endpoint.tell_messages(&mut encoder)?;
        endpoint.tell_writing(&mut encoder)?;
        endpoint.tell_shards(&mut encoder)?;
        endpoint.tell_history(&mut encoder)?;
        endpoint.tell_rest(&mut encoder)
    }
}

impl Endpoint {
    fn tell_connections(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.tell_listeners(encoder)?;
        self.tell_events(encoder, &families::CONNECTIONS_REFUSED, "connections", |event| event != Event::Connected)?;
        let paths: Vec<_> = self.gate().mounts().iter().map(|(path, _)| path.to_string()).collect();
        let paths: Vec<_> = paths.iter().map(String::as_str).chain([LOCAL]).collect();
        let opened = |mount: usize, transport: Transport| {
            self.sum(|figures| figures.sockets[mount][transport as usize].opened.get())
        };
        let ended = |mount: usize, transport: Transport| {
            self.sum(|figures| figures.sockets[mount][transport as usize].ended.get())
        };
        let each = |tell: &mut dyn FnMut(&[&str], usize, Transport) -> fmt::Result| {
            for (mount, path) in paths.iter().enumerate() {
                for transport in Transport::ALL {
                    // A mount has clients, and this process has none.
                    if (*path == LOCAL) == (transport == Transport::Local) {
                        tell(&[path, transport.name()], mount, transport)?;
                    }
                }
            }
            Ok(())
        };
        families::SOCKETS.encode(encoder, |samples| {
            each(&mut |labels, mount, transport| {
                // Read first, so that none that ends meanwhile is missing from those that have come.
                let ended = ended(mount, transport);
                samples.gauge(labels, opened(mount, transport).saturating_sub(ended) as f64)
            })
        })?;
        families::SOCKETS_OPENED.encode(encoder, |samples| {
            each(&mut |labels, mount, transport| samples.counter(labels, opened(mount, transport)))
        })?;
        self.tell_events(encoder, &families::SOCKETS_CLOSED, "closes", |_| true)?;
        families::SOCKET_LIFETIME.encode(encoder, |samples| {
            samples.histograms(&[], self.shards().iter().map(|shard| &shard.figures().lifetimes))
        })?;
        families::CREDENTIALS_REFUSED
            .encode(encoder, |samples| samples.counter(&[], self.count_of(Event::CredentialRefused)))
    }

    /// Before there are sockets.
    fn tell_listeners(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let listeners = self.figures().listeners();
        let of = |number: &AtomicU64| number.load(Ordering::Relaxed);
        families::CONNECTIONS.encode(encoder, |samples| {
            listeners.iter().try_for_each(|listener| samples.gauge(&[listener.name], listener.connections() as f64))
        })?;
        families::CONNECTIONS_ACCEPTED.encode(encoder, |samples| {
            listeners.iter().try_for_each(|listener| samples.counter(&[listener.name], of(&listener.accepted)))
        })?;
        families::HANDSHAKES.encode(encoder, |samples| {
            listeners.iter().try_for_each(|listener| samples.gauge(&[listener.name], listener.handshakes() as f64))
        })?;
        families::TLS_HANDSHAKES.encode(encoder, |samples| {
            listeners.iter().try_for_each(|listener| {
                samples.counter(&[listener.name, "ok"], of(&listener.tls[0]))?;
                samples.counter(&[listener.name, "failed"], of(&listener.tls[1]))
            })
        })?;
        families::HANDSHAKE.encode(encoder, |samples| {
            let clients = Transport::ALL.into_iter().filter(|transport| *transport != Transport::Local);
            clients.into_iter().try_for_each(|transport| {
                samples.histograms(&[transport.name()], [&self.figures().handshakes[transport as usize]])
            })
        })
    }

    fn tell_channels(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels: Vec<_> = self.labels().names().collect();
        let of = |channel: usize, cell: fn(&Figures, usize) -> &Cell| self.sum(|figures| cell(figures, channel).get());
        families::MEMBERS.encode(encoder, |samples| {
            labels.iter().enumerate().try_for_each(|(channel, label)| {
                samples.gauge(&[label], of(channel, |figures, channel| &figures.channels[channel].members) as f64)
            })
        })?;
        families::TOPICS.encode(encoder, |samples| {
            labels.iter().enumerate().try_for_each(|(channel, label)| {
                samples.gauge(&[label], of(channel, |figures, channel| &figures.channels[channel].topics) as f64)
            })
        })?;
        families::JOINS.encode(encoder, |samples| {
            for (channel, label) in labels.iter().enumerate() {
                for (result, event) in JOIN_RESULTS.iter().enumerate() {
                    let joins = self.sum(|figures| figures.channels[channel].joins[result].get());
                    samples.counter(&[label, event.name().1], joins)?;
                }
            }
            Ok(())
        })?;
        families::JOIN.encode(encoder, |samples| {
            labels.iter().enumerate().try_for_each(|(channel, label)| {
                samples
                    .histograms(&[label], self.shards().iter().map(|shard| &shard.figures().channels[channel].joined))
            })
        })?;
        families::CHANNEL_CRASHES.encode(encoder, |samples| {
            labels.iter().enumerate().try_for_each(|(channel, label)| {
                samples.counter(&[label], of(channel, |figures, channel| &figures.channels[channel].crashes))
            })
        })?;
        let running = self.0.surroundings.running.load(std::sync::atomic::Ordering::Relaxed);
        families::CALLBACKS_RUNNING.encode(encoder, |samples| samples.gauge(&[], running as f64))
    }

    fn tell_messages(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let labels: Vec<_> = self.labels().names().collect();
        families::MESSAGES_RECEIVED.encode(encoder, |samples| {
            PROTOCOL_NAMES.iter().enumerate().try_for_each(|(protocol, name)| {
                samples.counter(&[name], self.sum(|figures| figures.received[protocol].messages.get()))
            })
        })?;
        families::RECEIVED_BYTES.encode(encoder, |samples| {
            PROTOCOL_NAMES.iter().enumerate().try_for_each(|(protocol, name)| {
                samples.counter(&[name], self.sum(|figures| figures.received[protocol].bytes.get()))
            })
        })?;
        families::MESSAGES_PUBLISHED.encode(encoder, |samples| {
            for (channel, label) in labels.iter().enumerate() {
                for publisher in Publisher::ALL {
                    samples.counter(&[label, publisher.name()], self.published(channel, publisher))?;
                }
            }
            Ok(())
        })?;
        families::MESSAGES_DELIVERED.encode(encoder, |samples| {
            labels.iter().enumerate().try_for_each(|(channel, label)| {
                samples.counter(&[label], self.sum(|figures| figures.channels[channel].delivered.get()))
            })
        })?;
        self.tell_events(encoder, &families::MESSAGES_DROPPED, "drops", |_| true)?;
        families::REPLIES.encode(encoder, |samples| {
            samples.counter(&["ok"], self.sum(|figures| figures.replies_ok.get()))?;
            samples.counter(&["error"], self.sum(|figures| figures.replies_error.get()))?;
            samples.counter(&["other"], self.sum(|figures| figures.replies_other.get()))
        })?;
        families::PUSHES_REFUSED.encode(encoder, |samples| samples.counter(&[], self.count_of(Event::PushRefused)))?;
        families::LIMITED.encode(encoder, |samples| {
            let limited = Event::ALL.iter().filter(|event| event.name().0 == "limits");
            limited.copied().try_for_each(|event| {
                let (limit, action) = event.name().1.rsplit_once('_').unwrap_or_default();
                samples.counter(&[limit, action], self.count_of(event))
            })
        })?;
        let tenants = self.gate().tenants.all();
        families::TENANT_SOCKETS.encode(encoder, |samples| {
            tenants.iter().try_for_each(|tenant| samples.gauge(&[tenant.name()], tenant.sockets() as f64))
        })?;
        families::TENANT_MESSAGES.encode(encoder, |samples| {
            tenants.iter().try_for_each(|tenant| {
                let (received, sent) = tenant.messages();
                samples.counter(&[tenant.name(), "in"], received)?;
                samples.counter(&[tenant.name(), "out"], sent)
            })
        })
    }

    fn tell_writing(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let of = |cell: fn(&Outflow) -> &Cell| self.sum(|figures| cell(&figures.outflow).get());
        families::SENDS.encode(encoder, |samples| {
            samples.counter(&["direct"], of(|cells| &cells.sends_direct))?;
            samples.counter(&["queued"], of(|cells| &cells.sends_queued))
        })?;
        families::SENT_BYTES.encode(encoder, |samples| {
            samples.counter(&[Transport::WebSocket.name()], of(|cells| &cells.bytes_websocket))?;
            samples.counter(&[Transport::EventStream.name()], of(|cells| &cells.bytes_stream))
        })?;
        families::OUTBOX_STALL.encode(encoder, |samples| {
            samples.histograms(&[], self.shards().iter().map(|shard| &shard.figures().stalls))
        })?;
        families::PUBLISH_TO_WRITE.encode(encoder, |samples| {
            samples.histograms(&[], self.shards().iter().map(|shard| &shard.figures().written))
        })?;
        families::SOCKETS_WAITING
            .encode(encoder, |samples| samples.gauge(&[], of(|cells| &cells.waiting_sockets) as f64))?;
        families::OUTBOX_BYTES
            .encode(encoder, |samples| samples.gauge(&[], of(|cells| &cells.waiting_bytes) as f64))?;
        families::OUTBOX_FRAMES
            .encode(encoder, |samples| samples.gauge(&[], of(|cells| &cells.waiting_frames) as f64))?;
        families::OUTBOX_HELD.encode(encoder, |samples| samples.gauge(&[], self.outboxes().held() as f64))?;
        families::INBOX_HELD.encode(encoder, |samples| samples.gauge(&[], self.inboxes().held() as f64))?;
        families::RESUMES_WAITING
            .encode(encoder, |samples| samples.gauge(&[], of(|cells| &cells.hungry_sockets) as f64))
    }

    fn tell_shards(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let numbers: Vec<_> = (0..self.shards().len()).map(|number| number.to_string()).collect();
        let shards = || numbers.iter().map(String::as_str).zip(self.shards());
        families::SHARD_BUSY.encode(encoder, |samples| {
            let seconds = |us: u64| us as f64 / 1e6;
            shards().try_for_each(|(number, shard)| {
                samples.counter_of_seconds(&[number], seconds(shard.figures().busy_us.get()))
            })
        })?;
        families::SHARD_TURN_AGE.encode(encoder, |samples| {
            shards().try_for_each(|(number, shard)| {
                let began_us = shard.figures().turn_began_us.get();
                let age_us = if began_us == 0 { 0 } else { self.clock().now_us().saturating_sub(began_us) };
                samples.gauge(&[number], age_us as f64 / 1e6)
            })
        })?;
        families::SHARD_MAILBOX.encode(encoder, |samples| {
            shards().try_for_each(|(number, shard)| samples.gauge(&[number], shard.mail() as f64))
        })?;
        families::SHARD_SOCKETS.encode(encoder, |samples| {
            shards().try_for_each(|(number, shard)| samples.gauge(&[number], shard.sockets() as f64))
        })
    }

    fn tell_history(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let kind = self.0.history.as_ref().map_or("none", |store| store.kind());
        if let Some(size) = self.0.history.as_ref().and_then(|store| store.size()) {
            families::HISTORY_TOPICS.encode(encoder, |samples| samples.gauge(&[kind], size.topics as f64))?;
            families::HISTORY_MESSAGES.encode(encoder, |samples| samples.gauge(&[kind], size.messages as f64))?;
            families::HISTORY_BYTES.encode(encoder, |samples| samples.gauge(&[kind], size.bytes as f64))?;
        }
        let Appends { repeated, failed, took } = &self.figures().appends;
        let (repeated, failed) = (repeated.load(Ordering::Relaxed), failed.load(Ordering::Relaxed));
        let kept = took.count().saturating_sub(repeated + failed);
        families::HISTORY_APPENDS.encode(encoder, |samples| {
            let results = [("ok", kept), ("repeated", repeated), ("failed", failed)];
            results.into_iter().try_for_each(|(result, n)| samples.counter(&[kind, result], n))
        })?;
        families::HISTORY_APPEND.encode(encoder, |samples| samples.histograms(&[], [took]))?;
        self.tell_events(encoder, &families::RESUMES, "resumes", |_| true)?;
        families::RESUMED_MESSAGES
            .encode(encoder, |samples| samples.counter(&[], self.sum(|figures| figures.resumed_messages.get())))
    }

    fn tell_rest(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        self.tell_events(encoder, &families::PRESENCE_FAULTS, "presence", |_| true)?;
        let PresenceFigures { came, went, diffs } = &self.figures().presence;
        // Read first, so that none that goes meanwhile is missing from those that have come.
        let went = went.load(Ordering::Relaxed);
        let present = came.load(Ordering::Relaxed).saturating_sub(went);
        families::PRESENCE_ENTRIES.encode(encoder, |samples| samples.gauge(&[], present as f64))?;
        families::PRESENCE_DIFFS.encode(encoder, |samples| samples.counter(&[], diffs.load(Ordering::Relaxed)))?;
        let (taps, told, left_out) = self.0.surroundings.taps.figures();
        families::TAPS.encode(encoder, |samples| samples.gauge(&[], taps as f64))?;
        families::TAP_EVENTS.encode(encoder, |samples| {
            samples.counter(&["told"], told)?;
            samples.counter(&["left_out"], left_out)
        })?;
        families::LOG_LINES_LEFT_OUT.encode(encoder, |samples| samples.counter(&[], fact::lines_left_out()))?;
        self.tell_broker(encoder)?;
        families::DRAINING.encode(encoder, |samples| samples.gauge(&[], f64::from(u8::from(self.is_draining()))))
    }

    /// The broker between nodes, if there is one.
    fn tell_broker(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        if !self.is_among_others() {
            return Ok(());
        }
        self.tell_events(encoder, &families::BROKER_EVENTS, "broker", |_| true)?;
        families::BROKER_PUBLISHES.encode(encoder, |samples| {
            let taken = self.0.cluster.as_ref().map_or(0, |cluster| cluster.published());
            samples.counter(&["ok"], taken)?;
            samples.counter(&["refused"], self.count_of(Event::BrokerRefused))?;
            samples.counter(&["unknown"], self.count_of(Event::BrokerUnknown))
        })?;
        let subscriptions = self.0.cluster.as_ref().map_or(0, |cluster| cluster.subscriptions());
        families::BROKER_SUBSCRIPTIONS.encode(encoder, |samples| samples.gauge(&[], subscriptions as f64))?;
        let links = self.broker_links();
        let seconds = |time: Option<Duration>| time.map(|time| time.as_secs_f64());
        families::BROKER_UP.encode(encoder, |samples| {
            links.iter().try_for_each(|link| samples.gauge(&[&link.name], f64::from(u8::from(link.down.is_none()))))
        })?;
        families::BROKER_LAG.encode(encoder, |samples| {
            links
                .iter()
                .try_for_each(|link| seconds(link.round).map_or(Ok(()), |lag| samples.gauge(&[&link.name], lag)))
        })?;
        families::BROKER_SILENCE.encode(encoder, |samples| {
            links
                .iter()
                .try_for_each(|link| seconds(link.heard).map_or(Ok(()), |age| samples.gauge(&[&link.name], age)))
        })?;
        families::BROKER_RECONNECTS
            .encode(encoder, |samples| links.iter().try_for_each(|link| samples.counter(&[&link.name], link.ups)))
    }

    /// The counters of one name, by their reasons.
    fn tell_events(
        &self,
        encoder: &mut DescriptorEncoder<'_>,
        family: &Family,
        name: &str,
        is_told: impl Fn(Event) -> bool,
    ) -> fmt::Result {
        family.encode(encoder, |samples| {
            let told = Event::ALL.iter().filter(|event| event.name().0 == name && is_told(**event));
            told.copied().try_for_each(|event| {
                let reason = event.name().1;
                samples.counter(&[reason.strip_prefix("refused_").unwrap_or(reason)], self.count_of(event))
            })
        })
    }

    /// What all shards have counted together.
    fn sum(&self, of: impl Fn(&Figures) -> u64) -> u64 {
        self.shards().iter().map(|shard| of(shard.figures())).sum()
    }
}
