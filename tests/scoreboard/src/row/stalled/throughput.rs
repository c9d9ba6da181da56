//! Row 4: the others' throughput hardly falls.
//!
//! What a run of ten thousand sockets costs differs by a tenth from the next, by where they happen to lie in memory. So
//! there is one crowd that stays, and ten guests that are beside it by turns and read nothing: what is compared is the pace
//! of the same sockets in two spans of time side by side, and what counts is the middle one of all pairs.
//!
//! Guests that read are no control: with their threads, the load generator gets less of the machine and the server more
//! messages at once, which it sends together. A crowd alone then seems a seventh slower than one beside them.

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
    let (subscribers, pairs) = (setting.size(1_000, 10_000), setting.size(7, 10));
    let span = setting.size(Duration::from_millis(500), Duration::from_secs(4));
    let scout = guest(&server, &[bench::TOPIC])?;
    let crowd = subscribers - GUESTS - 1;
    let run = bench::Run::start(setting, &server, crowd, Load::Window(WINDOW), WARMUP, SECONDS_MAX)?;
    let scout = Reader::after_first(scout)?;
    let ours = [server.pid(), run.pid()];
    let pairs = Pairs::take(setting, pairs, |number| pair(&server, &ours, span, number))?;
    let report = run.stop()?;
    drop(scout);
    server.check_alive()?;

    // Reduced runs are too short to tell more than that nobody is held up.
    let fall_max = setting.size(0.5, 0.05);
    let fall = |what: &str, figure: fn(&Pace) -> f64| {
        let deliveries = count((pairs.control(figure) * subscribers as f64) as u64);
        Figure::at_most(&format!("{deliveries} {what} fell by"), 1.0 - pairs.ratio(figure), fall_max, percent)
    };
    Ok(Finding {
        size: format!(
            "{GUESTS} of {} stalled, {WINDOW} messages in flight, {}",
            count(subscribers as u64),
            pairs.size(&format!("{span:?}"))
        ),
        figures: vec![
            fall("deliveries a second", |pace| pace.per_second),
            fall("a CPU second", |pace| pace.per_cpu_second),
            Figure::exactly(&format!("of {} messages the others lost", count(report.expected)), report.lost(), 0),
        ],
    })
}

/// The pace without guests, and beside some that do not read.
fn pair(server: &Server, ours: &[u32], span: Duration, number: usize) -> Result<Pair<Pace>, String> {
    let before = Others::look(ours)?;
    let (control, test) = Pair::in_turn(number, || alone(server, span), || beside_stalled(server, span))?;
    let percent = |figure: fn(&Pace) -> f64| percent(1.0 - figure(&test) / figure(&control));
    let (fall, cost) = (percent(|pace| pace.per_second), percent(|pace| pace.per_cpu_second));
    let others = before.until(&Others::look(ours)?);
    eprintln!("  pair {}: {fall} less a second, {cost} less a CPU second, {others:.1} cores of others", number + 1);
    Ok(Pair { control, test, others })
}

fn alone(server: &Server, span: Duration) -> Result<Pace, String> {
    fill(server)?;
    pace(server, span)
}

fn beside_stalled(server: &Server, span: Duration) -> Result<Pace, String> {
    let guests: Vec<Client> = (0..GUESTS).map(|_| guest(server, &[bench::TOPIC, FILL])).collect::<Result<_, _>>()?;
    fill(server)?;
    let pace = pace(server, span);
    drop(guests);
    pace
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
