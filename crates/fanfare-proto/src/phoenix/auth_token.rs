//! The auth token that a client hides among the subprotocols it offers, since browsers let it set no other header.
//!
//! The stock client offers `phoenix, base64url.bearer.phx.<token>`; any other may offer `fanfare, bearer.<token>` with the token
//! in base64url. What a token means is for the application.

use std::fmt;

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};

/// That of the stock client, and one for clients of other protocols.
const PREFIXES: [&str; 2] = ["base64url.bearer.phx.", "bearer."];

/// What the subprotocol header says about the token. The `Debug` form does not show it.
#[derive(Clone, PartialEq, Eq)]
pub enum AuthToken {
    /// None was offered, or two, which counts as none.
    Absent,
    /// The decoded token.
    Token(String),
    /// One was offered that is not base64 of UTF-8: the connection is to be refused with 403. (Phoenix answers 500,
    /// which clients treat alike.)
    Undecodable,
}

impl fmt::Debug for AuthToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Absent => "Absent",
            Self::Token(_) => "Token(..)",
            Self::Undecodable => "Undecodable",
        })
    }
}

/// Takes the token out of the offered subprotocols, and gives back the others to negotiate among, in their order.
///
/// When two tokens are offered, both stay among the others, where no server's list names them.
pub fn extract<'a>(protocols: impl Iterator<Item = &'a str>) -> (AuthToken, Vec<&'a str>) {
    let mut protocols: Vec<&str> = protocols.collect();
    let encoded = |protocol: &&'a str| PREFIXES.iter().find_map(|prefix| protocol.strip_prefix(prefix));
    let mut bearers = protocols.iter().enumerate().filter_map(|(at, protocol)| Some((at, encoded(protocol)?)));
    match (bearers.next(), bearers.next()) {
        (Some((at, encoded)), None) => {
            protocols.remove(at);
            (decode(encoded), protocols)
        }
        _ => (AuthToken::Absent, protocols),
    }
}

fn decode(encoded: &str) -> AuthToken {
    // Despite the name of the prefix the stock client writes the standard alphabet.
    let alphabet = if encoded.contains(['-', '_']) { &alphabet::URL_SAFE } else { &alphabet::STANDARD };
    let config = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    let text =
        GeneralPurpose::new(alphabet, config).decode(encoded).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    text.map_or(AuthToken::Undecodable, AuthToken::Token)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn headers() {
        #[track_caller]
        fn check(header: &str, token: AuthToken, others: &[&str]) {
            let (found, remaining) = extract(header.split(", ").filter(|protocol| !protocol.is_empty()));
            assert!(found == token, "{header}: {found:?}");
            assert_eq!(remaining, others, "{header}");
        }
        let token = |text: &str| AuthToken::Token(text.into());
        check("", AuthToken::Absent, &[]);
        check("phoenix", AuthToken::Absent, &["phoenix"]);
        check("phoenix, base64url.bearer.phx.c2VjcmV0LXRva2Vu", token("secret-token"), &["phoenix"]);
        check("fanfare, bearer.c2VjcmV0LXRva2Vu", token("secret-token"), &["fanfare"]);
        check("base64url.bearer.phx.c2VjcmV0LXRva2Vu, phoenix", token("secret-token"), &["phoenix"]);
        check("base64url.bearer.phx.c2VjcmV0LXRva2Vu", token("secret-token"), &[]);
        check("a, base64url.bearer.phx.YmFk, b", token("bad"), &["a", "b"]);
        check("base64url.bearer.phx.Pz8+Pn5+", token("??>>~~"), &[]);
        check("base64url.bearer.phx.Pz8-Pn5-", token("??>>~~"), &[]);
        check("base64url.bearer.phx.Pz8_", token("???"), &[]);
        check("base64url.bearer.phx.Pz8/", token("???"), &[]);
        check("base64url.bearer.phx.dG9r=", AuthToken::Undecodable, &[]);
        check("base64url.bearer.phx.YQ==", token("a"), &[]);
        check("base64url.bearer.phx.YQ", token("a"), &[]);
        check("base64url.bearer.phx.", token(""), &[]);
        check("phoenix, base64url.bearer.phx.!!!!", AuthToken::Undecodable, &["phoenix"]);
        check("base64url.bearer.phx.Pz8-Pn5+", AuthToken::Undecodable, &[]);
        check("base64url.bearer.phx.//4", AuthToken::Undecodable, &[]);
        check(
            "phoenix, base64url.bearer.phx.YQ, base64url.bearer.phx.Yg",
            AuthToken::Absent,
            &["phoenix", "base64url.bearer.phx.YQ", "base64url.bearer.phx.Yg"],
        );
        check("base64url.bearer.phxYQ", AuthToken::Absent, &["base64url.bearer.phxYQ"]);
        check("Base64url.bearer.phx.YQ", AuthToken::Absent, &["Base64url.bearer.phx.YQ"]);
    }

    #[test]
    fn debug_hides_the_token() {
        assert_eq!(format!("{:?}", AuthToken::Token("secret".into())), "Token(..)");
    }

    proptest! {
        #[test]
        fn any_token_survives(token in "\\PC{0,40}", url_safe: bool) {
            use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
            let encoded = if url_safe { URL_SAFE_NO_PAD.encode(&token) } else { STANDARD_NO_PAD.encode(&token) };
            let protocol = format!("{}{encoded}", PREFIXES[0]);
            let (found, _) = extract([&*protocol].into_iter());
            prop_assert!(found == AuthToken::Token(token));
        }

        #[test]
        fn any_header_is_read(text in "\\PC{0,40}") {
            extract([&*format!("{}{text}", PREFIXES[0])].into_iter());
        }
    }
}
