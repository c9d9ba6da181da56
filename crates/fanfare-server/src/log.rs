//! The log on the standard error.

use std::fmt;

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
