//! Hooks and webhooks: that those that are named exist, and that nothing secret goes over an open line.

use std::collections::HashSet;

use super::Draft;
use crate::config::problem::Problems;
use crate::config::section::{Places, nearest};
use crate::config::url::Url;

impl Draft {
    /// Webhooks without a name get their number for one.
    pub(super) fn check_hooks(&mut self, problems: &mut Problems) {
        for hook in self.hooks.values().flatten() {
            check_url(&hook.url, hook.allow_http, &hook.places, problems);
        }
        for (index, webhook) in self.webhooks.iter_mut().enumerate() {
            webhook.name.get_or_insert_with(|| (index + 1).to_string());
        }
        let mut names = HashSet::new();
        for webhook in &self.webhooks {
            check_url(&webhook.url, webhook.allow_http, &webhook.places, problems);
            let name = webhook.name.as_deref().unwrap_or_default();
            if !names.insert(name) {
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

fn check_url(url: &Url, allow_http: bool, places: &Places, problems: &mut Problems) {
    if !url.is_private() && !allow_http {
        let text = "is not https, so that whoever is on the way could read and change what goes there; allow_http = true \
                    accepts that";
        places.problem(problems, "url", text);
    }
}
