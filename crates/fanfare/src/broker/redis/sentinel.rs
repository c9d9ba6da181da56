//! The sentinels of a Redis, which say where its master is at present.

use std::io::{Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use fanfare_proto::resp::{Scanner, Value, write_command};

use super::url::Sentinels;

/// No answer of one is larger.
const ANSWER_SIZE_MAX: usize = 64 * 1024;

/// Where the master is, by the first that knows it.
///
/// # Errors
/// What the last one has said.
pub(super) fn master(sentinels: &Sentinels, timeout: Duration) -> Result<(String, u16), String> {
    let mut last = "there are no sentinels".to_owned();
    for (host, port) in &sentinels.hosts {
        match ask(host, *port, &sentinels.master, timeout) {
            Ok(place) => return Ok(place),
            Err(why) => last = format!("the sentinel {host}:{port}: {why}"),
        }
    }
    Err(last)
}

fn ask(host: &str, port: u16, master: &str, timeout: Duration) -> Result<(String, u16), String> {
    let in_words = |error: std::io::Error| error.to_string();
    let address = (host, port).to_socket_addrs().map_err(in_words)?.next().ok_or("its name has no addresses")?;
    let mut stream = TcpStream::connect_timeout(&address, timeout).map_err(in_words)?;
    let mut out = Vec::new();
    write_command(&[b"HELLO", b"3"], &mut out);
    write_command(&[b"SENTINEL", b"GET-MASTER-ADDR-BY-NAME", master.as_bytes()], &mut out);
    stream.write_all(&out).map_err(in_words)?;
    let (deadline, mut scanner, mut bytes) = (Instant::now() + timeout, Scanner::new(ANSWER_SIZE_MAX), Vec::new());
    let mut answers = 0;
    loop {
        match scanner.frame(&bytes).map_err(|fault| fault.to_string())? {
            Some(size) if answers == 0 => {
                if let Value::Error(error) = Value::read(&bytes[..size]) {
                    return Err(format!("it says {}", String::from_utf8_lossy(error)));
                }
                answers = 1;
                bytes.drain(..size);
            }
            Some(size) => return place(Value::read(&bytes[..size]), master),
            None => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    return Err(format!("it has not answered within {timeout:?}"));
                }
                stream.set_read_timeout(Some(left)).map_err(in_words)?;
                let mut some = [0; 4_096];
                match stream.read(&mut some).map_err(in_words)? {
                    0 => return Err("it has closed the connection".to_owned()),
                    size => bytes.extend_from_slice(&some[..size]),
                }
            }
        }
    }
}

fn place(answer: Value<'_>, master: &str) -> Result<(String, u16), String> {
    match answer {
        Value::Null => {
            Err(format!("it knows no master {master:?}; name it in the broker's address as the sentinels do"))
        }
        Value::Error(error) => Err(format!("it says {}; is it a sentinel?", String::from_utf8_lossy(error))),
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
