//! The table of the server's own metrics, beside those of the engine: names, labels, what each counts, and what to do about it.

use fanfare::metrics::Family;

/// All of them, in the order in which they are written.
#[cfg(test)]
pub(crate) const FAMILIES: &[Family] = &[
    AUTH,
    PART_UP,
    HOOK_REQUESTS,
    HOOK_SECONDS,
    WEBHOOK_EVENTS,
    WEBHOOK_QUEUED,
    SOURCE_MESSAGES,
    SOURCE_LAG,
    KEY_LOOKUPS,
    BRIDGE_MESSAGES,
    CERTIFICATE_ORDERS,
    API_REQUESTS,
    API_REQUEST_SECONDS,
    ADMIN_LOGINS,
    SCHEMA_MISFITS,
    READY,
    BUILD_INFO,
    LIMIT,
    CONFIG_RELOADS,
    CONFIG_RELOADED,
    CONFIG_RELOADED_AT,
    CERTIFICATE_ENDS,
    TRACE_SPANS,
    RUNTIME_TASKS,
    CPU,
    OPEN_FDS,
    MAX_FDS,
    RESIDENT_MEMORY,
    THREADS,
    START_TIME,
    MEMORY_LIMIT,
];

pub(super) const PART_UP: Family = Family::gauge(
    "fanfare_part_up",
    &["kind", "name"],
    "Whether a part that depends on others can do its work: key sets, stores, hooks, webhooks, sources, the bridge, the history's disk.",
    "`GET /api/health` says how it stands, and the log since when.",
);

pub(super) const HOOK_REQUESTS: Family = Family::counter(
    "fanfare_hook_requests_total",
    &["hook", "result"],
    "Questions to hooks.",
    "`failed` and `paused`: the back end does not answer in time.",
);

pub(super) const WEBHOOK_EVENTS: Family = Family::counter(
    "fanfare_webhook_events_total",
    &["webhook", "result"],
    "Events that webhooks were told, and repetitions.",
    "`given_up` and `queue_full` are events that were lost: see the receiver's log.",
);

pub(super) const SOURCE_MESSAGES: Family = Family::counter(
    "fanfare_source_messages_total",
    &["source", "result"],
    "Messages of sources, and what kept them.",
    "The log says why messages were skipped.",
);

pub(super) const KEY_LOOKUPS: Family = Family::counter(
    "fanfare_key_lookups_total",
    &["store", "result"],
    "API keys that were looked up.",
    "Many that are not known: somebody tries keys.",
);

pub(super) const BRIDGE_MESSAGES: Family = Family::counter(
    "fanfare_bridge_messages_total",
    &["bridge", "result"],
    "Messages that the bridge was to tell Redis.",
    "`lost`: Redis was away for longer than `bridge.queue_max` lasts.",
);

pub(super) const CERTIFICATE_ORDERS: Family = Family::counter(
    "fanfare_tls_certificate_orders_total",
    &["name", "result"],
    "Certificates that were ordered by ACME: `issued`, or `failed`.",
    "The log has the certificate authority's own words, and when the next try is.",
);

pub(super) const API_REQUESTS: Family = Family::counter(
    "fanfare_api_requests_total",
    &["route", "method", "status"],
    "Requests to the admin listener.",
    "Many with the status 401: somebody tries tokens.",
);

pub(super) const SCHEMA_MISFITS: Family = Family::counter(
    "fanfare_schema_misfits_total",
    &["channel", "result"],
    "Payloads that did not fit the schema of their channel, by what was done with them.",
    "`let_through` is what `schema_mode = \"refuse\"` would refuse; a reload begins at 0.",
);

pub(super) const READY: Family =
    Family::gauge("fanfare_ready", &[], "Whether clients should be sent here.", "`GET /readyz` has the reasons.");

pub(super) const BUILD_INFO: Family = Family::gauge(
    "fanfare_build_info",
    &["version", "commit"],
    "The program; always 1.",
    "Shows which nodes run which version.",
);

pub(super) const LIMIT: Family =
    Family::gauge("fanfare_limit", &["limit"], "Limits as they are in force.", "Divide what is used by it.");

pub(super) const RUNTIME_TASKS: Family = Family::gauge(
    "fanfare_runtime_tasks",
    &[],
    "Tasks of the runtime: requests, connections before their upgrade, channels' code that waits.",
    "If it only grows, something waits for what does not come.",
);

pub(super) const CPU: Family = Family::counter(
    "process_cpu_seconds_total",
    &[],
    "Processor time of the process.",
    "Divided by the number of cores it is how busy the machine is with it.",
);

pub(super) const OPEN_FDS: Family =
    Family::gauge("process_open_fds", &[], "Open file descriptors.", "Each connection takes one.");

pub(super) const MAX_FDS: Family =
    Family::gauge("process_max_fds", &[], "How many file descriptors may be open.", "Raise it by `LimitNOFILE=`.");

pub(super) const RESIDENT_MEMORY: Family = Family::gauge(
    "process_resident_memory_bytes",
    &[],
    "Memory that the process has.",
    "See `fanfare_outbox_bytes` and `fanfare_history_bytes` for what takes it.",
);

pub(super) const THREADS: Family =
    Family::gauge("process_threads", &[], "Threads of the process.", "Each shard has one, and the runtime one a core.");

pub(super) const START_TIME: Family = Family::gauge(
    "process_start_time_seconds",
    &[],
    "When the process was started, since 1970.",
    "If it changes unasked, the process was restarted.",
);

pub(super) const MEMORY_LIMIT: Family = Family::gauge(
    "fanfare_memory_limit_bytes",
    &[],
    "What the control group of the process may have in memory; 0 without a limit.",
    "Beyond it the system ends the process.",
);

pub(super) const AUTH: Family = Family::counter(
    "fanfare_auth_total",
    &["auth", "result"],
    "Credentials that were judged: `ok`, `missing`, `expired`, `invalid`, or `unavailable`, where they could not be. Where an endpoint has \
     several authenticators, each that was asked counts.",
    "Many `expired`: clients do not renew theirs in time. `invalid`: the log says why. `unavailable`: see `fanfare_part_up`.",
);

pub(super) const HOOK_SECONDS: Family = Family::histogram(
    "fanfare_hook_seconds",
    &["hook"],
    "How long hooks took to answer, or not to.",
    "Clients wait as long for their connection, their join, or the answer to their message.",
);

pub(super) const WEBHOOK_QUEUED: Family = Family::gauge(
    "fanfare_webhook_queued_events",
    &["webhook"],
    "Events that webhooks have yet to tell.",
    "At `webhook.queue_max` events are lost: see why the receiver does not take them.",
);

pub(super) const API_REQUEST_SECONDS: Family = Family::histogram(
    "fanfare_api_request_seconds",
    &["route", "method"],
    "From a request to the admin listener to the head of its answer.",
    "A publish waits here for room and for the history.",
);

pub(super) const CONFIG_RELOADS: Family = Family::counter(
    "fanfare_config_reloads_total",
    &["result"],
    "How often the configuration was read again: `ok`, or `refused`.",
    "The log, and `fanfare reload`, say what is wrong with it.",
);

pub(super) const CONFIG_RELOADED: Family = Family::gauge(
    "fanfare_config_last_reload_successful",
    &[],
    "Whether the configuration was put in force when it was read last.",
    "If not, the old one is in force: `fanfare check`.",
);

pub(super) const CONFIG_RELOADED_AT: Family = Family::gauge(
    "fanfare_config_last_reload_success_timestamp_seconds",
    &[],
    "When the configuration that is in force was read, since 1970.",
    "Compare it with the age of the file.",
);

pub(super) const CERTIFICATE_ENDS: Family = Family::gauge(
    "fanfare_tls_certificate_not_after_timestamp_seconds",
    &["name"],
    "When the certificates that are served expire, since 1970.",
    "What renews them has to write the files of `[tls]`, which are looked at once a minute; for `[tls.acme]`, the log says why it was not renewed.",
);

pub(super) const SOURCE_LAG: Family = Family::gauge(
    "fanfare_source_lag_seconds",
    &["source"],
    "How old the last message of a source was when it was published. Only streams of Redis say when a message was made.",
    "If it grows, more is added than is published: see `fanfare_source_messages_total{result=\"waits\"}`.",
);

pub(super) const TRACE_SPANS: Family = Family::counter(
    "fanfare_trace_spans_total",
    &["result"],
    "Spans for the collector: `sent`, `dropped` (more than 2,048 waited), or `failed` (the collector has not taken them).",
    "`failed`: the log says why. `dropped`: trace less, see `traces.ratio`.",
);

pub(super) const ADMIN_LOGINS: Family = Family::counter(
    "fanfare_admin_logins_total",
    &["result"],
    "Sessions of the console: `ok`, `failed` (a wrong token), or `limited` (too many of these from an address).",
    "Many that failed: somebody tries tokens. The log has their addresses.",
);
