//! The log on the standard error.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::server::{Log, LogFormat, LogLevel};
use crate::terminal;

/// Changes what is logged.
#[derive(Clone)]
pub(crate) struct Filter {
    handle: reload::Handle<Targets, Registry>,
    levels: Arc<Mutex<Levels>>,
}

/// What is to be logged.
struct Levels {
    configured: Targets,
    /// What somebody has asked for while the server runs.
    asked: Option<Targets>,
    /// How many times it was changed: what is to end later ends only what it began.
    changes: u64,
}

impl Filter {
    /// From now on what the configuration says, whatever was asked for.
    pub(crate) fn set(&self, level: &LogLevel) {
        let mut levels = self.locked();
        levels.configured = level.0.clone();
        levels.asked = None;
        self.apply(&mut levels);
    }

    /// Until the configuration is read again, or for some time.
    pub(crate) fn ask_for(&self, level: LogLevel, span: Option<Duration>) {
        let mut levels = self.locked();
        levels.asked = Some(level.0);
        let mine = self.apply(&mut levels);
        let Some(span) = span else { return };
        let filter = self.clone();
        tokio::spawn(async move {
            tokio::time::sleep(span).await;
            let mut levels = filter.locked();
            if levels.changes == mine {
                levels.asked = None;
                filter.apply(&mut levels);
                tracing::info!(event = "log_level", level = %levels.configured, "the log is as configured again");
            }
        });
    }

    /// What is logged, and what would be by the configuration.
    pub(crate) fn levels(&self) -> (String, String) {
        let levels = self.locked();
        (levels.in_force().to_string(), levels.configured.to_string())
    }

    fn locked(&self) -> MutexGuard<'_, Levels> {
        self.levels.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn apply(&self, levels: &mut Levels) -> u64 {
        // It fails only once nothing is logged any more.
        let _ = self.handle.reload(levels.in_force().clone());
        levels.changes += 1;
        levels.changes
    }
}

impl Levels {
    fn in_force(&self) -> &Targets {
        self.asked.as_ref().unwrap_or(&self.configured)
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
        LogFormat::Text => filter.with(lines.with_ansi(terminal::has_colours(&std::io::stderr()))).try_init(),
        LogFormat::Json => filter.with(lines.json().flatten_event(true)).try_init(),
    };
    let levels = Levels { configured: settings.level.0.clone(), asked: None, changes: 0 };
    Filter { handle, levels: Arc::new(Mutex::new(levels)) }
}
