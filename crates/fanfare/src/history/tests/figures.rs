//! Measurements: run them with optimisations, and nothing beside them.

use super::*;

/// How many messages of 200 bytes a store takes a second, from publishers that wait for their answers. Prints a table.
#[test]
#[ignore = "a measurement"]
fn appends_a_second() {
    const TIME: Duration = Duration::from_secs(3);
    let every = Kind::Directory(HistorySync::Every(Duration::from_secs(1)));
    let kinds = [Kind::Memory, Kind::Directory(HistorySync::Never), every, Kind::Directory(HistorySync::Always)];
    for in_flight in [1, 64, 1_024] {
        for kind in kinds {
            let tested = Tested::new(kind, HistoryLimits::default());
            let store = tested.store.clone().unwrap();
            let payload = Payload::from(json!({ "padding": "x".repeat(186) }));
            let topics: Vec<Arc<str>> = (0..64).map(|n| format!("room:{n}").into()).collect();
            let (done, settled) = std::sync::mpsc::channel();
            let (started, mut sent, mut got) = (std::time::Instant::now(), 0_u64, 0_u64);
            let mut waits = Vec::new();
            while started.elapsed() < TIME {
                while sent < got + in_flight {
                    let message = Draft::new(topics[sent as usize % 64].clone(), "n", payload.clone()).unwrap();
                    let (done, begun) = (done.clone(), std::time::Instant::now());
                    let settle = Box::new(move |accepted: Result<Accepted, Error>| {
                        accepted.unwrap();
                        done.send(begun.elapsed()).unwrap();
                    });
                    store.append(Append { message, retention: PLENTY, key: None, expected: None, settle });
                    sent += 1;
                }
                waits.push(settled.recv().unwrap());
                got += 1;
            }
            waits.sort_unstable();
            let (median, p99) = (waits[waits.len() / 2], waits[waits.len() * 99 / 100]);
            let longest = waits[waits.len() - 1];
            let rate = got as f64 / started.elapsed().as_secs_f64();
            println!(
                "{in_flight:5} in flight {rate:10.0} a second, median {median:9.1?}, p99 {p99:9.1?}, longest {longest:9.1?}  {kind:?}"
            );
        }
    }
}

/// How many messages a store in memory takes a second from threads with topics of their own, and where all have one topic. Prints
/// a table.
#[test]
#[ignore = "a measurement"]
fn appends_a_second_of_threads() {
    const EACH: u64 = 400_000;
    for (limits, what) in [
        (HistoryLimits::default(), "room for all"),
        (HistoryLimits { bytes_max: 4_000_000, ..HistoryLimits::default() }, "one goes for each that comes"),
    ] {
        for (threads, topics) in [(1, 64), (2, 64), (2, 1), (4, 64)] {
            let tested = Tested::new(Kind::Memory, limits);
            let payload = Payload::from(json!({ "padding": "x".repeat(186) }));
            let begun = std::time::Instant::now();
            std::thread::scope(|scope| {
                for thread in 0..threads {
                    let (store, payload) = (tested.store.clone().unwrap(), payload.clone());
                    scope.spawn(move || {
                        let own = |n: u64| if topics == 1 { "room".into() } else { format!("{thread}:{n}").into() };
                        let names: Vec<Arc<str>> = (0..topics).map(own).collect();
                        for n in 0..EACH {
                            let message =
                                Draft::new(names[(n % topics) as usize].clone(), "n", payload.clone()).unwrap();
                            let (key, expected, settle) = (None, None, Box::new(drop));
                            let retention = Retention { messages_max: 1_000, ..PLENTY };
                            store.append(Append { message, retention, key, expected, settle });
                        }
                    });
                }
            });
            let rate = (EACH * threads) as f64 / begun.elapsed().as_secs_f64();
            println!("{threads} threads, {topics:3} topics each {rate:12.0} a second, {what}");
        }
    }
}
