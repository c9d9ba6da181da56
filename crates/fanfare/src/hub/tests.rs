//! The hub against a model: whatever the interleaving of joins, leaves, publishes, exclusions, settlings and flushes, each
//! member receives exactly what was published while it was a member, in order.

use std::collections::BTreeMap;

use fanfare_proto::frame::Form;
use fanfare_proto::payload::Payload;
use fanfare_proto::phoenix::message::Format;

use super::*;
use crate::figures::Labels;
use crate::message::Carriage;

const TEXT: Variant = Variant::new(Form::Phoenix(Format::V2), Carriage::Text);
const FRAMES: Variant = Variant::new(Form::Phoenix(Format::V2), Carriage::WebSocket);

/// A generator that a seed makes repeatable.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % n
    }
}

struct Player {
    place: Place,
    reach: Reach,
    expected: Vec<usize>,
}

struct Game {
    hub: Hub,
    players: BTreeMap<u32, Player>,
    received: BTreeMap<u32, Vec<u8>>,
    singly: BTreeMap<u32, Vec<usize>>,
    published: Vec<Arc<Message>>,
    gone: Vec<(u32, Player)>,
}

fn figures() -> Arc<Figures> {
    Arc::new(Figures::new(Arc::new(Labels::new(std::iter::empty())), 0))
}

/// A hub of a single shard.
fn hub() -> Hub {
    Hub::new(0, Arc::new(Interest::new(1, None)), Arc::default(), figures())
}

impl Game {
    fn new() -> Self {
        Game {
            hub: hub(),
            players: BTreeMap::new(),
            received: BTreeMap::new(),
            singly: BTreeMap::new(),
            published: Vec::new(),
            gone: Vec::new(),
        }
    }

    fn join(&mut self, socket: u32, reach: Reach) {
        let place = self.hub.join(&"topic".into(), MemberId { socket, serial: 0 }, reach, None);
        self.players.insert(socket, Player { place, reach, expected: Vec::new() });
    }

    fn leave(&mut self, socket: u32) {
        self.settle(socket);
        let player = self.players.remove(&socket).unwrap();
        if let Some((moved, from)) = self.hub.leave(player.place) {
            let other = self.players.get_mut(&moved.socket).unwrap();
            assert_eq!(other.place.position, from);
            other.place = player.place;
        }
        self.gone.push((socket, player));
    }

    fn settle(&mut self, socket: u32) {
        let received = self.received.entry(socket).or_default();
        self.hub.settle(self.players[&socket].place, |member, frames| {
            assert_eq!(member.socket, socket);
            received.extend_from_slice(frames.bytes);
        });
    }

    fn publish(&mut self, except: Option<u32>) {
        let number = self.published.len();
        let payload = Payload::from(serde_json::json!({ "n": number }));
        let message = Message::new("topic".into(), "event", payload).unwrap();
        let except_place = except.map(|socket| self.players[&socket].place);
        let (received, singly) = (&mut self.received, &mut self.singly);
        self.hub.publish(
            &message,
            Tick::default(),
            except_place,
            |member, frames| received.entry(member.socket).or_default().extend_from_slice(frames.bytes),
            |member, reach| {
                // Intercepting channels take every third message themselves.
                let takes = reach == Reach::Each || number.is_multiple_of(3);
                if takes {
                    singly.entry(member.socket).or_default().push(number);
                }
                if takes { Take::Alone } else { Take::Batch }
            },
        );
        for (&socket, player) in &mut self.players {
            if Some(socket) != except {
                player.expected.push(number);
            }
        }
        self.published.push(message);
    }

    fn flush(&mut self) {
        let received = &mut self.received;
        self.hub.flush(|member, frames| {
            received.entry(member.socket).or_default().extend_from_slice(frames.bytes);
            true
        });
    }

    fn check(mut self, seed: u64) {
        let players = std::mem::take(&mut self.players);
        for (socket, player) in players.into_iter().chain(self.gone) {
            let by_itself = |n: &usize| match player.reach {
                Reach::Shared(_) => false,
                Reach::Intercepted(_) => n.is_multiple_of(3),
                Reach::Each | Reach::Held => true,
            };
            let (single, batched): (Vec<usize>, Vec<usize>) = player.expected.into_iter().partition(by_itself);
            let variant =
                if let Reach::Shared(variant) | Reach::Intercepted(variant) = player.reach { variant } else { TEXT };
            let bytes: Vec<u8> = batched.iter().flat_map(|&n| self.published[n].encoded(variant).to_vec()).collect();
            assert_eq!(self.received.remove(&socket).unwrap_or_default(), bytes, "socket {socket}, seed {seed}");
            assert_eq!(self.singly.remove(&socket).unwrap_or_default(), single, "socket {socket}, seed {seed}");
        }
    }
}

#[test]
fn members_receive_what_was_published_while_they_were_members() {
    let reaches =
        [Reach::Shared(FRAMES), Reach::Shared(TEXT), Reach::Intercepted(FRAMES), Reach::Intercepted(TEXT), Reach::Each];
    for seed in 0..500 {
        let (mut dice, mut game) = (Dice(seed), Game::new());
        for socket in 0..200 {
            let anybody = |dice: &mut Dice, game: &Game| {
                let sockets: Vec<u32> = game.players.keys().copied().collect();
                (!sockets.is_empty()).then(|| sockets[dice.below(sockets.len())])
            };
            match dice.below(8) {
                0 | 1 => game.join(socket, reaches[dice.below(reaches.len())]),
                2 => anybody(&mut dice, &game).into_iter().for_each(|socket| game.leave(socket)),
                3 => anybody(&mut dice, &game).into_iter().for_each(|socket| game.settle(socket)),
                4 => game.publish(anybody(&mut dice, &game)),
                5 => game.flush(),
                _ => game.publish(None),
            }
        }
        game.flush();
        game.check(seed);
    }
}

#[test]
fn a_topic_exists_while_it_has_members() {
    let mut hub = hub();
    let topic: Arc<str> = "topic".into();
    let first = hub.join(&topic, MemberId { socket: 1, serial: 0 }, Reach::Shared(FRAMES), None);
    let second = hub.join(&topic, MemberId { socket: 2, serial: 0 }, Reach::Shared(FRAMES), None);
    assert_eq!(hub.topics(0, 10).0.map(|(name, members, _)| (&**name, members)).collect::<Vec<_>>(), [("topic", 2)]);
    assert_eq!(hub.leave(first), Some((MemberId { socket: 2, serial: 0 }, second.position)));
    assert_eq!(hub.leave(first), None);
    assert_eq!((hub.topics(0, 10).0.count(), hub.interned("topic")), (0, None));
}

/// A message is encoded once per variant, not once per subscriber; subscribers share the bytes.
#[test]
fn subscribers_of_a_variant_share_the_bytes() {
    let mut hub = hub();
    let topic: Arc<str> = "topic".into();
    let members = [FRAMES, FRAMES, FRAMES, TEXT, TEXT];
    for (socket, variant) in members.into_iter().enumerate() {
        hub.join(&topic, MemberId { socket: socket as u32, serial: 0 }, Reach::Shared(variant), None);
    }
    for batch in [1, 3] {
        for n in 0..batch {
            let message = Message::new(topic.clone(), "event", serde_json::json!({ "n": n }).into()).unwrap();
            hub.publish(&message, Tick::default(), None, |_, _| panic!("nobody is settled"), |_, _| Take::Batch);
        }
        let mut addresses = vec![Vec::new(); members.len()];
        hub.flush(|member, frames| {
            addresses[member.socket as usize].push(frames.bytes.as_ptr() as usize);
            true
        });
        assert_eq!((addresses[0].len(), addresses[3].len()), (1, batch), "frames leave together, texts one by one");
        assert!(addresses[..3].iter().all(|of| *of == addresses[0]), "a batch of {batch}");
        assert!(addresses[3..].iter().all(|of| *of == addresses[3]), "a batch of {batch}");
    }
}

/// Two shards, a publisher, and mailboxes that are emptied at any time: each member receives all messages from some point on,
/// at the latest from when it joined, and never one without those that follow it.
#[test]
fn no_member_sees_a_gap() {
    let topic: Arc<str> = "topic".into();
    for seed in 0..500 {
        let mut dice = Dice(seed);
        let interest = Arc::new(Interest::new(2, None));
        let mut hubs = [0, 1].map(|shard| Hub::new(shard, interest.clone(), Arc::default(), figures()));
        let mut mailboxes = [(); 2].map(|()| std::collections::VecDeque::new());
        let mut members: [Vec<(u32, usize)>; 2] = Default::default();
        let mut heard: BTreeMap<u32, Vec<usize>> = BTreeMap::new();
        let mut published = 0;
        let mut deliver = |hub: &mut Hub, (message, number, at): (Arc<Message>, usize, Tick)| {
            let hear = |member: MemberId, _| {
                heard.entry(member.socket).or_default().push(number);
                Take::Alone
            };
            hub.publish(&message, at, None, |_, _| (), hear);
            hub.flush(|_, _| true);
        };
        for socket in 0..200 {
            let shard = dice.below(2);
            match dice.below(6) {
                0 => {
                    hubs[shard].join(&topic, MemberId { socket, serial: 0 }, Reach::Each, None);
                    members[shard].push((socket, published));
                }
                1 | 2 if !members[shard].is_empty() => {
                    let position = dice.below(members[shard].len());
                    members[shard].swap_remove(position);
                    let index = hubs[shard].topic(&topic).unwrap();
                    hubs[shard].leave(Place { topic: index, position: position as u32 });
                }
                3 => mailboxes[shard].drain(..).for_each(|sent| deliver(&mut hubs[shard], sent)),
                _ => {
                    let payload = Payload::from(serde_json::json!({ "n": published }));
                    let message = Message::new(topic.clone(), "event", payload).unwrap();
                    let (shards, at) = interest.shards_of(&topic);
                    for shard in (0..2).filter(|&shard| shards.contains(shard)) {
                        mailboxes[shard].push_back((message.clone(), published, at));
                    }
                    published += 1;
                }
            }
        }
        for shard in 0..2 {
            mailboxes[shard].drain(..).for_each(|sent| deliver(&mut hubs[shard], sent));
        }
        for (socket, joined_at) in members.into_iter().flatten() {
            let numbers = heard.remove(&socket).unwrap_or_default();
            let first = numbers.first().copied().unwrap_or(published);
            assert!(first <= joined_at, "socket {socket}, seed {seed}: begins with {first}, joined at {joined_at}");
            assert_eq!(numbers, (first..published).collect::<Vec<_>>(), "socket {socket}, seed {seed}");
        }
        for (socket, numbers) in heard {
            let contiguous = numbers.windows(2).all(|pair| pair[1] == pair[0] + 1);
            assert!(contiguous, "socket {socket}, which has left, seed {seed}: {numbers:?}");
        }
    }
}
