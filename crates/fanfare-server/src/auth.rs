//! Who may connect to an endpoint: the credential of a connection becomes its identity.

use std::net::SocketAddr;
use std::time::SystemTime;

use fanfare::{Connect, ConnectRequest, Connected, Rejected};

use crate::identity::Template;
use crate::log::Brake;

mod jwt;

pub(crate) use jwt::Jwt;

/// More refusals than these in a second are counted rather than logged one by one.
const LINES_PER_SECOND_MAX: u64 = 20;

/// Lets in whoever has a valid token.
#[derive(Debug)]
pub(crate) struct Gate {
    jwt: Jwt,
    param: String,
    socket_id: Option<Template>,
    brake: Brake,
}

impl Gate {
    /// `param` is the connect parameter that carries the token, `socket_id` what a socket is called.
    pub(crate) fn new(jwt: Jwt, param: String, socket_id: Option<Template>) -> Self {
        Self { jwt, param, socket_id, brake: Brake::default() }
    }

    fn admit(&self, request: &ConnectRequest) -> Result<Connected, String> {
        let token = request.info.auth_token.as_deref().or_else(|| request.params.str(&self.param));
        let token = token.filter(|token| !token.is_empty()).ok_or("there is no token")?;
        let verified = self.jwt.verify(token, SystemTime::now())?;
        let mut connected = Connected::new();
        if let Some(template) = &self.socket_id {
            let id = template.fill(|name| verified.identity.text(name));
            let id = id.map_err(|name| format!("the token has no claim {name:?} for the socket's id"))?;
            fanfare::check_topic(&id).map_err(|error| format!("the socket's id would not do: {error}"))?;
            connected = connected.id(id);
        }
        if let Some(end) = verified.expires_at {
            connected = connected.expires_at(end);
        }
        Ok(connected.assigns(verified.identity))
    }

    fn log(&self, peer: Option<SocketAddr>, reason: &str) {
        if let Some(held_back) = self.brake.pass(LINES_PER_SECOND_MAX) {
            tracing::warn!(?peer, reason, held_back, "connection refused");
        }
    }
}

impl Connect for Gate {
    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        self.admit(&request).map_err(|reason| {
            self.log(request.info.peer, &reason);
            Rejected::new()
        })
    }
}
