//! Hub, bridge and rooms, as somebody starts with them who follows the instructions of the systems that they replace: make the
//! table, insert a key, publish the sample message, connect plain WebSocket clients, see it arrive. Their databases die and come
//! back in the middle of it.

use serde_json::json;

use crate::services::{mongo, postgres, redis};
use crate::support::{Folder, PATIENCE, Server, eventually, run};

fn health(server: &Server) -> serde_json::Value {
    server.api("GET", "/api/health", &json!(null)).json()["status"].clone()
}

#[track_caller]
fn has_members(server: &Server, count: u64) {
    let topic = || server.api("GET", "/api/topics", &json!(null)).json()["topics"][0].clone();
    eventually(|| topic()["topic"] == "hub:example.com/news" && topic()["members"] == count);
}

#[test]
fn hub_2_hub_3_hub_7_hub_11_with_its_table_and_two_plain_clients() {
    let mut postgres = postgres::start();
    postgres.wait_for_sql();
    let config = format!(
        "[keys.hub]\nstore = 'postgres'\nurl = '{}'\npool_timeout = '2s'\ncache = '0s'\ncache_unknown = '0s'\n\
         [auth.keys]\nkind = 'apikeys'\nkeys = 'hub'\n\
         [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'keys'\n",
        postgres.postgres_url()
    );
    // The published statement fails for want of its sequence; this one makes the same table.
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", &config);
    let (ok, _, stderr) = run(&["apikey", "migrate", "--config", file.to_str().unwrap()]);
    assert!(ok, "{stderr}");
    let key = "550e8400-e29b-41d4-a716-446655440000";
    postgres.sql(&format!(
        "INSERT INTO apikeys (domain, username, apikey) VALUES ('example.com', 'someone@example.com', '{key}')"
    ));
    let server = Server::serve(&config);
    let (publish, subscribe) = (format!("/ws/pub/{key}/example.com/news"), "/ws/sub/example.com/news");
    assert_eq!(server.upgrade(&publish, &[]).err(), Some(403), "the sample row is inactive");
    postgres.sql("UPDATE apikeys SET active = true");
    assert_eq!(server.upgrade(subscribe, &[]).err(), Some(404), "nobody has started the topic");
    let mut publisher = server.upgrade(&publish, &[]).unwrap();
    let mut subscribers = [(); 2].map(|()| server.upgrade(subscribe, &[]).unwrap());
    has_members(&server, 2);
    publisher.send_text("Hello, world!");
    for subscriber in &mut subscribers {
        assert_eq!(subscriber.receive_text(), "Hello, world!");
    }

    postgres.kill();
    let another = format!("/ws/pub/{key}/example.com/sports");
    assert_eq!(server.upgrade(&another, &[]).err(), Some(503));
    let mut late = server.upgrade(subscribe, &[]).unwrap();
    has_members(&server, 3);
    publisher.send_text("without a database");
    for subscriber in subscribers.iter_mut().chain([&mut late]) {
        assert_eq!(subscriber.receive_text(), "without a database");
    }
    postgres.restart();
    postgres.wait_for_sql();
    eventually(|| server.upgrade(&another, &[]).is_ok());
    publisher.send_text("and with it again");
    assert_eq!(late.receive_text(), "and with it again");
}

#[test]
fn bridge_2_bridge_4_bridge_5_bridge_10_with_its_document_and_its_sample_message() {
    let (mut mongo, mut redis) = (mongo::start(), redis::start());
    mongo.mongo("keys.insert_many([{'_id': 'key1'}, {'_id': 'key2'}])");
    let server = Server::serve(&format!(
        "[keys.clients]\nstore = 'mongo'\nurl = '{}'\ncache = '0s'\ncache_unknown = '0s'\n\
         [auth.keys]\nkind = 'apikeys'\nkeys = 'clients'\n\
         [bridge]\nurl = '{redis}'\n\
         [source.messages]\nkind = 'redis'\nurl = '{redis}'\nchannels = 'my_channel'\nroute = 'recipients'\n\
         [[endpoint]]\npath = '/websocket'\nprotocol = 'bullet'\nauth = 'keys'\n",
        mongo.mongo_url(),
        redis = redis.redis_url()
    ));
    eventually(|| health(&server) == "ok");
    let mut connection = redis.redis_connect("");
    let mut heard = connection.as_pubsub();
    heard.subscribe("connected").unwrap();
    heard.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut clients = ["key1", "key2"].map(|key| {
        let client = server.upgrade(&format!("/websocket?{key}"), &[]).unwrap();
        assert_eq!(heard.get_message().unwrap().get_payload::<String>().unwrap(), key);
        client
    });
    assert_eq!(server.upgrade("/websocket?key3", &[]).err(), Some(403));
    drop(heard);

    let sample = r#"{"recipients": ["key1", "key3"], "data": {"message": "hello", "n": 1}}"#;
    let to_all = r#"{"data": "to all"}"#;
    let mut check = |redis: &crate::services::Service| {
        assert_eq!(redis.redis_publish("my_channel", sample), 1);
        redis.redis_publish("my_channel", to_all);
        let [first, second] = &mut clients;
        let received: serde_json::Value = serde_json::from_str(&first.receive_text()).unwrap();
        assert_eq!(received, json!({"data": {"message": "hello", "n": 1}}));
        for client in [first, second] {
            assert_eq!(
                serde_json::from_str::<serde_json::Value>(&client.receive_text()).unwrap(),
                json!({"data": "to all"})
            );
            client.send_text("ping");
            assert_eq!(client.receive_text(), "heartbeat message");
        }
    };
    check(&redis);
    mongo.kill();
    assert_eq!(server.upgrade("/websocket?key1", &[]).err(), Some(503));
    check(&redis);
    redis.kill();
    eventually(|| health(&server) == "degraded");
    redis.restart();
    mongo.restart();
    eventually(|| health(&server) == "ok");
    check(&redis);
    eventually(|| server.upgrade("/websocket?key1", &[]).is_ok());
}

#[test]
fn rooms_1_rooms_3_with_two_plain_clients() {
    let server = Server::serve(
        "[[endpoint]]\npath = '/'\nprotocol = 'rooms'\nacks = true\n\
         [[channel]]\ntopic = '*'\njoin = 'open'\npublish = 'open'\n",
    );
    let mut clients = [(); 2].map(|()| {
        let mut client = server.upgrade("/", &[]).unwrap();
        client.send(json!({"join": "general"}));
        client.expect(json!({"joined": "general"}));
        client
    });
    clients[0].send_text(r#"{"say":{"text":"hello"},"to":"general"}"#);
    for client in &mut clients {
        assert_eq!(client.receive_text(), r#"{"text":"hello"}"#);
    }
    let [gone, mut stays] = clients;
    drop(gone);
    let topics = || server.api("GET", "/api/topics", &json!(null)).json()["topics"].clone();
    eventually(|| topics() == json!([{"topic": "general", "members": 1}]));
    stays.send(json!({"leave": "general"}));
    stays.expect(json!({"left": "general"}));
    eventually(|| topics() == json!([]));
}
