//! A section of the configuration, declared once: [`section!`] makes of one declaration the struct, its defaults, what
//! is accepted, and what the documentation and `fanfare init` say. There is no second list to keep in step.

use std::collections::BTreeMap;
use std::path::Path;

use serde_json::Value;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::SECTIONS;
use super::change::Weight;
use super::problem::{Place, Problems};
use super::sources::Overrides;
use super::value::{Fault, Raw, Setting};

/// What is known of a key without a configuration at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// As the Rust field is called; [`Key::name`] is the key itself.
    pub(crate) field: &'static str,
    /// The lines of its documentation.
    pub(crate) doc: &'static [&'static str],
    /// What it takes.
    pub(crate) accepts: fn() -> String,
    /// Its default as TOML; empty if there is none.
    pub(crate) default: &'static str,
    /// What may be seen of a value.
    pub(crate) shown: fn(&Raw<'_>) -> Value,
    /// Whether it must be given.
    pub(crate) is_required: fn() -> bool,
    /// When a change of it counts.
    pub(crate) reload: Reload,
}

/// When a change counts, if the configuration is read again while the server runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reload {
    /// From that moment on.
    Once,
    /// For whoever connects from then on.
    Connect,
    /// For joins and messages from then on.
    Join,
    /// Only at the next start.
    Restart,
}

impl Reload {
    /// In the words of docs/configuration.md.
    pub(crate) fn about(self) -> &'static str {
        match self {
            Self::Once => "counts at once",
            Self::Connect => "counts for clients that connect from then on",
            Self::Join => "counts for joins and messages from then on",
            Self::Restart => "needs a restart",
        }
    }
}

impl Key {
    /// The key as it is written in the file.
    pub(crate) fn name(&self) -> &'static str {
        self.field.trim_start_matches("r#")
    }

    /// The key with the label of its section, which is empty at the top level.
    pub(super) fn labelled(&self, label: &str) -> String {
        if label.is_empty() { self.name().to_owned() } else { format!("{label}.{}", self.name()) }
    }
}

/// How a section is written in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// The keys before the first header.
    Root,
    /// `[name]`.
    Table,
    /// `[name]`, or `name = value` for this one key.
    Shorthand(&'static str),
    /// `[name.NAME]`, once for each name that the user gives.
    Named,
    /// `[[name]]`, any number of times.
    List,
}

/// What is known of a section without a configuration at hand.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Section {
    pub(crate) name: &'static str,
    pub(crate) form: Form,
    pub(crate) doc: &'static [&'static str],
    pub(crate) keys: &'static [Key],
    /// When it counts that there is one more of its kind, or one less.
    pub(crate) presence: Reload,
    /// Keys that a later version will have.
    pub(crate) later: &'static [&'static str],
}

impl Section {
    /// The header as it is written in the file; empty for the root.
    pub(crate) fn header(&self) -> String {
        match self.form {
            Form::Root => String::new(),
            Form::Table | Form::Shorthand(_) => format!("[{}]", self.name),
            Form::Named => format!("[{}.NAME]", self.name),
            Form::List => format!("[[{}]]", self.name),
        }
    }

    /// Where its keys stand, in a sentence.
    fn place(&self) -> String {
        if self.name.is_empty() { "the top level".to_owned() } else { self.header() }
    }

    /// A key with the name of its section.
    pub(crate) fn path(&self, key: &str) -> String {
        if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) }
    }

    /// The environment variable that sets a key, where there is one of the kind.
    pub(crate) fn variable(&self, key: &str) -> Option<String> {
        let is_single = matches!(self.form, Form::Root | Form::Table | Form::Shorthand(_));
        is_single.then(|| format!("FANFARE_{}", self.path(key).replace('.', "_").to_uppercase()))
    }
}

/// Where the settings of one section were given, for problems that are found later.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    name: String,
    header: Place,
    keys: BTreeMap<&'static str, Place>,
    weights: BTreeMap<&'static str, Weight>,
    /// What may be seen of the values.
    shown: BTreeMap<&'static str, Value>,
}

impl Places {
    /// Where a key was given.
    pub(super) fn place(&self, key: &str) -> &Place {
        self.keys.get(key).unwrap_or(&Place::Nowhere)
    }

    /// What may be seen of the value of a key that was given.
    pub(super) fn shown(&self, key: &str) -> Option<&Value> {
        self.shown.get(key)
    }

    /// Counts what a key leads to, such as the content of a file, as a part of its value.
    pub(crate) fn note(&mut self, key: &str, content: &[u8]) {
        if let Some(weight) = self.weights.get_mut(key) {
            *weight = weight.and(content);
        }
    }

    /// As [`note`](Self::note), of the content of a file.
    pub(crate) fn note_file(&mut self, key: &str, file: &Path) {
        if let Ok(content) = crate::file::read(file) {
            self.note(key, &content);
        }
    }

    /// The section as messages call it.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The weights of the keys that were given.
    pub(super) fn weights(&self) -> &BTreeMap<&'static str, Weight> {
        &self.weights
    }

    /// Whether a key was given at all.
    pub(crate) fn is_given(&self, key: &str) -> bool {
        self.keys.contains_key(key)
    }

    /// How strong the place is where a key was given: flags, then the environment, then the file; 0 if it was not given.
    pub(crate) fn rank(&self, key: &str) -> u8 {
        match self.keys.get(key) {
            Some(Place::Flag(_)) => 3,
            Some(Place::Environment(_)) => 2,
            Some(Place::File(_)) => 1,
            Some(Place::Nowhere) | None => 0,
        }
    }

    /// Reports the keys that were given and are of no use with a choice such as `protocol = "hub"`.
    pub(crate) fn report_useless(&self, problems: &mut Problems, choice: &str, is_of_use: impl Fn(&str) -> bool) {
        for key in self.keys.keys().filter(|key| !is_of_use(key)) {
            self.problem(problems, key, format!("has no effect with {choice}; remove it"));
        }
    }

    /// Adds a problem with a key, at its place or else at the section's.
    pub(crate) fn problem(&self, problems: &mut Problems, key: &str, text: impl Into<String>) {
        self.problem_within(problems, key, None, text);
    }

    /// The same with a part of its value, which begins at this byte of the file; `None` if it does not stand there.
    pub(crate) fn problem_within(
        &self,
        problems: &mut Problems,
        key: &str,
        at: Option<usize>,
        text: impl Into<String>,
    ) {
        let place = at.map_or_else(|| self.keys.get(key).unwrap_or(&self.header).clone(), Place::File);
        let name = if self.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.name) };
        problems.add(place, name, text);
    }
}

/// Reads the keys of one section.
pub(crate) struct Reader<'r, 'i> {
    section: &'static Section,
    table: Option<&'r DeTable<'i>>,
    overrides: &'r Overrides,
    problems: &'r mut Problems,
    places: Places,
}

impl<'r, 'i> Reader<'r, 'i> {
    /// `name` is the section as messages call it; `overrides` count for sections that exist once only.
    pub(crate) fn new(
        section: &'static Section,
        name: String,
        header: Place,
        table: Option<&'r DeTable<'i>>,
        overrides: &'r Overrides,
        problems: &'r mut Problems,
    ) -> Self {
        Self {
            section,
            table,
            overrides,
            problems,
            places: Places { name, header, keys: BTreeMap::new(), weights: BTreeMap::new(), shown: BTreeMap::new() },
        }
    }

    /// The value of a key: from a flag, else the environment, else the file, else the default. `None` after a problem.
    pub(crate) fn take<T: Setting>(&mut self, key: &'static Key) -> Option<T> {
        let mut value = None;
        let raw = self.table.and_then(|table| find(table, key.name()));
        if let Some((at, raw)) = raw {
            value = Some(self.read(key, Place::File(at), Place::File, Looked::at(raw)));
        }
        if let Some((place, text)) = self.overrides.get(self.section, key.name()) {
            let read = look(text);
            let stronger = self.read(key, place.clone(), |_| place.clone(), read);
            value = Some(match (stronger, value.flatten()) {
                (Some(stronger), Some(weaker)) => Some(T::over(stronger, weaker)),
                (stronger, _) => stronger,
            });
        }
        match value {
            Some(value) => value,
            None if key.default.is_empty() => self.absent(key),
            None => Some(default(key)),
        }
    }

    fn read<T>(
        &mut self,
        key: &'static Key,
        place: Place,
        at: impl Fn(usize) -> Place,
        read: Result<Looked<T>, Vec<Fault>>,
    ) -> Option<T> {
        self.places.keys.insert(key.name(), place);
        let faults = match read {
            Ok(Looked { value, weight, shown }) => {
                self.places.weights.insert(key.name(), weight);
                self.places.shown.insert(key.name(), shown);
                return Some(value);
            }
            Err(faults) => faults,
        };
        for fault in faults {
            self.problems.add(at(fault.at.start), self.name_of(key.name()), fault.text);
        }
        None
    }

    fn absent<T: Setting>(&mut self, key: &'static Key) -> Option<T> {
        let absent = T::absent();
        if absent.is_none() {
            let text = format!("is missing: it takes {}", T::accepts());
            self.places.problem(self.problems, key.name(), text);
        }
        absent
    }

    /// Reports the keys of the table that the section does not have; `others` are those which somebody else reads.
    pub(crate) fn finish(self, others: &[&str]) -> Places {
        let section = self.section;
        let mut known: Vec<&str> = section.keys.iter().map(Key::name).collect();
        known.extend(others);
        for (name, _) in self.table.into_iter().flat_map(|table| table.iter()) {
            let (at, name) = (name.span().start, name.get_ref().as_ref());
            if known.contains(&name) {
                continue;
            }
            let text = if section.later.contains(&name) {
                "is not supported in this version; remove it".to_owned()
            } else {
                unknown(section, name, &known)
            };
            self.problems.add(Place::File(at), self.name_of(name), text);
        }
        self.places
    }

    fn name_of(&self, key: &str) -> String {
        if self.places.name.is_empty() { key.to_owned() } else { format!("{}.{key}", self.places.name) }
    }
}

/// What to say of a key that does not exist.
fn unknown(section: &Section, name: &str, known: &[&str]) -> String {
    let elsewhere = SECTIONS.iter().find(|other| other.keys.iter().any(|key| key.name() == name));
    let guess = match (nearest(name, known.iter().copied()), elsewhere) {
        (Some(near), _) => format!("; did you mean `{near}`?"),
        (None, Some(other)) => format!("; it is a key of {};", other.place()),
        (None, None) => ";".into(),
    };
    format!("unknown key{guess} {} takes {}", section.place(), known.join(", "))
}

/// So many names are compared with a mistyped one, so that many mistakes in a large file are reported at once.
const CANDIDATES_MAX: usize = 64;

/// So many names are listed.
const LISTED_MAX: usize = 20;

/// Names, as far as they help a reader.
pub(crate) fn listed<'n>(names: impl Iterator<Item = &'n str>) -> String {
    let mut names = names.peekable();
    let shown: Vec<&str> = names.by_ref().take(LISTED_MAX).collect();
    let more = if names.peek().is_some() { ", …" } else { "" };
    format!("{}{more}", shown.join(", "))
}

/// The candidate that a mistyped name most likely meant.
pub(crate) fn nearest<'n>(name: &str, candidates: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let near = |candidate: &&str| {
        let distance_max = (candidate.len() / 3).max(1);
        // Names of very different lengths need no closer look.
        let is_close = candidate.chars().count().abs_diff(name.chars().count()) <= distance_max;
        is_close.then(|| distance(name, candidate)).filter(|distance| *distance <= distance_max)
    };
    let found = candidates.take(CANDIDATES_MAX).filter_map(|candidate| Some((near(&candidate)?, candidate)));
    found.min().map(|(_, candidate)| candidate)
}

/// Levenshtein's edit distance.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, ca) in a.chars().enumerate() {
        let mut diagonal = std::mem::replace(&mut row[0], i + 1);
        for (j, cb) in b.iter().enumerate() {
            let substituted = diagonal + usize::from(ca != *cb);
            diagonal = row[j + 1];
            row[j + 1] = substituted.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}

/// The entry of a table, with the place of its value.
pub(crate) fn find<'t, 'i>(table: &'t DeTable<'i>, name: &str) -> Option<(usize, &'t Raw<'i>)> {
    table.iter().find(|(key, _)| key.get_ref() == name).map(|(_, value)| (value.span().start, value))
}

/// As [`find`], of a path such as `tls.certificate`, which leads through tables.
pub(super) fn find_below<'t, 'i>(table: &'t DeTable<'i>, path: &str) -> Option<(usize, &'t Raw<'i>)> {
    match path.split_once('.') {
        Some((outer, rest)) => find_below(find(table, outer)?.1.get_ref().as_table()?, rest),
        None => find(table, path),
    }
}

/// Environment and flags give text: a string without quotes, or else any TOML value.
pub(crate) fn from_text<T: Setting>(text: &str) -> Result<T, Vec<Fault>> {
    look(text).map(|looked| looked.value)
}

/// A value, and what is kept of how it is written.
struct Looked<T> {
    value: T,
    weight: Weight,
    shown: Value,
}

impl<T: Setting> Looked<T> {
    fn at(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        Ok(Self { value: T::read(raw)?, weight: Weight::of(raw), shown: T::shown(raw) })
    }
}

fn look<T: Setting>(text: &str) -> Result<Looked<T>, Vec<Fault>> {
    let string = Spanned::new(0..text.len(), DeValue::String(text.into()));
    Looked::at(&string).or_else(|faults| match DeValue::parse(text) {
        Ok(raw) => Looked::at(&raw),
        Err(_) => Err(faults),
    })
}

fn default<T: Setting>(key: &Key) -> T {
    let raw = DeValue::parse(key.default).expect("a default is TOML");
    T::read(&raw).unwrap_or_else(|faults| panic!("the default of {}: {}", key.name(), faults[0].text))
}

/// Declares a section. A key whose default is `""` has none: it must be given unless its type can be absent. What stands behind `=>` is
/// the [`Reload`] of a key, and of the section itself; without it, a change needs a restart.
macro_rules! section {
    (
        $(#[doc = $doc:literal])*
        struct $name:ident: $path:literal, $form:expr $(=> $presence:ident)?;
        keys { $($(#[doc = $key_doc:literal])* $key:ident: $ty:ty = $default:literal $(=> $reload:ident)?,)* }
        later [$($later:literal),*]
    ) => {
        $(#[doc = $doc])*
        #[derive(Debug)]
        pub(crate) struct $name {
            $($(#[doc = $key_doc])* pub(crate) $key: $ty,)*
            /// Where each was given.
            #[allow(dead_code, reason = "not every section has checks beyond those of its keys")]
            pub(crate) places: $crate::config::section::Places,
        }

        impl $name {
            pub(crate) const SECTION: &'static $crate::config::section::Section = &$crate::config::section::Section {
                name: $path,
                form: $form,
                doc: &[$($doc),*],
                keys: &[$($crate::config::section::Key {
                    field: stringify!($key),
                    doc: &[$($key_doc),*],
                    accepts: <$ty as $crate::config::value::Setting>::accepts,
                    default: $default,
                    shown: <$ty as $crate::config::value::Setting>::shown,
                    is_required: || {
                        $default.is_empty() && <$ty as $crate::config::value::Setting>::absent().is_none()
                    },
                    // The first one: what is not said needs a restart.
                    reload: [
                        $($crate::config::section::Reload::$reload,)?
                        $crate::config::section::Reload::Restart,
                    ][0],
                }),*],
                presence: [
                    $($crate::config::section::Reload::$presence,)?
                    $crate::config::section::Reload::Restart,
                ][0],
                later: &[$($later),*],
            };

            /// Reads every key, reporting what is wrong; `others` are keys of the table that somebody else reads.
            pub(crate) fn read(
                mut reader: $crate::config::section::Reader<'_, '_>,
                others: &[&str],
            ) -> Option<Self> {
                let mut keys = Self::SECTION.keys.iter();
                $(let $key = reader.take::<$ty>(keys.next()?);)*
                let places = reader.finish(others);
                Some(Self { $($key: $key?,)* places })
            }
        }
    };
}
pub(crate) use section;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nearest_names() {
        #[track_caller]
        fn check(name: &str, expected: Option<&str>) {
            let known = ["listen", "limits", "joins_max", "path"];
            assert_eq!(nearest(name, known.into_iter()), expected, "{name}");
        }
        check("lisen", Some("listen"));
        check("lsiten", Some("listen"));
        check("join_max", Some("joins_max"));
        check("pth", Some("path"));
        check("something", None);
        check("", None);
    }
}
