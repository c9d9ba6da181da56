//! Patterns of channels that no topic ever reaches, because an earlier one takes all of theirs: what such a `[[channel]]` says, that
//! nobody may join, for example, is never looked at.

use std::collections::HashMap;

use fanfare::Pattern;

use crate::config::Draft;
use crate::config::problem::Problems;
use crate::routes::routes;

/// Reports all of them.
pub(crate) fn check(draft: &Draft, problems: &mut Problems) {
    let channels = draft.channels.iter().enumerate();
    let patterns = channels.flat_map(|(number, channel)| channel.patterns().map(move |pattern| (pattern, number)));
    let mut taken = Taken::default();
    for (pattern, number) in routes(patterns, &draft.endpoints) {
        let Some(number) = number else { continue };
        let text = pattern.to_string();
        if let Some((first, by)) = taken.by(&text) {
            let problem = match (first == number, by == text) {
                (true, true) => format!("has \"{text}\" twice; remove one"),
                (true, false) => format!("\"{by}\" has the topics of \"{text}\" already; remove that"),
                (false, true) => format!(
                    "an earlier [[channel]] has \"{text}\" as well and takes all of its topics; make one of both, or remove this one"
                ),
                (false, false) => format!(
                    "no topic reaches \"{text}\": the earlier \"{by}\" takes them all; put this [[channel]] before that one"
                ),
            };
            draft.channels[number].places.problem(problems, "topic", problem);
        }
        taken.add(&pattern, number);
    }
}

/// The topics that channels take, in time that does not grow with their number.
#[derive(Default)]
struct Taken {
    exact: HashMap<String, usize>,
    /// What stands before the star.
    prefixes: HashMap<String, usize>,
}

impl Taken {
    /// Which channel takes all topics of a pattern, and by which pattern of its own.
    fn by(&self, pattern: &str) -> Option<(usize, String)> {
        let (text, is_prefix) = match pattern.strip_suffix('*') {
            Some(prefix) => (prefix, true),
            None => (pattern, false),
        };
        if let Some(number) = self.exact.get(text).filter(|_| !is_prefix) {
            return Some((*number, text.to_owned()));
        }
        let ends = (0..=text.len()).rev().filter(|end| text.is_char_boundary(*end));
        ends.map(|end| &text[..end]).find_map(|prefix| Some((*self.prefixes.get(prefix)?, format!("{prefix}*"))))
    }

    fn add(&mut self, pattern: &Pattern, number: usize) {
        let text = pattern.to_string();
        match text.strip_suffix('*') {
            Some(prefix) => self.prefixes.entry(prefix.to_owned()).or_insert(number),
            None => self.exact.entry(text).or_insert(number),
        };
    }
}

#[cfg(test)]
mod tests {
    use std::fmt::Write;
    use std::time::{Duration, Instant};

    use crate::config::Overrides;
    use crate::preflight;

    /// What is said of channels with these topics, each as TOML; empty if nothing is.
    #[track_caller]
    fn check(topics: &[&str], part: &str) {
        let mut config = String::new();
        for topic in topics {
            writeln!(config, "[[channel]]\ntopic = {topic}\njoin = 'open'").unwrap();
        }
        let said = preflight::parse("f", &config, &Overrides::default()).err().map(|report| report.to_string());
        let said = said.unwrap_or_default();
        assert!(said.contains(part) && said.is_empty() == part.is_empty(), "{topics:?}: {said}");
    }

    #[test]
    fn channels_that_no_topic_reaches_are_found() {
        check(&["'room:secret'", "'room:*'"], "");
        check(&["'room:*'", "'roo*'", "'lobby'"], "");
        check(
            &["'room:*'", "'room:secret'"],
            "f:5:9: channel.topic: no topic reaches \"room:secret\": the earlier \"room:*\"",
        );
        check(&["'room:*'", "'room:a:*'"], "no topic reaches \"room:a:*\"");
        check(&["'*'", "'lobby'"], "the earlier \"*\" takes them all");
        check(&["'room:*'", "'room:*'"], "an earlier [[channel]] has \"room:*\" as well");
        check(&["'lobby'", "'lobby'"], "an earlier [[channel]] has \"lobby\" as well");
        check(&["['room:*', 'room:1']"], "\"room:*\" has the topics of \"room:1\" already");
        check(&["['lobby', 'lobby']"], "has \"lobby\" twice");
        check(&["'r\u{e4}ume*'", "'r\u{e4}'", "'r\u{e4}ume:1'"], "no topic reaches");
    }

    #[test]
    fn topics_that_a_bare_star_does_not_reach_may_stand_behind_it() {
        let config = "[[endpoint]]\npath = '/h'\nprotocol = 'hub'\nauth = 'none'\n[[endpoint]]\n\
                      [[channel]]\ntopic = '*'\njoin = 'open'\n[[channel]]\ntopic = 'hub:*'\njoin = 'open'\n";
        assert!(preflight::parse("f", config, &Overrides::default()).is_ok());
    }

    #[test]
    fn many_channels_are_checked_in_time() {
        let channels = (0..16_000).map(|n| format!("[[channel]]\ntopic = 'room:{n}'\njoin = 'open'\n"));
        let (config, started) = (channels.collect::<String>(), Instant::now());
        assert!(preflight::parse("f", &config, &Overrides::default()).is_ok());
        assert!(started.elapsed() < Duration::from_secs(20), "{:?}", started.elapsed());
    }
}
