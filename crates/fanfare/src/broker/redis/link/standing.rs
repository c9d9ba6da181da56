//! How a server stands: what is asked of it at the beginning of a connection and every few seconds, and what the answers mean.

use std::time::Instant;

use fanfare_proto::resp::Value;

use super::super::scripts::Script;
use crate::broker::Undone;

/// One question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Question {
    /// Who it is: version and credentials.
    Hello,
    /// Whether it is a master.
    Role,
    /// Its session.
    Session,
    /// Its life: another one after a flush. It is given this one if it has none.
    Life(u64),
    /// How large a part of a command may be; not everybody may ask.
    PartMax,
    /// What time it is, with the moment of the question.
    Time(Instant),
    /// A script.
    Load(Script),
}

/// The oldest version that has what is needed: sharded channels.
const VERSION_MIN: u64 = 7;

/// Checks the greeting.
pub(super) fn hello(answer: Value<'_>) -> Result<(), String> {
    let fields = answer.items().ok_or("it does not speak RESP3; Redis 7.0 or newer does")?;
    let fields: Vec<_> = fields.collect();
    let field = |name: &[u8]| fields.chunks_exact(2).find(|pair| pair[0].text() == Some(name)).map(|pair| pair[1]);
    let version = field(b"version").and_then(Value::text).and_then(|text| str::from_utf8(text).ok()).unwrap_or("?");
    let major = version.split('.').next().and_then(|major| major.parse::<u64>().ok());
    match major {
        Some(major) if major >= VERSION_MIN => Ok(()),
        _ => Err(format!("it is of version {version}, and sharded channels need {VERSION_MIN}.0: upgrade it")),
    }
}

/// Checks the role.
pub(super) fn role(answer: Value<'_>) -> Result<(), String> {
    match answer.items().and_then(|mut items| items.next()).and_then(Value::text) {
        Some(b"master") => Ok(()),
        Some(role) => {
            let role = String::from_utf8_lossy(role);
            Err(format!("it is a {role}, and only a master can be written to: name the master in the broker's address"))
        }
        None => Err("its answer to ROLE makes no sense".to_owned()),
    }
}

/// Reads the session from the answer to INFO: what is another after a promotion or a restart.
pub(super) fn session(answer: Value<'_>) -> Result<u64, String> {
    let text = answer.text().and_then(|text| str::from_utf8(text).ok()).unwrap_or_default();
    let field = |name: &str| text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
    if field("role") != Some("master") {
        return Err("it is not a master any more".to_owned());
    }
    let id = field("master_replid").and_then(|id| u64::from_str_radix(id.get(..16)?, 16).ok());
    id.ok_or_else(|| "INFO replication has no master_replid; is this a Redis?".to_owned())
}

/// Reads the time in microseconds since 1970.
pub(super) fn time(answer: Value<'_>) -> Result<u64, String> {
    let numbers: Vec<_> = answer.items().into_iter().flatten().filter_map(Value::number).collect();
    match numbers[..] {
        [seconds, micros] if seconds > 0 => Ok(seconds as u64 * 1_000_000 + micros as u64),
        _ => Err("its answer to TIME makes no sense".to_owned()),
    }
}

/// Reads how large a part of a command may be.
pub(super) fn part_max(answer: Value<'_>) -> Option<usize> {
    let texts = answer.items()?.filter_map(Value::text).filter_map(|text| str::from_utf8(text).ok());
    match texts.collect::<Vec<_>>()[..] {
        ["proto-max-bulk-len", bytes] => bytes.parse().ok(),
        _ => None,
    }
}

/// What an error says became of the command.
pub(super) fn undone(server: &str, error: &[u8]) -> Undone {
    let why = format!("{server}: {}", in_words(error));
    match code(error) {
        b"NOPERM" | b"WRONGTYPE" => Undone::denied(why),
        _ if error.starts_with(DENIED) => Undone::denied(why),
        _ if error.starts_with(TOO_LARGE) => Undone::Impossible(why.into()),
        _ => Undone::refused(why),
    }
}

/// The user of a node is not allowed what a script does. Newer servers say NOPERM.
const DENIED: &[u8] = b"ERR The user executing the script can't";

/// A part of a command was larger than a server takes, which hangs up then.
pub(super) const TOO_LARGE: &[u8] = b"ERR Protocol error: invalid bulk length";

/// The code of an error: its first word.
pub(in crate::broker::redis) fn code(error: &[u8]) -> &[u8] {
    error.split(|byte| *byte == b' ').next().unwrap_or_default()
}

/// Whether an error says that the server cannot be used at present, whatever it is asked.
pub(super) fn is_of_the_server(error: &[u8]) -> bool {
    matches!(code(error), b"READONLY" | b"LOADING" | b"MASTERDOWN" | b"CLUSTERDOWN" | b"NOAUTH" | b"WRONGPASS")
}

/// What else a server may be that has begun with this byte.
pub(in crate::broker::redis) fn something_else(first: Option<u8>) -> &'static str {
    match first {
        // Its INFO.
        Some(b'I') => "; it may be a NATS: write nats:// in the broker's address",
        // HTTP/1.1, or a page about what it does not understand.
        Some(b'H' | b'<') => "; it may be a web server: correct the host and port in the broker's address",
        Some(first) if first.is_ascii_alphanumeric() => {
            "; it is no Redis: correct the host and port in the broker's address"
        }
        _ => "",
    }
}

const ALLOWED: &str = "docs/cluster.md has what the user of a node has to be allowed";

/// An error in words, with the next step where there is one.
pub(in crate::broker::redis) fn in_words(error: &[u8]) -> String {
    let text = String::from_utf8_lossy(error);
    match code(error) {
        b"NOAUTH" | b"WRONGPASS" => format!("it says {text}; check the user and password in the broker's address"),
        b"NOPERM" => format!("it says {text}; {ALLOWED}"),
        _ if error.starts_with(DENIED) => format!("it says {text}; {ALLOWED}"),
        b"WRONGTYPE" => format!("it says {text}; give this cluster a namespace that no other software uses"),
        b"TRYAGAIN" => {
            format!("it says {text}; the slot of the topic is on its way to another server: try again later")
        }
        b"OOM" => format!("it says {text}; raise maxmemory, or let topics keep less"),
        _ if error.starts_with(TOO_LARGE) => format!("it says {text}; send less, or raise proto-max-bulk-len"),
        b"ERR" if text.contains("cluster support disabled") => format!(
            "it says {text}; it is part of no cluster: write redis:// in place of redis+cluster:// in the broker's address"
        ),
        b"NOPROTO" => format!("it says {text}; sharded channels need Redis {VERSION_MIN}.0 or newer"),
        _ => format!("it says {text}"),
    }
}
