//! Who may connect to an endpoint: the credential of a connection becomes its identity.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use fanfare::{Connect, ConnectRequest, Connected, Rejected, SocketInfo};

use crate::apikey::lookup::Lookup;
use crate::config::auth::{Auth, AuthKind};
use crate::config::endpoint::{Endpoint, Protocol, Subscribe};
use crate::config::template::Template;
use crate::hook::Hooks;
use crate::http_client::Client;
use crate::identity::Identity;

mod apikey;
mod counts;
mod hook;
mod jwt;
pub(crate) mod keys;
pub(crate) mod phoenix_token;
mod supabase;

use apikey::ApiKeys;
use counts::{Counts, MISSING};
use hook::Asking;
use jwt::Jwt;
use keys::Keys;
use phoenix_token::PhoenixToken;

pub(crate) use counts::AuthFigures;
pub(crate) use keys::Fetched;
pub(crate) use supabase::KeyRing;

/// A token that is good.
#[derive(Debug)]
pub(crate) struct Verified {
    pub(crate) identity: Identity,
    /// When it stops being so.
    pub(crate) expires_at: Option<SystemTime>,
}

/// Why a token is not accepted. For the log only: a client learns nothing, and no part of the token is in it.
pub(crate) type Reason = &'static str;

/// A token that is not accepted, because of what it is unless it says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// For the log.
    pub(crate) detail: Cow<'static, str>,
    /// For the client, where it may know.
    told: Option<String>,
    /// It cannot be checked now.
    is_unavailable: bool,
}

impl Refusal {
    fn unavailable(reason: Reason) -> Self {
        Self { is_unavailable: true, ..Self::from(reason) }
    }

    /// The same, of which the client is told this.
    fn telling(self, reason: impl Into<String>) -> Self {
        Self { told: Some(reason.into()), ..self }
    }
}

impl From<Reason> for Refusal {
    fn from(reason: Reason) -> Self {
        Self { detail: reason.into(), told: None, is_unavailable: false }
    }
}

impl From<String> for Refusal {
    fn from(detail: String) -> Self {
        Self { detail: detail.into(), told: None, is_unavailable: false }
    }
}

impl From<Refusal> for Rejected {
    fn from(refusal: Refusal) -> Self {
        let rejected = match refusal {
            Refusal { is_unavailable: true, .. } => Self::unavailable(),
            Refusal { told: Some(reason), .. } => Self::reason(reason),
            Refusal { told: None, .. } => Self::new(),
        };
        rejected.because(refusal.detail)
    }
}

/// One `[auth.NAME]`.
#[derive(Debug)]
pub(crate) struct Authenticator {
    name: String,
    param: String,
    check: Check,
    counts: Arc<Counts>,
}

#[derive(Debug)]
enum Check {
    Token(Tokens),
    Key(ApiKeys),
    Hook(Asking),
}

/// Checks tokens, which say all there is to know.
#[derive(Debug)]
pub(crate) struct Tokens {
    token_size_max: usize,
    kind: TokenKind,
}

#[derive(Debug)]
enum TokenKind {
    Jwt(Jwt),
    Phoenix(Box<PhoenixToken>),
}

/// With what a credential came.
#[derive(Clone, Copy)]
struct Occasion<'r> {
    /// The path that the client connects to.
    endpoint: &'r str,
    peer: Option<SocketAddr>,
    /// The request to connect, if the credential came with that.
    request: Option<&'r ConnectRequest>,
    /// The one that carries the credential, where that is not the authenticator's to say.
    param: Option<&'r str>,
    /// Of the hub's topic that the connection is for.
    domain: Option<&'r str>,
}

/// What authenticators need of the rest of the server.
pub(crate) struct Resources<'r> {
    pub(crate) client: &'r (dyn Fn() -> Result<Client, String> + Sync),
    /// The stores of API keys, by name.
    pub(crate) lookups: &'r BTreeMap<String, Arc<Lookup>>,
    pub(crate) hooks: &'r Hooks,
    pub(crate) figures: &'r AuthFigures,
    /// Key sets from the network that can be used as they are, by the names of authenticators.
    pub(crate) fetched: &'r BTreeMap<String, Arc<Fetched>>,
}

impl Authenticator {
    /// `None` where nothing is checked. With keys to fetch, waits for the first attempt and returns them as well.
    ///
    /// # Errors
    /// The keys have become unreadable since the configuration was checked.
    pub(crate) async fn new(
        name: &str,
        settings: &Auth,
        resources: Resources<'_>,
    ) -> Result<Option<(Arc<Self>, Option<Arc<Fetched>>)>, String> {
        let mut fetched = None;
        if let Some(url) = &settings.jwks_url {
            fetched = Some(match resources.fetched.get(name) {
                Some(known) => known.clone(),
                None => Fetched::start(name, url, settings, (resources.client)()?).await,
            });
        }
        let check = match (&settings.keys, &settings.hook) {
            (Some(keys), _) => Some(Check::Key(ApiKeys::new(resources.lookups[keys].clone()))),
            (None, Some(hook)) => Some(Check::Hook(Asking::new(resources.hooks[hook].clone(), settings))),
            (None, None) => Tokens::new(name, settings, fetched.clone())?.map(Check::Token),
        };
        let (name, param) = (name.to_owned(), settings.param.clone());
        Ok(check.map(|check| {
            let counts = resources.figures.of(&name);
            (Arc::new(Self { name, param, check, counts }), fetched)
        }))
    }

    /// What a client has shown; headers that a proxy may have added come last. `param` is the parameter that carries it,
    /// where that is not the authenticator's to say.
    fn credential<'r>(&self, request: &'r ConnectRequest, param: Option<&str>) -> Option<&'r str> {
        let token = request.auth_token();
        let chosen = token.or_else(|| request.params.str(param.unwrap_or(&self.param)));
        chosen.filter(|token| !token.is_empty()).or_else(|| request.header_token())
    }

    /// Checks a credential. One for a hub's topic must be of its domain, but for hooks, which are told what it is for.
    /// They are asked about clients without a credential, too.
    async fn check(&self, credential: Option<&str>, occasion: &Occasion<'_>) -> Result<Verified, Refusal> {
        let checked = self.judge(credential, occasion).await;
        self.counts.count(&checked);
        checked
    }

    async fn judge(&self, credential: Option<&str>, occasion: &Occasion<'_>) -> Result<Verified, Refusal> {
        let given = || credential.ok_or_else(|| Refusal::from(MISSING).telling("no credential was sent"));
        let (verified, foreign) = match &self.check {
            Check::Token(tokens) => {
                (tokens.verify(given()?, SystemTime::now())?, "the token's claim \"domain\" is not the topic's domain")
            }
            Check::Key(keys) => (keys.verify(given()?).await?, "the key is of another domain"),
            Check::Hook(asking) => return asking.check(credential, occasion, &self.param).await,
        };
        match occasion.domain {
            Some(domain) if !verified.identity.has("domain", domain) => Err(foreign.into()),
            _ => Ok(verified),
        }
    }
}

impl Tokens {
    /// Those that need nothing from the network; `None` where nothing is checked, or where it would.
    ///
    /// # Errors
    /// As with [`Authenticator::new`].
    pub(crate) fn offline(name: &str, settings: &Auth) -> Result<Option<Self>, String> {
        if settings.jwks_url.is_some() { Ok(None) } else { Self::new(name, settings, None) }
    }

    fn new(name: &str, settings: &Auth, fetched: Option<Arc<Fetched>>) -> Result<Option<Self>, String> {
        let kind = match settings.kind {
            AuthKind::ApiKeys | AuthKind::Hook | AuthKind::None => return Ok(None),
            AuthKind::PhoenixToken => TokenKind::Phoenix(Box::new(PhoenixToken::new(settings))),
            AuthKind::Jwt => {
                let keys = match fetched {
                    Some(fetched) => Keys::Fetched(fetched),
                    None => {
                        let loaded = keys::load(settings);
                        let loaded =
                            loaded.map_err(|fault| format!("auth.{name}.{}: {}", fault.setting, fault.text))?;
                        Keys::Fixed(Arc::new(loaded.expect("a checked configuration says where the keys are")))
                    }
                };
                TokenKind::Jwt(Jwt::new(settings, keys))
            }
        };
        Ok(Some(Self { token_size_max: settings.token_size_max.0 as usize, kind }))
    }

    /// Checks a token at a time.
    pub(crate) fn verify(&self, token: &str, now: SystemTime) -> Result<Verified, Refusal> {
        if token.len() > self.token_size_max {
            return Err("the token is longer than token_size_max".into());
        }
        match &self.kind {
            TokenKind::Jwt(jwt) => jwt.verify(token, now),
            TokenKind::Phoenix(phoenix) => Ok(phoenix.verify(token, now)?),
        }
    }
}

/// Lets in whoever has a token that one of its authenticators accepts, tried in order.
#[derive(Debug)]
pub(crate) struct Gate {
    /// Without any, everybody is let in.
    authenticators: Vec<Arc<Authenticator>>,
    /// Of the endpoint.
    path: String,
    protocol: Protocol,
    /// Whether subscribers of a hub need no token.
    is_open_to_subscribers: bool,
    /// Whether a credential may come by a message.
    may_be_late: bool,
    socket_id: Option<Template>,
    /// Whose clients they are, where their credentials say so.
    tenant: Option<Template>,
    /// What a socket is joined to at once.
    topics: Vec<Template>,
}

impl Gate {
    /// The gate of an endpoint.
    pub(crate) fn new(authenticators: Vec<Arc<Authenticator>>, endpoint: &Endpoint) -> Self {
        let is_bullet = endpoint.protocol == Protocol::Bullet;
        let by_key = || is_bullet.then(|| "{key}".parse().expect("a template"));
        Self {
            authenticators,
            path: endpoint.path.0.clone(),
            protocol: endpoint.protocol,
            may_be_late: endpoint.credential_within.is_some(),
            is_open_to_subscribers: endpoint.subscribe == Subscribe::Open,
            socket_id: endpoint.socket_id.clone().or_else(by_key),
            tenant: endpoint.tenant.as_ref().and_then(|naming| naming.claims()).cloned(),
            topics: if is_bullet { endpoint.topics.0.clone() } else { Vec::new() },
        }
    }

    /// The identity behind a request.
    async fn admit(&self, request: &ConnectRequest) -> Result<Connected, Refusal> {
        let key = request.params.str("key").filter(|_| self.protocol == Protocol::Bullet);
        let is_subscriber = self.protocol == Protocol::Hub && request.params.str("role") == Some("sub");
        if is_subscriber && self.is_open_to_subscribers {
            // Nobody in particular: there are no claims that `socket_id` could take its name from.
            return Ok(Connected::new());
        }
        if self.authenticators.is_empty() {
            return Ok(self.name(None, key)?);
        }
        // In these protocols the key has its place.
        let param = matches!(self.protocol, Protocol::Hub | Protocol::Bullet).then_some("key");
        if self.may_be_late && !self.authenticators.iter().any(|known| known.credential(request, param).is_some()) {
            return Ok(Connected::pending());
        }
        let occasion = Occasion {
            endpoint: &self.path,
            peer: request.peer(),
            request: Some(request),
            param,
            domain: request.params.str("domain").filter(|_| self.protocol == Protocol::Hub),
        };
        let verified = self.first(|known| known.credential(request, param), occasion).await?;
        Ok(self.name(Some(verified), key)?)
    }

    /// What the first authenticator says that accepts, or what all of them say.
    async fn first<'c>(
        &self,
        credential: impl Fn(&Authenticator) -> Option<&'c str>,
        occasion: Occasion<'_>,
    ) -> Result<Verified, Refusal> {
        let mut refusals = Vec::new();
        for authenticator in &self.authenticators {
            match authenticator.check(credential(authenticator), &occasion).await {
                Ok(verified) => return Ok(verified),
                Err(refusal) => refusals.push(refusal),
            }
        }
        if let [only] = &refusals[..] {
            return Err(only.clone());
        }
        let named = self.authenticators.iter().zip(&refusals);
        let details: Vec<_> = named.map(|(known, refusal)| format!("{}: {}", known.name, refusal.detail)).collect();
        Err(Refusal {
            detail: details.join("; ").into(),
            told: refusals.iter().find_map(|refusal| refusal.told.clone()),
            is_unavailable: refusals.iter().any(|refusal| refusal.is_unavailable),
        })
    }

    /// What the socket of an identity is called and joined to; `key` is that of a bullet.js client.
    fn name(&self, verified: Option<Verified>, key: Option<&str>) -> Result<Connected, String> {
        let identity = verified.as_ref().map(|verified| &verified.identity);
        // A key that Fanfare made goes by its name: people read what topics and sockets are called.
        let public = identity.filter(|identity| identity.api_key().is_some()).and_then(|identity| identity.text("key"));
        let public = public.as_deref().filter(|name| key.is_some_and(|key| key.starts_with(name)));
        let key = public.or(key);
        let fill = |template: &Template, what: &str| {
            let value = |name: &str| match key {
                Some(key) if name == "key" => Some(key.to_owned()),
                _ => identity.and_then(|identity| identity.text(name)),
            };
            template.fill(value).map_err(|name| format!("the token has no claim {name:?} for {what}"))
        };
        let topic = |template: &Template, what: &str| {
            let text = fill(template, what)?;
            fanfare::check_topic(&text).map_err(|error| format!("{what} would not do: {error}"))?;
            Ok::<_, String>(text)
        };
        let mut connected = Connected::new();
        if let Some(template) = &self.socket_id {
            connected = connected.id(topic(template, "the socket's id")?);
        }
        if let Some(template) = &self.tenant {
            connected = connected.tenant(fill(template, "its tenant")?);
        }
        for template in &self.topics {
            connected = connected.topic(topic(template, "the socket's topics")?);
        }
        if let Some(Verified { identity, expires_at }) = verified {
            if let Some(publisher) = identity.publisher() {
                connected = connected.publisher(publisher);
            }
            connected = connected.assigns(identity.until(expires_at));
            if let Some(end) = expires_at {
                connected = connected.expires_at(end);
            }
        }
        Ok(connected)
    }
}

impl Connect for Gate {
    const REFRESHES: bool = true;

    async fn connect(&self, request: ConnectRequest) -> Result<Connected, Rejected> {
        Ok(self.admit(&request).await?)
    }

    /// The new credential must be of the same user; a socket that had none may be anybody.
    async fn refresh(&self, socket: &SocketInfo, credential: String) -> Result<Connected, Rejected> {
        let occasion = Occasion { endpoint: &self.path, peer: socket.peer(), request: None, param: None, domain: None };
        let verified = self.first(|_| Some(&credential), occasion).await?;
        if let Some(old) = socket.assigns::<Identity>()
            && old.text("sub") != verified.identity.text("sub")
        {
            return Err(Rejected::new().because("the new token is of another user"));
        }
        Ok(self.name(Some(verified), None).map_err(Refusal::from)?)
    }
}
