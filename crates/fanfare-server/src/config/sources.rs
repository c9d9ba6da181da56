//! Settings from outside the file: `--set key=value` and the like before the environment, the environment before the
//! file.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};

use super::problem::{Place, Problems};
use super::section::{Section, nearest};

/// What the command line and the environment set.
#[derive(Debug, Default)]
pub(crate) struct Overrides {
    flags: Vec<Flag>,
    /// All variables, since secrets may stand in any of them.
    environment: BTreeMap<String, String>,
    used: RefCell<BTreeSet<String>>,
}

/// A setting given on the command line.
#[derive(Debug, Clone)]
pub(crate) struct Flag {
    /// As it was typed: `--listen`, `--set`.
    pub(crate) name: &'static str,
    /// The key with its section.
    pub(crate) path: String,
    /// The value.
    pub(crate) text: String,
}

impl Overrides {
    pub(crate) fn new(flags: Vec<Flag>, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        Self { flags, environment: variables.into_iter().collect(), used: RefCell::default() }
    }

    /// The environment.
    pub(crate) fn variables(&self) -> &BTreeMap<String, String> {
        &self.environment
    }

    /// What is set for a key, if anything: the last flag, else the variable.
    pub(super) fn get(&self, section: &Section, key: &str) -> Option<(Place, &str)> {
        let variable = section.variable(key)?;
        let path = section.path(key);
        self.used.borrow_mut().insert(path.clone());
        if let Some(flag) = self.flags.iter().rev().find(|flag| flag.path == path) {
            return Some((flag.place(), &flag.text));
        }
        let text = self.environment.get(&variable)?;
        Some((Place::Environment(variable), text))
    }

    /// Whether anything is set here.
    pub(crate) fn sets_anything(&self) -> bool {
        let has = |variable: &String| self.environment.contains_key(variable);
        !self.flags.is_empty() || single_paths(&super::SECTIONS).iter().any(|(_, variable)| has(variable))
    }

    /// Whether any key of a section is set here, so that the section counts as present.
    pub(super) fn mentions(&self, section: &Section) -> bool {
        let prefix = format!("{}.", section.name);
        self.flags.iter().any(|flag| flag.path.starts_with(&prefix))
            || section
                .keys
                .iter()
                .filter_map(|key| section.variable(key.name()))
                .any(|v| self.environment.contains_key(&v))
    }

    /// Reports flags that named no key. Call it after all sections were read.
    pub(super) fn check_flags(&self, sections: &[&'static Section], problems: &mut Problems) {
        let used = self.used.borrow();
        for flag in self.flags.iter().filter(|flag| !used.contains(&flag.path)) {
            let known = single_paths(sections);
            let guess = match nearest(&flag.path, known.iter().map(|(path, _)| path.as_str())) {
                Some(near) => format!("; did you mean `{near}`?"),
                None => "; keys of lists and named tables can be set in the file only".into(),
            };
            problems.add(flag.place(), flag.path.as_str(), format!("unknown key{guess}"));
        }
    }

    /// Variables that begin as settings do and are none, with the setting that may be meant. Not an error: an environment holds what
    /// others put there.
    pub(super) fn suspects(&self, sections: &[&'static Section]) -> Vec<(String, Option<String>)> {
        let known: Vec<String> = single_paths(sections).into_iter().map(|(_, variable)| variable).collect();
        let ours = self.environment.keys().filter(|name| name.starts_with("FANFARE_") && !is_of_kubernetes(name));
        let unknown = ours.filter(|name| !known.contains(name));
        unknown.map(|name| (name.clone(), nearest_variable(name, &known))).collect()
    }
}

impl Flag {
    fn place(&self) -> Place {
        Place::Flag(self.name.into())
    }
}

/// Kubernetes tells every container where a service called `fanfare` is.
fn is_of_kubernetes(name: &str) -> bool {
    let rest = name.trim_start_matches("FANFARE_");
    rest == "PORT"
        || rest.starts_with("SERVICE_HOST")
        || rest.starts_with("SERVICE_PORT")
        || rest.strip_prefix("PORT_").is_some_and(|rest| rest.starts_with(|first: char| first.is_ascii_digit()))
}

fn nearest_variable(name: &str, known: &[String]) -> Option<String> {
    let name = name.strip_prefix("FANFARE_")?;
    let bare = known.iter().filter_map(|known| known.strip_prefix("FANFARE_"));
    nearest(name, bare).map(|near| format!("FANFARE_{near}"))
}

/// The keys of the sections that exist once, with their variables.
fn single_paths(sections: &[&'static Section]) -> Vec<(String, String)> {
    let keys = sections.iter().flat_map(|section| section.keys.iter().map(move |key| (section, key.name())));
    keys.filter_map(|(section, key)| Some((section.path(key), section.variable(key)?))).collect()
}
