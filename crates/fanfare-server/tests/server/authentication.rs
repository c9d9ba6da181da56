//! Every kind of token through the real server: accepted, refused, closed when it expires; and `fanfare token`.

use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use jsonwebtoken::Algorithm;
use serde_json::json;

use crate::issuer::{Issuer, Kind, shared};
use crate::support::{Folder, Server, run};

const SECRET: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A server whose clients need a token.
const REST: &str = "[[endpoint]]\nauth = 'users'\nsocket_id = 'user:{sub}'\n[[channel]]\ntopic = 'room:*'\n";

fn seconds_from_now(seconds: u64) -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + seconds
}

/// `fanfare token` with a configuration: the token, or what it says instead.
fn mint(config: &str, args: &[&str]) -> Result<String, String> {
    let folder = Folder::new();
    let file = folder.write("fanfare.toml", config);
    let (ok, stdout, stderr) = run(&[&["token", "--config", file.to_str().unwrap()], args].concat());
    if ok { Ok(stdout.trim_end().to_owned()) } else { Err(stderr) }
}

#[track_caller]
fn check(server: &Server, token: &str, refused: Option<&str>) {
    match (server.try_connect(&format!("token={token}")), refused) {
        (Ok(mut client), None) => drop(client.join_ok("room:1")),
        (Ok(_), Some(reason)) => panic!("let in, not refused because {reason}"),
        (Err(status), None) => panic!("refused with {status}:\n{}", server.stderr()),
        (Err(status), Some(reason)) => {
            assert_eq!(status, 403);
            let told = server.wait_for_stderr(|log| log.contains(reason).then_some(()));
            assert!(told.is_some(), "{reason} is not in the log:\n{}", server.stderr());
        }
    }
}

/// Row 25: an open connection ends within 5 s of its token.
#[track_caller]
fn check_that_it_ends(server: &Server, token: &str) {
    let mut client = server.connect(&format!("token={token}"));
    client.join_ok("room:1");
    let started = Instant::now();
    assert_eq!(client.receive_close(), 1001);
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    assert_eq!(server.try_connect(&format!("token={token}")).err(), Some(403));
}

#[test]
fn security_22_security_25_json_web_tokens_of_every_kind() {
    let folder = Folder::new();
    let kinds = [
        (Kind::Rsa, Algorithm::RS256, "RS256"),
        (Kind::Rsa, Algorithm::PS384, "PS384"),
        (Kind::P256, Algorithm::ES256, "ES256"),
        (Kind::P384, Algorithm::ES384, "ES384"),
        (Kind::Ed25519, Algorithm::EdDSA, "EdDSA"),
    ];
    for (number, (kind, algorithm, name)) in kinds.into_iter().enumerate() {
        let (right, wrong) = (Issuer::new(kind), Issuer::new(kind));
        let public = folder.write("public.pem", &right.public_pem());
        let keys = if number % 2 == 0 {
            format!("public_key_file = {public:?}")
        } else {
            let set = folder.write("keys.json", &json!({"keys": [right.jwk("k1")]}).to_string());
            format!("jwks_file = {set:?}")
        };
        let server =
            Server::serve(&format!("[auth.users]\nkind = 'jwt'\nalgorithms = '{name}'\n{keys}\nissuer = 'us'\n{REST}"));
        let header = format!(r#"{{"alg":"{name}","typ":"JWT","kid":"k1"}}"#);
        let claims = |seconds| json!({"sub": "7", "iss": "us", "exp": seconds_from_now(seconds)}).to_string();
        check(&server, &right.token(algorithm, &header, &claims(60)), None);
        check(&server, &wrong.token(algorithm, &header, &claims(60)), Some("the token's signature is wrong"));
        let stolen = shared(Algorithm::HS256, right.public_pem().as_bytes(), r#"{"alg":"HS256"}"#, &claims(60));
        let told = format!("the token is signed with HS256, and accepted is {name}");
        check(&server, &stolen, Some(&told));
        check_that_it_ends(&server, &right.token(algorithm, &header, &claims(2)));
    }
}

#[test]
fn security_21_security_25_a_credential_by_message_and_a_renewed_one() {
    let config = format!(
        "[auth.users]\nkind = 'jwt'\nalgorithms = 'HS512'\nsecret = '{SECRET}'\n{}",
        REST.replace("[[endpoint]]", "[[endpoint]]\ncredential_within = '1s'")
    );
    let token = |sub: &str, expires_in: &str| mint(&config, &["--sub", sub, "--expires-in", expires_in]).unwrap();
    let server = Server::serve_with(&config, |command| {
        command.env("FANFARE_LOG_LEVEL", "trace");
    });
    let send = |client: &mut crate::support::Client, token: &str| {
        client.push_on_phoenix("access_token", json!({ "access_token": token }))["status"].clone()
    };
    let mut late = server.connect("");
    assert_eq!(late.join("room:1", json!({}))["status"], "error");
    let (short, long, foreign) = (token("7", "2s"), token("7", "1h"), token("8", "1h"));
    assert_eq!(send(&mut late, "nonsense-in-a-message"), "error");
    assert_eq!(send(&mut late, &short), "ok");
    late.join_ok("room:1");
    assert_eq!(send(&mut late, &foreign), "error", "of another user");

    let mut renewed = server.connect(&format!("token={short}"));
    renewed.join_ok("room:1");
    assert_eq!(send(&mut renewed, &long), "ok");
    let started = Instant::now();
    late.receive_event("phx_error");
    assert_eq!(late.receive_close(), 1001);
    assert!(started.elapsed() < Duration::from_secs(7), "{:?}", started.elapsed());
    std::thread::sleep(Duration::from_millis(500));
    renewed.heartbeat();
    assert_eq!(server.connect("").receive_close(), 1008);
    server.api("POST", "/api/disconnect", &json!({"id": "user:7"}));
    assert_eq!(renewed.receive_close(), 1001);

    let by_header = [("authorization", &*format!("Bearer {long}"))];
    assert!(server.upgrade("/socket/websocket?vsn=2.0.0", &by_header).is_ok());
    let log = server.stderr();
    for secret in [&short, &long, &foreign, "nonsense-in-a-message"] {
        let signature = secret.rsplit('.').next().unwrap();
        assert!(!log.contains(signature), "a credential is in the log");
    }
}

#[test]
fn security_25_phoenix_tokens() {
    let config = format!("[auth.users]\nkind = 'phoenix_token'\nsecret = '{SECRET}'\nsalt = 'user auth'\n{REST}");
    let server = Server::serve(&config);
    let token = mint(&config, &["--sub", "7"]).unwrap();
    assert!(token.starts_with("SFMyNTY."), "{token}");
    check(&server, &token, None);
    let (head, signature) = token.rsplit_once('.').unwrap();
    check(&server, &format!("{head}.{}", signature.chars().rev().collect::<String>()), Some("the token"));
    let elsewhere = mint(&config.replace("user auth", "other"), &["--sub", "7"]).unwrap();
    check(&server, &elsewhere, Some("the token's signature is wrong, or its salt or key options are others"));
    check(&server, "", Some("there is no token"));
    check_that_it_ends(&server, &mint(&config, &["--sub", "7", "--expires-in", "2s"]).unwrap());
    // What is configured wins over what the token says.
    let short = Server::serve(&config.replace("[[endpoint]]", "max_age = '2s'\n[[endpoint]]"));
    check_that_it_ends(&short, &mint(&config, &["--sub", "7"]).unwrap());
    // Claims reach the rules of channels.
    let rules = format!("{config}[[channel]]\ntopic = 'staff'\njoin = 'claim:roles=admin'\n");
    let server = Server::serve(&rules);
    let admin = mint(&rules, &["--sub", "7", "--claim", r#"roles=["admin"]"#]).unwrap();
    server.connect(&format!("token={admin}")).join_ok("staff");
    let user = mint(&rules, &["--sub", "7", "--claim", "roles=user"]).unwrap();
    assert_eq!(server.connect(&format!("token={user}")).join("staff", json!({}))["status"], "error");
}

#[test]
fn several_authenticators_are_tried_in_order() {
    let new = Issuer::new(Kind::Ed25519);
    let folder = Folder::new();
    let public = folder.write("new.pem", &new.public_pem());
    let config = format!(
        "[auth.old]\nkind = 'phoenix_token'\nsecret = '{SECRET}'\n\
         [auth.new]\nkind = 'jwt'\nalgorithms = 'EdDSA'\npublic_key_file = {public:?}\nparam = 'jwt'\n\
         [[endpoint]]\nauth = ['new', 'old']\n[[channel]]\ntopic = 'room:*'\n"
    );
    let server = Server::serve(&config);
    check(&server, &mint(&config, &["--auth", "old", "--sub", "7"]).unwrap(), None);
    let claims = json!({"sub": "7", "exp": seconds_from_now(60)}).to_string();
    let token = new.token(Algorithm::EdDSA, r#"{"alg":"EdDSA"}"#, &claims);
    server.connect(&format!("jwt={token}")).join_ok("room:1");
    // Each looks at its own parameter, and the log says what each found.
    check(&server, &token, Some("new: there is no token; old: the token is no token of Phoenix"));
}

/// Row 27. That it takes as long for a nearly right token as for a wrong one cannot be shown by a test that anybody would
/// believe; that nothing but a whole right signature passes, and that no answer tells how near one was, can.
#[test]
fn security_27_nothing_tells_how_near_a_signature_was() {
    for kind in ["jwt", "phoenix_token"] {
        let config = format!("[auth.users]\nkind = '{kind}'\nsecret = '{SECRET}'\n{REST}");
        let server = Server::serve(&config);
        let token = mint(&config, &["--sub", "7"]).unwrap();
        let (head, signature) = token.rsplit_once('.').unwrap();
        let upgrade = |token: &str| server.http("GET", &format!("/socket/longpoll?vsn=2.0.0&token={token}"), &[], "");
        let wrong = upgrade(&format!("{head}.{}", "A".repeat(signature.len() - 1) + "A"));
        assert!(wrong.body.contains("403"), "{wrong:?}");
        for known in 0..signature.len() {
            let other = if &signature[known..=known] == "A" { "B" } else { "A" };
            let near = upgrade(&format!("{head}.{}{other}{}", &signature[..known], &signature[known + 1..]));
            assert_eq!((near.status, &near.body), (wrong.status, &wrong.body), "{known}");
        }
        assert!(upgrade(&token).body.contains("410"));
    }
}

#[test]
fn token_makes_tokens_that_the_server_accepts() {
    let folder = Folder::new();
    let claims_of = |token: &str| {
        use base64::Engine;
        let payload = token.split('.').nth(1).unwrap().to_owned();
        let bytes = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(payload).unwrap();
        serde_json::from_slice::<serde_json::Value>(&bytes).unwrap()
    };
    let hs = format!(
        "[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\nissuer = 'us'\naudience = ['them', 'us']\ntype = 'access'\n{REST}"
    );
    let token =
        mint(&hs, &["--sub", "7", "--claim", "level=5", "--claim", "role=support", "--claim", "id=007"]).unwrap();
    check(&Server::serve(&hs), &token, None);
    let claims = claims_of(&token);
    let told = |name: &str| &claims[name];
    assert_eq!((told("iss"), told("aud"), told("typ")), (&json!("us"), &json!("them"), &json!("access")));
    assert_eq!((told("level"), told("role"), told("id")), (&json!(5), &json!("support"), &json!("007")));
    assert_eq!(told("exp").as_u64().unwrap() - told("iat").as_u64().unwrap(), 3600);
    for (kind, algorithm) in
        [(Kind::Rsa, "RS256"), (Kind::Rsa, "PS256"), (Kind::P384, "ES384"), (Kind::Ed25519, "EdDSA")]
    {
        let issuer = Issuer::new(kind);
        let set =
            folder.write("keys.json", &json!({"keys": [issuer.jwk("k1"), Issuer::new(kind).jwk("k2")]}).to_string());
        let private = folder.write("private.pem", &issuer.private_pem());
        let config = format!("[auth.users]\nkind = 'jwt'\nalgorithms = '{algorithm}'\njwks_file = {set:?}\n{REST}");
        let with_key = ["--sub", "7", "--private-key-file", private.to_str().unwrap()];
        let token = mint(&config, &[&with_key[..], &["--kid", "k1"]].concat()).unwrap();
        check(&Server::serve(&config), &token, None);
        // Without its name, and with that of another key.
        let error = mint(&config, &with_key).unwrap_err();
        assert!(error.contains("would not accept this token: the token does not name its key"), "{error}");
        let error = mint(&config, &[&with_key[..], &["--kid", "k2"]].concat()).unwrap_err();
        assert!(error.contains("the token's signature is wrong"), "{error}");
        let error = mint(&config, &["--sub", "7"]).unwrap_err();
        assert!(error.contains("--private-key-file"), "{error}");
    }
}

#[test]
fn token_refuses_clearly_what_it_cannot_make() {
    let folder = Folder::new();
    let private = folder.write("private.pem", &Issuer::new(Kind::P256).private_pem());
    let private = private.to_str().unwrap();
    let public = folder.write("public.pem", &Issuer::new(Kind::Rsa).public_pem());
    let hs = format!("[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\n{REST}");
    let rs = format!("[auth.users]\nkind = 'jwt'\nalgorithms = 'RS256'\npublic_key_file = {public:?}\n{REST}");
    #[track_caller]
    fn check(config: &str, args: &[&str], part: &str) {
        let error = mint(config, args).unwrap_err();
        assert!(error.contains(part), "{part} is not in {error}");
        assert!(!error.contains(SECRET), "{error}");
    }
    check("", &["--sub", "7"], "has no [auth.NAME], so that no token is needed");
    check("[auth.a]\nkind = 'none'", &["--sub", "7"], "lets everybody in without a token");
    check(&hs, &[], "--sub");
    check(&hs, &["--sub", "7", "--auth", "user"], "there is no [auth.user]; there is users");
    check(&format!("{hs}[auth.b]\nkind = 'none'"), &["--sub", "7"], "say which with --auth: b, users");
    check(&hs, &["--sub", "7", "--claim", "x"], "NAME=VALUE");
    check(&hs, &["--sub", "7", "--claim", "a=1", "--claim", "a=2"], "given twice");
    check(&hs, &["--sub", "7", "--claim", "sub=8"], "given twice");
    check(&hs, &["--sub", "7", "--claim", "exp=1"], "would not accept this token: the token has expired");
    check(&hs, &["--sub", "7", "--expires-in", "3600"], "a string with a unit");
    check(&hs, &["--sub", "7", "--private-key-file", private], "leave out --private-key-file");
    check(&rs, &["--sub", "7", "--private-key-file", private], "is not of the kind");
    check(&rs, &["--sub", "7", "--private-key-file", "no-such-file"], "no-such-file");
    let phoenix = hs.replace("'jwt'", "'phoenix_token'");
    check(&phoenix, &["--sub", "7", "--kid", "x"], "is no jwt");
    check(&phoenix, &["--sub", "7", "--expires-in", "0s"], "from 1s");
}

/// Row 22: what would let a token be checked with the wrong kind of key is no configuration.
#[test]
fn security_22_keys_that_do_not_fit_are_configuration_errors() {
    let folder = Folder::new();
    let issuers = [("rsa", Kind::Rsa), ("p256", Kind::P256), ("ed", Kind::Ed25519)].map(|(name, kind)| {
        let issuer = Issuer::new(kind);
        folder.write(&format!("{name}.pem"), &issuer.public_pem());
        folder.write(&format!("{name}.key"), &issuer.private_pem());
        folder.write(&format!("{name}.json"), &json!({"keys": [issuer.jwk(name)]}).to_string());
        issuer
    });
    let all = issuers.iter().map(Issuer::public_pem).collect::<Vec<_>>().concat();
    folder.write("all.pem", &all);
    folder.write("many.pem", &issuers[2].public_pem().repeat(17));
    folder.write("cert.pem", &rcgen::generate_simple_self_signed(["x".to_owned()]).unwrap().cert.pem());
    folder.write("short.pem", SHORT_RSA_KEY);
    folder.write("empty.pem", "");
    folder.write("broken.pem", "-----BEGIN PUBLIC KEY-----\nm4rk3r!\n-----END PUBLIC KEY-----\n");
    folder.write("broken.json", "{\"keys\": [m4rk3r]}");
    folder.write("oct.json", r#"{"keys": [{"kty": "oct", "k": "bTRyazNy", "alg": "HS256"}]}"#);
    let mut private = issuers[2].jwk("k");
    private["d"] = "m4rk3r".into();
    folder.write("private.json", &json!({ "keys": [private] }).to_string());
    /// An empty part: nothing is wrong.
    #[track_caller]
    fn check(folder: &Folder, settings: &str, part: &str) {
        let place = folder.path("").display().to_string();
        let settings = settings.replace("DIR/", &place);
        let file = folder
            .write("fanfare.toml", &format!("[auth.users]\n{settings}\n[[channel]]\ntopic = 'a'\njoin = 'open'\n"));
        let (ok, _, stderr) = run(&["check", "--config", file.to_str().unwrap()]);
        assert_eq!(ok, part.is_empty(), "{settings}\n{stderr}");
        assert!(stderr.contains(part) && !stderr.contains("m4rk3r"), "{part} is not in {stderr}");
    }
    let jwt = |settings: &str, part: &str| check(&folder, &format!("kind = 'jwt'\n{settings}"), part);
    // Which algorithms go with which keys.
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/rsa.pem'", "");
    jwt("algorithms = ['RS256', 'PS512']\npublic_key_file = 'DIR/rsa.pem'", "");
    jwt("algorithms = ['ES256', 'ES384']\npublic_key_file = ['DIR/p256.pem']", "");
    jwt("algorithms = 'EdDSA'\njwks_file = 'DIR/ed.json'", "");
    jwt("algorithms = 'EdDSA'\njwks_url = 'https://example.com/keys'", "");
    jwt("public_key_file = 'DIR/rsa.pem'", "public keys are no secret");
    jwt("algorithms = 'HS256'\njwks_file = 'DIR/rsa.json'", "public keys are no secret");
    jwt("algorithms = 'HS256'\njwks_url = 'https://example.com/keys'", "public keys are no secret");
    jwt("algorithms = ['HS256', 'RS256']\nsecret = 'x'\npublic_key_file = 'DIR/rsa.pem'", "mixes kinds of keys");
    jwt("algorithms = ['RS256', 'ES256']\npublic_key_file = 'DIR/all.pem'", "mixes kinds of keys");
    jwt("algorithms = ['ES256', 'EdDSA']\npublic_key_file = 'DIR/all.pem'", "mixes kinds of keys");
    jwt("algorithms = 'RS256'\nsecret = 'x'", "auth.users.secret: is for HS");
    jwt("algorithms = 'RS256'", "public keys are missing");
    jwt("algorithms = 'none'\nsecret = 'x'", "\"none\" is not accepted");
    jwt("algorithms = []\nsecret = 'x'", "is not accepted");
    jwt("algorithms = 'EdDSA'\njwks_file = 'DIR/ed.json'\njwks_url = 'https://example.com/'", "only one of");
    // What stands in files.
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/p256.pem'", "not of the kind that `algorithms` take");
    jwt("algorithms = 'ES384'\npublic_key_file = 'DIR/p256.pem'", "not of the kind that `algorithms` take");
    jwt("algorithms = 'EdDSA'\npublic_key_file = 'DIR/all.pem'", "not of the kind that `algorithms` take");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/short.pem'", "RSA key that is not of 2048");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/rsa.key'", "has a private key");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/cert.pem'", "has a certificate; `openssl x509");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/empty.pem'", "has no public key in PEM form");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/broken.pem'", "is not a PEM file");
    jwt("algorithms = 'RS256'\npublic_key_file = 'DIR/none.pem'", "cannot be read");
    jwt("algorithms = 'EdDSA'\npublic_key_file = 'DIR/many.pem'", "there are 17 keys, more than 16");
    jwt("algorithms = 'EdDSA'\njwks_file = 'DIR/rsa.json'", "has no key for signatures that fits");
    jwt("algorithms = 'EdDSA'\njwks_file = 'DIR/broken.json'", "is not a JSON object");
    jwt("algorithms = 'EdDSA'\njwks_file = 'DIR/private.json'", "has a private or symmetric key");
    jwt("algorithms = 'RS256'\njwks_file = 'DIR/oct.json'", "has a private or symmetric key");
    // Addresses.
    jwt("algorithms = 'EdDSA'\njwks_url = 'http://example.com/keys'", "jwks_url: is not https");
    jwt("algorithms = 'EdDSA'\njwks_url = 'http://example.com/keys'\njwks_allow_http = true", "");
    jwt("algorithms = 'EdDSA'\njwks_url = 'http://127.0.0.1:1/keys'", "");
    jwt("algorithms = 'EdDSA'\njwks_url = 'file:///etc/keys'", "is not accepted");
    jwt("algorithms = 'EdDSA'\njwks_url = 'https://x.com/'\njwks_refresh = '10ms'", "from 1s to 24h");
    jwt(
        "algorithms = 'EdDSA'\njwks_url = 'https://x.com/'\njwks_refresh = '2h'\njwks_stale_max = '1h'",
        "jwks_stale_max: 3600s is not longer than jwks_refresh, which is 7200s",
    );
    // Settings that would do nothing.
    jwt("secret = 'x'\nsalt = 'y'", "auth.users.salt: has no effect with kind = \"jwt\"");
    jwt("secret = 'x'\njwks_refresh = '5m'", "has no effect without jwks_url");
    jwt("secret = 'x'\nleeway = '6m'", "from 0s to 5m");
    let phoenix = |settings: &str, part: &str| check(&folder, &format!("kind = 'phoenix_token'\n{settings}"), part);
    phoenix("secret = 'x'", "");
    phoenix("", "a secret is missing");
    phoenix("secret = 'x'\nalgorithms = 'HS256'", "has no effect with kind = \"phoenix_token\"");
    phoenix("secret = 'x'\nkey_digest = 'md5'", "\"md5\" is not accepted");
    phoenix("secret = 'x'\n[[endpoint]]\nauth = ['users', 'none']", "a list with one that lets everybody in");
    phoenix("secret = 'x'\n[[endpoint]]\nauth = ['users', 'userz']", "did you mean \"users\"?");
}

/// 1024 bits, which can be broken.
const SHORT_RSA_KEY: &str = "\
-----BEGIN PUBLIC KEY-----
MIGfMA0GCSqGSIb3DQEBAQUAA4GNADCBiQKBgQCdb4hhSSpscsGkA33x0fDxho+I
rn2G2v7o7ol7SLU5GWCogYR1dhRdAWHoFOg8abCrrYvf56dHRvcul1P+S+f3gjbR
8cEW10gd5y6yCyhpIFaBkU+rFrChaQtMWCCiHj2GXy2oG+28G1aDEb90ehZXmGpW
dCs4mxVtPg6sezyPTwIDAQAB
-----END PUBLIC KEY-----
";

/// Row 21: every way of a credential, on both transports.
#[test]
fn security_21_every_way_of_a_credential() {
    use base64::Engine;
    let config = format!("[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\nleeway = '0s'\n{REST}");
    let server = Server::serve(&config);
    let claims = |exp| json!({"sub": "7", "exp": exp}).to_string();
    let token = |exp| shared(Algorithm::HS512, SECRET.as_bytes(), r#"{"alg":"HS512"}"#, &claims(exp));
    let (good, expired) = (token(seconds_from_now(600)), token(seconds_from_now(0) - 1));
    let bad = format!("{good}x");
    let encoded = |token: &str| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(token);
    let verdicts = [(Some(&good), true), (Some(&bad), false), (Some(&expired), false), (None, false)];
    for way in ["authorization", "x-api-key", "x-phoenix-authtoken", "phoenix", "fanfare", "parameter"] {
        for (token, is_good) in verdicts {
            let mut query = "vsn=2.0.0".to_owned();
            let mut headers: Vec<(&'static str, String)> = Vec::new();
            match (way, token) {
                ("authorization", Some(token)) => headers.push(("authorization", format!("Bearer {token}"))),
                ("x-api-key", Some(token)) => headers.push(("x-api-key", token.clone())),
                ("x-phoenix-authtoken", Some(token)) => headers.push(("x-phoenix-authtoken", token.clone())),
                ("phoenix", Some(token)) => {
                    headers
                        .push(("sec-websocket-protocol", format!("phoenix, base64url.bearer.phx.{}", encoded(token))));
                }
                ("fanfare", Some(token)) => {
                    headers.push(("sec-websocket-protocol", format!("fanfare, bearer.{}", encoded(token))));
                }
                (_, Some(token)) => query += &format!("&token={token}"),
                (_, None) => {}
            }
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            if way != "x-phoenix-authtoken" {
                let upgraded = server.upgrade(&format!("/socket/websocket?{query}"), &headers);
                let status = upgraded.as_ref().err().copied();
                assert_eq!(status, (!is_good).then_some(403), "{way} {token:?} on WebSocket");
                if let Ok(mut client) = upgraded {
                    client.join_ok("room:1");
                }
            }
            if !matches!(way, "phoenix" | "fanfare") {
                let answer = server.http("GET", &format!("/socket/longpoll?{query}"), &headers, "").json();
                assert_eq!(answer["status"], if is_good { 410 } else { 403 }, "{way} {token:?} on long-poll");
            }
        }
    }
}

/// What a user may do follows the credential, and not what it was when the topic was joined.
#[test]
fn a_renewed_credential_changes_what_a_member_may_publish() {
    let config = format!(
        "[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\n[[endpoint]]\nauth = 'users'\n\
         [[channel]]\ntopic = 'room:*'\npublish = 'claim:role=support'\n"
    );
    let server = Server::serve(&config);
    let token = |role: &str| mint(&config, &["--sub", "7", "--claim", &format!("role={role}")]).unwrap();
    let mut client = server.connect(&format!("token={}", token("guest")));
    let join_ref = client.join_ok("room:1");
    for (role, status) in [("guest", "error"), ("support", "ok"), ("guest", "error")] {
        let renewed = client.push(&join_ref, "room:1", "access_token", json!({"access_token": token(role)}));
        assert_eq!(renewed["status"], "ok", "{renewed}");
        assert_eq!(client.push(&join_ref, "room:1", "new_msg", json!({}))["status"], status, "{role}");
    }
}

/// A wall clock that is an hour ahead from when the file `AHEAD` exists. The time that passes is as ever.
const CLOCK: &str = r#"
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
int clock_gettime(clockid_t clock, struct timespec *time) {
    int result = syscall(SYS_clock_gettime, clock, time);
    if (clock == CLOCK_REALTIME && access(getenv("AHEAD"), F_OK) == 0) time->tv_sec += 3600;
    return result;
}
"#;

#[test]
fn a_token_ends_by_the_wall_clock_as_well() {
    let folder = Folder::new();
    let (library, ahead) = (folder.path("clock.so"), folder.path("ahead"));
    let source = folder.write("clock.c", CLOCK);
    let compiled = Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source).status().unwrap();
    assert!(compiled.success());
    let config = format!("[auth.users]\nkind = 'jwt'\nsecret = '{SECRET}'\n{REST}");
    let server = Server::serve_with(&config, |command| {
        command.env("LD_PRELOAD", &library).env("AHEAD", &ahead);
    });
    let connect = |exp: u64| {
        let claims = json!({ "sub": "7", "exp": exp }).to_string();
        let token = shared(Algorithm::HS512, SECRET.as_bytes(), r#"{"alg":"HS512"}"#, &claims);
        let mut client = server.connect(&format!("token={token}"));
        client.join_ok("room:1");
        client
    };
    let (mut short, mut long) = (connect(seconds_from_now(1_800)), connect(seconds_from_now(7_200)));
    short.heartbeat();
    // The machine has slept for an hour, or somebody has set its clock.
    std::fs::write(&ahead, "").unwrap();
    let begun = Instant::now();
    assert_eq!(short.receive_close(), 1001);
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
    long.heartbeat();
}
