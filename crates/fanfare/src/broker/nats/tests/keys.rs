//! Servers that check keys: users that they know by their keys, and JWTs that an operator has issued.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};

use super::*;
use crate::broker::nats::key::encode;
use crate::broker::nats::{NatsJetStream, NatsServer};

/// What keys are of, as their first letter says.
const OPERATOR: u8 = 14 << 3;
const ACCOUNT: u8 = 0;
const USER: u8 = 20 << 3;

/// A key, made of one byte.
struct Pair {
    pair: Ed25519KeyPair,
    public: String,
    seed: String,
}

impl Pair {
    fn new(kind: u8, byte: u8) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(&[byte; 32]).unwrap();
        let public = encode(&[kind], pair.public_key().as_ref());
        let seed = encode(&[18 << 3 | kind >> 5, (kind & 31) << 3], &[byte; 32]);
        Pair { pair, public, seed }
    }

    /// Says in a JWT what another key is.
    fn issues(&self, subject: &Pair, claims: &Value, ends: Option<u64>) -> String {
        let mut body = json!({ "jti": "1", "iat": 1_700_000_000, "iss": self.public, "name": "n", "sub": subject.public, "nats": claims });
        if let Some(ends) = ends {
            body["exp"] = ends.into();
        }
        let parts =
            [json!({ "typ": "JWT", "alg": "ed25519-nkey" }), body].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = parts.join(".");
        let signature = URL_SAFE_NO_PAD.encode(self.pair.sign(signed.as_bytes()));
        format!("{signed}.{signature}")
    }
}

/// A file as `nsc` writes it.
fn creds(jwt: &str, seed: &str) -> String {
    format!(
        "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n************************* IMPORTANT *************************\n\
         NKEY Seed printed below can be used to sign and prove identity.\n\n-----BEGIN USER NKEY SEED-----\n{seed}\n\
         ------END USER NKEY SEED------\n"
    )
}

/// The lines of a server that knows accounts by the JWTs of its operator, each with limits of its own beside those that all have.
fn operated(operator: &Pair, accounts: &[(&Pair, Value)]) -> String {
    let of_operator = operator.issues(operator, &json!({ "type": "operator", "version": 2 }), None);
    let preload = accounts.iter().map(|(account, more)| {
        let mut limits = json!({
            "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1
        });
        limits.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let jwt = operator.issues(account, &json!({ "type": "account", "version": 2, "limits": limits }), None);
        format!("{}: {jwt}\n", account.public)
    });
    let preload: String = preload.collect();
    format!("operator: {of_operator}\nresolver: MEMORY\nresolver_preload: {{\n{preload}}}\n")
}

/// What a user's JWT says that may publish there.
fn may_publish(subjects: &[&str]) -> Value {
    json!({
        "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1,
        "pub": { "allow": subjects }, "sub": { "allow": ["ff.>"] }
    })
}

/// What a user is known by to the server.
fn with(service: &Service, credentials: &str) -> NatsBroker {
    broker(service).credentials(credentials)
}

#[test]
fn nodes_sign_with_the_key_of_a_user() {
    let [user, stranger] = [Pair::new(USER, 1), Pair::new(USER, 2)];
    let service = nats_server::start_with(&format!(
        "authorization {{ users = [ {{ nkey: {} }}, {{ user: u, password: p }} ] }}",
        user.public
    ));
    let node = up(&with(&service, &format!("{}\n", user.seed)));
    node.attach("room", false).unwrap();
    node.publish("room", "m").unwrap();
    assert_eq!(node.next(), live("room", "m"));
    let said = format!("the key of the node is {}: make that a user of the server", stranger.public);
    refused_since(&open(&with(&service, &stranger.seed)), &said);
    refused_since(&open(&broker(&service)), "give the node its own by credentials_file");
    // Others ask for no key, or know passwords alone.
    up(&with(&nats_server::start(), &user.seed));
    let passwords = nats_server::start_with("authorization { users = [ { user: u, password: p } ] }");
    refused_since(&open(&with(&passwords, &user.seed)), "it checks no keys: give the node a user with a password");
}

#[test]
fn nodes_show_the_jwt_of_an_operator_and_sign_with_its_key() {
    let [operator, account, user] = [Pair::new(OPERATOR, 3), Pair::new(ACCOUNT, 4), Pair::new(USER, 5)];
    let mut service = nats_server::start_with(&operated(&operator, &[(&account, json!({}))]));
    let allowed = may_publish(&["ff.>"]);
    let jwt = account.issues(&user, &allowed, None);
    let node = up(&with(&service, &creds(&jwt, &user.seed)));
    node.attach("room", false).unwrap();
    node.publish("room", "m").unwrap();
    assert_eq!(node.next(), live("room", "m"));
    // Again over a new connection, for which the server makes up something else to sign.
    service.restart();
    assert!(matches!(node.next(), Told::Down(_)));
    assert_eq!(node.next(), Told::Up);
    let ended = account.issues(&user, &allowed, Some(1_700_000_001));
    for (jwt, seed, said) in [
        (&ended, &user.seed, "the JWT of an account that the server knows, and that has not ended"),
        (&jwt, &Pair::new(USER, 7).seed, "Authorization Violation"),
        (&user.issues(&user, &allowed, None), &user.seed, "Authorization Violation"),
    ] {
        refused_since(&open(&with(&service, &creds(jwt, seed))), said);
    }
}

#[test]
fn histories_are_kept_in_the_jetstream_of_an_account_that_a_jwt_gives_one() {
    let [operator, system, keeps, bare] =
        [(OPERATOR, 10), (ACCOUNT, 11), (ACCOUNT, 12), (ACCOUNT, 13)].map(|(kind, byte)| Pair::new(kind, byte));
    let user = Pair::new(USER, 14);
    let room = json!({ "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1 });
    let accounts = operated(&operator, &[(&system, json!({})), (&keeps, room), (&bare, json!({}))]);
    let system = format!("system_account: {}\n", system.public);
    let prepare = |folder: &Folder| {
        let lines = format!("{}\n{accounts}{system}", nats_server::jetstream(folder));
        drop(folder.write("nats.conf", &lines));
    };
    let service = Service::start(prepare, nats_server::command);
    let allowed = may_publish(&["ff.>", "$JS.API.>"]);
    let of = |account: &Pair| with(&service, &creds(&account.issues(&user, &allowed, None), &user.seed));
    // A NATS that two connections show a new account at once may remove the folder of its streams again (seen with 2.9).
    let has_one =
        |answer: &NatsServer| matches!(&answer.jetstream, NatsJetStream::Says(said) if !said.contains("\"error\""));
    eventually(|| of(&keeps).ask(0).as_ref().is_ok_and(has_one));
    let node = up_with_logs(&of(&keeps));
    let head = node.attach("room", true).unwrap().head.expect("it has a log");
    let Ok(Appended::New(stamp)) = node.append("room", "kept") else { panic!("it is kept") };
    assert_eq!(stamp.prev, head.position);
    let node = open_with_logs(&of(&bare));
    let is_told = || matches!(node.append("room", "m"), Err(why) if why.to_string().contains("enable JetStream for the account of the node"));
    eventually(is_told);
}
