//! When a certificate is renewed, and how long to wait after a failure.

use std::time::{Duration, Instant, SystemTime};

use crate::backoff::doubled;
use crate::http_client::Failure;

/// A directory that was not reached, or had a fault of its own, is asked again soon.
const DOWN_FIRST: Duration = Duration::from_secs(1);
const DOWN_LONGEST: Duration = Duration::from_secs(3_600);

/// Authorities count what they refuse, and allow few of it in an hour.
const REFUSED_FIRST: Duration = Duration::from_secs(3_600);
const REFUSED_LONGEST: Duration = Duration::from_secs(86_400);

/// An authority that wants to be left alone for longer is asked after this all the same: limits of certificates hold for a week.
const ASKED_LONGEST: Duration = Duration::from_secs(7 * 86_400);

/// How long what an authority says of a renewal counts, whatever it says itself of that (RFC 9773, 4.3.2).
const ASK_LEAST: Duration = Duration::from_secs(60);
const ASK_MOST: Duration = Duration::from_secs(86_400);

/// An authority that wants each certificate to be renewed at once is not let: the next one is ordered after this part of its life, or
/// an hour.
const LEAST_PART: u32 = 100;
const LEAST: Duration = Duration::from_secs(3_600);

/// What an authority says of when a certificate is to be renewed, and how long that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) from: SystemTime,
    pub(super) to: SystemTime,
    pub(super) counts: Duration,
}

/// When within the time that is wished for, or that is ours to choose: not all servers at once.
#[derive(Debug)]
pub(super) struct Window {
    wish: Option<Wish>,
    ask_again: Instant,
    /// When the certificate was ordered, if it was just now.
    since: Option<SystemTime>,
    /// From 0 to 1.
    chance: f64,
}

impl Window {
    /// Of a certificate that is served from now on.
    pub(super) fn new() -> Self {
        Self { wish: None, ask_again: Instant::now(), since: None, chance: chance() }
    }

    /// The certificate was ordered just now.
    pub(super) fn begin(&mut self) {
        self.since = Some(SystemTime::now());
    }

    pub(super) fn is_to_be_asked(&self) -> bool {
        Instant::now() >= self.ask_again
    }

    /// What the authority says now; nothing if it does not.
    pub(super) fn told(&mut self, wish: Option<Wish>) {
        // One that has answered before may only be away.
        let counts = wish.map_or(ASK_MOST / 24, |wish| wish.counts.clamp(ASK_LEAST, ASK_MOST));
        self.ask_again = Instant::now() + counts;
        self.wish = wish.or(self.wish);
    }

    /// Whether the authority has said something.
    pub(super) fn is_wished(&self) -> bool {
        self.wish.is_some()
    }

    /// When a certificate with this life is to be renewed: in the time that is wished for, or else after two thirds of its life.
    pub(super) fn renewal(&self, begins: SystemTime, ends: SystemTime) -> SystemTime {
        let life = ends.duration_since(begins).unwrap_or_default();
        match self.wish {
            Some(Wish { from, to, .. }) => {
                let at = from + to.duration_since(from).unwrap_or_default().mul_f64(self.chance);
                self.since.map_or(at, |since| at.max(since + (life / LEAST_PART).min(LEAST)))
            }
            None => begins + life * 2 / 3 + (life / 20).mul_f64(self.chance),
        }
    }
}

/// Counts failures.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    /// Of the same kind, one after the other.
    times: u32,
    is_refused: bool,
}

impl Backoff {
    /// After so many refusals.
    pub(super) fn refused(times: u32) -> Self {
        Self { times, is_refused: true }
    }

    /// How many failures of the last kind there were.
    pub(super) fn times(&self) -> u32 {
        self.times
    }

    /// The wait before the next try, with up to a half more by chance, and no less than the authority has asked for.
    pub(super) fn next(&mut self, failure: &Failure, asked: Option<Duration>) -> Duration {
        let (first, longest) = match failure {
            Failure::Down(_) => (DOWN_FIRST, DOWN_LONGEST),
            Failure::Refused(_) => (REFUSED_FIRST, REFUSED_LONGEST),
        };
        // An authority that was away for long, and then refuses, has refused once.
        let is_refused = matches!(failure, Failure::Refused(_));
        if std::mem::replace(&mut self.is_refused, is_refused) != is_refused {
            self.times = 0;
        }
        let wait = doubled(first, self.times, longest);
        self.times = self.times.saturating_add(1);
        let wait = wait.max(asked.unwrap_or_default().min(ASKED_LONGEST));
        wait + wait.mul_f64(chance() / 2.0)
    }
}

/// Without random bytes there is none, which is no reason to stop.
fn chance() -> f64 {
    f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_certificate_is_renewed_when_it_is_wished_for_or_after_two_thirds_of_its_life() {
        let begins = SystemTime::now();
        let in_days = |days: u32| begins + DAY * days;
        let window = |chance| Window { wish: None, ask_again: Instant::now(), since: Some(begins), chance };
        let wished = |from, to, chance| {
            let mut window = window(chance);
            assert!(window.is_to_be_asked());
            window.told(Some(Wish { from, to, counts: DAY / 4 }));
            assert!(!window.is_to_be_asked());
            window.renewal(begins, in_days(90))
        };
        assert_eq!(window(0.0).renewal(begins, in_days(90)), in_days(60));
        assert_eq!(window(1.0).renewal(begins, in_days(100)), begins + DAY * 100 * 2 / 3 + DAY * 5);
        assert_eq!(wished(in_days(10), in_days(12), 0.0), in_days(10));
        assert_eq!(wished(in_days(10), in_days(12), 0.5), in_days(11));
        assert_eq!(wished(in_days(10), in_days(12), 1.0), in_days(12));
        // One that wishes for it at once is obeyed once, and not again and again.
        assert_eq!(wished(begins - DAY, begins - DAY / 2, 0.0), begins + LEAST);
        // A window that ends before it begins.
        assert_eq!(wished(in_days(10), in_days(9), 1.0), in_days(10));
        // What an authority has said counts while it says nothing.
        let mut window = window(0.0);
        window.told(Some(Wish { from: in_days(10), to: in_days(12), counts: Duration::ZERO }));
        window.told(None);
        assert_eq!(window.renewal(begins, in_days(90)), in_days(10));
    }

    #[test]
    fn what_is_refused_is_tried_again_after_an_hour_and_what_is_away_after_a_second() {
        /// The waits in seconds, by chance up to a half longer.
        #[track_caller]
        fn check(failure: &Failure, least: &[u64]) {
            let mut backoff = Backoff::default();
            for least in least {
                let wait = backoff.next(failure, None).as_secs();
                assert!((*least..=least + least / 2).contains(&wait), "{wait} for {least}");
            }
        }
        check(&Failure::Down(String::new()), &[1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1_024, 2_048, 3_600, 3_600]);
        check(&Failure::Refused(String::new()), &[3_600, 7_200, 14_400, 28_800, 57_600, 86_400, 86_400]);
        let mut backoff = Backoff::default();
        for (failure, least) in [
            (Failure::Down(String::new()), 1),
            (Failure::Down(String::new()), 2),
            (Failure::Refused(String::new()), 3_600),
            (Failure::Down(String::new()), 1),
        ] {
            let wait = backoff.next(&failure, None).as_secs();
            assert!((least..=least + least / 2).contains(&wait), "{wait} for {failure:?}");
        }
        // What was refused before a restart counts on, and an authority may want more.
        for (times, asked, least) in [(0, 0, 3_600), (2, 0, 14_400), (0, 100_000, 100_000), (0, u64::MAX / 2, 604_800)]
        {
            let asked = Some(Duration::from_secs(asked));
            let wait = Backoff::refused(times).next(&Failure::Refused(String::new()), asked).as_secs();
            assert!((least..=least + least / 2).contains(&wait), "{wait} for {least}");
        }
    }
}
