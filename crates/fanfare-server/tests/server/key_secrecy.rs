//! API keys as somebody meets them who has none: what a store holds, and what the server answers to texts that are no keys.

use std::collections::HashSet;

use crate::api_keys::Store;
use crate::support::Server;

impl Store {
    /// All that it holds, as text.
    fn content(&self) -> String {
        match (self.kind, &self.service) {
            ("postgres", Some(service)) => service.sql("SELECT to_jsonb(a) FROM apikeys a"),
            (_, Some(service)) => service.mongo("print(list(keys.find()))"),
            (_, None) => {
                let files = std::fs::read_dir(self.folder.path("")).unwrap().map(|entry| entry.unwrap().path());
                let files = files.filter(|file| file.file_stem().is_some_and(|stem| stem == "keys"));
                files.map(|file| String::from_utf8_lossy(&std::fs::read(file).unwrap()).into_owned()).collect()
            }
        }
    }
}

#[test]
fn security_26_keys_are_random_and_stored_as_a_hash() {
    for store in Store::all() {
        let kind = store.kind;
        store.apikey(&["migrate"]).unwrap();
        let add = |n: usize| store.apikey(&["add", "--domain", &format!("{n}.example.com")]).unwrap();
        let keys: Vec<String> = (0..12).map(add).collect();
        let content = store.content();
        for key in &keys {
            let (name, secret) = (&key[..11], &key[12..]);
            assert!(content.contains(name) && !content.contains(secret), "{kind}: {content}");
            assert!(content.contains(&sha256(key)), "{kind}: {content}");
        }
        // 32 letters of 64 kinds are 192 bits, if each varies.
        let letters = |at: usize| keys.iter().map(|key| key.as_bytes()[12 + at]).collect::<HashSet<u8>>();
        assert!(keys.iter().all(|key| key.len() == 12 + 32), "{kind}");
        assert!((0..32).all(|at| letters(at).len() > 4), "{kind}");
    }
}

fn sha256(text: &str) -> String {
    let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, text.as_bytes());
    hash.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Before the upgrade, at every kind of endpoint, and to the last byte of the answer.
#[test]
fn hub_4_security_28_security_29_unknown_inactive_and_foreign_keys_look_the_same() {
    for store in Store::all() {
        let kind = store.kind;
        store.apikey(&["migrate"]).unwrap();
        let key = store.apikey(&["add", "--domain", "example.com"]).unwrap();
        let inactive = store.apikey(&["add", "--inactive"]).unwrap();
        let server = store.server();
        let expected = answers(&server, "unknown");
        assert!(expected.iter().all(|answer| answer.starts_with("403 ")), "{kind}: {expected:?}");
        let foreign = answer(&server, &format!("/ws/pub/{key}/other.com/t"));
        assert_eq!(foreign, expected[0], "{kind}");
        let why = server.wait_for_stderr(|log| log.contains("the key is of another domain").then_some(()));
        assert!(why.is_some(), "{kind}: the log says why");
        let (hash, shouted, long) = (sha256(&key), key.to_uppercase(), "x".repeat(600));
        let stored = format!("sha256:{hash}");
        let bad = [
            // Inactive; nearly right; what is stored, or shown, of a good one.
            &*inactive,
            &key[..43],
            &shouted,
            &format!("{key}%20"),
            &format!("{key}%00"),
            &hash,
            &stored,
            &key[..11],
            // Operators, patterns and statements.
            "%7B%22$ne%22:null%7D",
            "%7B%22$gt%22:%22%22%7D",
            "$where",
            "%27%20OR%201=1",
            "%27%20OR%20%271%27=%271",
            "%27;%20DROP%20TABLE%20apikeys;--",
            "%25",
            "_",
            "*",
            ".*",
            "%00",
            "%5C",
            &long,
        ];
        for bad in bad {
            assert_eq!(answers(&server, bad), expected, "{kind}: {bad}");
        }
        let log = server.stderr();
        assert!(!log.contains(&key[12..]) && !log.contains(&inactive[12..]), "{kind}: a key is in the log");
        assert!(server.upgrade(&format!("/ws/pub/{key}/example.com/t"), &[]).is_ok(), "{kind}: nothing happened to it");
        assert_eq!(store.list().len(), 2, "{kind}");
    }
}

/// What a hub, bullet.js and Phoenix's sockets answer to a key.
fn answers(server: &Server, key: &str) -> [String; 3] {
    let targets = [
        format!("/ws/pub/{key}/example.com/t"),
        format!("/bullet?key={key}"),
        format!("/socket/websocket?vsn=2.0.0&token={key}"),
    ];
    targets.map(|target| answer(server, &target))
}

/// Status, headers in order, and body. Only the date may differ.
fn answer(server: &Server, target: &str) -> String {
    let answer = server.http("GET", target, &[], "");
    let mut headers: Vec<_> = answer.headers.iter().filter(|(name, _)| *name != "date").collect();
    headers.sort();
    format!("{} {headers:?} {}", answer.status, answer.body)
}
