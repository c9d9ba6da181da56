//! A hub for several customers: each has a domain, and keys that are good for its topics alone.

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::api_keys::Store;
use crate::issuer::shared;
use crate::support::Server;

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
