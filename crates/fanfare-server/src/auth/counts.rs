//! How often credentials were accepted, and what was wrong with those that were not.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::{Refusal, Verified, jwt};

/// That there is no credential.
pub(super) const MISSING: &str = "there is no token";

const RESULTS: [&str; 5] = ["ok", "missing", "expired", "unavailable", "invalid"];

/// Those of one authenticator.
#[derive(Debug, Default)]
pub(crate) struct Counts([AtomicU64; RESULTS.len()]);

/// Those of all, by name. They outlive the configuration.
#[derive(Debug, Default, Clone)]
pub(crate) struct AuthFigures(Arc<Mutex<BTreeMap<String, Arc<Counts>>>>);

impl Counts {
    pub(super) fn count(&self, checked: &Result<Verified, Refusal>) {
        let result = match checked {
            Ok(_) => 0,
            Err(refusal) if refusal.detail == MISSING => 1,
            Err(refusal) if refusal.detail == jwt::EXPIRED => 2,
            Err(refusal) if refusal.is_unavailable => 3,
            Err(_) => 4,
        };
        self.0[result].fetch_add(1, Ordering::Relaxed);
    }

    /// The results and their numbers.
    pub(crate) fn numbers(&self) -> impl Iterator<Item = (&'static str, u64)> {
        RESULTS.into_iter().zip(self.0.iter().map(|number| number.load(Ordering::Relaxed)))
    }
}

impl AuthFigures {
    /// Those of the authenticator with this name.
    pub(super) fn of(&self, name: &str) -> Arc<Counts> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.entry(name.to_owned()).or_default().clone()
    }

    /// All of them.
    pub(crate) fn all(&self) -> Vec<(String, Arc<Counts>)> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.iter().map(|(name, counts)| (name.clone(), counts.clone())).collect()
    }
}
