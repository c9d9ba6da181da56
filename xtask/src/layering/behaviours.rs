//! Every behaviour that docs/conformance.md promises has a test that bears its name.

use crate::repository;

/// The page whose tables have a behaviour's name, such as `phoenix_7`, in their first column.
const PAGE: &str = "docs/conformance.md";

pub(super) fn check(files: &[String]) -> Result<Vec<String>, String> {
    let page = repository::text(PAGE)?.ok_or_else(|| format!("{PAGE} is not UTF-8"))?;
    let is_test = |file: &&String| [".rs", ".mjs", ".js", ".py"].iter().any(|ending| file.ends_with(ending));
    let mut texts = Vec::new();
    for file in files.iter().filter(is_test) {
        texts.extend(repository::text(file)?);
    }
    let untested = promised(&page).into_iter().filter(|name| !texts.iter().any(|text| has_test(text, name)));
    Ok(untested.map(|name| format!("{PAGE}: `{name}` is promised, and no test is named for it")).collect())
}

fn promised(page: &str) -> Vec<&str> {
    let first_cells = page.lines().filter_map(|line| Some(line.strip_prefix("| ")?.split(" |").next()?.trim()));
    let is_name = |cell: &&str| {
        cell.split_once('_').is_some_and(|(system, number)| {
            !number.is_empty()
                && number.bytes().all(|b| b.is_ascii_digit())
                && system.bytes().all(|b| b.is_ascii_lowercase())
        })
    };
    first_cells.filter(is_name).collect()
}

/// A Rust function `phoenix_7…`, or a title in quotes that begins so.
fn has_test(text: &str, name: &str) -> bool {
    ["fn ", "\"", "'", "`", "def test_"].iter().any(|before| {
        let test = format!("{before}{name}");
        text.match_indices(&test).any(|(at, _)| !text[at + test.len()..].starts_with(|c: char| c.is_ascii_digit()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_are_table_rows() {
        let page = "| name | what |\n|---|---|\n| phoenix_1 | a |\n| rooms_2 | see phoenix_9 |\n| some_thing | b |\n";
        assert_eq!(promised(page), ["phoenix_1", "rooms_2"]);
    }

    #[test]
    fn tests_bear_the_name() {
        for (text, found) in [
            ("fn phoenix_1_mounts() {}", true),
            ("async fn phoenix_1() {}", true),
            ("fn phoenix_12() {}", false),
            ("test(\"phoenix_1: mounts\", ", true),
            ("// see phoenix_1", false),
        ] {
            assert_eq!(has_test(text, "phoenix_1"), found, "{text}");
        }
    }
}
