//! The limit of open files: one for each connection.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a process needs besides connections.
const RESERVE: u64 = 64;

/// Raises the limit so that so many connections can be open, evenly spread over threads that each have
/// [a table of their own](own_table).
///
/// # Errors
/// Says what the limit is and how to raise it.
pub(crate) fn allow(connections: usize, threads: usize) -> Result<(), String> {
    let needed = connections.div_ceil(threads) as u64 + RESERVE;
    let (soft, hard) =
        getrlimit(Resource::RLIMIT_NOFILE).map_err(|error| format!("cannot read the limit of open files: {error}"))?;
    if needed <= soft {
        return Ok(());
    }
    if needed <= hard && setrlimit(Resource::RLIMIT_NOFILE, needed, hard).is_ok() {
        return Ok(());
    }
    let fitting = hard.saturating_sub(RESERVE);
    Err(format!(
        "{connections} connections need {needed} open files in each of {threads} threads, and the limit is {hard}: raise it \
         with `ulimit -Hn {needed}` as root, or in /etc/security/limits.conf, or take more --threads with at most {fitting} \
         connections each"
    ))
}

/// Gives the calling thread a table of open files for itself, a copy of what is open now. The kernel then takes no lock and
/// counts no references when it looks a file up, and the limit is the thread's own.
///
/// **What is opened from here on must be closed in this thread**: in others its number is another file, or none.
pub(crate) fn own_table() {
    // Without it all works as well, only a little slower, up to the limit.
    let _ = nix::sched::unshare(nix::sched::CloneFlags::CLONE_FILES);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_or_explained() {
        assert_eq!(allow(10, 1), Ok(()));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if hard < u64::MAX / 2 {
            assert_eq!(allow(hard as usize - RESERVE as usize, 1), Ok(()));
            let error = allow(hard as usize, 1).unwrap_err();
            assert_eq!(allow(hard as usize, 2), Ok(()));
            assert!(error.contains(&format!("the limit is {hard}")) && error.contains("ulimit -Hn"), "{error}");
        }
    }
}
