//! A page of a history on its way to a client that takes it bit by bit: what it takes in memory counts with what waits for sockets.

use std::sync::Arc;
use std::vec;

use super::Socket;
use super::seat::{CatchingUp, Feed, Membership, Phase};
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

impl Socket {
    /// What was read for its joins and is not sent is read again when there is room for it.
    pub(crate) fn put_off_missed(&mut self) {
        for slot in 0..self.session.entries().len() {
            if let Phase::Live(Membership { catching_up: Some(catching_up), .. }) =
                &mut self.session.entry_mut(slot).data.phase
                && let CatchingUp::Feeding(feed) = &mut **catching_up
            {
                feed.put_off();
            }
        }
    }
}

impl Feed {
    /// What is not sent is read again, and what has come since with it.
    pub(super) fn put_off(&mut self) {
        if !self.page.is_empty() {
            self.page.clear();
            self.held = None;
        }
    }
}

impl Drop for Missed {
    fn drop(&mut self) {
        self.clear();
    }
}

/// What one takes.
pub(super) fn size(stored: &Stored) -> usize {
    stored.payload.size() + size_of::<Stored>()
}
