//! Channels of PostgreSQL: `LISTEN`, and what `NOTIFY` sends. The connection is the one that the outbox uses as well.
//!
//! PostgreSQL keeps nothing for those who are not connected: whoever needs that takes an outbox.

use std::future::poll_fn;

use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;
use tokio::time::{sleep, timeout};
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::{MakeTlsConnect, NoTls, TlsConnect};
use tokio_postgres::{AsyncMessage, Client, Config, Notification, Socket};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::publish::Publish;
use super::{LOOK_EVERY, PATIENCE, Stop, stopped};
use crate::config::source::{Kind, Source as Settings};
use crate::http_client::client_tls;

/// How many notifications may wait for the engine. The others wait in the connection.
const WAITING_MAX: usize = 1_024;

/// Connects, listens, and hands over what comes.
pub(super) async fn listen(
    url: &str,
    settings: &Settings,
    publish: &mut Publish,
    mut stop: Stop,
) -> Result<(), String> {
    let Connected { client, mut notifications } = connect(url, Wanted::Each).await?;
    for channel in settings.channels.iter().flat_map(|channels| &channels.0) {
        answer(client.batch_execute(&format!("LISTEN {}", quoted(channel)))).await?;
    }
    publish.standing.connected();
    loop {
        // A connection may be dead without anybody having said so. One on which something comes is not, and what comes may
        // be before the answer.
        let look = async {
            sleep(LOOK_EVERY).await;
            answer(client.batch_execute("")).await
        };
        tokio::select! {
            notification = notifications.recv() => match notification {
                Some(sent) => {
                    let taken = publish.take(sent.channel(), sent.payload().as_bytes());
                    if !publish.publish_in_time(taken, &mut stop).await {
                        let (source, left) = (&publish.standing.name, notifications.len() + 1);
                        tracing::warn!(source, left, "the server stops, and what waited to be published is lost");
                    }
                }
                None => return Err("the connection is lost".into()),
            },
            looked = look => looked?,
            () = stopped(&mut stop) => return Ok(()),
        }
    }
}

/// Which notifications are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wanted {
    /// All, in order. Those that have to wait hold up the connection, and PostgreSQL keeps the others.
    Each,
    /// One is as good as many.
    Any,
}

/// A connection, and what is sent to it unasked.
pub(super) struct Connected {
    pub(super) client: Client,
    /// Ends with the connection.
    pub(super) notifications: mpsc::Receiver<Notification>,
}

/// Connects as the address says, with TLS unless it says `sslmode=disable`.
pub(super) async fn connect(url: &str, wanted: Wanted) -> Result<Connected, String> {
    let mut config: Config = url.parse().map_err(|_| {
        // The parser's own text may quote the address, which may hold a password.
        "the address is none of PostgreSQL: write postgres://USER@HOST/DATABASE".to_owned()
    })?;
    if config.get_application_name().is_none() {
        config.application_name("fanfare");
    }
    match config.get_ssl_mode() {
        SslMode::Disable => connect_with(&config, NoTls, wanted).await,
        _ => connect_with(&config, MakeRustlsConnect::new(client_tls()?), wanted).await,
    }
}

async fn connect_with<T>(config: &Config, tls: T, wanted: Wanted) -> Result<Connected, String>
where
    T: MakeTlsConnect<Socket>,
    T::Stream: Send + 'static,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    let (client, mut connection) = answer(config.connect(tls)).await?;
    let (tell, notifications) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        // Ends when the client is dropped, too.
        while let Some(Ok(message)) = poll_fn(|cx| connection.poll_message(cx)).await {
            let AsyncMessage::Notification(notification) = message else { continue };
            let is_heard = match wanted {
                Wanted::Each => tell.send(notification).await.is_ok(),
                Wanted::Any => !matches!(tell.try_send(notification), Err(TrySendError::Closed(_))),
            };
            if !is_heard {
                break;
            }
        }
    });
    Ok(Connected { client, notifications })
}

/// What a server is, with its version, if it has what a source of this kind needs.
///
/// # Errors
/// Why it cannot be used, with the next step.
pub(crate) async fn greet(url: &str, settings: &Settings) -> Result<String, String> {
    let connected = connect(url, Wanted::Any).await;
    let client = connected.map_err(|why| format!("no connection: {why}; start it, or correct the address"))?.client;
    let version: String = answer(client.query_one("SHOW server_version", &[])).await?.get(0);
    if settings.kind == Kind::Outbox && !settings.create {
        let table = &settings.table;
        let is_there = answer(client.query_one("SELECT to_regclass($1) IS NOT NULL", &[table])).await?;
        if !is_there.get::<_, bool>(0) {
            return Err(format!("PostgreSQL {version} has no table {table}: make it, or set create = true"));
        }
    }
    Ok(format!("PostgreSQL {version}"))
}

/// What the server answers in time.
pub(super) async fn answer<T>(asked: impl Future<Output = Result<T, tokio_postgres::Error>>) -> Result<T, String> {
    let answer = timeout(PATIENCE, asked).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
    answer.map_err(|error| match error.as_db_error() {
        Some(told) => format!("PostgreSQL says: {}", told.message()),
        None => match std::error::Error::source(&error) {
            Some(cause) => format!("{error}: {cause}"),
            None => error.to_string(),
        },
    })
}

/// A name as SQL has it, whatever stands in it; the dot of `schema.table` is not one of the name's own.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted() {
        for (name, expected) in [("a", "\"a\""), ("a\"; DROP", "\"a\"\"; DROP\""), ("A b.c", "\"A b.c\"")] {
            assert_eq!(quoted(name), expected);
        }
    }
}
