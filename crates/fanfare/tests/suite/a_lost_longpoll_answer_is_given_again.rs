//! Polls whose client has gone, before or after they were answered: what it did not get it gets from its next poll, and
//! nothing twice.

use std::time::Duration;

use fanfare::{Endpoint, Policy, Slow};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::http::{head, read_answer, request};
use crate::support::{PATIENCE, Served, serve, serve_mount, stage};

/// A client that has joined `room:1`, and has polled once.
struct Poller<'a> {
    served: &'a Served,
    token: String,
    /// Whether it takes its token out of each answer, as phoenix.js does.
    renews: bool,
}

impl<'a> Poller<'a> {
    async fn join(served: &'a Served, renews: bool) -> Self {
        let mut poller = Poller { served, token: String::new(), renews: true };
        assert_eq!(poller.poll().await, Err(410));
        poller.renews = renews;
        let join = json!(["1", "1", "room:1", "phx_join", {}]).to_string();
        request(served.address, "POST", &poller.target(), &[], join.as_bytes()).await;
        assert_eq!(poller.poll().await.map(|numbers| numbers.len()), Ok(1), "the reply");
        poller
    }

    fn target(&self) -> String {
        format!("/socket/longpoll?vsn=2.0.0&token={}", self.token)
    }

    /// The numbers of the messages that a poll gives; `Err` is another status than 200.
    async fn poll(&mut self) -> Result<Vec<Value>, u64> {
        let answer = request(self.served.address, "GET", &self.target(), &[], b"").await.json();
        if self.renews {
            self.token = answer["token"].as_str().unwrap().to_owned();
        }
        if answer["status"] != 200 {
            return Err(answer["status"].as_u64().unwrap());
        }
        let number = |frame: &Value| {
            let frame: Value = serde_json::from_str(frame.as_str().unwrap()).unwrap();
            frame[4]["n"].clone()
        };
        Ok(answer["messages"].as_array().unwrap().iter().map(number).collect())
    }

    /// A poll on a connection of its own, whose answer nobody has read yet.
    async fn begin(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.served.address).await.unwrap();
        stream.write_all(head("GET", &self.target(), &[]).as_bytes()).await.unwrap();
        stream
    }

    /// A poll that is answered, and whose answer gets lost.
    async fn lose(&self) {
        let stream = self.begin().await;
        let answered = tokio::time::timeout(PATIENCE, stream.peek(&mut [0])).await;
        assert_eq!(answered.expect("it is answered").unwrap(), 1);
    }
}

impl Served {
    async fn tick(&self, number: usize) {
        self.endpoint.broadcast("room:1", "tick", json!({ "n": number })).await.unwrap();
        // Once a shard answers, what it was given before is with its sessions by its next turn.
        self.endpoint.members("room:1").await;
    }
}

#[tokio::test]
async fn an_answer_that_got_lost() {
    let served = serve_mount(stage()).await;
    let mut poller = Poller::join(&served, true).await;
    served.tick(0).await;
    poller.lose().await;
    served.tick(1).await;
    poller.lose().await;
    assert_eq!(poller.poll().await, Ok(vec![json!(0), json!(1)]));
    served.tick(2).await;
    assert_eq!(poller.poll().await, Ok(vec![json!(2)]), "what it has is not given again");
}

/// Messages that give way for newer ones do so only before they were given.
#[tokio::test]
async fn what_was_given_does_not_give_way() {
    let policy = Policy::new().slow(Slow::DropOldest);
    let mount = stage().outbox_frames_max(3);
    let served = serve(Endpoint::builder().policy("room:*", policy).mount("/socket", mount)).await;
    let mut poller = Poller::join(&served, true).await;
    for number in 0..3 {
        served.tick(number).await;
    }
    poller.lose().await;
    for number in 3..7 {
        served.tick(number).await;
    }
    assert_eq!(poller.poll().await, Ok(vec![json!(0), json!(1), json!(2), json!(6)]));
    assert_eq!(served.counter("drops", "drop_oldest"), 3);
    served.tick(7).await;
    assert_eq!(poller.poll().await, Ok(vec![json!(7)]));
}

/// Whatever is cut when, each message comes once and in order.
#[tokio::test]
async fn any_cuts() {
    let served = serve_mount(stage()).await;
    let mut poller = Poller::join(&served, true).await;
    let (mut sent, mut got) = (0, Vec::new());
    let mut random: u32 = 12_345;
    for round in 0..300 {
        random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        for _ in 0..=(random >> 8 & 3) {
            served.tick(sent).await;
            sent += 1;
        }
        match random >> 16 & 7 {
            _ if round == 299 => got.extend(poller.poll().await.unwrap()),
            // Cut before or while it is answered, as it happens.
            0..=1 => drop(poller.begin().await),
            2..=3 => poller.lose().await,
            // A connection that nobody knows to be dead: its poll comes before the one that is read, or after it.
            4 => {
                let _dead = poller.begin().await;
                got.extend(poller.poll().await.unwrap());
            }
            _ => got.extend(poller.poll().await.unwrap()),
        }
    }
    let wrong = got.iter().enumerate().find(|(index, number)| *number != &json!(index));
    assert_eq!((got.len(), wrong), (sent, None), "the first one out of its place");
}

/// Clients need not take the token of each answer. What is given to them counts as received, since nobody can tell.
#[tokio::test]
async fn one_token_for_all_polls() {
    let served = serve_mount(stage()).await;
    let mut poller = Poller::join(&served, false).await;
    for number in 0..3 {
        served.tick(number).await;
        assert_eq!(poller.poll().await, Ok(vec![json!(number)]));
    }
    // The client is gone, the server knows it, and only then there is a message.
    drop(poller.begin().await);
    tokio::time::sleep(Duration::from_millis(200)).await;
    served.tick(3).await;
    assert_eq!(poller.poll().await, Ok(vec![json!(3)]));
    // One that takes the tokens for a while, and then an old one.
    let old = poller.token.clone();
    poller.renews = true;
    for number in 4..6 {
        served.tick(number).await;
        assert_eq!(poller.poll().await, Ok(vec![json!(number)]));
    }
    (poller.token, poller.renews) = (old, false);
    for number in 6..9 {
        served.tick(number).await;
        assert_eq!(poller.poll().await, Ok(vec![json!(number)]));
    }
}

/// Each holds a connection. Of more than four the oldest are answered with nothing.
#[tokio::test]
async fn four_polls_of_a_session_wait_at_a_time() {
    let served = serve_mount(stage().longpoll_window(Duration::from_secs(600))).await;
    let poller = Poller::join(&served, true).await;
    let mut polls = JoinSet::new();
    for _ in 0..7 {
        let mut poll = poller.begin().await;
        polls.spawn(async move { read_answer(&mut poll).await.json()["status"].clone() });
    }
    let mut answered = async || tokio::time::timeout(PATIENCE, polls.join_next()).await.expect("a poll is answered");
    for _ in 0..3 {
        assert_eq!(answered().await.unwrap().unwrap(), 204);
    }
    served.tick(0).await;
    assert_eq!(answered().await.unwrap().unwrap(), 200, "one of those that wait");
    let others = tokio::time::timeout(Duration::from_millis(200), polls.join_next()).await;
    assert!(others.is_err(), "{others:?}");
    assert_eq!(polls.len(), 3);
}

#[tokio::test]
async fn of_two_polls_the_older_one_takes_nothing_away() {
    let served = serve_mount(stage().longpoll_window(Duration::from_millis(500))).await;
    let mut poller = Poller::join(&served, true).await;
    let (older, token) = (poller.target(), poller.token.clone());
    let address = served.address;
    let older = tokio::spawn(async move { request(address, "GET", &older, &[], b"").await.json() });
    tokio::time::sleep(Duration::from_millis(100)).await;
    let newer = poller.begin().await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    served.tick(0).await;
    newer.peek(&mut [0]).await.unwrap();
    // Its answer would say that the client has both.
    served.tick(1).await;
    assert_eq!(older.await.unwrap(), json!({"status": 204, "token": token, "messages": []}));
    drop(newer);
    assert_eq!(poller.poll().await, Ok(vec![json!(0), json!(1)]));
}

/// Invariant 4: what may have to be given again counts as much as what waits.
#[tokio::test]
async fn what_is_kept_has_a_bound() {
    let served = serve_mount(stage().outbox_frames_max(4)).await;
    let mut poller = Poller::join(&served, true).await;
    for _ in 0..5 {
        served.tick(0).await;
        served.tick(1).await;
        assert_eq!(poller.poll().await.map(|numbers| numbers.len()), Ok(2), "what it has makes room");
    }
    for number in 0..3 {
        served.tick(number).await;
    }
    assert_eq!(poller.poll().await, Err(410), "two that it may not have, and three");
    assert_eq!(served.counter("closes", "slow_consumer"), 1);
}
