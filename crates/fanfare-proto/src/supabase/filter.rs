//! Filters of `postgres_changes`: `column=operator.value`, several with commas between, all of which have to hold. As in SQL, a
//! comparison with a null is neither true nor false, so that no filter finds it but `is` and `isdistinct`.

use std::borrow::Cow;
use std::cmp::Ordering;

use serde_json::Value;

use super::like::Like;
use super::regular::Regular;

/// The longest filter, in bytes.
const SIZE_MAX: usize = 4_096;

/// How many conditions a filter may have.
const CONDITIONS_MAX: usize = 20;

/// How many values `in` may have.
const VALUES_MAX: usize = 100;

/// How many regular expressions there may be in all filters of a join: to compile one takes as long as many joins.
pub(super) const REGULAR_MAX: usize = 2;

/// Which rows are wanted.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Filter(Vec<Condition>);

#[derive(Debug, Clone, PartialEq)]
struct Condition {
    column: String,
    negated: bool,
    test: Test,
}

#[derive(Debug, Clone, PartialEq)]
enum Test {
    /// Compared with a value, the column is one of these.
    Order(&'static [Ordering], String),
    In(Vec<String>),
    /// Null, true or false.
    Is(Value),
    Distinct(String),
    Like(Like),
    Regular(Regular),
}

const EQUAL: &[Ordering] = &[Ordering::Equal];
const UNEQUAL: &[Ordering] = &[Ordering::Less, Ordering::Greater];
const LESS: &[Ordering] = &[Ordering::Less];
const AT_MOST: &[Ordering] = &[Ordering::Less, Ordering::Equal];
const GREATER: &[Ordering] = &[Ordering::Greater];
const AT_LEAST: &[Ordering] = &[Ordering::Greater, Ordering::Equal];

impl Filter {
    /// Reads a filter, of a join that may have so many regular expressions yet.
    ///
    /// # Errors
    /// What is wrong with it, for whoever wrote it.
    pub(super) fn parse(text: &str, regular_left: &mut usize) -> Result<Self, String> {
        if text.len() > SIZE_MAX {
            return Err(format!("the filter has {} bytes, more than {SIZE_MAX}", text.len()));
        }
        if text.is_empty() {
            return Ok(Filter::default());
        }
        let parts = split(text);
        if parts.len() > CONDITIONS_MAX {
            return Err(format!("the filter has {} conditions, more than {CONDITIONS_MAX}", parts.len()));
        }
        parts.into_iter().map(|part| Condition::parse(part, regular_left)).collect::<Result<_, _>>().map(Filter)
    }

    /// Whether a row is wanted, of which `column` gives the values.
    pub(super) fn matches(&self, column: impl Fn(&str) -> Option<Value>) -> bool {
        let holds = |condition: &Condition| {
            let holds = condition.test.holds(&column(&condition.column).unwrap_or_default());
            holds.is_some_and(|holds| holds != condition.negated)
        };
        self.0.iter().all(holds)
    }
}

impl Filter {
    /// The columns that it looks at.
    pub(super) fn columns(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|condition| condition.column.as_str())
    }
}

impl Condition {
    fn parse(text: &str, regular_left: &mut usize) -> Result<Self, String> {
        let wrong = || format!("{text:.80?} is no condition: write column=operator.value");
        let (column, rest) = text.split_once('=').filter(|(column, _)| !column.is_empty()).ok_or_else(wrong)?;
        let (negated, rest) = rest.strip_prefix("not.").map_or((false, rest), |rest| (true, rest));
        let (operator, value) = rest.split_once('.').ok_or_else(wrong)?;
        let compared = |orders| Test::Order(orders, unquoted(value));
        let test = match operator {
            "eq" => compared(EQUAL),
            "neq" => compared(UNEQUAL),
            "lt" => compared(LESS),
            "lte" => compared(AT_MOST),
            "gt" => compared(GREATER),
            "gte" => compared(AT_LEAST),
            "isdistinct" => Test::Distinct(unquoted(value)),
            "like" => Test::Like(Like::parse(&unquoted(value), false)?),
            "ilike" => Test::Like(Like::parse(&unquoted(value), true)?),
            "match" | "imatch" => {
                *regular_left = regular_left.checked_sub(1).ok_or_else(|| {
                    format!("the filters of a join have at most {REGULAR_MAX} conditions with match or imatch")
                })?;
                Test::Regular(Regular::parse(&unquoted(value), operator == "imatch")?)
            }
            "in" => {
                let list = value.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).ok_or_else(wrong)?;
                // An empty list has nothing in it, and not an empty text.
                let parts = if list.is_empty() { Vec::new() } else { split(list) };
                let values: Vec<_> = parts.into_iter().map(unquoted).collect();
                if values.len() > VALUES_MAX {
                    return Err(format!("`in` has {} values, more than {VALUES_MAX}", values.len()));
                }
                Test::In(values)
            }
            "is" => Test::Is(match value.to_ascii_lowercase().as_str() {
                "null" | "unknown" => Value::Null,
                "true" => true.into(),
                "false" => false.into(),
                _ => return Err(format!("`is` takes null, true, false or unknown, not {value:.40?}")),
            }),
            _ => {
                return Err(format!(
                    "the operator {operator:.40?} is not served here: there are eq, neq, lt, lte, gt, gte, in, is, \
                     isdistinct, like, ilike, match and imatch, each with `not.` before it"
                ));
            }
        };
        Ok(Condition { column: column.to_owned(), negated, test })
    }
}

impl Test {
    /// `None` where SQL says null.
    fn holds(&self, found: &Value) -> Option<bool> {
        match self {
            Test::Order(orders, value) => Some(orders.contains(&compare(found, value)?)),
            Test::In(values) => {
                // What cannot be compared is none of them.
                let is_one = values.iter().any(|value| compare(found, value) == Some(Ordering::Equal));
                (!found.is_null()).then_some(is_one)
            }
            Test::Is(value) => Some(found == value),
            Test::Like(like) => Some(like.matches(&written(found)?)),
            Test::Regular(regular) => Some(regular.matches(&written(found)?)),
            Test::Distinct(value) if found.is_null() => Some(value != "null"),
            Test::Distinct(value) => Some(compare(found, value) != Some(Ordering::Equal)),
        }
    }
}

/// A column's value as a text; `None` for a null.
fn written(found: &Value) -> Option<Cow<'_, str>> {
    match found {
        Value::Null => None,
        Value::String(text) => Some(text.into()),
        other => Some(other.to_string().into()),
    }
}

/// A column's value beside one that is written. Texts, and what PostgreSQL writes as texts (times, identifiers), go by their bytes.
fn compare(found: &Value, written: &str) -> Option<Ordering> {
    match found {
        Value::Null => None,
        Value::Bool(found) => {
            let written = match written.to_ascii_lowercase().as_str() {
                "true" | "t" => true,
                "false" | "f" => false,
                _ => return None,
            };
            Some(found.cmp(&written))
        }
        Value::Number(number) => {
            let text = number.to_string();
            match (text.parse::<i128>(), written.parse::<i128>()) {
                (Ok(found), Ok(written)) => Some(found.cmp(&written)),
                _ => text.parse::<f64>().ok()?.partial_cmp(&written.parse().ok()?),
            }
        }
        Value::String(found) => Some(found.as_str().cmp(written)),
        Value::Array(_) | Value::Object(_) => Some(found.to_string().as_str().cmp(written)),
    }
}

/// The parts between commas that stand neither in quotes nor in brackets.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut from, mut depth, mut quoted, mut escaped) = (Vec::new(), 0, 0_u32, false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ if quoted => {}
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            b',' if depth == 0 => {
                parts.push(&text[from..at]);
                from = at + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[from..]);
    parts
}

/// A value without the quotes that clients put around one with commas or brackets in it.
fn unquoted(text: &str) -> String {
    let Some(inner) = text.strip_prefix('"').and_then(|rest| rest.strip_suffix('"')) else { return text.to_owned() };
    let (mut out, mut escaped) = (String::with_capacity(inner.len()), false);
    for char in inner.chars() {
        if char == '\\' && !escaped {
            escaped = true;
            continue;
        }
        escaped = false;
        out.push(char);
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn rows_are_found_as_sql_would_find_them() {
        let row = json!({
            "id": 9_007_199_254_740_993_i64, "n": 1.5, "name": "Ada, \"A\"", "ok": true, "none": null,
            "at": "2026-08-21T10:00:00", "tags": ["a", "b"], "empty": "",
        });
        #[track_caller]
        fn check(row: &Value, filter: &str, expected: bool) {
            let filter =
                Filter::parse(filter, &mut REGULAR_MAX.clone()).unwrap_or_else(|error| panic!("{filter}: {error}"));
            assert_eq!(filter.matches(|column| row.get(column).cloned()), expected, "{filter:?}");
        }
        check(&row, "", true);
        check(&row, "id=eq.9007199254740993", true);
        check(&row, "id=eq.9007199254740992", false);
        check(&row, "id=gt.5,n=lt.2", true);
        check(&row, "id=gt.5,n=lt.1", false);
        check(&row, "n=gte.1.5", true);
        check(&row, "n=lte.1", false);
        check(&row, "n=eq.x", false);
        check(&row, r#"name=eq."Ada, \"A\"""#, true);
        check(&row, r#"name=in.(Bob,"Ada, \"A\"")"#, true);
        check(&row, "name=in.(Bob,Eve)", false);
        check(&row, "name=not.in.(Bob,Eve)", true);
        check(&row, "empty=in.()", false);
        check(&row, "empty=not.in.()", true);
        check(&row, r#"empty=in.("")"#, true);
        check(&row, "empty=in.(a,)", true);
        check(&row, "name=neq.Bob", true);
        check(&row, "name=like.Ada%", true);
        check(&row, "name=like.ada%", false);
        check(&row, "name=ilike.ada%", true);
        check(&row, "name=not.like.B%", true);
        check(&row, "name=match.^Ada", true);
        check(&row, "name=match.^ada", false);
        check(&row, "name=imatch.^ada", true);
        check(&row, "name=not.match.^B", true);
        check(&row, r#"name=match."^Ada, \\W[A]\\W$""#, true);
        check(&row, "id=match.^90,n=match.5$", true);
        check(&row, "at=gt.2026-08-20", true);
        check(&row, "ok=eq.true", true);
        check(&row, "ok=is.true", true);
        check(&row, "ok=not.is.false", true);
        check(&row, "ok=eq.maybe", false);
        check(&row, r#"tags=eq."[\"a\",\"b\"]""#, true);
        // Nulls, and columns that there are not.
        for column in ["none", "missing"] {
            for test in [
                "eq.null",
                "neq.1",
                "not.eq.1",
                "in.(null)",
                "not.in.(1)",
                "lt.1",
                "like.%",
                "not.like.a",
                "match.",
                "not.match.a",
            ] {
                check(&row, &format!("{column}={test}"), false);
            }
            check(&row, &format!("{column}=is.null"), true);
            check(&row, &format!("{column}=isdistinct.1"), true);
            check(&row, &format!("{column}=isdistinct.null"), false);
        }
        check(&row, "ok=not.is.null", true);
    }

    #[test]
    fn what_is_no_filter_is_explained() {
        #[track_caller]
        fn check(filter: &str, part: &str) {
            let error = Filter::parse(filter, &mut REGULAR_MAX.clone()).unwrap_err();
            assert!(error.contains(part), "{filter:.40}: {error}");
        }
        check("id", "write column=operator.value");
        check("=eq.1", "write column=operator.value");
        check("id=eq", "write column=operator.value");
        check("id=eq.1,", "write column=operator.value");
        check("id=in.1,2", "write column=operator.value");
        check("id=similar.a%", "the operator \"similar\" is not served here");
        check("id=match.(a", "is not served: unclosed group");
        check(&["id=match.a"; REGULAR_MAX + 1].join(","), "at most 2 conditions with match or imatch");
        check("id=like.a\\", "ends with a backslash");
        check("id=is.5", "`is` takes null");
        check(&vec!["a=eq.1"; CONDITIONS_MAX + 1].join(","), "21 conditions, more than 20");
        check(&format!("a=in.({})", vec!["1"; VALUES_MAX + 1].join(",")), "101 values, more than 100");
        check(&format!("a=eq.{}", "x".repeat(SIZE_MAX)), "more than 4096");
    }
}
