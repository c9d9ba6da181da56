//! Who uses whom, and who uses one another.

use std::collections::{BTreeMap, BTreeSet};

/// Users, and what each of them uses.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a>(BTreeMap<&'a str, BTreeSet<&'a str>>);

impl<'a> Graph<'a> {
    pub(crate) fn add(&mut self, user: &'a str, used: &'a str) {
        self.0.entry(user).or_default().insert(used);
    }

    /// The largest number of names each of which comes to each other by uses; nothing if none comes back to itself through
    /// another.
    pub(crate) fn largest_circle(&self) -> Vec<&'a str> {
        let reached: BTreeMap<_, _> = self.0.keys().map(|&name| (name, self.reached_from(name))).collect();
        let circle = |name: &&'a str| -> Vec<&'a str> {
            let comes_back = |other: &&&str| reached.get(**other).is_some_and(|theirs| theirs.contains(name));
            reached[name].iter().filter(comes_back).copied().collect()
        };
        let circles = reached.keys().map(circle).filter(|circle| circle.len() > 1);
        circles.fold(Vec::new(), |largest, circle| if circle.len() > largest.len() { circle } else { largest })
    }

    fn reached_from(&self, start: &str) -> BTreeSet<&'a str> {
        let mut reached = BTreeSet::new();
        let mut ahead: Vec<&str> = vec![start];
        while let Some(name) = ahead.pop() {
            for &used in self.0.get(name).into_iter().flatten() {
                if reached.insert(used) {
                    ahead.push(used);
                }
            }
        }
        reached
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn circles_are_found() {
        for (edges, expected) in [
            ("", ""),
            ("a-b b-c", ""),
            ("a-a", ""),
            ("a-b b-a b-c", "a b"),
            ("a-b b-a x-y y-z z-x z-a", "x y z"),
            ("a-b b-c c-a c-d d-c", "a b c d"),
        ] {
            let mut graph = Graph::default();
            for (user, used) in edges.split_whitespace().filter_map(|edge| edge.split_once('-')) {
                graph.add(user, used);
            }
            assert_eq!(graph.largest_circle().join(" "), expected, "{edges}");
        }
    }
}
