//! What bullet.js asks for at one address: a WebSocket, a stream of server-sent events, or polls; and posts beside the two.

use std::sync::Arc;

use std::error::Error as StdError;

use bytes::Bytes;
use fanfare_proto::bullet::{self, Heard};
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, CACHE_CONTROL, CONTENT_TYPE, ORIGIN, UPGRADE, USER_AGENT};
use http::{HeaderValue, Method, Request, Response, StatusCode};

use super::admission::{Asked, Asking};
use super::longpoll::preflight;
use super::refusal::Refusal;
use super::stream::streaming;
use super::streamed::Framing;
use super::{Connection, Found};
use crate::body::Body;
use crate::endpoint::Endpoint;
use crate::event::Event;
use crate::gate::{Bodies, Client, Place, SessionHandle};
use crate::protocol::{self, accepts_events};
use crate::transport::Transport;
use crate::transport::longpoll::{Lost, Polled};

/// A session can end between two looks at it; twice in a row it cannot but by a client's own doing.
const ATTEMPTS_MAX: usize = 2;

impl Endpoint {
    pub(super) async fn bullet<B>(&self, found: Found, request: Request<B>) -> Response<Body>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        if request.headers().contains_key(UPGRADE) || request.method() == Method::CONNECT {
            return self.websocket(found, request).await;
        }
        let connection = Connection::of(&request, self);
        let (parts, body) = request.into_parts();
        let wants_events = parts.method == Method::GET && accepts_events(&parts.headers);
        let transport = if wants_events { Transport::EventStream } else { Transport::LongPoll };
        let (found, parts, connection) = (&found, &Arc::new(parts), connection.as_ref());
        let asking = Asking::new(self, found, parts, connection, transport);
        let answer = match parts.method {
            Method::GET if wants_events => asking.events().await,
            Method::GET => asking.poll().await,
            Method::POST => asking.post_text(body).await,
            // Of a page of another origin, whose client sends a header of its own.
            Method::OPTIONS if parts.headers.contains_key(ORIGIN) => return preflight(parts),
            _ => Err(Refusal::Method("GET, POST")),
        };
        let mut answer = answer.unwrap_or_else(|refusal| asking.refuse(refusal));
        let headers = answer.headers_mut();
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        answer
    }
}

impl Asking<'_> {
    /// A stream of all messages from now on.
    async fn events(&self) -> Result<Response<Body>, Refusal> {
        let mut admitted = self.admit(self.read()?).await?;
        let topics = &mut admitted.connected.topics;
        let positions = protocol::positions(self.endpoint, &self.parts.headers, topics);
        topics.iter_mut().for_each(|given| given.since = positions.since(&given.topic));
        let beginning = Bytes::from_static(Framing::Events.heartbeat());
        let streamed = self.open_stream(admitted, Framing::Events, beginning, positions, None).await?;
        Ok(streaming(streamed.into(), Framing::Events))
    }

    /// One message: the oldest that waits, or the next.
    async fn poll(&self) -> Result<Response<Body>, Refusal> {
        for _ in 0..ATTEMPTS_MAX {
            let (place, session) = self.session().await?;
            match session.poll().await {
                Ok(Polled::Messages(messages, _, share)) => {
                    let message = messages.into_iter().next().unwrap_or_default();
                    let mut response = Response::new(self.unread(message, share));
                    let content_type = HeaderValue::from_static("text/plain; charset=utf-8");
                    response.headers_mut().insert(CONTENT_TYPE, content_type);
                    return Ok(response);
                }
                // Pages with an old jQuery take a 204 for a failure; all take an empty text for nothing.
                Ok(Polled::Nothing) => return Ok(Response::new(Body::default())),
                Ok(Polled::Lost(lost)) => return Ok(gap(lost)),
                Ok(Polled::Gone) | Err(_) => {
                    let mut current = place.lock().await;
                    current.take_if(|current| current.socket == session.socket);
                }
            }
        }
        Err(Refusal::Ended)
    }

    /// A text from the client, answered at once where it is one of the protocol's. Nothing of it is read before the client's key
    /// is found to be good.
    async fn post_text<B>(&self, body: B) -> Result<Response<Body>, Refusal>
    where
        B: http_body::Body + Send + 'static,
        B::Data: Send,
        B::Error: Into<Box<dyn StdError + Send + Sync>>,
    {
        let (endpoint, mount, headers) = (self.endpoint, &self.found.mount, &self.parts.headers);
        let connected = async {
            let asked = self.read()?;
            if endpoint.is_draining() {
                return Err(Refusal::Draining);
            }
            self.connect(asked).await
        };
        let connected = match connected.await {
            Ok(connected) => connected,
            Err(refusal) => {
                Bodies::discard(headers, body);
                return Err(refusal);
            }
        };
        let body = endpoint.bodies().collect(headers, body, mount.limits.body_size_max).await;
        let body = body.map_err(Refusal::Body)?;
        let body = std::str::from_utf8(&body).map_err(|_| Refusal::NotText)?;
        endpoint.own_counters().count(Event::Received);
        match bullet::hear(body) {
            Heard::Answer(answer) => Ok(Response::new(Body::from(answer))),
            Heard::Other => {
                mount.heard(connected.id.as_deref(), body);
                Ok(nothing())
            }
        }
    }

    /// The session of whoever polls, and the place that it is at: the one that there is, or a new one.
    async fn session(&self) -> Result<(Place, SessionHandle), Refusal> {
        let asked = self.read()?;
        let sessions = &self.endpoint.gate().bullet_sessions;
        let client = self.client(&asked);
        if let Some(place) = sessions.find(&client)
            && let Some(session) = place.lock().await.clone()
        {
            return Ok((place.clone(), session));
        }
        // Whoever is refused leaves no place behind.
        let admitted = self.admit(asked).await?;
        let place = sessions.enter(&client);
        let mut current = place.lock().await;
        let session = match current.clone() {
            // Another poll was faster.
            Some(session) => session,
            None => {
                let listing = sessions.list(client, place.clone());
                current.insert(self.open(admitted, Some(listing)).await?).clone()
            }
        };
        drop(current);
        Ok((place, session))
    }

    fn client(&self, asked: &Asked) -> Client {
        Client {
            mount: self.found.number,
            key: asked.params.str("key").unwrap_or_default().to_owned(),
            address: self.connection.map(|connection| connection.peer.ip()),
            user_agent: self.parts.headers.get(USER_AGENT).map(|agent| agent.as_bytes().to_vec()),
        }
    }
}

/// Any status but 200 lets bullet.js tell its page that the connection was interrupted, as it does when a WebSocket is closed.
fn gap(lost: Lost) -> Response<Body> {
    let why = match lost {
        Lost::Overflow(messages) => {
            format!("more came between two polls than can wait, and {messages} or more messages were dropped")
        }
        Lost::ByPolicy => "messages were dropped by the policy of their topic, as more came than could wait".to_owned(),
        Lost::WhileAway => "this client has not polled for a while, and nothing was kept for it".to_owned(),
    };
    let mut response = Response::new(Body::from(format!("gap: {why}")));
    *response.status_mut() = StatusCode::GONE;
    response
}

fn nothing() -> Response<Body> {
    let mut response = Response::new(Body::default());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}
