//! A server from its start to its end: listeners, the line that says that they accept connections, signals, drain.

use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::Router;
use axum::extract::Request;
use fanfare::serve::{Closing, Server};
use fanfare::{Bodies, Drain, Endpoint, OriginPolicy, Proxies};
use fanfare_proto::origin::RequestOrigin;
use tokio::sync::{Notify, mpsc, watch};
use tokio::task::JoinSet;

use crate::bridge::Bridge;
use crate::config::Config;
use crate::config::secret::Secret;
use crate::config::section::listed;
use crate::connections::Connections;
use crate::contract::Contracts;
use crate::descriptors::{Descriptors, Shares};
use crate::engine::Engine;
use crate::inherited::{Inherited, Role};
use crate::live::Health;
use crate::live::{InForce, Live};
use crate::log::Filter;
use crate::metrics::{Metrics, ServerFigures};
use crate::notify::Notifier;
use crate::reload::{Exchanged, Reloader};
use crate::signals::{Requests, ServerSignals};
use crate::source::Sources;
use crate::terminal::{Failure, Given};
use crate::tls::Certificates;
use crate::traces::{Prepared, Traces};
use crate::upgrade::{Answer, Takeover, Upgrades};
use crate::webhook::Webhook;
use crate::{admin, engine, log, pages, webhook};

mod beginning;
mod dev;
mod hand_over;
mod node;

pub(crate) use dev::{DEV, dev};
pub(crate) use node::node;

use hand_over::{Doors, Left};

/// How long listeners may take to end after the drain.
const CLOSING_MAX: Duration = Duration::from_secs(2);

/// Runs `fanfare serve` until a signal. `given` is from where its configuration can be read again.
///
/// # Errors
/// Why it could not start.
pub(crate) fn serve(given: Given) -> Result<(), Failure> {
    let requests = Requests::take()?;
    let takeover = Takeover::begin()?;
    let served = serve_after(given, requests, takeover.clone());
    if let (Err(why), Some(takeover)) = (&served, takeover) {
        takeover.failed(&why.text);
    }
    served
}

fn serve_after(given: Given, requests: Requests, takeover: Option<Takeover>) -> Result<(), Failure> {
    let inherited = Inherited::take()?;
    let config = given.read()?;
    let differences = inherited.differences(&config);
    if takeover.is_some() && !differences.is_empty() {
        let text = format!("{}: an upgrade keeps its addresses; restart the server instead", differences.join(", "));
        return Err(text.into());
    }
    let admin = config.admin.as_ref().map(|admin| admin.listen.0);
    block_on(async {
        let extra = Extra { inherited, takeover: takeover.clone(), is_upgradable: true, ..Extra::default() };
        let mut running = Running::new(Some(given), config, requests, extra).await?;
        for difference in differences {
            tracing::warn!("{difference}: the listener that was given counts");
        }
        let router = running.endpoint.routes();
        let bound = running.bind(admin.as_slice()).await?;
        running.connected_to_its_broker().await;
        let url = running.listen(bound.clients, router)?;
        if let Some(server) = bound.admin {
            let address = running.listen_admin(server)?;
            tracing::info!("the HTTP API listens on http://{address}");
        }
        running.listen_metrics(bound.metrics)?;
        running.tell_what_is_served(&url);
        announce("serve", &url);
        running.takeover = takeover;
        running.until_stopped(std::future::pending()).await
    })
    .map_err(Failure::from)
}

/// A server with its listeners.
struct Running {
    config: Config,
    endpoint: Endpoint,
    /// What is in force and can be exchanged.
    live: InForce,
    reloader: Arc<Reloader>,
    /// What is logged.
    filter: Filter,
    /// Told when somebody asks for the end over the HTTP API.
    stop: Arc<Notify>,
    certificates: Option<Arc<Certificates>>,
    health: Health,
    metrics: Arc<Metrics>,
    webhooks: Vec<Arc<Webhook>>,
    connections: Connections,
    contracts: Contracts,
    sources: Sources,
    bridge: Option<Bridge>,
    signals: ServerSignals,
    shares: Shares,
    /// In front of all listeners.
    proxies: Proxies,
    for_clients: Listeners,
    /// They stay until the last client is gone.
    for_back_offices: Listeners,
    /// Not listened on yet.
    inherited: Inherited,
    /// What a new process is given.
    doors: Doors,
    /// Who may ask for one, and what this hears of it by; none asks where there can be none.
    upgrades: (Upgrades, Option<mpsc::Receiver<Answer>>),
    /// The process that waits for this one to serve.
    takeover: Option<Takeover>,
}

/// What a server has that no configuration says.
#[derive(Default)]
struct Extra {
    /// The API's token where the configuration has none.
    token: Option<Secret>,
    /// Shared with other nodes in this process.
    broker: Option<fanfare::Broker>,
    inherited: Inherited,
    /// What it takes over from.
    takeover: Option<Takeover>,
    /// Whether the command that has started it starts another like it.
    is_upgradable: bool,
}

/// Addresses that are taken, and nothing is served yet.
struct Bound {
    clients: Server,
    admin: Option<Server>,
    metrics: Option<Server>,
}

/// Listeners that stop together.
#[derive(Default)]
struct Listeners {
    stop: watch::Sender<bool>,
    running: JoinSet<Closing>,
}

impl Running {
    /// `given` is from where the configuration can be read again.
    async fn new(given: Option<Given>, mut config: Config, requests: Requests, extra: Extra) -> Result<Self, String> {
        let Extra { token, broker, inherited, takeover, is_upgradable } = extra;
        let filter = log::start(&config.log);
        for warning in &config.warnings {
            tracing::warn!("{warning}");
        }
        // Whoever reads that the server listens may stop it in the next moment.
        let signals = ServerSignals::new(requests)?;
        let admin_max = config.admin.as_ref().map_or(0, |admin| admin.connections_max.0);
        let metrics_max = config.metrics.as_ref().map_or(0, |metrics| metrics.connections_max.0);
        let shares = Descriptors::allowed().raise(config.limits.connections_max.0, admin_max + metrics_max);
        let imprint = config.imprint();
        let certificates = Certificates::read(&config)?.map(Certificates::start);
        let traces = Arc::new(Traces::default());
        traces.put_in_force(Prepared::new(config.traces.as_ref())?, &config.cluster.name());
        let may_open = async {
            match takeover {
                Some(takeover) => takeover.wait_for_go().await,
                None => Ok(()),
            }
        };
        let Engine { endpoint, equipment, webhooks, connections, topics, contracts, sources, auth_figures, bridge } =
            engine::build(&mut config, broker, traces.clone(), may_open).await?;
        if let Some(certificates) = &certificates {
            certificates.order(&endpoint);
        }
        let of_certificates = certificates.as_ref().and_then(|certificates| certificates.part());
        let parts = equipment.parts().into_iter().chain(of_certificates).collect();
        let live = Live::new(1, &[], &config, token.as_ref(), parts, topics);
        let live = Arc::new(ArcSwap::from_pointee(live));
        let proxies = Proxies::trusted(config.server.trusted());
        let (live_kept, proxies_kept) = (live.clone(), proxies.clone());
        let (certificates_kept, kept) = (certificates.clone(), filter.clone());
        let exchanged = Exchanged {
            live: live_kept,
            equipment,
            filter,
            certificates: certificates_kept,
            proxies: proxies_kept,
            token,
            traces: traces.clone(),
        };
        let reloader = Reloader::new(given, imprint, exchanged);
        let health = Health { endpoint: endpoint.clone(), live: live.clone(), is_leaving: Arc::default() };
        let figures = ServerFigures::new(
            health.clone(),
            contracts.clone(),
            reloader.reloads().clone(),
            certificates.clone(),
            traces.counts().clone(),
        );
        let metrics = Metrics::new(&health, figures, auth_figures);
        let (for_clients, for_back_offices, doors) = Default::default();
        let (asks, asked) = Upgrades::new();
        let upgrades = (asks, is_upgradable.then_some(asked));
        Ok(Self {
            config,
            endpoint,
            live,
            reloader,
            filter: kept,
            stop: Arc::default(),
            certificates,
            health,
            metrics: Arc::new(metrics),
            webhooks,
            connections,
            contracts,
            sources,
            bridge,
            signals,
            shares,
            proxies,
            for_clients,
            for_back_offices,
            inherited,
            doors,
            upgrades,
            takeover: None,
        })
    }

    /// Takes all addresses before anything is served: a start that fails because of the last one has told and served nobody. The HTTP
    /// API has the first of its own that can be had.
    async fn bind(&mut self, admin: &[SocketAddr]) -> Result<Bound, String> {
        let address = self.config.server.listen.0;
        let clients = self.open(Role::Clients, address, "take another address with --listen").await?;
        let mut of_admin = None;
        for (at, address) in admin.iter().enumerate() {
            match self.open(Role::Admin, *address, "take another address with --admin").await {
                Ok(server) => {
                    of_admin = Some(server);
                    break;
                }
                Err(error) if at + 1 == admin.len() => return Err(error),
                Err(_) => {}
            }
        }
        let metrics = match self.config.metrics.as_ref().map(|metrics| metrics.listen.0) {
            Some(address) => Some(self.open(Role::Metrics, address, "change metrics.listen").await?),
            None => None,
        };
        Ok(Bound { clients, admin: of_admin, metrics })
    }

    /// Listens on an address, or on what was given for it, which can be given on.
    async fn open(&mut self, role: Role, address: SocketAddr, help: &str) -> Result<Server, String> {
        let server = match self.inherited.remove(role) {
            Some(listener) => Server::from_listener(listener).await.map_err(|error| error.to_string())?,
            None => Server::bind(address).await.map_err(|error| format!("{error}, or {help}"))?,
        };
        let listener = server.listener().map_err(|error| error.to_string())?;
        self.doors.add(role, listener, server.pause());
        Ok(server)
    }

    /// Serves clients: the URL that reaches it.
    fn listen(&mut self, server: Server, router: Router) -> Result<String, String> {
        let proxies = self.proxies.clone().address_from(self.config.server.address_from.0.clone());
        let server = server.limits(self.config.limits.of_clients(self.shares.clients)).proxies(proxies);
        self.reloader.admits(server.admits());
        // Nothing stands around the endpoints.
        let server = server.upgrades_first();
        let address = address_of(&server)?;
        let (server, url) = match &self.certificates {
            Some(certificates) => {
                let http2 = self.config.tls.as_ref().is_some_and(|tls| tls.http2);
                (server.tls(Arc::new(certificates.config(http2)?)), format!("https://{address}"))
            }
            None => (server, format!("http://{address}")),
        };
        // Behind the endpoints, so that none of their paths is taken. What nothing serves is refused by the engine, so that it is told and
        // counted as other refusals are.
        let endpoint = self.endpoint.clone();
        let refused = async move |request: Request| endpoint.call(request).await;
        let router = match self.config.server.health {
            true => router.merge(admin::probes_without_body(&self.health)),
            false => router,
        };
        let router = router.fallback_service(pages::client().fallback(refused));
        self.for_clients.spawn(server, router, &self.endpoint);
        Ok(url)
    }

    /// Serves back offices: the address.
    fn listen_admin(&mut self, server: Server) -> Result<SocketAddr, String> {
        let admin = self.config.admin.as_ref();
        let most = admin.map_or(self.shares.admin, |admin| admin.connections_max.0.min(self.shares.admin));
        // A proxy in front may be the only one that connects here.
        let limits = self.config.limits.admitted(most, None);
        let source = admin.map(|admin| &admin.address_from);
        let proxies = source.map(|source| self.proxies.clone().address_from(source.0.clone())).unwrap_or_default();
        let server = server.named(Role::Admin.name()).limits(limits).proxies(proxies);
        let address = address_of(&server)?;
        let bodies = Bodies::new(self.config.limits.bodies_bytes_max() as usize, self.config.limits.body_timeout.0);
        let router = admin::router(admin::Api {
            endpoint: self.endpoint.clone(),
            live: self.live.clone(),
            reloader: self.reloader.clone(),
            upgrades: self.upgrades.0.clone(),
            bodies,
            health: self.health.clone(),
            metrics: self.metrics.clone(),
            connections: self.connections.clone(),
            publishing: Arc::default(),
            contracts: self.contracts.clone(),
            bounds: admin::Bounds::new(),
            sessions: Arc::default(),
            filter: self.filter.clone(),
            stop: self.stop.clone(),
        });
        self.for_back_offices.spawn(server, router, &self.endpoint);
        Ok(address)
    }

    /// Serves Prometheus, if that is wanted.
    fn listen_metrics(&mut self, server: Option<Server>) -> Result<(), String> {
        let (Some(settings), Some(server)) = (&self.config.metrics, server) else { return Ok(()) };
        let most = settings.connections_max.0.min(self.shares.admin);
        let server = server.named(Role::Metrics.name()).limits(self.config.limits.admitted(most, None));
        tracing::info!("metrics and probes are on http://{}", address_of(&server)?);
        let router = admin::for_prometheus(&self.health, &self.metrics);
        self.for_back_offices.spawn(server, router, &self.endpoint);
        Ok(())
    }

    /// One line an endpoint: what people look for first when nobody can connect.
    fn tell_what_is_served(&self, url: &str) {
        for settings in &self.config.endpoints {
            let (path, protocol, auth) = (&settings.path.0, settings.protocol.name(), settings.auth.0.join(", "));
            let request = RequestOrigin { scheme: "", host_and_port: "" };
            let origins = match engine::origins(settings, &self.config) {
                OriginPolicy::SameAsRequest => "same".to_owned(),
                policy => policy.allowed(request),
            };
            tracing::info!(url = format!("{url}{path}"), protocol, auth, origins, "an endpoint is served");
        }
        let topics: Vec<_> = self.live.load().topics.iter().map(ToString::to_string).collect();
        tracing::info!(topics = listed(topics.iter().map(String::as_str)), "clients can be in these topics");
    }

    /// Serves until a signal, until it is told to end, or until another process has taken over, then drains. A second SIGTERM or SIGINT ends it immediately.
    async fn until_stopped(mut self, told: impl Future<Output = ()>) -> Result<(), String> {
        // Not before clients can connect: what a source hands over while nobody is there is gone.
        self.sources.start(&self.endpoint);
        let notifier = Notifier::ready(&self.endpoint);
        if let Some(takeover) = self.takeover.take() {
            takeover.serving();
        }
        let stop = self.stop.clone();
        let left = tokio::select! {
            left = self.until_left() => left,
            () = told => Left::Stopped,
            () = stop.notified() => {
                tracing::info!("asked by the HTTP API to drain and end");
                Left::Stopped
            }
        };
        self.reloader.hold(Some("the server drains"));
        if let Some(certificates) = &self.certificates {
            certificates.rest();
        }
        let (successor, failed) = match left {
            Left::Stopped => (None, None),
            Left::HandedOver(process) => (Some(process), None),
            Left::Broken(reason) => (None, Some(reason)),
        };
        // What is given on to nobody any more is closed with the server that listens on it.
        drop(std::mem::take(&mut self.doors));
        match successor {
            Some(process) => notifier.handed_over(process),
            None => notifier.stopping(),
        }
        let webhooks = self.webhooks.clone();
        let mut signals = self.signals;
        let ended = End {
            drain: self.live.load().drain,
            announce: self.live.load().announce,
            is_succeeded: successor.is_some(),
            health: &self.health,
            endpoint: &self.endpoint,
            sources: self.sources,
            for_clients: self.for_clients,
            for_back_offices: self.for_back_offices,
            webhooks: &webhooks,
            bridge: self.bridge.as_ref(),
        };
        tokio::select! {
            () = ended.run() => {}
            () = signals.until_cut() => tracing::warn!("a second signal: clients that are left are cut off"),
        }
        webhook::report_losses(&webhooks);
        tracing::info!("stopped");
        failed.map_or(Ok(()), Err)
    }
}

/// What is to be ended, in order.
struct End<'r> {
    drain: Drain,
    announce: Duration,
    /// Another process serves those who come.
    is_succeeded: bool,
    health: &'r Health,
    endpoint: &'r Endpoint,
    sources: Sources,
    for_clients: Listeners,
    for_back_offices: Listeners,
    webhooks: &'r [Arc<Webhook>],
    bridge: Option<&'r Bridge>,
}

impl End<'_> {
    async fn run(mut self) {
        let drain = self.drain;
        if self.is_succeeded {
            // Whoever publishes and whatever sources hand over is for the new process, which has the clients that come.
            self.for_back_offices.stop();
            self.sources.stop(CLOSING_MAX).await;
        } else if !self.announce.is_zero() {
            self.health.is_leaving.store(true, Ordering::Relaxed);
            tracing::info!(announce_s = self.announce.as_secs(), "going to drain; a second signal stops at once");
            tokio::time::sleep(self.announce).await;
        }
        tracing::info!(limit_s = drain.limit.as_secs(), "draining; a second signal stops at once");
        self.for_clients.stop();
        self.endpoint.drain(drain).await;
        // As long as clients were there, what is published reached them.
        self.for_back_offices.stop();
        self.sources.stop(CLOSING_MAX).await;
        self.for_clients.finish().await;
        self.for_back_offices.finish().await;
        webhook::finish(self.webhooks, self.endpoint).await;
        if let Some(bridge) = self.bridge {
            bridge.finish(CLOSING_MAX).await;
        }
    }
}

impl Listeners {
    fn spawn(&mut self, server: Server, router: Router, endpoint: &Endpoint) {
        let (mut stop, endpoint) = (self.stop.subscribe(), endpoint.clone());
        let stopped = async move { drop(stop.wait_for(|stop| *stop).await) };
        self.running.spawn(async move { server.serve_app(router, &endpoint, stopped).await });
    }

    /// Accepts nothing more.
    fn stop(&self) {
        self.stop.send_replace(true);
    }

    /// Gives requests that are being answered a moment.
    async fn finish(mut self) {
        while let Some(Ok(closing)) = self.running.join_next().await {
            closing.finish(CLOSING_MAX).await;
        }
    }
}

fn block_on(run: impl Future<Output = Result<(), String>>) -> Result<(), String> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| format!("cannot start threads: {error}"))?;
    let result = runtime.block_on(run);
    // A task that blocks must not keep the process.
    runtime.shutdown_timeout(CLOSING_MAX);
    result
}

fn address_of(server: &Server) -> Result<SocketAddr, String> {
    server.local_addr().map_err(|error| error.to_string())
}

/// The one line on the standard output. Whoever started the process may have closed it.
fn announce(command: &str, url: &str) {
    let mut stdout = std::io::stdout().lock();
    let _ = writeln!(stdout, "fanfare {command}: listening on {url}").and_then(|()| stdout.flush());
}
