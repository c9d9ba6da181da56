//! What every new client passes, whatever carries it and whatever it speaks: origin, what it says, rate, the application, a place.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use fanfare_proto::bullet::Positions;
use fanfare_proto::origin::RequestOrigin;
use fanfare_proto::params::Params;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::message::Version;
use fanfare_proto::position::Since;
use fanfare_proto::topic::check_topic;
use http::header::{HOST, HeaderName, ORIGIN};
use http::request::Parts;
use tokio::sync::oneshot;

use super::refusal::Refusal;
use super::streamed::{Framing, Streamed};
use super::{Connection, Found, credential};
use crate::address::{AddressSlot, block};
use crate::connect::{ConnectRequest, Connected, GivenTopic, SocketInfo};
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::gate::{Listing, Penalized, SessionHandle};
use crate::mailbox::{AdmittedSocket, ShardHandle};
use crate::tenant::{Tenant, TenantFrom, of_host};
use crate::trace::{OpenSpan, SpanKind, Traced};
use crate::transport::handover::Handover;
use crate::transport::longpoll::{OneByOne, PollSession};
use crate::transport::streaming::Streaming;
use crate::transport::wire::Wire;
use crate::transport::{Carrier, Transport};

/// A request at the door of a mount.
pub(super) struct Asking<'a> {
    pub(super) endpoint: &'a Endpoint,
    pub(super) found: &'a Found,
    pub(super) parts: &'a Arc<Parts>,
    pub(super) connection: Option<&'a Connection>,
    /// What would carry the socket.
    pub(super) transport: Transport,
    /// Where it stands in its trace, once it is known to be traced.
    trace: OnceLock<Traced>,
}

/// What a request says of its client.
pub(super) struct Asked {
    pub(super) params: Params,
    version: Version,
    pub(super) since: Option<Since>,
    auth_token: Option<String>,
}

/// A client that may have a socket.
pub(super) struct Admitted {
    pub(super) connected: Connected,
    pub(super) version: Version,
}

impl<'a> Asking<'a> {
    pub(super) fn new(
        endpoint: &'a Endpoint,
        found: &'a Found,
        parts: &'a Arc<Parts>,
        connection: Option<&'a Connection>,
        transport: Transport,
    ) -> Self {
        Asking { endpoint, found, parts, connection, transport, trace: OnceLock::new() }
    }

    /// Where the request stands in its trace, once it is known to be traced.
    pub(super) fn traced(&self) -> Option<&Traced> {
        self.trace.get()
    }
}

impl Asking<'_> {
    /// Reads what the request says. Whoever has a session already has to get this right as well.
    pub(super) fn read(&self) -> Result<Asked, Refusal> {
        self.check_origin()?;
        let auth_token = credential::auth_token(self)?;
        let (found, query) = (self.found, self.parts.uri.query().unwrap_or_default());
        let (params, version) = found.dialect.params(&found.mount, &found.params, query)?;
        let since = found.dialect.since(&self.parts.headers, &params)?;
        Ok(Asked { params, version, since, auth_token })
    }

    /// Lets a new client in, or not.
    pub(super) async fn admit(&self, asked: Asked) -> Result<Admitted, Refusal> {
        match self.begin_trace() {
            None => self.judge(asked).await,
            Some(span) => Box::pin(self.judge_within(span, asked)).await,
        }
    }

    /// The span of a new client, if it is traced.
    fn begin_trace(&self) -> Option<OpenSpan> {
        let tracing = self.endpoint.tracing();
        if !tracing.is_on() {
            return None;
        }
        let traceparent = self.parts.headers.get("traceparent").and_then(|header| header.to_str().ok());
        let traced = tracing.of_stranger(traceparent)?;
        let path = self.found.mount.path.as_ref().map_or_else(String::new, |path| format!(" {path}"));
        let mut span = traced.span(SpanKind::Server, format!("connect{path}"));
        span.say("fanfare.transport", self.transport.name());
        // Its refusal is a line of the trace as well.
        let _ = self.trace.set(span.within());
        Some(span)
    }

    async fn judge_within(&self, mut span: OpenSpan, asked: Asked) -> Result<Admitted, Refusal> {
        let judged = span.within().scope(self.judge(asked)).await;
        let result = judged.as_ref().err().map_or("ok", |refusal| refusal.event().name().1);
        span.say("fanfare.result", result);
        judged
    }

    async fn judge(&self, asked: Asked) -> Result<Admitted, Refusal> {
        if self.endpoint.is_draining() {
            return Err(Refusal::Draining);
        }
        self.check_address_rate()?;
        self.check_rate(&asked.params)?;
        let (version, since) = (asked.version, asked.since);
        let connected = Connected { since, ..self.connect(asked).await? };
        Ok(Admitted { connected, version })
    }

    /// Whether pages of the request's origin may connect.
    pub(super) fn check_origin(&self) -> Result<(), Refusal> {
        let is_secure = self.connection.is_some_and(|connection| connection.is_secure);
        let scheme = if is_secure { "https" } else { "http" };
        let request = RequestOrigin { scheme, host_and_port: self.host().unwrap_or_default() };
        let origin = self.header(ORIGIN);
        let policy = &self.found.mount.origin;
        match policy.allows(origin, request) {
            true => Ok(()),
            false => {
                Err(Refusal::Origin { origin: origin.unwrap_or_default().to_owned(), allowed: policy.allowed(request) })
            }
        }
    }

    fn header(&self, name: HeaderName) -> Option<&str> {
        self.parts.headers.get(name).map(|value| value.to_str().unwrap_or("invalid"))
    }

    /// The host that the request is for, with its port where it says one.
    fn host(&self) -> Option<&str> {
        let told = self.connection.and_then(|connection| connection.host.as_deref());
        told.or(self.header(HOST)).or_else(|| self.parts.uri.authority().map(|authority| authority.as_str()))
    }

    /// The tenant whose client asks, by what connect says of it or the request.
    pub(super) fn tenant(&self, named: Option<String>) -> Result<Option<Arc<Tenant>>, Refusal> {
        let name = match (named, &self.found.mount.tenant_from) {
            (Some(name), _) => name,
            (None, None) => return Ok(None),
            (None, Some(TenantFrom::Segment(segment))) => self.found.params.str(segment).unwrap_or_default().to_owned(),
            (None, Some(TenantFrom::Host)) => of_host(self.host().unwrap_or_default()),
        };
        self.endpoint.tenant(&name).map(Some).ok_or(Refusal::NoTenant)
    }

    /// Counts a new client against the rate at which those of its address are let in.
    fn check_address_rate(&self) -> Result<(), Refusal> {
        let (Some((rate, addresses)), Some(connection)) =
            (&self.endpoint.gate().accept_rate_per_address, self.connection)
        else {
            return Ok(());
        };
        let now_ns = self.endpoint.clock().now_us().saturating_mul(1_000);
        match addresses.with(&block(connection.peer.ip()), now_ns, |bucket| bucket.take(*rate, now_ns, 1)) {
            Some(taken) => taken.map_err(|wait_ns| Refusal::AddressRate(wait_ns.div_ceil(1_000_000_000) as u32)),
            None => {
                self.endpoint.own_counters().count(Event::KeysMaxPassed);
                Ok(())
            }
        }
    }

    /// Whether a client may come again whose last socket was closed for a rate.
    fn check_penalty(&self, user: Option<&Arc<str>>) -> Result<(), Refusal> {
        let penalties = &self.endpoint.gate().penalties;
        if !penalties.were_any() {
            return Ok(());
        }
        let address = self.connection.map(|connection| connection.peer.ip());
        let now_ns = self.endpoint.clock().now_us().saturating_mul(1_000);
        let client = Penalized::of(address, user);
        match client.map_or(0, |client| penalties.left_ns(&client, now_ns)) {
            0 => Ok(()),
            left_ns => Err(Refusal::Penalty(left_ns.div_ceil(1_000_000_000) as u32, self.told_of(user))),
        }
    }

    /// Counts a new client against the rate at which they are let in.
    fn check_rate(&self, params: &Params) -> Result<(), Refusal> {
        match &self.endpoint.gate().accept_rate {
            None => Ok(()),
            Some(rate) => {
                let is_resuming = self.found.dialect.is_resuming(&self.parts.headers, params);
                rate.admit(self.endpoint.clock().now_ms(), is_resuming).map_err(Refusal::Rate)
            }
        }
    }

    /// The user whom the log may name: an id that is a credential is for nobody else.
    fn told_of(&self, user: Option<&Arc<str>>) -> Option<Arc<str>> {
        user.filter(|_| !self.found.dialect.is_named_by_key()).cloned()
    }

    /// Asks the application.
    pub(super) async fn connect(&self, asked: Asked) -> Result<Connected, Refusal> {
        let Asked { params, version, auth_token, .. } = asked;
        let mount = &self.found.mount;
        let request = ConnectRequest {
            params,
            transport: self.transport,
            version,
            peer: self.connection.map(|connection| connection.peer),
            auth_token,
            takes_tokens: mount.auth_token,
            parts: self.parts.clone(),
        };
        match mount.connect.connect(request).await {
            Ok(Ok(connected)) => Ok(connected),
            Ok(Err(rejected)) => Err(Refusal::Rejected(rejected)),
            Err(panic) => {
                tracing::error!(panic, "connect panicked");
                Err(Refusal::Panicked)
            }
        }
    }

    /// A socket whose messages wait until they are polled.
    pub(super) async fn open(&self, admitted: Admitted, place: Option<Listing>) -> Result<SessionHandle, Refusal> {
        let slot = self.session_slot()?;
        let shard = self.endpoint.next_shard().clone();
        let secret = random_secret().map_err(|_| Refusal::Ended)?;
        let socket = self.socket(shard.clone(), admitted).await?;
        let one_by_one = place.map(|mut place| OneByOne { was_away: place.begin(), _place: Box::new(place) });
        let session = PollSession::new(secret, self.endpoint.clock().now_ms(), slot, one_by_one);
        let carrier = Carrier::Poll(Box::new(session));
        let attached = self.endpoint.attach_among_others(socket, carrier).await;
        Ok(SessionHandle { shard, socket: attached.map_err(|_| Refusal::Ended)?, secret })
    }

    /// A socket whose messages leave as the answer to its request. `joined` is told what its only join is answered; of clients with
    /// several topics it is known where they stand.
    pub(super) async fn open_stream(
        &self,
        admitted: Admitted,
        framing: Framing,
        beginning: Bytes,
        positions: Positions,
        joined: Option<oneshot::Sender<Result<(), Payload>>>,
    ) -> Result<Streamed, Refusal> {
        let slot = self.session_slot()?;
        let shard = self.endpoint.next_shard().clone();
        let socket = self.socket(shard.clone(), admitted).await?;
        let streaming = Streaming::new(framing.heartbeat(), positions, joined, slot);
        let carrier = Carrier::Wire(Wire::streaming(streaming));
        let topics = self.endpoint.topics_elsewhere(&socket);
        let attached = self.endpoint.attach(socket, carrier).await;
        let socket = attached.map_err(|_| Refusal::Ended)?;
        let handover = self.parts.extensions.get::<Handover>().cloned();
        // Whoever goes while this waits takes the socket along.
        let streamed = Streamed::new(shard, socket, beginning, handover);
        self.endpoint.get_from_others(&topics).await;
        Ok(streamed)
    }

    /// A place for a session of this client's address.
    fn session_slot(&self) -> Result<Option<AddressSlot>, Refusal> {
        let Some(connection) = self.connection else { return Ok(None) };
        let slot = self.endpoint.gate().session_counts.take(connection.peer.ip());
        slot.map(Some).map_err(Refusal::TooManySessions)
    }

    /// A socket that may have a carrier. A hub's publisher has its topic from now on.
    pub(super) async fn socket(&self, shard: ShardHandle, admitted: Admitted) -> Result<AdmittedSocket, Refusal> {
        let Admitted { connected, version } = admitted;
        let found = self.found;
        let (expires_ms, is_pending) = (connected.expires_ms(self.endpoint.clock()), connected.is_pending);
        let topic = found.dialect.topic(&found.mount, &found.params);
        let mut topics = topic.map_or(connected.topics, |topic| vec![GivenTopic { topic, since: None }]);
        let is_open = |topic: &str| check_topic(topic).is_ok() && found.dialect.reaches(topic);
        if !topics.iter().all(|given| is_open(&given.topic)) {
            return Err(Refusal::Topic);
        }
        topics.iter_mut().for_each(|given| given.since = given.since.or(connected.since));
        let id: Option<Arc<str>> = connected.id.map(Arc::from);
        self.check_penalty(id.as_ref())?;
        let of_user = self.endpoint.gate().place_of_user(&found.mount, id.as_deref());
        let of_user = of_user.map_err(|max| Refusal::TooManyOfUser(max, self.told_of(id.as_ref())))?;
        let tenant = match self.tenant(connected.tenant)? {
            None => None,
            Some(tenant) => {
                let joins = topics.len() + usize::from(found.dialect.is_stream());
                Some(Arc::new(tenant.take_socket(joins).map_err(Refusal::Quota)?))
            }
        };
        let ownership = match topics.first() {
            Some(given) => found.dialect.claim(self.endpoint, &found.mount, &given.topic, connected.publisher).await?,
            None => None,
        };
        let info = SocketInfo {
            id,
            peer: self.connection.map(|connection| connection.peer),
            assigns: connected.assigns,
            version,
            transport: self.transport,
            mount: found.mount.clone(),
            endpoint: self.endpoint.clone(),
            shard,
            expires_ms,
            is_pending,
            since: connected.since,
            of_user,
            tenant,
            // A long-poll session outlives the connection that it was created by, and has a bound of its own.
            _slot: self
                .connection
                .filter(|_| self.transport != Transport::LongPoll)
                .and_then(|connection| connection.slot.clone()),
        };
        if let Some(connection) = self.connection {
            let took_us = connection.began.elapsed().as_micros() as u64;
            self.endpoint.figures().handshakes[self.transport as usize].observe(took_us);
        }
        Ok(AdmittedSocket { info: Arc::new(info), dialect: found.dialect, topics, ownership: ownership.map(Box::new) })
    }
}

fn random_secret() -> Result<u128, getrandom::Error> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes)?;
    Ok(u128::from_be_bytes(bytes))
}
