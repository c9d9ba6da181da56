//! What a member that reads too slowly loses, as the configuration has it.

use serde_json::{Value, json};

use crate::support::{Server, eventually, http};

/// Joins by long-polling and does not poll while 12 messages come, of which ten have room: what the next poll gets.
#[test]
fn messages_give_way_as_the_channel_says() {
    let gap =
        |reason: &str, dropped: u64| json!(["gap", { "reason": reason, "dropped": dropped, "from": null, "to": null }]);
    let tick = |n: u64| json!(["tick", { "symbol": n % 2, "n": n }]);
    let the_last = |dropped: u64| (dropped + 1..=12).map(tick);
    let cases: [(&str, &str, u64, Vec<Value>); 4] = [
        ("slow = 'drop_oldest'", "drop_oldest", 2, [gap("drop_oldest", 2)].into_iter().chain(the_last(2)).collect()),
        ("slow = 'latest'", "latest", 11, vec![tick(12)]),
        ("slow = 'latest'\nlatest_key = 'symbol'", "latest", 10, vec![tick(11), tick(12)]),
        ("slow = 'resync'", "resync", 12, vec![gap("resync", 12)]),
    ];
    for (settings, reason, dropped, expected) in cases {
        let server = Server::serve(&format!(
            "limits.outbox_frames_max = 10\n[[endpoint]]\ntransports = ['longpoll']\n[[channel]]\ntopic = 'a'\njoin = 'open'\n{settings}\n"
        ));
        let path = "/socket/longpoll?vsn=2.0.0";
        let token = http(&server.address, "GET", path, &[], "").json()["token"].as_str().unwrap().to_owned();
        let headers = [("x-phoenix-longpoll-token", &token[..])];
        let join = json!(["1", "1", "a", "phx_join", { "gap": true }]).to_string();
        http(&server.address, "POST", path, &headers, &join);
        let poll = || -> Vec<Value> {
            let answer = http(&server.address, "GET", path, &headers, "").json();
            let messages = answer["messages"].as_array().unwrap().iter();
            messages.map(|text| serde_json::from_str(text.as_str().unwrap()).unwrap()).collect()
        };
        assert_eq!(poll()[0][3], "phx_reply");
        for n in 1..=12 {
            let message = json!({ "topic": "a", "event": "tick", "payload": { "symbol": n % 2, "n": n } });
            assert_eq!(server.api("POST", "/api/publish", &message).status, 200);
        }
        eventually(|| lost(&server, reason) == dropped);
        let heard: Vec<Value> = poll().iter().map(|frame| json!([frame[3], frame[4]])).collect();
        assert_eq!(heard, expected, "{settings}");
    }
}

fn lost(server: &Server, reason: &str) -> u64 {
    server.counter("drops", reason)
}
