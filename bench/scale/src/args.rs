//! The command line.

use crate::measure::Layout;

const USAGE: &str = "\
usage: scale [--sockets N] [--json FILE] [--plot FILE.svg]

  --sockets N       the largest number of sockets, 10000 at least; default 1000000, which takes 0.7 GB and some minutes
  --json FILE       writes what was measured
  --plot FILE.svg   draws it";

/// What is asked for.
#[derive(Debug, PartialEq)]
pub(crate) enum Args {
    All {
        sockets: usize,
        json: Option<String>,
        plot: Option<String>,
    },
    /// One measurement in this process: how the program calls itself.
    One(Layout, usize),
}

impl Args {
    pub(crate) fn parse(mut args: impl Iterator<Item = String>) -> Result<Self, String> {
        let (mut sockets, mut json, mut plot) = (1_000_000, None, None);
        while let Some(arg) = args.next() {
            let mut value = || args.next().ok_or_else(|| format!("{arg} needs a value\n\n{USAGE}"));
            match arg.as_str() {
                "--sockets" => sockets = number(&value()?)?,
                "--json" => json = Some(value()?),
                "--plot" => plot = Some(value()?),
                "--one" => {
                    let layout = Layout::named(&value()?).ok_or(USAGE)?;
                    return Ok(Args::One(layout, number(&value()?)?));
                }
                _ => return Err(format!("unknown argument {arg:?}\n\n{USAGE}")),
            }
        }
        if sockets < 10_000 {
            return Err(format!("{sockets} sockets say nothing about growth: use 10000 at least"));
        }
        Ok(Args::All { sockets, json, plot })
    }
}

fn number(text: &str) -> Result<usize, String> {
    text.parse().map_err(|_| format!("{text:?} is no number of sockets\n\n{USAGE}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_understood_or_named() {
        let parse = |line: &str| Args::parse(line.split_whitespace().map(str::to_owned));
        let all = |sockets, json: Option<&str>, plot: Option<&str>| {
            Ok(Args::All { sockets, json: json.map(str::to_owned), plot: plot.map(str::to_owned) })
        };
        assert_eq!(parse(""), all(1_000_000, None, None));
        assert_eq!(parse("--sockets 10000 --json a --plot b"), all(10_000, Some("a"), Some("b")));
        assert_eq!(parse("--one many-topics 5"), Ok(Args::One(Layout::ManyTopics, 5)));
        for (line, named) in
            [("--sockets", "--sockets"), ("--sockets x", "\"x\""), ("--sockets 9", "10000"), ("y", "\"y\"")]
        {
            assert!(parse(line).unwrap_err().contains(named), "{line}");
        }
    }
}
