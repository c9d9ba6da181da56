//! The limit of open files: one for each connection.

use nix::sys::resource::{Resource, getrlimit, setrlimit};

/// What a process needs besides connections.
const RESERVE: u64 = 64;

/// Raises the limit so that so many connections can be open.
///
/// # Errors
/// Says what the limit is and how to raise it.
pub(crate) fn allow(connections: usize) -> Result<(), String> {
    let needed = connections as u64 + RESERVE;
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
        "{connections} connections need {needed} open files, and the limit is {hard}: raise it with `ulimit -Hn {needed}` as \
         root, or in /etc/security/limits.conf, or take at most {fitting} connections"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_raised_or_explained() {
        assert_eq!(allow(10), Ok(()));
        let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
        if hard < u64::MAX / 2 {
            assert_eq!(allow(hard as usize - RESERVE as usize), Ok(()));
            let error = allow(hard as usize).unwrap_err();
            assert!(error.contains(&format!("the limit is {hard}")) && error.contains("ulimit -Hn"), "{error}");
        }
    }
}
