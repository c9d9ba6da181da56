//! Subjects of NATS.
//!
//! The driver would make a lost connection anew by itself, but does not tell when its subscriptions are back. So this
//! begins again, as with the other sources; what the driver holds by then ends as soon as it finds that nobody listens.

use std::sync::Arc;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, Message, ServerAddr};
use futures_util::StreamExt;
use futures_util::stream::select_all;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::inbox::Inbox;
use super::{PATIENCE, Standing, Stop, stopped};
use crate::config::source::Source as Settings;

/// How many messages the driver may hold until they are in the inbox. What comes above that is lost, and counted.
const WAITING_MAX: usize = 65_536;

/// How often the driver tries what nobody waits for any more.
const RETRY_EVERY: Duration = Duration::from_secs(1);

/// How many events of the driver may wait; they are few.
const EVENTS_MAX: usize = 1_024;

/// Connects, subscribes, and hands over what comes.
pub(super) async fn listen(url: &str, settings: &Settings, inbox: &Inbox, mut stop: Stop) -> Result<(), String> {
    let (tell, mut events) = mpsc::channel(EVENTS_MAX);
    let client = timeout(PATIENCE, connect(url, tell, inbox.standing.clone())).await;
    let client = client.map_err(|_| format!("no answer within {PATIENCE:?}"))??;
    let mut subscriptions = Vec::new();
    for subject in settings.channels.iter().flat_map(|subjects| &subjects.0) {
        let subscribed = match &settings.group {
            Some(group) => client.queue_subscribe(subject.clone(), group.clone()).await,
            None => client.subscribe(subject.clone()).await,
        };
        subscriptions.push(subscribed.map_err(|error| error.to_string())?);
    }
    // Once this was answered, the server has the subscriptions.
    let flushed = timeout(PATIENCE, client.flush()).await.map_err(|_| format!("no answer within {PATIENCE:?}"))?;
    flushed.map_err(|error| error.to_string())?;
    inbox.standing.connected();
    let mut messages = select_all(subscriptions);
    loop {
        tokio::select! {
            message = messages.next() => match message {
                Some(Message { subject, payload, .. }) => inbox.put(&subject, payload),
                None => return Err("the server ended the subscriptions".into()),
            },
            event = events.recv() => match event {
                Some(Event::Disconnected) => return Err("the connection is lost".into()),
                Some(Event::ServerError(error)) => return Err(format!("the server says: {error}")),
                Some(_) => {}
                None => return Err("the connection has ended".into()),
            },
            () = stopped(&mut stop) => return Ok(()),
        }
    }
}

async fn connect(url: &str, tell: mpsc::Sender<Event>, standing: Arc<Standing>) -> Result<Client, String> {
    let (address, options) = addressed(url)?;
    let options = options
        .connection_timeout(PATIENCE)
        .ping_interval(PATIENCE)
        .subscription_capacity(WAITING_MAX)
        .reconnect_delay_callback(|_| RETRY_EVERY)
        .event_callback(move |event| {
            match event {
                // There may be many of them.
                Event::SlowConsumer(_) => standing.overruns(1),
                // Nobody may listen any more.
                event => drop(tell.try_send(event)),
            }
            std::future::ready(())
        });
    options.connect(address).await.map_err(|error| error.to_string())
}

/// An address, and who is to connect there.
///
/// # Errors
/// It is none of NATS. The text has nothing of it, since it may hold a password.
pub(crate) fn addressed(url: &str) -> Result<(ServerAddr, ConnectOptions), String> {
    let address: ServerAddr =
        url.parse().map_err(|_| "the address is none of NATS: write nats://HOST:4222".to_owned())?;
    let mut options = ConnectOptions::new().name("fanfare");
    if let Some(user) = address.username() {
        options = match address.password() {
            Some(password) => options.user_and_password(user.to_owned(), password.to_owned()),
            None => options.token(user.to_owned()),
        };
    }
    Ok((address, options))
}
