//! `fanfare sub`: a socket that is kept, and what comes in printed. When it is lost it is opened again, for ever, and the
//! topics are joined again.

use std::io::ErrorKind;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::io::{AsyncWriteExt, Stdout};
use tokio::time::{Instant, MissedTickBehavior, interval_at, sleep, sleep_until};
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::{Error, Message};

use super::backoff::Backoff;
use super::dial::{Dialer, Socket};
use super::protocol::{self, Frame, Protocol, Said};
use super::{address, escape};
use crate::cli::client::Sub;
use crate::config::secret::Secret;
use crate::signals::Signals;

/// How often a sign of life is sent. Servers close sockets that are silent for a minute; one that answers nothing between two
/// of them is gone.
const HEARTBEAT: Duration = Duration::from_secs(20);

/// How long the answer to a join may take.
const JOIN_TIMEOUT: Duration = Duration::from_secs(10);

/// How long to wait before a topic is joined again that has failed.
const REJOIN_PAUSE: Duration = Duration::from_secs(1);

/// A socket that lived for so long was a good one.
const STEADY: Duration = Duration::from_secs(10);

/// How long saying goodbye may take.
const GOODBYE_MAX: Duration = Duration::from_secs(1);

pub(super) async fn run(asked: &Sub) -> Result<(), String> {
    let url = address::of_socket(asked)?;
    let mut subscription = Subscription {
        protocol: protocol::of(asked)?,
        signals: Signals::new()?,
        stdout: tokio::io::stdout(),
        printed: 0,
        count: asked.count,
    };
    let dialer = Dialer::new(&url, &asked.trust)?;
    let (mut backoff, mut was_open) = (Backoff::default(), false);
    loop {
        let token = token(asked)?;
        let dialed = tokio::select! {
            dialed = dialer.dial(token.as_ref()) => dialed,
            () = subscription.signals.next() => return subscription.stopped(),
        };
        let lost = match dialed {
            Ok(mut socket) => {
                note(&format!("connected to {}", address::shown(&url)));
                was_open = true;
                let opened = Instant::now();
                match subscription.follow(&mut socket).await {
                    Outcome::Lost(reason) => {
                        if opened.elapsed() > STEADY {
                            backoff.reset();
                        }
                        reason
                    }
                    Outcome::Over(result) => {
                        // The server may be gone, or deaf: then there is nobody to say it to.
                        let _ = tokio::time::timeout(GOODBYE_MAX, socket.close(None)).await;
                        return result;
                    }
                }
            }
            Err(failure) if !was_open || failure.is_final() => return Err(failure.to_string()),
            Err(failure) => failure.to_string(),
        };
        // Without random bytes all clients wait alike, which is no reason to fail.
        let pause = backoff.next(getrandom::u32().unwrap_or(u32::MAX));
        note(&format!("{lost}; reconnecting in {pause:.1?}"));
        tokio::select! {
            () = sleep(pause) => {}
            () = subscription.signals.next() => return subscription.stopped(),
        }
    }
}

/// Read for every connection, so that a file may be given a new token while this runs.
fn token(asked: &Sub) -> Result<Option<Secret>, String> {
    match (&asked.token, &asked.token_env, &asked.token_file) {
        (Some(token), ..) => Ok(Some(Secret::new(token.clone()))),
        (_, Some(variable), _) => Secret::from_environment(variable).map(Some),
        (.., Some(file)) => Secret::from_file(file).map(Some),
        _ => Ok(None),
    }
}

/// What goes on across connections.
struct Subscription {
    protocol: Box<dyn Protocol>,
    signals: Signals,
    stdout: Stdout,
    printed: u64,
    count: Option<u64>,
}

/// How a connection ended.
enum Outcome {
    /// By accident.
    Lost(String),
    /// For good.
    Over(Result<(), String>),
}

impl Subscription {
    /// Prints what comes on one socket.
    async fn follow(&mut self, socket: &mut Socket) -> Outcome {
        let mut heartbeat = interval_at(Instant::now() + HEARTBEAT, HEARTBEAT);
        heartbeat.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut is_alive = true;
        let mut join_by = Instant::now() + JOIN_TIMEOUT;
        let mut rejoin_at = None;
        let mut frames = self.protocol.open();
        loop {
            for frame in frames.drain(..) {
                if let Err(error) = send(socket, frame).await {
                    return Outcome::Lost(error);
                }
            }
            if self.protocol.has_failed() && rejoin_at.is_none() {
                rejoin_at = Some(Instant::now() + REJOIN_PAUSE);
            }
            let is_joining = self.protocol.is_joining();
            let message = tokio::select! {
                message = socket.next() => message,
                _ = heartbeat.tick() => {
                    if !is_alive {
                        return Outcome::Lost(format!("the server sent nothing for {HEARTBEAT:?}"));
                    }
                    is_alive = false;
                    frames.push(self.protocol.heartbeat());
                    continue;
                }
                () = sleep_until(join_by), if is_joining => {
                    return Outcome::Lost(format!("no answer to a join within {JOIN_TIMEOUT:?}"));
                }
                () = sleep_until(rejoin_at.unwrap_or(join_by)), if rejoin_at.is_some() => {
                    rejoin_at = None;
                    join_by = Instant::now() + JOIN_TIMEOUT;
                    frames = self.protocol.rejoin();
                    continue;
                }
                () = self.signals.next() => return Outcome::Over(self.stopped()),
            };
            is_alive = true;
            let said = match message {
                Some(Ok(Message::Text(text))) => self.protocol.text(&text),
                Some(Ok(Message::Binary(data))) => self.protocol.binary(&data),
                Some(Ok(Message::Close(close))) => return self.closed(close),
                Some(Ok(_)) => continue,
                Some(Err(error)) => return Outcome::Lost(format!("the connection was lost: {error}")),
                None => return Outcome::Lost("the connection ended".into()),
            };
            if let Some(over) = self.say(said).await {
                return Outcome::Over(over);
            }
        }
    }

    /// Prints what was said; `Some` ends the subscription.
    async fn say(&mut self, said: Vec<Said>) -> Option<Result<(), String>> {
        for said in said {
            match said {
                Said::Note(text) => note(&escape::plain(&text)),
                Said::Fatal(text) => return Some(Err(escape::plain(&text).into_owned())),
                Said::Line(line) => {
                    let line = format!("{}\n", escape::json(&line));
                    let printed = tokio::select! {
                        printed = print(&mut self.stdout, &line) => printed,
                        () = self.signals.next() => return Some(self.stopped()),
                    };
                    match printed {
                        Ok(()) => self.printed += 1,
                        // Whoever read this has enough, as in `fanfare sub … | head -1`.
                        Err(error) if error.kind() == ErrorKind::BrokenPipe => return Some(Ok(())),
                        Err(error) => return Some(Err(format!("cannot write to the standard output: {error}"))),
                    }
                    if Some(self.printed) == self.count {
                        return Some(Ok(()));
                    }
                }
            }
        }
        None
    }

    fn closed(&self, close: Option<CloseFrame>) -> Outcome {
        let code = close.as_ref().map_or(1005, |close| close.code.into());
        match self.protocol.end(code) {
            Some(Ok(text)) => {
                note(text);
                Outcome::Over(self.stopped())
            }
            Some(Err(text)) => Outcome::Over(Err(format!("closed with {code}: {text}"))),
            None => Outcome::Lost(format!("the server closed the connection with {code}")),
        }
    }

    /// What it means to end now: all is well, unless a number of lines was asked for.
    fn stopped(&self) -> Result<(), String> {
        match self.count {
            Some(count) => Err(format!("ended after {} of {count} lines", self.printed)),
            None => Ok(()),
        }
    }
}

async fn send(socket: &mut Socket, frame: Frame) -> Result<(), String> {
    let message = match frame {
        Frame::Text(text) => Message::text(text),
        Frame::Ping => Message::Ping(Default::default()),
    };
    let sent: Result<(), Error> = socket.send(message).await;
    sent.map_err(|error| format!("the connection was lost: {error}"))
}

async fn print(stdout: &mut Stdout, line: &str) -> std::io::Result<()> {
    stdout.write_all(line.as_bytes()).await?;
    stdout.flush().await
}

/// Nobody may be there to read it.
fn note(text: &str) {
    let _ = std::io::Write::write_all(&mut std::io::stderr().lock(), format!("{text}\n").as_bytes());
}
