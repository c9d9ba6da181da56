//! `replay`: plays recorded transcripts against a server on this machine and says what differs.

use fanfare_replay::suite::{self, Outcome};
use fanfare_replay::{Better, Options, Server, Transcript, load};
use regex_lite::Regex;
use std::path::PathBuf;
use std::process::ExitCode;

const USAGE: &str = "\
replay --port N [--port N ...] [options] DIR_OR_FILE...

Plays transcripts against the server on 127.0.0.1:N and prints PASS or FAIL for each, with the first difference.
Of several ports each must belong to a process of its own; the transcripts are then divided among them.

  --better MODE   what counts where a step has a better form than the recorded one:
                  allow (either, the default), require (only the better), never (only the recorded)
  --pid PID       the server's process, for transcripts that send it signals; with one port only
  --no-slow       leave out transcripts that take 10 s and more by their nature
  --only REGEX    only transcripts in whose name this is found
  --pace F        scale recorded pauses and silences by F (default 1.0)
  -v, --verbose   print each step";

struct Arguments {
    servers: Vec<Server>,
    options: Options,
    slow_too: bool,
    only: Option<Regex>,
    paths: Vec<PathBuf>,
}

fn main() -> ExitCode {
    let arguments = std::env::args().skip(1);
    if arguments.len() == 0 || std::env::args().any(|argument| argument == "--help" || argument == "-h") {
        println!("{USAGE}");
        return ExitCode::from(2);
    }
    match parse(arguments).and_then(|arguments| Ok((select(&arguments)?, arguments))) {
        Ok((transcripts, arguments)) => play(&transcripts, &arguments),
        Err(error) => {
            eprintln!("replay: {error}");
            ExitCode::from(2)
        }
    }
}

fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Arguments, String> {
    let mut parsed =
        Arguments { servers: Vec::new(), options: Options::default(), slow_too: true, only: None, paths: Vec::new() };
    let mut pid = None;
    while let Some(argument) = arguments.next() {
        let (flag, mut value) = match argument.split_once('=') {
            Some((flag, value)) if flag.starts_with("--") => (flag.to_owned(), Some(value.to_owned())),
            _ => (argument, None),
        };
        let mut value = || value.take().or_else(|| arguments.next()).ok_or_else(|| format!("{flag} needs a value"));
        match flag.as_str() {
            "--port" => parsed.servers.push(Server { port: number(&flag, &value()?)?, pid: None }),
            "--pid" => pid = Some(number(&flag, &value()?)?),
            "--pace" => parsed.options.pace = number(&flag, &value()?)?,
            "--better" => {
                parsed.options.better = match value()?.as_str() {
                    "allow" => Better::Allow,
                    "require" => Better::Require,
                    "never" => Better::Never,
                    other => return Err(format!("--better is allow, require or never, not {other:?}")),
                }
            }
            "--only" => parsed.only = Some(Regex::new(&value()?).map_err(|e| format!("--only: {e}"))?),
            "--no-slow" => parsed.slow_too = false,
            "-v" | "--verbose" => parsed.options.verbose = true,
            unknown if unknown.starts_with('-') => return Err(format!("unknown option {unknown}; --help lists them")),
            path => parsed.paths.push(path.into()),
        }
    }
    if !(parsed.options.pace.is_finite() && parsed.options.pace >= 0.0) {
        return Err(format!("--pace must be 0 or more, not {}", parsed.options.pace));
    }
    match (parsed.servers.as_mut_slice(), pid) {
        ([], _) => return Err("--port is missing".to_owned()),
        ([server], pid) => server.pid = pid,
        (_, Some(_)) => return Err("--pid goes with one --port only".to_owned()),
        _ => {}
    }
    Ok(parsed)
}

fn number<N: std::str::FromStr>(flag: &str, value: &str) -> Result<N, String> {
    value.parse().map_err(|_| format!("{flag} must be a number, not {value:?}"))
}

fn select(arguments: &Arguments) -> Result<Vec<Transcript>, String> {
    let mut transcripts = Vec::new();
    for path in &arguments.paths {
        transcripts.extend(load(path).map_err(|e| e.to_string())?);
    }
    transcripts.retain(|transcript| arguments.only.as_ref().is_none_or(|only| only.is_match(&transcript.name)));
    transcripts.retain(|transcript| {
        let slow = transcript.slow.filter(|_| !arguments.slow_too);
        slow.inspect(|slow| println!("SKIP {}: takes {} s", transcript.name, slow.as_secs())).is_none()
    });
    Ok(transcripts)
}

fn play(transcripts: &[Transcript], arguments: &Arguments) -> ExitCode {
    let summary = suite::run(transcripts, &arguments.servers, arguments.options, |transcript, outcome| match outcome {
        Outcome::Passed(took) => println!("PASS {} ({:.1} s)", transcript.name, took.as_secs_f64()),
        Outcome::Failed(mismatch) => println!("FAIL {}: {mismatch}", transcript.name),
        Outcome::Skipped(why) => println!("SKIP {}: {why}", transcript.name),
    });
    println!("{} passed, {} failed", summary.passed, summary.failed);
    if summary.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
