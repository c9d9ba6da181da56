//! Plots in SVG: a bar for each server, as long as its median, with a line from the smallest to the largest round.
//!
//! The colours follow the reader's: the style in the picture asks whether the page is dark.

use std::fmt::Write as _;

use crate::ratio::Spread;
use crate::server::Role;

/// One bar.
#[derive(Debug)]
pub(crate) struct Bar {
    pub(crate) label: String,
    pub(crate) role: Role,
    pub(crate) value: Spread,
    /// What stands behind the bar.
    pub(crate) text: String,
}

const WIDTH: f64 = 760.0;
const LABELS_WIDTH: f64 = 220.0;
/// Room behind the longest bar for its text.
const TEXT_WIDTH: f64 = 150.0;
const TOP: f64 = 34.0;
const ROW: f64 = 24.0;
const BAR: f64 = 14.0;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600}.value{fill:#59636e}\
.ceiling{fill:#9aa4af}.fanfare{fill:#0969da}.peer{fill:#bf8700}.guest{fill:#8250df}\
.spread{stroke:#1f2328;stroke-width:1.5}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.value{fill:#9198a1}.ceiling{fill:#656c76}.fanfare{fill:#4493f8}\
.peer{fill:#d29922}.guest{fill:#ab7df8}.spread{stroke:#f0f6fc}}";

/// A whole SVG file.
pub(crate) fn svg(title: &str, bars: &[Bar]) -> String {
    let height = TOP + ROW * bars.len() as f64 + 6.0;
    let longest = bars.iter().map(|bar| bar.value.max).fold(f64::MIN_POSITIVE, f64::max);
    let scale = (WIDTH - LABELS_WIDTH - TEXT_WIDTH) / longest;
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         role=\"img\">\n<title>{0}</title>\n<style>{STYLE}</style>\n<text class=\"title\" x=\"4\" y=\"18\">{0}</text>\n",
        escaped(title)
    );
    for (at, bar) in bars.iter().enumerate() {
        draw(bar, TOP + ROW * at as f64, scale, &mut out);
    }
    out + "</svg>\n"
}

fn draw(bar: &Bar, top: f64, scale: f64, out: &mut String) {
    let class = match bar.role {
        Role::Ceiling => "ceiling",
        Role::Fanfare => "fanfare",
        Role::Peer => "peer",
        Role::Guest => "guest",
    };
    let at = |value: f64| LABELS_WIDTH + value.max(0.0) * scale;
    let Spread { median, min, max } = bar.value;
    let (middle, text_y) = (top + BAR / 2.0, top + BAR - 2.0);
    // Writing to a string cannot fail.
    let _ = writeln!(
        out,
        "<text x=\"{:.1}\" y=\"{text_y:.1}\" text-anchor=\"end\">{}</text>\
         <rect class=\"{class}\" x=\"{LABELS_WIDTH}\" y=\"{top:.1}\" width=\"{:.1}\" height=\"{BAR}\" rx=\"2\"/>",
        LABELS_WIDTH - 8.0,
        escaped(&bar.label),
        at(median) - LABELS_WIDTH
    );
    if min < max {
        let (left, right) = (at(min), at(max));
        let _ = writeln!(
            out,
            "<path class=\"spread\" d=\"M{left:.1} {middle:.1}H{right:.1}M{left:.1} {:.1}v8M{right:.1} {:.1}v8\"/>",
            middle - 4.0,
            middle - 4.0
        );
    }
    let _ = writeln!(
        out,
        "<text class=\"value\" x=\"{:.1}\" y=\"{text_y:.1}\">{}</text>",
        at(median.max(max)) + 8.0,
        escaped(&bar.text)
    );
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(median: f64, min: f64, max: f64) -> Bar {
        Bar { label: "a & b".into(), role: Role::Fanfare, value: Spread { median, min, max }, text: "x".into() }
    }

    #[test]
    fn bars_are_as_long_as_their_medians() {
        let svg = svg("t <1>", &[bar(50.0, 40.0, 100.0), bar(25.0, 25.0, 25.0), bar(-1.0, -1.0, -1.0)]);
        let full = WIDTH - LABELS_WIDTH - TEXT_WIDTH;
        for (part, count) in [
            (format!("width=\"{:.1}\"", full / 2.0), 1),
            (format!("width=\"{:.1}\"", full / 4.0), 1),
            ("width=\"0.0\"".to_owned(), 1),
            ("class=\"spread\"".to_owned(), 1),
            ("a &amp; b".to_owned(), 3),
            ("t &lt;1&gt;".to_owned(), 2),
        ] {
            assert_eq!(svg.matches(&part).count(), count, "{part} in {svg}");
        }
    }

    #[test]
    fn plot_without_bars_is_a_file() {
        assert!(svg("t", &[]).ends_with("</svg>\n"));
    }
}
