//! Places that a server has, whose number can change while it runs.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// So many places.
#[derive(Debug)]
pub(crate) struct Places {
    taken: AtomicUsize,
    max: AtomicUsize,
}

/// One of them; given back when dropped.
#[derive(Debug)]
pub(crate) struct Place(Arc<Places>);

impl Places {
    pub(crate) fn new(max: usize) -> Arc<Self> {
        Arc::new(Places { taken: AtomicUsize::new(0), max: AtomicUsize::new(max) })
    }

    /// # Errors
    /// All are taken: how many there are.
    pub(crate) fn take(self: &Arc<Self>) -> Result<Place, usize> {
        let max = self.max();
        let next = |taken| (taken < max).then_some(taken + 1);
        match self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, next) {
            Ok(_) => Ok(Place(self.clone())),
            Err(_) => Err(max),
        }
    }

    /// How many are taken.
    #[cfg(feature = "metrics")]
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Acquire)
    }

    /// How many there are.
    pub(crate) fn max(&self) -> usize {
        self.max.load(Ordering::Relaxed)
    }

    /// There are so many from now on. Whoever has one keeps it.
    pub(crate) fn resize(&self, max: usize) {
        self.max.store(max, Ordering::Relaxed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_given_back_and_fewer_of_them_take_none_away() {
        let places = Places::new(2);
        let mut taken = vec![places.take().unwrap(), places.take().unwrap()];
        assert_eq!(places.take().unwrap_err(), 2);
        places.resize(1);
        taken.pop();
        assert_eq!(places.take().unwrap_err(), 1, "one is taken still");
        taken.pop();
        assert!(places.take().is_ok());
        places.resize(3);
        taken.extend((0..3).map(|_| places.take().unwrap()));
        assert_eq!(places.take().unwrap_err(), 3);
    }
}
