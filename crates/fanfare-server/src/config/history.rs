//! What topics keep: `[history]`, and the key `history` of a `[[channel]]`.

use fanfare::{HistoryLimits, Retention};
use toml::de::DeValue;

use super::section::{Form, section};
use super::value::{Count, Fault, Raw, Setting, Size, Span};

section! {
    /// What the histories of all topics may take together. Which topics keep something is said by the key `history` of their
    /// `[[channel]]`.
    struct History: "history", Form::Table;
    keys {
        /// The bytes of all kept messages. Beyond it the topics to which nobody has published for the longest time lose
        /// theirs, and clients that come back to them are told that there is a gap.
        bytes_max: Size<1_000_000, 1_000_000_000_000> = "\"256MiB\"",
        /// How many topics are remembered, with or without messages. The same happens beyond it.
        topics_max: Count<1_000, 1_000_000_000> = "1000000",
    }
    later ["url"]
}

impl History {
    pub(crate) fn limits(&self) -> HistoryLimits {
        let (bytes_max, topics_max) = (self.bytes_max.0 as usize, self.topics_max.0 as usize);
        HistoryLimits { bytes_max, topics_max, ..HistoryLimits::default() }
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
