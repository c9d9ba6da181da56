//! The table of contents: every page of the book stands in it once.

use std::collections::BTreeMap;

use super::links;

/// The table of contents, in the order of learning.
pub(super) const PAGE: &str = "docs/SUMMARY.md";

/// What is wrong with the table of contents, for these files of the repository.
pub(super) fn check(text: &str, files: &[String]) -> Vec<String> {
    let is_page = |file: &&String| file.starts_with("docs/") && file.ends_with(".md") && file.as_str() != PAGE;
    let mut listed: BTreeMap<&str, usize> = files.iter().filter(is_page).map(|file| (file.as_str(), 0)).collect();
    for (_, target) in links::targets(text) {
        if let Some(times) = listed.get_mut(links::beside(PAGE, target).as_str()) {
            *times += 1;
        }
    }
    let wrong = listed.into_iter().filter(|(_, times)| *times != 1);
    wrong.map(|(page, times)| format!("{PAGE}: names {page} {times} times; each page stands there once")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_page_stands_there_once() {
        let files: Vec<String> =
            ["docs/a.md", "docs/in/b.md", PAGE, "README.md", "docs/c.png"].map(String::from).into();
        for (text, breaches) in [
            ("- [A](a.md)\n    - [B](in/b.md)\n", 0),
            ("- [A](a.md)\n", 1),
            ("- [A](a.md)\n- [B](in/b.md)\n- [A again](a.md)\n", 1),
            ("[Fanfare](../README.md)\n", 2),
        ] {
            assert_eq!(check(text, &files).len(), breaches, "{text}");
        }
    }
}
