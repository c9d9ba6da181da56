//! Frames that do not leave at once: queued for their socket, where those of some topics may give way.

use bytes::Bytes;
use fanfare_proto::session::Session;

use crate::event::Counters;
use crate::gap::Voice;
use crate::hub::Frames;
use crate::join::Seat;
use crate::message::{Message, Variant};
use crate::outbox::{Bounds, Outbox, Yielding};
use crate::policy::Slow;
use crate::socket::{Carrier, Socket};
use crate::transport::websocket::{Pool, Written};

/// What all sockets of a shard have in common.
pub(super) struct Common<'a> {
    pub(super) pool: &'a mut Pool,
    /// Sockets with something queued in this turn.
    pub(super) dirty: &'a mut Vec<u32>,
    pub(super) counters: &'a Counters,
}

/// Queues whole frames that must not be lost.
pub(super) fn queue(socket: &mut Socket, bytes: Bytes, frames: usize, common: &mut Common<'_>) -> Written {
    let bounds = socket.info.mount.limits.outbox;
    let outbox = match &mut socket.carrier {
        Carrier::WebSocket(websocket) => websocket.outbox(common.pool),
        Carrier::Poll(session) => session.outbox(),
        #[cfg(feature = "testing")]
        Carrier::Frames(test_kit) => {
            // Its end may be gone: then its socket is about to be closed.
            let _ = test_kit.send(crate::socket::LocalFrame::Text(bytes));
            return Written::All;
        }
        Carrier::Broadcasts(_) => return Written::All,
    };
    if outbox.has_room(bytes.len(), frames, bounds) {
        outbox.push(bytes, frames);
        return Written::Waiting;
    }
    queue_in_full(socket, bytes, frames, bounds, common)
}

/// The same where other messages have to give way.
#[cold]
#[inline(never)]
fn queue_in_full(socket: &mut Socket, bytes: Bytes, frames: usize, bounds: Bounds, common: &mut Common<'_>) -> Written {
    let Socket { carrier, session, .. } = socket;
    let Some((outbox, _)) = outbox_of(carrier, bytes.len(), frames, bounds, common.pool) else {
        return Written::All;
    };
    let has_room = outbox.make_room(bytes.len(), frames, bounds);
    if has_room {
        outbox.push(bytes, frames);
    }
    account(outbox, session, common.counters);
    if has_room { Written::Waiting } else { Written::Full }
}

/// Counts what has given way. A join that resumes has been sent all of its topic only from behind that on.
fn account(outbox: &mut Outbox, session: &mut Session<Seat>, counters: &Counters) {
    outbox.take_losses().count(counters);
    for (serial, position) in outbox.take_gaps() {
        if let Some(slot) = session.position(serial)
            && let Some(from) = &mut session.entry_mut(slot).data.complete_from
        {
            **from = position;
        }
    }
}

/// Queues a member's share of a batch.
pub(super) fn queue_frames(socket: &mut Socket, serial: u32, frames: Frames<'_>, common: &mut Common<'_>) -> Written {
    let Some(slow) = frames.slow else {
        return queue(socket, frames.bytes.clone(), frames.messages.len(), common);
    };
    for message in frames.messages {
        match queue_message(socket, serial, message, frames.variant, slow, common) {
            Written::Waiting | Written::All => {}
            trouble => return trouble,
        }
    }
    Written::Waiting
}

/// Queues what has not left of a member's share, of which so many bytes have.
#[cold]
#[inline(never)]
pub(super) fn queue_rest(
    socket: &mut Socket,
    serial: u32,
    frames: Frames<'_>,
    written: usize,
    common: &mut Common<'_>,
) -> Written {
    let Carrier::WebSocket(websocket) = &mut socket.carrier else { return Written::All };
    let Some(slow) = frames.slow else {
        websocket.outbox(common.pool).push_rest(frames.bytes.clone(), frames.messages.len(), written);
        return Written::Waiting;
    };
    let mut end = 0;
    for message in frames.messages {
        let bytes = message.encoded(frames.variant);
        let begin = end;
        end += bytes.len();
        if end <= written {
            continue;
        }
        if begin < written {
            let Carrier::WebSocket(websocket) = &mut socket.carrier else { return Written::All };
            websocket.outbox(common.pool).push_rest(bytes.clone(), 1, written - begin);
        } else {
            queue_message(socket, serial, message, frames.variant, slow, common);
        }
    }
    Written::Waiting
}

/// Queues one message of a topic, by the rule of the topic.
pub(super) fn queue_message(
    socket: &mut Socket,
    serial: u32,
    message: &Message,
    variant: Variant,
    slow: &Slow,
    common: &mut Common<'_>,
) -> Written {
    let bytes = message.encoded(variant);
    let Some(rule) = slow.rule() else { return queue(socket, bytes.clone(), 1, common) };
    let key = match slow {
        Slow::Latest { key } => message.key(key.as_deref()),
        _ => 0,
    };
    let (form, resuming_form, carriage) = (socket.form(), socket.resuming_form(), socket.carriage());
    let bounds = socket.info.mount.limits.outbox;
    let Socket { carrier, session, .. } = socket;
    let voice = || {
        let entry = session.entry(session.position(serial)?);
        let resumes = entry.data.resumes;
        let form = if resumes { resuming_form } else { form };
        let (topic, join_ref) = (entry.topic().clone(), entry.push_ref().clone());
        (resumes || entry.data.hears_gaps).then(|| Box::new(Voice { topic, join_ref, form, carriage, resumes }))
    };
    let Some((outbox, is_held_up)) = outbox_of(carrier, bytes.len(), 1, bounds, common.pool) else {
        return queue(socket, bytes.clone(), 1, common);
    };
    let yielding = Yielding { lane: serial, rule, key, position: message.position, is_held_up };
    outbox.offer(yielding, |position| message.encoded_at(variant, position), bounds, voice);
    account(outbox, session, common.counters);
    Written::Waiting
}

/// The outbox for so much more, and whether the reader takes no more at present; `None` on a carrier where nothing waits. A
/// reader is slow once the kernel takes no more: before anything gives way, it gets what is there.
fn outbox_of<'a>(
    carrier: &'a mut Carrier,
    bytes: usize,
    frames: usize,
    bounds: Bounds,
    pool: &mut Pool,
) -> Option<(&'a mut Outbox, bool)> {
    match carrier {
        Carrier::WebSocket(websocket) => {
            if !websocket.is_held_up()
                && websocket.has_waiting()
                && !websocket.outbox(pool).has_room(bytes, frames, bounds)
            {
                // That the connection is lost is seen by the next write as well.
                let _ = websocket.flush(pool);
            }
            let is_held_up = websocket.is_held_up();
            Some((websocket.outbox(pool), is_held_up))
        }
        Carrier::Poll(session) => {
            let is_held_up = session.is_held_up();
            Some((session.outbox(), is_held_up))
        }
        #[cfg(feature = "testing")]
        Carrier::Frames(_) => None,
        Carrier::Broadcasts(_) => None,
    }
}
