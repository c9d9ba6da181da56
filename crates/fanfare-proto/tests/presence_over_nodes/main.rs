//! Nodes that tell each other who is present, through a broker that loses a tenth, reorders and doubles, while nodes die, are stalled and are
//! cut off: what their clients see must be equal once it is quiet, nobody who is there may leave, and a node that is deaf must
//! not expire anybody. `cargo test -p fanfare-proto --test presence_over_nodes` tries 300 seeds; a failure names the one that repeats it.

mod simulation;

use simulation::{Mutation, Quiet, run};

const SEEDS: u64 = 300;

#[test]
fn all_views_are_equal_once_it_is_quiet_and_nobody_flaps() {
    for seed in 0..SEEDS {
        // Where links come up again, everything is asked for; otherwise only digests and doubts heal.
        let quiet = if seed % 8 > 0 { Quiet::LinksComeUp } else { Quiet::NothingIsSaid };
        if let Err(violation) = run(seed, quiet, Mutation::None) {
            panic!("seed {seed}: {violation}");
        }
    }
}

#[track_caller]
fn is_seen(mutation: Mutation) {
    let is_seen = (0..SEEDS).any(|seed| run(seed, Quiet::LinksComeUp, mutation).is_err());
    assert!(is_seen, "{mutation:?} passes");
}

#[test]
fn a_deaf_node_that_expires_others_is_seen() {
    is_seen(Mutation::DeafExpire);
}

#[test]
fn a_delta_applied_to_another_version_is_seen() {
    is_seen(Mutation::AnyDeltaFits);
}

#[test]
fn a_node_that_does_not_ask_after_a_gap_is_seen() {
    is_seen(Mutation::NobodyAsksAgain);
}
