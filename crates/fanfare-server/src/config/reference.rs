//! The reference of all keys, as Markdown: `fanfare docs config` prints it, and docs/configuration.md is that text.

use super::SECTIONS;
use super::section::{Form, Key, Section};

const INTRODUCTION: &str = include_str!("introduction.md");

/// The whole document.
pub(crate) fn markdown() -> String {
    let sections = SECTIONS.iter().map(|section| describe(section));
    std::iter::once(INTRODUCTION.to_owned()).chain(sections).collect::<Vec<_>>().join("\n")
}

fn describe(section: &Section) -> String {
    let title = match section.form {
        Form::Root => "The top level".to_owned(),
        _ => format!("`{}`", section.header()),
    };
    let mut text = format!("## {title}\n\n{}\n", prose(section.doc));
    for key in section.keys {
        text.push('\n');
        text.push_str(&describe_key(section, key));
    }
    text
}

fn describe_key(section: &Section, key: &Key) -> String {
    let mut text = format!("### `{}`\n\n{}\n\n", section.path(key.name()), prose(key.doc));
    text.push_str(&format!("- Takes {}.\n", (key.accepts)()));
    match (key.default, (key.is_required)()) {
        ("", true) => text.push_str("- Must be given.\n"),
        ("", false) => {}
        (default, _) => text.push_str(&format!("- Default: `{default}`\n")),
    }
    if let Some(variable) = section.variable(key.name()) {
        text.push_str(&format!("- Environment: `{variable}`\n"));
    }
    text.push_str(&format!("- Reload: {}.\n", key.reload.about()));
    text
}

/// Documentation comments as running text.
pub(super) fn prose(doc: &[&str]) -> String {
    doc.iter().map(|line| line.trim()).collect::<Vec<_>>().join("\n")
}
