//! What a tap shows of payloads: what may be a secret is left out.

use fanfare::Payload;
use serde_json::{Map, Value, json};

/// Stands where something is left out.
const HIDDEN: &str = "•••";

/// A value whose key contains one of these is hidden.
const SECRET_KEYS: [&str; 11] =
    ["token", "password", "secret", "authorization", "cookie", "session", "key", "jwt", "pin", "card", "credential"];

/// An answer has at most so many bytes of a payload.
const SIZE_MAX: usize = 2 * 1024;

/// How much of payloads is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shown {
    Masked,
    None,
    Full,
}

/// A payload as it may be shown: `payload`, or `payload_begin` where it is long. Binary payloads show their length only.
pub(super) fn show(payload: &Payload, event: &str, shown: Shown, into: &mut Map<String, Value>) {
    let value = match (shown, payload) {
        (Shown::None, _) | (_, Payload::Binary(_)) => return,
        (_, Payload::Json(_)) => payload.to().unwrap_or(Value::Null),
        // Text that may be JSON is masked as such, and all other text as a string.
        (_, Payload::Text(text)) => serde_json::from_str(text.as_str()).unwrap_or_else(|_| text.as_str().into()),
    };
    let value = match shown {
        Shown::Full => value,
        // Its payload is a credential, whatever its form is.
        _ if event == "access_token" => json!(HIDDEN),
        _ => masked(value),
    };
    let text = value.to_string();
    if text.len() <= SIZE_MAX {
        into.insert("payload".into(), value);
        return;
    }
    let mut end = SIZE_MAX;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    into.insert("payload_begin".into(), text[..end].into());
}

fn masked(value: Value) -> Value {
    match value {
        Value::String(text) if is_credential(&text) => HIDDEN.into(),
        Value::Array(items) => items.into_iter().map(masked).collect(),
        Value::Object(fields) => fields
            .into_iter()
            .map(|(key, value)| {
                let value = if is_secret(&key) { HIDDEN.into() } else { masked(value) };
                (key, value)
            })
            .collect::<Map<_, _>>()
            .into(),
        other => other,
    }
}

fn is_secret(key: &str) -> bool {
    let key = key.to_lowercase();
    SECRET_KEYS.iter().any(|secret| key.contains(secret))
}

/// Something like `Bearer …` or a JSON Web Token, wherever it stands in a text.
fn is_credential(text: &str) -> bool {
    let is_token = |word: &str| {
        let parts: Vec<&str> = word.split('.').collect();
        let is_base64url = |part: &&str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_');
        parts.len() == 3 && parts[0].len() >= 4 && parts[0].starts_with("eyJ") && parts.iter().all(is_base64url)
    };
    let begins = text.trim_start().get(..7).is_some_and(|begin| begin.eq_ignore_ascii_case("bearer "));
    begins || text.split(|c: char| !(c.is_ascii_alphanumeric() || "-_.".contains(c))).any(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(payload: Payload, event: &str, shown: Shown) -> Value {
        let mut fields = Map::new();
        show(&payload, event, shown, &mut fields);
        fields.into()
    }

    fn json_payload(value: &Value) -> Payload {
        value.clone().into()
    }

    /// Secrets at every depth, under every key and in every form, among values that are none.
    #[test]
    fn a_secret_is_in_no_masked_payload() {
        let marker = "s3cr3t-m4rk3r";
        let token = "eyJhbGciOiJub25lIn0.eyJtYXJrZXIiOiJzM2NyM3QtbTRyazNyIn0.s3cr3t-m4rk3r";
        // A generator that repeats itself: a failure is found again.
        let mut state = 1_u64;
        let mut next = |n: usize| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) as usize % n
        };
        for _ in 0..2_000 {
            let mut value = match next(4) {
                0 => json!(format!("Bearer {marker}")),
                1 => json!(token),
                2 => json!(format!("see {token}, please")),
                _ => {
                    let key = SECRET_KEYS[next(SECRET_KEYS.len())];
                    let key = [key.to_owned(), key.to_uppercase(), format!("user_{key}_2")][next(3)].clone();
                    let hidden =
                        [json!(marker), json!([marker]), json!({"value": {"is": marker}})].into_iter().nth(next(3));
                    json!({ key: hidden })
                }
            };
            for _ in 0..next(6) {
                value = match next(3) {
                    0 => json!([1, value, "seen"]),
                    1 => json!({"body": value, "n": 1}),
                    _ => json!({"list": [{"a": null}, value]}),
                };
            }
            for payload in [json_payload(&value), Payload::Text(value.to_string().into())] {
                let text = shown(payload, "new_msg", Shown::Masked).to_string();
                assert!(!text.contains(marker) && !text.contains("eyJ"), "{value} is shown as {text}");
                assert!(text.contains(HIDDEN), "{text}");
            }
            let full = shown(json_payload(&value), "new_msg", Shown::Full).to_string();
            assert!(full.contains(marker), "{full}");
        }
    }

    #[test]
    fn what_is_no_secret_is_shown() {
        let value = json!({"body": "hi", "n": 1.5, "list": ["a.b.c", "bearer", null, true]});
        assert_eq!(shown(json_payload(&value), "new_msg", Shown::Masked), json!({"payload": value}));
        assert_eq!(shown(json_payload(&value), "new_msg", Shown::None), json!({}));
        assert_eq!(shown(json_payload(&value), "access_token", Shown::Masked), json!({"payload": HIDDEN}));
        assert_eq!(shown(Payload::Binary(vec![1].into()), "new_msg", Shown::Full), json!({}));
        let long = json!({"body": "ä".repeat(2_000)});
        let begin = shown(json_payload(&long), "new_msg", Shown::Full)["payload_begin"].as_str().unwrap().len();
        assert!((SIZE_MAX - 1..=SIZE_MAX).contains(&begin), "{begin}");
    }
}
