//! Several clients at a time.

use std::thread;

/// Some wait for the server while others work.
const WORKERS: usize = 4;

/// Repeats a step in several threads until it says that nothing is left to do.
///
/// # Errors
/// The first that a step has; the others' threads end as they would have without.
pub(crate) fn repeat(step: impl Fn() -> Result<bool, String> + Sync) -> Result<(), String> {
    let work = || {
        while step()? {}
        Ok(())
    };
    thread::scope(|scope| {
        let threads: Vec<_> = (0..WORKERS).map(|_| scope.spawn(work)).collect();
        threads.into_iter().try_for_each(|thread| thread.join().expect("steps do not panic"))
    })
}
