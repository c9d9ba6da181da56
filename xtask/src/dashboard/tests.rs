//! The dashboard is that of its table, and what it and the alerts ask for is there.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use super::{FILE, ROWS, filled, text};
use crate::docs::links::anchor;
use crate::repository;

const RULES: &str = "deploy/prometheus/fanfare.rules.yml";
const RULE_TESTS: &str = "deploy/prometheus/fanfare.rules.test.yml";
const RUNBOOK: &str = "docs/troubleshooting.md";

/// What Prometheus says of each scrape by itself.
const OF_PROMETHEUS: &[&str] = &["up"];

fn read(file: &str) -> String {
    repository::text(file).unwrap().unwrap()
}

/// The metrics of the guide: their labels by their names, as queries have them.
fn known() -> BTreeMap<String, BTreeSet<String>> {
    let guide = read("docs/metrics.md");
    let mut known = BTreeMap::new();
    for line in guide.lines().filter(|line| line.starts_with("| `")) {
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        let [_, name, kind, labels, ..] = &cells[..] else { panic!("{line}") };
        let labels: BTreeSet<_> = labels.split(", ").map(|label| label.trim_matches('`').to_owned()).collect();
        let name = name.trim_matches('`');
        let suffixes: &[&str] = if *kind == "histogram" { &["_bucket", "_sum", "_count"] } else { &[""] };
        for suffix in suffixes {
            let with_le = (*kind == "histogram").then(|| "le".to_owned());
            known.insert(format!("{name}{suffix}"), labels.iter().cloned().chain(with_le).collect());
        }
    }
    assert!(known.len() > 60, "{}", known.len());
    known
}

/// The words of an expression outside of quotes, with the character behind each.
fn words(expression: &str) -> Vec<(String, Option<char>)> {
    let bare: String = expression.split('"').step_by(2).collect::<Vec<_>>().join("\"\"");
    let is_in_word = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
    let mut words = Vec::new();
    let mut rest = &bare[..];
    while let Some(start) = rest.find(is_in_word) {
        let end = rest[start..].find(|c| !is_in_word(c)).map_or(rest.len(), |length| start + length);
        words.push((rest[start..end].to_owned(), rest[end..].trim_start().chars().next()));
        rest = &rest[end..];
    }
    words
}

/// All metrics of an expression are there, and have the labels that it names.
#[track_caller]
fn check(known: &BTreeMap<String, BTreeSet<String>>, expression: &str) {
    let words = words(expression);
    let is_metric =
        |word: &str| word.starts_with("fanfare_") || word.starts_with("process_") || OF_PROMETHEUS.contains(&word);
    let metrics: Vec<_> = words.iter().filter(|(word, _)| is_metric(word)).collect();
    assert!(!metrics.is_empty(), "{expression} asks for nothing");
    let mut labels: BTreeSet<_> = ["job", "instance"].map(str::to_owned).into();
    for (metric, _) in metrics {
        match known.get(metric) {
            Some(of_metric) => labels.extend(of_metric.iter().cloned()),
            None => assert!(
                OF_PROMETHEUS.contains(&&metric[..]),
                "{metric} of {expression} is no metric of docs/metrics.md"
            ),
        }
    }
    let selected = words.iter().filter(|(_, behind)| matches!(behind, Some('=' | '!')));
    let grouped = expression.split("by (").skip(1).flat_map(|rest| rest.split(')').next().unwrap().split(", "));
    let selected = selected
        .map(|(word, _)| &word[..])
        .filter(|word| !word.starts_with(|c: char| c.is_ascii_digit()) && !is_metric(word));
    for label in selected.chain(grouped) {
        assert!(labels.contains(label), "{expression} asks for the label {label}, which its metrics do not have");
    }
}

fn promtool(args: &[&str]) {
    let output = Command::new("promtool").current_dir(repository::root()).args(args).output();
    let Ok(output) = output else {
        eprintln!("SKIPPED: there is no promtool (Debian: prometheus), so that nothing has looked at {args:?}");
        return;
    };
    let told = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    assert!(output.status.success(), "promtool {args:?}: {told}");
}

#[test]
fn the_dashboard_is_that_of_its_table() {
    assert!(read(FILE) == text(), "{FILE} is not what its table says: `cargo xtask dashboard` writes it");
}

#[test]
fn panels_ask_for_metrics_that_there_are() {
    let known = known();
    let mut rules = String::from("groups:\n- name: panels\n  rules:\n");
    let queries = ROWS.iter().flat_map(|(_, row)| *row).flat_map(|panel| panel.queries);
    for (number, (expression, _)) in queries.enumerate() {
        let expression = filled(expression, "job=\"fanfare\",instance=~\"a|b\"", "5m").replace("$quantile", "0.99");
        check(&known, &expression);
        rules.push_str(&format!("  - record: panel:{number}\n    expr: |-\n      {expression}\n"));
    }
    let file = repository::scratch("panels").unwrap().join("panels.rules.yml");
    std::fs::write(&file, rules).unwrap();
    promtool(&["check", "rules", file.to_str().unwrap()]);
}

#[test]
fn alerts_ask_for_metrics_that_there_are_and_lead_to_the_runbook() {
    let (known, rules, runbook, tests) = (known(), read(RULES), read(RUNBOOK), read(RULE_TESTS));
    let values = |key: &str| -> Vec<String> {
        let start = format!("{key}: ");
        let lines = rules.lines().map(|line| line.trim_start().trim_start_matches("- "));
        lines.filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect()
    };
    let (alerts, expressions, pages) = (values("alert"), values("expr"), values("runbook_url"));
    assert!(alerts.len() >= 17 && alerts.len() == expressions.len() && alerts.len() == pages.len(), "{alerts:?}");
    for ((alert, expression), page) in alerts.iter().zip(&expressions).zip(&pages) {
        check(&known, expression);
        let (file, heading) = page.split_once('#').unwrap();
        assert!(file.ends_with(RUNBOOK), "{alert}: {page}");
        assert!(
            runbook.lines().any(|line| anchor(line).as_deref() == Some(heading)),
            "{RUNBOOK} has no heading for {alert}"
        );
        assert!(tests.contains(&format!("alertname=\"{alert}\"")), "{RULE_TESTS} does not show when {alert} fires");
    }
    promtool(&["check", "rules", RULES]);
    promtool(&["test", "rules", RULE_TESTS]);
}

#[test]
fn an_expression_for_what_is_not_there_is_found() {
    let known = known();
    check(&known, "sum by (channel) (rate(fanfare_joins_total{job=\"a\",result=\"ok\"}[5m])) > 0");
    for wrong in [
        "fanfare_joins{job=\"a\"}",
        "fanfare_join_seconds{job=\"a\"}",
        "sum by (topic) (fanfare_members)",
        "fanfare_members{user=\"x\"}",
        "1 + 1",
    ] {
        assert!(std::panic::catch_unwind(|| check(&known, wrong)).is_err(), "{wrong}");
    }
}
