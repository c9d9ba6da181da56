//! What waits for all sockets together may take so much memory, and no more: beyond that, those that hold most lose it.

use std::cmp::Reverse;

use super::Shard;
use crate::key::SocketKey;
use crate::outbox::Seen;
use crate::socket::Socket;

/// A socket with what it holds, and since when it has taken nothing.
type Holder = (Reverse<Option<u32>>, u64, Reverse<usize>, SocketKey);

/// Tells what the shard's sockets hold, and lets the largest go if all hold too much. Whether that was so.
/// Not a part of the turn's own code, whose loop over members it would make longer.
#[inline(never)]
pub(super) fn relieve(shard: &mut Shard) -> bool {
    let has_shed = shed_begun(shard);
    tell(shard);
    for key in shard.lent.kept_for_nothing() {
        shard.with(key, |socket, _| socket.put_off_missed());
    }
    excess(shard) > 0 && let_the_largest_go(shard) || has_shed
}

/// Tells what the shard's sockets hold of what was sent to them. If messages of which a part has come take too much, those with the largest
/// give them up, and whether that was so.
fn shed_begun(shard: &mut Shard) -> bool {
    let (reading, inboxes) = (&shard.lent.reading, &shard.lent.surroundings.inboxes);
    inboxes.tell(shard.lent.number, reading.held() as u64, reading.begun_size as u64);
    match inboxes.excess(shard.lent.number) {
        0 => false,
        excess => shed_largest(shard, excess),
    }
}

#[cold]
fn shed_largest(shard: &mut Shard, excess: u64) -> bool {
    let sizes = shard.sockets.iter().map(|(_, socket)| (Reverse(socket.begun_size()), socket.key));
    let mut largest: Vec<(Reverse<usize>, SocketKey)> = sizes.filter(|(Reverse(size), _)| *size > 0).collect();
    largest.sort_unstable_by_key(|&(size, key)| (size, key.index));
    let mut given_up = 0;
    for (Reverse(size), key) in largest {
        if given_up >= excess {
            break;
        }
        given_up += size as u64;
        shard.with(key, Socket::give_up_begun);
    }
    given_up > 0
}

/// What readers share is counted once, and stays if only some of them go: so each time twice as much is let go, until it is enough.
#[cold]
fn let_the_largest_go(shard: &mut Shard) -> bool {
    let (mut times, now_ms) = (1, shard.lent.now_ms);
    loop {
        measure(shard);
        let excess = excess(shard);
        let sizes = shard.sockets.iter_mut().map(|(_, socket)| {
            let size = socket.memory();
            // Of those that hold about as much, first those that have taken nothing for the longest time.
            (Reverse(size.checked_ilog2()), socket.takes_nothing_since_ms(now_ms), Reverse(size), socket.key)
        });
        let mut largest: Vec<Holder> = sizes.filter(|(_, _, Reverse(size), _)| *size > 0).collect();
        if excess == 0 || largest.is_empty() {
            return times > 1;
        }
        largest.sort_unstable_by_key(|&(class, since_ms, size, key)| (class, since_ms, size, key.index));
        let mut given_up = 0;
        for (_, _, Reverse(size), key) in largest {
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
    let outflow = shard.lent.backlog.pool.outflow();
    shard.lent.surroundings.outboxes.tell(shard.lent.number, outflow.held());
    outflow.hungry_sockets.set(shard.lent.hungry() as u64);
}

fn excess(shard: &Shard) -> u64 {
    shard.lent.surroundings.outboxes.excess(shard.lent.number)
}
