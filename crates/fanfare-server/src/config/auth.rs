//! `[auth.NAME]`: how a credential is checked.

use std::path::PathBuf;

use super::problem::Problems;
use super::secret::Secret;
use super::section::{Form, section};
use super::value::{OneOrMore, Span, choice};

section! {
    /// A way to check who connects; endpoints name it in `auth`. The credential is the connect parameter `param`, or
    /// the auth token of newer clients (WebSocket: the subprotocol `base64url.bearer.phx.…`; long-poll: the header
    /// `X-Phoenix-AuthToken`), which wins. Without a valid one the connection is refused with 403, and the log says
    /// why. A connection is closed when its token expires.
    struct Auth: "auth", Form::Named;
    keys {
        /// `jwt` checks a signed JSON Web Token; `none` lets everybody in, without an identity.
        kind: AuthKind = "",
        /// The signature algorithms that are accepted.
        algorithms: OneOrMore<Algorithm> = "[\"HS512\"]",
        /// The environment variable that holds the shared secret. One of the three secret keys must be given for `jwt`.
        secret_env: Option<String> = "",
        /// The file that holds the shared secret. A newline at its end does not count.
        secret_file: Option<PathBuf> = "",
        /// The shared secret itself. Better kept out of the file: see the two keys above.
        secret: Option<Secret> = "",
        /// The issuer: the claim `iss` must be one of these. Left out: not checked.
        issuer: Option<OneOrMore<String>> = "",
        /// The audience: the claim `aud` must have one of these. Left out: not checked.
        audience: Option<OneOrMore<String>> = "",
        /// The type: the claim `typ`, or the header `typ` of a token without that claim, must be this. Left out: not
        /// checked.
        r#type: Option<String> = "",
        /// By how much clocks may differ when `exp` and `nbf` are checked.
        leeway: Span<0, 3_600_000> = "\"0s\"",
        /// The connect parameter that carries the token.
        param: String = "\"token\"",
    }
    later ["jwks", "url", "public_key", "max_age", "salt", "secret_key_base"]
}

choice! {
    /// How a credential is checked.
    pub(crate) enum AuthKind {
        /// A JSON Web Token.
        Jwt = "jwt",
        /// Everybody is let in.
        None = "none",
    } later ["phoenix_token", "apikeys", "mongo", "hook"]
}

choice! {
    /// A signature algorithm with a shared secret.
    pub(crate) enum Algorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
    } later ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA"]
}

impl Auth {
    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        let is_given = ["secret", "secret_env", "secret_file"].iter().any(|key| self.places.is_given(key));
        match self.kind {
            AuthKind::Jwt if !is_given => {
                let text = "a secret is missing: give secret_env, secret_file or secret";
                self.places.problem(problems, "secret_env", text);
            }
            AuthKind::Jwt => {}
            AuthKind::None => {
                let keys = Self::SECTION.keys.iter().map(super::section::Key::name);
                for key in keys.filter(|key| *key != "kind" && self.places.is_given(key)) {
                    self.places.problem(problems, key, "has no effect with kind = \"none\"; remove it");
                }
            }
        }
    }
}
