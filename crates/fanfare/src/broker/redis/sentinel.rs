//! The sentinels of a Redis, which say where its master is at present.

use std::time::Duration;

use fanfare_proto::resp::Value;

use super::ask::Asker;
use super::url::Sentinels;

/// Where the master is, by the first that knows it.
///
/// # Errors
/// What the last one has said.
pub(super) fn master(sentinels: &Sentinels, timeout: Duration) -> Result<(String, u16), String> {
    let asker = Asker { user: None, password: None, tls: None, timeout };
    let mut last = "there are no sentinels".to_owned();
    for (host, port) in &sentinels.hosts {
        match ask(&asker, host, *port, &sentinels.master) {
            Ok(place) => return Ok(place),
            Err(why) => last = format!("the sentinel {host}:{port}: {why}"),
        }
    }
    Err(last)
}

fn ask(asker: &Asker, host: &str, port: u16, master: &str) -> Result<(String, u16), String> {
    let question = [&b"SENTINEL"[..], b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()];
    let asked = asker.ask((host, port), &question, |answer| place(answer, master));
    asked.map_err(|why| if why.starts_with("it says ERR") { format!("{why}; is it a sentinel?") } else { why })
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
