//! Row 10, second half: connections that come and are dropped at every step of their life.

use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::client::{Client, Dial, TEXT, frame, upgrade};
use crate::figure::count;
use crate::row::rest::{endure, impatient_server};
use crate::server::Server;
use crate::{Finding, Setting, workers};

/// More connections than one local address has ports for, while the kernel still remembers them.
const ADDRESSES: u64 = 200;

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let mut server = impatient_server(setting)?;
    let many = setting.size(20_000, 1_000_000);
    let next = AtomicU64::new(0);
    let figures = endure(setting, &mut server, many, |server, up_to| drop_all(server, &next, up_to))?;
    Ok(Finding { size: format!("{} connects and drops", count(next.into_inner())), figures })
}

fn drop_all(server: &Server, next: &AtomicU64, up_to: u64) -> Result<(), String> {
    workers::repeat(|| {
        let taken =
            next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |number| (number < up_to).then_some(number + 1));
        let Ok(number) = taken else { return Ok(false) };
        connect_and_drop(server, number).map_err(|error| format!("connection {number}: {error}"))?;
        Ok(true)
    })
}

/// Every way to go, by turns: in the midst of a request, a frame or a join, with a reset or without.
fn connect_and_drop(server: &Server, number: u64) -> io::Result<()> {
    let from = Ipv4Addr::new(127, 0, 1, (number % ADDRESSES) as u8 + 1);
    let dial = Dial { from: Some(from.into()), abrupt: number.is_multiple_of(2), ..Dial::default() };
    let head = upgrade(server.address, "/socket/websocket?vsn=2.0.0");
    let message = frame(TEXT, br#"["1","1","room:drops","phx_join",{}]"#);
    match number / 2 % 7 {
        0 => drop(dial.connect(server.address)?),
        1 => dial.connect(server.address)?.write_all(&head.as_bytes()[..head.len() / 2])?,
        2 => dial.connect(server.address)?.write_all(head.as_bytes())?,
        3 => drop(Client::phoenix(server.address, dial)?),
        4 => Client::phoenix(server.address, dial)?.send(&message[..message.len() / 2])?,
        5 => Client::phoenix(server.address, dial)?.send(&message)?,
        _ => Client::phoenix(server.address, dial)?.join("room:drops")?,
    }
    Ok(())
}
