//! What all topics of a store may take together, and who goes first.

use super::*;

/// A bound that many messages of [`LARGE`] bytes fit into.
const BYTES_MAX: usize = 100_000;

const LARGE: usize = 1_000;

fn large(n: u64) -> serde_json::Value {
    json!({ "n": n, "padding": "x".repeat(LARGE) })
}

fn room(n: u64) -> String {
    format!("room:{n}")
}

impl Tested {
    async fn publish_large(&self, topic: &str, n: u64) -> Position {
        // Which topic is the quieter one is known by the millisecond after a restart.
        self.advance(1);
        self.append_with(topic, large(n), Options::default()).await.unwrap().0
    }

    /// Whether a reader who was at a position has missed nothing, or is given what it has.
    async fn is_known(&self, topic: &str, position: Position) -> bool {
        self.recover(topic, behind(position), usize::MAX).await.is_some()
    }

    /// The bytes of all payloads that are kept.
    async fn kept(&self, topics: u64) -> usize {
        let mut bytes = 0;
        for n in 0..topics {
            let newest = Wanted { since: Since::Now, limit: 0, bytes_max: usize::MAX, newest: usize::MAX };
            let replay = self.store().read(&room(n), newest).await.unwrap();
            bytes += replay.messages.iter().map(|stored| stored.payload.size()).sum::<usize>();
        }
        bytes
    }
}

/// However the topics are spread, and whatever order they were made in: the bytes are those of all, and the quietest goes first.
#[tokio::test]
async fn the_bytes_of_all_topics_have_one_bound() {
    const TOPICS: u64 = 48;
    for kind in ALL {
        let limits = HistoryLimits { bytes_max: BYTES_MAX, ..HistoryLimits::default() };
        let mut tested = Tested::new(kind, limits);
        // Three in four of the bytes in one topic: nobody has to go.
        let first = tested.publish_large(&room(0), 0).await;
        for n in 1..60 {
            tested.publish_large(&room(0), n).await;
        }
        let quiet = tested.publish_large(&room(1), 0).await;
        assert!(tested.recover(&room(0), behind(first), usize::MAX).await.is_some_and(|missed| missed.len() == 59));
        assert!(tested.is_known(&room(1), quiet).await, "{kind:?}");
        // Those in the middle are published to once more, and so are the last to go.
        let mut heads = Vec::new();
        for n in 0..TOPICS {
            heads.push(tested.publish_large(&room(n), 100).await);
            assert!(tested.kept(TOPICS).await <= BYTES_MAX, "{kind:?}");
        }
        for n in 10..20 {
            heads[n as usize] = tested.publish_large(&room(n), 101).await;
        }
        let order: Vec<u64> = (0..10).chain(20..TOPICS).chain(10..20).collect();
        for n in TOPICS..TOPICS + 40 {
            tested.publish_large(&room(n), 0).await;
            assert!(tested.kept(TOPICS + 40).await <= BYTES_MAX, "{kind:?}");
        }
        for is_restarted in [false, true] {
            let mut known = Vec::new();
            for &n in &order {
                known.push(tested.is_known(&room(n), heads[n as usize]).await);
            }
            let gone = known.iter().take_while(|is_known| !**is_known).count();
            assert!(known[gone..].iter().all(|is_known| *is_known), "those that go first went: {kind:?} {known:?}");
            assert!(gone > 0 && gone < known.len(), "{gone} are gone: {kind:?}");
            assert!(tested.kept(TOPICS + 40).await > BYTES_MAX * 3 / 4, "no more went than had to: {kind:?}");
            if !kind.outlives() || is_restarted {
                break;
            }
            tested.reopen();
        }
    }
}

#[tokio::test]
async fn as_many_topics_are_remembered_as_may_be() {
    for kind in ALL {
        for topics_max in [1, 2, 40] {
            let limits = HistoryLimits { topics_max, ..HistoryLimits::default() };
            let tested = Tested::new(kind, limits);
            let mut heads = Vec::new();
            for n in 0..100 {
                heads.push(tested.publish(&room(n), [n]).await);
            }
            let mut known = Vec::new();
            for n in 0..100 {
                known.push(tested.is_known(&room(n), heads[n as usize]).await);
            }
            let expected: Vec<bool> = (0..100).map(|n| n >= 100 - topics_max).collect();
            assert_eq!(known, expected, "{topics_max} of {kind:?}");
        }
    }
}

/// What is kept of the topic that was published to last, if that alone is more than all may have together.
#[tokio::test]
async fn a_topic_alone_keeps_what_fits_and_one_message_in_any_case() {
    for kind in ALL {
        let limits = HistoryLimits { bytes_max: BYTES_MAX, ..HistoryLimits::default() };
        let tested = Tested::new(kind, limits);
        let retention = Retention { messages_max: 1_000, bytes_max: BYTES_MAX * 10, ..PLENTY };
        for n in 1..=200 {
            let options = Options { retention, ..Options::default() };
            tested.append_with(&room(0), large(n), options).await.unwrap();
        }
        let kept = tested.kept(1).await;
        assert!(kept <= BYTES_MAX && kept > BYTES_MAX * 3 / 4, "{kept} bytes: {kind:?}");
        let other = tested.publish(&room(1), [1]).await;
        // It has no room even alone, and is kept for those who miss only this one.
        let huge = json!({ "n": 201, "padding": "x".repeat(BYTES_MAX * 2) });
        let last = tested.append_with(&room(0), huge, Options::default()).await.unwrap().0;
        let before = Position { offset: last.offset - 1, ..last };
        assert_eq!(tested.recover(&room(0), behind(before), 100).await, Some(vec![201]), "{kind:?}");
        assert!(!tested.is_known(&room(1), other).await, "{kind:?}");
        // The next that is published to anywhere takes its room.
        let other = tested.publish(&room(1), [2]).await;
        assert!(!tested.is_known(&room(0), last).await && tested.is_known(&room(1), other).await, "{kind:?}");
    }
}

/// A message that is larger than a topic may keep is kept alone.
#[tokio::test]
async fn the_newest_message_of_a_topic_is_kept_whatever_its_size() {
    each(async |tested: Tested| {
        let retention = Retention { bytes_max: 500, ..PLENTY };
        let options = Options { retention, ..Options::default() };
        let first = tested.append("a", 1, options).await.unwrap().0;
        tested.append_with("a", large(2), options).await.unwrap();
        assert_eq!(tested.recover("a", behind(first), 100).await, Some(vec![2]), "{:?}", tested.kind);
        tested.append("a", 3, options).await.unwrap();
        assert_eq!(tested.recover("a", behind(first), 100).await, None, "{:?}", tested.kind);
        let second = Position { offset: 2, ..first };
        assert_eq!(tested.recover("a", behind(second), 100).await, Some(vec![3]), "{:?}", tested.kind);
    })
    .await;
}

/// A reader of a topic that had no message has missed nothing, whatever becomes of other topics.
#[tokio::test]
async fn who_waits_for_the_first_message_is_told_of_no_gap_when_others_are_forgotten() {
    for kind in ALL {
        let limits = HistoryLimits { topics_max: 64, ..HistoryLimits::default() };
        let mut tested = Tested::new(kind, limits);
        let quiet: Vec<String> = (0..20).map(|n| format!("quiet:{n}")).collect();
        let mut told = Vec::new();
        for topic in &quiet {
            told.push(tested.read(topic, Since::Now, 0).await.head);
        }
        let forgotten = tested.publish(&room(0), [0]).await;
        // Before its first message its readers were told the same.
        let unpublished = Position { offset: 0, ..forgotten };
        for n in 1..=64 {
            tested.advance(1);
            tested.publish(&room(n), [n]).await;
        }
        for is_restarted in [false, true] {
            for (topic, told) in quiet.iter().zip(&told) {
                assert_eq!(tested.recover(topic, behind(*told), 100).await, Some(vec![]), "{kind:?}");
            }
            for position in [unpublished, forgotten] {
                assert_eq!(tested.recover(&room(0), behind(position), 100).await, None, "{kind:?}");
            }
            if !kind.outlives() || is_restarted {
                break;
            }
            tested.reopen();
        }
        let again = tested.read(&room(0), Since::Now, 0).await.head;
        tested.publish(&room(0), [2]).await;
        assert_eq!(tested.recover(&room(0), behind(again), 100).await, Some(vec![2]), "its next life: {kind:?}");
        tested.publish(&quiet[0], [1]).await;
        assert_eq!(tested.recover(&quiet[0], behind(told[0]), 100).await, Some(vec![1]), "the first: {kind:?}");
        // More were forgotten than can be remembered: all are told, rather than one of them nothing.
        for n in 100..100 + 64 * 4 {
            tested.publish(&room(n), [n]).await;
        }
        for position in [unpublished, forgotten, again] {
            assert_eq!(tested.recover(&room(0), behind(position), 100).await, None, "{kind:?}");
        }
    }
}

/// A topic remembers its last 1,024 keys.
#[tokio::test]
async fn a_key_is_forgotten_when_1024_have_come_behind_it() {
    for kind in [Kind::Memory, Kind::Directory(HistorySync::Never)] {
        let tested = Tested::new(kind, HistoryLimits::default());
        for n in 1..=1_024 {
            let key = n.to_string();
            tested.append("a", n, Options { key: Some(&key), ..Options::default() }).await.unwrap();
        }
        let repeated = Options { key: Some("1"), ..Options::default() };
        let (position, is_repeated) = tested.append("a", 0, repeated).await.unwrap();
        assert_eq!((position.offset, is_repeated), (1, true), "{kind:?}");
        tested.append("a", 0, Options { key: Some("one more"), ..Options::default() }).await.unwrap();
        assert!(!tested.append("a", 0, repeated).await.unwrap().1, "{kind:?}");
    }
}

/// Whoever is faster, the bounds are kept, and what goes is not more than has to.
#[test]
fn bounds_hold_for_publishers_in_many_threads() {
    const THREADS: u64 = 4;
    for kind in [Kind::Memory, Kind::Directory(HistorySync::Never)] {
        for limits in [
            HistoryLimits { bytes_max: BYTES_MAX, ..HistoryLimits::default() },
            HistoryLimits { topics_max: 25, ..HistoryLimits::default() },
        ] {
            let tested = Tested::new(kind, limits);
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let store = tested.store.clone().unwrap();
                    scope.spawn(move || {
                        for n in 0..400 {
                            let topic = room((thread * 17 + n * 7) % 101);
                            let message = Draft::new(topic.into(), "n", large(n).into()).unwrap();
                            let settle = Box::new(|accepted: Result<Accepted, Error>| drop(accepted.unwrap()));
                            let (key, expected) = (None, None);
                            store.append(Append { message, retention: PLENTY, key, expected, settle });
                        }
                    });
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (bytes, known) = runtime.block_on(async {
                tested.store().flush().await;
                let mut known = 0;
                for n in 0..101 {
                    known += usize::from(tested.read(&room(n), Since::Now, 0).await.head.offset > 0);
                }
                (tested.kept(101).await, known)
            });
            if limits.topics_max == 25 {
                assert_eq!(known, 25, "{kind:?}");
            } else {
                assert!((BYTES_MAX * 3 / 4..=BYTES_MAX).contains(&bytes), "{bytes} bytes are kept: {kind:?}");
            }
        }
    }
}
