//! A page of a history on its way to a client that takes it bit by bit: what it takes in memory counts with what waits for sockets.

use std::sync::Arc;
use std::vec;

use crate::figures::Figures;
use crate::history::Stored;
use crate::outbox::Seen;

/// Messages that were read for a join and not sent.
#[derive(Debug)]
pub(crate) struct Missed {
    messages: vec::IntoIter<Stored>,
    /// What these take.
    memory: usize,
    figures: Arc<Figures>,
}

impl Missed {
    pub(super) fn new(messages: Vec<Stored>, figures: &Arc<Figures>) -> Self {
        let memory = messages.iter().map(size).sum();
        figures.outflow.read(memory);
        Missed { messages: messages.into_iter(), memory, figures: figures.clone() }
    }

    /// The next one, which is sent now.
    pub(super) fn next(&mut self) -> Option<Stored> {
        let next = self.messages.next()?;
        let size = size(&next);
        self.memory -= size;
        self.figures.outflow.unread(size);
        Some(next)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.messages.as_slice().is_empty()
    }

    /// Gives up what is left.
    pub(super) fn clear(&mut self) {
        self.figures.outflow.unread(std::mem::take(&mut self.memory));
        self.messages = Vec::new().into_iter();
    }

    pub(super) fn memory(&self) -> usize {
        self.memory
    }

    /// What it takes beside what was seen already: a history in memory has the same bytes.
    pub(super) fn measure(&self, seen: &mut Seen) -> usize {
        let each = |stored: &Stored| {
            let payload = if seen.is_new(stored.payload.as_bytes()) { stored.payload.size() } else { 0 };
            payload + size_of::<Stored>()
        };
        self.messages.as_slice().iter().map(each).sum()
    }
}

impl Drop for Missed {
    fn drop(&mut self) {
        self.clear();
    }
}

fn size(stored: &Stored) -> usize {
    stored.payload.size() + size_of::<Stored>()
}
