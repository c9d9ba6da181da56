//! What topics keep: `[history]`, and the key `history` of a `[[channel]]`.

use std::path::PathBuf;

use fanfare::{HistoryLimits, HistorySync, Retention};
use toml::de::DeValue;

use super::problem::Problems;
use super::section::{Form, section};
use super::value::{Count, Fault, Raw, Setting, Size, Span, refused};

section! {
    /// What the histories of all topics may take together. Which topics keep something is said by the key `history` of their
    /// `[[channel]]`.
    struct History: "history", Form::Table;
    keys {
        /// The directory where what is kept outlives the server; it is made if it is not there, and is this server's alone. Left out:
        /// histories end with the process.
        dir: Option<PathBuf> = "",
        /// When messages in the directory are safe from a power cut: `always` before they are acknowledged, after a duration such
        /// as `1s`, or `never` but when the operating system likes it. Whichever it is, they outlive the process.
        sync: Sync = "\"1s\"",
        /// The bytes of all kept messages. Beyond it the topics to which nobody has published for the longest time lose
        /// theirs, and clients that come back to them are told that there is a gap. Only the newest message of the topic that was
        /// published to last stays in any case, alone if it is larger than this.
        bytes_max: Size<1_000_000, 1_000_000_000_000> = "\"256MiB\"",
        /// How many topics are remembered, with or without messages. The same happens beyond it. The names of as many
        /// forgotten topics are remembered too, so that no client is told of a gap in a topic that never had a message.
        topics_max: Count<1_000, 1_000_000_000> = "1000000",
        /// With `dir`: how large the log in it may grow before what is kept no more is taken out of it. It is never smaller than
        /// twice what is kept. While `sync` is a duration and the disk takes its time, as much again may wait to be deleted; beyond
        /// that, messages wait to be written.
        log_bytes_max: Size<1_000_000, 1_000_000_000_000> = "\"64MiB\"",
        /// With `dir`: how many messages may wait to be written. Beyond it publishing fails with `unavailable`.
        waiting_messages_max: Count<1, 10_000_000> = "65536",
        /// The same in bytes.
        waiting_bytes_max: Size<1_000_000, 10_000_000_000> = "\"64MiB\"",
    }
    later ["url"]
}

impl History {
    /// As the engine takes it.
    pub(crate) fn settled(&self) -> fanfare::History {
        let history = match &self.dir {
            Some(dir) => fanfare::History::dir(dir).sync(self.sync.0),
            None => fanfare::History::memory(),
        };
        history.limits(HistoryLimits {
            bytes_max: self.bytes_max.0 as usize,
            topics_max: self.topics_max.0 as usize,
            log_bytes_max: self.log_bytes_max.0 as usize,
            waiting_messages_max: self.waiting_messages_max.0 as usize,
            waiting_bytes_max: self.waiting_bytes_max.0 as usize,
        })
    }

    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        if self.dir.is_none() {
            let of_dir = ["sync", "log_bytes_max", "waiting_messages_max", "waiting_bytes_max"];
            for key in of_dir.into_iter().filter(|key| self.places.is_given(key)) {
                self.places.problem(
                    problems,
                    key,
                    "is for a history in a directory: give `dir` as well, or leave it out",
                );
            }
        }
    }
}

/// When messages are safe from a power cut.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sync(HistorySync);

type Every = Span<10, 3_600_000>;

impl Setting for Sync {
    fn accepts() -> String {
        format!("`always`, `never`, or {}", Every::accepts())
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_str() {
            Some("always") => Ok(Self(HistorySync::Always)),
            Some("never") => Ok(Self(HistorySync::Never)),
            _ => match Every::read(raw) {
                Ok(span) => Ok(Self(HistorySync::Every(span.0))),
                Err(_) => Err(refused::<Self>(raw)),
            },
        }
    }
}

/// How much of each topic is kept: a table of bounds, of which the tightest counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kept(pub(crate) Retention);

type Messages = Count<1, 100_000>;
type Bytes = Size<1_000, 1_000_000_000>;
type Age = Span<1_000, 2_592_000_000>;

impl Setting for Kept {
    fn accepts() -> String {
        r#"a table of bounds such as { messages = 100, bytes = "1MiB", ttl = "10m" }, each of which may be left out"#
            .into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let at = raw.span();
        let DeValue::Table(table) = raw.get_ref() else {
            return Err(vec![Fault { at, text: format!("it takes {}", Self::accepts()) }]);
        };
        let (mut retention, mut faults) = (Retention::default(), Vec::new());
        for (name, value) in table.iter() {
            let read = match name.get_ref().as_ref() {
                "messages" => Messages::read(value).map(|count| retention.messages_max = count.0 as usize),
                "bytes" => Bytes::read(value).map(|size| retention.bytes_max = size.0 as usize),
                "ttl" => Age::read(value).map(|span| retention.age_max_ms = span.0.as_millis() as u64),
                other => {
                    let text = format!("unknown key {other:?} in history: it takes {}", Self::accepts());
                    Err(vec![Fault { at: name.span(), text }])
                }
            };
            faults.extend(read.err().into_iter().flatten());
        }
        if faults.is_empty() { Ok(Self(retention)) } else { Err(faults) }
    }
}
