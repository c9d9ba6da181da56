#![doc = include_str!("../README.md")]

mod address;
mod authority;
#[cfg(feature = "axum")]
mod axum;
mod body;
#[cfg_attr(
    not(all(feature = "nats", feature = "redis", feature = "testing")),
    allow(
        dead_code,
        reason = "a build without one of the brokers, or without the faults of the test kit, uses a part of it"
    )
)]
mod broker;
mod builder;
mod channel;
mod clock;
mod close_reason;
mod cluster;
mod connect;
#[cfg(test)]
mod defaults;
mod dialect;
#[cfg(doctest)]
mod docs_test;
mod endpoint;
mod error;
mod event;
mod fact;
mod figures;
mod gap;
mod gate;
mod guard;
#[cfg(test)]
mod guide_tables;
mod history;
mod hub;
mod interest;
mod key;
mod mailbox;
mod message;
mod mount;
mod observer;
mod outbox;
mod path;
mod policy;
mod presence;
mod protocol;
mod publish;
mod registry;
mod relay;
mod room;
pub mod serve;
mod service;
mod shard;
mod socket;
mod surroundings;
mod tap;
mod tenant;
#[cfg(feature = "testing")]
pub mod testing;
mod timers;
mod token;
pub mod trace;
mod transport;

pub use fanfare_proto::event::Reserved;
pub use fanfare_proto::history::Retention;
pub use fanfare_proto::origin::{OriginPattern, OriginPolicy};
pub use fanfare_proto::params::Params;
pub use fanfare_proto::payload::{FromPayload, IntoPayload, JsonText, Payload, PayloadError, Text};
pub use fanfare_proto::phoenix::message::Version;
pub use fanfare_proto::position::{Epoch, NotAPosition, Position, Since};
pub use fanfare_proto::rate::Rate;
pub use fanfare_proto::topic::{Pattern, TopicError, check_topic};

pub use address::{AddressFrom, Network, Proxies, shown_address};
pub use authority::{Authority, Bearer, ChangedRow, Rights, RightsRequest, Supabase, TokenFault};
pub use body::Body;
#[cfg(feature = "redis")]
pub use broker::RedisBroker;
pub use broker::{Broker, BrokerLink, MemoryBroker};
#[cfg(feature = "nats")]
pub use broker::{NatsBroker, NatsJetStream, NatsServer};
pub use builder::Builder;
#[cfg(feature = "contract")]
pub use channel::Contract;
pub use channel::{Channel, Context, Ended, Flow, JoinSender, Joined, Refused, Reply, ReplyHandle, Stop};
pub use cluster::{Herald, News};
pub use connect::{Connect, ConnectRequest, Connected, Rejected, SocketHandle, SocketInfo};
#[cfg(feature = "metrics")]
pub use endpoint::metrics;
pub use endpoint::{ChannelFigures, Drain, Endpoint, GoneNode, NodeSummary, Overview, Roll, ShardFigures};
pub use error::{BoxError, Error};
pub use event::HeldBack;
pub use event::past::PastFact;
pub use gate::{Bodies, BodyError, Collected};
pub use history::{History, HistoryLimits, HistorySync, Replay, Stored};
pub use key::{JoinId, NotASocket, SocketId};
pub use mailbox::{Member, SocketOrder, SocketPage, SocketPlace, SocketQuery, SocketReport, TopicMember};
pub use message::Broadcast;
pub use mount::{Mount, OverRate, Route};
pub use observer::Observer;
pub use policy::{Policy, Slow};
pub use presence::{Change, Extras, Meta, Presence, PresenceHooks, Presences};
pub use publish::{Publish, Published, Publisher};
pub use registry::topics::{Rates, TopicOrder, TopicPage, TopicQuery, TopicReport, TopicRow};
pub use registry::{LocalSocket, TopicSummary};
pub use relay::Relay;
pub use service::Connection;
pub use tap::{Direction, Tap, TapFilter, Tapped};
pub use tenant::{OverQuota, Quota, Quotas, TenantFrom};
pub use token::{TokenError, Tokens};

/// The derive macro and the trait of types that [contracts](Contract) have schemas of.
#[cfg(feature = "contract")]
pub use schemars;
pub use transport::Transport;
