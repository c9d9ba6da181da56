//! Which frames may come on one connection before the client goes on, and in which order.
//!
//! Within one topic the recorded order counts, and between topics none does. The reply to a join comes before
//! everything else of its topic that was recorded after it, even of what has a lane of its own. Presence diffs are
//! expected by key, so that a server may merge and split them.
//!
//! There is no socket and no clock here.

use crate::envelope::{Envelope, Joins};
use crate::form::{Better, FrameForm, Shape, hex, shortened};
use crate::pattern::{Bindings, Pattern};
use crate::presence_diff;
use crate::script::ExpectedFrame;
use serde_json::Value;
use std::fmt;
use std::time::Duration;

/// Something that came from the server.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Incoming {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Pong(Vec<u8>),
    Close {
        code: Option<u16>,
        reason: String,
    },
    End,
    /// What no server may send; it is never expected.
    Violation(String),
}

impl fmt::Display for Incoming {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Incoming::Text(text) => write!(f, "text {}", shortened(&String::from_utf8_lossy(text))),
            Incoming::Binary(bytes) => write!(f, "binary {}", shortened(&hex(bytes))),
            Incoming::Pong(bytes) => write!(f, "pong {}", shortened(&hex(bytes))),
            Incoming::Close { code: Some(code), reason } if reason.is_empty() => write!(f, "close {code}"),
            Incoming::Close { code: Some(code), reason } => write!(f, "close {code} {reason:?}"),
            Incoming::Close { code: None, .. } => f.write_str("close without a code"),
            Incoming::End => f.write_str("end of connection"),
            Incoming::Violation(what) => f.write_str(what),
        }
    }
}

/// What has become of something that was offered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Offer {
    Taken,
    /// Taken, and the connection is over.
    Ends,
    /// Nothing of the kind may come now.
    Unexpected,
}

/// The frames that are expected together.
#[derive(Debug)]
pub(crate) struct Run {
    expected: Vec<Expected>,
}

#[derive(Debug)]
struct Expected {
    label: String,
    what: What,
    lane: Lane,
    /// The topic whose join replies must come before this.
    topic: Option<Value>,
    answers_join: bool,
    done: bool,
}

#[derive(Debug)]
enum What {
    Frame(Vec<FrameForm>),
    /// What a diff says about one key.
    DiffEntry {
        key: String,
        entry: Pattern,
    },
}

/// Expectations in one lane keep their order.
#[derive(Debug, Clone, PartialEq)]
enum Lane {
    Topic(Value),
    DiffKey(Value, String),
    Named(String),
    /// Frames without a topic that are no close: pongs, mostly.
    Other,
    /// A close frame and the end of the connection: after everything else.
    Last,
}

impl Run {
    pub(crate) fn new(frames: &[ExpectedFrame], better: Better, joins: &Joins) -> Run {
        let expected = frames.iter().flat_map(|frame| {
            let forms = frame.forms.accepted(better).into_iter().cloned().collect();
            expectations(&frame.label, forms, frame.lane.as_deref(), joins)
        });
        Run { expected: expected.collect() }
    }

    /// The messages of long-poll answers: each is expected as a text frame of its own.
    pub(crate) fn of_messages(messages: &[Value], joins: &Joins) -> Result<Run, String> {
        let mut expected = Vec::new();
        for (i, message) in messages.iter().enumerate() {
            expected.extend(expectations(
                &format!("message {}", i + 1),
                vec![FrameForm::of_json(message)?],
                None,
                joins,
            ));
        }
        Ok(Run { expected })
    }

    /// Takes what came `elapsed` after the client's last frame, and binds its placeholders, if it may come now.
    pub(crate) fn offer(&mut self, incoming: &Incoming, elapsed: Duration, bindings: &mut Bindings) -> Offer {
        let json = match incoming {
            Incoming::Text(text) => serde_json::from_slice::<Value>(text).ok(),
            _ => None,
        };
        if let Some(entries) = json.as_ref().and_then(presence_diff::entries)
            && self.offer_diff(&entries, bindings)
        {
            return Offer::Taken;
        }
        for i in 0..self.expected.len() {
            let What::Frame(forms) = &self.expected[i].what else {
                continue;
            };
            if !self.is_due(i) {
                continue;
            }
            for form in forms {
                let mut attempt = bindings.clone();
                if form.accepts(incoming, json.as_ref(), elapsed, &mut attempt) {
                    let offer = if form.ends { Offer::Ends } else { Offer::Taken };
                    *bindings = attempt;
                    self.finish(i);
                    return offer;
                }
            }
        }
        Offer::Unexpected
    }

    /// Takes a diff if each of its entries is due; all of it or nothing.
    fn offer_diff(&mut self, entries: &[presence_diff::Entry], bindings: &mut Bindings) -> bool {
        let mut attempt = bindings.clone();
        let mut taken = Vec::new();
        for entry in entries {
            let found = (0..self.expected.len()).find(|i| {
                let What::DiffEntry { entry: pattern, .. } = &self.expected[*i].what else {
                    return false;
                };
                let mut trial = attempt.clone();
                let fits = !taken.contains(i) && self.is_due(*i) && pattern.matches(&entry.value, &mut trial);
                if fits {
                    attempt = trial;
                }
                fits
            });
            match found {
                Some(i) => taken.push(i),
                None => return false,
            }
        }
        taken.iter().for_each(|i| self.finish(*i));
        *bindings = attempt;
        !taken.is_empty()
    }

    /// Whether nothing that must come first is still missing.
    fn is_due(&self, i: usize) -> bool {
        let this = &self.expected[i];
        !this.done
            && self.expected[..i]
                .iter()
                .all(|earlier| earlier.done || earlier.may_stay_away() || !earlier.precedes(this))
    }

    /// Marks as done what came, and what may stay away and has been passed over.
    fn finish(&mut self, i: usize) {
        let (before, rest) = self.expected.split_at_mut(i);
        rest[0].done = true;
        for earlier in before.iter_mut().filter(|earlier| earlier.may_stay_away() && earlier.precedes(&rest[0])) {
            earlier.done = true;
        }
    }

    /// Whether all that must come has come.
    pub(crate) fn is_complete(&self) -> bool {
        self.expected.iter().all(|expected| expected.done || expected.may_stay_away())
    }

    /// Whether something more may come.
    pub(crate) fn may_go_on(&self) -> bool {
        self.expected.iter().any(|expected| !expected.done && expected.may_come())
    }

    /// Whether the closing of the connection was expected and came.
    pub(crate) fn has_closed(&self) -> bool {
        self.expected.iter().any(|expected| expected.done && expected.lane == Lane::Last)
    }

    /// The label and the forms of what is due next, for a report; what must come goes before what may.
    pub(crate) fn next(&self) -> Option<(String, String)> {
        let due = |optional: bool| {
            let fits = |i: &usize| self.is_due(*i) && self.expected[*i].may_stay_away() == optional;
            (0..self.expected.len()).find(fits).map(|i| &self.expected[i])
        };
        due(false).or_else(|| due(true)).map(|expected| (expected.label.clone(), expected.what.to_string()))
    }

    /// The latest moment after the client's last frame at which something may still come in time, if that is limited.
    pub(crate) fn latest(&self) -> Option<Duration> {
        let forms = self.expected.iter().filter(|expected| !expected.done).flat_map(|expected| match &expected.what {
            What::Frame(forms) => forms.as_slice(),
            What::DiffEntry { .. } => &[],
        });
        forms.filter_map(|form| form.timing.latest).max()
    }
}

fn expectations(label: &str, forms: Vec<FrameForm>, lane: Option<&str>, joins: &Joins) -> Vec<Expected> {
    let expected = |what, lane, topic, answers_join| Expected {
        label: label.to_owned(),
        what,
        lane,
        topic,
        answers_join,
        done: false,
    };
    // The order follows the first form that is a frame.
    let shape = forms.iter().map(|form| &form.shape).find(|shape| !matches!(shape, Shape::Nothing));
    let envelope = match shape {
        Some(Shape::Json(json)) => Envelope::of_json(&json.source),
        Some(Shape::Binary(bytes)) => Envelope::of_server_binary(bytes),
        _ => None,
    };
    if let ([form], Some(envelope)) = (forms.as_slice(), &envelope)
        && let Shape::Json(json) = &form.shape
        && let Some(entries) = presence_diff::entries(&json.source).filter(|entries| !entries.is_empty())
        // The pattern as a whole has been read already, so its parts are patterns too.
        && let Ok(patterns) = entries.iter().map(|entry| Pattern::parse(&entry.value)).collect::<Result<Vec<_>, _>>()
    {
        let topic = &envelope.topic;
        return entries
            .into_iter()
            .zip(patterns)
            .map(|(presence_diff::Entry { key, .. }, entry)| {
                let lane = Lane::DiffKey(topic.clone(), key.clone());
                expected(What::DiffEntry { key, entry }, lane, Some(topic.clone()), false)
            })
            .collect();
    }
    let closes = matches!(shape, Some(Shape::Close(_) | Shape::End));
    let answers_join = envelope.as_ref().is_some_and(|envelope| joins.answered_by(envelope));
    let what = What::Frame(forms);
    vec![match (lane, envelope) {
        (Some(lane), _) => expected(what, Lane::Named(lane.to_owned()), None, false),
        (None, Some(envelope)) => {
            expected(what, Lane::Topic(envelope.topic.clone()), Some(envelope.topic), answers_join)
        }
        (None, None) if closes => expected(what, Lane::Last, None, false),
        (None, None) => expected(what, Lane::Other, None, false),
    }]
}

impl Expected {
    fn may_stay_away(&self) -> bool {
        match &self.what {
            What::Frame(forms) => forms.iter().any(|form| matches!(form.shape, Shape::Nothing)),
            What::DiffEntry { .. } => false,
        }
    }

    fn may_come(&self) -> bool {
        match &self.what {
            What::Frame(forms) => forms.iter().any(|form| !matches!(form.shape, Shape::Nothing)),
            What::DiffEntry { .. } => true,
        }
    }

    /// Whether this, which was recorded earlier, must come before `later`.
    fn precedes(&self, later: &Expected) -> bool {
        self.lane == Lane::Last
            || later.lane == Lane::Last
            || self.lane == later.lane
            || (self.answers_join && self.topic == later.topic)
    }
}

impl FrameForm {
    fn accepts(&self, incoming: &Incoming, json: Option<&Value>, elapsed: Duration, bindings: &mut Bindings) -> bool {
        let same = match (&self.shape, incoming) {
            (Shape::Json(expected), Incoming::Text(_)) => {
                json.is_some_and(|json| expected.pattern.matches(json, bindings))
            }
            (Shape::Text(expected), Incoming::Text(actual)) => expected == actual,
            (Shape::Binary(expected), Incoming::Binary(actual)) => expected == actual,
            (Shape::Pong(expected), Incoming::Pong(actual)) => expected == actual,
            (Shape::Close(expected), Incoming::Close { code, .. }) => expected == code,
            (Shape::End, Incoming::End) => true,
            _ => false,
        };
        same && self.timing.allows(elapsed)
    }
}

impl fmt::Display for What {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            What::DiffEntry { key, .. } => write!(f, "presence_diff for key {key:?}"),
            What::Frame(forms) => {
                for (i, form) in forms.iter().enumerate() {
                    write!(f, "{}{form}", if i == 0 { "" } else { " or " })?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
