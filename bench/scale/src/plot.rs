//! What was measured, drawn: cost of a socket over their number, both logarithmic, so that what is linear lies flat.

use std::fmt::Write as _;

use crate::measure::{Layout, Measured};
use crate::report::{FIGURES, Figure};

const PANEL_WIDTH: f64 = 500.0;
const HEIGHT: f64 = 420.0;
const LEFT: f64 = 60.0;
const TOP: f64 = 44.0;
const PLOT_WIDTH: f64 = 270.0;
const PLOT_HEIGHT: f64 = 320.0;
/// The lines' names do not stand closer than this.
const NAME_HEIGHT: f64 = 14.0;

/// Readable on white and on black.
const COLOURS: [&str; 7] = ["#0969da", "#bf8700", "#8250df", "#1a7f37", "#6e7781", "#cf222e", "#bc4c8c"];

/// A whole SVG file: a panel for each layout, a line for each figure; times above, memory below.
pub(crate) fn svg(measured: &[Measured]) -> String {
    let (width, height) = (2.0 * PANEL_WIDTH, 2.0 * HEIGHT);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{width}\" height=\"{height}\" viewBox=\"0 0 {width} {height}\">\
         <style>text{{font:12px system-ui,sans-serif;fill:#808890}}.title{{font-weight:600}}\
         line{{stroke:#808890;stroke-opacity:.35}}</style>\n"
    );
    for (row, unit) in ["ns", "bytes"].into_iter().enumerate() {
        let _ = writeln!(out, "<g transform=\"translate(0,{})\">", row as f64 * HEIGHT);
        panels(&mut out, unit, measured);
        out.push_str("</g>\n");
    }
    out.push_str("</svg>\n");
    out
}

/// The figures of one unit, a panel for each layout.
fn panels(out: &mut String, unit: &str, measured: &[Measured]) {
    let figures: Vec<&Figure> = FIGURES.iter().filter(|figure| figure.unit == unit).collect();
    let values = || measured.iter().flat_map(|measured| figures.iter().map(|figure| (figure.of)(measured)));
    let y = Axis::around(values());
    let x = Axis::around(measured.iter().map(|measured| measured.sockets as f64));
    for (number, layout) in [Layout::OneTopic, Layout::ManyTopics].into_iter().enumerate() {
        let points: Vec<&Measured> = measured.iter().filter(|measured| measured.layout == layout).collect();
        let _ = writeln!(out, "<g transform=\"translate({},0)\">", number as f64 * PANEL_WIDTH);
        grid(out, unit, layout, &x, &y);
        let mut ends: Vec<End> = figures
            .iter()
            .zip(COLOURS)
            .filter_map(|(figure, colour)| line(out, figure, colour, &points, &x, &y))
            .collect();
        names(out, &mut ends);
        out.push_str("</g>\n");
    }
}

/// Whole decades around some values.
struct Axis {
    from: f64,
    to: f64,
}

impl Axis {
    fn around(values: impl Iterator<Item = f64>) -> Self {
        let (min, max) = values.fold((f64::MAX, 1.0_f64), |(min, max), value| (min.min(value), max.max(value)));
        let from = min.max(1.0).log10().floor();
        Axis { from, to: max.log10().ceil().max(from + 1.0) }
    }

    /// Where a value lies, from 0 to 1.
    fn at(&self, value: f64) -> f64 {
        (value.max(1.0).log10() - self.from) / (self.to - self.from)
    }

    fn decades(&self) -> impl Iterator<Item = f64> {
        (self.from as i32..=self.to as i32).map(|exponent| 10_f64.powi(exponent))
    }
}

fn grid(out: &mut String, unit: &str, layout: Layout, x: &Axis, y: &Axis) {
    let (right, bottom) = (LEFT + PLOT_WIDTH, TOP + PLOT_HEIGHT);
    let _ = writeln!(out, "<text class=\"title\" x=\"{LEFT}\" y=\"18\">{unit} for a socket, {}</text>", layout.title());
    for value in y.decades() {
        let at = bottom - y.at(value) * PLOT_HEIGHT;
        let _ = writeln!(
            out,
            "<line x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
             <text x=\"{}\" y=\"{:.1}\" text-anchor=\"end\">{value}</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for value in x.decades() {
        let at = LEFT + x.at(value) * PLOT_WIDTH;
        let _ = writeln!(
            out,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
             <text x=\"{at:.1}\" y=\"{}\" text-anchor=\"middle\">{value}</text>",
            bottom + 18.0
        );
    }
    let middle = LEFT + PLOT_WIDTH / 2.0;
    let _ = writeln!(out, "<text x=\"{middle}\" y=\"{}\" text-anchor=\"middle\">sockets</text>", bottom + 38.0);
}

/// Where a line ends, and its name shall stand.
struct End {
    down: f64,
    name: &'static str,
    colour: &'static str,
}

fn line(
    out: &mut String,
    figure: &Figure,
    colour: &'static str,
    measured: &[&Measured],
    x: &Axis,
    y: &Axis,
) -> Option<End> {
    let right = |measured: &Measured| LEFT + x.at(measured.sockets as f64) * PLOT_WIDTH;
    let down = |measured: &Measured| TOP + PLOT_HEIGHT - y.at((figure.of)(measured)) * PLOT_HEIGHT;
    let points: Vec<String> = measured.iter().map(|m| format!("{:.1},{:.1}", right(m), down(m))).collect();
    let _ = writeln!(
        out,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
        points.join(" ")
    );
    measured.last().map(|measured| End { down: down(measured), name: figure.name, colour })
}

/// Beside the ends of their lines, moved down where they would cover each other.
fn names(out: &mut String, ends: &mut [End]) {
    ends.sort_by(|one, other| one.down.total_cmp(&other.down));
    let mut free = f64::MIN;
    for End { down, name, colour } in ends {
        free = down.max(free) + NAME_HEIGHT;
        let (right, base) = (LEFT + PLOT_WIDTH + 6.0, free - NAME_HEIGHT + 4.0);
        let _ = writeln!(out, "<text x=\"{right:.1}\" y=\"{base:.1}\" style=\"fill:{colour}\">{name}</text>");
    }
}
