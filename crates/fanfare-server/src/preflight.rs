//! What a configuration names is opened before anything is served: secrets in files and variables, keys of issuers,
//! certificates, addresses. `serve` and `check` say the same of it, together with what is wrong with the text itself.

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::config::auth::SECRET_BYTES_SAFE;
use crate::config::problem::Problems;
use crate::config::secret::{Given, Secret, SecretPlace};
use crate::config::section::Places;
use crate::config::source::Kind;
use crate::config::token::From;
use crate::config::value::OneOrMore;
use crate::config::{Config, Draft, Overrides, Reading, Report};
use crate::descriptors::Descriptors;
use crate::schema::Schema;
use crate::{auth, reach, signature, tls};

/// A certificate that is good for no longer than this is warned of.
const CERTIFICATE_DAYS_LEFT: u64 = 7;

const DAY_S: u64 = 86_400;

/// Shorter API tokens are refused.
const TOKEN_CHARS_MIN: usize = 16;

/// Reads a file.
///
/// # Errors
/// The file cannot be read, or everything that is wrong with it, with the overrides, and with what it names.
pub(crate) fn load(path: &Path, overrides: &Overrides) -> Result<Config, Report> {
    let content = crate::file::read_text(path).map_err(|error| {
        let next = match error.kind() {
            std::io::ErrorKind::NotFound => "; `fanfare init` writes one to start from",
            std::io::ErrorKind::InvalidData => "; a configuration is UTF-8 text",
            _ => "",
        };
        Report::of(format!("cannot read {}: {error}{next}", path.display()))
    })?;
    parse(&path.display().to_string(), &content, overrides)
}

/// Reads a text; `name` is what messages call it.
///
/// # Errors
/// Everything that is wrong with it and with what it names.
pub(crate) fn parse(name: &str, content: &str, overrides: &Overrides) -> Result<Config, Report> {
    let mut reading = Reading::new(name, content, overrides)?;
    let Reading { draft, problems, warnings, .. } = &mut reading;
    Preflight { overrides, problems, warnings }.check(draft);
    reading.finish()
}

struct Preflight<'r> {
    overrides: &'r Overrides,
    problems: &'r mut Problems,
    warnings: &'r mut Vec<String>,
}

/// How a key in PEM form begins.
const PEM: &str = "-----BEGIN ";

impl Preflight<'_> {
    /// Opens all, and fills in the secrets.
    fn check(mut self, draft: &mut Draft) {
        reach::check(draft, self.problems);
        self.check_auths(draft);
        self.check_api_keys(draft);
        self.check_addresses(draft);
        self.check_schemas(draft);
        self.check_hooks(draft);
        self.check_admin(draft);
        self.check_tls(draft);
        self.check_acme(draft);
        self.check_descriptors(draft);
    }

    /// A secret, and the key that says where it is; `None` if there is none, or after a problem.
    fn open(&mut self, given: &Given<'_>, places: &Places) -> Option<(String, Secret)> {
        let (key, place) = given.place(places, self.problems)?;
        match place.open(self.overrides.variables()) {
            Ok(secret) => Some((key, secret)),
            Err(text) => {
                places.problem(self.problems, &key, text);
                None
            }
        }
    }

    fn warn_if_short(&mut self, whose: &str, size: usize) {
        if size < SECRET_BYTES_SAFE {
            self.warnings.push(format!(
                "the secret of {whose} has {size} bytes; with less than {SECRET_BYTES_SAFE} it can be guessed"
            ));
        }
    }

    fn check_auths(&mut self, draft: &mut Draft) {
        for (name, auth) in &mut draft.auths {
            let Some(auth) = auth else { continue };
            let given = Given::new("secret", &auth.secret, &auth.secret_env, &auth.secret_file);
            let opened = self.open(&given, &auth.places);
            note(&mut auth.places, &opened);
            if let Some((key, secret)) = &opened
                && secret.expose().trim_start().starts_with(PEM)
            {
                let text = "holds a key in PEM form, which is no shared secret: everybody who has a public key could sign tokens with it; \
                            give a public key as public_key_file";
                auth.places.problem(self.problems, key, text);
            }
            auth.secret = opened.map(|(_, secret)| secret);
            for file in auth.public_key_file.iter().flat_map(|OneOrMore(files)| files) {
                auth.places.note_file("public_key_file", file);
            }
            if let Some(file) = &auth.jwks_file {
                auth.places.note_file("jwks_file", file);
            }
            if let Err(fault) = auth::keys::load(auth) {
                auth.places.problem(self.problems, fault.setting, fault.text);
            }
            if let Some(secret) = &auth.secret {
                self.warn_if_short(&format!("[auth.{name}]"), secret.expose().len());
            }
        }
    }

    /// Keys that stand for a role.
    fn check_api_keys(&mut self, draft: &mut Draft) {
        for endpoint in &mut draft.endpoints {
            let Some(keys) = &mut endpoint.api_keys else { continue };
            for (variable, role) in &keys.named {
                match SecretPlace::Variable(variable).open(self.overrides.variables()) {
                    Ok(key) => keys.opened.push((key, role.clone())),
                    Err(text) => endpoint.places.problem(self.problems, "api_keys", text),
                }
            }
        }
    }

    /// Those of databases, of sources and of the bridge.
    fn check_addresses(&mut self, draft: &mut Draft) {
        for keys in draft.keys.values_mut().flatten() {
            let given = Given::new("url", &keys.url, &keys.url_env, &keys.url_file);
            let opened = self.open(&given, &keys.places);
            #[cfg(feature = "postgres")]
            if let (crate::config::keys::Store::Postgres, Some((key, url))) = (keys.store, &opened)
                && let Err(text) = crate::apikey::store::check_postgres_url(url.expose())
            {
                keys.places.problem(self.problems, key, text);
            }
            keys.url = opened.map(|(_, url)| url);
        }
        for source in draft.sources.values_mut().flatten() {
            let given = Given::new("url", &source.url, &source.url_env, &source.url_file);
            let opened = self.open(&given, &source.places);
            if let Some((key, url)) = &opened
                && let Err(text) = source.kind.check_url(url.expose())
            {
                source.places.problem(self.problems, key, text);
            }
            source.url = opened.map(|(_, url)| url);
        }
        if let Some(bridge) = &mut draft.bridge {
            let given = Given::new("url", &bridge.url, &bridge.url_env, &bridge.url_file);
            let opened = self.open(&given, &bridge.places);
            if let Some((key, url)) = &opened
                && let Err(text) = Kind::Redis.check_url(url.expose())
            {
                bridge.places.problem(self.problems, key, text);
            }
            bridge.url = opened.map(|(_, url)| url);
        }
        if let Some(broker) = &mut draft.broker {
            let given = Given::new("url", &broker.url, &broker.url_env, &broker.url_file);
            let url = self.open(&given, &broker.places);
            let (plain, env, file) = (&broker.credentials, &broker.credentials_env, &broker.credentials_file);
            let credentials = self.open(&Given::new("credentials", plain, env, file), &broker.places);
            // The address by itself first, so that each fault is told where it stands.
            (broker.url, broker.credentials) = (url.as_ref().map(|(_, url)| url.clone()), None);
            let mut fault = url.and_then(|(key, _)| Some((key, crate::broker::settled(broker, 0).err()?)));
            if let (None, Some(_), Some((key, credentials))) = (&fault, &broker.url, credentials) {
                broker.credentials = Some(credentials);
                fault = crate::broker::settled(broker, 0).err().map(|text| (key, text));
            }
            if let Some((key, text)) = fault {
                broker.places.problem(self.problems, &key, text);
            }
        }
    }

    fn check_schemas(&mut self, draft: &mut Draft) {
        for channel in &mut draft.channels {
            let Some(schemas) = &mut channel.schemas else { continue };
            for (name, file) in &schemas.files {
                match Schema::open(file) {
                    Ok(schema) => {
                        channel.places.note("schemas", schema.document().to_string().as_bytes());
                        schemas.opened.insert(name.clone(), Arc::new(schema));
                    }
                    Err(text) => channel.places.problem(self.problems, "schemas", format!("{name}: {text}")),
                }
            }
        }
    }

    fn check_hooks(&mut self, draft: &mut Draft) {
        for (name, hook) in &mut draft.hooks {
            let Some(hook) = hook else { continue };
            let given = Given::new("secret", &hook.secret, &hook.secret_env, &hook.secret_file);
            let opened = self.open_signing(&given, &hook.places, &format!("[hook.{name}]"));
            note(&mut hook.places, &opened);
            hook.secret = opened.map(|(_, secret)| secret);
        }
        for webhook in &mut draft.webhooks {
            let given = Given::new("secret", &webhook.secret, &webhook.secret_env, &webhook.secret_file);
            let whose = format!("[[webhook]] {}", webhook.name.as_deref().unwrap_or_default());
            let opened = self.open_signing(&given, &webhook.places, &whose);
            note(&mut webhook.places, &opened);
            webhook.secret = opened.map(|(_, secret)| secret);
        }
    }

    /// The secret that requests are signed with.
    fn open_signing(&mut self, given: &Given<'_>, places: &Places, whose: &str) -> Option<(String, Secret)> {
        let (key, secret) = self.open(given, places)?;
        match signature::key_of(&secret) {
            Ok(bytes) => self.warn_if_short(whose, bytes.len()),
            Err(text) => places.problem(self.problems, &key, text),
        }
        Some((key, secret))
    }

    fn check_admin(&mut self, draft: &mut Draft) {
        let Some(admin) = &mut draft.admin else { return };
        let mut tokens = admin.token.take().unwrap_or_default();
        let given = Given::new("token", &tokens.own, &admin.token_env, &admin.token_file);
        // The environment gives one token, and leaves the tables of the file where they are.
        let is_in_file = admin.places.rank("token") == 1 || tokens.own.is_some();
        let opened = self.open(&given, &admin.places);
        if let Some((key, token)) = &opened
            && let Err(text) = check_token(token)
        {
            admin.places.problem(self.problems, key, format!("the token {text}"));
        }
        note(&mut admin.places, &opened);
        let mut known: Vec<(Secret, String)> = Vec::new();
        known.extend(opened.iter().map(|(key, token)| (token.clone(), format!("admin.{key}"))));
        for named in &mut tokens.named {
            admin.places.note("token", format!("{} {:?}", named.name, named.may).as_bytes());
            let (name, at) = (&named.name, is_in_file.then_some(named.at));
            let place = match &named.from {
                From::Variable(name) => SecretPlace::Variable(name),
                From::File(path) => SecretPlace::File(path),
            };
            let token = match place.open(self.overrides.variables()) {
                Ok(token) => token,
                Err(text) => {
                    admin.places.problem_within(self.problems, "token", at, format!("{name:?}: {text}"));
                    continue;
                }
            };
            if let Err(text) = check_token(&token) {
                admin.places.problem_within(self.problems, "token", at, format!("the token {name:?} {text}"));
            } else if let Some((_, other)) = known.iter().find(|(secret, _)| *secret == token) {
                let text = format!("the token {name:?} is the same secret as {other}: give each a secret of its own");
                admin.places.problem_within(self.problems, "token", at, text);
            } else {
                admin.places.note("token", token.expose().as_bytes());
                known.push((token.clone(), format!("the token {name:?}")));
                named.opened = Some(token);
            }
        }
        tokens.own = opened.map(|(_, token)| token);
        admin.token = Some(tokens);
    }

    /// More connections than the process may have descriptors for, where somebody has asked for them.
    fn check_descriptors(&mut self, draft: &Draft) {
        if let Some(limits) = draft.limits.as_ref().filter(|limits| limits.places.is_given("connections_max")) {
            let admin = draft.admin.as_ref().map_or(0, |admin| admin.connections_max.0);
            let metrics = draft.metrics.as_ref().map_or(0, |metrics| metrics.connections_max.0);
            self.warnings.extend(Descriptors::allowed().warning(limits.connections_max.0, admin + metrics));
        }
    }

    fn check_tls(&mut self, draft: &mut Draft) {
        if let Some(tls) = &mut draft.tls
            && let (Some(cert), Some(key)) = (&tls.cert, &tls.key)
        {
            self.check_certificate(&mut tls.places, cert, key);
        }
        for certificate in &mut draft.certificates {
            self.check_certificate(&mut certificate.places, &certificate.cert, &certificate.key);
        }
    }

    /// How certificates are ordered.
    fn check_acme(&mut self, draft: &mut Draft) {
        let Some(Some(acme)) = &mut draft.acme else { return };
        let given = Given::new("eab_key", &acme.eab_key, &acme.eab_key_env, &acme.eab_key_file);
        let opened = self.open(&given, &acme.places);
        note(&mut acme.places, &opened);
        let key = opened.as_ref().map_or("domains", |(key, _)| key).to_owned();
        acme.eab_key = opened.map(|(_, key)| key);
        if let Err(text) = tls::Orders::new(acme) {
            acme.places.problem(self.problems, &key, text);
        }
        if let Err(text) = can_be_made(&acme.cache_dir.0) {
            acme.places.problem(self.problems, "cache_dir", text);
        }
    }

    fn check_certificate(&mut self, places: &mut Places, cert: &Path, key: &Path) {
        places.note_file("cert", cert);
        places.note_file("key", key);
        match tls::load(cert, key) {
            Ok(_) => self.check_dates(places, cert),
            Err(tls::Fault::Cert(text)) => places.problem(self.problems, "cert", text),
            Err(tls::Fault::Key(text)) => places.problem(self.problems, "key", text),
        }
    }

    /// A certificate that no client accepts any more, or will not in some days.
    fn check_dates(&mut self, places: &Places, cert: &Path) {
        let Some(end) = tls::not_after(cert) else { return };
        match end.duration_since(SystemTime::now()) {
            Err(over) => {
                let text = format!(
                    "the certificate in {} has expired {} days ago: no client accepts it; renew it",
                    cert.display(),
                    over.duration().as_secs() / DAY_S
                );
                places.problem(self.problems, "cert", text);
            }
            Ok(left) if left.as_secs() < CERTIFICATE_DAYS_LEFT * DAY_S => self.warnings.push(format!(
                "the certificate in {} expires in {} days; renew it, and the server serves the new one within a minute",
                cert.display(),
                left.as_secs() / DAY_S
            )),
            Ok(_) => {}
        }
    }
}

/// Whether a token can be sent in a header, and is too long to be guessed.
///
/// # Errors
/// What is wrong with it, and what to do; nothing of the token itself.
fn check_token(token: &Secret) -> Result<(), String> {
    let token = token.expose();
    let unfit = token.chars().position(|c| !(' '..='~').contains(&c));
    if token.contains(['\n', '\r']) {
        return Err("has several lines, and is sent in a header, which is one: leave the token alone there".into());
    }
    if let Some(at) = unfit {
        let at = at + 1;
        return Err(format!(
            "cannot be sent in a header: its character {at} is none of ASCII's; take letters and digits"
        ));
    }
    if token.starts_with(' ') || token.ends_with(' ') {
        return Err("begins or ends with a blank, which no header keeps: remove it".into());
    }
    if token.chars().count() < TOKEN_CHARS_MIN {
        return Err(format!(
            "is shorter than {TOKEN_CHARS_MIN} characters, so that it could be guessed: take a longer one"
        ));
    }
    Ok(())
}

/// What a secret is counts as a part of the key that says where it is.
fn note(places: &mut Places, opened: &Option<(String, Secret)>) {
    if let Some((key, secret)) = opened {
        places.note(key, secret.expose().as_bytes());
    }
}
/// Whether files can be kept in a directory, which is made if there is none: something is put there, or into the nearest above that
/// exists, and taken away.
///
/// # Errors
/// Why not.
fn can_be_made(directory: &Path) -> Result<(), String> {
    let above = |path: &Path| {
        path.parent().map(|above| if above.as_os_str().is_empty() { ".".into() } else { above.to_owned() })
    };
    let mut nearest = directory.to_owned();
    while nearest.symlink_metadata().is_err() {
        let Some(next) = above(&nearest) else { break };
        nearest = next;
    }
    let shown = directory.display();
    if !nearest.is_dir() {
        return Err(match nearest == directory {
            true => format!("{shown} is a file; it takes a directory, which is made if there is none"),
            false => format!("{shown} cannot be made: {} is not a directory", nearest.display()),
        });
    }
    let attempt = nearest.join(format!(".fanfare-check-{}", std::process::id()));
    let made = std::fs::create_dir(&attempt).and_then(|()| std::fs::remove_dir(&attempt));
    made.map_err(|error| match nearest == directory {
        true => format!("nothing can be kept in {shown}: {error}"),
        false => format!("{shown} cannot be made: nothing can be put into {}: {error}", nearest.display()),
    })
}
