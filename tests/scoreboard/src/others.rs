//! What other programs take of the machine beside a check.

use std::fs;
use std::time::{Duration, Instant};

/// The kernel counts in hundredths of a second, whatever its own clock is.
const TICK: Duration = Duration::from_millis(10);

/// What other programs may keep busy of the machine beside a measurement, in cores.
const OTHERS_MAX: f64 = 0.2;

/// Whether others kept so little of it busy that a measurement means something.
pub(crate) fn is_quiet(others: f64) -> bool {
    others <= OTHERS_MAX
}

/// Measures, and again where others were busy meanwhile: so often at most. The last measurement counts.
pub(crate) fn undisturbed<T>(
    attempts: usize,
    mut measure: impl FnMut() -> Result<T, String>,
    others: impl Fn(&T) -> f64,
) -> Result<T, String> {
    for _ in 1..attempts {
        let measured = measure()?;
        if is_quiet(others(&measured)) {
            return Ok(measured);
        }
    }
    measure()
}

/// A look at the time that programs took by themselves. What the kernel did for them is left out: who it did that for
/// cannot be told.
pub(crate) struct Others {
    at: Instant,
    machine: Duration,
    ours: Duration,
}

impl Others {
    /// Beside these processes and this one.
    pub(crate) fn look(ours: &[u32]) -> Result<Self, String> {
        let machine = field("/proc/stat", "cpu ", &[0, 1])?;
        let ours = ours.iter().copied().chain([std::process::id()]);
        let user = |pid| field(&format!("/proc/{pid}/stat"), ") ", &[11]);
        Ok(Self { at: Instant::now(), machine, ours: ours.map(user).sum::<Result<_, _>>()? })
    }

    /// How many cores other programs kept busy up to another look.
    pub(crate) fn until(&self, later: &Self) -> f64 {
        let others = (later.machine - self.machine).saturating_sub(later.ours - self.ours);
        others.as_secs_f64() / (later.at - self.at).as_secs_f64()
    }
}

/// The sum of some of the numbers behind a word of a file.
fn field(path: &str, word: &str, columns: &[usize]) -> Result<Duration, String> {
    let text = fs::read_to_string(path).map_err(|e| format!("cannot read {path}: {e}"))?;
    let columns: Option<Vec<u32>> = text.split_once(word).and_then(|(_, rest)| {
        let numbers: Vec<&str> = rest.split_whitespace().collect();
        columns.iter().map(|column| numbers.get(*column)?.parse().ok()).collect()
    });
    let ticks: u32 = columns.ok_or_else(|| format!("{path} is not as expected"))?.iter().sum();
    Ok(TICK * ticks)
}
