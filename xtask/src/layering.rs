//! The repository's own rules, as checks: which module may use which, what the protocol crate must not know, the
//! size and shape of source files, and that what is promised is tested. The rules' data is in [`table`].

mod behaviours;
mod imports;
mod shape;
mod table;

use crate::{repository, source};

/// A source file of one of the workspace's crates.
struct SourceFile {
    /// Relative to the repository's root.
    file: String,
    text: String,
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

fn sources(files: &[String]) -> Result<Vec<SourceFile>, String> {
    let mut sources = Vec::new();
    for file in files.iter().filter(|f| f.ends_with(".rs")) {
        if let Some(text) = repository::text(file)? {
            let is_test = file.ends_with("/tests.rs") || file.contains("/tests/");
            let code = if is_test { String::new() } else { source::code(&text) };
            sources.push(SourceFile { file: file.clone(), text, code });
        }
    }
    Ok(sources)
}
