//! Patterns of `match` and `imatch`: regular expressions as PostgreSQL writes them, matched in linear time whatever a row has.
//!
//! Some words mean another thing there than in the engine's language, or are known to one of them only. Those are translated;
//! what has no translation (references back, looking around) is refused.

use regex::{Regex, RegexBuilder};

/// The longest pattern, in bytes.
const SIZE_MAX: usize = 120;

/// What a pattern may take once it is compiled, in bytes, and as much again while it runs.
const COMPILED_SIZE_MAX: usize = 128 * 1024;

/// The classes of characters that PostgreSQL has, as in `[[:alpha:]]`.
const CLASSES: [&str; 13] = [
    "alnum", "alpha", "blank", "cntrl", "digit", "graph", "lower", "print", "punct", "space", "upper", "word", "xdigit",
];

/// How deep groups may be.
const NESTED_MAX: u32 = 32;

/// What a text has to contain.
#[derive(Debug, Clone)]
pub(super) struct Regular(Regex);

impl PartialEq for Regular {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl Regular {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is too long, or takes too much once it is compiled; or it is none that can be matched in linear time.
    pub(super) fn parse(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        if pattern.len() > SIZE_MAX {
            let size = pattern.len();
            return Err(format!("the pattern has {size} bytes, more than {SIZE_MAX}"));
        }
        RegexBuilder::new(&translated(pattern)?)
            .case_insensitive(ignores_case)
            .dot_matches_new_line(true)
            .nest_limit(NESTED_MAX)
            .size_limit(COMPILED_SIZE_MAX)
            .dfa_size_limit(COMPILED_SIZE_MAX)
            .build()
            .map(Regular)
            .map_err(|error| match error {
                regex::Error::CompiledTooBig(_) => {
                    format!(
                        "the pattern {pattern:.80?} takes more than {COMPILED_SIZE_MAX} bytes once it is compiled: \
                         repeat less in it"
                    )
                }
                error => format!("the pattern {pattern:.80?} is not served: {}", last_line(&error.to_string())),
            })
    }

    /// Whether a text has it in it.
    pub(super) fn matches(&self, text: &str) -> bool {
        self.0.is_match(text)
    }
}

/// The pattern in the engine's language.
fn translated(pattern: &str) -> Result<String, String> {
    let (mut out, mut chars) = (String::with_capacity(pattern.len()), pattern.chars().peekable());
    // The place in a bracket expression, counted from its beginning.
    let mut within: Option<usize> = None;
    while let Some(char) = chars.next() {
        let is_in_brackets = within.is_some();
        match (char, &mut within) {
            ('\\', _) => {
                let escaped = chars.next().ok_or("the pattern ends with a backslash")?;
                match escaped {
                    'y' | 'Y' | 'm' | 'M' | 'Z' | 'b' | 'B' | 'A' if is_in_brackets => return Err(unknown(escaped)),
                    'y' => out.push_str(r"\b"),
                    'Y' => out.push_str(r"\B"),
                    'm' => out.push_str(r"\b{start}"),
                    'M' => out.push_str(r"\b{end}"),
                    'Z' => out.push_str(r"\z"),
                    // A backspace and a backslash there, edges of words here.
                    'b' => out.push_str(r"\x08"),
                    'B' => out.push_str(r"\\"),
                    'A' | 'd' | 'D' | 'w' | 'W' | 's' | 'S' | 'n' | 'r' | 't' | 'f' | 'v' => {
                        out.extend(['\\', escaped])
                    }
                    escaped if escaped.is_ascii_alphanumeric() => return Err(unknown(escaped)),
                    escaped => out.push_str(&regex::escape(escaped.encode_utf8(&mut [0; 4]))),
                }
                if let Some(place) = &mut within {
                    *place += 1;
                }
            }
            ('[', None) => {
                out.push('[');
                within = Some(0);
                if chars.next_if_eq(&'^').is_some() {
                    out.push('^');
                }
            }
            (char, None) => out.push(char),
            (']', Some(1..)) => {
                out.push(']');
                within = None;
            }
            ('[', Some(place)) => {
                *place += 1;
                match chars.peek() {
                    Some(':') => {
                        chars.next();
                        out.push_str(&class(&mut chars)?);
                    }
                    Some('.' | '=') => {
                        return Err("the pattern has a collating element, which is not served".to_owned());
                    }
                    _ => out.push_str(r"\["),
                }
            }
            (char, Some(place)) => {
                *place += 1;
                // Two of these in a row would be operators of the engine's language.
                if matches!(char, '&' | '~' | ']') {
                    out.push('\\');
                }
                out.push(char);
            }
        }
    }
    Ok(out)
}

/// A class of characters in the engine's language, whose name begins here.
fn class(chars: &mut impl Iterator<Item = char>) -> Result<String, String> {
    let mut name = String::new();
    while !name.ends_with(":]") {
        name.push(chars.next().ok_or("the pattern has a [: without an end")?);
    }
    let name = name.trim_end_matches(":]");
    match name {
        "<" | ">" => {
            let instead = if name == "<" { r"\m" } else { r"\M" };
            Err(format!("the pattern has a [[:{name}:]], which is not served: write {instead}"))
        }
        name if CLASSES.contains(&name) => Ok(format!("[:{name}:]")),
        name => Err(format!("the pattern has the class [:{name}:], and there is none but {}", CLASSES.join(", "))),
    }
}

fn unknown(escaped: char) -> String {
    if matches!(escaped, '1'..='9') {
        return format!(
            "the pattern has a \\{escaped}, which is not served: patterns are matched in linear time, without references back"
        );
    }
    format!(
        r"the pattern has a \{escaped} where that escape is not served: write the character itself, or one of \d \D \w \W \s \S \n \r \t \f \v \b \B, and outside of brackets \A \Z \m \M \y \Y"
    )
}

/// The reason in an error that shows the pattern above it.
fn last_line(error: &str) -> &str {
    error.lines().last().unwrap_or_default().trim_start_matches("error: ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_match_as_in_postgresql() {
        for (pattern, text, case, icase) in [
            ("", "any", true, true),
            ("^a", "Ada", false, true),
            ("^A.a$", "Ada", true, true),
            ("a$", "Ada\n", false, false),
            ("^b", "a\nb", false, false),
            ("a.b", "a\nb", true, true),
            ("(a|b)+c", "xabc", true, true),
            (r"\d{4}-\d\d", "in 2026-08", true, true),
            (r"\ycat\y", "a cat.", true, true),
            (r"\ycat\y", "concat", false, false),
            (r"\mcat", "a cat", true, true),
            (r"cat\M", "cats", false, false),
            (r"a\.b", "a.b", true, true),
            (r"a\.b", "axb", false, false),
            (r"\Aa\Z", "a", true, true),
            ("[[:alpha:]]+[[:digit:]]", "a1", true, true),
            (r"[[:alpha:]\d]$", "1", true, true),
            ("[[:alpha:]]", "ä", false, false),
            ("^[^[:space:][:punct:]]+$", "ab", true, true),
            ("σ", "ς", false, true),
            (r"^\d\s$", "٣\u{2003}", true, true),
            ("(?i)a", "A", true, true),
            ("(?i:a)", "A", true, true),
            ("^a*+$", "aa", true, true),
            ("^(a{256})$", &"a".repeat(256), true, true),
            ("[[x]", "[", true, true),
            ("[a&&b]", "&", true, true),
            ("[~~]", "~", true, true),
            ("[]a]", "]", true, true),
            ("[^]a]", "]", false, false),
            (r"[\]a]", "]", true, true),
            (r"a\Bb", r"a\b", true, true),
            ("ä", "Ä", false, true),
            ("(?:ab){2}", "abab", true, true),
        ] {
            let found = [false, true].map(|ignores_case| Regular::parse(pattern, ignores_case).unwrap().matches(text));
            assert_eq!(found, [case, icase], "{text:?} ~ {pattern:?}");
        }
    }

    #[test]
    fn patterns_that_could_take_long_are_refused() {
        for (pattern, part) in [
            (r"(a)\1", r"a \1, which is not served"),
            ("(?=a)", "is not served: look-around"),
            ("(?<!a)b", "is not served: look-around"),
            ("(", "is not served: unclosed group"),
            ("a**b(", "is not served: unclosed group"),
            ("[[.a.]]", "collating element"),
            ("[[=a=]]", "collating element"),
            ("[[:<:]]cat", r"a [[:<:]], which is not served: write \m"),
            ("cat[[:>:]]", r"a [[:>:]], which is not served: write \M"),
            ("[[:foo:]]", "the class [:foo:], and there is none but alnum, alpha"),
            ("[[:^alpha:]]", "the class [:^alpha:]"),
            ("[[:alpha]", "a [: without an end"),
            ("[[:", "a [: without an end"),
            (r"\x41", r"a \x where that escape is not served: write the character itself"),
            (r"\u00e9", r"a \u where"),
            (r"\a", r"a \a where"),
            (r"\cA", r"a \c where"),
            (r"\e", r"a \e where"),
            (r"\0", r"a \0 where"),
            ("(?n)a", "is not served: unrecognized flag"),
            ("***=a", "is not served: repetition operator missing"),
            (r"[\y]", r"a \y"),
            (r"a\", "ends with a backslash"),
            (r"(\w{50}){50}", "more than 131072 bytes once it is compiled"),
            (&"(".repeat(NESTED_MAX as usize + 2), "is not served"),
            (&"a".repeat(SIZE_MAX + 1), "121 bytes, more than 120"),
        ] {
            let error = Regular::parse(pattern, false).unwrap_err();
            assert!(error.contains(part), "{pattern:.40}: {error}");
        }
        // With all features of the engine, which other crates may ask for, it is compiled from both ends, and takes most.
        assert!(Regular::parse(r"^\w+@[a-z]+\.[a-z]{2,}$", true).unwrap().matches("ada@example.com"));
        // A pattern that others try in more ways than there is time for.
        assert!(!Regular::parse("(a*)*b", false).unwrap().matches(&"a".repeat(100_000)));
    }
}
