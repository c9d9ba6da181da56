//! Supabase's clients: messages by POST requests.

use std::time::Duration;

use fanfare::{Endpoint, Mount, Rate, Supabase};
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::http::{Answer, request};
use crate::support::supabase::{House, key, private, realtime, token, user};
use crate::support::{Served, serve};

const BATCH: &str = "/realtime/v1/api/broadcast";

async fn post(served: &Served, target: &str, token: &str, body: &Value) -> Answer {
    let bearer = format!("bearer {token}");
    request(served.address, "POST", target, &[("authorization", &bearer)], body.to_string().as_bytes()).await
}

fn batch(messages: Value) -> Value {
    json!({ "messages": messages })
}

async fn member(served: &Served) -> Client {
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:a", json!({})).await;
    client
}

#[tokio::test]
async fn supabase_2_44_and_46_a_batch_reaches_the_members() {
    let served = realtime().await;
    let mut client = member(&served).await;
    let messages = json!([
        {"topic": "a", "event": "e", "payload": {"n": 1}},
        {"topic": "a", "event": "e", "payload": {"n": 2}, "id": "3f-1", "private": false},
        {"topic": "a", "event": "phx_close", "payload": {"n": 3}},
    ]);
    for target in [BATCH, "/api/broadcast", "/socket/api/broadcast"] {
        let answer = post(&served, target, &key(), &batch(messages.clone())).await;
        assert_eq!((answer.status, answer.text()), (202, ""));
        assert_eq!(answer.headers["access-control-allow-origin"], "*");
        client.hears("realtime:a", "e", json!({"n": 1})).await;
        let (_, _, meta, payload) = client.broadcast().await;
        assert_eq!((meta, payload), (json!({"id": "3f-1"}), json!({"n": 2})));
        client.hears("realtime:a", "phx_close", json!({"n": 3})).await;
    }
    let body = batch(messages).to_string();
    let answer = request(served.address, "POST", BATCH, &[("apikey", &key())], body.as_bytes()).await;
    assert_eq!(answer.status, 202);
}

#[tokio::test]
async fn supabase_44_what_is_wrong_with_a_batch_is_told() {
    let served = realtime().await;
    let blank = json!({"errors": {"messages": ["can't be blank"]}});
    let one = || batch(json!([{"topic": "a", "event": "e", "payload": {}}]));
    for (token, body, status, expected) in [
        ("nonsense", one(), 401, json!({"message": "Unauthorized"})),
        ("", one(), 401, json!({"message": "Unauthorized"})),
        (&key(), json!({}), 422, blank.clone()),
        (&key(), batch(json!([])), 422, blank.clone()),
        (&key(), json!([]), 422, blank),
        (
            &key(),
            batch(json!([{"topic": "a", "payload": {}}, {"topic": "a", "event": "e", "payload": {}}, {}])),
            422,
            json!({"errors": {"messages": [
                {"event": ["can't be blank"]},
                {},
                {"topic": ["can't be blank"], "event": ["can't be blank"], "payload": ["can't be blank"]},
            ]}}),
        ),
        (
            &key(),
            batch(json!([{"topic": "a", "event": "e", "payload": "x".repeat(3_000_000)}])),
            422,
            json!({"errors": {"messages": [{"payload": ["Payload size exceeds tenant limit"]}]}}),
        ),
        // It may be meant as a yes, and must not go out to everybody.
        (
            &key(),
            batch(json!([{"topic": "a", "event": "e", "payload": {}, "private": "yes"}])),
            422,
            json!({"errors": {"messages": [{"private": ["is invalid"]}]}}),
        ),
        (
            &key(),
            batch(json!([{"topic": "a", "event": "e", "payload": {}, "id": "x".repeat(101)}])),
            422,
            json!({"errors": {"messages": [{"id": ["has 101 bytes, more than 100"]}]}}),
        ),
        (
            &key(),
            batch(json!(vec![json!({"topic": "a", "event": "e", "payload": {}}); 1_001])),
            429,
            json!({"message": "Too many messages to broadcast, please reduce the batch size"}),
        ),
    ] {
        let answer = post(&served, BATCH, token, &body).await;
        assert_eq!((answer.status, answer.json()), (status, expected));
    }
    let bearer = format!("Bearer {}", key());
    let nested = format!("{}{}", "[".repeat(600), "]".repeat(600));
    for (body, fault) in [
        (r#"{"messages":[{"topic":"a" "event":"e"}]}"#, "expected `,` or `}` at line 1 column 27"),
        ("", "EOF while parsing a value at line 1 column 0"),
        (&nested, "nested too deeply"),
    ] {
        let answer = request(served.address, "POST", BATCH, &[("authorization", &bearer)], body.as_bytes()).await;
        let told = json!({"errors": {"messages": [format!("the body is not JSON: {fault}")]}});
        assert_eq!((answer.status, answer.json()), (422, told));
    }
    assert_eq!(request(served.address, "GET", BATCH, &[], b"").await.status, 405);
    assert_eq!(request(served.address, "POST", "/realtime/v1/api/other", &[], b"").await.status, 404);
}

#[tokio::test]
async fn supabase_44_private_messages_need_the_right() {
    let served = realtime().await;
    let mut inside = served.supabase("2.0.0").await;
    inside.enter("realtime:a", private(&user("ada"), json!({}))).await;
    let messages = batch(json!([
        {"topic": "a", "event": "e", "payload": {}, "private": true},
        {"topic": "b", "event": "e", "payload": {}},
    ]));
    let answer = post(&served, BATCH, &key(), &messages).await;
    assert_eq!((answer.status, answer.headers["x-left-out"].as_str()), (202, "1"));
    let only_private = batch(json!([{"topic": "a", "event": "e", "payload": {}, "private": true}]));
    let answer = post(&served, BATCH, &key(), &only_private).await;
    assert_eq!((answer.status, answer.json()), (403, json!({"message": "Unauthorized"})));
    inside.assert_untouched().await;
    for role in ["service_role", "writer"] {
        let token = token(role, "x", Duration::from_secs(60));
        assert_eq!(post(&served, BATCH, &token, &only_private).await.status, 202);
        inside.hears("realtime:a", "e", json!({})).await;
    }
}

#[tokio::test]
async fn supabase_45_one_message_whose_body_is_its_payload() {
    let served = realtime().await;
    let mut client = member(&served).await;
    let bearer = format!("Bearer {}", key());
    let post = async |target: &str, content_type: Option<&str>, body: &[u8]| {
        let mut headers = vec![("authorization", bearer.as_str())];
        headers.extend(content_type.map(|content_type| ("content-type", content_type)));
        request(served.address, "POST", &format!("{BATCH}/{target}"), &headers, body).await
    };
    assert_eq!(post("a/events/my%20event", None, b"{\"n\":1}").await.status, 202);
    client.hears("realtime:a", "my event", json!({"n": 1})).await;
    assert_eq!(post("a/events/e?persist=true", Some("application/json; charset=utf-8"), b"[1]").await.status, 202);
    client.hears("realtime:a", "e", json!([1])).await;
    assert_eq!(post("a/events/e", Some("application/octet-stream"), b"\0\x01").await.status, 202);
    client.hears("realtime:a", "e", json!([0, 1])).await;
    let answer = post("a/events/e", Some("text/plain"), b"x").await;
    let reason = "Unsupported Media Type. Use application/json or application/octet-stream";
    assert_eq!((answer.status, answer.json()), (415, json!({ "error": reason })));
    let answer = post("a/events/e", None, b"{\"n\":1,}").await;
    let reason = "the body is not JSON: key must be a string at line 1 column 8";
    assert_eq!((answer.status, answer.json()), (422, json!({"errors": {"payload": [reason]}})));
    assert_eq!(post("a/events/e?private=true", None, b"{}").await.status, 403);
    assert_eq!(post(&format!("{}/events/e", "x".repeat(250)), None, b"{}").await.status, 422);
    client.assert_untouched().await;
}

#[tokio::test]
async fn supabase_44_a_token_has_the_rate_of_a_socket() {
    let options = Supabase::new(House);
    let rate = Rate::per_second(1).burst(3);
    let builder = Endpoint::builder().mount("/realtime/v1", Mount::supabase(options).message_rate(rate));
    let served = serve(builder).await;
    let one = json!({"topic": "a", "event": "e", "payload": {}});
    let of = async |token: &str, count: usize| {
        let answer = post(&served, BATCH, token, &batch(json!(vec![one.clone(); count]))).await;
        let told =
            ["x-rate-limit", "x-rate-limit-remaining", "x-rate-rolling"].map(|name| answer.headers[name].clone());
        (answer, told)
    };
    let (key, other) = (key(), user("ada"));
    let (answer, told) = of(&key, 1).await;
    assert_eq!((answer.status, told.join(" ").as_str()), (202, "1 2 1"));
    let (answer, told) = of(&key, 3).await;
    assert_eq!((answer.status, told.join(" ").as_str()), (429, "1 2 1"));
    assert_eq!(answer.json(), json!({"message": "You have exceeded your rate limit"}));
    assert_eq!(answer.headers["retry-after"], "1");
    assert_eq!(of(&key, 2).await.0.status, 202);
    assert_eq!(of(&other, 3).await.0.status, 202);
}

#[tokio::test]
async fn supabase_47_pages_of_any_origin_may_ask() {
    let served = realtime().await;
    let headers = [("origin", "https://elsewhere.example"), ("access-control-request-method", "POST")];
    for target in [BATCH, "/realtime/v1/api/broadcast/a/events/e", "/api/broadcast"] {
        let answer = request(served.address, "OPTIONS", target, &headers, b"").await;
        assert_eq!(answer.status, 204);
        assert_eq!(
            answer.headers["access-control-allow-headers"],
            "authorization, apikey, content-type, x-client-info"
        );
    }
}
