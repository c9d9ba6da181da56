//! Supabase's clients: a token for each channel, renewed and expired.

use std::time::{Duration, Instant};

use fanfare::Supabase;
use serde_json::{Value, json};

use crate::support::client::Client;
use crate::support::supabase::{House, private, realtime, realtime_with, token, user};

const TOPIC: &str = "realtime:a";

async fn renew(client: &mut Client, token: &str) {
    client.push(TOPIC, TOPIC, "access_token", json!({ "access_token": token })).await;
}

fn short(role: &str) -> String {
    token(role, "x", Duration::from_millis(1_500))
}

/// Why the channel ends, and then its end.
async fn ends(client: &mut Client, message: &str, event: &str) {
    let told = client.system(TOPIC).await;
    let (extension, status) = (&told["extension"], &told["status"]);
    assert_eq!((extension, status, &told["channel"]), (&json!("system"), &json!("error"), &json!("a")));
    assert!(told["message"].as_str().unwrap().starts_with(message), "{told}");
    let end = client.frame().await;
    let payload = if event == "phx_error" { json!({"reason": "token expired"}) } else { json!({}) };
    assert_eq!(json!([end[0], end[2], end[3], end[4]]), json!([TOPIC, TOPIC, event, payload]));
    client.assert_untouched().await;
}

#[tokio::test]
async fn supabase_7_users_of_one_socket_have_tokens_of_their_own() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:ada", private(&user("ada"), json!({}))).await;
    client.enter("realtime:bob", private(&user("bob"), json!({}))).await;
    client.enter(TOPIC, json!({"access_token": user("eve")})).await;
    renew(&mut client, &user("somebody")).await;
    client.assert_untouched().await;
    // Public channels look at their tokens as well.
    let reply = client.try_join("realtime:b", json!({"access_token": "forged/x/1"})).await;
    assert_eq!(reply["response"]["reason"], "JwtSignatureError: Failed to validate JWT signature");
    let expired = token("anon", "", Duration::ZERO);
    let reply = client.try_join("realtime:b", json!({"access_token": "anon/x/y", "user_token": expired})).await;
    assert_eq!(reply["response"]["reason"], "InvalidJWTToken: Token has expired 0 seconds ago");
}

#[tokio::test]
async fn supabase_6_a_key_in_the_place_of_a_token_is_the_connections_own() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, json!({"access_token": "sb_publishable_x", "config": {"broadcast": {"self": true}}})).await;
    let reply = client.try_join("realtime:b", private("sb_secret_x", json!({}))).await;
    assert!(reply["response"]["reason"].as_str().unwrap().starts_with("Unauthorized: "), "{reply}");
    renew(&mut client, "sb_secret_x").await;
    client.say(TOPIC, "e", &json!({})).await;
    client.hears(TOPIC, "e", json!({})).await;
}

#[tokio::test]
async fn supabase_20_the_token_of_a_join_and_a_join_before_it_is_there() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    // The first that there is counts.
    let both = json!({"config": {"private": true}, "user_token": user("ada"), "access_token": "forged/x/1"});
    client.enter("realtime:b", both).await;
    let begun = Instant::now();
    let reply = client.try_join(TOPIC, json!({"config": {"private": true}})).await;
    assert_eq!(reply["status"], "error");
    // Theirs waits five seconds.
    assert!(begun.elapsed() < Duration::from_secs(4), "{:?}", begun.elapsed());
    client.enter(TOPIC, private(&user("ada"), json!({}))).await;
}

#[tokio::test]
async fn supabase_42_a_channel_whose_token_expires_ends_with_an_error_so_that_clients_come_back() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    client.enter("realtime:b", json!({})).await;
    client.enter(TOPIC, private(&short("authenticated"), json!({}))).await;
    ends(&mut client, "Token has expired ", "phx_error").await;
    let crashed = served.counter("channels", "crashed");
    assert_eq!((served.counter("channels", "token_expired"), crashed), (1, 0), "it has a name of its own");
    client.enter(TOPIC, private(&user("ada"), json!({}))).await;
    let served = realtime_with(Supabase::new(House).closes_expired(true)).await;
    let mut client = served.supabase("2.0.0").await;
    client.enter(TOPIC, private(&short("authenticated"), json!({}))).await;
    ends(&mut client, "Token has expired ", "phx_close").await;
}

#[tokio::test]
async fn supabase_39_a_renewed_token_counts_from_now_on() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    let first = short("authenticated");
    client.enter(TOPIC, private(&first, json!({}))).await;
    // Those that say nothing new.
    for token in [json!(null), json!(first), json!("sb_publishable_x"), json!("")] {
        client.push(TOPIC, TOPIC, "access_token", json!({ "access_token": token })).await;
    }
    client.push(TOPIC, TOPIC, "access_token", json!({})).await;
    client.assert_untouched().await;
    renew(&mut client, &user("ada")).await;
    tokio::time::sleep(Duration::from_millis(1_700)).await;
    client.assert_untouched().await;
    for (token, message, event) in [
        (token("authenticated", "x", Duration::ZERO), "Token has expired ", "phx_error"),
        ("nonsense".to_owned(), "The token provided is not a valid JWT", "phx_close"),
        ("anon/x/never".to_owned(), "Fields `role` and `exp` are required in JWT", "phx_close"),
    ] {
        renew(&mut client, &token).await;
        ends(&mut client, message, event).await;
        client.enter(TOPIC, private(&user("ada"), json!({}))).await;
    }
}

#[tokio::test]
async fn supabase_5_a_token_that_ends_in_years_starts_no_timer_that_fires() {
    let served = realtime().await;
    let mut client = served.supabase("2.0.0").await;
    let years = token("authenticated", "x", Duration::from_secs(10 * 365 * 86_400));
    client.enter(TOPIC, private(&years, json!({}))).await;
    client.enter("realtime:b", json!({"access_token": "authenticated/x/9007199254740991"})).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    client.assert_untouched().await;
}

#[tokio::test]
async fn supabase_41_and_48_rights_are_taken_again_with_each_token() {
    let served = realtime().await;
    let role = |role: &str| token(role, "x", Duration::from_secs(60));
    let enabled = || json!({"presence": {"enabled": true, "key": "k"}});
    for (before, after, message) in [
        ("authenticated", "writer", "You do not have permissions to read from this Channel topic: a"),
        ("reader", "listener", "You no longer have permission to read from this Channel topic: a"),
        ("authenticated", "looker", "You no longer have permission to read from this Channel topic: a"),
    ] {
        let mut client = served.supabase("2.0.0").await;
        client.enter(TOPIC, private(&role(before), enabled())).await;
        assert_eq!(client.frame().await[3], "presence_state");
        renew(&mut client, &role(after)).await;
        ends(&mut client, message, "phx_close").await;
    }
    // Rights that are won count at once, and those to write go without an end.
    let mut client = served.supabase("2.0.0").await;
    client
        .enter(TOPIC, private(&role("listener"), json!({"broadcast": {"self": true}, "presence": {"key": "k"}})))
        .await;
    let sent = || json!({"event": "e", "payload": {}});
    client.call(TOPIC, "broadcast", sent(), "error").await;
    renew(&mut client, &role("authenticated")).await;
    client.push(TOPIC, TOPIC, "broadcast", sent()).await;
    client.hears(TOPIC, "e", json!({})).await;
    client.call(TOPIC, "presence", json!({"event": "track", "payload": {}}), "ok").await;
    assert_eq!(client.frame().await[3], "presence_diff");
    renew(&mut client, &role("reader")).await;
    let diff = client.frame().await;
    assert_eq!((&diff[3], diff[4]["leaves"].get("k").is_some()), (&json!("presence_diff"), true));
    client.call(TOPIC, "broadcast", sent(), "error").await;
    assert_eq!(served.counter("drops", "not_allowed"), 2);
    assert_eq!(Value::Null, json!(null));
}
