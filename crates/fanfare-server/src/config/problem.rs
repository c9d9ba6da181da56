//! What is wrong with a configuration, and where: collected, then shown all together.

use std::fmt;
use std::ops::Range;

/// Where a setting was given.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Place {
    /// At this byte of the file.
    File(usize),
    /// In an environment variable.
    Environment(String),
    /// In a command-line flag, named as it was typed.
    Flag(String),
    /// Nowhere: the default, or something that is missing from the configuration as a whole.
    Nowhere,
}

/// One thing that is wrong.
#[derive(Debug, Clone)]
pub(crate) struct Problem {
    /// Where it stands.
    pub(crate) place: Place,
    /// The key with its sections, such as `limits.joins_max`; empty when no key can be named.
    pub(crate) key: String,
    /// What is wrong and what would be accepted.
    pub(crate) text: String,
    /// Whether the line of the file helps to see it.
    pub(crate) shows_line: bool,
}

/// Collects problems while a configuration is read.
#[derive(Debug, Default)]
pub(crate) struct Problems(Vec<Problem>);

impl Problems {
    /// Adds a problem with a setting.
    pub(crate) fn add(&mut self, place: Place, key: impl Into<String>, text: impl Into<String>) {
        self.0.push(Problem { place, key: key.into(), text: text.into(), shows_line: false });
    }

    /// Adds what the TOML parser says.
    pub(crate) fn add_syntax(&mut self, span: Option<Range<usize>>, text: &str) {
        let place = span.map_or(Place::Nowhere, |span| Place::File(span.start));
        self.0.push(Problem { place, key: String::new(), text: text.to_owned(), shows_line: true });
    }

    /// `Ok` if nothing was added; otherwise everything, for a file of this name and content.
    pub(crate) fn into_result(mut self, file: &str, content: &str) -> Result<(), Report> {
        if self.0.is_empty() {
            return Ok(());
        }
        self.0.sort_by(|a, b| a.place.cmp(&b.place));
        let text = Lines::new(content);
        let told = |problem: &Problem| Told {
            line: show(problem, file, &text),
            at: if let Place::File(offset) = problem.place { Some(text.find(offset)) } else { None },
            key: problem.key.clone(),
            text: problem.text.clone(),
        };
        Err(Report { problems: self.0.iter().map(told).collect() })
    }
}

/// Everything that is wrong with a configuration, ready to be shown.
#[derive(Debug)]
pub(crate) struct Report {
    pub(crate) problems: Vec<Told>,
}

/// One problem, as it is told.
#[derive(Debug)]
pub(crate) struct Told {
    /// For people.
    line: String,
    /// The line and the column in the file, from 1.
    pub(crate) at: Option<(usize, usize)>,
    pub(crate) key: String,
    pub(crate) text: String,
}

impl Report {
    /// A report of one problem with a file as a whole.
    pub(crate) fn of(line: String) -> Self {
        Self { problems: vec![Told { text: line.clone(), line, at: None, key: String::new() }] }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<_> = self.problems.iter().map(|problem| problem.line.as_str()).collect();
        f.write_str(&lines.join("\n"))
    }
}

/// A text, and where its lines begin.
pub(super) struct Lines<'c> {
    content: &'c str,
    starts: Vec<usize>,
}

impl<'c> Lines<'c> {
    pub(super) fn new(content: &'c str) -> Self {
        let starts = content.match_indices('\n').map(|(at, _)| at + 1);
        Self { content, starts: std::iter::once(0).chain(starts).collect() }
    }

    /// The line and column of a byte, from 1.
    pub(super) fn find(&self, offset: usize) -> (usize, usize) {
        let line = self.starts.partition_point(|start| *start <= offset);
        let before = self.content.get(self.starts[line - 1]..offset).unwrap_or_default();
        (line, before.chars().count() + 1)
    }

    /// A line by its number.
    fn line(&self, number: usize) -> &'c str {
        self.content[self.starts[number - 1]..].lines().next().unwrap_or_default()
    }
}

/// `file:line:column: key: text`, as compilers write it, so that editors can jump there.
fn show(problem: &Problem, file: &str, content: &Lines<'_>) -> String {
    let key = if problem.key.is_empty() { String::new() } else { format!("{}: ", problem.key) };
    let text = &problem.text;
    match &problem.place {
        Place::File(offset) => {
            let (line, column) = content.find(*offset);
            let quoted = if problem.shows_line { quote_line(content.line(line), line) } else { String::new() };
            format!("{file}:{line}:{column}: {key}{text}{quoted}")
        }
        Place::Environment(name) => format!("environment variable {name}: {key}{text}"),
        Place::Flag(name) => format!("flag {name}: {key}{text}"),
        Place::Nowhere => format!("{file}: {key}{text}"),
    }
}

/// The line itself, unless a secret may stand in it.
fn quote_line(line: &str, number: usize) -> String {
    let line = match line.split_once('=') {
        Some((key, _)) if ["secret", "token", "password"].iter().any(|word| key.contains(word)) => {
            format!("{key}= (not shown)")
        }
        _ => line.chars().take(160).collect(),
    };
    format!("\n  {number} | {line}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn problems_are_sorted_and_name_line_and_column() {
        let content = "a = 1\n\nbé = 2\n";
        let mut problems = Problems::default();
        problems.add(Place::Nowhere, "", "as a whole");
        problems.add(Place::File(content.find('2').unwrap()), "bé", "second");
        problems.add(Place::Environment("FANFARE_A".into()), "a", "third");
        problems.add(Place::File(0), "a", "first");
        let shown = problems.into_result("f.toml", content).unwrap_err().to_string();
        assert_eq!(
            shown,
            "f.toml:1:1: a: first\nf.toml:3:6: bé: second\nenvironment variable FANFARE_A: a: third\nf.toml: as a whole"
        );
        assert!(Problems::default().into_result("f.toml", "").is_ok());
    }

    #[test]
    fn syntax_errors_show_the_line_but_no_secret() {
        #[track_caller]
        fn check(content: &str, shown: &str) {
            let mut problems = Problems::default();
            problems.add_syntax(Some(0..1), "broken");
            assert_eq!(problems.into_result("f", content).unwrap_err().to_string(), shown);
        }
        check("listen = \"x\nb", "f:1:1: broken\n  1 | listen = \"x");
        check("secret = \"abc", "f:1:1: broken\n  1 | secret = (not shown)");
        check("x.token='abc", "f:1:1: broken\n  1 | x.token= (not shown)");
    }
}
