//! What the commands do.

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::CommandFactory;
use fanfare_bench::Verdict;

use crate::cli::{Cli, Cluster, Command, Docs, New, Settings};
use crate::config::{reference, starter};
use crate::scaffold::app::App;
use crate::terminal::{Failure, Given, load, print};
use crate::{apikey, client, contact, contract, demo, mint, run, scaffold, supabase};

/// The exit status of a load test that has counted messages as lost, doubled or out of order.
const WRONG_FIGURES: u8 = 3;

/// Does it. The exit status says more than success where a command has more to say.
///
/// # Errors
/// What to tell the user.
pub(crate) fn execute(command: Command) -> Result<ExitCode, Failure> {
    let done = |()| ExitCode::SUCCESS;
    let exit = match command {
        Command::Dev { settings } => {
            return run::dev(Given::text("fanfare dev", run::DEV, settings)).map(done);
        }
        Command::Serve { config, settings } => {
            return run::serve(Given::file(config, settings)).map(done);
        }
        Command::Check { file, config, connect, settings } => {
            let config = Given::file(file.or(config), settings).read()?;
            for warning in &config.warnings {
                eprintln!("warning: {warning}");
            }
            if connect { contact::run(&config) } else { Ok(ExitCode::SUCCESS) }
        }
        Command::Init { file, short, force } => {
            let text = if short { starter::SHORT.to_owned() } else { starter::text() };
            write_new(&file, &text, force)?;
            eprintln!("wrote {}", file.display());
            eprintln!("start it: fanfare serve --config {}", file.display());
            Ok(ExitCode::SUCCESS)
        }
        Command::New { what: New::App { name, crate_path } } => {
            let App { dir, files } = scaffold::app::app(&name, crate_path.as_deref())?;
            std::fs::create_dir(&dir).map_err(|error| format!("cannot create the folder {dir}: {error}"))?;
            for (file, content) in files {
                let file = Path::new(&dir).join(file);
                let parent = file.parent().unwrap_or(Path::new(&dir));
                std::fs::create_dir_all(parent)
                    .map_err(|error| format!("cannot create {}: {error}", parent.display()))?;
                write_new(&file, &content, false)?;
                eprintln!("wrote {}", file.display());
            }
            eprintln!("\nRun it:   cd {dir} && cargo run\nTest it:  cd {dir} && cargo test");
            Ok(ExitCode::SUCCESS)
        }
        Command::New { what: New::Channel { name, dir, force } } => {
            let channel = scaffold::channel(&name)?;
            scaffold::check_crate(&dir)?;
            let file = dir.join(format!("{}.rs", channel.module));
            std::fs::create_dir_all(&dir).map_err(|error| format!("cannot create {}: {error}", dir.display()))?;
            write_new(&file, &channel.source, force)?;
            eprintln!("wrote {}\n\n{}", file.display(), channel.next_steps(&dir));
            Ok(ExitCode::SUCCESS)
        }
        Command::Cluster { what: Cluster::Demo(asked) } => demo::run(&asked).map(done),
        Command::Cluster { what: Cluster::Node(asked) } => demo::node(&asked).map(done),
        Command::Bench(bench) => Ok(match fanfare_bench::run(&bench)? {
            Verdict::Right => ExitCode::SUCCESS,
            Verdict::Wrong => ExitCode::from(WRONG_FIGURES),
        }),
        Command::Pub(asked) => client::publish(&asked).map(done),
        Command::Sub(asked) => client::subscribe(&asked).map(done),
        Command::Presence(asked) => client::presence(&asked).map(done),
        Command::History(asked) => client::history(&asked).map(done),
        Command::Topics(asked) => client::topics(&asked).map(done),
        Command::Tap(asked) => client::tap(&asked).map(done),
        Command::Top(asked) => client::top(&asked).map(done),
        Command::Status(asked) => client::status(&asked).map(done),
        Command::Nodes(asked) => client::nodes(&asked).map(done),
        Command::Why(asked) => client::why(&asked).map(done),
        Command::Disconnect(asked) => client::disconnect(&asked).map(done),
        Command::Reload(asked) => client::reload(&asked).map(done),
        Command::Upgrade(asked) => client::upgrade(&asked).map(done),
        Command::Drain(asked) => client::drain(&asked).map(done),
        Command::Log(asked) => client::log(&asked).map(done),
        Command::Token(token) => {
            let config = load(&token.config, Settings::default())?;
            print(&format!("{}\n", mint::token(&config, &token)?)).map(done)
        }
        Command::ApiKey(asked) => {
            let config = load(&asked.config, Settings::default())?;
            print(&apikey::command::run(&config, &asked)?).map(done)
        }
        Command::Contract { config, from, format, out, against } => {
            let document = match from {
                Some(file) => contract::read(&file)?,
                None => contract::of(&load(&config, Settings::default())?),
            };
            print(&contract::run(&document, format, out.as_deref(), against.as_ref())?).map(done)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "fanfare", &mut script);
            print(&String::from_utf8_lossy(&script)).map(done)
        }
        Command::Docs { page: Docs::Man { dir } } => {
            let written = std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(Cli::command(), &dir));
            written.map(|()| ExitCode::SUCCESS).map_err(|error| format!("cannot write to {}: {error}", dir.display()))
        }
        Command::Docs { page: Docs::Config } => print(&reference::markdown()).map(done),
        Command::Docs { page: Docs::Supabase } => print(supabase::FUNCTIONS).map(done),
    };
    Ok(exit?)
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
