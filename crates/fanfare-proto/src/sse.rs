//! Server-sent events as they go on the wire (HTML, section "Server-sent events").

use std::io::Write as _;

use crate::frame::in_message;
use crate::payload::Payload;
use crate::position::Position;

/// A comment: nothing for the client's code, a sign of life for the client and what is between.
pub const HEARTBEAT: &[u8] = b":\n\n";

/// Appends a message: its position as the id, its event as the name, its payload as the data.
pub fn event(event: &str, payload: &Payload, position: Option<Position>, out: &mut Vec<u8>) {
    if let Some(position) = position {
        writeln!(out, "id: {position}").expect("writing to memory does not fail");
    }
    name(event, out);
    message(payload, out);
}

/// Appends an event without its data, and says where in `out` that belongs, if it is one line.
pub(crate) fn event_around(event: &str, out: &mut Vec<u8>) -> usize {
    name(event, out);
    out.extend_from_slice(b"data: ");
    let data_at = out.len();
    out.extend_from_slice(b"\n\n");
    data_at
}

fn name(event: &str, out: &mut Vec<u8>) {
    out.extend_from_slice(b"event: ");
    // A name is one line.
    out.extend(event.bytes().map(|byte| if matches!(byte, b'\r' | b'\n') { b' ' } else { byte }));
    out.push(b'\n');
}

/// Appends a payload as an event without name and id.
pub fn message(payload: &Payload, out: &mut Vec<u8>) {
    let mut text = Vec::new();
    let text = match payload {
        Payload::Json(json) => json.as_str(),
        Payload::Text(text) => text.as_str(),
        Payload::Binary(_) => {
            in_message(payload, &mut text);
            std::str::from_utf8(&text).expect("base64 is text")
        }
    };
    data(text, out);
}

/// Appends a text as an event without name and id. A line break of any kind in the text, a lone CR too, begins another `data` line: a
/// reader would take it for the end of the field, and what follows for a field of its own.
pub fn data(text: &str, out: &mut Vec<u8>) {
    let mut rest = text;
    loop {
        let end = rest.find(['\r', '\n']).unwrap_or(rest.len());
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest.as_bytes()[..end]);
        out.push(b'\n');
        rest = match &rest[end..] {
            "" => break,
            tail => tail.strip_prefix("\r\n").unwrap_or(&tail[1..]),
        };
    }
    out.push(b'\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_breaks_out_of_its_event() {
        for (text, expected) in [
            ("a", "data: a\n\n"),
            ("", "data: \n\n"),
            ("a\nb", "data: a\ndata: b\n\n"),
            ("a\r\nb", "data: a\ndata: b\n\n"),
            ("a\rb", "data: a\ndata: b\n\n"),
            ("a\n\revent: x", "data: a\ndata: \ndata: event: x\n\n"),
            ("a\n", "data: a\ndata: \n\n"),
            (" é", "data:  é\n\n"),
        ] {
            let mut out = Vec::new();
            data(text, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), expected, "{text:?}");
        }
    }

    #[test]
    fn no_event_breaks_out_of_its_name() {
        for (name, line) in [("a", "a"), ("a\rdata: x", "a data: x"), ("a\r\nid: 1", "a  id: 1"), ("\n", " ")] {
            let mut out = Vec::new();
            event(name, &Payload::default(), None, &mut out);
            assert_eq!(String::from_utf8(out).unwrap(), format!("event: {line}\ndata: {{}}\n\n"));
        }
    }
}
