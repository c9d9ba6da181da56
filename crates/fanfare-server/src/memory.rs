//! How much memory the process may have, as far as the system tells.

/// What the control group of the process may have, if it is bounded.
pub(crate) fn limit() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        let process = procfs::process::Process::myself().ok()?;
        let group = process.cgroups().ok()?.into_iter().find(|group| group.hierarchy == 0)?;
        let limit = std::fs::read_to_string(format!("/sys/fs/cgroup{}/memory.max", group.pathname)).ok()?;
        limit.trim().parse().ok()
    }
    #[cfg(not(target_os = "linux"))]
    None
}

/// The same, or else what the machine has.
pub(crate) fn available() -> Option<u64> {
    #[cfg(target_os = "linux")]
    {
        use procfs::Current;

        let machine = procfs::Meminfo::current().ok()?.mem_total;
        Some(limit().map_or(machine, |limit| limit.min(machine)))
    }
    #[cfg(not(target_os = "linux"))]
    None
}
