//! Rows 3 and 4: readers that have stopped reading, among many that have not.
//!
//! A stalled reader is one whose buffers are full, in both kernels and not before. So each gets more than they hold, on a topic of its
//! own, at the moment when the others' messages begin to flow; from there on what the others get piles up in its outbox. In the control
//! runs the others are alone. The runs take turns, as no machine is the same from one minute to the next.

use std::net::{Shutdown, TcpStream};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::bench::{self, Load, Report};
use crate::client::{Client, Dial, Received};
use crate::figure::{Figure, count, mebibytes, median, percent};
use crate::server::Server;
use crate::{Finding, Setting};

/// What fills the buffers.
const FILL: &str = "fill";
const FILL_SIZE: usize = 60_000;

/// The default of `limits.outbox_bytes_max`.
const OUTBOX_BYTES_MAX: u64 = 8 << 20;

/// What the process may grow by for it: an allocator rounds up, and the requests that publish take their part.
const GROWTH_MAX: u64 = OUTBOX_BYTES_MAX + OUTBOX_BYTES_MAX / 2;

/// The default of `limits.write_timeout`, and what it takes to fill the buffers, from where it is measured.
const CLOSED_WITHIN: Duration = Duration::from_secs(10);
const FILLED_WITHIN: Duration = Duration::from_millis(500);

/// What a stalled reader's kernel takes, in bytes: little, so that its own memory is not the measure.
const RECEIVE_BUFFER: usize = 4096;

const WARMUP: f64 = 0.5;

/// Row 3: the others lose nothing and wait no longer; the stalled one is closed, and takes no more memory than it may.
pub(super) fn one(setting: &Setting) -> Result<Finding, String> {
    let mut server = Server::start(&setting.fanfare)?;
    let trial = Trial::new(setting, 1, Load::Rate(setting.size(200, 20)));
    // Reduced runs are too short to tell more than that nobody is held up.
    let ratio_max = setting.size(3.0, 1.1);
    let p99 = |runs: &Runs| runs.best_ratio(|report| 1.0 / report.p99_ms).recip();
    let mut runs = trial.run(&server, |runs| p99(runs) <= ratio_max)?;
    // Once more, to the end of the stalled one.
    let (report, stalled) = trial.test(&server)?;
    runs.tests.push(report);
    let (closed, _) = stalled.closed(&server)?;
    let (queued, memory) = flood(&server)?;
    server.check_alive()?;
    let expected: u64 = runs.tests.iter().map(|report| report.expected).sum();
    let seconds = |time: Duration| format!("{:.1} s", time.as_secs_f64());
    let best_p99 = best(&runs.tests, |report| 1.0 / report.p99_ms).recip();
    let times = |ratio: f64| format!("{ratio:.2}");
    Ok(Finding {
        size: trial.size(&runs),
        figures: vec![
            Figure::exactly(&format!("of {} messages the others lost", count(expected)), runs.lost(), 0),
            Figure::at_most(
                &format!("their best p99 of {best_p99:.0} ms in terms of the control's"),
                p99(&runs),
                ratio_max,
                times,
            ),
            Figure::at_most("the stalled one closed after", closed, CLOSED_WITHIN + FILLED_WITHIN, seconds),
            Figure::at_most("flooded, what waited for it", queued, OUTBOX_BYTES_MAX, mebibytes),
            Figure::at_most("and the server grew by", memory, GROWTH_MAX, mebibytes),
        ],
    })
}

/// Row 4: the others' throughput hardly falls.
pub(super) fn ten(setting: &Setting) -> Result<Finding, String> {
    let mut server = Server::start(&setting.fanfare)?;
    let trial = Trial::new(setting, 10, Load::Window(8));
    let (fall_max, cost_max) = setting.size((0.5, 0.25), (0.05, 0.05));
    let fall = |runs: &Runs| 1.0 - runs.best_ratio(|report| report.per_second);
    let cost = |runs: &Runs| 1.0 - runs.best_ratio(|report| report.per_cpu_second);
    let runs = trial.run(&server, |runs| fall(runs) <= fall_max && cost(runs) <= cost_max)?;
    server.check_alive()?;
    let of = |figure: fn(&Report) -> f64| count(best(&runs.controls, figure) as u64);
    let (per_second, per_cpu_second) = (of(|report| report.per_second), of(|report| report.per_cpu_second));
    Ok(Finding {
        size: trial.size(&runs),
        figures: vec![
            Figure::at_most(&format!("{per_second} deliveries a second fell by"), fall(&runs), fall_max, percent),
            Figure::at_most(&format!("{per_cpu_second} a CPU second fell by"), cost(&runs), cost_max, percent),
            Figure::exactly("lost", runs.lost(), 0),
        ],
    })
}

/// Runs with stalled readers and without, by turns.
struct Trial<'a> {
    setting: &'a Setting,
    /// In all: the load generator's, those that stall, and one that looks out for the first message.
    subscribers: usize,
    /// Those that are not there in control runs, and do not read in the others.
    stalled: usize,
    load: Load,
    pairs: usize,
    seconds: f64,
}

#[derive(Default)]
struct Runs {
    controls: Vec<Report>,
    tests: Vec<Report>,
}

impl Runs {
    /// The best of a figure, with stalled readers in terms of without.
    fn best_ratio(&self, figure: impl Fn(&Report) -> f64) -> f64 {
        best(&self.tests, &figure) / best(&self.controls, &figure)
    }

    /// What did not come once and in order, beside stalled readers.
    fn lost(&self) -> u64 {
        self.tests.iter().map(|report| report.expected - report.right).sum()
    }
}

/// The best of several runs: what other programs take can only make one worse, and takes some more than others.
fn best(reports: &[Report], figure: impl Fn(&Report) -> f64) -> f64 {
    reports.iter().map(figure).fold(0.0, f64::max)
}

impl<'a> Trial<'a> {
    fn new(setting: &'a Setting, stalled: usize, load: Load) -> Self {
        let subscribers = setting.size(1_000, 10_000);
        Self { setting, subscribers, stalled, load, pairs: setting.size(2, 7), seconds: setting.size(1.0, 5.0) }
    }

    /// Makes the pairs, and as many again one by one while that is not `enough`: a busy machine takes more of them to say anything.
    fn run(&self, server: &Server, enough: impl Fn(&Runs) -> bool) -> Result<Runs, String> {
        let mut runs = Runs::default();
        for pair in 0..2 * self.pairs {
            if pair >= self.pairs && enough(&runs) {
                break;
            }
            // Neither is always the first.
            for is_test in [pair % 2 == 1, pair % 2 == 0] {
                match is_test {
                    true => runs.tests.push(self.test(server)?.0),
                    false => runs.controls.push(self.control(server)?),
                }
            }
            if let (Some(control), Some(test)) = (runs.controls.last(), runs.tests.last()) {
                let shown = |report: &Report| {
                    format!(
                        "p99 {:.1} ms, {:.0} a second, {:.0} a CPU second beside {:.1} cores of others",
                        report.p99_ms, report.per_second, report.per_cpu_second, report.others
                    )
                };
                eprintln!("  pair {}: {} without, {} with", pair + 1, shown(control), shown(test));
            }
        }
        Ok(runs)
    }

    fn size(&self, runs: &Runs) -> String {
        let load = match self.load {
            Load::Rate(rate) => format!("{rate} messages a second"),
            Load::Window(window) => format!("{window} messages in flight"),
        };
        let (subscribers, pairs) = (count(self.subscribers as u64), runs.controls.len());
        let others = median(runs.tests.iter().chain(&runs.controls).map(|report| report.others).collect());
        format!(
            "{} of {subscribers} stalled, {load}, {pairs} pairs of {} s, {others:.1} cores taken by other programs",
            self.stalled, self.seconds
        )
    }

    fn control(&self, server: &Server) -> Result<Report, String> {
        self.crowd(server, || fill(server))
    }

    fn test(&self, server: &Server) -> Result<(Report, Stalled), String> {
        let clients = (0..self.stalled).map(|_| guest(server, &[bench::TOPIC, FILL])).collect::<Result<_, _>>()?;
        let before = server.slow_readers().len();
        let mut since = Instant::now();
        let report = self.crowd(server, || {
            since = Instant::now();
            fill(server)
        })?;
        Ok((report, Stalled { clients, since, before }))
    }

    /// Runs the crowd, and does something when its messages begin to flow.
    fn crowd(&self, server: &Server, then: impl FnOnce() -> Result<(), String>) -> Result<Report, String> {
        let mut scout = guest(server, &[bench::TOPIC])?;
        let crowd = self.subscribers - self.stalled - 1;
        let run = bench::Run::start(self.setting, server, crowd, self.load, WARMUP, self.seconds)?;
        // Until ten thousand are connected.
        let patience = scout.stream().set_read_timeout(Some(Duration::from_secs(60)));
        patience.and_then(|()| scout.receive()).map_err(|e| format!("no message has come to the crowd: {e}"))?;
        let scout = Reader::start(scout)?;
        then()?;
        let report = run.finish();
        drop(scout);
        report
    }
}

/// A client of the scoreboard's that is in these topics.
fn guest(server: &Server, topics: &[&str]) -> Result<Client, String> {
    let dial = Dial { receive_buffer: Some(RECEIVE_BUFFER), abrupt: true, ..Dial::default() };
    let joined = Client::phoenix(server.address, dial).and_then(|mut client| {
        topics.iter().try_for_each(|topic| client.join(topic))?;
        Ok(client)
    });
    joined.map_err(|e| format!("cannot join {topics:?}: {e}"))
}

/// Publishes more than the server's kernel holds for one connection, and less than its outbox may.
fn fill(server: &Server) -> Result<(), String> {
    let limits = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_wmem").unwrap_or_default();
    let kernel = limits.split_whitespace().last().and_then(|number| number.parse().ok()).unwrap_or(4 << 20);
    for _ in 0..kernel / FILL_SIZE + 5 {
        server.publish(FILL, FILL_SIZE)?;
    }
    Ok(())
}

/// Floods a reader that does not read until it is closed, and says how much waited for it then, and by how much the server's memory
/// grew at most.
fn flood(server: &Server) -> Result<(u64, u64), String> {
    let clients = vec![guest(server, &[FILL])?];
    let (before, memory) = (server.slow_readers().len(), server.memory());
    let stalled = Stalled { clients, since: Instant::now(), before };
    let mut peak = memory;
    for _ in 0..1_000 {
        server.publish(FILL, FILL_SIZE)?;
        peak = peak.max(server.memory());
        if server.slow_readers().len() > before {
            break;
        }
    }
    let (_, queued) = stalled.closed(server)?;
    Ok((queued, peak - memory))
}

/// Readers that read nothing, since their buffers are full; dropped with a reset.
struct Stalled {
    clients: Vec<Client>,
    since: Instant,
    /// How many slow readers the server had closed before these.
    before: usize,
}

impl Stalled {
    /// Waits until all are closed, and says when the last of them was and what waited for them at most.
    fn closed(self, server: &Server) -> Result<(Duration, u64), String> {
        let (many, limit) = (self.clients.len(), 2 * CLOSED_WITHIN);
        Server::wait(limit, || server.slow_readers().len() >= self.before + many);
        let closed = server.slow_readers().split_off(self.before);
        let last = closed.iter().map(|reader| reader.at).max();
        let queued = closed.iter().map(|reader| reader.queued).max();
        match (last, queued) {
            (Some(at), Some(queued)) if closed.len() == many => Ok((at - self.since, queued)),
            _ => Err(format!("{} readers were closed as too slow in {limit:?}, not {many}", closed.len())),
        }
    }
}

/// A guest that reads on in a thread of its own until it is dropped.
struct Reader {
    stream: TcpStream,
    thread: Option<JoinHandle<()>>,
}

impl Reader {
    fn start(mut client: Client) -> Result<Self, String> {
        let stream = client.stream().try_clone().map_err(|e| format!("cannot share a connection: {e}"))?;
        let thread = thread::spawn(move || while !matches!(client.receive(), Ok(Received::End) | Err(_)) {});
        Ok(Self { stream, thread: Some(thread) })
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        let _ = self.stream.shutdown(Shutdown::Both);
        let _ = self.thread.take().map(JoinHandle::join);
    }
}
