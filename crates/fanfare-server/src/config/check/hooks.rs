//! Hooks and webhooks: that those that are named exist, that nothing secret goes over an open line, that secrets can be read.

use super::SECRET_BYTES_SAFE;
use crate::config::problem::Problems;
use crate::config::secret::{Given, Secret};
use crate::config::section::{Places, nearest};
use crate::config::url::Url;
use crate::config::{Draft, Overrides};
use crate::signature;

/// What hooks and webhooks have in common.
struct BackEnd<'a> {
    header: String,
    places: &'a Places,
    url: &'a Url,
    allow_http: bool,
    given: Given<'a>,
}

impl BackEnd<'_> {
    /// The secret, from wherever it is.
    fn check(&self, overrides: &Overrides, problems: &mut Problems, warnings: &mut Vec<String>) -> Option<Secret> {
        if !self.url.is_private() && !self.allow_http {
            let text = "is not https, so that whoever is on the way could read and change what goes there; \
                        allow_http = true accepts that";
            self.places.problem(problems, "url", text);
        }
        let secret = self.given.resolve(overrides.variables(), self.places, problems)?;
        match signature::key_of(&secret) {
            Err(text) => {
                let key = ["secret", "secret_env", "secret_file"].into_iter().find(|key| self.places.is_given(key));
                self.places.problem(problems, key.unwrap_or("secret"), text);
            }
            Ok(key) if key.len() < SECRET_BYTES_SAFE => warnings.push(format!(
                "the secret of {} has {} bytes; with less than {SECRET_BYTES_SAFE} it can be guessed",
                self.header,
                key.len()
            )),
            Ok(_) => {}
        }
        Some(secret)
    }
}

impl Draft {
    pub(super) fn check_hooks(&mut self, overrides: &Overrides, problems: &mut Problems, warnings: &mut Vec<String>) {
        for (name, hook) in &mut self.hooks {
            let Some(hook) = hook else { continue };
            let back_end = BackEnd {
                header: format!("[hook.{name}]"),
                places: &hook.places,
                url: &hook.url,
                allow_http: hook.allow_http,
                given: Given::new("secret", &hook.secret, &hook.secret_env, &hook.secret_file),
            };
            hook.secret = back_end.check(overrides, problems, warnings);
        }
        for (index, webhook) in self.webhooks.iter_mut().enumerate() {
            let name = webhook.name.get_or_insert_with(|| (index + 1).to_string());
            let back_end = BackEnd {
                header: format!("[[webhook]] {name}"),
                places: &webhook.places,
                url: &webhook.url,
                allow_http: webhook.allow_http,
                given: Given::new("secret", &webhook.secret, &webhook.secret_env, &webhook.secret_file),
            };
            webhook.secret = back_end.check(overrides, problems, warnings);
        }
        for (index, webhook) in self.webhooks.iter().enumerate() {
            if let Some(name) = &webhook.name
                && self.webhooks[..index].iter().any(|earlier| earlier.name.as_ref() == Some(name))
            {
                webhook.places.problem(problems, "name", format!("\"{name}\" is the name of an earlier [[webhook]]"));
            }
        }
        self.check_hook_names(problems);
    }

    fn check_hook_names(&self, problems: &mut Problems) {
        for auth in self.auths.values().flatten() {
            if let Some(name) = auth.hook.as_ref().filter(|name| !self.hooks.contains_key(*name)) {
                auth.places.problem(problems, "hook", self.unknown_hook(name));
            }
        }
        for channel in &self.channels {
            for (key, rule) in channel.rules() {
                if let Some(name) = rule.hook().filter(|name| !self.hooks.contains_key(*name)) {
                    channel.places.problem(problems, key, self.unknown_hook(name));
                }
            }
        }
    }

    fn unknown_hook(&self, name: &str) -> String {
        let next = match nearest(name, self.hooks.keys().map(String::as_str)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("add [hook.{name}]"),
        };
        format!("there is no [hook.{name}]; {next}")
    }
}
