//! What bullet.js asks for at one address: a WebSocket, a stream of server-sent events, or polls; and posts beside the two.

use std::error::Error as StdError;

use fanfare_proto::bullet::{self, Heard};
use fanfare_proto::params::Params;
use fanfare_proto::phoenix::message::Version;
use http::header::{ACCEPT, ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, UPGRADE, USER_AGENT};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::admission::{self, Refusal};
use super::body::Framing;
use super::longpoll::{preflight, random_secret};
use super::websocket::refuse;
use super::{Body, Connection, Found, status, text};
use crate::command::Polled;
use crate::connect::Connected;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::socket::{Carrier, Transport};
use crate::transport::bullet::{Client, Listing, Place};
use crate::transport::longpoll::{PollSession, SessionHandle};

/// A session can end between two looks at it; twice in a row it cannot but by a client's own doing.
const ATTEMPTS_MAX: usize = 2;

impl Endpoint {
    pub(super) async fn bullet<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if request.headers().contains_key(UPGRADE) {
            return self.websocket(found, request).await;
        }
        let connection = Connection::of(&request);
        let (parts, body) = request.into_parts();
        let bullet = Bullet { endpoint: self, found: &found, parts: &parts, connection: connection.as_ref() };
        let answer = match parts.method {
            Method::GET if accepts_events(&parts) => bullet.events().await,
            Method::GET => bullet.poll().await,
            Method::POST => bullet.post(body).await,
            // Of a page of another origin, whose client sends a header of its own.
            Method::OPTIONS if parts.headers.contains_key(ORIGIN) => return preflight(&parts),
            _ => return text(StatusCode::METHOD_NOT_ALLOWED, "use GET to receive and POST to send"),
        };
        let mut answer = answer.unwrap_or_else(|refused| *refused);
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

/// One request without an upgrade.
struct Bullet<'a> {
    endpoint: &'a Endpoint,
    found: &'a Found,
    parts: &'a Parts,
    connection: Option<&'a Connection>,
}

type Refused = Box<Response<Body>>;

impl Bullet<'_> {
    /// A stream of all messages from now on.
    async fn events(&self) -> Result<Response<Body>, Refused> {
        let params = self.params()?;
        self.endpoint.check_rate(self.found, &params, &self.parts.headers)?;
        let connected = self.connect(params, Transport::EventStream).await?;
        let session = self.open(connected, Transport::EventStream, None).await?;
        let mut response = Response::new(Body::stream(session, Framing::Data));
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/event-stream"));
        Ok(response)
    }

    /// One message: the oldest that waits, or the next.
    async fn poll(&self) -> Result<Response<Body>, Refused> {
        for _ in 0..ATTEMPTS_MAX {
            let (place, session) = self.session().await?;
            match session.poll().await {
                Ok(Polled::Messages(messages, _)) => {
                    let message = messages.into_iter().next().unwrap_or_default();
                    let mut response = Response::new(Body::from(message));
                    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                    return Ok(response);
                }
                Ok(Polled::Nothing) => return Ok(status(StatusCode::NO_CONTENT)),
                Ok(Polled::Gone) | Err(_) => {
                    let mut current = place.lock().await;
                    current.take_if(|current| current.socket == session.socket);
                }
            }
        }
        Err(Box::new(status(StatusCode::SERVICE_UNAVAILABLE)))
    }

    /// A text from the client, answered at once where it is one of the protocol's.
    async fn post<B>(&self, body: B) -> Result<Response<Body>, Refused>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (params, mount) = (self.params()?, &self.found.mount);
        let body = self.endpoint.collect(body, mount.limits.body_size_max).await?;
        let Ok(body) = std::str::from_utf8(&body) else {
            return Err(Box::new(text(StatusCode::BAD_REQUEST, "the body is not UTF-8")));
        };
        let connected = self.connect(params, Transport::LongPoll).await?;
        self.endpoint.own_counters().count(Event::Received);
        match bullet::hear(body) {
            Heard::Answer(answer) => Ok(text(StatusCode::OK, answer)),
            Heard::Other => {
                mount.heard(connected.id.as_deref(), body);
                Ok(status(StatusCode::NO_CONTENT))
            }
        }
    }

    /// The session of whoever polls, and the place that it is at: the one that there is, or a new one.
    async fn session(&self) -> Result<(Place, SessionHandle), Refused> {
        let params = self.params()?;
        let client = Client {
            mount: self.found.number,
            key: params.str("key").unwrap_or_default().to_owned(),
            address: self.connection.map(|connection| connection.peer.ip()),
            user_agent: self.parts.headers.get(USER_AGENT).map(|agent| agent.as_bytes().to_vec()),
        };
        if let Some(place) = self.endpoint.bullet_sessions().find(&client)
            && let Some(session) = place.lock().await.clone()
        {
            return Ok((place.clone(), session));
        }
        self.endpoint.check_rate(self.found, &params, &self.parts.headers)?;
        // Whoever is refused leaves no place behind.
        let connected = self.connect(params, Transport::LongPoll).await?;
        let place = self.endpoint.bullet_sessions().enter(&client);
        let mut current = place.lock().await;
        if current.is_none() {
            let listing = self.endpoint.bullet_sessions().list(client, place.clone());
            *current = Some(self.open(connected, Transport::LongPoll, Some(listing)).await?);
        }
        let session = current.clone().expect("it has just been put there, if another poll was not faster");
        drop(current);
        Ok((place, session))
    }

    fn params(&self) -> Result<Params, Refused> {
        admission::check_origin(&self.found.mount, self.parts, self.connection)
            .map_err(|refusal| self.refused(refusal))?;
        let (params, _) = admission::params(self.found, self.parts).map_err(|refusal| self.refused(refusal))?;
        Ok(params)
    }

    async fn connect(&self, params: Params, transport: Transport) -> Result<Connected, Refused> {
        if self.endpoint.is_draining() {
            return Err(Box::new(status(StatusCode::SERVICE_UNAVAILABLE)));
        }
        let mount = &self.found.mount;
        admission::connect(mount, params, Version::V2, transport, self.parts, self.connection, None)
            .await
            .map_err(|refusal| self.refused(refusal))
    }

    /// A socket whose messages wait until they are polled.
    async fn open(
        &self,
        connected: Connected,
        transport: Transport,
        listing: Option<Listing>,
    ) -> Result<SessionHandle, Refused> {
        let endpoint = self.endpoint;
        let slot = endpoint.session_slot(self.connection)?;
        let shard = endpoint.next_shard().clone();
        let secret = random_secret().map_err(|_| Box::new(status(StatusCode::INTERNAL_SERVER_ERROR)))?;
        let socket =
            endpoint.new_socket(self.found, shard.clone(), connected, Version::V2, transport, self.connection)?;
        let session = PollSession::new(secret, endpoint.clock().now_ms(), slot, listing);
        let attached = endpoint.attach(socket, Carrier::Poll(Box::new(session))).await;
        let socket = attached.map_err(|_| Box::new(status(StatusCode::SERVICE_UNAVAILABLE)))?;
        Ok(SessionHandle { shard, socket, secret })
    }

    fn refused(&self, refusal: Refusal) -> Refused {
        self.endpoint.own_counters().count(refusal.event());
        Box::new(refuse(&self.found.mount, refusal))
    }
}

pub(super) fn accepts_events(parts: &Parts) -> bool {
    let mut accepted = parts.headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted.any(|value| value.split([',', ';']).any(|kind| kind.trim().eq_ignore_ascii_case("text/event-stream")))
}
