//! What clients have sent, on its way to somebody's screen. A terminal obeys control characters, those of C1 as well, and controls of
//! the direction have it show text in an order that nobody wrote. Such a character is printed by its number.

use std::borrow::Cow;

/// JSON, which it stays: `\u009b`. It may have such a character within a text only, or, where they are blanks, between its parts.
pub(super) fn json(text: &str) -> Cow<'_, str> {
    escaped(text, |c| match c {
        '\n' | '\r' | '\t' => " ".to_owned(),
        c => format!("\\u{:04x}", u32::from(c)),
    })
}

/// Any other text: `\u{9b}`, `\n`.
pub(super) fn plain(text: &str) -> Cow<'_, str> {
    escaped(text, |c| c.escape_default().to_string())
}

/// What the server says to people: a text of its own lines.
pub(super) fn lines(text: &str) -> String {
    text.split('\n').map(plain).collect::<Vec<_>>().join("\n")
}

fn escaped(text: &str, shown: impl Fn(char) -> String) -> Cow<'_, str> {
    if !text.contains(is_obeyed) {
        return Cow::Borrowed(text);
    }
    let mut all = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        match is_obeyed(c) {
            true => all.push_str(&shown(c)),
            false => all.push(c),
        }
    }
    Cow::Owned(all)
}

/// Whether something is done because of it, rather than it being shown.
fn is_obeyed(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[test]
    fn no_character_is_left_that_a_terminal_obeys() {
        for (text, in_json, in_text) in [
            ("a \u{e9} \u{200d} \u{1f600}", "a \u{e9} \u{200d} \u{1f600}", "a \u{e9} \u{200d} \u{1f600}"),
            ("\u{1b}[2J", r"\u001b[2J", r"\u{1b}[2J"),
            ("\u{7f}", r"\u007f", r"\u{7f}"),
            ("\u{80}\u{9b}31m\u{9f}", r"\u0080\u009b31m\u009f", r"\u{80}\u{9b}31m\u{9f}"),
            ("\u{61c}\u{200e}\u{200f}", r"\u061c\u200e\u200f", r"\u{61c}\u{200e}\u{200f}"),
            ("\u{202a}\u{202e}", r"\u202a\u202e", r"\u{202a}\u{202e}"),
            ("\u{2066}\u{2069}", r"\u2066\u2069", r"\u{2066}\u{2069}"),
            ("\u{2028}\u{2029}", r"\u2028\u2029", r"\u{2028}\u{2029}"),
            ("\n\r\t", "   ", r"\n\r\t"),
        ] {
            assert_eq!((&*super::json(text), &*plain(text)), (in_json, in_text));
        }
        assert_eq!(lines("one\r\ntwo\u{9b}"), "one\\r\ntwo\\u{9b}");
    }

    #[test]
    fn json_stays_what_it_is() {
        let all: String = (0..=0x2100).filter_map(char::from_u32).collect();
        let value = json!({ "a": { &all: [&all, 1.50, null] } });
        let printed = format!("{{\"a\":\r\n\t{}}}", value["a"]);
        let escaped = super::json(&printed);
        assert!(!escaped.contains(is_obeyed));
        assert_eq!(serde_json::from_str::<Value>(&escaped).unwrap(), value);
    }
}
