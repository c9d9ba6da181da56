//! One question to a server, on a connection of its own: for those that say where others are.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::Arc;
use std::time::{Duration, Instant};

use fanfare_proto::resp::{Scanner, Value, write_command};
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};

use super::link::standing::something_else;
use crate::broker::wire::{MAY_HAVE_NO_TLS, may_want_tls, tls_in_words};

/// No answer is larger: a cluster of a thousand servers has some 200 KiB to say.
const ANSWER_SIZE_MAX: usize = 4 * 1024 * 1024;

/// Who asks, and how.
#[derive(Clone)]
pub(super) struct Asker {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Arc<ClientConfig>>,
    pub(super) timeout: Duration,
    /// What an address begins with whose servers speak TLS.
    pub(super) tls_scheme: &'static str,
    /// What an error of the server means, with the next step.
    pub(super) in_words: fn(&[u8]) -> String,
}

impl Asker {
    /// Asks the server at a place, and reads its answer.
    ///
    /// # Errors
    /// Why there is none, in words.
    pub(super) fn ask<T>(
        &self,
        (host, port): (&str, u16),
        question: &[&[u8]],
        read: impl FnOnce(Value<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let in_words = |error: io::Error| error.to_string();
        let mut connected = Err("its name has no addresses".to_owned());
        for address in (host, port).to_socket_addrs().map_err(in_words)? {
            connected = TcpStream::connect_timeout(&address, self.timeout).map_err(in_words);
            if connected.is_ok() {
                break;
            }
        }
        let tcp = connected?;
        let clock = tcp.try_clone().map_err(in_words)?;
        tcp.set_write_timeout(Some(self.timeout)).map_err(in_words)?;
        match &self.tls {
            None => self.talk(tcp, &clock, question, read),
            Some(tls) => {
                let name = ServerName::try_from(host.to_owned()).map_err(|error| format!("TLS: {error}"))?;
                let client = ClientConnection::new(tls.clone(), name).map_err(|error| format!("TLS: {error}"))?;
                self.talk(StreamOwned::new(client, tcp), &clock, question, read)
            }
        }
    }

    fn talk<T>(
        &self,
        mut stream: impl Read + Write,
        clock: &TcpStream,
        question: &[&[u8]],
        read: impl FnOnce(Value<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let deadline = Instant::now() + self.timeout;
        let late = |is_silent: bool| {
            let hint = if self.tls.is_some() && is_silent { MAY_HAVE_NO_TLS } else { "" };
            format!("it has not answered within {:?}{hint}", self.timeout)
        };
        let in_words = |error: io::Error| match error.kind() {
            io::ErrorKind::InvalidData => tls_in_words(&error),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => late(true),
            _ => error.to_string(),
        };
        clock.set_read_timeout(Some(self.timeout)).map_err(in_words)?;
        let mut out = Vec::new();
        let user = self.user.as_deref().unwrap_or("default").as_bytes();
        match &self.password {
            Some(password) => write_command(&[b"HELLO", b"3", b"AUTH", user, password.as_bytes()], &mut out),
            None => write_command(&[b"HELLO", b"3"], &mut out),
        }
        write_command(question, &mut out);
        stream.write_all(&out).and_then(|()| stream.flush()).map_err(in_words)?;
        let (mut scanner, mut bytes) = (Scanner::new(ANSWER_SIZE_MAX), Vec::new());
        let mut is_greeted = false;
        loop {
            let hint = || {
                let may_want_tls = self.tls.is_none() && !is_greeted && may_want_tls(bytes.first().copied());
                let hint = format!("; if the server speaks TLS, write {} in the broker's address", self.tls_scheme);
                match may_want_tls {
                    true => hint,
                    false if is_greeted => String::new(),
                    false => something_else(bytes.first().copied()).to_owned(),
                }
            };
            match scanner.frame(&bytes).map_err(|fault| format!("{fault}{}", hint()))? {
                Some(size) => match Value::read(&bytes[..size]) {
                    Value::Error(error) => return Err((self.in_words)(error)),
                    answer if is_greeted => return read(answer),
                    _ => {
                        is_greeted = true;
                        bytes.drain(..size);
                    }
                },
                None => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() || bytes.len() > ANSWER_SIZE_MAX {
                        return Err(late(!is_greeted && bytes.is_empty()));
                    }
                    clock.set_read_timeout(Some(left)).map_err(in_words)?;
                    let mut some = [0; 16 * 1024];
                    match stream.read(&mut some) {
                        Ok(0) => return Err(format!("it has closed the connection{}", hint())),
                        Ok(size) => bytes.extend_from_slice(&some[..size]),
                        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                            return Err(late(!is_greeted && bytes.is_empty()));
                        }
                        Err(error) => return Err(format!("{}{}", in_words(error), hint())),
                    }
                }
            }
        }
    }
}
