//! Params as the stock client writes them into a URL.

use serde_json::Value;

/// The query of these params, with the version 2.0.0.
///
/// # Panics
/// They are no object.
pub(super) fn of(params: &Value) -> String {
    let Value::Object(fields) = params else { panic!("params are an object, not {params}") };
    let mut pairs = Vec::new();
    for (name, value) in fields {
        add(&mut pairs, encode(name), value);
    }
    if !fields.contains_key("vsn") {
        pairs.push("vsn=2.0.0".to_owned());
    }
    pairs.join("&")
}

fn add(pairs: &mut Vec<String>, name: String, value: &Value) {
    match value {
        Value::Object(fields) => {
            fields.iter().for_each(|(key, value)| add(pairs, format!("{name}[{}]", encode(key)), value))
        }
        Value::Array(values) => values.iter().for_each(|value| add(pairs, format!("{name}[]"), value)),
        Value::String(text) => pairs.push(format!("{name}={}", encode(text))),
        other => pairs.push(format!("{name}={other}")),
    }
}

fn encode(text: &str) -> String {
    let mut out = String::new();
    for &byte in text.as_bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => out.push(char::from(byte)),
            _ => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use fanfare_proto::params::Params;
    use serde_json::json;

    use super::*;

    #[test]
    fn params_arrive_as_strings() {
        #[track_caller]
        fn check(params: Value, arrived: Value) {
            let parsed = Params::parse(&of(&params)).unwrap().into_json().to::<Value>().unwrap();
            assert_eq!(parsed, arrived);
        }
        check(json!({}), json!({"vsn": "2.0.0"}));
        check(json!({"vsn": "1.0.0"}), json!({"vsn": "1.0.0"}));
        check(
            json!({"token": "a+b/c=&d é", "n": 7, "t": true, "in": {"a b": "1"}, "l": ["x", "y"]}),
            json!({"token": "a+b/c=&d é", "n": "7", "t": "true", "in": {"a b": "1"}, "l": ["x", "y"], "vsn": "2.0.0"}),
        );
    }
}
