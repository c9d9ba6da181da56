//! What to do about a fact: for whoever runs the server.

use fanfare::PastFact;

/// One sentence that names the setting or the place to look at. `None` where nothing has to be done.
pub(super) fn next_step(fact: &PastFact) -> Option<&'static str> {
    Some(match (fact.kind, fact.reason, fact.code) {
        ("credential_refused", ..) => "look at the client's new credential: the detail says what is wrong with it",
        ("misread", ..) => {
            "look at what the proxy sends: the detail has it; `trusted_proxies` and `address_from` say what is read"
        }
        ("refused", "refused", _) => {
            "let the proxy send the PROXY header, and list its address in `trusted_proxies`, or change `address_from`"
        }
        (_, "refused_connect", Some(503)) => {
            "look at /api/health and the log: a hook, a key set or a database that is asked does not answer"
        }
        (_, "refused_request", Some(400)) => "look at the client: the detail says what is wrong with its request",
        (_, "refused_request", Some(405)) => "let the client use one of the methods that the detail names",
        (_, "refused_request", Some(408)) => "look at the client's network, or raise limits.body_timeout",
        (_, "refused_request", Some(413)) => {
            "send less in one request, or raise limits.longpoll_body_size_max or limits.longpoll_messages_max"
        }
        (_, "refused_request", Some(503)) => "try again later, or raise limits.bodies_bytes_max",
        (_, "refused_handshake", Some(405)) => "let the client use one of the methods that the detail names",
        ("push_refused", "publishing_full", _) => "publish less at a time, or raise limits.publishing_waiting_max",
        (_, reason, _) => return by_reason(reason),
    })
}

fn by_reason(reason: &str) -> Option<&'static str> {
    Some(match reason {
        "refused_origin" => "if pages of that origin may connect, add it to the endpoint's `origins`",
        "refused_vsn" => "update the client: it has to ask for vsn=2.0.0",
        "refused_subprotocol" => "let the client offer one of the subprotocols that the detail names, or none",
        "refused_token" => "send the token base64-encoded behind its prefix in Sec-WebSocket-Protocol, or another way",
        "refused_connect" => "look at the client's credential: the detail says what is wrong with it",
        "refused_handshake" => "connect with a WebSocket client, and let proxies pass the header Upgrade on",
        "refused_limit" => {
            "raise the setting that the detail names (in [limits], or in [admin] or [metrics] for their listeners), or add a server"
        }
        "message_rate_refused" | "message_rate_paced" | "message_rate_closed" => {
            "let the client send less, or raise limits.message_rate or limits.message_burst"
        }
        "bytes_rate_refused" | "bytes_rate_paced" | "bytes_rate_closed" => {
            "let the client send less, or raise limits.bytes_rate"
        }
        "user_message_rate_refused" | "user_message_rate_paced" | "user_message_rate_closed" => {
            "let the user's clients send less, or raise limits.user_message_rate"
        }
        "publish_rate_refused" => {
            "let the members of the topic send less, or raise the publish_rate of its [[channel]]"
        }
        "refused_address_rate" => {
            "raise limits.accept_rate_per_address; if the address is a proxy's, set trusted_proxies and address_from"
        }
        "refused_penalty" => {
            "see why its socket was closed (`fanfare why --kind closed`) and let the client send less; limits.penalty is how long it has to wait"
        }
        "refused_quota" | "tenant_joins_max_refused" => {
            "let the tenant's clients connect and join less, or raise what the detail names in its [tenant.NAME] or in [tenant]"
        }
        "tenant_messages_per_s_refused" | "tenant_messages_per_s_paced" | "tenant_messages_per_s_closed" => {
            "let the tenant's clients send less, or raise messages_per_s in its [tenant.NAME] or in [tenant]"
        }
        "tenant_publishes_per_s_refused" | "tenant_publishes_per_s_paced" | "tenant_publishes_per_s_closed" => {
            "let the tenant publish less, or raise publishes_per_s in its [tenant.NAME] or in [tenant]"
        }
        "tenant_bytes_out_per_day_refused" | "tenant_bytes_out_per_day_closed" | "over_quota" => {
            "wait for the next day (UTC), or raise what the detail names in the tenant's [tenant.NAME] or in [tenant]"
        }
        "admin_publish_rate_refused" => {
            "let the back end publish less, or wait as Retry-After says, or raise admin.publish_rate"
        }
        "refused_user" | "displaced" => "let the user close other connections, or raise limits.sockets_per_user_max",
        "join_rate_refused" => {
            "let the client wait as retry_after_ms says, or raise limits.join_rate or limits.join_burst"
        }
        "over_rate" => "look at the client: the detail names the rate and its setting in [limits]",
        "refused_rate" => {
            "raise limits.accept_rate if the server can take more, or let clients wait as Retry-After says"
        }
        "refused_drain" => "nothing: the server is shutting down, and clients connect to another or the next one",
        "connect_panicked" => "look in the log for the panic: the code that decides who may connect has a fault",
        "refused_topic_taken" => "end the publisher that has the topic, or take another topic",
        "refused_topic_unknown" => "start the topic with a publisher first",
        "refused_topic_unavailable" => "look at the log for the connection to the broker; clients may try again",
        "refused_request" => "look at the client or the proxy before the server: its requests are not complete",
        "refused_path" => "connect to the path of an [[endpoint]], or add one",
        "refused_ended" => "look at the system's log: it gave no random bytes, or the process was ending",
        "no_session" => "nothing, if it is rare: else let a balancer send a client to the same server each time",
        "refused" => "look at the rules of the channel that the detail names (join, publish, events)",
        "disconnect" => "nothing: somebody asked for it, by the API or by revoking a key",
        "expired" => "let the client renew its credential before it expires",
        "idle" => "let the client send heartbeats more often than idle_timeout, or raise it",
        "protocol_error" | "undecodable" | "malformed_frame" => {
            "look at the client: it speaks another protocol than the endpoint"
        }
        "too_large" => "send smaller messages, or raise limits.message_size_max",
        "drain" => "nothing: the server was shutting down, and clients connect again",
        "slow_consumer" => {
            "give the topic a delivery policy for slow readers (slow in its [[channel]]), or raise limits.outbox_bytes_max"
        }
        "outboxes_full" => {
            "find out why so many do not read (fanfare top), raise limits.outboxes_bytes_max, or lower limits.outbox_bytes_max"
        }
        "inboxes_full" => "raise limits.inboxes_bytes_max, or lower limits.message_size_max",
        "unauthorized" => "let the client send its credential right after it has connected",
        "topic_ended" | "replaced" => "nothing: the publisher has gone, or has connected again",
        "alone" => "look at the log for the connection to the broker: publishers connect again to another server",
        "application" => "look at the client: the code and the detail say what it sent",
        "history_unavailable" => "look at /api/health and the log: the history cannot be read",
        "unpolled" => "nothing, if it is rare: the client has gone without saying so",
        "crashed" => "look in the log for the panic or error of the channel",
        "unmatched_topic" => {
            "let a [[channel]] fit the topic, or correct the topic in the client; a push needs a join before it"
        }
        "not_a_position" => "give back a position as the server sent it, or 0:0",
        "too_many" => "leave topics, or raise limits.joins_max",
        "bad_topic" => "take a topic of 1 to 255 bytes without control characters",
        "stale_join_ref" => "nothing, if it is rare: else let the client push on the join that it has made last",
        "waiting_full" => "make the channel's code faster, push less at a time, or raise limits.waiting_frames_max",
        "drop_oldest" | "latest" | "resync" => {
            "nothing, if readers may miss messages: else widen what may wait, or publish less"
        }
        "local_queue_full" => "take messages from the subscriber faster",
        "not_allowed" => "give the user the right, or do not show that action to it",
        "payload_too_large" => {
            "let the client send less than the detail allows: in parts, or only where the payload can be fetched"
        }
        "source_skipped" => {
            "let whoever writes to the source send what the detail allows, or raise the setting that it names; `park` keeps such messages"
        }
        "not_kept" => "look at the log and the disk: the history could not be written",
        "publishing_full" => "publish less at a time, or raise publishing_waiting_max",
        "unavailable" => "look at /api/health: something that the channel needs does not answer",
        "full" => "raise presence_members_max or presence_bytes_max of the [[channel]]",
        "unknown" | "gap" | "lost" => "look at the broker: its log and the link to it",
        _ => return None,
    })
}
