//! One JSON Schema, from a file: compiled for checks, and as a document with all that it refers to in it.

#[cfg(not(feature = "schema"))]
mod absent;
#[cfg(feature = "schema")]
mod compiled;
#[cfg(feature = "schema")]
mod expanded;
#[cfg(feature = "schema")]
mod files;

#[cfg(not(feature = "schema"))]
pub(crate) use absent::{Schema, Violation};
#[cfg(feature = "schema")]
pub(crate) use compiled::{Schema, Violation};
