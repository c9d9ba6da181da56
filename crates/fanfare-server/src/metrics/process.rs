//! What the process takes of the machine, under the names that all of Prometheus' clients have for it.

use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;

/// Read when it is asked for. Where the system does not tell, neither does this.
#[derive(Debug)]
pub(super) struct ProcessFigures;

impl Collector for ProcessFigures {
    #[cfg(not(target_os = "linux"))]
    fn encode(&self, _: DescriptorEncoder<'_>) -> fmt::Result {
        Ok(())
    }

    #[cfg(target_os = "linux")]
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        linux::read().map_or(Ok(()), |read| read.encode(&mut encoder))
    }
}

/// What the process has in memory, if the system tells.
pub(crate) fn resident_bytes() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let memory = procfs::process::Process::myself().and_then(|process| process.statm()).ok()?;
        Some(memory.resident * procfs::page_size())
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// For how many seconds of a processor the process has worked, if the system tells.
pub(crate) fn cpu_seconds() -> Option<f64> {
    #[cfg(target_os = "linux")]
    {
        let stat = procfs::process::Process::myself().and_then(|process| process.stat()).ok()?;
        Some((stat.utime + stat.stime) as f64 / procfs::ticks_per_second() as f64)
    }
    #[cfg(not(target_os = "linux"))]
    None
}

#[cfg(target_os = "linux")]
mod linux {
    use std::fmt;
    use std::time::{Duration, SystemTime};

    use procfs::process::{LimitValue, Process};
    use procfs::{Current, ProcResult, Uptime};
    use prometheus_client::encoding::DescriptorEncoder;

    use crate::memory;
    use crate::metrics::families;

    /// What is known of the process.
    pub(super) struct Figures {
        cpu_s: f64,
        open_fds: u64,
        max_fds: f64,
        resident_bytes: u64,
        threads: i64,
        started_s: f64,
        memory_limit_bytes: u64,
    }

    pub(super) fn read() -> Option<Figures> {
        tried().inspect_err(|error| tracing::debug!(%error, "the system does not tell of the process")).ok()
    }

    fn tried() -> ProcResult<Figures> {
        let process = Process::myself()?;
        let stat = process.stat()?;
        let ticks = procfs::ticks_per_second() as f64;
        let since_epoch = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let booted_s = since_epoch.as_secs_f64() - Uptime::current()?.uptime;
        let max_fds = match process.limits()?.max_open_files.soft_limit {
            LimitValue::Value(limit) => limit as f64,
            LimitValue::Unlimited => f64::INFINITY,
        };
        Ok(Figures {
            cpu_s: (stat.utime + stat.stime) as f64 / ticks,
            open_fds: process.fd_count()? as u64,
            max_fds,
            resident_bytes: stat.rss * procfs::page_size(),
            threads: stat.num_threads,
            started_s: booted_s + stat.starttime as f64 / ticks,
            memory_limit_bytes: memory::limit().unwrap_or(0),
        })
    }

    impl Figures {
        pub(super) fn encode(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
            families::CPU.encode(encoder, |samples| samples.counter_of_seconds(&[], self.cpu_s))?;
            families::OPEN_FDS.encode(encoder, |samples| samples.gauge(&[], self.open_fds as f64))?;
            families::MAX_FDS.encode(encoder, |samples| samples.gauge(&[], self.max_fds))?;
            families::RESIDENT_MEMORY.encode(encoder, |samples| samples.gauge(&[], self.resident_bytes as f64))?;
            families::THREADS.encode(encoder, |samples| samples.gauge(&[], self.threads as f64))?;
            families::START_TIME.encode(encoder, |samples| samples.gauge(&[], self.started_s))?;
            families::MEMORY_LIMIT.encode(encoder, |samples| samples.gauge(&[], self.memory_limit_bytes as f64))
        }
    }
}
