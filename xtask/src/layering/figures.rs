//! How the engine is built, in numbers: each is measured, may not get above its limit, and has a goal.

use super::SourceFile;
use super::imports::{Crate, layer_sizes};
use super::table::{ENGINE_SOURCES, EXCEPTIONS, FIGURES, SERVER_SOURCES};
use crate::graph::Graph;
use crate::source::impls::impls;

/// One of the numbers.
pub(super) struct Figure {
    pub(super) what: &'static str,
    pub(super) measure: fn(&[SourceFile]) -> Measured,
    /// More breaks a rule. It is lowered with what was measured, and never raised.
    pub(super) max: usize,
    /// Where it is to come to.
    pub(super) goal: usize,
}

/// A number, and what makes it up where that helps to find it.
#[derive(Debug, Default)]
pub(super) struct Measured {
    value: usize,
    parts: Vec<String>,
}

pub(super) fn check(sources: &[SourceFile]) -> Vec<String> {
    let measured = FIGURES.iter().map(|figure| (figure, (figure.measure)(sources)));
    let above = measured.filter(|(figure, measured)| measured.value > figure.max);
    above
        .map(|(figure, Measured { value, parts })| {
            format!(
                "{}: {value}, of at most {} (xtask/src/layering/table.rs): {}",
                figure.what,
                figure.max,
                parts.join(" ")
            )
        })
        .collect()
}

/// The numbers as a table.
pub(super) fn table(sources: &[SourceFile]) -> String {
    let mut lines = vec![format!("{:>6} {:>6} {:>6}  what", "now", "limit", "goal")];
    for figure in FIGURES {
        let Measured { value, parts } = (figure.measure)(sources);
        lines.push(format!("{value:>6} {:>6} {:>6}  {}", figure.max, figure.goal, figure.what));
        if !parts.is_empty() {
            lines.push(format!("{:22}{}", "", parts.join(" ")));
        }
    }
    lines.join("\n")
}

/// Functions in `impl Shard`, wherever they are written.
pub(super) fn methods_of_shard(sources: &[SourceFile]) -> Measured {
    let counts = engine(sources).map(|(name, code)| {
        let blocks = impls(code).into_iter().filter(|block| block.inherent && block.of == "Shard");
        (name, blocks.map(|block| block.methods().len()).sum())
    });
    Measured::sum(counts)
}

/// The largest circle of files by calls of a type's methods through `self`, of all types of the engine.
pub(super) fn circle_through_self(sources: &[SourceFile]) -> Measured {
    let blocks: Vec<_> =
        engine(sources).flat_map(|(name, code)| impls(code).into_iter().map(move |block| (name, block))).collect();
    let mut methods: Vec<(&str, &str, &str)> = Vec::new();
    for (file, block) in &blocks {
        methods.extend(block.methods().into_iter().map(|method| (block.of, method, *file)));
    }
    methods.sort_unstable();
    let mut types: Vec<&str> = methods.iter().map(|(of, ..)| *of).collect();
    types.dedup();
    let circles = types.into_iter().map(|of| {
        let mut calls = Graph::default();
        for (file, block) in blocks.iter().filter(|(_, block)| block.of == of) {
            for called in block.own_calls() {
                let start = methods.partition_point(|method| *method < (of, called, ""));
                let places = methods[start..].iter().take_while(|(theirs, name, _)| (*theirs, *name) == (of, called));
                let places: Vec<&str> = places.map(|(.., place)| *place).collect();
                // Of two private types that share their name, each has its methods beside it.
                if !places.contains(file) {
                    places.iter().for_each(|place| calls.add(file, place));
                }
            }
        }
        (of, calls.largest_circle())
    });
    let largest = circles.max_by_key(|(_, circle)| circle.len());
    largest.map_or_else(Measured::default, |(of, circle)| {
        let parts = circle.iter().map(|file| (*file).to_owned());
        Measured {
            value: circle.len(),
            parts: [format!("{of}:")].into_iter().filter(|_| !circle.is_empty()).chain(parts).collect(),
        }
    })
}

/// The largest circle of the engine's modules by imports.
pub(super) fn circle_of_engine(sources: &[SourceFile]) -> Measured {
    circle_of_modules(sources, ENGINE_SOURCES)
}

/// The largest circle of the server's modules by imports.
pub(super) fn circle_of_server(sources: &[SourceFile]) -> Measured {
    circle_of_modules(sources, SERVER_SOURCES)
}

fn circle_of_modules(sources: &[SourceFile], folder: &'static str) -> Measured {
    let uses = Crate::read(sources, folder).uses();
    let mut graph = Graph::default();
    uses.iter().for_each(|used| graph.add(&used.user, &used.used));
    let parts: Vec<String> = graph.largest_circle().into_iter().map(str::to_owned).collect();
    Measured { value: parts.len(), parts }
}

/// Exceptions in the table of layers.
pub(super) fn exceptions(_: &[SourceFile]) -> Measured {
    Measured { value: EXCEPTIONS.len(), parts: Vec::new() }
}

/// Modules in the layer that has most.
pub(super) fn modules_in_one_layer(_: &[SourceFile]) -> Measured {
    let sizes = layer_sizes();
    Measured { value: sizes.iter().copied().max().unwrap_or(0), parts: sizes.iter().map(usize::to_string).collect() }
}

/// Where the engine asks for one dialect by name, outside of the list of them and the protocols' own files.
pub(super) fn protocols_by_name(sources: &[SourceFile]) -> Measured {
    const NAMES: &[&str] = &["Rooms", "Hub", "Bullet", "Events", "Lines", "Echo"];
    let others = engine(sources).filter(|(name, _)| {
        let module = name.split('/').next().unwrap_or(name);
        !["dialect", "protocol"].contains(&module)
    });
    Measured::sum(others.map(|(name, code)| {
        let behind = code.split("Dialect::").skip(1);
        (name, behind.filter(|behind| NAMES.iter().any(|name| behind.starts_with(name))).count())
    }))
}

/// Calls of `expect` outside of tests, each of which may end a thread of the engine. The test kit fails tests in this way.
pub(super) fn expectations(sources: &[SourceFile]) -> Measured {
    let engine = engine(sources).filter(|(name, _)| name.split('/').next() != Some("testing"));
    Measured::sum(engine.map(|(name, code)| (name, code.matches(".expect(").count())))
}

/// The engine's files, by their names below its folder.
fn engine(sources: &[SourceFile]) -> impl Iterator<Item = (&str, &str)> {
    sources.iter().filter_map(|source| {
        let name = source.file.strip_prefix(ENGINE_SOURCES)?.strip_suffix(".rs")?;
        Some((name, source.code.as_str()))
    })
}

impl Measured {
    /// The sum of what was counted in each file; files with nothing are not named.
    fn sum<'a>(counts: impl Iterator<Item = (&'a str, usize)>) -> Self {
        let counts: Vec<_> = counts.filter(|(_, count)| *count > 0).collect();
        Self {
            value: counts.iter().map(|(_, count)| count).sum(),
            parts: counts.iter().map(|(name, count)| format!("{name}:{count}")).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::layering::tests::sources;

    #[test]
    fn calls_through_self_make_circles_of_files() {
        let shard = |calls: &str| format!("impl Shard {{ {calls} }}");
        for (files, expected) in [
            // One way only.
            (vec![("shard", shard("fn a(&self) { self.b() }")), ("shard/b", shard("fn b(&self) {}"))], ""),
            // There and back, through a third.
            (
                vec![
                    ("shard", shard("fn a(&self) { self.b() }")),
                    ("shard/b", shard("fn b(&self) { self.c() }")),
                    ("shard/c", shard("fn c(&self) { Self::a(self) }")),
                    ("shard/d", shard("fn d(&self) { self.c() }")),
                ],
                "Shard: shard shard/b shard/c",
            ),
            // Another type of the same name, whose method is its own.
            (
                vec![
                    ("shard", shard("fn a(&self) { self.b() }")),
                    ("shard/b", shard("fn b(&self) {}")),
                    ("x", shard("fn a(&self) {} fn b(&self) { self.a() }")),
                ],
                "",
            ),
            // Another type's methods, and a field's.
            (
                vec![
                    ("shard", shard("fn a(&self) { self.b() }")),
                    ("shard/b", "impl Other { fn b(&self) { self.a() } }".to_owned()),
                    ("shard/c", shard("fn b(&self) { self.x.a() }")),
                ],
                "",
            ),
        ] {
            let found = circle_through_self(&sources(ENGINE_SOURCES, &files));
            assert_eq!(found.parts.join(" "), expected, "{files:?}");
            assert_eq!(found.value, expected.split_whitespace().count().saturating_sub(1));
        }
    }

    #[test]
    fn imports_make_circles_of_modules() {
        let files = [
            ("lib", "pub use endpoint::Endpoint;"),
            ("endpoint", "use crate::shard::Shard; pub struct Endpoint;"),
            ("shard", ""),
            ("shard/joins", "use super::super::context::Context;"),
            ("context", "use crate::Endpoint;"),
            ("hub", "use crate::shard::Shard;"),
        ];
        let found = circle_of_engine(&sources(ENGINE_SOURCES, &files));
        assert_eq!(found.parts, ["context", "endpoint", "shard"]);
    }

    #[test]
    fn what_is_counted_is_counted_by_file() {
        let files = [
            ("shard", "impl Shard { fn a() {} fn b() { x.expect(m) } } impl Drop for Shard { fn drop(&mut self) {} }"),
            ("shard/c", "impl super::Shard { fn c() { if p == Dialect::HubSubscriber || p == Dialect::Phoenix {} } }"),
            ("protocol/hub", "fn f() { Dialect::HubPublisher }"),
        ];
        let sources = sources(ENGINE_SOURCES, &files);
        for (measure, expected) in [
            (methods_of_shard as fn(&[SourceFile]) -> Measured, vec!["shard:2", "shard/c:1"]),
            (expectations, vec!["shard:1"]),
            (protocols_by_name, vec!["shard/c:1"]),
        ] {
            assert_eq!(measure(&sources).parts, expected);
        }
    }
}
