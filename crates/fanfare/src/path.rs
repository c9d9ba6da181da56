//! The paths of mounts, with named segments.

use std::fmt;

use fanfare_proto::params::{Params, decode_path_segment};

use crate::error::Error;

/// A path such as `/socket` or `/path/:tenant`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountPath(Vec<Segment>);

#[derive(Debug, Clone, PartialEq, Eq)]
enum Segment {
    Plain(String),
    Named(String),
}

impl MountPath {
    pub(crate) fn parse(path: &str) -> Result<Self, Error> {
        if !path.starts_with('/') {
            return Err(Error::invalid(format!("{path:?} is not a path: begin it with a slash, e.g. \"/socket\"")));
        }
        Ok(MountPath(segments(path).map(Segment::parse).collect()))
    }

    /// How many segments it has.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether the same requests are for both: the names of segments make no difference.
    pub(crate) fn is_same_as(&self, other: &MountPath) -> bool {
        let is_same = |(one, other): (&Segment, &Segment)| match (one, other) {
            (Segment::Plain(one), Segment::Plain(other)) => one == other,
            (Segment::Named(_), Segment::Named(_)) => true,
            _ => false,
        };
        self.len() == other.len() && self.0.iter().zip(&other.0).all(is_same)
    }

    /// What is left of a request's path behind this one, and the params of the named segments.
    pub(crate) fn matches<'p>(&self, path: &'p str) -> Option<(Vec<&'p str>, Params)> {
        let mut rest = segments(path);
        let mut params = Params::default();
        for segment in &self.0 {
            segment.matches(rest.next()?, &mut params)?;
        }
        Some((rest.collect(), params))
    }

    /// The path in the router's own notation.
    #[cfg(feature = "axum")]
    pub(crate) fn for_axum(&self) -> String {
        let one = |segment: &Segment| match segment {
            Segment::Plain(text) => format!("/{text}"),
            Segment::Named(name) => format!("/{{{name}}}"),
        };
        self.0.iter().map(one).collect()
    }
}

/// Whether the rest of a request's path is this one, whose named segments become params.
pub(crate) fn rest_matches(pattern: &str, rest: &[&str], params: &mut Params) -> bool {
    let pattern: Vec<Segment> = segments(pattern).map(Segment::parse).collect();
    pattern.len() == rest.len() && pattern.iter().zip(rest).all(|(one, text)| one.matches(text, params).is_some())
}

impl Segment {
    fn parse(text: &str) -> Self {
        match text.strip_prefix(':') {
            Some(name) => Segment::Named(name.to_owned()),
            None => Segment::Plain(text.to_owned()),
        }
    }

    fn matches(&self, text: &str, params: &mut Params) -> Option<()> {
        match self {
            Segment::Plain(plain) => (plain == text).then_some(()),
            Segment::Named(name) => {
                params.insert(name.clone(), decode_path_segment(text).ok()?.into_owned());
                Some(())
            }
        }
    }
}

/// Doubled and trailing slashes make no difference.
fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.split('/').filter(|segment| !segment.is_empty())
}

impl fmt::Display for MountPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("/");
        }
        self.0.iter().try_for_each(|segment| match segment {
            Segment::Plain(text) => write!(f, "/{text}"),
            Segment::Named(name) => write!(f, "/:{name}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (mount, path, expected) in [
            ("/socket", "/socket/websocket", Some((vec!["websocket"], "{}"))),
            ("/socket", "/socket", Some((vec![], "{}"))),
            ("/socket", "/socket//websocket/", Some((vec!["websocket"], "{}"))),
            ("/socket", "/socket/websocket/more", Some((vec!["websocket", "more"], "{}"))),
            ("/socket", "/Socket/websocket", None),
            ("/socket", "/sockets/websocket", None),
            ("/", "/", Some((vec![], "{}"))),
            ("/path/:tenant", "/path/a%20b+c/x", Some((vec!["x"], r#"{"tenant":"a b+c"}"#))),
            ("/path/:tenant", "/path", None),
        ] {
            let found = MountPath::parse(mount).unwrap().matches(path);
            let found = found.map(|(rest, params)| (rest, params.into_json().as_str().to_owned()));
            assert_eq!(found, expected.map(|(rest, params)| (rest, params.to_owned())), "{mount} {path}");
        }
        assert!(MountPath::parse("socket").is_err());
    }
}
