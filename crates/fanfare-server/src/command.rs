//! What the commands do.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use fanfare_bench::Verdict;

use crate::cli::{Command, Docs, New, Settings};
use crate::config::{Config, Overrides, reference, starter};
use crate::{apikey, client, mint, run, scaffold};

const DEV: &str = include_str!("dev.toml");

/// Does it. The exit status says more than success where a command has more to say.
///
/// # Errors
/// What to tell the user.
pub(crate) fn execute(command: Command) -> Result<ExitCode, String> {
    let done = |()| ExitCode::SUCCESS;
    match command {
        Command::Dev { settings } => {
            let config =
                Config::parse("fanfare dev", DEV, &overrides(settings)).map_err(|report| report.to_string())?;
            run::dev(config).map(done)
        }
        Command::Serve { config, settings } => run::serve(load(&config, settings)?).map(done),
        Command::Check { config, settings } => {
            for warning in load(&config, settings)?.warnings {
                eprintln!("warning: {warning}");
            }
            Ok(ExitCode::SUCCESS)
        }
        Command::Init { file, force } => {
            write_new(&file, &starter::text(), force)?;
            eprintln!("wrote {}", file.display());
            eprintln!("start it: fanfare serve --config {}", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::New { what: New::Channel { name, dir, force } } => {
            let channel = scaffold::channel(&name)?;
            let file = dir.join(format!("{}.rs", channel.module));
            std::fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
            write_new(&file, &channel.source, force)?;
            eprintln!("wrote {}\n\n{}", file.display(), channel.next_steps(&dir));
            Ok(ExitCode::SUCCESS)
        }
        Command::Bench(bench) => Ok(match fanfare_bench::run(&bench)? {
            Verdict::Right => ExitCode::SUCCESS,
            Verdict::Wrong => ExitCode::from(2),
        }),
        Command::Pub(asked) => client::publish(&asked).map(done),
        Command::Sub(asked) => client::subscribe(&asked).map(done),
        Command::Presence(asked) => client::presence(&asked).map(done),
        Command::History(asked) => client::history(&asked).map(done),
        Command::Topics(asked) => client::topics(&asked).map(done),
        Command::Disconnect(asked) => client::disconnect(&asked).map(done),
        Command::Token(token) => {
            let config = load(&token.config, Settings::default())?;
            print(&format!("{}\n", mint::token(&config, &token)?)).map(done)
        }
        Command::ApiKey(asked) => {
            let config = load(&asked.config, Settings::default())?;
            print(&apikey::command::run(&config, &asked)?).map(done)
        }
        Command::Docs { page: Docs::Config } => print(&reference::markdown()).map(done),
    }
}

/// Writes to the standard output.
///
/// # Errors
/// It cannot be written to.
pub(crate) fn print(text: &str) -> Result<(), String> {
    let printed = std::io::stdout().lock().write_all(text.as_bytes());
    printed.map_err(|error| format!("cannot write to the standard output: {error}"))
}

/// Reads a configuration.
///
/// # Errors
/// What is wrong with it.
pub(crate) fn load(file: &Path, settings: Settings) -> Result<Config, String> {
    Config::load(file, &overrides(settings)).map_err(|report| report.to_string())
}

fn overrides(settings: Settings) -> Overrides {
    // A variable that is not UTF-8 cannot be a setting; where a secret is looked for in one, it counts as not set.
    let text = |text: std::ffi::OsString| text.into_string().ok();
    let variables = std::env::vars_os().filter_map(|(name, value)| Some((text(name)?, text(value)?)));
    Overrides::new(settings.into_flags(), variables)
}

fn write_new(file: &Path, content: &str, overwrite: bool) -> Result<(), String> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true);
    match overwrite {
        true => options.create(true).truncate(true),
        false => options.create_new(true),
    };
    let written = options.open(file).and_then(|mut file| file.write_all(content.as_bytes()));
    written.map_err(|error| match error.kind() {
        std::io::ErrorKind::AlreadyExists => format!("{} exists; --force overwrites it", file.display()),
        _ => format!("cannot write {}: {error}", file.display()),
    })
}
