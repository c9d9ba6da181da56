//! Row 20: clients have all the descriptors that the server may have. Who operates it still gets in, and so do clients as soon
//! as others go.

use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Dial};
use crate::figure::{Figure, milliseconds};
use crate::probe::Probe;
use crate::server::{Server, request};
use crate::{Finding, Setting};

/// What the server may have. It cannot give itself more.
const DESCRIPTORS: u64 = 200;

/// More than these have places for; the kernel holds those that are not accepted.
const CLIENTS: usize = 400;

/// An answer takes no longer, and new clients are served so soon after others have gone.
const ANSWERED_WITHIN: Duration = Duration::from_secs(1);
const SERVED_AGAIN_WITHIN: Duration = Duration::from_secs(10);

/// What it may write about it: some lines at once, and then so many a second.
const LINES_AT_ONCE_MAX: u64 = 10;
const LINES_MAX: u64 = 2;

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let time = setting.size(2, 10);
    let limit = format!("ulimit -n {DESCRIPTORS}; exec \"$@\"");
    let configuration = "listen = \"127.0.0.1:0\"\n[[endpoint]]\n[[channel]]\ntopic = \"*\"\njoin = \"open\"\n";
    let mut server = Server::start_through(&["sh", "-c", &limit, "sh"], &setting.fanfare, configuration, &[])?;
    let mut member = Client::phoenix(server.address, Dial::default())
        .and_then(|mut client| client.join("room").map(|()| client))
        .map_err(|e| format!("the first client cannot join: {e}"))?;
    let mut clients = Vec::new();
    while clients.len() < CLIENTS {
        clients.push(connect(&server)?);
    }
    // Those that are accepted are now, all in one go.
    thread::sleep(Duration::from_millis(500));
    let taken = server.descriptors();
    let lines = server.lines();
    let admin = server.admin();
    let ask = move |path: &'static str| {
        Probe::start(move || request(admin, "GET", path, "", ANSWERED_WITHIN).is_ok_and(|(status, _)| status == 200))
    };
    let (health, topics) = (ask("/api/health"), ask("/api/topics"));
    thread::sleep(Duration::from_secs(time));
    let (health, topics) = (health.stop()?, topics.stop()?);
    let lines = server.lines() - lines;
    let beats = u64::from(member.heartbeat().is_err());
    server.check_alive()?;
    drop(clients);
    let gone = Instant::now();
    let served = || Client::phoenix(server.address, Dial::default()).and_then(|mut client| client.join("room"));
    Server::wait(SERVED_AGAIN_WITHIN * 2, || served().is_ok());
    let again = gone.elapsed();
    Ok(Finding {
        size: format!(
            "{CLIENTS} connections to a server that has {taken} of {DESCRIPTORS} descriptors open, for {time} s"
        ),
        figures: vec![
            Figure::exactly(&format!("of {} requests for its health failed", health.asked), health.failed, 0),
            Figure::exactly(&format!("of {} for its topics", topics.asked), topics.failed, 0),
            Figure::exactly("heartbeats of a member unanswered", beats, 0),
            Figure::at_most("lines written", lines, LINES_AT_ONCE_MAX + LINES_MAX * time, |lines| lines.to_string()),
            Figure::at_most("clients served again after", again, SERVED_AGAIN_WITHIN, milliseconds),
        ],
    })
}

/// A connection that asks for nothing and stays.
fn connect(server: &Server) -> Result<TcpStream, String> {
    let dial = Dial { abrupt: true, ..Dial::default() };
    dial.connect(server.address).map_err(|e| format!("cannot connect: {e}"))
}
