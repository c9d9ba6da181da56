//! Schemas in a build without the feature `schema`: there are none.

use std::path::Path;

use fanfare::Payload;
use serde::Serialize;
use serde_json::Value;

/// There is none.
#[derive(Debug)]
pub(crate) enum Schema {}

/// What is wrong with a payload, and where.
#[derive(Debug, Serialize)]
pub(crate) struct Violation {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl Schema {
    pub(crate) fn open(file: &Path) -> Result<Self, String> {
        let file = file.display();
        Err(format!("{file}: this build checks no schemas: build it with the feature `schema`, or leave `schemas` out"))
    }

    pub(crate) fn check(&self, _: &Payload) -> Result<(), Vec<Violation>> {
        match *self {}
    }

    pub(crate) fn check_large(&self, _: &Payload) -> Result<(), Vec<Violation>> {
        match *self {}
    }

    pub(crate) fn document(&self) -> &Value {
        match *self {}
    }
}
