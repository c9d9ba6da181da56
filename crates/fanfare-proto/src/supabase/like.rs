//! Patterns of `like` and `ilike` as SQL has them: `%` for any text, `_` for one character, a backslash before either of them or itself.
//!
//! All ways to match are followed at once, a bit for each, so that a value is read once whatever the pattern is.

/// The longest pattern, in characters: one bit for each, and one for the end.
const CHARS_MAX: usize = 120;

/// What a text has to look like.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Like {
    /// The places in the pattern at which each of its characters may stand, those of `_` among them; in order.
    at: Vec<(char, u128)>,
    /// The places of `_`.
    any: u128,
    /// The places with a `%` before them.
    runs: u128,
    end: u128,
    ignores_case: bool,
}

impl Like {
    /// Reads a pattern.
    ///
    /// # Errors
    /// It is too long, or ends with a backslash.
    pub(super) fn parse(pattern: &str, ignores_case: bool) -> Result<Self, String> {
        let (mut at, mut any, mut runs, mut place) = (Vec::<(char, u128)>::new(), 0, 0, 0);
        let mut chars = pattern.chars();
        while let Some(char) = chars.next() {
            let char = match char {
                '%' => {
                    runs |= 1 << place;
                    continue;
                }
                '_' => None,
                '\\' => Some(
                    chars.next().ok_or("the pattern ends with a backslash, which has to stand before a character")?,
                ),
                char => Some(char),
            };
            if place == CHARS_MAX {
                return Err(format!("the pattern has more than {CHARS_MAX} characters"));
            }
            match char {
                None => any |= 1 << place,
                Some(char) => {
                    let char = if ignores_case { lower(char) } else { char };
                    match at.binary_search_by_key(&char, |(char, _)| *char) {
                        Ok(found) => at[found].1 |= 1 << place,
                        Err(before) => at.insert(before, (char, 1 << place)),
                    }
                }
            }
            place += 1;
        }
        at.iter_mut().for_each(|(_, places)| *places |= any);
        Ok(Like { at, any, runs, end: 1 << place, ignores_case })
    }

    /// Whether a text looks like that.
    pub(super) fn matches(&self, text: &str) -> bool {
        let mut ways: u128 = 1;
        for char in text.chars() {
            let char = if self.ignores_case { lower(char) } else { char };
            let places =
                self.at.binary_search_by_key(&char, |(char, _)| *char).map_or(self.any, |found| self.at[found].1);
            ways = ((ways & places) << 1) | (ways & self.runs);
            if ways == 0 {
                return false;
            }
        }
        ways & self.end != 0
    }
}

/// Of the few characters that become several, the first one.
fn lower(char: char) -> char {
    char.to_lowercase().next().unwrap_or(char)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_look_like_patterns_as_in_sql() {
        for (pattern, text, like, ilike) in [
            ("", "", true, true),
            ("", "a", false, false),
            ("%", "", true, true),
            ("%", "any", true, true),
            ("_", "", false, false),
            ("_", "é", true, true),
            ("a%", "Ada", false, true),
            ("A%a", "Ada", true, true),
            ("A%d", "Ada", false, false),
            ("%d%", "Ada", true, true),
            ("_d_", "Ada", true, true),
            ("__", "Ada", false, false),
            ("%a%a%a", "aXaXaXa", true, true),
            ("%ab", "aab", true, true),
            ("%%b_", "abc", true, true),
            (r"100\%", "100%", true, true),
            (r"100\%", "1000", false, false),
            (r"a\\_", r"a\b", true, true),
            ("ÄR%", "Ärger", false, true),
        ] {
            let found = [false, true].map(|ignores_case| Like::parse(pattern, ignores_case).unwrap().matches(text));
            assert_eq!(found, [like, ilike], "{text:?} like {pattern:?}");
        }
        let long = "a".repeat(CHARS_MAX);
        assert!(Like::parse(&long, false).unwrap().matches(&long));
        assert!(Like::parse(&format!("{long}a"), false).unwrap_err().contains("more than 120 characters"));
        assert!(Like::parse("a\\", false).unwrap_err().contains("ends with a backslash"));
        // A pattern that could be tried in more ways than there is time for.
        let tried = Like::parse(&format!("{}b", "a%".repeat(50)), false).unwrap();
        assert!(!tried.matches(&"a".repeat(100_000)) && tried.matches(&format!("{}b", "a".repeat(100_000))));
    }
}
