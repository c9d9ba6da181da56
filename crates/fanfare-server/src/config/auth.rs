//! `[auth.NAME]`: how a credential is checked.

use std::path::PathBuf;

use axum::http::HeaderName;

use super::problem::Problems;
use super::secret::Secret;
use super::section::{Form, Key, section};
use super::url::Url;
use super::value::{Count, OneOrMore, Size, Span, choice};

section! {
    /// A way to check who connects; endpoints name it in `auth`. The credential is the auth token of newer clients (WebSocket:
    /// the subprotocol `base64url.bearer.phx.…`, or `bearer.…`; long-poll: the header `X-Phoenix-AuthToken`), else the connect
    /// parameter `param`, else the header `Authorization: Bearer …` or `X-Api-Key`. Without a valid one the connection is
    /// refused with 403, and the log says why. A connection is closed when its token expires. More about it, with examples:
    /// `docs/authentication.md`.
    struct Auth: "auth", Form::Named => Connect;
    keys {
        /// `jwt` checks a signed JSON Web Token; `phoenix_token` one that a Phoenix application made with
        /// `Phoenix.Token.sign` or `encrypt`; `apikeys` a key that stands in a store of keys; `hook` asks your back end;
        /// `none` lets everybody in, without an identity.
        kind: AuthKind = "" => Connect,
        /// For `jwt`: the signature algorithms that are accepted. They are of one kind: those with a shared secret
        /// (`HS…`), RSA (`RS…`, `PS…`), `ES…`, or `EdDSA`. For several kinds have several `[auth.NAME]`. Left out: `HS256` and
        /// `HS512`; with a secret of less than 32 bytes, which is too short for `HS256`, only `HS512`.
        algorithms: Option<OneOrMore<Algorithm>> = "" => Connect,
        /// The environment variable that holds the shared secret: for `HS…` algorithms, or the application's
        /// `secret_key_base` for `phoenix_token`. One of the three secret keys must be given for these.
        secret_env: Option<String> = "" => Connect,
        /// The file that holds the shared secret. A newline at its end does not count.
        secret_file: Option<PathBuf> = "" => Connect,
        /// The shared secret itself. Better kept out of the file: see the two keys above.
        secret: Option<Secret> = "" => Connect,
        /// For `jwt` with an algorithm other than `HS…`: files with the issuer's public keys, in PEM form
        /// (`BEGIN PUBLIC KEY`), one or more in each.
        public_key_file: Option<OneOrMore<PathBuf>> = "" => Connect,
        /// The same as a file with a JSON Web Key Set.
        jwks_file: Option<PathBuf> = "" => Connect,
        /// The same as the address of a JSON Web Key Set, which is fetched at the start and then every `jwks_refresh`,
        /// never because of a token. While it cannot be had, the last good one is used. Redirects are not followed.
        jwks_url: Option<Url> = "" => Connect,
        /// How long to wait between two fetches. After a failure it is a second, then two, four and so on up to a minute,
        /// if that is sooner.
        jwks_refresh: Span<1_000, 86_400_000> = "\"10m\"" => Connect,
        /// How long one fetch may take.
        jwks_timeout: Span<100, 60_000> = "\"10s\"" => Connect,
        /// How long keys are used that could not be fetched again, counted from when they were. After that nobody is let in
        /// until they can. It must be longer than `jwks_refresh`.
        jwks_stale_max: Span<1_000, 604_800_000> = "\"24h\"" => Connect,
        /// Whether `jwks_url` may be an `http://` address of another machine, where whoever is on the way can let anybody
        /// in.
        jwks_allow_http: bool = "false" => Connect,
        /// The issuer: the claim `iss` must be one of these. Left out: not checked.
        issuer: Option<OneOrMore<String>> = "" => Connect,
        /// The audience: the claim `aud` must have one of these. Left out: not checked.
        audience: Option<OneOrMore<String>> = "" => Connect,
        /// The type: the claim `typ`, or the header `typ` of a token without that claim, must be this. Left out: not
        /// checked.
        r#type: Option<String> = "" => Connect,
        /// Whether a JSON Web Token must say in `exp` when it expires.
        require_exp: bool = "true" => Connect,
        /// By how much clocks may differ when `exp` and `nbf` are checked. A connection lives so much longer than its
        /// token, too.
        leeway: Span<0, 300_000> = "\"0s\"" => Connect,
        /// For `phoenix_token`: the salt that the application gives to `Phoenix.Token`.
        salt: String = "\"user socket\"" => Connect,
        /// For `phoenix_token`: how old a token may be. Left out: as old as it says itself, which is a day unless the
        /// application says otherwise.
        max_age: Option<Span<1_000, 315_360_000_000>> = "" => Connect,
        /// For `phoenix_token`: the option of `Phoenix.Token` with this name.
        key_iterations: Count<1, 10_000_000> = "1000" => Connect,
        /// For `phoenix_token`: the option of `Phoenix.Token` with this name. Encrypted tokens need 32.
        key_length: Count<16, 1024> = "32" => Connect,
        /// For `phoenix_token`: the option of `Phoenix.Token` with this name.
        key_digest: KeyDigest = "\"sha256\"" => Connect,
        /// For `apikeys`: the name of the `[keys.NAME]` that has them. Its claims are `key` (the key's public name), `sub` (its
        /// user, or else its domain, or else its name), `username` and `domain`.
        keys: Option<String> = "" => Connect,
        /// For `hook`: the name of the `[hook.NAME]` that is asked about every connection, with the token if there is one.
        hook: Option<String> = "" => Connect,
        /// For `hook`: the request headers whose values the hook is told as `headers`, such as `"x-tenant"`. They are never logged.
        headers: Option<OneOrMore<String>> = "" => Connect,
        /// For `hook`: the cookies whose values the hook is told as `cookies`, such as `"session"`. They are never logged. Browsers
        /// send cookies with the connections that pages of other sites open, too: list yours in the endpoint's `origins`.
        cookies: Option<OneOrMore<String>> = "" => Connect,
        /// The longest token that is looked at.
        token_size_max: Size<256, 64_000> = "\"8KB\"" => Connect,
        /// The connect parameter that carries the token.
        param: String = "\"token\"" => Connect,
    }
    later []
}

choice! {
    /// How a credential is checked.
    pub(crate) enum AuthKind {
        /// A JSON Web Token.
        Jwt = "jwt",
        /// A token of `Phoenix.Token`.
        PhoenixToken = "phoenix_token",
        /// An API key.
        ApiKeys = "apikeys",
        /// A back end is asked.
        Hook = "hook",
        /// Everybody is let in.
        None = "none",
    } later []
}

choice! {
    /// A signature algorithm of JSON Web Tokens (RFC 7518, RFC 8037).
    pub(crate) enum Algorithm {
        /// HMAC with SHA-256.
        Hs256 = "HS256",
        /// HMAC with SHA-384.
        Hs384 = "HS384",
        /// HMAC with SHA-512.
        Hs512 = "HS512",
        /// RSA with PKCS #1 padding and SHA-256.
        Rs256 = "RS256",
        /// RSA with PKCS #1 padding and SHA-384.
        Rs384 = "RS384",
        /// RSA with PKCS #1 padding and SHA-512.
        Rs512 = "RS512",
        /// RSA with PSS padding and SHA-256.
        Ps256 = "PS256",
        /// RSA with PSS padding and SHA-384.
        Ps384 = "PS384",
        /// RSA with PSS padding and SHA-512.
        Ps512 = "PS512",
        /// ECDSA on P-256 with SHA-256.
        Es256 = "ES256",
        /// ECDSA on P-384 with SHA-384.
        Es384 = "ES384",
        /// EdDSA on Curve25519.
        EdDsa = "EdDSA",
    } later []
}

choice! {
    /// The hash function that turns a `secret_key_base` into a key.
    pub(crate) enum KeyDigest {
        /// SHA-256.
        Sha256 = "sha256",
        /// SHA-384.
        Sha384 = "sha384",
        /// SHA-512.
        Sha512 = "sha512",
    } later []
}

/// What kind of key an algorithm takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Family {
    /// A shared secret.
    Hmac,
    /// RSA.
    Rsa,
    /// A NIST curve.
    Ec,
    /// Curve25519.
    Ed,
}

impl Algorithm {
    /// What kind of key it takes.
    pub(crate) fn family(self) -> Family {
        match self {
            Self::Hs256 | Self::Hs384 | Self::Hs512 => Family::Hmac,
            Self::Rs256 | Self::Rs384 | Self::Rs512 | Self::Ps256 | Self::Ps384 | Self::Ps512 => Family::Rsa,
            Self::Es256 | Self::Es384 => Family::Ec,
            Self::EdDsa => Family::Ed,
        }
    }
}

/// The keys that give a secret, and those that give public keys.
const SECRET_KEYS: [&str; 3] = ["secret", "secret_env", "secret_file"];
const PUBLIC_KEYS: [&str; 3] = ["public_key_file", "jwks_file", "jwks_url"];

/// RFC 7518, 3.2: a secret is as long as the hash, at least. Shorter ones can be guessed by trying.
pub(crate) const SECRET_BYTES_SAFE: usize = 32;

impl Auth {
    /// The algorithms that are accepted: those that are named, else those that libraries sign with.
    pub(crate) fn algorithms(&self) -> Vec<Algorithm> {
        let is_short = self.secret.as_ref().is_some_and(|secret| secret.expose().len() < SECRET_BYTES_SAFE);
        match &self.algorithms {
            Some(OneOrMore(named)) => named.clone(),
            None if is_short => vec![Algorithm::Hs512],
            None => vec![Algorithm::Hs256, Algorithm::Hs512],
        }
    }

    /// Whether its tokens are signed with a shared secret.
    pub(crate) fn has_secret(&self) -> bool {
        match self.kind {
            AuthKind::Jwt => self.algorithms().iter().any(|algorithm| algorithm.family() == Family::Hmac),
            AuthKind::PhoenixToken => true,
            AuthKind::ApiKeys | AuthKind::Hook | AuthKind::None => false,
        }
    }

    /// Checks what concerns more than one key.
    pub(crate) fn check(&self, problems: &mut Problems) {
        for key in Self::SECTION.keys.iter().map(Key::name).filter(|key| self.places.is_given(key)) {
            if let Err(why) = self.is_of_use(key) {
                self.places.problem(problems, key, format!("has no effect {why}; remove it"));
            }
        }
        let is_given = |keys: &[&str]| keys.iter().any(|key| self.places.is_given(key));
        if self.kind == AuthKind::Jwt {
            self.check_algorithms(problems, is_given(&SECRET_KEYS), is_given(&PUBLIC_KEYS));
        }
        if self.has_secret() && !is_given(&SECRET_KEYS) && !is_given(&PUBLIC_KEYS) {
            let text = "a secret is missing: give secret_env, secret_file or secret";
            self.places.problem(problems, "secret_env", text);
        }
        if self.kind == AuthKind::ApiKeys && self.keys.is_none() {
            self.places.problem(problems, "keys", "is missing: the name of the [keys.NAME] that has the keys");
        }
        if self.kind == AuthKind::Hook && self.hook.is_none() {
            self.places.problem(problems, "hook", "is missing: the name of the [hook.NAME] that is asked");
        }
        self.check_names(problems);
        self.check_refresh(problems);
        if let Some(url) = &self.jwks_url
            && !url.is_private()
            && !self.jwks_allow_http
        {
            let text =
                "is not https, so that whoever is on the way could let anybody in; jwks_allow_http = true accepts that";
            self.places.problem(problems, "jwks_url", text);
        }
    }

    /// A name that no request can have is a mistake.
    fn check_names(&self, problems: &mut Problems) {
        let is_name = |name: &String| name.parse::<HeaderName>().is_ok();
        for (key, what, list) in [("headers", "header", &self.headers), ("cookies", "cookie", &self.cookies)] {
            let names = list.iter().flat_map(|list| &list.0);
            for name in names.filter(|name| !is_name(name)) {
                let text =
                    format!("{name:?} cannot be the name of a {what}: it takes letters, digits and !#$%&'*+-.^_`|~");
                self.places.problem(problems, key, text);
            }
        }
    }

    /// Keys that are too old before they are due again would lock everybody out for a while, each time.
    fn check_refresh(&self, problems: &mut Problems) {
        let (refresh, stale) = (self.jwks_refresh.0, self.jwks_stale_max.0);
        if self.jwks_url.is_some() && stale <= refresh {
            let text = format!("{stale:?} is not longer than jwks_refresh, which is {refresh:?}");
            self.places.problem(problems, "jwks_stale_max", text);
        }
    }

    /// Why a key that was given has no effect.
    fn is_of_use(&self, key: &str) -> Result<(), &'static str> {
        let of_kind = match key {
            "kind" => true,
            "keys" => self.kind == AuthKind::ApiKeys,
            "hook" | "headers" | "cookies" => self.kind == AuthKind::Hook,
            "token_size_max" | "param" => self.kind != AuthKind::None,
            "secret" | "secret_env" | "secret_file" => matches!(self.kind, AuthKind::Jwt | AuthKind::PhoenixToken),
            "salt" | "max_age" | "key_iterations" | "key_length" | "key_digest" => self.kind == AuthKind::PhoenixToken,
            _ => self.kind == AuthKind::Jwt,
        };
        match self.kind {
            _ if of_kind && key.starts_with("jwks_") && key != "jwks_file" && self.jwks_url.is_none() => {
                Err("without jwks_url")
            }
            _ if of_kind => Ok(()),
            AuthKind::Jwt => Err("with kind = \"jwt\""),
            AuthKind::PhoenixToken => Err("with kind = \"phoenix_token\""),
            AuthKind::ApiKeys => Err("with kind = \"apikeys\""),
            AuthKind::Hook => Err("with kind = \"hook\""),
            AuthKind::None => Err("with kind = \"none\""),
        }
    }

    /// One token must never be checkable with two kinds of keys: a public key taken for a shared secret is no secret.
    fn check_algorithms(&self, problems: &mut Problems, has_secret: bool, has_public: bool) {
        let families: Vec<_> = self.algorithms().iter().map(|algorithm| algorithm.family()).collect();
        let sources = || PUBLIC_KEYS.iter().filter(|key| self.places.is_given(key));
        if families.iter().any(|family| *family != families[0]) {
            let text = "mixes kinds of keys: HS…, RS… and PS…, ES…, EdDSA; have an [auth.NAME] for each, and list them in \
                        the endpoint's `auth`";
            self.places.problem(problems, "algorithms", text);
        } else if families[0] == Family::Hmac && has_public {
            let text = "HS… algorithms take a shared secret, and public keys are no secret; name the algorithm of the keys, \
                        such as \"RS256\"";
            self.places.problem(problems, "algorithms", text);
        } else if families[0] != Family::Hmac && has_secret {
            let key = SECRET_KEYS.iter().find(|key| self.places.is_given(key)).unwrap_or(&"secret");
            let text = "is for HS… algorithms; these take public keys: give public_key_file, jwks_file or jwks_url";
            self.places.problem(problems, key, text);
        } else if families[0] != Family::Hmac && !has_public {
            let text = "public keys are missing: give public_key_file, jwks_file or jwks_url";
            self.places.problem(problems, "public_key_file", text);
        } else if let Some(second) = sources().nth(1) {
            let text = "only one of public_key_file, jwks_file and jwks_url can be given";
            self.places.problem(problems, second, text);
        }
    }
}
