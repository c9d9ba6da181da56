//! A single message, timed by the kernel: the clients sleep while it goes out.

use std::io::IoSliceMut;
use std::os::fd::AsRawFd;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use nix::sys::socket::{ControlMessageOwned, MsgFlags, recvmsg};
use nix::sys::time::TimeSpec;

use super::{State, Worker};
use crate::plan::Life;
use crate::protocol::Role;

/// When the last of a worker's clients had the message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Finish {
    pub(crate) round: u64,
    /// Nanoseconds after the message was sent.
    pub(crate) after: u64,
}

impl Worker<'_> {
    /// Does what a new round asks for.
    pub(super) fn follow_round(&mut self, now: u64) {
        let round = self.shared.round.load(Ordering::Acquire);
        if round == self.round {
            return;
        }
        self.round = round;
        if let Life::Storm(_) = self.plan.life {
            self.cut_all(now);
        }
        if let Some(pause) = self.plan.pause {
            if !self.publishers.is_empty() {
                let now = self.shared.now();
                self.publish(0, now, 1, now);
            }
            std::thread::sleep(pause);
            self.collect(round);
            self.shared.round_done.fetch_add(1, Ordering::AcqRel);
        }
    }

    fn collect(&mut self, round: u64) {
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // What the clock of the run has to be behind the kernel's.
        let offset = (since_epoch.as_nanos() as u64).saturating_sub(self.shared.now());
        let mut after = 0;
        for index in 0..self.connections.len() {
            if self.connections[index].state != State::Live
                || self.plan.seats[self.first + index].role == Role::Publisher
            {
                continue;
            }
            while let Some((read, at)) = self.receive_stamped(index) {
                self.now = (at.as_nanos() as u64).saturating_sub(offset);
                let before = self.tally.fresh;
                self.decode(index, 0..read);
                if self.tally.fresh > before {
                    after = after.max(self.tally.last_latency);
                }
            }
        }
        self.finishes.push(Finish { round, after });
    }

    /// The next bytes of a connection, and when the kernel had the last of them, by its clock.
    fn receive_stamped(&mut self, index: usize) -> Option<(usize, Duration)> {
        let socket = self.connections[index].stream.as_mut()?.tcp().as_raw_fd();
        let mut space = nix::cmsg_space!(TimeSpec);
        let mut buffers = [IoSliceMut::new(&mut self.buffer)];
        let message = match recvmsg::<()>(socket, &mut buffers, Some(&mut space), MsgFlags::MSG_DONTWAIT) {
            Ok(message) => message,
            // The end of the connection shows when the worker waits for the kernel again.
            Err(_) => return None,
        };
        let at = message.cmsgs().ok()?.find_map(|message| match message {
            ControlMessageOwned::ScmTimestampns(at) => Some(Duration::from(at)),
            _ => None,
        });
        (message.bytes > 0).then_some(())?;
        Some((message.bytes, at?))
    }
}
