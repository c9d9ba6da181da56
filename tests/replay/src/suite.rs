//! Plays many transcripts, one at a time against each of several servers.
//!
//! Transcripts share topics, so one server plays one transcript at a time. Where that takes too long, start more
//! server processes: each of them takes the next transcript when it is through with its last.

use crate::player::{Mismatch, Options, Server, play};
use crate::transcript::Transcript;
use std::cmp::Reverse;
use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// A pause between two transcripts, in which the server notices that the connections of the first are gone.
const SETTLE: Duration = Duration::from_millis(60);
/// The same after a failure, when connections may have been dropped in the middle of something.
const SETTLE_AFTER_FAILURE: Duration = Duration::from_millis(400);

/// What has become of one transcript.
#[derive(Debug)]
pub enum Outcome {
    /// The server did what it should; how long that took.
    Passed(Duration),
    /// The first difference.
    Failed(Mismatch),
    /// Why it was not played.
    Skipped(&'static str),
}

/// How many transcripts passed and failed; skipped ones are neither.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// The number of transcripts that passed.
    pub passed: usize,
    /// The number of transcripts that failed.
    pub failed: usize,
}

impl Summary {
    /// Whether something was played and nothing failed.
    pub fn is_success(&self) -> bool {
        self.failed == 0 && self.passed > 0
    }
}

/// Plays `transcripts` against `servers` and calls `report` as each is through, from several threads where there are
/// several servers.
///
/// With one server the given order is kept; with several, slow ones go first. Those that end the server come last.
pub fn run<'a>(
    transcripts: impl IntoIterator<Item = &'a Transcript>,
    servers: &[Server],
    options: Options,
    report: impl Fn(&Transcript, &Outcome) + Sync,
) -> Summary {
    let mut order: Vec<&Transcript> = transcripts.into_iter().collect();
    if servers.len() > 1 {
        order.sort_by_key(|transcript| Reverse(transcript.slow));
    }
    order.sort_by_key(|transcript| transcript.needs_pid);
    let queue = Mutex::new(VecDeque::from(order));
    let next = || queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
    let worker = |server: Server| {
        let mut summary = Summary::default();
        while let Some(transcript) = next() {
            let outcome = play_one(transcript, server, options);
            report(transcript, &outcome);
            match outcome {
                Outcome::Passed(_) => summary.passed += 1,
                Outcome::Failed(_) => summary.failed += 1,
                Outcome::Skipped(_) => continue,
            }
            let failed = matches!(outcome, Outcome::Failed(_));
            std::thread::sleep(if failed { SETTLE_AFTER_FAILURE } else { SETTLE });
        }
        summary
    };
    std::thread::scope(|scope| {
        let workers: Vec<_> = servers.iter().map(|server| scope.spawn(|| worker(*server))).collect();
        workers.into_iter().fold(Summary::default(), |sum, worker| {
            let part = worker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
            Summary { passed: sum.passed + part.passed, failed: sum.failed + part.failed }
        })
    })
}

fn play_one(transcript: &Transcript, server: Server, options: Options) -> Outcome {
    if transcript.needs_pid && server.pid.is_none() {
        return Outcome::Skipped("needs --pid");
    }
    let started = Instant::now();
    match play(transcript, server, options) {
        Ok(()) => Outcome::Passed(started.elapsed()),
        Err(mismatch) => Outcome::Failed(mismatch),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    #[test]
    fn every_transcript_is_played_once_and_in_order() {
        // Where nobody listens, a connection is refused; that is all these transcripts want.
        let closed = TcpListener::bind(("127.0.0.1", 0)).unwrap().local_addr().unwrap().port();
        let transcript = |name: &str, more: &str, step: &str| {
            Transcript::parse(&format!(r#"{{"name":"{name}"{more},"steps":[{step}]}}"#)).unwrap()
        };
        let refused = r#"{"dir":"refused","path":"/"}"#;
        let transcripts = [
            transcript("ends", r#","needs":"pid""#, refused),
            transcript("passes", "", refused),
            transcript("fails", "", r#"{"dir":"silence","conn":"nobody","ms":1}"#),
            transcript("slow", r#","slow":10"#, refused),
        ];
        let server = |port| Server { port, pid: None };
        for (servers, order) in [
            (vec![server(closed)], vec!["passes", "fails", "slow", "ends"]),
            (vec![Server { port: closed, pid: Some(0) }], vec!["passes", "fails", "slow", "ends"]),
            (vec![server(closed), server(closed)], vec!["slow", "passes", "fails", "ends"]),
        ] {
            let with_pid = servers[0].pid.is_some();
            let seen = Mutex::new(Vec::new());
            let summary = run(&transcripts, &servers, Options::default(), |transcript, outcome| {
                let failed = matches!(outcome, Outcome::Failed(_));
                assert_eq!(failed, transcript.name == "fails");
                assert_eq!(matches!(outcome, Outcome::Skipped(_)), transcript.name == "ends" && !with_pid);
                seen.lock().unwrap().push(transcript.name.clone());
            });
            assert_eq!(summary, Summary { passed: if with_pid { 3 } else { 2 }, failed: 1 });
            assert!(!summary.is_success());
            let mut seen = seen.into_inner().unwrap();
            let mut order = order;
            if servers.len() > 1 {
                // Which of two is through first is up to them.
                seen.sort();
                order.sort();
            }
            assert_eq!(seen, order);
        }
        assert!(!Summary::default().is_success(), "nothing played is no success");
    }
}
