//! What a JSON value must look like: exact values and the placeholders of the transcripts.
//!
//! A pattern is read once, when the transcript is loaded, so that a mistake in a transcript is an error of loading and
//! not a difference of the server.

use regex_lite::Regex;
use serde_json::Value;
use std::collections::BTreeMap;

/// A JSON value with placeholders in it.
#[derive(Debug, Clone)]
pub(crate) enum Pattern {
    /// `$any`
    Any,
    /// `$has:a|b`: a text with all of these in it; another value counts as its compact JSON text.
    Has(Vec<String>),
    /// `$re:...`: a string in which the expression is found.
    Regex(Box<Regex>),
    /// `$R1`: a presence ref. One name stands for one string, two names for two.
    Ref(String),
    /// `$T1`: a session token. Seen again it is bound anew, since a server may renew it.
    Token(String),
    /// `{"$set": [...]}` and the value of every `metas`: a list in any order.
    Set(Vec<Pattern>),
    List(Vec<Pattern>),
    Object(BTreeMap<String, Pattern>),
    /// A value without placeholders; numbers are compared by value.
    Exact(Value),
}

/// The strings that the placeholders `$R...` and `$T...` stand for so far.
#[derive(Debug, Clone, Default)]
pub(crate) struct Bindings {
    refs: BTreeMap<String, String>,
    tokens: BTreeMap<String, String>,
}

impl Bindings {
    /// `text` with every bound `$T...` replaced; a name that is not bound stays.
    pub(crate) fn fill(&self, text: &str) -> String {
        // The longest name first, or `$T1` would eat the beginning of `$T12`.
        let mut names: Vec<_> = self.tokens.iter().collect();
        names.sort_by_key(|(name, _)| std::cmp::Reverse(name.len()));
        names.iter().fold(text.to_owned(), |text, (name, token)| text.replace(name.as_str(), token))
    }

    fn bind_ref(&mut self, name: &str, actual: &str) -> bool {
        match self.refs.get(name) {
            Some(bound) => bound == actual,
            None if self.refs.values().any(|bound| bound == actual) => false,
            None => self.refs.insert(name.to_owned(), actual.to_owned()).is_none(),
        }
    }
}

impl Pattern {
    /// Reads a pattern; a string that starts with `$` must be one of the placeholders.
    pub(crate) fn parse(value: &Value) -> Result<Pattern, String> {
        Ok(match value {
            Value::String(text) if text.starts_with('$') => Self::placeholder(text)?,
            Value::Array(items) => Pattern::List(Self::parse_all(items)?),
            Value::Object(fields) => {
                if let (1, Some(Value::Array(items))) = (fields.len(), fields.get("$set")) {
                    return Ok(Pattern::Set(Self::parse_all(items)?));
                }
                let mut patterns = BTreeMap::new();
                for (key, value) in fields {
                    let pattern = match (key.as_str(), Self::parse(value)?) {
                        ("metas", Pattern::List(items)) => Pattern::Set(items),
                        (_, pattern) => pattern,
                    };
                    patterns.insert(key.clone(), pattern);
                }
                Pattern::Object(patterns)
            }
            other => Pattern::Exact(other.clone()),
        })
    }

    fn parse_all(items: &[Value]) -> Result<Vec<Pattern>, String> {
        items.iter().map(Self::parse).collect()
    }

    fn placeholder(text: &str) -> Result<Pattern, String> {
        let numbered = |prefix: &str| {
            text.strip_prefix(prefix).is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
        };
        if text == "$any" {
            Ok(Pattern::Any)
        } else if let Some(words) = text.strip_prefix("$has:") {
            Ok(Pattern::Has(words.split('|').map(str::to_owned).collect()))
        } else if let Some(expression) = text.strip_prefix("$re:") {
            let regex = Regex::new(expression).map_err(|e| format!("regular expression {expression:?}: {e}"))?;
            Ok(Pattern::Regex(Box::new(regex)))
        } else if numbered("$R") {
            Ok(Pattern::Ref(text.to_owned()))
        } else if numbered("$T") {
            Ok(Pattern::Token(text.to_owned()))
        } else {
            Err(format!("unknown placeholder {text:?}"))
        }
    }

    /// Whether `actual` looks like this. On success `bindings` holds what the placeholders now stand for; on failure it
    /// may hold bindings of the part that matched, so the caller passes a copy where it goes on.
    pub(crate) fn matches(&self, actual: &Value, bindings: &mut Bindings) -> bool {
        match (self, actual) {
            (Pattern::Any, _) => true,
            (Pattern::Has(words), Value::String(text)) => words.iter().all(|word| text.contains(word.as_str())),
            (Pattern::Has(words), other) => {
                let text = other.to_string();
                words.iter().all(|word| text.contains(word.as_str()))
            }
            (Pattern::Regex(regex), Value::String(text)) => regex.is_match(text),
            (Pattern::Ref(name), Value::String(text)) => !text.is_empty() && bindings.bind_ref(name, text),
            (Pattern::Token(name), Value::String(text)) if !text.is_empty() => {
                bindings.tokens.insert(name.clone(), text.clone());
                true
            }
            (Pattern::Set(patterns), Value::Array(items)) => {
                matches_in_any_order(patterns, &items.iter().collect::<Vec<_>>(), bindings)
            }
            (Pattern::List(patterns), Value::Array(items)) => {
                patterns.len() == items.len() && patterns.iter().zip(items).all(|(p, item)| p.matches(item, bindings))
            }
            (Pattern::Object(patterns), Value::Object(fields)) => {
                patterns.len() == fields.len()
                    && patterns.iter().all(|(key, p)| fields.get(key).is_some_and(|value| p.matches(value, bindings)))
            }
            (Pattern::Exact(Value::Number(a)), Value::Number(b)) => numbers_equal(a, b),
            (Pattern::Exact(expected), actual) => expected == actual,
            _ => false,
        }
    }
}

/// Finds a pairing of patterns and items, going back where an early pairing binds a ref that a later one needs.
fn matches_in_any_order(patterns: &[Pattern], items: &[&Value], bindings: &mut Bindings) -> bool {
    let Some((first, rest)) = patterns.split_first() else {
        return items.is_empty();
    };
    if patterns.len() != items.len() {
        return false;
    }
    for (i, item) in items.iter().enumerate() {
        let mut attempt = bindings.clone();
        let mut others = items.to_vec();
        others.remove(i);
        if first.matches(item, &mut attempt) && matches_in_any_order(rest, &others, &mut attempt) {
            *bindings = attempt;
            return true;
        }
    }
    false
}

fn numbers_equal(a: &serde_json::Number, b: &serde_json::Number) -> bool {
    // Integers exactly: as floats, neighbours above 2^53 would be equal.
    match (a.as_i128(), b.as_i128()) {
        (Some(a), Some(b)) => a == b,
        _ => a.as_f64() == b.as_f64(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Matches pairs of expected and actual one after another with shared bindings, and compares the verdicts.
    #[track_caller]
    fn check(cases: &[(Value, Value, bool)]) {
        let mut bindings = Bindings::default();
        for (expected, actual, verdict) in cases {
            let mut attempt = bindings.clone();
            let matched = Pattern::parse(expected).unwrap().matches(actual, &mut attempt);
            assert_eq!(matched, *verdict, "{expected} against {actual}");
            if matched {
                bindings = attempt;
            }
        }
    }

    #[test]
    fn plain_values() {
        check(&[
            (json!(1), json!(1.0), true),
            (json!(1), json!(2), false),
            (json!(9007199254740993_i64), json!(9007199254740992_i64), false),
            (json!(12345678901234567890_u64), json!(12345678901234567890_u64), true),
            (json!(1), json!(true), false),
            (json!("1"), json!(1), false),
            (json!(null), json!(null), true),
            (json!(null), json!(false), false),
            (json!([1, 2]), json!([1, 2]), true),
            (json!([1, 2]), json!([2, 1]), false),
            (json!([1, 2]), json!([1, 2, 3]), false),
            (json!({"a": 1, "b": 2}), json!({"b": 2, "a": 1}), true),
            (json!({"a": 1}), json!({"a": 1, "b": 2}), false),
            (json!({"a": 1, "b": 2}), json!({"a": 1}), false),
            (json!({"a": null}), json!({"b": null}), false),
        ]);
    }

    #[test]
    fn text_placeholders() {
        check(&[
            (json!("$any"), json!({"x": [1]}), true),
            (json!(["$any"]), json!([]), false),
            (json!("$has:a|b"), json!("b and a"), true),
            (json!("$has:a|b"), json!("only a"), false),
            (json!("$has:1|2"), json!([1, 2]), true),
            (json!("$re:^a.c$"), json!("abc"), true),
            (json!("$re:^a.c$"), json!("xabc"), false),
            (json!("$re:(?i)GET"), json!("a get"), true),
            (json!("$re:."), json!(5), false),
        ]);
    }

    #[test]
    fn one_name_is_one_ref() {
        check(&[
            (json!("$R1"), json!(""), false),
            (json!("$R1"), json!(7), false),
            (json!("$R1"), json!("x"), true),
            (json!("$R1"), json!("y"), false),
            (json!("$R2"), json!("x"), false),
            (json!("$R2"), json!("y"), true),
            (json!(["$R1", "$R2"]), json!(["x", "y"]), true),
            (json!(["$R1", "$R2"]), json!(["y", "x"]), false),
        ]);
    }

    #[test]
    fn any_order_goes_back_on_a_wrong_choice() {
        let metas = |a: &str, b: &str| json!({"metas": [{"phx_ref": a}, {"phx_ref": b}]});
        check(&[
            (json!({"$set": [1, 2]}), json!([2, 1]), true),
            (json!({"$set": [1, 2]}), json!([1, 1]), false),
            (json!({"$set": [1]}), json!([1, 2]), false),
            (json!({"$set": ["$any", 1]}), json!([1, 2]), true),
            (metas("$R1", "$R2"), metas("x", "y"), true),
            (metas("$R1", "$R2"), metas("y", "x"), true),
            (metas("$R1", "$R3"), metas("y", "x"), false),
            (json!(["$R1", {"metas": ["$R2"]}]), json!(["x", {"metas": ["y"]}]), true),
        ]);
    }

    #[test]
    fn tokens_are_filled_in() {
        let mut bindings = Bindings::default();
        for (name, token) in [("$T1", "one"), ("$T12", "twelve"), ("$T1", "renewed")] {
            assert!(Pattern::parse(&json!(name)).unwrap().matches(&json!(token), &mut bindings));
        }
        assert_eq!(bindings.fill("a=$T12&b=$T1&c=$T3"), "a=twelve&b=renewed&c=$T3");
        assert!(!Pattern::parse(&json!("$T1")).unwrap().matches(&json!(""), &mut bindings));
    }

    #[test]
    fn mistakes_are_found_on_reading() {
        for wrong in ["$foo", "$R", "$Rx", "$re:(", "$"] {
            assert!(Pattern::parse(&json!({"a": [wrong]})).is_err(), "{wrong}");
        }
    }
}
