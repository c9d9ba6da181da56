//! What the hot paths cost, in instructions: callgrind runs the cases of `bench/counts`, and what comes out is held against
//! a baseline. Hardware counters would do it faster, but not on every machine.

mod baseline;

use std::process::Command;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::{process, repository};
use baseline::{Baseline, Change, compare};

const BASELINE: &str = "bench/counts/baseline.toml";

/// So many cases run at a time.
const AT_A_TIME: usize = 2;

/// Counts, prints what has changed, and fails where something costs more than the baseline allows.
pub(crate) fn check() -> Result<(), String> {
    let text = repository::text(BASELINE)?.ok_or_else(|| format!("{BASELINE} is not UTF-8"))?;
    let baseline = Baseline::parse(&text)?;
    let now = count()?;
    if baseline.architecture != now.architecture {
        println!("{BASELINE} is of {}, this is {}: not compared", baseline.architecture, now.architecture);
        return Ok(());
    }
    if baseline.rustc != now.rustc {
        println!("{BASELINE} is of rustc {}, this is {}: it may be the compiler's doing", baseline.rustc, now.rustc);
    }
    let rows = compare(&baseline.instructions, &now.instructions);
    println!("{:32} {:>10} {:>10} {:>8}", "instructions per operation", "baseline", "now", "change");
    rows.iter().for_each(|row| println!("{row}"));
    let count = |change: Change| rows.iter().filter(|row| row.change == change).count();
    if count(Change::Cheaper) > 0 {
        println!("some cost less than they did: `cargo xtask counts --update` keeps it so");
    }
    match count(Change::Dearer) + count(Change::New) + count(Change::Gone) {
        0 => Ok(()),
        wrong => Err(format!(
            "{wrong} cases cost more than they did, or are on one side only: \
             if it is meant, `cargo xtask counts --update` makes it the baseline"
        )),
    }
}

/// Makes what is counted now the baseline.
pub(crate) fn update() -> Result<(), String> {
    let now = count()?.to_string();
    print!("{now}");
    std::fs::write(repository::root().join(BASELINE), now).map_err(|e| format!("cannot write {BASELINE}: {e}"))
}

/// Builds the cases and counts them all.
fn count() -> Result<Baseline, String> {
    let mut cargo = Command::new("cargo");
    process::run(cargo.current_dir(repository::root()).args(["build", "--release", "--package=counts"]))?;
    let names = process::output(&mut Command::new(repository::release_program("counts")))?;
    let names: Vec<&str> = names.lines().collect();
    let (next, counted) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..AT_A_TIME {
            scope.spawn(|| {
                while let Some(name) = names.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let one = count_one(name).map(|instructions| ((*name).to_owned(), instructions));
                    counted.lock().expect("nobody panics with it").push(one);
                }
            });
        }
    });
    let instructions = counted.into_inner().expect("nobody panics with it").into_iter().collect::<Result<_, _>>()?;
    let version = process::output(Command::new("rustc").arg("--version"))?;
    let rustc = version.split(' ').nth(1).unwrap_or_default().to_owned();
    Ok(Baseline { rustc, architecture: std::env::consts::ARCH.to_owned(), instructions })
}

/// Instructions per operation of one case, rounded to tenths.
fn count_one(name: &str) -> Result<f64, String> {
    let mut valgrind = Command::new("valgrind");
    valgrind.args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=counts::measured*"]);
    let output = valgrind.arg(repository::release_program("counts")).arg(name).output();
    let output = output.map_err(|e| format!("valgrind cannot be run: {e}"))?;
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let collected = stderr.lines().find_map(|line| line.split_once("Collected : ")?.1.trim().parse::<u64>().ok());
    let operations = stdout.trim().parse::<u64>().ok();
    match (collected, operations) {
        (Some(collected @ 1..), Some(operations @ 1..)) => {
            Ok((collected as f64 / operations as f64 * 10.0).round() / 10.0)
        }
        _ => Err(format!("the case {name} was not counted ({}):\n{stdout}{stderr}", output.status)),
    }
}
