//! CPU time and memory, from `/proc`. Whatever is not there counts as nothing: the server may be on another machine.

use std::collections::BTreeSet;
use std::fs;
use std::ops::Sub;

/// CPU time in seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(crate) struct Cpu {
    pub(crate) user: f64,
    pub(crate) system: f64,
}

impl Cpu {
    pub(crate) fn total(self) -> f64 {
        self.user + self.system
    }
}

impl Sub for Cpu {
    type Output = Cpu;

    fn sub(self, earlier: Cpu) -> Cpu {
        Cpu { user: self.user - earlier.user, system: self.system - earlier.system }
    }
}

/// What was used up to a moment.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Usage {
    pub(crate) server: Cpu,
    pub(crate) generator: Cpu,
    /// The kernel's threads that carry on with what arrives over the network when there is too much of it.
    pub(crate) softirq: f64,
    /// Everything that any core did.
    pub(crate) machine: f64,
    /// What a virtual machine's host gave to others while a core had something to do.
    pub(crate) stolen: f64,
}

impl Sub for Usage {
    type Output = Usage;

    fn sub(self, earlier: Usage) -> Usage {
        Usage {
            server: self.server - earlier.server,
            generator: self.generator - earlier.generator,
            softirq: self.softirq - earlier.softirq,
            machine: self.machine - earlier.machine,
            stolen: self.stolen - earlier.stolen,
        }
    }
}

impl Usage {
    /// Deliveries over loopback are finished by the kernel's own threads when there are many: this is server's time as well.
    pub(crate) fn server_total(&self) -> f64 {
        self.server.total() + self.softirq
    }

    /// What neither the server nor we have used.
    pub(crate) fn others(&self) -> f64 {
        (self.machine - self.server_total() - self.generator.total()).max(0.0)
    }
}

/// The processes of the server.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    server: Vec<u32>,
    softirq: Vec<u32>,
}

impl Watch {
    /// Watches these processes and their descendants.
    ///
    /// # Errors
    /// Names a process that is not there.
    pub(crate) fn new(server: &[u32]) -> Result<Self, String> {
        if let Some(pid) = server.iter().find(|pid| stat(**pid).is_none()) {
            return Err(format!(
                "--server-pid {pid}: there is no such process on this machine; for a server on another one, leave it out"
            ));
        }
        let softirq = processes().filter(|pid| stat(*pid).is_some_and(|stat| stat.name.starts_with("ksoftirqd/")));
        Ok(Self { server: server.to_vec(), softirq: softirq.collect() })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.server.is_empty()
    }

    /// CPU time used up to now.
    pub(crate) fn usage(&self) -> Usage {
        let cpu = |pids: &mut dyn Iterator<Item = u32>| {
            pids.filter_map(stat).fold(Cpu::default(), |sum, stat| Cpu {
                user: sum.user + stat.cpu.user,
                system: sum.system + stat.cpu.system,
            })
        };
        let (machine, stolen) =
            fs::read_to_string("/proc/stat").ok().and_then(|text| machine(&text)).unwrap_or_default();
        Usage {
            server: cpu(&mut self.family().into_iter()),
            generator: cpu(&mut std::iter::once(std::process::id())),
            softirq: cpu(&mut self.softirq.iter().copied()).total(),
            machine,
            stolen,
        }
    }

    /// The server's resident memory in bytes.
    pub(crate) fn memory(&self) -> u64 {
        let resident = |pid| resident(&fs::read_to_string(format!("/proc/{pid}/status")).ok()?);
        self.family().into_iter().filter_map(resident).sum()
    }

    fn family(&self) -> BTreeSet<u32> {
        let mut family: BTreeSet<u32> = self.server.iter().copied().collect();
        if family.is_empty() {
            return family;
        }
        let parents: Vec<(u32, u32)> = processes().filter_map(|pid| Some((pid, stat(pid)?.parent))).collect();
        while let Some((pid, _)) = parents.iter().find(|(pid, parent)| family.contains(parent) && !family.contains(pid))
        {
            family.insert(*pid);
        }
        family
    }
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten();
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

struct Stat {
    name: String,
    parent: u32,
    cpu: Cpu,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

/// `/proc/PID/stat`: the name is in parentheses and may have anything in it.
fn parse_stat(text: &str) -> Option<Stat> {
    let (name, rest) = text.split_once('(')?.1.rsplit_once(')')?;
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let seconds = |at: usize| Some(fields.get(at)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    let cpu = Cpu { user: seconds(11)?, system: seconds(12)? };
    Some(Stat { name: name.to_owned(), parent: fields.get(1)?.parse().ok()?, cpu })
}

/// Linux tells user space that there are a hundred, whatever its own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

/// The first line of `/proc/stat`: everything but idling and waiting (guests are in user time already), and what was stolen.
fn machine(text: &str) -> Option<(f64, f64)> {
    let fields: Vec<f64> =
        text.lines().next()?.split_whitespace().skip(1).filter_map(|field| field.parse().ok()).collect();
    let sum = |at: &[usize]| at.iter().filter_map(|at| fields.get(*at)).sum::<f64>() / TICKS_PER_SECOND;
    Some((sum(&[0, 1, 2, 5, 6]), sum(&[7])))
}

/// `VmRSS` of `/proc/PID/status`, in bytes.
fn resident(text: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    Some(line.split_whitespace().next()?.parse::<u64>().ok()? * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats_of_proc() {
        let stat = parse_stat("7 (a) (b) S 3 7 7 0 -1 4194560 1 2 3 4 250 50 9 9 20 0 1 0").unwrap();
        assert_eq!((stat.name.as_str(), stat.parent, stat.cpu), ("a) (b", 3, Cpu { user: 2.5, system: 0.5 }));
        assert!(parse_stat("7 a S").is_none());
        assert_eq!(machine("cpu  100 200 300 9999 9999 10 20 30 40 50\ncpu0 1"), Some((6.3, 0.3)));
        assert_eq!(resident("Name:\tx\nVmRSS:\t    2048 kB\n"), Some(2048 * 1024));
        assert_eq!(resident("Name:\tx\n"), None);
    }

    #[test]
    fn a_process_and_what_it_started() {
        let mut shell = std::process::Command::new("sh");
        let mut child = shell.args(["-c", "sleep 5 & wait"]).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(200));
        let watch = Watch::new(&[child.id()]).unwrap();
        let family = watch.family();
        assert!(family.len() == 2 && watch.memory() > 100_000, "{family:?}");
        for pid in family {
            std::process::Command::new("kill").arg(pid.to_string()).status().unwrap();
        }
        child.wait().unwrap();
        assert!(Watch::new(&[u32::MAX]).unwrap_err().contains("no such process"));
    }

    #[test]
    fn our_own_time_passes() {
        let watch = Watch::new(&[]).unwrap();
        let before = watch.usage();
        let start = std::time::Instant::now();
        while start.elapsed().as_millis() < 60 {}
        let used = watch.usage() - before;
        assert!(used.generator.total() > 0.0 && used.machine > 0.0 && watch.is_empty(), "{used:?}");
    }
}
