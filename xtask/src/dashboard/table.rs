//! What is on the dashboard: rows of panels, each with what Prometheus is asked.
//!
//! In an expression `$S` stands for the selector of the chosen job and instances, and `$R` for the window of a rate.

/// How a panel shows what it is told.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Shape {
    /// One number.
    Number,
    /// Lines over time.
    Lines,
    /// Buckets over time.
    Heat,
}

/// A panel.
pub(super) struct Panel {
    pub(super) title: &'static str,
    /// Grafana's name for it.
    pub(super) unit: &'static str,
    pub(super) shape: Shape,
    /// Expressions with what their lines are called.
    pub(super) queries: &'static [(&'static str, &'static str)],
}

const fn number(title: &'static str, unit: &'static str, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, unit, shape: Shape::Number, queries }
}

const fn lines(title: &'static str, unit: &'static str, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, unit, shape: Shape::Lines, queries }
}

const fn heat(title: &'static str, unit: &'static str, queries: &'static [(&'static str, &'static str)]) -> Panel {
    Panel { title, unit, shape: Shape::Heat, queries }
}

/// Drops that are a policy at work, or a client's mistake, and no loss.
const fn lost() -> &'static str {
    "sum(rate(fanfare_messages_dropped_total{$S,reason=~\"slow_consumer|waiting_full|local_queue_full|not_kept|publishing_full|unavailable|field_too_long\"}[$R]))"
}

/// The rows, from above.
pub(super) const ROWS: &[(&str, &[Panel])] = &[
    (
        "Overview",
        &[
            number("Ready", "bool_yes_no", &[("min(fanfare_ready{$S})", "")]),
            number("Sockets", "short", &[("sum(fanfare_sockets{$S})", "")]),
            number("Members", "short", &[("sum(fanfare_members{$S})", "")]),
            number("Deliveries", "cps", &[("sum(rate(fanfare_messages_delivered_total{$S}[$R]))", "")]),
            number(
                "Publish to write",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le) (rate(fanfare_publish_to_write_seconds_bucket{$S}[$R])))",
                    "",
                )],
            ),
            number("Lost messages", "cps", &[(lost(), "")]),
            number("Memory", "bytes", &[("sum(process_resident_memory_bytes{$S})", "")]),
            number("Busiest shard", "percentunit", &[("max(rate(fanfare_shard_busy_seconds_total{$S}[$R]))", "")]),
        ],
    ),
    (
        "Connections",
        &[
            lines("Sockets by transport", "short", &[("sum by (transport) (fanfare_sockets{$S})", "{{transport}}")]),
            lines(
                "Accepted and refused",
                "cps",
                &[
                    ("sum(rate(fanfare_connections_accepted_total{$S,listener=\"clients\"}[$R]))", "accepted"),
                    ("sum by (reason) (rate(fanfare_connections_refused_total{$S}[$R])) > 0", "refused: {{reason}}"),
                ],
            ),
            lines(
                "Closed",
                "cps",
                &[("sum by (reason) (rate(fanfare_sockets_closed_total{$S}[$R])) > 0", "{{reason}}")],
            ),
            lines(
                "Handshake",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le, transport) (rate(fanfare_handshake_seconds_bucket{$S}[$R])))",
                    "{{transport}}",
                )],
            ),
            lines(
                "Life of a socket",
                "s",
                &[(
                    "histogram_quantile(0.5, sum by (le) (rate(fanfare_socket_lifetime_seconds_bucket{$S}[$R])))",
                    "median",
                )],
            ),
            lines(
                "Connections by listener",
                "short",
                &[("sum by (listener) (fanfare_connections{$S})", "{{listener}}")],
            ),
        ],
    ),
    (
        "Channels",
        &[
            lines("Joins", "cps", &[("sum by (result) (rate(fanfare_joins_total{$S}[$R])) > 0", "{{result}}")]),
            lines("Members", "short", &[("sum by (channel) (fanfare_members{$S}) > 0", "{{channel}}")]),
            lines(
                "Published",
                "cps",
                &[(
                    "sum by (channel, source) (rate(fanfare_messages_published_total{$S}[$R])) > 0",
                    "{{channel}} {{source}}",
                )],
            ),
            lines(
                "Time of a join",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le, channel) (rate(fanfare_join_seconds_bucket{$S}[$R])))",
                    "{{channel}}",
                )],
            ),
            lines(
                "Crashes",
                "cps",
                &[("sum by (channel) (rate(fanfare_channel_crashes_total{$S}[$R]))", "{{channel}}")],
            ),
            lines(
                "Presences",
                "short",
                &[
                    ("sum(fanfare_presence_entries{$S})", "present"),
                    ("sum(rate(fanfare_presence_diffs_total{$S}[$R]))", "diffs a second"),
                ],
            ),
        ],
    ),
    (
        "Delivery",
        &[
            lines(
                "Messages",
                "cps",
                &[
                    ("sum(rate(fanfare_messages_received_total{$S}[$R]))", "received"),
                    ("sum(rate(fanfare_messages_published_total{$S}[$R]))", "published"),
                    ("sum(rate(fanfare_messages_delivered_total{$S}[$R]))", "delivered"),
                ],
            ),
            lines(
                "Messages in one system call",
                "short",
                &[(
                    "sum(rate(fanfare_messages_delivered_total{$S}[$R])) / sum(rate(fanfare_sends_total{$S}[$R]))",
                    "messages",
                )],
            ),
            heat(
                "Publish to write",
                "s",
                &[("sum by (le) (increase(fanfare_publish_to_write_seconds_bucket{$S}[$R]))", "{{le}}")],
            ),
            lines(
                "Bytes",
                "Bps",
                &[
                    ("sum by (transport) (rate(fanfare_sent_bytes_total{$S}[$R]))", "sent: {{transport}}"),
                    ("sum by (protocol) (rate(fanfare_received_bytes_total{$S}[$R])) > 0", "received: {{protocol}}"),
                ],
            ),
        ],
    ),
    (
        "Slow readers",
        &[
            lines("Sockets that wait", "short", &[("sum(fanfare_sockets_waiting{$S})", "sockets")]),
            lines("Bytes that wait", "bytes", &[("sum(fanfare_outbox_bytes{$S})", "bytes")]),
            lines(
                "Stalls",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le) (rate(fanfare_outbox_stall_seconds_bucket{$S}[$R])))",
                    "stall",
                )],
            ),
            lines(
                "Messages that gave way or were lost",
                "cps",
                &[("sum by (reason) (rate(fanfare_messages_dropped_total{$S}[$R])) > 0", "{{reason}}")],
            ),
            lines(
                "Closed with 1013",
                "cps",
                &[("sum(rate(fanfare_sockets_closed_total{$S,reason=\"slow_consumer\"}[$R]))", "slow_consumer")],
            ),
        ],
    ),
    (
        "History",
        &[
            lines("Topics", "short", &[("sum by (store) (fanfare_history_topics{$S})", "{{store}}")]),
            lines("Messages", "short", &[("sum by (store) (fanfare_history_messages{$S})", "{{store}}")]),
            lines("Bytes", "bytes", &[("sum by (store) (fanfare_history_bytes{$S})", "{{store}}")]),
            lines("Appends", "cps", &[("sum by (result) (rate(fanfare_history_appends_total{$S}[$R]))", "{{result}}")]),
            lines(
                "Time of an append",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le) (rate(fanfare_history_append_seconds_bucket{$S}[$R])))",
                    "append",
                )],
            ),
            lines("Resumes", "cps", &[("sum by (result) (rate(fanfare_resumes_total{$S}[$R]))", "{{result}}")]),
            lines(
                "Messages that were made up for",
                "cps",
                &[("sum(rate(fanfare_resumed_messages_total{$S}[$R]))", "messages")],
            ),
        ],
    ),
    (
        "Auth, hooks, webhooks, sources, broker",
        &[
            lines("Parts", "short", &[("fanfare_part_up{$S}", "{{kind}} {{name}}")]),
            lines(
                "Credentials",
                "cps",
                &[("sum by (auth, result) (rate(fanfare_auth_total{$S}[$R])) > 0", "{{auth}}: {{result}}")],
            ),
            lines(
                "Hooks",
                "cps",
                &[("sum by (hook, result) (rate(fanfare_hook_requests_total{$S}[$R])) > 0", "{{hook}}: {{result}}")],
            ),
            lines(
                "Time of a hook",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le, hook) (rate(fanfare_hook_seconds_bucket{$S}[$R])))",
                    "{{hook}}",
                )],
            ),
            lines(
                "Webhooks",
                "cps",
                &[(
                    "sum by (webhook, result) (rate(fanfare_webhook_events_total{$S}[$R])) > 0",
                    "{{webhook}}: {{result}}",
                )],
            ),
            lines(
                "Events that wait",
                "short",
                &[("sum by (webhook) (fanfare_webhook_queued_events{$S})", "{{webhook}}")],
            ),
            lines(
                "Sources",
                "cps",
                &[(
                    "sum by (source, result) (rate(fanfare_source_messages_total{$S}[$R])) > 0",
                    "{{source}}: {{result}}",
                )],
            ),
            lines(
                "Broker",
                "s",
                &[
                    ("max by (instance, link) (fanfare_broker_lag_seconds{$S})", "{{instance}} {{link}}"),
                    (
                        "max by (instance, link) (fanfare_broker_heard_age_seconds{$S})",
                        "{{instance}} {{link}}: last heard",
                    ),
                ],
            ),
            lines(
                "Broker: published",
                "cps",
                &[("sum by (result) (rate(fanfare_broker_publishes_total{$S}[$R]))", "{{result}}")],
            ),
            lines(
                "Broker: gaps, losses, repairs",
                "cps",
                &[("sum by (event) (rate(fanfare_broker_events_total{$S}[$R])) > 0", "{{event}}")],
            ),
        ],
    ),
    (
        "Limits",
        &[
            lines(
                "Limited",
                "cps",
                &[("sum by (limit, action) (rate(fanfare_limited_total{$S}[$R])) > 0", "{{limit}}: {{action}}")],
            ),
            lines(
                "Use of limits",
                "percentunit",
                &[
                    (
                        "sum by (instance) (fanfare_connections{$S,listener=\"clients\"}) / max by (instance) (fanfare_limit{$S,limit=\"connections_max\"})",
                        "{{instance}}: connections_max",
                    ),
                    (
                        "sum by (instance) (fanfare_history_bytes{$S}) / max by (instance) (fanfare_limit{$S,limit=\"history_bytes_max\"})",
                        "{{instance}}: history_bytes_max",
                    ),
                    (
                        "sum by (instance) (fanfare_history_topics{$S}) / max by (instance) (fanfare_limit{$S,limit=\"history_topics_max\"})",
                        "{{instance}}: history_topics_max",
                    ),
                    ("process_open_fds{$S} / process_max_fds{$S}", "{{instance}}: descriptors"),
                ],
            ),
            lines(
                "Tenants: sockets",
                "short",
                &[("topk(10, sum by (tenant) (fanfare_tenant_sockets{$S}))", "{{tenant}}")],
            ),
            lines(
                "Tenants: messages",
                "cps",
                &[(
                    "topk(10, sum by (tenant, direction) (rate(fanfare_tenant_messages_total{$S}[$R])))",
                    "{{tenant}}: {{direction}}",
                )],
            ),
            lines(
                "HTTP API",
                "cps",
                &[("sum by (route, status) (rate(fanfare_api_requests_total{$S}[$R]))", "{{route}} {{status}}")],
            ),
            lines(
                "Time of a request to it",
                "s",
                &[(
                    "histogram_quantile($quantile, sum by (le, route) (rate(fanfare_api_request_seconds_bucket{$S}[$R])))",
                    "{{route}}",
                )],
            ),
        ],
    ),
    (
        "Shards",
        &[
            lines(
                "Busy",
                "percentunit",
                &[("rate(fanfare_shard_busy_seconds_total{$S}[$R])", "{{instance}} {{shard}}")],
            ),
            lines("Age of the turn", "s", &[("fanfare_shard_turn_age_seconds{$S}", "{{instance}} {{shard}}")]),
            lines("What waits for it", "short", &[("fanfare_shard_mailbox_commands{$S}", "{{instance}} {{shard}}")]),
            lines("Sockets", "short", &[("fanfare_shard_sockets{$S}", "{{instance}} {{shard}}")]),
        ],
    ),
    (
        "Process",
        &[
            lines("CPU", "percentunit", &[("rate(process_cpu_seconds_total{$S}[$R])", "{{instance}}")]),
            lines(
                "Memory",
                "bytes",
                &[
                    ("process_resident_memory_bytes{$S}", "{{instance}}"),
                    ("fanfare_memory_limit_bytes{$S} > 0", "{{instance}}: limit"),
                ],
            ),
            lines("Descriptors", "short", &[("process_open_fds{$S}", "{{instance}}")]),
            lines("Threads", "short", &[("process_threads{$S}", "{{instance}}")]),
            lines(
                "Tasks and callbacks",
                "short",
                &[
                    ("fanfare_runtime_tasks{$S}", "{{instance}}: tasks"),
                    ("fanfare_callbacks_running{$S}", "{{instance}}: callbacks"),
                ],
            ),
            lines(
                "Certificates end in",
                "s",
                &[("fanfare_tls_certificate_not_after_timestamp_seconds{$S} - time()", "{{instance}} {{name}}")],
            ),
        ],
    ),
];
