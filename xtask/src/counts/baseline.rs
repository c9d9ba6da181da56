//! The baseline's file, and what is a change.

use std::collections::BTreeMap;
use std::fmt;

/// What may be lost without a word. The counts of two runs differ by less than a tenth of that.
const TOLERANCE: f64 = 0.05;

/// Instructions per operation, by case.
type Instructions = BTreeMap<String, f64>;

/// What was counted, and by which compiler's code.
#[derive(Debug, PartialEq)]
pub(super) struct Baseline {
    pub(super) rustc: String,
    pub(super) architecture: String,
    pub(super) instructions: Instructions,
}

impl Baseline {
    /// Reads what `Display` writes: keys and values, one a line.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let (mut rustc, mut architecture, mut instructions) = (None, None, Instructions::new());
        for line in text.lines().filter(|line| !line.is_empty() && !line.starts_with(['#', '['])) {
            let bad = || format!("the baseline has a line that is none: {line:?}");
            let (key, value) = line.split_once(" = ").ok_or_else(bad)?;
            match key {
                "rustc" => rustc = Some(value.trim_matches('"').to_owned()),
                "architecture" => architecture = Some(value.trim_matches('"').to_owned()),
                case => drop(instructions.insert(case.to_owned(), value.parse().map_err(|_| bad())?)),
            }
        }
        match (rustc, architecture) {
            (Some(rustc), Some(architecture)) => Ok(Baseline { rustc, architecture, instructions }),
            _ => Err("the baseline says not which rustc and architecture it is of".to_owned()),
        }
    }
}

impl fmt::Display for Baseline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "# Written by `cargo xtask counts --update`.")?;
        writeln!(f, "rustc = \"{}\"\narchitecture = \"{}\"\n\n[instructions]", self.rustc, self.architecture)?;
        self.instructions.iter().try_for_each(|(case, instructions)| writeln!(f, "{case} = {instructions:.1}"))
    }
}

/// A case, then and now.
#[derive(Debug, PartialEq)]
pub(super) struct Row {
    case: String,
    baseline: Option<f64>,
    now: Option<f64>,
    pub(super) change: Change,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Same,
    Dearer,
    Cheaper,
    /// Not in the baseline.
    New,
    /// In the baseline only.
    Gone,
}

/// All cases of both sides, in order.
pub(super) fn compare(baseline: &Instructions, now: &Instructions) -> Vec<Row> {
    let mut cases: Vec<&String> = baseline.keys().chain(now.keys()).collect();
    cases.sort();
    cases.dedup();
    let row = |case: &String| {
        let (baseline, now) = (baseline.get(case).copied(), now.get(case).copied());
        let change = match (baseline, now) {
            (None, _) => Change::New,
            (_, None) => Change::Gone,
            (Some(baseline), Some(now)) if now > baseline * (1.0 + TOLERANCE) => Change::Dearer,
            (Some(baseline), Some(now)) if now < baseline * (1.0 - TOLERANCE) => Change::Cheaper,
            _ => Change::Same,
        };
        Row { case: case.clone(), baseline, now, change }
    };
    cases.into_iter().map(row).collect()
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |count: Option<f64>| count.map_or("-".to_owned(), |count| format!("{count:.1}"));
        let change = match (self.baseline, self.now) {
            (Some(baseline), Some(now)) => format!("{:+.1} %", (now / baseline - 1.0) * 100.0),
            _ => "-".to_owned(),
        };
        let word = match self.change {
            Change::Same => "",
            Change::Dearer => "  DEARER",
            Change::Cheaper => "  cheaper",
            Change::New => "  NEW",
            Change::Gone => "  GONE",
        };
        let Row { case, baseline, now, .. } = self;
        write!(f, "{case:32} {:>10} {:>10} {change:>8}{word}", shown(*baseline), shown(*now))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn instructions(cases: &[(&str, f64)]) -> Instructions {
        cases.iter().map(|(case, count)| ((*case).to_owned(), *count)).collect()
    }

    #[test]
    fn changes_of_more_than_a_twentieth_are_told() {
        for (baseline, now, change) in [
            (Some(100.0), Some(100.0), Change::Same),
            (Some(100.0), Some(104.9), Change::Same),
            (Some(100.0), Some(105.1), Change::Dearer),
            (Some(100.0), Some(95.1), Change::Same),
            (Some(100.0), Some(94.9), Change::Cheaper),
            (None, Some(1.0), Change::New),
            (Some(1.0), None, Change::Gone),
        ] {
            let side =
                |count: Option<f64>| instructions(&count.map(|count| ("case", count)).into_iter().collect::<Vec<_>>());
            let rows = compare(&side(baseline), &side(now));
            assert_eq!(rows.iter().map(|row| row.change).collect::<Vec<_>>(), [change], "{baseline:?} {now:?}");
        }
    }

    #[test]
    fn the_file_is_read_as_it_is_written() {
        let instructions = instructions(&[("a", 1.5), ("b_c", 20_000.0)]);
        let baseline = Baseline { rustc: "1.95.0".into(), architecture: "x86_64".into(), instructions };
        assert_eq!(Baseline::parse(&baseline.to_string()), Ok(baseline));
        for broken in ["", "rustc = \"1\"\na = 1\n", "rustc = \"1\"\narchitecture = \"x\"\na\n"] {
            assert!(Baseline::parse(broken).is_err(), "{broken:?}");
        }
    }
}
