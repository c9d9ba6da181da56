//! In which order messages are handed on.

use std::collections::BTreeMap;

use parking_lot::Mutex;

use super::*;

const THREADS: u64 = 6;

const EACH: u64 = 200;

/// What a topic's members got, in the order in which it was handed to them: position and number.
type HandedOn = Arc<Mutex<BTreeMap<String, Vec<(Position, u64)>>>>;

/// A store settles the messages of one topic in the order of their positions, and whoever is told of one before has all that
/// stand before it: also where several threads publish, some of whose messages are repeated or refused, or not written yet.
#[test]
fn no_message_is_handed_on_before_one_that_stands_before_it() {
    let tight = HistoryLimits { waiting_messages_max: 8, ..HistoryLimits::default() };
    for kind in ALL {
        for limits in [HistoryLimits::default(), tight] {
            let tested = Tested::new(kind, limits);
            let handed_on = HandedOn::default();
            std::thread::scope(|scope| {
                for thread in 0..THREADS {
                    let (store, handed_on) = (tested.store.clone().unwrap(), handed_on.clone());
                    scope.spawn(move || publish_all(&*store, thread, &handed_on));
                }
            });
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            runtime.block_on(tested.store().flush());
            let handed_on = std::mem::take(&mut *handed_on.lock());
            assert_eq!(handed_on.len(), 2);
            for (topic, messages) in handed_on {
                let offsets: Vec<u64> = messages.iter().map(|(position, _)| position.offset).collect();
                assert_eq!(offsets, (1..=messages.len() as u64).collect::<Vec<_>>(), "{topic}: {kind:?}, {limits:?}");
                for thread in 0..THREADS {
                    let own = messages.iter().map(|(_, number)| *number).filter(|number| number / EACH == thread);
                    assert!(own.is_sorted(), "{topic}, thread {thread}: {kind:?}, {limits:?}");
                }
                let replay = runtime.block_on(tested.read(&topic, Since::Now, 0));
                assert_eq!(replay.head.offset, messages.len() as u64, "all that is kept was handed on: {kind:?}");
            }
        }
    }
}

fn publish_all(store: &dyn Store, thread: u64, handed_on: &HandedOn) {
    for n in 0..EACH {
        let number = thread * EACH + n;
        let topic = ["a", "b"][(n % 2) as usize];
        let handed_on = handed_on.clone();
        let settle = Box::new(move |accepted: Result<Accepted, Error>| match accepted {
            Ok(Accepted::New(message)) => {
                // Others get their turn here, if they can.
                std::thread::yield_now();
                if number.is_multiple_of(16) {
                    std::thread::sleep(Duration::from_micros(200));
                }
                let entry = (message.position().unwrap(), number);
                handed_on.lock().entry(message.topic.to_string()).or_default().push(entry);
            }
            Ok(Accepted::Repeated(_) | Accepted::Kept(_)) => {}
            Err(error) => assert!(error.is_conflict() || error.is_unavailable(), "{error}"),
        });
        // Some have the key of another thread's, and some expect what is not so.
        let key = n.is_multiple_of(5).then(|| n.to_string().into());
        let expected = n.is_multiple_of(7).then_some(Since::Start);
        let message = Draft::new(topic.into(), "n", json!({ "n": number }).into()).unwrap();
        let retention = Retention { messages_max: 10_000, ..PLENTY };
        store.append(Append { message, retention, key, expected, settle });
    }
}
