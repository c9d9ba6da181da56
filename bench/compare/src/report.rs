//! What has been measured, as tables and plots: on the terminal, in a folder, in the page of the repository.

use std::collections::BTreeMap;
use std::path::Path;

use crate::history::History;
use crate::machine;
use crate::page;
use crate::plot::{self, Bar};
use crate::ratio::{self, Spread};
use crate::scenario::Scenario;
use crate::server::{CEILING, FANFARE, FANFARE_2, Role, Server};
use crate::table::{self, Row};

/// The page, and the folder beside it for its plots.
const PAGE: &str = "docs/performance.md";
const PLOTS: &str = "docs/performance";

pub(crate) struct Report {
    machine: String,
    sections: Vec<Section>,
    /// What went wrong, in sentences.
    faults: Vec<Fault>,
}

/// One scenario.
struct Section {
    scenario: &'static Scenario,
    lines: Vec<Line>,
}

/// One server in it.
struct Line {
    name: String,
    role: Role,
    row: Row,
}

struct Fault {
    group: &'static str,
    is_ours: bool,
    text: String,
}

impl Report {
    pub(crate) fn new(scenarios: &[&'static Scenario], servers: &[Server], history: &History) -> Self {
        let mut report = Self { machine: String::new(), sections: Vec::new(), faults: Vec::new() };
        let (mut rounds, mut repeats) = (0, 0);
        for scenario in scenarios {
            let mut lines = Vec::new();
            for server in servers {
                for record in history.of(scenario.name, &server.name) {
                    rounds = rounds.max(record.round);
                    repeats += record.repeats;
                }
                report.faults.extend(fault(scenario, server, history));
                lines.extend(line(scenario, server, history));
            }
            if !lines.is_empty() {
                report.sections.push(Section { scenario, lines });
            }
        }
        report.machine = machine::paragraph(&history.machine, rounds, repeats);
        report
    }

    /// Whether every run of Fanfare, of the ceiling and of the user's own servers has succeeded without a loss.
    pub(crate) fn is_clean(&self) -> bool {
        !self.faults.iter().any(|fault| fault.is_ours)
    }

    pub(crate) fn print(&self) {
        println!("\n{}\n", self.machine);
        for section in &self.sections {
            println!("{}\n\n{}", section.scenario.title, section.table());
        }
        println!("{}", self.summary());
        self.faults.iter().for_each(|fault| println!("{}", fault.text));
    }

    /// A page of its own, with its plots beside it.
    pub(crate) fn write(&self, dir: &Path) -> Result<(), String> {
        let mut text = format!("# Comparison\n\n{}\n\n{}", self.machine, self.summary());
        for section in &self.sections {
            text += &format!("\n{}", section.markdown(""));
        }
        for fault in &self.faults {
            text += &format!("\n{}\n", fault.text);
        }
        write(&dir.join("report.md"), &text)?;
        self.write_plots(dir)
    }

    /// The blocks of the repository's page for which there is something, and its plots.
    pub(crate) fn write_docs(&self, root: &Path) -> Result<(), String> {
        let file = root.join(PAGE);
        let mut text = std::fs::read_to_string(&file).map_err(|e| format!("cannot read {PAGE}: {e}"))?;
        let folder =
            Path::new(PLOTS).file_name().map(|name| format!("{}/", name.to_string_lossy())).unwrap_or_default();
        let mut blocks: BTreeMap<&str, String> = BTreeMap::new();
        for section in &self.sections {
            *blocks.entry(section.scenario.group).or_default() += &format!("\n{}", section.markdown(&folder));
        }
        for fault in &self.faults {
            *blocks.entry(fault.group).or_default() += &format!("\n{}\n", fault.text);
        }
        blocks.insert("machine", self.machine.clone());
        blocks.insert("summary", self.summary());
        for (name, block) in blocks {
            text = page::replace(&text, name, block.trim_start()).map_err(|e| format!("{PAGE}: {e}"))?;
        }
        write(&file, &text)?;
        self.write_plots(&root.join(PLOTS))
    }

    fn write_plots(&self, dir: &Path) -> Result<(), String> {
        for section in &self.sections {
            write(&dir.join(section.plot_name()), &section.plot())?;
        }
        Ok(())
    }

    /// For each scenario Fanfare's figure, and that of the best other server.
    fn summary(&self) -> String {
        let header = ["", "Fanfare", "two shards", "bar", "best of the others"].map(str::to_owned);
        let rows = self.sections.iter().map(|section| {
            let better = if section.scenario.figures[0].more_is_better { "" } else { " (less is better)" };
            let best = section.best_peer();
            vec![
                format!("{}{better}", section.scenario.title),
                section.cell(section.lines.iter().find(|line| line.name == FANFARE || section.lines.len() == 1)),
                section.cell(section.lines.iter().find(|line| line.name == FANFARE_2)),
                if section.scenario.bar.is_empty() { "–" } else { section.scenario.bar }.to_owned(),
                best.map_or_else(|| "–".to_owned(), |best| format!("{} {}", section.cell(Some(best)), best.row.title)),
            ]
        });
        table::markdown(&header, rows)
    }
}

impl Section {
    fn table(&self) -> String {
        let rows: Vec<&Row> = self.lines.iter().map(|line| &line.row).collect();
        table::scenario(self.scenario.figures, &rows)
    }

    fn markdown(&self, plots: &str) -> String {
        let title = self.scenario.title;
        format!("### {title}\n![{title}]({plots}{})\n\n{}", self.plot_name(), self.table())
    }

    fn plot_name(&self) -> String {
        format!("{}.svg", self.scenario.name)
    }

    fn plot(&self) -> String {
        let figure = &self.scenario.figures[0];
        let bars = self.lines.iter().filter_map(|line| {
            let value = line.row.values[0]?;
            let ratio = line.row.ratio.map(|ratio| format!(" ({:.2})", ratio.median)).unwrap_or_default();
            let text = format!("{}{ratio}", table::figure_cell(figure, value.median));
            Some(Bar { label: line.row.title.replace(['*', '`'], ""), role: line.role, value, text })
        });
        plot::svg(&format!("{}: {}, {}", self.scenario.title, figure.title, figure.unit), &bars.collect::<Vec<_>>())
    }

    /// The ratio to the ceiling if there is one, otherwise the figure itself.
    fn cell(&self, line: Option<&Line>) -> String {
        let figure = &self.scenario.figures[0];
        let Some(line) = line else { return "–".to_owned() };
        match (line.row.ratio, line.row.values[0]) {
            (Some(ratio), _) => table::ratio_cell(ratio),
            (None, Some(value)) => format!("{} {}", table::figure_cell(figure, value.median), figure.unit),
            (None, None) => "–".to_owned(),
        }
    }

    fn best_peer(&self) -> Option<&Line> {
        let of = |line: &&Line| line.row.values[0].map_or(f64::NAN, |value| value.median);
        let peers = self.lines.iter().filter(|line| matches!(line.role, Role::Peer | Role::Guest));
        let peers = peers.filter(|line| line.row.values[0].is_some());
        if self.scenario.figures[0].more_is_better {
            peers.max_by(|a, b| of(a).total_cmp(&of(b)))
        } else {
            peers.min_by(|a, b| of(a).total_cmp(&of(b)))
        }
    }
}

/// `None` for a server that did not take part.
fn line(scenario: &Scenario, server: &Server, history: &History) -> Option<Line> {
    history.of(scenario.name, &server.name).next()?;
    let figures = |name: &str, pointer: &str| history.figures(scenario.name, name, pointer);
    let values: Vec<Option<Spread>> =
        scenario.figures.iter().map(|f| ratio::spread(figures(&server.name, f.pointer).into_values())).collect();
    let first = &scenario.figures[0];
    let own = figures(&server.name, first.pointer);
    let to_ceiling = ratio::ratios(&own, &figures(CEILING, first.pointer));
    let ratio = if first.compares { ratio::spread(to_ceiling) } else { None };
    let row = Row { title: server.title.to_string(), values, ratio, rounds: own.len() };
    Some(Line { name: server.name.to_string(), role: server.role, row })
}

/// What was lost, doubled or swapped in all rounds together, and the runs that failed for good.
fn fault(scenario: &Scenario, server: &Server, history: &History) -> Option<Fault> {
    let mut counts = [("lost", 0), ("duplicated", 0), ("reordered", 0)];
    let mut failures = BTreeMap::new();
    for record in history.of(scenario.name, &server.name) {
        match &record.outcome {
            Ok(report) => {
                failures.remove(&record.round);
                counts.iter_mut().for_each(|(key, count)| *count += report[*key].as_u64().unwrap_or_default());
            }
            Err(message) => drop(failures.insert(record.round, message)),
        }
    }
    let mut wrong: Vec<String> = counts.iter().filter(|(_, n)| *n > 0).map(|(key, n)| format!("{n} {key}")).collect();
    wrong.extend(failures.iter().map(|(round, message)| format!("round {round} failed: {message}")));
    let text = format!("{} in {}: {}.", server.title, scenario.title, wrong.join("; "));
    (!wrong.is_empty()).then_some(Fault { group: scenario.group, is_ours: server.role != Role::Peer, text })
}

fn write(file: &Path, text: &str) -> Result<(), String> {
    let dir = file.parent().unwrap_or(Path::new("."));
    let written = std::fs::create_dir_all(dir).and_then(|()| std::fs::write(file, text));
    written.map_err(|e| format!("cannot write {}: {e}", file.display()))
}
