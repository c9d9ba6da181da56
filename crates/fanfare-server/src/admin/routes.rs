//! What the HTTP API has: one table, of which the router, the description for programs and the hint for those who guess are made.

use axum::Router;
use axum::routing::{delete, get, post};

use super::wants::{Nothing, Parameter, Parameters};
use super::{
    Api, connections, contract, listing, live, openapi, operate, publish, query, session, sockets, tap, top, why,
};

/// One request that can be made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Route {
    /// In capitals.
    pub(super) method: &'static str,
    /// As the router writes it: `/api/topic/{*topic}`.
    pub(super) path: &'static str,
    /// What clients that are made of the description call it. It is never renamed.
    pub(super) id: &'static str,
    pub(super) about: &'static str,
    /// What its query takes.
    pub(super) takes: &'static [Parameter],
    /// The shape of its body, if it takes one.
    pub(super) body: Option<&'static str>,
    pub(super) told: Told,
}

/// What its answer is.
#[derive(Debug, Clone, Copy)]
pub(super) enum Told {
    /// JSON of this shape.
    Json(&'static str),
    /// A stream of JSON of this shape.
    Stream(&'static str),
    /// A document of another kind.
    Document(&'static str),
}

use Told::{Document, Json, Stream};

macro_rules! routes {
    ($($id:ident: $method:ident $path:literal $handler:path, $takes:ty, $body:expr => $told:expr, $about:literal;)*) => {
        /// All that need a token.
        pub(super) const GUARDED: &[Route] = &[$(Route {
            method: capitals(stringify!($method)),
            path: $path,
            id: stringify!($id),
            about: $about,
            takes: <$takes as Parameters>::TAKES,
            body: $body,
            told: $told,
        },)*];

        pub(super) fn guarded() -> Router<Api> {
            Router::new()$(.route($path, $method($handler)))*
        }
    };
}

const fn capitals(method: &str) -> &'static str {
    match method.as_bytes()[0] {
        b'g' => "GET",
        b'p' => "POST",
        _ => "DELETE",
    }
}

routes! {
    publish: post "/api/publish" publish::publish, Nothing, Some("Publish") => Json("Published"), "Publish messages";
    disconnect: post "/api/disconnect" publish::disconnect, Nothing, Some("Disconnect") => Json("Disconnected"), "Close every socket with an id";
    listTopics: get "/api/topics" listing::topics, listing::WhichTopics, None => Json("Topics"), "The topics that have members";
    getTopic: get "/api/topic/{*topic}" listing::topic, Nothing, None => Json("TopicReport"), "What holds for a topic, and what passes through it";
    listMembers: get "/api/members/{*topic}" listing::members, listing::WhichMembers, None => Json("Members"), "The clients in a topic";
    listSockets: get "/api/sockets" sockets::list, sockets::Which, None => Json("Sockets"), "Who is connected";
    getSocket: get "/api/sockets/{id}" sockets::one, Nothing, None => Json("SocketReport"), "One socket and its topics";
    closeSocket: delete "/api/sockets/{id}" sockets::close, sockets::How, None => Json("Closed"), "Close one socket";
    getInfo: get "/api/info" live::info, Nothing, None => Json("Info"), "What the node is";
    watchFigures: get "/api/live" live::live, live::What, None => Stream("Sample"), "Figures as they change";
    getTop: get "/api/top" top::top, top::What, None => Json("Top"), "Where most happens";
    getPresence: get "/api/presence/{*topic}" query::presence, Nothing, None => Json("Presence"), "Who is present in a topic";
    getHistory: get "/api/history/{*topic}" query::history, query::Part, None => Json("History"), "What a topic has kept";
    listConnections: get "/api/connections" connections::list, query::Page, None => Json("Connections"), "The keys of connected sockets";
    getConnections: get "/api/connections/{*key}" connections::one, Nothing, None => Json("KeyReport"), "The sockets of a key";
    closeConnections: delete "/api/connections/{*key}" connections::close, Nothing, None => Json("Closed"), "Close the sockets of a key";
    getContract: get "/api/contract" contract::contract, contract::Wanted, None => Document("application/json"), "What may be sent to the topics";
    listNodes: get "/api/nodes" query::nodes, Nothing, None => Json("Nodes"), "The nodes of the cluster";
    getCounters: get "/api/counters" query::counters, Nothing, None => Json("Counters"), "What was counted since the start";
    listFacts: get "/api/why" why::why, why::Asked, None => Json("Facts"), "Who was refused, closed, or lost something";
    watchMessages: get "/api/tap" tap::tap, tap::Asked, None => Stream("Tapped"), "Messages as they pass";
    reload: post "/api/reload" operate::reload, operate::Asked, None => Json("Reloaded"), "Read the configuration again";
    getConfig: get "/api/config" operate::config, Nothing, None => Json("Config"), "What the configuration in force says";
    drain: post "/api/drain" operate::drain, Nothing, None => Json("Draining"), "Drain and end";
    getLog: get "/api/log" operate::log_level, Nothing, None => Json("Log"), "What is logged";
    changeLog: post "/api/log" operate::log, Nothing, Some("LogChange") => Json("Log"), "Log more or less";
    upgrade: post "/api/upgrade" operate::upgrade, Nothing, None => Json("Upgraded"), "Hand over to a new process";
    getSession: get "/api/session" session::tell, Nothing, None => Json("Session"), "Who asks, and what they may do";
    logIn: post "/api/session" session::log_in, Nothing, Some("Login") => Json("Session"), "Begin a session of a browser";
    logOut: delete "/api/session" session::log_out, Nothing, None => Json("Done"), "End the session of the request";
    getDescription: get "/api/openapi.json" openapi::tell, Nothing, None => Document("application/json"), "This description";
}

/// Those beside them, which routers of their own have: all but the metrics without a token.
pub(super) const OTHERS: &[Route] = &[
    Route {
        path: "/metrics",
        id: "getMetrics",
        about: "The metrics for Prometheus",
        told: Document("text/plain"),
        ..OTHER
    },
    Route {
        path: "/api/health",
        id: "getHealth",
        about: "How the parts stand that depend on others",
        told: Json("Health"),
        ..OTHER
    },
    Route {
        path: "/livez",
        id: "isAlive",
        about: "Whether the process has to be restarted",
        told: Json("Live"),
        ..OTHER
    },
    Route { path: "/readyz", id: "isReady", about: "Whether the node is to get clients", told: Json("Ready"), ..OTHER },
];

const OTHER: Route = Route { method: "GET", path: "", id: "", about: "", takes: &[], body: None, told: Json("") };

/// What there is, for those who guess.
pub(super) fn all() -> String {
    let names = GUARDED.iter().chain(OTHERS).map(|route| format!("{} {}", route.method, shown(route.path)));
    names.collect::<Vec<_>>().join(", ")
}

/// A path as people write it: `/api/topic/TOPIC`.
fn shown(path: &str) -> String {
    match path.split_once('{') {
        None => path.to_owned(),
        Some((begin, name)) => format!("{begin}{}", name.trim_start_matches('*').trim_end_matches('}').to_uppercase()),
    }
}
