//! Row 4: the others' throughput hardly falls.
//!
//! What a run of ten thousand sockets costs differs by a tenth from the next, by where they happen to lie in memory. So
//! there is one crowd that stays, and ten guests beside it, which read for a while and then do not, by turns: what is
//! compared is the pace of the same sockets in two spans of time side by side, and what counts is the middle one of all
//! pairs.

use std::thread;
use std::time::{Duration, Instant};

use super::{FILL, Pair, Pairs, Reader, WARMUP, fill, guest};
use crate::bench::{self, Load};
use crate::client::Client;
use crate::figure::{Figure, count, percent};
use crate::others::Others;
use crate::server::Server;
use crate::{Finding, Setting};

const GUESTS: usize = 10;

/// Messages in flight: as much as the server can do.
const WINDOW: u32 = 8;

/// What the buffers take to be full, and sockets to be gone.
const SETTLED: Duration = Duration::from_millis(500);

/// The load generator is told when to end.
const SECONDS_MAX: f64 = 600.0;

/// What was done in a span of time.
struct Pace {
    /// Messages published a second.
    per_second: f64,
    /// The same for each second of the server's CPU time.
    per_cpu_second: f64,
}

pub(in crate::row) fn check(setting: &Setting) -> Result<Finding, String> {
    let mut server = Server::start(&setting.fanfare)?;
    let (subscribers, pairs) = (setting.size(1_000, 10_000), setting.size(3, 10));
    let span = setting.size(Duration::from_secs(1), Duration::from_secs(4));
    let scout = guest(&server, &[bench::TOPIC])?;
    let crowd = subscribers - GUESTS - 1;
    let run = bench::Run::start(setting, &server, crowd, Load::Window(WINDOW), WARMUP, SECONDS_MAX)?;
    let scout = Reader::after_first(scout)?;
    let ours = [server.pid(), run.pid()];
    let pairs = Pairs::take(setting, pairs, |number| pair(&server, &ours, span, number))?;
    let report = run.stop()?;
    drop(scout);
    server.check_alive()?;

    let (fall_max, cost_max) = setting.size((0.5, 0.25), (0.05, 0.05));
    let fall = |what: &str, figure: fn(&Pace) -> f64, max| {
        let deliveries = count((pairs.control(figure) * subscribers as f64) as u64);
        Figure::at_most(&format!("{deliveries} {what} fell by"), 1.0 - pairs.ratio(figure), max, percent)
    };
    Ok(Finding {
        size: format!(
            "{GUESTS} of {} stalled, {WINDOW} messages in flight, {}",
            count(subscribers as u64),
            pairs.size(&format!("{span:?}"))
        ),
        figures: vec![
            fall("deliveries a second", |pace| pace.per_second, fall_max),
            fall("a CPU second", |pace| pace.per_cpu_second, cost_max),
            Figure::exactly(&format!("of {} messages the others lost", count(report.expected)), report.lost(), 0),
        ],
    })
}

/// The pace beside guests that read, and beside guests that do not.
fn pair(server: &Server, ours: &[u32], span: Duration, number: usize) -> Result<Pair<Pace>, String> {
    let before = Others::look(ours)?;
    let (control, test) = Pair::in_turn(number, || beside_readers(server, span), || beside_stalled(server, span))?;
    let percent = |figure: fn(&Pace) -> f64| percent(1.0 - figure(&test) / figure(&control));
    let (fall, cost) = (percent(|pace| pace.per_second), percent(|pace| pace.per_cpu_second));
    let others = before.until(&Others::look(ours)?);
    eprintln!("  pair {}: {fall} less a second, {cost} less a CPU second, {others:.1} cores of others", number + 1);
    Ok(Pair { control, test, others })
}

fn beside_readers(server: &Server, span: Duration) -> Result<Pace, String> {
    let readers: Result<Vec<Reader>, _> = guests(server)?.into_iter().map(Reader::start).collect();
    fill(server)?;
    let pace = pace(server, span);
    drop(readers?);
    pace
}

fn beside_stalled(server: &Server, span: Duration) -> Result<Pace, String> {
    let guests = guests(server)?;
    fill(server)?;
    let pace = pace(server, span);
    drop(guests);
    pace
}

fn guests(server: &Server) -> Result<Vec<Client>, String> {
    (0..GUESTS).map(|_| guest(server, &[bench::TOPIC, FILL])).collect()
}

fn pace(server: &Server, span: Duration) -> Result<Pace, String> {
    thread::sleep(SETTLED);
    let look = || Ok::<_, String>((Instant::now(), server.counter("messages", "published")?, server.cpu()?));
    let before = look()?;
    thread::sleep(span);
    let after = look()?;
    let published = (after.1 - before.1) as f64;
    Ok(Pace {
        per_second: published / (after.0 - before.0).as_secs_f64(),
        per_cpu_second: published / (after.2 - before.2).as_secs_f64(),
    })
}
