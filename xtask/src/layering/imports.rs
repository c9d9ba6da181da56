//! Which module uses which: imports point down only.

use super::SourceFile;
use super::table::{
    CLIENT_SOURCES, CLIENT_WHY, ENGINE, ENGINE_SOURCES, EXCEPTIONS, IMPURE, PURE_SOURCES, PURE_WHY, STRANGERS,
};
use crate::source;

pub(super) fn check(sources: &[SourceFile]) -> Vec<String> {
    let mut needed = Vec::new();
    let mut broken = check_sources(sources, &mut needed);
    let stale = EXCEPTIONS.iter().filter(|(user, used, _)| !needed.contains(&(user, used)));
    broken
        .extend(stale.map(|(user, used, _)| format!("xtask/src/layering/table.rs: `{user}` no longer uses `{used}`")));
    broken
}

/// `needed` collects the exceptions that are made use of.
fn check_sources(sources: &[SourceFile], needed: &mut Vec<(&'static str, &'static str)>) -> Vec<String> {
    let mut broken = Vec::new();
    let root = sources.iter().find(|s| s.file == format!("{ENGINE_SOURCES}lib.rs"));
    let exports = root.map(|root| source::reexports(&root.code)).unwrap_or_default();
    for source in sources {
        if let Some(file) = source.file.strip_prefix(ENGINE_SOURCES) {
            broken.extend(check_engine(source, file, &exports, needed));
        } else {
            broken.extend(check_words(source, PURE_SOURCES, IMPURE, PURE_WHY));
            broken.extend(check_words(source, CLIENT_SOURCES, &["fanfare"], CLIENT_WHY));
        }
    }
    broken
}

fn check_engine(
    source: &SourceFile,
    file: &str,
    exports: &[(String, String)],
    needed: &mut Vec<(&'static str, &'static str)>,
) -> Vec<String> {
    let path = file.trim_end_matches(".rs");
    let module: Vec<&str> = path.split('/').collect();
    if matches!(path, "lib" | "docs_test") {
        return Vec::new();
    }
    let Some(own) = layer(module[0]) else {
        return vec![format!("{}: module `{}` is in no layer of xtask/src/layering/table.rs", source.file, module[0])];
    };
    let mut broken = Vec::new();
    for mention in source::crate_paths(&source.code, &module) {
        let Some(first) = mention.path.first() else { continue };
        let exported = exports.iter().find(|(name, _)| name == first).map(|(_, module)| module);
        let used = if layer(first).is_some() { first } else { exported.unwrap_or(first) };
        let exception = EXCEPTIONS.iter().find(|(user, theirs, _)| *user == module[0] && *theirs == used.as_str());
        if let Some((user, theirs, _)) = exception {
            needed.push((user, theirs));
            continue;
        }
        let why = match layer(used) {
            Some(theirs) if theirs > own => "a higher layer",
            Some(_) if STRANGERS.contains(&(module[0], used.as_str())) => "which it must not know",
            _ => continue,
        };
        broken.push(format!("{}:{}: `{}` uses `{used}`, {why}", source.file, mention.line, module[0]));
    }
    broken
}

/// Words that the sources of a folder must not have, and why.
fn check_words(source: &SourceFile, folder: &str, words: &[&str], why: &str) -> Vec<String> {
    if !source.file.starts_with(folder) {
        return Vec::new();
    }
    let found = words.iter().filter_map(|word| Some((word, source::first_mention(&source.code, word)?)));
    found
        .map(|(word, at)| format!("{}:{}: `{word}` in {why}", source.file, source::line_at(&source.code, at)))
        .collect()
}

fn layer(module: &str) -> Option<usize> {
    ENGINE.iter().position(|modules| modules.contains(&module))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check_one(file: &str, text: &str) -> Vec<String> {
        let root = "pub use endpoint::Endpoint;\npub use error::Error;";
        let sources = [("crates/fanfare/src/lib.rs", root), (file, text)];
        let sources =
            sources.map(|(file, text)| SourceFile { file: file.into(), text: text.into(), code: source::code(text) });
        check_sources(&sources, &mut Vec::new())
    }

    #[test]
    fn imports_point_down_only() {
        for (file, text, breaches) in [
            ("crates/fanfare/src/endpoint.rs", "use crate::hub::Hub;", 0),
            ("crates/fanfare/src/hub.rs", "use crate::outbox::Outbox; use crate::Error;", 0),
            ("crates/fanfare/src/hub.rs", "use crate::socket::Socket;", 1),
            ("crates/fanfare/src/hub.rs", "use crate::{outbox, Endpoint, socket::Socket};", 2),
            ("crates/fanfare/src/hub/members.rs", "use super::super::endpoint::Endpoint; use super::Hub;", 1),
            ("crates/fanfare/src/hub.rs", "#[cfg(test)]\nmod tests { use crate::endpoint::Endpoint; }", 0),
            ("crates/fanfare/src/hub.rs", "//! See crate::endpoint::Endpoint", 0),
            ("crates/fanfare/src/new_thing.rs", "", 1),
        ] {
            assert_eq!(check_one(file, text).len(), breaches, "{file}: {text}");
        }
    }

    #[test]
    fn protocol_crate_is_pure() {
        for (text, breaches) in [
            ("use std::time::Duration;", 0),
            ("use std::time::Instant;", 1),
            ("use tokio::time;", 1),
            ("fn operand() { std::net::TcpStream::connect(\"\") }", 1),
            ("// no tokio, no rand", 0),
            ("#[cfg(test)]\nmod tests { use std::time::Instant; }", 0),
        ] {
            assert_eq!(check_one("crates/fanfare-proto/src/topic.rs", text).len(), breaches, "{text}");
        }
    }

    #[test]
    fn the_load_generator_is_a_client() {
        for (text, breaches) in [("use fanfare_proto::params::Params;", 0), ("use fanfare::Endpoint;", 1)] {
            assert_eq!(check_one("crates/fanfare-bench/src/run.rs", text).len(), breaches, "{text}");
        }
    }
}
