//! The size and shape of source files, and what no file may name.

use std::path::Path;

use super::SourceFile;
use super::table::CODE_LINES_MAX;
use crate::{repository, source};

pub(super) fn check(sources: &[SourceFile]) -> Vec<String> {
    let mut broken = Vec::new();
    for source in sources {
        let file = &source.file;
        let lines = source.code.lines().filter(|line| !line.trim().is_empty()).count();
        if lines > CODE_LINES_MAX {
            broken.push(format!("{file}: {lines} lines of code, of at most {CODE_LINES_MAX}: split it by concept"));
        }
        if !["//!", "#![doc = include_str!("].iter().any(|docs| source.text.starts_with(docs)) {
            broken.push(format!("{file}:1: no `//!` that says what lives here and what does not"));
        }
        if Path::new(file).file_name().is_some_and(|name| name == "mod.rs") {
            broken.push(format!("{file}: a folder's module is `x.rs` beside `x/`, not `x/mod.rs`"));
        }
        if let Some(at) = source::first_mention(&source.code, "unsafe") {
            broken.push(format!("{file}:{}: `unsafe`", source::line_at(&source.code, at)));
        }
        if !is_named(source, sources) {
            broken.push(format!("{file}: no `mod` names it, so it is never compiled"));
        }
    }
    broken
}

/// No file may name a place on the machine of whoever wrote it.
pub(super) fn check_paths_of_machines(files: &[String]) -> Result<Vec<String>, String> {
    let checkout = format!("{}/", repository::root().display());
    // Written in two parts, so that this file does not break its own rule.
    let homes = ["home", "root", "Users"].map(|dir| format!("/{dir}/"));
    let mut broken = Vec::new();
    for file in files {
        let Some(text) = repository::text(file)? else { continue };
        for (number, line) in text.lines().enumerate() {
            if let Some(place) = std::iter::once(&checkout).chain(&homes).find(|place| names_place(line, place)) {
                broken.push(format!("{file}:{}: a path of somebody's machine, below {place}", number + 1));
            }
        }
    }
    Ok(broken)
}

/// A path begins there; `https://host/home/` and `$DIR/root/` are other things.
fn names_place(line: &str, place: &str) -> bool {
    line.match_indices(place).any(|(at, _)| {
        !line[..at].ends_with(|c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '.' | '/' | '}' | '*'))
    })
}

/// Files below `src/` other than crate roots need a `mod` in the file above them.
fn is_named(source: &SourceFile, sources: &[SourceFile]) -> bool {
    let Some((krate, path)) = source.file.split_once("/src/") else {
        return true;
    };
    if path == "lib.rs" || path == "main.rs" || path.starts_with("bin/") {
        return true;
    }
    let path = path.trim_end_matches(".rs");
    let (parents, name) = match path.rsplit_once('/') {
        Some((parent, name)) => (vec![format!("{krate}/src/{parent}.rs")], name),
        None => (vec![format!("{krate}/src/lib.rs"), format!("{krate}/src/main.rs")], path),
    };
    let declaration = format!("mod {name};");
    sources.iter().any(|s| parents.contains(&s.file) && s.text.contains(&declaration))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shape_of_a_file() {
        let long = |lines: usize| format!("//! Long.\n{}", "x;\n".repeat(lines));
        for (file, text, breaches) in [
            ("crates/a/src/lib.rs", "//! Fine.\nfn f() {}".to_owned(), 0),
            ("crates/a/src/lib.rs", "fn f() {}".to_owned(), 1),
            ("crates/a/src/lib.rs", "//! Bad.\nunsafe fn f() {}".to_owned(), 1),
            ("crates/a/src/lib.rs", "//! Good.\n// unsafe\n#![forbid(unsafe_code)]".to_owned(), 0),
            ("crates/a/src/lib.rs", long(CODE_LINES_MAX), 0),
            ("crates/a/src/lib.rs", long(CODE_LINES_MAX + 1), 1),
            ("crates/a/src/lost.rs", "//! Nobody names me.".to_owned(), 1),
            ("crates/a/tests/mod.rs", "//! Old style.".to_owned(), 1),
        ] {
            let source = SourceFile { file: file.to_owned(), is_test: false, code: source::code(&text), text };
            assert_eq!(check(&[source]).len(), breaches, "{file}");
        }
    }

    #[test]
    fn places_of_machines_are_found() {
        let home = format!("/{}/", "home");
        for (line, found) in [
            (format!("see {home}me/x"), true),
            (format!("\"{home}me\""), true),
            (format!("https://example.com{home}"), false),
        ] {
            assert_eq!(names_place(&line, &home), found, "{line}");
        }
    }
}
