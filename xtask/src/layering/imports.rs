//! Which module uses which: imports point down only.

use std::collections::BTreeSet;

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
    let mut broken = check_engine(&Crate::read(sources, ENGINE_SOURCES), needed);
    for source in sources {
        broken.extend(check_words(source, PURE_SOURCES, IMPURE, PURE_WHY));
        broken.extend(check_words(source, CLIENT_SOURCES, &["fanfare"], CLIENT_WHY));
    }
    broken
}

fn check_engine(engine: &Crate, needed: &mut Vec<(&'static str, &'static str)>) -> Vec<String> {
    let mut broken: Vec<String> = engine
        .modules
        .iter()
        .filter(|module| layer(module).is_none())
        .map(|module| {
            format!("{ENGINE_SOURCES}{module}.rs: module `{module}` is in no layer of xtask/src/layering/table.rs")
        })
        .collect();
    for Use { user, used, place } in engine.uses() {
        let exception =
            EXCEPTIONS.iter().find(|(upper, theirs, _)| (*upper, *theirs) == (user.as_str(), used.as_str()));
        if let Some((user, theirs, _)) = exception {
            needed.push((user, theirs));
            continue;
        }
        let why = match (layer(&user), layer(&used)) {
            (Some(own), Some(theirs)) if theirs > own => "a higher layer",
            _ if STRANGERS.contains(&(user.as_str(), used.as_str())) => "which it must not know",
            _ => continue,
        };
        broken.push(format!("{place}: `{user}` uses `{used}`, {why}"));
    }
    broken
}

/// A crate's modules at the top, with all that is below each.
pub(super) struct Crate<'a> {
    modules: BTreeSet<&'a str>,
    /// What the root file hands on, and which module it comes from.
    exports: Vec<(String, String)>,
    files: Vec<(&'a str, &'a SourceFile)>,
}

/// One module names another.
pub(super) struct Use {
    pub(super) user: String,
    pub(super) used: String,
    /// File and line.
    place: String,
}

impl<'a> Crate<'a> {
    /// The sources of a folder. Its root file ties the modules together and may name them all.
    pub(super) fn read(sources: &'a [SourceFile], folder: &str) -> Self {
        let (mut files, mut exports) = (Vec::new(), Vec::new());
        for source in sources.iter().filter(|source| !source.is_test) {
            let Some(path) = source.file.strip_prefix(folder).and_then(|file| file.strip_suffix(".rs")) else {
                continue;
            };
            match path {
                "lib" | "main" => exports.extend(source::reexports(&source.code)),
                "docs_test" => {}
                _ => files.push((path, source)),
            }
        }
        Self { modules: files.iter().map(|(path, _)| top(path)).collect(), exports, files }
    }

    /// Every use of one of the crate's modules by another.
    pub(super) fn uses(&self) -> Vec<Use> {
        let mut uses = Vec::new();
        for (path, source) in &self.files {
            let module: Vec<&str> = path.split('/').collect();
            for mention in source::crate_paths(&source.code, &module) {
                let Some(used) = mention.path.first().and_then(|first| self.module_of(first)) else { continue };
                if used != module[0] {
                    let place = format!("{}:{}", source.file, mention.line);
                    uses.push(Use { user: module[0].to_owned(), used: used.to_owned(), place });
                }
            }
        }
        uses
    }

    /// The module that a name at the crate's root stands for.
    fn module_of(&self, name: &str) -> Option<&str> {
        let exported = || self.exports.iter().find(|(theirs, _)| theirs == name).map(|(_, module)| module.as_str());
        self.modules.get(name).copied().or_else(exported)
    }
}

fn top(path: &str) -> &str {
    path.split('/').next().unwrap_or(path)
}

/// How many modules each layer has.
pub(super) fn layer_sizes() -> Vec<usize> {
    ENGINE.iter().map(|modules| modules.len()).collect()
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
    use crate::layering::tests::sources;

    fn check_one(file: &str, text: &str) -> Vec<String> {
        let root = "pub use endpoint::Endpoint;\npub use error::Error;";
        // The modules that are named have to be there.
        let others = ["endpoint", "error", "outbox", "socket"].map(|name| (format!("{ENGINE_SOURCES}{name}.rs"), ""));
        let mut files = vec![(format!("{ENGINE_SOURCES}lib.rs"), root), (file.to_owned(), text)];
        files.extend(others.into_iter().filter(|(theirs, _)| theirs != file));
        check_sources(&sources("", &files), &mut Vec::new())
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
