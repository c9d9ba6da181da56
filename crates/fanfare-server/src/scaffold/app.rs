//! `fanfare new app`: a program that compiles, with a channel and its test.

use std::path::Path;

use super::{channel, snake_case};

const MANIFEST: &str = include_str!("../../templates/app/manifest.toml");
const MAIN: &str = include_str!("../../templates/app/main.rs");
const CHANNELS: &str = include_str!("../../templates/app/channels.rs");

/// A scaffolded program.
pub(crate) struct App {
    /// The folder that it goes into.
    pub(crate) dir: String,
    /// Its files, with their contents.
    pub(crate) files: Vec<(&'static str, String)>,
}

/// A program of this name.
///
/// # Errors
/// The name cannot be one of a package, or the crate's path is not there.
pub(crate) fn app(name: &str, crate_path: Option<&Path>) -> Result<App, String> {
    // A package's name may be what a module's may.
    channel(name).map_err(|error| error.replace("a channel", "a program"))?;
    let name = snake_case(name);
    let source = match crate_path {
        None => format!("git = \"{}\"", env!("CARGO_PKG_REPOSITORY")),
        Some(path) => {
            let absolute = path.canonicalize().map_err(|error| format!("cannot find {}: {error}", path.display()))?;
            format!("path = {:?}", absolute.display().to_string())
        }
    };
    let manifest = MANIFEST.replace("my_app", &name).replace("SOURCE", &source);
    let files = vec![
        ("Cargo.toml", manifest),
        (".gitignore", "/target\n".to_owned()),
        ("src/main.rs", MAIN.to_owned()),
        ("src/channels.rs", CHANNELS.to_owned()),
        ("src/channels/room.rs", channel("room")?.source),
    ];
    Ok(App { dir: name, files })
}
