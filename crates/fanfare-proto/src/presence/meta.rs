//! The metadata of one tracking, in its wire form.

use std::fmt;

use compact_str::CompactString;
use serde_json::{Map, Value};

use crate::payload::JsonText;

const REF: &str = "phx_ref";
const PREVIOUS_REF: &str = "phx_ref_prev";

/// What one channel tells about itself under one key, with the ref by which clients know it. Serialised once; cloning
/// shares the text. The `Debug` form shows the ref only.
#[derive(Clone, PartialEq)]
pub struct Meta {
    phx_ref: CompactString,
    json: JsonText,
}

impl Meta {
    /// What an application tells, under a ref that is new in its topic; `previous_ref` is that of the meta which it replaces.
    ///
    /// The server's refs stand in the place of whatever the application has under their names. (Phoenix writes such a
    /// key twice.)
    pub fn new(mut fields: Map<String, Value>, phx_ref: &str, previous_ref: Option<&str>) -> Self {
        fields.insert(REF.into(), phx_ref.into());
        match previous_ref {
            Some(previous_ref) => fields.insert(PREVIOUS_REF.into(), previous_ref.into()),
            None => fields.remove(PREVIOUS_REF),
        };
        Self { phx_ref: phx_ref.into(), json: Value::Object(fields).into() }
    }

    /// What another node has serialised: an object in which the ref stands.
    pub(super) fn received(phx_ref: CompactString, json: JsonText) -> Self {
        Self { phx_ref, json }
    }

    /// The ref of this tracking since its last update.
    pub fn phx_ref(&self) -> &str {
        &self.phx_ref
    }

    /// The object on the wire, `phx_ref` and `phx_ref_prev` included.
    pub fn as_json(&self) -> &JsonText {
        &self.json
    }

    /// The application's part of it.
    pub fn fields(&self) -> Map<String, Value> {
        let mut fields: Map<String, Value> = self.json.to().unwrap_or_default();
        fields.remove(REF);
        fields.remove(PREVIOUS_REF);
        fields
    }
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({})", self.phx_ref)
    }
}
