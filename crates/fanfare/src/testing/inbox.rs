//! What a socket of the kit has received and no assertion has taken yet.

use std::fmt;

use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::ARRIVAL_MAX;
use crate::transport::LocalFrame;

/// One frame from the server. Version 1.0.0 carries no join_ref.
#[derive(Debug)]
pub(super) struct Frame {
    pub(super) join_ref: Value,
    pub(super) msg_ref: Value,
    pub(super) topic: String,
    pub(super) event: String,
    pub(super) payload: Value,
}

/// Assertions take the first frame that fits, wherever it stands: other frames stay for other assertions.
#[derive(Debug)]
pub(super) struct Inbox {
    arriving: mpsc::UnboundedReceiver<LocalFrame>,
    kept: Vec<Frame>,
    closed: Option<u16>,
}

impl Inbox {
    pub(super) fn new(arriving: mpsc::UnboundedReceiver<LocalFrame>) -> Self {
        Inbox { arriving, kept: Vec::new(), closed: None }
    }

    /// The first frame that fits, also if it has yet to come; `None` when it does not come in time.
    pub(super) async fn take(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        let deadline = Instant::now() + ARRIVAL_MAX;
        loop {
            if let Some(frame) = self.take_arrived(&fits) {
                return Some(frame);
            }
            self.wait(deadline).await?;
        }
    }

    /// The first frame that fits among those that are here.
    pub(super) fn take_arrived(&mut self, fits: impl Fn(&Frame) -> bool) -> Option<Frame> {
        while let Ok(frame) = self.arriving.try_recv() {
            self.keep(frame);
        }
        let index = self.kept.iter().position(fits)?;
        Some(self.kept.remove(index))
    }

    /// The close code, also if it has yet to come.
    pub(super) async fn close_code(&mut self) -> Option<u16> {
        let deadline = Instant::now() + ARRIVAL_MAX;
        while self.closed.is_none() {
            self.wait(deadline).await?;
        }
        self.closed
    }

    async fn wait(&mut self, deadline: Instant) -> Option<()> {
        let frame = tokio::time::timeout_at(deadline, self.arriving.recv()).await.ok()??;
        self.keep(frame);
        Some(())
    }

    fn keep(&mut self, frame: LocalFrame) {
        match frame {
            LocalFrame::Text(text) => self.kept.push(Frame::parse(&text)),
            LocalFrame::Closed(code) => self.closed = Some(code),
        }
    }
}

/// For the messages of assertions that failed.
impl fmt::Display for Inbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.kept.is_empty() {
            f.write_str("nothing else was received")?;
        } else {
            f.write_str("these were received and not asserted:")?;
            self.kept.iter().try_for_each(|frame| write!(f, "\n  {frame}"))?;
        }
        match self.closed {
            Some(code) => write!(f, "\nthe server has closed the socket with {code}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Frame { join_ref, msg_ref, topic, event, payload } = self;
        write!(f, "{event:?} on {topic:?}, join_ref {join_ref}, ref {msg_ref}: {payload}")
    }
}

impl Frame {
    fn parse(text: &[u8]) -> Frame {
        let mut frame: Value = serde_json::from_slice(text).expect("the server sends JSON");
        let mut field = |index: usize, name: &str| match &mut frame {
            Value::Array(fields) => fields.get_mut(index).map(Value::take).unwrap_or_default(),
            object => object.get_mut(name).map(Value::take).unwrap_or_default(),
        };
        let mut text = |index, name| match field(index, name) {
            Value::String(text) => text,
            other => panic!("the server sent {other} as the {name} of a frame"),
        };
        let (topic, event) = (text(2, "topic"), text(3, "event"));
        Frame { join_ref: field(0, "join_ref"), msg_ref: field(1, "ref"), topic, event, payload: field(4, "payload") }
    }
}
