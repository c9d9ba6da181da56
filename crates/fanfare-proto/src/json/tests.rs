//! The scanner against serde_json: they take and refuse the same texts, but for what only the scanner asks.

use proptest::prelude::*;
use serde_json::value::RawValue;

use super::*;
use crate::frame::write_string;
use crate::message::Ref;

#[test]
fn documents() {
    for (text, expected) in [
        ("{}", Ok("{}")),
        (" \t\r\n[1, 2] ", Ok("[1, 2]")),
        (r#"{"a":{"b":[[],{},""]},"c":-0.5e+10}"#, Ok(r#"{"a":{"b":[[],{},""]},"c":-0.5e+10}"#)),
        ("123456789012345678901234567890.50", Ok("123456789012345678901234567890.50")),
        (r#""\ud83d\ude00 \\ud800 \" \/\b\f\n\r\t\u00e9""#, Ok(r#""\ud83d\ude00 \\ud800 \" \/\b\f\n\r\t\u00e9""#)),
        ("true", Ok("true")),
        ("\"12345678\u{e9}12345678\u{7f}\"", Ok("\"12345678\u{e9}12345678\u{7f}\"")),
        ("", Err(Fault::NotJson)),
        (" ", Err(Fault::NotJson)),
        ("{} {}", Err(Fault::NotJson)),
        ("\u{feff}{}", Err(Fault::NotJson)),
        ("{'a':1}", Err(Fault::NotJson)),
        ("{\"a\" 1}", Err(Fault::NotJson)),
        ("{\"a\":1,}", Err(Fault::NotJson)),
        ("{,}", Err(Fault::NotJson)),
        ("[1,]", Err(Fault::NotJson)),
        ("[1 2]", Err(Fault::NotJson)),
        ("[1}", Err(Fault::NotJson)),
        ("{\"a\":1]", Err(Fault::NotJson)),
        ("[", Err(Fault::NotJson)),
        ("]", Err(Fault::NotJson)),
        ("01", Err(Fault::NotJson)),
        ("-", Err(Fault::NotJson)),
        ("1.", Err(Fault::NotJson)),
        (".5", Err(Fault::NotJson)),
        ("1e", Err(Fault::NotJson)),
        ("+1", Err(Fault::NotJson)),
        ("nul", Err(Fault::NotJson)),
        ("nulll", Err(Fault::NotJson)),
        ("NaN", Err(Fault::NotJson)),
        ("\"a\nb\"", Err(Fault::NotJson)),
        ("\"1234567\u{1f}\"", Err(Fault::NotJson)),
        ("\"open", Err(Fault::NotJson)),
        ("\"12345678", Err(Fault::NotJson)),
        (r#""\"#, Err(Fault::NotJson)),
        (r#""\x""#, Err(Fault::NotJson)),
        (r#""\u12"#, Err(Fault::NotJson)),
        (r#""\u12g4""#, Err(Fault::NotJson)),
        (r#""\u+123""#, Err(Fault::NotJson)),
        (r#""\ud83d""#, Err(Fault::UnpairedSurrogate)),
        (r#""\ud83dx""#, Err(Fault::UnpairedSurrogate)),
        (r#""\ude00""#, Err(Fault::UnpairedSurrogate)),
        (r#""\ud83d\ud83d\ude00""#, Err(Fault::UnpairedSurrogate)),
        (r#"{"\uD800":1}"#, Err(Fault::UnpairedSurrogate)),
        (r#""\ud83d\n""#, Err(Fault::UnpairedSurrogate)),
        ("1.7976931348623157e308", Ok("1.7976931348623157e308")),
        ("-1E-999", Ok("-1E-999")),
        ("0e999", Ok("0e999")),
        ("1e309", Err(Fault::NumberTooLarge)),
        ("[-1E+400]", Err(Fault::NumberTooLarge)),
        ("0.1e99999999999999999999", Err(Fault::NumberTooLarge)),
    ] {
        assert_eq!(document(text), expected, "{text}");
    }
}

#[test]
fn numbers_are_bounded_by_what_a_double_holds_and_not_by_their_digits() {
    for (text, is_ok) in [
        ("9".repeat(308), true),
        ("9".repeat(400), false),
        (format!("-{}", "9".repeat(310)), false),
        (format!("0.{}", "9".repeat(10_000)), true),
        (format!("1{}", "0".repeat(308)), true),
    ] {
        let fault = Err(Fault::NumberTooLarge);
        assert_eq!(document(&text), if is_ok { Ok(&*text) } else { fault }, "{text}");
    }
}

#[test]
fn members_of_an_object_and_of_nothing_else() {
    #[track_caller]
    fn check(text: &str, expected: Option<&str>) {
        let mut found = Vec::new();
        let result = members(text, |key, value| found.push(format!("{key}={value}")));
        assert_eq!(result.ok().map(|()| found.join(" ")).as_deref(), expected, "{text}");
    }
    check(" {} ", Some(""));
    check(r#"{"a":1,"b" : [{"c":2}] , "a":"x"}"#, Some(r#"a=1 b=[{"c":2}] a="x""#));
    check(r#"{"\u0061\n":null}"#, Some("a\n=null"));
    for text in ["", "[]", "null", "\"{}\"", "{}{}", r#"{"a"}"#, r#"{"a":1,}"#, r#"{1:1}"#, r#"{"a":1"#, r#"{"a":1]"#] {
        check(text, None);
    }
}

#[test]
fn nesting_is_bounded() {
    for (depth, is_ok) in [(1, true), (NESTING_MAX, true), (NESTING_MAX + 1, false), (100_000, false)] {
        let fault = Err(Fault::NestedTooDeeply);
        let lists = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert_eq!(document(&lists), if is_ok { Ok(&*lists) } else { fault }, "{depth} lists");
        let objects = format!("{}1{}", "{\"[[\":".repeat(depth), "}".repeat(depth));
        assert_eq!(document(&objects), if is_ok { Ok(&*objects) } else { fault }, "{depth} objects");
    }
    let flat = format!("[{}[]]", "[],{\"\\\"[\":{}},".repeat(2_000));
    assert_eq!(document(&flat), Ok(&*flat), "siblings and brackets in strings do not count");
}

#[test]
fn strings_are_written_as_serde_json_writes_them() {
    for fill in ["x", "é", "\u{7f}", "😀"] {
        for (size, at) in (0..20).flat_map(|size| (0..=size).map(move |at| (size, at))) {
            for special in ["", "\"", "\\", "\0", "\n", "\u{1f}", "\" \\"] {
                let text = format!("{}{special}{}", fill.repeat(at), fill.repeat(size - at));
                let expected = serde_json::to_string(&text).unwrap();
                assert_eq!(is_plain(text.as_bytes()), special.is_empty(), "{text:?}");
                let mut out = b"before".to_vec();
                write_string(&text, &mut out);
                assert_eq!(String::from_utf8(out).unwrap(), format!("before{expected}"));
                assert_eq!(Ref::string(&text).as_json(), expected);
            }
        }
    }
}

/// JSON of every shape, with white space, and every string that has a form.
fn json() -> impl Strategy<Value = String> {
    let string = || "\"([ !#-\\[\\]-~é€😀]|\\\\[\"\\\\/bfnrt]|\\\\u00[0-9a-fA-F]{2}|\\\\ud83d\\\\ude0[0-9]){0,20}\"";
    let leaf = prop_oneof![
        string().boxed(),
        "-?(0|[1-9][0-9]{0,20})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,2})?".boxed(),
        "true|false|null".boxed(),
    ];
    leaf.prop_recursive(6, 60, 6, move |inner| {
        let space = "[ \n\r\t]{0,2}";
        let member = (string(), space, inner.clone()).prop_map(|(key, space, value)| format!("{key}{space}:{value}"));
        prop_oneof![
            (proptest::collection::vec(inner, 0..6), space)
                .prop_map(|(elements, space)| format!("[{space}{}]", elements.join(&format!("{space},")))),
            (proptest::collection::vec(member, 0..6), space)
                .prop_map(|(members, space)| format!("{space}{{{}{space}}}", members.join(",")))
        ]
    })
}

/// What the scanner finds, and what serde_json finds.
fn check(text: &str) {
    let found = serde_json::from_str::<&RawValue>(text).map(RawValue::get);
    match document(text) {
        Ok(value) => assert_eq!(value, found.unwrap(), "{text}"),
        Err(Fault::NotJson) => assert!(found.is_err(), "{text}"),
        // serde_json does not look at these where it skips; where it reads it agrees.
        Err(Fault::UnpairedSurrogate) => assert!(serde_json::from_str::<serde_json::Value>(text).is_err(), "{text}"),
        Err(Fault::NumberTooLarge) => assert!(serde_json::from_str::<f64>(text).is_err(), "{text}"),
        Err(Fault::NestedTooDeeply) => {}
    }
}

proptest! {
    #[test]
    fn every_json_is_taken(text in json()) {
        prop_assert!(document(&text).is_ok(), "{}", text);
        check(&text);
    }

    /// A byte is changed, left out or put in.
    #[test]
    fn what_is_nearly_json_fares_as_with_serde_json(
        text in json(),
        at in any::<prop::sample::Index>(),
        change in 0..3,
        with in prop::sample::select(b"\"\\{}[],:0-.eutn \x01\x7fd8".to_vec()),
    ) {
        let mut bytes = text.into_bytes();
        let at = at.index(bytes.len());
        match change {
            0 => bytes[at] = with,
            1 => drop(bytes.remove(at)),
            _ => bytes.insert(at, with),
        }
        if let Ok(text) = std::str::from_utf8(&bytes) {
            check(text);
        }
    }
}
