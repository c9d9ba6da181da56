//! Links between the repository's pages: the file must be there, and so must the heading.

use std::path::Path;

/// What is wrong with the links of a page. `read` gives the text of a file by its path from the root, `None` if there is none.
pub(super) fn check(page: &str, text: &str, read: impl Fn(&str) -> Option<String>) -> Vec<String> {
    let mut wrong = Vec::new();
    for (line, target) in targets(text) {
        let (file, heading) = target.split_once('#').unwrap_or((target, ""));
        let file = if file.is_empty() { page.to_owned() } else { beside(page, file) };
        let linked = read(&file);
        let is_there = match (&linked, heading) {
            (None, _) => false,
            (Some(_), "") => true,
            (Some(text), heading) => text.lines().any(|line| anchor(line).as_deref() == Some(heading)),
        };
        if !is_there {
            wrong.push(format!("{page}:{line}: leads nowhere: {target}"));
        }
    }
    wrong
}

/// What a page links to in the repository, with the numbers of the lines.
pub(super) fn targets(text: &str) -> impl Iterator<Item = (usize, &str)> {
    let all = text.lines().enumerate().flat_map(|(at, line)| {
        let targets = line.split("](").skip(1).filter_map(|rest| rest.split(')').next());
        targets.map(move |target| (at + 1, target))
    });
    all.filter(|(_, target)| !target.contains("://") && !target.starts_with("mailto:"))
}

/// A path from the root, for one that is relative to a page's folder.
pub(super) fn beside(page: &str, path: &str) -> String {
    let mut parts: Vec<&str> = Path::new(page).parent().and_then(Path::to_str).unwrap_or_default().split('/').collect();
    parts.retain(|part| !part.is_empty());
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// The anchor that a Markdown heading gets.
pub(crate) fn anchor(line: &str) -> Option<String> {
    let title = line.trim_start_matches('#').strip_prefix(' ').filter(|_| line.starts_with('#'))?;
    let kept = title.chars().filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'));
    Some(kept.flat_map(char::to_lowercase).map(|c| if c == ' ' { '-' } else { c }).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn links_lead_somewhere() {
        let read = |file: &str| (file == "docs/b.md").then(|| "# Title\n## Publish: `POST /api`\n".to_owned());
        for (link, breaches) in [
            ("[x](b.md)", 0),
            ("[x](b.md#title) and [y](b.md#publish-post-api)", 0),
            ("[x](../docs/b.md)", 0),
            ("[x](b.md#nothing)", 1),
            ("[x](c.md) [y](d.md)", 2),
            ("[x](https://example.com/c.md)", 0),
        ] {
            assert_eq!(check("docs/a.md", link, read).len(), breaches, "{link}");
        }
    }
}
