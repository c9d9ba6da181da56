//! `cargo xtask fuzz`: what reads the input of strangers is given inputs that were right and have been broken, for as long as one likes.
//!
//! The readers and their right inputs are tests, which try some thousands in each run: `tests/mutations`, and the configuration in the
//! server. This gives them time.

use std::process::Command;

use crate::{process, repository};

/// How long each reader is given, unless told otherwise.
const SECONDS: &str = "60";

/// Runs all readers, or those whose names have one of the words.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    let (mut seconds, mut seed, mut names) = (SECONDS.to_owned(), None, Vec::new());
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut number = || {
            let number = args.next().filter(|number| number.parse::<u64>().is_ok());
            number.cloned().ok_or_else(|| format!("{arg} takes a number"))
        };
        match arg.as_str() {
            "--seconds" => seconds = number()?,
            "--seed" => seed = Some(number()?),
            flag if flag.starts_with('-') => return Err(format!("unknown option `{flag}`")),
            name => names.push(name.to_owned()),
        }
    }
    let tests = |packages: &[&str], names: &[String]| {
        let mut tests = Command::new("cargo");
        tests.current_dir(repository::root()).env("FANFARE_FUZZ_SECONDS", &seconds);
        tests.envs(seed.iter().map(|seed| ("FANFARE_FUZZ_SEED", seed)));
        process::run(tests.arg("test").args(packages).args(["--", "--nocapture"]).args(names))
    };
    tests(&["--package=fanfare-mutations", "--test=readers"], &names)?;
    let is_wanted = names.is_empty() || names.iter().any(|name| "broken_configurations".contains(name.as_str()));
    match is_wanted {
        true => tests(&["--package=fanfare-server", "--bin=fanfare"], &["broken_configurations".to_owned()]),
        false => Ok(()),
    }
}
