//! `[[webhook]]`: a back end that is told.

use std::path::PathBuf;
use std::str::FromStr;

use fanfare::Pattern;

use super::channel::TopicPattern;
use super::secret::Secret;
use super::section::{Form, section};
use super::url::Url;
use super::value::{Count, OneOrMore, Span, Text, choice};

section! {
    /// A back end that is told over HTTP when topics get their first member or lose their last, and when users come and go. The
    /// nodes of a cluster tell it as one. What it gets, with examples: `docs/hooks.md`.
    struct Webhook: "webhook", Form::List;
    keys {
        /// What it is called in the log and the health report. Left out: its number in the file, from 1. Nodes of a cluster tell
        /// as one for those of one name.
        name: Option<String> = "",
        /// Where events are posted. Redirects are not followed.
        url: Url = "" => Once,
        /// Whether `url` may be an `http://` address of another machine, where whoever is on the way can read what is sent.
        allow_http: bool = "false" => Once,
        /// What it is told of.
        events: OneOrMore<EventKind> = "[\"topic_occupied\", \"topic_vacated\", \"user_online\", \"user_offline\"]",
        /// The topics that it is told of.
        topics: OneOrMore<TopicPattern> = "\"*\"",
        /// Who a socket's user is: its id (`socket_id` of the endpoint), or a claim. The first that exists counts; sockets
        /// without any are not reported.
        user: OneOrMore<UserName> = "[\"id\", \"claim:sub\"]",
        /// The environment variable that holds the secret with which requests are signed. At most one of the three secret
        /// keys is given; without any, requests are not signed. A secret that begins with `whsec_` is a key in base64.
        secret_env: Option<String> = "" => Once,
        /// The file that holds the secret. A newline at its end does not count.
        secret_file: Option<PathBuf> = "" => Once,
        /// The secret itself. Better kept out of the file: see the two keys above.
        secret: Option<Secret> = "" => Once,
        /// How long a topic must stay empty, or a user away, until that is told. Who is back sooner was never away.
        grace: Span<0, 3_600_000> = "\"3s\"",
        /// How long the answer to one request may take.
        timeout: Span<10, 60_000> = "\"5s\"" => Once,
        /// How many events one request may carry.
        batch_max: Count<1, 10_000> = "100" => Once,
        /// How many requests may be under way. The events of one topic or user are never in two at a time.
        concurrency_max: Count<1, 1_000> = "4" => Once,
        /// How often a request that failed is repeated before its events are dropped.
        retry_max: Count<0, 1_000> = "8" => Once,
        /// How long to wait before the first repetition; each next wait is twice as long, up to a minute, and all are up to
        /// half longer or shorter by chance.
        retry_wait: Span<10, 60_000> = "\"1s\"" => Once,
        /// How many events may wait to be sent. What comes beyond is dropped. So many topics and users, too, may be within
        /// their `grace`; beyond that it is cut short for those who left first.
        queue_max: Count<1, 10_000_000> = "100000",
    }
    later []
}

choice! {
    /// What a webhook is told of.
    pub(crate) enum EventKind {
        /// A topic has its first member.
        TopicOccupied = "topic_occupied",
        /// It has lost its last.
        TopicVacated = "topic_vacated",
        /// A user has a first socket.
        UserOnline = "user_online",
        /// The last one has gone.
        UserOffline = "user_offline",
    } later []
}

/// Where the name of a socket's user comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum UserName {
    /// The socket's id.
    Id,
    /// A claim.
    Claim(String),
}

impl Text for UserName {
    fn accepts() -> String {
        r#""id" or "claim:NAME""#.into()
    }
}

impl FromStr for UserName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            None if text == "id" => Ok(Self::Id),
            _ => Err(String::new()),
        }
    }
}

impl Webhook {
    /// Whether it is told of these.
    pub(crate) fn wants(&self, kind: EventKind) -> bool {
        self.events.0.contains(&kind)
    }

    /// The patterns of the topics that it is told of.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.topics.0.iter().map(|TopicPattern(pattern)| pattern)
    }
}
