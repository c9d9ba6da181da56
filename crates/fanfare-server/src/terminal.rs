//! What the commands share: the configuration that a flag names, and the standard output.

use std::io::{IsTerminal, Write};
use std::path::{Path, PathBuf};

use crate::cli::Settings;
use crate::config::{Config, Overrides, Report};
use crate::preflight;

/// Why a command ends without having done what it was to.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The exit status: 1, or 2 where the command line or the configuration is wrong.
    pub(crate) status: u8,
    /// What to tell the user.
    pub(crate) text: String,
}

/// The exit status where it would end the same way again, whatever else happens: something was typed wrong.
pub(crate) const WRONG_USE: u8 = 2;

impl From<String> for Failure {
    fn from(text: String) -> Self {
        Self { status: 1, text }
    }
}

impl From<Report> for Failure {
    fn from(report: Report) -> Self {
        Self { status: WRONG_USE, text: report.to_string() }
    }
}

/// Writes to the standard output. If nobody reads it any more, the process ends, and all is well: whoever read it has enough, as in
/// `fanfare topics | head -1`.
///
/// # Errors
/// It cannot be written to.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let printed = std::io::stdout().lock().write_all(text.as_bytes());
    if printed.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe) {
        std::process::exit(0);
    }
    printed.map_err(|error| format!("cannot write to the standard output: {error}"))
}

/// Whether what is written there can have colours: somebody looks at it, and does not want it without.
pub(crate) fn has_colours(output: &impl IsTerminal) -> bool {
    let says = |name: &str, no: &str| {
        std::env::var_os(name).is_some_and(|value| !value.is_empty() && (no.is_empty() || value == no))
    };
    output.is_terminal() && !says("NO_COLOR", "") && !says("TERM", "dumb")
}

/// Reads a configuration, and looks at what it names.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn load(file: &Path, settings: Settings) -> Result<Config, Report> {
    preflight::load(file, &overrides(settings))
}

/// From what a server takes its configuration, each time that it reads it.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    base: Base,
    settings: Settings,
}

#[derive(Debug, Clone)]
enum Base {
    File(Option<PathBuf>),
    Text { name: &'static str, content: &'static str },
}

impl Given {
    /// A file, or that in this folder where none is named; without one, what flags and the environment say is enough if they say
    /// anything.
    pub(crate) fn file(file: Option<PathBuf>, settings: Settings) -> Self {
        Self { base: Base::File(file), settings }
    }

    /// A text of the program's own.
    pub(crate) fn text(name: &'static str, content: &'static str, settings: Settings) -> Self {
        Self { base: Base::Text { name, content }, settings }
    }

    /// Reads it, and looks at what it names.
    ///
    /// # Errors
    /// What is wrong with it, or that there is nothing.
    pub(crate) fn read(&self) -> Result<Config, Report> {
        let overrides = overrides(self.settings.clone());
        let default = Path::new("fanfare.toml");
        match &self.base {
            Base::Text { name, content } => preflight::parse(name, content, &overrides),
            Base::File(None) if overrides.sets_anything() && !default.exists() => {
                preflight::parse("the environment", "", &overrides)
            }
            Base::File(file) => preflight::load(file.as_deref().unwrap_or(default), &overrides),
        }
    }
}

/// What flags and the environment set.
pub(crate) fn overrides(settings: Settings) -> Overrides {
    // A variable that is not UTF-8 cannot be a setting; where a secret is looked for in one, it counts as not set.
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    Overrides::new(settings.into_flags(), variables)
}
