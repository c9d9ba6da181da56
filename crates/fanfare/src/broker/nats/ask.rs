//! A server of a NATS is asked what it is, as a node that signs with its key: for whoever checks a configuration. Nothing is written there.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs as _};

use fanfare_proto::nats::{Said, write_line, write_message};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, StreamOwned};

use super::NatsBroker;
use super::key::Key;
use super::link::greeting::{self, Info};
use super::subjects::Subjects;
use super::url::Url;
use crate::broker::Incarnation;
use crate::broker::wire::client_tls;
use crate::error::Error;

/// No answer is larger.
const ANSWER_SIZE_MAX: usize = 1024 * 1024;

/// The number of the only subscription.
const ANSWERS: &str = "1";

/// What a server of a NATS says of itself.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct NatsServer {
    /// Its version, such as `2.10.1`.
    pub version: String,
    /// Whether it says that it has a JetStream.
    pub has_jetstream: bool,
    /// The largest message that it takes, with its headers.
    pub payload_max: Option<usize>,
    /// What its JetStream answers the node.
    pub jetstream: NatsJetStream,
}

/// What a JetStream answers to who asks what it allows.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum NatsJetStream {
    /// There is none.
    Nobody,
    /// It does not answer: servers drop what a user is not allowed to ask.
    Silent,
    /// The answer to `$JS.API.INFO`, as JSON.
    Says(String),
}

impl NatsBroker {
    /// Asks one of the servers that the address names, counted from 0, what it is, with the credentials of a node. It blocks for as long as
    /// that takes, which is a few times the [timeout](Self::timeout) at most.
    ///
    /// # Errors
    /// As [`check`](Self::check), or the server cannot be talked to, in words.
    pub fn ask(&self, number: usize) -> Result<NatsServer, Error> {
        let (urls, key) = self.read()?;
        let url = urls.get(number).ok_or_else(|| Error::invalid("the address names fewer servers"))?;
        self.converse(url, key.as_ref()).map_err(Error::unavailable)
    }

    fn converse(&self, url: &Url, key: Option<&Key>) -> Result<NatsServer, String> {
        let mut tcp = self.connect(url)?;
        let mut input = Vec::new();
        let info = loop {
            match Said::read(&input, ANSWER_SIZE_MAX).map_err(|fault| fault.to_string())? {
                Some((Said::Info(json), _)) => break Info::read(json)?,
                Some(_) => return Err("not NATS: it does not say who it is".to_owned()),
                None => more(&mut tcp, &mut input).map_err(|error| error.to_string())?,
            }
        };
        info.check()?;
        let is_tls = url.tls || info.needs_tls;
        let proof = key.zip(info.nonce.as_deref()).map(|(key, nonce)| key.prove(nonce));
        let node = getrandom::u64().ok().and_then(|number| Incarnation::new(number | 1));
        let node = node.ok_or("the system gives no random bytes")?;
        let inbox = Subjects::new(&self.namespace, node).own_inbox();
        let mut out = Vec::new();
        write_line(&["CONNECT", &greeting::connect("fanfare-check", &url.login, proof.as_ref(), is_tls)], &mut out);
        write_line(&["SUB", &inbox, ANSWERS], &mut out);
        write_message("$JS.API.INFO", Some(&inbox), &[], b"", &mut out);
        let jetstream = match is_tls {
            false => hear(tcp, &out, &info, key)?,
            true => {
                let name = ServerName::try_from(url.host.clone()).map_err(|error| format!("TLS: {error}"))?;
                let tls = client_tls().map_err(|error| error.to_string())?;
                let client = ClientConnection::new(tls, name).map_err(|error| format!("TLS: {error}"))?;
                hear(StreamOwned::new(client, tcp), &out, &info, key)?
            }
        };
        let Info { version, has_jetstream, payload_max, .. } = info;
        Ok(NatsServer { version, has_jetstream, payload_max, jetstream })
    }

    fn connect(&self, url: &Url) -> Result<TcpStream, String> {
        let in_words = |error: io::Error| format!("no connection: {error}; start it, or correct the address");
        let mut connected = Err("its name has no addresses".to_owned());
        for address in (&*url.host, url.port).to_socket_addrs().map_err(in_words)? {
            connected = TcpStream::connect_timeout(&address, self.timeout).map_err(in_words);
            if connected.is_ok() {
                break;
            }
        }
        let tcp = connected?;
        let timeout = Some(self.timeout);
        tcp.set_read_timeout(timeout).and_then(|()| tcp.set_write_timeout(timeout)).map_err(in_words)?;
        Ok(tcp)
    }
}

/// Says who asks, and what, and waits for the answer.
fn hear(mut stream: impl Read + Write, out: &[u8], info: &Info, key: Option<&Key>) -> Result<NatsJetStream, String> {
    let sent = stream.write_all(out).and_then(|()| stream.flush());
    sent.map_err(|error| error.to_string())?;
    let mut input = Vec::new();
    loop {
        let size = match Said::read(&input, ANSWER_SIZE_MAX).map_err(|fault| fault.to_string())? {
            Some((Said::Message(message), _)) if message.headers.status().is_some() => {
                return Ok(NatsJetStream::Nobody);
            }
            Some((Said::Message(message), _)) => {
                return Ok(NatsJetStream::Says(String::from_utf8_lossy(message.payload).into_owned()));
            }
            Some((Said::Error(error), _)) if greeting::forbidden(error).is_some() => return Ok(NatsJetStream::Silent),
            Some((Said::Error(error), _)) => return Err(info.in_words(error, key)),
            Some((_, size)) => size,
            None => match more(&mut stream, &mut input) {
                Ok(()) => 0,
                Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
                    return Ok(NatsJetStream::Silent);
                }
                Err(error) => return Err(error.to_string()),
            },
        };
        input.drain(..size);
    }
}

/// Reads what has come.
fn more(stream: &mut impl Read, input: &mut Vec<u8>) -> io::Result<()> {
    let mut some = [0; 16 * 1024];
    match stream.read(&mut some)? {
        0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it has closed the connection")),
        size => {
            input.extend_from_slice(&some[..size]);
            Ok(())
        }
    }
}
