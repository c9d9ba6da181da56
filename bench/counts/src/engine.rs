//! Cases of the engine: bytes of clients in, turns of one shard, bytes to clients out. All are scripts for clients.

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{
    Authority, Bearer, BoxError, Builder, Channel, Context, Endpoint, Joined, Mount, Payload, Policy, Refused, Reply,
    Retention, Rights, RightsRequest, Supabase, Tap, TapFilter, TokenFault,
};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use serde_json::{Value, json};

use crate::Work;

/// How often something is done, where it is done once at a time.
const TIMES: usize = 64;

/// A channel that does what its clients say.
struct Room;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), cx: &mut Context, event: &str, payload: Payload) -> Result<Reply, BoxError> {
        match event {
            "echo" => return Ok(Reply::ok(payload)),
            "track" => drop(cx.track("ada", json!({ "at": 1 })).await?),
            "untrack" => cx.untrack("ada").await,
            _ => cx.broadcast(event, payload).await?,
        }
        Ok(Reply::none())
    }
}

/// Clients, what they send to be measured, and what undoes that. A round is what is sent before a turn.
struct Script {
    lockstep: Lockstep,
    pipe: Pipe,
    deflated: bool,
    rounds: Vec<Round>,
    undone_by: Vec<Round>,
    operations: usize,
    /// Those that watch meanwhile.
    taps: Vec<Tap>,
}

type Round = Vec<(Peer, Vec<u8>)>;

impl Work for Script {
    fn operations(&self) -> usize {
        self.operations
    }

    fn run(&mut self) {
        play(&mut self.lockstep, &self.rounds);
    }

    fn undo(&mut self) {
        play(&mut self.lockstep, &self.undone_by);
    }
}

fn play(lockstep: &mut Lockstep, rounds: &[Round]) {
    for round in rounds {
        round.iter().for_each(|(peer, frame)| lockstep.send(*peer, frame));
        lockstep.turn();
    }
}

impl Script {
    fn new(operations: usize) -> Self {
        Script::of(Endpoint::builder(), operations)
    }

    fn of(endpoint: Builder, operations: usize) -> Self {
        let mount = Mount::new().compression(true).channel("*", Room);
        let lockstep = Lockstep::new(endpoint.mount("/socket", mount), 1);
        let (rounds, undone_by) = (Vec::new(), Vec::new());
        Script { lockstep, pipe: Pipe::discarding(), deflated: false, rounds, undone_by, operations, taps: Vec::new() }
    }

    fn client(&mut self) -> Peer {
        let mut request = Request::get("/socket/websocket?vsn=2.0.0");
        if self.deflated {
            request = request.header("sec-websocket-extensions", "permessage-deflate");
        }
        let request = request.body(()).expect("a good request");
        self.lockstep.connect(request, &self.pipe).expect("everybody may connect")
    }

    fn member(&mut self, topic: &str) -> Peer {
        let peer = self.client();
        play(&mut self.lockstep, &[vec![(peer, push(topic, "phx_join"))]]);
        peer
    }

    /// One client after the other sends its frame, each in a round of its own.
    fn one_by_one(peers: &[(Peer, String)], event: &str) -> Vec<Round> {
        peers.iter().map(|(peer, topic)| vec![(*peer, push(topic, event))]).collect()
    }
}

fn push(topic: &str, event: &str) -> Vec<u8> {
    push_with(topic, event, json!({ "body": "x".repeat(64) }))
}

fn push_with(topic: &str, event: &str, payload: Value) -> Vec<u8> {
    let text = json!(["1", "7", topic, event, payload]).to_string();
    let mut frame = Vec::new();
    encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
    frame
}

pub(crate) fn heartbeat() -> Box<dyn Work> {
    let mut script = Script::new(TIMES);
    let peer = script.client();
    script.rounds = vec![vec![(peer, push_with("phoenix", "heartbeat", json!({})))]; TIMES];
    Box::new(script)
}

pub(crate) fn push_and_reply() -> Box<dyn Work> {
    let mut script = Script::new(TIMES);
    let peer = script.member("room");
    script.rounds = vec![vec![(peer, push("room", "echo"))]; TIMES];
    Box::new(script)
}

/// Each alone in a topic: one diff to one member.
pub(crate) fn presence_track() -> Box<dyn Work> {
    let mut script = Script::new(TIMES);
    let members = topics().map(|topic| (script.member(&topic), topic)).collect::<Vec<_>>();
    script.rounds = Script::one_by_one(&members, "track");
    script.undone_by = Script::one_by_one(&members, "untrack");
    Box::new(script)
}

/// A member's push that is broadcast. An operation is one delivery.
pub(crate) struct Publish {
    pub(crate) members: usize,
    /// So many messages leave together.
    pub(crate) batch: usize,
    pub(crate) rounds: usize,
    /// Compressed, and large enough for it.
    pub(crate) deflated: bool,
    /// The topic keeps a history.
    pub(crate) kept: bool,
    /// So many watch, each another topic that nobody is in.
    pub(crate) taps: usize,
}

impl Publish {
    /// A message at a time.
    pub(crate) const LONE: Publish = Publish { members: 1, batch: 1, rounds: 4, deflated: false, kept: false, taps: 0 };
}

pub(crate) fn publish(publish: Publish) -> Box<dyn Work> {
    let endpoint = match publish.kept {
        true => Endpoint::builder().policy("room", Policy::new().history(Retention::default())),
        false => Endpoint::builder(),
    };
    let mut script = Script::of(endpoint, publish.members * publish.batch * publish.rounds);
    script.deflated = publish.deflated;
    let tap = |number| {
        let topic = Some(format!("rook:{number}").parse().expect("a topic"));
        script.lockstep.endpoint().tap(TapFilter { topic, ..TapFilter::default() }, 200).expect("there is room for it")
    };
    script.taps = (0..publish.taps).map(tap).collect();
    let members: Vec<Peer> = (0..publish.members).map(|_| script.member("room")).collect();
    let body = "x".repeat(if publish.deflated { 512 } else { 64 });
    let frame = push_with("room", "shout", json!({ "body": body }));
    script.rounds = vec![vec![(members[0], frame); publish.batch]; publish.rounds];
    Box::new(script)
}

/// A kilobyte in which two fields change, whole or as what is different. An operation is one delivery.
pub(crate) fn prices(members: usize, as_differences: bool) -> Box<dyn Work> {
    const ROUNDS: u32 = 4;
    let endpoint = Endpoint::builder().policy("room", Policy::new().delta(None));
    let mut script = Script::of(endpoint, members * ROUNDS as usize);
    let join = push_with("room", "phx_join", json!({ "delta": as_differences }));
    let mut member = || {
        let peer = script.client();
        play(&mut script.lockstep, &[vec![(peer, join.clone())]]);
        peer
    };
    let members: Vec<Peer> = (0..members).map(|_| member()).collect();
    let price = |n: u32| {
        let tags: Vec<_> = (0..24).map(|tag| format!("tag-{tag}")).collect();
        let payload = json!({ "symbol": "EURUSD", "bid": n, "ask": n + 1, "tags": tags, "name": "x".repeat(600) });
        vec![(members[0], push_with("room", "shout", payload))]
    };
    script.rounds = (0..ROUNDS).map(price).collect();
    Box::new(script)
}

/// Everybody may do everything.
struct Open;

impl Authority for Open {
    async fn verify(&self, _: &str) -> Result<Bearer, TokenFault> {
        Ok(Bearer::new(()))
    }

    async fn rights(&self, _: RightsRequest<'_>) -> Rights {
        Rights::ALL
    }
}

/// The same among clients of Supabase: a frame of kind 3 becomes one of kind 4 for each member.
pub(crate) fn publish_supabase(members: usize, rounds: usize) -> Box<dyn Work> {
    const TOPIC: &str = "realtime:room";
    let mount = Mount::supabase(Supabase::new(Open));
    let lockstep = Lockstep::new(Endpoint::builder().mount("/socket", mount), 1);
    let mut script = Script { lockstep, ..Script::new(members * rounds) };
    let join = push_with(TOPIC, "phx_join", json!({ "config": { "broadcast": { "self": true } } }));
    let mut member = || {
        let request = Request::get("/socket/websocket?vsn=2.0.0&apikey=any").body(()).expect("a good request");
        let peer = script.lockstep.connect(request, &script.pipe).expect("everybody may connect");
        play(&mut script.lockstep, &[vec![(peer, join.clone())]]);
        peer
    };
    let members: Vec<Peer> = (0..members).map(|_| member()).collect();
    let payload = json!({ "body": "x".repeat(64) }).to_string();
    let mut said = vec![3, 1, 1, TOPIC.len() as u8, 5, 0, 1];
    said.extend(format!("17{TOPIC}shout{payload}").bytes());
    let mut frame = Vec::new();
    encode_masked(Opcode::Binary, &said, [1, 2, 3, 4], true, false, &mut frame);
    script.rounds = vec![vec![(members[0], frame)]; rounds];
    Box::new(script)
}

/// How many topics there are besides.
pub(crate) struct Topics(pub(crate) usize);

impl Topics {
    /// Clients with a topic of their own each, which they have not joined.
    fn beside(&self) -> (Script, Vec<(Peer, String)>) {
        let mut script = Script::new(TIMES);
        script.lockstep.populate((0..self.0).map(|number| format!("present:{number}")));
        let clients = topics().map(|topic| (script.client(), topic)).collect();
        (script, clients)
    }
}

pub(crate) fn join(topics: Topics) -> Box<dyn Work> {
    let (mut script, clients) = topics.beside();
    script.rounds = Script::one_by_one(&clients, "phx_join");
    script.undone_by = Script::one_by_one(&clients, "phx_leave");
    Box::new(script)
}

pub(crate) fn leave(topics: Topics) -> Box<dyn Work> {
    let (mut script, clients) = topics.beside();
    script.rounds = Script::one_by_one(&clients, "phx_leave");
    script.undone_by = Script::one_by_one(&clients, "phx_join");
    // There must be something to leave.
    script.undo();
    Box::new(script)
}

fn topics() -> impl Iterator<Item = String> {
    (0..TIMES).map(|number| format!("room:{number}"))
}
