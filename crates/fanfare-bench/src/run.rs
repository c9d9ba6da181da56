//! A run: it starts the workers, leads them through the phases, and looks at the clock and at `/proc`.

use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use mio::{Poll, Waker};

use crate::histogram::Histogram;
use crate::limits;
use crate::plan::Plan;
use crate::process::{Usage, Watch};
use crate::report::progress::Progress;
use crate::shared::{Phase, Shared};
use crate::tally::Sums;
use crate::worker::{Finish, WAKE, Worker};

/// How often the coordinator looks, at most.
const GLANCE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(20);

/// After so long without a delivery nothing more is expected.
const DRAIN: Duration = Duration::from_millis(1_500);

const SETTLE: Duration = Duration::from_millis(200);

/// How a run ends before its time.
#[derive(Debug)]
pub(crate) enum Halt {
    /// It was interrupted by the user: what has been measured counts.
    Interrupted,
    /// It cannot go on.
    Failed(String),
}

/// The coordinator's view of a run.
pub(crate) struct Stage<'a> {
    pub(crate) plan: &'a Plan,
    pub(crate) shared: &'a Shared,
    pub(crate) watch: &'a Watch,
    interrupted: Arc<AtomicBool>,
    progress: Progress,
    timeout: Duration,
    measured: Option<Measured>,
}

/// What the machine did while it was measured.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Measured {
    pub(crate) usage: Usage,
    /// From the first moment to the last delivery that counts, in seconds; where nothing is delivered, to the end.
    pub(crate) seconds: f64,
    /// The server's memory at the end, in bytes.
    pub(crate) memory: u64,
    start: Usage,
    started: u64,
}

/// What a run has measured.
pub(crate) struct Outcome {
    pub(crate) measured: Measured,
    pub(crate) sums: Sums,
    pub(crate) sent: u64,
    pub(crate) problems: Vec<(String, u64)>,
    pub(crate) finishes: Vec<Finish>,
    pub(crate) interrupted: bool,
}

impl Outcome {
    pub(crate) fn latency(&self) -> &Histogram {
        &self.sums.latency
    }
}

/// Runs a plan as `script` leads it, and adds up what the workers have.
///
/// # Errors
/// Why nothing was measured.
pub(crate) fn run<T: Default>(
    plan: &Plan,
    watch: &Watch,
    progress: Progress,
    timeout: f64,
    script: impl FnOnce(&mut Stage<'_>) -> Result<T, Halt>,
) -> Result<(Outcome, T), String> {
    let interrupted = interruption().map_err(|error| format!("cannot watch for signals: {error}"))?;
    let polls = make_polls(plan.threads).map_err(|error| format!("cannot wait for the kernel: {error}"))?;
    let (polls, wakers) = polls.into_iter().unzip();
    let polls: Vec<Poll> = polls;
    let shared = Shared::new(plan.publishers(), wakers);
    thread::scope(|scope| {
        let workers: Vec<_> = polls
            .into_iter()
            .zip(shares(plan.seats.len(), plan.threads))
            .map(|(poll, seats)| {
                let shared = &shared;
                scope.spawn(move || {
                    limits::own_table();
                    let result = Worker::new(plan, shared, poll, seats).and_then(Worker::run);
                    result.map_err(|error| shared.fatal(error))
                })
            })
            .collect();
        let timeout = Duration::from_secs_f64(timeout);
        let mut stage = Stage { plan, shared: &shared, watch, interrupted, progress, timeout, measured: None };
        let scripted = script(&mut stage);
        stage.progress.end();
        let measured = stage.measured.take();
        shared.set_phase(Phase::Stop);
        let (mut sums, mut finishes) = (Sums::default(), Vec::new());
        for worker in workers {
            let result = worker.join().map_err(|_| "a thread of the generator panicked")?;
            let Ok((its_sums, its_finishes)) = result else { continue };
            sums.add(&its_sums);
            finishes.extend(its_finishes);
        }
        if let Some(failure) = shared.failure() {
            return Err(failure);
        }
        let (figures, interrupted) = match scripted {
            Ok(figures) => (figures, false),
            Err(Halt::Failed(failure)) => return Err(failure),
            Err(Halt::Interrupted) if measured.is_none() => {
                return Err("interrupted before anything was measured".into());
            }
            Err(Halt::Interrupted) => (T::default(), true),
        };
        let outcome = Outcome {
            measured: measured.unwrap_or_default(),
            sums,
            sent: shared.counts.sent_measured.load(Ordering::Relaxed),
            problems: shared.problems().into_iter().collect(),
            finishes,
            interrupted,
        };
        Ok((outcome, figures))
    })
}

/// The first Ctrl-C ends the run, the second one the process.
fn interruption() -> io::Result<Arc<AtomicBool>> {
    let interrupted = Arc::new(AtomicBool::new(false));
    for signal in [signal_hook::consts::SIGINT, signal_hook::consts::SIGTERM] {
        signal_hook::flag::register_conditional_shutdown(signal, 1, interrupted.clone())?;
        signal_hook::flag::register(signal, interrupted.clone())?;
    }
    Ok(interrupted)
}

fn make_polls(many: usize) -> io::Result<Vec<(Poll, Waker)>> {
    (0..many)
        .map(|_| {
            let poll = Poll::new()?;
            let waker = Waker::new(poll.registry(), WAKE)?;
            Ok((poll, waker))
        })
        .collect()
}

/// Seats in even parts, one for each thread.
fn shares(seats: usize, threads: usize) -> impl Iterator<Item = Range<usize>> {
    let share = seats.div_ceil(threads);
    (0..threads).map(move |thread| (thread * share).min(seats)..((thread + 1) * share).min(seats))
}

impl Stage<'_> {
    /// Connects so many seats and waits until all are in their room.
    pub(crate) fn connect(&mut self, wanted: usize) -> Result<(), Halt> {
        self.shared.wanted.store(wanted, Ordering::Relaxed);
        self.shared.wake_all();
        let shared = self.shared;
        self.progress.say("connecting");
        let entered = || shared.counts.entered.load(Ordering::Relaxed);
        self.wait_while_progressing(
            entered,
            |entered| format!("{entered} of {wanted} clients had joined"),
            || shared.live.load(Ordering::Relaxed) >= wanted,
        )
    }

    /// Waits until servers have taken in whom they have let in: some say so before it is done.
    pub(crate) fn settle(&mut self) -> Result<(), Halt> {
        self.sleep(SETTLE)
    }

    /// Waits for something that comes closer as `progress` changes.
    ///
    /// # Errors
    /// If it does not for as long as the timeout; `state` says how far it is.
    pub(crate) fn wait_while_progressing(
        &mut self,
        progress: impl Fn() -> u64,
        state: impl Fn(u64) -> String,
        done: impl Fn() -> bool,
    ) -> Result<(), Halt> {
        let (mut last, mut since) = (progress(), Instant::now());
        while !done() {
            self.look()?;
            thread::sleep(GLANCE);
            let now = progress();
            if now != last {
                (last, since) = (now, Instant::now());
            } else if since.elapsed() > self.timeout {
                let problems = self.shared.problems();
                let hint = problems.keys().next().map(|problem| format!("; the server said: {problem}"));
                return Err(Halt::Failed(format!(
                    "{}, and nothing more happened in {} s{}; --timeout waits longer",
                    state(now),
                    self.timeout.as_secs_f64(),
                    hint.unwrap_or_default()
                )));
            }
        }
        Ok(())
    }

    /// What happens from now on.
    pub(crate) fn say(&mut self, doing: &'static str) {
        self.progress.say(doing);
    }

    /// Lets traffic flow that does not count, and waits until none of it is under way.
    pub(crate) fn warm_up(&mut self, seconds: f64) -> Result<(), Halt> {
        self.progress.say("warming up");
        self.shared.set_phase(Phase::WarmUp);
        self.sleep(Duration::from_secs_f64(seconds))?;
        self.shared.set_phase(Phase::Rest);
        // A turn of the workers, so that none sends any more.
        thread::sleep(GLANCE);
        let counts = &self.shared.counts;
        self.until_quiet(
            || counts.arrived.load(Ordering::Relaxed),
            || counts.sent.load(Ordering::Relaxed) * u64::from(self.plan.subscribers_per_topic),
        )
    }

    /// Measures for so long, and then until what was sent has arrived.
    pub(crate) fn measure(&mut self, seconds: f64) -> Result<(), Halt> {
        self.begin();
        let slept = self.sleep(Duration::from_secs_f64(seconds));
        let drained = self.drain();
        self.end();
        slept.and(drained)
    }

    /// Measures from here on.
    pub(crate) fn begin(&mut self) {
        self.progress.say("measuring");
        self.measured = Some(Measured { start: self.watch.usage(), started: self.shared.now(), ..Measured::default() });
        self.shared.set_phase(Phase::Measure);
    }

    /// Waits until what was sent has arrived, or nothing comes any more.
    fn drain(&mut self) -> Result<(), Halt> {
        self.shared.set_phase(Phase::Drain);
        thread::sleep(GLANCE);
        let counts = &self.shared.counts;
        self.until_quiet(
            || counts.delivered.load(Ordering::Relaxed),
            || counts.sent_measured.load(Ordering::Relaxed) * u64::from(self.plan.subscribers_per_topic),
        )
    }

    /// Measures up to here.
    pub(crate) fn end(&mut self) {
        let Some(measured) = &mut self.measured else { return };
        measured.usage = self.watch.usage() - measured.start;
        measured.memory = self.watch.memory();
        let end = match self.shared.last_delivery.load(Ordering::Relaxed) {
            0 => self.shared.now(),
            last => last,
        };
        measured.seconds = end.saturating_sub(measured.started) as f64 / 1e9;
    }

    /// How long it was measured, in seconds.
    pub(crate) fn seconds(&self) -> f64 {
        self.measured.map_or(0.0, |measured| measured.seconds)
    }

    /// The CPU time of the server while it was measured, if that is known.
    pub(crate) fn server_cpu(&self) -> Option<f64> {
        self.measured.filter(|_| !self.watch.is_empty()).map(|measured| measured.usage.server_total())
    }

    /// Ends what happens by itself, and goes on measuring.
    pub(crate) fn rest(&self) {
        self.shared.set_phase(Phase::Drain);
    }

    fn until_quiet(&self, arrived: impl Fn() -> u64, expected: impl Fn() -> u64) -> Result<(), Halt> {
        let (mut last, mut since) = (arrived(), Instant::now());
        while last < expected() && since.elapsed() < DRAIN {
            // Whoever ends a run early still wants to know what of it was lost.
            self.check_failure()?;
            thread::sleep(GLANCE);
            let now = arrived();
            if now != last {
                (last, since) = (now, Instant::now());
            }
        }
        Ok(())
    }

    /// Waits, and shows how it goes.
    pub(crate) fn sleep(&mut self, time: Duration) -> Result<(), Halt> {
        let end = Instant::now() + time;
        while let Some(left) = end.checked_duration_since(Instant::now()).filter(|left| !left.is_zero()) {
            self.look()?;
            thread::sleep(left.min(LOOK));
        }
        Ok(())
    }

    fn look(&mut self) -> Result<(), Halt> {
        self.progress.show(self.shared);
        self.check()
    }

    fn check_failure(&self) -> Result<(), Halt> {
        self.shared.failure().map_or(Ok(()), |failure| Err(Halt::Failed(failure)))
    }

    fn check(&self) -> Result<(), Halt> {
        self.check_failure()?;
        match self.interrupted.load(Ordering::Relaxed) {
            true => Err(Halt::Interrupted),
            false => Ok(()),
        }
    }
}
