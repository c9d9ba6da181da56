//! `[[admin.token]]`: more tokens for the HTTP API, each with what it may do.

use std::path::PathBuf;

use serde_json::Value;
use toml::de::DeValue;

use super::secret::Secret;
use super::section::listed;
use super::value::{Fault, Raw, Setting, as_json, choice};

choice! {
    /// What somebody may do over the HTTP API.
    pub(crate) enum Right {
        /// See numbers, and the names of topics and users.
        Read = "read",
        /// See payloads and presence.
        Tap = "tap",
        /// Publish messages.
        Publish = "publish",
        /// Close sockets.
        Disconnect = "disconnect",
        /// Change how the server runs, and see its configuration.
        Operate = "operate",
    } later []
}

impl Right {
    pub(crate) const ALL: [Right; 5] = [Self::Read, Self::Tap, Self::Publish, Self::Disconnect, Self::Operate];
}

/// So many can be declared.
const NAMED_MAX: usize = 100;

/// What the key `token` holds.
#[derive(Debug, Clone, Default)]
pub(crate) struct Tokens {
    /// One with all rights. Whatever key it was given by, here it is once secrets were read.
    pub(crate) own: Option<Secret>,
    /// Those with a name.
    pub(crate) named: Vec<Named>,
}

/// A token with a name.
#[derive(Debug, Clone)]
pub(crate) struct Named {
    pub(crate) name: String,
    pub(crate) from: From,
    pub(crate) may: Vec<Right>,
    /// For whom it publishes.
    pub(crate) tenant: Option<String>,
    /// Where its table begins in the text that has it.
    pub(crate) at: usize,
    /// The token itself, once it was read.
    pub(crate) opened: Option<Secret>,
}

/// Where such a token is.
#[derive(Debug, Clone)]
pub(crate) enum From {
    Variable(String),
    File(PathBuf),
}

impl Setting for Tokens {
    fn accepts() -> String {
        r#"a token of at least 16 characters, or tables as in [[admin.token]] name = "board", token_env = "BOARD_TOKEN", may = ["read"]"#.into()
    }

    /// The environment gives the token with all rights, and leaves the others as they are.
    fn over(stronger: Self, weaker: Self) -> Self {
        let named = if stronger.named.is_empty() { weaker.named } else { stronger.named };
        Self { named, ..stronger }
    }

    fn shown(raw: &Raw<'_>) -> Value {
        match raw.get_ref() {
            // The tables name the places of tokens.
            list @ DeValue::Array(_) => as_json(list),
            _ => Secret::shown(raw),
        }
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let list = match raw.get_ref() {
            DeValue::Array(list) => list,
            DeValue::String(_) => return Ok(Self { own: Some(Secret::read(raw)?), named: Vec::new() }),
            _ => return Err(vec![Fault { at: raw.span(), text: format!("it takes {}", Self::accepts()) }]),
        };
        let (mut named, mut faults) = (Vec::<Named>::new(), Vec::new());
        for item in list.iter() {
            match read_named(item) {
                Ok(one) if named.iter().any(|other| other.name == one.name) => {
                    faults.push(Fault { at: item.span(), text: format!("there are two with the name {:?}", one.name) });
                }
                Ok(one) => named.push(one),
                Err(mut more) => faults.append(&mut more),
            }
        }
        if named.len() > NAMED_MAX {
            let text = format!("{} are too many: it takes at most {NAMED_MAX}", named.len());
            faults.push(Fault { at: raw.span(), text });
        }
        if faults.is_empty() { Ok(Self { own: None, named }) } else { Err(faults) }
    }
}

fn read_named(raw: &Raw<'_>) -> Result<Named, Vec<Fault>> {
    let fault = |text: String| vec![Fault { at: raw.span(), text }];
    let DeValue::Table(table) = raw.get_ref() else {
        return Err(fault("each takes a table: [[admin.token]] with name, token_env or token_file, and may".into()));
    };
    let (mut name, mut variable, mut file, mut may, mut tenant) = (None, None, None, None, None);
    for (key, value) in table.iter() {
        match &**key.get_ref() {
            "name" => name = Some(String::read(value)?),
            "token_env" => variable = Some(String::read(value)?),
            "token_file" => file = Some(PathBuf::read(value)?),
            "may" => may = Some(<Vec<Right>>::read(value)?),
            "tenant" => tenant = Some(String::read(value)?),
            other => {
                let text = format!("unknown key `{other:.64}`; it takes name, token_env, token_file, may and tenant");
                return Err(vec![Fault { at: key.span(), text }]);
            }
        }
    }
    let name = name.filter(|name| (1..=64).contains(&name.len()) && !name.contains(char::is_control));
    let name =
        name.ok_or_else(|| fault("name: it takes 1 to 64 characters, by which the log calls the token".into()))?;
    let from = match (variable, file) {
        (Some(variable), None) => From::Variable(variable),
        (None, Some(file)) => From::File(file),
        _ => return Err(fault(format!("the token {name:?} takes one of token_env and token_file"))),
    };
    let may = may.filter(|may| !may.is_empty()).ok_or_else(|| {
        let rights = listed(Right::ALL.iter().map(|right| right.name()));
        fault(format!("the token {name:?} needs may, a list with some of {rights}"))
    })?;
    if tenant.as_deref().is_some_and(|tenant| !super::tenant::is_a_name(tenant)) {
        return Err(fault(format!(
            "the tenant of the token {name:?} has no name that one can have: {}",
            super::tenant::NAMES
        )));
    }
    Ok(Named { name, from, may, tenant, at: raw.span().start, opened: None })
}
