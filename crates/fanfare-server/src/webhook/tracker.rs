//! Who is here, and whose going is not told yet because they may be back. Time is an argument.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::time::{Duration, Instant, SystemTime};

use super::event::Subject;

/// Holds one entry for each topic and user that is here, as many as the engine's limits let in, and a bounded number of those
/// that were.
#[derive(Debug)]
pub(super) struct Tracker {
    grace: Duration,
    /// Beyond so many the one that left first is given up: whoever joins one new topic after the other must not fill the
    /// memory for as long as the grace is.
    leaving_max: usize,
    known: HashMap<Subject, Standing>,
    /// When goings are to be told, by time.
    due: BTreeSet<(Instant, Subject)>,
}

#[derive(Debug)]
enum Standing {
    /// So many times: a user by several sockets.
    Here(usize),
    Leaving {
        due: Instant,
        at: SystemTime,
    },
}

impl Tracker {
    pub(super) fn new(grace: Duration, leaving_max: usize) -> Self {
        Self { grace, leaving_max, known: HashMap::new(), due: BTreeSet::new() }
    }

    /// Somebody comes: whether that is news.
    pub(super) fn enter(&mut self, subject: &Subject) -> bool {
        match self.known.get_mut(subject) {
            None => {
                self.known.insert(subject.clone(), Standing::Here(1));
                true
            }
            Some(Standing::Here(times)) => {
                *times += 1;
                false
            }
            Some(standing) => {
                if let Standing::Leaving { due, .. } = mem::replace(standing, Standing::Here(1)) {
                    self.due.remove(&(due, subject.clone()));
                }
                false
            }
        }
    }

    /// Somebody goes: whether nothing of it is here any more.
    pub(super) fn leave(&mut self, subject: &Subject, now: Instant, at: SystemTime) -> bool {
        let Some(standing) = self.known.get_mut(subject) else { return false };
        match standing {
            Standing::Here(1) => {
                let due = now + self.grace;
                *standing = Standing::Leaving { due, at };
                self.due.insert((due, subject.clone()));
                true
            }
            Standing::Here(times) => {
                *times -= 1;
                false
            }
            Standing::Leaving { .. } => false,
        }
    }

    /// When the next going is to be told.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.due.first().map(|(due, _)| *due)
    }

    /// Those who have stayed away, or for whom there is no room, and since when.
    pub(super) fn gone(&mut self, now: Instant) -> Vec<(Subject, SystemTime)> {
        let mut gone = Vec::new();
        while self.due.len() > self.leaving_max || self.next_due().is_some_and(|due| due <= now) {
            let Some((_, subject)) = self.due.pop_first() else { break };
            if let Some(Standing::Leaving { at, .. }) = self.known.remove(&subject) {
                gone.push((subject, at));
            }
        }
        gone
    }

    /// All there are, as of now if they are still here: it ends.
    pub(super) fn all_gone(&mut self, at: SystemTime) -> Vec<(Subject, SystemTime)> {
        self.due.clear();
        let since = |(subject, standing)| match standing {
            Standing::Leaving { at, .. } => (subject, at),
            Standing::Here(_) => (subject, at),
        };
        mem::take(&mut self.known).into_iter().map(since).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Test {
        tracker: Tracker,
        start: Instant,
    }

    impl Test {
        /// What is told of a step at a time: `+a` comes, `-a` goes, empty is just the time.
        #[track_caller]
        fn check(&mut self, at_ms: u64, step: &str, told: &[&str]) {
            let now = self.start + Duration::from_millis(at_ms);
            let mut news: Vec<String> = self
                .tracker
                .gone(now)
                .into_iter()
                .map(|(subject, at)| format!("-{}@{}", name(&subject), ms(at)))
                .collect();
            let subject = |name: &str| Subject::Topic(name.into());
            if let Some(name) = step.strip_prefix('+') {
                news.extend(self.tracker.enter(&subject(name)).then(|| format!("+{name}")));
            }
            if let Some(name) = step.strip_prefix('-') {
                self.tracker.leave(&subject(name), now, SystemTime::UNIX_EPOCH + Duration::from_millis(at_ms));
            }
            assert_eq!(news, told);
        }
    }

    fn name(subject: &Subject) -> &str {
        let (Subject::Topic(name) | Subject::User(name)) = subject;
        name
    }

    fn ms(at: SystemTime) -> u128 {
        at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis()
    }

    #[test]
    fn who_is_back_within_the_grace_was_never_away() {
        let mut test = Test { tracker: Tracker::new(Duration::from_secs(3), 100), start: Instant::now() };
        test.check(0, "+a", &["+a"]);
        test.check(0, "-a", &[]);
        test.check(2999, "+a", &[]);
        test.check(9000, "-a", &[]);
        test.check(10_000, "+b", &["+b"]);
        test.check(10_000, "-b", &[]);
        test.check(11_999, "", &[]);
        test.check(12_000, "", &["-a@9000"]);
        test.check(13_000, "+b", &["-b@10000", "+b"]);
        // The second one of a user's sockets changes nothing.
        test.check(14_000, "+b", &[]);
        test.check(14_000, "-b", &[]);
        test.check(30_000, "-b", &[]);
        // A going that nobody knows of, and one too many.
        test.check(30_000, "-x", &[]);
        test.check(30_000, "-b", &[]);
        test.check(33_000, "", &["-b@30000"]);
        assert!(test.tracker.known.is_empty() && test.tracker.due.is_empty());
    }

    #[test]
    fn flapping_leaves_nothing_behind() {
        let mut test = Test { tracker: Tracker::new(Duration::from_secs(3), 100), start: Instant::now() };
        test.check(0, "+a", &["+a"]);
        for _ in 0..1000 {
            test.check(0, "-a", &[]);
            test.check(0, "+a", &[]);
        }
        test.check(0, "-a", &[]);
        assert_eq!((test.tracker.known.len(), test.tracker.due.len()), (1, 1));
        let gone = test.tracker.all_gone(SystemTime::UNIX_EPOCH);
        assert_eq!((gone.len(), test.tracker.next_due()), (1, None));
    }

    #[test]
    fn beyond_the_bound_who_left_first_is_gone_early() {
        let mut test = Test { tracker: Tracker::new(Duration::from_secs(3600), 2), start: Instant::now() };
        for (at_ms, name) in [(0, "a"), (1, "b"), (2, "c")] {
            test.check(at_ms, &format!("+{name}"), &[&format!("+{name}")]);
            test.check(at_ms, &format!("-{name}"), &[]);
        }
        test.check(2, "", &["-a@0"]);
        assert_eq!((test.tracker.known.len(), test.tracker.due.len()), (2, 2));
        test.check(3, "+b", &[]);
        test.check(3, "+a", &["+a"]);
        test.check(3, "-a", &[]);
        test.check(3, "-b", &[]);
        test.check(4, "", &["-c@2"]);
    }
}
