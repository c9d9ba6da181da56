//! The log on the standard error, and a brake for lines that clients can cause.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::server::{Log, LogFormat, LogLevel};

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct Filter(reload::Handle<Targets, Registry>);

impl Filter {
    /// From now on.
    pub(crate) fn set(&self, level: &LogLevel) {
        // It fails only once nothing is logged any more.
        let _ = self.0.reload(level.0.clone());
    }
}

impl fmt::Debug for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Filter")
    }
}

/// Starts logging, unless another node in this process has. Colours only where somebody looks at them.
pub(crate) fn start(settings: &Log) -> Filter {
    let (filter, handle) = reload::Layer::new(settings.level.0.clone());
    let filter = tracing_subscriber::registry().with(filter);
    let lines = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let _ = match settings.format {
        LogFormat::Text => {
            let is_terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
            filter.with(lines.with_ansi(is_terminal)).try_init()
        }
        LogFormat::Json => filter.with(lines.json().flatten_event(true)).try_init(),
    };
    Filter(handle)
}

/// Lets so many lines pass each second, and counts the others.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    second: AtomicU64,
    passed: AtomicU64,
    held: AtomicU64,
}

impl Brake {
    /// Whether a line may be written now; if so, how many were held back since the last one. Approximate under races,
    /// which is enough for a log.
    pub(crate) fn pass(&self, lines_per_second_max: u64) -> Option<u64> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        if self.second.swap(now, Ordering::Relaxed) != now {
            self.passed.store(0, Ordering::Relaxed);
        }
        if self.passed.fetch_add(1, Ordering::Relaxed) < lines_per_second_max {
            return Some(self.held.swap(0, Ordering::Relaxed));
        }
        self.held.fetch_add(1, Ordering::Relaxed);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_held_back() {
        let brake = Brake::default();
        let passed = (0..10_000).filter(|_| brake.pass(10).is_some()).count();
        // More than one second may begin while the loop runs.
        assert!((10..=40).contains(&passed), "{passed}");
        assert!(brake.held.load(Ordering::Relaxed) > 9_000);
    }
}
