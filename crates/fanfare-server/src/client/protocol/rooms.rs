//! JSON rooms. A member gets what is said and not where, so that the server's own words can be told from a member's only by
//! their time: they come soon after a join.

use serde::Deserialize;
use serde_json::json;
use serde_json::value::RawValue;

use super::{Frame, Protocol, Said, line_of_text};

/// A member of rooms.
pub(super) struct Rooms {
    topics: Vec<String>,
    /// Those that the server may still say something of.
    unsettled: Vec<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Answer {
    joined: Option<String>,
    refused: Option<String>,
    response: Option<Box<RawValue>>,
}

impl Rooms {
    pub(super) fn new(topics: &[String]) -> Self {
        Self { topics: topics.to_vec(), unsettled: Vec::new() }
    }

    /// What the server says of a join.
    fn answer(&mut self, text: &str) -> Option<Said> {
        let answer: Answer = serde_json::from_str(text).ok().filter(|_| !self.unsettled.is_empty())?;
        let topic = answer.joined.as_ref().or(answer.refused.as_ref())?;
        let at = self.unsettled.iter().position(|unsettled| unsettled == topic)?;
        let topic = self.unsettled.remove(at);
        match answer.response {
            None => Some(Said::Note(format!("joined {topic}"))),
            Some(response) => Some(Said::Fatal(format!("{topic}: the join was refused: {}", response.get()))),
        }
    }
}

impl Protocol for Rooms {
    fn open(&mut self) -> Vec<Frame> {
        self.unsettled = self.topics.clone();
        self.topics.iter().map(|topic| Frame::Text(json!({ "join": topic }).to_string())).collect()
    }

    fn heartbeat(&mut self) -> Frame {
        self.unsettled.clear();
        Frame::Ping
    }

    fn text(&mut self, text: &str) -> Vec<Said> {
        vec![self.answer(text).unwrap_or_else(|| Said::Line(line_of_text(text)))]
    }

    fn end(&self, code: u16) -> Option<Result<&'static str, &'static str>> {
        (code == 3000).then_some(Err("the server does not speak this protocol; --protocol names another"))
    }
}
