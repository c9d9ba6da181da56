//! Tables of the guides that are made from the code.
//!
//! A guide has a table between two comments, `<!-- table NAME … -->` and `<!-- end of table -->`. A test beside the code that knows the
//! facts gives them to [`Table::check`], which fails when the guide says something else; `cargo xtask tables` runs the same tests
//! with `WRITE` set, and then the guide is written.

use std::path::{Path, PathBuf};
use std::{env, fs};

/// The environment variable that lets [`Table::check`] write.
const WRITE: &str = "FANFARE_WRITE_TABLES";

const END: &str = "<!-- end of table -->";

/// A table in Markdown.
#[derive(Debug)]
pub struct Table(String);

impl Table {
    /// An empty one with these heads of columns.
    pub fn new(heads: &[&str]) -> Self {
        Table(format!("| {} |\n|{}\n", heads.join(" | "), "---|".repeat(heads.len())))
    }

    /// Adds a row. A cell is Markdown, on one line.
    pub fn row(&mut self, cells: &[&str]) {
        self.0.push_str(&format!("| {} |\n", cells.join(" | ")));
    }

    /// Compares the table of this name in a guide of `docs/`.
    ///
    /// # Panics
    /// When they differ, or there is none.
    pub fn check(&self, guide: &str, name: &str) {
        let path = root().join("docs").join(guide);
        let written = fs::read_to_string(&path).unwrap_or_else(|e| panic!("cannot read {}: {e}", path.display()));
        let right = self
            .put_into(&written, name)
            .unwrap_or_else(|| panic!("docs/{guide} has no `<!-- table {name} … -->` with `{END}` below it"));
        if right == written {
            return;
        }
        assert!(
            env::var_os(WRITE).is_some(),
            "docs/{guide}: the table `{name}` is not what the code says. Write it: cargo xtask tables"
        );
        fs::write(&path, right).unwrap_or_else(|e| panic!("cannot write {}: {e}", path.display()));
        println!("docs/{guide}: wrote the table `{name}`");
    }

    /// The guide with the table in its place.
    fn put_into(&self, guide: &str, name: &str) -> Option<String> {
        let begin = guide.find(&format!("<!-- table {name} "))?;
        let from = begin + guide[begin..].find('\n')? + 1;
        let to = from + guide[from..].find(END)?;
        Some([&guide[..from], &self.0, &guide[to..]].concat())
    }
}

/// Documentation comments as one line.
pub fn prose(lines: &[&str]) -> String {
    lines.iter().map(|line| line.trim()).collect::<Vec<_>>().join(" ")
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_put_between_its_comments() {
        let mut table = Table::new(&["code", "when"]);
        table.row(&["1000", "never"]);
        let guide = |rows: &str| format!("a\n<!-- table codes (written) -->\n{rows}<!-- end of table -->\nb\n");
        let expected = guide("| code | when |\n|---|---|\n| 1000 | never |\n");
        assert_eq!(table.put_into(&guide("| old |\n"), "codes").as_deref(), Some(expected.as_str()));
        assert_eq!(table.put_into(&expected, "codes").as_deref(), Some(expected.as_str()));
        assert_eq!(table.put_into(&expected, "counters"), None);
    }
}
