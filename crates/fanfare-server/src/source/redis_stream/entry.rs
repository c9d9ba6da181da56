//! The entries of a stream, out of what Redis answers: lists, or maps from those that speak its newer protocol.

use redis::Value;

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) id: String,
    /// Name and value of each; `None` if the entry was deleted.
    pub(super) fields: Option<Vec<(Vec<u8>, Vec<u8>)>>,
}

/// The answer to `XREADGROUP`: entries by stream. What is none of that is left out.
pub(super) fn read(answer: Value) -> Vec<(String, Vec<Entry>)> {
    let pairs: Vec<(Value, Value)> = match answer {
        Value::Map(pairs) => pairs,
        Value::Array(items) => items.into_iter().filter_map(pair).collect(),
        _ => return Vec::new(),
    };
    pairs.into_iter().filter_map(|(stream, list)| Some((text(stream)?, entries(list)))).collect()
}

/// The answer to `XAUTOCLAIM`: where to go on, and the entries.
pub(super) fn claimed(answer: Value) -> (String, Vec<Entry>) {
    let mut items = match answer {
        Value::Array(items) => items.into_iter(),
        _ => Vec::new().into_iter(),
    };
    let next = items.next().and_then(text).unwrap_or_else(|| "0-0".into());
    (next, items.next().map(entries).unwrap_or_default())
}

fn entries(list: Value) -> Vec<Entry> {
    let Value::Array(list) = list else { return Vec::new() };
    let entry = |item| {
        let (id, fields) = pair(item)?;
        Some(Entry { id: text(id)?, fields: fields_of(fields) })
    };
    list.into_iter().filter_map(entry).collect()
}

fn fields_of(value: Value) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let pairs = match value {
        Value::Map(pairs) => pairs,
        Value::Array(items) => {
            let (mut items, mut pairs) = (items.into_iter(), Vec::new());
            while let (Some(name), Some(value)) = (items.next(), items.next()) {
                pairs.push((name, value));
            }
            pairs
        }
        _ => return None,
    };
    Some(pairs.into_iter().filter_map(|(name, value)| Some((bytes(name)?, bytes(value)?))).collect())
}

fn pair(value: Value) -> Option<(Value, Value)> {
    let Value::Array(items) = value else { return None };
    let [first, second] = <[Value; 2]>::try_from(items).ok()?;
    Some((first, second))
}

fn bytes(value: Value) -> Option<Vec<u8>> {
    match value {
        Value::BulkString(bytes) => Some(bytes),
        Value::SimpleString(text) => Some(text.into_bytes()),
        _ => None,
    }
}

fn text(value: Value) -> Option<String> {
    String::from_utf8(bytes(value)?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(items: impl IntoIterator<Item = Value>) -> Value {
        Value::Array(items.into_iter().collect())
    }

    fn bulk(text: &str) -> Value {
        Value::BulkString(text.into())
    }

    fn entry(id: &str, fields: &[(&str, &str)]) -> Entry {
        let owned = |(name, value): &(&str, &str)| (name.as_bytes().to_vec(), value.as_bytes().to_vec());
        Entry { id: id.into(), fields: Some(fields.iter().map(owned).collect()) }
    }

    #[test]
    fn answers() {
        let fields = list(["a", "1", "b", "2"].map(bulk));
        let one = || list([list([bulk("5-0"), fields.clone()]), list([bulk("6-0"), Value::Nil])]);
        let expected = || vec![entry("5-0", &[("a", "1"), ("b", "2")]), Entry { id: "6-0".into(), fields: None }];
        assert_eq!(read(list([list([bulk("s"), one()])])), [("s".to_owned(), expected())]);
        assert_eq!(read(Value::Map(vec![(bulk("s"), one())])), [("s".to_owned(), expected())]);
        assert_eq!(read(Value::Nil), []);
        assert_eq!(read(list([Value::Int(5), list([bulk("s")])])), []);
        assert_eq!(claimed(list([bulk("7-0"), one(), list([])])), ("7-0".to_owned(), expected()));
        assert_eq!(claimed(list([bulk("0-0"), list([])])), ("0-0".to_owned(), vec![]));
        assert_eq!(claimed(Value::Okay), ("0-0".to_owned(), vec![]));
    }
}
