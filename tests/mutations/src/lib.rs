//! Inputs that were right and have been broken, for whatever reads what strangers send.
//!
//! A test gives [`broken`] some right inputs and what reads them. A run of the tests tries some thousands; `cargo xtask fuzz` goes on for as
//! long as it is told. Whatever fails names the seed and the number that repeat it. Coverage does not guide it, so that it needs no
//! toolchain of its own: the right inputs are to hold what a reader branches on.

mod random;

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::time::{Duration, Instant};

pub use random::Random;

/// The variable by which `cargo xtask fuzz` says for how long.
pub const SECONDS: &str = "FANFARE_FUZZ_SECONDS";
/// The one by which it says with which seed.
pub const SEED: &str = "FANFARE_FUZZ_SEED";

/// So many inputs in a run of the tests.
const SHORT: u64 = 5_000;

/// An input has at most so many bytes.
const SIZE_MAX: usize = 64 * 1024;

/// What parsers trip over.
const ODD: [&[u8]; 24] = [
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xed\xa0\x80",
    b"\"",
    b"\\",
    b"\\ud800",
    b"\\u0000",
    b"[",
    b"]",
    b"{",
    b"}",
    b",",
    b":",
    b"-",
    b"1e999",
    b"18446744073709551616",
    b"null",
    b"%",
    b"%00",
    b"\r\n",
    b"\n",
    b"\xef\xbb\xbf",
    b"__proto__",
];

/// Breaks inputs, one after the other, and has each read.
///
/// # Panics
/// The reader does; and a number in the environment is none.
pub fn broken(right: &[&[u8]], mut read: impl FnMut(&[u8])) {
    let number =
        |name| std::env::var(name).ok().map(|text| text.parse::<u64>().unwrap_or_else(|e| panic!("{name}: {e}")));
    let (seconds, seed) = (number(SECONDS), number(SEED).unwrap_or(1));
    let begun = Instant::now();
    let goes_on = |done: u64| match seconds {
        Some(seconds) => begun.elapsed() < Duration::from_secs(seconds),
        None => done < SHORT,
    };
    let mut done = 0;
    while goes_on(done) {
        // A stream of its own, so that one input can be made again without those before it.
        let input = mutated(right, &mut Random::new(seed, done));
        if let Err(panic) = catch_unwind(AssertUnwindSafe(|| read(&input))) {
            eprintln!("{SEED}={seed}, number {done}: {}", input.escape_ascii());
            resume_unwind(panic);
        }
        done += 1;
    }
    if seconds.is_some() {
        println!("{done} inputs");
    }
}

fn mutated(right: &[&[u8]], random: &mut Random) -> Vec<u8> {
    let mut input = random.of(right).to_vec();
    for _ in 0..random.below(6) {
        mutate(&mut input, right, random);
    }
    input.truncate(SIZE_MAX);
    input
}

fn mutate(input: &mut Vec<u8>, right: &[&[u8]], random: &mut Random) {
    let at = random.below(input.len() + 1);
    let to = (at + random.below(16)).min(input.len());
    match random.below(9) {
        0 if at < input.len() => input[at] ^= 1 << random.below(8),
        1 if at < input.len() => input[at] = random.byte(),
        2 => input.truncate(at),
        3 => drop(input.drain(at..to)),
        4 => {
            let again = input[at..to].repeat(1 + random.below(4));
            input.splice(at..at, again);
        }
        // Deep, long, or both.
        5 if random.one_in(8) => {
            let again = random.of(&ODD).repeat(random.below(2_000));
            input.splice(at..at, again);
        }
        6 => {
            let other = random.of(right);
            let from = random.below(other.len() + 1);
            input.truncate(at);
            input.extend_from_slice(&other[from..]);
        }
        7 => {
            let length = random.number() >> random.below(64);
            let bytes = length.to_be_bytes();
            input.splice(at..to, bytes[random.below(8)..].iter().copied());
        }
        _ => {
            let odd = random.of(&ODD);
            input.splice(at..to, odd.iter().copied());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_repeats_what_it_has_broken_and_no_two_are_alike() {
        let inputs =
            |seed| (0..100).map(|n| mutated(&[b"[1, 2]", b"{}"], &mut Random::new(seed, n))).collect::<Vec<_>>();
        assert_eq!(inputs(1), inputs(1));
        assert_ne!(inputs(1), inputs(2));
    }

    #[test]
    fn what_falls_over_is_found() {
        let changed = catch_unwind(|| broken(&[b"abcdef"], |input| assert!(input == b"abcdef")));
        assert!(changed.is_err());
    }
}
