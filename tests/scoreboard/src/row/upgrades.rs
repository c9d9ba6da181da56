//! Row 23: one process takes over from another, again and again, while strangers connect at an even pace and clients on topics with a history
//! on disk come back and resume.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::restart::{Client, Folder, PATIENCE, TOPICS, Tally, publish, publish_number};
use crate::client::upgrade;
use crate::figure::{Figure, count, milliseconds};
use crate::server::{Server, ask};
use crate::{Finding, Setting};

/// How long a client may wait for the answer to its upgrade: whoever comes while one process hands over to the next waits in the kernel.
const WAIT_MAX: Duration = Duration::from_secs(3);

/// Strangers are let loose so often.
const TICK: Duration = Duration::from_millis(10);

/// What becomes of those who connect.
#[derive(Default)]
struct Strangers {
    served: AtomicU64,
    refused: AtomicU64,
    slowest_us: AtomicU64,
    /// What the first that was refused was told.
    told: Mutex<Option<String>>,
}

impl Strangers {
    async fn connect(&self, address: SocketAddr) {
        let begun = Instant::now();
        let asked = async {
            let mut stream = TcpStream::connect(address).await?;
            stream.write_all(upgrade(address, "/socket/websocket?vsn=2.0.0").as_bytes()).await?;
            let mut answer = [0; 12];
            stream.read_exact(&mut answer).await?;
            Ok::<_, std::io::Error>(answer)
        };
        let answer = asked.await.map(|answer| String::from_utf8_lossy(&answer).into_owned());
        self.slowest_us.fetch_max(begun.elapsed().as_micros() as u64, Ordering::Relaxed);
        if answer.as_ref().is_ok_and(|answer| answer.ends_with(" 101")) {
            self.served.fetch_add(1, Ordering::Relaxed);
            return;
        }
        self.refused.fetch_add(1, Ordering::Relaxed);
        self.told.lock().expect("nothing panics with the lock held").get_or_insert_with(|| format!("{answer:?}"));
    }
}

/// Lets this many of them connect each second, until it is told to stop.
async fn storm(address: SocketAddr, per_second: u64, strangers: Arc<Strangers>, stop: Arc<AtomicBool>) {
    let (begun, mut sent) = (Instant::now(), 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (begun.elapsed().as_secs_f64() * per_second as f64) as u64;
        for _ in sent..due {
            let strangers = strangers.clone();
            tokio::spawn(async move { strangers.connect(address).await });
        }
        sent = due;
        tokio::time::sleep(TICK).await;
    }
}

/// The process that serves. It is ended with the check.
struct Successor(Option<i32>);

impl Drop for Successor {
    fn drop(&mut self) {
        if let Some(process) = self.0 {
            let _ = kill(Pid::from_raw(process), Signal::SIGKILL);
        }
    }
}

pub(super) fn check(setting: &Setting) -> Result<Finding, String> {
    let (clients, per_second, upgrades) = (setting.size(100, 1_000), setting.size(200, 2_000), setting.size(1, 4));
    let calm = Duration::from_millis(setting.size(300, 3_000));
    let folder = Folder::new("upgrades");
    let configuration = format!(
        "listen = '127.0.0.1:0'\ndrain = '3s'\n[history]\ndir = {:?}\n\
         [[channel]]\ntopic = 'n:*'\njoin = 'open'\nhistory = {{ messages = 1000 }}\n",
        folder.0.join("history")
    );
    let server = Server::start_as(&setting.fanfare, &configuration, &[])?;
    let (address, admin) = (server.address, server.admin());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.map_err(|e| format!("no runtime: {e}"))?;
    let tally = Arc::new(Tally::default());
    for number in 0..clients {
        let topic = format!("n:{}", number % TOPICS);
        runtime.spawn(Client { address, key: String::new(), topic, tally: tally.clone(), seen: 0 }.live());
    }
    let joined = || tally.joined.load(Ordering::Relaxed);
    if !Server::wait(PATIENCE, || joined() >= clients) {
        return Err(format!("{} of {clients} clients have joined", joined()));
    }
    let (stop, is_over) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let publisher = publish(Arc::new(Mutex::new(admin)), stop.clone());
    let strangers = Arc::new(Strangers::default());
    runtime.spawn(storm(address, per_second, strangers.clone(), is_over.clone()));
    let (mut successor, mut longest) = (Successor(None), Duration::ZERO);
    for number in 1..=upgrades {
        thread::sleep(calm);
        let begun = Instant::now();
        let answer = ask(admin, "POST", "/api/upgrade", "")?;
        longest = longest.max(begun.elapsed());
        let process = answer["process"].as_i64().ok_or_else(|| format!("upgrade {number}: {answer}"))?;
        successor = Successor(Some(i32::try_from(process).map_err(|e| e.to_string())?)).after(successor);
        if !Server::wait(PATIENCE, || joined() >= clients * (number + 1)) {
            return Err(format!("upgrade {number}: {} of {clients} clients came back", joined() - clients * number));
        }
    }
    thread::sleep(calm);
    is_over.store(true, Ordering::Relaxed);
    stop.store(true, Ordering::Relaxed);
    let last = publisher.join().map_err(|_| "the publisher panicked")? + 1;
    tally.last.store(last, Ordering::Relaxed);
    publish_number(admin, last);
    Server::wait(PATIENCE, || tally.done.load(Ordering::Relaxed) >= clients);
    let number = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
    let missing = clients.saturating_sub(number(&tally.done));
    if let Some(told) = &*strangers.told.lock().expect("nothing panics with the lock held") {
        eprintln!("the first that was refused: {told}");
    }
    drop(successor);
    runtime.shutdown_background();
    let slowest = Duration::from_micros(number(&strangers.slowest_us));
    Ok(Finding {
        size: format!(
            "{upgrades} upgrades in {} each at most, {} connects at {} a second, {} messages to each of {} clients",
            milliseconds(longest),
            count(number(&strangers.served)),
            count(per_second),
            count(last),
            count(clients)
        ),
        figures: vec![
            Figure::exactly("connects refused", number(&strangers.refused), 0),
            Figure::at_most("the slowest", slowest, WAIT_MAX, milliseconds),
            Figure::exactly("messages lost", number(&tally.lost) + missing, 0),
            Figure::exactly("doubled", number(&tally.doubled), 0),
            Figure::exactly("clients told of a gap", number(&tally.gaps), 0),
        ],
    })
}

impl Successor {
    /// The one before ends by itself.
    fn after(self, mut before: Self) -> Self {
        before.0 = None;
        self
    }
}
