//! The files that schemas stand in, and those that they refer to: in the same folder or below it.

use std::error::Error;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};

use jsonschema::{Retrieve, Uri};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};
use serde_json::Value;
use serde_json::error::Category;

use crate::json::Strict;

/// The largest file of a schema, in bytes.
const FILE_SIZE_MAX: u64 = 262_144;

/// How deep lists and objects may stand in one another: what the library reads.
const LEVELS_MAX: usize = 127;

/// What stays as it is in the path of a URI.
const IN_PATHS: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Reads a file.
///
/// # Errors
/// Why it is not taken.
pub(super) fn read(file: &Path) -> Result<Value, String> {
    let shown = file.display();
    crate::file::check(file).map_err(|error| format!("cannot read the schema {shown}: {error}"))?;
    let mut text = String::new();
    let opened = fs::File::open(file).map_err(|error| format!("cannot read the schema {shown}: {error}"))?;
    let size = opened.take(FILE_SIZE_MAX + 1).read_to_string(&mut text);
    let size = size.map_err(|error| format!("cannot read the schema {shown}: {error}"))?;
    if size as u64 > FILE_SIZE_MAX {
        return Err(format!("{shown} has more than {FILE_SIZE_MAX} bytes, the most that the file of a schema has"));
    }
    let Strict(value) = serde_json::from_str(&text).map_err(|error| match error.classify() {
        Category::Data => format!("{shown}: {error}"),
        // The library has no kind of error for it.
        _ if error.to_string().starts_with("recursion limit exceeded") => format!(
            "{shown}: lists and objects stand more than {LEVELS_MAX} levels deep in one another, at line {} column {}: \
             move a part into a file of its own, and refer to it by $ref",
            error.line(),
            error.column()
        ),
        _ => format!("{shown} is not JSON: {error}"),
    })?;
    Ok(value)
}

/// What a file is called in references.
pub(super) fn uri(file: &Path) -> String {
    format!("file://{}", utf8_percent_encode(&file.to_string_lossy(), IN_PATHS))
}

/// The file that is called so.
pub(super) fn path_of(uri: &str) -> Option<PathBuf> {
    let path = uri.strip_prefix("file://")?.split('#').next()?;
    percent_decode_str(path).decode_utf8().ok().map(|path| PathBuf::from(&*path))
}

/// Finds what a schema refers to: files below a folder.
#[derive(Debug, Clone)]
pub(super) struct Below(pub(super) PathBuf);

impl Retrieve for Below {
    fn retrieve(&self, uri: &Uri<String>) -> Result<Value, Box<dyn Error + Send + Sync>> {
        let folder = self.0.display();
        let refused = || format!("it refers to {uri}: a schema can refer only to files in the folder {folder}");
        let file = path_of(uri.as_str()).ok_or_else(refused)?;
        let file = fs::canonicalize(&file).map_err(|error| format!("it refers to {}: {error}", file.display()))?;
        if !file.starts_with(&self.0) {
            return Err(refused().into());
        }
        Ok(read(&file)?)
    }
}
