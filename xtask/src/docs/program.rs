//! Running a snippet and comparing what it prints with what the page says.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

/// How long a snippet may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a snippet. Without expected output it must end well; with it, it must print that, and is ended once it has:
/// a client stays connected for ever.
pub(super) fn run(command: &mut Command, expected: Option<&str>) -> Result<(), String> {
    let command = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot start: {e}"))?;
    let (sender, lines) = mpsc::channel();
    let stderr = sender.clone();
    let (out, err) = (child.stdout.take().expect("stdout is piped"), child.stderr.take().expect("stderr is piped"));
    std::thread::spawn(move || forward(out, &sender));
    std::thread::spawn(move || forward(err, &stderr));

    let mut printed = String::new();
    let deadline = Instant::now() + PATIENCE;
    let ended = loop {
        if expected.is_some_and(|expected| shows(&printed, expected)) {
            break Ok(());
        }
        match lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
            Ok(line) => printed += &(line + "\n"),
            Err(RecvTimeoutError::Timeout) => break Err(format!("not done after {PATIENCE:?}")),
            Err(RecvTimeoutError::Disconnected) => {
                let status = child.wait().map_err(|e| format!("cannot wait: {e}"))?;
                break match expected {
                    _ if !status.success() => Err(format!("ended with {status}")),
                    Some(expected) => Err(format!("did not print:\n{expected}")),
                    None => Ok(()),
                };
            }
        }
    };
    let _ = child.kill();
    let _ = child.wait();
    ended.map_err(|message| format!("{message}\nit printed:\n{printed}"))
}

fn forward(from: impl Read, to: &mpsc::Sender<String>) {
    for line in BufReader::new(from).lines().map_while(Result::ok) {
        let _ = to.send(line);
    }
}

/// Whether all of `expected` was printed: its lines in this order, other lines between them allowed, and `…` standing for
/// anything within a line.
fn shows(printed: &str, expected: &str) -> bool {
    let mut lines = printed.lines();
    expected.lines().filter(|line| !line.trim().is_empty()).all(|wanted| lines.any(|line| line_shows(line, wanted)))
}

fn line_shows(line: &str, wanted: &str) -> bool {
    let mut rest = line.trim();
    let mut parts = wanted.trim().split('…');
    let first = parts.next().unwrap_or_default();
    let Some(behind) = rest.strip_prefix(first) else {
        return false;
    };
    rest = behind;
    let mut parts = parts.peekable();
    let is_exact = parts.peek().is_none();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return rest.ends_with(part);
        }
        let Some(at) = rest.find(part) else { return false };
        rest = &rest[at + part.len()..];
    }
    is_exact && rest.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_is_compared_line_by_line() {
        for (printed, expected, same) in [
            ("a\nb\nc\n", "a\nc\n", true),
            ("a\nb\n", "b\na\n", false),
            ("at 12:30 hi\n", "at … hi", true),
            ("at 12:30 ho\n", "at … hi", false),
            ("ab\n", "a", false),
            ("ab\n", "a…", true),
            ("", "a", false),
        ] {
            assert_eq!(shows(printed, expected), same, "{printed:?} {expected:?}");
        }
    }

    #[test]
    fn snippet_must_end_well_or_print_what_is_expected() {
        let check = |script: &str, expected: Option<&str>| run(Command::new("sh").args(["-c", script]), expected);
        assert!(check("echo hi", None).is_ok());
        assert!(check("echo hi; exit 3", None).is_err());
        assert!(check("echo hi; sleep 60", Some("hi")).is_ok());
        assert!(check("echo hi", Some("ho")).is_err());
    }
}
