//! One table of tokens with their verdicts: a row says how the authenticator is configured, who signs how, what header and
//! claims say, and what is made of it. The issuer signs with another library than the one that checks.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm as By;
use serde_json::json;

use super::super::Tokens;
use crate::config::Overrides;

#[path = "../../../tests/server/issuer.rs"]
mod issuer;

use issuer::{Issuer, Kind, shared, unsigned};

/// The moment of all checks. Claims in the table stand around it.
const NOW: u64 = 1_800_000_000;

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

const GOOD: &str = r#"{"sub": "7", "exp": 1800000060}"#;

// Configurations. NAME stands for the file with that key.
const HS512: &str = "secret = SECRET\nalgorithms = 'HS512'";
const UNNAMED: &str = "secret = SECRET";
const SHORT: &str = "secret = 'a secret of 31 bytes, no more..'";
const HS: &str = "secret = SECRET\nalgorithms = ['HS256', 'HS384']";
const RS: &str = "algorithms = ['RS256', 'RS384', 'RS512']\npublic_key_file = 'rsa.pem'";
const RS256: &str = "algorithms = 'RS256'\npublic_key_file = 'rsa.pem'";
const PS: &str = "algorithms = ['PS256', 'PS384', 'PS512']\npublic_key_file = 'rsa.pem'";
const ES: &str = "algorithms = ['ES256', 'ES384']\npublic_key_file = ['p256.pem', 'p384.pem']";
const ES256: &str = "algorithms = 'ES256'\npublic_key_file = 'p256.pem'";
const ED: &str = "algorithms = 'EdDSA'\npublic_key_file = 'ed.pem'";
const ROTATING: &str = "algorithms = 'RS256'\npublic_key_file = ['other.pem', 'rsa.pem']";
const SET: &str = "algorithms = ['RS256', 'PS256']\njwks_file = 'rsa-and-other.json'";
const SET_EC: &str = "algorithms = ['ES256', 'ES384']\njwks_file = 'ec.json'";
const SET_ED: &str = "algorithms = 'EdDSA'\njwks_file = 'ed.json'";
const SET_PS_ONLY: &str = "algorithms = ['RS256', 'PS256']\njwks_file = 'rsa-for-ps256.json'";
const SET_OF_ONE: &str = "algorithms = 'RS256'\njwks_file = 'rsa.json'";

// Verdicts.
const OK: &str = "";
const NO_TOKEN: &str = "the token is no JSON Web Token";
const NO_ALGORITHM: &str = "the token does not say how it is signed";
const STRANGE: &str = "the token is signed with \"";
const UNLISTED: &str = "the token is signed with ";
const SIGNATURE: &str = "the token's signature is wrong";
const UNKNOWN_KEY: &str = "the token names a key that is not known";
const WHICH_KEY: &str = "the token does not name its key, of which there are several";
const HEADER_TYPES: &str = "the token's kid or typ is not a string";
const CRIT: &str = "the token names critical extensions, of which none is known";
const NO_CLAIMS: &str = "the token's claims are no JSON object, or one stands twice in it";
const TIMES: &str = "exp, nbf or iat is not a number";
const TEXTS: &str = "iss, sub, jti or typ is not a string";
const AUD: &str = "aud is neither a string nor a list of strings";
const BEYOND: &str = "exp, nbf or iat lies beyond all clocks";
const EXPIRED: &str = "the token has expired";
const EARLY: &str = "the token is not valid yet";
const FUTURE: &str = "the token says that it was issued in the future";
const NO_EXP: &str = "the token does not say when it expires, which require_exp asks for";
const ISSUER: &str = "the token is from another issuer";
const AUDIENCE: &str = "the token is for another audience";
const TYPE: &str = "the token is of another type";
const SIZE: &str = "the token is longer than token_size_max";

/// Who signs.
#[derive(Clone, Copy)]
enum Who {
    /// The shared secret.
    Secret,
    /// A shared secret of any text.
    Text(&'static str),
    /// Whoever has the text of a public file.
    File(&'static str),
    /// The key of this name.
    Key(&'static str),
    /// Nobody.
    None,
}
use Who::{File, Key, Secret, Text};

/// Configuration; who signs, and how; header; claims; verdict.
type Row = (&'static str, Who, By, &'static str, &'static str, &'static str);

#[rustfmt::skip]
const TOKENS: &[Row] = &[
    // Every algorithm, signed as it should be.
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, GOOD, OK),
    (HS, Secret, By::HS256, r#"{"alg":"HS256"}"#, GOOD, OK),
    (HS, Secret, By::HS384, r#"{"alg":"HS384"}"#, GOOD, OK),
    (RS, Key("rsa"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, OK),
    (RS, Key("rsa"), By::RS384, r#"{"alg":"RS384"}"#, GOOD, OK),
    (RS, Key("rsa"), By::RS512, r#"{"alg":"RS512"}"#, GOOD, OK),
    (PS, Key("rsa"), By::PS256, r#"{"alg":"PS256"}"#, GOOD, OK),
    (PS, Key("rsa"), By::PS384, r#"{"alg":"PS384"}"#, GOOD, OK),
    (PS, Key("rsa"), By::PS512, r#"{"alg":"PS512"}"#, GOOD, OK),
    (ES, Key("p256"), By::ES256, r#"{"alg":"ES256"}"#, GOOD, OK),
    (ES, Key("p384"), By::ES384, r#"{"alg":"ES384"}"#, GOOD, OK),
    (ED, Key("ed"), By::EdDSA, r#"{"alg":"EdDSA"}"#, GOOD, OK),
    (ROTATING, Key("rsa"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, OK),
    (ROTATING, Key("other"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, OK),
    // What libraries sign with, where nothing is said of it.
    (UNNAMED, Secret, By::HS256, r#"{"alg":"HS256"}"#, GOOD, OK),
    (UNNAMED, Secret, By::HS512, r#"{"alg":"HS512"}"#, GOOD, OK),
    (UNNAMED, Secret, By::HS384, r#"{"alg":"HS384"}"#, GOOD, "the token is signed with HS384, and accepted is HS256 or HS512"),
    (SHORT, Text("a secret of 31 bytes, no more.."), By::HS512, r#"{"alg":"HS512"}"#, GOOD, OK),
    (SHORT, Text("a secret of 31 bytes, no more.."), By::HS256, r#"{"alg":"HS256"}"#, GOOD, UNLISTED),
    // By somebody else.
    (HS512, Text("another secret"), By::HS512, r#"{"alg":"HS512"}"#, GOOD, SIGNATURE),
    (HS512, Text(""), By::HS512, r#"{"alg":"HS512"}"#, GOOD, SIGNATURE),
    (RS256, Key("other"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, SIGNATURE),
    (PS, Key("other"), By::PS256, r#"{"alg":"PS256"}"#, GOOD, SIGNATURE),
    (ES256, Key("p256b"), By::ES256, r#"{"alg":"ES256"}"#, GOOD, SIGNATURE),
    (ED, Key("edb"), By::EdDSA, r#"{"alg":"EdDSA"}"#, GOOD, SIGNATURE),
    // Algorithms that are not listed, with the right key.
    (HS512, Secret, By::HS256, r#"{"alg":"HS256"}"#, GOOD, UNLISTED),
    (HS, Secret, By::HS512, r#"{"alg":"HS512"}"#, GOOD, UNLISTED),
    (RS256, Key("rsa"), By::RS512, r#"{"alg":"RS512"}"#, GOOD, UNLISTED),
    (RS256, Key("rsa"), By::PS256, r#"{"alg":"PS256"}"#, GOOD, UNLISTED),
    (ES256, Key("p384"), By::ES384, r#"{"alg":"ES384"}"#, GOOD, UNLISTED),
    // One algorithm taken for another.
    (RS256, File("rsa.pem"), By::HS256, r#"{"alg":"HS256"}"#, GOOD, UNLISTED),
    (RS256, File("rsa.pem"), By::HS256, r#"{"alg":"RS256"}"#, GOOD, SIGNATURE),
    (ES256, File("p256.pem"), By::HS256, r#"{"alg":"HS256"}"#, GOOD, UNLISTED),
    (ED, File("ed.pem"), By::HS256, r#"{"alg":"EdDSA"}"#, GOOD, SIGNATURE),
    (HS512, Key("rsa"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, UNLISTED),
    (HS512, Key("rsa"), By::RS256, r#"{"alg":"HS512"}"#, GOOD, SIGNATURE),
    (RS, Key("rsa"), By::RS256, r#"{"alg":"RS512"}"#, GOOD, SIGNATURE),
    (PS, Key("rsa"), By::RS256, r#"{"alg":"PS256"}"#, GOOD, SIGNATURE),
    (ES, Key("p256"), By::ES256, r#"{"alg":"ES384"}"#, GOOD, SIGNATURE),
    // None, and what is hardly an algorithm.
    (HS512, Who::None, By::HS512, r#"{"alg":"none"}"#, GOOD, STRANGE),
    (RS256, Who::None, By::HS512, r#"{"alg":"none"}"#, GOOD, STRANGE),
    (HS512, Who::None, By::HS512, r#"{"alg":"None"}"#, GOOD, STRANGE),
    (HS512, Who::None, By::HS512, r#"{"alg":"nOnE"}"#, GOOD, STRANGE),
    (HS512, Secret, By::HS512, r#"{"alg":"none"}"#, GOOD, STRANGE),
    (HS512, Who::None, By::HS512, r#"{"alg":"HS512"}"#, GOOD, SIGNATURE),
    (RS256, Who::None, By::HS512, r#"{"alg":"RS256"}"#, GOOD, SIGNATURE),
    (HS512, Secret, By::HS512, r#"{}"#, GOOD, NO_ALGORITHM),
    (HS512, Secret, By::HS512, r#"{"alg":""}"#, GOOD, STRANGE),
    (HS512, Secret, By::HS512, r#"{"alg":null}"#, GOOD, NO_ALGORITHM),
    (HS512, Secret, By::HS512, r#"{"alg":512}"#, GOOD, NO_ALGORITHM),
    (HS512, Secret, By::HS512, r#"{"alg":["HS512"]}"#, GOOD, NO_ALGORITHM),
    (HS512, Secret, By::HS512, r#"{"alg":"hs512"}"#, GOOD, STRANGE),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512 "}"#, GOOD, STRANGE),
    (HS512, Secret, By::HS512, r#"{"alg":"ES512"}"#, GOOD, STRANGE),
    // Names of keys.
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"rsa"}"#, GOOD, OK),
    (SET, Key("rsa"), By::PS256, r#"{"alg":"PS256","kid":"rsa"}"#, GOOD, OK),
    (SET, Key("other"), By::RS256, r#"{"alg":"RS256","kid":"other"}"#, GOOD, OK),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"other"}"#, GOOD, SIGNATURE),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"unknown"}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"RSA"}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":""}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, WHICH_KEY),
    (SET_OF_ONE, Key("rsa"), By::RS256, r#"{"alg":"RS256"}"#, GOOD, OK),
    (SET_OF_ONE, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"unknown"}"#, GOOD, UNKNOWN_KEY),
    (SET_EC, Key("p256"), By::ES256, r#"{"alg":"ES256","kid":"p256"}"#, GOOD, OK),
    (SET_EC, Key("p384"), By::ES384, r#"{"alg":"ES384","kid":"p384"}"#, GOOD, OK),
    (SET_EC, Key("p256"), By::ES256, r#"{"alg":"ES256","kid":"p384"}"#, GOOD, UNKNOWN_KEY),
    (SET_ED, Key("ed"), By::EdDSA, r#"{"alg":"EdDSA","kid":"ed"}"#, GOOD, OK),
    (SET_PS_ONLY, Key("rsa"), By::PS256, r#"{"alg":"PS256","kid":"rsa"}"#, GOOD, OK),
    (SET_PS_ONLY, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"rsa"}"#, GOOD, UNKNOWN_KEY),
    (SET, Text(""), By::HS256, r#"{"alg":"HS256","kid":"../../../../dev/null"}"#, GOOD, UNLISTED),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"../../../../dev/null"}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"' OR 1=1 --"}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"http://127.0.0.1/key"}"#, GOOD, UNKNOWN_KEY),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":0}"#, GOOD, HEADER_TYPES),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":null}"#, GOOD, HEADER_TYPES),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":["rsa"]}"#, GOOD, HEADER_TYPES),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":{"$ne":null}}"#, GOOD, HEADER_TYPES),
    (RS256, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"whatever"}"#, GOOD, OK),
    // Keys that a token brings itself: never used, and no harm to a token that is good without them.
    (ED, Key("edb"), By::EdDSA, r#"{"alg":"EdDSA","jwk":JWK:edb}"#, GOOD, SIGNATURE),
    (SET, Key("edb"), By::EdDSA, r#"{"alg":"EdDSA","jwk":JWK:edb}"#, GOOD, UNLISTED),
    (SET_OF_ONE, Key("other"), By::RS256, r#"{"alg":"RS256","jwk":JWK:other}"#, GOOD, SIGNATURE),
    (SET, Key("other"), By::RS256, r#"{"alg":"RS256","kid":"rsa","jku":"http://127.0.0.1:1/keys"}"#, GOOD, SIGNATURE),
    (SET, Key("other"), By::RS256, r#"{"alg":"RS256","kid":"rsa","x5u":"http://127.0.0.1:1/cert"}"#, GOOD, SIGNATURE),
    (SET, Key("other"), By::RS256, r#"{"alg":"RS256","kid":"rsa","x5c":["MIIB"]}"#, GOOD, SIGNATURE),
    (SET, Key("rsa"), By::RS256, r#"{"alg":"RS256","kid":"rsa","jku":"http://127.0.0.1:1/keys"}"#, GOOD, OK),
    (ED, Key("ed"), By::EdDSA, r#"{"alg":"EdDSA","jwk":JWK:edb}"#, GOOD, OK),
    // Headers.
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","crit":["exp"]}"#, GOOD, CRIT),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","crit":["b64"],"b64":false}"#, GOOD, CRIT),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","crit":[]}"#, GOOD, CRIT),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","alg":"none"}"#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#"{"alg":"none","alg":"HS512"}"#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","kid":"a","\u006bid":"b"}"#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512","typ":1}"#, GOOD, HEADER_TYPES),
    (HS512, Secret, By::HS512, r#"["HS512"]"#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#""HS512""#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512""#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}{}"#, GOOD, NO_TOKEN),
    (HS512, Secret, By::HS512, "", GOOD, NO_TOKEN),
    // Claims that are none.
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, "", NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, "null", NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"["sub","7"]"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#""7""#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"sub":"7","exp":1800000060,}"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, "\u{feff}{\"sub\":\"7\",\"exp\":1800000060}", NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"sub":"7","sub":"8","exp":1800000060}"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1,"exp":1800000060}"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"\u0065xp":1800000060}"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"a":{"b":1,"b":2}}"#, NO_CLAIMS),
    // Claims of the wrong type.
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":"1800000060"}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":"never"}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":null}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":[1800000060]}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":true}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":"0"}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iat":true}"#, TIMES),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"sub":7}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"sub":null}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"sub":["7"]}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"sub":{"$ne":null}}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iss":["me"]}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"jti":1}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"typ":1}"#, TEXTS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":5}"#, AUD),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":["us",5]}"#, AUD),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":{"us":1}}"#, AUD),
    // Time.
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000001}"#, OK),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000000.5}"#, OK),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000000}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1799999999}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":0}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":-5}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":-1e300}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1e300}"#, BEYOND),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":18446744073709551615}"#, BEYOND),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1e999}"#, NO_CLAIMS),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":NaN}"#, NO_CLAIMS),
    ("secret = SECRET\nleeway = '10s'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1799999991}"#, OK),
    ("secret = SECRET\nleeway = '10s'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1799999990}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"sub":"7"}"#, NO_EXP),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"EXP":1800000060}"#, NO_EXP),
    ("secret = SECRET\nrequire_exp = false", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"sub":"7"}"#, OK),
    ("secret = SECRET\nrequire_exp = false", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1}"#, EXPIRED),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1800000000}"#, OK),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1800000001}"#, EARLY),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":-1}"#, OK),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1e19}"#, BEYOND),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1e300}"#, BEYOND),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iat":1e19}"#, BEYOND),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":9223372036854775807,"nbf":-1}"#, BEYOND),
    ("secret = SECRET\nleeway = '10s'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1800000010}"#, OK),
    ("secret = SECRET\nleeway = '10s'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"nbf":1800000011}"#, EARLY),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000600,"iat":1800000300}"#, OK),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000600,"iat":1800000301}"#, FUTURE),
    // Who it is from, who it is for, what it is.
    ("secret = SECRET\nissuer = 'me'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iss":"me"}"#, OK),
    ("secret = SECRET\nissuer = ['you', 'me']", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iss":"me"}"#, OK),
    ("secret = SECRET\nissuer = 'me'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iss":"you"}"#, ISSUER),
    ("secret = SECRET\nissuer = 'me'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"iss":"me "}"#, ISSUER),
    ("secret = SECRET\nissuer = 'me'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060}"#, ISSUER),
    ("secret = SECRET\naudience = 'us'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":"us"}"#, OK),
    ("secret = SECRET\naudience = 'us'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":["them","us"]}"#, OK),
    ("secret = SECRET\naudience = 'us'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":"them"}"#, AUDIENCE),
    ("secret = SECRET\naudience = 'us'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":[]}"#, AUDIENCE),
    ("secret = SECRET\naudience = 'us'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060}"#, AUDIENCE),
    (HS512, Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"aud":"anybody"}"#, OK),
    ("secret = SECRET\ntype = 'access'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"typ":"access"}"#, OK),
    ("secret = SECRET\ntype = 'access'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060,"typ":"refresh"}"#, TYPE),
    ("secret = SECRET\ntype = 'access'", Secret, By::HS512, r#"{"alg":"HS512"}"#, r#"{"exp":1800000060}"#, TYPE),
    ("secret = SECRET\ntype = 'at+jwt'", Secret, By::HS512, r#"{"alg":"HS512","typ":"at+jwt"}"#, GOOD, OK),
    ("secret = SECRET\ntype = 'at+jwt'", Secret, By::HS512, r#"{"alg":"HS512","typ":"JWT"}"#, GOOD, TYPE),
];

/// What is done to the text of a good token signed with HS512; verdict.
type Mischief = (fn(&str) -> String, &'static str);

#[rustfmt::skip]
const TEXTS_OF_TOKENS: &[Mischief] = &[
    (|token| token.into(), OK),
    (|_| String::new(), NO_TOKEN),
    (|_| ".".into(), NO_TOKEN),
    (|_| "..".into(), NO_TOKEN),
    (|_| "...".into(), NO_TOKEN),
    (|_| "a.b.c".into(), NO_TOKEN),
    (|_| "äöü.äöü.äöü".into(), NO_TOKEN),
    (|_| r#"{"payload":"e30","protected":"e30","signature":""}"#.into(), NO_TOKEN),
    (|token| token.rsplit_once('.').unwrap().0.into(), NO_TOKEN),
    (|token| format!("{}.", token.rsplit_once('.').unwrap().0), SIGNATURE),
    (|token| format!("{token}."), NO_TOKEN),
    (|token| format!("{token}.e30"), NO_TOKEN),
    (|token| format!("{token}.e30.e30"), NO_TOKEN),
    (|token| format!(".{token}"), NO_TOKEN),
    (|token| format!(" {token}"), NO_TOKEN),
    (|token| format!("{token}\n"), NO_TOKEN),
    (|token| format!("{token}\0"), NO_TOKEN),
    (|token| format!("{token}="), NO_TOKEN),
    (|token| format!("{token}=="), NO_TOKEN),
    (|token| token.replacen('.', "=.", 1), NO_TOKEN),
    (|token| token.replacen('.', "%2E", 1), NO_TOKEN),
    (|token| format!("Bearer {token}"), NO_TOKEN),
    (|token| token[..token.len() - 1].into(), NO_TOKEN),
    (|token| token[..token.len() - 2].into(), SIGNATURE),
    (|token| token.to_lowercase(), NO_TOKEN),
    (|token| { let (head, _) = token.rsplit_once('.').unwrap(); format!("{head}.{}", "A".repeat(86)) }, SIGNATURE),
    (|token| { let parts: Vec<_> = token.split('.').collect(); format!("{}.{}.{}", parts[0], "eyJzdWIiOiI4In0", parts[2]) }, SIGNATURE),
    (|token| { let parts: Vec<_> = token.split('.').collect(); format!("{}.{}A.{}", parts[0], parts[1], parts[2]) }, SIGNATURE),
    (|token| { let parts: Vec<_> = token.split('.').collect(); format!("{}.{}.{}", parts[1], parts[0], parts[2]) }, NO_ALGORITHM),
    (|token| format!("{token}{}", "A".repeat(9_000)), SIZE),
    (|_| "A".repeat(1_000_000), SIZE),
    (|_| ".".repeat(8_000), NO_TOKEN),
    (|_| format!("{}..", "W1tb".repeat(1_000)), NO_TOKEN),
];

/// The keys of the issuer, and a folder with their public halves that is removed again.
struct Office {
    keys: &'static BTreeMap<&'static str, Issuer>,
    folder: PathBuf,
}

impl Drop for Office {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

fn issuers() -> &'static BTreeMap<&'static str, Issuer> {
    static ISSUERS: OnceLock<BTreeMap<&str, Issuer>> = OnceLock::new();
    ISSUERS.get_or_init(|| {
        let kinds = [
            ("rsa", Kind::Rsa),
            ("other", Kind::Rsa),
            ("p256", Kind::P256),
            ("p256b", Kind::P256),
            ("p384", Kind::P384),
            ("ed", Kind::Ed25519),
            ("edb", Kind::Ed25519),
        ];
        kinds.into_iter().map(|(name, kind)| (name, Issuer::new(kind))).collect()
    })
}

fn office() -> Office {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    let name = format!("fanfare-jwt-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let (keys, folder) = (issuers(), std::env::temp_dir().join(name));
    std::fs::create_dir_all(&folder).unwrap();
    for (name, key) in keys {
        std::fs::write(folder.join(format!("{name}.pem")), key.public_pem()).unwrap();
    }
    let jwk = |name: &str| keys[name].jwk(name);
    let mut for_ps256 = jwk("rsa");
    for_ps256["alg"] = "PS256".into();
    let mut for_encryption = jwk("edb");
    for_encryption["use"] = "enc".into();
    let sets = [
        ("rsa", json!([jwk("rsa")])),
        ("rsa-and-other", json!([jwk("rsa"), jwk("ed"), jwk("other")])),
        ("rsa-for-ps256", json!([for_ps256, jwk("other")])),
        ("ec", json!([jwk("p256"), jwk("p384"), {"kty": "EC", "crv": "P-521", "kid": "p521"}, {"kty": "new"}])),
        ("ed", json!([for_encryption, jwk("ed")])),
    ];
    for (name, keys) in sets {
        std::fs::write(folder.join(format!("{name}.json")), json!({ "keys": keys }).to_string()).unwrap();
    }
    Office { keys, folder }
}

impl Office {
    fn authenticator(&self, settings: &str) -> Tokens {
        let folder = self.folder.to_str().unwrap();
        let mut settings = settings.replace("SECRET", &format!("'{SECRET}'"));
        for kind in ["pem", "json"] {
            for (name, _) in self.files(kind) {
                settings = settings.replace(&format!("'{name}'"), &format!("'{folder}/{name}'"));
            }
        }
        let content = format!("[auth.u]\nkind = 'jwt'\n{settings}");
        let config = crate::preflight::parse("f", &content, &Overrides::default()).map_err(|report| report.to_string());
        Tokens::offline("u", &config.unwrap().auths["u"]).unwrap().unwrap()
    }

    fn files(&self, extension: &str) -> Vec<(String, PathBuf)> {
        let files = std::fs::read_dir(&self.folder).unwrap().map(|entry| entry.unwrap().path());
        let files = files.filter(|file| file.extension().is_some_and(|given| given == extension));
        files.map(|file| (file.file_name().unwrap().to_str().unwrap().to_owned(), file)).collect()
    }

    fn token(&self, who: Who, by: By, header: &str, claims: &str) -> String {
        let mut header = header.to_owned();
        for (name, key) in self.keys {
            header = header.replace(&format!("JWK:{name}}}"), &format!("{}}}", key.jwk(name)));
        }
        match who {
            Secret => shared(by, SECRET.as_bytes(), &header, claims),
            Text(secret) => shared(by, secret.as_bytes(), &header, claims),
            File(name) => shared(by, &std::fs::read(self.folder.join(name)).unwrap(), &header, claims),
            Key(name) => self.keys[name].token(by, &header, claims),
            Who::None => unsigned(&header, claims),
        }
    }
}

fn now() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(NOW)
}

#[track_caller]
fn check(authenticator: &Tokens, token: &str, verdict: &str, what: &str) {
    let found = match authenticator.verify(token, now()) {
        Ok(_) => String::new(),
        Err(refusal) => refusal.detail.into_owned(),
    };
    assert!(found.starts_with(verdict) && found.is_empty() == verdict.is_empty(), "{what}: {found}, not {verdict}");
}

/// Row 22 of the security checks.
#[test]
fn security_22_tokens_and_their_verdicts() {
    let office = office();
    for (settings, who, by, header, claims, verdict) in TOKENS {
        let token = office.token(*who, *by, header, claims);
        check(&office.authenticator(settings), &token, verdict, &format!("{settings}\n{header} {claims}"));
    }
    let (authenticator, good) =
        (office.authenticator(HS512), office.token(Secret, By::HS512, r#"{"alg":"HS512"}"#, GOOD));
    for (number, (mischief, verdict)) in TEXTS_OF_TOKENS.iter().enumerate() {
        let text = mischief(&good);
        check(&authenticator, &text, verdict, &format!("{number}: {}", text.chars().take(200).collect::<String>()));
    }
    assert!(TOKENS.len() + TEXTS_OF_TOKENS.len() > 180);
}

/// The example of RFC 7515, appendix A.3, which nobody here has signed.
#[test]
fn the_standards_example() {
    let office = office();
    let set = r#"{"keys":[{"kty":"EC","crv":"P-256","x":"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU","y":"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"}]}"#;
    std::fs::write(office.folder.join("rfc7515.json"), set).unwrap();
    let authenticator = office.authenticator("algorithms = 'ES256'\njwks_file = 'rfc7515.json'");
    let token = "eyJhbGciOiJFUzI1NiJ9.eyJpc3MiOiJqb2UiLA0KICJleHAiOjEzMDA4MTkzODAsDQogImh0dHA6Ly9leGFtcGxlLmNvbS9pc19yb290Ijp0cnVlfQ.\
                 DtEhU3ljbEg8L38VWAfUAqOyKAM6-Xx-F4GawxaepmXFCgfTjDxw5djxLa8ISlSApmWQxfKTUJqPP3-Kg6NU1Q";
    check(&authenticator, token, EXPIRED, "now");
    let then = UNIX_EPOCH + Duration::from_secs(1_300_819_379);
    assert!(authenticator.verify(token, then).is_ok());
}

/// Signatures that are none: of zeros, of the other encoding, cut and with something behind them.
#[test]
fn signatures_on_curves() {
    let office = office();
    let authenticator = office.authenticator(ES256);
    let token = office.token(Key("p256"), By::ES256, r#"{"alg":"ES256"}"#, GOOD);
    let (head, signature) = token.rsplit_once('.').unwrap();
    check(&authenticator, &token, OK, "as it is");
    for bad in ["A".repeat(86), format!("MEQCIA{}", "A".repeat(86)), format!("{signature}AAAA"), signature[..84].into()]
    {
        let verdict = if bad.len() % 4 == 1 { NO_TOKEN } else { SIGNATURE };
        check(&authenticator, &format!("{head}.{bad}"), verdict, &bad);
    }
}

#[test]
fn the_end_of_a_token_is_told() {
    let office = office();
    let verify = |settings: &str, claims: &str| {
        let token = office.token(Secret, By::HS512, r#"{"alg":"HS512"}"#, claims);
        office.authenticator(settings).verify(&token, now()).unwrap()
    };
    assert_eq!(verify("secret = SECRET\nrequire_exp = false", "{}").expires_at, None);
    assert_eq!(verify(HS512, GOOD).expires_at, Some(now() + Duration::from_secs(60)));
    assert_eq!(verify(HS512, GOOD).identity.text("sub").as_deref(), Some("7"));
    let with_leeway = verify("secret = SECRET\nleeway = '5s'", GOOD);
    assert_eq!(with_leeway.expires_at, Some(now() + Duration::from_secs(65)));
}

/// No byte of a token can be changed, at any place.
#[test]
fn every_changed_byte_is_noticed() {
    let office = office();
    for (settings, who, by) in [(HS512, Secret, By::HS512), (RS256, Key("rsa"), By::RS256), (ED, Key("ed"), By::EdDSA)]
    {
        let authenticator = office.authenticator(settings);
        let token = office.token(who, by, &format!(r#"{{"alg":"{by:?}"}}"#), GOOD);
        assert!(authenticator.verify(&token, now()).is_ok());
        for at in 0..token.len() {
            let mut bytes = token.clone().into_bytes();
            bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(bytes).unwrap();
            assert!(authenticator.verify(&changed, now()).is_err(), "{at}: {changed}");
        }
    }
}

#[test]
fn debug_shows_no_key() {
    let text = format!("{:?}", office().authenticator(HS512));
    assert!(!text.contains(&SECRET[..8]), "{text}");
}
