//! `fanfare dev`: a server for trying things, which says what it does and where.

use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use super::{Extra, Running, announce, block_on};
use crate::config::secret::Secret;
use crate::pages;
use crate::signals::Requests;
use crate::terminal::{Failure, Given};

/// The configuration of `fanfare dev`.
pub(crate) const DEV: &str = include_str!("../dev.toml");

/// Where the HTTP API listens unless told; on another port if this one is taken.
const ADMIN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 4001);

/// Runs `fanfare dev` until a signal. `given` is from where its configuration can be read again.
///
/// # Errors
/// Why it could not start.
pub(crate) fn dev(given: Given) -> Result<(), Failure> {
    let requests = Requests::take()?;
    let config = given.read()?;
    let wanted = config.admin.as_ref().map(|admin| admin.listen.0);
    let token = match config.admin.as_ref().and_then(|admin| admin.token.as_ref()?.own.clone()) {
        Some(token) => token,
        None => random_token()?,
    };
    block_on(async {
        let extra = Extra { token: Some(token.clone()), ..Extra::default() };
        let mut running = Running::new(Some(given), config, requests, extra).await?;
        let router = running.endpoint.routes().merge(pages::demo());
        let admin = wanted.map_or_else(|| vec![ADMIN, SocketAddr::new(ADMIN.ip(), 0)], |address| vec![address]);
        let bound = running.bind(&admin).await?;
        running.connected_to_its_broker().await;
        let url = running.listen(bound.clients, router)?;
        let admin = bound.admin.ok_or("the HTTP API has no address")?;
        let admin = running.listen_admin(admin)?;
        running.listen_metrics(bound.metrics)?;
        announce("dev", &url);
        // As with the line on the standard output: nobody may be there to read it.
        let _ = writeln!(std::io::stderr(), "{}", explain(&url, admin, &token));
        running.until_stopped(std::future::pending()).await
    })
    .map_err(Failure::from)
}

/// 128 random bits, new at each start: there is no default token to forget.
fn random_token() -> Result<Secret, String> {
    let bits = getrandom::u64().and_then(|high| Ok((high, getrandom::u64()?)));
    let (high, low) = bits.map_err(|error| format!("no random bytes for the API token: {error}"))?;
    Ok(Secret::new(format!("{high:016x}{low:016x}")))
}

fn explain(url: &str, admin: SocketAddr, token: &Secret) -> String {
    // 0.0.0.0 and [::] are addresses to listen on, not to connect to.
    let url = url.replace("://0.0.0.0:", "://127.0.0.1:").replace("://[::]:", "://[::1]:");
    let socket = url.replacen("http", "ws", 1);
    let token = token.expose();
    let message = r#"{"topic": "room:lobby", "event": "new_msg", "payload": {"body": "hello", "name": "curl"}}"#;
    format!(
        "
A lobby for trying things out. Anybody who can reach this address can join room:lobby and write there.

  Page       {url}/    open it in two tabs and chat; its links lead to the hub, the bridge,
             the rooms, and cursors by Supabase's client
  Socket     {socket}/socket    for any Phoenix client: topic \"room:lobby\", event \"new_msg\"
  Stream     curl -gN '{url}/events/room:lobby?params[name]=curl'
  Console    http://{admin}/#token={token}
  HTTP API   http://{admin}

  Publish from a shell:
    curl -H 'Authorization: Bearer {token}' http://{admin}/api/publish \\
      -d '{message}'

  To run a server of your own: `fanfare init`, then `fanfare serve --config fanfare.toml`. Stop with Ctrl-C.
"
    )
}
