//! Secrets appear in no log at any level.

use base64::Engine;
use serde_json::json;

use crate::back_end::{BackEnd, Reply, wait_for};
use crate::issuer::{Issuer, Kind};
use crate::jwks::{Source, keys};
use crate::support::{Folder, Server, TOKEN, http, run};

const MARKER: &str = "m4rk3r0secret0that0must0not0appear0anywhere0in0the0output0at0all";

#[test]
fn security_20_a_marker_is_in_no_line_at_trace_level() {
    let config = "[log]\nlevel = 'trace'\n[auth.users]\nkind = 'jwt'\nsecret_env = 'MY_SECRET'\n\
                  [[endpoint]]\nauth = 'users'\nsocket_id = 'u:{sub}'\n[[channel]]\ntopic = '*'\npublish = 'authenticated'\n";
    let server = Server::serve_with(config, |command| {
        command.env("MY_SECRET", MARKER);
    });
    // As a bad token, in every place where a credential may stand.
    let bearer = base64::engine::general_purpose::STANDARD_NO_PAD.encode(MARKER);
    let protocols = format!("phoenix, base64url.bearer.phx.{bearer}");
    assert_eq!(server.try_connect(&format!("token={MARKER}")).err(), Some(403));
    assert_eq!(
        server.upgrade("/socket/websocket?vsn=2.0.0", &[("sec-websocket-protocol", &protocols)]).err(),
        Some(403)
    );
    server.http("GET", &format!("/socket/longpoll?vsn=2.0.0&token={MARKER}"), &[("x-phoenix-authtoken", MARKER)], "");
    for (name, value) in [
        ("sec-websocket-protocol", format!("fanfare, bearer.{bearer}")),
        ("authorization", format!("Bearer {MARKER}")),
        ("x-api-key", MARKER.to_owned()),
    ] {
        assert_eq!(server.upgrade("/socket/websocket?vsn=2.0.0", &[(name, &value)]).err(), Some(403), "{name}");
        server.http("GET", "/socket/longpoll?vsn=2.0.0", &[(name, &value)], "");
    }
    server.http("GET", &format!("/missing?token={MARKER}"), &[("authorization", MARKER), ("cookie", MARKER)], "");
    http(&server.admin(), "GET", "/api/topics", &[("authorization", &format!("Bearer {MARKER}"))], "");
    // As a good token's signature and claims, and as what is sent.
    let key = jsonwebtoken::EncodingKey::from_secret(MARKER.as_bytes());
    let header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::HS512);
    let token =
        jsonwebtoken::encode(&header, &json!({"sub": "7", "exp": 4_000_000_000_u64, "private": MARKER}), &key).unwrap();
    let mut client = server.connect(&format!("token={token}"));
    let join_ref = client.join_ok("room");
    assert_eq!(client.push(&join_ref, "room", "new_msg", json!({"body": MARKER}))["status"], "ok");
    for credential in [format!("{MARKER}.x.y"), token.clone()] {
        client.push_on_phoenix("access_token", json!({"access_token": credential}));
        client.push(&join_ref, "room", "access_token", json!({"token": credential, "other": MARKER}));
    }
    client.send_text(&format!("{{{MARKER}"));
    assert_eq!(client.receive_close(), 1011);
    server.api("POST", "/api/publish", &json!({"topic": "room", "event": "new_msg", "payload": {"body": MARKER}}));
    let refused = server.wait_for_stderr(|log| log.contains("event=\"refused\"").then_some(()));
    let log = server.stderr();
    assert!(refused.is_some(), "nothing was logged:\n{log}");
    let claims = token.split('.').nth(1).unwrap();
    for secret in [MARKER, TOKEN, &bearer, &token, claims] {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}

/// Row 20, for what else can check a token: the secret and the tokens of Phoenix, and the address, the answer and the tokens
/// of an issuer whose keys are fetched.
#[test]
fn security_20_authenticators_log_no_secret_at_trace_level() {
    let issuer = Issuer::new(Kind::Ed25519);
    let source = Source::new(keys(&[issuer.jwk("k1")]));
    let config = format!(
        "log.level = 'trace'\n[auth.phoenix]\nkind = 'phoenix_token'\nsecret_env = 'MY_SECRET'\nparam = 'phoenix'\n\
         [auth.issuer]\nkind = 'jwt'\nalgorithms = 'EdDSA'\njwks_url = 'http://{}/{MARKER}?key={MARKER}'\n\
         jwks_refresh = '1s'\n[[endpoint]]\nauth = ['phoenix', 'issuer']\n[[channel]]\ntopic = '*'\n",
        source.address
    );
    let server = Server::serve_with(&config, |command| {
        command.env("MY_SECRET", MARKER);
    });
    let folder = Folder::new();
    let plain = config.replace("secret_env = 'MY_SECRET'", &format!("secret = '{MARKER}'"));
    let file = folder.write("fanfare.toml", &plain);
    let arguments = ["token", "--config", file.to_str().unwrap(), "--auth", "phoenix", "--sub", MARKER];
    let (ok, phoenix, stderr) = run(&arguments);
    assert!(ok && stderr.is_empty(), "{stderr}");
    let phoenix = phoenix.trim_end();
    let claims = json!({"sub": MARKER, "exp": 4_000_000_000_u64}).to_string();
    let signed = issuer.token(jsonwebtoken::Algorithm::EdDSA, r#"{"alg":"EdDSA","kid":"k1"}"#, &claims);
    let strange =
        issuer.token(jsonwebtoken::Algorithm::EdDSA, &json!({"alg": "EdDSA", "kid": MARKER}).to_string(), &claims);
    for good in [format!("phoenix={phoenix}"), format!("token={signed}")] {
        server.connect(&good).join_ok("room");
    }
    for bad in [format!("phoenix={phoenix}x"), format!("token={strange}"), format!("token={MARKER}&phoenix={MARKER}")] {
        assert_eq!(server.try_connect(&bad).err(), Some(403));
    }
    source.set(crate::jwks::Behaviour::Body(MARKER.into()));
    let failed = server.wait_for_stderr(|log| log.contains("the keys cannot be fetched").then_some(()));
    let log = server.stderr();
    assert!(failed.is_some() && log.contains("TRACE"), "nothing was logged:\n{log}");
    let parts = [phoenix, &signed, &strange].into_iter().flat_map(|token| token.split('.').skip(1));
    for secret in parts.chain([MARKER]) {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}

/// Row 20, for back ends that are asked and told: addresses, secrets, tokens, parameters, payloads, answers, users and topics.
#[test]
fn security_20_hooks_and_webhooks_log_no_secret_at_trace_level() {
    let answer = |request: &crate::back_end::Request| {
        Reply::Json(match request.json()["type"].as_str() {
            Some("connect") => json!({"allow": true, "sub": MARKER, "claims": {"private": MARKER}}),
            Some("join") => json!({"allow": true, "reply": {"private": MARKER}}),
            Some("message") => json!({"allow": true, "payload": {"private": MARKER}}),
            _ => json!({"private": MARKER}),
        })
    };
    let back_end = BackEnd::new(answer);
    let address = &back_end.address;
    let server = Server::serve_with(
        &format!(
            "log.level = 'trace'\n[hook.h]\nurl = 'http://{address}/{MARKER}?key={MARKER}'\nsecret_env = 'MY_SECRET'\n\
             failures_max = 2\ncache = '0s'\n[[webhook]]\nurl = 'http://{address}/{MARKER}?key={MARKER}'\n\
             secret_env = 'MY_SECRET'\ngrace = '0s'\nretry_wait = '10ms'\nretry_max = 1\n\
             [auth.a]\nkind = 'hook'\nhook = 'h'\n[[endpoint]]\nauth = 'a'\n\
             [[channel]]\ntopic = '*'\njoin = 'hook:h'\npublish = 'hook:h'\n"
        ),
        |command| {
            command.env("MY_SECRET", MARKER);
        },
    );
    let query = format!("token={MARKER}&secret={MARKER}");
    let mut client = server.connect(&query);
    assert_eq!(client.join("room", json!({"private": MARKER}))["status"], "ok");
    let join_ref = client.join_ok("room");
    assert_eq!(client.push(&join_ref, "room", "x", json!({"private": MARKER}))["status"], "ok");
    // Answers that are none, refusals, and nobody there.
    let refusal = |_: &crate::back_end::Request| {
        Reply::Json(json!({"allow": false, "reason": "for people", "claims": {"private": MARKER}}))
    };
    back_end.set(refusal);
    assert_eq!(server.try_connect(&query).err(), Some(403));
    let garbage = |_: &crate::back_end::Request| Reply::Status(500, MARKER.into());
    back_end.set(garbage);
    for _ in 0..3 {
        assert_eq!(server.try_connect(&query).err(), Some(503));
    }
    drop(client);
    let signatures = |header: &str| {
        let of = |request: &crate::back_end::Request| request.headers.get(header).cloned();
        back_end.requests().iter().filter_map(of).collect::<Vec<_>>()
    };
    wait_for("a loss", || server.stderr().contains("events are dropped"));
    let log = server.stderr();
    assert!(log.contains("TRACE") && log.contains("a hook has no answer"), "{log}");
    for secret in signatures("webhook-signature").iter().map(String::as_str).chain([MARKER]) {
        assert!(!log.contains(secret), "{secret} is in\n{log}");
    }
}
