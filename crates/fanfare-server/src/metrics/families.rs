//! The table of the server's own metrics, beside those of the engine: names, labels, what each counts, and what to do about it.

use fanfare::metrics::Family;

/// All of them, in the order in which they are written.
#[cfg(test)]
pub(crate) const FAMILIES: &[Family] = &[
    PART_UP,
    HOOK_REQUESTS,
    WEBHOOK_EVENTS,
    SOURCE_MESSAGES,
    KEY_LOOKUPS,
    BRIDGE_MESSAGES,
    API_REQUESTS,
    SCHEMA_MISFITS,
    READY,
    BUILD_INFO,
    LIMIT,
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
