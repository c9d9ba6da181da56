//! What all brokers that are reached over connections are told, as far as it can be checked without one.

use std::time::Duration;

use crate::error::Error;

/// The longest namespace, in bytes. It is a part of every name.
const NAMESPACE_SIZE_MAX: usize = 64;

/// Looks for what cannot be.
///
/// # Errors
/// The namespace has other characters or another length than names can have, or the timeout is zero.
pub(super) fn check(namespace: &str, timeout: Duration) -> Result<(), Error> {
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !(1..=NAMESPACE_SIZE_MAX).contains(&namespace.len()) || !namespace.bytes().all(is_name) {
        return Err(Error::invalid(format!(
            "the namespace {namespace:?} is not 1 to {NAMESPACE_SIZE_MAX} letters, digits, \"-\", \"_\", \".\" or \":\""
        )));
    }
    if timeout.is_zero() {
        return Err(Error::invalid("a timeout of 0 gives the broker no time to answer; 2 seconds is the default"));
    }
    Ok(())
}
