//! The machine and the versions that figures belong to.

use std::process::Command;

use serde_json::{Map, Value, json};

use crate::place::Place;
use crate::server::Server;

pub(crate) fn describe(place: &Place, servers: &[Server]) -> Value {
    let mut versions = Map::new();
    for server in servers {
        let version = server.version(place);
        if !version.is_empty() {
            versions.insert(server.title.to_string(), version.into());
        }
    }
    json!({
        "processor": field(&read("/proc/cpuinfo"), "model name", ':'),
        "cores": std::thread::available_parallelism().map_or(0, usize::from),
        "kernel": read("/proc/sys/kernel/osrelease").trim().split('-').next(),
        "system": field(&read("/etc/os-release"), "PRETTY_NAME", '='),
        "rust": place.version_by(&["rustc", "--version"]),
        "commit": line_of("git", &["-C", &place.root.to_string_lossy(), "rev-parse", "--short", "HEAD"]),
        "date": line_of("date", &["+%B %Y"]),
        "versions": versions,
    })
}

/// One paragraph for the page.
pub(crate) fn paragraph(machine: &Value, rounds: u32, repeated: u32) -> String {
    let text = |key: &str| machine[key].as_str().unwrap_or("unknown").to_owned();
    let mut paragraph = format!(
        "Machine: {} cores of {}, Linux {}, {}, Rust {}; {}, commit {}; rounds: {rounds}",
        machine["cores"],
        text("processor"),
        text("kernel"),
        text("system"),
        text("rust"),
        text("date"),
        text("commit"),
    );
    if repeated > 0 {
        paragraph += &format!("; runs repeated because other programs took more than a fifth of a core: {repeated}");
    }
    paragraph += ".";
    let versions = machine["versions"].as_object().into_iter().flatten();
    let versions: Vec<String> =
        versions.map(|(name, version)| format!("{name} {}", version.as_str().unwrap_or_default())).collect();
    if !versions.is_empty() {
        paragraph += &format!(" Versions: {}.", versions.join("; "));
    }
    paragraph
}

/// The value of the first line `name… : value`, without quotes.
fn field(text: &str, name: &str, separator: char) -> String {
    let line = text.lines().find(|line| line.starts_with(name)).and_then(|line| line.split_once(separator));
    line.map(|(_, value)| value.trim().trim_matches('"').to_owned()).unwrap_or_else(|| "unknown".to_owned())
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

fn line_of(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).env("LC_ALL", "C").output();
    output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields() {
        let text = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R)\nPRETTY_NAME=\"Debian 12\"\n";
        for (name, separator, value) in
            [("model name", ':', "Intel(R) Xeon(R)"), ("PRETTY_NAME", '=', "Debian 12"), ("x", ':', "unknown")]
        {
            assert_eq!(field(text, name, separator), value);
        }
    }

    #[test]
    fn paragraph_has_what_is_known() {
        let machine = json!({ "cores": 2, "processor": "A", "versions": { "ws": "8" } });
        let text = paragraph(&machine, 5, 1);
        for part in ["2 cores of A", "Linux unknown", "rounds: 5; runs repeated", "Versions: ws 8."] {
            assert!(text.contains(part), "{text}");
        }
    }
}
