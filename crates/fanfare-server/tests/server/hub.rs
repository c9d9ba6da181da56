//! A hub for several customers: each has a domain, and keys that are good for its topics alone.

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::api_keys::Store;
use crate::issuer::shared;
use crate::services::redis;
use crate::support::{Server, eventually};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// Keys of the domains `a` and `b`, and a server whose subscribers need a credential as well: a key, or a token.
fn customers() -> (Store, Server, [String; 2]) {
    let store = Store::new("file");
    store.apikey(&["migrate"]).unwrap();
    let keys = ["a", "b"].map(|domain| store.apikey(&["add", "--domain", domain]).unwrap());
    let server = Server::serve(&format!(
        "{}[auth.keys]\nkind = 'apikeys'\nkeys = 'main'\n[auth.tokens]\nkind = 'jwt'\nsecret = '{SECRET}'\n\
         [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = ['keys', 'tokens']\nsubscribe = 'authenticated'\n",
        store.section
    ));
    (store, server, keys)
}

#[test]
fn hub_2_hub_5_customers_do_not_meet() {
    let (_store, server, [a, b]) = customers();
    let mut publishers = [("a", &a), ("b", &b)]
        .map(|(domain, key)| server.upgrade(&format!("/ws/pub/{key}/{domain}/news"), &[]).unwrap());
    let mut subscribers = [("a", &a), ("b", &b)]
        .map(|(domain, key)| server.upgrade(&format!("/ws/sub/{domain}/news?key={key}"), &[]).unwrap());
    for (publisher, text) in publishers.iter_mut().zip(["for a", "for b"]) {
        publisher.send_text(text);
    }
    for (subscriber, text) in subscribers.iter_mut().zip(["for a", "for b"]) {
        assert_eq!(subscriber.receive_text(), text);
    }
    assert_eq!(server.upgrade(&format!("/ws/pub/{a}/a/news"), &[]).err(), Some(409));
}

#[test]
fn hub_3_hub_4_a_credential_reads_and_writes_its_own_domain() {
    let (_store, server, [a, b]) = customers();
    let token = |claims: serde_json::Value| {
        shared(Algorithm::HS512, SECRET.as_bytes(), r#"{"alg":"HS512"}"#, &claims.to_string())
    };
    let exp = 4_000_000_000_u64;
    let of_a = token(json!({"sub": "1", "exp": exp, "domain": "a"}));
    let of_both = token(json!({"sub": "1", "exp": exp, "domain": ["a", "b"]}));
    let of_none = token(json!({"sub": "1", "exp": exp}));
    let publish = |credential: &str, domain: &str, topic: &str| {
        let headers = [("authorization", &*format!("Bearer {credential}"))];
        server.upgrade(&format!("/ws/pub/-/{domain}/{topic}"), &headers)
    };
    let subscribe = |credential: &str, domain: &str| {
        let headers = [("authorization", &*format!("Bearer {credential}"))];
        server.upgrade(&format!("/ws/sub/{domain}/news"), &headers).err()
    };
    let _publishers = [publish(&a, "a", "news").unwrap(), publish(&b, "b", "news").unwrap()];
    for (credential, a, b) in [
        (&a, None, Some(403)),
        (&b, Some(403), None),
        (&of_a, None, Some(403)),
        (&of_both, None, None),
        (&of_none, Some(403), Some(403)),
    ] {
        assert_eq!((subscribe(credential, "a"), subscribe(credential, "b")), (a, b));
        let published = ["a", "b"].map(|domain| publish(credential, domain, "others").err());
        assert_eq!(published, [a, b]);
    }
    assert_eq!(server.upgrade("/ws/sub/a/news", &[]).err(), Some(403), "without any");
    for reason in
        ["keys: the key is of another domain", "tokens: the token's claim \\\"domain\\\" is not the topic's domain"]
    {
        assert!(server.wait_for_stderr(|log| log.contains(reason).then_some(())).is_some(), "{}", server.stderr());
    }
}

#[test]
fn hub_9_started_topics_are_listed_with_their_publishers_and_without_subscribers() {
    let (_store, server, [a, b]) = customers();
    let topics = || server.api("GET", "/api/topics?limit=1000", &json!(null)).json();
    assert_eq!(topics(), json!({"topics": [], "total": 0, "next": null}));
    let mut publishers = Vec::new();
    for n in 0..3 {
        publishers.push(server.upgrade(&format!("/ws/pub/{a}/a/{n}"), &[]).unwrap());
    }
    let token = json!({"sub": "7", "exp": 4_000_000_000_u64, "domain": "b"}).to_string();
    let token = shared(Algorithm::HS512, SECRET.as_bytes(), r#"{"alg":"HS512"}"#, &token);
    publishers.push(server.upgrade(&format!("/ws/pub/{token}/b/news"), &[]).unwrap());
    let _subscriber = server.upgrade(&format!("/ws/sub/b/news?key={b}"), &[]).unwrap();

    let listed = topics()["topics"].as_array().unwrap().clone();
    let told: Vec<_> =
        listed.iter().map(|topic| (&topic["topic"], &topic["members"], &topic["publisher"]["key"])).collect();
    let (key, none) = (json!(a[..11]), json!(null));
    let (zero, one, names) =
        (json!(0), json!(1), ["hub:a/0", "hub:a/1", "hub:a/2", "hub:b/news"].map(|name| json!(name)));
    let [first, second, third, news] = &names;
    assert_eq!(told, [(first, &zero, &key), (second, &zero, &key), (third, &zero, &key), (news, &one, &none)]);
    assert_eq!((&listed[0]["publisher"]["sub"], &listed[3]["publisher"]["sub"]), (&json!("a"), &json!("7")));
    assert!(listed.iter().all(|topic| topic["publisher"]["peer"].as_str().unwrap().starts_with("127.0.0.1:")));
    let page = server.api("GET", "/api/topics?limit=2&after=hub:a/0", &json!(null)).json();
    assert_eq!((&page["topics"][0], &page["next"], &page["total"]), (&listed[1], &json!("hub:a/2"), &json!(4)));
    assert!(!topics().to_string().contains(&a[12..]), "a key is shown");

    publishers.clear();
    let waits = json!({"topic": "hub:a/0", "members": 0, "publisher": null});
    eventually(|| topics()["topics"][0] == waits);
}

#[test]
fn a_started_topic_is_listed_on_all_nodes_with_the_node_of_its_publisher() {
    let redis = redis::start();
    let config = format!(
        "[broker]\nurl = '{}'\n[[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'none'\n",
        redis.redis_url()
    );
    let [one, two] = [(); 2].map(|()| Server::serve(&config));
    let publish = || one.upgrade("/ws/pub/-/d/news", &[]);
    eventually(|| publish().is_ok());
    let mut publisher = None;
    eventually(|| {
        publisher = publish().ok();
        publisher.is_some()
    });
    let mut subscriber = None;
    eventually(|| {
        subscriber = two.upgrade("/ws/sub/d/news", &[]).ok();
        subscriber.is_some()
    });
    let listed = || two.api("GET", "/api/topics", &json!(null)).json()["topics"][0].clone();
    let node = || one.api("GET", "/api/nodes", &json!(null)).json()["nodes"][0]["node"].clone();
    eventually(|| node().is_string());
    assert_eq!(listed(), json!({ "topic": "hub:d/news", "members": 1, "publisher": { "node": node() } }));
    drop(publisher);
    eventually(|| listed()["publisher"] == json!(null) && listed().get("publisher").is_some());
}

#[test]
fn hub_5_a_half_open_publisher_is_replaced_by_its_own_key() {
    let store = Store::new("file");
    store.apikey(&["migrate"]).unwrap();
    let [key, other] = [(); 2].map(|()| store.apikey(&["add", "--domain", "a"]).unwrap());
    let server = Server::serve(&format!(
        "{}[auth.keys]\nkind = 'apikeys'\nkeys = 'main'\n\
         [[endpoint]]\npath = '/ws'\nprotocol = 'hub'\nauth = 'keys'\nreplace = true\ngrace = '0s'\n",
        store.section
    ));
    let publish = |key: &str| server.upgrade(&format!("/ws/pub/{key}/a/t"), &[]);
    let mut first = publish(&key).unwrap();
    let mut subscriber = server.upgrade("/ws/sub/a/t", &[]).unwrap();
    assert_eq!(publish(&other).err(), Some(409), "another key of the same domain");
    let mut second = publish(&key).unwrap();
    assert_eq!(first.receive_close_reason(), (4409, "another connection of this publisher has taken its place".into()));
    second.send_text("the topic goes on");
    assert_eq!(subscriber.receive_text(), "the topic goes on");
    drop(first);
    assert_eq!(publish(&other).err(), Some(409), "the one that was replaced takes nothing with it");
    assert_eq!(server.counter("closes", "replaced"), 1);
}
