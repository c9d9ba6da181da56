//! `fanfare top` on a terminal that somebody types at: a table that is painted again, and three keys.
//!
//! The terminal gives each key at once and shows none. It is as it was before, whatever ends the command.

use std::io::{IsTerminal, Write};

use crossterm::terminal;
use tokio::io::{AsyncReadExt, Stdin};
use tokio::signal::unix::{SignalKind, signal};

use super::super::api::Api;
use super::super::escape::plain;
use super::super::place::Place;
use super::{CLEAR, Told, View};
use crate::cli::client::Top;
use crate::terminal::print;

/// Another screen, without a cursor; and back to what stood there.
const ENTER: &str = "\x1b[?1049h\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?1049l";

/// A filter is no longer than the longest name.
const FILTER_SIZE_MAX: usize = 255;

/// So many lines has a terminal that says it has none.
const LINES_UNKNOWN: u16 = 24;

/// Whether keys can be read.
pub(super) fn is_typed_at() -> bool {
    std::io::stdin().is_terminal()
}

/// A terminal in use.
struct Screen;

impl Screen {
    fn enter() -> Result<Self, String> {
        terminal::enable_raw_mode().map_err(|error| format!("cannot read keys from this terminal: {error}"))?;
        let screen = Self;
        print(ENTER)?;
        Ok(screen)
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        // Nobody is left to be told of a failure.
        let mut output = std::io::stdout().lock();
        let _ = output.write_all(LEAVE.as_bytes()).and_then(|()| output.flush());
        let _ = terminal::disable_raw_mode();
    }
}

/// What a key comes to.
#[derive(Debug, PartialEq, Eq)]
enum Act {
    /// Another question is asked.
    Ask,
    /// The screen is painted again.
    Paint,
    Quit,
}

pub(super) async fn run(asked: &Top, place: &Place, api: &Api, view: &mut View) -> Result<(), String> {
    let failed = |error| format!("cannot wait for signals: {error}");
    let mut ends = signal(SignalKind::terminate()).map_err(failed)?;
    let mut hangs_up = signal(SignalKind::hangup()).map_err(failed)?;
    let _screen = Screen::enter()?;
    let (mut keys, mut buffer) = (tokio::io::stdin(), [0; 64]);
    let (mut typed, mut latest) = (None, Told::default());
    paint(view, typed.as_deref(), &latest, place)?;
    loop {
        let question = view.clone();
        let answer = question.ask(api, asked);
        tokio::pin!(answer);
        loop {
            let act = tokio::select! {
                read = read(&mut keys, &mut buffer) => press(read?, view, &mut typed),
                told = &mut answer => {
                    latest = told?;
                    Act::Ask
                }
                _ = ends.recv() => Act::Quit,
                _ = hangs_up.recv() => Act::Quit,
            };
            if act == Act::Quit {
                return Ok(());
            }
            paint(view, typed.as_deref(), &latest, place)?;
            if act == Act::Ask {
                break;
            }
        }
    }
}

/// The next keys; none at the end.
async fn read<'b>(keys: &mut Stdin, buffer: &'b mut [u8]) -> Result<&'b [u8], String> {
    let size = keys.read(buffer).await.map_err(|error| format!("cannot read keys: {error}"))?;
    Ok(&buffer[..size])
}

/// Does what keys say. `typed` is a filter that is being typed.
fn press(keys: &[u8], view: &mut View, typed: &mut Option<String>) -> Act {
    let mut act = if keys.is_empty() { Act::Quit } else { Act::Paint };
    // An arrow and the like begin with what Escape is alone: they mean nothing here.
    let is_sequence = keys.len() > 1 && keys[0] == 0x1b;
    let text = if is_sequence { "".into() } else { String::from_utf8_lossy(keys) };
    for key in text.chars() {
        match (key, typed.as_mut()) {
            // Control-C.
            ('\x03', _) => return Act::Quit,
            ('\x1b', _) => *typed = None,
            ('\r' | '\n', Some(filter)) => {
                view.filter = std::mem::take(filter);
                *typed = None;
                act = Act::Ask;
            }
            ('\x7f' | '\x08', Some(filter)) => drop(filter.pop()),
            (key, Some(filter)) if !key.is_control() && filter.len() + key.len_utf8() <= FILTER_SIZE_MAX => {
                filter.push(key)
            }
            ('q', None) => return Act::Quit,
            ('/', None) => *typed = Some(String::new()),
            ('s', None) => {
                let columns = view.by.columns();
                let at = columns.iter().position(|column| *column == view.column).unwrap_or_default();
                view.column = columns[(at + 1) % columns.len()];
                act = Act::Ask;
            }
            _ => {}
        }
    }
    act
}

fn paint(view: &View, typed: Option<&str>, told: &Told, place: &Place) -> Result<(), String> {
    let filter = match typed {
        Some(filter) => format!("  filter: {}_  (Enter: take it, Escape: leave it)", plain(filter)),
        None if view.filter.is_empty() => String::new(),
        None => format!("  filter: {}", plain(&view.filter)),
    };
    let head = format!("{} by {}{filter}  [s: sort, /: filter, q: quit]", view.by.name(), view.column.name());
    let (columns, lines) = terminal::size().unwrap_or_default();
    let lines = if lines == 0 { LINES_UNKNOWN } else { lines };
    let table = view.table(&told.rows, place);
    // A line that is too long would take two.
    let node: String = told.head().chars().take(if columns == 0 { usize::MAX } else { columns.into() }).collect();
    let shown = [&*node, &head].into_iter().chain(table.lines()).take(usize::from(lines).saturating_sub(1));
    // Without the terminal's own doing a new line begins where the last one has ended.
    print(&format!("{CLEAR}{}\r\n", shown.collect::<Vec<_>>().join("\r\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ranking::{By, Column};

    #[test]
    fn keys_sort_filter_and_quit() {
        let start = || View { by: By::Channels, column: Column::Members, filter: "x".into() };
        #[track_caller]
        fn check(mut view: View, keys: &[&[u8]], acts: &[Act], expected: (Column, &str, Option<&str>)) {
            let mut typed = None;
            let done: Vec<_> = keys.iter().map(|keys| press(keys, &mut view, &mut typed)).collect();
            assert_eq!(done, acts, "{keys:?}");
            assert_eq!((view.column, &*view.filter, typed.as_deref()), expected, "{keys:?}");
        }
        check(start(), &[b"s"], &[Act::Ask], (Column::Delivered, "x", None));
        check(start(), &[b"ss"], &[Act::Ask], (Column::Name, "x", None));
        check(
            start(),
            &[b"/", b"sq\xc3\xa9", b"\x7f"],
            &[Act::Paint, Act::Paint, Act::Paint],
            (Column::Members, "x", Some("sq")),
        );
        check(start(), &[b"/ab\r"], &[Act::Ask], (Column::Members, "ab", None));
        check(start(), &[b"/\r"], &[Act::Ask], (Column::Members, "", None));
        check(start(), &[b"/ab", b"\x1b"], &[Act::Paint, Act::Paint], (Column::Members, "x", None));
        check(
            start(),
            &[b"/a", b"\x1b[A", b"\t"],
            &[Act::Paint, Act::Paint, Act::Paint],
            (Column::Members, "x", Some("a")),
        );
        check(start(), &["y".as_bytes(), b"q"], &[Act::Paint, Act::Quit], (Column::Members, "x", None));
        check(start(), &[b"/\x03"], &[Act::Quit], (Column::Members, "x", Some("")));
        check(start(), &[b""], &[Act::Quit], (Column::Members, "x", None));
        let long = ["/".as_bytes(), "é".repeat(200).as_bytes()].concat();
        check(start(), &[&long], &[Act::Paint], (Column::Members, "x", Some(&"é".repeat(127))));
    }
}
