//! Secrets: where they come from, and that they are never shown.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use super::problem::Problems;
use super::section::Places;
use super::value::{Fault, Raw, Setting};

/// A key or token. Neither its `Debug` form nor an error about it shows it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    /// The content of a file, without the newline at its end.
    ///
    /// # Errors
    /// It cannot be read, or is empty.
    pub(crate) fn from_file(path: &Path) -> Result<Self, String> {
        from_file(path).map(Self)
    }

    /// The value of an environment variable.
    ///
    /// # Errors
    /// It is not set, or empty.
    pub(crate) fn from_environment(name: &str) -> Result<Self, String> {
        let variables = std::env::var(name).map(|value| (name.to_owned(), value));
        from_variable(name, &variables.into_iter().collect()).map(Self)
    }

    /// The secret itself, for the one who checks it.
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

impl Setting for Secret {
    fn accepts() -> String {
        "a string".into()
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        match raw.get_ref().as_str() {
            Some(text) if !text.is_empty() => Ok(Self(text.to_owned())),
            _ => Err(vec![Fault { at: raw.span(), text: "it takes a string that is not empty".into() }]),
        }
    }

    fn shown(_: &Raw<'_>) -> Value {
        "set".into()
    }
}

/// The three ways to give a secret.
pub(crate) struct Given<'a> {
    name: &'static str,
    plain: &'a Option<Secret>,
    env: &'a Option<String>,
    file: &'a Option<PathBuf>,
}

/// What the three keys are called.
fn keys(name: &str) -> [String; 3] {
    [name.to_owned(), format!("{name}_env"), format!("{name}_file")]
}

/// Whether a secret is given in one of the three ways, readable or not.
pub(crate) fn is_given(name: &str, places: &Places) -> bool {
    keys(name).iter().any(|key| places.is_given(key))
}

impl<'a> Given<'a> {
    /// `name` is what the keys are called: `NAME`, `NAME_env`, `NAME_file`.
    pub(crate) fn new(
        name: &'static str,
        plain: &'a Option<Secret>,
        env: &'a Option<String>,
        file: &'a Option<PathBuf>,
    ) -> Self {
        Self { name, plain, env, file }
    }

    /// Where the secret is, and the key that says so; `None` if there is none, or after a problem.
    pub(crate) fn place(&self, places: &Places, problems: &mut Problems) -> Option<(String, SecretPlace<'a>)> {
        let keys = keys(self.name);
        let given = [self.plain.is_some(), self.env.is_some(), self.file.is_some()];
        // The three are one setting: what the environment gives in one form wins over the file in another.
        let rank = |index: usize| if given[index] { places.rank(&keys[index]) } else { 0 };
        let best = (0..3).map(rank).max().filter(|best| *best > 0)?;
        let mut best = (0..3).filter(|index| rank(*index) == best);
        let (index, others) = (best.next()?, best.next());
        if let Some(other) = others {
            let text = format!("only one of {}, {} and {} can be given", keys[0], keys[1], keys[2]);
            places.problem(problems, &keys[other], text);
            return None;
        }
        let place = match index {
            1 => SecretPlace::Variable(self.env.as_ref()?),
            2 => SecretPlace::File(self.file.as_ref()?),
            _ => SecretPlace::Here(self.plain.as_ref()?),
        };
        Some((keys[index].clone(), place))
    }
}

/// Where a secret is.
pub(crate) enum SecretPlace<'a> {
    /// In the configuration itself.
    Here(&'a Secret),
    /// In this environment variable.
    Variable(&'a str),
    /// In this file.
    File(&'a Path),
}

impl SecretPlace<'_> {
    /// The secret, read from where it is; `variables` are those of the environment.
    ///
    /// # Errors
    /// It is not there.
    pub(crate) fn open(&self, variables: &BTreeMap<String, String>) -> Result<Secret, String> {
        match self {
            Self::Here(secret) => Ok((*secret).clone()),
            Self::Variable(name) => from_variable(name, variables).map(Secret),
            Self::File(path) => from_file(path).map(Secret),
        }
    }
}

fn from_variable(name: &str, variables: &BTreeMap<String, String>) -> Result<String, String> {
    match variables.get(name) {
        Some(secret) if !secret.is_empty() => Ok(secret.clone()),
        Some(_) => Err(format!("the environment variable {name} is empty; it takes the secret")),
        None => Err(format!("the environment variable {name} is not set, or not UTF-8; set it to the secret")),
    }
}

fn from_file(path: &Path) -> Result<String, String> {
    let text = crate::file::read_text(path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
    // Editors and `echo` end a file with a newline that is not meant.
    match text.trim_end_matches(['\r', '\n']) {
        "" => Err(format!("{} is empty; it takes the secret", path.display())),
        secret => Ok(secret.to_owned()),
    }
}
