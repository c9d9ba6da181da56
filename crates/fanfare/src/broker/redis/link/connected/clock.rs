//! What is due on a connection: answers that have not come, the canary, and a look at how the server stands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::super::Role;
use super::{Connected, LOOK_EVERY, Stage, What};
use crate::broker::Undone;
use crate::broker::canary::LATE_AFTER;
use crate::broker::turns::BEGINNING_MAX;

impl Connected<'_> {
    /// Does what is due.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) -> Result<(), String> {
        self.expire(now);
        self.reload();
        match &self.stage {
            Stage::Asking { since } | Stage::Attaching { since, .. } => match now.duration_since(*since) {
                time if time < self.beginning_max() => Ok(()),
                time => Err(format!("it has not answered for {time:.1?}")),
            },
            Stage::Up => {
                if now >= self.next_look {
                    self.next_look = now + LOOK_EVERY;
                    if let Role::Ordered { .. } = self.role {
                        self.ask_how_it_stands();
                    }
                }
                self.send_canary(now)
            }
        }
    }

    /// Attaching many topics takes its time, and asking how the server stands does not.
    fn beginning_max(&self) -> Duration {
        match self.stage {
            Stage::Asking { .. } => self.server.timeout.max(LATE_AFTER),
            _ => BEGINNING_MAX,
        }
    }

    /// How long nothing is to be done.
    pub(super) fn next(&self, now: Instant) -> Duration {
        let mut next = self.next_look;
        if !matches!(self.stage, Stage::Up) {
            next = next.min(now + self.server.timeout);
        }
        let theirs = self.waiting.iter().skip(self.expired).find(|waiting| waiting.is_theirs());
        for time in theirs.map(|waiting| waiting.deadline).into_iter().chain(self.canary.next()) {
            next = next.min(time);
        }
        next.saturating_duration_since(now)
    }

    /// Tells those whose answers have not come in time. Their places stay: the answers may come yet.
    fn expire(&mut self, now: Instant) {
        while let Some(waiting) = self.waiting.get_mut(self.expired) {
            if let What::Theirs { request, .. } = &mut waiting.what {
                if waiting.deadline > now {
                    return;
                }
                if let Some(request) = request.take() {
                    let server = self.server;
                    let why = format!("{} has not answered within {:?}", server.name, server.timeout);
                    request.answer(Err(Undone::Unknown(Arc::from(why))));
                }
            }
            self.expired += 1;
        }
    }

    fn send_canary(&mut self, now: Instant) -> Result<(), String> {
        let Role::Ordered { canary, .. } = self.role else { return self.look_for_an_answer(now) };
        if let Some(bytes) = self.canary.due(now, canary)? {
            let inbox = self.inbox.clone();
            self.send_own(What::Canary, &[b"SPUBLISH", &inbox, &bytes]);
        }
        Ok(())
    }

    /// A connection without a canary is of no use if something has waited for far too long.
    fn look_for_an_answer(&self, now: Instant) -> Result<(), String> {
        match self.waiting.front() {
            Some(waiting) if now >= waiting.deadline + LATE_AFTER => Err("it does not answer".to_owned()),
            _ => Ok(()),
        }
    }
}

impl super::Waiting {
    fn is_theirs(&self) -> bool {
        matches!(self.what, What::Theirs { request: Some(_), .. })
    }
}
