//! A question that is asked over and over beside a check, and how long its answers took.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Between an answer and the next question.
const PAUSE: Duration = Duration::from_millis(20);

/// Whoever asks, in a thread of its own.
pub(crate) struct Probe {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Answers>,
}

/// What came of all the questions.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Answers {
    pub(crate) asked: u64,
    /// Those without the right answer, or without any.
    pub(crate) failed: u64,
    /// The time of the slowest, whether it failed or not.
    pub(crate) worst: Duration,
}

impl Answers {
    /// With those to somebody else.
    pub(crate) fn and(self, others: Self) -> Self {
        Self {
            asked: self.asked + others.asked,
            failed: self.failed + others.failed,
            worst: self.worst.max(others.worst),
        }
    }
}

impl Probe {
    /// `ask` asks once, and says whether the answer was right.
    pub(crate) fn start(mut ask: impl FnMut() -> bool + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = thread::spawn(move || {
            let mut answers = Answers::default();
            while !stopped.load(Ordering::Relaxed) {
                let begun = Instant::now();
                let is_right = ask();
                answers.asked += 1;
                answers.failed += u64::from(!is_right);
                answers.worst = answers.worst.max(begun.elapsed());
                thread::sleep(PAUSE);
            }
            answers
        });
        Self { stop, thread }
    }

    /// Waits for the last answer.
    pub(crate) fn stop(self) -> Result<Answers, String> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| "who asked the server panicked".to_owned())
    }
}
