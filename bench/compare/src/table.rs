//! Tables in Markdown.

use crate::ratio::Spread;
use crate::scenario::Figure;

/// One server of a scenario's table.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) title: String,
    /// Of each of the scenario's figures.
    pub(crate) values: Vec<Option<Spread>>,
    /// The first figure's to the ceiling.
    pub(crate) ratio: Option<Spread>,
    pub(crate) rounds: usize,
}

/// The table of one scenario.
pub(crate) fn scenario(figures: &[Figure], rows: &[&Row]) -> String {
    let has_ratio = figures[0].compares && rows.iter().any(|row| row.ratio.is_some());
    let mut header = vec![String::new()];
    for (at, figure) in figures.iter().enumerate() {
        header.push(format!("{}, {}", figure.title, figure.unit));
        if at == 0 && has_ratio {
            header.push("to the ceiling (smallest to largest)".to_owned());
        }
    }
    header.push("rounds".to_owned());
    let body = rows.iter().map(|row| {
        let mut cells = vec![row.title.clone()];
        for (at, (figure, value)) in figures.iter().zip(&row.values).enumerate() {
            cells.push(value.map_or_else(|| "–".to_owned(), |spread| figure_cell(figure, spread.median)));
            if at == 0 && has_ratio {
                cells.push(row.ratio.map_or_else(|| "–".to_owned(), ratio_cell));
            }
        }
        cells.push(row.rounds.to_string());
        cells
    });
    markdown(&header, body)
}

/// A table of cells. The first column is text, the others are figures.
pub(crate) fn markdown(header: &[String], rows: impl Iterator<Item = Vec<String>>) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let mut table = line(header);
    table += &format!("|---|{}\n", "--:|".repeat(header.len() - 1));
    rows.for_each(|row| table += &line(&row));
    table
}

pub(crate) fn figure_cell(figure: &Figure, value: f64) -> String {
    grouped(value * figure.scale, figure.decimals)
}

pub(crate) fn ratio_cell(spread: Spread) -> String {
    let Spread { median, min, max } = spread;
    if min == max { format!("{median:.2}") } else { format!("{median:.2} ({min:.2} to {max:.2})") }
}

/// With a comma after each three digits.
fn grouped(value: f64, decimals: usize) -> String {
    let text = format!("{value:.decimals$}");
    let (whole, fraction) =
        text.split_once('.').map_or((text.as_str(), ""), |(whole, _)| (whole, &text[whole.len()..]));
    let (sign, digits) = whole.strip_prefix('-').map_or(("", whole), |digits| ("-", digits));
    let mut out = sign.to_owned();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out + fraction
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_grouped() {
        for (value, decimals, text) in [
            (0.0, 0, "0"),
            (999.4, 0, "999"),
            (1000.0, 0, "1,000"),
            (-1234567.0, 0, "-1,234,567"),
            (1234.567, 2, "1,234.57"),
            (-12.0, 1, "-12.0"),
        ] {
            assert_eq!(grouped(value, decimals), text);
        }
    }

    #[test]
    fn table_of_a_scenario() {
        let figure = |title, compares| Figure {
            pointer: "",
            title,
            unit: "k",
            scale: 1e-3,
            decimals: 0,
            more_is_better: true,
            compares,
        };
        let spread = |min: f64, max: f64| Some(Spread { median: (min + max) / 2.0, min, max });
        let rows = [
            Row { title: "c".into(), values: vec![spread(9e3, 9e3), None], ratio: spread(1.0, 1.0), rounds: 1 },
            Row {
                title: "f".into(),
                values: vec![spread(5e6, 7e6), spread(1e3, 1e3)],
                ratio: spread(0.5, 1.5),
                rounds: 2,
            },
            Row { title: "x".into(), values: vec![None, None], ratio: None, rounds: 0 },
        ];
        assert_eq!(
            scenario(&[figure("a", true), figure("b", true)], &rows.each_ref()),
            "|  | a, k | to the ceiling (smallest to largest) | b, k | rounds |\n|---|--:|--:|--:|--:|\n\
             | c | 9 | 1.00 | – | 1 |\n| f | 6,000 | 1.00 (0.50 to 1.50) | 1 | 2 |\n| x | – | – | – | 0 |\n"
        );
        let plain = scenario(&[figure("a", false)], &[&Row { values: vec![spread(9e3, 9e3)], ..row() }]);
        assert_eq!(plain, "|  | a, k | rounds |\n|---|--:|--:|\n| c | 9 | 1 |\n");
        fn row() -> Row {
            Row { title: "c".into(), values: Vec::new(), ratio: None, rounds: 1 }
        }
    }
}
