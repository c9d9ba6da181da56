//! Every recording against a server that plays its other side: as recorded it must pass, and with any one answer
//! changed or left out it must fail. This is how we know that each expectation is really compared.

use super::*;
use crate::transcript::Fields;
use crate::websocket::encode;
use base64::Engine as _;
use regex_lite::Regex;
use serde_json::Value;
use sha1::{Digest, Sha1};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::Path;

/// What the server does with one of its answers.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fault {
    Change,
    LeaveOut,
}

/// The server's side: it walks through the same steps as the client, one behind the other.
struct Puppet {
    listener: TcpListener,
    connections: BTreeMap<String, BufReader<TcpStream>>,
}

impl Puppet {
    /// Plays all steps until the client is gone; `fault` is the step (from 0) that goes wrong.
    fn play(&mut self, steps: &[Value], fault: Option<(usize, Fault)>) -> Option<()> {
        let mut key = BTreeMap::new();
        for (i, step) in steps.iter().enumerate() {
            let name = step["conn"].as_str().unwrap_or("http").to_owned();
            let fault = fault.filter(|(at, _)| *at == i).map(|(_, fault)| fault);
            match step["dir"].as_str()? {
                "http_request" => {
                    let (reader, accept) = self.accept()?;
                    key.insert(name.clone(), accept);
                    self.connections.insert(name, reader);
                }
                "http_response" => {
                    let stream = self.connections.get_mut(&name)?.get_mut();
                    pause(step);
                    stream.write_all(&response(step, key.get(&name)?, fault)).ok()?;
                }
                "send" => read_frame(self.connections.get_mut(&name)?)?,
                "recv" | "closed" => {
                    pause(step);
                    self.answer(&name, step, fault)?;
                }
                // What follows an abort may depend on it, so it is waited for.
                "abort" => drop(self.connections.get_mut(&name)?.read_to_end(&mut Vec::new())),
                _ => {}
            }
        }
        // The connections stay open until the client drops them.
        self.connections.values_mut().for_each(|reader| drop(reader.read_to_end(&mut Vec::new())));
        Some(())
    }

    fn accept(&self) -> Option<(BufReader<TcpStream>, String)> {
        let (stream, _) = self.listener.accept().ok()?;
        let mut reader = BufReader::new(stream);
        let (mut accept, mut length) = (String::new(), 0);
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).ok()?;
            let Some((name, value)) = line.split_once(':').map(|(name, value)| (name.to_lowercase(), value.trim()))
            else {
                if line.trim().is_empty() {
                    break;
                }
                continue;
            };
            if name == "sec-websocket-key" {
                let digest = Sha1::digest(format!("{value}258EAFA5-E914-47DA-95CA-C5AB0DC85B11"));
                accept = base64::engine::general_purpose::STANDARD.encode(digest);
            } else if name == "content-length" {
                length = value.parse().ok()?;
            }
        }
        reader.read_exact(&mut vec![0; length]).ok()?;
        Some((reader, accept))
    }

    fn answer(&mut self, name: &str, step: &Value, fault: Option<Fault>) -> Option<()> {
        let stream = self.connections.get_mut(name)?.get_mut();
        if fault == Some(Fault::LeaveOut) {
            return Some(());
        }
        let fields = Fields::of(step).ok()?;
        let (opcode, payload) = match (step["dir"].as_str()?, step["op"].as_str().unwrap_or_default()) {
            _ if step["none"] == true => return Some(()),
            ("closed", _) if fault.is_none() => return stream.shutdown(Shutdown::Both).ok(),
            ("recv", _) if fault == Some(Fault::Change) => (1, b"[\"changed\"]".to_vec()),
            ("recv", "text") if step.get("json").is_some() => (1, literal(&step["json"]).to_string().into_bytes()),
            ("recv", "text") => (1, fields.bytes().ok()?),
            ("recv", "binary") => (2, fields.bytes().ok()?),
            ("recv", "pong") => (10, fields.bytes().ok()?),
            ("recv", "close") => (8, fields.code().ok()?.map(|code| code.to_be_bytes().to_vec()).unwrap_or_default()),
            _ => (1, b"[\"instead of closing\"]".to_vec()),
        };
        stream.write_all(&encode(&SentFrame { opcode, payload, fin: true, rsv: 0, masked: false })).ok()
    }
}

/// Waits for the middle of the time in which the step may come.
fn pause(step: &Value) {
    let bound = |i: usize| step["after_ms"][i].as_u64();
    if let (Some(lo), Some(hi)) = (bound(0), bound(1)) {
        std::thread::sleep(Duration::from_millis(lo.midpoint(hi)));
    }
}

fn read_frame(reader: &mut impl Read) -> Option<()> {
    let mut exactly = |n: u64| {
        let mut bytes = vec![0; usize::try_from(n).ok()?];
        reader.read_exact(&mut bytes).ok()?;
        Some(bytes)
    };
    let number = |bytes: Vec<u8>| bytes.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
    let second = exactly(2)?[1];
    let length = match second & 0x7f {
        126 => number(exactly(2)?),
        127 => number(exactly(8)?),
        short => u64::from(short),
    };
    exactly(length + u64::from(second >> 7) * 4)?;
    Some(())
}

fn response(step: &Value, accept: &str, fault: Option<Fault>) -> Vec<u8> {
    let mut json = step.get("json").map(literal);
    if let Some(messages) = json.as_mut().and_then(|json| json.get_mut("messages")?.as_array_mut()) {
        messages.iter_mut().for_each(|message| *message = message.to_string().into());
    }
    let mut body = json.map(|json| json.to_string()).or(step["body"].as_str().map(str::to_owned)).unwrap_or_default();
    let mut status = step["status"].as_u64().unwrap_or_default();
    match fault {
        Some(Fault::LeaveOut) if !body.is_empty() => body.clear(),
        Some(_) => status = 299,
        None => {}
    }
    let mut text = format!("HTTP/1.1 {status} X\r\n");
    for (name, value) in Fields::of(step).unwrap().headers().unwrap() {
        let value = value.map(|value| literal(&Value::String(value)));
        text += &value.map(|value| format!("{name}: {}\r\n", value.as_str().unwrap())).unwrap_or_default();
    }
    if status == 101 {
        text += &format!("upgrade: websocket\r\nconnection: Upgrade\r\nsec-websocket-accept: {accept}\r\n\r\n");
    } else {
        text += &format!("content-length: {}\r\n\r\n{body}", body.len());
    }
    text.into_bytes()
}

/// A value that an expected one with placeholders accepts.
fn literal(expected: &Value) -> Value {
    const CANDIDATES: [&str; 3] = ["{:shutdown, :closed}", "permessage-deflate", "get, post, options"];
    match expected {
        Value::String(text) if text == "$any" => Value::Null,
        Value::String(text) => match text.split_once(':') {
            Some(("$has", words)) => words.replace('|', " ").into(),
            Some(("$re", expression)) => {
                let regex = Regex::new(expression).unwrap();
                CANDIDATES.into_iter().find(|candidate| regex.is_match(candidate)).unwrap().into()
            }
            _ => text.trim_start_matches('$').into(),
        },
        Value::Array(items) => items.iter().map(literal).collect(),
        Value::Object(fields) => match fields.get("$set") {
            Some(set) => literal(set),
            None => fields.iter().map(|(key, value)| (key.clone(), literal(value))).collect(),
        },
        other => other.clone(),
    }
}

/// The recordings that need not take long, as JSON. Repetitions are left out: what they repeat is recorded elsewhere
/// too, and without them a step has the same number on both sides.
fn recordings() -> Vec<Value> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../transcripts");
    let files = folder.read_dir().unwrap().map(|entry| entry.unwrap().path());
    let files = files.filter(|file| file.extension().is_some_and(|extension| extension == "json"));
    let read = |file| serde_json::from_str::<Value>(&std::fs::read_to_string(file).unwrap()).unwrap();
    let mut recordings: Vec<Value> = files.map(read).collect();
    recordings.retain(|recording| recording.get("slow").is_none() && recording.get("fixed").is_none());
    for recording in &mut recordings {
        recording["steps"].as_array_mut().unwrap().retain(|step| step["dir"] != "repeat");
    }
    assert!(!recordings.is_empty());
    recordings
}

fn replay(recording: &Value, fault: Option<(usize, Fault)>) -> Result<(), Mismatch> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
    let server = Server { port: listener.local_addr().unwrap().port(), pid: None };
    let steps = recording["steps"].as_array().unwrap().clone();
    std::thread::spawn(move || Puppet { listener, connections: BTreeMap::new() }.play(&steps, fault));
    let transcript = Transcript::parse(&recording.to_string()).unwrap();
    play(&transcript, server, Options { better: Better::Never, pace: 0.0, verbose: false })
}

/// Runs `work` for every item on a few threads, for they mostly wait.
fn for_each<T: Sync>(items: &[T], work: impl Fn(&T) -> Option<String> + Sync) {
    let next = std::sync::atomic::AtomicUsize::new(0);
    let worker = || {
        let indexes = std::iter::from_fn(|| Some(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let mine = indexes.map_while(|i| items.get(i));
        mine.filter_map(&work).collect::<Vec<String>>()
    };
    let complaints: Vec<String> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..32).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().unwrap()).collect()
    });
    assert!(complaints.is_empty(), "{} of {}:\n{}", complaints.len(), items.len(), complaints.join("\n"));
}

#[test]
fn a_perfect_server_passes() {
    for_each(&recordings(), |recording| {
        replay(recording, None).err().map(|mismatch| format!("{}: {mismatch}", recording["name"]))
    });
}

#[test]
fn one_wrong_answer_fails() {
    let recordings = recordings();
    let mut cases = Vec::new();
    for recording in &recordings {
        let steps = recording["steps"].as_array().unwrap();
        let answers = (0..steps.len()).filter(|i| {
            let optional = |step: &Value| {
                step["none"] == true || step["or"].as_array().is_some_and(|or| or.iter().any(|f| f["none"] == true))
            };
            matches!(steps[*i]["dir"].as_str(), Some("recv" | "closed" | "http_response")) && !optional(&steps[*i])
        });
        // Every third answer, with the faults in turns: all of them would take minutes, mostly of waiting.
        let faults = [Fault::Change, Fault::LeaveOut];
        cases.extend(answers.step_by(3).enumerate().map(|(n, i)| (recording, i, faults[n % 2])));
    }
    for_each(&cases, |(recording, i, fault)| {
        let outcome = replay(recording, Some((*i, *fault)));
        outcome.is_ok().then(|| format!("{} step {}: {fault:?} was not noticed", recording["name"], i + 1))
    });
}
