//! Registers: fields of one hash, with their names in order beside it.

use std::sync::Arc;

use bytes::Bytes;
use fanfare_proto::resp::{Items, Value};

use super::names::{Kind, REGISTERS};
use super::request::{Request, unexpected};
use super::scripts::Script;
use super::{Place, Redis};
use crate::broker::{Cell, Done, REGISTER_SIZE_MAX, Registers, Swapped, Undone};

/// So many cells are listed at once: a script must not take long.
const CELLS_MAX: usize = 32;

impl Registers for Redis {
    fn get(&self, name: &str, done: Done<Option<Cell>>) {
        let place = match self.of_registers() {
            Ok(place) => place,
            Err(undone) => return done(Err(undone)),
        };
        let cells = place.server.names.registers(Kind::Cells);
        let parts = vec![Bytes::from_static(b"HGET"), cells.into(), Bytes::copy_from_slice(name.as_bytes())];
        let answered = Box::new(move |answer: Result<Value<'_>, Undone>| {
            done(answer.and_then(|value| maybe_cell(value).ok_or_else(|| unexpected("the register"))));
        });
        place.bulk.put(Request::Call { script: None, parts, answered });
    }

    fn put_if(&self, name: &str, revision: Option<u64>, value: Bytes, done: Done<Swapped>) {
        if value.len() > REGISTER_SIZE_MAX {
            let size = value.len();
            return done(Err(Undone::refused(format!(
                "a register of {size} bytes is larger than {REGISTER_SIZE_MAX}"
            ))));
        }
        let expected = revision.map_or_else(Bytes::new, |revision| revision.to_string().into());
        self.change(name, expected, Some(value), done);
    }

    fn delete_if(&self, name: &str, revision: u64, done: Done<Swapped>) {
        self.change(name, revision.to_string().into(), None, done);
    }

    fn list(&self, prefix: &str, done: Done<Vec<(String, Cell)>>) {
        let from = [b"[", prefix.as_bytes()].concat();
        // Names are UTF-8, in which no byte is greater than this.
        let to = [b"[", prefix.as_bytes(), b"\xff"].concat();
        self.list_more(from, to.into(), Vec::new(), done);
    }
}

impl Redis {
    fn change(&self, name: &str, expected: Bytes, value: Option<Bytes>, done: Done<Swapped>) {
        let place = match self.of_registers() {
            Ok(place) => place,
            Err(undone) => return done(Err(undone)),
        };
        let mut parts = place.cells_and_names();
        parts.extend([Bytes::copy_from_slice(name.as_bytes()), expected]);
        parts.extend(value);
        let answered = Box::new(move |answer: Result<Value<'_>, Undone>| {
            done(answer.and_then(|value| swapped(value).ok_or_else(|| unexpected("the register"))));
        });
        place.bulk.put(Request::Call { script: Some(Script::ChangeCell), parts, answered });
    }

    fn list_more(&self, from: Vec<u8>, to: Bytes, mut listed: Vec<(String, Cell)>, done: Done<Vec<(String, Cell)>>) {
        let place = match self.of_registers() {
            Ok(place) => place,
            Err(undone) => return done(Err(undone)),
        };
        let mut parts = place.cells_and_names();
        parts.extend([from.into(), to.clone(), CELLS_MAX.to_string().into()]);
        let redis = self.clone();
        let answered = Box::new(move |answer: Result<Value<'_>, Undone>| {
            let some = answer.and_then(|value| cells(value).ok_or_else(|| unexpected("the registers")));
            match some {
                Err(undone) => done(Err(undone)),
                Ok(some) => {
                    let next = (some.len() == CELLS_MAX).then(|| [b"(", some[CELLS_MAX - 1].0.as_bytes()].concat());
                    listed.extend(some);
                    match next {
                        Some(next) => redis.list_more(next, to, listed, done),
                        None => done(Ok(listed)),
                    }
                }
            }
        });
        place.bulk.put(Request::Call { script: Some(Script::ListCells), parts, answered });
    }

    /// The server of all registers.
    fn of_registers(&self) -> Result<Arc<Place>, Undone> {
        self.place(REGISTERS)
    }
}

impl Place {
    /// The keys of a script about registers.
    fn cells_and_names(&self) -> Vec<Bytes> {
        let names = &self.server.names;
        vec![Bytes::from_static(b"2"), names.registers(Kind::Cells).into(), names.registers(Kind::CellNames).into()]
    }
}

fn cell(bytes: &[u8]) -> Option<Cell> {
    let (revision, value) = bytes.split_first_chunk()?;
    Some(Cell { revision: u64::from_le_bytes(*revision), value: Bytes::copy_from_slice(value) })
}

fn maybe_cell(value: Value<'_>) -> Option<Option<Cell>> {
    match value {
        Value::Null => Some(None),
        value => Some(Some(cell(value.text()?)?)),
    }
}

fn swapped(value: Value<'_>) -> Option<Swapped> {
    let mut items = value.items()?;
    let (changed, what) = (items.next()?.number()?, items.next()?);
    Some(match changed {
        1 => Swapped::Done(what.number()?.try_into().ok()?),
        _ => Swapped::Not(maybe_cell(what)?),
    })
}

fn cells(value: Value<'_>) -> Option<Vec<(String, Cell)>> {
    let mut items: Items<'_> = value.items()?;
    let mut cells = Vec::with_capacity(items.len() / 2);
    while let (Some(name), Some(content)) = (items.next(), items.next()) {
        cells.push((String::from_utf8(name.text()?.to_vec()).ok()?, cell(content.text()?)?));
    }
    Some(cells)
}
