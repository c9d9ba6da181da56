//! A figure and its bar.

use std::fmt;
use std::time::Duration;

/// What was measured, the bar that it has to keep, and whether it does.
#[derive(Debug)]
pub(crate) struct Figure {
    text: String,
    bar: String,
    passes: bool,
}

impl Figure {
    /// A number that may not be above its bar; `show` writes both.
    pub(crate) fn at_most<T: PartialOrd + Copy>(name: &str, value: T, bar: T, show: impl Fn(T) -> String) -> Self {
        Self { text: format!("{name} {}", show(value)), bar: format!("at most {}", show(bar)), passes: value <= bar }
    }

    /// A number that has to be just this.
    pub(crate) fn exactly(name: &str, value: u64, bar: u64) -> Self {
        Self { text: format!("{name} {}", count(value)), bar: count(bar), passes: value == bar }
    }

    pub(crate) fn passes(&self) -> bool {
        self.passes
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let missed = if self.passes { "" } else { " MISSED" };
        write!(f, "{} [{}{missed}]", self.text, self.bar)
    }
}

/// `1,234,567`.
pub(crate) fn count(number: u64) -> String {
    let digits = number.to_string();
    let groups: Vec<&str> =
        digits.as_bytes().rchunks(3).rev().map(|g| std::str::from_utf8(g).expect("digits")).collect();
    groups.join(",")
}

/// `8.0 MiB`.
pub(crate) fn mebibytes(bytes: u64) -> String {
    format!("{:.1} MiB", bytes as f64 / (1 << 20) as f64)
}

/// `1,500 ms`.
pub(crate) fn milliseconds(time: Duration) -> String {
    format!("{} ms", count(time.as_millis() as u64))
}

/// `1.5 %`.
pub(crate) fn percent(share: f64) -> String {
    format!("{:.1} %", share * 100.0)
}

/// The middle of some numbers; 0 without any.
pub(crate) fn median(mut numbers: Vec<f64>) -> f64 {
    numbers.sort_by(f64::total_cmp);
    match (numbers.len(), numbers.len() / 2) {
        (0, _) => 0.0,
        (len, half) if len % 2 == 1 => numbers[half],
        (_, half) => (numbers[half - 1] + numbers[half]) / 2.0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_says_what_was_missed() {
        for (figure, passes, text) in [
            (Figure::at_most("drift", 0.02, 0.02, percent), true, "drift 2.0 % [at most 2.0 %]"),
            (Figure::at_most("drift", f64::NAN, 0.02, percent), false, "drift NaN % [at most 2.0 % MISSED]"),
            (Figure::exactly("lost", 0, 0), true, "lost 0 [0]"),
            (Figure::exactly("lost", 1_234_567, 0), false, "lost 1,234,567 [0 MISSED]"),
        ] {
            assert_eq!((figure.passes(), figure.to_string().as_str()), (passes, text));
        }
    }

    #[test]
    fn medians() {
        for (numbers, middle) in [(vec![], 0.0), (vec![3.0, 1.0, 2.0], 2.0), (vec![4.0, 1.0, 2.0, 3.0], 2.5)] {
            assert_eq!(median(numbers), middle);
        }
    }
}
