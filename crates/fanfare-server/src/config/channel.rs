//! `[[channel]]`: what happens on the topics of a pattern, without any code.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::Arc;

use fanfare::{Pattern, Slow};
use fanfare_proto::event::{DISCONNECT, EVENT_SIZE_MAX, Reserved};
use toml::de::DeValue;

use super::history::Kept;
use super::problem::Problems;
use super::rule::Rule;
use super::section::{Form, section};
use super::value::{Count, Fault, OneOrMore, Raw, Setting, Size, Text, any_of, choice, refused};
use crate::schema::Schema;

section! {
    /// What happens on the topics of a pattern. The first `[[channel]]` that fits a topic counts; a join on any other
    /// topic is refused with `unmatched topic`. A message that a member may publish goes to the topic's members as it
    /// came.
    struct Channel: "channel", Form::List => Connect;
    keys {
        /// Settings to start from, which the other keys change. `lobby`: everybody joins `room:lobby` and publishes
        /// `new_msg` there, and all see who is present.
        preset: Option<Preset> = "",
        /// The topic, or a pattern that ends in `*`, or several of them. `*` alone is every topic but those of `hub` and
        /// `bullet` endpoints, which have to be named. Must be given unless a preset does. Clients of Phoenix cannot join
        /// `phoenix`, the topic of their heartbeats; a room can have this name.
        topic: Option<OneOrMore<TopicPattern>> = "" => Connect,
        /// Who may join. `hook:NAME` asks your back end (`[hook.NAME]`) if no other rule of the list allows it. The default is `authenticated`, with the preset `lobby` it is `open`.
        join: Option<OneOrMore<Rule>> = "" => Join,
        /// What somebody who may not join is told as the reason.
        refused: String = "\"unauthorized\"" => Join,
        /// Who of the members may publish. The default is `nobody`: messages come by the HTTP API only. With the preset
        /// `lobby` it is `open`.
        publish: Option<OneOrMore<Rule>> = "" => Join,
        /// The events that may be published; others are answered with an error. Left out: every event but the
        /// protocol's own and `disconnect`, which closes sockets.
        events: Option<OneOrMore<EventName>> = "" => Join,
        /// Who gets what a member publishes.
        broadcast: Audience = "\"all\"" => Join,
        /// Whether a publish is answered with `ok`. Refused ones are answered with an error always.
        reply: bool = "true" => Join,
        /// JSON Schemas of what may be sent: a table of events and the files of their schemas, such as
        /// `{ new_msg = "schemas/new_msg.json" }`. `join` is the payload of the join. A payload that does not fit is answered with an error that
        /// names the place and what the schema wants there. See [contracts.md](contracts.md).
        schemas: Option<Schemas> = "" => Join,
        /// What happens to a payload that does not fit its schema: `refuse` answers it with an error, `report` lets it through and
        /// writes a line to the log.
        schema_mode: SchemaMode = "\"refuse\"" => Join,
        /// The longest payload that may be published. Left out: what fits into `limits.message_size_max`.
        payload_size_max: Option<Size<2, 1_000_000_000>> = "" => Join,
        /// How many messages the members of one topic may publish in it a second, all together, on this server, and twice as many at once when
        /// it was quiet. Beyond it a message is answered with the error `rate limited` and `retry_after_ms`. Left out: no limit.
        publish_rate: Option<Count<1, 1_000_000>> = "" => Connect,
        /// Whether members are tracked. With `true`, each gets `presence_state` after its join, and all get `presence_diff` when
        /// somebody comes or goes: that is for topics with up to some thousands of members, since each is told of each other.
        /// With `"count"`, they are told how many there are, by `presence_count` with `{"count": 2}`, once a second at most. The
        /// default is `false`, with the preset `lobby` it is `true`.
        presence: Option<Presence> = "",
        /// How many may be tracked in a topic. Who joins beyond that is a member that the others do not see: the counter
        /// `presence`, `full` counts them. Left out: 20,000, or 1,000,000 with `presence = "count"`.
        presence_members_max: Option<Count<1, 100_000_000>> = "",
        /// How many bytes all that is tracked in a topic may have, about as `presence_state` has them; beyond that it is the
        /// same. Should be well below `limits.outbox_bytes_max`, since each member is sent all of it. Left out: 4 MiB, or 128 MiB
        /// with `presence = "count"`.
        presence_bytes_max: Option<Size<1_000, 10_000_000_000>> = "",
        /// What a member is called in the presence: a claim, else a string in the join's payload, else (`unique`) a
        /// name that is made up. The first that exists counts; the last resort is always a name that is made up.
        presence_key: OneOrMore<PresenceKey> = "[\"claim:sub\", \"param:name\"]" => Join,
        /// How much of each topic is kept, so that clients that come back get what they missed: a table such as
        /// `{ messages = 100, bytes = "1MiB", ttl = "10m" }`, where what is left out is as shown. The newest message is kept
        /// whatever its size: one that is larger than `bytes` is kept alone. Left out: nothing is kept.
        history: Option<Kept> = "" => Join,
        /// How many of the newest kept messages the reply to a join has, as its member `messages`. Left out: it has no such
        /// member. Needs `history`.
        catch_up: Option<Count<1, 10_000>> = "" => Join,
        /// What happens to messages that wait for a member that reads too slowly, when `limits.outbox_frames_max` or
        /// `limits.outbox_bytes_max` is reached: `disconnect` closes its socket with 1013, `drop_oldest` drops the oldest,
        /// `latest` keeps the newest of each event only, from the first that has to wait, and `resync` drops all until the
        /// member has caught up. See [delivery.md](delivery.md).
        slow: SlowName = "\"disconnect\"",
        /// With `slow = "latest"`: a member of the payload, such as `symbol`, by whose value messages are told apart beside
        /// their event.
        latest_key: Option<String> = "",
        /// Whether clients of Phoenix that ask for it, with `"delta": true` in the payload of their join, are told of a message only what
        /// is different from the one before it, where that is less than half of it. They need `delta` of the npm package
        /// `fanfare-resume`: see [delivery.md](delivery.md#differences).
        delta: bool = "false",
        /// With `delta`: a member of the payload, such as `symbol`, by which messages are told apart beside their event. The one before
        /// is then the last one with the same string there.
        delta_key: Option<String> = "",
        /// Whether members are told which node they are on, for a cluster: the name of the node (`cluster.name`) is then the member
        /// `node` of the reply to a join, unless a hook gives the reply, and of what presence says of a member.
        show_node: bool = "false",
        /// Whether clients decide by the member `traceparent` of a join's payload whether the join is [traced](operations.md#traces), and in
        /// which trace. For clients of your own: strangers could fill the collector.
        trace_clients: bool = "false",
        /// For `supabase`: whether this is about the private channels of these names, which are others than the public ones.
        /// Nobody joins a private channel without a `[[channel]]`, and everybody with a valid key a public one.
        private: bool = "false",
        /// For `supabase`: who gets the broadcasts of a channel. These four are rules like those of `join`, which is short for
        /// all of them. Who may neither get broadcasts nor see who is there cannot join.
        broadcast_read: Option<OneOrMore<Rule>> = "" => Join,
        /// For `supabase`: who may send broadcasts.
        broadcast_write: Option<OneOrMore<Rule>> = "" => Join,
        /// For `supabase`: who sees who is there.
        presence_read: Option<OneOrMore<Rule>> = "" => Join,
        /// For `supabase`: who may be shown. `presence_key=claim:sub` allows only the key that is this claim.
        presence_write: Option<OneOrMore<Rule>> = "" => Join,
        /// For `supabase`: how many kept messages a join can ask for. The largest of all channels counts. Left out: 25.
        replay_max: Option<Count<1, 10_000>> = "" => Connect,
    }
    later ["shards"]
}

choice! {
    /// What happens to a payload that does not fit its schema.
    pub(crate) enum SchemaMode {
        /// It is not taken.
        Refuse = "refuse",
        /// It is taken, and the log says what is wrong with it.
        Report = "report",
    } later []
}

/// The name under which the schema of a join's payload stands.
pub(crate) const JOIN: &str = "join";

/// The schemas of payloads, by event.
#[derive(Debug, Clone)]
pub(crate) struct Schemas {
    pub(crate) files: BTreeMap<String, PathBuf>,
    /// Those that were read from the files.
    pub(crate) opened: BTreeMap<String, Arc<Schema>>,
}

impl Setting for Schemas {
    fn accepts() -> String {
        r#"a table of events and files such as { join = "schemas/join.json", new_msg = "schemas/new_msg.json" }"#.into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let DeValue::Table(table) = raw.get_ref() else { return Err(refused::<Self>(raw)) };
        let (mut files, mut faults) = (BTreeMap::new(), Vec::new());
        for (name, file) in table.iter() {
            if let Err(text) = name.get_ref().parse::<EventName>() {
                faults.push(Fault { at: name.span(), text });
            }
            match PathBuf::read(file) {
                Ok(file) => drop(files.insert(name.get_ref().to_string(), file)),
                Err(mut more) => faults.append(&mut more),
            }
        }
        match (faults.is_empty(), files.is_empty()) {
            (false, _) => Err(faults),
            (true, true) => Err(refused::<Self>(raw)),
            (true, false) => Ok(Self { files, opened: BTreeMap::new() }),
        }
    }
}

choice! {
    /// Settings to start from.
    pub(crate) enum Preset {
        /// The open lobby of the tutorials.
        Lobby = "lobby",
    } later []
}

choice! {
    /// Who gets what a member publishes.
    pub(crate) enum Audience {
        /// Every member, the sender too.
        All = "all",
        /// Every member but the sender.
        Others = "others",
    } later []
}

/// What happens to slow readers; the key of `latest` is a setting of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SlowName(pub(crate) Slow);

impl Text for SlowName {
    fn accepts() -> String {
        any_of(&Slow::ALL.each_ref().map(Slow::name))
    }
}

impl FromStr for SlowName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Slow::ALL.into_iter().find(|slow| slow.name() == text).map(Self).ok_or_else(String::new)
    }
}

/// Whether members are tracked, and what they are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Presence {
    /// They are not tracked.
    Off,
    /// They are told who is there.
    Roster,
    /// They are told how many there are.
    Count,
}

impl Setting for Presence {
    fn accepts() -> String {
        "`true`, `false` or \"count\"".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match (raw.get_ref().as_bool(), raw.get_ref().as_str()) {
            (Some(true), _) => Ok(Presence::Roster),
            (Some(false), _) => Ok(Presence::Off),
            (_, Some("count")) => Ok(Presence::Count),
            _ => Err(refused::<Self>(raw)),
        }
    }
}

/// A topic or a pattern that ends in `*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TopicPattern(pub(crate) Pattern);

impl Text for TopicPattern {
    fn accepts() -> String {
        r#"a topic such as "lobby", or a pattern that ends in a star such as "room:*""#.into()
    }
}

impl FromStr for TopicPattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Pattern::parse(text).map(Self).map_err(|error| error.to_string())
    }
}

/// An event that may be published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventName(pub(crate) String);

impl Text for EventName {
    fn accepts() -> String {
        r#"the name of an event such as "new_msg""#.into()
    }
}

impl FromStr for EventName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.len() > EVENT_SIZE_MAX {
            return Err(format!("an event has 1 to {EVENT_SIZE_MAX} bytes"));
        }
        if Reserved::of(text).is_some_and(Reserved::concerns_clients) {
            return Err("the protocol keeps events that begin with phx_ or presence_ for itself".into());
        }
        Ok(Self(text.to_owned()))
    }
}

/// Where a member's name in the presence comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PresenceKey {
    /// A claim of its token.
    Claim(String),
    /// A string in the payload of its join.
    Param(String),
    /// Made up.
    Unique,
}

impl Text for PresenceKey {
    fn accepts() -> String {
        r#""claim:NAME", "param:NAME" or "unique""#.into()
    }
}

impl FromStr for PresenceKey {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some(("claim", name)) if !name.is_empty() => Ok(Self::Claim(name.to_owned())),
            Some(("param", name)) if !name.is_empty() => Ok(Self::Param(name.to_owned())),
            None if text == "unique" => Ok(Self::Unique),
            _ => Err(String::new()),
        }
    }
}

impl Channel {
    /// Fills what the preset gives and what the defaults are, and checks what concerns more than one key.
    pub(crate) fn complete(&mut self, problems: &mut Problems) {
        self.check_realtime(problems);
        let is_lobby = self.preset == Some(Preset::Lobby);
        let one = |rule| OneOrMore(vec![rule]);
        self.join.get_or_insert_with(|| one(if is_lobby { Rule::Open } else { Rule::Authenticated }));
        self.publish.get_or_insert_with(|| one(if is_lobby { Rule::Open } else { Rule::Nobody }));
        self.presence.get_or_insert(if is_lobby { Presence::Roster } else { Presence::Off });
        if is_lobby {
            let lobby = Pattern::parse("room:lobby").expect("the lobby's topic is one");
            self.topic.get_or_insert_with(|| OneOrMore(vec![TopicPattern(lobby)]));
            self.events.get_or_insert_with(|| OneOrMore(vec![EventName("new_msg".into())]));
        }
        if self.topic.is_none() {
            self.places.problem(
                problems,
                "topic",
                format!("is missing: it takes {}", <TopicPattern as Text>::accepts()),
            );
        }
        if self.catch_up.is_some() && self.history.is_none() {
            let text = "there is nothing to catch up with: give the channel a history as well";
            self.places.problem(problems, "catch_up", text);
        }
        if self.delta_key.is_some() && !self.delta {
            self.places.problem(problems, "delta_key", "has no effect without delta = true");
        }
        if self.latest_key.is_some() && !matches!(self.slow.0, Slow::Latest { .. }) {
            self.places.problem(problems, "latest_key", "has no effect without slow = \"latest\"");
        }
        self.check_suffixes(problems);
        self.check_events(problems);
        self.check_schemas(problems);
    }

    /// What happens to messages that wait for slow readers.
    pub(crate) fn slow(&self) -> Slow {
        match &self.slow.0 {
            Slow::Latest { .. } => Slow::Latest { key: self.latest_key.clone() },
            slow => slow.clone(),
        }
    }

    /// The patterns; a complete channel has at least one.
    pub(crate) fn patterns(&self) -> impl Iterator<Item = &Pattern> {
        self.topic.iter().flat_map(|OneOrMore(patterns)| patterns.iter().map(|TopicPattern(pattern)| pattern))
    }

    /// The rules of all policies, with the key that they stand in.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (&'static str, &Rule)> {
        fn of<'r>(
            key: &'static str,
            rules: &'r Option<OneOrMore<Rule>>,
        ) -> impl Iterator<Item = (&'static str, &'r Rule)> {
            rules.iter().flat_map(|OneOrMore(rules)| rules).map(move |rule| (key, rule))
        }
        of("join", &self.join)
            .chain(of("publish", &self.publish))
            .chain(of("broadcast_read", &self.broadcast_read))
            .chain(of("broadcast_write", &self.broadcast_write))
            .chain(of("presence_read", &self.presence_read))
            .chain(of("presence_write", &self.presence_write))
    }

    /// A schema for an event that nobody may publish is most likely for one that is spelled otherwise.
    fn check_schemas(&self, problems: &mut Problems) {
        let Some(Schemas { files, .. }) = &self.schemas else {
            if self.places.is_given("schema_mode") {
                self.places.problem(problems, "schema_mode", "has no effect without `schemas`");
            }
            return;
        };
        if self.is_realtime() {
            self.places.problem(problems, "schemas", "is not for the topics of Supabase's clients");
        }
        let Some(events) = &self.events else { return };
        for name in files.keys().filter(|name| *name != JOIN) {
            if !events.0.iter().any(|EventName(event)| event == name) {
                let text =
                    format!("{name:?} is not among the `events` of the channel: add it there, or remove its schema");
                self.places.problem(problems, "schemas", text);
            }
        }
    }

    fn check_events(&self, problems: &mut Problems) {
        let mut events = self.events.iter().flat_map(|OneOrMore(events)| events);
        if events.any(|EventName(name)| name == DISCONNECT) {
            let text = format!("{DISCONNECT:?} closes the sockets whose id is the topic: clients cannot publish it");
            self.places.problem(problems, "events", text);
        }
    }

    fn check_suffixes(&self, problems: &mut Problems) {
        let exact: Vec<String> = self.patterns().map(Pattern::to_string).filter(|text| !text.ends_with('*')).collect();
        let Some(topic) = exact.first() else { return };
        for (key, _) in self.rules().filter(|(_, rule)| rule.uses_suffix()) {
            let text = format!("{{suffix}} needs a pattern that ends in `*`, but the topic \"{topic}\" does not");
            self.places.problem(problems, key, text);
        }
    }
}
