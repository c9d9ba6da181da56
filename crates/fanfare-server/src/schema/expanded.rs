//! A schema with what it refers to in the places of the references. Definitions that refer to themselves keep their names, as `$defs`.
//!
//! A few lines of schemas can refer to one another so often that all of it together fits into no memory. So what is made is counted while it
//! is made, and all that is done with it later, compiling included, is done with something of a known size.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};
use std::ptr;

use jsonschema::{Draft, ReferencingError, Registry, Retrieve};
use referencing::Resolver;
use serde_json::{Map, Value};

use super::files::{path_of, uri};

/// The largest schema together with all that it refers to, in bytes of JSON.
const SIZE_MAX: usize = 2_097_152;

/// How often references are followed at most.
const REFERENCES_MAX: usize = 10_000;

/// How deep it is at most, in levels of objects and arrays.
const DEPTH_MAX: usize = 128;

/// What is wrong with a schema, and where.
#[derive(Debug)]
pub(super) struct Fault {
    pub(super) file: PathBuf,
    /// A JSON pointer.
    pub(super) pointer: String,
    pub(super) text: String,
}

/// A schema that refers to nothing but `$defs` of its own, and to those only where it would contain itself.
#[derive(Debug)]
pub(super) struct Expanded {
    pub(super) document: Value,
    /// It refers to itself in something like `anyOf`: what is wrong with a payload could be wrong in as many ways as there are paths
    /// through the choices, twice as many with each level.
    pub(super) chooses_itself: bool,
}

/// All files that a schema refers to, each read once.
///
/// # Errors
/// One of them cannot be read, or is nowhere.
pub(super) fn registry<'s>(
    schema: &'s Value,
    file: &Path,
    files: impl Retrieve + 'static,
) -> Result<Registry<'s>, Fault> {
    let draft = Draft::default().detect(schema);
    let registry = Registry::new().retriever(files).draft(draft).add(uri(file), draft.create_resource_ref(schema));
    registry.and_then(|registry| registry.prepare()).map_err(|error| Place::start(file).unresolved(&error))
}

/// Puts what a schema refers to in the places of the references. What refers to itself becomes a definition, and stays a reference.
///
/// # Errors
/// The first reference that leads nowhere; more than [`SIZE_MAX`], [`REFERENCES_MAX`] or [`DEPTH_MAX`].
pub(super) fn expanded(schema: &Value, file: &Path, registry: &Registry<'_>) -> Result<Expanded, Fault> {
    let start = Place::start(file);
    let draft = Draft::default().detect(schema);
    let base = jsonschema::uri::from_str(&uri(file)).map_err(|error| start.unresolved(&error))?;
    // The first walk finds out what refers to itself, the second puts names there.
    let mut first = Walk::default();
    let mut document = first.schema(schema, draft, &registry.resolver(base.clone()), &start)?;
    let mut definitions = Map::new();
    if !first.recursive.is_empty() {
        let mut walk = Walk { recursive: named(&first.recursive), ..Walk::default() };
        document = walk.schema(schema, draft, &registry.resolver(base), &start)?;
        definitions = walk.definitions;
    }
    if let Value::Object(members) = &mut document {
        for key in ["$schema", "$id"] {
            members.remove(key);
        }
        if !definitions.is_empty() {
            members.insert("$defs".to_owned(), definitions.into());
        }
    }
    Ok(Expanded { document, chooses_itself: first.chooses_itself })
}

/// Names for definitions, by the last part of what refers to them: `#/$defs/comment` is `comment`, a whole file goes by its name.
fn named(recursive: &BTreeMap<String, String>) -> BTreeMap<String, String> {
    let mut taken = HashSet::new();
    let name = |reference: &String| {
        let (base, fragment) = reference.split_once('#').unwrap_or((reference, ""));
        let last = fragment.rsplit('/').next().filter(|last| !last.is_empty());
        let file = || base.rsplit('/').next().and_then(|file| file.split('.').next()).unwrap_or_default();
        let is_plain = |c: &char| c.is_ascii_alphanumeric() || *c == '_';
        let name: String = last.unwrap_or_else(file).chars().filter(is_plain).collect();
        let name = if name.is_empty() { "part".to_owned() } else { name };
        let mut numbered = (2..).map(|number| format!("{name}{number}"));
        let free = if taken.contains(&name) { numbered.find(|name| !taken.contains(name)) } else { Some(name) };
        let free = free.unwrap_or_default();
        taken.insert(free.clone());
        free
    };
    recursive.keys().cloned().zip(recursive.keys().map(name).collect::<Vec<_>>()).collect()
}

/// Whether a keyword has schemas that are tried, so that a payload need not fit each of them.
fn is_choice(keyword: &str) -> bool {
    const CHOICES: [&str; 9] = [
        "anyOf",
        "oneOf",
        "not",
        "if",
        "contains",
        "propertyNames",
        "unevaluatedItems",
        "unevaluatedProperties",
        "disallow",
    ];
    CHOICES.contains(&keyword)
}

/// Where in which file.
#[derive(Debug, Clone)]
struct Place {
    file: PathBuf,
    pointer: String,
}

impl Place {
    fn start(file: &Path) -> Self {
        Place { file: file.to_owned(), pointer: String::new() }
    }

    fn member(&self, name: &str) -> Self {
        let name = name.replace('~', "~0").replace('/', "~1");
        Place { file: self.file.clone(), pointer: format!("{}/{name}", self.pointer) }
    }

    fn fault(&self, text: String) -> Fault {
        Fault { file: self.file.clone(), pointer: self.pointer.clone(), text }
    }

    fn unresolved(&self, error: &ReferencingError) -> Fault {
        let text = match error {
            ReferencingError::Unretrievable { source, .. } => source.to_string(),
            error => error.to_string(),
        };
        self.fault(text)
    }
}

/// The parts of a schema that are schemas themselves. All else in it is data, also where it looks like a reference.
struct Parts<'p> {
    schemas: HashSet<*const Value>,
    draft: Draft,
    resolver: Resolver<'p>,
}

struct Walk {
    /// How many bytes there may be yet.
    left: usize,
    /// What refers to itself, and what it is called once that is known.
    recursive: BTreeMap<String, String>,
    definitions: Map<String, Value>,
    /// How often a reference was followed.
    references: usize,
    depth: usize,
    /// In how many choices this is.
    choices: usize,
    /// The references that are being followed, and in how many choices each stands.
    within: Vec<(String, usize)>,
    chooses_itself: bool,
}

impl Default for Walk {
    fn default() -> Self {
        Walk {
            left: SIZE_MAX,
            recursive: BTreeMap::new(),
            definitions: Map::new(),
            references: 0,
            depth: 0,
            choices: 0,
            within: Vec::new(),
            chooses_itself: false,
        }
    }
}

impl Walk {
    fn schema(&mut self, value: &Value, draft: Draft, from: &Resolver<'_>, at: &Place) -> Result<Value, Fault> {
        let Value::Object(members) = value else { return self.part(value, None, at) };
        let resolver = from.in_subresource(draft.create_resource_ref(value)).map_err(|error| at.unresolved(&error))?;
        let schemas = draft.subresources_of(value).map(ptr::from_ref).collect();
        let parts = Parts { schemas, draft, resolver };
        let Some(Value::String(reference)) = members.get("$ref") else {
            // Definitions are put where they are used, and count there.
            let is_shown = |name: &str| !matches!(name, "$defs" | "definitions");
            return self.members(members, is_shown, &parts, at).map(Value::from);
        };
        let at_reference = at.member("$ref");
        let found = parts.resolver.lookup(reference).map_err(|error| at_reference.unresolved(&error))?;
        let (target, resolver, draft) = found.into_inner();
        let base = resolver.base_uri();
        let fragment = reference.split_once('#').map_or("", |(_, fragment)| fragment);
        let name = format!("{}#{fragment}", base.as_str());
        if let Some((_, choices)) = self.within.iter().find(|(within, _)| *within == name) {
            self.chooses_itself |= self.choices > *choices;
            self.recursive.entry(name).or_default();
            return Ok(true.into());
        }
        let called = self.recursive.get(&name).filter(|called| !called.is_empty()).cloned();
        let file = path_of(base.as_str()).unwrap_or_else(|| at.file.clone());
        self.references += 1;
        if self.references > REFERENCES_MAX {
            return Err(at.fault(format!(
                "with all that it refers to it has more than {REFERENCES_MAX} references, the most that a schema has: refer to a definition in \
                 fewer places, or let a part be anything (`true`)"
            )));
        }
        if let Some(called) = called {
            let place = Place { file, pointer: fragment.to_owned() };
            let reference = self.reference(&called, (target, draft, &resolver), &place)?;
            let is_shown = |name: &str| !matches!(name, "$ref" | "$defs" | "definitions");
            let mut all = self.members(members, is_shown, &parts, at)?;
            all.insert("$ref".to_owned(), reference.into());
            return Ok(all.into());
        }
        self.within.push((name, self.choices));
        self.deeper(at)?;
        let inside = self.schema(target, draft, &resolver, &Place { file, pointer: fragment.to_owned() });
        self.depth -= 1;
        self.within.pop();
        // What stands beside a reference holds as well; of two of one name, that of the definition is shown.
        let inside = match inside? {
            Value::Object(inside) => inside,
            all_or_nothing => return Ok(all_or_nothing),
        };
        let is_shown = |name: &str| !matches!(name, "$ref" | "$defs" | "definitions") && !inside.contains_key(name);
        let mut all = self.members(members, is_shown, &parts, at)?;
        all.extend(inside);
        Ok(all.into())
    }

    /// A reference to a definition, which is made if there is none yet.
    fn reference(
        &mut self,
        called: &str,
        (target, draft, resolver): (&Value, Draft, &Resolver<'_>),
        at: &Place,
    ) -> Result<String, Fault> {
        if !self.definitions.contains_key(called) {
            // What it contains may refer to it.
            self.definitions.insert(called.to_owned(), true.into());
            let depth = std::mem::take(&mut self.depth);
            let mut made = self.schema(target, draft, resolver, at)?;
            self.depth = depth;
            if let Value::Object(members) = &mut made {
                for key in ["$schema", "$id"] {
                    members.remove(key);
                }
            }
            self.definitions.insert(called.to_owned(), made);
        }
        self.count(called.len() + 20, at)?;
        Ok(format!("#/$defs/{called}"))
    }

    /// A keyword's value, or what is in it.
    fn part(&mut self, value: &Value, parts: Option<&Parts<'_>>, at: &Place) -> Result<Value, Fault> {
        if let Some(parts) = parts.filter(|parts| parts.schemas.contains(&ptr::from_ref(value))) {
            return self.schema(value, parts.draft, &parts.resolver, at);
        }
        match (value, parts) {
            (Value::Object(members), Some(parts)) => self.members(members, |_| true, parts, at).map(Value::from),
            (Value::Array(items), Some(parts)) => {
                self.deeper(at)?;
                let mut all = Vec::with_capacity(items.len());
                for (index, item) in items.iter().enumerate() {
                    self.count(1, at)?;
                    all.push(self.part(item, Some(parts), &at.member(&index.to_string()))?);
                }
                self.depth -= 1;
                Ok(all.into())
            }
            (value, _) => {
                self.count(value.to_string().len(), at)?;
                Ok(value.clone())
            }
        }
    }

    fn members(
        &mut self,
        members: &Map<String, Value>,
        is_shown: impl Fn(&str) -> bool,
        parts: &Parts<'_>,
        at: &Place,
    ) -> Result<Map<String, Value>, Fault> {
        self.deeper(at)?;
        self.count(2, at)?;
        let mut all = Map::with_capacity(members.len());
        for (name, value) in members.iter().filter(|(name, _)| is_shown(name)) {
            self.count(name.len() + 4, at)?;
            let choices = usize::from(is_choice(name));
            self.choices += choices;
            all.insert(name.clone(), self.part(value, Some(parts), &at.member(name))?);
            self.choices -= choices;
        }
        self.depth -= 1;
        Ok(all)
    }

    fn deeper(&mut self, at: &Place) -> Result<(), Fault> {
        self.depth += 1;
        if self.depth <= DEPTH_MAX {
            return Ok(());
        }
        Err(at.fault(format!(
            "with all that it refers to it has more than {DEPTH_MAX} levels: refer to fewer definitions in one another, or let a part be \
             anything (`true`)"
        )))
    }

    fn count(&mut self, size: usize, at: &Place) -> Result<(), Fault> {
        match self.left.checked_sub(size) {
            Some(left) => {
                self.left = left;
                Ok(())
            }
            None => Err(at.fault(format!(
                "with all that it refers to it has more than {SIZE_MAX} bytes, the most that a schema has: refer to a definition in fewer \
                 places, or let a part be anything (`true`)"
            ))),
        }
    }
}
