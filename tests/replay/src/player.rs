//! Plays one transcript against a running server.

use crate::client::Connection;
use crate::envelope::{Envelope, Joins};
use crate::form::{Better, Choice, ResponseForm, shortened};
use crate::http::{Request, Response};
use crate::pattern::Bindings;
use crate::run::{Offer, Run};
use crate::script::{Action, ExpectedFrame, SentFrame, Step};
use crate::transcript::Transcript;
use request::Running;
use std::collections::BTreeMap;
use std::fmt;
use std::process::Command;
use std::time::{Duration, Instant};

mod request;
mod response;

/// How long a frame may take where nothing else is said.
const FRAME_PATIENCE: Duration = Duration::from_secs(5);
/// How much longer than its latest moment something is waited for, so that the report can tell late from never.
const LATE: Duration = Duration::from_secs(1);
/// How long something that may stay away is waited for, where no silence follows that would tell.
const OPTIONAL_PATIENCE: Duration = Duration::from_millis(250);
/// The shortest pause that still shows silence, however much the pauses are scaled down.
const SILENCE_MIN: Duration = Duration::from_millis(50);

/// A server to play against.
#[derive(Debug, Clone, Copy)]
pub struct Server {
    /// Where it listens on 127.0.0.1.
    pub port: u16,
    /// Its process, for transcripts that send it signals.
    pub pid: Option<u32>,
}

/// How to play.
#[derive(Debug, Clone, Copy)]
pub struct Options {
    /// What counts where Fanfare improves on Phoenix.
    pub better: Better,
    /// The factor of recorded pauses and silences. 0.5 is usually safe on an idle machine.
    pub pace: f64,
    /// Print each step before it is played.
    pub verbose: bool,
}

impl Default for Options {
    fn default() -> Self {
        Options { better: Better::default(), pace: 1.0, verbose: false }
    }
}

/// The first difference between a server and a transcript.
#[derive(Debug)]
pub struct Mismatch {
    /// Where: the step, and the connection's label.
    step: String,
    connection: String,
    what: String,
}

impl fmt::Display for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "step {} [{}]: {}", self.step, self.connection, self.what)
    }
}

impl std::error::Error for Mismatch {}

/// Plays `transcript` against `server`.
///
/// The server should have no other traffic: topics are shared by all its connections.
///
/// # Errors
/// The first difference. All connections are dropped then.
pub fn play(transcript: &Transcript, server: Server, options: Options) -> Result<(), Mismatch> {
    let pace = if transcript.fixed { 1.0 } else { options.pace };
    let mut player = Player::new(server, options, pace);
    for step in &transcript.steps {
        if options.verbose {
            println!("   {} [{}] {}", step.label, step.connection, shortened(&format!("{:?}", step.action)));
        }
        player.play(step).map_err(|Difference { label, what }| Mismatch {
            step: label.unwrap_or_else(|| step.label.clone()),
            connection: step.connection.clone(),
            what,
        })?;
    }
    Ok(())
}

struct Player {
    server: Server,
    options: Options,
    pace: f64,
    bindings: Bindings,
    joins: Joins,
    connections: BTreeMap<String, Connection>,
    /// Connections whose label another one got; the server must not see them end for that.
    earlier: Vec<Connection>,
    /// Requests whose response has not been looked at.
    exchanges: BTreeMap<String, Exchange>,
}

enum Exchange {
    /// The upgrade has been answered already.
    Upgrade {
        response: Response,
        took: Duration,
    },
    Running(Running),
}

/// What differs, and the label of the step if it is another than the one that is played.
struct Difference {
    label: Option<String>,
    what: String,
}

impl From<String> for Difference {
    fn from(what: String) -> Self {
        Difference { label: None, what }
    }
}

impl Player {
    fn new(server: Server, options: Options, pace: f64) -> Player {
        Player {
            server,
            options,
            pace,
            bindings: Bindings::default(),
            joins: Joins::default(),
            connections: BTreeMap::new(),
            earlier: Vec::new(),
            exchanges: BTreeMap::new(),
        }
    }

    fn play(&mut self, step: &Step) -> Result<(), Difference> {
        let name = &step.connection;
        if matches!(step.action, Action::Send(_) | Action::Abort | Action::Expect { .. }) {
            match self.connections.get(name) {
                None => return Err("there is no such connection".to_owned().into()),
                Some(connection) if connection.over => return Ok(()),
                Some(_) => {}
            }
        }
        std::thread::sleep(step.wait.mul_f64(self.pace));
        match &step.action {
            Action::Upgrade { path, headers } => self.upgrade(name, path, headers),
            Action::Request { method, path, headers, body } => {
                let headers = self.fill(headers).into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
                body.iter()
                    .flat_map(|body| body.split(|byte| *byte == b'\n'))
                    .for_each(|line| self.joins.sent_text(line));
                let path = self.bindings.fill(path);
                self.start(name, Request { method: method.clone(), path, headers, body: body.clone() });
                Ok(())
            }
            Action::Response { forms, took } => self.response(name, forms, *took),
            Action::Send(frame) => {
                self.send(name, frame);
                Ok(())
            }
            Action::Abort => {
                self.connections.get_mut(name).into_iter().for_each(Connection::abort);
                Ok(())
            }
            Action::Expect { frames, silence } => self.expect(name, frames, *silence),
            Action::Refused { path } => match Connection::open(self.server.port, path, &[]) {
                Ok((_, response)) if response.status < 500 => {
                    Err(format!("a new connection was answered {}", response.status).into())
                }
                _ => Ok(()),
            },
            Action::Signal(signal) => self.signal(signal),
        }
    }

    fn fill(&self, headers: &[(String, Option<String>)]) -> Vec<(String, Option<String>)> {
        let fill = |value: &Option<String>| value.as_ref().map(|value| self.bindings.fill(value));
        headers.iter().map(|(name, value)| (name.clone(), fill(value))).collect()
    }

    fn upgrade(&mut self, name: &str, path: &str, headers: &[(String, Option<String>)]) -> Result<(), Difference> {
        let started = Instant::now();
        let (path, headers) = (self.bindings.fill(path), self.fill(headers));
        let (connection, response) = Connection::open(self.server.port, &path, &headers)
            .map_err(|e| format!("cannot connect to port {}: {e}", self.server.port))?;
        self.earlier.extend(self.connections.insert(name.to_owned(), connection));
        self.exchanges.insert(name.to_owned(), Exchange::Upgrade { response, took: started.elapsed() });
        Ok(())
    }

    fn start(&mut self, name: &str, request: Request) {
        self.exchanges
            .insert(name.to_owned(), Exchange::Running(Running::start(self.server.port, request, Instant::now())));
    }

    fn send(&mut self, name: &str, frame: &SentFrame) {
        match frame.opcode {
            1 => self.joins.sent_text(&frame.payload),
            2 => self.joins.sent(Envelope::of_client_binary(&frame.payload)),
            _ => {}
        }
        if let Some(connection) = self.connections.get_mut(name) {
            connection.send(frame);
        }
    }

    fn expect(&mut self, name: &str, frames: &[ExpectedFrame], silence: Option<Duration>) -> Result<(), Difference> {
        let Some(connection) = self.connections.get_mut(name) else {
            return Ok(());
        };
        let mut run = Run::new(frames, self.options.better, &self.joins);
        while !run.is_complete() {
            let latest = run.latest().map_or(Duration::ZERO, |latest| latest + LATE);
            let patience = latest.saturating_sub(connection.last_sent.elapsed()).max(FRAME_PATIENCE);
            let arrival = connection.receive(patience);
            let elapsed = arrival.as_ref().map(|arrival| arrival.at.saturating_duration_since(connection.last_sent));
            let got = match (&arrival, elapsed) {
                (Some(arrival), Some(elapsed)) => match run.offer(&arrival.incoming, elapsed, &mut self.bindings) {
                    Offer::Taken => continue,
                    Offer::Ends => {
                        connection.over = true;
                        return Ok(());
                    }
                    Offer::Unexpected => {
                        format!("got {} {} ms after the last frame sent", arrival.incoming, elapsed.as_millis())
                    }
                },
                _ => "nothing came".to_owned(),
            };
            let (label, form) = run.next().unwrap_or_default();
            return Err(Difference { label: Some(label), what: format!("expected {form}; {got}") });
        }
        match silence {
            Some(silence) => {
                listen(connection, &mut run, silence.mul_f64(self.pace).max(SILENCE_MIN), &mut self.bindings)
            }
            None => {
                linger(connection, &mut run, &mut self.bindings);
                Ok(())
            }
        }
    }

    fn response(&mut self, name: &str, forms: &Choice<ResponseForm>, recorded: Duration) -> Result<(), Difference> {
        let forms = forms.accepted(self.options.better);
        let (response, took, request) = match self.exchanges.remove(name) {
            None => return Err("there is no request to answer".to_owned().into()),
            Some(Exchange::Upgrade { response, took }) => (response, took, None),
            Some(Exchange::Running(running)) => {
                let (response, took) = running.wait(recorded)?;
                (response, took, Some(running))
            }
        };
        let mut answer = response::Answer { response, took, earlier: Vec::new() };
        loop {
            let mut differences = Vec::new();
            for form in &forms {
                let mut attempt = self.bindings.clone();
                match answer.check(form, &self.joins, &mut attempt) {
                    Ok(()) => {
                        self.bindings = attempt;
                        return Ok(());
                    }
                    Err(difference) => differences.push(difference),
                }
            }
            let more = differences.iter().any(|difference| difference.more_may_come);
            let what = differences.into_iter().next().map_or(String::new(), |difference| difference.what);
            let Some(running) = request.as_ref().filter(|_| more) else {
                return Err(what.into());
            };
            // Part of a poll's messages came: the rest may be in the next.
            let again = Running::start(self.server.port, running.request.clone(), running.started);
            (answer.earlier, (answer.response, answer.took)) = (answer.messages(), again.wait(recorded)?);
        }
    }

    fn signal(&self, signal: &str) -> Result<(), Difference> {
        let pid = self.server.pid.ok_or_else(|| "the server's process is not known".to_owned())?;
        let sent = Command::new("kill").args(["-s", signal, &pid.to_string()]).status();
        match sent {
            Ok(status) if status.success() => Ok(()),
            _ => Err(format!("process {pid} cannot be sent {signal}").into()),
        }
    }
}

/// Nothing may come for `silence`, except for what `run` still allows.
fn listen(
    connection: &mut Connection,
    run: &mut Run,
    silence: Duration,
    bindings: &mut Bindings,
) -> Result<(), Difference> {
    while let Some(arrival) = connection.receive(silence) {
        let elapsed = arrival.at.saturating_duration_since(connection.last_sent);
        match run.offer(&arrival.incoming, elapsed, bindings) {
            Offer::Taken => {}
            Offer::Ends => {
                connection.over = true;
                break;
            }
            // The recording need not say that a closed connection ends.
            Offer::Unexpected if run.has_closed() && arrival.incoming == crate::run::Incoming::End => break,
            Offer::Unexpected => return Err(format!("expected silence; got {}", arrival.incoming).into()),
        }
    }
    Ok(())
}

/// Gives what may stay away a moment to come.
fn linger(connection: &mut Connection, run: &mut Run, bindings: &mut Bindings) {
    let end = Instant::now() + OPTIONAL_PATIENCE;
    while run.may_go_on() {
        let Some(arrival) = connection.receive(end.saturating_duration_since(Instant::now())) else {
            return;
        };
        let elapsed = arrival.at.saturating_duration_since(connection.last_sent);
        match run.offer(&arrival.incoming, elapsed, bindings) {
            Offer::Taken => {}
            Offer::Ends => connection.over = true,
            Offer::Unexpected => return connection.give_back(arrival),
        }
    }
}

#[cfg(test)]
mod perfect_server;
#[cfg(test)]
mod tests;
