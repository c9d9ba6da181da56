//! `changes` of a `[source.NAME]`: the tables whose changes Supabase's clients are told, and who may see which row.

use std::str::FromStr;

use toml::de::DeValue;

use super::rule::Rule;
use super::value::{Fault, OneOrMore, Raw, Setting, Text};

/// Tables, and the rules of each.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Tables(pub(crate) Vec<Table>);

/// A table, and who may see which of its rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Table {
    pub(crate) schema: String,
    pub(crate) name: String,
    pub(crate) rules: Vec<RowRule>,
}

/// One way to be allowed to see a row: all of these hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct RowRule(pub(crate) Vec<Condition>);

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Condition {
    /// A rule that looks at the reader only.
    Reader(Rule),
    /// A claim of the reader is what a column has, or a list with it.
    Owner { claim: String, column: String },
    /// A column has this value.
    Column { column: String, value: String },
}

impl Setting for Tables {
    fn accepts() -> String {
        format!(
            r#"a table of tables and rules such as {{ "public.orders" = "claim:sub=row:user_id" }}, where a rule is {}"#,
            <RowRule as Text>::accepts()
        )
    }

    fn read(raw: &Raw<'_>) -> Result<Self, Vec<Fault>> {
        let wrong = |text: String| vec![Fault { at: raw.span(), text }];
        let DeValue::Table(tables) = raw.get_ref() else { return Err(wrong(format!("it takes {}", Self::accepts()))) };
        let (mut read, mut faults) = (Vec::new(), Vec::new());
        for (name, rules) in tables.iter() {
            let (schema, table) = name.get_ref().split_once('.').unwrap_or(("public", name.get_ref()));
            if ![schema, table].iter().all(|part| is_identifier(part)) {
                let text = format!(
                    "{:?} is no table: letters, digits and _ only, and a dot behind its schema",
                    name.get_ref()
                );
                faults.push(Fault { at: name.span(), text });
            }
            match <OneOrMore<RowRule>>::read(rules) {
                Ok(OneOrMore(rules)) => {
                    read.push(Table { schema: schema.to_owned(), name: table.to_owned(), rules });
                }
                Err(mut more) => faults.append(&mut more),
            }
        }
        if read.is_empty() && faults.is_empty() {
            return Err(wrong("names no table".into()));
        }
        if faults.is_empty() { Ok(Self(read)) } else { Err(faults) }
    }
}

impl Text for RowRule {
    fn accepts() -> String {
        let forms =
            r#""open", "authenticated", "nobody", "claim:NAME=VALUE", "claim:NAME=row:COLUMN" or "row:COLUMN=VALUE""#;
        format!("{forms}, or several of them with ` and ` between")
    }
}

impl FromStr for RowRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        text.split(" and ").map(|part| part.trim().parse()).collect::<Result<_, _>>().map(Self)
    }
}

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(rest) = text.strip_prefix("row:") {
            let parts = rest.split_once('=').filter(|(column, value)| !column.is_empty() && !value.is_empty());
            let (column, value) = parts.ok_or("a column needs a name and a value: row:public=true")?;
            return Ok(Self::Column { column: column.to_owned(), value: value.to_owned() });
        }
        if let Some((claim, column)) = text.strip_prefix("claim:").and_then(|rest| rest.split_once("=row:")) {
            return match claim.is_empty() || column.is_empty() {
                true => Err("a claim and a column have names: claim:sub=row:user_id".into()),
                false => Ok(Self::Owner { claim: claim.to_owned(), column: column.to_owned() }),
            };
        }
        let rule: Rule = text.parse()?;
        match () {
            () if rule.hook().is_some() => Err("a hook is not asked for each row: take a claim or a column".into()),
            () if rule.uses_suffix() => Err("a row has no topic whose suffix could be compared".into()),
            () if rule.asks_for_key() => Err("a reader of rows has no presence key".into()),
            () => Ok(Self::Reader(rule)),
        }
    }
}

fn is_identifier(part: &str) -> bool {
    !part.is_empty() && part.len() <= 63 && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_of_rows_are_read_and_bad_ones_explained() {
        for (rule, count) in [("open", 1), ("claim:sub=row:user_id", 1), ("row:public=true and authenticated", 2)] {
            assert_eq!(rule.parse::<RowRule>().unwrap().0.len(), count, "{rule}");
        }
        for (rule, part) in [
            ("opne", ""),
            ("row:public", "needs a name and a value"),
            ("claim:=row:user_id", "have names"),
            ("claim:sub=row:", "have names"),
            ("hook:rows", "not asked for each row"),
            ("claim:sub={suffix}", "no topic"),
            ("presence_key=claim:sub", "no presence key"),
        ] {
            let error = rule.parse::<RowRule>().unwrap_err();
            assert!(error.contains(part), "{rule}: {error}");
        }
    }
}
