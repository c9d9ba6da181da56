//! `fanfare new channel`: a Rust channel with its test. `app` has a whole program around one.
//!
//! The template is a channel that compiles and whose test runs with this crate's own tests; only its names change.

pub(crate) mod app;

use std::path::Path;

const TEMPLATE: &str = include_str!("../templates/greeting.rs");

/// Words that cannot name a module.
const KEYWORDS: [&str; 51] = [
    "abstract", "as", "async", "await", "become", "box", "break", "const", "continue", "crate", "do", "dyn", "else",
    "enum", "extern", "false", "final", "fn", "for", "gen", "if", "impl", "in", "let", "loop", "macro", "match", "mod",
    "move", "mut", "override", "priv", "pub", "ref", "return", "self", "static", "struct", "super", "trait", "true",
    "try", "type", "typeof", "unsafe", "unsized", "use", "virtual", "where", "while", "yield",
];

/// A scaffolded channel.
#[derive(Debug)]
pub(crate) struct Scaffold {
    /// The name of the module: `support_desk`.
    pub(crate) module: String,
    /// The name of the type: `SupportDesk`.
    type_name: String,
    /// The content of the file.
    pub(crate) source: String,
}

/// A channel of this name, given as `support_desk`, `support-desk` or `SupportDesk`.
///
/// # Errors
/// The name cannot be one of a Rust module.
pub(crate) fn channel(name: &str) -> Result<Scaffold, String> {
    let module = snake_case(name);
    let begins = module.starts_with(|c: char| c.is_ascii_lowercase());
    let fits = begins && module.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    if !fits || module.ends_with('_') || module.contains("__") {
        return Err(format!(
            "{name:?} cannot name a channel: it takes letters, digits and single underscores, a letter first"
        ));
    }
    if KEYWORDS.contains(&module.as_str()) {
        return Err(format!("{name:?} cannot name a channel: `{module}` is a word of Rust's own"));
    }
    let type_name = camel_case(&module);
    let source = TEMPLATE.replace("greeting", &module).replace("Greeting", &type_name);
    Ok(Scaffold { module, type_name, source })
}

/// A module is of no use outside of a crate.
///
/// # Errors
/// Neither the folder nor one above it has a `Cargo.toml`.
pub(crate) fn check_crate(dir: &Path) -> Result<(), String> {
    let dir = std::path::absolute(dir).map_err(|error| format!("cannot find {}: {error}", dir.display()))?;
    match dir.ancestors().any(|dir| dir.join("Cargo.toml").is_file()) {
        true => Ok(()),
        false => Err(format!(
            "{} is in no crate: there is no Cargo.toml in it or above. Run this inside of a crate, or make one with `fanfare new app NAME`",
            dir.display()
        )),
    }
}

impl Scaffold {
    /// What is left to do by hand.
    pub(crate) fn next_steps(&self, dir: &Path) -> String {
        let Self { module, type_name, .. } = self;
        let parent = dir.file_name().map_or_else(|| "channels".into(), |name| name.to_string_lossy());
        format!(
            "Next steps:\n\
             1. In {dir}.rs, or wherever the module {parent} begins:   pub mod {module};\n\
             2. In Cargo.toml:\n\
             \x20      [dependencies]      fanfare, serde (with `derive`)\n\
             \x20      [dev-dependencies]  fanfare (with `testing`), serde_json, tokio (with `macros`, `rt`)\n\
             3. Where the endpoint is built:\n\
             \x20      Mount::new().channel(\"{module}:*\", {parent}::{module}::{type_name})\n\
             4. cargo test {module}",
            dir = dir.display()
        )
    }
}

fn snake_case(name: &str) -> String {
    let mut snake = String::new();
    for c in name.chars() {
        match c {
            '-' | ' ' => snake.push('_'),
            c if c.is_ascii_uppercase() => {
                if !snake.is_empty() && !snake.ends_with('_') {
                    snake.push('_');
                }
                snake.push(c.to_ascii_lowercase());
            }
            c => snake.push(c),
        }
    }
    snake
}

fn camel_case(snake: &str) -> String {
    let capitalised = |word: &str| match word.split_at_checked(1) {
        Some((first, rest)) => first.to_ascii_uppercase() + rest,
        None => String::new(),
    };
    snake.split('_').map(capitalised).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        #[track_caller]
        fn check(name: &str, expected: Option<(&str, &str)>) {
            let scaffold = channel(name).ok();
            let names = scaffold.as_ref().map(|scaffold| (scaffold.module.as_str(), scaffold.type_name.as_str()));
            assert_eq!(names, expected, "{name}");
        }
        check("room", Some(("room", "Room")));
        check("Room", Some(("room", "Room")));
        check("support_desk", Some(("support_desk", "SupportDesk")));
        check("SupportDesk", Some(("support_desk", "SupportDesk")));
        check("support-desk", Some(("support_desk", "SupportDesk")));
        check("room2", Some(("room2", "Room2")));
        check("", None);
        check("2room", None);
        check("room:lobby", None);
        check("../room", None);
        check("räume", None);
        check("type", None);
        check("a__b", None);
        check("a_", None);
    }

    #[test]
    fn only_names_change() {
        let scaffold = channel("support_desk").unwrap();
        assert!(scaffold.source.contains("pub struct SupportDesk;") && scaffold.source.contains("\"support_desk:"));
        assert!(!scaffold.source.to_lowercase().contains("greeting"));
        assert_eq!(channel("greeting").unwrap().source, TEMPLATE);
    }
}
