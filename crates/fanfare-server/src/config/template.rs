//! Texts with names in braces, into which values are put.

use std::fmt;
use std::str::FromStr;

use super::value::Text;

/// A text with names in braces: `user_socket:{sub}`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Template(Vec<Part>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Literal(String),
    Name(String),
}

impl Template {
    /// What stands before the first name.
    pub(crate) fn prefix(&self) -> &str {
        match self.0.first() {
            Some(Part::Literal(literal)) => literal,
            _ => "",
        }
    }

    /// The names that it uses.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().filter_map(|part| match part {
            Part::Name(name) => Some(name.as_str()),
            Part::Literal(_) => None,
        })
    }

    /// Puts values in the place of the names.
    ///
    /// # Errors
    /// The first name that has none.
    pub(crate) fn fill(&self, value: impl Fn(&str) -> Option<String>) -> Result<String, &str> {
        let mut text = String::new();
        for part in &self.0 {
            match part {
                Part::Literal(literal) => text.push_str(literal),
                Part::Name(name) => text.push_str(&value(name).ok_or(name.as_str())?),
            }
        }
        Ok(text)
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|part| match part {
            Part::Literal(literal) => f.write_str(literal),
            Part::Name(name) => write!(f, "{{{name}}}"),
        })
    }
}

impl FromStr for Template {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let name = rest[open..].strip_prefix('{').and_then(|inner| inner.split_once('}'));
            let Some((name, after)) = name.filter(|(name, _)| !name.is_empty() && !name.contains('{')) else {
                return Err("braces stand in pairs around a name, as in {sub}".into());
            };
            if open > 0 {
                parts.push(Part::Literal(rest[..open].to_owned()));
            }
            parts.push(Part::Name(name.to_owned()));
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Literal(rest.to_owned()));
        }
        if parts.is_empty() {
            return Err("it is empty".into());
        }
        Ok(Self(parts))
    }
}

impl Text for Template {
    fn accepts() -> String {
        r#"a text with names of claims in braces, such as "user_socket:{sub}""#.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        #[track_caller]
        fn check(template: &str, filled: Result<&str, &str>) {
            let template: Template = template.parse().unwrap();
            let values = |name: &str| (name != "gone").then(|| format!("<{name}>"));
            assert_eq!(template.fill(values), filled.map(str::to_owned));
        }
        check("user_socket:{sub}", Ok("user_socket:<sub>"));
        check("{a}{b.c}:x", Ok("<a><b.c>:x"));
        check("plain", Ok("plain"));
        check("a{gone}{sub}", Err("gone"));
        for bad in ["", "{", "}", "{}", "a{b", "a}b", "{a{b}}", "{a}}"] {
            assert!(bad.parse::<Template>().is_err(), "{bad}");
        }
    }
}
