//! Tokens that Phoenix has made, and what can be done to them.

use serde_json::{Value, json};

use fanfare_proto::phoenix::term;

use super::*;
use crate::config::Overrides;

/// Made by Phoenix 1.8.12.
const VECTORS: &str = include_str!("vectors.json");

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const DAY: Duration = Duration::from_secs(86_400);

fn phoenix(settings: &str) -> PhoenixToken {
    let content = format!("[auth.u]\nkind = 'phoenix_token'\n{settings}");
    let config =
        crate::preflight::parse("f", &content, &Overrides::default()).map_err(|report| report.to_string()).unwrap();
    PhoenixToken::new(&config.auths["u"])
}

fn ours(settings: &str) -> PhoenixToken {
    phoenix(&format!("secret = '{SECRET}'\n{settings}"))
}

fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// What a vector's data stands for; `None` for data that names nobody.
fn meaning(data: &Value) -> Option<Value> {
    match data {
        Value::Number(id) => Some(json!({ "sub": id.to_string() })),
        Value::String(id) => Some(json!({ "sub": id })),
        Value::Object(claims) if claims.contains_key("tuple") => None,
        Value::Object(claims) => Some(json!(claims)),
        _ => None,
    }
}

#[test]
fn tokens_of_phoenix() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let vectors = file["vectors"].as_array().unwrap();
    assert_eq!(vectors.len(), 20);
    for vector in vectors {
        let text = |name: &str| vector[name].as_str().unwrap();
        let number = |name: &str| vector[name].as_u64().unwrap();
        let settings = |salt: &str| {
            format!(
                "secret = '{}'\nsalt = '{salt}'\nkey_iterations = {}\nkey_length = {}\nkey_digest = '{}'",
                text("secret_key_base"),
                number("key_iterations"),
                number("key_length"),
                text("key_digest"),
            )
        };
        let (token, made, max_age) = (text("token"), number("signed_at"), number("max_age"));
        let right = phoenix(&settings(text("salt")));
        let expected = meaning(&vector["data"]);
        let check = |seconds: u64| right.verify(token, at(seconds));
        match &expected {
            Some(claims) => {
                let verified = check(made).unwrap();
                for (name, value) in claims.as_object().unwrap() {
                    assert_eq!(verified.identity.claim(name), Some(value), "{vector}");
                }
                assert_eq!(verified.expires_at, Some(at(made + max_age)), "{vector}");
                assert!(check(made + max_age).is_ok());
                assert_eq!(check(made + max_age + 1).err(), Some("the token has expired"));
            }
            None => {
                let reason = check(made).unwrap_err();
                assert_eq!(reason, "the token's data is neither a user's id nor a map of claims", "{vector}");
            }
        }
        // What is configured wins over what the token says.
        let longer = phoenix(&format!("{}\nmax_age = '87600h'", settings(text("salt"))));
        assert_eq!(longer.verify(token, at(made + max_age + 1)).is_ok(), expected.is_some());
        let shorter = phoenix(&format!("{}\nmax_age = '10s'", settings(text("salt"))));
        assert_eq!(shorter.verify(token, at(made + 11)).err(), Some("the token has expired"));
        // Another salt, another secret, any other character.
        assert!(phoenix(&settings("another")).verify(token, at(made)).is_err());
        assert!(ours("").verify(token, at(made)).is_err());
        for place in 0..token.len() {
            let mut bytes = token.to_owned().into_bytes();
            bytes[place] = if bytes[place] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            let reason = right.verify(&changed, at(made)).unwrap_err();
            assert!(!reason.contains("data"), "{place}: {reason}: the data was looked at");
        }
    }
}

#[test]
fn signing_gives_what_phoenix_gives() {
    let file: Value = serde_json::from_str(VECTORS).unwrap();
    let alike = file["vectors"].as_array().unwrap().iter().filter(|vector| {
        vector["kind"] == "sign"
            && vector["key_digest"] == "sha256"
            && (vector["data"] == 42 || vector["data"] == "alice")
    });
    let mut count = 0;
    for vector in alike {
        let phoenix = phoenix(&format!("secret = {}", vector["secret_key_base"]));
        let data = match &vector["data"] {
            Value::String(id) => Term::Binary(id.clone().into_bytes()),
            id => Term::Integer(id.as_i64().unwrap()),
        };
        let max_age = Duration::from_secs(vector["max_age"].as_u64().unwrap());
        assert_eq!(phoenix.sign(data, at(vector["signed_at"].as_u64().unwrap()), max_age), vector["token"]);
        count += 1;
    }
    assert_eq!(count, 4);
}

#[test]
fn texts_that_are_no_token() {
    let phoenix = ours("");
    let good = phoenix.sign(Term::Integer(7), at(100), DAY);
    assert!(phoenix.verify(&good, at(100)).is_ok());
    let (head, signature) = good.rsplit_once('.').unwrap();
    for bad in [
        String::new(),
        ".".into(),
        "..".into(),
        "SFMyNTY".into(),
        "SFMyNTY.".into(),
        "SFMyNTY..".into(),
        "XCP.".into(),
        "XCP.AAAA".into(),
        format!("XCP.{}", "A".repeat(200)),
        head.into(),
        format!("{head}."),
        format!("{good}="),
        format!("{good}."),
        format!(" {good}"),
        format!("{good}\n"),
        format!("{head}.{}", &signature[..40]),
        good.replace("SFMyNTY", "SFM1MTI"),
        good.replace("SFMyNTY", "bm9uZQ"),
        good.replacen("SFMyNTY.", "", 1),
        "QTEyOEdDTQ.a.b.c.d".into(),
    ] {
        assert!(phoenix.verify(&bad, at(100)).is_err(), "{bad}");
    }
    let short = ours("key_length = 16");
    assert_eq!(short.verify("XCP.AAAA", at(100)).unwrap_err(), "the token is encrypted, which needs key_length = 32");
}

/// What a token with a right signature may hold.
#[test]
fn contents() {
    let phoenix = ours("");
    let sign = |bytes: &[u8]| {
        let message = format!("{SIGNED}.{}", URL_SAFE_NO_PAD.encode(bytes));
        let signature = URL_SAFE_NO_PAD.encode(hmac::sign(&phoenix.signing, message.as_bytes()));
        phoenix.verify(&format!("{message}.{signature}"), at(100))
    };
    let tuple = |parts: Vec<Term>| sign(&term::encode(&Term::Tuple(parts)));
    let (seven, made) = (|| Term::Integer(7), || Term::Integer(100_000));
    let ends = |max_age: Term| tuple(vec![seven(), made(), max_age]).map(|verified| verified.expires_at);
    assert_eq!(ends(Term::Integer(60)), Ok(Some(at(160))));
    assert_eq!(ends(Term::Float(1.5)), Ok(Some(at(100) + Duration::from_millis(1500))));
    assert_eq!(ends(Term::Atom("infinity".into())), Ok(None));
    for none in [Term::Integer(0), Term::Integer(-5), Term::Float(0.0), Term::Float(-1.5)] {
        assert_eq!(ends(none), Err("the token has expired"));
    }
    for wrong in [Term::Atom("nil".into()), Term::Binary(b"60".to_vec()), Term::Float(1e300), Term::List(vec![])] {
        assert_eq!(ends(wrong), Err("the token's content is not what Phoenix.Token writes"));
    }
    let expired = vec![seven(), Term::Integer(1), Term::Integer(60)];
    assert_eq!(tuple(expired).unwrap_err(), "the token has expired");
    for wrong in [vec![], vec![seven()], vec![seven(), made()], vec![seven(), seven(), seven(), seven()]] {
        assert!(tuple(wrong).is_err());
    }
    assert!(tuple(vec![seven(), Term::Integer(-1), Term::Integer(60)]).is_err());
    assert!(tuple(vec![seven(), Term::Binary(b"1".to_vec()), Term::Integer(60)]).is_err());
    for garbage in [&b""[..], b"\x83", b"\x83P\0\0\0\x05", b"\x83h\x03a\x07", &[131, 108, 255, 255, 255, 255]] {
        assert!(sign(garbage).is_err());
    }
}

#[test]
fn data_becomes_claims() {
    #[track_caller]
    fn check(data: Term, expected: Option<Value>) {
        let phoenix = ours("");
        let token = phoenix.sign(data, at(100), DAY);
        let identity = phoenix.verify(&token, at(100)).map(|verified| verified.identity);
        match expected {
            Some(Value::Object(claims)) => {
                let identity = identity.unwrap();
                for (name, value) in &claims {
                    assert_eq!(identity.claim(name), Some(value), "{name}");
                }
            }
            _ => assert!(identity.is_err()),
        }
    }
    let text = |text: &str| Term::Binary(text.into());
    let atom = |name: &str| Term::Atom(name.into());
    check(text("alice"), Some(json!({"sub": "alice"})));
    check(Term::Integer(-7), Some(json!({"sub": "-7"})));
    check(
        Term::Map(vec![
            (atom("sub"), text("7")),
            (text("roles"), Term::List(vec![atom("admin"), text("b"), Term::Integer(1), Term::Float(0.5)])),
            (
                text("flags"),
                Term::Map(vec![(atom("a"), atom("true")), (atom("b"), atom("false")), (atom("c"), atom("nil"))]),
            ),
        ]),
        Some(json!({"sub": "7", "roles": ["admin", "b", 1, 0.5], "flags": {"a": true, "b": false, "c": null}})),
    );
    check(Term::Map(vec![]), Some(json!({})));
    // A claim twice, a name that is no text, a tuple, bytes that are no text, and data that is nobody.
    check(Term::Map(vec![(atom("sub"), text("7")), (text("sub"), text("8"))]), None);
    check(Term::Map(vec![(Term::Integer(1), text("7"))]), None);
    check(Term::Map(vec![(text("a"), Term::Tuple(vec![]))]), None);
    check(Term::Map(vec![(text("a"), Term::Binary(vec![255]))]), None);
    check(Term::Binary(vec![255]), None);
    check(Term::List(vec![]), None);
    check(Term::Float(1.5), None);
    check(atom("nil"), None);
    // What `fanfare token` writes comes back.
    let claims = json!({"sub": "7", "n": -5, "f": 0.5, "list": [1, "x", null], "deep": {"yes": true}});
    check(to_term(claims.as_object().unwrap().clone()), Some(claims));
    check(to_term(json!({"sub": "7"}).as_object().unwrap().clone()), Some(json!({"sub": "7"})));
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", ours(""));
    assert!(text == "PhoenixToken { max_age: None, .. }", "{text}");
}
