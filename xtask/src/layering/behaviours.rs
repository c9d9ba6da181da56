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

/// A Rust function `phoenix_7…`, or a title in quotes that begins so. A test may bear several names: `hub_7_hub_12_…`,
/// `"bridge_9, bridge_12: …"`.
fn has_test(text: &str, name: &str) -> bool {
    ["fn ", "\"", "'", "`", "def test_"].iter().any(|before| {
        let mut titles = text.match_indices(before).map(|(at, _)| &text[at + before.len()..]);
        titles.any(|title| names(title).any(|borne| borne == name))
    })
}

/// The names of behaviours that a title begins with.
fn names(title: &str) -> impl Iterator<Item = &str> {
    let mut rest = title;
    std::iter::from_fn(move || {
        let letters = rest.bytes().take_while(u8::is_ascii_lowercase).count();
        let digits = rest[letters..].strip_prefix('_')?.bytes().take_while(u8::is_ascii_digit).count();
        let (name, behind) = rest.split_at(letters + 1 + digits);
        rest = behind.trim_start_matches(['_', ',', ' ']);
        (letters > 0 && digits > 0).then_some(name)
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
            ("fn hub_1_phoenix_1_both() {}", true),
            ("test(`hub_1, phoenix_1: both`, ", true),
            ("fn phoenix_2_1() {}", false),
            ("fn hub_1_as_phoenix_1() {}", false),
        ] {
            assert_eq!(has_test(text, "phoenix_1"), found, "{text}");
        }
    }
}
