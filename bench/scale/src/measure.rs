//! One measurement: so many sockets connect, join, are sent something, leave, and go away.

use std::time::Duration;

use fanfare::testing::{Lockstep, Peer, Pipe};
use fanfare::{BoxError, Channel, Context, Endpoint, Joined, Mount, Payload, Refused, Reply};
use fanfare_proto::websocket::frame::{Opcode, encode_masked};
use http::Request;
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use serde_json::json;

/// How many sockets there are, one measurement after the other.
pub(crate) const SIZES: &[usize] = &[1_000, 10_000, 100_000, 300_000, 1_000_000];

/// So many topics the sockets are spread over, or as many as there are sockets.
const TOPICS: usize = 100_000;

/// So many sockets do something before a turn: about what a busy shard finds when it looks.
const PER_TURN: usize = 256;

/// As long as a message is.
const BODY_SIZE: usize = 64;

/// How the sockets are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Layout {
    OneTopic,
    ManyTopics,
}

impl Layout {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Layout::OneTopic => "one-topic",
            Layout::ManyTopics => "many-topics",
        }
    }

    pub(crate) fn named(name: &str) -> Option<Self> {
        [Layout::OneTopic, Layout::ManyTopics].into_iter().find(|layout| layout.name() == name)
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Layout::OneTopic => "all in one topic",
            Layout::ManyTopics => "spread over 100,000 topics",
        }
    }

    fn topics(self, sockets: usize) -> usize {
        match self {
            Layout::OneTopic => 1,
            Layout::ManyTopics => TOPICS.min(sockets),
        }
    }
}

/// What came of it. Times are nanoseconds of the processor for one socket.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Measured {
    pub(crate) layout: Layout,
    pub(crate) sockets: usize,
    pub(crate) topics: usize,
    pub(crate) bytes_per_socket: f64,
    pub(crate) bytes_per_join: f64,
    pub(crate) connect_ns: f64,
    pub(crate) join_ns: f64,
    /// For one member, the write into memory not included.
    pub(crate) publish_ns: f64,
    /// That write.
    pub(crate) write_ns: f64,
    pub(crate) leave_ns: f64,
    /// The clients go away, in any order.
    pub(crate) hang_up_ns: f64,
    /// The server closes all that have been silent, and lets them go.
    pub(crate) time_out_ns: f64,
}

/// Nothing but what the engine does by itself.
struct Room;

impl Channel for Room {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, _: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, _: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::none())
    }
}

struct Crowd {
    lockstep: Lockstep,
    pipe: Pipe,
    peers: Vec<Peer>,
    topics: usize,
}

/// Measures one size of one layout.
pub(crate) fn run(layout: Layout, sockets: usize) -> Measured {
    let topics = layout.topics(sockets);
    let mut crowd = Crowd::new(sockets, topics);
    // In the order in which they came, and in another one: sockets do not leave in order.
    let in_order: Vec<usize> = (0..sockets).collect();
    let mixed = mixed(sockets);

    let empty = rss();
    let connect_ns = crowd.connect(sockets);
    let connected = rss();
    let join_ns = crowd.send(&in_order, "phx_join");
    let joined = rss();
    let write_ns = crowd.write();
    let publish_ns = crowd.publish() - write_ns;
    let leave_ns = crowd.send(&mixed, "phx_leave");
    crowd.send(&in_order, "phx_join");
    let (going, staying) = mixed.split_at(sockets / 2);
    let hang_up_ns = crowd.hang_up(going);
    let time_out_ns = crowd.time_out(staying.len());
    Measured {
        layout,
        sockets,
        topics,
        bytes_per_socket: (connected - empty) / sockets as f64,
        bytes_per_join: (joined - connected) / sockets as f64,
        connect_ns,
        join_ns,
        publish_ns,
        write_ns,
        leave_ns,
        hang_up_ns,
        time_out_ns,
    }
}

impl Crowd {
    fn new(sockets: usize, topics: usize) -> Self {
        let mount = Mount::new().channel("*", Room);
        let mut lockstep = Lockstep::new(Endpoint::builder().mount("/socket", mount), 1);
        let pipe = Pipe::discarding();
        let request = || Request::get("/socket/websocket?vsn=2.0.0").body(()).expect("a good request");
        // Its memory is not the engine's: it is there, and has been touched, before anything is measured.
        let first = lockstep.connect(request(), &pipe).expect("everybody may connect");
        let mut peers = vec![first; sockets];
        peers.clear();
        Crowd { lockstep, pipe, peers, topics }
    }

    fn connect(&mut self, sockets: usize) -> f64 {
        let start = used();
        for _ in 0..sockets {
            let request = Request::get("/socket/websocket?vsn=2.0.0").body(()).expect("a good request");
            self.peers.push(self.lockstep.connect(request, &self.pipe).expect("everybody may connect"));
        }
        per(used() - start, sockets)
    }

    /// Each sends one message about its topic. What it sends is made outside of the time.
    fn send(&mut self, order: &[usize], event: &str) -> f64 {
        let mut time = Duration::ZERO;
        for part in order.chunks(PER_TURN) {
            let frames: Vec<Vec<u8>> = part.iter().map(|&socket| self.frame(socket, event)).collect();
            let start = used();
            for (&socket, frame) in part.iter().zip(&frames) {
                self.lockstep.send(self.peers[socket], frame);
            }
            self.lockstep.turn();
            time += used() - start;
        }
        per(time, order.len())
    }

    fn frame(&self, socket: usize, event: &str) -> Vec<u8> {
        let text = format!("[\"1\",\"1\",\"{}\",\"{event}\",{{}}]", self.topic(socket));
        let mut frame = Vec::new();
        encode_masked(Opcode::Text, text.as_bytes(), [1, 2, 3, 4], true, false, &mut frame);
        frame
    }

    fn topic(&self, socket: usize) -> String {
        format!("room:{}", socket % self.topics)
    }

    /// Every topic is sent a message; a few times over. The median of the rounds.
    fn publish(&mut self) -> f64 {
        const ROUNDS: usize = 7;
        let endpoint = self.lockstep.endpoint().clone();
        let payload = Payload::from(json!({ "body": "x".repeat(BODY_SIZE) }));
        let mut rounds = Vec::new();
        for _ in 0..ROUNDS {
            let before = self.pipe.written();
            let topics: Vec<String> = (0..self.topics).map(|topic| self.topic(topic)).collect();
            let start = used();
            for part in topics.chunks(PER_TURN) {
                for topic in part {
                    let published = self.lockstep.run(endpoint.broadcast(topic, "new_msg", payload.clone()));
                    published.expect("a good message");
                }
                self.lockstep.turn();
            }
            let time = used() - start;
            let writes = self.pipe.written().writes - before.writes;
            assert_eq!(writes, self.peers.len() as u64, "everybody is written to once");
            rounds.push(per(time, self.peers.len()));
        }
        rounds.sort_by(f64::total_cmp);
        rounds[ROUNDS / 2]
    }

    /// What stands for the kernel: a frame as long as those of `publish` goes into the pipe as often as there are sockets.
    fn write(&self) -> f64 {
        let frame = [b'x'; BODY_SIZE + 45];
        let start = used();
        for _ in &self.peers {
            self.pipe.write(&frame).expect("the pipe takes everything");
        }
        per(used() - start, self.peers.len())
    }

    fn hang_up(&mut self, order: &[usize]) -> f64 {
        let start = used();
        for part in order.chunks(PER_TURN) {
            part.iter().for_each(|&socket| self.lockstep.hang_up(self.peers[socket]));
            self.lockstep.turn();
        }
        per(used() - start, order.len())
    }

    /// Nobody has said anything since the beginning: all are closed at once, and gone when their time to answer is up.
    fn time_out(&mut self, sockets: usize) -> f64 {
        let start = used();
        self.lockstep.advance(Duration::from_secs(90));
        let time = per(used() - start, sockets);
        let endpoint = self.lockstep.endpoint().clone();
        assert_eq!(endpoint.sockets(), 0, "all are gone");
        time
    }
}

/// The time that this thread has used of its processor: what others do beside it counts less than with a clock on the wall.
fn used() -> Duration {
    clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).expect("Linux keeps the time of threads").into()
}

fn per(time: Duration, count: usize) -> f64 {
    time.as_nanos() as f64 / count as f64
}

/// All numbers below `count`, mixed up, the same way each time.
fn mixed(count: usize) -> Vec<usize> {
    let mut numbers: Vec<usize> = (0..count).collect();
    let mut state = 1_u64;
    for last in (1..count).rev() {
        // Knuth's linear congruential generator; its upper bits are good enough.
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        numbers.swap(last, (state >> 33) as usize % (last + 1));
    }
    numbers
}

/// The memory of this process that is in use, in bytes.
fn rss() -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells about its processes");
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS is told");
    line.trim().trim_end_matches(" kB").parse::<f64>().expect("a number of kB") * 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    /// That everybody is written to, and goes away in the end, is checked on the way.
    #[test]
    fn a_small_crowd_is_measured() {
        for layout in [Layout::OneTopic, Layout::ManyTopics] {
            let measured = run(layout, 300);
            assert_eq!((measured.sockets, measured.topics), (300, layout.topics(300)));
            for time in [measured.join_ns, measured.leave_ns, measured.hang_up_ns, measured.time_out_ns] {
                assert!(time > 0.0, "{measured:?}");
            }
        }
    }
}
