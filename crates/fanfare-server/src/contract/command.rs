//! `fanfare contract`, and the same documents for the HTTP API.

use std::path::{Path, PathBuf};

use clap::ValueEnum;
use serde_json::Value;

use super::{Contract, Document, asyncapi, compatible, typescript};
use crate::config::Config;

/// A form in which contracts are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The schemas of each channel, one JSON object
    Jsonschema,
    /// AsyncAPI 3.0, JSON
    Asyncapi,
    /// A module of types for the npm client `phoenix`
    Typescript,
}

impl Format {
    /// Of the file that it is written to.
    fn file(self) -> &'static str {
        match self {
            Self::Jsonschema => "contract.json",
            Self::Asyncapi => "asyncapi.json",
            Self::Typescript => "contract.ts",
        }
    }
}

/// The contracts of a configuration in a form.
pub(super) fn write(document: &Document, format: Format) -> String {
    match format {
        Format::Jsonschema => format!("{:#}\n", document.json()),
        Format::Asyncapi => format!("{:#}\n", asyncapi::document(document)),
        Format::Typescript => typescript::module(document),
    }
}

/// What the command has to say: the document, or nothing where it went into a folder.
///
/// # Errors
/// A schema or a file that cannot be read or written; with an earlier contract, what of this one breaks its clients.
pub(crate) fn run(
    document: &Document,
    format: Format,
    out: Option<&Path>,
    against: Option<&PathBuf>,
) -> Result<String, String> {
    if let Some(file) = against {
        let shown = file.display();
        let old = json(file)?;
        let found = compatible::breaks(&old, &document.json()).map_err(|text| format!("{shown} {text}"))?;
        if !found.is_empty() {
            return Err(format!("clients of {shown} break:\n  {}", found.join("\n  ")));
        }
    }
    let text = write(document, format);
    match out {
        None if against.is_some() => Ok(String::new()),
        None => Ok(text),
        Some(folder) => {
            let file = folder.join(format.file());
            let written = std::fs::create_dir_all(folder).and_then(|()| std::fs::write(&file, text));
            written.map_err(|error| format!("cannot write {}: {error}", file.display()))?;
            eprintln!("wrote {}", file.display());
            Ok(String::new())
        }
    }
}

/// A contract in the form `jsonschema`, as a program in Rust gives it.
///
/// # Errors
/// The file is none.
pub(crate) fn read(file: &Path) -> Result<Document, String> {
    let none =
        || format!("{} is not a contract that `Endpoint::contract` or `fanfare contract` has written", file.display());
    Document::of_json(&json(file)?).ok_or_else(none)
}

fn json(file: &Path) -> Result<Value, String> {
    let shown = file.display();
    let text = crate::file::read_text(file).map_err(|error| format!("cannot read {shown}: {error}"))?;
    serde_json::from_str(&text).map_err(|error| format!("{shown} is not JSON: {error}"))
}

/// The contracts of the channels that clients of Phoenix can join.
pub(crate) fn of(config: &Config) -> Document {
    let mut document = Document::new(config);
    for channel in config.channels.iter().filter(|channel| !channel.private && !channel.is_realtime()) {
        document.add(channel, Contract::new(channel).as_ref());
    }
    document
}
