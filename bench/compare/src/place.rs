//! Where things are: the repository, what is built of it, what else is installed.

use std::path::{Path, PathBuf};
use std::process::Command;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use serde_json::Value;

/// Bytes that Phoenix Channels 2.0.0 puts around a payload: topic, event, and the brackets of both.
const PHOENIX_OVERHEAD: usize = r#"[null,null,"bench:0","new_msg",{"body":""}]"#.len();

/// Where the modules of nginx may be.
const NGINX_MODULES: &[&str] = &["/usr/lib/nginx/modules", "/usr/lib64/nginx/modules", "/usr/local/lib/nginx/modules"];

pub(crate) struct Place {
    pub(crate) root: PathBuf,
    /// Cargo's target directory.
    pub(crate) target: PathBuf,
}

impl Place {
    pub(crate) fn find() -> Result<Self, String> {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).ok_or("no folder of the repository")?;
        let program = std::env::current_exe().map_err(|e| format!("cannot find this program: {e}"))?;
        let target = program.ancestors().nth(2).ok_or("this program is in no target directory")?;
        Ok(Self { root: root.to_owned(), target: target.to_owned() })
    }

    /// Puts the places into a text that has their names in braces.
    pub(crate) fn fill(&self, text: &str) -> String {
        let modules = NGINX_MODULES.iter().find(|dir| Path::new(dir).exists()).unwrap_or(&NGINX_MODULES[0]);
        text.replace("{release}", &self.target.join("release").to_string_lossy())
            .replace("{peers}", &self.target.join("peers/release").to_string_lossy())
            .replace("{node}", &self.root.join("bench/peers/node").to_string_lossy())
            .replace("{nginx-modules}", modules)
            .replace("{overhead}", &PHOENIX_OVERHEAD.to_string())
    }

    pub(crate) fn fanfare(&self) -> PathBuf {
        self.target.join("release/fanfare")
    }

    /// Whether there is such a file, or such a program to call by its name.
    pub(crate) fn has(name: &str) -> bool {
        if name.contains('/') {
            return Path::new(name).exists();
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        std::env::split_paths(&path).any(|dir| dir.join(name).exists())
    }

    /// As many descriptors as may be had: servers and the generator inherit it, and need one for each connection.
    pub(crate) fn raise_descriptor_limit(&self) {
        if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
            && soft < hard
        {
            // Without it whoever runs out says so, with the limit.
            let _ = setrlimit(Resource::RLIMIT_NOFILE, hard, hard);
        }
    }

    pub(crate) fn version_by(&self, command: &[&str]) -> String {
        let output = Command::new(command[0]).args(&command[1..]).output();
        // nginx says it on standard error.
        let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
        number_in(&String::from_utf8_lossy(&said))
    }

    pub(crate) fn version_of_npm(&self, package: &str) -> String {
        let file = self.root.join("bench/peers/node/node_modules").join(package).join("package.json");
        let text = std::fs::read_to_string(file).unwrap_or_default();
        let json: Value = serde_json::from_str(&text).unwrap_or_default();
        json["version"].as_str().unwrap_or_default().to_owned()
    }

    pub(crate) fn version_of_crate(&self, name: &str) -> String {
        let lock = std::fs::read_to_string(self.root.join("bench/peers/rust/Cargo.lock")).unwrap_or_default();
        let entry = lock.split("[[package]]").find(|entry| entry.contains(&format!("name = \"{name}\"\n")));
        entry.map(number_in).unwrap_or_default()
    }
}

/// The first word of a text that begins with a number and a dot, what stands before the number left out.
fn number_in(text: &str) -> String {
    let words = text.split(|c: char| c.is_whitespace() || matches!(c, '/' | '"' | '(' | ')'));
    let numbers = words.map(|word| word.trim_start_matches('v'));
    let mut versions = numbers.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()) && word.contains('.'));
    versions.next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_found() {
        for (text, version) in [
            ("nginx version: nginx/1.22.1\n", "1.22.1"),
            ("nats-server: v2.9.10\n", "2.9.10"),
            ("\nname = \"axum\"\nversion = \"0.8.9\"\nsource = \"x\"\n", "0.8.9"),
            ("rustc 1.95.0 (abc 2026-01-01)", "1.95.0"),
            ("nothing", ""),
        ] {
            assert_eq!(number_in(text), version, "{text}");
        }
    }
}
