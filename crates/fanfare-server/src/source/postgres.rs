//! What is sent by `NOTIFY` in PostgreSQL.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_postgres::{AsyncMessage, Client, Config, Notification};
use tokio_postgres_rustls::MakeRustlsConnect;

use super::{Ended, Source};
use crate::http_client::client_tls;

/// Taken to connect, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// A connection on which nothing comes is looked after so often.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Notifications that wait to be published. Beyond them the connection is read no further.
const WAITING_MAX: usize = 1_000;

pub(super) async fn listen(source: Arc<Source>) -> Ended {
    let (client, mut notifications) = connect(source.url()).await?;
    for channel in source.channels() {
        execute(&client, &format!("LISTEN {}", quoted(channel))).await?;
    }
    source.connected();
    loop {
        match timeout(PING_INTERVAL, notifications.recv()).await {
            Ok(Some(notification)) => {
                // Counted where it is skipped.
                let _ = source.deliver(notification.channel(), notification.payload().as_bytes()).await;
            }
            Ok(None) => return Err("PostgreSQL closed the connection".into()),
            Err(_) => execute(&client, "").await?,
        }
    }
}

/// A connection with what is notified on it. It ends when both are dropped.
pub(super) async fn connect(url: &str) -> Result<(Client, mpsc::Receiver<Notification>), String> {
    let mut config: Config =
        url.parse().map_err(|_| "the address is none such as postgres://user:password@host/database".to_owned())?;
    config.connect_timeout(TIMEOUT).application_name("fanfare");
    let connected = timeout(2 * TIMEOUT, config.connect(MakeRustlsConnect::new(client_tls()?))).await;
    let (client, mut connection) = connected.map_err(|_| too_late())?.map_err(|error| explain(&error))?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        while let Some(Ok(message)) = std::future::poll_fn(|cx| connection.poll_message(cx)).await {
            if let AsyncMessage::Notification(notification) = message
                && sender.send(notification).await.is_err()
            {
                return;
            }
        }
    });
    Ok((client, receiver))
}

pub(super) async fn execute(client: &Client, statement: &str) -> Result<(), String> {
    let done = timeout(TIMEOUT, client.batch_execute(statement)).await.map_err(|_| too_late())?;
    done.map_err(|error| explain(&error))
}

pub(super) fn too_late() -> String {
    format!("PostgreSQL did not answer within {TIMEOUT:?}")
}

pub(super) fn explain(error: &tokio_postgres::Error) -> String {
    match error.as_db_error() {
        Some(error) => format!("PostgreSQL: {}", error.message()),
        None => format!("PostgreSQL: {error}"),
    }
}

/// A name as it is, whatever is in it.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}
