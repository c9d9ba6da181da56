//! Supabase's clients: changes of a database, to those who want them and may see the row.

use std::sync::atomic::{AtomicBool, Ordering};

use fanfare::{Authority, Bearer, ChangedRow, Publish, Rights, RightsRequest, Supabase, TokenFault};
use serde_json::{Value, json};

use crate::support::Served;
use crate::support::client::Client;
use crate::support::supabase::{House, key, realtime_with, user};

const TOPIC: &str = "realtime:a";

/// Rows are seen by those whose role they name, and by all who are nobody.
struct Owners;

/// Whether the source is connected. One test changes it.
static COMING: AtomicBool = AtomicBool::new(true);

impl Authority for Owners {
    async fn verify(&self, token: &str) -> Result<Bearer, TokenFault> {
        House.verify(token).await
    }

    async fn rights(&self, request: RightsRequest<'_>) -> Rights {
        House.rights(request).await
    }

    fn may_see(&self, bearer: &Bearer, row: ChangedRow<'_>) -> bool {
        assert_eq!(row.schema, "public");
        row.text("owner").as_deref() == bearer.who::<String>().map(String::as_str)
    }

    fn are_changes_coming(&self) -> bool {
        COMING.load(Ordering::Relaxed)
    }
}

async fn database() -> Served {
    realtime_with(Supabase::new(Owners).tables([("public", "orders"), ("public", "news")])).await
}

fn change(operation: &str, table: &str, record: Value, old: Value) -> Value {
    json!({"schema": "public", "table": table, "type": operation, "commit_timestamp": "2026-08-21T10:00:00.000Z",
           "columns": [{"name": "owner", "type": "text"}, {"name": "total", "type": "int4"}],
           "record": record, "old_record": old, "errors": null})
}

impl Served {
    async fn change(&self, change: &Value) {
        let topic = format!("postgres_changes:public:{}", change["table"].as_str().unwrap());
        self.endpoint.publish(Publish::new(&topic, change["type"].as_str().unwrap(), change)).await.unwrap();
    }
}

impl Client {
    async fn listen(&mut self, token: &str, bindings: Value) -> Value {
        let params = json!({"config": {"postgres_changes": bindings}, "access_token": token});
        self.try_join(TOPIC, params).await
    }

    /// The next frame, which must be a change.
    async fn learns(&mut self) -> Value {
        let frame = self.frame().await;
        assert_eq!((&frame[0], &frame[2], &frame[3]), (&json!(TOPIC), &json!(TOPIC), &json!("postgres_changes")));
        frame[4].clone()
    }

    async fn is_told(&mut self, status: &str, message: &str) {
        let told = self.system(TOPIC).await;
        assert_eq!((&told["extension"], &told["status"]), (&json!("postgres_changes"), &json!(status)));
        assert!(told["message"].as_str().unwrap().contains(message), "{told}");
    }
}

#[tokio::test]
async fn supabase_50_and_52_changes_come_to_those_who_want_them_and_may_see_the_row() {
    let served = database().await;
    let mut anon = served.supabase("2.0.0").await;
    let bindings = [
        json!({"event": "*", "schema": "public", "table": "orders"}),
        json!({"event": "UPDATE", "schema": "public", "table": "orders", "filter": "total=gt.15", "select": ["total"]}),
        json!({"event": "INSERT", "schema": "*"}),
    ];
    let reply = anon.listen(&key(), json!(bindings)).await;
    let with_ids = bindings.iter().zip(1..).map(|(binding, id)| {
        let mut binding = binding.clone();
        binding["id"] = json!(id);
        binding
    });
    assert_eq!(reply, json!({"status": "ok", "response": {"postgres_changes": with_ids.collect::<Vec<_>>()}}));
    anon.is_told("ok", "Subscribed to PostgreSQL").await;
    let mut ada = served.supabase("2.0.0").await;
    ada.listen(&user("ada"), json!([{"event": "*", "schema": "public", "table": "orders"}])).await;
    ada.is_told("ok", "Subscribed to PostgreSQL").await;

    let of = |owner: &str, total: u32| json!({"owner": owner, "total": total});
    let inserted = change("INSERT", "orders", of("anon", 10), Value::Null);
    served.change(&inserted).await;
    let mut expected = inserted.clone();
    expected.as_object_mut().unwrap().remove("old_record");
    assert_eq!(anon.learns().await, json!({"ids": [1, 3], "data": expected}));
    served.change(&change("INSERT", "news", of("anon", 1), Value::Null)).await;
    assert_eq!(anon.learns().await["ids"], json!([3]));
    let updated = change("UPDATE", "orders", of("anon", 20), of("anon", 10));
    served.change(&updated).await;
    assert_eq!(anon.learns().await, json!({"ids": [1], "data": updated}));
    let heard = anon.learns().await;
    assert_eq!((&heard["ids"], &heard["data"]["record"]), (&json!([2]), &json!({"total": 20})));
    assert_eq!(heard["data"]["columns"], json!([{"name": "total", "type": "int4"}]));
    // A row changes hands: the new owner does not learn what it was.
    served.change(&change("UPDATE", "orders", of("authenticated", 5), of("anon", 20))).await;
    let heard = ada.learns().await;
    assert_eq!((&heard["data"]["record"], &heard["data"]["old_record"]), (&of("authenticated", 5), &json!({})));
    let mut deleted = change("DELETE", "orders", Value::Null, of("authenticated", 5));
    deleted.as_object_mut().unwrap().remove("record");
    served.change(&deleted).await;
    assert_eq!(ada.learns().await, json!({"ids": [1], "data": deleted}));
    // What is none, and what says that it is of another table.
    for none in [json!({"schema": "public", "table": "orders"}), json!({"table": "orders", "type": "INSERT", "x": 1})] {
        let publish = Publish::new("postgres_changes:public:orders", "INSERT", none);
        served.endpoint.publish(publish).await.unwrap();
    }
    let forged =
        Publish::new("postgres_changes:public:orders", "INSERT", change("INSERT", "news", of("anon", 1), Value::Null));
    served.endpoint.publish(forged).await.unwrap();
    anon.assert_untouched().await;
    ada.assert_untouched().await;
}

#[tokio::test]
async fn supabase_39_and_52_a_new_token_decides_which_rows_are_seen() {
    let served = database().await;
    let mut client = served.supabase("2.0.0").await;
    client.listen(&key(), json!([{"event": "*", "schema": "public", "table": "orders"}])).await;
    client.is_told("ok", "Subscribed").await;
    client.push(TOPIC, TOPIC, "access_token", json!({"access_token": user("ada")})).await;
    client.assert_untouched().await;
    for owner in ["anon", "authenticated"] {
        served.change(&change("INSERT", "orders", json!({ "owner": owner }), Value::Null)).await;
    }
    assert_eq!(client.learns().await["data"]["record"]["owner"], "authenticated");
}

#[tokio::test]
async fn supabase_51_and_52_what_is_not_served_is_told_and_the_rest_comes() {
    let served = database().await;
    let (orders, others) = (
        json!({"event": "*", "schema": "public", "table": "orders"}),
        json!({"event": "*", "schema": "public", "table": "others"}),
    );
    let mut client = served.supabase("2.0.0").await;
    client.listen(&key(), json!([others, orders])).await;
    client.is_told("error", "binding 1 of postgres_changes: changes of this table are not served here").await;
    served.change(&change("INSERT", "orders", json!({"owner": "anon"}), Value::Null)).await;
    assert_eq!(client.learns().await["ids"], json!([2]));
    // All that is wrong is told, up to a bound.
    let mut client = served.supabase("2.0.0").await;
    client.listen(&key(), json!(vec![others.clone(); 12])).await;
    client.is_told("error", "served here; binding 2 of postgres_changes: changes").await;
    let mut client = served.supabase("2.0.0").await;
    client.listen(&key(), json!(vec![others.clone(); 12])).await;
    client.is_told("error", "binding 10 of postgres_changes: changes of this table are not served here; 2 more").await;
    for (binding, reason) in [
        (others, "changes of this table are not served here"),
        (json!({"schema": "public", "filter": "id=match.(a"}), "the pattern \"(a\" is not served: unclosed group"),
    ] {
        let config = json!({"postgres_changes": [binding], "postgres_changes_options": {"wait": true}});
        let reply = served.supabase("2.0.0").await.try_join(TOPIC, json!({ "config": config })).await;
        let expected = format!("RealtimeDisabledForConfiguration: binding 1 of postgres_changes: {reason}");
        assert!(reply["response"]["reason"].as_str().unwrap().starts_with(&expected), "{reply}");
    }
}

#[tokio::test]
async fn supabase_52_and_53_members_are_told_once_the_source_is_connected() {
    COMING.store(false, Ordering::Relaxed);
    let served = database().await;
    let mut client = served.supabase("2.0.0").await;
    let config = json!({
        "postgres_changes": [{"event": "*", "schema": "public", "table": "orders"}],
        "broadcast": {"replication_ready": true},
    });
    assert_eq!(client.try_join(TOPIC, json!({ "config": config })).await["status"], "ok");
    client.assert_untouched().await;
    COMING.store(true, Ordering::Relaxed);
    let mut told = [client.system(TOPIC).await, client.system(TOPIC).await].map(|told| told["message"].clone());
    told.sort_by_key(ToString::to_string);
    assert_eq!(told, ["Replication connection established", "Subscribed to PostgreSQL"]);
}

#[tokio::test]
async fn supabase_52_a_column_that_the_table_does_not_have_is_told_with_the_first_change_and_once() {
    let served = database().await;
    let mut client = served.supabase("2.0.0").await;
    let orders = |more: Value| {
        let mut binding = json!({"event": "*", "schema": "public", "table": "orders"});
        binding.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        binding
    };
    let bindings = json!([orders(json!({})), orders(json!({"filter": "totl=gt.1"}))]);
    let inserted = change("INSERT", "orders", json!({"owner": "anon", "total": 10}), Value::Null);
    for is_first in [true, false] {
        client.listen(&key(), bindings.clone()).await;
        client.is_told("ok", "Subscribed to PostgreSQL").await;
        for n in 0..2 {
            served.change(&inserted).await;
            if is_first && n == 0 {
                let reason = "binding 2 of postgres_changes: the table public.orders has no column \"totl\"";
                client.is_told("error", reason).await;
            }
            assert_eq!(client.learns().await["ids"], json!([1]));
        }
        client.push(TOPIC, TOPIC, "phx_leave", json!({})).await;
        while client.frame().await[3] != "phx_close" {}
    }
}
