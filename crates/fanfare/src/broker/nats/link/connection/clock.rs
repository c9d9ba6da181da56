//! What is due on a connection.

use std::time::{Duration, Instant};

use super::super::Role;
use super::{Connection, Stage, What};
use crate::broker::Undone;
use crate::broker::canary::{EVERY, LATE_AFTER};
use crate::broker::turns::BEGINNING_MAX;

impl Connection<'_> {
    /// Does what is due.
    pub(super) fn look_at_the_clock(&mut self, now: Instant) -> Result<(), String> {
        self.expire(now);
        self.expire_asked(now)?;
        let (since, most) = match &self.stage {
            Stage::Greeting { since } | Stage::Preparing { since } => (since, self.server.timeout.max(LATE_AFTER)),
            Stage::Attaching { since, .. } => (since, BEGINNING_MAX),
            Stage::Up => {
                self.look_after_streams(now);
                return self.look_after_the_canary(now);
            }
        };
        match now.duration_since(*since) {
            time if time < most => Ok(()),
            time => Err(format!("it has not answered for {time:.1?}")),
        }
    }

    /// How long nothing is to be done.
    pub(super) fn next(&self, now: Instant) -> Duration {
        let mut next = now + self.server.timeout.max(EVERY);
        let theirs = self.waiting.iter().skip(self.expired).find(|waiting| waiting.is_theirs());
        let asked = self.deadlines.front().map(|(deadline, _)| *deadline);
        for time in theirs.map(|waiting| waiting.deadline).into_iter().chain(self.canary.next()).chain(asked) {
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
                    request.end(Err(Undone::unknown(why)));
                }
            }
            self.expired += 1;
        }
    }

    fn look_after_the_canary(&mut self, now: Instant) -> Result<(), String> {
        let Role::Live { canary, .. } = self.role else {
            // Without a canary it is of no use if something has waited for far too long.
            let late = self.waiting.front().is_some_and(|waiting| now >= waiting.deadline + LATE_AFTER);
            return if late { Err("it does not answer".to_owned()) } else { Ok(()) };
        };
        if let Some(bytes) = self.canary.due(now, canary)? {
            self.send_canary(&bytes);
        }
        Ok(())
    }
}

impl super::Waiting {
    fn is_theirs(&self) -> bool {
        matches!(self.what, What::Theirs { request: Some(_), .. })
    }
}
