//! The repository's own rules, as checks: which module may use which, what the protocol crate must not know, the
//! size and shape of source files, that what is promised is tested, and how far the engine is from the shape that it is to have, in
//! numbers. The rules' data is in [`table`].

mod behaviours;
mod figures;
mod imports;
mod shape;
mod table;

use crate::{repository, source};

/// A source file of one of the workspace's crates.
struct SourceFile {
    /// Relative to the repository's root.
    file: String,
    text: String,
    is_test: bool,
    /// The text without comments, literals and tests; nothing of a file that is all tests.
    code: String,
}

/// Checks everything and prints what breaks a rule, one line each.
pub(crate) fn check() -> Result<(), String> {
    let files = repository::files()?;
    let sources = sources(&files)?;
    let mut broken = imports::check(&sources);
    broken.extend(shape::check(&sources));
    broken.extend(shape::check_paths_of_machines(&files)?);
    broken.extend(behaviours::check(&files)?);
    broken.extend(figures::check(&sources));
    for line in &broken {
        println!("{line}");
    }
    if broken.is_empty() {
        println!("{} source files keep the repository's rules", sources.len());
        Ok(())
    } else {
        Err(format!("{} breaches of the repository's rules", broken.len()))
    }
}

/// Prints the numbers that have a limit, and what makes them up.
pub(crate) fn print_figures() -> Result<(), String> {
    println!("{}", figures::table(&sources(&repository::files()?)?));
    Ok(())
}

fn sources(files: &[String]) -> Result<Vec<SourceFile>, String> {
    let mut texts = Vec::new();
    for file in files.iter().filter(|f| f.ends_with(".rs")) {
        if let Some(text) = repository::text(file)? {
            texts.push((file.clone(), text));
        }
    }
    Ok(read(texts))
}

fn read(texts: Vec<(String, String)>) -> Vec<SourceFile> {
    let mut tests = Vec::new();
    for (file, text) in &texts {
        let folder = file.trim_end_matches(".rs").trim_end_matches("/lib").trim_end_matches("/main");
        tests.extend(source::test_modules(text).map(|name| format!("{folder}/{name}")));
    }
    let is_test = |file: &str| {
        file.contains("/tests/")
            || tests
                .iter()
                .any(|test| file.strip_prefix(test.as_str()).is_some_and(|rest| rest.starts_with(['.', '/'])))
    };
    let sources = texts.into_iter().map(|(file, text)| {
        let is_test = is_test(&file);
        let code = if is_test { String::new() } else { source::code(&text) };
        SourceFile { file, text, is_test, code }
    });
    sources.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Files below a folder as the rules see them; a name without an ending is one of a Rust file.
    pub(super) fn sources(folder: &str, files: &[(impl AsRef<str>, impl AsRef<str>)]) -> Vec<SourceFile> {
        let named = files.iter().map(|(name, text)| {
            let name = name.as_ref().trim_end_matches(".rs");
            (format!("{folder}{name}.rs"), text.as_ref().to_owned())
        });
        read(named.collect())
    }

    #[test]
    fn files_that_are_all_tests_have_no_code() {
        let files = [
            ("lib", "#[cfg(test)]\nmod simulation;\nmod hub;"),
            ("hub", "#[cfg(all(test, unix))]\npub(super) mod tests;\nmod x;"),
            ("simulation", "fn a() {}"),
            ("simulation/step", "fn b() {}"),
            ("simulations", "fn c() {}"),
            ("hub/tests", "fn d() {}"),
            ("hub/x", "fn e() {}"),
        ];
        let sources = sources("crates/fanfare/src/", &files);
        let with_code: Vec<&str> = sources
            .iter()
            .filter(|s| s.code.contains("fn "))
            .map(|s| s.file.rsplit('/').next().unwrap_or(""))
            .collect();
        assert_eq!(with_code, ["simulations.rs", "x.rs"]);
    }
}
