//! Certificates that are ordered from a certificate authority by ACME (RFC 8555): when, by whom, and what becomes of it.
//!
//! `order` does it once, `schedule` says when, `cache` keeps what is had, for all nodes that share a folder, `proof` shows that a domain
//! is ours.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant, SystemTime};

use arc_swap::ArcSwapOption;
use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use fanfare::Endpoint;
use rustls::sign::CertifiedKey;
use tokio::task::JoinHandle;

use super::Served;
use crate::config::acme::{Acme, Challenge};
use crate::config::value::OneOrMore;
use crate::health::{Counted, Part, State, numbers};
use crate::http_client::{Client, Failure};

mod cache;
mod order;
mod proof;
mod schedule;

use cache::{Cache, Refusal};
use order::Pause;
use proof::Answering;
use schedule::{Backoff, Window};

/// What a certificate authority speaks when it looks whose a domain is (RFC 8737).
pub(super) const ALPN: &[u8] = b"acme-tls/1";

/// What became of orders.
pub(crate) const COUNTED: [Counted; 2] = [
    ("issued", "Certificates that were ordered, and are served."),
    ("failed", "Orders that came to nothing. The log says why, and when the next try is."),
];

/// How often the cache is looked at: another node may have put a certificate there.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// While another node orders one.
const LOOK_EVERY_WHILE_ORDERED: Duration = Duration::from_millis(500);

/// How long an order may take: authorities look at domains from several places, one after the other.
const ORDER_MAX: Duration = Duration::from_secs(300);

/// `[tls.acme]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    domains: Vec<String>,
    contact: Vec<String>,
    directory: String,
    cache_dir: PathBuf,
    challenge: Challenge,
    http_listen: SocketAddr,
    binding: Option<Binding>,
}

/// An account with the authority that ours is bound to.
#[derive(Clone, PartialEq, Eq)]
struct Binding {
    kid: String,
    key: Vec<u8>,
}

impl std::fmt::Debug for Binding {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Binding").field("kid", &self.kid).finish_non_exhaustive()
    }
}

impl Settings {
    /// # Errors
    /// The key of the external account is none.
    pub(crate) fn new(settings: &Acme) -> Result<Self, String> {
        let OneOrMore(domains) = &settings.domains;
        let contact = settings.contact.iter().flat_map(|OneOrMore(contact)| contact);
        let binding = match (&settings.eab_kid, &settings.eab_key) {
            (Some(kid), Some(key)) => Some(Binding { kid: kid.clone(), key: eab_key(key.expose())? }),
            _ => None,
        };
        Ok(Self {
            domains: domains.iter().map(|domain| domain.0.clone()).collect(),
            contact: contact.map(|contact| contact.0.clone()).collect(),
            directory: settings.directory.0.to_string(),
            cache_dir: settings.cache_dir.0.clone(),
            challenge: settings.challenge,
            http_listen: settings.http_listen.0,
            binding,
        })
    }
}

impl Settings {
    /// What a refusal may have been about, beside the domains and the authority: where any of it is another, it says nothing.
    fn terms(&self) -> String {
        let binding = self.binding.as_ref().map(|binding| (&binding.kid, &binding.key));
        cache::short(&format!("{:?} {} {} {binding:?}", self.contact, self.challenge.name(), self.http_listen))
    }
}

/// The key of an external account, from the form in which authorities give it.
///
/// # Errors
/// It is not in that form.
fn eab_key(text: &str) -> Result<Vec<u8>, String> {
    let padding = GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
    let key = GeneralPurpose::new(&URL_SAFE, padding).decode(text.trim());
    key.ok().filter(|key| !key.is_empty()).ok_or_else(|| {
        "is not in base64url (letters, digits, `-` and `_`): give the key as the certificate authority shows it"
            .to_owned()
    })
}

/// A certificate that is served, perhaps one of other domains until there is the one that is wanted.
#[derive(Debug)]
struct Held {
    served: Arc<Served>,
    /// Where it was kept.
    folder: PathBuf,
}

/// The certificate that is ordered, and how that stands.
#[derive(Debug)]
pub(crate) struct Ordered {
    held: ArcSwapOption<Held>,
    /// Where it is kept, and what shows that its domains are ours; none if none is ordered.
    kept: ArcSwapOption<Cache>,
    /// Whether the last order came to nothing.
    has_failed: AtomicBool,
    issued: AtomicU64,
    failed: AtomicU64,
}

impl Ordered {
    pub(crate) fn new(settings: Option<&Settings>) -> Self {
        let (held, zero) = (ArcSwapOption::empty(), AtomicU64::default);
        let kept = ArcSwapOption::from_pointee(settings.map(Cache::new));
        Self { held, kept, has_failed: AtomicBool::default(), issued: zero(), failed: zero() }
    }

    /// Others are ordered from now on, or none. One that is served stays until there is another.
    pub(crate) fn replace(&self, settings: Option<&Settings>) {
        self.kept.store(settings.map(Cache::new).map(Arc::new));
        self.has_failed.store(false, Ordering::Relaxed);
        if settings.is_none() {
            self.held.store(None);
        }
    }

    pub(crate) fn served(&self) -> Option<Arc<Served>> {
        self.held.load().as_ref().map(|held| held.served.clone())
    }

    /// The one that is served, if it is the one that is wanted: for these domains, from this authority.
    fn wanted(&self) -> Option<Arc<Served>> {
        let (held, kept) = (self.held.load(), self.kept.load());
        let is_wanted = |held: &&Arc<Held>| kept.as_ref().is_some_and(|cache| cache.folder() == held.folder);
        held.as_ref().filter(is_wanted).map(|held| held.served.clone())
    }

    pub(crate) fn is_wanted(&self) -> bool {
        self.kept.load().is_some()
    }

    /// What shows by TLS that a domain is ours, if somebody has been told to look.
    pub(crate) fn proof(&self, domain: &str) -> Option<Arc<CertifiedKey>> {
        let cache = self.kept.load_full()?;
        // The file may be on another machine; other connections go on meanwhile.
        tokio::task::block_in_place(|| proof::certificate(domain, &cache.proof(domain)?))
    }
}

impl Part for Ordered {
    fn kind(&self) -> &'static str {
        "certificates"
    }

    fn name(&self) -> &str {
        "acme"
    }

    fn state(&self) -> State {
        let (Some(served), Some(cache)) = (self.served(), self.kept.load_full()) else { return State::Unavailable };
        if cache.covered(&served) == 0 {
            State::Unavailable
        } else if self.wanted().is_none() || self.has_failed.load(Ordering::Relaxed) {
            State::Stale
        } else {
            State::Ok
        }
    }

    fn counters(&self) -> Vec<(&'static str, u64)> {
        numbers(&COUNTED, [&self.issued, &self.failed])
    }
}

/// Who orders it.
#[derive(Debug)]
pub(crate) struct Driver {
    settings: Settings,
    running: Option<JoinHandle<()>>,
}

impl Driver {
    /// One that does nothing yet.
    pub(crate) fn resting(settings: Settings) -> Self {
        Self { settings, running: None }
    }

    /// Begins, once the one before has ended.
    pub(crate) fn running(mut self, before: Option<Self>, ordered: &Arc<Ordered>, endpoint: &Endpoint) -> Self {
        let before = before.and_then(|mut before| before.running.take()).inspect(JoinHandle::abort);
        let answering = Answering::new(self.settings.challenge);
        let run = Run::new(self.settings.clone(), ordered.clone(), answering.clone());
        let (settings, ordered, endpoint) = (self.settings.clone(), ordered.clone(), endpoint.clone());
        let both = async move {
            if let Some(before) = before {
                // It has the lock and the address of http-01 until then.
                let _ = before.await;
            }
            match settings.challenge {
                Challenge::TlsAlpn => run.forever().await,
                Challenge::Http => {
                    // The one who answers is there before anything is asked.
                    tokio::join!(answering.forever(settings.http_listen, ordered, endpoint), run.forever());
                }
            }
        };
        self.running = Some(tokio::spawn(both));
        self
    }

    pub(crate) fn settings(&self) -> &Settings {
        &self.settings
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if let Some(running) = &self.running {
            running.abort();
        }
    }
}

/// What an order came to.
enum Came {
    /// To a certificate, which is served.
    Ordered,
    /// Another node has just had one.
    Found,
    /// Another node is about to.
    Busy,
}

/// The one who looks when a certificate is due, and orders it.
struct Run {
    settings: Settings,
    cache: Cache,
    ordered: Arc<Ordered>,
    answering: Answering,
    /// Made for the first order.
    client: Option<Client>,
    /// What the authority wants.
    pause: Pause,
    backoff: Backoff,
    not_before: Instant,
    /// The content of the cache that is in force.
    seen: Option<u64>,
    window: Window,
    is_told: bool,
}

impl Run {
    fn new(settings: Settings, ordered: Arc<Ordered>, answering: Answering) -> Self {
        let cache = Cache::new(&settings);
        let (backoff, not_before, window) = (Backoff::default(), Instant::now(), Window::new());
        Self {
            settings,
            cache,
            ordered,
            answering,
            client: None,
            pause: Pause::default(),
            backoff,
            not_before,
            seen: None,
            window,
            is_told: false,
        }
    }

    async fn forever(mut self) {
        loop {
            let wait = self.turn().await;
            tokio::time::sleep(wait).await;
        }
    }

    /// Does what is due: how long there is nothing to do then.
    async fn turn(&mut self) -> Duration {
        let adopted = self.adopt().await;
        if self.ordered.wanted().is_none() {
            self.make_do().await;
        }
        self.recall().await;
        let due = self.due().await;
        let left = due.duration_since(SystemTime::now()).unwrap_or_default();
        let waits = self.not_before.saturating_duration_since(Instant::now());
        if !left.is_zero() || !waits.is_zero() {
            return left.max(waits).min(LOOK_EVERY);
        }
        if self.ordered.wanted().is_none() && !std::mem::replace(&mut self.is_told, true) {
            self.tell_what_is_missing();
        }
        let outcome = match adopted {
            Ok(_) => self.order().await,
            Err(reason) => Err(Failure::Down(reason)),
        };
        match outcome {
            Ok(Came::Ordered | Came::Found) => {
                self.backoff = Backoff::default();
                self.cache.forget_refusal();
                Duration::ZERO
            }
            Ok(Came::Busy) => LOOK_EVERY_WHILE_ORDERED,
            Err(failure) => self.failed(&failure).await,
        }
    }

    fn tell_what_is_missing(&self) {
        let domains = self.settings.domains.join(", ");
        match self.ordered.served() {
            Some(served) => tracing::warn!(
                domains,
                without_certificate = self.cache.uncovered(&served).join(", "),
                "there is no certificate for these domains yet: one that was ordered before stays in force until then"
            ),
            None => tracing::warn!(
                domains,
                "there is no certificate yet: nobody can connect by TLS until the first one was ordered"
            ),
        }
    }

    /// An authority counts what it refuses, and not whether it asked this process or the one before, or another node: all wait.
    async fn recall(&mut self) {
        let (cache, terms) = (self.cache.clone(), self.settings.terms());
        let Ok(Some(refusal)) = blocking(move || cache.refusal(&terms)).await else { return };
        let (left, times) = (refusal.left(), refusal.times);
        let not_before = Instant::now() + left;
        // This one knows of its own.
        if left.is_zero() || self.not_before + Duration::from_secs(2) >= not_before {
            return;
        }
        self.backoff = Backoff::refused(times);
        self.not_before = not_before;
        self.ordered.has_failed.store(true, Ordering::Relaxed);
        let (domains, next_try_in_s) = (self.settings.domains.join(", "), left.as_secs().max(1));
        tracing::warn!(
            domains,
            reason = refusal.reason,
            next_try_in_s,
            file = %self.cache.refusal_path().display(),
            "the certificate authority has refused lately, and is asked again when it is time: to ask at once, remove the file and start again"
        );
    }

    async fn failed(&mut self, failure: &Failure) -> Duration {
        let wait = self.backoff.next(failure, self.pause.take());
        if let Failure::Refused(reason) = failure {
            let refusal = Refusal::new(wait, self.backoff.times(), reason, self.settings.terms());
            let cache = self.cache.clone();
            if let Err(reason) = blocking(move || cache.keep_refusal(&refusal)).await {
                tracing::debug!(reason, "a refusal is not remembered over a restart");
            }
        }
        self.not_before = Instant::now() + wait;
        self.ordered.has_failed.store(true, Ordering::Relaxed);
        self.ordered.failed.fetch_add(1, Ordering::Relaxed);
        let domains = self.settings.domains.join(", ");
        let (reason, next_try_in_s) = (failure.text(), wait.as_secs().max(1));
        match self.ordered.served() {
            Some(_) => tracing::error!(
                domains,
                reason,
                next_try_in_s,
                "no certificate could be had: the old one stays in force"
            ),
            None => tracing::error!(
                domains,
                reason,
                next_try_in_s,
                "no certificate could be had: nobody can connect by TLS"
            ),
        }
        wait.min(LOOK_EVERY)
    }

    /// When the next one is to be ordered.
    async fn due(&mut self) -> SystemTime {
        let Some(served) = self.ordered.wanted() else { return SystemTime::UNIX_EPOCH };
        if self.window.is_to_be_asked() {
            let asked = match self.client() {
                Ok(client) => order::renewal(&self.settings, &self.cache, &(client, Pause::default()), &served).await,
                Err(reason) => Err(reason),
            };
            self.window.told(asked.unwrap_or_else(|reason| {
                tracing::debug!(
                    reason,
                    "the certificate authority does not say when it wants certificates to be renewed"
                );
                None
            }));
        }
        self.window.renewal(served.begins, served.ends)
    }

    /// Orders one, unless another node does.
    async fn order(&mut self) -> Result<Came, Failure> {
        let cache = self.cache.clone();
        let Some(lock) = blocking(move || cache.lock()).await.map_err(Failure::Down)? else { return Ok(Came::Busy) };
        // What another node had until now is there before its lock is gone.
        if self.adopt().await.map_err(Failure::Down)? && self.due().await > SystemTime::now() {
            return Ok(Came::Found);
        }
        self.answering.is_ready().map_err(Failure::Down)?;
        let client = self.client().map_err(Failure::Down)?;
        let served = self.ordered.wanted();
        let replaced = served.as_deref().filter(|_| self.window.is_wished());
        let asking = (client, self.pause.clone());
        let ordered = order::run(&self.settings, &self.cache, &asking, replaced);
        let late = || Failure::Down(format!("the certificate authority has not come to an end within {ORDER_MAX:?}"));
        let pem = tokio::time::timeout(ORDER_MAX, ordered).await.unwrap_or_else(|_| Err(late()))?;
        let cache = self.cache.clone();
        // Authorities count orders: one that could not be kept is not followed by the next at once.
        blocking(move || cache.keep_certificate(&pem)).await.map_err(Failure::Refused)?;
        self.ordered.issued.fetch_add(1, Ordering::Relaxed);
        self.adopt().await.map_err(Failure::Down)?;
        self.window.begin();
        drop(lock);
        Ok(Came::Ordered)
    }

    /// Serves what is in the cache, if that has changed.
    ///
    /// # Errors
    /// It cannot be served.
    async fn adopt(&mut self) -> Result<bool, String> {
        let (cache, seen) = (self.cache.clone(), self.seen);
        let found = blocking(move || {
            let weight = cache.certificate_bytes()?.map(|bytes| weight(&bytes));
            match weight.filter(|_| weight != seen) {
                Some(weight) => Ok(Some((weight, cache.certificate()?))),
                None => Ok(None),
            }
        });
        let Some((weight, served)) = found.await? else { return Ok(false) };
        self.seen = Some(weight);
        // As after a reload.
        if self.ordered.wanted().is_some_and(|old| old.key.cert == served.key.cert) {
            return Ok(false);
        }
        let left = served.ends.duration_since(SystemTime::now()).unwrap_or_default();
        let (domains, expires_in_days) = (self.settings.domains.join(", "), left.as_secs() / 86_400);
        tracing::info!(domains, expires_in_days, "a certificate by ACME is served to clients that connect from now on");
        self.hold(served, self.cache.folder().to_owned());
        self.ordered.has_failed.store(false, Ordering::Relaxed);
        self.window = Window::new();
        Ok(true)
    }

    /// Serves the best of what was ordered before for other domains, or from another authority.
    async fn make_do(&self) {
        let (cache, now) = (self.cache.clone(), self.ordered.served());
        let found = blocking(move || {
            // One that is for none of the domains is of no use.
            let least =
                now.map_or((1, SystemTime::UNIX_EPOCH), |now| cache.rank(&now).max((1, SystemTime::UNIX_EPOCH)));
            Ok(cache
                .others()
                .into_iter()
                .filter(|(_, other)| cache.rank(other) > least)
                .max_by_key(|(_, other)| cache.rank(other)))
        });
        if let Ok(Some((folder, served))) = found.await {
            self.hold(served, folder);
        }
    }

    fn hold(&self, served: Served, folder: PathBuf) {
        self.ordered.held.store(Some(Arc::new(Held { served: Arc::new(served), folder })));
    }

    fn client(&mut self) -> Result<Client, String> {
        match &self.client {
            Some(client) => Ok(client.clone()),
            None => Ok(self.client.insert(Client::new()?).clone()),
        }
    }
}

fn weight(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

/// File systems may stall.
async fn blocking<T: Send + 'static>(does: impl FnOnce() -> Result<T, String> + Send + 'static) -> Result<T, String> {
    tokio::task::spawn_blocking(does).await.map_err(|error| error.to_string())?
}
