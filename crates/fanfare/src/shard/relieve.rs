//! What waits for all sockets together may take so much memory, and no more: beyond that, those that hold most lose it.

use std::cmp::Reverse;

use super::Shard;
use crate::key::SocketKey;
use crate::outbox::Seen;
use crate::socket::Socket;

/// Tells what the shard's sockets hold, and lets the largest go if all hold too much. Whether that was so.
/// Not a part of the turn's own code, whose loop over members it would make longer.
#[inline(never)]
pub(super) fn relieve(shard: &mut Shard) -> bool {
    tell(shard);
    if !shard.lent.postponed.is_empty() && shard.lent.has_room_for_missed() {
        shard.lent.hungry.append(&mut shard.lent.postponed);
    }
    excess(shard) > 0 && let_the_largest_go(shard)
}

/// What readers share is counted once, and stays if only some of them go: so each time twice as much is let go, until it is enough.
#[cold]
fn let_the_largest_go(shard: &mut Shard) -> bool {
    let mut times = 1;
    loop {
        measure(shard);
        let excess = excess(shard);
        let sizes =
            shard.sockets.iter_mut().map(|(_, socket)| (Reverse(socket.memory()), socket.key.index, socket.key));
        let mut largest: Vec<(Reverse<usize>, u32, SocketKey)> =
            sizes.filter(|(Reverse(size), ..)| *size > 0).collect();
        if excess == 0 || largest.is_empty() {
            return times > 1;
        }
        largest.sort_unstable_by_key(|&(size, index, _)| (size, index));
        let mut given_up = 0;
        for (Reverse(size), _, key) in largest {
            if given_up >= excess.saturating_mul(times) {
                break;
            }
            given_up += size as u64;
            shard.with(key, Socket::relieve);
        }
        times *= 2;
    }
}

fn measure(shard: &mut Shard) {
    let mut seen = Seen::default();
    let sum: usize = shard.sockets.iter_mut().map(|(_, socket)| socket.measure(&mut seen)).sum();
    shard.lent.backlog.pool.outflow().is_measured(sum as u64);
    tell(shard);
}

fn tell(shard: &Shard) {
    shard.lent.surroundings.outboxes.tell(shard.lent.number, shard.lent.backlog.pool.outflow().held());
}

fn excess(shard: &Shard) -> u64 {
    shard.lent.surroundings.outboxes.excess(shard.lent.number)
}
