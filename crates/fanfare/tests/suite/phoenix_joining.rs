//! Joining, joining again, being refused, leaving.

use fanfare::{BoxError, Channel, Context, Joined, Mount, Payload, Refused, Reply};
use serde_json::{Value, json};

use crate::support::stage::Stage;
use crate::support::{serve_mount, stage};

#[tokio::test]
async fn phoenix_3_join_leave_and_topics_without_a_channel() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "2", "room:1", "phx_join", {}])).await;
    assert_eq!(client.frame().await, json!(["1", "2", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    for topic in ["hall", "Room:1", "room", "phoenix", "", "*"] {
        client.send_json(&json!(["9", "10", topic, "phx_join", {}])).await;
        let frame = client.frame().await;
        if topic.is_empty() {
            assert_eq!(frame[4]["status"], "error", "{frame}");
            continue;
        }
        let unmatched = json!({"status": "error", "response": {"reason": "unmatched topic"}});
        assert_eq!(frame, json!([null, "10", topic, "phx_reply", unmatched]));
    }
    client.send_json(&json!(["1", "3", "room:1", "phx_leave", {}])).await;
    assert_eq!(client.frame().await, json!(["1", "3", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    assert_eq!(client.frame().await, json!(["1", "1", "room:1", "phx_close", {}]));
    client.send_json(&json!(["1", "4", "room:1", "phx_leave", {}])).await;
    assert_eq!(client.frame().await, json!(["1", "4", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    client.assert_untouched().await;
}

#[tokio::test]
async fn phoenix_3_joining_again_ends_the_old_membership() {
    let channel = Stage::default();
    let served = serve_mount(Mount::new().channel("room:*", channel.clone())).await;
    let mut client = served.client().await;
    client.send_json(&json!(["1", "1", "room:1", "phx_join", {"meta": "old"}])).await;
    client.frame().await;
    client.send_json(&json!(["2", "2", "room:1", "phx_join", {"meta": "new"}])).await;
    let mut frames = [client.frame().await, client.frame().await];
    frames.sort_by_key(|frame| frame[3].to_string());
    assert_eq!(frames[0], json!(["1", "1", "room:1", "phx_close", {}]));
    assert_eq!(frames[1], json!(["2", "2", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    assert_eq!(channel.ends(), [("room:1".to_owned(), fanfare::Ended::DuplicateJoin)]);
    let members = served.endpoint.members("room:1").await;
    let metas: Vec<Value> = members.into_iter().filter_map(|member| member.meta?.to().ok()).collect();
    assert_eq!(metas, [json!("new")]);
    client.push("1", "room:1", "echo", json!({})).await;
    client.assert_untouched().await;
    assert_eq!(served.counter("drops", "stale_join_ref"), 1);
}

#[tokio::test]
async fn phoenix_3_joining_again_in_vain_leaves_no_membership() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.join("room:1").await;
    client.send_json(&json!(["2", "2", "room:1", "phx_join", {"refuse": "full"}])).await;
    let mut frames = [client.frame().await, client.frame().await];
    frames.sort_by_key(|frame| frame[3].to_string());
    assert_eq!(frames[0], json!(["room:1", "room:1", "room:1", "phx_close", {}]));
    assert_eq!(frames[1][4], json!({"status": "error", "response": {"reason": "full"}}));
    assert!(served.endpoint.members("room:1").await.is_empty());
}

/// What a channel says carries the ref of its join; what is said of the join itself carries its join_ref, which is null.
#[tokio::test]
async fn phoenix_3_a_join_without_a_join_ref_goes_by_its_ref() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    client.send_json(&json!([null, "1", "room:1", "phx_join", {}])).await;
    assert_eq!(client.frame().await, json!([null, "1", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    client.send_json(&json!([null, "2", "room:1", "echo", {"n": 1}])).await;
    assert_eq!(client.frame().await, json!(["1", "2", "room:1", "phx_reply", {"status": "ok", "response": {"n": 1}}]));
    client.send_json(&json!([null, "3", "room:1", "whisper", {}])).await;
    assert_eq!(client.frame().await, json!(["1", null, "room:1", "whisper", {}]));
    client.send_json(&json!([null, "4", "room:1", "wait_ms", {"ms": 1}])).await;
    assert_eq!(client.frame().await, json!(["1", "4", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    client.send_json(&json!(["1", "5", "room:1", "echo", {}])).await;
    client.send_json(&json!([null, "6", "room:1", "phx_leave", {}])).await;
    assert_eq!(client.frame().await, json!(["1", "6", "room:1", "phx_reply", {"status": "ok", "response": {}}]));
    assert_eq!(client.frame().await, json!([null, null, "room:1", "phx_close", {}]));
    assert_eq!(served.counter("drops", "stale_join_ref"), 1, "the fifth, which names a join_ref that there is not");

    client.send_json(&json!([null, 7, "room:2", "phx_join", {}])).await;
    assert_eq!(client.frame().await[0], Value::Null);
    client.send_json(&json!([null, "8", "room:2", "stop", {}])).await;
    let last = json!({"status": "ok", "response": {"last": true}});
    assert_eq!(client.frame().await, json!([7, "8", "room:2", "phx_reply", last]));
    assert_eq!(client.frame().await, json!([null, null, "room:2", "phx_close", {}]));

    client.send_json(&json!([null, null, "room:3", "phx_join", {}])).await;
    client.frame().await;
    client.send_json(&json!([null, "9", "room:3", "echo", {}])).await;
    assert_eq!(client.frame().await, json!([null, "9", "room:3", "phx_reply", {"status": "ok", "response": {}}]));
    client.assert_untouched().await;
}

/// Names the pattern that it was declared for.
struct Named(&'static str);

impl Channel for Named {
    type State = ();
    type Params = Payload;
    type Info = ();

    async fn join(&self, cx: &mut Context, _: Payload) -> Result<Joined<()>, Refused> {
        Ok(Joined::new(()).reply(json!({ "pattern": self.0, "topic": cx.topic() })))
    }

    async fn handle_in(&self, _: &mut (), _: &mut Context, _: &str, payload: Payload) -> Result<Reply, BoxError> {
        Ok(Reply::ok(payload))
    }
}

#[tokio::test]
async fn phoenix_10_many_topics_and_the_first_pattern_wins() {
    let patterns = ["room:vip", "room:*", "room:never*", "exact", "a:b:*"];
    let mount = patterns.into_iter().fold(Mount::new(), |mount, pattern| mount.channel(pattern, Named(pattern)));
    let served = serve_mount(mount).await;
    let mut client = served.client().await;
    let cases = [
        ("room:vip", "room:vip"),
        ("room:vips", "room:*"),
        ("room:", "room:*"),
        ("room:never", "room:*"),
        ("room:a:b", "room:*"),
        ("room:*", "room:*"),
        ("exact", "exact"),
        ("a:b:c", "a:b:*"),
    ];
    for (topic, pattern) in cases {
        assert_eq!(client.join(topic).await, json!({"pattern": pattern, "topic": topic}));
    }
    for (topic, _) in cases.iter().rev() {
        assert_eq!(client.call(topic, "any", json!({"on": topic}), "ok").await, json!({"on": topic}));
    }
    for topic in ["exactly", "exact:1", "a:b", "room"] {
        assert_eq!(client.try_join(topic, json!({})).await["response"], json!({"reason": "unmatched topic"}));
    }
}

#[tokio::test]
async fn phoenix_10_a_star_elsewhere_is_no_pattern() {
    for pattern in ["ro*m", "**", "*:x", ""] {
        let mount = Mount::new().channel(pattern, Named("none"));
        let built = fanfare::Endpoint::builder().mount("/socket", mount).build().await;
        assert!(built.unwrap_err().is_invalid(), "{pattern:?}");
    }
}

#[tokio::test]
async fn phoenix_11_refused_with_a_reason_or_answered_with_catch_up() {
    let served = serve_mount(stage()).await;
    let mut client = served.client().await;
    let cases = [
        (json!({"refuse": "You don't have permission!"}), "error", json!({"reason": "You don't have permission!"})),
        (json!({"panic": true}), "error", json!({"reason": "join crashed"})),
        (json!({"fail": true}), "error", json!({"reason": "join crashed"})),
        (
            json!({"reply": {"recent": [{"body": "a"}, {"body": "b"}]}}),
            "ok",
            json!({"recent": [{"body": "a"}, {"body": "b"}]}),
        ),
        (json!({"reply": null}), "ok", json!(null)),
        (json!({}), "ok", json!({})),
    ];
    for (number, (params, status, response)) in cases.into_iter().enumerate() {
        let topic = format!("room:{number}");
        let reply = client.try_join(&topic, params.clone()).await;
        assert_eq!(reply, json!({"status": status, "response": response}), "{params}");
        let members = served.endpoint.members(&topic).await.len();
        assert_eq!(members, usize::from(status == "ok"), "{params}");
    }
    client.assert_untouched().await;
    assert_eq!(served.counter("joins", "refused"), 1);
    assert_eq!(served.counter("joins", "crashed"), 2);
    assert_eq!(served.counter("joins", "ok"), 3);
}
