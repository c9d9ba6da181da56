//! The sentinels of a Redis, which say where its master is at present.

use std::sync::Arc;
use std::time::Duration;

use fanfare_proto::resp::Value;
use rustls::ClientConfig;

use super::ask::Asker;
use super::link::standing;
use super::url::{SENTINEL_TLS, Sentinels};

/// Where the master is, by the first that knows it.
///
/// # Errors
/// What the last one has said.
pub(super) fn master(
    sentinels: &Sentinels,
    tls: Option<&Arc<ClientConfig>>,
    timeout: Duration,
) -> Result<(String, u16), String> {
    let Sentinels { hosts, master, user, password } = sentinels;
    let (user, password, tls) = (user.clone(), password.clone(), tls.cloned());
    let asker = Asker { user, password, tls, timeout, tls_scheme: SENTINEL_TLS, in_words };
    let question = [&b"SENTINEL"[..], b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()];
    let mut last = "there are no sentinels".to_owned();
    for (host, port) in hosts {
        match asker.ask((host, *port), &question, |answer| place(answer, master)) {
            Ok(place) => return Ok(place),
            Err(why) => last = format!("the sentinel {host}:{port}: {why}"),
        }
    }
    Err(last)
}

fn place(answer: Value<'_>, master: &str) -> Result<(String, u16), String> {
    match answer {
        Value::Null => {
            Err(format!("it knows no master {master:?}; name it in the broker's address as the sentinels do"))
        }
        answer => {
            let texts = answer.items().into_iter().flatten().filter_map(Value::text);
            let texts: Vec<_> = texts.filter_map(|text| str::from_utf8(text).ok()).collect();
            match texts[..] {
                [host, port] => {
                    port.parse().map(|port| (host.to_owned(), port)).map_err(|_| format!("{port:?} is no port"))
                }
                _ => Err("its answer makes no sense; is it a sentinel?".to_owned()),
            }
        }
    }
}

/// An error in words, with the next step where there is one: credentials of the sentinels are others than the master's.
fn in_words(error: &[u8]) -> String {
    let text = String::from_utf8_lossy(error);
    match standing::code(error) {
        b"NOAUTH" | b"WRONGPASS" => format!(
            "it says {text}; the sentinels' own user and password stand at the end of the broker's address, as ?sentinel=user:password"
        ),
        b"NOPERM" => format!("it says {text}; allow the sentinels' user +sentinel|get-master-addr-by-name"),
        b"ERR" => {
            format!("it says {text}; is it a sentinel? A Redis itself is named by redis:// in the broker's address")
        }
        _ => standing::in_words(error),
    }
}
