//! Row 3: the others lose nothing and wait no longer; the stalled one is closed, and takes no more memory than it may.
//!
//! In the control runs the others are alone. The runs take turns, as no machine is the same from one minute to the
//! next: each run with a stalled reader has one without beside it, what is compared are these two, and what counts is
//! the middle one of all pairs. A pair beside which other programs took a part of the machine is made again.

use std::time::{Duration, Instant};

use super::{FILL, FILL_SIZE, Pair, Pairs, Reader, WARMUP, fill, guest};
use crate::bench::{self, Load, Report};
use crate::client::Client;
use crate::figure::{Figure, count, mebibytes};
use crate::server::Server;
use crate::{Finding, Setting};

/// The default of `limits.outbox_bytes_max`.
const OUTBOX_BYTES_MAX: u64 = 8 << 20;

/// What the process may grow by for it: an allocator rounds up, and the requests that publish take their part.
const GROWTH_MAX: u64 = OUTBOX_BYTES_MAX + OUTBOX_BYTES_MAX / 2;

/// The default of `limits.write_timeout`, and what it takes to fill the buffers, from where it is measured.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
const FILLED_WITHIN: Duration = Duration::from_millis(500);

pub(in crate::row) fn check(setting: &Setting) -> Result<Finding, String> {
    let mut server = Server::start(&setting.fanfare)?;
    let trial = Trial::new(setting);
    // Reduced runs are too short to tell more than that nobody is held up.
    let ratio_max = setting.size(3.0, 1.1);
    let pairs = Pairs::take(setting, trial.pairs, |number| trial.pair(&server, number))?;
    // Once more, to the end of the stalled one.
    let (report, stalled) = trial.test(&server)?;
    let (closed, _) = stalled.closed(&server)?;
    let (queued, memory) = flood(&server)?;
    server.check_alive()?;
    let (expected, lost) = (pairs.expected() + report.expected, pairs.lost() + report.lost());
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let times = |ratio: f64| format!("{ratio:.2}");
    let control = pairs.control(|report| report.p99_ms);
    Ok(Finding {
        size: trial.size(&pairs),
        figures: vec![
            Figure::exactly(&format!("of {} messages the others lost", count(expected)), lost, 0),
            Figure::at_most(
                &format!("their p99, {control:.0} ms in the control, became so many times that:"),
                pairs.ratio(|report| report.p99_ms),
                ratio_max,
                times,
            ),
            Figure::at_most("the stalled one closed after", closed, CLOSED_WITHIN + FILLED_WITHIN, seconds),
            Figure::at_most("flooded, what waited for it", queued, OUTBOX_BYTES_MAX, mebibytes),
            Figure::at_most("and the server grew by", memory, GROWTH_MAX, mebibytes),
        ],
    })
}

/// Runs with a stalled reader and without, by turns.
struct Trial<'a> {
    setting: &'a Setting,
    /// In all: the load generator's, the one that stalls, and one that looks out for the first message.
    subscribers: usize,
    /// Messages a second.
    rate: u32,
    pairs: usize,
    seconds: f64,
}

impl Pairs<Report> {
    /// What should have come beside stalled readers.
    fn expected(&self) -> u64 {
        self.0.iter().map(|pair| pair.test.expected).sum()
    }

    /// What of it did not, once and in order.
    fn lost(&self) -> u64 {
        self.0.iter().map(|pair| pair.test.lost()).sum()
    }
}

impl<'a> Trial<'a> {
    fn new(setting: &'a Setting) -> Self {
        Self {
            setting,
            subscribers: setting.size(1_000, 10_000),
            // At this rate a server has time to spare: its p99 is that of its fan-out, not of a queue.
            rate: setting.size(50, 5),
            pairs: setting.size(3, 10),
            seconds: setting.size(1.0, 5.0),
        }
    }

    fn pair(&self, server: &Server, number: usize) -> Result<Pair<Report>, String> {
        let test = || Ok(self.test(server)?.0);
        let (control, test) = Pair::in_turn(number, || self.control(server), test)?;
        let (others, number) = (control.others.max(test.others), number + 1);
        let (p99, with) = (control.p99_ms, test.p99_ms);
        eprintln!("  pair {number}: p99 {p99:.1} ms without, {with:.1} ms with, {others:.1} cores of others");
        Ok(Pair { control, test, others })
    }

    fn size(&self, pairs: &Pairs<Report>) -> String {
        let subscribers = count(self.subscribers as u64);
        let pairs = pairs.size(&format!("{} s", self.seconds));
        format!("one of {subscribers} stalled, {} messages a second, {pairs}", self.rate)
    }

    fn control(&self, server: &Server) -> Result<Report, String> {
        self.crowd(server, || fill(server))
    }

    fn test(&self, server: &Server) -> Result<(Report, Stalled), String> {
        let client = guest(server, &[bench::TOPIC, FILL])?;
        let before = server.slow_readers().len();
        let mut since = Instant::now();
        let report = self.crowd(server, || {
            since = Instant::now();
            fill(server)
        })?;
        Ok((report, Stalled { client, since, before }))
    }

    /// Runs the crowd, and does something when its messages begin to flow.
    fn crowd(&self, server: &Server, then: impl FnOnce() -> Result<(), String>) -> Result<Report, String> {
        let scout = guest(server, &[bench::TOPIC])?;
        let crowd = self.subscribers - 2;
        let run = bench::Run::start(self.setting, server, crowd, Load::Rate(self.rate), WARMUP, self.seconds)?;
        let scout = Reader::after_first(scout)?;
        then()?;
        let report = run.finish();
        drop(scout);
        report
    }
}

/// Floods a reader that does not read until it is closed, and says how much waited for it then, and by how much the
/// server's memory grew at most.
fn flood(server: &Server) -> Result<(u64, u64), String> {
    let client = guest(server, &[FILL])?;
    let (before, memory) = (server.slow_readers().len(), server.memory());
    let stalled = Stalled { client, since: Instant::now(), before };
    let mut peak = memory;
    for _ in 0..1_000 {
        server.publish(FILL, FILL_SIZE)?;
        peak = peak.max(server.memory());
        if server.slow_readers().len() > before {
            break;
        }
    }
    let (_, queued) = stalled.closed(server)?;
    Ok((queued, peak - memory))
}

/// A reader that reads nothing, since its buffers are full; dropped with a reset.
struct Stalled {
    client: Client,
    since: Instant,
    /// How many slow readers the server had closed before it.
    before: usize,
}

impl Stalled {
    /// Waits until it is closed, and says when it was and what waited for it.
    fn closed(self, server: &Server) -> Result<(Duration, u64), String> {
        let limit = 2 * CLOSED_WITHIN;
        Server::wait(limit, || server.slow_readers().len() > self.before);
        drop(self.client);
        match server.slow_readers().split_off(self.before)[..] {
            [reader] => Ok((reader.at - self.since, reader.queued)),
            ref readers => Err(format!("{} readers were closed as too slow in {limit:?}, not one", readers.len())),
        }
    }
}
